"""NumPy's .npy and .npz, and MATLAB's .mat up to v7."""

import zipfile
from pathlib import Path

import numpy as np
import scipy.io

from data.mat import check_whole_mat
from data.rasters.base import (
    BLOCK_BYTES,
    CubeOptions,
    Raster,
    checked_numbers,
    interleave_of,
    is_per_pixel,
    layout,
    only_cube,
    say_left_out,
    wavelengths_among,
    windows_of,
)

# A variable of a v5 file may not be larger.
LARGEST_MAT5 = 2**32 - 2**16


def open_npy(path: Path, options: CubeOptions) -> Raster:
    """Open a .npy, which stays on disk."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return _raster(path, "npy", array, options, None, {})


def open_npz(path: Path, options: CubeOptions) -> Raster:
    """Read a .npz whole; its other arrays are kept for `write_npz`."""
    with np.load(path, allow_pickle=False) as held:
        arrays = {name: held[name] for name in held.files}
    key = only_cube(path, {n: a.shape for n, a in arrays.items()}, options.key)
    array = arrays.pop(key)
    with zipfile.ZipFile(path) as f:
        compressed = any(entry.compress_type for entry in f.infolist())
    details = {"key": key, "others": arrays, "compressed": compressed}
    return _raster(path, "npz", array, options, wavelengths_among(arrays, array.shape), details)


def open_mat5(path: Path, options: CubeOptions) -> Raster:
    """Read a .mat (v4 to v7) whole; its other variables are kept for `write_mat5`."""
    check_whole_mat(path)
    shapes = {name: shape for name, shape, _ in scipy.io.whosmat(path)}
    if not options.key and {"Y", "nRow", "nCol"} <= shapes.keys() and len(shapes["Y"]) == 2:
        return _open_pixel_list(path, options)
    key = only_cube(path, shapes, options.key)
    held = _loadmat(path)
    array = held.pop(key)
    return _raster(path, "mat5", array, options, wavelengths_among(held, shapes[key]), {"key": key, "others": held})


def _open_pixel_list(path, options):
    """The unmixing benchmarks' form: bands x pixels, pixels column by column."""
    held = _loadmat(path)
    size = int(held["nCol"].squeeze()), int(held["nRow"].squeeze())
    array = held.pop("Y").reshape(-1, *size).transpose(2, 1, 0)
    details = {"key": "Y", "others": held, "pixel_list": True}
    return _raster(path, "mat5", array, options, wavelengths_among(held, array.shape), details, band_axis=2)


def _loadmat(path):
    return {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}


def _raster(path, kind, array, options, wavelengths, details, band_axis=None):
    checked_numbers(path, array.dtype)
    array = np.squeeze(array) if array.ndim > 3 else array
    axes, wavelengths = layout(path, array.shape, options, wavelengths, band_axis)
    return Raster(
        path=path,
        kind=kind,
        shape=tuple(array.shape[k] for k in axes),
        dtype=array.dtype,
        source=windows_of(array, axes),
        files=(path,),
        wavelengths=wavelengths,
        interleave=interleave_of(axes),
        details={**details, "axes": axes},
    )


def _in_own_axes(cube, like):
    """The array with its axes as its owner's file has them."""
    return cube.transpose(np.argsort(like.details.get("axes", (0, 1, 2))))


def write_npy(path: Path, cube: np.ndarray, like: Raster, scale: int) -> None:
    """Write a .npy piece by piece."""
    array = _in_own_axes(cube, like)
    with open(path, "wb") as f:
        _write_npy(f, array)


def _write_npy(f, array):
    header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(f, header)
    step = max(1, BLOCK_BYTES // (array[0].size * array.dtype.itemsize))
    for first in range(0, len(array), step):
        f.write(np.ascontiguousarray(array[first : first + step]).tobytes())


def write_npz(path: Path, cube: np.ndarray, like: Raster, scale: int) -> None:
    """Write a .npz with the arrays that stood beside the cube, but for those of the old pixel grid."""
    details = like.details if like.kind == "npz" else {"key": "image", "others": _wavelengths_of(like)}
    compression = zipfile.ZIP_DEFLATED if details.get("compressed") else zipfile.ZIP_STORED
    # Other than np.savez, piece by piece.
    with zipfile.ZipFile(path, "w", compression, allowZip64=True) as archive:
        for name, array in {details["key"]: _in_own_axes(cube, like), **_kept(path, like, details["others"])}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as f:
                if array.ndim and array.size:
                    _write_npy(f, array)
                else:
                    np.lib.format.write_array(f, array, allow_pickle=False)


def write_mat5(path: Path, cube: np.ndarray, like: Raster, scale: int) -> None:
    """Write a v5 .mat with the variables that stood beside the cube, but for those of the old pixel grid."""
    details = like.details if like.kind == "mat5" else {"key": "image", "others": _wavelengths_of(like)}
    others = _kept(path, like, details["others"])
    if details.get("pixel_list"):
        height, width, bands = cube.shape
        array = cube.transpose(2, 1, 0).reshape(bands, -1)
        others |= {"nRow": np.array([[height]]), "nCol": np.array([[width]])}
    else:
        array = _in_own_axes(cube, like)
    with open(path, "wb") as f:
        scipy.io.savemat(f, {details["key"]: array, **others}, do_compression=True, long_field_names=True)


def _wavelengths_of(like):
    return {} if like.wavelengths is None else {"wavelength": like.wavelengths}


def _kept(path, like, others):
    height, width, _ = like.shape
    left_out = [name for name, array in others.items() if is_per_pixel(np.shape(array), height, width)]
    say_left_out(path, left_out)
    return {name: array for name, array in others.items() if name not in left_out}
