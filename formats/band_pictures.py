"""A folder of one picture a band, by number (scene_ms_01.png, ...) or wavelength (scene_400.png, 400nm.png, ...)."""

import itertools
import re
from pathlib import Path

import numpy as np
from PIL import Image

from facts import VISIBLE
from formats.folders import refuse_dangling
from formats.images import read_bands
from formats.raster import CubeOptions, Raster
from formats.wavelengths import LONGEST, SHORTEST, parse_wavelengths
from system.errors import DataError

# Only wavelengths have decimals: those of three digits or more, or with their unit.
_BAND_FILE = re.compile(
    r"((?:[^.].*?)??)[_ -]*(?:(?<!\d)(\d+(?:\.\d+)?)[_ ]?(nm)|(?<!\d)(\d{3,4}\.\d+)|(\d+))\.png", re.IGNORECASE
)
# Fewer numbered pictures are not the bands of a scene.
FEWEST_BANDS = 4


def list_band_files(folder: str | Path) -> dict[float, Path]:
    """Return the band pictures of a folder by their number or wavelength; {} for any other folder."""
    return _parse_band_files(folder)[0]


def _parse_band_files(folder: str | Path) -> tuple[dict[float, Path], bool]:
    """Return (`list_band_files`, True if the numbers in their names are wavelengths).

    They are if followed by nm, or if all are at least SHORTEST and no two are consecutive, as of filter wheels.
    """
    refuse_dangling(path for path in Path(folder).iterdir() if _BAND_FILE.fullmatch(path.name))
    stems: dict[tuple[str, bool], dict[float, Path]] = {}
    for path in sorted(Path(folder).iterdir()):
        if path.is_file() and (match := _BAND_FILE.fullmatch(path.name)):
            stem, has_unit = match[1], bool(match[3])
            digits = match[2] or match[4] or match[5]
            number = float(digits) if "." in digits else int(digits)
            stems.setdefault((stem, has_unit), {})[number] = path
    whole = [(files, has_unit) for (_, has_unit), files in stems.items() if len(files) >= FEWEST_BANDS]
    if len(whole) != 1:
        return {}, False
    files, has_unit = whole[0]
    steps = np.diff(sorted(files))
    return files, has_unit or (min(files) >= SHORTEST and max(files) <= LONGEST and bool(steps.min() > 1))


def write(path: Path, cube: np.ndarray, template: Raster, scale: int) -> None:
    """Write a folder of one picture a band under the names of the template's."""
    path.mkdir(exist_ok=True)
    for k, file in enumerate(template.files):
        Image.fromarray(np.ascontiguousarray(cube[:, :, k])).save(path / file.name, format="PNG")


def open_raster(path: Path, options: CubeOptions) -> Raster:
    """Read a folder of band pictures whole, 8 or 16 bits."""
    files, are_wavelengths = _parse_band_files(path)
    if not files:
        remedy = "expected names like balloons_ms_01.png, ..._02.png, or balloons_400.png, ..._410.png in nm"
        raise DataError(path, "not a folder of band pictures", remedy)
    numbers = sorted(files)
    gap = next((before + 1 for before, n in itertools.pairwise(numbers) if n != before + 1), None)
    if gap and not are_wavelengths:
        words = f"band {gap} of {numbers[0]}..{numbers[-1]} is missing"
        raise DataError(path, words, "copy the scene again, or name the pictures by wavelength, such as x_400nm.png")
    cube = read_bands([files[n] for n in numbers])
    wavelengths = np.array(numbers, dtype=np.float64) if are_wavelengths else None
    is_given = wavelengths is None and bool(options.wavelengths)
    if is_given:
        wavelengths = parse_wavelengths(options.wavelengths, len(numbers))
    is_cave = len(numbers) == len(VISIBLE) and "_ms_" in files[numbers[0]].name.lower()
    if wavelengths is None and is_cave:
        wavelengths = VISIBLE
    return Raster(
        kind="png",
        path=path,
        shape=cube.shape,
        dtype=cube.dtype,
        source=lambda rows, cols: cube[rows, cols],
        files=tuple(files[n] for n in numbers),
        wavelengths=wavelengths,
        wavelengths_given=is_given,
        interleave="bsq",
    )
