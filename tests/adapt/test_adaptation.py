"""`adapt`: weights for the sensor of one scene, early stopping, refusals without half-written files."""

import json
import os
import signal
import subprocess
import sys
import time

import fixtures
import h5py
import numpy as np
import pytest
import torch
from helpers import ROOT, VISIBLE, format_words, make_tiny_network

from adapt import adaptation as adapting
from config import AdaptConfig
from data.imresize import imresize
from models import build_model, weights
from models.weights import load_state, save_weights
from objectives import LABELLED, MIXUP
from predict import super_resolve
from system.errors import UserError

WAVES = np.linspace(450, 850, 12)


def blocks_of_pixels(height=48, width=56, bands=12):
    return np.rint(fixtures.make_sharp_cube(height, width, bands) * 60000).astype(np.uint16)


@pytest.fixture
def scene(tmp_path):
    with h5py.File(tmp_path / "scene.h5", "w") as f:
        f["image"] = blocks_of_pixels()
        f["wavelength"] = WAVES
    return tmp_path / "scene.h5"


@pytest.fixture
def start(tmp_path):
    network = make_tiny_network(n_scale=2)
    network.init_identity()
    save_weights(network, tmp_path / "start.pth", 2, VISIBLE)
    return tmp_path / "start.pth"


@pytest.fixture
def flags(scene, start, tmp_path, monkeypatch):
    # A few iterations must gain something also on a busy machine.
    monkeypatch.setitem(adapting.RECIPE, "learning_rate", 2e-3)
    monkeypatch.setitem(adapting.RECIPE, "warmup_iterations", 1)
    return {"input": scene, "model_dir": start, "output": tmp_path / "own.pth", "minutes": 0.15, "cuda": 0}


def test_a_scene_makes_weights_that_predict_takes(run, flags, start, tmp_path):
    code, out, err = run("adapt", **flags)
    assert code == 0, out + err
    own = weights.load(tmp_path / "own.pth")
    assert (own.architecture["n_colors"], own.architecture["n_scale"]) == (31, 2)
    assert own.wavelengths is None and own.sensor.count == 12
    np.testing.assert_allclose(own.sensor.centres, WAVES)
    assert "12 bands, 450..850 nm, super-resolved together; the weights were trained on 31 bands" in out
    about = json.loads((tmp_path / "own.json").read_text())
    gains = about["adapted"]["gains"]
    assert about["adapted"]["gain"] > 0 and len(gains) == len(about["adapted"]["held_out"]) >= 2
    words = f"{about['adapted']['gain']:+.2f} dB over bicubic on {len(gains)} held-out windows"
    assert f"{words} (single windows {min(gains):+.2f} to {max(gains):+.2f})" in out
    # The weights to start from give the bicubic image.
    assert about["adapted"]["zero_shot"] == pytest.approx(0, abs=1e-3)
    assert f"{about['adapted']['gain']:+.2f} dB over start without adaptation" in out
    assert about["started_from"]["taken"] == "all" and about["adapted"]["bands"] == "windows"
    assert [line.strip() for line in out.splitlines()[-2:]] == [str(tmp_path / n) for n in ("own.pth", "own.json")]
    small = imresize(blocks_of_pixels().astype(np.float64), 0.5)
    np.save(tmp_path / "small.npy", np.clip(small, 0, 65535).astype(np.uint16))
    predicted = {"input": tmp_path / "small.npy", "output": tmp_path / "large.npy", "model_dir": tmp_path / "own.pth"}
    code, out, _ = run("predict", **predicted, band_axis=2, cuda=0)
    assert code == 0 and "the weights were adapted to 12 bands, 450..850 nm" in out
    error = {}
    for name, image in (("own", np.load(tmp_path / "large.npy")), ("bicubic", imresize(small, 2))):
        error[name] = np.sqrt(np.mean((image.astype(np.float64) - blocks_of_pixels()) ** 2))
    assert error["own"] < error["bicubic"]


def test_weights_record_a_given_full_scale_value(run, flags, tmp_path):
    with h5py.File(tmp_path / "dn.h5", "w") as f:
        f["image"] = np.rint(fixtures.make_sharp_cube(48, 56, 12) * 9000).astype(np.int32)
        f["wavelength"] = WAVES
    code, out, err = run("adapt", **{**flags, "input": tmp_path / "dn.h5"}, value_scale=10000)
    assert code == 0, out + err
    assert weights.load(tmp_path / "own.pth").value_scale == 10000
    assert json.loads((tmp_path / "own.json").read_text())["value_scale"] == 10000
    asked = {"input": tmp_path / "dn.h5", "model_dir": tmp_path / "own.pth", "cuda": 0}
    code, out, err = run("predict", **asked, output=tmp_path / "x2.h5")
    assert code == 0 and "full-scale value 10000, as the weights record" in out
    run("predict", **asked, output=tmp_path / "given.h5", value_scale=10000)
    with h5py.File(tmp_path / "x2.h5") as f, h5py.File(tmp_path / "given.h5") as given:
        np.testing.assert_array_equal(f["image"][()], given["image"][()])


def test_recorded_gains_are_those_of_saved_weights(run, flags, tmp_path):
    assert run("adapt", **flags)[0] == 0
    about = json.loads((tmp_path / "own.json").read_text())["adapted"]
    edge, cube = about["edge"], blocks_of_pixels() / 65535
    # Each band is divided by 3 times its largest value.
    cube /= 3 * cube.max((0, 1))
    errors = {"own": [], "bicubic": []}
    for i, j in about["held_out"]:
        truth = cube[i : i + edge, j : j + edge]
        small = imresize(truth, 0.5).astype(np.float32)
        large = super_resolve(small, tmp_path / "own.pth", WAVES, normalise="none", value_scale=1.0, cuda="0")
        for name, image in (("own", large), ("bicubic", imresize(small, 2))):
            errors[name].append(((image - truth) ** 2).mean((0, 1)))

    def mpsnr(error):
        return np.mean(10 * np.log10(1 / error))

    for ours, theirs, gain, bicubic in zip(*errors.values(), about["gains"], about["bicubic"], strict=True):
        assert mpsnr(theirs) == pytest.approx(bicubic, abs=2e-3)
        assert mpsnr(ours) == pytest.approx(bicubic + gain, abs=5e-3)
    together = [mpsnr(np.mean(errors[name], axis=0)) for name in ("own", "bicubic")]
    assert together[0] - together[1] == pytest.approx(about["gain"], abs=5e-3)


def test_patches_do_not_overlap_held_out_windows(flags):
    adaptation = adapting.Adaptation(AdaptConfig.from_flags(flags), flags["output"])
    source = adaptation.streams["labelled"].source
    held_out = np.zeros(blocks_of_pixels().shape[:2], dtype=bool)
    for i, j in adaptation.split.held_out:
        held_out[i : i + adaptation.split.edge, j : j + adaptation.split.edge] = True
    assert len(source) == len(adaptation.split.patches)
    for _, i, j in source.positions:
        assert not held_out[i : i + source.size, j : j + source.size].any()


def test_scenes_exceeding_memory_are_read_by_windows(flags, monkeypatch):
    whole = adapting.Adaptation(AdaptConfig.from_flags(flags), flags["output"])
    monkeypatch.setattr(adapting, "get_free_memory", lambda: 1000)
    parts = adapting.Adaptation(AdaptConfig.from_flags(flags), flags["output"])
    assert parts.streams["labelled"].source.reads_files and not whole.streams["labelled"].source.reads_files
    for k in range(3):
        ours, theirs = (a.streams["labelled"].batch(k) for a in (parts, whole))
        assert torch.equal(ours.gt, theirs.gt) and torch.equal(ours.ms, theirs.ms)
    parts.streams["labelled"].close()


@pytest.mark.parametrize(("bands", "waves", "mode"), [(12, WAVES + 1, "exact"), (31, VISIBLE, "windows")])
def test_adaptation_starts_from_the_given_weights(flags, tmp_path, bands, waves, mode):
    save_weights(make_tiny_network(bands, n_scale=2), tmp_path / "given.pth", 2, waves)
    asked = AdaptConfig.from_flags({**flags, "model_dir": tmp_path / "given.pth"})
    adaptation = adapting.Adaptation(asked, flags["output"])
    assert adaptation.bands.mode == mode
    given = load_state(tmp_path / "given.pth")
    assert all(torch.equal(tensor, given[name]) for name, tensor in adaptation.model.state_dict().items())
    assert adaptation.best == adaptation.zero_shot < 0


def test_each_iteration_trains_one_window_of_bands(flags, tmp_path):
    save_weights(make_tiny_network(8, n_scale=2), tmp_path / "narrow.pth", 2, np.linspace(400, 700, 8))
    asked = AdaptConfig.from_flags({**flags, "model_dir": tmp_path / "narrow.pth"})
    adaptation = adapting.Adaptation(asked, flags["output"])
    seen = set()
    for adaptation.iteration in range(20):
        whole = adaptation.streams["labelled"].batch(adaptation.iteration)
        labelled, mixed = (adaptation.batch(objective, 0, 1) for objective in (LABELLED, MIXUP))
        (first,) = (k for k in range(5) if torch.equal(labelled.gt, whole.gt[:, k : k + 8]))
        assert torch.equal(labelled.ms, whole.ms[:, first : first + 8])
        assert torch.equal(mixed.gt, labelled.gt)
        seen.add(first)
    assert seen == set(range(5))


def test_reordered_bands_are_trained_in_network_order(flags, tmp_path):
    save_weights(make_tiny_network(12, n_scale=2), tmp_path / "descending.pth", 2, WAVES[::-1])
    asked = AdaptConfig.from_flags({**flags, "model_dir": tmp_path / "descending.pth"})
    adaptation = adapting.Adaptation(asked, flags["output"])
    assert adaptation.bands.mode == "exact"
    whole = adaptation.streams["labelled"].batch(0)
    assert torch.equal(adaptation.batch(LABELLED, 0, 1).gt, whole.gt.flip(1))


def test_given_rgb_images_train_the_rgb_branch(run, flags, raw, tmp_path):
    code, out, err = run("adapt", **flags, train_dir_rgb=raw / "rgb")
    assert code == 0, out + err
    about = json.loads((tmp_path / "own.json").read_text())
    assert about["UseRGB"] and about["patches"]["rgb"] > 0
    own, given = load_state(tmp_path / "own.pth"), load_state(tmp_path / "start.pth")
    assert not torch.equal(own["trunk_RGB.head.weight"], given["trunk_RGB.head.weight"])


def test_early_stopping_without_gain_writes_no_weights(refused, flags, tmp_path, monkeypatch):
    monkeypatch.setitem(adapting.RECIPE, "learning_rate", 1e-12)
    monkeypatch.setattr(adapting, "EVALUATIONS", 10**6)
    began = time.monotonic()
    before = sorted(p.name for p in tmp_path.iterdir())
    sentence = refused("adapt", **{**flags, "minutes": 10})
    assert "no gain over the weights without adaptation" in sentence and "no weights were written" in sentence
    assert time.monotonic() - began < 300
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_by_signal_keeps_the_best_weights(flags, tmp_path, number):
    words = [sys.executable, ROOT / "mains.py", "adapt", *format_words({**flags, "minutes": 5})]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(list(map(str, words)), env=environment, text=True, stderr=subprocess.PIPE)
    while not (tmp_path / "own.json").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == 128 + number, err
    assert "the best weights (+" in err and "own.pth" in err
    assert weights.load(tmp_path / "own.pth").sensor.count == 12
    assert not list(tmp_path.glob(".*"))


def small(tmp_path, **changes):
    np.save(tmp_path / "small.npy", blocks_of_pixels(**changes))
    return {"input": tmp_path / "small.npy", "band_axis": 2}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (lambda t: small(t, height=16, width=16), "need at least 3"),
        (lambda t: {"bands": "exact"}, "12 bands, 450..850 nm, but the weights were trained on 31 bands, 400..700 nm"),
        (lambda t: {"input": t / "nowhere.npy"}, "nowhere.npy: no such file or folder"),
        (lambda t: {"output": t / "own.npy"}, "weights are .pth files"),
        (lambda t: {"output": t / "start.pth"}, "already exists"),
        (lambda t: {"model_dir": "nowhere"}, "neither a file nor the name of bundled weights"),
        (lambda t: {"train_dir_rgb": t / "nowhere"}, "--train_dir_rgb"),
        (lambda t: {"minutes": 0}, "--minutes is above 0"),
        (lambda t: {"nodata": "True"}, "--nodata takes a number or nan"),
        (lambda t: {"input": ""}, "--input is missing"),
    ],
)
def test_wrong_inputs_are_refused_and_leave_nothing(refused, flags, tmp_path, changes, words):
    changes = changes(tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir())
    assert words in refused("adapt", **{**flags, **changes})
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_bands_without_wavelengths_are_adapted_together(flags, tmp_path, capsys):
    given = {**flags, **small(tmp_path)}
    adaptation = adapting.Adaptation(AdaptConfig.from_flags(given), flags["output"])
    assert adaptation.model.n_colors == 31
    assert "12 bands of unknown wavelengths, super-resolved together" in capsys.readouterr().out


def test_missing_data_is_excluded_from_all_windows(flags, tmp_path):
    cube = fixtures.make_smooth_cube(0, 60, 60, 12).astype(np.float32)
    cube[:20, :20, 3] = np.nan
    np.save(tmp_path / "holes.npy", cube)
    asked = AdaptConfig.from_flags({**flags, "input": tmp_path / "holes.npy", "band_axis": 2})
    split = adapting.Adaptation(asked, flags["output"]).split
    assert all(i >= 20 or j >= 20 for i, j in (*split.held_out, *split.patches))
    cube[:] = np.nan
    np.save(tmp_path / "holes.npy", cube)
    with pytest.raises(UserError, match="all pixels are missing data"):
        adapting.Adaptation(asked, flags["output"])


def test_tables_name_the_weights_before_adaptation(run, flags, scene, tmp_path):
    assert run("adapt", **flags)[0] == 0
    (tmp_path / "raw").mkdir()
    scene.rename(tmp_path / "raw" / "scene.h5")
    stores = {"dataset_name": "Own", "raw_dir": tmp_path / "raw", "out_dir": tmp_path / "stores", "test": "scene"}
    assert run("prepare", **stores)[0] == 0
    scored = {"model_dir": tmp_path / "own.pth", "test_dir": tmp_path / "stores" / "test.h5", "cuda": 0}
    assert run("test", **scored, result_path=tmp_path / "results")[0] == 0
    code, out, err = run("tables", runs_dir=tmp_path / "results")
    assert code == 0, out + err
    table = (tmp_path / "results" / "tables" / "tables.md").read_text()
    assert "DeepShare + Mixup" in table and "weights start.pth" in table and "adapted to one scene" in table


def test_bands_without_detail_change_no_gain(flags, tmp_path):
    """Dead and saturated bands, which bicubic makes exactly, count for nothing."""
    gains = []
    for dead in (False, True):
        cube = blocks_of_pixels()
        if dead:
            cube = np.concatenate([cube, np.zeros_like(cube[:, :, :2]), np.full_like(cube[:, :, :1], 65535)], axis=2)
        np.save(tmp_path / "dead.npy", cube)
        asked = AdaptConfig.from_flags({**flags, "input": tmp_path / "dead.npy", "band_axis": 2})
        adaptation = adapting.Adaptation(asked, flags["output"])
        with torch.no_grad():
            adaptation.averaged.final.bias.fill_(0.05)
        gain, windows = adaptation.measure_gain()
        gains.append([gain, *windows])
    np.testing.assert_allclose(*gains, atol=1e-4)
    assert gains[0][0] < 0


def test_scenes_without_detail_are_refused(refused, flags, tmp_path):
    np.save(tmp_path / "flat.npy", np.full((48, 56, 12), 30000, np.uint16))
    assert "give a scene with detail" in refused("adapt", **{**flags, "input": tmp_path / "flat.npy", "band_axis": 2})


def test_band_missing_everywhere_does_not_mask_pixels(flags, tmp_path):
    cube = fixtures.make_sharp_cube(48, 56, 12).astype(np.float32)
    cube[:, :, 4] = np.nan
    cube[:16, :16, 5] = np.nan
    np.save(tmp_path / "water.npy", cube)
    asked = AdaptConfig.from_flags({**flags, "input": tmp_path / "water.npy", "band_axis": 2})
    split = adapting.Adaptation(asked, flags["output"]).split
    assert len(split.held_out) >= 2 and split.patches
    assert all(i >= 16 or j >= 16 for i, j in (*split.held_out, *split.patches))


def test_networks_without_rgb_branch_refuse_rgb_images(refused, flags, raw, tmp_path):
    model = build_model("SSPSR", 31, 2, n_feats=4, n_blocks=1)
    save_weights(model, tmp_path / "sspsr.pth", 2, VISIBLE)
    given = {**flags, "model_dir": tmp_path / "sspsr.pth", "train_dir_rgb": raw / "rgb"}
    assert "--train_dir_rgb: SSPSR has no path for RGB images" in refused("adapt", **given)


@pytest.mark.parametrize("name", ["SSPSR", "GDRRN", "3DFCNN", "MCNet"])
def test_baselines_are_adapted_from_all_weights(run, flags, tmp_path, name):
    model = build_model(name, 31, 2, n_feats=4, n_blocks=1, global_residual=True)
    if name != "3DFCNN":
        model.init_identity()
    save_weights(model, tmp_path / "peer.pth", 2, VISIBLE)
    asked = AdaptConfig.from_flags({**flags, "model_dir": tmp_path / "peer.pth"})
    adaptation = adapting.Adaptation(asked, flags["output"])
    state, given = adaptation.model.state_dict(), model.state_dict()
    assert all(torch.equal(state[n], given[n]) for n in given) and state.keys() == given.keys()
    adaptation.iterate(epoch=1)
    assert np.isfinite(adaptation.measure_gain()[0])


def test_not_finite_loss_keeps_the_best_weights(run, flags, tmp_path, monkeypatch):
    evaluate = adapting.Adaptation.evaluate

    def then_broken(self, bar):
        found = evaluate(self, bar)
        if (tmp_path / "own.pth").exists():
            with torch.no_grad():
                self.model.final.weight.fill_(float("nan"))
        return found

    monkeypatch.setattr(adapting.Adaptation, "evaluate", then_broken)
    code, out, err = run("adapt", **{**flags, "minutes": 5})
    assert code == 0, out + err
    assert "training ends early: the" in out and "is not finite" in out
    assert weights.load(tmp_path / "own.pth").sensor.count == 12
