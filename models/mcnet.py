"""MCNet: modules of 2-D and 3-D convolutions (Li, Wang and Li, Remote Sensing 2020)."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from models.blocks import apply_in_strips, count_blocks
from models.network import State
from models.registry import register
from models.volumes import VolumeBaseline, conv_volume, upsample_volume

# Band means of the training data of the released network (CAVE), which its weights do not contain.
CAVE_BAND_MEANS = (
    *(0.0939, 0.0950, 0.0869, 0.0839, 0.0850, 0.0809, 0.0769, 0.0762, 0.0788, 0.0790, 0.0834),
    *(0.0894, 0.0944, 0.0956, 0.0939, 0.1187, 0.0903, 0.0928, 0.0985, 0.1046, 0.1121, 0.1194),
    *(0.1240, 0.1256, 0.1259, 0.1272, 0.1291, 0.1300, 0.1352, 0.1428, 0.1541),
)


@register(
    "MCNet",
    settings={"n_feats": 64, "n_blocks": 1, "global_residual": False},
    training={"loss": "l1"},
    prefix="SSRM1.",
)
class MCNet(VolumeBaseline):
    """Four mixed 2-D/3-D modules at low resolution, then a transposed 3-D convolution; `lms` is not used.

    Args:
        n_colors: bands.
        n_scale: upsampling factor, 2 or more.
        n_feats: width; 64 as published.
        n_blocks: separable 3-D convolutions in each stage of a module (the released n_conv); 1 as published.
        global_residual: see `Baseline`; `lms` then replaces the band means in the output.

    The names in the state_dict are those of the released network, and `band_means`, which are subtracted from the
    input and added to the output.
    """

    has_band_means = True
    band_prefixes = ("band_means",)
    band_means: torch.Tensor

    def __init__(
        self, n_colors: int, n_scale: int, n_feats: int = 64, n_blocks: int = 1, global_residual: bool = False
    ) -> None:
        super().__init__(n_colors, n_scale, n_feats, global_residual)
        if n_scale < 2 or n_feats < 1 or n_blocks < 1:
            raise ValueError(
                f"n_scale ({n_scale}) of MCNet must be at least 2, n_feats ({n_feats}) and n_blocks ({n_blocks}) at "
                "least 1"
            )
        self.register_buffer("band_means", torch.zeros(n_colors))
        self.head = _NormedConv(n_colors, nn.Conv3d(1, n_feats, 3))
        for k in range(1, 5):
            self.add_module(f"SSRM{k}", _MixedModule(n_colors, n_feats, n_blocks))
        self.tail = nn.Sequential(
            _NormedUpsampling(n_colors, n_scale, nn.ConvTranspose3d(n_feats, n_feats, (3, n_scale + 2, n_scale + 2))),
            _NormedConv(n_colors, nn.Conv3d(n_feats, 1, 3)),
        )

    @torch.no_grad()
    def set_band_means(self, values: torch.Tensor) -> None:
        """Set the means of the training data, one value for each band."""
        self.band_means.copy_(torch.as_tensor(values))

    def make_output(self, ms: torch.Tensor, lms: torch.Tensor) -> torch.Tensor:
        """See `Baseline`."""
        means = self.band_means.view(-1, 1, 1)
        first = self._apply_in_strips(
            self.head, (ms - means).reshape(-1, 1, *ms.shape[2:]), 1, self.head.weight_g.numel()
        )
        x = first
        modules: Any = (self.SSRM1, self.SSRM2, self.SSRM3, self.SSRM4)
        for module in modules:
            x = self._apply_in_strips(module, x, module.halo) + first
        # An upsampled row depends on one LR row up and down, the last convolution on one more upsampled row.
        y = self._apply_in_strips(self.tail, x, 2, self.n_scale**2, self.n_scale)
        y = y.reshape(ms.shape[0], self.n_colors, *y.shape[2:])
        return y if self.has_global_residual else y + means

    def _apply_in_strips(
        self, layer: nn.Module, x: torch.Tensor, halo: int, growth: int = 1, scale: int = 1
    ) -> torch.Tensor:
        return layer(x) if torch.is_grad_enabled() else apply_in_strips(layer, (x,), halo, scale, growth)

    def get_last_parameters(self) -> list[nn.Parameter]:
        """See `Baseline`."""
        last: Any = self.tail[1]
        return [last.weight_g, last.bias]

    @classmethod
    def read_settings(cls, state: State) -> dict[str, Any]:
        """Return all settings; see `Network`."""
        return {
            "n_colors": len(state["band_means"]),
            "n_scale": state["tail.0.weight_v"].shape[-1] - 2,
            "n_feats": len(state["head.weight_g"]),
            "n_blocks": count_blocks(state, r"SSRM1\.Block1\.(\d+)\."),
            "global_residual": "global_residual" in state,
        }

    @classmethod
    def complete_state(cls, state: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], str]:
        """Add the band means that released weights do not contain; see `Network`."""
        if "band_means" in state or "SSRM1.gamma" not in state:
            return state, ""
        remark = "contains no band means; using those of CAVE, as in the released MCNet"
        return {**state, "band_means": torch.tensor(CAVE_BAND_MEANS)}, remark


class _MixedModule(nn.Module):
    """Three stages of 3-D convolutions; the output of each stage passes 2-D convolutions, then all are merged.

    Each output row depends on `halo` rows up and down.
    """

    def __init__(self, n_bands: int, n_feats: int, n_blocks: int) -> None:
        super().__init__()

        def stage() -> nn.Sequential:
            return nn.Sequential(*(_Separable(n_bands, n_feats) for _ in range(n_blocks)))

        def make_band_convs() -> nn.Sequential:
            layers = [_NormedConv2d(nn.Conv2d(n_feats, n_feats, 3)) for _ in range(2)]
            return nn.Sequential(layers[0], nn.ReLU(inplace=True), layers[1])

        self.Block1, self.Block2, self.Block3 = stage(), stage(), stage()
        self.reduceF = _ConvReLU(n_bands, nn.Conv3d(3 * n_feats, n_feats, 1))
        self.Conv = _Separable(n_bands, n_feats)
        self.gamma = nn.Parameter(torch.ones(3))
        self.conv1, self.conv2, self.conv3 = make_band_convs(), make_band_convs(), make_band_convs()
        self.halo = 3 * n_blocks + 3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B*D) x F x h x w -> the same shape."""
        y, features = x, []
        for stage, convs, gamma in zip(
            (self.Block1, self.Block2, self.Block3), (self.conv1, self.conv2, self.conv3), self.gamma, strict=True
        ):
            y = stage(y) + y
            features.append(gamma * convs(y))
        output: torch.Tensor = self.Conv(self.reduceF(torch.cat(features, 1)) + x)
        return output


class _Separable(nn.Module):
    """A 1 x 3 x 3, then a 3 x 1 x 1 convolution, each with a ReLU."""

    def __init__(self, n_bands: int, n_feats: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _ConvReLU(n_bands, nn.Conv3d(n_feats, n_feats, (1, 3, 3))),
            _ConvReLU(n_bands, nn.Conv3d(n_feats, n_feats, (3, 1, 1))),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.conv(x)
        return output


class _ConvReLU(nn.Module):
    def __init__(self, n_bands: int, layer: nn.Module) -> None:
        super().__init__()
        self.conv = _NormedConv(n_bands, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.conv(x), inplace=True)


class _Normed(nn.Module):
    """Weight normalisation with the released parameter names: weight = weight_g * weight_v / |weight_v|.

    torch.nn.utils.parametrizations.weight_norm uses other names.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.bias: nn.Parameter = layer.bias
        self.weight_g = nn.Parameter(_compute_norm(layer.weight.detach()))
        self.weight_v: nn.Parameter = layer.weight

    @property
    def weight(self) -> torch.Tensor:
        return self.weight_v * (self.weight_g / _compute_norm(self.weight_v))


def _compute_norm(kernel: torch.Tensor) -> torch.Tensor:
    output: torch.Tensor = torch.linalg.vector_norm(kernel, dim=tuple(range(1, kernel.dim())), keepdim=True)
    return output


class _NormedConv(_Normed):
    def __init__(self, n_bands: int, layer: nn.Module) -> None:
        super().__init__(layer)
        self.n_bands = n_bands

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return conv_volume(x, self.weight, self.bias, self.n_bands)


class _NormedConv2d(_Normed):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, self.weight, self.bias, padding=1)


class _NormedUpsampling(_Normed):
    def __init__(self, n_bands: int, scale: int, layer: nn.Module) -> None:
        super().__init__(layer)
        self.n_bands, self.scale = n_bands, scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return upsample_volume(x, self.weight, self.bias, self.n_bands, self.scale)
