"""NumPy's .npy and .npz, and MATLAB's .mat up to v7."""

import copy
import dataclasses
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse

from formats import raster
from formats.grid import Grid
from formats.mat import check_mats
from formats.pixel_list import PixelList, choose_scene, detect_pixel_order
from formats.raster import CubeOptions, Georeference, Raster, find_named, find_number
from formats.raw import RawWindows
from formats.wavelengths import find_wavelengths
from system.errors import DataError

# A smaller scale_factor beside an array is rather an upsampling factor than a full-scale value.
LEAST_INVERSE = 100.0
# Bytes of the largest variable of a v5 file.
LARGEST_MAT5 = 2**32 - 2**16


@dataclass(kw_only=True)
class ArrayRaster(Raster):
    """A cube, or a matrix of pixels, in a .npy, .npz or .mat (v4 to v7) file.

    Attributes:
        key: name of the array; fields of structs as struct.field.
        others: all arrays of the file by name.
        pixels: order of the pixels in a matrix; None for a cube.
        is_compressed: True if a .npz has compressed arrays.
    """

    key: str = ""
    others: dict[str, Any] = dataclasses.field(default_factory=dict)
    pixels: PixelList | None = None
    is_compressed: bool = False


def open_npy(path: Path, options: CubeOptions) -> ArrayRaster:
    """Open a .npy, which stays on disk."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    size, needed = path.stat().st_size, array.offset + array.nbytes
    if size != needed:
        raise DataError(path, f"{size} bytes, its header specifies {needed}", "copy or export it again")
    scene = ArrayRaster(kind="npy", **_describe(path, array, options, {}))
    if array.flags.c_contiguous:
        scene.source = RawWindows(path, scene.shape, array.dtype, scene.interleave, array.offset).read
    return scene


def open_npz(path: Path, options: CubeOptions) -> ArrayRaster:
    """Read a .npz with all its arrays."""
    with zipfile.ZipFile(path) as f:
        # NumPy does not read to the end of an array, where zipfile verifies the checksum.
        if damaged := f.testzip():
            raise DataError(path, f"damaged (wrong checksum of its array {damaged})", "copy or export it again")
        is_compressed = any(entry.compress_type for entry in f.infolist())
    with np.load(path, allow_pickle=False) as f:
        arrays = dict(f)
    return ArrayRaster(kind="npz", **_choose(path, arrays, options), others=arrays, is_compressed=is_compressed)


def open_mat5(path: Path, options: CubeOptions) -> ArrayRaster:
    """Read a .mat (v4 to v7) with all its variables."""
    check_mats([path])
    variables = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
    for name, shape, matlab_class in scipy.io.whosmat(path):
        # MATLAB stores whole numbers of class double as small integers, which overflow when they are multiplied.
        if matlab_class == "double" and min(shape, default=0) == 1 and variables[name].dtype.kind in "iu":
            variables[name] = variables[name].astype(np.float64)
    fields = dict(_list_fields(variables))
    # Users write hsi.Data and hsi/Data.
    key = options.key.replace("/", ".")
    if key in variables.keys() - fields.keys():
        inside = [name for name in fields if name.startswith(f"{key}.")]
        raise DataError(path, f"{key} is a struct", f"name one of its fields by {{key}}: {', '.join(inside) or 'none'}")
    if key and scipy.sparse.issparse(fields.get(key)):
        raise DataError(path, f"{key} is a sparse matrix", "save it full, as rows x columns x bands")
    described = _choose(path, fields, dataclasses.replace(options, key=key))
    return ArrayRaster(kind="mat5", **described, others=variables)


def _is_struct(value: Any) -> bool:
    return bool(getattr(value, "dtype", None) is not None and value.dtype.names and value.size == 1)


def _list_fields(variables: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of all variables, those in structs as struct.field."""
    for name, value in variables.items():
        if _is_struct(value):
            record = value.reshape(-1)[0]
            yield from _list_fields({field: record[field] for field in value.dtype.names}, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _choose(path: Path, fields: dict[str, Any], options: CubeOptions) -> dict[str, Any]:
    """Choose the array of a file that is its scene; return the arguments of its ArrayRaster."""
    key, size = choose_scene(path, fields, options)
    array = fields[key]
    others = {name.rsplit(".", 1)[-1]: value for name, value in fields.items() if name != key}
    if size is None:
        return {**_describe(path, array, options, others), "key": key}
    pixels = detect_pixel_order(array, size)
    return {**_describe(path, pixels.to_cube(array), options, others, 2), "key": key, "pixels": pixels}


def _describe(
    path: Path, array: np.ndarray, options: CubeOptions, others: Mapping[str, Any], band_axis: int | None = None
) -> dict[str, Any]:
    """Return the arguments of a Raster of an array with the metadata in the arrays beside it."""
    raster.check_numbers(path, array.dtype)
    shape = array.shape
    array = np.squeeze(array) if array.ndim > 3 else array
    if array.ndim > 3:
        each = " x ".join(map(str, array.shape[1:]))
        remedy = f"save each of them ({array.shape[0]} of {each}?) in a separate file"
        raise DataError(path, f"a stack of cubes, of shape {shape}, where one is needed", remedy)
    known = find_wavelengths(others, array.shape)
    axes, wavelengths = raster.find_axes(path, array.shape, options, known, band_axis)
    size = tuple(array.shape[k] for k in axes)
    value_scale, scaling = raster.find_scaling(path, others, size[2], LEAST_INVERSE)
    return {
        **{"path": path, "shape": size, "dtype": array.dtype, "files": (path,), "axes": axes},
        **{"source": raster.make_window_reader(array, axes), "interleave": raster.get_interleave(axes)},
        **{"wavelengths": wavelengths, "wavelengths_given": known is None and wavelengths is not None},
        **{"band_names": raster.find_band_names(others, size[2]), "nodata": find_number(others, raster.NODATA_NAMES)},
        **{"value_scale": value_scale, "scaling": scaling, "locate": lambda: _find_georeference(others)},
    }


def _find_georeference(others: Mapping[str, Any]) -> Georeference | None:
    transform = find_named(others, (raster.TRANSFORM,))
    if transform is None or np.size(transform) not in (6, 9):
        return None
    crs = find_named(others, raster.CRS_NAMES, "US")
    return Georeference("" if crs is None else raster.decode_text(crs), tuple(map(float, np.ravel(transform)[:6])))


def write_npy(path: Path, cube: np.ndarray, template: Raster, scale: int) -> None:
    """Write a rows x columns x bands array as a .npy, in blocks and with the axes of the template."""
    array = cube.transpose(np.argsort(template.axes))
    header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
    step = max(1, raster.BLOCK_BYTES // (array[0].size * array.dtype.itemsize))
    with open(path, "wb") as f:
        np.lib.format.write_array_header_1_0(f, header)
        for first in range(0, len(array), step):
            f.write(np.ascontiguousarray(array[first : first + step]).tobytes())


def write_npz(path: Path, cube: np.ndarray, template: Raster, scale: int) -> None:
    """Write a .npz with the metadata of the template; of a .npz, with its other arrays."""
    key, array, others = _arrange(path, cube, template, scale, "npz")
    is_compressed = isinstance(template, ArrayRaster) and template.is_compressed
    # np.savez takes no array of the name "file".
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if is_compressed else zipfile.ZIP_STORED) as archive:
        for name, values in {key: array, **others}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as f:
                np.lib.format.write_array(f, np.asanyarray(values), allow_pickle=False)


def write_mat5(path: Path, cube: np.ndarray, template: Raster, scale: int) -> None:
    """Write a v5 .mat with the metadata of the template; of a .mat, with its other variables."""
    key, array, variables = _arrange(path, cube, template, scale, "mat5")
    *structs, name = key.split(".")
    fields: Any = variables
    for struct in structs:
        fields = fields[struct].reshape(-1)[0]
    fields[name] = array
    with open(path, "wb") as f:
        scipy.io.savemat(f, variables, do_compression=True, long_field_names=True)


def _arrange(
    path: Path, cube: np.ndarray, template: Raster, scale: int, kind: str
) -> tuple[str, np.ndarray, dict[str, Any]]:
    """Return (name of the cube, array with the axes of the template, {name: other array})."""
    if not isinstance(template, ArrayRaster) or template.kind != kind:
        return "image", cube.transpose(np.argsort(template.axes)), _list_metadata(template, scale, {}, False)
    pixels = template.pixels
    array = pixels.to_matrix(cube) if pixels else cube.transpose(np.argsort(template.axes))
    others = _upsample_others(path, template, scale)
    # _list_metadata removes the nodata value and scaling that the user replaced.
    metadata = _list_metadata(template, scale, others, True)
    return template.key, array, others | metadata


def _list_metadata(template: Raster, scale: int, others: dict[str, Any], is_copy: bool) -> dict[str, Any]:
    """Return the metadata of a scene under the names by which `_describe` finds them.

    A copy of the template's file contains them in `others`, except for those that the user added.
    """
    found: dict[str, Any] = {}
    if template.wavelengths is not None and (not is_copy or template.wavelengths_given):
        found["wavelength"] = np.asarray(template.wavelengths)
    if template.nodata is not None and find_number(others, raster.NODATA_NAMES) != template.nodata:
        raster.remove_named(others, raster.NODATA_NAMES)
        found["nodata"] = float(template.nodata)
    in_others = raster.find_scaling(template.path, others, template.shape[2], LEAST_INVERSE)
    if (template.value_scale, template.scaling) != in_others:
        raster.remove_named(others, raster.NAMES_OF_SCALING)
        found |= raster.format_scaling(template)
    if not is_copy and template.band_names:
        found["band_names"] = np.array([str(name) for name in template.band_names])
    if not is_copy and (georeference := template.read_georeference()):
        found |= {"crs_wkt": georeference.crs, "transform": np.array(georeference.upsample(scale).transform)}
    return found


def _upsample_others(path: Path, template: ArrayRaster, scale: int) -> dict[str, Any]:
    """Return the arrays beside the cube; those of the pixel grid are recomputed or left out."""
    height, width, bands = template.shape
    grid = Grid(height, width, bands, scale, template.pixels.size_names if template.pixels else ())
    left_out: list[str] = []

    def update(fields: Any, names: tuple[str, ...], above: str = "") -> None:
        for name in names:
            key, value = f"{above}{name}", fields[name]
            if _is_struct(value):
                update(value.reshape(-1)[0], value.dtype.names, f"{key}.")
            elif key != template.key and (outcome := grid.upsample_array(name, value))[0]:
                fields[name] = np.zeros((0, 0)) if outcome[1] is None else outcome[1]
                left_out.extend([key] if outcome[1] is None else [])

    held = {n: copy.deepcopy(v) if _is_struct(v) else v for n, v in template.others.items() if n != template.key}
    update(held, tuple(held))
    raster.report_left_out(path, left_out)
    return {name: value for name, value in held.items() if name not in left_out}
