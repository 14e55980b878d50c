"""MATLAB's `imresize(image, scale, "bicubic")` on top of torch's antialiased interpolation.

Torch weighs samples as MATLAB does (Keys' kernel with a = -0.5, widened when shrinking), but cuts the
kernel off at the border, where MATLAB mirrors the image. Mirroring first makes the two equal: to 4e-14
of MATLAB's own output in float64.
"""

from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch

from system.devices import send_to

# Above this many pixels along an axis, dense matrices would multiply mostly zeros.
LARGEST_PATCH = 256


def imresize(image: np.ndarray, scale: float | Fraction) -> np.ndarray:
    """Resize an image by bicubic interpolation exactly as MATLAB does (antialiased, symmetric border).

    Args:
        image: H x W or H x W x C array of any numeric type.
        scale: factor > 0 that is a ratio of small whole numbers, e.g. 4, 1/4, 1/3, 1.5.

    Returns:
        float64 array, ceil(scale * H) x ceil(scale * W) [x C]; not rounded, not clipped.

    Raises:
        ValueError: for another number of axes, or a scale that is no such ratio.
    """
    image = np.asarray(image, dtype=np.float64)
    if image.ndim not in (2, 3):
        raise ValueError(f"imresize takes an H x W or H x W x C image, got shape {image.shape}")
    # A copy in any case: torch takes no negative strides, which single pixels keep otherwise.
    bands_first = torch.from_numpy(np.array(np.atleast_3d(image).transpose(2, 0, 1), order="C"))
    resized = resize_batch(bands_first[None], scale)[0].numpy().transpose(1, 2, 0)
    return np.ascontiguousarray(resized[:, :, 0] if image.ndim == 2 else resized)


def resize_batch(x: torch.Tensor, scale: float | Fraction) -> torch.Tensor:
    """imresize for a batch on its own device: B x C x H x W -> B x C x ceil(scale*H) x ceil(scale*W).

    Computed in the dtype of x (float32 or float64), which is also the result's. Patches are resized by
    two small matrix products, several times as fast on them as the interpolation that the matrices are
    made with; the two agree to rounding.
    """
    ratio = Fraction(scale).limit_denominator(64)
    if ratio <= 0 or abs(float(ratio) - float(scale)) > 1e-9 * abs(float(scale)):
        raise ValueError(f"scale is a positive ratio of small whole numbers, e.g. 4 or 1/4, not {scale}")
    if max(x.shape[2:]) > LARGEST_PATCH:
        return interpolate(x, ratio)
    # Products along the last axes of B x H x W x C: no copies for channels_last batches.
    x = x.permute(0, 2, 3, 1)
    rows = _get_matrix(x.shape[1], ratio, x.dtype, x.device)
    cols = _get_matrix(x.shape[2], ratio, x.dtype, x.device)
    resized_rows = rows @ x.flatten(2)
    resized = cols @ resized_rows.unflatten(2, x.shape[2:])
    return resized.permute(0, 3, 1, 2)


def degrade(gt: torch.Tensor, n_scale: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """The published degradation: gt -> (ms, lms), both by bicubic interpolation, no noise, no clipping.

    Args:
        gt: B x C x H x W, H and W multiples of n_scale.
        n_scale: whole number.
        dtype: what to compute in. float32 is three times as fast and within 3e-7 of float64 for values
            in 0..1, as long as matrix products are not done in TF32.

    Returns:
        ms = float32(imresize(gt, 1/n_scale)), lms = float32(imresize(ms, n_scale)).
    """
    ms = resize_batch(gt.to(dtype), Fraction(1, n_scale)).float()
    return ms, upsample(ms, n_scale, dtype)


def upsample(ms: torch.Tensor, n_scale: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """lms = float32(imresize(ms, n_scale)) for B x C x h x w: what the network adds its detail to."""
    return resize_batch(ms.to(dtype), n_scale).float()


def back_project(y: torch.Tensor, ms: torch.Tensor, n_scale: int, times: int) -> torch.Tensor:
    """A result with what it lacks of its input added (iterative back-projection; Irani and Peleg, 1991).

    Args:
        y: B x C x s*h x s*w, the result.
        ms: B x C x h x w, what its degradation should be.
        n_scale: s.
        times: how often y + enlarged(ms - degraded(y)) takes the place of y.
    """
    for _ in range(times):
        y = y + resize_batch(ms - resize_batch(y, Fraction(1, n_scale)), n_scale)
    return y


def interpolate(x: torch.Tensor, ratio: Fraction) -> torch.Tensor:
    """Torch's interpolation of the mirrored images, cut to the part that MATLAB returns."""
    rows, top, height = _mirror_indices(x.shape[2], ratio)
    cols, left, width = _mirror_indices(x.shape[3], ratio)
    padded = x[:, :, torch.from_numpy(rows).to(x.device)][:, :, :, torch.from_numpy(cols).to(x.device)]
    full_size = (int(len(rows) * ratio), int(len(cols) * ratio))
    full = torch.nn.functional.interpolate(padded, size=full_size, mode="bicubic", antialias=True)
    return full[:, :, top : top + height, left : left + width]


@lru_cache(maxsize=64)
def _get_matrix(size: int, ratio: Fraction, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """_make_matrix where it is needed, and kept there."""
    return send_to(device, _make_matrix(size, ratio).to(dtype))


@lru_cache(maxsize=64)
def _make_matrix(size: int, ratio: Fraction) -> torch.Tensor:
    """ceil(ratio*size) x size float64: resizing one axis, read off the images of unit impulses."""
    indices, offset, out_size = _mirror_indices(size, ratio)
    impulses = torch.eye(size, dtype=torch.float64)[torch.from_numpy(indices)]
    out_length = int(len(indices) * ratio)
    full = torch.nn.functional.interpolate(
        impulses[None, None], size=(out_length, size), mode="bicubic", antialias=True
    )
    return full[0, 0, offset : offset + out_size]


def _mirror_indices(size: int, ratio: Fraction) -> tuple[np.ndarray, int, int]:
    """Source indices of the mirrored axis, the output's offset in its resized form, the output's size.

    Both paddings are chosen so that the padded length and the offset come out whole after resizing.
    """
    out_size = -(-size * ratio.numerator // ratio.denominator)
    # The kernel reaches 2 samples, or 2/ratio when shrinking.
    reach = int(2 * max(Fraction(1), 1 / ratio)) + 2
    before = -(-reach // ratio.denominator) * ratio.denominator
    total = -(-(before + size + reach) // ratio.denominator) * ratio.denominator
    position = np.arange(-before, total - before) % (2 * size)
    indices = np.where(position < size, position, 2 * size - 1 - position)
    return indices, int(before * ratio), out_size
