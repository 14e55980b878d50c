"""What lies in a folder."""

import os
from collections.abc import Iterator
from pathlib import Path

from data.errors import DataError

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
# Folders below the one that is given, in which scenes are looked for.
LEVELS = 3


def files_below(folder: str | Path) -> list[Path]:
    """A folder's entries, sorted.

    Raises:
        DataError: if it is no folder, cannot be read or is empty.
    """
    folder = Path(folder).expanduser()
    if not folder.exists():
        raise DataError(folder, "no such file or folder", "check the path")
    if not folder.is_dir():
        raise DataError(folder, "a file, where a folder is needed", "give the folder")
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(folder, f"cannot be read ({error.strerror})", "check its permissions") from error
    if not entries:
        raise DataError(folder, "the folder is empty", "check the path")
    return entries


def find_pictures(folder: str | Path) -> list[Path]:
    """The pictures of a folder, sorted (empty where it has none)."""
    return [p for p in files_below(folder) if p.suffix.lower() in PICTURES and p.is_file() and p.name[0] != "."]


def find_mats(folder: str | Path) -> list[Path]:
    """The .mat files of a folder, sorted (empty where it has none)."""
    return [p for p in files_below(folder) if p.suffix.lower() == ".mat" and p.is_file() and p.name[0] != "."]


def folders_below(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """(folder, sorted names of its files) of a folder and those below it, at most three levels down, each once.

    Links are followed; folders whose names begin with a dot are passed over.
    """
    visited = set()
    for place, subfolders, files in os.walk(root, followlinks=True):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        if len(Path(place).relative_to(root).parts) >= LEVELS or os.path.realpath(place) in visited:
            subfolders.clear()
        if os.path.realpath(place) not in visited:
            visited.add(os.path.realpath(place))
            yield Path(place), sorted(files)
