import torch

from models.ensemble import SelfEnsemble


def test_a_network_without_directions_is_not_changed():
    x = torch.rand(1, 3, 5, 7)
    torch.testing.assert_close(SelfEnsemble(lambda ms, lms, _: 2 * lms)(x, x), 2 * x)


def test_ensemble_spreads_a_corner_to_all_corners():
    # One corner of a turned image is each corner of the image two times out of eight.
    def mark_first_pixel(ms, lms, modality):
        out = torch.zeros_like(lms)
        out[..., 0, 0] = 8
        return out

    y = SelfEnsemble(mark_first_pixel)(torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 4, 6))[0, 0]
    expected = torch.zeros(4, 6)
    expected[0, 0] = expected[0, -1] = expected[-1, 0] = expected[-1, -1] = 2
    assert torch.equal(y, expected)
