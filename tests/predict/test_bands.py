import fixtures
import numpy as np
import pytest
import torch
from helpers import VISIBLE, StubNetwork, make_bicubic_network

from data.imresize import imresize
from predict import super_resolve
from system.errors import UserError


@pytest.mark.parametrize("count", [2, 4, 8, 12, 31, 64, 900])
def test_any_number_of_bands_is_super_resolved(count):
    image = fixtures.make_smooth_cube(0, 8, 8, count).astype(np.float32)
    model = StubNetwork(31, torch.square)
    model.wavelengths = VISIBLE
    with pytest.warns(UserWarning, match=f"{count} bands, 500..2000 nm, super-resolved"):
        result = super_resolve(image, model, np.linspace(500, 2000, count))
    bicubic = imresize(image, 2)
    # Each band is divided by 3 times its largest value before the network squares it.
    np.testing.assert_allclose(result, bicubic + bicubic**2 / (3 * image.max((0, 1))), atol=1e-5)


def test_windows_in_tiles_equal_the_whole_scene():
    image = fixtures.make_smooth_cube(0, 40, 24, 20).astype(np.float32)
    # Dark where it begins: each tile has another largest value, and one band has none there.
    image *= np.linspace(0, 1, 40)[:, None, None] ** 2
    image[:20, :, 3] = 0
    model = StubNetwork(8, torch.square)
    whole = super_resolve(image, model)
    np.testing.assert_allclose(super_resolve(image, model, tile_size=16, tile_overlap=8), whole, atol=1e-6)


def test_bands_without_data_come_out_bicubic():
    image = fixtures.make_smooth_cube(0, 8, 9, 20).astype(np.float32)
    image[:, :, 7] = np.nan
    image[:, :, 12] = 0
    kept = np.delete(np.arange(20), (7, 12))
    model = StubNetwork(8, lambda lms: torch.arange(8.0)[:, None, None] * lms)
    result = super_resolve(image, model)
    assert np.isnan(result[:, :, 7]).all()
    assert (result[:, :, 12] == 0).all()
    np.testing.assert_allclose(result[:, :, kept], super_resolve(image[:, :, kept], model), atol=1e-6)


def test_exact_refuses_other_bands_in_one_line():
    model = make_bicubic_network(31)
    model.wavelengths = VISIBLE
    with pytest.raises(UserError) as caught:
        super_resolve(np.zeros((8, 8, 30), np.float32), model, VISIBLE[:30], bands="exact")
    words = (
        "image: 30 bands, 400..690 nm, but the weights were trained on 31 bands, 400..700 nm; set bands windows or auto"
    )
    assert str(caught.value) == words


def test_contradicting_flags_of_bands_are_refused():
    with pytest.raises(UserError, match="--bands exact contradicts --resample_bands 1"):
        super_resolve(np.zeros((8, 8, 3), np.float32), make_bicubic_network(3), bands="exact", resample_bands=True)


def test_near_and_unknown_wavelengths_match_the_network(capsys):
    image = fixtures.make_smooth_cube(0, 8, 8).astype(np.float32)
    model = make_bicubic_network(31)
    model.wavelengths = VISIBLE
    expected = imresize(image, 2)
    np.testing.assert_allclose(super_resolve(image, model, VISIBLE + 1.9, verbose=True), expected, atol=1e-6)
    assert "not known" not in capsys.readouterr().out
    np.testing.assert_allclose(super_resolve(image, model, verbose=True), expected, atol=1e-6)
    assert "the scene's wavelengths are unknown" in capsys.readouterr().out


def test_resampled_bands_outside_the_range_stay_bicubic(capsys):
    scene = np.array([300.0, 410, 500, 680, 900])
    image = fixtures.make_smooth_cube(0, 8, 9, 5).astype(np.float32)
    # Detail of 0.1 at 400 nm, rising to 0.4 at 700.
    ramp = torch.linspace(0.1, 0.4, 31).view(1, 31, 1, 1)
    model = StubNetwork(31, lambda lms: ramp.expand_as(lms))
    model.wavelengths = VISIBLE
    result = super_resolve(image, model, scene, resample_bands=True, verbose=True)
    detail = [0, 0.11, 0.2, 0.38, 0]
    np.testing.assert_allclose(result, imresize(image, 2) + detail, atol=2e-6)
    out = capsys.readouterr().out
    assert "interpolated to the network's 31 bands, 400..700 nm" in out
    assert "3 bands in its range; the other 2 are bicubic" in out
    with pytest.raises(UserError, match="the ranges do not overlap"):
        super_resolve(image, model, scene + 1000, resample_bands=True)


def test_detail_fades_out_beyond_the_networks_range():
    scene = np.array([390.0, 500, 698, 701.5, 712.5, 725, 737.5, 751])
    image = fixtures.make_smooth_cube(0, 8, 9, 8).astype(np.float32)
    model = StubNetwork(31, lambda lms: torch.full_like(lms, 0.2))
    model.wavelengths = VISIBLE
    bicubic = imresize(image, 2)
    # Half a cosine over 50 nm, worked by hand: a quarter of the way 0.8536, half of it 0.5, three quarters 0.1464.
    shares = np.array([np.cos(np.pi * 10 / 50) / 2 + 0.5, 1, 1, 1, 0.853553, 0.5, 0.146447, 0])
    faded = super_resolve(image, model, scene, resample_bands=True)
    np.testing.assert_allclose(faded, bicubic + 0.2 * shares, atol=2e-6)
    step = super_resolve(image, model, scene, resample_bands=True, taper=0)
    np.testing.assert_allclose(step, bicubic + 0.2 * np.array([0, 1, 1, 1, 0, 0, 0, 0]), atol=2e-6)


def test_number_of_tapered_bands_is_reported(capsys):
    model = make_bicubic_network(31)
    model.wavelengths = VISIBLE
    image = np.full((8, 8, 4), 0.5, np.float32)
    super_resolve(image, model, np.array([500.0, 600, 720, 900]), resample_bands=True, verbose=True)
    words = "2 bands in its range, tapered over 50 nm to 1 more; the other 1 are bicubic"
    assert words in capsys.readouterr().out
