import errno
import re
import subprocess
import sys
from types import SimpleNamespace

import fixtures
import numpy as np
import pytest
import rasterio
import scipy.io
import torch
from helpers import ROOT
from PIL import Image
from spectral.io import envi
from torch import nn

import predict
from data import facts, gaps, rasters
from data.imresize import degrade, imresize
from evaluation import scoring as evaluator
from evaluation.scenes import TestScene
from models import build_model
from models import weights as checkpoint
from predict import Values, interpolation, report, super_resolve
from predict import tiles as tiling
from utils import UserError

VISIBLE = np.arange(400, 701, 10.0)
# An LR scene: uint16, 28 x 28, made 112 x 112.
CUBE = (fixtures.smooth_cube(3, 28, 28) * 60000).round().astype(np.uint16)


def tiny_network(n_colors=31, n_scale=4, gain=0.1):
    """A network that does something: fresh weights around a global residual."""
    torch.manual_seed(5)
    model = build_model("DeepShare", n_colors, n_scale, n_feats=4, global_residual=True).eval()
    model.final.weight.data *= gain
    return model


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    checkpoint.save_weights(tiny_network(), path, 2, VISIBLE)
    return path


@pytest.fixture(scope="module")
def unlabelled_weights(tmp_path_factory):
    """The same, but nobody knows for which wavelengths."""
    path = tmp_path_factory.mktemp("weights") / "unlabelled.pth"
    checkpoint.save_weights(tiny_network(), path, 2)
    return path


class Stub(nn.Module):
    """A network that answers lms plus what a function makes of it."""

    def __init__(self, n_colors, detail, n_scale=2):
        super().__init__()
        self.n_colors, self.n_scale, self.detail, self.calls = n_colors, n_scale, detail, 0

    def forward(self, ms, lms, modality="spectral"):
        self.calls += 1
        return lms + self.detail(lms)


def bicubic(n_colors, n_scale=2):
    return Stub(n_colors, torch.zeros_like, n_scale)


def test_the_result_is_that_of_the_test_command():
    model, image = tiny_network(), fixtures.smooth_cube(1, 12, 16).astype(np.float32)
    ms = torch.from_numpy(image).permute(2, 0, 1)[None]
    scene = TestScene("x", ms, degrade(ms.repeat_interleave(4, 2).repeat_interleave(4, 3), 4)[1], None, [])
    scene.lms = torch.from_numpy(imresize(image, 4).astype(np.float32)).permute(2, 0, 1)[None]
    expected = evaluator.super_resolve(model, scene, torch.device("cpu"))
    result = super_resolve(image, model, cuda="0")
    assert (result.shape, result.dtype) == ((48, 64, 31), np.float32)
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_results_are_in_full_float32_and_the_callers_setting_stays(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen = []

    def note(lms):
        seen.append(torch.backends.cudnn.allow_tf32)
        return 0 * lms

    model = Stub(5, note)
    image = fixtures.smooth_cube(6, 16, 16, 5)
    super_resolve(image, model)
    ms, lms, gt = (torch.zeros(1, 5, n, n) for n in (4, 8, 8))
    evaluator.super_resolve(model, SimpleNamespace(ms=ms, lms=lms, gt=gt), torch.device("cpu"))
    assert seen == [False, False]
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", ">u2"])
def test_values_come_back_in_the_type_and_range_they_had(dtype):
    scale = 1.0 if np.dtype(dtype).kind == "f" else float(np.iinfo(dtype).max)
    image = (fixtures.smooth_cube(2, 9, 8, 5) * 0.9 * scale).astype(dtype)
    result = super_resolve(image, bicubic(5))
    assert result.dtype == np.dtype(dtype)
    half_a_step = 0.5 if np.dtype(dtype).kind != "f" else 0
    np.testing.assert_allclose(result, imresize(image, 2), atol=half_a_step + 1e-6 * scale)


def test_integers_are_rounded_and_clipped_to_their_type_and_the_clipped_counted():
    values = Values("u1", 255, None)
    raw, clipped = values.to_raw(np.array([[[-0.1, 0.1, 1.5 / 255, 1.01]]], np.float32), None)
    assert (raw.tolist(), clipped) == ([[[0, 26, 2, 255]]], 2)
    raw, clipped = Values("i2", 10000, None).to_raw(np.array([[[-0.1, 1.2, 4.0]]], np.float32), None)
    assert (raw.tolist(), clipped) == ([[[-1000, 12000, 32767]]], 1)
    for dtype in ("i8", "u8"):
        raw, _ = Values(dtype, 1e19, None).to_raw(np.array([[[4.0]]], np.float32), None)
        assert np.iinfo(dtype).max - 2048 < int(raw[0, 0, 0]) <= np.iinfo(dtype).max


@pytest.mark.parametrize(
    ("scene", "network", "words"),
    [
        (VISIBLE[:30], VISIBLE, "30 bands (400, 410"),
        (VISIBLE + 5, VISIBLE, "31 bands (405, 415"),
        (VISIBLE[::-1], VISIBLE, "31 bands (700, 690"),
        (np.linspace(400, 700, 30), VISIBLE, "network was trained on 31 bands (400, 410"),
        (None, VISIBLE, "5 bands of unknown wavelengths"),
    ],
)
def test_other_bands_are_refused_with_both_lists(scene, network, words):
    image = np.zeros((8, 8, 5 if scene is None else len(scene)), np.float32)
    model = bicubic(31)
    model.wavelengths = network
    with pytest.raises(UserError) as caught:
        super_resolve(image, model, scene)
    assert words in str(caught.value)
    assert "--resample_bands 1" in str(caught.value)


def test_bands_within_the_tolerance_are_the_same_and_unknown_ones_are_taken_so(capsys):
    image = fixtures.smooth_cube(0, 8, 8).astype(np.float32)
    model = bicubic(31)
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
    model = Stub(31, lambda lms: ramp.expand_as(lms))
    model.wavelengths = VISIBLE
    result = super_resolve(image, model, scene, resample_bands=True, verbose=True)
    detail = [0, 0.11, 0.2, 0.38, 0]
    np.testing.assert_allclose(result, imresize(image, 2) + detail, atol=2e-6)
    out = capsys.readouterr().out
    assert "interpolated to the network's 31 (400..700 nm)" in out
    assert "the 3 in its range, the other 2 come out bicubic" in out
    with pytest.raises(UserError, match="none in common"):
        super_resolve(image, model, scene + 1000, resample_bands=True)


class Local(Stub):
    """Looks 3 LR pixels far, blind to everything else, and feels its own borders."""

    def forward(self, ms, lms, modality="spectral"):
        self.calls += 1
        spread = nn.functional.avg_pool2d(ms, 7, 1, 3).repeat_interleave(self.n_scale, 2)
        return lms + spread.repeat_interleave(self.n_scale, 3)


@pytest.mark.parametrize("tile_overlap", [12, 16])
def test_tiles_of_a_local_network_are_the_whole_scene(tile_overlap):
    image = fixtures.smooth_cube(4, 61, 47, 5).astype(np.float32)
    whole = super_resolve(image, Local(5, None))
    model = Local(5, None)
    tiled = super_resolve(image, model, tile_size=32, tile_overlap=tile_overlap)
    assert model.calls >= 6
    np.testing.assert_allclose(tiled, whole, atol=2e-6)
    assert np.abs(super_resolve(image, Local(5, None), tile_size=32, tile_overlap=4) - whole).max() > 1e-3


def test_little_memory_makes_tiles_and_says_so(capsys, monkeypatch):
    monkeypatch.setattr(tiling, "STRIP_BYTES", 0)
    image = np.full((160, 150, 5), 0.5, np.float32)
    model = bicubic(5)
    result = super_resolve(image, model, memory_limit=0.006, verbose=True)
    assert model.calls > 1
    np.testing.assert_allclose(result, 0.5, atol=1e-6)
    assert re.search(r"\d+ tiles of \d+ x \d+ pixels that share 32 .* deviat", capsys.readouterr().out)


@pytest.mark.parametrize("dtype", ["f4", "i2"])
@pytest.mark.parametrize("tile_size", [0, 16])
def test_missing_data_stays_missing_and_does_not_bleed(dtype, tile_size):
    image = np.full((40, 36, 5), 5000, dtype)
    image[10:14, 7:30] = -9999
    image[20, 5, 2] = -9999
    if dtype == "f4":
        image[30:, 30:] = np.nan
    model = Stub(5, lambda lms: 0.1 * lms)
    result = super_resolve(
        image, model, value_scale=10000, nodata=-9999, tile_size=tile_size, tile_overlap=8, back_projection=1
    )
    missing = (image == -9999) | (image != image)
    block = missing.repeat(2, 0).repeat(2, 1)
    assert (result[:28][block[:28]] == -9999).all()
    assert (result[40:42, 10:12, 2] == -9999).all() or np.isnan(result[40:42, 10:12, 2]).all()
    # Back-projection takes the tenth that the network adds away again, everywhere alike.
    np.testing.assert_allclose(result[~block], 5000, atol=1)


def test_pieces_without_any_data_are_not_computed():
    image = np.full((16, 80, 5), np.nan, np.float32)
    image[:, :20] = 0.5
    model = bicubic(5)
    result = super_resolve(image, model, tile_size=16, tile_overlap=0)
    assert model.calls == 2
    assert np.isnan(result[:, 40:]).all() and np.isfinite(result[:, :40]).all()


def test_values_that_come_out_as_the_mark_are_moved_off_it():
    image = np.full((8, 8, 5), 100, np.uint8)
    image[0, 0] = 7
    model = Stub(5, lambda lms: 7 / 255 - lms)
    result = super_resolve(image, model, nodata=7)
    assert (result[:2, :2] == 7).all()
    assert (result[2:, 2:] == 8).all()


def test_gaps_are_filled_from_the_nearest_pixel_and_band():
    cube = np.arange(24.0).reshape(2, 3, 4)
    missing = np.zeros(cube.shape, bool)
    missing[:, :2] = missing[1, 2, 0] = missing[1, 2, 3] = True
    filled = gaps.filled(cube, missing)
    np.testing.assert_array_equal(filled[0, 0], cube[0, 2])
    np.testing.assert_array_equal(filled[1, 1], [21, 21, 22, 22])
    np.testing.assert_array_equal(filled[1, 2], [21, 21, 22, 22])
    assert (filled[~missing] == cube[~missing]).all()


@pytest.mark.parametrize(
    ("dtype", "nodata", "count"),
    [
        ("u1", -9999, 0),
        ("u1", 3.5, 0),
        ("u1", 3, 1),
        ("f4", None, 1),
        ("f4", 3, 2),
        ("f4", float("nan"), 1),
        ("i2", None, 0),
    ],
)
def test_marks_are_found_where_the_type_can_hold_them(dtype, nodata, count):
    cube = np.array([[[1, 3, 4]]], dtype)
    if dtype == "f4":
        cube[0, 0, 0] = np.nan
    missing = gaps.missing_values(cube, nodata)
    assert (0 if missing is None else missing.sum()) == count


def test_back_projection_adds_what_the_result_lacks_of_the_input():
    image = fixtures.smooth_cube(6, 16, 16, 5)
    model = Stub(5, lambda lms: 0.3 * lms)
    expected = imresize(image, 2) * 1.3
    for _ in range(2):
        expected += imresize(image - imresize(expected, 1 / 2), 2)
    np.testing.assert_allclose(super_resolve(image, model, back_projection=2), expected, atol=3e-6)


def test_the_ensemble_asks_eight_times():
    image = fixtures.smooth_cube(6, 16, 12, 5)

    # What is added at the top comes to all four sides in equal parts: of 8 turns, 2 at each.
    def at_the_top(lms):
        detail = torch.zeros_like(lms)
        detail[:, :, 0] = 0.8
        return detail

    model = Stub(5, at_the_top)
    result = super_resolve(image, model, self_ensemble=True) - imresize(image, 2)
    assert model.calls == 8
    np.testing.assert_allclose(result[0, 5], 0.2, atol=1e-5)
    np.testing.assert_allclose(result[9, -1], 0.2, atol=1e-5)
    np.testing.assert_allclose(result[9, 9], 0, atol=1e-5)


def test_weights_remember_their_wavelengths(weights, tmp_path, golden_x4):
    np.testing.assert_array_equal(checkpoint.load(weights).wavelengths, VISIBLE)
    checkpoint.save_weights(tiny_network(), tmp_path / "unknown.pth", 2)
    assert checkpoint.load(tmp_path / "unknown.pth").wavelengths is None
    released = tmp_path / "Harvard_DeepShare_Blocks=3_Subs8_Ovls2_Feats=256_epoch_10_x.pth"
    released.write_bytes(golden_x4.weights_path.read_bytes())
    np.testing.assert_array_equal(checkpoint.load(released).wavelengths, VISIBLE)
    assert facts.wavelengths_of("Harvard", 128) is None


def test_training_on_a_store_leaves_them_in_the_weights(run, tiny_flags):
    assert (
        run(
            "train",
            **tiny_flags,
            dataset_name="Mine",
            conversionMat_path=ROOT / "data/conversion_31_to_8.csv",
            max_iterations=1,
        )[0]
        == 0
    )
    (path,) = tiny_flags["save_dir"].glob("*/Mine_*.pth")
    np.testing.assert_array_equal(checkpoint.load(path).wavelengths, VISIBLE)


def expected_of(cube, value_scale=65535.0):
    """What the tiny network makes of an integer cube, by a direct call."""
    ms = (cube / value_scale).astype(np.float32)
    lms = imresize(ms, 4).astype(np.float32)
    with torch.inference_mode():
        y = tiny_network()(*(torch.from_numpy(x).permute(2, 0, 1)[None] for x in (ms, lms)))
    info = np.iinfo(cube.dtype)
    return np.clip(np.rint(y[0].permute(1, 2, 0).numpy().astype(np.float64) * value_scale), info.min, info.max)


@pytest.mark.parametrize("kind", ["mat5", "mat73", "npy", "npz", "hdf5", "tiff", "envi"])
def test_every_format_through_the_command(run, unlabelled_weights, tmp_path, kind):
    source = fixtures.write_own(tmp_path / "in", kind, CUBE)
    target = tmp_path / "out" / source.name
    code, out, _ = run("predict", input=source, output=target, model_dir=unlabelled_weights)
    assert code == 0
    result = rasters.open_raster(target)
    assert (result.shape, result.dtype.newbyteorder("=")) == ((112, 112, 31), np.uint16)
    assert np.abs(result.read().astype(int) - expected_of(CUBE)).max() <= 1
    assert "28 x 28 x 31 -> 112 x 112" in out
    assert str(target) in out
    assert not list((tmp_path / "out").glob(".*"))


def test_a_cave_scene_goes_through_the_command(run, raw, weights, tmp_path):
    code, out, _ = run(
        "predict", input=raw / "cave_lr_x4" / "cd_ms" / "cd_ms", output=tmp_path / "cd_ms", model_dir=weights
    )
    assert code == 0
    assert "not known" not in out
    lr = (fixtures.smooth_cube(11, 12, 12) * 65535).round().astype(np.uint16)
    expected = expected_of(lr)
    for k in (0, 30):
        with Image.open(tmp_path / "cd_ms" / f"cd_ms_{k + 1:02d}.png") as band:
            assert np.abs(np.array(band).astype(int) - expected[:, :, k]).max() <= 1
    assert str(tmp_path / "cd_ms") in out


def reflectance_envi(folder, **metadata):
    folder.mkdir(parents=True, exist_ok=True)
    cube = (fixtures.smooth_cube(3, 28, 28) * 10000).round().astype(np.int16)
    metadata = {"wavelength": list(VISIBLE), "wavelength units": "Nanometers", "data ignore value": -9999, **metadata}
    cube[3:5, 4:6] = -9999
    envi.save_image(str(folder / "scene.hdr"), cube, dtype=np.int16, interleave="bil", metadata=metadata)
    return folder / "scene.hdr", cube


def test_reflectance_is_recognised_from_the_header_or_asked_for(run, weights, tmp_path):
    recognised, cube = reflectance_envi(tmp_path / "a", **{"reflectance scale factor": 10000})
    asked, _ = reflectance_envi(tmp_path / "b")
    results = []
    for source, flags in ((recognised, {}), (asked, {"value_scale": 10000}), (asked, {})):
        target = tmp_path / f"{len(results)}.hdr"
        code, out, _ = run("predict", input=source, output=target, model_dir=weights, **flags)
        assert code == 0
        results.append(np.array(envi.open(str(target)).open_memmap()))
        assert ("10000 stands for 1" in out) == (source is recognised)
    assert "values reach 9" not in out and (results[0] == results[1]).all()
    hole = np.zeros((112, 112), bool)
    hole[12:20, 16:24] = True
    assert (results[0][hole] == -9999).all() and (results[0][~hole] > -1000).all()
    far = slice(40, None)
    clean = np.where(cube == -9999, 0, cube)
    assert np.abs(results[0][far] - expected_of(clean, 10000.0)[far]).max() <= 40


def test_a_result_in_another_format(run, weights, tmp_path):
    source = fixtures.write_own(tmp_path, "npy", CUBE)
    assert run("predict", input=source, output=tmp_path / "out.mat", model_dir=weights)[0] == 0
    assert scipy.io.loadmat(tmp_path / "out.mat")["image"].shape == (112, 112, 31)
    assert run("predict", input=source, output=tmp_path / "folder", model_dir=weights)[0] == 0
    assert np.load(tmp_path / "folder" / "scene.npy").shape == (112, 112, 31)


TILES = {"tile_size": 16, "tile_overlap": 8}


def stop_after(monkeypatch, tiles, error):
    """Let the tile after so many raise an error."""
    real, count = predict.SceneJob._super_resolved, []

    def stopping(self, tile):
        count.append(tile)
        if len(count) > tiles:
            raise error
        return real(self, tile)

    monkeypatch.setattr(predict.SceneJob, "_super_resolved", stopping)
    return count


@pytest.mark.parametrize("kind", ["npy", "envi", "tiff", "hdf5", "mat5"])
def test_a_stopped_run_goes_on_with_the_tiles_that_are_done(run, unlabelled_weights, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(predict, "SAVING_SHARE", 0)
    source = fixtures.write_own(tmp_path / "in", kind, CUBE)
    flags = {
        "input": source,
        "output": tmp_path / "out" / source.name,
        "model_dir": unlabelled_weights,
        **TILES,
    }
    assert run("predict", **{**flags, "output": tmp_path / "undisturbed" / source.name})[0] == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 4, KeyboardInterrupt())
        code, _, err = run("predict", **flags)
    assert code == 130
    assert "4 of 9 tiles are kept; the same command goes on" in err
    assert [p.name for p in (tmp_path / "out").iterdir()] == [f".{source.name}.partial"]
    with monkeypatch.context() as patch:
        count = stop_after(patch, 99, None)
        code, out, _ = run("predict", **flags)
    assert code == 0
    assert "going on after 4 of 9 tiles" in out
    assert len(count) == 5
    a, b = (rasters.open_raster(tmp_path / folder / source.name).read() for folder in ("out", "undisturbed"))
    np.testing.assert_array_equal(a, b)
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize("harm", ["values", "seams", "state"])
def test_kept_tiles_that_are_damaged_are_made_again(run, unlabelled_weights, tmp_path, monkeypatch, harm):
    monkeypatch.setattr(predict, "SAVING_SHARE", 0)
    source = fixtures.write_own(tmp_path, "npy", CUBE)
    flags = {"input": source, "output": tmp_path / "out.npy", "model_dir": unlabelled_weights, **TILES}
    with monkeypatch.context() as patch:
        stop_after(patch, 4, KeyboardInterrupt())
        assert run("predict", **flags)[0] == 130
    work = tmp_path / ".out.npy.partial"
    if harm == "values":
        (work / "values.raw").unlink()
    elif harm == "seams":
        (seams,) = work.glob("seams_*")
        seams.write_bytes(seams.read_bytes()[:100])
    else:
        (work / "progress.json").write_text("null")
    code, out, _ = run("predict", **flags)
    assert code == 0
    assert "damaged; starting from the beginning" in out
    assert run("predict", **{**flags, "output": tmp_path / "undisturbed.npy"})[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), np.load(tmp_path / "undisturbed.npy"))


def test_tiles_of_other_settings_are_not_gone_on_with(run, weights, tmp_path, monkeypatch):
    source = fixtures.write_own(tmp_path / "in", "npy", CUBE)
    flags = {"input": source, "output": tmp_path / "out.npy", "model_dir": weights, **TILES}
    with monkeypatch.context() as patch:
        stop_after(patch, 4, KeyboardInterrupt())
        assert run("predict", **flags)[0] == 130
    code, out, _ = run("predict", **flags, back_projection=1)
    assert code == 0
    assert "starting from the beginning" in out


def test_ctrl_c_in_a_scene_without_tiles_leaves_nothing(run, weights, tmp_path, monkeypatch):
    source = fixtures.write_own(tmp_path / "in", "npy", CUBE)
    stop_after(monkeypatch, 0, KeyboardInterrupt())
    code, _, err = run("predict", input=source, output=tmp_path / "out" / "a.npy", model_dir=weights)
    assert (code, list((tmp_path / "out").iterdir())) == (130, [])
    assert "nothing was written" in err


@pytest.mark.parametrize("kind", ["npy", "envi"])
def test_a_disk_that_fills_half_way_keeps_the_tiles(run, refused, unlabelled_weights, tmp_path, monkeypatch, kind):
    source = fixtures.write_own(tmp_path / "in", kind, CUBE)
    flags = {
        "input": source,
        "output": tmp_path / "out" / source.name,
        "model_dir": unlabelled_weights,
        **TILES,
    }
    with monkeypatch.context() as patch:
        stop_after(patch, 4, OSError(28, "No space left on device"))
        assert "the disk is full; free some space and run the same command again" in refused("predict", **flags)
    assert [p.name[0] for p in (tmp_path / "out").iterdir()] == ["."]
    code, out, _ = run("predict", **flags)
    assert code == 0
    assert "going on after" in out


def test_a_disk_without_room_is_refused_before_any_work(refused, weights, tmp_path, monkeypatch):
    source = fixtures.write_own(tmp_path / "in", "npy", CUBE)
    usage = predict.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(predict.shutil, "disk_usage", lambda _: usage._replace(free=100000))
    sentence = refused("predict", input=source, output=tmp_path / "out" / "a.npy", model_dir=weights)
    assert "the disk is too full by 1.5 MB (the result takes 1.6 MB while it is made)" in sentence
    assert not (tmp_path / "out").exists()


def test_a_folder_of_scenes_with_one_that_is_bad(run, weights, tmp_path):
    fixtures.write_own(tmp_path / "in" / "sub", "npy", CUBE, "a")
    fixtures.write_own(tmp_path / "in", "mat5", CUBE, "b")
    fixtures.write_cave_scene(tmp_path / "in", "c", CUBE / 65535)
    (tmp_path / "in" / "bad.npy").write_bytes(b"\x93NUMPY but not much more")
    code, out, err = run("predict", input=tmp_path / "in", output=tmp_path / "out", model_dir=weights)
    assert code == 2
    assert "1 of 4 scenes failed (bad.npy)" in err
    assert f"failed: {tmp_path / 'in' / 'bad.npy'}: cannot be read" in out
    for path in ("sub/a.npy", "b.mat", "c_ms/c_ms"):
        assert rasters.open_raster(tmp_path / "out" / path).shape == (112, 112, 31)
        assert str(tmp_path / "out" / path) in out
    (tmp_path / "in" / "bad.npy").unlink()
    code, out, _ = run("predict", input=tmp_path / "in", output=tmp_path / "out", model_dir=weights)
    assert code == 0
    assert out.count("is there already") == 3


def test_results_below_a_folder_of_scenes_are_no_scenes(run, refused, weights, tmp_path):
    fixtures.write_own(tmp_path / "in", "npy", CUBE, "a")
    flags = {"input": tmp_path / "in", "output": tmp_path / "in" / "out", "model_dir": weights}
    for _ in range(2):
        assert run("predict", **flags)[0] == 0
    assert [p.name for p in (tmp_path / "in").rglob("*.npy")] == ["a.npy", "a.npy"]
    assert "the folder of the input itself" in refused("predict", **{**flags, "output": tmp_path / "in"})


def broken(kind, change):
    def make(folder):
        path = fixtures.write_own(folder, kind, CUBE)
        change(path)
        return path

    return make


def replaced(old, new):
    return lambda path: path.write_text(path.read_text().replace(old, new))


def cut_data(path):
    data = path.with_suffix(".dat") if path.suffix == ".hdr" else path
    data.write_bytes(data.read_bytes()[:3000])


def added(field, value):
    """A header with a field more, or with another value of it."""

    def change(path):
        kept = [line for line in path.read_text().splitlines() if not line.startswith(f"{field} =")]
        path.write_text("\n".join([*kept, f"{field} = {value}", ""]))

    return change


def tiff_without_end(folder):
    """A GeoTIFF whose pixels are whole and whose tags are not."""
    profile = {"driver": "GTiff", "height": 28, "width": 28, "count": 31, "dtype": "uint16", "compress": "deflate"}
    with rasterio.open(folder / "a.tif", "w", **profile) as f:
        f.write(CUBE.transpose(2, 0, 1))
        # Written last, and found at the end of the file.
        f.descriptions = [f"band {k}" for k in range(31)]
        f.update_tags(note="x" * 2000)
    path = folder / "a.tif"
    path.write_bytes(path.read_bytes()[:-500])
    return path


def own(kind, cube):
    return lambda d: fixtures.write_own(d, kind, cube)


def complex_envi(folder):
    envi.save_image(str(folder / "a.hdr"), CUBE.astype(np.complex64))
    return folder / "a.hdr"


# What is wrong with the input, further flags, and a word of the sentence that says so.
WRONG = {
    "header that lies about its lines": (broken("envi", replaced("lines = 28", "lines = 30")), {}, "its header speaks of"),
    "header that lies about its samples": (broken("envi", replaced("samples = 28", "samples = 27")), {}, "its header speaks of"),
    "header without a field": (broken("envi", replaced("samples =", "spamles =")), {}, "samples"),
    "header that is cut off": (broken("envi", lambda p: p.write_text(p.read_text()[:150])), {}, "scene.hdr"),
    "missing data file": (broken("envi", lambda p: p.with_suffix(".dat").unlink()), {}, "data file is missing"),
    **{f"truncated {k}": (broken(k, cut_data), {}, "scene") for k in ("mat5", "mat73", "npy", "npz", "hdf5", "tiff", "envi")},
    "unknown interleave": (broken("envi", added("interleave", "bxx")), {}, "interleave = bxx"),
    "unknown byte order": (broken("envi", added("byte order", "2")), {}, "byte order = 2 cannot be understood"),
    "impossible scale": (broken("envi", added("reflectance scale factor", "-10000")), {}, "reflectance scale factor = -10000"),
    "short map info": (broken("envi", added("map info", "{UTM, 1.0}")), {}, "map info = UTM, 1.0 cannot"),
    "words for a start": (broken("envi", added("x start", "left")), {}, "x start = left cannot"),
    "one wavelength": (broken("envi", added("wavelength", "400")), {}, "1 wavelengths for 31 bands"),
    "no wavelengths": (broken("envi", added("wavelength", "{" + ", ".join(["nan"] * 31) + "}")), {}, "wavelength = nan"),
    "GeoTIFF without its end": (tiff_without_end, {}, "truncated or damaged tiff"),
    "nothing in it": (own("npy", CUBE[:0]), {"band_axis": 2}, "0 x 28 x 31 values, none at all"),
    "a name too long": (own("npy", CUBE), {"output": "n" * 300 + ".npy"}, "the name is too long"),
    "wavelengths the wrong way round": (own("npy", CUBE), {"wavelengths": "700,400"}, "--wavelengths as first,last"),
    "micrometres": (own("npy", CUBE), {"wavelengths": "0.4,0.7"}, "first,last in nm"),
    "a fourth axis": (own("npy", CUBE), {"band_axis": 3}, "--band_axis takes -1, 0, 1 or 2"),
    "complex": (own("npy", CUBE.astype(np.complex64)), {}, "complex64"),
    "complex ENVI": (complex_envi, {}, "complex64"),
    "one band": (own("npy", CUBE[:, :, 0]), {}, "rows x columns x bands"),
    "unknown range": (own("npy", CUBE.astype(np.float32)), {}, "--value_scale"),
    "no-data mark unnamed": (own("npy", np.where(CUBE > 30000, -9999, CUBE.astype(np.int32))), {"value_scale": 65535}, "--nodata"),
    "no such file": (lambda d: d / "none.npy", {}, "no such file"),
    "words": (lambda d: (d / "a.npy").write_text("words " * 99) and d / "a.npy", {}, "not in the format of its name"),
    "empty folder": (lambda d: d, {}, "no scene below it"),
    "bands": (own("npy", CUBE[:, :, :9]), {"wavelengths": "450,800"}, "450, 493.75, 537.5"),
    "unknown bands": (own("npy", CUBE[:, :, :9]), {"resample_bands": 1}, "9 bands of unknown wavelengths"),
    "wavelengths": (own("npy", CUBE), {"wavelengths": "blue"}, "--wavelengths as first,last"),
    "odd overlap": (own("npy", CUBE), {"tile_overlap": 6}, "multiple of 4"),
    "small tiles": (own("npy", CUBE), {"tile_size": 40}, "at least twice"),
    "nodata": (own("npy", CUBE), {"nodata": "none"}, "--nodata takes a number"),
    "unknown weights": (own("npy", CUBE), {"model_dir": "Kave"}, "no weights of that name"),
    "unknown extension": (own("npy", CUBE), {"output": "out/result.xyz"}, ".xyz is no known format"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_inputs_are_refused_in_a_sentence_and_leave_nothing(refused, weights, tmp_path, monkeypatch, case):
    make, flags, words = WRONG[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    source = make(tmp_path / "in")
    assert words in refused(
        "predict", **{"input": source, "output": tmp_path / "out" / "a.npy", "model_dir": weights, **flags}
    )
    assert not (tmp_path / "out").exists()


def test_what_is_there_already_is_not_written_over(run, refused, weights, tmp_path):
    source = fixtures.write_own(tmp_path, "npy", CUBE)
    target = tmp_path / "out.hdr"
    (tmp_path / "out.img").write_text("mine")
    flags = {"input": source, "output": target, "model_dir": weights}
    assert "out.img: is there already" in refused("predict", **flags)
    assert (tmp_path / "out.img").read_text() == "mine"
    assert run("predict", **flags, overwrite=1)[0] == 0
    assert envi.open(str(target)).shape == (112, 112, 31)
    assert "that is the input itself" in refused("predict", **{**flags, "output": source}, overwrite=1)
    folder = fixtures.write_cave_scene(tmp_path, "c", CUBE / 65535)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("mine")
    sentence = refused("predict", input=folder, output=tmp_path / "home", model_dir=weights, overwrite=1)
    assert "a folder with other things in it" in sentence


def test_an_envi_header_goes_with_its_data_and_no_other(run, refused, unlabelled_weights, tmp_path):
    source = fixtures.write_own(tmp_path / "in", "envi", CUBE)
    out = tmp_path / "out"
    flags = {"input": source, "output": out / "scene.hdr", "model_dir": unlabelled_weights, "overwrite": 1}
    # Readers look for .img before .dat, which this result has: somebody's own .img is not touched.
    out.mkdir()
    (out / "scene.img").write_bytes(b"no result")
    assert "beside it stands scene.img" in refused("predict", **flags)
    assert (out / "scene.img").read_bytes() == b"no result"
    # One that belongs to a header there is replaced with it.
    assert run("predict", **{**flags, "input": fixtures.write_own(tmp_path / "in2", "npy", CUBE)})[0] == 0
    assert sorted(p.name for p in out.iterdir()) == ["scene.hdr", "scene.img"]
    assert run("predict", **flags)[0] == 0
    assert sorted(p.name for p in out.iterdir()) == ["scene.dat", "scene.hdr"]
    assert envi.open(str(out / "scene.hdr")).shape == (112, 112, 31)


def test_a_report_that_cannot_be_written_keeps_the_result_back(refused, weights, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    source = fixtures.write_own(tmp_path, "npy", CUBE)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(predict.Path, "write_bytes", full)
    flags = {"input": source, "output": tmp_path / "out" / "a.npy", "model_dir": weights, "report": 1}
    assert "a_report.png: the disk is full" in refused("predict", **flags)
    assert not list((tmp_path / "out").iterdir())


def test_an_output_that_may_not_be_written_is_named(refused, weights, tmp_path, monkeypatch):
    source = fixtures.write_own(tmp_path, "npy", CUBE)
    # Permissions do not keep a superuser out.
    monkeypatch.setattr(predict.Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "denied")))
    sentence = refused("predict", input=source, output=tmp_path / "out" / "a.npy", model_dir=weights)
    assert f"{tmp_path / 'out' / 'a.npy'}: may not be written" in sentence
    assert not (tmp_path / "out").exists()


def test_diverged_weights_are_named(refused, tmp_path):
    model = tiny_network()
    model.final.weight.data[:] = 1e38
    checkpoint.save_weights(model, tmp_path / "w.pth", 2)
    source = fixtures.write_own(tmp_path, "npy", CUBE)
    assert "not finite" in refused("predict", input=source, output=tmp_path / "out.npy", model_dir=tmp_path / "w.pth")
    assert not list(tmp_path.glob("*out*"))


def test_the_report_shows_what_the_input_says_to_the_result(run, weights, tmp_path):
    pytest.importorskip("matplotlib")
    source, _ = reflectance_envi(tmp_path / "a")
    code, out, _ = run(
        "predict", input=source, output=tmp_path / "out.hdr", model_dir=weights, value_scale=10000, report=1
    )
    assert code == 0
    assert str(tmp_path / "out_report.png") in out
    with Image.open(tmp_path / "out_report.png") as picture:
        assert picture.size == (1500, 1700)


def test_the_findings_of_a_report_are_those_of_a_direct_computation(monkeypatch):
    image = fixtures.smooth_cube(8, 40, 30, 5)
    result = imresize(image, 2)
    result[21, 33] += 0.3
    monkeypatch.setattr(report, "STRIP_VALUES", 30 * 5 * 4 * 7)
    found = report.Findings(rasters.from_array(image), result, Values("f8", 1.0, None), 2)
    for error, larger in ((found.rmse, result), (found.bicubic_rmse, imresize(image, 2))):
        expected = np.sqrt(((imresize(larger, 1 / 2) - image) ** 2).mean(axis=(0, 1)))
        np.testing.assert_allclose(error, expected, atol=1e-6)
    assert found.spots[0] == (10, 16)
    assert [x.shape for x in found.overview] == [(40, 30, 3), (80, 60, 3), (80, 60, 3)]


def test_the_readmes_example_runs(weights, tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert example.count("\n") <= 10
    np.save(tmp_path / "scene.npy", CUBE)
    (tmp_path / "weights.pth").write_bytes(weights.read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "scene_x4.npy").shape == (112, 112, 31)
