"""Harvard and NTIRE2020: one .mat file for each scene."""

import functools
from collections.abc import Callable
from pathlib import Path

from data.raw.own import make_scene
from data.raw.raw_scene import RawScene
from data.store import Scene
from facts import VISIBLE
from formats.folders import LEVELS, index_by_name, list_folder, walk_folders
from formats.mat import read_mat
from system.errors import DataError

# Full-scale value: the released scripts multiply Harvard's small values by 20.
HARVARD_SCALE = 1 / 20


def find_scenes(read: Callable[[Path], Scene], folder: str | Path) -> dict[str, RawScene]:
    """Find one scene in each .mat file of a folder and its subfolders; return {name: RawScene}.

    Args:
        read: `read_harvard` or `read_ntire2020`.
        folder: of the download.

    Raises:
        DataError: if there are no .mat files.
    """
    list_folder(folder)
    root = Path(folder).expanduser()
    mats = sorted(
        place / name for place, names in walk_folders(root) for name in names if Path(name).suffix.lower() == ".mat"
    )
    found = index_by_name(root, [(path.stem, path) for path in mats if path.is_file()], str)
    if not found:
        raise DataError(root, f"no .mat files in it, up to {LEVELS} folders down", "check the path")
    return {name: RawScene((path,), functools.partial(read, path)) for name, path in found.items()}


def read_harvard(path: Path) -> Scene:
    """Read a Harvard scene: .mat (v5) key ref, multiplied by 20; its mask lbl is not used."""
    return _read_scene(path, "ref", HARVARD_SCALE)


def read_ntire2020(path: Path) -> Scene:
    """Read an NTIRE2020 (ARAD) scene: .mat (v7.3) key cube, 400..700 nm, values as stored.

    The size is cropped to multiples of 8 for x4 and x8 (482 x 512 becomes 480 x 512).
    """
    return _read_scene(path, "cube", 1.0, multiple=8)


def _read_scene(path: Path, key: str, value_scale: float, multiple: int = 1) -> Scene:
    """Read the 31 bands of a scene, its size cropped to a multiple.

    Raises:
        DataError: for another number of bands.
    """
    cube = read_mat(path, (key,))[key]
    if cube.shape[2] != len(VISIBLE):
        raise DataError(
            path,
            f"{key} is {' x '.join(map(str, cube.shape))}, but its last axis must have {len(VISIBLE)} bands",
            "check whether it is transposed",
        )
    height, width = (n // multiple * multiple for n in cube.shape[:2])
    return make_scene(path, Path(path).stem, cube[:height, :width], value_scale, VISIBLE)
