"""Pictures of cubes: false colour from the wavelengths, error maps, panels side by side."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Band centres shown as red, green and blue, in nm.
SHOWN = (640.0, 550.0, 460.0)
# How pixels without data are drawn.
NO_DATA = (176, 176, 176)
# Errors from 0 to this part of the value range run through the whole colour scale.
ERROR_FULL_SCALE = 0.1
# Dark to bright, roughly even steps in lightness (black, violet, red, orange, pale yellow).
_SCALE = np.array([[0, 0, 4], [86, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], dtype=np.float64)


def select_display_bands(n_colors: int, wavelengths: Sequence[float] | np.ndarray | None = None) -> list[int]:
    """Indices of the bands for red, green and blue.

    Nearest to 640, 550 and 460 nm; without wavelengths, or where these do not reach the visible
    (colours would then come from one band), three spread over the spectrum, longest first.
    """
    if wavelengths is not None:
        nearest = [int(np.argmin(np.abs(np.asarray(wavelengths) - w))) for w in SHOWN]
        if len(set(nearest)) == 3:
            return nearest
    return [round((n_colors - 1) * part) for part in (0.8, 0.5, 0.2)]


def split_spectral_runs(x: np.ndarray) -> list[np.ndarray]:
    """Bands that a line may join, as arrays of indices: within each, x goes one way.

    Where the ranges of two detectors overlap, x goes back and another line begins. Bands in no order are sorted.
    """
    steps = np.diff(x)
    direction = -1 if np.count_nonzero(steps < 0) > np.count_nonzero(steps > 0) else 1
    breaks = np.flatnonzero(steps * direction <= 0)
    if 3 * len(breaks) > len(steps):
        return [np.argsort(x, kind="stable")]
    return np.split(np.arange(len(x)), breaks + 1)


def render_false_colour(cube: np.ndarray, bands: Sequence[int], white: float | None = None) -> np.ndarray:
    """H x W x C in 0..1 -> H x W x 3 uint8: three bands, brightest 0.5 % at white, gamma 2.2; NaN as `NO_DATA`."""
    colours = np.clip(cube[:, :, list(bands)], 0, None)
    missing = np.isnan(colours).any(axis=2)
    white = white or compute_white_level(cube, bands)
    shown = (255 * np.clip(np.nan_to_num(colours) / white, 0, 1) ** (1 / 2.2)).round().astype(np.uint8)
    shown[missing] = NO_DATA
    return shown


def compute_white_level(cube: np.ndarray, bands: Sequence[int]) -> float:
    """The value that `render_false_colour` shows as white: the 99.5th percentile of the shown bands, NaN left out."""
    values = cube[:, :, list(bands)]
    values = values[~np.isnan(values)]
    return max(float(np.percentile(values, 99.5)), 1e-6) if values.size else 1e-6


def compute_error_map(pred: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """Root mean squared error over the bands, pixel by pixel: H x W x C twice -> H x W, in the values' units."""
    return np.sqrt(np.mean((pred.astype(np.float64) - gt) ** 2, axis=2))


def colour_errors(error: np.ndarray, full_scale: float = ERROR_FULL_SCALE) -> np.ndarray:
    """H x W errors -> H x W x 3 uint8, from black (0) to pale yellow (full_scale and above)."""
    position = np.clip(error / full_scale, 0, 1) * (len(_SCALE) - 1)
    channels = [np.interp(position, np.arange(len(_SCALE)), _SCALE[:, k]) for k in range(3)]
    return np.stack(channels, axis=2).round().astype(np.uint8)


def read_title(path: str | Path) -> tuple[str, str]:
    """(title, description) that a PNG file carries, as the reports of `predict` do.

    Raises:
        ValueError: for a file without them.
        OSError: for one that is no picture.
    """
    with Image.open(path) as picture:
        said = {**picture.info}
    if not ("Title" in said and "Description" in said):
        raise ValueError("no report of predict")
    return said["Title"], said["Description"]


def draw_comparison(
    ms: np.ndarray, lms: np.ndarray, sr: np.ndarray, gt: np.ndarray, wavelengths: np.ndarray | None = None
) -> Image.Image:
    """One picture: LR, bicubic, SR and HR in false colour; under them the errors of bicubic and SR.

    Args:
        ms: the LR input, h x w x C, values 0..1.
        lms: its bicubic enlargement, H x W x C.
        sr: the network's output, H x W x C.
        gt: the truth, H x W x C.
        wavelengths: of the bands in nm, where they are known.
    """
    bands = select_display_bands(gt.shape[2], wavelengths)
    white = compute_white_level(gt, bands)
    scale = gt.shape[0] // ms.shape[0]
    errors = [compute_error_map(lms, gt), compute_error_map(sr, gt)]
    full_scale = max(float(np.percentile(errors[0], 99)), 1e-6)
    shown = [render_false_colour(x, bands, white) for x in (ms, lms, sr, gt)]
    shown[0] = shown[0].repeat(scale, axis=0).repeat(scale, axis=1)
    legend = np.tile(np.linspace(0, full_scale, gt.shape[1]), (gt.shape[0], 1))
    tiles = [
        (shown[0], "LR input"),
        (shown[1], "bicubic"),
        (shown[2], "super-resolved"),
        (shown[3], "HR truth"),
        (colour_errors(legend, full_scale), f"RMSE scale: 0 to {full_scale:.4f}"),
        (colour_errors(errors[0], full_scale), f"bicubic: RMSE {np.sqrt(np.mean(errors[0] ** 2)):.4f}"),
        (colour_errors(errors[1], full_scale), f"super-resolved: RMSE {np.sqrt(np.mean(errors[1] ** 2)):.4f}"),
    ]
    # The colour scale needs a strip, not a tile.
    strip = max(12, gt.shape[0] // 12)
    tiles[4] = (tiles[4][0][:strip], tiles[4][1])
    return draw_contact_sheet(tiles, columns=4)


def draw_contact_sheet(tiles: Sequence[tuple[np.ndarray, str]], columns: int, gap: int = 8) -> Image.Image:
    """Pictures in a grid on white, each under its title: [(H x W x 3 uint8, title), ...] -> PIL image."""
    height = max(pixels.shape[0] for pixels, _ in tiles)
    # Narrow tiles are enlarged, so that titles stay readable over them.
    factor = max(1, round(256 / max(pixels.shape[1] for pixels, _ in tiles)))
    height *= factor
    width = factor * max(pixels.shape[1] for pixels, _ in tiles)
    title_height = max(18, width // 18)
    font = ImageFont.load_default(size=round(title_height * 0.7))
    rows = -(-len(tiles) // columns)
    sheet = Image.new(
        "RGB",
        (gap + columns * (width + gap), gap + rows * (height + title_height + gap)),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    for k, (pixels, title) in enumerate(tiles):
        left = gap + k % columns * (width + gap)
        top = gap + k // columns * (height + title_height + gap)
        draw.text((left, top), title, fill="black", font=font)
        picture = Image.fromarray(pixels).resize(
            (pixels.shape[1] * factor, pixels.shape[0] * factor), Image.Resampling.NEAREST
        )
        sheet.paste(picture, (left, top + title_height))
    return sheet
