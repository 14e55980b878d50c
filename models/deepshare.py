"""DeepShare: one network for hyperspectral and RGB super-resolution (arXiv 2101.07589, section 3)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from models.blocks import (
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
from models.network import Network, State
from models.registry import register


@register(
    "DeepShare",
    settings={
        "n_feats": 256,
        "n_subs": 8,
        "n_ovls": 2,
        "n_blocks": 3,
        "use_share": True,
        "global_residual": False,
    },
    prefix="branch1.",
)
class DeepShare(Network):
    """Two branches shared by all band groups and by RGB images, one trunk for each modality.

    Args:
        n_colors: bands of the hyperspectral images, at least n_subs.
        n_scale: upsampling factor, one of `facts.SCALES`.
        n_feats: width F of all feature maps.
        n_subs, n_ovls: bands in a group, bands shared by neighbouring groups.
        n_blocks: spatial-spectral blocks in each body.
        use_share: False: separate branches for each group and for RGB images, as an ablation. The state_dict then
            has branch1.0, branch1.1, ...; RGB is last.
        global_residual: add the network's output to `lms` (not in the paper; short runs converge with it). A buffer
            `global_residual` in the state_dict distinguishes such weights from released ones.

    The names in the state_dict are those of the released checkpoints.
    """

    modalities = ("spectral", "rgb")
    identity_needs_residual = False
    band_prefixes: tuple[str, ...] = ("trunk.", "skip_conv.", "final.")
    has_band_output = True
    branch_prefixes = ("branch1.", "branch2.")
    merging: torch.Tensor

    def __init__(
        self,
        n_colors: int,
        n_scale: int,
        n_feats: int = 256,
        n_subs: int = 8,
        n_ovls: int = 2,
        n_blocks: int = 3,
        use_share: bool = True,
        global_residual: bool = False,
    ) -> None:
        super().__init__(n_colors, n_scale, n_feats)
        check_settings(n_colors, n_scale, n_feats, n_subs, n_ovls, n_blocks)
        # branch1 upsamples by half the scale, branch2 by two; branch2 alone by an odd scale.
        first, second = (n_scale // 2, 2) if n_scale % 2 == 0 else (1, n_scale)
        self.n_subs = n_subs
        self.starts = compute_group_starts(n_colors, n_subs, n_ovls)
        self.use_share = use_share
        self.register_buffer("merging", make_merge_matrix(self.starts, n_subs, n_colors), persistent=False)

        def make_branches(make: Callable[[], Branch]) -> Any:
            return make() if use_share else nn.ModuleList([make() for _ in range(len(self.starts) + 1)])

        self.branch1 = make_branches(lambda: Branch(n_subs, n_feats, n_blocks, up_scale=first))
        self.branch2 = make_branches(lambda: Branch(n_feats, n_feats, n_blocks, up_scale=second, out_channels=n_subs))
        self.trunk = Branch(n_colors, n_feats, n_blocks)
        self.skip_conv = conv(n_colors, n_feats, 3)
        self.final = conv(n_feats, n_colors, 3)
        self.trunk_RGB = Branch(n_subs, n_feats, n_blocks)
        self.skip_conv_RGB = conv(n_subs, n_feats, 3)
        self.final_RGB = conv(n_feats, n_subs, 3)
        self.has_global_residual = bool(global_residual)
        if not use_share:
            # Branches that are not shared depend on the sensor's bands.
            self.band_prefixes = (*self.band_prefixes, *self.branch_prefixes)
        if global_residual:
            self.register_buffer("global_residual", torch.ones(()))

    def forward(self, ms: torch.Tensor, lms: torch.Tensor, modality: str = "spectral") -> torch.Tensor:
        """Super-resolve a batch.

        Args:
            ms: low-resolution images, B x C x h x w, values 0..1; C is n_colors for "spectral",
                n_subs for "rgb" (an RGB image lifted to one group of bands).
            lms: the bicubic images, B x C x s*h x s*w.
            modality: "spectral" or "rgb".

        Returns:
            B x C x s*h x s*w, not clipped.

        Raises:
            ValueError: for another modality.
        """
        if modality == "spectral":
            return self._finish_spectral(self._upsample_groups(ms), lms)
        if modality == "rgb":
            return self._finish_rgb(self._upsample(ms, -1), lms)
        raise ValueError(f"modality must be 'spectral' or 'rgb', not {modality!r}")

    def forward_pair(
        self, ms: torch.Tensor, lms: torch.Tensor, rgb_ms: torch.Tensor, rgb_lms: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Network`; the shared branches process both kinds of images in one batch."""
        if not self.use_share:
            return super().forward_pair(ms, lms, rgb_ms, rgb_lms)
        groups = gather_groups(ms, self.starts, self.n_subs)
        upsampled = self._upsample(torch.cat([groups, rgb_ms]), 0)
        spectral, rgb = upsampled.split([len(groups), len(rgb_ms)])
        return self._finish_spectral(spectral, lms), self._finish_rgb(rgb, rgb_lms)

    def _finish_spectral(self, groups: torch.Tensor, lms: torch.Tensor) -> torch.Tensor:
        """Merge the upsampled groups, (G*B) x n_subs x s*h x s*w, into the images."""
        y = join_skip(self.trunk(merge_groups(groups, self.merging)), self.skip_conv, lms, self.final)
        return y + lms if self.has_global_residual else y

    def _finish_rgb(self, group: torch.Tensor, lms: torch.Tensor) -> torch.Tensor:
        y = join_skip(self.trunk_RGB(group), self.skip_conv_RGB, lms, self.final_RGB)
        return y + lms if self.has_global_residual else y

    def _upsample(self, groups: torch.Tensor, index: int) -> torch.Tensor:
        """Apply both branches, without sharing those of an index: B x n_subs x h x w -> B x n_subs x s*h x s*w."""
        if self.use_share:
            output: torch.Tensor = self.branch2(self.branch1(groups))
            return output
        output = self.branch2[index](self.branch1[index](groups))
        return output

    def _upsample_groups(self, ms: torch.Tensor) -> torch.Tensor:
        """Apply both branches to every band group: B x n_colors x h x w -> (G*B) x n_subs x s*h x s*w."""
        groups = gather_groups(ms, self.starts, self.n_subs)
        if not self.use_share:
            per_group = groups.chunk(len(self.starts))
            return torch.cat([self._upsample(group, g) for g, group in enumerate(per_group)])
        values = self.skip_conv.out_channels * ms.shape[2] * ms.shape[3] * self.branch1.up_scale**2
        return apply_in_chunks(lambda part: self._upsample(part, 0), groups, values)

    @torch.no_grad()
    def init_identity(self, trunk_gain: float = 0.1) -> None:
        """Initialise the network so that its output is near `lms` (not in the paper, for short runs).

        With a global residual, which adds `lms`, the final convolutions start at zero. Without it, the skip
        convolution copies the bands into the first feature maps, the final convolution copies them back, and the
        trunks' first convolutions are multiplied by trunk_gain. The architecture does not change.

        Raises:
            ValueError: without a global residual, if n_feats is below n_colors.
        """
        parts: Any = (
            (self.trunk, self.skip_conv, self.final),
            (self.trunk_RGB, self.skip_conv_RGB, self.final_RGB),
        )
        for trunk, skip, final in parts:
            if self.has_global_residual:
                final.weight.zero_()
                final.bias.zero_()
                continue
            n = skip.in_channels
            if skip.out_channels < n:
                raise ValueError(f"init identity needs n_feats >= {n} (the bands), got {skip.out_channels}")
            nn.init.dirac_(skip.weight)
            nn.init.dirac_(final.weight)
            skip.bias.zero_()
            final.bias.zero_()
            trunk.head.weight.mul_(trunk_gain)
            trunk.head.bias.mul_(trunk_gain)

    @classmethod
    def read_settings(cls, state: State) -> dict[str, Any]:
        """Return all settings except the overlap of the groups; see `Network`."""
        shared = "branch1.head.weight" in state
        first, second = ("branch1.", "branch2.") if shared else ("branch1.0.", "branch2.0.")
        n_feats, n_subs = state[f"{first}head.weight"].shape[:2]
        return {
            "n_colors": state["trunk.head.weight"].shape[1],
            "n_scale": read_upsampling_factor(state, first, n_feats) * read_upsampling_factor(state, second, n_feats),
            "n_feats": n_feats,
            "n_subs": n_subs,
            "n_blocks": count_blocks(state, r"trunk\.body\.(net\d+)\."),
            "use_share": shared,
            "global_residual": "global_residual" in state,
        }
