from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data import imresize as room
from data.imresize import degrade, imresize, interpolate, resize_batch


def keys_kernel(t):
    t = abs(t)
    if t <= 1:
        return 1.5 * t**3 - 2.5 * t**2 + 1
    return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0.0


def plain_resize_axis(values, scale):
    """MATLAB's rule for one axis, sample by sample: kernel widened when shrinking, mirrored border."""
    size = len(values)
    mirrored = list(range(size)) + list(range(size - 1, -1, -1))
    shrink = min(1.0, scale)
    out = []
    for k in range(int(np.ceil(scale * size))):
        centre = (k + 0.5) / scale - 0.5
        reach = int(np.ceil(2 / shrink)) + 1
        taps = range(int(np.floor(centre)) - reach, int(np.floor(centre)) + reach + 1)
        weights = [shrink * keys_kernel(shrink * (centre - tap)) for tap in taps]
        total = sum(w * values[mirrored[tap % (2 * size)]] for w, tap in zip(weights, taps, strict=True))
        out.append(total / sum(weights))
    return np.array(out)


def plain_resize(image, scale):
    rows = np.stack([plain_resize_axis(column, scale) for column in image.T], axis=1)
    return np.stack([plain_resize_axis(row, scale) for row in rows], axis=0)


@pytest.mark.parametrize("scale", [1 / 2, 1 / 3, 1 / 4, 1 / 8, 2, 3, 4, 8, 1.5])
@pytest.mark.parametrize("shape", [(24, 16), (13, 10), (3, 2)])
def test_imresize_equals_the_written_out_rule(scale, shape):
    image = np.random.default_rng(0).random(shape)
    np.testing.assert_allclose(imresize(image, scale), plain_resize(image, scale), rtol=0, atol=1e-13)


def test_upsampled_impulse_is_the_bicubic_kernel():
    impulse = np.zeros((1, 9))
    impulse[0, 4] = 1
    # Keys' kernel at distances 1.75, 1.25, 0.75, 0.25.
    half = [-0.0234375, -0.0703125, 0.2265625, 0.8671875]
    np.testing.assert_allclose(imresize(impulse, 2)[0, 5:13], half + half[::-1], atol=1e-14)


@pytest.mark.parametrize("ratio", [Fraction(1, 4), Fraction(4), Fraction(1, 8)])
def test_matrices_and_interpolation_agree(ratio):
    x = torch.rand(2, 3, 48, 40, dtype=torch.float64)
    torch.testing.assert_close(resize_batch(x, ratio), interpolate(x, ratio), rtol=0, atol=1e-14)


def test_interpolation_of_large_images_equals_matrices(monkeypatch):
    image = np.random.default_rng(0).random((40, 36, 2))
    by_matrices = imresize(image, 1 / 4)
    monkeypatch.setattr(room, "LARGEST_PATCH", 8)
    np.testing.assert_allclose(imresize(image, 1 / 4), by_matrices, rtol=0, atol=1e-14)


def test_bands_are_resized_separately_in_float64():
    image = (np.random.default_rng(0).random((12, 8, 3)) * 255).astype(np.uint8)
    resized = imresize(image, 1 / 4)
    assert resized.shape == (3, 2, 3)
    assert resized.dtype == np.float64
    for k in range(3):
        np.testing.assert_allclose(resized[:, :, k], plain_resize(image[:, :, k].astype(float), 1 / 4), atol=1e-11)


def test_degradation_is_bicubic_in_single_precision():
    gt = np.random.default_rng(0).random((1, 1, 16, 24)).astype(np.float32)
    ms, lms = degrade(torch.from_numpy(gt), 4)
    expected_ms = plain_resize(gt[0, 0].astype(np.float64), 1 / 4).astype(np.float32)
    expected_lms = plain_resize(expected_ms.astype(np.float64), 4).astype(np.float32)
    np.testing.assert_allclose(ms[0, 0].numpy(), expected_ms, rtol=0, atol=6e-8)
    np.testing.assert_allclose(lms[0, 0].numpy(), expected_lms, rtol=0, atol=1.2e-7)
    assert ms.dtype == lms.dtype == torch.float32


@pytest.mark.parametrize("scale", [0, -1, np.pi])
def test_impossible_scales_are_refused(scale):
    with pytest.raises(ValueError, match="scale"):
        imresize(np.zeros((4, 4)), scale)


def test_shapes_that_are_not_images_are_refused():
    with pytest.raises(ValueError, match="H x W"):
        imresize(np.zeros(4), 2)


SCALES = st.sampled_from([1 / 8, 1 / 4, 1 / 3, 1 / 2, 1.5, 2, 3, 4])
EDGES = st.integers(1, 20)


@settings(max_examples=20, deadline=None)
@given(SCALES, EDGES, EDGES, st.floats(-10, 10))
def test_constant_images_stay_constant(scale, height, width, value):
    resized = imresize(np.full((height, width), value), scale)
    assert resized.shape == (int(np.ceil(scale * height - 1e-9)), int(np.ceil(scale * width - 1e-9)))
    np.testing.assert_allclose(resized, value, rtol=1e-12, atol=1e-13)


@settings(max_examples=20, deadline=None)
@given(SCALES, EDGES, EDGES, st.floats(-3, 3), st.integers(0, 2**32))
def test_resizing_is_linear(scale, height, width, factor, seed):
    a, b = np.random.default_rng(seed).random((2, height, width))
    together = imresize(a + factor * b, scale)
    np.testing.assert_allclose(together, imresize(a, scale) + factor * imresize(b, scale), rtol=0, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(SCALES, st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32))
def test_resizing_commutes_with_flips(scale, height, width, seed):
    # Whole numbers of small pixels: with others, the last pixel reaches beyond the border.
    step = Fraction(scale).limit_denominator(64).denominator
    image = np.random.default_rng(seed).random((height * step, width * step))
    np.testing.assert_allclose(imresize(image.T, scale), imresize(image, scale).T, rtol=0, atol=1e-13)
    np.testing.assert_allclose(imresize(image[::-1], scale), imresize(image, scale)[::-1], rtol=0, atol=1e-13)
