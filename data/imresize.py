"""MATLAB's `imresize(image, scale, "bicubic")` by torch's antialiased interpolation.

Both use Keys' kernel with a = -0.5, widened for downsampling. Torch truncates the kernel at the border, MATLAB mirrors
the image; so the image is mirrored first. In float64 the result equals MATLAB's output within 4e-14.
"""

from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch

from system.devices import send_to

# Up to this size, an axis is resized by a dense matrix; larger matrices are mostly zeros.
LARGEST_PATCH = 256


def imresize(image: np.ndarray, scale: float | Fraction) -> np.ndarray:
    """Resize an image like MATLAB's bicubic imresize (antialiased, symmetric border).

    Args:
        image: H x W or H x W x C array of any numeric type.
        scale: positive ratio of small whole numbers, e.g. 4, 1/4, 1/3, 1.5.

    Returns:
        float64 array, ceil(scale * H) x ceil(scale * W) [x C]; not rounded, not clipped.

    Raises:
        ValueError: for another number of axes, or a scale that is not such a ratio.
    """
    image = np.asarray(image, dtype=np.float64)
    if image.ndim not in (2, 3):
        raise ValueError(f"image must be H x W or H x W x C, got shape {image.shape}")
    # Always a copy: torch does not support negative strides.
    bands_first = torch.from_numpy(np.array(np.atleast_3d(image).transpose(2, 0, 1), order="C"))
    resized = resize_batch(bands_first[None], scale)[0].numpy().transpose(1, 2, 0)
    return np.ascontiguousarray(resized[:, :, 0] if image.ndim == 2 else resized)


def resize_batch(x: torch.Tensor, scale: float | Fraction) -> torch.Tensor:
    """Resize a batch on its device like `imresize`: B x C x H x W -> B x C x ceil(scale*H) x ceil(scale*W).

    The result has the dtype of x (float32 or float64). Patches are resized by two matrix products, which are several
    times as fast as interpolation and equal to it within rounding.

    Raises:
        ValueError: for a scale that is not a positive ratio of small whole numbers.
    """
    ratio = Fraction(scale).limit_denominator(64)
    if ratio <= 0 or abs(float(ratio) - float(scale)) > 1e-9 * abs(float(scale)):
        raise ValueError(f"scale must be a positive ratio of small whole numbers, e.g. 4 or 1/4, not {scale}")
    if max(x.shape[2:]) > LARGEST_PATCH:
        return interpolate(x, ratio)
    # Products along the last axes of B x H x W x C: no copies for channels_last batches.
    x = x.permute(0, 2, 3, 1)
    rows = _get_matrix(x.shape[1], ratio, x.dtype, x.device)
    cols = _get_matrix(x.shape[2], ratio, x.dtype, x.device)
    resized_rows = rows @ x.flatten(2)
    resized = cols @ resized_rows.unflatten(2, x.shape[2:])
    output: torch.Tensor = resized.permute(0, 3, 1, 2)
    return output


def degrade(gt: torch.Tensor, n_scale: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Degrade HR images as in the paper: gt -> (ms, lms), both by bicubic interpolation, no noise, no clipping.

    Args:
        gt: B x C x H x W, H and W multiples of n_scale.
        n_scale: whole number.
        dtype: of the computation. float32 is three times as fast and within 3e-7 of float64 for values in 0..1,
            unless matrix products use TF32.

    Returns:
        ms = float32(imresize(gt, 1/n_scale)), lms = float32(imresize(ms, n_scale)).
    """
    ms = resize_batch(gt.to(dtype), Fraction(1, n_scale)).float()
    return ms, upsample(ms, n_scale, dtype)


def upsample(ms: torch.Tensor, n_scale: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Upsample LR images: lms = float32(imresize(ms, n_scale)), B x C x h x w -> B x C x s*h x s*w."""
    return resize_batch(ms.to(dtype), n_scale).float()


# Alias for scripts of users.
enlarge = upsample


def back_project(y: torch.Tensor, ms: torch.Tensor, n_scale: int, iterations: int) -> torch.Tensor:
    """Make a result consistent with its input by iterative back-projection (Irani and Peleg, 1991).

    Each iteration replaces y by y + upsample(ms - downsample(y)).

    Args:
        y: B x C x s*h x s*w, the result.
        ms: B x C x h x w, the input.
        n_scale: s.
        iterations: number of iterations; 0 returns y.
    """
    for _ in range(iterations):
        y = y + resize_batch(ms - resize_batch(y, Fraction(1, n_scale)), n_scale)
    return y


def interpolate(x: torch.Tensor, ratio: Fraction) -> torch.Tensor:
    """Interpolate the mirrored images with torch and cut out the part that MATLAB returns."""
    rows, top, height = _mirror_indices(x.shape[2], ratio)
    cols, left, width = _mirror_indices(x.shape[3], ratio)
    padded = x[:, :, torch.from_numpy(rows).to(x.device)][:, :, :, torch.from_numpy(cols).to(x.device)]
    full_size = (int(len(rows) * ratio), int(len(cols) * ratio))
    full = torch.nn.functional.interpolate(padded, size=full_size, mode="bicubic", antialias=True)
    return full[:, :, top : top + height, left : left + width]


@lru_cache(maxsize=64)
def _get_matrix(size: int, ratio: Fraction, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return `_make_matrix` in a dtype on a device, cached."""
    return send_to(device, _make_matrix(size, ratio).to(dtype))


@lru_cache(maxsize=64)
def _make_matrix(size: int, ratio: Fraction) -> torch.Tensor:
    """Return the ceil(ratio*size) x size float64 matrix that resizes an axis: the resized unit impulses."""
    indices, offset, out_size = _mirror_indices(size, ratio)
    impulses = torch.eye(size, dtype=torch.float64)[torch.from_numpy(indices)]
    out_length = int(len(indices) * ratio)
    full = torch.nn.functional.interpolate(
        impulses[None, None], size=(out_length, size), mode="bicubic", antialias=True
    )
    return full[0, 0, offset : offset + out_size]


def _mirror_indices(size: int, ratio: Fraction) -> tuple[np.ndarray, int, int]:
    """Return (source indices of the mirrored axis, offset of the output in the resized axis, size of the output).

    Both paddings are chosen so that the resized length and the offset are whole numbers.
    """
    out_size = -(-size * ratio.numerator // ratio.denominator)
    # The kernel reaches 2 samples, or 2/ratio for downsampling.
    reach = int(2 * max(Fraction(1), 1 / ratio)) + 2
    before = -(-reach // ratio.denominator) * ratio.denominator
    total = -(-(before + size + reach) // ratio.denominator) * ratio.denominator
    position = np.arange(-before, total - before) % (2 * size)
    indices = np.where(position < size, position, 2 * size - 1 - position)
    return indices, int(before * ratio), out_size
