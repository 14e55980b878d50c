"""3DFCNN: four 3-D convolutions on the bicubic image (Mei, Yuan, Ji, Zhang, Wan and Du, Remote Sensing 2017)."""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import relu

from models.blocks import apply_in_strips
from models.network import State
from models.registry import register
from models.volumes import VolumeBaseline, conv_volume, pad_symmetric

# Rows and columns that the convolutions consume at each edge (4 by the first kernel, 2 by the last), and bands (3, 1).
HALO, BAND_HALO = 6, 4


# The widths are fixed; n_feats is listed for the names of runs and for tables.
@register(
    "3DFCNN",
    settings={"global_residual": False},
    training={"n_feats": 64, "loss": "mse", "learning_rate": 5e-5},
    prefix="conv4.",
)
class FCNN3D(VolumeBaseline):
    """Kernels 9 x 9 x 7 to 64 maps, 1 x 1 x 1 to 32 and to 9, 5 x 5 x 3 to the image, with ReLUs between.

    The convolutions consume 6 pixels and 4 bands at each end. The released data script mirrors 4 bands first; here
    rows and columns are mirrored in the same way, which keeps the size.

    Args:
        n_colors: bands of the images, 0 if unknown; the tensors do not depend on it.
        n_scale: upsampling factor of the images; the tensors do not depend on it.
        global_residual: see `Baseline`.
    """

    def __init__(self, n_colors: int, n_scale: int, global_residual: bool = False) -> None:
        super().__init__(n_colors, n_scale, global_residual=global_residual)
        self.conv1 = nn.Conv3d(1, 64, (7, 9, 9))
        self.conv2 = nn.Conv3d(64, 32, 1)
        self.conv3 = nn.Conv3d(32, 9, 1)
        self.conv4 = nn.Conv3d(9, 1, (3, 5, 5))
        # The default of Keras, used by the released code.
        layers: Any = self.children()
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def make_output(self, ms: torch.Tensor, lms: torch.Tensor) -> torch.Tensor:
        """See `Baseline`."""
        if torch.is_grad_enabled():
            return self._forward_rows(lms)
        # A strip is padded too: inside the image, its padded rows affect only its halo, which is cut off.
        # growth 8 instead of the 64 maps: wider strips compute fewer halo rows twice.
        return apply_in_strips(self._forward_rows, (lms,), HALO, growth=8)

    def _forward_rows(self, lms: torch.Tensor) -> torch.Tensor:
        x = pad_symmetric(lms, {1: BAND_HALO, 2: HALO, 3: HALO})
        n_bands = x.shape[1]
        x = x.reshape(-1, 1, *x.shape[2:])
        for layer in (self.conv1, self.conv2, self.conv3):
            x = relu(conv_volume(x, layer.weight, layer.bias, n_bands, same=False), inplace=True)
            n_bands -= layer.kernel_size[0] - 1
        return conv_volume(x, self.conv4.weight, self.conv4.bias, n_bands, same=False).reshape(lms.shape)

    def get_last_parameters(self) -> list[nn.Parameter]:
        """See `Baseline`."""
        return list(self.conv4.parameters())

    @classmethod
    def read_settings(cls, state: State) -> dict[str, Any]:
        """Return the global residual; the tensors do not determine bands and scale."""
        return {"global_residual": "global_residual" in state}
