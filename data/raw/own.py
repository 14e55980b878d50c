"""Any folder of hyperspectral cubes: the format told by the content, the band axis found or named.

Formats: MATLAB .mat (v5 and v7.3), NumPy .npy and .npz, HDF5, ENVI (.hdr with its data file), multi-band
TIFF and GeoTIFF.
"""

import functools
from pathlib import Path

import numpy as np

from data.errors import DataError
from data.folders import files_below
from data.rasters import CubeOptions, open_raster, scene_files
from data.rasters.base import DEFAULTS
from data.rasters.gaps import filled
from data.rasters.values import refuse_marks, scale_of, scaling_under
from data.raw.scene import RawScene
from data.store import Scene
from utils import say


def find(folder: str | Path, options: CubeOptions = DEFAULTS) -> dict[str, RawScene]:
    """The cubes below a folder as scenes, {name: RawScene}."""
    return {
        name: RawScene(_with_data_file(path), functools.partial(read_cube, path, options), repr(options))
        for name, path in find_cubes(folder).items()
    }


def find_cubes(folder: str | Path) -> dict[str, Path]:
    """Files below a folder, at most three levels down, that hold cubes: {name: path}, sorted.

    What has neither the content nor the extension of a known format is passed over.
    """
    files_below(folder)
    root = Path(folder).expanduser()
    found: dict[str, Path] = {}
    for path in scene_files(root):
        if path.stem in found:
            raise DataError(root, f"scene {path.stem} is there twice, in {found[path.stem]} and {path}", "rename one")
        found[path.stem] = path
    if not found:
        raise DataError(root, "no cube below it (.mat, .npy, .npz, HDF5, ENVI .hdr or TIFF)", "check the path")
    return found


def read_cube(path: Path, options: CubeOptions = DEFAULTS) -> Scene:
    """Read one file as a Scene, H x W x C in its own number type.

    Raises:
        DataError: for a file that `open_raster` refuses, non-finite, strongly negative or constant values, or
            floating-point values far above 1 of which the scale is not known.
    """
    raster = open_raster(path, options)
    value_scale = options.value_scale or raster.value_scale
    cube = raster.read()
    there = raster.there()
    if there is not None and not there.all():
        say(f"{path}: {(~there).mean():.1%} of its pixels are masked; the nearest ones take their places")
        cube = filled(cube, np.broadcast_to(~there[:, :, None], cube.shape))
    if scaling := scaling_under(raster, options.value_scale):
        cube, value_scale = scaling.physical(cube).astype(np.float32), options.value_scale or 1.0
    return checked_scene(path, Path(path).stem, cube, value_scale, raster.wavelengths)


def checked_scene(
    path: Path,
    name: str,
    cube: np.ndarray,
    value_scale: float | None = None,
    wavelengths: np.ndarray | None = None,
) -> Scene:
    """A Scene of checked values: finite, not constant, not below zero by more than noise.

    Args:
        value_scale: what stands for 1; None: the integer type's maximum, or 1 for floating point.
    """
    if cube.dtype.kind == "f":
        cube = cube.astype(np.float32, copy=False)
        bad = cube.size - np.count_nonzero(np.isfinite(cube))
        if bad:
            raise DataError(path, f"{bad} values are NaN or infinite", "fill them, or take the file away")
    low, high = cube.min(), cube.max()
    if low == high:
        raise DataError(path, f"every value is {low}, there is no image in it", "take the file away")
    value_scale = scale_of(path, cube.dtype, high, value_scale)
    refuse_marks(path, low, value_scale, "fill them, or take the file away")
    cube = np.ascontiguousarray(np.maximum(cube, cube.dtype.type(0)))
    return Scene(name=name, cube=cube, value_scale=value_scale, wavelengths=wavelengths, source=Path(path).name)


def _with_data_file(path: Path) -> tuple[Path, ...]:
    """A cube's file, and for an ENVI header the data beside it."""
    if path.suffix.lower() != ".hdr":
        return (path,)
    beside = [p for p in sorted(path.parent.glob(f"{path.stem}*")) if p != path and p.is_file()]
    return (path, *(p for p in beside if p.stem == path.stem or p.name == path.stem))
