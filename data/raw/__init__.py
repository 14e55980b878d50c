"""The data sets of the paper, and folders of one's own: which raw scenes there are, and how each is read."""

from pathlib import Path

from data.raw import cave, chikusei, div2k, harvard, ntire2020, own
from data.raw.raw_scene import RawScene
from formats import CubeOptions
from system.errors import DataError

__all__ = ["RawScene", "find_scenes"]

# What finds the scenes of a published data set below a folder.
FINDERS = {
    "Cave": cave.find,
    "Harvard": harvard.find,
    "NTIRE2020": ntire2020.find,
    "Chikusei": chikusei.find,
    "DIV2K": div2k.find,
}


def find_scenes(dataset_name: str, folder: str | Path, options: CubeOptions = own.DEFAULTS) -> dict[str, RawScene]:
    """Raw scenes below a folder, {name: RawScene}.

    Args:
        dataset_name: one of FINDERS, or a name of the user's own for any folder of cubes.
        folder: of the download.
        options: how to read cubes of the user's own.

    Raises:
        DataError: if there is no such folder, or nothing of the kind in it.
    """
    finder = FINDERS.get(dataset_name)
    meant = next((name for name in FINDERS if name.lower() == dataset_name.lower()), dataset_name)
    if meant != dataset_name:
        raise DataError(folder, f"{dataset_name} is no published data set", f"give {meant} by {{dataset_name}}")
    return finder(folder) if finder else own.find(folder, options)
