"""DIV2K: RGB pictures, downsampled by 2 as in the paper."""

import functools
from pathlib import Path

import numpy as np

from data.imresize import imresize
from data.raw.raw_scene import RawScene
from data.store import Scene
from formats.folders import find_pictures, index_by_name
from formats.images import read_picture
from system.errors import DataError


def find(folder: str | Path) -> dict[str, RawScene]:
    """Find the pictures of a folder; return {name: RawScene}.

    Raises:
        DataError: if there are no pictures.
    """
    pictures = find_pictures(folder)
    if not pictures:
        raise DataError(folder, "contains no pictures", "give the folder of DIV2K's PNG files")
    found = index_by_name(Path(folder), [(path.stem, path) for path in pictures], lambda path: path.name)
    return {
        name: RawScene((path,), functools.partial(read_halved_picture, path), "halved") for name, path in found.items()
    }


def read_halved_picture(path: Path) -> Scene:
    """Read an RGB picture, downsampled by 2 (bicubic, rounded to its number type), as in the paper."""
    pixels = read_picture(path)
    kind = np.iinfo(pixels.dtype)
    pixels = pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2]
    halved = np.clip(np.rint(imresize(pixels, 0.5)), 0, kind.max).astype(pixels.dtype)
    return Scene(name=Path(path).stem, cube=halved, value_scale=float(kind.max), source=Path(path).name)
