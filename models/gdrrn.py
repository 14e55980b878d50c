"""GDRRN: a recursion of grouped convolutions on the bicubic image (Li, Zhang, Ding, Wei and Zhang, IJCNN 2018)."""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import relu

from models.blocks import apply_in_strips
from models.network import Baseline, State
from models.registry import register

RECURSIONS, GROUPS = 9, 2


@register(
    "GDRRN",
    settings={"n_feats": 128},
    training={"loss": "mse_sam", "weight_decay": 1e-4, "clip_gradient": 0.005},
    prefix="input.",
)
class GDRRN(Baseline):
    """Nine recursions of two grouped convolutions, each with the first features added; plus `lms`.

    The ReLUs of the released network work in place, so that the first features and `lms` are added without their
    negative values (undershoots beside bright edges). The released weights need the same here.

    Args:
        n_colors: bands.
        n_scale: upsampling factor of the images; the tensors do not depend on it.
        n_feats: width, even; 128 as published.

    The names in the state_dict are those of the released network. `lms` is always added, so that a global residual
    has no effect.
    """

    identity_needs_residual = False
    band_prefixes = ("input.", "output.")
    has_band_output = True

    def __init__(self, n_colors: int, n_scale: int, n_feats: int = 128) -> None:
        super().__init__(n_colors, n_scale, n_feats)
        if n_feats < 1 or n_feats % GROUPS:
            raise ValueError(f"n_feats ({n_feats}) of GDRRN must be a multiple of its {GROUPS} groups")

        def conv(in_channels: int, out_channels: int, groups: int = 1) -> nn.Conv2d:
            layer = nn.Conv2d(in_channels, out_channels, 3, padding=1, groups=groups, bias=False)
            nn.init.normal_(layer.weight, std=(2 / (9 * out_channels)) ** 0.5)
            return layer

        self.input = conv(n_colors, n_feats)
        self.conv1 = conv(n_feats, n_feats, GROUPS)
        self.conv2 = conv(n_feats, n_feats, GROUPS)
        self.output = conv(n_feats, n_colors)

    def make_output(self, ms: torch.Tensor, lms: torch.Tensor) -> torch.Tensor:
        """See `Baseline`."""
        lms = relu(lms)
        x = first = relu(self.input(lms))
        for _ in range(RECURSIONS):
            x = (
                self._apply_recursion(x, first)
                if torch.is_grad_enabled()
                else apply_in_strips(self._apply_recursion, (x, first), 2)
            )
        output: torch.Tensor = self.output(relu(x)) + lms
        return output

    def _apply_recursion(self, x: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.conv2(relu(self.conv1(relu(x)), inplace=True)) + first
        return output

    def get_last_parameters(self) -> list[nn.Parameter]:
        """See `Baseline`."""
        return list(self.output.parameters())

    @classmethod
    def read_settings(cls, state: State) -> dict[str, Any]:
        """Return bands and width; the tensors do not determine the scale."""
        n_feats, n_colors = state["input.weight"].shape[:2]
        return {"n_colors": n_colors, "n_feats": n_feats}
