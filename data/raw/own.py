"""Any folder of hyperspectral cubes: the format told by the content, the band axis found or named.

Formats: MATLAB .mat (v5 and v7.3), NumPy .npy and .npz, HDF5, ENVI (.hdr with its data file), multi-band
TIFF and GeoTIFF, folders of one PNG a band.
"""

import functools
import glob
from pathlib import Path

import numpy as np

from data.errors import DataError
from data.folders import files_below
from data.rasters import CubeOptions, open_raster, scenes_below
from data.rasters.bands import band_files
from data.rasters.base import DEFAULTS, wavelengths_file
from data.rasters.gaps import filled, mark_in
from data.rasters.values import LARGEST_FLOAT, refuse_marks, scale_of, scaling_under
from data.raw.scene import RawScene
from data.store import Scene
from utils import say

# Of how values are understood; another number makes stores of own cubes anew.
RULES = 3


def find(folder: str | Path, options: CubeOptions = DEFAULTS) -> dict[str, RawScene]:
    """The cubes below a folder as scenes, {name: RawScene}."""
    detail = f"{options!r}, read by rules {RULES}"
    if held := wavelengths_file(options.wavelengths):
        detail += held.read_text(encoding="utf-8", errors="replace")
    return {
        name: RawScene(_with_data_file(path), functools.partial(read_cube, path, options), detail)
        for name, path in find_cubes(folder).items()
    }


def find_cubes(folder: str | Path) -> dict[str, Path]:
    """Files and folders of band pictures below a folder, at most three levels down, that hold cubes: {name: path}.

    What has neither the content nor the extension of a known format is passed over.
    """
    files_below(folder)
    root = Path(folder).expanduser()
    found: dict[str, Path] = {}
    for path in scenes_below(root):
        name = path.name if path.is_dir() else path.stem
        if name in found:
            raise DataError(root, f"scene {name} is there twice, in {found[name]} and {path}", "rename one")
        found[name] = path
    if not found:
        raise DataError(
            root, "no cube below it (.mat, .npy, .npz, HDF5, ENVI .hdr, TIFF or band PNGs)", "check the path"
        )
    return found


def read_cube(path: Path, options: CubeOptions = DEFAULTS) -> Scene:
    """Read one file as a Scene, H x W x C in its own number type.

    Raises:
        DataError: for a file that `open_raster` refuses, no data at all, non-finite, strongly negative or constant
            values, or floating-point values far above 1 of which the scale is not known.
    """
    raster = open_raster(path, options)
    value_scale = options.value_scale or raster.value_scale
    cube = _without_gaps(raster)
    if scaling := scaling_under(raster, options.value_scale):
        cube, value_scale = scaling.physical(cube).astype(np.float32), options.value_scale or 1.0
    # Gains may make reflectance, or radiance, which no network is trained on as it is.
    is_physical = not options.value_scale and value_scale is not None and value_scale <= 1
    if is_physical and (high := cube.max() / value_scale) > LARGEST_FLOAT:
        raise DataError(path, f"physical values up to {high:g}", "say what stands for 1 by {value_scale}")
    return checked_scene(path, Path(path).stem, cube, value_scale, raster.wavelengths)


def _without_gaps(raster):
    """A raster's values; what its mask or its mark says is missing gets those of the nearest pixels.

    NaN stays: where no mark says that it is meant, something has gone wrong.
    """
    cube, there = raster.read(), raster.there()
    mark = None if raster.nodata is None else mark_in(cube.dtype, raster.nodata)
    missing = np.zeros(cube.shape, dtype=bool) if mark is None else cube == mark
    if there is not None:
        missing |= ~there[:, :, None]
    if missing.all():
        raise DataError(raster.path, "all of its pixels are missing, there is no image in it", "take the file away")
    if not missing.any():
        return cube
    if there is not None and not there.all():
        say(f"{raster.path}: {(~there).mean():.1%} of its pixels are masked; the nearest ones take their places")
    if mark is not None and (marked := (cube == mark).mean()):
        say(f"{raster.path}: {marked:.1%} of its values are {mark:g}, its mark for no data; the nearest replace them")
    return filled(cube, missing)


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
    """A cube's files: its band pictures, or its file, the data beside an ENVI header, a mask and metadata for GDAL."""
    if path.is_dir():
        return tuple(file for _, file in sorted(band_files(path).items()))
    beside = [p for p in sorted(path.parent.glob(f"{glob.escape(path.stem)}*")) if p != path and p.is_file()]
    rasters = [path]
    if path.suffix.lower() == ".hdr":
        rasters += [p for p in beside if p.stem == path.stem or p.name == path.stem]
    parts = [raster.with_name(f"{raster.name}{suffix}") for raster in rasters for suffix in (".msk", ".aux.xml")]
    return (*rasters, *(p for p in parts if p in beside and p not in rasters))
