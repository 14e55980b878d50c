"""HDF5, netCDF-4 and MATLAB's .mat v7.3, which are HDF5; MATLAB's has its axes in reverse."""

import dataclasses
import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from formats import envi, netcdf
from formats.axes import find_matlab_arrays, find_unmarked_axes, has_matlab_header
from formats.grid import Grid, fit_number_type, is_of_axis, is_per_pixel, upsample_axis
from formats.guard import check_hdf5, open_hdf5
from formats.pixel_list import ImageSize, PixelList, choose_scene, detect_pixel_order, is_size_name
from formats.raster import (
    BLOCK_BYTES,
    CRS_NAMES,
    NAMES_OF_SCALING,
    NODATA_NAMES,
    SCALE_NAMES,
    TRANSFORM,
    CubeOptions,
    Georeference,
    Raster,
    Scaling,
    check_numbers,
    decode_text,
    find_axes,
    find_band_names,
    find_number,
    find_scaling,
    find_uniform_number,
    format_scaling,
    get_interleave,
    make_window_reader,
    report_left_out,
)
from formats.wavelengths import WAVELENGTH_NAMES, find_wavelengths
from system.errors import DataError
from utils import print_line

# Bytes of chunks kept unpacked, so that bands stored one by one are not unpacked for every window.
CACHE_BYTES = 2**28


@dataclass(kw_only=True)
class Hdf5Raster(Raster):
    """The cube, or the matrix of pixels, of an HDF5 file.

    Attributes:
        key: its path.
        ndim: number of axes of the stored array, of which those beside the cube's have one entry.
        pixels: how to read a matrix of pixels; None for a cube.
        is_matlab, is_netcdf: True if MATLAB or netCDF wrote the file, or its name says so.
    """

    kind = "hdf5"
    key: str
    ndim: int = 3
    pixels: PixelList | None = None
    is_matlab: bool = False
    is_netcdf: bool = False

    def stored(self, cube: np.ndarray) -> np.ndarray:
        """Return a rows x columns x bands array with the axes of the file's array."""
        if self.pixels:
            return self.pixels.matrix(cube)
        # Axes of one entry stand beside the cube's.
        single = tuple(k for k in range(self.ndim) if k not in self.axes)
        return np.expand_dims(cube.transpose(np.argsort(self.axes)), single)

    def write_upsampled(self, path: Path, cube: np.ndarray, scale: int) -> None:
        """Copy the file with the new cube; metadata of the pixel grid are renewed or left out."""
        _write_alike(path, cube, self, scale)
        _read_back(path, self.key, self.stored(cube))


def open_raster(path: Path, options: CubeOptions) -> Hdf5Raster:
    """Open the cube of an HDF5 file, which stays on disk."""
    check_hdf5(path)
    f = open_hdf5(path, rdcc_nbytes=CACHE_BYTES)
    arrays: dict[str, h5py.Dataset] = {}
    f.visititems(lambda name, item: arrays.__setitem__(name, item) if isinstance(item, h5py.Dataset) else None)
    of_matlab = find_matlab_arrays(f, arrays)
    key, size = _chosen(path, arrays, of_matlab, options)
    dataset, reverse = arrays[key], key in of_matlab
    shape = dataset.shape[:: -1 if reverse else 1]
    if elsewhere := netcdf.describe_external_storage(dataset):
        raise DataError(path, f"{key} is {elsewhere}", "give the file that holds the values themselves")
    check_numbers(path, dataset.dtype)
    others = {n.rsplit("/", 1)[-1]: a for n, a in arrays.items() if a.ndim <= 2 and 1 < (a.size or 0) < 10000}
    numbers = {n: a[()] for n, a in others.items() if a.dtype.kind in "fiu"}
    numbers |= {n: v for n, v in dataset.attrs.items() if isinstance(v, np.ndarray)}
    array: Any = dataset
    pixels: PixelList | None = None
    if size:
        pixels = detect_pixel_order(key, dataset[()].T if reverse else dataset[()], size)
        pixels = dataclasses.replace(pixels, bands_first=pixels.bands_first != reverse)
        array = pixels.cube(dataset[()])
        shape, reverse = array.shape, False
    # One cube may be among axes of one entry each.
    kept = [k for k, n in enumerate(shape) if n != 1] if len(shape) > 3 else list(range(len(shape)))
    sides = tuple(shape[k] for k in kept)
    known = find_wavelengths(numbers, sides)
    axes, wavelengths = find_axes(path, sides, options, known, 2 if pixels else None)
    interleave = get_interleave(axes if len(shape) > 3 or not reverse else tuple(2 - k for k in axes))
    if not reverse and not pixels and len(shape) == 3:
        axes = find_unmarked_axes(path, axes[2])
        interleave = get_interleave(axes)
    rows, cols, bands = (sides[k] for k in axes)
    stored = tuple(len(shape) - 1 - kept[k] if reverse else kept[k] for k in axes)
    value_scale, scaling = _scaling(path, dataset, bands)
    return Hdf5Raster(
        path=path,
        shape=(rows, cols, bands),
        dtype=dataset.dtype,
        source=make_window_reader(array, stored),
        files=(path,),
        wavelengths=wavelengths,
        wavelengths_given=known is None and wavelengths is not None,
        band_names=find_band_names(others, bands),
        nodata=find_number(dataset.attrs, NODATA_NAMES),
        value_scale=value_scale,
        scaling=scaling,
        locate=lambda: _georeference(f, arrays, dataset, stored, (rows, cols, bands)),
        interleave=interleave,
        axes=stored,
        key=key,
        ndim=len(shape),
        pixels=pixels,
        is_matlab=bool(of_matlab) or has_matlab_header(f),
        is_netcdf=netcdf.is_netcdf_name(path) or "_NCProperties" in f.attrs,
    )


def _chosen(
    path: Path, arrays: Mapping[str, h5py.Dataset], of_matlab: set[str], options: CubeOptions
) -> tuple[str, ImageSize | None]:
    """The name of the dataset that is a file's scene, and the size of its image if that is a matrix of pixels."""
    # References, and MATLAB's cells that they lead to, are no scenes.
    numbers = {n: a for n, a in arrays.items() if a.shape is not None and a.dtype.kind in "fiuc"}
    numbers |= {n: a for n, a in arrays.items() if n == options.key and a.shape is not None}
    shapes = {n: a.shape[:: -1 if n in of_matlab else 1] for n, a in numbers.items()}
    single = {n: a for n, a in numbers.items() if is_size_name(n) and a.size == 1 and a.dtype.kind in "fiu"}
    return choose_scene(path, shapes, {n: np.ravel(a[()])[0] for n, a in single.items()}, options)


def _scaling(path: Path, dataset: h5py.Dataset, bands: int) -> tuple[float | None, Scaling | None]:
    """(value_scale, scaling) as a dataset's attributes say."""
    said = {name: dataset.attrs[name] for name in dataset.attrs if name.lower() in NAMES_OF_SCALING}
    for name in [n for n in said if n.lower() in SCALE_NAMES]:
        # A factor of 0 or less says nothing.
        if (factor := find_uniform_number(said[name])) is not None and factor <= 0:
            del said[name]
    return find_scaling(path, said, bands)


def _georeference(
    f: h5py.File, arrays: dict[str, h5py.Dataset], dataset: h5py.Dataset, stored: tuple[int, ...], size: tuple[int, ...]
) -> Georeference | None:
    """The position as this program writes it, as netCDF's conventions have it, or as a map info line."""
    attributes = dataset.attrs
    wkt = next((decode_text(attributes[n]) for n in CRS_NAMES if n in attributes), "")
    if TRANSFORM in attributes and np.size(attributes[TRANSFORM]) in (6, 9):
        return Georeference(wkt, tuple(float(v) for v in np.ravel(attributes[TRANSFORM])[:6]))
    if found := netcdf.read_georeference(f, arrays, dataset, stored, size):
        return found
    texts = {n.rsplit("/", 1)[-1].lower(): a for n, a in arrays.items() if a.shape in ((), (1,))}
    if "map_info" not in texts:
        return None
    crs = texts.get("coordinate_system_string")
    return envi.parse_map_info(decode_text(texts["map_info"][()]), "" if crs is None else decode_text(crs[()]))


def write(path: Path, cube: np.ndarray, like: Raster, scale: int) -> None:
    """Write a rows x columns x bands array as a new HDF5 file, which is netCDF if its name says so."""
    if netcdf.is_netcdf_name(path):
        netcdf.write(path, cube, like, scale)
        _read_back(path, "image", cube.transpose(2, 0, 1))
    else:
        _write_new(path, cube, like, scale)
        _read_back(path, "image", cube)


def _read_back(path: Path, key: str, array: np.ndarray) -> None:
    """See that a file holds what was written: on a full disk HDF5 may lose the error where it frees an object.

    Raises:
        OSError: as for a full disk, where it does not.
    """
    try:
        with open_hdf5(path) as f:
            dataset = f[key]
            is_whole = all(
                dataset[w].tobytes() == np.ascontiguousarray(array[w]).tobytes() for w in iterate_windows(dataset)
            )
            others: list[h5py.Dataset] = []
            f.visititems(lambda _, item: others.append(item) if isinstance(item, h5py.Dataset) else None)
            for item in others:
                for window in iterate_windows(item) if item.name != dataset.name else ():
                    item[window]
    # HDF5 meets what is not there with errors of several types.
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise OSError(errno.ENOSPC, f"{path} was not written") from error
    if not is_whole:
        raise OSError(errno.ENOSPC, f"{path} was not written")


def iterate_windows(dataset: h5py.Dataset) -> Iterator[Any]:
    """What to index a dataset by, one after the other, to go through all of it with little memory."""
    if dataset.chunks:
        yield from dataset.iter_chunks()
    elif not dataset.size or not dataset.ndim:
        yield ()
    else:
        step = max(1, BLOCK_BYTES // max(1, dataset.nbytes // dataset.shape[0]))
        for first in range(0, dataset.shape[0], step):
            yield slice(first, first + step)


def _write_new(path: Path, cube: np.ndarray, like: Raster, scale: int) -> None:
    with open_hdf5(path, "w") as f:
        dataset = f.create_dataset(
            "image",
            cube.shape,
            cube.dtype,
            chunks=_chunks(cube.shape),
            compression="gzip",
            compression_opts=1,
            shuffle=True,
        )
        fill(dataset, cube)
        netcdf.write_nodata(dataset, like.nodata)
        dataset.attrs.update(format_scaling(like))
        if like.wavelengths is not None:
            _add_wavelengths(f, like)
        if like.band_names:
            f["band_names"] = [str(name) for name in like.band_names]
        if georeference := like.georeference():
            dataset.attrs["crs_wkt"] = georeference.crs
            dataset.attrs["transform"] = georeference.upsample(scale).transform


def _add_wavelengths(group: h5py.Group, like: Raster, name: str = "wavelength", is_matlab: bool = False) -> None:
    """Add the wavelengths; for MATLAB, whose axes come in reverse, as a row of 1 x C."""
    values = np.asarray(like.wavelengths, dtype=np.float64)
    group[name] = values[:, None] if is_matlab else values
    group[name].attrs["units"] = "nm"
    if is_matlab:
        _set_matlab_class(group[name])


def _write_alike(path: Path, cube: np.ndarray, like: Hdf5Raster, scale: int) -> None:
    header = b""
    with open_hdf5(like.path) as source:
        ordered = bool(source.id.get_create_plist().get_link_creation_order())
        with open_hdf5(path, "w", userblock_size=source.userblock_size, track_order=ordered) as target:
            copy = _Copy(source, target, cube, like, scale)
            copy.run()
        if source.userblock_size:
            with open(like.path, "rb") as f:
                header = f.read(source.userblock_size)
    if header:
        with open(path, "r+b") as f:
            f.write(header)
    report_left_out(path, copy.left_out)
    if copy.left_elsewhere:
        print_line(f"{path.name}: without {', '.join(copy.left_elsewhere)}, whose values stand in other files")


class _Copy:
    """One HDF5 file made of another, the cube in its new size.

    Attributes:
        left_out: what is not copied, since it belongs to the old pixel grid.
        left_elsewhere: what is not copied, since its values stand in other files.
    """

    def __init__(self, source: h5py.File, target: h5py.File, cube: np.ndarray, like: Hdf5Raster, scale: int) -> None:
        self._source, self._target, self._cube, self._like = source, target, cube, like
        height, width, bands = like.shape
        self._grid = Grid(height, width, bands, scale, like.pixels.size_names if like.pixels else ())
        self.left_out: list[str] = []
        self.left_elsewhere: list[str] = []
        dataset = source[like.key]
        rows, cols = like.axes[:2]
        # The scales of the cube's rows and columns say what belongs to them, whatever it is named.
        self._scales = (
            {_address(s) for k in (rows, cols) for s in netcdf.list_scales(dataset)[k]} if dataset.ndim == 3 else set()
        )

    def run(self) -> None:
        """Copy everything."""
        self._copy_group(self._source, self._target, {_address(self._source)})
        self._attach_scales()
        key = self._like.key
        _add_users_values(self._target[key], self._source[key], self._target, self._like)

    def _copy_group(self, source: h5py.Group, target: h5py.Group, above: set[int]) -> None:
        """Copy a group with all below it.

        Args:
            above: addresses of the groups that it is in, which a link may lead back to.
        """
        self._copy_attributes(source, target)
        for name in source:
            link = source.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                self.left_elsewhere.append(f"{source.name.strip('/')}/{name}".strip("/"))
                continue
            if not isinstance(link, h5py.HardLink):
                target[name] = link
                continue
            item = source[name]
            if isinstance(item, h5py.Dataset):
                self._copy_dataset(item, target, name)
            elif not isinstance(item, h5py.Group):
                source.copy(item, target, name)
            # MATLAB's cells, which nothing can point to any more.
            elif name != "#refs#" and _address(item) not in above:
                ordered = bool(item.id.get_create_plist().get_link_creation_order())
                group = target.create_group(name, track_order=ordered)
                self._copy_group(item, group, above | {_address(item)})

    def _copy_dataset(self, item: h5py.Dataset, target: h5py.Group, name: str) -> None:
        path = item.name.lstrip("/")
        if path == self._like.key:
            self._copy_attributes(item, _write_cube(target, name, item, self._cube, self._like))
            return
        if netcdf.describe_external_storage(item):
            self.left_elsewhere.append(path)
            return
        if h5py.check_ref_dtype(item.dtype) or item.shape is None:
            if item.shape is None:
                target.copy(item, target, name)
            else:
                self.left_out.append(path)
            return
        is_small = (item.size or 0) <= 16
        belongs, renewed = (
            self._grid.upsample_entry(name, item[()]) if is_small else self._grid.upsample_entry(name, None)
        )
        if not belongs and self._is_of_pixels(item, name):
            belongs, renewed = True, self._renewed_axis(item, name)
        if belongs and renewed is None:
            self.left_out.append(path)
        elif belongs:
            made = target.create_dataset(name, data=_as_type_of(item, renewed))
            self._copy_attributes(item, made)
            if "MATLAB_class" in made.attrs and made.dtype != item.dtype:
                _set_matlab_class(made)
        elif item.is_scale or "DIMENSION_LIST" in item.attrs:
            _copy_values(item, target, name)
            self._copy_attributes(item, target[name])
        else:
            target.copy(item, target, name)
            for attribute in item.attrs:
                self._renew_attribute(item, target[name], attribute)

    def _is_of_pixels(self, item: h5py.Dataset, name: str) -> bool:
        """Whether a dataset has a value for each pixel, row or column: by its scales, else by name and shape."""
        height, width, bands = self._like.shape
        if _address(item) in self._scales:
            return True
        scales = [{_address(s) for s in axis} for axis in netcdf.list_scales(item)]
        if scales and all(scales) and self._scales:
            return any(own & self._scales for own in scales)
        if any(own & self._scales for own in scales):
            return True
        if item.ndim == 1 and item.shape[0] in {height, width} - {bands} and item.is_scale:
            return True
        if item.ndim == 1 and item.shape[0] != bands and is_of_axis(name, item.shape[0], height, width):
            return True
        return is_per_pixel(item.shape, height, width)

    def _renewed_axis(self, item: h5py.Dataset, name: str) -> np.ndarray | None:
        """The coordinates of a row's or column's axis in its new length, or None for what has no exact ones."""
        if item.ndim != 1:
            return None
        if netcdf.is_bare_dimension(item):
            return np.zeros(item.shape[0] * self._grid.scale, item.dtype)
        return upsample_axis(item[()], self._grid.scale) if netcdf.is_coordinate(item, name) else None

    def _copy_attributes(self, source: h5py.Group | h5py.Dataset, target: h5py.Group | h5py.Dataset) -> None:
        for name in source.attrs:
            if name not in netcdf.POINTERS:
                self._renew_attribute(source, target, name)

    def _renew_attribute(self, source: h5py.Group | h5py.Dataset, target: h5py.Group | h5py.Dataset, name: str) -> None:
        value = source.attrs[name]
        # References to other objects do not outlive their file.
        if h5py.check_ref_dtype(getattr(value, "dtype", np.dtype(int))):
            return
        belongs, renewed = self._grid.upsample_entry(name, value)
        if belongs and renewed is None:
            self.left_out.append(f"{source.name.strip('/')} {name}".strip())
            if name in target.attrs:
                del target.attrs[name]
            return
        if belongs and isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            renewed = np.asarray(renewed).reshape(value.shape)
        if belongs or name not in target.attrs:
            target.attrs[name] = renewed

    def _attach_scales(self) -> None:
        """Give the copied datasets the scales that theirs have in the source."""
        items: list[h5py.Dataset] = []
        self._source.visititems(lambda _, item: items.append(item) if isinstance(item, h5py.Dataset) else None)
        copied = [item for item in items if isinstance(self._target.get(item.name), h5py.Dataset)]
        for item in copied:
            if item.is_scale:
                self._target[item.name].make_scale(netcdf.get_scale_name(item, self._target[item.name]))
        for item in copied:
            for axis, scales in enumerate(netcdf.list_scales(item)):
                for scale in scales:
                    own = self._target.get(scale.name)
                    if isinstance(own, h5py.Dataset) and own.shape[0] == self._target[item.name].shape[axis]:
                        self._target[item.name].dims[axis].attach_scale(own)


def _as_type_of(item: h5py.Dataset, values: Any) -> Any:
    """Values in a dataset's number type if it holds them, else in a larger one: float64 for finer coordinates."""
    values = np.asarray(values) if item.dtype.kind in "fiu" else values
    if item.dtype.kind not in "fiu" or values.dtype.kind not in "fiu":
        return values
    if item.dtype.kind == "f":
        # Sizes are already in the type that holds them.
        return values if values.dtype.itemsize < 8 else values.astype(item.dtype)
    held = fit_number_type(values, item.dtype)
    return held if held.dtype.kind in "iu" else values.astype(np.float64)


def _set_matlab_class(dataset: h5py.Dataset) -> None:
    """Name a dataset's number type as MATLAB does; its readers convert the values to that type."""
    classes = {"float32": "single", "float64": "double"}
    dataset.attrs["MATLAB_class"] = np.bytes_(classes.get(dataset.dtype.name, dataset.dtype.name))


def _copy_values(item: h5py.Dataset, target: h5py.Group, name: str) -> None:
    """Copy a dataset without its attributes."""
    text = h5py.check_string_dtype(item.dtype)
    if text is not None and text.length is None:
        # HDF5 copies the fill value of texts as an address in the old file.
        target.create_dataset(name, data=item[()], dtype=item.dtype)
    else:
        target.copy(item, target, name, without_attrs=True)


def _add_users_values(target: h5py.Dataset, source: h5py.Dataset, root: h5py.File, like: Raster) -> None:
    """Write the metadata that the user gave and the file lacks."""
    said = find_number(source.attrs, NODATA_NAMES)
    if like.nodata is not None and not np.array_equal(
        [like.nodata], [np.nan if said is None else said], equal_nan=True
    ):
        netcdf.write_nodata(target, like.nodata)
    if (like.value_scale, like.scaling) != _scaling(like.path, source, like.shape[2]):
        for name in [n for n in target.attrs if n.lower() in NAMES_OF_SCALING]:
            del target.attrs[name]
        target.attrs.update(format_scaling(like))
    # A dataset of that name that holds no wavelengths stays, and readers look for the next name.
    name = next((n for n in WAVELENGTH_NAMES if n not in root), None)
    if like.wavelengths_given and name:
        _add_wavelengths(root, like, name, "MATLAB_class" in target.attrs)


def _address(item: h5py.Group | h5py.Dataset) -> int:
    return h5py.h5o.get_info(item.id).addr


def _write_cube(target: h5py.Group, name: str, item: h5py.Dataset, cube: np.ndarray, like: Hdf5Raster) -> h5py.Dataset:
    array = like.stored(cube)
    options = {"chunks": item.chunks, "compression": item.compression, "compression_opts": item.compression_opts}
    options |= {"shuffle": item.shuffle, "fletcher32": item.fletcher32, "fillvalue": item.fillvalue}
    dataset = target.create_dataset(name, array.shape, cube.dtype, **options)
    fill(dataset, array)
    return dataset


def _chunks(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return (min(64, shape[0]), min(64, shape[1]), shape[2])


def fill(dataset: h5py.Dataset, array: np.ndarray) -> None:
    """Write an array into a dataset of its shape piece by piece."""
    for window in iterate_windows(dataset):
        dataset[window] = array[window]
