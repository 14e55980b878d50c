"""What the peer networks of the published tables have in common."""

import torch
from torch import nn


class Peer(nn.Module):
    """A network for hyperspectral images alone, whose output can be added to `lms`.

    A subclass has `_output(ms, lms)`, which makes the output, and `_last_parameters()`, which are those that
    scale and shift it.

    Args:
        n_colors: bands; 0 where the network takes any number of them.
        n_scale: enlargement.
        global_residual: add the output to `lms`, as `DeepShare` can: not in the publications, marked in the
            state_dict by a buffer `global_residual`.
    """

    def __init__(self, n_colors, n_scale, global_residual=False):
        super().__init__()
        self.n_colors, self.n_scale = n_colors, n_scale
        self.has_global_residual = self.adds_to_lms = bool(global_residual)
        if global_residual:
            self.register_buffer("global_residual", torch.ones(()))

    def forward(self, ms, lms, modality="spectral"):
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
        y = self._output(ms, lms)
        return y + lms if self.has_global_residual else y

    @torch.no_grad()
    def init_identity(self):
        """Start as the bicubic image: what is added to it starts at zero. Not in the publications.

        Raises:
            ValueError: if nothing is added to it.
        """
        if not self.adds_to_lms:
            raise ValueError(f"init identity of {type(self).__name__} needs --global_residual 1")
        for parameter in self._last_parameters():
            parameter.zero_()
