"""RGB pictures, and pictures of single bands."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from formats import gdal
from formats.kinds import make_kind_error
from system.errors import DataError
from system.files import refuse_irregular
from system.machine import get_free_memory

# Aerial images exceed Pillow's default limit.
Image.MAX_IMAGE_PIXELS = None


def read_picture(path: Path) -> np.ndarray:
    """Read an RGB picture as H x W x 3, uint8 or uint16; grey becomes three equal channels, alpha is dropped."""
    pixels = _read_image(path)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or pixels.shape[2] > 4:
        raise DataError(path, f"{pixels.shape} is not an RGB picture", "take it out of the folder")
    colours = pixels[:, :, :3] if pixels.shape[2] > 2 else np.repeat(pixels[:, :, :1], 3, axis=2)
    return np.ascontiguousarray(colours)


def read_grey(path: Path, together: int = 1) -> np.ndarray:
    """Read one band's picture, H x W, 8 or 16 bits; of grey with alpha, or equal colours, the first channel.

    Args:
        path: the picture.
        together: number of pictures of its size that must fit into memory.
    """
    pixels = _read_image(path, together)
    if pixels.ndim == 2:
        return pixels
    is_grey = pixels.shape[2] == 2 or (pixels[:, :, :1] == pixels[:, :, :3]).all()
    if not is_grey:
        raise DataError(path, "a colour picture, where one band is needed", "is this a CAVE scene?")
    return pixels[:, :, 0]


def read_bands(paths: Sequence[Path]) -> np.ndarray:
    """Read one picture a band, in their order, as H x W x C.

    Raises:
        DataError: for a damaged picture, or one of another size or type than the first.
    """
    bands = [read_grey(path, len(paths) - k) for k, path in enumerate(paths)]
    for path, band in zip(paths, bands, strict=True):
        if band.shape != bands[0].shape or band.dtype != bands[0].dtype:
            sizes = [f"{b.shape[1]}x{b.shape[0]} pixels of {b.dtype}" for b in (band, bands[0])]
            raise DataError(path, f"{sizes[0]}, but the first band has {sizes[1]}", "copy the scene again")
    return np.stack(bands, axis=-1)


def _check_memory(path: Path, width: int, height: int, size: int, together: int) -> None:
    """Refuse a picture that takes more than half of the free memory once it is unpacked."""
    free = get_free_memory()
    if free and size * together > free / 2:
        what = f"{width} x {height} pixels, {size / 1e9:.1f} GB" + (f", and {together} such" if together > 1 else "")
        raise DataError(path, f"{what} are more than half of the free memory", "cut it up, or close other programs")


def _read_image(path: Path, together: int = 1) -> np.ndarray:
    refuse_irregular(path)
    try:
        pixels = _read_with_pillow(path, together)
    except MemoryError as error:
        raise DataError(path, "the memory is too small to read it", "close other programs") from error
    except PermissionError as error:
        raise DataError(path, "may not be read", "ask its owner for the permission") from error
    # Pillow raises these for damaged files, depending on where they break.
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error, struct.error) as error:
        remedies = "copy it again, or save it as PNG, or take it away", "save it as PNG, or take it away"
        raise make_kind_error(path, "a PNG, JPEG, TIFF or BMP picture", "picture", remedies, error) from error
    if pixels.dtype.kind == "f":
        pixels = _to_16_bits(path, pixels)
    if pixels.dtype == np.int32 and pixels.min() >= 0 and pixels.max() <= 65535:
        # Older Pillow reads 16-bit PNG as 32-bit integers.
        pixels = pixels.astype(np.uint16)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(path, f"pixels of type {pixels.dtype}, where 8 or 16 bits are needed", "convert it to PNG")
    return pixels


def _read_with_pillow(path: Path, together: int) -> np.ndarray:
    try:
        with Image.open(path) as opened:
            size = opened.width * opened.height * len(opened.getbands()) * (2 if "16" in opened.mode else 1)
            _check_memory(path, opened.width, opened.height, size, together)
            # Reading does not verify the checksums of PNG's chunks.
            if opened.format == "PNG":
                opened.verify()
        with Image.open(path) as opened:
            image: Image.Image = opened
            if image.mode in ("P", "PA", "1", "CMYK", "YCbCr", "LAB", "HSV"):
                image = image.convert("RGB")
            return np.array(image)
    except UnidentifiedImageError:
        with open(path, "rb") as f:
            if f.read(2) not in (b"II", b"MM"):
                raise
        return _read_with_gdal(path, together)


def _read_with_gdal(path: Path, together: int) -> np.ndarray:
    """Read the first page of a TIFF that Pillow cannot read, such as floating point: H x W or H x W x C."""
    with gdal.open_dataset(path, "GTiff") as f:
        size = f.width * f.height * f.count * np.dtype(f.dtypes[0]).itemsize
        _check_memory(path, f.width, f.height, size, together)
        pixels = f.read().transpose(1, 2, 0)
        return pixels[:, :, 0] if f.count == 1 else pixels


def _to_16_bits(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Convert floating point in 0..1 to uint16, the type of pictures in stores."""
    low, high = pixels.min(), pixels.max()
    # False for NaN too.
    if not (low >= 0 and high <= 1):
        what = f"floating-point pixels from {low:g} to {high:g}, where 0..1 is needed"
        raise DataError(path, what, "divide them by their full-scale value and clip them, or save it as 16-bit PNG")
    return np.rint(pixels * np.float64(65535)).astype(np.uint16)
