"""A folder of one picture a band, as CAVE has it: scene_ms_01.png, scene_ms_02.png, ..."""

import itertools
import re
from pathlib import Path

import numpy as np
from PIL import Image

from data.errors import DataError
from data.facts import VISIBLE
from data.folders import refuse_dangling
from data.images import read_bands
from data.rasters.base import CubeOptions, Raster, given_wavelengths

_BAND_FILE = re.compile(r"([^.].*?)_?(\d+)\.png", re.IGNORECASE)
# Fewer numbered pictures are a series of photographs.
FEWEST_BANDS = 4


def band_files(folder: str | Path) -> dict[int, Path]:
    """The band pictures of a folder by their number: {number: path}; empty where it is no such folder."""
    refuse_dangling(path for path in Path(folder).iterdir() if _BAND_FILE.fullmatch(path.name))
    stems: dict[str, dict[int, Path]] = {}
    for path in sorted(Path(folder).iterdir()):
        if path.is_file() and (match := _BAND_FILE.fullmatch(path.name)):
            stems.setdefault(match[1], {})[int(match[2])] = path
    whole = [files for files in stems.values() if len(files) >= FEWEST_BANDS]
    return whole[0] if len(whole) == 1 else {}


def open_raster(path: Path, options: CubeOptions) -> Raster:
    """Read a folder of band pictures whole, 8 or 16 bits."""
    path = Path(path)
    files = band_files(path)
    if not files:
        raise DataError(path, "no folder of band pictures", "expected names like balloons_ms_01.png, ..._02.png")
    numbers = sorted(files)
    if gap := next((before + 1 for before, n in itertools.pairwise(numbers) if n != before + 1), None):
        raise DataError(path, f"band {gap} of {numbers[0]}..{numbers[-1]} is missing", "copy the scene again")
    cube = read_bands([files[n] for n in numbers])
    wavelengths = given_wavelengths(options.wavelengths, len(numbers)) if options.wavelengths else None
    is_cave = len(numbers) == len(VISIBLE) and "_ms_" in files[numbers[0]].name.lower()
    if wavelengths is None and is_cave:
        wavelengths = VISIBLE
    return Raster(
        path=path,
        kind="png",
        shape=cube.shape,
        dtype=cube.dtype,
        source=lambda rows, cols: cube[rows, cols],
        files=tuple(files[n] for n in numbers),
        wavelengths=wavelengths,
        interleave="bsq",
        details={"names": [files[n].name for n in numbers]},
    )


def write(folder: Path, cube: np.ndarray, like: Raster, scale: int) -> None:
    """Write a rows x columns x bands array as grey pictures, under the names that it was made from."""
    folder.mkdir(exist_ok=True)
    for k, name in enumerate(like.details["names"]):
        Image.fromarray(np.ascontiguousarray(cube[:, :, k])).save(folder / name, format="PNG")
