"""Listings of folders: scenes, patches and pictures, without hidden files and this program's results."""

import os
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from system.errors import DataError
from utils import print_line, scene_name

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
# Depth of the folders in which scenes are searched.
LEVELS = 5
# Each store contains this text near its beginning.
STORE_FORMAT = "hsi-scenes-1"
# Arrays in the crops that `test` and `train` write for `tables`.
CROPS = {"scenes.npy", "corners.npy", "shown.npy", "wavelengths.npy"}
# File that an exported folder of patches contains.
ORIGIN = "origin.json"
Found = TypeVar("Found")
# Names in a message; further ones are counted.
SHOWN_NAMES = 8


def list_folder(folder: str | Path) -> list[Path]:
    """Return a folder's entries, sorted.

    Raises:
        DataError: if it is not a folder, cannot be read or is empty.
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
    """Return the pictures of a folder, sorted."""
    return _find_files(folder, PICTURES)


def find_mats(folder: str | Path) -> list[Path]:
    """Return the .mat files of a folder, sorted."""
    return _find_files(folder, (".mat",))


def _find_files(folder: str | Path, extensions: Collection[str]) -> list[Path]:
    found = [p for p in list_folder(folder) if p.suffix.lower() in extensions and p.name[0] != "."]
    refuse_dangling(found)
    return [p for p in found if p.is_file()]


def walk_folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield (folder, sorted names of its files) of a folder and those below it, at most LEVELS down, each once.

    Links are followed. Hidden files and folders are skipped, and folders that this program has written.

    Raises:
        DataError: naming broken links, whose files would be missing without a message.
    """

    def report(error: OSError) -> None:
        print_line(f"{error.filename}: passed over, the folder cannot be read ({error.strerror})")

    visited = set()
    for place, subfolders, files in os.walk(root, followlinks=True, onerror=report):
        subfolders[:] = sorted(n for n in subfolders if n[0] != "." and not _is_result_folder(Path(place, n)))
        if len(Path(place).relative_to(root).parts) >= LEVELS or os.path.realpath(place) in visited:
            subfolders.clear()
        if os.path.realpath(place) not in visited:
            visited.add(os.path.realpath(place))
            names = sorted(name for name in files if name[0] != ".")
            refuse_dangling(Path(place, name) for name in names)
            yield Path(place), names


def refuse_dangling(paths: Iterable[Path]) -> None:
    """Refuse broken links, as left by git-annex, DVC and disks that are not mounted.

    Raises:
        DataError: naming the first of them.
    """
    if broken := [path for path in paths if path.is_symlink() and not os.path.exists(path)]:
        links = f"{len(broken)} broken link{'s' if len(broken) > 1 else ''} ({format_names([p.name for p in broken])})"
        raise DataError(broken[0].parent, links, "fetch their files or mount their disk, or remove them")


def is_output(path: Path) -> bool:
    """Return True for a file that this program has written: a store, or the crops of an evaluation."""
    try:
        if path.name.endswith("samples.npz"):
            with zipfile.ZipFile(path) as archive:
                return set(archive.namelist()) >= CROPS
        with open(path, "rb") as f:
            head = f.read(2**16)
    except (OSError, zipfile.BadZipFile):
        return False
    return head.startswith(b"\x89HDF") and STORE_FORMAT.encode() in head


def _is_result_folder(folder: Path) -> bool:
    """Return True for a folder of exported patches, or of the pictures and cubes of an evaluation."""
    title = folder.name.removesuffix("_images")
    has_results = title != folder.name and folder.with_name(f"{title}_results.json").is_file()
    return has_results or (folder / ORIGIN).is_file()


def index_by_name(root: Path, scenes: Iterable[tuple[str, Found]], place: Callable[[Found], str]) -> dict[str, Found]:
    """Return {scene name: scene} of (name of a file or folder, scene), in this order.

    Args:
        root: the folder that was searched, for messages.
        scenes: names and scenes.
        place: returns the place of a scene, for messages.

    Raises:
        DataError: for two scenes of one name.
    """
    found: dict[str, Found] = {}
    for text, scene in scenes:
        name = scene_name(text)
        if name in found:
            both = f"{place(found[name])} and {place(scene)}"
            raise DataError(root, f"scene {name} exists twice, in {both}", "rename or remove one of them")
        found[name] = scene
    return found


def format_names(names: Collection[str]) -> str:
    """Join names by commas; of many, the first ones and the number of the rest."""
    listed = list(names)
    rest = len(listed) - SHOWN_NAMES
    return ", ".join(listed[:SHOWN_NAMES]) + (f" and {rest} more" if rest > 0 else "")
