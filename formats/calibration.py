"""The rules for values: what stands for 1, what marks missing data, raw values to 0..1 and back."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facts import HEADROOM
from formats.full_scale import assumption
from formats.nodata import convert_nodata, fill_missing, find_missing
from formats.raster import Raster, Scaling
from system.errors import DataError

# Undeclared values below this share of full scale may be a nodata value: sensor noise and over-corrected water vapour
# bands are mostly above it.
LARGEST_NOISE = 0.05
# Floating-point values above this are not reflectance.
LARGEST_FLOAT = 2.0
USUAL_NODATA = (-999, -9999, -99999, -32767, -32768)
# Wider integers use a small part of their range, so that their maximum is not a full-scale value.
WIDEST_INTEGER = 2
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
        mark = None if nodata is None or not np.isfinite(nodata) else convert_nodata(self.dtype, nodata)
        self.mark: Any = np.nan if mark is None and self.dtype.kind == "f" else mark

    def to_unit(self, raw: np.ndarray, there: np.ndarray | None = None) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Raw h x w x C -> (float32 with its gaps filled in, where these are).

        The first is None where there is nothing but gaps, the second where there are none.

        Args:
            raw: values of the scene's type.
            there: h x w of bool, where a mask has data; None without a mask.
        """
        missing = find_missing(raw, self.nodata, there)
        if missing is not None and missing.all():
            return None, missing
        # What float32 does not hold becomes infinite, and is found by `read_unit`.
        with np.errstate(over="ignore"):
            if self.scaling:
                unit = (self.scaling.physical(raw) / self.scale).astype(np.float32)
            else:
                # float16 holds no full-scale value above 65504.
                kind = np.float32 if self.dtype.kind == "f" and self.dtype.itemsize <= 4 else np.float64
                unit = (raw / kind(self.scale)).astype(np.float32, copy=False)
        return (unit if missing is None else fill_missing(unit, missing)), missing

    def to_raw(self, unit: np.ndarray, missing: np.ndarray | None = None) -> tuple[np.ndarray, int]:
        """h x w x C in 0..1 -> (values as the scene has them, how many had to be clipped to its type).

        Args:
            unit: floating point.
            missing: h x w x C of bool, where the result has no data, or None.
        """
        exact = unit.astype(np.float64) * self.scale
        if self.scaling:
            exact = (exact - self.scaling.offsets) / self.scaling.gains
        low, high = _limits(self.dtype)
        rounded = exact if self.dtype.kind == "f" else np.rint(exact)
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

    def _beside_mark(self) -> np.generic:
        if self.dtype.kind == "f":
            return np.nextafter(self.mark, self.dtype.type(np.inf))
        return self.mark + 1 if self.mark < np.iinfo(self.dtype).max else self.mark - 1


def _limits(dtype: np.dtype) -> tuple[float, float]:
    """The lowest and highest float64 that a number type holds."""
    info: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    low, high = float(info.min), float(info.max)
    # The float64 next to 2**63 and 2**64 lies outside of the type.
    return low, high if dtype.kind == "f" or int(high) <= info.max else float(np.nextafter(high, 0))


@dataclass(frozen=True)
class Understanding:
    """Interpretation of a scene's values, and its source.

    Attributes:
        calibration: between them and 0..1.
        source: source of the full-scale value: "caller", "file", "weights", or "type" where it is assumed.
        low, high: lowest and highest value (physical, where the scene has gains and offsets) of the rows that were
            sampled; None where all data are missing.
    """

    calibration: Calibration
    source: str
    low: float | None
    high: float | None

    @property
    def is_assumed(self) -> bool:
        """True if the full-scale value is the maximum of an integer type, which nothing confirms."""
        return self.source == "type" and self.calibration.dtype.kind in "iu"

    def remarks(self, path: str | Path) -> list[str]:
        """Sentences on how the values are interpreted; parameters stand in braces, as in `DataError`."""
        scale, scaling, found = self.calibration.scale, self.calibration.scaling, []
        if self.low is None or self.high is None:
            return [f"{path}: all sampled values are missing data"]
        if scaling:
            said = [f"{v[0]:g}" if (v == v[0]).all() else "one per band" for v in (scaling.gains, scaling.offsets)]
            found.append(f"{path}: value = gain ({said[0]}) x number + offset ({said[1]}), as the file specifies")
        elif self.source in ("file", "weights"):
            source = "the file specifies" if self.source == "file" else "the weights record"
            found.append(f"{path}: full-scale value {scale:g}, as {source}")
        # Data that fill half of the type's range confirm the assumption.
        if self.is_assumed and self.high <= scale / 2:
            found.append(f"{path}: brightest value is {self.high:g}; {assumption(self.calibration.dtype)}")
        if self.low < -scale:
            found.append(
                f"{path}: values down to {format_number(self.low)} are processed as data; set {{nodata}} if they mark "
                "missing data"
            )
        return found


def understand(
    raster: Raster, value_scale: float = 0.0, nodata: float | None = None, fallback: float = 0.0
) -> Understanding:
    """Interpret a scene's values, after a look at some of its rows.

    Every command and `super_resolve` interpret values by this function.

    Args:
        raster: the scene.
        value_scale: full-scale value; 0: the file's, else the fallback, else the maximum of an integer type of at
            most 16 bits, 1 for floating point. Where bands have gains of their own it is a physical value, otherwise
            one of the file's.
        nodata: nodata value; None: the file's, if it has one.
        fallback: full-scale value that the weights record, for values that would need an assumption; 0: none.

    Raises:
        DataError: for wide integers and for floating-point values above 2 of unknown full-scale value, and for
            negative values that look like an undeclared nodata value.
    """
    nodata = raster.nodata if nodata is None else nodata
    scaling = choose_scaling(raster, value_scale)
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


def choose_scaling(raster: Raster, value_scale: float) -> Scaling | None:
    """Gains and offsets that come before the division by what stands for 1, or None.

    The caller's number takes the place of a gain that all bands share; where the zero lies, the file says.
    """
    if raster.scaling and value_scale and (gain := raster.scaling.gain):
        return raster.scaling.divided(gain)
    return raster.scaling


def add_user_metadata(raster: Raster, understood: Understanding) -> Raster:
    """A scene with what its user said of its values, so that its result's file says that too."""
    calibration = understood.calibration
    changes: dict[str, Any] = {"nodata": calibration.nodata}
    if understood.source == "caller":
        scaling = calibration.scaling
        changes["scaling"] = scaling.divided(calibration.scale) if scaling else None
        changes["value_scale"] = None if scaling else calibration.scale
    return dataclasses.replace(raster, **changes)


def choose_full_scale(path: str | Path, dtype: np.dtype, high: float, known: float | None = None) -> float:
    """The full-scale value: the known one, else the maximum of a narrow integer type, 1 for floating point.

    Args:
        path: for the message.
        dtype: of the values.
        high: the highest of them.
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
    """A number as text that reads back as the same number, short where that is possible."""
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value)).removesuffix(".0")


@dataclass(frozen=True)
class SampledRange:
    """Extremes of the sampled values.

    Attributes:
        low, high: lowest and highest value, physical where the scene has gains and offsets.
        raw_low: the number in the file that gives `low`, as a nodata value would have to be given.
        count: how often `low` occurs.
        following: lowest value above `low`; infinite if there is none.
    """

    low: float
    high: float
    raw_low: float
    count: int
    following: float

    def merge(self, other: "SampledRange") -> "SampledRange":
        """The extremes of two blocks."""
        first, second = sorted((self, other), key=lambda block: block.low)
        is_same = first.low == second.low
        following = min(first.following, second.following if is_same else second.low)
        count = first.count + (second.count if is_same else 0)
        return SampledRange(first.low, max(first.high, second.high), first.raw_low, count, following)


def _refuse_undeclared_nodata(path: Path, found: SampledRange, scale: float) -> None:
    """Refuse negative values that look like a nodata value which nothing declares.

    Those are values below -1 of full scale, and one number far below all others that occurs often or is a usual nodata
    value. Measured negatives (noise, over-corrected water vapour bands) are spread out.
    """
    is_isolated = found.following >= found.low / 2 and (found.count > 1 or found.raw_low in USUAL_NODATA)
    if found.low < -scale or (found.low < -LARGEST_NOISE * scale and is_isolated):
        low = format_number(found.raw_low)
        remedy = f"set {{nodata}} {low} if it does, {{nodata}} nan if it is measured"
        raise DataError(path, f"the value {low} may mark missing data", remedy)


def sample_range(raster: Raster, nodata: float | None = None, scaling: Scaling | None = None) -> SampledRange | None:
    """Extremes of blocks of rows over the whole height (all of a small scene); None without valid values.

    Args:
        raster: the scene.
        nodata: its nodata value, or None.
        scaling: makes physical values of them first; None: as they are.
    """
    height, width, bands = raster.shape
    rows = max(1, SAMPLE_VALUES // (width * bands))
    tops = sorted({round(k * max(0, height - rows) / (SAMPLES - 1)) for k in range(SAMPLES)})
    # No row counts twice.
    stops = [min(top + rows, following) for top, following in zip(tops, [*tops[1:], height], strict=True)]
    spans = [slice(*ends) for ends in zip(tops, stops, strict=True)]
    blocks = [_range_of(values, missing, scaling) for _, values, missing in _read_blocks(raster, nodata, spans)]
    found = [block for block in blocks if block]
    return functools.reduce(SampledRange.merge, found) if found else None


def _read_blocks(
    raster: Raster, nodata: float | None, spans: Sequence[slice] | None = None
) -> Iterator[tuple[slice, np.ndarray, np.ndarray | None]]:
    """Yield (rows, values, missing or None) of blocks of rows: these spans, or all."""
    height, width, bands = raster.shape
    step = max(1, SAMPLE_VALUES // (width * bands))
    for rows in spans or [slice(top, min(height, top + step)) for top in range(0, height, step)]:
        values = raster.read(rows, slice(0, width))
        yield rows, values, find_missing(values, nodata, raster.read_mask(rows, slice(0, width)))


def largest_values(raster: Raster, calibration: Calibration) -> np.ndarray:
    """Return the largest value of each band in parts of full scale, without missing data; 0 if all is missing."""
    largest = np.zeros(raster.shape[2])
    for _, values, missing in _read_blocks(raster, calibration.nodata):
        physical = calibration.scaling.physical(values) if calibration.scaling else values
        valid = physical if missing is None else np.where(missing, physical.dtype.type(0), physical)
        np.maximum(largest, valid.max(axis=(0, 1)).astype(np.float64), out=largest)
    return largest / calibration.scale


def compute_peaks(raster: Raster, understood: Understanding, normalise: str) -> np.ndarray:
    """Return the divisors of a scene's values in 0..1 for a network, one number or one for each band.

    Args:
        raster, understood: the scene, and the interpretation of its values.
        normalise: "bands": the largest value of each band times `HEADROOM`, 0 for bands without data; "scene": the
            largest value; "auto": the same, if the scene is dark or bright; "none": 1.
    """
    ones = np.ones(1)
    if normalise == "none" or understood.high is None:
        return ones
    if normalise == "auto" and DARK <= understood.high / understood.calibration.scale <= BRIGHT:
        return ones
    largest = largest_values(raster, understood.calibration)
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
    """Read a window of a raster and bring it to 0..1: what `Calibration.to_unit` returns.

    Raises:
        DataError: for values that float32 does not hold.
    """
    unit, missing = calibration.to_unit(raster.read(rows, cols), raster.read_mask(rows, cols))
    if unit is not None and not np.isfinite(unit).all():
        raise DataError(raster.path, "values beyond what float32 holds", "give another {value_scale}")
    return unit, missing


class UnitCube:
    """A scene as networks see it, window by window: cube[i:j, k:l] is h x w x C float32, about 0..1, gaps filled in.

    Args:
        raster: the scene.
        calibration: between its values and 0..1.
        peaks: divisors of these, see `compute_peaks`.

    Attributes:
        shape, dtype, nbytes: of the whole array.
    """

    def __init__(self, raster: Raster, calibration: Calibration, peaks: np.ndarray | float = 1.0) -> None:
        self._raster, self._calibration = raster, calibration
        self._divisors = compute_divisors(np.asarray(peaks))
        self.shape, self.dtype = raster.shape, np.dtype(np.float32)
        self.nbytes = math.prod(raster.shape) * self.dtype.itemsize

    def __getitem__(self, window: tuple[slice, slice]) -> np.ndarray:
        """The pixels of a window; zero where all of it is missing."""
        unit, missing = read_unit(self._raster, self._calibration, *window)
        if unit is None:
            assert missing is not None, "where nothing is there, that is known"
            return np.zeros(missing.shape, dtype=np.float32)
        return unit / self._divisors

    def find_valid_pixels(self) -> np.ndarray:
        """Where pixels have data, rows x columns of bool, read by strips.

        A band that is missing in all pixels, as those of water vapour are in many products, counts for none.
        """
        height, width, bands = self.shape
        if self._raster.dtype.kind != "f" and not self._raster.mask and self._calibration.nodata is None:
            return np.ones((height, width), dtype=bool)
        gaps, in_band = np.zeros((height, width), dtype=np.uint16), np.zeros(bands, dtype=np.int64)
        for rows, _, missing in _read_blocks(self._raster, self._calibration.nodata):
            if missing is not None:
                gaps[rows] = missing.sum(axis=2)
                in_band += missing.sum(axis=(0, 1))
        return gaps == np.count_nonzero(in_band == height * width)


def _range_of(block: np.ndarray, missing: np.ndarray | None, scaling: Scaling | None) -> SampledRange | None:
    """Extremes of a block, or None if all of it is missing."""
    if missing is not None and missing.all():
        return None
    physical = scaling.physical(block) if scaling else block
    valid, raw = (physical, block) if missing is None else (physical[~missing], block[~missing])
    at = int(valid.argmin())
    low = valid.flat[at]
    above = valid > low
    following = float(valid[above].min()) if above.any() else math.inf
    return SampledRange(float(low), float(valid.max()), float(raw.flat[at]), int(np.count_nonzero(~above)), following)
