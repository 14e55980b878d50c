import numpy as np
import pytest
import torch

from data import spectral


def test_mixup_and_conversion_equal_the_released_code(golden):
    for name in ("ms", "lms", "gt"):
        mixed = spectral.spectral_mixup(golden[name], golden["mixup_matrix"])
        torch.testing.assert_close(mixed, golden[f"mixup_{name}"], rtol=1e-6, atol=0)


def test_conversion_equals_the_released_code(golden_x4):
    for name in ("ms", "lms"):
        converted = spectral.convert_bands(golden_x4[name], spectral.load_conversion())
        torch.testing.assert_close(converted, golden_x4[f"converted_{name}"], rtol=5e-7, atol=0)


def test_mixup_worked_by_hand():
    # Bands 2 and 4; R sends the first to both, the second to the second only.
    x = torch.tensor([2.0, 4.0]).reshape(1, 2, 1, 1)
    matrix = np.array([[1.0, 0.5], [0.0, 1.0]])
    assert spectral.spectral_mixup(x, matrix).flatten().tolist() == [(2 + 2) / 2, (4 + 1 + 4) / 2]


def test_mixup_columns_sum_to_one_on_average():
    matrix = spectral.draw_mixup_matrix(31, np.random.default_rng(0))
    assert matrix.shape == (31, 31)
    assert matrix.sum(dim=0).mean().item() == pytest.approx(1, rel=1e-6)
    # One scalar for all: the columns' own sums still differ.
    assert matrix.sum(dim=0).std() > 0.01
    assert matrix.min() >= 0


def test_released_conversion_is_matching_functions_times_lift():
    product = spectral.load_matching_functions() @ spectral.make_lift_matrix(8)
    np.testing.assert_allclose(product, spectral.load_conversion(8), atol=1e-8)


def test_lift_of_rgb_worked_by_hand():
    red, green, blue = 1.0, 10.0, 100.0
    x = torch.tensor([red, green, blue]).reshape(1, 3, 1, 1)
    lifted = spectral.apply_along_bands(x, torch.from_numpy(spectral.make_lift_matrix(8))).flatten().tolist()
    assert lifted == pytest.approx([1, 0.66 + 3.4, 0.34 + 7.6, 10, 7.5 + 25, 5 + 50, 2.5 + 75, 100])


@pytest.mark.parametrize("n_subs", [3, 6, 12])
def test_other_group_sizes_take_an_interpolated_lift(n_subs):
    lift = spectral.make_lift_matrix(n_subs)
    assert lift.shape == (3, n_subs)
    assert lift[:, 0].tolist() == [1, 0, 0]
    assert lift[:, -1].tolist() == [0, 0, 1]
    assert spectral.load_conversion(n_subs).shape == (31, n_subs)


def test_a_matrix_for_other_bands_is_refused():
    with pytest.raises(ValueError, match="5 bands"):
        spectral.convert_bands(torch.rand(1, 5, 2, 2), np.ones((4, 8)))


def test_conversions_by_wavelength_follow_the_released_rule():
    np.testing.assert_array_equal(spectral.make_conversion(np.arange(400, 701, 10)), spectral.load_conversion())
    wavelengths = np.linspace(363, 1018, 128)
    matrix = spectral.make_conversion(wavelengths)
    assert matrix.shape == (128, 8)
    assert (matrix[(wavelengths < 400) | (wavelengths > 700)] == 0).all()
    # A flat spectrum comes out as it does from 31 bands.
    np.testing.assert_allclose(matrix.sum(axis=0), spectral.load_conversion().sum(axis=0), rtol=1e-6)
    with pytest.raises(ValueError, match="no blue band"):
        spectral.make_conversion(np.linspace(900, 2500, 100))
