"""Base classes of all networks: their call and the properties that they declare."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import nn

State = Mapping[str, torch.Tensor]
AnyNetwork = TypeVar("AnyNetwork", bound="Network")


class Network(nn.Module):
    """A network for super-resolution: model(ms, lms, modality) -> image.

    A subclass is registered with its name and published settings (`models.registry.register`), computes its output
    in `forward`, and overrides the class attributes below and `read_settings`.

    Args:
        n_colors: bands; 0 if the network takes any number of bands.
        n_scale: upsampling factor.
        n_feats: feature maps kept at the HR size, 0 if there are none.

    Attributes:
        modalities: kinds of images that it has a path for: "spectral", "rgb".
        identity_needs_residual: True if `init_identity` needs --global_residual 1.
        settings: the settings that `models.build_model` created it with.
        has_band_means: True if `set_band_means` must be called before training.
        band_prefixes: prefixes of the tensors that depend on one sensor's bands; the other tensors serve any sensor.
        has_band_output: True if its last layer depends on the bands, so that for new bands it can start as bicubic.
        branch_prefixes: prefixes of the tensors that process few neighbouring bands of any sensor; () if it has none.
    """

    modalities: tuple[str, ...] = ("spectral",)
    identity_needs_residual = True
    has_band_means = False
    band_prefixes: tuple[str, ...] = ()
    has_band_output = False
    branch_prefixes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, n_colors: int, n_scale: int, n_feats: int = 0) -> None:
        super().__init__()
        self.n_colors, self.n_scale, self.n_feats = n_colors, n_scale, n_feats

    def move_to(self: AnyNetwork, device: torch.device) -> AnyNetwork:
        """Move the network to a device, in the fastest memory format, and return it."""
        output: AnyNetwork = self.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return output

    def forward_pair(
        self, ms: torch.Tensor, lms: torch.Tensor, rgb_ms: torch.Tensor, rgb_lms: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Super-resolve a batch of hyperspectral images and a batch of RGB images; equal to two calls."""
        return self(ms, lms, "spectral"), self(rgb_ms, rgb_lms, "rgb")

    def init_identity(self) -> None:
        """Initialise the network so that its output is, or is near, the bicubic image (not in the papers).

        Raises:
            ValueError: if the network does not support it with its settings.
        """
        raise ValueError(f"{type(self).__name__} does not support init identity")

    def set_band_means(self, values: torch.Tensor) -> None:
        """Set the mean of each band of the training data; without effect unless `has_band_means`."""

    @classmethod
    def read_settings(cls, state: State) -> dict[str, Any]:
        """Derive the settings that the tensors determine, as keyword arguments of `build_model`.

        Raises:
            LookupError, TypeError, ValueError, ZeroDivisionError: if the tensors are not those of this network.
        """
        return {}

    @classmethod
    def complete_state(cls, state: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], str]:
        """Add tensors that a released state_dict lacks; return it with a remark for the user, or ""."""
        return state, ""


class Baseline(Network):
    """A network for hyperspectral images only, whose output can be added to `lms`.

    A subclass defines `make_output(ms, lms)` and `get_last_parameters()`, which scale and shift the output. If
    `make_output` adds `lms` itself, it sets `identity_needs_residual` to False and has no `global_residual`.

    Args:
        n_colors, n_scale, n_feats: see `Network`.
        global_residual: add the output to `lms` (not in the papers); a buffer `global_residual` in the state_dict
            records it.
    """

    def __init__(self, n_colors: int, n_scale: int, n_feats: int = 0, global_residual: bool = False) -> None:
        super().__init__(n_colors, n_scale, n_feats)
        self.has_global_residual = bool(global_residual)
        if global_residual:
            self.register_buffer("global_residual", torch.ones(()))

    def make_output(self, ms: torch.Tensor, lms: torch.Tensor) -> torch.Tensor:
        """Compute the output without the global residual: ms and lms as in `forward` -> B x C x s*h x s*w."""
        raise NotImplementedError

    def get_last_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the last layer: if all are zero, the output is zero."""
        raise NotImplementedError

    def forward(self, ms: torch.Tensor, lms: torch.Tensor, modality: str = "spectral") -> torch.Tensor:
        """Super-resolve a batch.

        Args:
            ms: low-resolution images, B x C x h x w, values 0..1.
            lms: the bicubic images, B x C x s*h x s*w.
            modality: "spectral": these networks have no path for RGB images.

        Returns:
            B x C x s*h x s*w, not clipped.

        Raises:
            ValueError: for another modality.
        """
        if modality != "spectral":
            raise ValueError(f"modality of {type(self).__name__} must be 'spectral', not {modality!r}")
        y = self.make_output(ms, lms)
        return y + lms if self.has_global_residual else y

    @torch.no_grad()
    def init_identity(self) -> None:
        """Initialise the residual to zero, so that the output is the bicubic image (not in the papers).

        Raises:
            ValueError: if the network has no residual.
        """
        if self.identity_needs_residual and not self.has_global_residual:
            raise ValueError(f"init identity of {type(self).__name__} needs --global_residual 1")
        for parameter in self.get_last_parameters():
            parameter.zero_()
