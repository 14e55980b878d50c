"""The rules for values: what stands for 1, what marks missing data, raw values to 0..1 and back."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import DataError
from data.rasters.base import Raster, Scaling
from data.rasters.gaps import filled, mark_in, missing_values

# Values this far below zero, in parts of what stands for 1, are no noise but a mark for no data.
LARGEST_NOISE = 0.05
# Floating-point values above this are no reflectance.
LARGEST_FLOAT = 2.0
# A scene whose largest value is below or above these parts of what stands for 1 is brought to the brightness that
# networks know: dark ones, and radiance.
DARK, BRIGHT = 0.5, LARGEST_FLOAT
# Blocks of rows looked at before a scene's values are understood, and values in each.
SAMPLES, SAMPLE_VALUES = 8, 2**22


class Calibration:
    """Between a scene's own values and 0..1.

    Args:
        dtype: number type of the scene.
        scale: what stands for 1, of the values or of what `scaling` makes of them.
        nodata: mark for missing data, or None.
        scaling: gains and offsets that come first, or None.

    Attributes:
        mark: what stands for missing data in a result of that type; None where nothing does.
    """

    def __init__(
        self, dtype: np.dtype | str, scale: float, nodata: float | None = None, scaling: Scaling | None = None
    ) -> None:
        self.dtype, self.scale, self.nodata = np.dtype(dtype).newbyteorder("="), scale, nodata
        self.scaling = scaling
        mark = None if nodata is None or not np.isfinite(nodata) else mark_in(self.dtype, nodata)
        self.mark = np.nan if mark is None and self.dtype.kind == "f" else mark

    def to_unit(self, raw: np.ndarray, there: np.ndarray | None = None) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Raw h x w x C -> (float32 with its gaps filled in, where these are).

        The first is None where there is nothing but gaps, the second where there are none.

        Args:
            raw: values of the scene's type.
            there: h x w of bool, where a mask has data; None without a mask.
        """
        missing = missing_values(raw, self.nodata, there)
        if missing is not None and missing.all():
            return None, missing
        # What float32 does not hold becomes infinite, and is found by `read_unit`.
        with np.errstate(over="ignore"):
            if self.scaling:
                unit = (self.scaling.physical(raw) / self.scale).astype(np.float32)
            else:
                divisor = raw.dtype.type(self.scale) if self.dtype.kind == "f" else np.float64(self.scale)
                unit = (raw / divisor).astype(np.float32, copy=False)
        return (unit if missing is None else filled(unit, missing)), missing

    def to_raw(self, unit: np.ndarray, missing: np.ndarray | None = None) -> tuple[np.ndarray, int]:
        """h x w x C in 0..1 -> (values as the scene has them, how many had to be clipped to its type).

        Args:
            unit: floating point.
            missing: h x w x C of bool, where the result has no data, or None.
        """
        clipped = 0
        exact = unit.astype(np.float64) * self.scale
        if self.scaling:
            exact = (exact - self.scaling.offsets) / self.scaling.gains
        if self.dtype.kind == "f":
            raw = exact.astype(self.dtype)
        else:
            low, high = _limits(self.dtype)
            rounded = np.rint(exact)
            outside = (rounded < low) | (rounded > high)
            clipped = int(np.count_nonzero(outside if missing is None else outside & ~missing))
            raw = np.clip(rounded, low, high).astype(self.dtype)
        if self.mark is not None and not np.isnan(self.mark):
            # A value that happens to be the mark would become a hole.
            raw[raw == self.mark] = self._beside_mark()
        if missing is not None:
            # Under a mask that the result has too, the value tells nothing.
            raw[missing] = 0 if self.mark is None else self.mark
        return raw, clipped

    def _beside_mark(self):
        if self.dtype.kind == "f":
            return np.nextafter(self.mark, self.dtype.type(np.inf))
        return self.mark + 1 if self.mark < np.iinfo(self.dtype).max else self.mark - 1


def _limits(dtype):
    """The lowest and highest float64 that an integer type holds."""
    info = np.iinfo(dtype)
    low, high = float(info.min), float(info.max)
    # The float64 next to 2**63 and 2**64 lies outside of the type.
    return low, high if int(high) <= info.max else float(np.nextafter(high, 0))


@dataclass(frozen=True)
class Understanding:
    """How a scene's values are to be understood, and why.

    Attributes:
        calibration: between them and 0..1.
        told_by: who said what stands for 1: "caller", "file", or nobody and so the number "type".
        low, high: lowest and highest value (physical, where the scene has gains and offsets) where it was looked at;
            None where data were missing everywhere.
    """

    calibration: Calibration
    told_by: str
    low: float | None
    high: float | None


def understand(raster: Raster, value_scale: float = 0.0, nodata: float | None = None) -> Understanding:
    """How a scene's values are to be understood, after a look at some of them.

    Args:
        raster: the scene.
        value_scale: what stands for 1; 0: as the file says, else the integer type's maximum, 1 for floating point.
            Where bands have gains of their own it is a physical value, otherwise one of the file's.
        nodata: mark for missing data; None: the file's, if it has one.

    Raises:
        DataError: for floating-point values far above 1 of which nobody says the scale, and for values that can
            only be an unknown mark for missing data.
    """
    nodata = raster.nodata if nodata is None else nodata
    scaling = scaling_under(raster, value_scale)
    low, high = value_range(raster, nodata, scaling)
    if scaling:
        scale = float(value_scale or 1)
    else:
        known = value_scale or raster.value_scale
        scale = scale_of(raster.path, raster.dtype, 0.0 if high is None else high, known)
    remedy = "name it by {nodata}, or what stands for 1 by {value_scale}"
    refuse_marks(raster.path, 0.0 if low is None else low, scale, remedy)
    told_by = "file" if raster.value_scale or scaling else "type"
    calibration = Calibration(raster.dtype, scale, nodata, scaling)
    return Understanding(calibration, "caller" if value_scale else told_by, low, high)


def scaling_under(raster: Raster, value_scale: float) -> Scaling | None:
    """Gains and offsets that come before the division by what stands for 1, or None.

    The caller's number takes the place of a gain that all bands share; where the zero lies, the file says.
    """
    if raster.scaling and value_scale and (gain := raster.scaling.gain):
        return raster.scaling.divided(gain)
    return raster.scaling


def described(raster: Raster, understood: Understanding) -> Raster:
    """A scene with what its user said of its values, so that its result's file says that too."""
    calibration = understood.calibration
    changes: dict[str, Any] = {"nodata": calibration.nodata}
    if understood.told_by == "caller":
        scaling = calibration.scaling
        changes["scaling"] = scaling.divided(calibration.scale) if scaling else None
        changes["value_scale"] = None if scaling else calibration.scale
    return dataclasses.replace(raster, **changes)


def scale_of(path: str | Path, dtype: np.dtype, high: float, known: float | None = None) -> float:
    """What stands for 1: what is known, else the integer type's maximum, 1 for floating point.

    Args:
        path: for the message.
        dtype: of the values.
        high: the highest of them.
        known: as somebody said; None or 0 where nobody did.

    Raises:
        DataError: for floating-point values far above 1 of unknown scale.
    """
    if known:
        return float(known)
    if dtype.kind in "iu":
        return float(np.iinfo(dtype).max)
    if high > LARGEST_FLOAT:
        raise DataError(path, f"floating-point values up to {high:g}", "say what stands for 1 by {value_scale}")
    return 1.0


def refuse_marks(path: str | Path, low: float, scale: float, remedy: str) -> None:
    """Refuse values below zero by more than noise.

    Args:
        path, remedy: for the message.
        low: the lowest value.
        scale: what stands for 1.

    Raises:
        DataError: with the value and the remedy.
    """
    if low < -LARGEST_NOISE * scale:
        raise DataError(path, f"values down to {low:g} (a mark for no data?)", remedy)


def value_range(
    raster: Raster, nodata: float | None = None, scaling: Scaling | None = None
) -> tuple[float | None, float | None]:
    """Lowest and highest value in blocks of rows over the whole height (all of a small scene); None without any.

    Args:
        raster: the scene.
        nodata: its mark for missing data, or None.
        scaling: makes physical values of them first; None: as they are.
    """
    height, width, bands = raster.shape
    rows = max(1, SAMPLE_VALUES // (width * bands))
    tops = sorted({round(k * max(0, height - rows) / (SAMPLES - 1)) for k in range(SAMPLES)})
    ranges = [_range_of_rows(raster, slice(top, min(height, top + rows)), nodata, scaling) for top in tops]
    found = [r for r in ranges if r]
    return (min(low for low, _ in found), max(high for _, high in found)) if found else (None, None)


def largest_value(raster: Raster, calibration: Calibration) -> float:
    """The largest value of a whole scene in parts of what stands for 1, missing data apart; 0 where all is missing."""
    height, width, bands = raster.shape
    rows = max(1, SAMPLE_VALUES // (width * bands))
    blocks = [slice(top, min(height, top + rows)) for top in range(0, height, rows)]
    ranges = [_range_of_rows(raster, block, calibration.nodata, calibration.scaling) for block in blocks]
    return max([0.0, *(r[1] / calibration.scale for r in ranges if r)])


def peak_of(raster: Raster, understood: Understanding, normalise: str) -> float:
    """What a scene's values in 0..1 are divided by for a network; 1 for none.

    Args:
        raster, understood: the scene, and how its values are understood.
        normalise: "scene": its largest value; "auto": that where it is dark or bright; "none".
    """
    if normalise == "none" or understood.high is None:
        return 1.0
    if normalise == "auto" and DARK <= understood.high / understood.calibration.scale <= BRIGHT:
        return 1.0
    peak = largest_value(raster, understood.calibration)
    is_left = peak <= 0 or (normalise == "auto" and DARK <= peak <= BRIGHT)
    return 1.0 if is_left else peak


def read_unit(
    raster: Raster, calibration: Calibration, rows: slice, cols: slice
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Read a window of a raster and bring it to 0..1: what `Calibration.to_unit` returns.

    Raises:
        DataError: for values that float32 does not hold.
    """
    unit, missing = calibration.to_unit(raster.read(rows, cols), raster.there(rows, cols))
    if unit is not None and not np.isfinite(unit).all():
        raise DataError(raster.path, "values beyond what float32 holds", "give another {value_scale}")
    return unit, missing


class UnitCube:
    """A scene as networks see it, window by window: cube[i:j, k:l] is h x w x C float32, about 0..1, gaps filled in.

    Args:
        raster: the scene.
        calibration: between its values and 0..1.
        peak: what these are divided by, see `peak_of`.

    Attributes:
        shape, dtype, nbytes: of the whole array.
    """

    def __init__(self, raster: Raster, calibration: Calibration, peak: float = 1.0) -> None:
        self._raster, self._calibration, self._peak = raster, calibration, peak
        self.shape, self.dtype = raster.shape, np.dtype(np.float32)
        self.nbytes = math.prod(raster.shape) * self.dtype.itemsize

    def __getitem__(self, window: tuple[slice, slice]) -> np.ndarray:
        """The pixels of a window; zero where all of it is missing."""
        unit, missing = read_unit(self._raster, self._calibration, *window)
        if unit is None:
            assert missing is not None, "where nothing is there, that is known"
            return np.zeros(missing.shape, dtype=np.float32)
        return unit / np.float32(self._peak)

    def there(self) -> np.ndarray:
        """Where pixels have data, rows x columns of bool, read by strips.

        A band that is missing in all pixels, as those of water vapour are in many products, counts for none.
        """
        height, width, bands = self.shape
        if self._raster.dtype.kind != "f" and not self._raster.mask and self._calibration.nodata is None:
            return np.ones((height, width), dtype=bool)
        gaps, in_band = np.zeros((height, width), dtype=np.uint16), np.zeros(bands, dtype=np.int64)
        step = max(1, SAMPLE_VALUES // (width * bands))
        for top in range(0, height, step):
            rows, cols = slice(top, min(height, top + step)), slice(0, width)
            block, there = self._raster.read(rows, cols), self._raster.there(rows, cols)
            missing = missing_values(block, self._calibration.nodata, there)
            if missing is not None:
                gaps[rows] = missing.sum(axis=2)
                in_band += missing.sum(axis=(0, 1))
        return gaps == np.count_nonzero(in_band == height * width)


def _range_of_rows(raster, rows, nodata, scaling):
    """(lowest, highest) value of some rows, or None where all is missing."""
    cols = slice(0, raster.shape[1])
    block = raster.read(rows, cols)
    missing = missing_values(block, nodata, raster.there(rows, cols))
    if missing is not None and missing.all():
        return None
    if scaling:
        block = scaling.physical(block)
    valid = block if missing is None else block[~missing]
    return float(valid.min()), float(valid.max())
