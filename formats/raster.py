"""`Raster`, the scene that every reader returns: values by windows, and the metadata of its file."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from facts import LARGEST_SCALE
from formats.axes import find_band_axis, order_axes
from formats.grid import upsample_transform
from formats.wavelengths import are_micrometres, count_wavelengths, parse_wavelengths
from system.errors import DataError, is_out_of_memory
from utils import print_line

# Bytes of the blocks in which writers write a cube.
BLOCK_BYTES = 2**26
# Names of HDF5 attributes, and of arrays beside the cube in other formats: the nodata value, ...
NODATA_NAMES = ("_fillvalue", "missing_value", "data_ignore_value", "nodata", "no_data")
# ... the full-scale value or its inverse, always the full-scale value, ...
SCALE_NAMES = ("scale_factor", "reflectance_scale_factor")
VALUE_SCALE_NAME = "value_scale"
# ... the offset of the scaled value, the names of the bands, and the georeferencing (see `Georeference`).
OFFSET_NAMES = ("add_offset",)
NAMES_OF_SCALING = (*SCALE_NAMES, VALUE_SCALE_NAME, *OFFSET_NAMES)
BAND_NAMES = ("band_names",)
# Numbers of the bands that GeoTIFF and ENVI contain: the full width at half maximum, and the bad-bands list.
BAND_FIELDS = ("fwhm", "bbl")
CRS_NAMES = ("crs_wkt", "spatial_ref")
TRANSFORM = "transform"
NAMES_OF_KINDS = {"mat5": "a .mat", "hdf5": "HDF5", "npy": ".npy", "npz": ".npz", "tiff": "TIFF", "envi": "ENVI"}
# Messages of the formats' libraries for a compression that is not installed, and the remedy.
MISSING_CODECS = {
    **dict.fromkeys(
        ("required filter", "can't find plugin", "can't open directory"),
        "pip install hdf5plugin, or write it anew with gzip",
    ),
    **dict.fromkeys(
        ("cannot open tiff file due to missing codec", "compression scheme"),
        "export it with another compression, such as deflate",
    ),
}


@dataclass(frozen=True)
class CubeOptions:
    """How to read a cube whose file does not define it.

    Attributes:
        key: name of the array in .mat, .npz and HDF5 files; "": the only cube.
        band_axis: 0, 1 or 2 as the file's owner counts (MATLAB's order for .mat); -1: find it.
        value_scale: full-scale value; 0: see `calibration.understand`.
        wavelengths: see `parse_wavelengths`; "": the file's, if any.
        nodata: nodata value as text; "": the file's, if any.
        n_colors: number of bands of the network; 0: any.
    """

    key: str = ""
    band_axis: int = -1
    value_scale: float = 0.0
    wavelengths: str = ""
    nodata: str = ""
    # Stores contain the text of the options.
    n_colors: int = field(default=0, repr=False)

    @classmethod
    def of(cls, settings: Any, n_colors: int = 0) -> "CubeOptions":
        """Return the options among a command's settings."""
        names = ("key", "band_axis", "value_scale", "wavelengths", "nodata")
        return cls(**{name: getattr(settings, name) for name in names}, n_colors=n_colors)

    @property
    def nodata_value(self) -> float | None:
        """The user's nodata value, NaN if all values are measured; None for the file's."""
        return float(self.nodata) if self.nodata else None


DEFAULTS = CubeOptions()


@dataclass(frozen=True)
class Scaling:
    """Physical values of a raster: gain * value + offset, if one full-scale value cannot define them.

    Attributes:
        gains, offsets: C numbers each; no gain is 0.
    """

    gains: np.ndarray
    offsets: np.ndarray

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Convert raw values, h x w x C, to physical ones, float64."""
        return values * self.gains + self.offsets

    def divide(self, scale: float) -> "Scaling":
        """Return the scaling to physical values divided by `scale`."""
        return Scaling(self.gains / scale, self.offsets / scale)

    @property
    def gain(self) -> float | None:
        """The gain of all bands; None if they differ."""
        return float(self.gains[0]) if (self.gains == self.gains[0]).all() else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scaling) and bool(
            np.allclose(self.gains, other.gains, rtol=1e-12) and np.allclose(self.offsets, other.offsets, rtol=1e-12)
        )


@dataclass(frozen=True)
class Georeference:
    """CRS and transform of a raster.

    Attributes:
        crs: coordinate system as WKT.
        transform: (a, b, c, d, e, f): x = a col + b row + c, y = d col + e row + f, from the upper left corner.
    """

    crs: str
    transform: tuple[float, ...]

    def upsample(self, scale: int) -> "Georeference":
        """Return the georeferencing of pixels `scale` times as small."""
        return Georeference(self.crs, upsample_transform(self.transform, scale))


@dataclass(kw_only=True)
class Raster:
    """One scene, rows x columns x bands.

    Attributes:
        kind: its format: one of NAMES_OF_KINDS, png for a folder of pictures, array for one in memory.
        path: as given by the user.
        shape: (rows, columns, bands).
        dtype: number type, in the file's own byte order.
        source: function of two slices (rows, columns) that reads that window, h x w x C.
        files: all its files.
        wavelengths: C band centres in nm, or None.
        wavelengths_given: True if the wavelengths are the user's, and not the file's.
        band_names: C names, or None.
        nodata: nodata value of the user or the file, or None.
        value_scale: full-scale value, if the file defines one for all bands and no offset; None otherwise.
        scaling: gains and offsets of the file, if `value_scale` cannot hold them; None otherwise.
        mask: function of two slices (rows, columns) that returns True where the mask has data, h x w or (masked
            arrays) h x w x C; None without a mask.
        locate: function that returns the georeferencing or None.
        interleave: bip, bil or bsq: the order in which its format stores the values.
        axes: axes of rows, columns and bands in the file's array.
        band_fields: {fwhm (nm) or bbl: C numbers as text} of the file.
        other_fields: names of further metadata that no other format can contain.
    """

    kind: str = "array"
    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    source: Callable[[slice, slice], np.ndarray]
    files: tuple[Path, ...] = ()
    wavelengths: np.ndarray | None = None
    wavelengths_given: bool = False
    band_names: Sequence[str | None] | None = None
    nodata: float | None = None
    value_scale: float | None = None
    scaling: Scaling | None = None
    mask: Callable[[slice, slice], np.ndarray] | None = None
    locate: Callable[[], Georeference | None] = lambda: None
    interleave: str = "bip"
    axes: tuple[int, ...] = (0, 1, 2)
    band_fields: dict[str, list[str]] = field(default_factory=dict)
    other_fields: list[str] = field(default_factory=list)

    def read_mask(self, rows: slice = slice(None), cols: slice = slice(None)) -> np.ndarray | None:
        """Return the mask of a window, True for data, h x w or h x w x C; None without a mask."""
        return self.mask(rows, cols) if self.mask else None

    def read(self, rows: slice = slice(None), cols: slice = slice(None)) -> np.ndarray:
        """Read a window, h x w x C, in the machine's byte order.

        Raises:
            DataError: if the file is damaged there.
        """
        with convert_read_errors(self.path, self.kind):
            values = np.asarray(self.source(rows, cols))
        return values.astype(values.dtype.newbyteorder("="), copy=False)

    def read_georeference(self) -> Georeference | None:
        """Return the georeferencing, or None.

        Raises:
            DataError: if the file is damaged there.
        """
        with convert_read_errors(self.path, self.kind):
            return self.locate()


@contextlib.contextmanager
def convert_read_errors(path: Path, kind: str) -> Iterator[None]:
    """Convert errors of a format's library within the context to a `DataError`."""
    try:
        yield
    except DataError:
        raise
    # The libraries raise errors of nearly any type for damaged files.
    except Exception as error:
        raise make_read_error(path, kind, error) from error


def make_scaling(path: Path, gains: Any, offsets: Any, bands: int) -> tuple[float | None, Scaling | None]:
    """Return a file's gains and offsets as (value_scale, scaling) of a Raster.

    Args:
        path: for the message.
        gains, offsets: one number or one a band; None if the file defines none.
        bands: number of bands.

    Raises:
        DataError: for another number of gains or offsets, gains of 0, and values that no sensor has.
    """
    gains, offsets = (np.ravel(default if v is None else v).astype(float) for v, default in ((gains, 1), (offsets, 0)))
    for words, values in (("gains", gains), ("offsets", offsets)):
        if values.size not in (1, bands):
            raise DataError(path, f"{values.size} {words} for {bands} bands", "correct or remove them")
        bad = ~np.isfinite(values) | (np.abs(values) > LARGEST_SCALE)
        if words == "gains":
            bad |= np.abs(values) < 1 / LARGEST_SCALE
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            raise DataError(path, f"{values[first]:g} among its {words} (number {first + 1})", "correct or remove them")
    if (gains == gains[0]).all() and gains[0] > 0 and not offsets.any():
        return (None if gains[0] == 1 else 1 / gains[0]), None
    return None, Scaling(np.broadcast_to(gains, bands).copy(), np.broadcast_to(offsets, bands).copy())


def find_scaling(
    path: Path, entries: Mapping[str, Any], bands: int, least: float = 1.0
) -> tuple[float | None, Scaling | None]:
    """Return a file's named gains and offsets as (value_scale, scaling) of a Raster.

    A `scale_factor` of all bands without an offset is the full-scale value (10000), or its inverse, a gain (0.0001):
    whichever is above 1. With an offset, and if bands differ, it is a gain.

    Args:
        path: for the message.
        entries: the file's entries by name, in any case.
        bands: number of bands.
        least: least full-scale value; a factor between 1 and `least` is ignored.

    Raises:
        DataError: as `make_scaling`.
    """
    numbers = {name.lower(): value for name, value in entries.items() if np.asarray(value).dtype.kind in "fiu"}
    gains, offsets = (
        next((numbers[name] for name in names if name in numbers), None) for names in (SCALE_NAMES, OFFSET_NAMES)
    )
    value_scale = find_uniform_number(numbers.get(VALUE_SCALE_NAME))
    if value_scale is None and not np.any(offsets):
        factor = find_uniform_number(gains)
        if factor is not None and 1 < factor < least:
            return None, None
        value_scale = factor if factor is not None and factor > 1 else None
    if value_scale is None:
        return make_scaling(path, gains, offsets, bands)
    if not 1 / LARGEST_SCALE <= value_scale <= LARGEST_SCALE:
        raise DataError(path, f"{value_scale:g} among its gains, as the full-scale value", "correct or remove it")
    return value_scale, None


def find_named(entries: Mapping[str, Any], names: Sequence[str], kinds: str = "fiu") -> np.ndarray | None:
    """Return the first entry under one of these names, in any case, whose number type is of these kinds, or None."""
    by_name = {name.lower(): name for name in entries}
    found = (np.asarray(entries[by_name[name]]) for name in names if name in by_name)
    return next((value for value in found if value.dtype.kind in kinds), None)


def remove_named(entries: MutableMapping[str, Any], names: Sequence[str]) -> None:
    """Remove the entries under these names, in any case."""
    for name in [n for n in entries if n.lower() in names]:
        del entries[name]


def find_number(entries: Mapping[str, Any], names: Sequence[str]) -> float | None:
    """Return the single number under the first of these names, or None."""
    found = (find_named(entries, [name]) for name in names)
    return next((float(value.ravel()[0]) for value in found if value is not None and value.size == 1), None)


def find_band_names(entries: Mapping[str, Any], bands: int) -> list[str] | None:
    """Return the names of that many bands among a file's arrays, or None."""
    names = find_named(entries, BAND_NAMES, "UOS")
    return [decode_text(n).strip() for n in names.ravel()] if names is not None and names.size == bands else None


def convert_band_fields(numbers: Mapping[str, Sequence[float]], unit: str, bands: int) -> dict[str, list[str]]:
    """Return those of `BAND_FIELDS` that have one number a band, as text; `fwhm` in nm.

    Args:
        numbers: those fields and `wavelength`, as far as the file has them.
        unit: of the wavelengths and `fwhm`; "": see `are_micrometres`.
        bands: number of bands.
    """
    factors = {"fwhm": 1000 if are_micrometres(numbers.get("wavelength", ()), unit) else 1}
    whole = {name: numbers[name] for name in BAND_FIELDS if len(numbers.get(name, ())) == bands}
    return {name: [f"{v * factors.get(name, 1):.15g}" for v in values] for name, values in whole.items()}


def format_scaling(raster: Raster) -> dict[str, Any]:
    """Return the entries by which `find_scaling` finds the scaling of a raster again."""
    if raster.scaling:
        gains, offsets = raster.scaling.gains, raster.scaling.offsets
        is_same = (gains == gains[0]).all() and (offsets == offsets[0]).all()
        values = (gains[0], offsets[0]) if is_same else (gains, offsets)
        return {"scale_factor": values[0], "add_offset": values[1]}
    if not raster.value_scale:
        return {}
    # `find_scaling` reads a factor above 1 as the full-scale value.
    explicit = {VALUE_SCALE_NAME: raster.value_scale} if raster.value_scale <= 1 else {}
    return {"scale_factor": 1 / raster.value_scale, **explicit}


def find_uniform_number(values: Any) -> float | None:
    """Return the number that an array contains once or repeatedly; None if its numbers differ or it has none."""
    numbers = np.ravel(np.asarray(values))
    if numbers.size == 0 or numbers.dtype.kind not in "fiu":
        return None
    return float(numbers[0]) if numbers.size == 1 or (numbers == numbers[0]).all() else None


def make_read_error(path: str | Path, kind: str, error: BaseException) -> DataError:
    """Return the error for a file that its format's library cannot read."""
    # rasterio's message refers to its cause.
    cause = error.__cause__ if type(error).__name__ == "RasterioIOError" and error.__cause__ else error
    reason = " ".join(str(cause).split()) or type(error).__name__
    if is_out_of_memory(error):
        return DataError(path, "the memory is too small to read it", "close other programs, or cut the scene up")
    if isinstance(error, PermissionError):
        return DataError(path, "may not be read", "ask its owner for the permission")
    if isinstance(error, UnicodeEncodeError):
        return DataError(path, "its path is not UTF-8, and GDAL opens no other", "rename the file or folder")
    for words, package in MISSING_CODECS.items():
        if words in reason.lower():
            return DataError(path, f"compressed by a codec that is not installed ({reason[:150]})", package)
    what = f"cannot be read as {NAMES_OF_KINDS.get(kind, kind)} ({type(error).__name__}: {reason[:150]})"
    return DataError(path, what, "copy or export it again, or convert it to another format")


def from_array(image: np.ndarray, wavelengths: np.ndarray | None = None, nodata: float | None = None) -> Raster:
    """Return a rows x columns x bands array, masked or not, as a Raster."""
    axes = (0, 1, 2)
    return Raster(
        path=Path("image"),
        shape=image.shape,
        dtype=image.dtype,
        source=make_window_reader(np.ma.getdata(image), axes),
        wavelengths=wavelengths,
        nodata=nodata,
        mask=make_window_reader(~np.ma.getmaskarray(image), axes) if np.ma.is_masked(image) else None,
    )


def make_window_reader(array: Any, axes: tuple[int, ...]) -> Callable[[slice, slice], np.ndarray]:
    """Return a Raster's `source` of an array, or of an object that is indexed like one.

    Args:
        array: the cube; other axes than `axes` have one entry.
        axes: axes of rows, columns and bands.
    """

    def read(rows: slice, cols: slice) -> np.ndarray:
        index: list[int | slice] = [0] * len(array.shape)
        index[axes[0]], index[axes[1]], index[axes[2]] = rows, cols, slice(None)
        return np.transpose(array[tuple(index)], np.argsort(np.argsort(axes)))

    return read


def get_interleave(axes: tuple[int, ...]) -> str:
    """Return bip, bil or bsq for the axes of rows, columns and bands."""
    return ("bsq", "bil", "bip")[axes[2]]


def check_numbers(path: Path, dtype: np.dtype) -> None:
    """Refuse values that are not real numbers."""
    if dtype.kind not in "fiu":
        what = f"values of type {dtype}, where real numbers are needed"
        raise DataError(path, what, "export the magnitude or reflectance")


def find_axes(
    path: Path,
    shape: tuple[int, ...],
    options: CubeOptions,
    wavelengths: np.ndarray | None,
    band_axis: int | None = None,
) -> tuple[tuple[int, ...], np.ndarray | None]:
    """Find the axes of rows, columns and bands, in the file's own order (MATLAB's for .mat), and the wavelengths.

    Returns:
        (axes, wavelengths in nm or None).
    """
    if len(shape) != 3:
        what = f"an array of shape {tuple(shape)}, where rows x columns x bands are needed"
        raise DataError(path, what, "name another by {key}")
    axis = options.band_axis if options.band_axis >= 0 else band_axis
    if axis is None:
        n_wavelengths = count_wavelengths(options.wavelengths) if wavelengths is None else len(wavelengths)
        axis = find_band_axis(path, shape, n_wavelengths, options.n_colors)
        try:
            is_certain = find_band_axis(path, shape, n_wavelengths) == axis
        except DataError:
            is_certain = False
        if not is_certain:
            sides = " x ".join(map(str, shape))
            print_line(
                f"{path}: axis {axis} of {sides} is taken for the bands, as many as the network's; see --band_axis"
            )
    if wavelengths is None and options.wavelengths:
        wavelengths = parse_wavelengths(options.wavelengths, shape[axis])
    if wavelengths is not None and len(wavelengths) != shape[axis]:
        what = f"{len(wavelengths)} wavelengths for {shape[axis]} bands"
        raise DataError(path, what, "name the band axis by {band_axis}")
    return order_axes(axis), wavelengths


def decode_text(value: Any) -> str:
    """Return a text that a file contains as bytes, an array of one, or text."""
    value = np.ravel(value)[0] if isinstance(value, np.ndarray) and value.size else value
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


def report_left_out(path: Path, names: Sequence[str]) -> None:
    """Name the metadata of the input that are left out, since they belong to its pixels."""
    if names:
        print_line(f"{path.name}: without {', '.join(names)}, which belongs to the pixels of the input")


def split_rows(shape: tuple[int, int, int], itemsize: int, multiple: int = 1) -> list[slice]:
    """Return slices of rows of about BLOCK_BYTES each, a multiple of some number of rows."""
    height, width, bands = shape
    rows = max(1, BLOCK_BYTES // (width * bands * itemsize) // multiple) * multiple
    return [slice(top, min(top + rows, height)) for top in range(0, height, rows)]
