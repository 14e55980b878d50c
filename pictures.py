"""Pictures of cubes: false colour by wavelength, error maps, panels side by side."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Band centres displayed as red, green and blue, in nm.
SHOWN = (640.0, 550.0, 460.0)
# Colour of pixels without data.
NO_DATA = (176, 176, 176)
# Error at the end of the colour scale, as a share of full scale.
ERROR_FULL_SCALE = 0.1
# Dark to bright, roughly even steps in lightness (black, violet, red, orange, pale yellow).
_SCALE = np.array([[0, 0, 4], [86, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], dtype=np.float64)


def select_display_bands(n_colors: int, wavelengths: Sequence[float] | np.ndarray | None = None) -> list[int]:
    """Return the indices of the bands to display as red, green and blue.

    They are nearest to 640, 550 and 460 nm. Without wavelengths, or if the same band is nearest to two of these, three
    bands spread over the spectrum are used, longest wavelength first.
    """
    if wavelengths is not None:
        nearest = [int(np.argmin(np.abs(np.asarray(wavelengths) - w))) for w in SHOWN]
        if len(set(nearest)) == 3:
            return nearest
    return [round((n_colors - 1) * part) for part in (0.8, 0.5, 0.2)]


def split_spectral_runs(x: np.ndarray) -> list[np.ndarray]:
    """Return the bands that a line in a plot may connect, as arrays of indices with monotonic x.

    Where the ranges of two detectors overlap, x reverses and a new line begins. Unordered bands are sorted.
    """
    steps = np.diff(x)
    direction = -1 if np.count_nonzero(steps < 0) > np.count_nonzero(steps > 0) else 1
    breaks = np.flatnonzero(steps * direction <= 0)
    if 3 * len(breaks) > len(steps):
        return [np.argsort(x, kind="stable")]
    return np.split(np.arange(len(x)), breaks + 1)


def get_spectral_axis(wavelengths: Sequence[float] | np.ndarray | None, count: int) -> tuple[np.ndarray, str]:
    """Return (x, label) of an axis of bands: their wavelengths if all are known, else numbers from 1."""
    if wavelengths is not None and len(wavelengths) == count:
        return np.asarray(wavelengths), "wavelength (nm)"
    return np.arange(1, count + 1), "band"


def render_false_colour(cube: np.ndarray, bands: Sequence[int], white: float | None = None) -> np.ndarray:
    """Render three bands: H x W x C in 0..1 -> H x W x 3 uint8; brightest 0.5 % white, gamma 2.2, NaN as `NO_DATA`."""
    colours = np.clip(cube[:, :, list(bands)], 0, None)
    missing = np.isnan(colours).any(axis=2)
    white = white or compute_white_level(cube, bands)
    shown = (255 * np.clip(np.nan_to_num(colours) / white, 0, 1) ** (1 / 2.2)).round().astype(np.uint8)
    shown[missing] = NO_DATA
    output: np.ndarray = shown
    return output


def compute_white_level(cube: np.ndarray, bands: Sequence[int]) -> float:
    """Return the value that `render_false_colour` maps to white: the 99.5th percentile of the bands without NaN."""
    values = cube[:, :, list(bands)]
    values = values[~np.isnan(values)]
    return max(float(np.percentile(values, 99.5)), 1e-6) if values.size else 1e-6


def compute_error_map(pred: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """Return the RMSE over the bands of each pixel: H x W x C twice -> H x W, in the units of the values."""
    output: np.ndarray = np.sqrt(np.mean((pred.astype(np.float64) - gt) ** 2, axis=2))
    return output


def colour_errors(error: np.ndarray, full_scale: float = ERROR_FULL_SCALE) -> np.ndarray:
    """Map H x W errors to H x W x 3 uint8, from black (0) to pale yellow (full_scale and above)."""
    position = np.clip(error / full_scale, 0, 1) * (len(_SCALE) - 1)
    channels = [np.interp(position, np.arange(len(_SCALE)), _SCALE[:, k]) for k in range(3)]
    return np.stack(channels, axis=2).round().astype(np.uint8)


def read_title(path: str | Path) -> tuple[str, str]:
    """Return (title, description) from the metadata of a PNG file, which reports of `predict` contain.

    Raises:
        ValueError: for a file without them.
        OSError: for a file that is not a picture.
    """
    with Image.open(path) as picture:
        metadata = {**picture.info}
    if not ("Title" in metadata and "Description" in metadata):
        raise ValueError("not a report of predict")
    return metadata["Title"], metadata["Description"]


def draw_comparison(
    ms: np.ndarray, lms: np.ndarray, sr: np.ndarray, gt: np.ndarray, wavelengths: np.ndarray | None = None
) -> Image.Image:
    """Draw LR, bicubic, SR and HR in false colour, with the errors of bicubic and SR below.

    Args:
        ms: the LR input, h x w x C, values 0..1.
        lms: the bicubic image, H x W x C.
        sr: the network's output, H x W x C.
        gt: the ground truth, H x W x C.
        wavelengths: of the bands in nm, None if unknown.
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
    # The colour scale is a narrow strip.
    strip = max(12, gt.shape[0] // 12)
    tiles[4] = (tiles[4][0][:strip], tiles[4][1])
    return draw_contact_sheet(tiles, columns=4)


def draw_contact_sheet(tiles: Sequence[tuple[np.ndarray, str]], columns: int, gap: int = 8) -> Image.Image:
    """Draw pictures in a grid on white, each under its title: [(H x W x 3 uint8, title), ...] -> PIL image."""
    height = max(pixels.shape[0] for pixels, _ in tiles)
    # Narrow tiles are scaled up, so that the titles fit.
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
