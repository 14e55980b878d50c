"""SSPSR: band groups through one shared branch, then a trunk (Jiang, Sun, Liu and Ma, TCI 2020)."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from models.blocks import (
    SSB,
    SSPN,
    Branch,
    apply_in_chunks,
    check_settings,
    compute_group_starts,
    conv,
    count_blocks,
    gather_groups,
    join_skip,
    make_merge_matrix,
    merge_groups,
    read_upsampling_factor,
)
from models.network import Baseline, State
from models.registry import register


@register(
    "SSPSR",
    settings={"n_feats": 256, "n_subs": 8, "n_ovls": 2, "n_blocks": 3, "global_residual": False},
    prefix="branch.",
)
class SSPSR(Baseline):
    """One branch for all band groups upsamples by half the scale, the trunk of all bands by two.

    Args:
        n_colors, n_scale, n_feats, n_subs, n_ovls, n_blocks: see `DeepShare`.
        global_residual: see `Baseline`.

    The names in the state_dict are those of the released network.
    """

    band_prefixes = ("trunk.", "skip_conv.", "final.")
    merging: torch.Tensor
    has_band_output = True
    branch_prefixes = ("branch.",)

    def __init__(
        self,
        n_colors: int,
        n_scale: int,
        n_feats: int = 256,
        n_subs: int = 8,
        n_ovls: int = 2,
        n_blocks: int = 3,
        global_residual: bool = False,
    ) -> None:
        super().__init__(n_colors, n_scale, n_feats, global_residual)
        check_settings(n_colors, n_scale, n_feats, n_subs, n_ovls, n_blocks)
        # As in DeepShare, the second upsampling alone serves an odd scale.
        first, second = (n_scale // 2, 2) if n_scale % 2 == 0 else (1, n_scale)
        self.n_subs, self.starts = n_subs, compute_group_starts(n_colors, n_subs, n_ovls)
        self.register_buffer("merging", make_merge_matrix(self.starts, n_subs, n_colors), persistent=False)
        self.branch = _Branch(n_subs, n_feats, n_blocks, up_scale=first, out_channels=n_subs)
        self.trunk = _Branch(n_colors, n_feats, n_blocks, up_scale=second)
        self.skip_conv = conv(n_colors, n_feats, 3)
        self.final = conv(n_feats, n_colors, 3)

    def make_output(self, ms: torch.Tensor, lms: torch.Tensor) -> torch.Tensor:
        """See `Baseline`."""
        y = self.trunk(merge_groups(self._upsample_groups(ms), self.merging))
        return join_skip(y, self.skip_conv, lms, self.final)

    def _upsample_groups(self, ms: torch.Tensor) -> torch.Tensor:
        groups = gather_groups(ms, self.starts, self.n_subs)
        values = self.skip_conv.out_channels * ms.shape[2] * ms.shape[3] * (self.branch.up_scale or 1) ** 2
        return apply_in_chunks(self.branch, groups, values)

    def get_last_parameters(self) -> list[nn.Parameter]:
        """See `Baseline`."""
        return list(self.final.parameters())

    @classmethod
    def read_settings(cls, state: State) -> dict[str, Any]:
        """Return all settings except the overlap of the groups; see `Network`."""
        n_feats, n_subs = state["branch.head.weight"].shape[:2]
        return {
            "n_colors": state["trunk.head.weight"].shape[1],
            "n_scale": read_upsampling_factor(state, "branch.", n_feats)
            * read_upsampling_factor(state, "trunk.", n_feats),
            "n_feats": n_feats,
            "n_subs": n_subs,
            "n_blocks": count_blocks(state, r"trunk\.body\.net\.(\d+)\."),
            "global_residual": "global_residual" in state,
        }


class _Branch(Branch):
    """A Branch whose body has the released tensor names."""

    def __init__(
        self, in_channels: int, n_feats: int, n_blocks: int, up_scale: int, out_channels: int | None = None
    ) -> None:
        super().__init__(in_channels, n_feats, 0, up_scale, out_channels)
        self.body = _Body(n_feats, n_blocks)


class _Body(SSPN):
    """An SSPN whose blocks are named net.0, net.1, ..."""

    def __init__(self, n_feats: int, n_blocks: int) -> None:
        super().__init__(n_feats, 0)
        self.net = nn.Sequential(*(SSB(n_feats) for _ in range(n_blocks)))

    def children(self) -> Iterator[nn.Module]:
        """Iterate over the blocks, as for an SSPN."""
        return self.net.children()
