"""3-D convolutions over hyperspectral images, computed as 2-D ones.

A volume of F feature maps in D bands is stored as (B*D) x F x h x w: the bands are folded into the batch, image by
image. In channels_last it has the memory layout of B x F x D x h x w in channels_last_3d. On a CPU, the 2-D
convolutions take half to two thirds of the time of torch's 3-D convolutions.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

from models.network import Baseline


class VolumeBaseline(Baseline):
    """A baseline with 3-D kernels."""

    def to(self, *args: Any, memory_format: torch.memory_format | None = None, **kwargs: Any) -> "VolumeBaseline":
        """Move the module without a memory format: torch rejects channels_last for 3-D kernels."""
        return super().to(*args, **kwargs)


def fold(x: torch.Tensor) -> torch.Tensor:
    """Fold the bands into the batch: B x F x D x h x w -> (B*D) x F x h x w."""
    return x.transpose(1, 2).reshape(-1, x.shape[1], *x.shape[3:])


def unfold(x: torch.Tensor, n_bands: int) -> torch.Tensor:
    """Return a view with the bands as an axis: (B*D) x F x h x w -> B x F x D x h x w."""
    output: torch.Tensor = x.unflatten(0, (-1, n_bands)).transpose(1, 2)
    return output


def pad_symmetric(x: torch.Tensor, amounts: Mapping[int, int]) -> torch.Tensor:
    """Pad a tensor by mirroring, the end values included: 3 2 1 0 | 0 1 2 3.

    Args:
        x: tensor of any shape.
        amounts: {axis: values to add at each end}. Paddings longer than the axis are mirrored again, as by `numpy.pad`.
    """
    for axis, amount in amounts.items():
        size = x.shape[axis]
        places = torch.arange(-amount, size + amount, device=x.device) % (2 * size)
        x = x.index_select(axis, torch.minimum(places, 2 * size - 1 - places))
    return x


def conv_volume(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, n_bands: int, same: bool = True
) -> torch.Tensor:
    """Convolve with a kernel F' x F x k x m x m (k bands, m pixels, both odd).

    (B*D) x F x h x w -> (B*D) x F' x h x w with zero padding. With same=False, without padding:
    D - k + 1 bands of (h - m + 1) x (w - m + 1) pixels.
    """
    maps_out, maps_in, taps, size = weight.shape[:4]
    padding, band_padding = (size // 2, taps // 2) if same else (0, 0)
    if taps == 1:
        return functional.conv2d(x, weight[:, :, 0], bias, padding=padding)
    if size == 1:
        # A convolution along the bands: an image of D rows, each with all pixels of a band.
        rows = unfold(x, n_bands).flatten(3)
        y = functional.conv2d(rows, weight[..., 0], bias, padding=(band_padding, 0))
        return fold(y.unflatten(3, x.shape[2:]))
    beyond = (0, 0) * 3 + (band_padding, band_padding)
    if maps_in < maps_out:
        # The k neighbouring bands of each band become its feature maps.
        bands = functional.pad(x.unflatten(0, (-1, n_bands)), beyond).unfold(1, taps, 1)
        maps = bands.permute(0, 1, 3, 4, 5, 2).flatten(4).flatten(0, 1).permute(0, 3, 1, 2)
        kernel = weight.transpose(1, 2).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        return functional.conv2d(maps, kernel, bias, padding=padding)
    # The products of all k taps are computed in one convolution, then shifted along the bands and summed.
    kernel = weight.transpose(1, 2).transpose(0, 1).flatten(0, 1).contiguous(memory_format=torch.channels_last)
    parts = functional.conv2d(x, kernel, padding=padding).permute(0, 2, 3, 1)
    # B x D x h x w x k x F': with the maps last, the gradient is in channels_last too.
    parts = parts.unflatten(3, (taps, maps_out)).unflatten(0, (-1, n_bands))
    parts = functional.pad(parts, (0, 0) * 4 + (band_padding, band_padding))
    left = parts.shape[1] - taps + 1
    total: Any = sum(parts[:, tap : tap + left, ..., tap, :] for tap in range(taps))
    y = total.flatten(0, 1).permute(0, 3, 1, 2)
    return y if bias is None else y + bias.view(-1, 1, 1)


def upsample_volume(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, n_bands: int, scale: int
) -> torch.Tensor:
    """Upsample by a transposed convolution: (B*D) x F x h x w -> (B*D) x F' x s*h x s*w; F x F' x 3 x (s+2) x (s+2)."""
    weight = weight.contiguous(memory_format=torch.channels_last_3d)
    y = functional.conv_transpose3d(unfold(x, n_bands), weight, bias, stride=(1, scale, scale), padding=1)
    return fold(y)
