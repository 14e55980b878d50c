"""Normalisation of brightness (not in the paper): the task is linear in brightness, networks are not."""

import torch
from torch import nn

from facts import HEADROOM


class NormalisedNetwork(nn.Module):
    """A network applied to images divided by their largest LR value; its output is multiplied by the same value.

    Args:
        network: called as network(ms, lms, modality).
        by: "scene": one value for each image; "bands": one for each band, times HEADROOM.
        peaks: the divisors, 1 or C positive numbers; None: computed for each image.
    """

    def __init__(self, network: nn.Module, by: str = "scene", peaks: torch.Tensor | None = None) -> None:
        super().__init__()
        self.network, self.by, self.peaks = network, by, peaks

    def forward(self, ms: torch.Tensor, lms: torch.Tensor, modality: str = "spectral") -> torch.Tensor:
        """B x C x h x w and B x C x s*h x s*w -> B x C x s*h x s*w."""
        if self.peaks is not None:
            peak = self.peaks.to(ms)[:, None, None]
        elif self.by == "bands":
            peak = HEADROOM * ms.amax((2, 3), keepdim=True)
        else:
            peak = ms.amax((1, 2, 3), keepdim=True)
        # Dark images or bands are not divided.
        peak = torch.where(peak > 0, peak, 1)
        output: torch.Tensor = self.network(ms / peak, lms / peak, modality) * peak
        return output
