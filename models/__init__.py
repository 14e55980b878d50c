"""The networks, by the names that --model_title takes."""

from models.bicubic import Bicubic
from models.deepshare import DeepShare
from models.fcnn3d import FCNN3D
from models.gdrrn import GDRRN
from models.mcnet import MCNet
from models.sspsr import SSPSR

MODEL_NAMES = ("DeepShare", "SSPSR", "GDRRN", "3DFCNN", "MCNet", "Bicubic")


def build_model(
    name, n_colors, n_scale, n_feats=256, n_subs=8, n_ovls=2, n_blocks=3, use_share=True, global_residual=False
):
    """Make a network with fresh weights.

    Args:
        name: one of MODEL_NAMES.
        n_colors: bands of the hyperspectral images.
        n_scale: enlargement.
        n_feats, n_subs, n_ovls, n_blocks: width, bands per group, shared bands, blocks per body. The defaults
            are DeepShare's; `config.PUBLISHED` has the peers'. Each network takes those that it has.
        use_share: see `DeepShare`, the only one that has it.
        global_residual: see `DeepShare` and `Peer`.

    Returns:
        A module called as model(ms, lms, modality="spectral" | "rgb"), "rgb" for DeepShare alone:
        B x C x h x w and B x C x s*h x s*w in 0..1 -> B x C x s*h x s*w.

    Raises:
        ValueError: naming the argument that cannot be.
    """
    makers = {
        "DeepShare": lambda: DeepShare(
            n_colors, n_scale, n_feats, n_subs, n_ovls, n_blocks, use_share, global_residual
        ),
        "SSPSR": lambda: SSPSR(n_colors, n_scale, n_feats, n_subs, n_ovls, n_blocks, global_residual),
        "GDRRN": lambda: GDRRN(n_colors, n_scale, n_feats),
        "3DFCNN": lambda: FCNN3D(n_colors, n_scale, global_residual),
        "MCNet": lambda: MCNet(n_colors, n_scale, n_feats, n_blocks, global_residual),
        "Bicubic": lambda: Bicubic(n_colors, n_scale),
    }
    if name not in makers:
        raise ValueError(f"model_title is one of {', '.join(MODEL_NAMES)}, not {name!r}")
    return makers[name]()
