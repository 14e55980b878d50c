"""Scenes brought to one brightness: the task is linear in brightness, networks are not."""

import torch
from torch import nn


class Normalised(nn.Module):
    """A network asked about an image divided by its largest LR value, which its output is multiplied by again.

    Args:
        network: called as model(ms, lms, modality).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, ms: torch.Tensor, lms: torch.Tensor, modality: str = "spectral") -> torch.Tensor:
        """B x C x h x w and B x C x s*h x s*w -> B x C x s*h x s*w; each image of the batch has its own brightness."""
        peak = ms.amax((1, 2, 3), keepdim=True)
        # An image without light is left as it is.
        peak = torch.where(peak > 0, peak, 1)
        return self.network(ms / peak, lms / peak, modality) * peak
