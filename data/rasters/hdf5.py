"""HDF5, and MATLAB's .mat v7.3, which is HDF5 with its axes in reverse."""

from pathlib import Path

import h5py
import numpy as np

from data.rasters.base import (
    BLOCK_BYTES,
    NODATA_NAMES,
    SCALE_NAMES,
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
from data.rasters.envi import finer_map_info

# Bytes of chunks kept unpacked, so that bands stored one by one are not unpacked for every window.
CACHE_BYTES = 2**28
MAT_HEADER_BYTES = 512


def open_raster(path: Path, options: CubeOptions) -> Raster:
    """Open the cube of an HDF5 file, which stays on disk."""
    f = h5py.File(path, "r", rdcc_nbytes=CACHE_BYTES)
    arrays: dict[str, h5py.Dataset] = {}
    f.visititems(lambda name, item: arrays.__setitem__(name, item) if isinstance(item, h5py.Dataset) else None)
    # MATLAB writes its axes in reverse, and marks what it wrote.
    reverse = any("MATLAB_class" in a.attrs for a in arrays.values())
    shapes = {n: a.shape[::-1] if reverse else a.shape for n, a in arrays.items() if a.shape is not None}
    key = only_cube(path, shapes, options.key)
    dataset = arrays[key]
    checked_numbers(path, dataset.dtype)
    others = {n.rsplit("/", 1)[-1]: a for n, a in arrays.items() if a.ndim <= 2 and 1 < (a.size or 0) < 10000}
    numbers = {n: a[()] for n, a in others.items() if a.dtype.kind in "fiu"}
    numbers |= {n: v for n, v in dataset.attrs.items() if isinstance(v, np.ndarray)}
    shape, array = shapes[key], dataset
    if len(shape) > 3:
        array = np.squeeze(dataset[()].T if reverse else dataset[()])
        shape, reverse = array.shape, False
    axes, wavelengths = layout(path, shape, options, wavelengths_among(numbers, shape))
    stored = tuple(2 - k for k in axes) if reverse else axes
    return Raster(
        path=path,
        kind="hdf5",
        shape=tuple(shape[k] for k in axes),
        dtype=dataset.dtype,
        source=windows_of(array, stored),
        files=(path,),
        wavelengths=wavelengths,
        nodata=_attribute(dataset, NODATA_NAMES),
        value_scale=_value_scale(dataset),
        interleave=interleave_of(stored),
        details={"key": key, "axes": stored, "matlab": reverse or f.userblock_size == MAT_HEADER_BYTES},
    )


def _attribute(dataset, names):
    for name in names:
        value = np.ravel(dataset.attrs[name]) if name in dataset.attrs else np.zeros(0)
        if value.size == 1 and value.dtype.kind in "fiu":
            return float(value[0])
    return None


def _value_scale(dataset):
    """What stands for 1: files hold it (10000) or its inverse (0.0001)."""
    scale = _attribute(dataset, SCALE_NAMES)
    if not scale or scale <= 0 or scale == 1:
        return None
    return 1 / scale if scale < 1 else scale


def write(path: Path, cube: np.ndarray, like: Raster, scale: int) -> None:
    """Write a rows x columns x bands array as an HDF5 file like the one it was made from, or a new one.

    Everything else in the file is copied, but for what belongs to the old pixel grid.
    """
    if like.kind == "hdf5":
        _write_alike(path, cube, like, scale)
        return
    with h5py.File(path, "w") as f:
        dataset = f.create_dataset(
            "image",
            cube.shape,
            cube.dtype,
            chunks=_chunks(cube.shape),
            compression="gzip",
            compression_opts=1,
            shuffle=True,
        )
        _fill(dataset, cube)
        if like.nodata is not None:
            dataset.attrs["_FillValue"] = np.array(like.nodata).astype(cube.dtype)
        if like.value_scale:
            dataset.attrs["scale_factor"] = 1 / like.value_scale
        if like.wavelengths is not None:
            f["wavelength"] = np.asarray(like.wavelengths)
            f["wavelength"].attrs["units"] = "nm"
        if like.band_names:
            f["band_names"] = [str(name) for name in like.band_names]
        if georeference := like.georeference():
            dataset.attrs["crs_wkt"] = georeference.crs
            dataset.attrs["transform"] = georeference.finer(scale).transform


def _write_alike(path, cube, like, scale):
    header = b""
    with h5py.File(like.path, "r") as source:
        with h5py.File(path, "w", userblock_size=source.userblock_size) as target:
            left_out = []
            _copy(source, target, cube, like, scale, left_out, {_address(source)})
        if source.userblock_size:
            with open(like.path, "rb") as f:
                header = f.read(source.userblock_size)
    if header:
        with open(path, "r+b") as f:
            f.write(header)
    say_left_out(path, left_out)


def _address(item):
    return h5py.h5o.get_info(item.id).addr


def _copy(source, target, cube, like, scale, left_out, above):
    """Copy a group with all below it, the cube in its new size; names that are not copied go to left_out.

    Args:
        above: addresses of the groups that it is in, which a link may lead back to.
    """
    _copy_attributes(source, target)
    for name in source:
        link = source.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            target[name] = link
            continue
        item = source[name]
        path = item.name.lstrip("/")
        if not isinstance(item, (h5py.Group, h5py.Dataset)):
            source.copy(item, target, name)
        elif isinstance(item, h5py.Group):
            # MATLAB's cells, which nothing can point to any more.
            if name != "#refs#" and _address(item) not in above:
                _copy(item, target.create_group(name), cube, like, scale, left_out, above | {_address(item)})
        elif path == like.details["key"]:
            _copy_attributes(item, _write_cube(target, name, item, cube, like))
        elif h5py.check_ref_dtype(item.dtype) or _is_of_pixels(item, like):
            left_out.append(path)
        elif name.lower() == "map_info":
            try:
                finer = _finer_text(item[()], scale)
            except (ValueError, IndexError):
                left_out.append(path)
            else:
                _copy_attributes(item, target.create_dataset(name, data=finer))
        else:
            source.copy(item, target, name)


def _is_of_pixels(item, like):
    """Whether a dataset belongs to the old pixel grid: a value for each pixel, or for each row or column."""
    height, width, bands = like.shape
    shape = item.shape or ()
    is_axis = item.is_scale and len(shape) == 1 and shape[0] in {height, width} - {bands}
    return is_axis or is_per_pixel(shape, height, width)


def _copy_attributes(source, target):
    for name, value in source.attrs.items():
        # References to other objects do not outlive their file.
        if not h5py.check_ref_dtype(getattr(value, "dtype", np.dtype(int))) and name not in (
            "DIMENSION_LIST",
            "REFERENCE_LIST",
        ):
            target.attrs[name] = value


def _finer_text(text, scale):
    """A map info line, as HDF5 files of airborne sensors have it, for finer pixels."""
    text = text.decode() if isinstance(text, bytes) else str(text)
    return ",".join(finer_map_info(text.split(","), scale))


def _write_cube(target, name, item, cube, like):
    array = cube.transpose(np.argsort(like.details["axes"]))
    options = {"chunks": item.chunks, "compression": item.compression, "compression_opts": item.compression_opts}
    options |= {"shuffle": item.shuffle, "fletcher32": item.fletcher32, "fillvalue": item.fillvalue}
    dataset = target.create_dataset(name, array.shape, cube.dtype, **options)
    _fill(dataset, array)
    return dataset


def _chunks(shape):
    return (min(64, shape[0]), min(64, shape[1]), shape[2])


def _fill(dataset, array):
    """Write an array into a dataset of its shape piece by piece."""
    if dataset.chunks:
        for window in dataset.iter_chunks():
            dataset[window] = array[window]
        return
    step = max(1, BLOCK_BYTES // (array[0].size * array.dtype.itemsize))
    for first in range(0, len(array), step):
        dataset[first : first + step] = array[first : first + step]
