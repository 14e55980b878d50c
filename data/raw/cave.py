"""CAVE: a folder for each scene, with a PNG for each band."""

import functools
import re
from pathlib import Path

import numpy as np

from data.raw.raw_scene import RawScene
from data.store import Scene
from facts import VISIBLE
from formats.folders import LEVELS, index_by_name, list_folder, walk_folders
from formats.images import read_bands
from system.errors import DataError

# Pixels along an edge of a scene.
SIZE = 512
_BAND_FILE = re.compile(r"([^.].*)_ms_(\d+)\.png", re.IGNORECASE)


def find(folder: str | Path) -> dict[str, RawScene]:
    """Find the scenes of a raw CAVE download; return {name: RawScene}."""
    return {
        name: RawScene(tuple(bands[n] for n in sorted(bands)), functools.partial(read_scene, name, bands))
        for name, bands in find_band_files(folder).items()
    }


def find_band_files(raw_dir: str | Path) -> dict[str, dict[int, Path]]:
    """Find the band files of a raw CAVE download; return {scene: {number: path}}.

    A scene is a folder, at most LEVELS down, with files `<scene>_ms_01.png`, ...; Thumbs.db, `*_RGB.bmp` and other
    files are ignored.

    Raises:
        DataError: if there are no scenes.
    """
    list_folder(raw_dir)
    root = Path(raw_dir).expanduser()
    scenes: list[tuple[str, dict[int, Path]]] = []
    for folder, files in walk_folders(root):
        bands: dict[str, dict[int, Path]] = {}
        for match in filter(None, map(_BAND_FILE.fullmatch, files)):
            bands.setdefault(match[1], {})[int(match[2])] = folder / match[0]
        scenes += bands.items()
    if not scenes:
        raise DataError(
            root,
            f"no CAVE scenes in it, up to {LEVELS} folders down",
            "give a folder that contains folders like balloons_ms with balloons_ms_01.png",
        )
    return index_by_name(root, scenes, lambda files_of_scene: str(files_of_scene[min(files_of_scene)].parent))


def read_scene(name: str, files: dict[int, Path]) -> Scene:
    """Read the 31 band PNGs of a scene.

    They are 16-bit grey, except for watercolors: 8-bit RGBA with equal channels, of which the first is used. Under the
    protocol "published", 8-bit scenes are divided by 65535, as in the released code.

    Returns:
        Scene, 31 bands at 400..700 nm.

    Raises:
        DataError: for missing or surplus bands, and unreadable files.
    """
    wanted = set(range(1, len(VISIBLE) + 1))
    folder = files[min(files)].parent
    if absent := sorted(wanted - files.keys()):
        listed = ", ".join(f"{n:02d}" for n in absent[:8])
        raise DataError(
            folder, f"scene {name} lacks {len(absent)} of {len(VISIBLE)} bands ({listed})", "copy them again"
        )
    if surplus := sorted(files.keys() - wanted):
        raise DataError(
            folder,
            f"scene {name} has a band {surplus[0]}, but CAVE has {len(VISIBLE)}",
            "check that this is the CAVE data set",
        )
    cube = read_bands([files[n] for n in sorted(wanted)])
    return Scene(
        name=name,
        cube=cube,
        value_scale=float(np.iinfo(cube.dtype).max),
        published_value_scale=65535.0,
        wavelengths=VISIBLE,
        source=folder.name,
    )
