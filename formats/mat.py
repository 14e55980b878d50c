"""MATLAB's .mat files of any version, as released-style patches and raw scenes have them."""

import functools
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import scipy.io

from formats.axes import mat_axes
from formats.hdf5_structure import check_structure as check_hdf5_structure
from formats.hdf5_structure import open_hdf5
from formats.kinds import unreadable_as
from formats.mat_structure import check_structure
from system.errors import DataError, refuse_small_memory
from system.files import refuse_irregular

# Harvard's values times 20 may be above 1; values above this are in another unit.
LARGEST_VALUE = 100
REMEDIES = "copy or export it again", "give a MATLAB .mat file"


def mat_shapes(path: str | Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes (H x W x bands) of a .mat file's arrays, without reading their values.

    Also finds out whether the file is cut off.

    Raises:
        DataError: if it is truncated, or no .mat file.
    """
    path = Path(path)
    refuse_irregular(path)
    if path.stat().st_size == 0:
        raise DataError(path, "the file is empty (0 bytes)", "copy it again or take it away")
    try:
        if h5py.is_hdf5(path):
            check_hdf5_structure(path)
            with open_hdf5(path) as f:
                held = {k: v for k, v in f.items() if isinstance(v, h5py.Dataset)}
                if elsewhere := [k for k, v in held.items() if v.is_virtual or v.external]:
                    remedy = "give the file that holds the values themselves"
                    raise DataError(path, f"the values of {elsewhere[0]} stand in another file", remedy)
                return {k: tuple(held[k].shape[n] for n in axes) for k, axes in mat_axes(path, f).items()}
        check_whole_mat(path)
        return {name: shape for name, shape, _ in scipy.io.whosmat(path)}
    except DataError:
        raise
    # scipy meets damaged files with errors of nearly any type.
    except Exception as error:
        refuse_small_memory(path, error)
        raise unreadable_as(path, "a .mat file", "mat", REMEDIES, error) from error


def read_mat(path: str | Path, keys: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Read arrays of a .mat file of any version (v5 or v7.3).

    Args:
        path: the file.
        keys: names that must be there.
        optional: names that are read where they are there.

    Returns:
        {name: array}, float32, H x W x C.

    Raises:
        DataError: for a missing key (naming those that are there), a damaged file, values not finite.
    """
    shapes = mat_shapes(path)
    if absent := [k for k in keys if k not in shapes]:
        raise DataError(
            path,
            f"has no {' and no '.join(absent)}, only {', '.join(shapes) or 'nothing'}",
            f"files that hold {' and '.join(keys)} are needed",
        )
    wanted = [*keys, *(k for k in optional if k in shapes)]
    try:
        if h5py.is_hdf5(path):
            with open_hdf5(path) as f:
                axes = mat_axes(Path(path), f)
                arrays = {k: f[k][()].transpose(axes[k]) for k in wanted}
        else:
            loaded = scipy.io.loadmat(path, variable_names=wanted)
            arrays = {k: loaded[k] for k in wanted}
    # scipy meets damaged files with errors of nearly any type.
    except Exception as error:
        refuse_small_memory(path, error)
        raise unreadable_as(path, "a .mat file", "mat", REMEDIES, error) from error
    for key, array in arrays.items():
        if array.ndim != 3 or array.dtype.kind not in "fiu":
            raise DataError(
                path, f"{key} is {array.dtype} of shape {array.shape}", "numbers in H x W x bands are needed"
            )
        highest = array.max(initial=0)
        if highest > LARGEST_VALUE or (array.dtype.kind in "iu" and highest > 1):
            raise DataError(
                path,
                f"{key} is {array.dtype} with values up to {highest:g}, where 0..1 is needed",
                "divide by what stands for 1",
            )
        arrays[key] = np.ascontiguousarray(array, dtype=np.float32)
        if not np.isfinite(arrays[key]).all():
            bad = int((~np.isfinite(arrays[key])).sum())
            raise DataError(path, f"{key} has {bad} values that are NaN or infinite", "repair the file or take it away")
    return arrays


# Patches are read again and again; what is inside of them stays as it is.
@functools.lru_cache(maxsize=2**16)
def _check_structure_once(path: Path, _changed: int, _size: int) -> None:
    check_structure(path)


def check_whole_mat(path: Path) -> None:
    """Walk the elements of a v5 .mat file: each says how long it is.

    Raises:
        DataError: if the last one ends behind the end of the file.
    """
    size = path.stat().st_size
    with open(path, "rb") as f:
        header = f.read(128)
        # v4 files have no such header; scipy tells whether they are sound.
        if len(header) < 128 or header[126:128] not in (b"IM", b"MI"):
            return
        order = "<" if header[126:128] == b"IM" else ">"
        while (position := f.tell()) < size:
            tag = f.read(8)
            length = struct.unpack(order + "II", tag)[1] if len(tag) == 8 else size
            if position + 8 + length > size:
                raise DataError(
                    path, f"truncated ({size} bytes, at least {position + 8 + length} are needed)", "copy it again"
                )
            f.seek(length, os.SEEK_CUR)
    _check_structure_once(path, path.stat().st_mtime_ns, size)
