"""Geometric self-ensemble: the mean over the 8 flips and rotations of the input."""

import torch
from torch import nn


class SelfEnsemble(nn.Module):
    """Mean of a network's outputs for the 8 flips and rotations of its input, each transformed back (EDSR+).

    It takes eight times as long. Called like the network.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ms: torch.Tensor, lms: torch.Tensor, modality: str = "spectral") -> torch.Tensor:
        """B x C x h x w and B x C x s*h x s*w -> B x C x s*h x s*w."""
        total = torch.zeros_like(lms)
        for turns in range(4):
            for flipped in (False, True):
                output = self.model(*(_rotate(x, turns, flipped) for x in (ms, lms)), modality)
                total += _rotate_back(output, turns, flipped)
        return total / 8


def _rotate(x: torch.Tensor, turns: int, flipped: bool) -> torch.Tensor:
    x = torch.rot90(x, turns, (2, 3))
    return torch.flip(x, (2,)) if flipped else x


def _rotate_back(x: torch.Tensor, turns: int, flipped: bool) -> torch.Tensor:
    x = torch.flip(x, (2,)) if flipped else x
    return torch.rot90(x, -turns, (2, 3))
