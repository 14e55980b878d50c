"""Users' folders of hyperspectral cubes: formats are detected from the content, the band axis is detected or set.

Formats: MATLAB .mat (v5 and v7.3), NumPy .npy and .npz, HDF5, ENVI (.hdr with its data file), multi-band
TIFF and GeoTIFF, folders with a PNG for each band.
"""

import functools
import glob
from pathlib import Path

import numpy as np

from data.raw.raw_scene import RawScene
from data.store import Scene
from formats import CubeOptions, find_scenes_below, open_raster
from formats.band_pictures import list_band_files
from formats.calibration import LARGEST_FLOAT, understand
from formats.folders import LEVELS, format_names, index_by_name, list_folder
from formats.nodata import convert_nodata, fill_missing
from formats.raster import DEFAULTS, Raster
from formats.wavelengths import find_wavelengths_file
from system.errors import DataError
from utils import print_line

# Version of the rules for values; a new version makes `prepare` write stores again.
RULES = 3


def find(folder: str | Path, options: CubeOptions = DEFAULTS) -> dict[str, RawScene]:
    """Find the cubes below a folder; return {name: RawScene}."""
    detail = f"{options!r}, read by rules {RULES}"
    if held := find_wavelengths_file(options.wavelengths):
        detail += held.read_text(encoding="utf-8", errors="replace")
    return {
        name: RawScene(_list_files(path), functools.partial(read_cube, path, options), detail)
        for name, path in find_cubes(folder, options).items()
    }


def find_cubes(folder: str | Path, options: CubeOptions = DEFAULTS) -> dict[str, Path]:
    """Find files and folders of band pictures with cubes; return {name: path}, sorted; see `find_scenes_below`.

    Files with neither the content nor the extension of a known format are ignored.

    Raises:
        DataError: if there are no cubes.
    """
    list_folder(folder)
    root = Path(folder).expanduser()
    named = [(path.name if path.is_dir() else path.stem, path) for path in find_scenes_below(root, options)]
    found = index_by_name(root, named, str)
    if not found:
        formats = ".mat, .npy, .npz, HDF5, ENVI .hdr, TIFF or band PNGs"
        raise DataError(root, f"no cubes in it, up to {LEVELS} folders down ({formats})", "check the path")
    return found


def read_cube(path: Path, options: CubeOptions = DEFAULTS) -> Scene:
    """Read one file as a Scene, H x W x C in its number type, with the same values as in `predict`.

    Raises:
        DataError: for a file that `open_raster` or `understand` refuses, and values that are all missing, not finite or
            constant.
    """
    raster = open_raster(path, options)
    understood = understand(raster, options.value_scale)
    calibration = understood.calibration
    cube = _read_filled(raster, calibration.nodata)
    if calibration.scaling:
        cube = calibration.scaling.apply(cube).astype(np.float32)
    high = cube.max() / calibration.scale
    # Gains may convert to radiance, for which no network is trained.
    if understood.source == "file" and calibration.scale <= 1 and high > LARGEST_FLOAT:
        raise DataError(path, f"physical values up to {high:g}", "set {value_scale} to the full-scale value")
    scene = make_scene(path, Path(path).stem, cube, calibration.scale, raster.wavelengths)
    scene.is_scale_assumed = understood.is_assumed
    return scene


def _read_filled(raster: Raster, nodata: float | None) -> np.ndarray:
    """Read a raster; masked pixels and nodata values are replaced by the nearest valid pixels.

    NaN is not replaced unless it is the nodata value, since it may result from an error.
    """
    cube, valid = raster.read(), raster.read_mask()
    value = None if nodata is None else convert_nodata(cube.dtype, nodata)
    is_nodata = np.zeros(cube.shape, dtype=bool)
    if value is not None:
        is_nodata = np.isnan(cube) if np.isnan(value) else cube == value
    missing = is_nodata.copy()
    if valid is not None:
        missing |= ~valid[:, :, None]
    if missing.all():
        raise DataError(raster.path, "all pixels are missing data", "remove the file")
    if not missing.any():
        return cube
    if valid is not None and not valid.all():
        print_line(
            f"{raster.path}: {(~valid).mean():.1%} of the pixels are masked; replaced by the nearest valid pixels"
        )
    if is_nodata.any():
        print_line(
            f"{raster.path}: {is_nodata.mean():.1%} of the values are the nodata value {value:g}; replaced by the "
            "nearest valid pixels or bands"
        )
    if empty := [str(k + 1) for k in np.flatnonzero(missing.all(axis=(0, 1)))]:
        print_line(f"{raster.path}: bands without data are replaced by neighbouring bands: {format_names(empty)}")
    return fill_missing(cube, missing)


def make_scene(
    path: Path,
    name: str,
    cube: np.ndarray,
    value_scale: float,
    wavelengths: np.ndarray | None = None,
) -> Scene:
    """Return a Scene after checking that its values are finite and not constant; negative values are allowed.

    Args:
        path: of the file, for messages and as the source.
        name: of the scene.
        cube: H x W x C.
        value_scale: full-scale value.
        wavelengths: band centres in nm, or None.

    Raises:
        DataError: for other values.
    """
    if cube.dtype.kind == "f":
        cube = cube.astype(np.float32, copy=False)
        bad = cube.size - np.count_nonzero(np.isfinite(cube))
        if bad:
            remedy = "set {nodata} nan if they are missing data, or remove the file"
            raise DataError(path, f"{bad} values are NaN or infinite", remedy)
    low, high = cube.min(), cube.max()
    if low == high:
        raise DataError(path, f"all values are {low}", "remove the file")
    cube = np.ascontiguousarray(cube)
    return Scene(name=name, cube=cube, value_scale=value_scale, wavelengths=wavelengths, source=Path(path).name)


def _list_files(path: Path) -> tuple[Path, ...]:
    """Return a cube's files: band pictures, or the file, the data of an ENVI header, GDAL's mask and metadata."""
    if path.is_dir():
        return tuple(file for _, file in sorted(list_band_files(path).items()))
    beside = [p for p in sorted(path.parent.glob(f"{glob.escape(path.stem)}*")) if p != path and p.is_file()]
    rasters = [path]
    if path.suffix.lower() == ".hdr":
        rasters += [p for p in beside if p.stem == path.stem or p.name == path.stem]
    parts = [raster.with_name(f"{raster.name}{suffix}") for raster in rasters for suffix in (".msk", ".aux.xml")]
    return (*rasters, *(p for p in parts if p in beside and p not in rasters))
