import pytest
import torch

from losses import hybrid_loss, spatial_tv, spectral_tv


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
