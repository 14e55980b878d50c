"""Axes of rows, columns and bands; every reader finds them here."""

import math
from collections.abc import Mapping
from pathlib import Path

import h5py

from system.errors import DataError

MAT_HEADER_BYTES = 512


def order_axes(band_axis: int) -> tuple[int, ...]:
    """Return the axes (rows, columns, bands) of an array by its band axis."""
    return (*(k for k in range(3) if k != band_axis), band_axis)


def find_band_axis(path: Path, shape: tuple[int, ...], n_wavelengths: int = 0, n_colors: int = 0) -> int:
    """Find the axis of the bands.

    It is the only axis as long as the wavelengths, else as the network's bands, else unlike two equal ones, else at
    most half as long as the others. An axis of length 1 is never the bands: the scene is a line of pixels, whose shape
    is not conclusive.

    Raises:
        DataError: if no rule applies.
    """
    sides = [k for k in range(3) if shape[k] > 1]
    for count in (n_wavelengths, n_colors):
        fitting = [k for k in sides if shape[k] == count]
        if len(fitting) == 1:
            return fitting[0]
    if len(sides) == 3:
        unlike = [k for k in sides if shape.count(shape[k]) == 1]
        if len(unlike) == 1:
            return unlike[0]
        order = sorted(sides, key=lambda k: shape[k])
        if 2 * shape[order[0]] <= shape[order[1]]:
            return order[0]
    what = f"cannot tell which of {' x '.join(map(str, shape))} are the bands"
    raise DataError(path, what, "name the axis by {band_axis} 0, 1 or 2")


def find_matlab_arrays(f: h5py.File, datasets: Mapping[str, h5py.Dataset]) -> set[str]:
    """Return the names of the datasets whose axes are reversed, since MATLAB wrote them.

    MATLAB adds an attribute to each, and a header to the file; h5py does neither.
    """
    by_attribute = {name for name, dataset in datasets.items() if "MATLAB_class" in dataset.attrs}
    return by_attribute or (set(datasets) if has_matlab_header(f) else set())


def has_matlab_header(f: h5py.File) -> bool:
    """Return True if an HDF5 file begins with the header of a .mat file."""
    if f.userblock_size < MAT_HEADER_BYTES:
        return False
    with open(f.filename, "rb") as content:
        return content.read(10) == b"MATLAB 7.3"


def find_unmarked_axes(path: Path, band_axis: int) -> tuple[int, ...]:
    """Return (rows, columns, bands) of an HDF5 array that MATLAB did not write; a .mat with bands first is reversed."""
    is_reversed = band_axis == 0 and path.suffix.lower() == ".mat"
    return (2, 1, 0) if is_reversed else order_axes(band_axis)


def find_mat_axes(path: Path, f: h5py.File) -> dict[str, tuple[int, ...]]:
    """Return the axes of rows, columns and bands of the arrays of a v7.3 .mat file by name.

    Arrays that MATLAB wrote are H x W x bands in MATLAB. The others have their bands at one axis: the only one at which
    arrays of several sizes (LR and HR) agree, else that of `find_band_axis` in the largest array, else the last.
    """
    datasets = {n: d for n, d in f.items() if isinstance(d, h5py.Dataset) and d.shape is not None}
    of_matlab = find_matlab_arrays(f, datasets)
    axes = {n: tuple(range(d.ndim))[:: -1 if n in of_matlab else 1] for n, d in datasets.items()}
    unmarked = {n: d.shape for n, d in datasets.items() if d.ndim == 3 and n not in of_matlab}
    if not unmarked:
        return axes
    shapes = list(unmarked.values())
    equal = [k for k in range(3) if len({shape[k] for shape in shapes}) == 1]
    try:
        band_axis = equal[0] if len(equal) == 1 else find_band_axis(path, max(shapes, key=math.prod))
    except DataError:
        band_axis = 2
    return axes | dict.fromkeys(unmarked, find_unmarked_axes(path, band_axis))
