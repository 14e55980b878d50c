"""The data sets of the paper, and folders of one's own: which raw scenes there are, and how each is read."""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from data import cubes, readers
from data.rasters import CubeOptions
from data.store import Scene
from utils import UserError, progress_bar

VISIBLE = np.arange(400, 701, 10, dtype=np.float64)
# Harvard's values are small; the released scripts multiply them by 20.
HARVARD_SCALE = 1 / 20
# Chikusei: rows and columns that are kept (from 0), rows of the test images, edge of all images.
CHIKUSEI_ROWS, CHIKUSEI_COLS = (106, 2410), (143, 2191)
CHIKUSEI_TEST_ROWS, CHIKUSEI_TRAIN_EDGE = 512, 256
CHIKUSEI_WAVELENGTHS = np.linspace(363, 1018, 128)
WAVELENGTHS_OF_DATASET = {
    **dict.fromkeys(("Cave", "Harvard", "NTIRE2020"), VISIBLE),
    "Chikusei": CHIKUSEI_WAVELENGTHS,
}


@dataclass(frozen=True)
class RawScene:
    """A scene that is not read yet.

    Attributes:
        files: what it is read from, in the order in which they are hashed.
        read: makes the Scene (without source hash); can be sent to another process.
        detail: what else its content depends on (a window, a scale), part of its hash.
    """

    files: tuple
    read: Callable[[], Scene]
    detail: str = ""

    def sha256(self):
        digest = hashlib.sha256(self.detail.encode())
        for path in self.files:
            digest.update(_file_sha256(path))
        return digest.hexdigest()


def find_scenes(dataset_name, folder, flag_name, options=CubeOptions()):
    """Raw scenes below a folder, {name: RawScene}.

    Args:
        dataset_name: Cave, Harvard, NTIRE2020, Chikusei, DIV2K or a name of the user's own.
        flag_name: the flag that the folder came by, for messages.
        options: how to read cubes of the user's own.

    Raises:
        UserError: if there is no such folder, or nothing of the kind in it.
    """
    finders = {
        "Cave": _find_cave,
        "Harvard": _find_harvard,
        "NTIRE2020": _find_ntire,
        "Chikusei": _find_chikusei,
        "DIV2K": _find_div2k,
    }
    if dataset_name in finders:
        return finders[dataset_name](folder, flag_name)
    found = cubes.find_cubes(folder, flag_name)
    return {
        name: RawScene(_with_data_file(path), functools.partial(cubes.read_cube, path, options), repr(options))
        for name, path in found.items()
    }


def _find_cave(folder, flag_name):
    return {
        name: RawScene(tuple(bands[n] for n in sorted(bands)), functools.partial(readers.read_cave_scene, name, bands))
        for name, bands in readers.find_cave_scenes(folder, flag_name).items()
    }


def _find_harvard(folder, flag_name):
    return _find_mats(folder, flag_name, "Harvard", read_harvard)


def _find_ntire(folder, flag_name):
    return _find_mats(folder, flag_name, "NTIRE2020", read_ntire)


def _find_mats(folder, flag_name, dataset_name, read):
    """One scene a .mat file; the subfolders of the downloads are looked through too."""
    readers.files_below(folder, flag_name)
    root = Path(folder).expanduser()
    scenes = {}
    for path in sorted(p for p in root.rglob("*") if p.suffix.lower() == ".mat" and p.is_file()):
        if path.stem in scenes:
            raise UserError(
                f"scene {path.stem} is there twice, in {scenes[path.stem].files[0]} and {path}; remove one of them"
            )
        scenes[path.stem] = RawScene((path,), functools.partial(read, path))
    if not scenes:
        raise UserError(f"--{flag_name} {root}: no .mat file below it, as {dataset_name} has; check the path")
    return scenes


def read_harvard(path):
    """Read a Harvard scene: .mat (v5) key ref, multiplied by 20; its mask lbl is not used."""
    cube = _mat_cube(path, "ref", 31)
    scene = cubes.checked_scene(path, Path(path).stem, cube, HARVARD_SCALE)
    scene.wavelengths = VISIBLE
    return scene


def read_ntire(path):
    """Read an NTIRE2020 (ARAD) scene: .mat (v7.3) key cube, 400..700 nm, values as stored.

    Rows and columns beyond a multiple of 8 are cut off (482 x 512 becomes 480 x 512): x4 and x8 need it.
    """
    cube = _mat_cube(path, "cube", 31)
    height, width = (n // 8 * 8 for n in cube.shape[:2])
    scene = cubes.checked_scene(path, Path(path).stem, cube[:height, :width], 1.0)
    scene.wavelengths = VISIBLE
    return scene


def _mat_cube(path, key, bands):
    cube = readers.read_mat(path, (key,))[key]
    if cube.shape[2] != bands:
        raise UserError(
            f"{path}: {key} is {' x '.join(map(str, cube.shape))}, where the last axis should have {bands} bands; is it transposed?"
        )
    return cube


def _find_div2k(folder, flag_name):
    pictures = readers.find_pictures(folder, flag_name)
    if not pictures:
        raise UserError(f"--{flag_name} {folder}: no pictures in it; give the folder of DIV2K's PNG files")
    return {p.stem: RawScene((p,), functools.partial(read_halved_picture, p), "halved") for p in pictures}


def read_halved_picture(path):
    """Read an RGB picture at half its size (bicubic, rounded to 8 bits), as the paper takes DIV2K."""
    from data.imresize import imresize

    pixels = readers.read_picture(path)
    kind = np.iinfo(pixels.dtype)
    pixels = pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2]
    halved = np.clip(np.rint(imresize(pixels, 0.5)), 0, kind.max).astype(pixels.dtype)
    return Scene(name=Path(path).stem, cube=halved, value_scale=float(kind.max), source=Path(path).name)


def _find_chikusei(folder, flag_name):
    """Chikusei's one cube, cut into 4 test images of 512 pixels and training images of 256."""
    folder = Path(folder).expanduser()
    mats = (
        [folder]
        if folder.is_file()
        else [p for p in readers.find_mats(folder, flag_name) if "gt" not in p.stem.lower().split("_")]
    )
    path = next((p for p in mats if h5py.is_hdf5(p) and "chikusei" in readers.mat_shapes(p)), None)
    if path is None:
        raise UserError(
            f"--{flag_name} {folder}: no .mat (v7.3) with the key chikusei in it; give the folder of the Chikusei download"
        )
    rows, cols, bands = readers.mat_shapes(path)["chikusei"]
    # Smaller cubes of the same kind are cut by the same rule, without the published crop.
    published = (rows, cols) == (2517, 2335)
    (top, bottom), (left, right) = (CHIKUSEI_ROWS, CHIKUSEI_COLS) if published else ((0, rows), (0, cols))
    test_rows = CHIKUSEI_TEST_ROWS if published else (bottom - top) // 4 // 8 * 8
    train_edge = CHIKUSEI_TRAIN_EDGE if published else test_rows // 2
    if train_edge < 8:
        raise UserError(f"{path}: chikusei is {rows} x {cols} x {bands}, too small to be cut into images")
    windows = {
        f"test_{k + 1}": (top, left + k * test_rows, test_rows, test_rows) for k in range((right - left) // test_rows)
    }
    for i, y in enumerate(range(top + test_rows, bottom - train_edge + 1, train_edge)):
        for j, x in enumerate(range(left, right - train_edge + 1, train_edge)):
            windows[f"train_{i + 1}_{j + 1}"] = (y, x, train_edge, train_edge)
    maximum = _chikusei_maximum(path, (top, bottom, left, right))
    return {
        name: RawScene((path,), functools.partial(read_chikusei, path, name, window, maximum), f"{window} / {maximum}")
        for name, window in windows.items()
    }


def _chikusei_maximum(path, crop):
    """The largest value of the crop, found band by band."""
    top, bottom, left, right = crop
    highest = -np.inf
    with h5py.File(path, "r") as f:
        for band in progress_bar(f["chikusei"], desc="global maximum", unit="band", leave=False):
            highest = max(highest, float(band[left:right, top:bottom].max()))
    if not np.isfinite(highest) or highest <= 0:
        raise UserError(f"{path}: the largest value of chikusei is {highest}; the file is damaged, download it again")
    return highest


def read_chikusei(path, name, window, maximum):
    """Read a window (row, column, rows, columns) of Chikusei, 363..1018 nm, to be divided by the maximum."""
    row, col, rows, cols = window
    # Bands lie one after the other in the file, chunked or not: a large cache keeps a chunk from being unpacked twice.
    with h5py.File(path, "r", rdcc_nbytes=2**28) as f:
        dataset = f["chikusei"]
        cube = np.empty((rows, cols, dataset.shape[0]), dtype=dataset.dtype)
        for k in range(dataset.shape[0]):
            cube[:, :, k] = dataset[k, col : col + cols, row : row + rows].T
    scene = cubes.checked_scene(path, name, cube, maximum)
    if cube.shape[2] == len(CHIKUSEI_WAVELENGTHS):
        scene.wavelengths = CHIKUSEI_WAVELENGTHS
    return scene


def _with_data_file(path):
    """A cube's file, and for an ENVI header the data beside it."""
    if path.suffix.lower() != ".hdr":
        return (path,)
    beside = [p for p in sorted(path.parent.glob(f"{path.stem}*")) if p != path and p.is_file()]
    return (path, *(p for p in beside if p.stem == path.stem or p.name == path.stem))


def _file_sha256(path):
    try:
        status = path.stat()
        return _content_sha256(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the file") from error


# Chikusei's images all come from one large file, which is hashed once.
@functools.lru_cache(maxsize=1024)
def _content_sha256(path, _changed, _size):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(2**20):
            digest.update(block)
    return digest.digest()
