"""A scene as a matrix of pixels and bands, whose rows and columns stand beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import DataError

# Names under which files give the rows and columns of the image, in pairs.
SIZE_NAMES = (
    ("nrow", "ncol"), ("nrows", "ncols"), ("rows", "cols"), ("row", "col"), ("height", "width"), ("h", "w"),
    ("lines", "samples"), ("m", "n"),
)  # fmt: skip
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
        size_names: names of the variables that hold the rows and columns.
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

    def sizes(self, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        """The variables that hold the rows and columns of an image of that shape."""
        return {name: np.array([[n]]) for name, n in zip(self.size_names, shape, strict=False)}


def pixel_list_of(path: Path, fields: Mapping[str, Any], key: str) -> PixelList | None:
    """How a file's matrix of pixels is to be read; None where it has a cube, or none is asked for.

    Args:
        path: of the file, for messages.
        fields: its variables by name.
        key: the one that is asked for; "" for the only one that can be meant.

    Raises:
        DataError: for a matrix whose rows and columns nobody says, if it is asked for by name.
    """
    matrices = {n: v for n, v in fields.items() if np.ndim(v) == 2 and min(np.shape(v)) > 1 and v.dtype.kind in "fiu"}
    if key and key not in matrices:
        return None
    if not key and any(np.ndim(v) == 3 and min(np.shape(v)) > 1 for v in fields.values()):
        return None
    names = {name.lower(): name for name in fields}
    for pair in SIZE_NAMES:
        if not all(name in names and np.size(fields[names[name]]) == 1 for name in pair):
            continue
        own = names[pair[0]], names[pair[1]]
        height, width = (int(np.ravel(fields[name])[0]) for name in own)
        fitting = [n for n in ([key] if key else matrices) if height * width in np.shape(matrices[n])]
        # Beside Y, the unmixing benchmarks hold the abundances, which are as many.
        chosen = "Y" if "Y" in fitting else fitting[0] if len(fitting) == 1 else ""
        if chosen:
            return _read_as(chosen, matrices[chosen], (height, width), own)
    if key:
        shape = " x ".join(map(str, matrices[key].shape))
        raise DataError(
            path,
            f"{key} is a matrix of {shape}, and the rows and columns of its image are not said",
            "save it as rows x columns x bands, or put them beside it as nRow and nCol",
        )
    return None


def _read_as(key, matrix, size, own):
    """The order of the pixels is the one in which neighbours are alike; MATLAB's where that does not tell."""
    height, width = size
    bands_first = matrix.shape[1] == height * width
    candidates = [PixelList(key, height, width, bands_first, by_columns, own) for by_columns in (True, False)]
    by_columns, by_rows = (_roughness(c.cube(matrix)) for c in candidates)
    return candidates[1] if by_rows * CLEAR < by_columns else candidates[0]


def _roughness(cube):
    """Mean absolute difference of neighbours, over some of the bands."""
    shown = cube[:, :, :: max(1, cube.shape[2] // 8)].astype(np.float64)
    return float(np.abs(np.diff(shown, axis=0)).mean() + np.abs(np.diff(shown, axis=1)).mean())
