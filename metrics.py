"""Image quality of a super-resolved cube against the true one, in float64, without crop or clipping.

One function per metric; `quality_assessment` gathers them under the names of the published tables.
"""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.ndimage import correlate1d, uniform_filter

METRICS = ("MPSNR", "MSSIM", "MSSIM_gaussian", "ERGAS", "SAM", "CrossCorrelation", "RMSE")


class UnscoredBandWarning(UserWarning):
    """A band on which a metric is not defined, or infinite."""


def quality_assessment(gt, pred, data_range=1.0, ratio=4, band_names=None):
    """All seven metrics of one image.

    Args:
        gt, pred: H x W x C arrays, the truth and the prediction, in the same units.
        data_range: largest possible value less the smallest one.
        ratio: enlargement, for ERGAS; the published x8 tables were made with 4.
        band_names: C names for the warnings, e.g. "450 nm"; "band 1", ... without them.

    Returns:
        dict: MPSNR (dB), MSSIM, MSSIM_gaussian, ERGAS, SAM (degrees), CrossCorrelation, RMSE, as floats.
        Identical cubes have MPSNR infinity and are perfect otherwise. A band of no light that was
        predicted wrongly has ERGAS infinity. NaN stands only where nothing can be scored: SAM without
        a pixel lit in both cubes, CrossCorrelation without a band that varies in both.

    Warns:
        UnscoredBandWarning: naming the bands that CrossCorrelation leaves out or that make ERGAS infinite.

    Raises:
        ValueError: for shapes that differ or are not H x W x C, images under 7 x 7, or non-finite values.
    """
    gt, pred = np.asarray(gt, dtype=np.float64), np.asarray(pred, dtype=np.float64)
    if gt.ndim != 3 or gt.shape != pred.shape:
        raise ValueError(f"gt and pred are both H x W x C, got {gt.shape} and {pred.shape}")
    if min(gt.shape[:2]) < 7:
        raise ValueError(f"SSIM needs at least 7 x 7 pixels, got {gt.shape[0]} x {gt.shape[1]}")
    for name, cube in (("gt", gt), ("pred", pred)):
        if not np.isfinite(cube).all():
            raise ValueError(f"{name} has values that are not finite")
    names = list(band_names) if band_names is not None else [f"band {k + 1}" for k in range(gt.shape[2])]
    # Bands first, each band in one piece of memory: everything but SAM works band by band.
    gt_bands = np.ascontiguousarray(gt.transpose(2, 0, 1))
    pred_bands = np.ascontiguousarray(pred.transpose(2, 0, 1))
    mse = band_mse(gt_bands, pred_bands)
    per_band_ergas = _ergas_terms(gt_bands, mse)
    correlations = cross_correlation(gt_bands, pred_bands)
    _warn_of_bands("ERGAS is infinite: no light in", names, ~np.isfinite(per_band_ergas))
    spectral_angle = sam(gt_bands, pred_bands)
    if np.isnan(spectral_angle):
        warnings.warn("SAM is not defined: no pixel is lit in both cubes", UnscoredBandWarning, stacklevel=2)
    _warn_of_bands("CrossCorrelation leaves out (constant):", names, np.isnan(correlations))
    return {
        "MPSNR": float(np.mean(psnr(mse, data_range))),
        "MSSIM": float(np.mean(ssim(gt_bands, pred_bands, data_range))),
        "MSSIM_gaussian": float(np.mean(ssim(gt_bands, pred_bands, data_range, gaussian=True))),
        "ERGAS": float(100 / ratio * np.sqrt(np.mean(per_band_ergas))),
        "SAM": spectral_angle,
        "CrossCorrelation": _mean_of_scored(correlations),
        "RMSE": float(np.sqrt(np.mean(mse))),
    }


def band_mse(gt, pred):
    """Mean squared error of each band: C x H x W twice -> C."""
    difference = (gt - pred).reshape(len(gt), -1)
    return np.einsum("ci,ci->c", difference, difference) / difference.shape[1]


def psnr(mse, data_range=1.0):
    """Peak signal-to-noise ratio in dB, 10 log10(data_range^2 / MSE); infinity where the MSE is 0."""
    with np.errstate(divide="ignore"):
        return 10 * np.log10(data_range**2 / np.asarray(mse, dtype=np.float64))


def ergas(gt, pred, ratio=4):
    """Relative global error: (100/ratio) sqrt(mean over bands of MSE / mean(gt)^2) (Wald 2000)."""
    return float(100 / ratio * np.sqrt(np.mean(_ergas_terms(gt, band_mse(gt, pred)))))


def _ergas_terms(gt, mse):
    mean_squared = gt.mean(axis=(1, 2)) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(mse == 0, 0.0, mse / mean_squared)


def sam(gt, pred):
    """Spectral angle in degrees, mean over the pixels where both spectra are non-zero (C x H x W twice).

    Where no pixel qualifies: 0 for identical cubes, else NaN.
    """
    dot = np.einsum("chw,chw->hw", gt, pred)
    gt_norm = np.einsum("chw,chw->hw", gt, gt)
    pred_norm = np.einsum("chw,chw->hw", pred, pred)
    valid = (gt_norm > 0) & (pred_norm > 0)
    if not valid.any():
        return 0.0 if np.array_equal(gt, pred) else float("nan")
    cosine = dot[valid] / np.sqrt(gt_norm[valid] * pred_norm[valid])
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1)).mean()))


def cross_correlation(gt, pred):
    """Pearson's r of each band: C x H x W twice -> C; 1 for identical bands, else NaN where one is constant."""
    x = (gt - gt.mean(axis=(1, 2), keepdims=True)).reshape(len(gt), -1)
    y = (pred - pred.mean(axis=(1, 2), keepdims=True)).reshape(len(pred), -1)
    scale = np.sqrt(np.einsum("ci,ci->c", x, x) * np.einsum("ci,ci->c", y, y))
    # The mean of equal numbers may miss them by rounding, so a constant band is told by its values.
    constant = (np.ptp(gt, axis=(1, 2)) == 0) | (np.ptp(pred, axis=(1, 2)) == 0)
    identical = np.array([np.array_equal(a, b) for a, b in zip(gt, pred)])
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.einsum("ci,ci->c", x, y) / scale
    return np.where(identical, 1.0, np.where(constant, np.nan, r))


def ssim(gt, pred, data_range=1.0, gaussian=False):
    """Structural similarity of each band (Wang 2004): C x H x W twice -> C.

    Args:
        gaussian: False: 7 x 7 uniform window, sample covariance, mean over the pixels whose window lies
            inside, as scikit-image does by default (the released code). True: 11 x 11 Gaussian window
            of sigma 1.5, replicated border, mean over all pixels (SSPSR's tables).
    """
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    if gaussian:
        window = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
        window /= window.sum()
        inside, unbiased = slice(None), 1.0

        def smooth(image):
            rows = correlate1d(image, window, axis=0, mode="nearest")
            return correlate1d(rows, window, axis=1, mode="nearest")
    else:
        inside, unbiased = slice(3, -3), 49 / 48

        def smooth(image):
            return uniform_filter(image, 7)

    def one_band(x, y):
        mean_x, mean_y = smooth(x), smooth(y)
        mean_xx, mean_yy, mean_xy = mean_x * mean_x, mean_y * mean_y, mean_x * mean_y
        variances = unbiased * (smooth(x * x + y * y) - mean_xx - mean_yy)
        covariance = unbiased * (smooth(x * y) - mean_xy)
        similarity = ((2 * mean_xy + c1) * (2 * covariance + c2)) / ((mean_xx + mean_yy + c1) * (variances + c2))
        return similarity[inside, inside].mean()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.array(list(pool.map(one_band, gt, pred)))


def _mean_of_scored(values):
    scored = values[~np.isnan(values)]
    return float(scored.mean()) if scored.size else float("nan")


def _warn_of_bands(what, names, affected):
    if affected.any():
        listed = ", ".join(str(n) for n, bad in zip(names, affected) if bad)
        warnings.warn(f"{what} {listed}", UnscoredBandWarning, stacklevel=3)
