"""`adapt`: one scene makes weights for its sensor, or says that nothing was gained, and leaves nothing half-written."""

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
from helpers import ROOT, VISIBLE, tiny_network, words_of

from config import AdaptConfig
from data.imresize import imresize
from models import build_model, weights
from models.weights import load_state, save_weights
from predict import super_resolve
from training import adapting
from utils import UserError

WAVES = np.linspace(450, 850, 12)
SHARED = ("branch1.", "branch2.", "trunk_RGB.", "skip_conv_RGB.", "final_RGB.")


def blocks_of_pixels(height=48, width=56, bands=12):
    return np.rint(fixtures.sharp_cube(height, width, bands) * 60000).astype(np.uint16)


@pytest.fixture
def scene(tmp_path):
    with h5py.File(tmp_path / "scene.h5", "w") as f:
        f["image"] = blocks_of_pixels()
        f["wavelength"] = WAVES
    return tmp_path / "scene.h5"


@pytest.fixture
def start(tmp_path):
    save_weights(tiny_network(n_scale=2), tmp_path / "start.pth", 2, VISIBLE)
    return tmp_path / "start.pth"


@pytest.fixture
def flags(scene, start, tmp_path):
    return {"input": scene, "model_dir": start, "output": tmp_path / "own.pth", "minutes": 0.1, "cuda": 0}


def test_a_scene_makes_weights_that_predict_takes(run, flags, start, tmp_path):
    code, out, err = run("adapt", **flags)
    assert code == 0, out + err
    own = weights.load(tmp_path / "own.pth")
    assert (own.architecture["n_colors"], own.architecture["n_scale"]) == (12, 2)
    np.testing.assert_allclose(own.wavelengths, WAVES)
    about = json.loads((tmp_path / "own.json").read_text())
    gains = about["adapted"]["gains"]
    assert about["adapted"]["gain"] > 0 and len(gains) == len(about["adapted"]["held_out"]) >= 2
    words = f"{about['adapted']['gain']:+.2f} dB over bicubic on {len(gains)} held-out windows together"
    assert f"{words} (one by one {min(gains):+.2f} to {max(gains):+.2f})" in out
    assert about["started_from"]["taken"] == "branch1, branch2, trunk_RGB, skip_conv_RGB, final_RGB"
    assert [line.strip() for line in out.splitlines()[-2:]] == [str(tmp_path / n) for n in ("own.pth", "own.json")]
    small = imresize(blocks_of_pixels().astype(np.float64), 0.5)
    np.save(tmp_path / "small.npy", np.clip(small, 0, 65535).astype(np.uint16))
    predicted = {"input": tmp_path / "small.npy", "output": tmp_path / "large.npy", "model_dir": tmp_path / "own.pth"}
    assert run("predict", **predicted, band_axis=2, cuda=0)[0] == 0
    error = {}
    for name, image in (("own", np.load(tmp_path / "large.npy")), ("bicubic", imresize(small, 2))):
        error[name] = np.sqrt(np.mean((image.astype(np.float64) - blocks_of_pixels()) ** 2))
    assert error["own"] < error["bicubic"]


def test_windows_scores_are_those_of_the_weights_that_were_kept(run, flags, tmp_path):
    assert run("adapt", **flags)[0] == 0
    about = json.loads((tmp_path / "own.json").read_text())["adapted"]
    edge, cube = about["edge"], blocks_of_pixels() / 65535
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


def test_nothing_that_is_held_out_is_learnt_from(flags):
    adaptation = adapting.Adaptation(AdaptConfig.from_flags(flags), flags["output"])
    source = adaptation.streams["labelled"].source
    held_out = np.zeros(blocks_of_pixels().shape[:2], dtype=bool)
    for i, j in adaptation.split.held_out:
        held_out[i : i + adaptation.split.edge, j : j + adaptation.split.edge] = True
    assert len(source) == len(adaptation.split.patches)
    for _, i, j in source.positions:
        assert not held_out[i : i + source.size, j : j + source.size].any()


def test_a_scene_larger_than_the_memory_is_read_by_windows(flags, monkeypatch):
    whole = adapting.Adaptation(AdaptConfig.from_flags(flags), flags["output"])
    monkeypatch.setattr(adapting, "free_memory", lambda: 1000)
    parts = adapting.Adaptation(AdaptConfig.from_flags(flags), flags["output"])
    assert parts.streams["labelled"].source.reads_files and not whole.streams["labelled"].source.reads_files
    for k in range(3):
        ours, theirs = (a.streams["labelled"].batch(k) for a in (parts, whole))
        assert torch.equal(ours.gt, theirs.gt) and torch.equal(ours.ms, theirs.ms)
    parts.streams["labelled"].close()


def test_weights_of_the_same_bands_start_with_all_they_know(flags, tmp_path, capsys):
    save_weights(tiny_network(12, n_scale=2), tmp_path / "same.pth", 2, WAVES + 1)
    asked = AdaptConfig.from_flags({**flags, "model_dir": tmp_path / "same.pth"})
    adaptation = adapting.Adaptation(asked, flags["output"])
    given = load_state(tmp_path / "same.pth")
    assert all(torch.equal(tensor, given[name]) for name, tensor in adaptation.model.state_dict().items())
    assert "all of it is taken" in capsys.readouterr().out
    # Other bands start as the bicubic image, from published weights too.
    model = build_model("DeepShare", 31, 2, n_feats=4, n_blocks=1)
    save_weights(model, tmp_path / "published.pth", 2, VISIBLE)
    asked = AdaptConfig.from_flags({**flags, "model_dir": tmp_path / "published.pth"})
    other = adapting.Adaptation(asked, flags["output"])
    assert other.best == pytest.approx(0, abs=1e-5) and other.model.has_global_residual
    state = other.model.state_dict()
    assert all(torch.equal(state[n], t) for n, t in model.state_dict().items() if n.startswith(SHARED))


def test_rgb_images_are_learnt_from_where_they_are_given(run, flags, raw, tmp_path):
    code, out, err = run("adapt", **flags, train_dir_rgb=raw / "rgb")
    assert code == 0, out + err
    about = json.loads((tmp_path / "own.json").read_text())
    assert about["UseRGB"] and about["patches"]["rgb"] > 0
    own, given = load_state(tmp_path / "own.pth"), load_state(tmp_path / "start.pth")
    assert not torch.equal(own["trunk_RGB.head.weight"], given["trunk_RGB.head.weight"])


def test_it_ends_where_nothing_gets_better_and_says_that_nothing_was_gained(refused, flags, tmp_path, monkeypatch):
    monkeypatch.setitem(adapting.RECIPE, "learning_rate", 1e-12)
    monkeypatch.setattr(adapting, "LOOKS", 10**6)
    began = time.monotonic()
    before = sorted(p.name for p in tmp_path.iterdir())
    sentence = refused("adapt", **{**flags, "minutes": 10})
    assert "nothing was gained in" in sentence and "no weights were written" in sentence
    assert time.monotonic() - began < 300
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_half_way_the_best_so_far_is_safe(flags, tmp_path, number):
    words = [sys.executable, ROOT / "mains.py", "adapt", *words_of({**flags, "minutes": 5})]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(list(map(str, words)), env=environment, text=True, stderr=subprocess.PIPE)
    while not (tmp_path / "own.json").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == 128 + number, err
    assert "the best so far (+" in err and "own.pth" in err
    assert weights.load(tmp_path / "own.pth").architecture["n_colors"] == 12
    assert not list(tmp_path.glob(".*"))


def small(tmp_path, **changes):
    np.save(tmp_path / "small.npy", blocks_of_pixels(**changes))
    return {"input": tmp_path / "small.npy", "band_axis": 2}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (lambda t: small(t, height=16, width=16), "at least 3 are needed"),
        (lambda t: small(t, bands=5), "5 bands, fewer than the 8 that the weights see at once"),
        (lambda t: {"input": t / "nowhere.npy"}, "nowhere.npy: no such file or folder"),
        (lambda t: {"output": t / "own.npy"}, "weights are .pth files"),
        (lambda t: {"output": t / "start.pth"}, "is there already"),
        (lambda t: {"model_dir": "nowhere"}, "no weights of that name come with the program"),
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


def test_bands_without_wavelengths_are_adapted_to_all_the_same(flags, tmp_path, capsys):
    given = {**flags, **small(tmp_path)}
    adaptation = adapting.Adaptation(AdaptConfig.from_flags(given), flags["output"])
    assert adaptation.model.n_colors == 12
    assert "was trained on 31 other bands" in capsys.readouterr().out


def test_holes_are_neither_learnt_from_nor_judged_by(flags, tmp_path):
    cube = fixtures.smooth_cube(0, 60, 60, 12).astype(np.float32)
    cube[:20, :20, 3] = np.nan
    np.save(tmp_path / "holes.npy", cube)
    asked = AdaptConfig.from_flags({**flags, "input": tmp_path / "holes.npy", "band_axis": 2})
    split = adapting.Adaptation(asked, flags["output"]).split
    assert all(i >= 20 or j >= 20 for i, j in (*split.held_out, *split.patches))
    cube[:] = np.nan
    np.save(tmp_path / "holes.npy", cube)
    with pytest.raises(UserError, match="nothing but missing data"):
        adapting.Adaptation(asked, flags["output"])


def test_tables_show_what_weights_were_adapted_from(run, flags, scene, tmp_path):
    assert run("adapt", **flags)[0] == 0
    (tmp_path / "raw").mkdir()
    scene.rename(tmp_path / "raw" / "scene.h5")
    stores = {"dataset_name": "Own", "raw_dir": tmp_path / "raw", "out_dir": tmp_path / "stores", "test": "scene"}
    assert run("prepare", **stores)[0] == 0
    scored = {"model_dir": tmp_path / "own.pth", "test_dir": tmp_path / "stores" / "test.h5", "cuda": 0}
    assert run("test", **scored, result_path=tmp_path / "results")[0] == 0
    code, out, err = run("tables", runs_dir=tmp_path / "results")
    assert code == 0, out + err
    assert "DeepShare + Mixup" in out and "weights start.pth" in out and "adapted to one scene" in out
