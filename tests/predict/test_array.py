import dataclasses
import inspect
import re
from types import SimpleNamespace

import fixtures
import numpy as np
import pytest
import torch
from helpers import StubNetwork, make_bicubic_network, make_tiny_network
from torch import nn

from config import PredictConfig
from data.imresize import degrade, imresize
from evaluation import scoring as evaluator
from predict import super_resolve, tiles
from system.errors import UserError


def test_super_resolve_equals_the_test_command():
    model, image = make_tiny_network(), fixtures.make_smooth_cube(1, 12, 16).astype(np.float32)
    ms = torch.from_numpy(image).permute(2, 0, 1)[None]
    scene = evaluator.TestScene("x", ms, degrade(ms.repeat_interleave(4, 2).repeat_interleave(4, 3), 4)[1], None, [])
    scene.lms = torch.from_numpy(imresize(image, 4).astype(np.float32)).permute(2, 0, 1)[None]
    expected = evaluator.super_resolve(model, scene, torch.device("cpu"))
    result = super_resolve(image, model, cuda="0")
    assert (result.shape, result.dtype) == ((48, 64, 31), np.float32)
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_tf32_is_disabled_only_during_inference(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen = []

    def note(lms):
        seen.append(torch.backends.cudnn.allow_tf32)
        return 0 * lms

    model = StubNetwork(5, note)
    image = fixtures.make_smooth_cube(6, 16, 16, 5)
    super_resolve(image, model)
    ms, lms, gt = (torch.zeros(1, 5, n, n) for n in (4, 8, 8))
    evaluator.super_resolve(model, SimpleNamespace(ms=ms, lms=lms, gt=gt), torch.device("cpu"))
    assert seen == [False, False]
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", ">u2"])
def test_results_keep_type_and_value_range(dtype):
    scale = 1.0 if np.dtype(dtype).kind == "f" else float(np.iinfo(dtype).max)
    image = (fixtures.make_smooth_cube(2, 9, 8, 5) * 0.9 * scale).astype(dtype)
    result = super_resolve(image, make_bicubic_network(5), value_scale=scale)
    assert result.dtype == np.dtype(dtype)
    half_a_step = 0.5 if np.dtype(dtype).kind != "f" else 0
    np.testing.assert_allclose(result, imresize(image, 2), atol=half_a_step + 1e-6 * scale)


class Local(StubNetwork):
    """Looks 3 LR pixels far, blind to everything else, and feels its own borders."""

    def forward(self, ms, lms, modality="spectral"):
        self.calls += 1
        spread = nn.functional.avg_pool2d(ms, 7, 1, 3).repeat_interleave(self.n_scale, 2)
        return lms + spread.repeat_interleave(self.n_scale, 3)


@pytest.mark.parametrize("tile_overlap", [12, 16])
def test_tiles_of_local_networks_equal_whole_scenes(tile_overlap):
    image = fixtures.make_smooth_cube(4, 61, 47, 5).astype(np.float32)
    whole = super_resolve(image, Local(5, None))
    model = Local(5, None)
    tiled = super_resolve(image, model, tile_size=32, tile_overlap=tile_overlap)
    assert model.calls >= 6
    np.testing.assert_allclose(tiled, whole, atol=2e-6)
    assert np.abs(super_resolve(image, Local(5, None), tile_size=32, tile_overlap=4) - whole).max() > 1e-3


def test_little_memory_makes_tiles_and_reports_them(capsys, monkeypatch):
    monkeypatch.setattr(tiles, "STRIP_BYTES", 0)
    image = np.full((160, 150, 5), 0.5, np.float32)
    model = make_bicubic_network(5)
    result = super_resolve(image, model, memory_limit=0.006, verbose=True)
    assert model.calls > 1
    np.testing.assert_allclose(result, 0.5, atol=1e-6)
    assert re.search(r"\d+ tiles of \d+ x \d+ pixels with an overlap of 32 .* deviat", capsys.readouterr().out)


@pytest.mark.parametrize("dtype", ["f4", "i2"])
@pytest.mark.parametrize("tile_size", [0, 16])
def test_missing_data_stays_missing_without_bleeding(dtype, tile_size):
    image = np.full((40, 36, 5), 5000, dtype)
    image[10:14, 7:30] = -9999
    image[20, 5, 2] = -9999
    if dtype == "f4":
        image[30:, 30:] = np.nan
    model = StubNetwork(5, lambda lms: 0.1 * lms)
    result = super_resolve(
        image, model, value_scale=10000, nodata=-9999, tile_size=tile_size, tile_overlap=8, back_projection=1
    )
    missing = (image == -9999) | (image != image)
    block = missing.repeat(2, 0).repeat(2, 1)
    assert (result[:28][block[:28]] == -9999).all()
    assert (result[40:42, 10:12, 2] == -9999).all()
    # Back-projection takes the tenth that the network adds away again, everywhere alike.
    np.testing.assert_allclose(result[~block], 5000, atol=1)


def masked(image, rows, cols, bands=slice(None)):
    mask = np.zeros(image.shape, bool)
    mask[rows, cols, bands] = True
    return np.ma.masked_array(image, mask)


@pytest.mark.parametrize("dtype", ["u2", "i2", "f4", "f8"])
@pytest.mark.parametrize("bands", [slice(None), slice(1, 2)])
def test_masked_values_stay_masked_without_bleeding(dtype, bands):
    clean = np.full((24, 20, 5), 5000, dtype)
    image = masked(clean.copy(), slice(8, 12), slice(3, 9), bands)
    image.data[image.mask] = 0 if dtype == "u2" else -30000
    result = super_resolve(image, StubNetwork(5, lambda lms: 0.1 * lms), value_scale=10000)
    assert isinstance(result, np.ma.MaskedArray) and result.dtype == image.dtype
    np.testing.assert_array_equal(result.mask, image.mask.repeat(2, 0).repeat(2, 1))
    np.testing.assert_allclose(result.compressed(), 5500, atol=1)
    assert np.ma.isMaskedArray(super_resolve(np.ma.masked_array(clean), make_bicubic_network(5), value_scale=10000))


def variants():
    """One scene of reflectance, in every number type and memory layout, with its full-scale value."""
    cube = np.rint(fixtures.make_smooth_cube(3, 12, 10, 9) * 120)
    for dtype in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">i2", ">u2", ">f4", ">f8"):
        yield dtype, cube.astype(dtype)
    yield "masked", np.ma.masked_array(cube.astype("u2"), np.zeros(cube.shape, bool))
    read_only = cube.astype("u2")
    read_only.flags.writeable = False
    yield "read-only", read_only
    yield "strided", np.repeat(cube.astype("u2"), 2, axis=1)[:, ::2]
    yield "reversed", np.ascontiguousarray(cube.astype("u2")[::-1])[::-1]
    yield "Fortran", np.asfortranarray(cube.astype("u2"))


@pytest.mark.parametrize(("name", "image"), list(variants()), ids=[name for name, _ in variants()])
def test_array_type_and_layout_change_no_result(name, image):
    exact = super_resolve(np.rint(fixtures.make_smooth_cube(3, 12, 10, 9) * 120), make_tiny_network(9), value_scale=120)
    result = super_resolve(image, make_tiny_network(9), value_scale=120)
    step = 0.51 if image.dtype.kind in "iu" else 0.05 if image.dtype == np.float16 else 1e-4
    limits = np.iinfo(image.dtype) if image.dtype.kind in "iu" else np.finfo(image.dtype)
    assert result.dtype == image.dtype
    np.testing.assert_allclose(result.astype("f8"), exact.clip(limits.min, limits.max), atol=step)


def test_remarks_are_warnings_with_parameter_names():
    image = np.full((12, 10, 5), 4095, np.uint16)
    image[0, 0] = 3
    with pytest.warns(UserWarning) as caught:
        super_resolve(image, make_bicubic_network(5), np.linspace(400, 700, 5))
    told = [str(warning.message) for warning in caught]
    assert any("assuming a full-scale value of 65535" in text and "set value_scale" in text for text in told)
    assert all(warning.filename == __file__ for warning in caught)


def test_the_defaults_are_those_of_the_command():
    parameters = inspect.signature(super_resolve).parameters
    names = parameters.keys() & {field.name for field in dataclasses.fields(PredictConfig)}
    assert len(names) > 9
    for name in names - {"nodata", "wavelengths"}:
        assert parameters[name].default == getattr(PredictConfig, name), name


def test_pieces_without_any_data_are_not_computed():
    image = np.full((16, 80, 5), np.nan, np.float32)
    image[:, :20] = 0.5
    model = make_bicubic_network(5)
    result = super_resolve(image, model, tile_size=16, tile_overlap=0)
    assert model.calls == 2
    assert np.isnan(result[:, 40:]).all() and np.isfinite(result[:, :40]).all()


def test_predicted_nodata_values_are_moved_away():
    image = np.full((8, 8, 5), 100, np.uint8)
    image[0, 0] = 7
    model = StubNetwork(5, lambda lms: 7 / 255 - lms)
    result = super_resolve(image, model, nodata=7, normalise="none")
    assert (result[:2, :2] == 7).all()
    assert (result[2:, 2:] == 8).all()


def test_back_projection_equals_the_written_out_iteration():
    image = fixtures.make_smooth_cube(6, 16, 16, 5)
    model = StubNetwork(5, lambda lms: 0.3 * lms)
    expected = imresize(image, 2) * 1.3
    for _ in range(2):
        expected += imresize(image - imresize(expected, 1 / 2), 2)
    np.testing.assert_allclose(super_resolve(image, model, back_projection=2), expected, atol=3e-6)


def test_the_ensemble_asks_eight_times():
    image = fixtures.make_smooth_cube(6, 16, 12, 5)

    # What is added at the top comes to all four sides in equal parts: of 8 turns, 2 at each.
    def at_the_top(lms):
        detail = torch.zeros_like(lms)
        detail[:, :, 0] = 0.8
        return detail

    model = StubNetwork(5, at_the_top)
    result = super_resolve(image, model, self_ensemble=True) - imresize(image, 2)
    assert model.calls == 8
    np.testing.assert_allclose(result[0, 5], 0.2, atol=1e-5)
    np.testing.assert_allclose(result[9, -1], 0.2, atol=1e-5)
    np.testing.assert_allclose(result[9, 9], 0, atol=1e-5)


def test_normalisation_divides_by_the_scene_maximum():
    # x + x ** 2 of what is divided by the scene's largest value.
    image = np.random.default_rng(0).random((12, 12, 3)).astype(np.float32) * 0.2
    image[0, 0] = 0.2
    model = StubNetwork(3, torch.square)
    bicubic = imresize(image, 2)
    np.testing.assert_allclose(super_resolve(image, model, normalise="auto"), bicubic + bicubic**2 / 0.2, atol=1e-5)
    np.testing.assert_allclose(super_resolve(image, model), bicubic + bicubic**2 / 0.2, atol=1e-5)
    np.testing.assert_allclose(super_resolve(image, model, normalise="none"), bicubic + bicubic**2, atol=1e-5)
    by_band = bicubic + bicubic**2 / (3 * image.max((0, 1)))
    np.testing.assert_allclose(super_resolve(image, model, normalise="bands"), by_band, atol=1e-5)
    # What marks missing data is no brightness; a bright scene is left as it is, unless that is asked for.
    holed = image.copy()
    holed[5, 5] = 7
    expected = super_resolve(np.where(holed == 7, np.nan, holed), model, normalise="auto")
    known = ~np.isnan(expected)
    np.testing.assert_allclose(
        super_resolve(holed, model, nodata=7, normalise="auto")[known], expected[known], atol=1e-6
    )
    bright = image * 4
    np.testing.assert_allclose(
        super_resolve(bright, model, normalise="auto"), 4 * bicubic + (4 * bicubic) ** 2, atol=1e-5
    )
    expected = 4 * bicubic + (4 * bicubic) ** 2 / 0.8
    np.testing.assert_allclose(super_resolve(bright, model, normalise="scene"), expected, atol=1e-5)
    # Tiles are divided by the whole scene's.
    tiled = super_resolve(image, model, tile_size=8, tile_overlap=4, normalise="auto")
    np.testing.assert_allclose(tiled, bicubic + bicubic**2 / 0.2, atol=1e-5)
    with pytest.raises(UserError, match="normalise takes auto, scene, bands or none"):
        super_resolve(image, model, normalise="bright")


def test_bf16_does_not_change_the_given_network():
    model = make_tiny_network()
    image = np.random.default_rng(0).random((12, 12, 31), dtype=np.float32)
    before = super_resolve(image, model)
    result = super_resolve(image, model, precision="bf16")
    assert 0 < np.abs(result - before).max() < 2e-2
    np.testing.assert_array_equal(super_resolve(image, model), before)
    with pytest.raises(UserError, match="precision takes fp32, tf32 or bf16"):
        super_resolve(image, model, precision="fp8")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"wavelengths": np.linspace(400, 700, 30)}, "30 wavelengths for 31 bands"),
        ({"nodata": "x"}, "nodata takes a number or nan"),
        ({"back_projection": -1}, "back_projection is at least 0"),
        ({"value_scale": float("nan")}, "value_scale is at least 0"),
        ({"tile_size": -5}, "tile_size is at least 0"),
        ({"precision": "fp8"}, "precision takes"),
    ],
)
def test_python_calls_refuse_wrong_settings_too(settings, words):
    with pytest.raises(UserError, match=words):
        super_resolve(fixtures.make_smooth_cube(1, 12, 16), make_tiny_network(), cuda="0", **settings)
