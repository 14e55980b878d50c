"""Data sets of one .mat file for each scene."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data.raw.raw_scene import RawScene
from data.store import Scene
from formats.folders import LEVELS, files_below, folders_below, unique_by_name
from formats.mat import read_mat
from system.errors import DataError


def find_mat_scenes(folder: str | Path, dataset_name: str, read: Callable[[Path], Scene]) -> dict[str, RawScene]:
    """Find one scene in each .mat file of a folder and its subfolders; return {name: RawScene}.

    Raises:
        DataError: if there are no .mat files.
    """
    files_below(folder)
    root = Path(folder).expanduser()
    mats = sorted(
        place / name for place, names in folders_below(root) for name in names if Path(name).suffix.lower() == ".mat"
    )
    found = unique_by_name(root, [(path.stem, path) for path in mats if path.is_file()], str)
    if not found:
        raise DataError(root, f"no .mat files of {dataset_name} in it, up to {LEVELS} folders down", "check the path")
    return {name: RawScene((path,), functools.partial(read, path)) for name, path in found.items()}


def read_mat_cube(path: Path, key: str, bands: int) -> np.ndarray:
    """Read an H x W x bands array of a .mat file by its key.

    Raises:
        DataError: for another number of bands.
    """
    cube = read_mat(path, (key,))[key]
    if cube.shape[2] != bands:
        raise DataError(
            path,
            f"{key} is {' x '.join(map(str, cube.shape))}, but its last axis must have {bands} bands",
            "check whether it is transposed",
        )
    return cube
