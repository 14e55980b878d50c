"""Downloads of one .mat file a scene."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data.errors import DataError
from data.folders import files_below
from data.mat import read_mat
from data.raw.scene import RawScene
from data.store import Scene


def find_mat_scenes(folder: str | Path, dataset_name: str, read: Callable[[Path], Scene]) -> dict[str, RawScene]:
    """One scene a .mat file; the subfolders of the downloads are looked through too."""
    files_below(folder)
    root = Path(folder).expanduser()
    scenes: dict[str, RawScene] = {}
    for path in sorted(p for p in root.rglob("*") if p.suffix.lower() == ".mat" and p.is_file()):
        if path.stem in scenes:
            first = scenes[path.stem].files[0]
            raise DataError(root, f"scene {path.stem} is there twice, in {first} and {path}", "remove one of them")
        scenes[path.stem] = RawScene((path,), functools.partial(read, path))
    if not scenes:
        raise DataError(root, f"no .mat file below it, as {dataset_name} has", "check the path")
    return scenes


def mat_cube(path: Path, key: str, bands: int) -> np.ndarray:
    """The H x W x bands array of that name in a .mat file."""
    cube = read_mat(path, (key,))[key]
    if cube.shape[2] != bands:
        raise DataError(
            path,
            f"{key} is {' x '.join(map(str, cube.shape))}, where the last axis should have {bands} bands",
            "is it transposed?",
        )
    return cube
