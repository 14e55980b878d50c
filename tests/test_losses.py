import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from losses import (
    LOSSES,
    hybrid_loss,
    mse_sam_loss,
    relative_loss,
    spatial_tv,
    spectral_angle,
    spectral_tv,
)
from metrics import quality_assessment
from objectives import Task


def test_losses_equal_the_released_code(golden):
    terms = golden.values["loss_terms"]
    assert hybrid_loss(golden["spectral"], golden["gt"]).item() == pytest.approx(
        golden.values["loss_spectral"], rel=1e-6
    )
    assert hybrid_loss(golden["rgb"], golden["rgb_gt"]).item() == pytest.approx(golden.values["loss_rgb"], rel=1e-6)
    assert (golden["spectral"] - golden["gt"]).abs().mean().item() == pytest.approx(terms["l1"], rel=1e-6)
    assert 1e-3 * spatial_tv(golden["spectral"]).item() == pytest.approx(terms["spatial_tv"], rel=1e-6)
    assert 1e-3 * spectral_tv(golden["spectral"]).item() == pytest.approx(terms["spectral_tv"], rel=1e-6)


def test_a_case_worked_by_hand():
    # Two bands of 1 x 2 pixels: [1, 3] and [2, 7]. No rows to differ; columns differ by 2 and 5, bands by 1 and 4.
    x = torch.tensor([[[[1.0, 3.0]], [[2.0, 7.0]]]])
    assert spatial_tv(x).item() == (4 + 25) / (2 * 1 * 1)
    assert spectral_tv(x).item() == 2 * (1 + 16) / (1 * 1 * 2)
    assert hybrid_loss(x, torch.zeros_like(x)).item() == pytest.approx(13 / 4 + 1e-3 * 14.5 + 1e-3 * 17)


def test_gradients_flow_into_both_sides():
    pred, target = (torch.rand(1, 3, 4, 4, requires_grad=True) for _ in range(2))
    hybrid_loss(pred, target).backward()
    assert pred.grad.abs().sum() > 0
    assert target.grad.abs().sum() > 0


def test_spectral_angle_of_cases_worked_by_hand():
    # Spectra of two bands at four pixels: at right angles, 45 degrees apart, along each other, one of them dark.
    pred = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.2, 0.4], [0.0, 0.0]]).T.reshape(1, 2, 2, 2)
    target = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.3, 0.6], [1.0, 1.0]]).T.reshape(1, 2, 2, 2)
    assert spectral_angle(pred, target).item() == pytest.approx((math.pi / 2 + math.pi / 4) / 4, rel=1e-6)


def test_spectral_angle_is_that_of_the_metric():
    generator = torch.Generator().manual_seed(0)
    pred, target = (torch.rand(1, 31, 16, 16, generator=generator) for _ in range(2))
    images = [x[0].permute(1, 2, 0).numpy() for x in (target, pred)]
    expected = math.radians(quality_assessment(*images)["SAM"])
    assert spectral_angle(pred, target).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shrunk_by", [1, 0.5, 0])
def test_spectral_angle_gradients_are_always_finite(shrunk_by):
    target = torch.rand(1, 5, 4, 4)
    target[:, :, 0] = 0
    pred = (target * shrunk_by).requires_grad_()
    angle = spectral_angle(pred, target)
    angle.backward()
    assert angle.item() == pytest.approx(0, abs=1e-6)
    assert pred.grad.isfinite().all()
    assert pred.grad.abs().max() < 10


def test_mse_sam_equals_the_hand_worked_value():
    # Two images of one pixel and two bands: one error of (1, 0) at 45 degrees, one of (0.1, 0.2) at none.
    pred = torch.tensor([[1.0, 1.0], [0.2, 0.4]]).reshape(2, 2, 1, 1)
    target = torch.tensor([[0.0, 1.0], [0.3, 0.6]]).reshape(2, 2, 1, 1)
    expected = (1 / 2 + (0.01 + 0.04) / 2) / 2 + 0.1 * (math.pi / 4) / 2
    assert mse_sam_loss(pred, target).item() == pytest.approx(expected, rel=1e-6)


def test_relative_loss_equals_the_hand_worked_value():
    # Two bands of two pixels: means 0.28 and 0.08, so errors count in parts of 0.3 and 0.1: 0.2, 0, 0 and 0.2.
    target = torch.tensor([[0.28, 0.28], [0.08, 0.08]]).reshape(1, 2, 1, 2)
    pred = torch.tensor([[0.34, 0.28], [0.08, 0.06]]).reshape(1, 2, 1, 2)
    variation = ((0.34 - 0.28) ** 2 + (0.08 - 0.06) ** 2) / 2
    between_bands = 2 * ((0.34 - 0.08) ** 2 + (0.28 - 0.06) ** 2) / 2
    expected = 0.15 * 0.1 + 1e-3 * variation + 1e-3 * between_bands
    assert relative_loss(pred, target).item() == pytest.approx(expected, rel=1e-6)
    for loss, rgb_loss in (("relative", relative_loss), ("l1", hybrid_loss)):
        assert Task.from_config(SimpleNamespace(loss=loss, seed=0), None).rgb_criterion is rgb_loss


def test_loss_flag_names_the_losses():
    pred, target = torch.tensor([[[[1.0]]]]), torch.tensor([[[[0.5]]]])
    assert LOSSES["hybrid"] is hybrid_loss
    assert LOSSES["mse_sam"] is mse_sam_loss
    assert (LOSSES["l1"](pred, target).item(), LOSSES["mse"](pred, target).item()) == (0.5, 0.25)


SIZES = st.tuples(*(st.integers(1, 5) for _ in range(4)))


@given(st.sampled_from(list(LOSSES)), SIZES, st.floats(0, 1, width=32))
def test_equal_constant_images_have_no_loss(name, size, value):
    x = torch.full(size, value)
    assert LOSSES[name](x, x.clone()).item() == pytest.approx(0, abs=1e-6)


@given(st.sampled_from(list(LOSSES)), SIZES, st.integers(0, 2**16))
def test_losses_of_different_images_are_positive(name, size, seed):
    generator = torch.Generator().manual_seed(seed)
    pred, target = (torch.rand(size, generator=generator) for _ in range(2))
    loss = LOSSES[name](pred, target)
    assert loss.shape == ()
    assert loss.isfinite()
    assert loss > 0


@given(SIZES, st.floats(-1, 1, width=32), st.integers(0, 2**16))
def test_variation_ignores_a_constant_offset(size, offset, seed):
    x = torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for variation in (spatial_tv, spectral_tv):
        torch.testing.assert_close(variation(x + offset), variation(x))


@given(SIZES, st.floats(0.25, 4), st.integers(0, 2**16))
def test_spectral_angle_ignores_brightness(size, factor, seed):
    generator = torch.Generator().manual_seed(seed)
    pred, target = (0.1 + torch.rand(size, generator=generator, dtype=torch.float64) for _ in range(2))
    angle = spectral_angle(pred, target)
    torch.testing.assert_close(spectral_angle(factor * pred, target), angle)
    torch.testing.assert_close(spectral_angle(target, pred), angle)
    assert 0 <= angle <= math.pi / 2
