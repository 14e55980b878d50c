"""Which array of a file is its scene: a cube, or a matrix of pixels and bands with its rows and columns beside it."""

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from formats.grid import is_cols_name, is_rows_name
from formats.raster import CubeOptions
from system.errors import DataError
from utils import print_line

# Neighbours in one order must be nearer to each other than in the other by this factor for it to be the file's.
CLEAR = 2.0


@dataclass(frozen=True)
class PixelList:
    """How a matrix of pixels and bands is to be read.

    Attributes:
        key: its name.
        height, width: of the image.
        bands_first: whether it is bands x pixels.
        by_columns: whether the pixels follow each other column by column, as MATLAB has them.
        size_names: names of the variables that hold the rows and columns, in small letters.
    """

    key: str
    height: int
    width: int
    bands_first: bool
    by_columns: bool
    size_names: tuple[str, str]

    def cube(self, matrix: np.ndarray) -> np.ndarray:
        """The matrix as rows x columns x bands."""
        pixels = matrix.T if self.bands_first else matrix
        if self.by_columns:
            return pixels.reshape(self.width, self.height, -1).transpose(1, 0, 2)
        return pixels.reshape(self.height, self.width, -1)

    def matrix(self, cube: np.ndarray) -> np.ndarray:
        """rows x columns x bands, of any size, as such a matrix."""
        pixels = cube.transpose(1, 0, 2) if self.by_columns else cube
        pixels = pixels.reshape(-1, cube.shape[2])
        return pixels.T if self.bands_first else pixels


@dataclass(frozen=True)
class ImageSize:
    """Rows and columns of an image whose pixels are in a matrix, and the names of the variables that hold them."""

    height: int
    width: int
    names: tuple[str, str]

    @property
    def pixels(self) -> int:
        return self.height * self.width


def is_size_name(name: str) -> bool:
    """True if a variable of that name, in a struct or group or not, can hold the rows or columns of an image."""
    name = _last_part(name)
    return is_rows_name(name) or is_cols_name(name) or name in ("m", "n")


def choose_scene(
    path: Path, shapes: Mapping[str, tuple[int, ...]], sizes: Mapping[str, float], options: CubeOptions
) -> tuple[str, ImageSize | None]:
    """The array of a file that is its scene, and, for a matrix of pixels and bands, the size of its image.

    A scene is a cube, or a matrix whose pixels are as many as the rows and columns beside it. Of several, it is Y
    (the name that the unmixing benchmarks use) if that has the most bands, the only one with the network's number of
    bands, or the only cube if it has more bands than all matrices of the same pixels, which are abundances.

    Args:
        path: of the file, for messages.
        shapes: {name: shape} of its arrays of numbers.
        sizes: {name: value} of its numbers whose names `is_size_name` knows.
        options: the array that the user names, and the number of bands of the network.

    Raises:
        DataError: if none or several arrays can be the scene, or the size of a named matrix is not known.
    """
    key = options.key
    if key and key not in shapes:
        raise DataError(path, f"has no array {key}, only {', '.join(shapes) or 'none'}", "correct {key}")
    sides = {n: s for n, s in shapes.items() if len(s) == 2 and min(s) > 1}
    matrices = {n: size for n, s in sides.items() if (size := _size_of(s, sizes))}
    if key:
        if key in sides and key not in matrices:
            raise DataError(
                path,
                f"{key} is a matrix of {_words(sides[key])}, and the rows and columns of its image are not known",
                "save it as rows x columns x bands, or put them beside it as nRow and nCol",
            )
        return key, matrices.get(key)
    cubes = [n for n, s in shapes.items() if len(s) >= 3 and sum(side > 1 for side in s) == 3]
    unsized = [n for n, s in sides.items() if n not in matrices and any(set(s) & _areas(shapes[c]) for c in cubes)]
    found = [*cubes, *matrices, *unsized]
    if not cubes and not matrices:
        # A stack of cubes is refused in its own words; a line of pixels has an axis of one entry.
        found = [n for n, s in shapes.items() if sum(side > 1 for side in s) > 3]
        found = found or [n for n, s in shapes.items() if len(s) == 3 and sum(side > 1 for side in s) == 2]
    chosen = found[0] if len(found) == 1 else _clear_choice(shapes, cubes, matrices, unsized, options.n_colors)
    held = ", ".join(f"{n} {_words(shapes[n])}" for n in found or shapes)
    if chosen is None and not found:
        raise DataError(path, f"no cubes in it (it holds {held or 'nothing'})", "name the array by {key}")
    if chosen is None:
        kind = "arrays" if matrices or unsized else "cubes"
        raise DataError(path, f"{len(found)} {kind} can be the scene ({held})", "name the array by {key}")
    if len(found) > 1:
        print_line(f"{path}: {chosen} is read as the scene, of the arrays {held}; --key chooses another")
    return chosen, matrices.get(chosen)


def _clear_choice(
    shapes: Mapping[str, tuple[int, ...]],
    cubes: list[str],
    matrices: Mapping[str, ImageSize],
    unsized: list[str],
    n_colors: int,
) -> str | None:
    """The one of several arrays that is clearly the scene, or None."""
    count = {n: math.prod(shapes[n]) for n in (*cubes, *matrices, *unsized)}
    for name in matrices:
        others = [n for n in count if n != name]
        if _last_part(name) == "y" and all(count[n] < count[name] for n in others):
            return name
    fitting = [n for n in cubes if n_colors in shapes[n]]
    fitting += [n for n, size in matrices.items() if count[n] == size.pixels * n_colors]
    if n_colors and len(fitting) == 1 and not unsized:
        return fitting[0]
    if len(cubes) == 1 and all(count[n] < count[cubes[0]] for n in (*matrices, *unsized)):
        return cubes[0]
    return None


def _size_of(shape: tuple[int, ...], sizes: Mapping[str, float]) -> ImageSize | None:
    """The rows and columns that are as many as the pixels of a matrix of that shape; None if no pair is."""
    by_name = {_last_part(name): int(value) for name, value in sizes.items() if value >= 1 and value == value // 1}
    rows, cols = ({n: v for n, v in by_name.items() if is_name(n)} for is_name in (is_rows_name, is_cols_name))
    pairs = [(row, col) for row in rows for col in cols]
    pairs += [("m", "n")] if by_name.keys() >= {"m", "n"} else []
    found = (ImageSize(by_name[row], by_name[col], (row, col)) for row, col in pairs)
    return next((size for size in found if size.pixels in shape), None)


def _areas(shape: tuple[int, ...]) -> set[int]:
    """The numbers of pixels that a cube of that shape may have."""
    sides = [side for side in shape if side > 1]
    return {a * b for a, b in itertools.combinations(sides, 2)}


def _last_part(name: str) -> str:
    return re.split(r"[./]", name)[-1].lower()


def _words(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def detect_pixel_order(key: str, matrix: np.ndarray, size: ImageSize) -> PixelList:
    """How a matrix of pixels is to be read.

    The order of the pixels is the one in which neighbours are alike; MATLAB's where that does not tell.
    """
    bands_first = matrix.shape[1] == size.pixels
    candidates = [
        PixelList(key, size.height, size.width, bands_first, by_columns, size.names) for by_columns in (True, False)
    ]
    by_columns, by_rows = (_roughness(c.cube(matrix)) for c in candidates)
    return candidates[1] if by_rows * CLEAR < by_columns else candidates[0]


def _roughness(cube: np.ndarray) -> float:
    """Mean absolute difference of neighbours, over some of the bands."""
    shown = cube[:, :, :: max(1, cube.shape[2] // 8)].astype(np.float64)
    differences = [np.abs(np.diff(shown, axis=axis)) for axis in (0, 1)]
    return float(sum(d.mean() for d in differences if d.size))
