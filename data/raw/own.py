"""Any folder of hyperspectral cubes: the format told by the content, the band axis found or named.

Formats: MATLAB .mat (v5 and v7.3), NumPy .npy and .npz, HDF5, ENVI (.hdr with its data file), multi-band
TIFF and GeoTIFF, folders of one PNG a band.
"""

import functools
import glob
from pathlib import Path

import numpy as np

from data.raw.raw_scene import RawScene
from data.store import Scene
from formats import CubeOptions, open_raster, scenes_below
from formats.band_pictures import band_files
from formats.calibration import LARGEST_FLOAT, understand
from formats.folders import LEVELS, few_of, files_below, unique_by_name
from formats.nodata import filled, mark_in
from formats.raster import DEFAULTS, Raster, wavelengths_file
from system.errors import DataError
from utils import print_line

# Version of the rules for values; another number makes stores of own cubes anew.
RULES = 3


def find(folder: str | Path, options: CubeOptions = DEFAULTS) -> dict[str, RawScene]:
    """The cubes below a folder as scenes, {name: RawScene}."""
    detail = f"{options!r}, read by rules {RULES}"
    if held := wavelengths_file(options.wavelengths):
        detail += held.read_text(encoding="utf-8", errors="replace")
    return {
        name: RawScene(_list_files(path), functools.partial(read_cube, path, options), detail)
        for name, path in find_cubes(folder, options).items()
    }


def find_cubes(folder: str | Path, options: CubeOptions = DEFAULTS) -> dict[str, Path]:
    """Files and folders of band pictures below a folder that hold cubes: {name: path}, sorted; see `scenes_below`.

    What has neither the content nor the extension of a known format is passed over.
    """
    files_below(folder)
    root = Path(folder).expanduser()
    named = [(path.name if path.is_dir() else path.stem, path) for path in scenes_below(root, options)]
    found = unique_by_name(root, named, str)
    if not found:
        formats = ".mat, .npy, .npz, HDF5, ENVI .hdr, TIFF or band PNGs"
        raise DataError(root, f"no cube below it, up to {LEVELS} folders down ({formats})", "check the path")
    return found


def read_cube(path: Path, options: CubeOptions = DEFAULTS) -> Scene:
    """Read one file as a Scene, H x W x C in its own number type, with the values that `predict` sees.

    Raises:
        DataError: for a file that `open_raster` or `understand` refuses, no data at all, non-finite or constant values.
    """
    raster = open_raster(path, options)
    understood = understand(raster, options.value_scale, float(options.nodata) if options.nodata else None)
    calibration = understood.calibration
    cube = _read_filled(raster, calibration.nodata)
    if calibration.scaling:
        cube = calibration.scaling.physical(cube).astype(np.float32)
    high = cube.max() / calibration.scale
    # Gains may result in radiance, on which no network is trained.
    if understood.told_by == "file" and calibration.scale <= 1 and high > LARGEST_FLOAT:
        raise DataError(path, f"physical values up to {high:g}", "set {value_scale} to the full-scale value")
    scene = make_scene(path, Path(path).stem, cube, calibration.scale, raster.wavelengths)
    scene.is_scale_assumed = understood.is_assumed
    return scene


def _read_filled(raster: Raster, nodata: float | None) -> np.ndarray:
    """A raster's values; masked pixels and nodata values are replaced by the nearest pixels.

    NaN stays: unless it is declared, something has gone wrong.
    """
    cube, there = raster.read(), raster.there()
    mark = None if nodata is None else mark_in(cube.dtype, nodata)
    marked = np.zeros(cube.shape, dtype=bool)
    if mark is not None:
        marked = np.isnan(cube) if np.isnan(mark) else cube == mark
    missing = marked.copy()
    if there is not None:
        missing |= ~there[:, :, None]
    if missing.all():
        raise DataError(raster.path, "all of its pixels are missing, there is no image in it", "take the file away")
    if not missing.any():
        return cube
    if there is not None and not there.all():
        print_line(f"{raster.path}: {(~there).mean():.1%} of its pixels are masked; the nearest ones take their places")
    if marked.any():
        print_line(
            f"{raster.path}: {marked.mean():.1%} of its values are {mark:g}, the nodata value; they are interpolated"
        )
    if empty := [str(k + 1) for k in np.flatnonzero(missing.all(axis=(0, 1)))]:
        print_line(f"{raster.path}: bands without any data become copies of their neighbours: {few_of(empty)}")
    return filled(cube, missing)


def make_scene(
    path: Path,
    name: str,
    cube: np.ndarray,
    value_scale: float,
    wavelengths: np.ndarray | None = None,
) -> Scene:
    """A Scene of checked values: finite and not constant. Negative values stay as they are.

    Args:
        value_scale: full-scale value.
    """
    if cube.dtype.kind == "f":
        cube = cube.astype(np.float32, copy=False)
        bad = cube.size - np.count_nonzero(np.isfinite(cube))
        if bad:
            remedy = "set {nodata} nan if they mark missing data, or take the file away"
            raise DataError(path, f"{bad} values are NaN or infinite", remedy)
    low, high = cube.min(), cube.max()
    if low == high:
        raise DataError(path, f"every value is {low}, there is no image in it", "take the file away")
    cube = np.ascontiguousarray(cube)
    return Scene(name=name, cube=cube, value_scale=value_scale, wavelengths=wavelengths, source=Path(path).name)


def _list_files(path: Path) -> tuple[Path, ...]:
    """A cube's files: its band pictures, or its file, the data beside an ENVI header, a mask and metadata for GDAL."""
    if path.is_dir():
        return tuple(file for _, file in sorted(band_files(path).items()))
    beside = [p for p in sorted(path.parent.glob(f"{glob.escape(path.stem)}*")) if p != path and p.is_file()]
    rasters = [path]
    if path.suffix.lower() == ".hdr":
        rasters += [p for p in beside if p.stem == path.stem or p.name == path.stem]
    parts = [raster.with_name(f"{raster.name}{suffix}") for raster in rasters for suffix in (".msk", ".aux.xml")]
    return (*rasters, *(p for p in parts if p in beside and p not in rasters))
