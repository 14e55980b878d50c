"""No-reference diagnostics: difference from bicubic, and re-degradation error against the input."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

import pictures
from data.imresize import resize_batch, upsample
from formats import Raster
from formats.calibration import Calibration
from models.any_bands import BandPlan
from predict.scene import HALO

# Largest width or height of the overview in LR pixels; larger scenes are subsampled.
WIDEST = 700
# Number of spots with the largest difference, and candidates for them in each strip.
SPOTS, CANDIDATES = 4, 200
# Approximate number of HR values of a strip of LR rows that is processed at a time.
STRIP_VALUES = 2**25


@dataclass(frozen=True)
class Strip:
    """A window of a scene, values in 0..1.

    Attributes:
        lr: h x w x C.
        bicubic, sr: s*h x s*w x C.
        bicubic_degraded, sr_degraded: both downsampled to the size of the input, h x w x C.
        valid: valid mask of the input, h x w x C of bool.
    """

    lr: np.ndarray
    bicubic: np.ndarray
    sr: np.ndarray
    bicubic_degraded: np.ndarray
    sr_degraded: np.ndarray
    valid: np.ndarray

    def mask_missing(self, image: np.ndarray) -> np.ndarray:
        """Return an LR or HR image of the strip with NaN where the input has no data."""
        scale = len(image) // len(self.valid)
        return np.where(self.valid.repeat(scale, axis=0).repeat(scale, axis=1), image, np.nan)


@dataclass(frozen=True)
class Comparison:
    """A scene and its result.

    Attributes:
        raster: the input.
        result: s*rows x s*columns x C, as written.
        calibration: between the values of both and 0..1.
        scale: upsampling factor.
        bands: the BandPlan of the prediction; None: all bands at once.
        has_data: C of bool; False for bands that spectral windows left out; None: all have data.
    """

    raster: Raster
    result: np.ndarray
    calibration: Calibration
    scale: int
    bands: BandPlan | None = None
    has_data: np.ndarray | None = None

    def read_strip(self, top: int, bottom: int, left: int = 0, right: int | None = None) -> Strip | None:
        """Read LR rows top..bottom and columns left..right of both; return None if all pixels are missing."""
        height, width, _ = self.raster.shape
        right, s = right or width, self.scale
        low, high = max(0, top - HALO), min(height, bottom + HALO)
        west, east = max(0, left - HALO), min(width, right + HALO)
        rows, cols = slice(low, high), slice(west, east)
        valid = self.raster.read_mask(rows, cols)
        lr, missing = self.calibration.to_unit(self.raster.read(rows, cols), valid)
        result = np.asarray(self.result[low * s : high * s, west * s : east * s])
        valid_hr = None if valid is None else valid.repeat(s, axis=0).repeat(s, axis=1)
        sr, _ = self.calibration.to_unit(result.astype(result.dtype.newbyteorder("=")), valid_hr)
        if lr is None or sr is None:
            return None

        def crop(x: np.ndarray, scale: int = 1) -> np.ndarray:
            rows = slice((top - low) * scale, (bottom - low) * scale)
            return x[rows, (left - west) * scale : (right - west) * scale]

        bicubic = upsample(_as_tensor(lr), s, torch.float32)
        degraded = [_as_image(resize_batch(x, Fraction(1, s))) for x in (bicubic, _as_tensor(sr))]
        return Strip(
            lr=crop(lr),
            bicubic=crop(_as_image(bicubic), s),
            sr=crop(sr, s),
            bicubic_degraded=crop(degraded[0]),
            sr_degraded=crop(degraded[1]),
            valid=np.ones(crop(lr).shape, dtype=bool) if missing is None else ~crop(missing),
        )


@dataclass(frozen=True)
class Findings:
    """Diagnostics of a scene and its result.

    Attributes:
        rmse, bicubic_rmse: re-degradation error of each band for the result and for the bicubic image, against the
            input, as a share of full scale; NaN for bands without data.
        shown: bands displayed as red, green and blue; bands with data if there are any.
        overview: (LR, bicubic, SR) of these bands, h x w x 3, subsampled; NaN where the input has no data.
        step: of the overview, in LR pixels.
        spots: (row, column) of the LR pixels in which the result differs most from the bicubic image.
    """

    rmse: np.ndarray
    bicubic_rmse: np.ndarray
    shown: list[int]
    overview: list[np.ndarray]
    step: int
    spots: list[tuple[int, int]]


def collect_findings(comparison: Comparison) -> Findings:
    """Compute the diagnostics strip by strip: in one pass, or in two if a displayed band has no data."""
    wavelengths = comparison.raster.wavelengths
    shown = pictures.select_display_bands(comparison.raster.shape[2], wavelengths)
    found = _find(comparison, shown)
    with_data = np.flatnonzero(~np.isnan(found.rmse))
    if len(with_data) and not set(shown) <= set(with_data):
        nearest = pictures.select_display_bands(len(with_data), None if wavelengths is None else wavelengths[with_data])
        found = _find(comparison, with_data[nearest].tolist())
    return found


def _find(comparison: Comparison, shown: list[int]) -> Findings:
    """Compute the diagnostics in one pass; see `collect_findings`."""
    height, width, bands = comparison.raster.shape
    step = max(1, -(-max(height, width) // WIDEST))
    squares, counts = np.zeros((2, bands)), np.zeros(bands)
    thumbs, candidates = [], []
    rows = max(1, STRIP_VALUES // (width * bands * comparison.scale**2))
    for top in range(0, height, rows):
        bottom, first = min(height, top + rows), -top % step
        strip = comparison.read_strip(top, bottom)
        if strip is None:
            thumbs.append(_make_blank(len(range(first, bottom - top, step)), -(-width // step), comparison.scale))
            continue
        counts += strip.valid.sum(axis=(0, 1))
        for k, degraded in enumerate((strip.sr_degraded, strip.bicubic_degraded)):
            squares[k] += ((degraded - strip.lr) ** 2 * strip.valid).sum(axis=(0, 1), dtype=np.float64)
        thumbs.append(_make_thumbnails(strip, shown, first, step, comparison.scale))
        candidates += _find_candidates(strip, top, comparison.scale)
    rmse, bicubic_rmse = np.sqrt(squares / np.where(counts, counts, np.nan))
    overview = [np.concatenate(parts) for parts in zip(*thumbs, strict=True)]
    return Findings(rmse, bicubic_rmse, shown, overview, step, _select_spots(candidates, min(height, width) // 8))


def _as_tensor(image: np.ndarray) -> torch.Tensor:
    """Convert h x w x C to 1 x C x h x w."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]


def _as_image(tensor: torch.Tensor) -> np.ndarray:
    """Convert 1 x C x h x w to h x w x C."""
    return tensor[0].permute(1, 2, 0).numpy()


def _make_thumbnails(strip: Strip, shown: list[int], first: int, step: int, scale: int) -> list[np.ndarray]:
    """Return (LR, bicubic, SR) of a strip in the displayed bands, every step-th LR pixel from row `first` on."""
    lr, *upsampled = (strip.mask_missing(image)[:, :, shown] for image in (strip.lr, strip.bicubic, strip.sr))
    return [lr[first::step, ::step], *(_thin(image, first, step, scale) for image in upsampled)]


def _make_blank(height: int, width: int, scale: int) -> list[np.ndarray]:
    """Return the thumbnails of a strip without data; see `_make_thumbnails`."""
    return [np.full((height * s, width * s, 3), np.nan) for s in (1, scale, scale)]


def _thin(image: np.ndarray, first: int, step: int, scale: int) -> np.ndarray:
    """Return the blocks of every step-th LR pixel in an HR image, side by side."""
    blocks = [np.arange(r, r + scale) for r in range(first * scale, len(image), step * scale)]
    rows = np.concatenate(blocks or [np.zeros(0, int)])
    cols = np.concatenate([np.arange(c, c + scale) for c in range(0, image.shape[1], step * scale)])
    return image[rows][:, cols]


def _find_candidates(strip: Strip, top: int, scale: int) -> list[tuple[float, int, int]]:
    """Return (difference, row, column) of the LR pixels of a strip in which SR and bicubic differ most.

    Pixels and bands without data are ignored.
    """
    height, width, bands = strip.lr.shape
    squares = ((strip.sr - strip.bicubic) ** 2).reshape(height, scale, width, scale, bands).transpose(1, 3, 0, 2, 4)
    counts = strip.valid.sum(axis=2)
    difference = np.sqrt((squares * strip.valid).sum(axis=4).max(axis=(0, 1)) / np.maximum(counts, 1))
    places = np.argsort(difference, axis=None)[-CANDIDATES:]
    rows, cols = np.unravel_index(places, difference.shape)
    return [(difference[row, col], top + row, col) for row, col in zip(rows, cols, strict=True) if counts[row, col]]


def _select_spots(candidates: Sequence[tuple[float, int, int]], distance: int) -> list[tuple[int, int]]:
    """Select the pixels with the largest difference that are at least a distance apart."""
    spots: list[tuple[int, int]] = []
    for _, row, col in sorted(candidates, reverse=True):
        if all(abs(row - r) > distance or abs(col - c) > distance for r, c in spots):
            spots.append((int(row), int(col)))
        if len(spots) == SPOTS:
            break
    return spots
