"""Raw files to cubes: CAVE's folders of band PNGs, released-style .mat files, pictures."""

import os
import re
import struct
import zlib
from pathlib import Path

import h5py
import numpy as np
import scipy.io
from PIL import Image

from data.spectral import conversion_matrix
from data.store import Scene
from utils import UserError

CAVE_BANDS = 31
CAVE_WAVELENGTHS = np.arange(400, 701, 10, dtype=np.float64)
CAVE_SIZE = 512
# Harvard's values times 20 may be above 1; values above this are in another unit.
LARGEST_VALUE = 100
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
# Scenes from the air are larger than what Pillow takes for an attack.
Image.MAX_IMAGE_PIXELS = None
_BAND_FILE = re.compile(r"([^.].*)_ms_(\d+)\.png", re.IGNORECASE)


def files_below(folder, flag_name):
    """Names of a folder's entries, sorted; the flag is for the message where there is no folder.

    Raises:
        UserError: if it is no folder, cannot be read or is empty.
    """
    folder = Path(folder).expanduser()
    if not folder.exists():
        raise UserError(f"--{flag_name} {folder}: no such file or folder; check the path")
    if not folder.is_dir():
        raise UserError(f"--{flag_name} {folder}: a file, where a folder is needed")
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"--{flag_name} {folder}: cannot be read ({error.strerror}); check its permissions") from error
    if not entries:
        raise UserError(f"--{flag_name} {folder}: the folder is empty; check the path")
    return entries


def find_cave_scenes(raw_dir, flag_name="raw_dir"):
    """Scenes of a raw CAVE download: {name: its band files by number}.

    A scene is any folder, at most three levels down, with files `<scene>_ms_01.png`, ...; Thumbs.db,
    `*_RGB.bmp` and whatever else lies about is passed over.
    """
    files_below(raw_dir, flag_name)
    root = Path(raw_dir).expanduser()
    scenes = {}
    visited = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        if len(Path(folder).relative_to(root).parts) >= 3:
            subfolders.clear()
        if (real := os.path.realpath(folder)) in visited:
            subfolders.clear()
            continue
        visited.add(real)
        subfolders.sort()
        bands = {}
        for match in filter(None, map(_BAND_FILE.fullmatch, sorted(files))):
            bands.setdefault(match[1], {})[int(match[2])] = Path(folder, match[0])
        for name, files_of_scene in bands.items():
            if name in scenes:
                first = scenes[name][min(scenes[name])].parent
                raise UserError(f"scene {name} is there twice, in {first} and {folder}; remove one of them")
            scenes[name] = files_of_scene
    if not scenes:
        raise UserError(
            f"--{flag_name} {root}: no CAVE scene below it; expected folders like balloons_ms with balloons_ms_01.png"
        )
    return scenes


def read_cave_scene(name, band_files):
    """Read the 31 band PNGs of a scene.

    They are 16-bit grey in CAVE, but for watercolors: 8-bit RGBA with equal channels, of which the first
    is taken. Under "published", 8-bit scenes are divided by 65535 as the released code did.

    Returns:
        Scene, 31 bands at 400..700 nm.
    """
    wanted = set(range(1, CAVE_BANDS + 1))
    folder = band_files[min(band_files)].parent
    if absent := sorted(wanted - band_files.keys()):
        listed = ", ".join(f"{n:02d}" for n in absent[:8])
        raise UserError(f"{folder}: scene {name} lacks {len(absent)} of {CAVE_BANDS} bands ({listed}); copy them again")
    if surplus := sorted(band_files.keys() - wanted):
        raise UserError(
            f"{folder}: scene {name} has a band {surplus[0]}, CAVE has {CAVE_BANDS}; is this another data set?"
        )
    bands = [read_grey(band_files[n]) for n in sorted(wanted)]
    for number, band in enumerate(bands, start=1):
        if band.shape != bands[0].shape or band.dtype != bands[0].dtype:
            raise UserError(
                f"{band_files[number]}: {band.shape[1]}x{band.shape[0]} pixels of {band.dtype}, but band 1 has "
                f"{bands[0].shape[1]}x{bands[0].shape[0]} of {bands[0].dtype}; copy the scene again"
            )
    cube = np.stack(bands, axis=-1)
    return Scene(
        name=name,
        cube=cube,
        value_scale=float(np.iinfo(cube.dtype).max),
        published_value_scale=65535.0,
        wavelengths=CAVE_WAVELENGTHS,
        source=folder.name,
    )


def read_picture(path):
    """Read an RGB picture as H x W x 3, uint8 or uint16; grey becomes three equal channels, alpha goes."""
    pixels = _read_image(path)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    if pixels.ndim != 3 or pixels.shape[2] not in (2, 3, 4):
        raise UserError(f"{path}: {pixels.shape} is not an RGB picture; take it out of the folder")
    if pixels.shape[2] == 2:
        pixels = np.repeat(pixels[:, :, :1], 3, axis=2)
    return np.ascontiguousarray(pixels[:, :, :3])


def find_pictures(folder, flag_name):
    """The pictures of a folder, sorted (empty where it has none)."""
    return [
        p for p in files_below(folder, flag_name) if p.suffix.lower() in PICTURES and p.is_file() and p.name[0] != "."
    ]


def find_mats(folder, flag_name):
    """The .mat files of a folder, sorted (empty where it has none)."""
    return [
        p for p in files_below(folder, flag_name) if p.suffix.lower() == ".mat" and p.is_file() and p.name[0] != "."
    ]


def mat_shapes(path, flag_name=""):
    """Names and shapes (as MATLAB sees them) of a .mat file's arrays, without reading their values.

    Also finds out whether the file is cut off.

    Raises:
        UserError: if it is truncated, or no .mat file.
    """
    path = Path(path)
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty (0 bytes); copy it again or take it away")
    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as f:
                return {k: v.shape[::-1] for k, v in f.items() if isinstance(v, h5py.Dataset)}
        check_whole_mat(path)
        return {name: shape for name, shape, _ in scipy.io.whosmat(path)}
    except UserError:
        raise
    # scipy meets damaged files with errors of nearly any type.
    except Exception as error:
        raise UserError(f"{path}: not a readable .mat file (truncated or damaged); copy it again") from error


def read_mat(path, keys, optional=()):
    """Read arrays of a .mat file of any version (v5 or v7.3).

    Args:
        path: the file.
        keys: names that must be there.
        optional: names that are read where they are there.

    Returns:
        {name: array as MATLAB sees it}, float32, H x W x C.

    Raises:
        UserError: for a missing key (naming those that are there), a damaged file, values not finite.
    """
    shapes = mat_shapes(path)
    if absent := [k for k in keys if k not in shapes]:
        raise UserError(
            f"{path}: has no {' and no '.join(absent)}, only {', '.join(shapes) or 'nothing'}; "
            f"files that hold {' and '.join(keys)} are needed"
        )
    wanted = [*keys, *(k for k in optional if k in shapes)]
    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as f:
                arrays = {k: f[k][()].T for k in wanted}
        else:
            loaded = scipy.io.loadmat(path, variable_names=wanted)
            arrays = {k: loaded[k] for k in wanted}
    # scipy meets damaged files with errors of nearly any type.
    except Exception as error:
        raise UserError(f"{path}: not a readable .mat file (truncated or damaged); copy it again") from error
    for key, array in arrays.items():
        if array.ndim != 3 or array.dtype.kind not in "fiu":
            raise UserError(
                f"{path}: {key} is {array.dtype} of shape {array.shape}, where numbers in H x W x bands are needed"
            )
        highest = array.max(initial=0)
        if highest > LARGEST_VALUE or (array.dtype.kind in "iu" and highest > 1):
            raise UserError(
                f"{path}: {key} is {array.dtype} with values up to {highest:g}, where 0..1 is needed; divide by what stands for 1"
            )
        arrays[key] = np.ascontiguousarray(array, dtype=np.float32)
        if not np.isfinite(arrays[key]).all():
            bad = int((~np.isfinite(arrays[key])).sum())
            raise UserError(f"{path}: {key} has {bad} values that are NaN or infinite; repair the file or take it away")
    return arrays


def read_conversion(path, n_colors, n_subs):
    """The n_colors x n_subs conversion F: a user's .csv or .mat, else the released one for 31 bands.

    Raises:
        UserError: if it cannot be read, has another shape, or there is none for so many bands.
    """
    if not path:
        if n_colors == 31:
            return conversion_matrix(n_subs)
        raise UserError(
            f"--UseUnlabelConsistency 1: no conversion of {n_colors} bands is known without their wavelengths; give one by --conversionMat_path, or --UseUnlabelConsistency 0"
        )
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f"--conversionMat_path {path}: no such file or folder; check the path")
    try:
        if path.suffix.lower() == ".mat":
            arrays = [a for k, a in scipy.io.loadmat(path).items() if not k.startswith("__") and np.ndim(a) == 2]
            matrix = next(
                (a for a in arrays if a.shape == (n_colors, n_subs)), arrays[0] if arrays else np.zeros((0, 0))
            )
        else:
            matrix = np.loadtxt(path, delimiter=",", ndmin=2)
        matrix = np.asarray(matrix, dtype=np.float64)
    # scipy meets damaged files with errors of nearly any type.
    except Exception as error:
        raise UserError(
            f"--conversionMat_path {path}: not a readable matrix; give a .csv of numbers or a .mat (v5)"
        ) from error
    if matrix.shape != (n_colors, n_subs) or not np.isfinite(matrix).all():
        raise UserError(
            f"--conversionMat_path {path}: a finite {n_colors} x {n_subs} matrix (bands x n_subs) is needed, got shape {matrix.shape}"
        )
    return matrix


def check_whole_mat(path):
    """Walk the elements of a v5 .mat file: each says how long it is.

    Raises:
        UserError: if the last one ends behind the end of the file.
    """
    size = path.stat().st_size
    with open(path, "rb") as f:
        header = f.read(128)
        # v4 files have no such header; scipy tells whether they are sound.
        if len(header) < 128 or header[126:128] not in (b"IM", b"MI"):
            return
        order = "<" if header[126:128] == b"IM" else ">"
        while (position := f.tell()) < size:
            tag = f.read(8)
            length = struct.unpack(order + "II", tag)[1] if len(tag) == 8 else size
            if position + 8 + length > size:
                raise UserError(
                    f"{path}: truncated ({size} bytes, at least {position + 8 + length} are needed); copy it again"
                )
            f.seek(length, os.SEEK_CUR)


def read_grey(path):
    """Read one band's picture, H x W, 8 or 16 bits; of grey with alpha, or equal colours, the first channel."""
    pixels = _read_image(path)
    if pixels.ndim == 3 and pixels.shape[2] == 2:
        # Grey with alpha.
        return pixels[:, :, 0]
    if pixels.ndim == 3:
        if not (pixels[:, :, :1] == pixels[:, :, : min(3, pixels.shape[2])]).all():
            raise UserError(f"{path}: a colour picture, where one band is needed; is this a CAVE scene?")
        pixels = pixels[:, :, 0]
    return pixels


def _read_image(path):
    try:
        with Image.open(path) as image:
            if image.mode in ("P", "1", "CMYK", "YCbCr", "LAB", "HSV"):
                image = image.convert("RGB")
            pixels = np.array(image)
    # Pillow meets damaged files with these, depending on where they break.
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        zlib.error,
        struct.error,
    ) as error:
        raise UserError(f"{path}: not a readable picture (truncated or damaged); copy it again") from error
    if pixels.dtype == np.int32 and pixels.min() >= 0 and pixels.max() <= 65535:
        # Older Pillow reads 16-bit PNG as 32-bit integers.
        pixels = pixels.astype(np.uint16)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{path}: pixels of type {pixels.dtype}, where 8 or 16 bits are needed; convert it to PNG")
    return pixels
