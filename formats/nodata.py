"""Missing values: found by the nodata value and the mask, and filled in for the network."""

import numpy as np
from scipy.ndimage import distance_transform_edt


def find_missing(cube: np.ndarray, nodata: float | None = None, valid: np.ndarray | None = None) -> np.ndarray | None:
    """Find values that equal the nodata value, are not finite, or are masked.

    Args:
        cube: array of any shape and number type.
        nodata: nodata value, or None; a value that the array's type cannot contain is ignored.
        valid: valid mask of the array's first axes or of all; None without a mask.

    Returns:
        Bool of the array's shape; None if no value is missing.
    """
    missing = ~np.isfinite(cube) if cube.dtype.kind == "f" else np.zeros(cube.shape, dtype=bool)
    if nodata is not None and np.isfinite(nodata) and (value := convert_nodata(cube.dtype, nodata)) is not None:
        missing |= cube == value
    if valid is not None:
        missing |= ~(valid if valid.ndim == cube.ndim else valid[..., None])
    return missing if missing.any() else None


def convert_nodata(dtype: np.dtype, nodata: float) -> np.generic | None:
    """Convert a nodata value to a number type; return None if the type cannot contain it."""
    if np.dtype(dtype).kind == "f":
        return np.dtype(dtype).type(nodata)
    info = np.iinfo(dtype)
    is_contained = np.isfinite(nodata) and nodata == int(nodata) and info.min <= nodata <= info.max
    return np.dtype(dtype).type(int(nodata)) if is_contained else None


def fill_missing(cube: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Fill in missing values: pixels by the spectrum of the nearest valid pixel, bands by the nearest valid band.

    Args:
        cube: H x W x C.
        missing: H x W x C of bool, not all True.
    """
    cube = cube.copy()
    empty = missing.all(axis=2)
    partly = missing.any(axis=2) & ~empty
    if partly.any():
        cube[partly] = np.take_along_axis(cube[partly], _find_nearest(~missing[partly]), axis=1)
    if empty.any():
        rows, cols = distance_transform_edt(empty, return_distances=False, return_indices=True)
        cube[empty] = cube[rows[empty], cols[empty]]
    return cube


def _find_nearest(valid: np.ndarray) -> np.ndarray:
    """Return the index of the nearest True in its row for each element of N x C, at least one True a row."""
    bands = np.arange(valid.shape[1])
    before = np.maximum.accumulate(np.where(valid, bands, -len(bands) * 2), axis=1)
    after = np.minimum.accumulate(np.where(valid, bands, len(bands) * 3)[:, ::-1], axis=1)[:, ::-1]
    return np.where(bands - before <= after - bands, before, after)
