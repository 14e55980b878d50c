"""The networks, by the names that --model_title takes."""

from models.bicubic import Bicubic
from models.deepshare import DeepShare

MODEL_NAMES = ("DeepShare", "Bicubic")


def build_model(
    name, n_colors, n_scale, n_feats=256, n_subs=8, n_ovls=2, n_blocks=3, use_share=True, global_residual=False
):
    """Make a network with fresh weights.

    Args:
        name: one of MODEL_NAMES.
        n_colors: bands of the hyperspectral images.
        n_scale: enlargement.
        n_feats, n_subs, n_ovls, n_blocks: width, bands per group, shared bands, blocks per body.
        use_share, global_residual: see `DeepShare`.

    Returns:
        A module called as model(ms, lms, modality="spectral" | "rgb"): B x C x h x w and
        B x C x s*h x s*w in 0..1 -> B x C x s*h x s*w.

    Raises:
        ValueError: naming the argument that cannot be.
    """
    if name == "Bicubic":
        return Bicubic(n_colors, n_scale)
    if name != "DeepShare":
        raise ValueError(f"model_title is one of {', '.join(MODEL_NAMES)}, not {name!r}")
    return DeepShare(n_colors, n_scale, n_feats, n_subs, n_ovls, n_blocks, use_share, global_residual)
