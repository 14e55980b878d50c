"""A network with the inference options of `test` and `predict`, in the order in which they are applied."""

import numpy as np
import torch
from torch import nn

from data.imresize import back_project
from models.any_bands import BandPlan
from models.brightness import NormalisedNetwork
from models.ensemble import SelfEnsemble
from models.precision import PrecisionWrapper


def wrap_for_inference(network: nn.Module, precision: str, self_ensemble: bool) -> nn.Module:
    """Wrap a network, which is on its device, in a precision and, if self_ensemble is True, in the self-ensemble."""
    inner = PrecisionWrapper(network, precision)
    return SelfEnsemble(inner) if self_ensemble else inner


class Predictor(nn.Module):
    """A network applied to a scene's bands, with normalisation and iterative back-projection.

    Args:
        network: called as network(ms, lms, modality); see `wrap_for_inference`.
        n_scale: upsampling factor of the network.
        plan: mapping of the scene's bands.
        normalise: "none", "scene" or "bands", see `NormalisedNetwork`.
        back_projection: number of iterations.
        peaks: see `NormalisedNetwork`.
        has_data: see `BandPlan.apply`.
    """

    def __init__(
        self,
        network: nn.Module,
        n_scale: int,
        plan: BandPlan,
        normalise: str = "none",
        back_projection: int = 0,
        peaks: torch.Tensor | None = None,
        has_data: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        inner = plan.apply(network, has_data)
        self.inner = inner if normalise == "none" else NormalisedNetwork(inner, normalise, peaks)
        self.n_scale, self.back_projection = n_scale, back_projection

    def forward(self, ms: torch.Tensor, lms: torch.Tensor, modality: str = "spectral") -> torch.Tensor:
        """B x C x h x w and B x C x s*h x s*w in 0..1 -> B x C x s*h x s*w."""
        return back_project(self.inner(ms, lms, modality), ms, self.n_scale, self.back_projection)
