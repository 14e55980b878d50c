"""Missing values: found by their mark, filled so that a network sees nothing of the hole."""

import numpy as np
from scipy.ndimage import distance_transform_edt


def find_missing(cube: np.ndarray, nodata: float | None = None, there: np.ndarray | None = None) -> np.ndarray | None:
    """Where an array has its mark for no data, is no finite number, or is masked; None where it is whole.

    Args:
        cube: of any shape and number type.
        nodata: the mark, or None. One that the array's type cannot hold marks nothing.
        there: of the array's first axes or of all, False where a mask marks missing data; None without a mask.

    Returns:
        Bool of the array's shape, or None.
    """
    missing = ~np.isfinite(cube) if cube.dtype.kind == "f" else None
    if nodata is not None and np.isfinite(nodata):
        mark = convert_nodata(cube.dtype, nodata)
        marked = cube == mark if mark is not None else np.zeros(cube.shape, dtype=bool)
        missing = marked if missing is None else missing | marked
    if there is not None and not there.all():
        masked = np.broadcast_to(~(there if there.ndim == cube.ndim else there[..., None]), cube.shape)
        missing = masked.copy() if missing is None else missing | masked
    return missing if missing is not None and missing.any() else None


def convert_nodata(dtype: np.dtype, nodata: float) -> np.generic | None:
    """The mark for no data as a number type holds it, or None where it has no such number."""
    if np.dtype(dtype).kind == "f":
        return np.dtype(dtype).type(nodata)
    info = np.iinfo(dtype)
    is_held = np.isfinite(nodata) and nodata == int(nodata) and info.min <= nodata <= info.max
    return np.dtype(dtype).type(int(nodata)) if is_held else None


def fill_missing(cube: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """The cube with every missing value filled in.

    A pixel that lacks all its bands gets the spectrum of the nearest pixel that does not; a band that is missing
    alone the value of the nearest band that is there.

    Args:
        cube: H x W x C.
        missing: H x W x C of bool, not all True.
    """
    cube = cube.copy()
    empty = missing.all(axis=2)
    partly = missing.any(axis=2) & ~empty
    if partly.any():
        spectra, gaps = cube[partly], missing[partly]
        nearest = _nearest_there(~gaps)
        cube[partly] = np.take_along_axis(spectra, nearest, axis=1)
    if empty.any():
        rows, cols = distance_transform_edt(empty, return_distances=False, return_indices=True)
        cube[empty] = cube[rows[empty], cols[empty]]
    return cube


def _nearest_there(there: np.ndarray) -> np.ndarray:
    """N x C of bool, at least one True a row -> for each place the index of the nearest True in its row."""
    bands = np.arange(there.shape[1])
    before = np.maximum.accumulate(np.where(there, bands, -len(bands) * 2), axis=1)
    after = np.minimum.accumulate(np.where(there, bands, len(bands) * 3)[:, ::-1], axis=1)[:, ::-1]
    return np.where(bands - before <= after - bands, before, after)
