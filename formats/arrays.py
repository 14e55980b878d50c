"""NumPy's .npy and .npz, and MATLAB's .mat up to v7."""

import copy
import dataclasses
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import scipy.io
import scipy.sparse

from formats.grid import Grid, finer_axis, is_of_axis, is_per_pixel
from formats.mat import check_mats
from formats.pixel_list import choose_scene, is_size_name, pixel_list
from formats.raster import (
    BAND_NAMES,
    BLOCK_BYTES,
    CRS_NAMES,
    NODATA_NAMES,
    OFFSET_NAMES,
    TRANSFORM,
    VALUE_SCALE_NAME,
    CubeOptions,
    Georeference,
    Raster,
    checked_numbers,
    interleave_of,
    layout,
    say_left_out,
    scaling_named,
    text_of,
    wavelengths_among,
    windows_of,
)
from formats.raw_values import AXES, RawWindows
from system.errors import DataError

# A smaller scale_factor beside an array is rather an enlargement than what stands for 1.
LEAST_INVERSE = 100.0
# A variable of a v5 file may not be larger.
LARGEST_MAT5 = 2**32 - 2**16


def open_npy(path: Path, options: CubeOptions) -> Raster:
    """Open a .npy, which stays on disk."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    held, needed = path.stat().st_size, array.offset + array.nbytes
    if held != needed:
        raise DataError(path, f"{held} bytes, its header speaks of {needed}", "copy or export it again")
    raster = _raster(path, "npy", array, options, {}, {})
    interleaves = {axes: name for name, axes in AXES.items()}
    stored = interleaves.get(tuple(np.argsort(raster.details["axes"])))
    if array.flags.c_contiguous and stored:
        raster.source = RawWindows(path, raster.shape, array.dtype, stored, array.offset).read
    return raster


def open_npz(path: Path, options: CubeOptions) -> Raster:
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
    return _chosen(path, "npz", arrays, options, {"others": arrays, "compressed": compressed})


def open_mat5(path: Path, options: CubeOptions) -> Raster:
    """Read a .mat (v4 to v7) whole; its other variables are kept for `write_mat5`."""
    check_mats([path])
    held = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
    for name, shape, matlab_class in scipy.io.whosmat(path):
        # MATLAB packs whole numbers of class double as small integers; for one that is multiplied, the class matters.
        if matlab_class == "double" and min(shape, default=0) == 1 and held[name].dtype.kind in "iu":
            held[name] = held[name].astype(np.float64)
    fields = dict(_fields(held))
    # People write hsi.Data and hsi/Data.
    key = options.key.replace("/", ".")
    structs = sorted(held.keys() - fields.keys())
    if key in structs:
        inside = [name for name in fields if name.startswith(f"{key}.")]
        raise DataError(path, f"{key} is a struct", f"name one of its fields by {{key}}: {', '.join(inside) or 'none'}")
    if key and scipy.sparse.issparse(fields.get(key)):
        raise DataError(path, f"{key} is a sparse matrix", "save it full, as rows x columns x bands")
    return _chosen(path, "mat5", fields, dataclasses.replace(options, key=key), {"others": held})


def _chosen(path: Path, kind: str, fields: dict[str, Any], options: CubeOptions, details: dict[str, Any]) -> Raster:
    """The Raster of the array that is a file's scene; `fields` are all of its arrays by name."""
    numbers = {n: v for n, v in fields.items() if getattr(v, "dtype", np.dtype(object)).kind in "fiuc"}
    numbers |= {n: v for n, v in fields.items() if n == options.key}
    single = {n: v for n, v in numbers.items() if is_size_name(n) and np.size(v) == 1}
    sizes = {n: np.ravel(v)[0] for n, v in single.items() if v.dtype.kind in "fiu"}
    key, size = choose_scene(path, {n: np.shape(v) for n, v in numbers.items()}, sizes, options)
    array = fields[key]
    others = {name.rsplit(".", 1)[-1]: value for name, value in fields.items() if name != key}
    pixels = pixel_list(key, array, size) if size else None
    details = {**details, "key": key, "pixels": pixels}
    if pixels:
        return _raster(path, kind, pixels.cube(array), options, others, details, band_axis=2)
    return _raster(path, kind, array, options, others, details)


def _fields(held: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """(name, value) of all variables, those in structs as struct.field."""
    for name, value in held.items():
        if getattr(value, "dtype", None) is not None and value.dtype.names and value.size == 1:
            record = value.reshape(-1)[0]
            yield from _fields({field: record[field] for field in value.dtype.names}, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _raster(
    path: Path,
    kind: str,
    array: np.ndarray,
    options: CubeOptions,
    others: Mapping[str, Any],
    details: Mapping[str, Any],
    band_axis: int | None = None,
) -> Raster:
    checked_numbers(path, array.dtype)
    shape = array.shape
    array = np.squeeze(array) if array.ndim > 3 else array
    if array.ndim > 3:
        each = " x ".join(map(str, array.shape[1:]))
        what = f"a stack of cubes, of shape {shape}, where one is needed"
        raise DataError(path, what, f"save each of them ({array.shape[0]} of {each}?) in a file of its own")
    known = wavelengths_among(others, array.shape)
    axes, wavelengths = layout(path, array.shape, options, known, band_axis)
    size = tuple(array.shape[k] for k in axes)
    value_scale, scaling = scaling_named(path, others, size[2], LEAST_INVERSE)
    nodata = _among(others, NODATA_NAMES)
    return Raster(
        path=path,
        kind=kind,
        shape=size,
        dtype=array.dtype,
        source=windows_of(array, axes),
        files=(path,),
        wavelengths=wavelengths,
        wavelengths_given=known is None and wavelengths is not None,
        band_names=_band_names(others, size[2]),
        nodata=float(np.ravel(nodata)[0]) if nodata is not None and np.size(nodata) == 1 else None,
        value_scale=value_scale,
        scaling=scaling,
        georeference=lambda: _georeference(others),
        interleave=interleave_of(axes),
        details={**details, "axes": axes},
    )


def _among(others: Mapping[str, Any], names: Sequence[str], kinds: str = "fiu") -> Any:
    """The value under the first of these names, in whatever case, or None."""
    by_name = {name.lower(): value for name, value in others.items()}
    found = (by_name[name] for name in names if name in by_name)
    return next((value for value in found if np.asarray(value).dtype.kind in kinds), None)


def _band_names(others: Mapping[str, Any], bands: int) -> list[str] | None:
    names = _among(others, BAND_NAMES, "UOS")
    if names is None or np.size(names) != bands:
        return None
    return [text_of(np.asarray(name)).strip() for name in np.ravel(names)]


def _georeference(others: Mapping[str, Any]) -> Georeference | None:
    transform = _among(others, (TRANSFORM,))
    if transform is None or np.size(transform) not in (6, 9):
        return None
    crs = _among(others, CRS_NAMES, "US")
    return Georeference("" if crs is None else text_of(np.asarray(crs)), tuple(map(float, np.ravel(transform)[:6])))


def _as_held(cube: np.ndarray, like: Raster, kind: str) -> np.ndarray:
    """The array with its axes as its owner's file has them; a matrix of pixels only in a file of the same kind."""
    if like.kind == kind and (pixels := like.details.get("pixels")):
        return pixels.matrix(cube)
    return cube.transpose(np.argsort(like.details.get("axes", (0, 1, 2))))


def write_npy(path: Path, cube: np.ndarray, like: Raster, scale: int) -> None:
    """Write a .npy piece by piece."""
    array = _as_held(cube, like, "npy")
    with open(path, "wb") as f:
        _write_npy(f, array)


def _write_npy(f: IO[bytes], array: np.ndarray) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(f, header)
    step = max(1, BLOCK_BYTES // (array[0].size * array.dtype.itemsize))
    for first in range(0, len(array), step):
        f.write(np.ascontiguousarray(array[first : first + step]).tobytes())


def write_npz(path: Path, cube: np.ndarray, like: Raster, scale: int) -> None:
    """Write a .npz with the arrays that stood beside the cube, but for those of the old pixel grid."""
    is_alike = like.kind == "npz"
    key = like.details["key"] if is_alike else "image"
    others = _kept(path, like, scale, like.details["others"] if is_alike else {}, key)
    others |= {name: np.asarray(value) for name, value in _said(like, scale, others, is_alike).items()}
    compression = zipfile.ZIP_DEFLATED if is_alike and like.details["compressed"] else zipfile.ZIP_STORED
    # Other than np.savez, piece by piece.
    with zipfile.ZipFile(path, "w", compression, allowZip64=True) as archive:
        for name, array in {key: _as_held(cube, like, "npz"), **others}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as f:
                if array.ndim and array.size:
                    _write_npy(f, array)
                else:
                    np.lib.format.write_array(f, array, allow_pickle=False)


def write_mat5(path: Path, cube: np.ndarray, like: Raster, scale: int) -> None:
    """Write a v5 .mat with the variables that stood beside the cube, but for those of the old pixel grid."""
    is_alike = like.kind == "mat5"
    array = _as_held(cube, like, "mat5")
    key = like.details["key"] if is_alike else "image"
    others = _kept(path, like, scale, like.details["others"] if is_alike else {}, key)
    others |= _said(like, scale, others, is_alike)
    *structs, name = key.split(".")
    if structs:
        _field(others, structs)[name] = array
    else:
        others[name] = array
    with open(path, "wb") as f:
        scipy.io.savemat(f, others, do_compression=True, long_field_names=True)


def _field(held: Mapping[str, Any], structs: Sequence[str]) -> np.void:
    """The record in which a field of nested structs stands."""
    record: Any = held
    for name in structs:
        record = record[name].reshape(-1)[0]
    return record


def _said(like: Raster, scale: int, others: dict[str, Any], is_alike: bool) -> dict[str, Any]:
    """What the scene's file or its user says of it, under the names by which `_raster` knows it again.

    A file of the same kind says it already, but for what its user added.
    """
    said: dict[str, Any] = {}
    if like.wavelengths is not None and (not is_alike or like.wavelengths_given):
        said["wavelength"] = np.asarray(like.wavelengths)
    nodata = _among(others, NODATA_NAMES)
    if like.nodata is not None and (nodata is None or np.ravel(nodata)[0] != like.nodata):
        said["nodata"] = float(like.nodata)
    if (like.value_scale, like.scaling) != scaling_named(like.path, others, like.shape[2], LEAST_INVERSE):
        scaling = like.scaling
        for name in [n for n in others if n.lower() == VALUE_SCALE_NAME]:
            del others[name]
        said["scale_factor"] = scaling.gains if scaling else 1 / (like.value_scale or 1)
        if scaling or _among(others, OFFSET_NAMES) is not None:
            said["add_offset"] = scaling.offsets if scaling else 0.0
        if like.value_scale and like.value_scale <= 1:
            # A factor above 1 is taken for what stands for 1.
            said[VALUE_SCALE_NAME] = like.value_scale
    if is_alike:
        return said
    if like.band_names:
        said["band_names"] = np.array([str(name) for name in like.band_names])
    if georeference := like.georeference():
        said |= {"crs_wkt": georeference.crs, "transform": np.array(georeference.finer(scale).transform)}
    return said


def _kept(path: Path, like: Raster, scale: int, others: Mapping[str, Any], key: str = "") -> dict[str, Any]:
    """What stood beside the cube, without what belongs to the old pixel grid or with that renewed."""
    height, width, bands = like.shape
    pixels = like.details.get("pixels")
    grid, left_out = Grid(height, width, bands, scale, pixels.size_names if pixels else ()), []

    def kept(held: Mapping[str, Any], above: str) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, value in held.items():
            if f"{above}{name}" == key:
                continue
            if getattr(value, "dtype", None) is not None and value.dtype.names and value.size == 1:
                result[name] = _struct(value, kept(_record(value), f"{above}{name}."))
                continue
            belongs, renewed = _renewed(grid, name, value, bands)
            if belongs and renewed is None:
                left_out.append(f"{above}{name}")
            else:
                result[name] = renewed if belongs else value
        return result

    result = kept(others, "")
    say_left_out(path, left_out)
    return result


def _record(struct: np.ndarray) -> dict[str, Any]:
    record = struct.reshape(-1)[0]
    return {name: record[name] for name in struct.dtype.names or ()}


def _struct(value: np.ndarray, fields: Mapping[str, Any]) -> np.ndarray:
    """A struct like another with these fields; what was taken out is empty."""
    struct = copy.deepcopy(value)
    for name in value.dtype.names or ():
        struct.reshape(-1)[0][name] = fields.get(name, np.zeros((0, 0)))
    return struct


def _renewed(grid: Grid, name: str, value: Any, bands: int) -> tuple[bool, np.ndarray | None]:
    """(whether something beside the cube belongs to its grid, what takes its place or None), see `Grid.renewed`."""
    shape = np.shape(value)
    size = int(np.prod(shape)) if shape else 1
    belongs, renewed = grid.renewed(name, np.ravel(value)[0] if size == 1 else value)
    if belongs:
        is_number = renewed is not None and np.asarray(renewed).dtype.kind in "fiu"
        return True, np.reshape(renewed, shape) if is_number else (None if renewed is None else np.asarray(renewed))
    if size == max(shape, default=1) != bands and is_of_axis(name, size, grid.height, grid.width):
        finer = finer_axis(value, grid.scale)
        return True, None if finer is None else finer.reshape([-1 if n == size else n for n in shape])
    return is_per_pixel(shape, grid.height, grid.width), None
