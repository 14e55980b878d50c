"""NumPy's .npy and .npz, and MATLAB's .mat up to v7."""

import copy
import dataclasses
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import scipy.io
import scipy.sparse

from formats.grid import Grid, is_of_axis, is_per_pixel, upsample_axis
from formats.mat import check_mats
from formats.pixel_list import PixelList, choose_scene, detect_pixel_order, is_size_name
from formats.raster import (
    BLOCK_BYTES,
    CRS_NAMES,
    NAMES_OF_SCALING,
    NODATA_NAMES,
    TRANSFORM,
    CubeOptions,
    Georeference,
    Raster,
    check_numbers,
    decode_text,
    find_axes,
    find_band_names,
    find_named,
    find_number,
    find_scaling,
    format_scaling,
    get_interleave,
    make_window_reader,
    report_left_out,
)
from formats.raw import AXES, RawWindows
from formats.wavelengths import find_wavelengths
from system.errors import DataError

# A smaller scale_factor beside an array is rather an upsampling factor than a full-scale value.
LEAST_INVERSE = 100.0
# A variable of a v5 file may not be larger.
LARGEST_MAT5 = 2**32 - 2**16


@dataclass(kw_only=True)
class ArrayRaster(Raster):
    """A cube, or a matrix of pixels, in a file of arrays.

    Attributes:
        key: its name; fields of structs as struct.field.
        others: all arrays of the file by their names.
        pixels: how to read a matrix of pixels; None for a cube.
    """

    key: str = ""
    others: dict[str, Any] = dataclasses.field(default_factory=dict)
    pixels: PixelList | None = None

    def stored(self, cube: np.ndarray) -> np.ndarray:
        """Return a rows x columns x bands array with the axes of the file's array."""
        return self.pixels.matrix(cube) if self.pixels else cube.transpose(np.argsort(self.axes))


@dataclass(kw_only=True)
class NpyRaster(ArrayRaster):
    """A .npy file."""

    kind = "npy"

    def write_upsampled(self, path: Path, cube: np.ndarray, scale: int) -> None:
        write_npy(path, cube, self, scale)


@dataclass(kw_only=True)
class NpzRaster(ArrayRaster):
    """A .npz file.

    Attributes:
        is_compressed: True if one of its arrays is.
    """

    kind = "npz"
    is_compressed: bool = False

    def write_upsampled(self, path: Path, cube: np.ndarray, scale: int) -> None:
        write_npz(path, cube, self, scale)


@dataclass(kw_only=True)
class MatRaster(ArrayRaster):
    """A .mat file of version 4 to 7."""

    kind = "mat5"

    def write_upsampled(self, path: Path, cube: np.ndarray, scale: int) -> None:
        write_mat5(path, cube, self, scale)


def open_npy(path: Path, options: CubeOptions) -> NpyRaster:
    """Open a .npy, which stays on disk."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    held, needed = path.stat().st_size, array.offset + array.nbytes
    if held != needed:
        raise DataError(path, f"{held} bytes, its header speaks of {needed}", "copy or export it again")
    raster = NpyRaster(**_describe(path, array, options, {}))
    interleaves = {axes: name for name, axes in AXES.items()}
    stored = interleaves.get(tuple(np.argsort(raster.axes)))
    if not (array.flags.c_contiguous and stored):
        return raster
    windows = RawWindows(path, raster.shape, array.dtype, stored, array.offset)
    return dataclasses.replace(raster, source=windows.read)


def open_npz(path: Path, options: CubeOptions) -> NpzRaster:
    """Read a .npz whole; its other arrays are kept for `write_npz`."""
    with zipfile.ZipFile(path) as f:
        # NumPy does not read to the end, where the checksum is looked at.
        if damaged := f.testzip():
            raise DataError(
                path, f"damaged (the checksum of its array {damaged} is another)", "copy or export it again"
            )
        compressed = any(entry.compress_type for entry in f.infolist())
    with np.load(path, allow_pickle=False) as held:
        arrays = {name: held[name] for name in held.files}
    return NpzRaster(**_choose(path, arrays, options), others=arrays, is_compressed=compressed)


def open_mat5(path: Path, options: CubeOptions) -> MatRaster:
    """Read a .mat (v4 to v7) whole; its other variables are kept for `write_mat5`."""
    check_mats([path])
    held = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
    for name, shape, matlab_class in scipy.io.whosmat(path):
        # MATLAB packs whole numbers of class double as small integers; for one that is multiplied, the class matters.
        if matlab_class == "double" and min(shape, default=0) == 1 and held[name].dtype.kind in "iu":
            held[name] = held[name].astype(np.float64)
    fields = dict(_fields(held))
    # Users write hsi.Data and hsi/Data.
    key = options.key.replace("/", ".")
    structs = sorted(held.keys() - fields.keys())
    if key in structs:
        inside = [name for name in fields if name.startswith(f"{key}.")]
        raise DataError(path, f"{key} is a struct", f"name one of its fields by {{key}}: {', '.join(inside) or 'none'}")
    if key and scipy.sparse.issparse(fields.get(key)):
        raise DataError(path, f"{key} is a sparse matrix", "save it full, as rows x columns x bands")
    return MatRaster(**_choose(path, fields, dataclasses.replace(options, key=key)), others=held)


def _choose(path: Path, fields: dict[str, Any], options: CubeOptions) -> dict[str, Any]:
    """Return the arguments of an ArrayRaster of the array that is a file's scene, of all of its arrays by name."""
    numbers = {n: v for n, v in fields.items() if getattr(v, "dtype", np.dtype(object)).kind in "fiuc"}
    numbers |= {n: v for n, v in fields.items() if n == options.key}
    single = {n: v for n, v in numbers.items() if is_size_name(n) and np.size(v) == 1}
    sizes = {n: np.ravel(v)[0] for n, v in single.items() if v.dtype.kind in "fiu"}
    key, size = choose_scene(path, {n: np.shape(v) for n, v in numbers.items()}, sizes, options)
    array = fields[key]
    others = {name.rsplit(".", 1)[-1]: value for name, value in fields.items() if name != key}
    pixels = detect_pixel_order(key, array, size) if size else None
    if pixels:
        return {**_describe(path, pixels.cube(array), options, others, 2), "key": key, "pixels": pixels}
    return {**_describe(path, array, options, others), "key": key}


def _fields(held: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """(name, value) of all variables, those in structs as struct.field."""
    for name, value in held.items():
        if getattr(value, "dtype", None) is not None and value.dtype.names and value.size == 1:
            record = value.reshape(-1)[0]
            yield from _fields({field: record[field] for field in value.dtype.names}, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _describe(
    path: Path, array: np.ndarray, options: CubeOptions, others: Mapping[str, Any], band_axis: int | None = None
) -> dict[str, Any]:
    """Return the arguments of a Raster of an array with the metadata in the arrays beside it."""
    check_numbers(path, array.dtype)
    shape = array.shape
    array = np.squeeze(array) if array.ndim > 3 else array
    if array.ndim > 3:
        each = " x ".join(map(str, array.shape[1:]))
        what = f"a stack of cubes, of shape {shape}, where one is needed"
        raise DataError(path, what, f"save each of them ({array.shape[0]} of {each}?) in a file of its own")
    known = find_wavelengths(others, array.shape)
    axes, wavelengths = find_axes(path, array.shape, options, known, band_axis)
    size = tuple(array.shape[k] for k in axes)
    value_scale, scaling = find_scaling(path, others, size[2], LEAST_INVERSE)
    return {
        **{
            "path": path,
            "shape": size,
            "dtype": array.dtype,
            "source": make_window_reader(array, axes),
            "files": (path,),
        },
        **{"wavelengths": wavelengths, "wavelengths_given": known is None and wavelengths is not None},
        **{"band_names": find_band_names(others, size[2]), "nodata": find_number(others, NODATA_NAMES)},
        **{"value_scale": value_scale, "scaling": scaling, "locate": lambda: _georeference(others)},
        **{"interleave": get_interleave(axes), "axes": axes},
    }


def _georeference(others: Mapping[str, Any]) -> Georeference | None:
    transform = find_named(others, (TRANSFORM,))
    if transform is None or np.size(transform) not in (6, 9):
        return None
    crs = find_named(others, CRS_NAMES, "US")
    return Georeference("" if crs is None else decode_text(crs), tuple(map(float, np.ravel(transform)[:6])))


def write_npy(path: Path, cube: np.ndarray, like: Raster, scale: int) -> None:
    """Write a .npy piece by piece."""
    with open(path, "wb") as f:
        _write_npy(f, _reorder(cube, like))


def _reorder(cube: np.ndarray, like: Raster) -> np.ndarray:
    """A rows x columns x bands array with the axes of another file's array."""
    return cube.transpose(np.argsort(like.axes))


def _write_npy(f: IO[bytes], array: np.ndarray) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(f, header)
    step = max(1, BLOCK_BYTES // (array[0].size * array.dtype.itemsize))
    for first in range(0, len(array), step):
        f.write(np.ascontiguousarray(array[first : first + step]).tobytes())


def write_npz(path: Path, cube: np.ndarray, like: Raster, scale: int) -> None:
    """Write a .npz with the arrays that stood beside the cube, but for those of the old pixel grid."""
    own = like if isinstance(like, NpzRaster) else None
    key, array = (own.key, own.stored(cube)) if own else ("image", _reorder(cube, like))
    others = _renew_others(path, own, scale) if own else {}
    others |= {name: np.asarray(value) for name, value in _new_arrays(like, scale, others, bool(own)).items()}
    compression = zipfile.ZIP_DEFLATED if own and own.is_compressed else zipfile.ZIP_STORED
    # Other than np.savez, piece by piece.
    with zipfile.ZipFile(path, "w", compression, allowZip64=True) as archive:
        for name, values in {key: array, **others}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as f:
                if values.ndim and values.size:
                    _write_npy(f, values)
                else:
                    np.lib.format.write_array(f, values, allow_pickle=False)


def write_mat5(path: Path, cube: np.ndarray, like: Raster, scale: int) -> None:
    """Write a v5 .mat with the variables that stood beside the cube, but for those of the old pixel grid."""
    own = like if isinstance(like, MatRaster) else None
    key, array = (own.key, own.stored(cube)) if own else ("image", _reorder(cube, like))
    others = _renew_others(path, own, scale) if own else {}
    others |= _new_arrays(like, scale, others, bool(own))
    *structs, name = key.split(".")
    if structs:
        _field(others, structs)[name] = array
    else:
        others[name] = array
    with open(path, "wb") as f:
        scipy.io.savemat(f, others, do_compression=True, long_field_names=True)


def _field(held: Mapping[str, Any], structs: Sequence[str]) -> np.void:
    """The record that contains a field of nested structs."""
    record: Any = held
    for name in structs:
        record = record[name].reshape(-1)[0]
    return record


def _new_arrays(like: Raster, scale: int, others: dict[str, Any], is_alike: bool) -> dict[str, Any]:
    """Return the metadata of a scene under the names by which `_describe` finds them.

    A file of the same kind contains them already, except for those that the user added.
    """
    found: dict[str, Any] = {}
    if like.wavelengths is not None and (not is_alike or like.wavelengths_given):
        found["wavelength"] = np.asarray(like.wavelengths)
    if like.nodata is not None and find_number(others, NODATA_NAMES) != like.nodata:
        found["nodata"] = float(like.nodata)
    if (like.value_scale, like.scaling) != find_scaling(like.path, others, like.shape[2], LEAST_INVERSE):
        for name in [n for n in others if n.lower() in NAMES_OF_SCALING]:
            del others[name]
        found |= format_scaling(like)
    if is_alike:
        return found
    if like.band_names:
        found["band_names"] = np.array([str(name) for name in like.band_names])
    if georeference := like.georeference():
        found |= {"crs_wkt": georeference.crs, "transform": np.array(georeference.upsample(scale).transform)}
    return found


def _renew_others(path: Path, like: ArrayRaster, scale: int) -> dict[str, Any]:
    """Return the arrays beside the cube; those of the pixel grid are renewed or left out."""
    height, width, bands = like.shape
    grid, left_out = Grid(height, width, bands, scale, like.pixels.size_names if like.pixels else ()), []

    def renew(held: Mapping[str, Any], above: str) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, value in held.items():
            if f"{above}{name}" == like.key:
                continue
            if getattr(value, "dtype", None) is not None and value.dtype.names and value.size == 1:
                result[name] = _struct(value, renew(_record(value), f"{above}{name}."))
                continue
            belongs, renewed = _renewed(grid, name, value, bands)
            if belongs and renewed is None:
                left_out.append(f"{above}{name}")
            else:
                result[name] = renewed if belongs else value
        return result

    result = renew(like.others, "")
    report_left_out(path, left_out)
    return result


def _record(struct: np.ndarray) -> dict[str, Any]:
    record = struct.reshape(-1)[0]
    return {name: record[name] for name in struct.dtype.names or ()}


def _struct(value: np.ndarray, fields: Mapping[str, Any]) -> np.ndarray:
    """A struct like another with these fields; missing ones are empty."""
    struct = copy.deepcopy(value)
    for name in value.dtype.names or ():
        struct.reshape(-1)[0][name] = fields.get(name, np.zeros((0, 0)))
    return struct


def _renewed(grid: Grid, name: str, value: Any, bands: int) -> tuple[bool, np.ndarray | None]:
    """(True if an array beside the cube belongs to its grid, the renewed array or None), see `Grid.renewed`."""
    shape = np.shape(value)
    size = int(np.prod(shape)) if shape else 1
    belongs, renewed = grid.upsample_entry(name, np.ravel(value)[0] if size == 1 else value)
    if belongs:
        is_number = renewed is not None and np.asarray(renewed).dtype.kind in "fiu"
        return True, np.reshape(renewed, shape) if is_number else (None if renewed is None else np.asarray(renewed))
    if size == max(shape, default=1) != bands and is_of_axis(name, size, grid.height, grid.width):
        finer = upsample_axis(value, grid.scale)
        return True, None if finer is None else finer.reshape([-1 if n == size else n for n in shape])
    return is_per_pixel(shape, grid.height, grid.width), None
