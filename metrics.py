"""Image quality of a super-resolved cube against the true one, in float64, without crop or clipping.

One function per metric; `quality_assessment` gathers them under the names of the published tables.
"""

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from system.machine import count_usable_cores


@dataclass(frozen=True)
class Metric:
    """How a metric is printed and read.

    Attributes:
        key: its name in results files, and in the columns of CSV files.
        label: its name in headings.
        unit: "" for none.
        digits: behind the point.
        lower_is_better: whether a smaller value is the better one.
        is_comparison_only: whether tables show it only where a published number stands beside it.
    """

    key: str
    label: str
    unit: str = ""
    digits: int = 4
    lower_is_better: bool = False
    is_comparison_only: bool = False

    @property
    def heading(self) -> str:
        """The label with the unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def format_value(self, value: float, sign: str = "") -> str:
        """A value as printed; "+" as sign shows that of positive numbers too."""
        return f"{value:{sign}.{self.digits}f}"


# By key, in the order of `quality_assessment`, of validation.csv and of tables.csv.
METRICS: dict[str, Metric] = {
    metric.key: metric
    for metric in (
        Metric("MPSNR", "MPSNR", unit="dB"),
        Metric("MSSIM", "MSSIM"),
        Metric("MSSIM_gaussian", "MSSIM (Gaussian)", is_comparison_only=True),
        Metric("ERGAS", "ERGAS", lower_is_better=True),
        Metric("SAM", "SAM", unit="°", lower_is_better=True),
        Metric("CrossCorrelation", "CC"),
        Metric("RMSE", "RMSE", digits=5, lower_is_better=True),
    )
}

# Rows and columns of a band that SSIM works on at a time: few enough for the cache, and for products of matrices that
# no library shares among threads (the bands are).
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
    """All seven metrics of one image.

    Args:
        gt: H x W x C array, the truth.
        pred: the prediction, of the same shape and in the same units.
        data_range: largest possible value less the smallest one.
        ratio: enlargement, for ERGAS; the published x8 tables were made with 4.
        band_names: C names for the warnings, e.g. "450 nm"; "band 1", ... without them.

    Returns:
        {key: value} of METRICS: MPSNR (dB), MSSIM, MSSIM_gaussian, ERGAS, SAM (degrees), CrossCorrelation, RMSE.
        Identical cubes have MPSNR infinity and are perfect otherwise. A band of no light that was
        predicted wrongly has ERGAS infinity. NaN stands only where nothing can be scored: SAM without
        a pixel lit in both cubes, CrossCorrelation without a band that varies in both.

    Warns:
        UnscoredBandWarning: naming the bands that CrossCorrelation leaves out or that make ERGAS infinite.

    Raises:
        ValueError: for shapes that differ or are not H x W x C, images under 7 x 7, or non-finite values.
    """
    gt, pred = np.asarray(gt), np.asarray(pred)
    if gt.ndim != 3 or gt.shape != pred.shape:
        raise ValueError(f"gt and pred are both H x W x C, got {gt.shape} and {pred.shape}")
    if min(gt.shape[:2]) < 7:
        raise ValueError(f"SSIM needs at least 7 x 7 pixels, got {gt.shape[0]} x {gt.shape[1]}")
    names = list(band_names) if band_names is not None else [f"band {k + 1}" for k in range(gt.shape[2])]
    with ThreadPoolExecutor(2) as pool:
        gt_bands, pred_bands = pool.map(_to_bands_first, (gt, pred))
    for name, bands in (("gt", gt_bands), ("pred", pred_bands)):
        # A sum is finite if all its terms are, unless they are near the end of the numbers.
        if not np.isfinite(_to_tensor(bands).sum().item()):
            raise ValueError(f"{name} has values that are not finite")
    mse = band_mse(gt_bands, pred_bands)
    per_band_ergas = _compute_ergas_terms(gt_bands, mse)
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
        "CrossCorrelation": _average_scored(correlations),
        "RMSE": float(np.sqrt(np.mean(mse))),
    }


def _to_bands_first(cube: np.ndarray) -> np.ndarray:
    """H x W x C -> C x H x W float64, each band in one piece of memory: all but SAM works band by band."""
    height, width, bands = cube.shape
    turned = np.empty((bands, height, width))
    # A few rows at a time stay in the cache while they are turned.
    for top in range(0, height, 4):
        turned[:, top : top + 4] = cube[top : top + 4].transpose(2, 0, 1)
    return turned


def _to_tensor(array: np.ndarray) -> torch.Tensor:
    """An array as a tensor on the same memory: torch's sums use all cores and need no copies."""
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float64))


def band_mse(gt: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """Mean squared error of each band: C x H x W twice -> C."""
    pairs = zip(_to_tensor(gt), _to_tensor(pred), strict=True)
    return np.array([torch.nn.functional.mse_loss(x, y).item() for x, y in pairs])


def psnr(mse: np.ndarray, data_range: float = 1.0) -> np.ndarray:
    """Peak signal-to-noise ratio in dB, 10 log10(data_range^2 / MSE); infinity where the MSE is 0."""
    with np.errstate(divide="ignore"):
        return 10 * np.log10(data_range**2 / np.asarray(mse, dtype=np.float64))


def ergas(gt: np.ndarray, pred: np.ndarray, ratio: float = 4) -> float:
    """Relative global error: (100/ratio) sqrt(mean over bands of MSE / mean(gt)^2) (Wald 2000); C x H x W twice."""
    return float(100 / ratio * np.sqrt(np.mean(_compute_ergas_terms(gt, band_mse(gt, pred)))))


def _compute_ergas_terms(gt: np.ndarray, mse: np.ndarray) -> np.ndarray:
    mean_squared = gt.mean(axis=(1, 2)) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(mse == 0, 0.0, mse / mean_squared)


def sam(gt: np.ndarray, pred: np.ndarray) -> float:
    """Spectral angle in degrees, mean over the pixels where both spectra are non-zero (C x H x W twice).

    Where no pixel qualifies: 0 for identical cubes, else NaN.
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
    """Pearson's r of each band: C x H x W twice -> C; 1 for identical bands, else NaN where one is constant."""
    pairs = zip(_to_tensor(gt), _to_tensor(pred), strict=True)
    return np.array([_correlate(x.flatten(), y.flatten()) for x, y in pairs])


def _correlate(x: torch.Tensor, y: torch.Tensor) -> float:
    if torch.equal(x, y):
        return 1.0
    # The mean of equal numbers may miss them by rounding, so a constant band is told by its values.
    if any(v.min() == v.max() for v in (x, y)):
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    return float(x.dot(y) / (x.dot(x) * y.dot(y)).sqrt())


def ssim(gt: np.ndarray, pred: np.ndarray, data_range: float = 1.0, gaussian: bool = False) -> np.ndarray:
    """Structural similarity of each band (Wang 2004): C x H x W twice -> C.

    Args:
        gt: the truth.
        pred: the prediction, in the same units.
        data_range: largest possible value less the smallest one.
        gaussian: False: 7 x 7 uniform window, sample covariance, mean over the pixels whose window lies
            inside, as scikit-image does by default (the released code). True: 11 x 11 Gaussian window
            of sigma 1.5, replicated border, mean over all pixels (SSPSR's tables).
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
        # In place, as all below: 2 covariance + c2, and variances + c2.
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
        return product_of_means.sum()

    def score_band(x: np.ndarray, y: np.ndarray) -> float:
        x, y = (np.pad(image, border, mode="edge") for image in (x, y))
        height, width = len(x) - reach, x.shape[1] - reach
        total = 0.0
        # Strips of rows, so that what is computed in between stays in the cache.
        for top in range(0, height, ROWS_AT_ONCE):
            rows = slice(top, min(height, top + ROWS_AT_ONCE) + reach)
            images = np.stack([x[rows], y[rows], x[rows] * x[rows], x[rows] * y[rows]])
            images[2] += y[rows] * y[rows]
            for smoothed in _smooth(images, window):
                total += sum_similarities(smoothed)
        return total / (height * width)

    with ThreadPoolExecutor(count_usable_cores()) as pool:
        return np.array(list(pool.map(score_band, gt, pred)))


def _smooth(images: np.ndarray, window: np.ndarray) -> Iterator[np.ndarray]:
    """N x H x W -> all pixels of the N x (H - n + 1) x (W - n + 1) sums weighted by a symmetric separable window.

    They come in pieces of columns, N x any shape: products with small matrices that have the window on their diagonals.
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
    """count x (count + n - 1) matrix whose row k has the window from column k on."""
    matrix = np.zeros((count, count + len(window) - 1))
    for k in range(count):
        matrix[k, k : k + len(window)] = window
    return matrix


def _average_scored(values: np.ndarray) -> float:
    scored = values[~np.isnan(values)]
    return float(scored.mean()) if scored.size else float("nan")


def _warn_of_bands(what: str, names: Sequence[str], affected: np.ndarray) -> None:
    if affected.any():
        listed = ", ".join(str(n) for n, bad in zip(names, affected, strict=True) if bad)
        warnings.warn(f"{what} {listed}", UnscoredBandWarning, stacklevel=3)
