"""Any folder of hyperspectral cubes: the format told by the content, the band axis found or named.

Formats: MATLAB .mat (v5 and v7.3), NumPy .npy and .npz, HDF5, ENVI (.hdr with its data file), multi-band
TIFF and GeoTIFF.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import scipy.io
import tifffile

from data.readers import check_whole_mat, files_below
from data.store import Scene
from utils import UserError

EXTENSIONS = (".mat", ".npy", ".npz", ".h5", ".hdf5", ".he5", ".hdr", ".tif", ".tiff")
# Values this far below zero, in parts of the value scale, are taken for noise; further ones for no-data marks.
LARGEST_NOISE = 0.05


@dataclass(frozen=True)
class CubeOptions:
    """How to understand a cube where it does not say so itself.

    Attributes:
        key: name of the array in .mat, .npz and HDF5 files; the only cube without.
        band_axis: 0, 1 or 2 as the file's owner counts (MATLAB's order for .mat); -1: find it.
        value_scale: what stands for 1; 0: the integer type's maximum, or 1 for floating point.
        wavelengths: "first,last" in nm for evenly spaced bands; "" where the file knows or nobody does.
    """

    key: str = ""
    band_axis: int = -1
    value_scale: float = 0.0
    wavelengths: str = ""


def find_cubes(folder, flag_name="raw_dir"):
    """Files below a folder, at most three levels down, that hold cubes: {name: path}, sorted.

    What has neither the content nor the extension of a known format is passed over.
    """
    files_below(folder, flag_name)
    root = Path(folder).expanduser()
    found, visited = {}, set()
    for place, subfolders, files in os.walk(root, followlinks=True):
        if len(Path(place).relative_to(root).parts) >= 3 or os.path.realpath(place) in visited:
            subfolders.clear()
        if os.path.realpath(place) in visited:
            continue
        visited.add(os.path.realpath(place))
        subfolders.sort()
        for name in sorted(files):
            path = Path(place, name)
            if name.startswith(".") or not path.is_file():
                continue
            if format_of(path) or path.suffix.lower() in EXTENSIONS:
                if path.stem in found:
                    raise UserError(f"scene {path.stem} is there twice, in {found[path.stem]} and {path}; rename one")
                found[path.stem] = path
    if not found:
        raise UserError(
            f"--{flag_name} {root}: no cube below it (.mat, .npy, .npz, HDF5, ENVI .hdr or TIFF); check the path"
        )
    return found


def format_of(path):
    """mat5, hdf5, npy, npz, tiff or envi, by the first bytes; None for anything else."""
    with open(path, "rb") as f:
        head = f.read(128)
    if head.startswith(b"\x89HDF") or head.startswith(b"MATLAB 7.3"):
        return "hdf5"
    if head.startswith(b"MATLAB 5.0") or head[126:128] in (b"IM", b"MI"):
        return "mat5"
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head.startswith(b"PK\x03\x04") and Path(path).suffix.lower() == ".npz":
        return "npz"
    if head[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
        return "tiff"
    if head.lstrip().startswith(b"ENVI"):
        return "envi"
    # An HDF5 file may begin with a block of its user's.
    return "hdf5" if h5py.is_hdf5(path) else None


def read_cube(path, options=CubeOptions()):
    """Read one file as a Scene, H x W x C in its own number type.

    Raises:
        UserError: for a damaged or empty file, no cube or several in it, an unclear band axis, complex,
            non-finite, strongly negative or constant values, or floating-point values far above 1 of which
            the scale is not known.
    """
    path = Path(path)
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty (0 bytes); copy it again or take it away")
    kind = format_of(path)
    if kind is None:
        raise UserError(f"{path}: not in the format of its name (nor in another known one); copy or export it again")
    readers = {
        "mat5": _read_mat5,
        "hdf5": _read_hdf5,
        "npy": _read_npy,
        "npz": _read_npz,
        "tiff": _read_tiff,
        "envi": _read_envi,
    }
    try:
        array, axis, wavelengths, scale = readers[kind](path, options)
    except UserError:
        raise
    # The formats' libraries meet damaged files with errors of nearly any type.
    except Exception as error:
        raise UserError(
            f"{path}: cannot be read (truncated or damaged {kind} file?); copy or export it again"
        ) from error
    array = np.asarray(array)
    if array.dtype.kind not in "fiu":
        raise UserError(
            f"{path}: values of type {array.dtype}, where real numbers are needed; export the magnitude or reflectance"
        )
    array = np.squeeze(array) if array.ndim > 3 else array
    if array.ndim != 3:
        raise UserError(
            f"{path}: an array of shape {array.shape}, where rows x columns x bands are needed; name another by --key"
        )
    axis = options.band_axis if options.band_axis >= 0 else axis
    if axis is None:
        axis = _band_axis(path, array.shape, wavelengths)
    cube = np.moveaxis(array, axis, 2)
    if wavelengths is None and options.wavelengths:
        wavelengths = _even_wavelengths(options.wavelengths, cube.shape[2])
    if wavelengths is not None and len(wavelengths) != cube.shape[2]:
        raise UserError(
            f"{path}: {len(wavelengths)} wavelengths for {cube.shape[2]} bands; name the band axis by --band_axis"
        )
    return checked_scene(path, path.stem, cube, options.value_scale or scale, wavelengths)


def checked_scene(path, name, cube, value_scale=None, wavelengths=None):
    """A Scene of checked values: finite, not constant, not below zero by more than noise.

    Args:
        value_scale: what stands for 1; None: the integer type's maximum, or 1 for floating point.
    """
    if cube.dtype.kind == "f":
        cube = cube.astype(np.float32, copy=False)
        bad = cube.size - np.count_nonzero(np.isfinite(cube))
        if bad:
            raise UserError(f"{path}: {bad} values are NaN or infinite; fill them, or take the file away")
    low, high = cube.min(), cube.max()
    if low == high:
        raise UserError(f"{path}: every value is {low}, there is no image in it; take the file away")
    if not value_scale:
        value_scale = float(np.iinfo(cube.dtype).max) if cube.dtype.kind in "iu" else 1.0
        if cube.dtype.kind == "f" and high > 2:
            raise UserError(f"{path}: floating-point values up to {high:g}; say what stands for 1 by --value_scale")
    if low < -LARGEST_NOISE * value_scale:
        raise UserError(f"{path}: values down to {low:g} (a mark for no data?); fill them, or take the file away")
    cube = np.ascontiguousarray(np.maximum(cube, cube.dtype.type(0)))
    return Scene(name=name, cube=cube, value_scale=float(value_scale), wavelengths=wavelengths, source=Path(path).name)


def _band_axis(path, shape, wavelengths):
    """Which axis holds the bands: as long as the wavelengths, or unlike two equal ones, or much the shortest."""
    if wavelengths is not None and sum(n == len(wavelengths) for n in shape) == 1:
        return shape.index(len(wavelengths))
    unlike = [k for k in range(3) if shape.count(shape[k]) == 1]
    if len(unlike) == 1:
        return unlike[0]
    order = sorted(range(3), key=lambda k: shape[k])
    if 2 * shape[order[0]] <= shape[order[1]]:
        return order[0]
    raise UserError(
        f"{path}: cannot tell which of {' x '.join(map(str, shape))} are the bands; name the axis by --band_axis 0, 1 or 2"
    )


def _only_cube(path, shapes, key):
    """The name of the array to read among {name: shape}."""
    if key:
        if key not in shapes:
            raise UserError(f"{path}: has no array {key}, only {', '.join(shapes) or 'none'}; correct --key")
        return key
    cubes = [name for name, shape in shapes.items() if len(shape) == 3 and min(shape) > 1]
    if len(cubes) != 1:
        held = ", ".join(f"{n} {' x '.join(map(str, s))}" for n, s in shapes.items()) or "nothing"
        raise UserError(f"{path}: {len(cubes) or 'no'} cubes in it (it holds {held}); name the array by --key")
    return cubes[0]


def _read_mat5(path, options):
    check_whole_mat(path)
    shapes = {name: shape for name, shape, _ in scipy.io.whosmat(path)}
    if not options.key and {"Y", "nRow", "nCol"} <= shapes.keys() and len(shapes["Y"]) == 2:
        # The unmixing benchmarks' form: bands x pixels, pixels column by column.
        held = scipy.io.loadmat(path, variable_names=["Y", "nRow", "nCol"])
        size = int(held["nCol"].squeeze()), int(held["nRow"].squeeze())
        return held["Y"].reshape(-1, *size).transpose(2, 1, 0), 2, None, None
    key = _only_cube(path, shapes, options.key)
    held = scipy.io.loadmat(path, variable_names=[key, "wavelength", "wavelengths", "bands"])
    return held[key], None, _wavelengths_among(held, shapes[key]), None


def _read_hdf5(path, options):
    with h5py.File(path, "r") as f:
        arrays = {}
        f.visititems(lambda name, item: arrays.__setitem__(name, item) if isinstance(item, h5py.Dataset) else None)
        # MATLAB writes its axes in reverse, and marks what it wrote.
        reverse = any("MATLAB_class" in a.attrs for a in arrays.values())
        key = _only_cube(path, {n: a.shape[::-1] if reverse else a.shape for n, a in arrays.items()}, options.key)
        cube = arrays[key][()]
        others = {n.rsplit("/", 1)[-1]: a[()] for n, a in arrays.items() if a.ndim <= 2 and 1 < a.size < 10000}
    return (cube.T if reverse else cube), None, _wavelengths_among(others, cube.shape), None


def _read_npy(path, options):
    return np.load(path, allow_pickle=False), None, None, None


def _read_npz(path, options):
    with np.load(path, allow_pickle=False) as held:
        arrays = {name: held[name] for name in held.files}
    key = _only_cube(path, {n: a.shape for n, a in arrays.items()}, options.key)
    return arrays[key], None, _wavelengths_among(arrays, arrays[key].shape), None


def _read_tiff(path, options):
    with tifffile.TiffFile(path) as f:
        series = f.series[0]
        array, axes = series.asarray(), series.axes
    if array.ndim != 3:
        raise UserError(
            f"{path}: a picture of shape {array.shape}, where several bands are needed; take it out of the folder"
        )
    if axes.endswith("S") and array.shape[2] in (3, 4):
        raise UserError(f"{path}: an RGB picture, where a cube of many bands is needed; take it out of the folder")
    return array, {"YXS": 2}.get(axes, 0), None, None


def _read_envi(path, options):
    try:
        import spectral.io.envi as envi
        from spectral.io.envi import EnviDataFileNotFoundError
    except ImportError as error:
        raise UserError(f"{path}: ENVI files need the package spectral; pip install spectral") from error
    try:
        image = envi.open(str(path))
    except EnviDataFileNotFoundError as error:
        raise UserError(f"{path}: its data file is missing; put it beside the header under the same name") from error
    header = image.metadata
    needed = image.nrows * image.ncols * image.nbands * np.dtype(image.dtype).itemsize + image.offset
    held = Path(image.filename).stat().st_size
    if held < needed:
        raise UserError(
            f"{image.filename}: {held} bytes, its header speaks of {needed}; copy the data again or correct the header"
        )
    wavelengths = None
    if header.get("wavelength"):
        wavelengths = np.array([float(w) for w in header["wavelength"]])
        if wavelengths.max() < 100 or "micro" in header.get("wavelength units", "").lower():
            wavelengths = wavelengths * 1000
    scale = header.get("reflectance scale factor")
    cube = np.asarray(image.open_memmap(interleave="bip", writable=False))
    return cube.astype(cube.dtype.newbyteorder("=")), 2, wavelengths, float(scale) if scale else None


def _wavelengths_among(arrays, shape):
    """Wavelengths in nm that a file holds beside its cube under a usual name, or None."""
    for name in ("wavelength", "wavelengths", "bands"):
        values = np.ravel(arrays[name]) if name in arrays else np.zeros(0)
        if (
            values.size in shape
            and values.dtype.kind in "fiu"
            and values.size > 1
            and np.all(np.diff(values.astype(float)) > 0)
        ):
            values = values.astype(np.float64)
            values = values * 1000 if values.max() < 100 else values
            if values.min() >= 100:
                return values
    return None


def _even_wavelengths(text, bands):
    try:
        first, last = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"--wavelengths takes first,last in nm, such as 400,700, not {text!r}") from error
    return np.linspace(first, last, bands)
