"""Image quality of a super-resolved cube against the ground truth, in float64, without crop or clipping.

One function per metric; `quality_assessment` returns all of them under the keys of `facts.METRICS`.
"""

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from system.machine import count_usable_cores

# Rows and columns of a band that SSIM processes at a time: few enough for the cache, and for matrix products that no
# library parallelises (the bands are parallel).
ROWS_AT_ONCE, COLUMNS_AT_ONCE = 24, 16


class UnscoredBandWarning(UserWarning):
    """A band on which a metric is not defined, or infinite."""


def quality_assessment(
    gt: np.ndarray,
    pred: np.ndarray,
    data_range: float = 1.0,
    ratio: float = 4,
    band_names: Sequence[str] | None = None,
) -> dict[str, float]:
    """Compute all seven metrics of one image.

    Args:
        gt: H x W x C array, the ground truth.
        pred: the prediction, of the same shape and in the same units.
        data_range: largest possible value less the smallest possible value.
        ratio: upsampling factor, for ERGAS; the x8 tables of the paper use 4.
        band_names: C names for the warnings, e.g. "450 nm"; default: "band 1", ...

    Returns:
        {key: value}: MPSNR (dB), MSSIM, MSSIM_gaussian, ERGAS, SAM (degrees), CrossCorrelation, RMSE.
        Identical cubes have MPSNR infinity and are perfect otherwise. A dark band with errors has ERGAS infinity.
        SAM is NaN without a pixel lit in both cubes, CrossCorrelation without a band that varies in both.

    Warns:
        UnscoredBandWarning: naming the bands that CrossCorrelation omits or for which ERGAS is infinite.

    Raises:
        ValueError: for shapes that differ or are not H x W x C, images under 7 x 7, or non-finite values.
    """
    gt, pred = np.asarray(gt), np.asarray(pred)
    if gt.ndim != 3 or gt.shape != pred.shape:
        raise ValueError(f"gt and pred must both be H x W x C, got {gt.shape} and {pred.shape}")
    if min(gt.shape[:2]) < 7:
        raise ValueError(f"SSIM needs at least 7 x 7 pixels, got {gt.shape[0]} x {gt.shape[1]}")
    names = list(band_names) if band_names is not None else [f"band {k + 1}" for k in range(gt.shape[2])]
    with ThreadPoolExecutor(2) as pool:
        gt_bands, pred_bands = pool.map(_to_bands_first, (gt, pred))
    for name, bands in (("gt", gt_bands), ("pred", pred_bands)):
        # The sum is finite if all values are, barring overflow, and much faster than isfinite.
        if not np.isfinite(_to_tensor(bands).sum().item()):
            raise ValueError(f"{name} has values that are not finite")
    mse = band_mse(gt_bands, pred_bands)
    per_band_ergas = _compute_ergas_terms(gt_bands, mse)
    correlations = cross_correlation(gt_bands, pred_bands)
    scored = correlations[~np.isnan(correlations)]
    _warn_of_bands("ERGAS is infinite: no light in", names, ~np.isfinite(per_band_ergas))
    spectral_angle = sam(gt_bands, pred_bands)
    if np.isnan(spectral_angle):
        warnings.warn("SAM is not defined: no pixel is lit in both cubes", UnscoredBandWarning, stacklevel=2)
    _warn_of_bands("CrossCorrelation omits constant bands:", names, np.isnan(correlations))
    return {
        "MPSNR": float(np.mean(psnr(mse, data_range))),
        "MSSIM": float(np.mean(ssim(gt_bands, pred_bands, data_range))),
        "MSSIM_gaussian": float(np.mean(ssim(gt_bands, pred_bands, data_range, gaussian=True))),
        "ERGAS": float(100 / ratio * np.sqrt(np.mean(per_band_ergas))),
        "SAM": spectral_angle,
        "CrossCorrelation": float(scored.mean()) if scored.size else float("nan"),
        "RMSE": float(np.sqrt(np.mean(mse))),
    }


def _to_bands_first(cube: np.ndarray) -> np.ndarray:
    """Convert H x W x C to contiguous C x H x W float64, since all metrics except SAM are computed band by band."""
    height, width, bands = cube.shape
    turned = np.empty((bands, height, width))
    # A few rows at a time stay in the cache while they are transposed.
    for top in range(0, height, 4):
        turned[:, top : top + 4] = cube[top : top + 4].transpose(2, 0, 1)
    return turned


def _to_tensor(array: np.ndarray) -> torch.Tensor:
    """Return an array as a tensor on the same memory: torch's reductions use all cores and no temporary arrays."""
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float64))


def band_mse(gt: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """Return the mean squared error of each band: C x H x W twice -> C."""
    pairs = zip(_to_tensor(gt), _to_tensor(pred), strict=True)
    return np.array([torch.nn.functional.mse_loss(x, y).item() for x, y in pairs])


def psnr(mse: np.ndarray, data_range: float = 1.0) -> np.ndarray:
    """Return the peak signal-to-noise ratio in dB, 10 log10(data_range^2 / MSE); infinity where the MSE is 0."""
    with np.errstate(divide="ignore"):
        return 10 * np.log10(data_range**2 / np.asarray(mse, dtype=np.float64))


def ergas(gt: np.ndarray, pred: np.ndarray, ratio: float = 4) -> float:
    """Return (100/ratio) sqrt(mean over bands of MSE / mean(gt)^2), the relative global error (Wald 2000).

    Args:
        gt, pred: C x H x W.
        ratio: upsampling factor.
    """
    return float(100 / ratio * np.sqrt(np.mean(_compute_ergas_terms(gt, band_mse(gt, pred)))))


def _compute_ergas_terms(gt: np.ndarray, mse: np.ndarray) -> np.ndarray:
    mean_squared = gt.mean(axis=(1, 2)) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(mse == 0, 0.0, mse / mean_squared)


def sam(gt: np.ndarray, pred: np.ndarray) -> float:
    """Return the mean spectral angle in degrees of the pixels where both spectra are non-zero (C x H x W twice).

    Without such pixels: 0 for identical cubes, else NaN.
    """
    x, y = _to_tensor(gt), _to_tensor(pred)
    dot, gt_norm, pred_norm = torch.zeros(3, *x.shape[1:], dtype=torch.float64)
    for a, b in zip(x, y, strict=True):
        dot.addcmul_(a, b)
        gt_norm.addcmul_(a, a)
        pred_norm.addcmul_(b, b)
    valid = (gt_norm > 0) & (pred_norm > 0)
    if not valid.any():
        return 0.0 if np.array_equal(gt, pred) else float("nan")
    cosine = dot[valid] / (gt_norm[valid] * pred_norm[valid]).sqrt()
    return float(torch.rad2deg(cosine.clamp(-1, 1).acos()).mean())


def cross_correlation(gt: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """Return Pearson's r of each band: C x H x W twice -> C; 1 for identical bands, NaN if one is constant."""
    pairs = zip(_to_tensor(gt), _to_tensor(pred), strict=True)
    return np.array([_correlate(x.flatten(), y.flatten()) for x, y in pairs])


def _correlate(x: torch.Tensor, y: torch.Tensor) -> float:
    if torch.equal(x, y):
        return 1.0
    # Compared by value, since rounding of the mean can leave a constant band a non-zero variance.
    if any(v.min() == v.max() for v in (x, y)):
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    return float(x.dot(y) / (x.dot(x) * y.dot(y)).sqrt())


def ssim(gt: np.ndarray, pred: np.ndarray, data_range: float = 1.0, gaussian: bool = False) -> np.ndarray:
    """Return the structural similarity of each band (Wang 2004): C x H x W twice -> C.

    Args:
        gt: the ground truth.
        pred: the prediction, in the same units.
        data_range: largest possible value less the smallest possible value.
        gaussian: False: 7 x 7 uniform window, sample covariance, mean over the pixels whose window lies inside, as
            scikit-image's default (released code). True: 11 x 11 Gaussian window of sigma 1.5, replicated border,
            mean over all pixels (SSPSR's tables).
    """
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    if gaussian:
        window = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
        window, unbiased, border = window / window.sum(), 1.0, 5
    else:
        window, unbiased, border = np.full(7, 1 / 7), 49 / 48, 0
    reach = len(window) - 1

    def sum_similarities(smoothed: np.ndarray) -> float:
        mean_x, mean_y, squares, product = smoothed
        product_of_means = mean_x * mean_y
        squares_of_means = mean_x * mean_x
        squares_of_means += mean_y * mean_y
        # In place, like all operations below: 2 covariance + c2, and variances + c2.
        product -= product_of_means
        product *= 2 * unbiased
        product += c2
        squares -= squares_of_means
        squares *= unbiased
        squares += c2
        product_of_means *= 2
        product_of_means += c1
        squares_of_means += c1
        product_of_means *= product
        squares_of_means *= squares
        product_of_means /= squares_of_means
        output: float = product_of_means.sum()
        return output

    def score_band(x: np.ndarray, y: np.ndarray) -> float:
        x, y = (np.pad(image, border, mode="edge") for image in (x, y))
        height, width = len(x) - reach, x.shape[1] - reach
        total = 0.0
        # Strips of rows, so that intermediate results stay in the cache.
        for top in range(0, height, ROWS_AT_ONCE):
            rows = slice(top, min(height, top + ROWS_AT_ONCE) + reach)
            images = np.stack([x[rows], y[rows], x[rows] * x[rows], x[rows] * y[rows]])
            images[2] += y[rows] * y[rows]
            for smoothed in _smooth(images, window):
                total += sum_similarities(smoothed)
        output: float = total / (height * width)
        return output

    with ThreadPoolExecutor(count_usable_cores()) as pool:
        return np.array(list(pool.map(score_band, gt, pred)))


def _smooth(images: np.ndarray, window: np.ndarray) -> Iterator[np.ndarray]:
    """Filter N x H x W with a symmetric separable window of n taps, where it lies inside the image.

    Yields:
        The N x (H - n + 1) x (W - n + 1) pixels in groups of columns, N x any shape: products with small matrices that
        have the window on their diagonals.
    """
    reach = len(window) - 1
    down = np.matmul(_make_diagonals(window, images.shape[1] - reach), images)
    count, height, width = down.shape
    blocks, rest = divmod(width - reach, COLUMNS_AT_ONCE)
    if blocks:
        image, row, column = down.strides
        shape = (count, blocks, height, COLUMNS_AT_ONCE + reach)
        columns = np.lib.stride_tricks.as_strided(down, shape, (image, COLUMNS_AT_ONCE * column, row, column))
        yield np.matmul(columns, _make_diagonals(window, COLUMNS_AT_ONCE).T)
    if rest:
        yield np.matmul(down[:, :, blocks * COLUMNS_AT_ONCE :], _make_diagonals(window, rest).T)


def _make_diagonals(window: np.ndarray, count: int) -> np.ndarray:
    """Return the count x (count + n - 1) matrix whose row k contains the window from column k on."""
    matrix = np.zeros((count, count + len(window) - 1))
    for k in range(count):
        matrix[k, k : k + len(window)] = window
    return matrix


def _warn_of_bands(text: str, names: Sequence[str], affected: np.ndarray) -> None:
    if affected.any():
        listed = ", ".join(str(n) for n, bad in zip(names, affected, strict=True) if bad)
        warnings.warn(f"{text} {listed}", UnscoredBandWarning, stacklevel=3)
