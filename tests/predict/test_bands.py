import fixtures
import numpy as np
import pytest
import torch
from helpers import VISIBLE, StubNetwork, bicubic_network
from predict.bands import interpolation

from data.imresize import imresize
from predict import super_resolve
from utils import UserError


@pytest.mark.parametrize(
    ("scene", "network", "words"),
    [
        (VISIBLE[:30], VISIBLE, "30 bands, 400..690 nm"),
        (VISIBLE + 5, VISIBLE, "31 bands, 405..705 nm"),
        (VISIBLE[::-1], VISIBLE, "31 bands, 700..400 nm"),
        (np.linspace(400, 700, 30), VISIBLE, "network was trained on 31 bands, 400..700 nm"),
        (None, VISIBLE, "5 bands of unknown wavelengths"),
        (np.r_[400:450:10, 447:457:10, 460:701:10], VISIBLE, "(band 6: 447 and 450 nm)"),
    ],
)
def test_other_bands_are_refused_with_both_ranges(scene, network, words):
    image = np.zeros((8, 8, 5 if scene is None else len(scene)), np.float32)
    model = bicubic_network(31)
    model.wavelengths = network
    with pytest.raises(UserError) as caught:
        super_resolve(image, model, scene)
    assert words in str(caught.value)
    assert "--resample_bands 1" in str(caught.value)


def test_bands_within_the_tolerance_are_the_same_and_unknown_ones_are_taken_so(capsys):
    image = fixtures.smooth_cube(0, 8, 8).astype(np.float32)
    model = bicubic_network(31)
    model.wavelengths = VISIBLE
    expected = imresize(image, 2)
    np.testing.assert_allclose(super_resolve(image, model, VISIBLE + 1.9, verbose=True), expected, atol=1e-6)
    assert "not known" not in capsys.readouterr().out
    np.testing.assert_allclose(super_resolve(image, model, verbose=True), expected, atol=1e-6)
    assert "the scene's wavelengths are not known" in capsys.readouterr().out


def test_interpolated_spectra_are_those_of_numpy():
    given, wanted = np.array([500.0, 400, 600]), np.array([350.0, 450, 530, 700])
    spectrum = np.array([2.0, 1, 5])
    expected = np.interp(wanted, [400, 500, 600], [1, 2, 5])
    np.testing.assert_allclose(spectrum @ interpolation(given, wanted), expected)


def test_resampled_bands_get_the_networks_detail_within_its_range_and_stay_bicubic_outside(capsys):
    scene = np.array([300.0, 410, 500, 680, 900])
    image = fixtures.smooth_cube(0, 8, 9, 5).astype(np.float32)
    # Detail of 0.1 at 400 nm, rising to 0.4 at 700.
    ramp = torch.linspace(0.1, 0.4, 31).view(1, 31, 1, 1)
    model = StubNetwork(31, lambda lms: ramp.expand_as(lms))
    model.wavelengths = VISIBLE
    result = super_resolve(image, model, scene, resample_bands=True, verbose=True)
    detail = [0, 0.11, 0.2, 0.38, 0]
    np.testing.assert_allclose(result, imresize(image, 2) + detail, atol=2e-6)
    out = capsys.readouterr().out
    assert "interpolated to the network's 31 (400..700 nm)" in out
    assert "the 3 in its range, the other 2 come out bicubic" in out
    with pytest.raises(UserError, match="none in common"):
        super_resolve(image, model, scene + 1000, resample_bands=True)


def test_detail_fades_out_beyond_the_networks_range():
    scene = np.array([390.0, 500, 698, 701.5, 712.5, 725, 737.5, 751])
    image = fixtures.smooth_cube(0, 8, 9, 8).astype(np.float32)
    model = StubNetwork(31, lambda lms: torch.full_like(lms, 0.2))
    model.wavelengths = VISIBLE
    bicubic = imresize(image, 2)
    # Half a cosine over 50 nm, worked by hand: a quarter of the way 0.8536, half of it 0.5, three quarters 0.1464.
    shares = np.array([np.cos(np.pi * 10 / 50) / 2 + 0.5, 1, 1, 1, 0.853553, 0.5, 0.146447, 0])
    faded = super_resolve(image, model, scene, resample_bands=True)
    np.testing.assert_allclose(faded, bicubic + 0.2 * shares, atol=2e-6)
    step = super_resolve(image, model, scene, resample_bands=True, taper=0)
    np.testing.assert_allclose(step, bicubic + 0.2 * np.array([0, 1, 1, 1, 0, 0, 0, 0]), atol=2e-6)


def test_what_fades_out_is_said(capsys):
    model = bicubic_network(31)
    model.wavelengths = VISIBLE
    image = np.full((8, 8, 4), 0.5, np.float32)
    super_resolve(image, model, np.array([500.0, 600, 720, 900]), resample_bands=True, verbose=True)
    words = "the 2 in its range, fading out over 50 nm to 1 more, the other 1 come out bicubic"
    assert words in capsys.readouterr().out
