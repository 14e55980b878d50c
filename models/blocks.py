"""Building blocks shared by the networks: spatial-spectral blocks, upsampler, band groups."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from facts import SCALES
from models.network import State

# Inference processes feature maps in strips of rows with at most this many values (8 MB of float32), which stay in a
# CPU's cache: a body then keeps one map of the whole image and the maps of one strip. CUDA uses larger strips.
VALUES_PER_STRIP, STRIPS_ON_CUDA = 2**21, 16
# Inference passes band groups through the branches in chunks with at most this many values of upsampled feature maps
# (16 MB of float32).
VALUES_PER_CHUNK = 2**22
# Smallest number of tensors in one block of any network.
MIN_TENSORS_PER_BLOCK = 4


def conv(in_channels: int, out_channels: int, kernel_size: int) -> nn.Conv2d:
    """Return a convolution with bias and "same" zero padding, as used throughout the method."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)


def apply_pointwise(layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """Apply a 1 x 1 convolution. On CUDA: as a matrix product, which adds the bias without another pass."""
    if layer.kernel_size != (1, 1) or not x.is_cuda:
        output: torch.Tensor = layer(x)
        return output
    return functional.linear(x.permute(0, 2, 3, 1), layer.weight.flatten(1), layer.bias).permute(0, 3, 1, 2)


class ChannelAttention(nn.Module):
    """Channel attention: scale factors of feature maps from their global means (CA layer of RCAN)."""

    def __init__(self, n_feats: int, reduction: int = 16) -> None:
        super().__init__()
        squeezed = max(1, n_feats // reduction)
        self.conv_du = nn.Sequential(conv(n_feats, squeezed, 1), nn.ReLU(), conv(squeezed, n_feats, 1), nn.Sigmoid())

    def compute_weights(self, x: torch.Tensor) -> torch.Tensor:
        """Return the factor of each map of each image: B x C x h x w -> B x C x 1 x 1, values 0..1."""
        output: torch.Tensor = self.conv_du(x.mean((2, 3), keepdim=True))
        return output


class ResidualBlock(nn.Module):
    """x + res_scale * body(x); body: conv-ReLU-conv, followed by channel attention if attention is True."""

    def __init__(self, n_feats: int, kernel_size: int, attention: bool = False, res_scale: float = 0.1) -> None:
        super().__init__()
        layers = [conv(n_feats, n_feats, kernel_size), nn.ReLU(inplace=True), conv(n_feats, n_feats, kernel_size)]
        if attention:
            layers.append(ChannelAttention(n_feats))
        self.body = nn.Sequential(*layers)
        self.res_scale = res_scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """B x C x h x w -> B x C x h x w."""
        # res_scale is multiplied into the small attention weights or kernel, which saves a pass over the maps.
        parts: list[Any] = list(self.body)
        if isinstance(parts[-1], ChannelAttention):
            *layers, attention = parts
            y = x
            for layer in layers:
                y = apply_pointwise(layer, y) if isinstance(layer, nn.Conv2d) else layer(y)
            output: torch.Tensor = x + y * (attention.compute_weights(y) * self.res_scale)
            return output
        first, relu, last = parts
        weight, bias = last.weight * self.res_scale, last.bias * self.res_scale
        return x + functional.conv2d(relu(first(x)), weight, bias, padding=weight.shape[2] // 2)

    def add_to_(self, x: torch.Tensor) -> torch.Tensor:
        """Compute `forward` in place and in strips, for inference."""
        if not isinstance(self.body[-1], ChannelAttention):
            return add_in_strips_(x, self.body, self.res_scale, halo=2)
        # The attention needs the mean of its whole input. That input is the last convolution's output,
        # which is 1 x 1: the mean of its input is enough.
        parts: list[Any] = list(self.body)
        *layers, last, attention = parts
        first = nn.Sequential(*layers)
        sums: Any = 0
        for top, bottom in list_strips(x):
            sums = sums + first(x[:, :, top:bottom]).sum((2, 3), keepdim=True)
        weights = attention.conv_du(last(sums / (x.shape[2] * x.shape[3])))
        return add_in_strips_(x, lambda strip: last(first(strip)) * weights, self.res_scale)


class SSB(nn.Module):
    """Spatial-spectral block: a 3x3 residual block, then a 1x1 residual block with channel attention."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.spa = ResidualBlock(n_feats, 3)
        self.spc = ResidualBlock(n_feats, 1, attention=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """B x C x h x w -> B x C x h x w."""
        output: torch.Tensor = self.spc(self.spa(x))
        return output

    def add_to_(self, x: torch.Tensor) -> torch.Tensor:
        """Compute `forward` in place and in strips, for inference."""
        return self.spc.add_to_(self.spa.add_to_(x))


class SSPN(nn.Module):
    """Spatial-spectral network body: x + SSB_n(...SSB_1(x)); the n_blocks blocks are named net1, net2, ..."""

    def __init__(self, n_feats: int, n_blocks: int) -> None:
        super().__init__()
        self.is_checkpointed = False
        for k in range(1, n_blocks + 1):
            self.add_module(f"net{k}", SSB(n_feats))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """B x C x h x w -> B x C x h x w."""
        y = x
        for block in self.children():
            y = checkpoint(block, y, use_reentrant=False) if self.is_checkpointed else block(y)
        return x + y


class SubPixel(nn.Module):
    """`nn.PixelShuffle` that keeps channels_last; torch's version returns contiguous (NCHW) maps on CUDA."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """B x s*s*C x h x w -> B x C x s*h x s*w."""
        s = self.scale
        pixels = x.permute(0, 2, 3, 1).unflatten(3, (-1, s, s))
        # B x h x w x C x s x s -> B x h x s x w x s x C
        output: torch.Tensor = pixels.permute(0, 1, 4, 2, 5, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
        return output


class Upsampler(nn.Sequential):
    """Sub-pixel upsampling by 3 or a power of two; scale 1 has no layers and returns its input.

    Raises:
        ValueError: for any other scale.
    """

    def __init__(self, scale: int, n_feats: int) -> None:
        if scale == 3:
            layers = [conv(n_feats, 9 * n_feats, 3), SubPixel(3)]
        else:
            steps = int(math.log2(scale))
            if 2**steps != scale:
                raise ValueError(f"cannot upsample by {scale}: 3 or a power of two is needed")
            layers = [m for _ in range(steps) for m in (conv(n_feats, 4 * n_feats, 3), SubPixel(2))]
        super().__init__(*layers)


class Branch(nn.Module):
    """Head convolution, SSPN body, optional upsampler, optional tail convolution."""

    def __init__(
        self,
        in_channels: int,
        n_feats: int,
        n_blocks: int,
        up_scale: int | None = None,
        out_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.up_scale = up_scale
        self.head = conv(in_channels, n_feats, 3)
        self.body = SSPN(n_feats, n_blocks)
        self.upsample = Upsampler(up_scale, n_feats) if up_scale else None
        self.tail = conv(n_feats, out_channels, 3) if out_channels else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """B x in_channels x h x w -> B x (out_channels or n_feats) x up_scale*h x up_scale*w."""
        if not torch.is_grad_enabled():
            return self._forward_in_strips(x)
        x = self.body(self.head(x))
        if self.upsample is not None:
            x = self.upsample(x)
        return x if self.tail is None else self.tail(x)

    def _forward_in_strips(self, x: torch.Tensor) -> torch.Tensor:
        # The body's input is recomputed for its skip connection, which saves keeping a second map.
        y: torch.Tensor = self.head(x)
        blocks: Any = self.body.children()
        for block in blocks:
            block.add_to_(y)
        for top, bottom in list_strips(y):
            y[:, :, top:bottom] += apply_to_rows(self.head, (x,), top, bottom, halo=1)
        if self.upsample is None:
            return y
        ends = [m for m in (self.upsample, self.tail) if m is not None]
        # Each upsampling convolution and the tail need one more row of their input: less than 3 LR rows together.
        scale = self.up_scale or 1
        return apply_in_strips(nn.Sequential(*ends), (y,), halo=3, scale=scale, growth=scale**2)


def set_activation_checkpointing(model: nn.Module, on: bool) -> None:
    """Switch activation checkpointing: the backward pass recomputes the maps of each block instead of keeping them."""
    for module in model.modules():
        if isinstance(module, SSPN):
            module.is_checkpointed = on


def list_strips(x: torch.Tensor, growth: int = 1) -> list[tuple[int, int]]:
    """Return (top, bottom) of the row strips of B x C x H x W; growth: values computed from each input value."""
    values_per_row = x.shape[0] * x.shape[1] * x.shape[3] * growth
    rows = max(8, VALUES_PER_STRIP * (STRIPS_ON_CUDA if x.is_cuda else 1) // values_per_row)
    return [(top, min(top + rows, x.shape[2])) for top in range(0, x.shape[2], rows)]


def apply_to_rows(
    function: Callable[..., torch.Tensor],
    inputs: Sequence[torch.Tensor],
    top: int,
    bottom: int,
    halo: int,
    scale: int = 1,
) -> torch.Tensor:
    """Return the rows of function(*inputs) that correspond to rows top..bottom of the inputs.

    Args:
        function: each row of its output depends on input rows at most halo away.
        inputs: B x C x H x W each.
        top, bottom: rows of the inputs.
        halo: input rows.
        scale: output rows for each input row.
    """
    first, last = max(0, top - halo), min(inputs[0].shape[2], bottom + halo)
    output = function(*(x[:, :, first:last] for x in inputs))
    return output[:, :, (top - first) * scale : (bottom - first) * scale]


def apply_in_strips(
    function: Callable[..., torch.Tensor], inputs: Sequence[torch.Tensor], halo: int, scale: int = 1, growth: int = 1
) -> torch.Tensor:
    """Compute function(*inputs) strip by strip; see `apply_to_rows`, and `list_strips` for growth."""
    output = inputs[0]
    for top, bottom in list_strips(inputs[0], growth):
        rows = apply_to_rows(function, inputs, top, bottom, halo, scale)
        if top == 0:
            shape = (*rows.shape[:2], inputs[0].shape[2] * scale, rows.shape[3])
            output = torch.empty(shape, dtype=rows.dtype, device=rows.device, memory_format=torch.channels_last)
        output[:, :, top * scale : bottom * scale] = rows
    return output


def add_in_strips_(
    x: torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor], alpha: float, halo: int = 0
) -> torch.Tensor:
    """Compute x += alpha * function(x) strip by strip and return x; function depends on halo rows up and down."""
    above = x[:, :, :0]
    for top, bottom in list_strips(x):
        before = torch.cat([above, x[:, :, top : bottom + halo]], 2) if halo else x[:, :, top:bottom]
        height = above.shape[2]
        above = x[:, :, bottom - halo : bottom].clone() if halo else above
        x[:, :, top:bottom].add_(function(before)[:, :, height : height + bottom - top], alpha=alpha)
    return x


def join_skip(trunk_output: torch.Tensor, skip: nn.Module, lms: torch.Tensor, final: nn.Module) -> torch.Tensor:
    """Return final(trunk_output + skip(lms)), the end of a network; final and skip are 3 x 3 convolutions."""
    if torch.is_grad_enabled():
        output: torch.Tensor = final(trunk_output + skip(lms))
        return output
    return apply_in_strips(lambda a, b: final(a + skip(b)), (trunk_output, lms), halo=2)


def apply_in_chunks(
    function: Callable[[torch.Tensor], torch.Tensor], groups: torch.Tensor, values_per_group: int
) -> torch.Tensor:
    """Apply a function to a batch of band groups; without gradients in chunks, which bounds the memory of scenes.

    Args:
        function: maps a batch to a batch.
        groups: G*B x n_subs x h x w.
        values_per_group: values of the upsampled feature maps of one group.
    """
    if torch.is_grad_enabled():
        return function(groups)
    return torch.cat([function(part) for part in groups.split(max(1, VALUES_PER_CHUNK // values_per_group))])


def compute_group_starts(n_colors: int, n_subs: int, n_ovls: int) -> list[int]:
    """Return the first band of each group of n_subs bands; neighbours share n_ovls, the last ends at n_colors.

    31 bands in groups of 8 that share 2: [0, 6, 12, 18, 23].
    """
    step = n_subs - n_ovls
    n_groups = max(1, math.ceil((n_colors - n_ovls) / step))
    return [min(g * step, n_colors - n_subs) for g in range(n_groups)]


def gather_groups(x: torch.Tensor, starts: Sequence[int], n_subs: int) -> torch.Tensor:
    """Gather all groups of all images into one batch, group-major: B x C x h x w -> (G*B) x n_subs x h x w."""
    return torch.cat([x[:, s : s + n_subs] for s in starts])


def make_merge_matrix(starts: Sequence[int], n_subs: int, n_colors: int) -> torch.Tensor:
    """Return the G*n_subs x n_colors matrix that averages each band over the groups that contain it."""
    covers = torch.zeros(len(starts), n_subs, n_colors)
    for group, start in enumerate(starts):
        covers[group, :, start : start + n_subs] = torch.eye(n_subs)
    return (covers / covers.sum((0, 1))).flatten(0, 1)


def merge_groups(groups: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Average each band over the groups that contain it: (G*B) x n_subs x H x W -> B x n_colors x H x W.

    Args:
        matrix: from `make_merge_matrix`.
    """
    n_subs = groups.shape[1]
    # One product along the last axis of B x H x W x G*n_subs: the result is in channels_last, and so is the gradient.
    pixels = groups.permute(0, 2, 3, 1).unflatten(0, (matrix.shape[0] // n_subs, -1)).permute(1, 2, 3, 0, 4).flatten(3)
    output: torch.Tensor = (pixels @ matrix.to(groups.dtype)).permute(0, 3, 1, 2)
    return output


def check_settings(n_colors: int, n_scale: int, n_feats: int, n_subs: int, n_ovls: int, n_blocks: int) -> None:
    """Check the settings of a network of band groups.

    Raises:
        ValueError: naming the setting that is out of range.
    """
    if n_scale not in SCALES:
        raise ValueError(f"n_scale must be one of {', '.join(map(str, SCALES))}, not {n_scale}")
    if n_colors < n_subs:
        raise ValueError(f"n_subs ({n_subs}) must be at most the number of bands ({n_colors})")
    if not 0 <= n_ovls < n_subs:
        raise ValueError(f"n_ovls ({n_ovls}) must be at least 0 and below n_subs ({n_subs})")
    if n_feats < 1 or n_blocks < 1:
        raise ValueError(f"n_feats ({n_feats}) and n_blocks ({n_blocks}) must be at least 1")


def read_upsampling_factor(state: State, branch: str, n_feats: int) -> int:
    """Derive the scale of a branch's upsampler from its kernels: each convolution multiplies the maps by scale**2."""
    scale = 1
    for name, tensor in state.items():
        if re.fullmatch(rf"{re.escape(branch)}upsample\.\d+\.weight", name):
            scale *= round((tensor.shape[0] / n_feats) ** 0.5)
    return scale


def count_blocks(state: State, pattern: str) -> int:
    """Count the distinct values of the pattern's group in the tensors' names.

    Raises:
        ValueError: for more blocks than the number of tensors allows, as in a forged file.
    """
    blocks = {m[1] for m in (re.match(pattern, name) for name in state) if m}
    if len(blocks) * MIN_TENSORS_PER_BLOCK > len(state):
        raise ValueError(f"{len(blocks)} blocks in {len(state)} tensors")
    return len(blocks)
