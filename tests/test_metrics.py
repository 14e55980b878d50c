import json
import warnings

import numpy as np
import pytest
from helpers import GOLDEN
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from facts import METRICS
from metrics import UnscoredBandWarning, ergas, quality_assessment, ssim


@pytest.fixture(scope="module")
def released():
    arrays = np.load(GOLDEN / "metrics_x4.npz")
    return arrays["gt"], arrays["pred"], json.loads((GOLDEN / "metrics_x4.json").read_text())


# The released code computes some of these in float32, so seven digits are all it gives.
@pytest.mark.parametrize("metric", ["MPSNR", "MSSIM", "ERGAS", "SAM", "CrossCorrelation", "RMSE"])
def test_equal_to_the_released_code(released, metric):
    gt, pred, expected = released
    assert quality_assessment(gt, pred)[metric] == pytest.approx(expected[metric], rel=5e-7)


def test_a_case_worked_by_hand():
    # Two bands over 8 x 8 pixels; the errors are 0.1 everywhere in band 1, none in band 2.
    gt = np.empty((8, 8, 2))
    gt[:, :, 0] = np.linspace(0.2, 0.6, 64).reshape(8, 8)
    gt[:, :, 1] = gt[:, :, 0] / 2
    pred = gt + np.array([0.1, 0.0])
    result = quality_assessment(gt, pred, ratio=4)
    assert result["RMSE"] == pytest.approx(np.sqrt(0.01 / 2))
    assert result["ERGAS"] == pytest.approx(25 * np.sqrt(((0.1 / 0.4) ** 2 + 0) / 2))
    assert result["CrossCorrelation"] == pytest.approx(1)
    assert result["MPSNR"] == np.inf
    assert quality_assessment(gt, gt + 0.1)["MPSNR"] == pytest.approx(20)
    assert quality_assessment(gt, gt + 0.1, data_range=10)["MPSNR"] == pytest.approx(40)


def test_spectral_angle_worked_by_hand():
    # Half the pixels agree, half have orthogonal spectra: 45 degrees in the mean.
    gt = np.zeros((8, 8, 2))
    gt[:, :, 0] = 1
    pred = gt.copy()
    pred[:4] = [0, 1]
    # A pixel without light has no angle and is left out.
    gt[7, 7], pred[7, 7] = 0, [1, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnscoredBandWarning)
        assert quality_assessment(gt, pred)["SAM"] == pytest.approx(90 * 32 / 63)


def test_ergas_halves_with_twice_the_ratio():
    generator = np.random.default_rng(0)
    gt, pred = generator.random((2, 3, 8, 8))
    assert ergas(gt, pred, 8) == pytest.approx(ergas(gt, pred, 4) / 2)


def test_uniform_ssim_equals_scikit_image(released):
    gt, pred, _ = released
    expected = structural_similarity(gt, pred, data_range=1.0, channel_axis=2)
    assert quality_assessment(gt, pred)["MSSIM"] == pytest.approx(expected, abs=1e-6)


def test_gaussian_ssim_equals_scipys_filter_written_out():
    generator = np.random.default_rng(0)
    x = generator.random((20, 24))
    y = np.clip(x + 0.1 * generator.standard_normal(x.shape), 0, 1)

    def g(image):
        return gaussian_filter(image, 1.5, radius=5, mode="nearest")

    c1, c2 = 0.01**2, 0.03**2
    variance_x, variance_y, covariance = g(x * x) - g(x) ** 2, g(y * y) - g(y) ** 2, g(x * y) - g(x) * g(y)
    expected = (
        (2 * g(x) * g(y) + c1) * (2 * covariance + c2) / ((g(x) ** 2 + g(y) ** 2 + c1) * (variance_x + variance_y + c2))
    )
    assert ssim(x[None], y[None], gaussian=True)[0] == pytest.approx(expected.mean(), rel=1e-12)


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_identical_cubes_are_perfect_even_if_constant(level):
    cube = np.full((9, 9, 3), level)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = quality_assessment(cube, cube)
    perfect = {"MPSNR": np.inf, "MSSIM": 1, "MSSIM_gaussian": 1, "ERGAS": 0, "SAM": 0, "CrossCorrelation": 1, "RMSE": 0}
    assert result == perfect
    assert list(result) == list(METRICS)


def test_bands_that_cannot_be_scored_are_named():
    gt = np.random.default_rng(0).random((9, 9, 3))
    pred = gt + 0.1
    gt[:, :, 1] = 0
    with pytest.warns(UnscoredBandWarning) as caught:
        result = quality_assessment(gt, pred, band_names=["400 nm", "410 nm", "420 nm"])
    messages = [str(w.message) for w in caught]
    assert any("ERGAS" in m and "410 nm" in m and "400 nm" not in m for m in messages)
    assert any("CrossCorrelation" in m and "410 nm" in m for m in messages)
    assert result["ERGAS"] == np.inf
    assert result["CrossCorrelation"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("gt", "pred", "word"),
    [
        (np.zeros((8, 8, 3)), np.zeros((8, 9, 3)), "H x W x C"),
        (np.zeros((8, 8)), np.zeros((8, 8)), "H x W x C"),
        (np.zeros((6, 8, 3)), np.zeros((6, 8, 3)), "7 x 7"),
        (np.zeros((8, 8, 3)), np.full((8, 8, 3), np.nan), "finite"),
    ],
)
def test_incomparable_images_are_refused(gt, pred, word):
    with pytest.raises(ValueError, match=word):
        quality_assessment(gt, pred)


def test_metrics_have_order_heading_and_direction():
    order = ["MPSNR", "MSSIM", "MSSIM_gaussian", "ERGAS", "SAM", "CrossCorrelation", "RMSE"]
    assert list(METRICS) == [metric.key for metric in METRICS.values()] == order
    assert [key for key in METRICS if METRICS[key].lower_is_better] == ["ERGAS", "SAM", "RMSE"]
    headings = ["MPSNR (dB)", "MSSIM", "MSSIM (Gaussian)", "ERGAS", "SAM (°)", "CC", "RMSE"]
    assert [metric.heading for metric in METRICS.values()] == headings
    assert METRICS["RMSE"].format_value(0.0123456) == "0.01235"
    assert METRICS["ERGAS"].format_value(1.25, sign="+") == "+1.2500"
    assert METRICS["MPSNR"].format_value(float("inf")) == "inf"
