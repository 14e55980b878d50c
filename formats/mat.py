"""MATLAB's .mat files of any version: released-style patches and raw scenes."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import scipy.io

from formats.axes import find_mat_axes
from formats.guard import call_once, open_hdf5, read_hdf5
from formats.kinds import make_kind_error
from system.errors import DataError, is_out_of_memory, refuse_small_memory
from system.files import refuse_irregular

# Harvard's values times 20 may exceed 1; values above this are in another unit.
LARGEST_VALUE = 100
# Classes of whosmat.
NUMBERS = {"double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
REMEDIES = "copy or export it again", "give a MATLAB .mat file"


def read_mat_shapes(path: str | Path) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes (H x W x bands) of a .mat file's arrays; see `check_mats`."""
    return check_mats([Path(path)])[0]


def check_mats(paths: Sequence[Path]) -> list[dict[str, tuple[int, ...]]]:
    """Read .mat files of any version once in a child process: scipy and HDF5 may crash on damaged files.

    Returns:
        The names and shapes (H x W x bands) of each file's arrays.

    Raises:
        DataError: if a file is truncated, damaged or not a .mat file.
    """
    for path in paths:
        refuse_irregular(path)
        if path.stat().st_size == 0:
            raise DataError(path, "the file is empty (0 bytes)", "copy it again or take it away")
    return call_once(paths, _read_shapes)


def _read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        if not h5py.is_hdf5(path):
            about = scipy.io.whosmat(path)
            try:
                scipy.io.loadmat(path)
            # scipy cannot read some of MATLAB's objects, which may be beside the arrays.
            except (TypeError, ValueError, NotImplementedError):
                scipy.io.loadmat(path, variable_names=[name for name, _, kind in about if kind in NUMBERS])
            return {name: shape for name, shape, _ in about}
        read_hdf5(path)
        with open_hdf5(path) as f:
            datasets = {k: v for k, v in f.items() if isinstance(v, h5py.Dataset)}
            if external := [k for k, v in datasets.items() if v.is_virtual or v.external]:
                remedy = "give the file that contains the values themselves"
                raise DataError(path, f"the values of {external[0]} are in another file", remedy)
            return {k: tuple(datasets[k].shape[n] for n in axes) for k, axes in find_mat_axes(path, f).items()}
    # scipy raises errors of nearly any type for damaged files.
    except Exception as error:
        if isinstance(error, DataError) or is_out_of_memory(error):
            raise
        raise make_kind_error(path, "a .mat file", "mat", REMEDIES, error) from error


def read_mat(path: str | Path, keys: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Read arrays of a .mat file of any version (v5 or v7.3).

    Args:
        path: the file.
        keys: names of required arrays.
        optional: names of arrays that are read if they exist.

    Returns:
        {name: array}, float32, H x W x C.

    Raises:
        DataError: for a missing key, a damaged file, and values that are not finite or above the unit range.
    """
    shapes = read_mat_shapes(path)
    if absent := [k for k in keys if k not in shapes]:
        what = f"has no {' and no '.join(absent)}, only {', '.join(shapes) or 'nothing'}"
        raise DataError(path, what, f"files that contain {' and '.join(keys)} are needed")
    wanted = [*keys, *(k for k in optional if k in shapes)]
    try:
        if h5py.is_hdf5(path):
            with open_hdf5(path) as f:
                axes = find_mat_axes(Path(path), f)
                arrays = {k: f[k][()].transpose(axes[k]) for k in wanted}
        else:
            loaded = scipy.io.loadmat(path, variable_names=wanted)
            arrays = {k: loaded[k] for k in wanted}
    # scipy raises errors of nearly any type for damaged files.
    except Exception as error:
        refuse_small_memory(path, error)
        raise make_kind_error(path, "a .mat file", "mat", REMEDIES, error) from error
    for key, array in arrays.items():
        if array.ndim != 3 or array.dtype.kind not in "fiu":
            what = f"{key} is {array.dtype} of shape {array.shape}"
            raise DataError(path, what, "numbers in H x W x bands are needed")
        highest = array.max(initial=0)
        if highest > LARGEST_VALUE or (array.dtype.kind in "iu" and highest > 1):
            what = f"{key} is {array.dtype} with values up to {highest:g}, where 0..1 is needed"
            raise DataError(path, what, "divide by the full-scale value")
        arrays[key] = np.ascontiguousarray(array, dtype=np.float32)
        if bad := int((~np.isfinite(arrays[key])).sum()):
            raise DataError(path, f"{key} has {bad} values that are NaN or infinite", "repair the file or take it away")
    return arrays
