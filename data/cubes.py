"""Any folder of hyperspectral cubes: the format told by the content, the band axis found or named.

Formats: MATLAB .mat (v5 and v7.3), NumPy .npy and .npz, HDF5, ENVI (.hdr with its data file), multi-band
TIFF and GeoTIFF.
"""

from pathlib import Path

import numpy as np

from data.rasters import CubeOptions, open_raster, scene_files
from data.rasters.values import refuse_marks, scale_of
from data.readers import files_below
from data.store import Scene
from utils import UserError


def find_cubes(folder, flag_name="raw_dir"):
    """Files below a folder, at most three levels down, that hold cubes: {name: path}, sorted.

    What has neither the content nor the extension of a known format is passed over.
    """
    files_below(folder, flag_name)
    root = Path(folder).expanduser()
    found = {}
    for path in scene_files(root):
        if path.stem in found:
            raise UserError(f"scene {path.stem} is there twice, in {found[path.stem]} and {path}; rename one")
        found[path.stem] = path
    if not found:
        raise UserError(
            f"--{flag_name} {root}: no cube below it (.mat, .npy, .npz, HDF5, ENVI .hdr or TIFF); check the path"
        )
    return found


def read_cube(path, options=CubeOptions()):
    """Read one file as a Scene, H x W x C in its own number type.

    Raises:
        UserError: for a file that `open_raster` refuses, non-finite, strongly negative or constant values, or
            floating-point values far above 1 of which the scale is not known.
    """
    raster = open_raster(path, options)
    value_scale = options.value_scale or raster.value_scale
    return checked_scene(path, Path(path).stem, raster.read(), value_scale, raster.wavelengths)


def checked_scene(path, name, cube, value_scale=None, wavelengths=None):
    """A Scene of checked values: finite, not constant, not below zero by more than noise.

    Args:
        value_scale: what stands for 1; None: the integer type's maximum, or 1 for floating point.
    """
    if cube.dtype.kind == "f":
        cube = cube.astype(np.float32, copy=False)
        bad = cube.size - np.count_nonzero(np.isfinite(cube))
        if bad:
            raise UserError(f"{path}: {bad} values are NaN or infinite; fill them, or take the file away")
    low, high = cube.min(), cube.max()
    if low == high:
        raise UserError(f"{path}: every value is {low}, there is no image in it; take the file away")
    value_scale = scale_of(path, cube.dtype, high, value_scale)
    refuse_marks(path, low, value_scale, "fill them, or take the file away")
    cube = np.ascontiguousarray(np.maximum(cube, cube.dtype.type(0)))
    return Scene(name=name, cube=cube, value_scale=value_scale, wavelengths=wavelengths, source=Path(path).name)
