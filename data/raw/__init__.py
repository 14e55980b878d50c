"""Raw scenes of the paper's data sets and of users' folders: finding and reading them."""

import functools
from collections.abc import Callable
from pathlib import Path

from data.raw import cave, chikusei, div2k, mats, own
from data.raw.raw_scene import RawScene
from formats import CubeOptions
from formats.raster import DEFAULTS
from system.errors import DataError

__all__ = ["RawScene", "find_scenes"]

# Functions that find the scenes of a published data set below a folder.
FINDERS: dict[str, Callable[[str | Path], dict[str, RawScene]]] = {
    "Cave": cave.find,
    "Harvard": functools.partial(mats.find_scenes, mats.read_harvard),
    "NTIRE2020": functools.partial(mats.find_scenes, mats.read_ntire2020),
    "Chikusei": chikusei.find,
    "DIV2K": div2k.find,
}


def find_scenes(dataset_name: str, folder: str | Path, options: CubeOptions = DEFAULTS) -> dict[str, RawScene]:
    """Find the raw scenes below a folder; return {name: RawScene}.

    Args:
        dataset_name: one of FINDERS, or any other name for a folder of users' cubes.
        folder: of the download.
        options: for reading users' cubes.

    Raises:
        DataError: if the folder does not exist or contains no such scenes.
    """
    finder = FINDERS.get(dataset_name)
    meant = next((name for name in FINDERS if name.lower() == dataset_name.lower()), dataset_name)
    if meant != dataset_name:
        raise DataError(folder, f"{dataset_name} is not a published data set", f"set {{dataset_name}} {meant}")
    return finder(folder) if finder else own.find(folder, options)
