"""Choice of the array of a file that is its scene: a cube, or a matrix of pixels x bands with its size beside it."""

import itertools
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from formats.grid import is_cols_name, is_rows_name
from formats.raster import CubeOptions
from system.errors import DataError
from utils import print_line

# The differences of neighbours in one pixel order must be smaller by this factor to be conclusive.
CLEAR = 2.0


@dataclass(frozen=True)
class ImageSize:
    """Size of an image whose pixels are in a matrix.

    Attributes:
        height, width: of the image.
        names: names of the variables that contain them, in small letters.
    """

    height: int
    width: int
    names: tuple[str, str]

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width


@dataclass(frozen=True)
class PixelList:
    """Order of the pixels in a matrix.

    Attributes:
        size: of the image.
        bands_first: True for bands x pixels.
        by_columns: True if the pixels are stored column by column, as by MATLAB.
    """

    size: ImageSize
    bands_first: bool
    by_columns: bool

    @property
    def size_names(self) -> tuple[str, str]:
        """Names of the variables that contain the rows and columns."""
        return self.size.names

    def to_cube(self, matrix: np.ndarray) -> np.ndarray:
        """Convert the matrix to rows x columns x bands."""
        pixels = matrix.T if self.bands_first else matrix
        if self.by_columns:
            return pixels.reshape(self.size.width, self.size.height, -1).transpose(1, 0, 2)
        return pixels.reshape(self.size.height, self.size.width, -1)

    def to_matrix(self, cube: np.ndarray) -> np.ndarray:
        """Convert rows x columns x bands, of any size, to such a matrix."""
        pixels = cube.transpose(1, 0, 2) if self.by_columns else cube
        pixels = pixels.reshape(-1, cube.shape[2])
        return pixels.T if self.bands_first else pixels


def choose_scene(
    path: Path, arrays: Mapping[str, Any], options: CubeOptions, is_reversed: Collection[str] = ()
) -> tuple[str, ImageSize | None]:
    """Choose the array of a file that is its scene; return its name, and the size of its image for a matrix of pixels.

    A scene is a cube, or a matrix whose pixels are as many as the rows and columns beside it. Of several, it is Y
    (the name in unmixing benchmarks) if that has the most bands, the only one with the network's number of bands, or
    the only cube if it has more bands than all matrices of the same pixels, which are abundances.

    Args:
        path: of the file, for messages.
        arrays: {name: NumPy array, HDF5 dataset, or anything else} of the file; only arrays of numbers are chosen.
        options: the user's key, and the network's number of bands.
        is_reversed: names of the arrays whose axes are reversed.

    Raises:
        DataError: if none or several arrays can be the scene, or the size of a named matrix is not known.
    """
    key = options.key
    numbers = {n: a for n, a in arrays.items() if n == key or getattr(getattr(a, "dtype", None), "kind", "O") in "fiuc"}
    shapes = {n: np.shape(a)[:: -1 if n in is_reversed else 1] for n, a in numbers.items() if np.shape(a) is not None}
    single = [n for n, shape in shapes.items() if math.prod(shape) == 1 and numbers[n].dtype.kind in "fiu"]
    sizes = {_get_last_part(n): float(np.ravel(numbers[n][()])[0]) for n in single if _is_size_name(n)}
    if key and key not in shapes:
        raise DataError(path, f"has no array {key}, only {', '.join(shapes) or 'none'}", "correct {key}")
    sides = {n: s for n, s in shapes.items() if len(s) == 2 and min(s) > 1}
    matrices = {n: size for n, s in sides.items() if (size := _find_size(s, sizes))}
    if key:
        if key in sides and key not in matrices:
            what = f"{key} is a matrix of {_format(sides[key])}, and the rows and columns of its image are not known"
            raise DataError(path, what, "save it as rows x columns x bands, or add them as nRow and nCol")
        return key, matrices.get(key)
    cubes = [n for n, s in shapes.items() if len(s) >= 3 and sum(side > 1 for side in s) == 3]
    unsized = [n for n, s in sides.items() if n not in matrices and any(set(s) & _list_areas(shapes[c]) for c in cubes)]
    found = [*cubes, *matrices, *unsized]
    if not cubes and not matrices:
        # Stacks of cubes, which the reader refuses; else lines of pixels, with an axis of one entry.
        found = [n for n, s in shapes.items() if sum(side > 1 for side in s) > 3]
        found = found or [n for n, s in shapes.items() if len(s) == 3 and sum(side > 1 for side in s) == 2]
    chosen = found[0] if len(found) == 1 else _choose_of_several(shapes, cubes, matrices, unsized, options.n_colors)
    listed = ", ".join(f"{n} {_format(shapes[n])}" for n in found or shapes) or "nothing"
    if chosen is None:
        kind = "arrays" if matrices or unsized else "cubes"
        what = f"{len(found)} {kind} can be the scene ({listed})" if found else f"no cubes in it (it contains {listed})"
        raise DataError(path, what, "name the array by {key}")
    if len(found) > 1:
        print_line(f"{path}: {chosen} is read as the scene, of the arrays {listed}; --key chooses another")
    return chosen, matrices.get(chosen)


def _choose_of_several(
    shapes: Mapping[str, tuple[int, ...]],
    cubes: list[str],
    matrices: Mapping[str, ImageSize],
    unsized: list[str],
    n_colors: int,
) -> str | None:
    """Return the one of several arrays that is clearly the scene, or None."""
    count = {n: math.prod(shapes[n]) for n in (*cubes, *matrices, *unsized)}
    for name in matrices:
        if _get_last_part(name) == "y" and all(count[n] < count[name] for n in count if n != name):
            return name
    fitting = [n for n in cubes if n_colors in shapes[n]]
    fitting += [n for n, size in matrices.items() if count[n] == size.pixels * n_colors]
    if n_colors and len(fitting) == 1 and not unsized:
        return fitting[0]
    if len(cubes) == 1 and all(count[n] < count[cubes[0]] for n in (*matrices, *unsized)):
        return cubes[0]
    return None


def _find_size(shape: tuple[int, ...], sizes: Mapping[str, float]) -> ImageSize | None:
    """Return the rows and columns whose product is the number of pixels of a matrix of that shape, or None."""
    by_name = {name: int(value) for name, value in sizes.items() if value >= 1 and value == value // 1}
    pairs = [*itertools.product(filter(is_rows_name, by_name), filter(is_cols_name, by_name))]
    pairs += [("m", "n")] if by_name.keys() >= {"m", "n"} else []
    found = (ImageSize(by_name[row], by_name[col], (row, col)) for row, col in pairs)
    return next((size for size in found if size.pixels in shape), None)


def _list_areas(shape: tuple[int, ...]) -> set[int]:
    """Return the numbers of pixels that a cube of that shape may have."""
    return {a * b for a, b in itertools.combinations([side for side in shape if side > 1], 2)}


def _is_size_name(name: str) -> bool:
    """Return True if a variable of that name, in a struct or group or not, can be the rows or columns of an image."""
    name = _get_last_part(name)
    return is_rows_name(name) or is_cols_name(name) or name in ("m", "n")


def _get_last_part(name: str) -> str:
    return re.split(r"[./]", name)[-1].lower()


def _format(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def detect_pixel_order(matrix: np.ndarray, size: ImageSize) -> PixelList:
    """Detect the order in which neighbouring pixels are similar; MATLAB's if neither order is clearly better."""
    bands_first = matrix.shape[1] == size.pixels
    candidates = [PixelList(size, bands_first, by_columns) for by_columns in (True, False)]
    by_columns, by_rows = (_measure_roughness(c.to_cube(matrix)) for c in candidates)
    return candidates[1] if by_rows * CLEAR < by_columns else candidates[0]


def _measure_roughness(cube: np.ndarray) -> float:
    """Return the mean absolute difference of neighbours in some of the bands."""
    sampled = cube[:, :, :: max(1, cube.shape[2] // 8)].astype(np.float64)
    differences = [np.abs(np.diff(sampled, axis=axis)) for axis in (0, 1)]
    return float(sum(d.mean() for d in differences if d.size))
