"""HDF5, netCDF-4 and MATLAB's .mat v7.3, which are HDF5; MATLAB's has its axes in reverse."""

import dataclasses
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from formats import envi, netcdf, raster
from formats.axes import find_matlab_arrays, find_unmarked_axes, has_matlab_header
from formats.grid import Grid, fit_number_type, upsample_axis
from formats.guard import check_hdf5, open_hdf5
from formats.pixel_list import PixelList, choose_scene, detect_pixel_order
from formats.raster import NODATA_NAMES, CubeOptions, Georeference, Raster, Scaling, find_number
from formats.wavelengths import WAVELENGTH_NAMES, find_wavelengths
from system.errors import DataError
from utils import print_line

# Bytes of the cache of unpacked chunks: bands stored one by one are not unpacked for every window.
CACHE_BYTES = 2**28


@dataclass(kw_only=True)
class Hdf5Raster(Raster):
    """The cube, or the matrix of pixels, of an HDF5 file.

    Attributes:
        key: path of its dataset.
        ndim: number of axes of the dataset; those other than the cube's have one entry.
        pixels: order of the pixels in a matrix; None for a cube.
        is_matlab, is_netcdf: True if MATLAB or netCDF wrote the file, or its name is netCDF's.
    """

    kind: str = "hdf5"
    key: str
    ndim: int = 3
    pixels: PixelList | None = None
    is_matlab: bool = False
    is_netcdf: bool = False

    def arrange(self, cube: np.ndarray) -> np.ndarray:
        """Return a rows x columns x bands array with the axes of the dataset."""
        if self.pixels:
            return self.pixels.to_matrix(cube)
        single = tuple(k for k in range(self.ndim) if k not in self.axes)
        return np.expand_dims(cube.transpose(np.argsort(self.axes)), single)


def open_raster(path: Path, options: CubeOptions) -> Hdf5Raster:
    """Open the cube of an HDF5 file, which stays on disk."""
    check_hdf5(path)
    f = open_hdf5(path, rdcc_nbytes=CACHE_BYTES)
    arrays = {dataset.name.lstrip("/"): dataset for dataset in list_datasets(f)}
    of_matlab = find_matlab_arrays(f, arrays)
    key, size = choose_scene(path, arrays, options, of_matlab)
    dataset, is_reversed = arrays[key], key in of_matlab
    shape = dataset.shape[:: -1 if is_reversed else 1]
    if storage := netcdf.describe_external_storage(dataset):
        raise DataError(path, f"{key} is {storage}", "give the file that contains the values themselves")
    raster.check_numbers(path, dataset.dtype)
    others = {n.rsplit("/", 1)[-1]: a for n, a in arrays.items() if a.ndim <= 2 and 1 < (a.size or 0) < 10000}
    numbers = {n: a[()] for n, a in others.items() if a.dtype.kind in "fiu"}
    numbers |= {n: v for n, v in dataset.attrs.items() if isinstance(v, np.ndarray)}
    array: Any = dataset
    pixels: PixelList | None = None
    if size:
        pixels = detect_pixel_order(dataset[()].T if is_reversed else dataset[()], size)
        pixels = dataclasses.replace(pixels, bands_first=pixels.bands_first != is_reversed)
        array = pixels.to_cube(dataset[()])
        shape, is_reversed = array.shape, False
    # One cube may be among axes of one entry each.
    kept = [k for k, n in enumerate(shape) if n != 1] if len(shape) > 3 else list(range(len(shape)))
    sides = tuple(shape[k] for k in kept)
    known = find_wavelengths(numbers, sides)
    axes, wavelengths = raster.find_axes(path, sides, options, known, 2 if pixels else None)
    if not is_reversed and not pixels and len(shape) == 3:
        axes = find_unmarked_axes(path, axes[2])
    is_mirrored = is_reversed and len(shape) <= 3
    rows, cols, bands = (sides[k] for k in axes)
    stored = tuple(len(shape) - 1 - kept[k] if is_reversed else kept[k] for k in axes)
    value_scale, scaling = _find_scaling(path, dataset, bands)
    return Hdf5Raster(
        path=path,
        shape=(rows, cols, bands),
        dtype=dataset.dtype,
        source=raster.make_window_reader(array, stored),
        files=(path,),
        wavelengths=wavelengths,
        wavelengths_given=known is None and wavelengths is not None,
        band_names=raster.find_band_names(others, bands),
        nodata=find_number(dataset.attrs, NODATA_NAMES),
        value_scale=value_scale,
        scaling=scaling,
        locate=lambda: _find_georeference(arrays, dataset, stored, (rows, cols, bands)),
        interleave=raster.get_interleave(tuple(2 - k for k in axes) if is_mirrored else axes),
        axes=stored,
        key=key,
        ndim=len(shape),
        pixels=pixels,
        is_matlab=bool(of_matlab) or has_matlab_header(f),
        is_netcdf=netcdf.is_netcdf_name(path) or "_NCProperties" in f.attrs,
    )


def list_datasets(f: h5py.File) -> list[h5py.Dataset]:
    """Return all datasets of a file, each once."""
    found: list[h5py.Dataset] = []
    f.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return found


def _find_scaling(path: Path, dataset: h5py.Dataset, bands: int) -> tuple[float | None, Scaling | None]:
    """Return (value_scale, scaling) by the attributes of a dataset; a factor of 0 or less is ignored."""
    entries = {n: dataset.attrs[n] for n in dataset.attrs if n.lower() in raster.NAMES_OF_SCALING}
    factors = {n: raster.find_uniform_number(v) for n, v in entries.items() if n.lower() in raster.SCALE_NAMES}
    ignored = [n for n, factor in factors.items() if factor is not None and factor <= 0]
    return raster.find_scaling(path, {n: v for n, v in entries.items() if n not in ignored}, bands)


def _find_georeference(
    arrays: dict[str, h5py.Dataset], dataset: h5py.Dataset, stored: tuple[int, ...], size: tuple[int, ...]
) -> Georeference | None:
    """Return the georeferencing in this program's attributes, in those of netCDF, or in a map info dataset."""
    wkt = next((raster.decode_text(dataset.attrs[n]) for n in raster.CRS_NAMES if n in dataset.attrs), "")
    transform = np.ravel(dataset.attrs.get(raster.TRANSFORM, ()))
    if transform.size in (6, 9):
        return Georeference(wkt, tuple(float(v) for v in transform[:6]))
    if found := netcdf.read_georeference(arrays, dataset, stored, size):
        return found
    texts = {n.rsplit("/", 1)[-1].lower(): a for n, a in arrays.items() if a.shape in ((), (1,))}
    if "map_info" not in texts:
        return None
    map_info, crs = (
        raster.decode_text(texts[n][()]) if n in texts else "" for n in ("map_info", "coordinate_system_string")
    )
    return envi.parse_map_info(map_info, crs)


def is_copy(path: Path, template: Raster) -> bool:
    """Return True if a result is a copy of its template's file; HDF5 does not become netCDF that way."""
    return isinstance(template, Hdf5Raster) and (template.is_netcdf or not netcdf.is_netcdf_name(path))


def write(path: Path, cube: np.ndarray, template: Raster, scale: int) -> None:
    """Write a rows x columns x bands array as HDF5: a copy of the template's file, or a new HDF5 or netCDF file.

    Raises:
        OSError: if it cannot be written.
    """
    key, array = "image", cube
    if isinstance(template, Hdf5Raster) and is_copy(path, template):
        _write_copy(path, cube, template, scale)
        key, array = template.key, template.arrange(cube)
    elif netcdf.is_netcdf_name(path):
        netcdf.write(path, cube, template, scale)
        array = cube.transpose(2, 0, 1)
    else:
        _write_new(path, cube, template, scale)
    _read_back(path, key, array)


def _read_back(path: Path, key: str, array: np.ndarray) -> None:
    """Verify the values of a file: on a full disk HDF5 may lose the error where it frees an object.

    Raises:
        OSError: with the number for a full disk, if they differ.
    """
    try:
        with open_hdf5(path) as f:
            cube = f[key]
            for item in list_datasets(f):
                for window in iterate_windows(item):
                    values = item[window]
                    if item == cube and values.tobytes() != np.ascontiguousarray(array[window]).tobytes():
                        raise ValueError("other values")
    # HDF5 raises errors of several types for missing parts.
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise OSError(errno.ENOSPC, f"{path} was not written") from error


def iterate_windows(dataset: h5py.Dataset) -> Iterator[Any]:
    """Yield indexes that together read all of a dataset, each with little memory."""
    if dataset.chunks:
        yield from dataset.iter_chunks()
    elif not dataset.size or not dataset.ndim:
        yield ()
    else:
        step = max(1, raster.BLOCK_BYTES // max(1, dataset.nbytes // dataset.shape[0]))
        yield from (slice(first, first + step) for first in range(0, dataset.shape[0], step))


def _write_new(path: Path, cube: np.ndarray, template: Raster, scale: int) -> None:
    chunks = (*(min(64, side) for side in cube.shape[:2]), cube.shape[2])
    with open_hdf5(path, "w") as f:
        dataset = f.create_dataset("image", cube.shape, cube.dtype, chunks=chunks, **netcdf.COMPRESSION)
        fill(dataset, cube)
        netcdf.write_nodata(dataset, template.nodata)
        dataset.attrs.update(raster.format_scaling(template))
        if template.wavelengths is not None:
            _add_wavelengths(f, template)
        if template.band_names:
            f["band_names"] = [str(name) for name in template.band_names]
        if georeference := template.read_georeference():
            dataset.attrs["crs_wkt"] = georeference.crs
            dataset.attrs[raster.TRANSFORM] = georeference.upsample(scale).transform


def _add_wavelengths(f: h5py.File, template: Raster, name: str = "wavelength", is_matlab: bool = False) -> None:
    """Add the wavelengths; for MATLAB, whose axes come in reverse, as a row of 1 x C."""
    values = np.asarray(template.wavelengths, dtype=np.float64)
    f[name] = values[:, None] if is_matlab else values
    f[name].attrs["units"] = "nm"
    if is_matlab:
        _set_matlab_class(f[name])


def _write_copy(path: Path, cube: np.ndarray, template: Hdf5Raster, scale: int) -> None:
    """Copy the template's file with the new cube; metadata of the pixel grid are recomputed or left out."""
    with open_hdf5(template.path) as source:
        ordered = bool(source.id.get_create_plist().get_link_creation_order())
        user_bytes = source.userblock_size
        with open_hdf5(path, "w", userblock_size=user_bytes, track_order=ordered) as target:
            copy = _Copy(source, target, cube, template, scale)
            copy.run()
    if user_bytes:
        with open(template.path, "rb") as f, open(path, "r+b") as g:
            g.write(f.read(user_bytes))
    raster.report_left_out(path, copy.left_out)
    if copy.external:
        print_line(f"{path.name}: without {', '.join(copy.external)}, whose values are in other files")


class _Copy:
    """A copy of an HDF5 file with the cube in its new size.

    Attributes:
        left_out: names of objects that are not copied, since they belong to the old pixel grid.
        external: names of objects that are not copied, since their values are in other files.
    """

    def __init__(
        self, source: h5py.File, target: h5py.File, cube: np.ndarray, template: Hdf5Raster, scale: int
    ) -> None:
        self._source, self._target, self._cube, self._template = source, target, cube, template
        height, width, bands = template.shape
        self._grid = Grid(height, width, bands, scale, template.pixels.size_names if template.pixels else ())
        self.left_out: list[str] = []
        self.external: list[str] = []
        # The scales of the cube's rows and columns identify the datasets on its grid, whatever their names are.
        axes = template.axes[:2] if template.ndim == 3 and not template.pixels else ()
        scales = netcdf.list_scales(source[template.key])
        self._scales = {_get_address(scale) for axis in axes for scale in scales[axis]}

    def run(self) -> None:
        """Copy everything."""
        self._copy_group(self._source, self._target, {_get_address(self._source)})
        self._attach_scales()
        key = self._template.key
        _add_user_values(self._target[key], self._source[key], self._target, self._template)

    def _copy_group(self, source: h5py.Group, target: h5py.Group, above: set[int]) -> None:
        """Copy a group with all below it; `above` are the addresses of its parents, which a link may lead back to."""
        self._copy_attributes(source, target)
        for name in source:
            link = source.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                self.external.append(f"{source.name}/{name}".strip("/"))
                continue
            if not isinstance(link, h5py.HardLink):
                target[name] = link
                continue
            item = source[name]
            if isinstance(item, h5py.Dataset):
                self._copy_dataset(item, target, name)
            elif not isinstance(item, h5py.Group):
                source.copy(item, target, name)
            # MATLAB's cells are not copied, since no reference to them is.
            elif name != "#refs#" and _get_address(item) not in above:
                ordered = bool(item.id.get_create_plist().get_link_creation_order())
                group = target.create_group(name, track_order=ordered)
                self._copy_group(item, group, above | {_get_address(item)})

    def _copy_dataset(self, item: h5py.Dataset, target: h5py.Group, name: str) -> None:
        path = item.name.lstrip("/")
        if path == self._template.key:
            array = self._template.arrange(self._cube)
            options = ("chunks", "compression", "compression_opts", "shuffle", "fletcher32", "fillvalue")
            created = target.create_dataset(
                name, array.shape, array.dtype, **{option: getattr(item, option) for option in options}
            )
            fill(created, array)
            self._copy_attributes(item, created)
        elif netcdf.describe_external_storage(item):
            self.external.append(path)
        elif item.shape is None:
            target.copy(item, target, name)
        elif h5py.check_ref_dtype(item.dtype):
            self.left_out.append(path)
        else:
            self._copy_other(item, target, name)

    def _copy_other(self, item: h5py.Dataset, target: h5py.Group, name: str) -> None:
        """Copy a dataset beside the cube; recompute it, or leave it out, if it belongs to the pixel grid."""
        is_of_grid, values = self._grid.upsample_entry(name, item[()] if (item.size or 0) <= 16 else None)
        if not is_of_grid and self._is_on_grid(item, name):
            is_of_grid, values = True, self._upsample_axis(item, name)
        if is_of_grid and values is None:
            self.left_out.append(item.name.lstrip("/"))
            return
        if is_of_grid:
            target.create_dataset(name, data=_convert_values(values, item.dtype))
        elif h5py.check_string_dtype(item.dtype) and h5py.check_string_dtype(item.dtype).length is None:
            # HDF5 copies the fill value of texts as an address in the old file.
            target.create_dataset(name, data=item[()], dtype=item.dtype)
        else:
            target.copy(item, target, name, without_attrs=True)
        self._copy_attributes(item, target[name])
        if "MATLAB_class" in item.attrs and target[name].dtype != item.dtype:
            _set_matlab_class(target[name])

    def _is_on_grid(self, item: h5py.Dataset, name: str) -> bool:
        """Return True if a dataset has a value for each pixel, row or column: by its scales, else by name and shape."""
        if _get_address(item) in self._scales:
            return True
        scales = [{_get_address(s) for s in axis} for axis in netcdf.list_scales(item)]
        is_shared = any(own & self._scales for own in scales)
        if is_shared or (scales and all(scales) and self._scales):
            return is_shared
        if item.ndim == 1 and item.is_scale and item.shape[0] in {*self._template.shape[:2]} - {self._grid.bands}:
            return True
        return (item.ndim == 1 and self._grid.is_axis(name, item.shape)) or self._grid.is_per_pixel(item.shape)

    def _upsample_axis(self, item: h5py.Dataset, name: str) -> np.ndarray | None:
        """Return the coordinates of an axis in its new length; None if they cannot be computed exactly."""
        if item.ndim != 1:
            return None
        if netcdf.is_bare_dimension(item):
            return np.zeros(item.shape[0] * self._grid.scale, item.dtype)
        return upsample_axis(item[()], self._grid.scale) if netcdf.find_direction(item, name) else None

    def _copy_attributes(self, source: h5py.Group | h5py.Dataset, target: h5py.Group | h5py.Dataset) -> None:
        """Copy attributes, those of the pixel grid recomputed or left out, without references and scales."""
        for name, value in source.attrs.items():
            if name in netcdf.POINTERS or h5py.check_ref_dtype(getattr(value, "dtype", np.dtype(int))):
                continue
            is_of_grid, upsampled = self._grid.upsample_entry(name, value)
            if is_of_grid and upsampled is None:
                self.left_out.append(f"{source.name.strip('/')} {name}".strip())
                continue
            if is_of_grid and isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
                upsampled = np.asarray(upsampled).reshape(value.shape)
            target.attrs[name] = upsampled

    def _attach_scales(self) -> None:
        """Attach the scales of the source's datasets to the copied ones."""
        copied = [item for item in list_datasets(self._source) if isinstance(self._target.get(item.name), h5py.Dataset)]
        for item in copied:
            if item.is_scale:
                self._target[item.name].make_scale(netcdf.get_scale_name(item, self._target[item.name]))
        for item in copied:
            for axis, scales in enumerate(netcdf.list_scales(item)):
                for scale in scales:
                    own = self._target.get(scale.name)
                    if isinstance(own, h5py.Dataset) and own.shape[0] == self._target[item.name].shape[axis]:
                        self._target[item.name].dims[axis].attach_scale(own)


def _convert_values(values: Any, dtype: np.dtype) -> Any:
    """Convert numbers to a number type; of integers, to a larger one if they do not fit: float64 for coordinates."""
    if dtype.kind not in "fiu" or np.asarray(values).dtype.kind not in "fiu":
        return values
    return np.asarray(values).astype(dtype) if dtype.kind == "f" else fit_number_type(np.asarray(values), dtype)


def _set_matlab_class(dataset: h5py.Dataset) -> None:
    """Name a dataset's number type as MATLAB does; its readers convert the values to that type."""
    classes = {"float32": "single", "float64": "double"}
    dataset.attrs["MATLAB_class"] = np.bytes_(classes.get(dataset.dtype.name, dataset.dtype.name))


def _add_user_values(target: h5py.Dataset, source: h5py.Dataset, root: h5py.File, template: Raster) -> None:
    """Write the metadata that the user gave and the file lacks, and remove values that they replace."""
    nodata = find_number(source.attrs, NODATA_NAMES)
    if template.nodata is not None and not np.array_equal(
        [template.nodata], [np.nan if nodata is None else nodata], equal_nan=True
    ):
        raster.remove_named(target.attrs, NODATA_NAMES)
        netcdf.write_nodata(target, template.nodata)
    if (template.value_scale, template.scaling) != _find_scaling(template.path, source, template.shape[2]):
        raster.remove_named(target.attrs, raster.NAMES_OF_SCALING)
        target.attrs.update(raster.format_scaling(template))
    # A dataset of such a name that contains no wavelengths stays; readers look for the next name.
    name = next((n for n in WAVELENGTH_NAMES if n not in root), None)
    if template.wavelengths_given and name:
        _add_wavelengths(root, template, name, "MATLAB_class" in target.attrs)


def _get_address(item: h5py.Group | h5py.Dataset) -> int:
    return h5py.h5o.get_info(item.id).addr


def fill(dataset: h5py.Dataset, array: np.ndarray) -> None:
    """Write an array into a dataset of its shape in blocks."""
    for window in iterate_windows(dataset):
        dataset[window] = array[window]
