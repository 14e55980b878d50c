"""Chikusei: one large cube, cut into test and training images."""

import functools
from pathlib import Path

import h5py
import numpy as np

from data.raw.own import make_scene
from data.raw.raw_scene import RawScene
from data.store import Scene
from facts import get_wavelengths
from formats.axes import find_mat_axes
from formats.folders import find_mats
from formats.guard import open_hdf5
from formats.mat import read_mat_shapes
from system.errors import DataError
from utils import progress_bar

# Rows and columns of the crop (from 0), rows of the test images, edge of the training images.
ROWS, COLS = (106, 2410), (143, 2191)
TEST_ROWS, TRAIN_EDGE = 512, 256


def find(folder: str | Path) -> dict[str, RawScene]:
    """Cut Chikusei's cube into 4 test images of 512 pixels and training images of 256; return {name: RawScene}.

    Raises:
        DataError: if there is no such cube, or it is too small.
    """
    folder = Path(folder).expanduser()
    mats = [folder] if folder.is_file() else [p for p in find_mats(folder) if "gt" not in p.stem.lower().split("_")]
    path = next((p for p in mats if h5py.is_hdf5(p) and "chikusei" in read_mat_shapes(p)), None)
    if path is None:
        raise DataError(
            folder, "contains no .mat file (v7.3) with the key chikusei", "give the folder of the Chikusei download"
        )
    rows, cols, bands = read_mat_shapes(path)["chikusei"]
    # Cubes of another size are cut by the same rule, without the published crop.
    published = (rows, cols) == (2517, 2335)
    (top, bottom), (left, right) = (ROWS, COLS) if published else ((0, rows), (0, cols))
    test_rows = TEST_ROWS if published else (bottom - top) // 4 // 8 * 8
    train_edge = TRAIN_EDGE if published else test_rows // 2
    if train_edge < 8:
        raise DataError(path, f"chikusei is {rows} x {cols} x {bands}, too small to be cut", "give the whole image")
    windows = {
        f"test_{k + 1}": (top, left + k * test_rows, test_rows, test_rows) for k in range((right - left) // test_rows)
    }
    for i, y in enumerate(range(top + test_rows, bottom - train_edge + 1, train_edge)):
        for j, x in enumerate(range(left, right - train_edge + 1, train_edge)):
            windows[f"train_{i + 1}_{j + 1}"] = (y, x, train_edge, train_edge)
    maximum = _find_maximum(path, (top, bottom, left, right))
    return {
        name: RawScene((path,), functools.partial(read_window, path, name, window, maximum), f"{window} / {maximum}")
        for name, window in windows.items()
    }


def _find_maximum(path: Path, crop: tuple[int, int, int, int]) -> float:
    """Return the largest value of the crop, read band by band."""
    top, bottom, left, right = crop
    highest = -np.inf
    with open_hdf5(path) as f:
        dataset = f["chikusei"]
        axes = find_mat_axes(path, f)["chikusei"]
        for k in progress_bar(range(dataset.shape[axes[2]]), desc="global maximum", unit="band", leave=False):
            window = (slice(top, bottom), slice(left, right), k)
            highest = max(highest, float(dataset[tuple(window[n] for n in np.argsort(axes))].max()))
    if not np.isfinite(highest) or highest <= 0:
        raise DataError(path, f"the largest value of chikusei is {highest}", "check its values or download it again")
    return highest


def read_window(path: Path, name: str, window: tuple[int, int, int, int], maximum: float) -> Scene:
    """Read a window (row, column, rows, columns) of Chikusei, 363..1018 nm, with the maximum as full-scale value."""
    row, col, rows, cols = window
    # The file is band sequential, chunked or not: a large cache avoids decompressing a chunk twice.
    with open_hdf5(path, rdcc_nbytes=2**28) as f:
        dataset = f["chikusei"]
        axes = find_mat_axes(path, f)["chikusei"]
        cube = np.empty((rows, cols, dataset.shape[axes[2]]), dtype=dataset.dtype)
        for k in range(cube.shape[2]):
            place = (slice(row, row + rows), slice(col, col + cols), k)
            band = dataset[tuple(place[n] for n in np.argsort(axes))]
            cube[:, :, k] = band.T if axes[0] > axes[1] else band
    scene = make_scene(path, name, cube, maximum)
    scene.wavelengths = get_wavelengths("Chikusei", cube.shape[2])
    return scene
