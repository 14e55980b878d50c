"""Training losses: L1 with squared total variation (SSPSR's hybrid loss), a relative loss, losses of the baselines.

Means and differences are computed with the bands as the last axis, so that the gradients are in channels_last, the
memory format of the convolutions.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

SPATIAL_TV_WEIGHT = 1e-3
SPECTRAL_TV_WEIGHT = 1e-3
SPECTRAL_ANGLE_WEIGHT = 0.1
# Added to the mean of a band that divides its error: bounds the relative error of dark bands.
DARK_LEVEL = 0.02
# Mean plus DARK_LEVEL at which the relative error equals the absolute error.
USUAL_LEVEL = 0.15
# Spectra with a norm below this have no defined angle: for 31 bands, a fraction of one step of 16 bits.
DARK = 1e-4


def spatial_tv(x: torch.Tensor) -> torch.Tensor:
    """Return the squared total variation along rows and columns of B x C x H x W, mean over the batch (a scalar)."""
    batch, bands, height, width = x.shape
    x = x.permute(0, 2, 3, 1)
    dh = (x[:, 1:] - x[:, :-1]).square().sum() / max(1, bands * (height - 1) * width)
    dw = (x[:, :, 1:] - x[:, :, :-1]).square().sum() / max(1, bands * height * (width - 1))
    return (dh + dw) / batch


def spectral_tv(x: torch.Tensor) -> torch.Tensor:
    """Return twice the squared total variation along the bands of B x C x H x W, mean over the batch (a scalar)."""
    batch, bands, height, width = x.shape
    x = x.permute(0, 2, 3, 1)
    dc = (x[..., 1:] - x[..., :-1]).square().sum() / max(1, (bands - 1) * height * width)
    return 2 * dc / batch


def hybrid_loss(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return mean |pred - target| + 1e-3 * spatial_tv(pred) + 1e-3 * spectral_tv(pred) (SSPSR; arXiv 2101.07589).

    Args:
        pred, target: B x C x H x W, values 0..1. Gradients flow into both: the consistency loss
            compares two predictions.

    Returns:
        A scalar tensor.
    """
    return _add_variation((pred - target).permute(0, 2, 3, 1).abs().mean(), pred)


def relative_loss(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the hybrid loss with errors relative to the brightness of each image and band (not in the paper).

    The mean absolute error is replaced by 0.15 * mean |pred - target| / (m + 0.02), where m is the mean of target
    over rows and columns. ERGAS is a relative measure too.

    Args:
        pred, target: B x C x H x W, values 0..1.

    Returns:
        A scalar tensor.
    """
    level = target.mean((2, 3), keepdim=True).clamp(min=0) + DARK_LEVEL
    error = ((pred - target) / level).permute(0, 2, 3, 1).abs().mean()
    return _add_variation(USUAL_LEVEL * error, pred)


def _add_variation(error: torch.Tensor, pred: torch.Tensor) -> torch.Tensor:
    return error + SPATIAL_TV_WEIGHT * spatial_tv(pred) + SPECTRAL_TV_WEIGHT * spectral_tv(pred)


def spectral_angle(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean over the pixels of the angle between two spectra in radians, 0 where either is dark.

    2 atan(|u - v| / |u + v|) of the unit spectra u and v: unlike the arc cosine, it is exact for small angles, and its
    gradient is finite there and at dark pixels.

    Args:
        pred, target: B x C x H x W.

    Returns:
        A scalar tensor, 0..pi.
    """
    norms = [torch.linalg.vector_norm(x, dim=1, keepdim=True) for x in (pred, target)]
    lit = (norms[0] > DARK) & (norms[1] > DARK)
    # Dark spectra are replaced by equal spectra, which have no gradient.
    u, v = (torch.where(lit, x / norm.clamp(min=DARK), 1) for x, norm in zip((pred, target), norms, strict=True))
    difference, total = (torch.linalg.vector_norm(x, dim=1) for x in (u - v, u + v))
    return 2 * torch.atan2(difference, total).mean()


def mse_sam_loss(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return GDRRN's loss: half the squared error of an image, summed over its values, + 0.1 * spectral_angle.

    Args:
        pred, target: B x C x H x W, values 0..1.

    Returns:
        A scalar tensor, the mean over the batch.
    """
    half_error = (pred - target).square().sum() / (2 * len(pred))
    return half_error + SPECTRAL_ANGLE_WEIGHT * spectral_angle(pred, target)


Criterion = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
# By the values of --loss.
LOSSES: dict[str, Criterion] = {
    "hybrid": hybrid_loss,
    "l1": functional.l1_loss,
    "mse": functional.mse_loss,
    "mse_sam": mse_sam_loss,
    "relative": relative_loss,
}
