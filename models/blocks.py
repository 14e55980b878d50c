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

# Without gradients, feature maps are worked on in strips of rows of at most so many values (8 MB of float32): beside
# what a strip needs, a body then holds one map of the whole image. So many stay in a CPU's cache; a GPU takes more.
VALUES_PER_STRIP, STRIPS_ON_CUDA = 2**21, 16
# Band groups go through the branches in portions of so many values in the feature maps, once enlarged. 2**22 float32
# values are 16 MB.
VALUES_PER_CHUNK = 2**22
# Every network has at least so many tensors for each of the blocks in one of its bodies.
MIN_TENSORS_PER_BLOCK = 4


def conv(in_channels: int, out_channels: int, kernel_size: int) -> nn.Conv2d:
    """Convolution with bias and "same" zero padding, as everywhere in the method."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)


def apply_pointwise(layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """A 1 x 1 convolution. On CUDA it is a product of matrices, which adds the bias without another pass."""
    if layer.kernel_size != (1, 1) or not x.is_cuda:
        return layer(x)
    return functional.linear(x.permute(0, 2, 3, 1), layer.weight.flatten(1), layer.bias).permute(0, 3, 1, 2)


class ChannelAttention(nn.Module):
    """The weights that feature maps are scaled by, learned from the maps' global means (RCAN's CA layer)."""

    def __init__(self, n_feats: int, reduction: int = 16) -> None:
        super().__init__()
        squeezed = max(1, n_feats // reduction)
        self.conv_du = nn.Sequential(conv(n_feats, squeezed, 1), nn.ReLU(), conv(squeezed, n_feats, 1), nn.Sigmoid())

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        """B x C x h x w -> B x C x 1 x 1, values 0..1: what each map of each image is multiplied by."""
        return self.conv_du(x.mean((2, 3), keepdim=True))


class ResidualBlock(nn.Module):
    """x + res_scale * body(x); body is conv-ReLU-conv, with channel attention behind it if asked."""

    def __init__(self, n_feats: int, kernel_size: int, attention: bool = False, res_scale: float = 0.1) -> None:
        super().__init__()
        layers = [conv(n_feats, n_feats, kernel_size), nn.ReLU(inplace=True), conv(n_feats, n_feats, kernel_size)]
        if attention:
            layers.append(ChannelAttention(n_feats))
        self.body = nn.Sequential(*layers)
        self.res_scale = res_scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """B x C x h x w -> B x C x h x w."""
        # res_scale goes into what is small, the attention's weights or the last convolution's: no pass over the maps.
        parts: list[Any] = list(self.body)
        if isinstance(parts[-1], ChannelAttention):
            *layers, attention = parts
            y = x
            for layer in layers:
                y = apply_pointwise(layer, y) if isinstance(layer, nn.Conv2d) else layer(y)
            return x + y * (attention.weights(y) * self.res_scale)
        first, relu, last = parts
        weight, bias = last.weight * self.res_scale, last.bias * self.res_scale
        return x + functional.conv2d(relu(first(x)), weight, bias, padding=weight.shape[2] // 2)

    def add_to_(self, x: torch.Tensor) -> torch.Tensor:
        """forward in place and in strips, for inference."""
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
    """Spatial-spectral block: a 3x3 residual block, then a 1x1 one with channel attention."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.spa = ResidualBlock(n_feats, 3)
        self.spc = ResidualBlock(n_feats, 1, attention=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """B x C x h x w -> B x C' x h' x w'."""
        return self.spc(self.spa(x))

    def add_to_(self, x: torch.Tensor) -> torch.Tensor:
        """forward in place and in strips, for inference."""
        return self.spc.add_to_(self.spa.add_to_(x))


class SSPN(nn.Module):
    """n_blocks spatial-spectral blocks, named net1, net2, ..., around which the input is added."""

    def __init__(self, n_feats: int, n_blocks: int) -> None:
        super().__init__()
        self.is_checkpointed = False
        for k in range(1, n_blocks + 1):
            self.add_module(f"net{k}", SSB(n_feats))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """B x C x h x w -> B x C' x h' x w'."""
        y = x
        for block in self.children():
            y = checkpoint(block, y, use_reentrant=False) if self.is_checkpointed else block(y)
        return x + y


class SubPixel(nn.Module):
    """`nn.PixelShuffle` that leaves channels_last as it is; torch's own returns contiguous maps on CUDA."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """B x s*s*C x h x w -> B x C x s*h x s*w."""
        s = self.scale
        pixels = x.permute(0, 2, 3, 1).unflatten(3, (-1, s, s))
        # B x h x w x C x s x s -> B x h x s x w x s x C
        return pixels.permute(0, 1, 4, 2, 5, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


class Upsampler(nn.Sequential):
    """Sub-pixel upsampling by 3 or by a power of two; scale 1 has no layers and changes nothing."""

    def __init__(self, scale: int, n_feats: int) -> None:
        if scale == 3:
            layers = [conv(n_feats, 9 * n_feats, 3), SubPixel(3)]
        else:
            steps = int(math.log2(scale))
            if 2**steps != scale:
                raise ValueError(f"cannot enlarge by {scale}: 3 or a power of two is needed")
            layers = [m for _ in range(steps) for m in (conv(n_feats, 4 * n_feats, 3), SubPixel(2))]
        super().__init__(*layers)


class Branch(nn.Module):
    """Head convolution, SSPN body, then an upsampler and a tail convolution where asked for.

    Maps B x in_channels x h x w to B x (out_channels or n_feats) x up_scale*h x up_scale*w.
    """

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
        """B x C x h x w -> B x C' x h' x w'."""
        if not torch.is_grad_enabled():
            return self._forward_in_strips(x)
        x = self.body(self.head(x))
        if self.upsample is not None:
            x = self.upsample(x)
        return x if self.tail is None else self.tail(x)

    def _forward_in_strips(self, x: torch.Tensor) -> torch.Tensor:
        # The body's input is made again at its end and not kept: one map less.
        y = self.head(x)
        blocks: Any = self.body.children()
        for block in blocks:
            block.add_to_(y)
        for top, bottom in list_strips(y):
            y[:, :, top:bottom] += apply_to_rows(self.head, (x,), top, bottom, halo=1)
        if self.upsample is None:
            return y
        ends = [m for m in (self.upsample, self.tail) if m is not None]
        # Each enlarging convolution and the tail look one row further, counted in ever smaller rows.
        scale = self.up_scale or 1
        return apply_in_strips(nn.Sequential(*ends), (y,), halo=3, scale=scale, growth=scale**2)


def set_activation_checkpointing(model: nn.Module, on: bool) -> None:
    """Have a network's blocks computed again in the backward pass, so that training keeps fewer maps."""
    for module in model.modules():
        if isinstance(module, SSPN):
            module.is_checkpointed = on


def list_strips(x: torch.Tensor, growth: int = 1) -> list[tuple[int, int]]:
    """(top, bottom) rows of the strips that B x C x H x W is worked on in; growth: values made of each of its."""
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
    """What function(*inputs) has in the rows that come of rows top..bottom of the inputs.

    Args:
        function: a row of its output depends on rows of the inputs at most halo away from it.
        scale: rows of the output to a row of the inputs.
    """
    first, last = max(0, top - halo), min(inputs[0].shape[2], bottom + halo)
    output = function(*(x[:, :, first:last] for x in inputs))
    return output[:, :, (top - first) * scale : (bottom - first) * scale]


def apply_in_strips(
    function: Callable[..., torch.Tensor], inputs: Sequence[torch.Tensor], halo: int, scale: int = 1, growth: int = 1
) -> torch.Tensor:
    """function(*inputs) computed strip by strip; see `apply_to_rows`; growth as in `list_strips`."""
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
    """x += alpha * function(x) strip by strip, function looking halo rows up and down; returns x."""
    above = x[:, :, :0]
    for top, bottom in list_strips(x):
        before = torch.cat([above, x[:, :, top : bottom + halo]], 2) if halo else x[:, :, top:bottom]
        height = above.shape[2]
        above = x[:, :, bottom - halo : bottom].clone() if halo else above
        x[:, :, top:bottom].add_(function(before)[:, :, height : height + bottom - top], alpha=alpha)
    return x


def join_skip(trunk_output: torch.Tensor, skip: nn.Module, lms: torch.Tensor, final: nn.Module) -> torch.Tensor:
    """final(trunk_output + skip(lms)), the end of a network with a skip convolution; final and skip are 3 x 3."""
    if torch.is_grad_enabled():
        return final(trunk_output + skip(lms))
    return apply_in_strips(lambda a, b: final(a + skip(b)), (trunk_output, lms), halo=2)


def apply_in_chunks(
    function: Callable[[torch.Tensor], torch.Tensor], groups: torch.Tensor, enlarged_values: int
) -> torch.Tensor:
    """function of a batch of band groups; without gradients a few groups at a time, for whole scenes' sake.

    Args:
        enlarged_values: values of a group's feature maps together, once they are enlarged.
    """
    if torch.is_grad_enabled():
        return function(groups)
    return torch.cat([function(part) for part in groups.split(max(1, VALUES_PER_CHUNK // enlarged_values))])


def compute_group_starts(n_colors: int, n_subs: int, n_ovls: int) -> list[int]:
    """First band of each group of n_subs bands; neighbours share n_ovls, the last ends at n_colors.

    31 bands in groups of 8 that share 2: [0, 6, 12, 18, 23].
    """
    step = n_subs - n_ovls
    n_groups = max(1, math.ceil((n_colors - n_ovls) / step))
    return [min(g * step, n_colors - n_subs) for g in range(n_groups)]


def gather_groups(x: torch.Tensor, starts: Sequence[int], n_subs: int) -> torch.Tensor:
    """B x C x h x w -> (G*B) x n_subs x h x w: all groups of all images as one batch, group-major."""
    return torch.cat([x[:, s : s + n_subs] for s in starts])


def make_merge_matrix(starts: Sequence[int], n_subs: int, n_colors: int) -> torch.Tensor:
    """G*n_subs x n_colors: a band's mean of the groups over it, for `merge_groups`."""
    covers = torch.zeros(len(starts), n_subs, n_colors)
    for group, start in enumerate(starts):
        covers[group, :, start : start + n_subs] = torch.eye(n_subs)
    return (covers / covers.sum((0, 1))).flatten(0, 1)


def merge_groups(groups: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """(G*B) x n_subs x H x W -> B x n_colors x H x W: the mean, band by band, of the groups over it.

    Args:
        matrix: from `make_merge_matrix`.
    """
    n_subs = groups.shape[1]
    # One product along the last axis of B x H x W x G*n_subs: the result is in channels_last, and so is the gradient.
    pixels = groups.permute(0, 2, 3, 1).unflatten(0, (matrix.shape[0] // n_subs, -1)).permute(1, 2, 3, 0, 4).flatten(3)
    return (pixels @ matrix.to(groups.dtype)).permute(0, 3, 1, 2)


def check_settings(n_colors: int, n_scale: int, n_feats: int, n_subs: int, n_ovls: int, n_blocks: int) -> None:
    """Refuse settings of which no network of band groups can be made.

    Raises:
        ValueError: naming the setting that cannot be.
    """
    if n_scale not in SCALES:
        raise ValueError(f"n_scale is one of {', '.join(map(str, SCALES))}, not {n_scale}")
    if n_colors < n_subs:
        raise ValueError(f"n_subs ({n_subs}) is at most the number of bands ({n_colors})")
    if not 0 <= n_ovls < n_subs:
        raise ValueError(f"n_ovls ({n_ovls}) is at least 0 and below n_subs ({n_subs})")
    if n_feats < 1 or n_blocks < 1:
        raise ValueError(f"n_feats ({n_feats}) and n_blocks ({n_blocks}) are at least 1")


def read_upsampling_factor(state: State, branch: str, n_feats: int) -> int:
    """The scale of a branch's upsampler: each of its convolutions makes scale**2 maps of one."""
    scale = 1
    for name, tensor in state.items():
        if re.fullmatch(rf"{re.escape(branch)}upsample\.\d+\.weight", name):
            scale *= round((tensor.shape[0] / n_feats) ** 0.5)
    return scale


def count_blocks(state: State, pattern: str) -> int:
    """How many different blocks the tensors' names have, by the pattern's group.

    Raises:
        ValueError: for more than there are tensors for: names alone make no blocks.
    """
    blocks = {m[1] for m in (re.match(pattern, name) for name in state) if m}
    if len(blocks) * MIN_TENSORS_PER_BLOCK > len(state):
        raise ValueError(f"{len(blocks)} blocks in {len(state)} tensors")
    return len(blocks)
