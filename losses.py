"""The training loss: L1 with squared total variation along space and spectrum (SSPSR's hybrid loss)."""

SPATIAL_TV_WEIGHT = 1e-3
SPECTRAL_TV_WEIGHT = 1e-3


def spatial_tv(x):
    """Squared total variation along rows and columns of B x C x H x W, mean over the batch (a scalar)."""
    batch, bands, height, width = x.shape
    dh = (x[:, :, 1:] - x[:, :, :-1]).square().sum() / max(1, bands * (height - 1) * width)
    dw = (x[:, :, :, 1:] - x[:, :, :, :-1]).square().sum() / max(1, bands * height * (width - 1))
    return (dh + dw) / batch


def spectral_tv(x):
    """Twice the squared total variation along the bands of B x C x H x W, mean over the batch."""
    batch, bands, height, width = x.shape
    dc = (x[:, 1:] - x[:, :-1]).square().sum() / max(1, (bands - 1) * height * width)
    return 2 * dc / batch


def hybrid_loss(pred, target):
    """mean |pred - target| + 1e-3 * spatial_tv(pred) + 1e-3 * spectral_tv(pred).

    Args:
        pred, target: B x C x H x W, values 0..1. Gradients flow into both: the consistency loss
            compares two predictions.

    Returns:
        A scalar tensor.
    """
    l1 = (pred - target).abs().mean()
    return l1 + SPATIAL_TV_WEIGHT * spatial_tv(pred) + SPECTRAL_TV_WEIGHT * spectral_tv(pred)
