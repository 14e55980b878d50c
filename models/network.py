"""What every network here is: how it is called, and what it says of itself."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import nn

State = Mapping[str, torch.Tensor]
AnyNetwork = TypeVar("AnyNetwork", bound="Network")


class Network(nn.Module):
    """A network for super-resolution: model(ms, lms, modality) -> image.

    A subclass is registered with its name and published settings (`models.registry.register`), makes its output in
    `forward`, and says here what it has and how its settings are read off its tensors.

    Args:
        n_colors: bands; 0 where the network takes any number of them.
        n_scale: enlargement.
        n_feats: feature maps that it holds at the HR size, 0 where there are none.

    Attributes:
        modalities: the kinds of images that it has a path for, of "spectral" and "rgb".
        identity_needs_residual: True if `init_identity` needs --global_residual 1.
        settings: the settings that `models.build_model` made it with.
        has_band_means: whether `set_band_means` wants to be called before training.
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
        """The network on a device, in the memory format that is fastest there."""
        return self.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward_pair(
        self, ms: torch.Tensor, lms: torch.Tensor, rgb_ms: torch.Tensor, rgb_lms: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch of hyperspectral images and one of RGB images, as two calls would make them."""
        return self(ms, lms, "spectral"), self(rgb_ms, rgb_lms, "rgb")

    def init_identity(self) -> None:
        """Start as, or near, the bicubic image. Not in the publications, for short runs.

        Raises:
            ValueError: where the network, as it was made, cannot.
        """
        raise ValueError(f"init identity is not known of {type(self).__name__}")

    def set_band_means(self, values: torch.Tensor) -> None:
        """Take note of the mean of each band of the training data, where the network wants it."""

    @classmethod
    def read_settings(cls, state: State) -> dict[str, Any]:
        """What a state_dict tells of the settings of such a network: keyword arguments of `build_model`.

        Raises:
            LookupError, TypeError, ValueError, ZeroDivisionError: if these are not such a network's tensors.
        """
        return {}

    @classmethod
    def complete_state(cls, state: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], str]:
        """A released state_dict with what it lacks beside our own, and a remark on that ("" where it lacks nothing)."""
        return state, ""


class Baseline(Network):
    """A network for hyperspectral images alone, whose output can be added to `lms`.

    A subclass defines `make_output(ms, lms)` and `get_last_parameters()`, which scale and shift the output. If
    `make_output` adds `lms` itself, it sets `identity_needs_residual` to False and has no `global_residual`.

    Args:
        n_colors, n_scale, n_feats: see `Network`.
        global_residual: add the output to `lms`, as `DeepShare` can: not in the publications, marked in the
            state_dict by a buffer `global_residual`.
    """

    def __init__(self, n_colors: int, n_scale: int, n_feats: int = 0, global_residual: bool = False) -> None:
        super().__init__(n_colors, n_scale, n_feats)
        self.has_global_residual = bool(global_residual)
        if global_residual:
            self.register_buffer("global_residual", torch.ones(()))

    def make_output(self, ms: torch.Tensor, lms: torch.Tensor) -> torch.Tensor:
        """The network proper: ms and lms as of `forward` -> B x C x s*h x s*w."""
        raise NotImplementedError

    def get_last_parameters(self) -> list[nn.Parameter]:
        """The parameters that, all zero, make the output zero."""
        raise NotImplementedError

    def forward(self, ms: torch.Tensor, lms: torch.Tensor, modality: str = "spectral") -> torch.Tensor:
        """Super-resolve a batch.

        Args:
            ms: low-resolution images, B x C x h x w, values 0..1.
            lms: their bicubic enlargement, B x C x s*h x s*w.
            modality: "spectral": these networks have no path for RGB images.

        Returns:
            B x C x s*h x s*w, not clipped.
        """
        if modality != "spectral":
            raise ValueError(f"modality of {type(self).__name__} is 'spectral', not {modality!r}")
        y = self.make_output(ms, lms)
        return y + lms if self.has_global_residual else y

    @torch.no_grad()
    def init_identity(self) -> None:
        """Start as the bicubic image: what is added to it starts at zero. Not in the publications.

        Raises:
            ValueError: if nothing is added to it.
        """
        if self.identity_needs_residual and not self.has_global_residual:
            raise ValueError(f"init identity of {type(self).__name__} needs --global_residual 1")
        for parameter in self.get_last_parameters():
            parameter.zero_()
