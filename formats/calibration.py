"""Rules for values: full-scale value, nodata, conversion of raw values to 0..1 and back."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facts import HEADROOM
from formats.full_scale import describe_assumption
from formats.nodata import convert_nodata, fill_missing, find_missing
from formats.raster import Raster, Scaling
from system.errors import DataError

# Undeclared values below minus this share of full scale may be a nodata value: sensor noise and over-corrected water
# vapour bands are mostly above it.
LARGEST_NOISE = 0.05
# Floating-point values above this are not reflectance.
LARGEST_FLOAT = 2.0
USUAL_NODATA = (-999, -9999, -99999, -32767, -32768)
# Bytes of the widest integer whose maximum may be the full-scale value.
WIDEST_INTEGER = 2
# A scene whose largest value is below or above these parts of full scale is normalised: dark ones, and radiance.
DARK, BRIGHT = 0.5, LARGEST_FLOAT
# Number of sampled blocks of rows, and of values in each.
SAMPLES, SAMPLE_VALUES = 8, 2**22


class Calibration:
    """Conversion between a scene's raw values and 0..1.

    Args:
        dtype: number type of the scene.
        scale: full-scale value, of raw values or of the physical ones of `scaling`.
        nodata: nodata value, or None.
        scaling: gains and offsets that are applied first, or None.

    Attributes:
        result_nodata: nodata value in a result of that type; None without one.
    """

    def __init__(
        self, dtype: np.dtype | str, scale: float, nodata: float | None = None, scaling: Scaling | None = None
    ) -> None:
        self.dtype, self.scale, self.nodata = np.dtype(dtype).newbyteorder("="), scale, nodata
        self.scaling = scaling
        value = None if nodata is None or not np.isfinite(nodata) else convert_nodata(self.dtype, nodata)
        self.result_nodata: Any = np.nan if value is None and self.dtype.kind == "f" else value

    def to_physical(self, raw: np.ndarray) -> np.ndarray:
        """Apply the gains and offsets to raw values, h x w x C; without any, return the values."""
        return self.scaling.apply(raw) if self.scaling else raw

    def to_unit(self, raw: np.ndarray, valid: np.ndarray | None = None) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Convert raw values, h x w x C, to about 0..1.

        Args:
            raw: values of the scene's type.
            valid: mask, h x w of bool; None without a mask.

        Returns:
            (float32 with missing data filled in, h x w x C of bool that is True for missing data). The first is None
            if all data are missing, the second if none are.
        """
        missing = find_missing(raw, self.nodata, valid)
        if missing is not None and missing.all():
            return None, missing
        # Values beyond float32 become infinite, and are refused by `read_unit`.
        with np.errstate(over="ignore"):
            # float16 cannot contain full-scale values above 65504.
            is_narrow = self.scaling is None and self.dtype.kind == "f" and self.dtype.itemsize <= 4
            scale = np.float32(self.scale) if is_narrow else np.float64(self.scale)
            unit = (self.to_physical(raw) / scale).astype(np.float32, copy=False)
        return (unit if missing is None else fill_missing(unit, missing)), missing

    def to_raw(self, unit: np.ndarray, missing: np.ndarray | None = None) -> tuple[np.ndarray, int]:
        """Convert values in 0..1, h x w x C, to raw ones.

        Args:
            unit: floating point.
            missing: h x w x C of bool, True where the result has no data; None without missing data.

        Returns:
            (values of the scene's type, number of values clipped to its range).
        """
        exact = unit.astype(np.float64) * self.scale
        if self.scaling:
            exact = (exact - self.scaling.offsets) / self.scaling.gains
        low, high = _get_limits(self.dtype)
        rounded = exact if self.dtype.kind == "f" else np.rint(exact)
        outside = (rounded < low) | (rounded > high)
        clipped = int(np.count_nonzero(outside if missing is None else outside & ~missing))
        raw = np.clip(rounded, low, high).astype(self.dtype)
        if self.result_nodata is not None and not np.isnan(self.result_nodata):
            # A valid value that equals the nodata value is moved off it by one.
            if self.dtype.kind == "f":
                beside = np.nextafter(self.result_nodata, self.dtype.type(np.inf))
            else:
                beside = self.result_nodata + 1 if self.result_nodata < high else self.result_nodata - 1
            raw[raw == self.result_nodata] = beside
        if missing is not None:
            # Without a nodata value, the result has a mask.
            raw[missing] = 0 if self.result_nodata is None else self.result_nodata
        return raw, clipped


def _get_limits(dtype: np.dtype) -> tuple[float, float]:
    """Return the lowest and highest float64 that a number type contains."""
    info: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    low, high = float(info.min), float(info.max)
    # The float64 next to 2**63 and 2**64 is outside the type.
    return low, high if dtype.kind == "f" or int(high) <= info.max else float(np.nextafter(high, 0))


@dataclass(frozen=True)
class Understanding:
    """Interpretation of a scene's values, and its source.

    Attributes:
        calibration: conversion to 0..1.
        source: source of the full-scale value: "caller", "file", "weights", or "type" if it is assumed.
        low, high: lowest and highest sampled value (physical, if the scene has gains and offsets); None if all sampled
            values are missing.
    """

    calibration: Calibration
    source: str
    low: float | None
    high: float | None

    @property
    def is_assumed(self) -> bool:
        """True if the full-scale value is the maximum of an integer type, without confirmation."""
        return self.source == "type" and self.calibration.dtype.kind in "iu"

    def list_remarks(self, path: str | Path) -> list[str]:
        """Return sentences on the interpretation of the values; parameters are in braces, as in `DataError`."""
        scale, scaling, sentences = self.calibration.scale, self.calibration.scaling, []
        if self.low is None or self.high is None:
            return [f"{path}: all sampled values are missing data"]
        if scaling:
            gain, offset = (
                f"{v[0]:g}" if (v == v[0]).all() else "one per band" for v in (scaling.gains, scaling.offsets)
            )
            sentences.append(f"{path}: value = gain ({gain}) x number + offset ({offset}), as the file specifies")
        elif self.source in ("file", "weights"):
            origin = "the file specifies" if self.source == "file" else "the weights record"
            sentences.append(f"{path}: full-scale value {scale:g}, as {origin}")
        # Data that fill half of the type's range confirm the assumption.
        if self.is_assumed and self.high <= scale / 2:
            sentences.append(f"{path}: brightest value is {self.high:g}; {describe_assumption(self.calibration.dtype)}")
        if self.low < -scale:
            low = format_number(self.low)
            sentences.append(f"{path}: values down to {low} are processed as data; set {{nodata}} if they are missing")
        return sentences


def understand(
    raster: Raster, value_scale: float = 0.0, nodata: float | None = None, fallback: float = 0.0
) -> Understanding:
    """Interpret a scene's values by a sample of its rows; every command and `super_resolve` use this function.

    Args:
        raster: the scene.
        value_scale: full-scale value; 0: the file's, else the fallback, else the maximum of an integer type of at
            most 16 bits, 1 for floating point. It is a physical value if bands differ in their gains, else a raw one.
        nodata: nodata value; None: the file's, if any.
        fallback: full-scale value that the weights record, for values that would need an assumption; 0: none.

    Raises:
        DataError: for wide integers and for floating-point values above 2 of unknown full-scale value, and for
            negative values that look like an undeclared nodata value.
    """
    nodata = raster.nodata if nodata is None else nodata
    scaling = raster.scaling
    if scaling and value_scale and scaling.gain:
        # The user's value replaces a gain that all bands share; the offset remains.
        scaling = scaling.divide(scaling.gain)
    found = sample_range(raster, nodata, scaling)
    low, high = (found.low, found.high) if found else (None, None)
    source = "caller" if value_scale else "file" if raster.value_scale or scaling else "type"
    known = (value_scale or 1) if scaling else (value_scale or raster.value_scale)
    if not known and fallback and (raster.dtype.kind in "iu" or (high or 0.0) > LARGEST_FLOAT):
        known, source = fallback, "weights"
    scale = choose_full_scale(raster.path, raster.dtype, high or 0.0, known)
    if found and nodata is None and not raster.mask:
        _refuse_undeclared_nodata(raster.path, found, scale)
    return Understanding(Calibration(raster.dtype, scale, nodata, scaling), source, low, high)


def add_user_metadata(raster: Raster, understood: Understanding) -> Raster:
    """Return a scene with the user's nodata and full-scale value, for the metadata of its result."""
    calibration = understood.calibration
    changes: dict[str, Any] = {"nodata": calibration.nodata}
    if understood.source == "caller":
        scaling = calibration.scaling
        changes["scaling"] = scaling.divide(calibration.scale) if scaling else None
        changes["value_scale"] = None if scaling else calibration.scale
    return dataclasses.replace(raster, **changes)


def choose_full_scale(path: str | Path, dtype: np.dtype, high: float, known: float | None = None) -> float:
    """Return the full-scale value: the declared one, else the maximum of a narrow integer type, 1 for floating point.

    Args:
        path: for the message.
        dtype: number type of the values.
        high: highest value.
        known: declared full-scale value; None or 0 if there is none.

    Raises:
        DataError: for integers of more than 16 bits, and for floating-point values above 2, of unknown scale.
    """
    if known:
        return float(known)
    remedy = "set {value_scale}, e.g. 10000 for most reflectance products"
    if dtype.kind in "iu" and dtype.itemsize > WIDEST_INTEGER:
        what = f"{dtype.name} values up to {format_number(high)} of unknown full-scale value"
        raise DataError(path, what, remedy)
    if dtype.kind in "iu":
        return float(np.iinfo(dtype).max)
    if high > LARGEST_FLOAT:
        raise DataError(path, f"floating-point values up to {high:g} of unknown full-scale value", remedy)
    return 1.0


def format_number(value: float) -> str:
    """Format a number as a short text that reads back as the same number."""
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value)).removesuffix(".0")


@dataclass(frozen=True)
class SampledRange:
    """Extremes of the sampled values.

    Attributes:
        low, high: lowest and highest value, physical if the scene has gains and offsets.
        raw_low: the number in the file that corresponds to `low`.
        count: number of occurrences of `low`.
        following: lowest value above `low`; infinite if there is none.
    """

    low: float
    high: float
    raw_low: float
    count: int
    following: float


def _refuse_undeclared_nodata(path: Path, found: SampledRange, scale: float) -> None:
    """Refuse negative values that look like an undeclared nodata value.

    Those are values below -1 of full scale, and one frequent or usual nodata value far below the rest. Measured
    negatives (noise, over-corrected water vapour bands) are spread out.
    """
    is_isolated = found.following >= found.low / 2 and (found.count > 1 or found.raw_low in USUAL_NODATA)
    if found.low < -scale or (found.low < -LARGEST_NOISE * scale and is_isolated):
        low = format_number(found.raw_low)
        remedy = f"set {{nodata}} {low} if it does, {{nodata}} nan if it is measured"
        raise DataError(path, f"the value {low} may mark missing data", remedy)


def sample_range(raster: Raster, nodata: float | None = None, scaling: Scaling | None = None) -> SampledRange | None:
    """Return the extremes of blocks of rows over the whole height (all of a small scene); None without valid values.

    Args:
        raster: the scene.
        nodata: its nodata value, or None.
        scaling: gains and offsets that are applied first, or None.
    """
    height, width, bands = raster.shape
    rows = max(1, SAMPLE_VALUES // (width * bands))
    tops = sorted({round(k * max(0, height - rows) / (SAMPLES - 1)) for k in range(SAMPLES)})
    # No row is sampled twice.
    stops = [min(top + rows, following) for top, following in zip(tops, [*tops[1:], height], strict=True)]
    spans = [slice(*ends) for ends in zip(tops, stops, strict=True)]
    blocks = [_find_range(values, missing, scaling) for _, values, missing in _read_blocks(raster, nodata, spans)]
    found = [block for block in blocks if block]
    if not found:
        return None
    lowest, high = min(found, key=lambda block: block.low), max(block.high for block in found)
    same, rest = ([b for b in found if (b.low == lowest.low) == is_same] for is_same in (True, False))
    following = min([b.following for b in same] + [b.low for b in rest])
    return SampledRange(lowest.low, high, lowest.raw_low, sum(b.count for b in same), following)


def _read_blocks(
    raster: Raster, nodata: float | None, spans: Sequence[slice] | None = None
) -> Iterator[tuple[slice, np.ndarray, np.ndarray | None]]:
    """Yield (rows, values, missing data or None) of blocks of rows: these spans, or all."""
    height, width, bands = raster.shape
    step = max(1, SAMPLE_VALUES // (width * bands))
    for rows in spans or [slice(top, min(height, top + step)) for top in range(0, height, step)]:
        values = raster.read(rows, slice(0, width))
        yield rows, values, find_missing(values, nodata, raster.read_mask(rows, slice(0, width)))


def find_largest_values(raster: Raster, calibration: Calibration) -> np.ndarray:
    """Return the largest valid value of each band in parts of full scale, C; 0 for bands without data."""
    largest = np.zeros(raster.shape[2])
    for _, values, missing in _read_blocks(raster, calibration.nodata):
        physical = calibration.to_physical(values)
        valid = physical if missing is None else np.where(missing, physical.dtype.type(0), physical)
        np.maximum(largest, valid.max(axis=(0, 1)).astype(np.float64), out=largest)
    return largest / calibration.scale


def compute_peaks(raster: Raster, understood: Understanding, normalise: str) -> np.ndarray:
    """Return the divisors of a scene's values in 0..1 for a network, one number or one for each band.

    Args:
        raster, understood: the scene and the interpretation of its values.
        normalise: "bands": the largest value of each band times `HEADROOM`, 0 for bands without data; "scene": the
            largest value; "auto": the same, if the scene is dark or bright; "none": 1.
    """
    ones = np.ones(1)
    if normalise == "none" or understood.high is None:
        return ones
    if normalise == "auto" and DARK <= understood.high / understood.calibration.scale <= BRIGHT:
        return ones
    largest = find_largest_values(raster, understood.calibration)
    if normalise == "bands":
        return HEADROOM * largest if largest.any() else ones
    peak = largest.max()
    is_left = peak <= 0 or (normalise == "auto" and DARK <= peak <= BRIGHT)
    return ones if is_left else np.array([peak])


def compute_divisors(peaks: np.ndarray) -> np.ndarray:
    """Return peaks as float32, with 1 for bands without data."""
    # Values beyond float32 are reported where the pixels are read.
    with np.errstate(over="ignore"):
        return np.where(peaks > 0, peaks, 1).astype(np.float32)


def read_unit(
    raster: Raster, calibration: Calibration, rows: slice, cols: slice
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Read a window of a raster and convert it by `Calibration.to_unit`.

    Raises:
        DataError: for values beyond float32.
    """
    unit, missing = calibration.to_unit(raster.read(rows, cols), raster.read_mask(rows, cols))
    if unit is not None and not np.isfinite(unit).all():
        raise DataError(raster.path, "values beyond the range of float32", "give another {value_scale}")
    return unit, missing


class UnitCube:
    """A scene as the network's input: cube[i:j, k:l] is h x w x C float32, about 0..1, missing data filled in.

    Args:
        raster: the scene.
        calibration: conversion of its values to 0..1.
        peaks: divisors of the converted values, see `compute_peaks`.

    Attributes:
        shape, dtype, nbytes: of the whole array.
    """

    def __init__(self, raster: Raster, calibration: Calibration, peaks: np.ndarray | float = 1.0) -> None:
        self._raster, self._calibration = raster, calibration
        self._divisors = compute_divisors(np.asarray(peaks))
        self.shape, self.dtype = raster.shape, np.dtype(np.float32)
        self.nbytes = math.prod(raster.shape) * self.dtype.itemsize

    def __getitem__(self, window: tuple[slice, slice]) -> np.ndarray:
        """Return the pixels of a window; zeros if all of it is missing."""
        unit, missing = read_unit(self._raster, self._calibration, *window)
        return np.zeros_like(missing, dtype=np.float32) if unit is None else unit / self._divisors

    def find_valid_pixels(self) -> np.ndarray:
        """Return the valid mask, rows x columns of bool, read in blocks.

        Bands that are missing in all pixels, such as those of water vapour in many products, are ignored.
        """
        height, width, bands = self.shape
        if self._raster.dtype.kind != "f" and not self._raster.mask and self._calibration.nodata is None:
            return np.ones((height, width), dtype=bool)
        counts, in_band = np.zeros((height, width), dtype=np.uint16), np.zeros(bands, dtype=np.int64)
        for rows, _, missing in _read_blocks(self._raster, self._calibration.nodata):
            if missing is not None:
                counts[rows] = missing.sum(axis=2)
                in_band += missing.sum(axis=(0, 1))
        return counts == np.count_nonzero(in_band == height * width)


def _find_range(block: np.ndarray, missing: np.ndarray | None, scaling: Scaling | None) -> SampledRange | None:
    """Return the extremes of a block, or None if all of it is missing."""
    if missing is not None and missing.all():
        return None
    physical = scaling.apply(block) if scaling else block
    valid, raw = (physical, block) if missing is None else (physical[~missing], block[~missing])
    at = int(valid.argmin())
    low = valid.flat[at]
    above = valid > low
    following = float(valid[above].min()) if above.any() else math.inf
    return SampledRange(float(low), float(valid.max()), float(raw.flat[at]), int(np.count_nonzero(~above)), following)
