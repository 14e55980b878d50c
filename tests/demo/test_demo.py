import dataclasses
import json
import re
import signal

import numpy as np
import skimage.color
from helpers import read_scene_names

from config import DemoConfig
from data.spectral import load_matching_functions
from demo import run as demo_run
from demo.synthetic import MIRRORED, compute_spectrum_matrix, lift_photograph
from system.errors import Interrupted


def test_lifted_spectra_are_smoothest_of_their_colour():
    matrix, sensitivity = compute_spectrum_matrix(), load_matching_functions()
    np.testing.assert_allclose(sensitivity.T @ matrix, np.eye(3), atol=1e-9)
    # Any other spectrum of the same colour is rougher.
    spectrum = matrix @ [0.4, 0.5, 0.3]
    unseen = np.linalg.svd(sensitivity.T)[2][3:]
    roughness = np.sum(np.diff(spectrum, 2) ** 2)
    for direction in unseen:
        assert np.sum(np.diff(spectrum + 0.01 * direction, 2) ** 2) > roughness


def test_lifted_photographs_are_16_bit_with_reflection():
    pixels = np.array([[[0, 0, 0], [120, 130, 125]]], dtype=np.uint8)
    cube = lift_photograph(pixels)
    assert (cube.shape, cube.dtype) == ((1, 2, 31), np.uint16)
    np.testing.assert_allclose(cube[0, 0] / 65535, MIRRORED, atol=1e-5)
    plain = (cube[0, 1] / 65535 - MIRRORED) / (1 - MIRRORED)
    np.testing.assert_allclose(plain @ load_matching_functions(), skimage.color.rgb2xyz(pixels)[0, 1], atol=1e-4)


def test_demo_writes_comparison_and_results(run, tmp_path, monkeypatch):
    short = {"n_feats": 4, "epochs": 1, "patch_size": 16, "patch_stride": 120}
    monkeypatch.setattr(demo_run, "RECIPE", {**demo_run.RECIPE, **short})
    code, out, _ = run("demo", out_dir=tmp_path / "demo")
    assert code == 0
    for name in ("comparison.png", "DeepShare_results.json", "bicubic_results.json"):
        assert (tmp_path / "demo" / name).is_file()
        assert str(tmp_path / "demo" / name) in out
    results = json.loads((tmp_path / "demo" / "DeepShare_results.json").read_text())
    assert list(results["scenes"]) == read_scene_names(tmp_path / "demo" / "data" / "test.h5")
    assert f"{results['mean']['MPSNR']:.4f}" in out
    assert "dB MPSNR" in out
    trained = set(read_scene_names(tmp_path / "demo" / "data" / "labelled.h5"))
    assert not trained & set(results["scenes"])


def flags_named(text):
    return set(re.findall(r"--(\w+)", text))


def test_diverging_demo_names_only_demo_flags(refused, tmp_path, monkeypatch):
    short = {"n_feats": 4, "epochs": 2, "patch_size": 16, "patch_stride": 120, "learning_rate": 1e30}
    monkeypatch.setattr(demo_run, "RECIPE", {**demo_run.RECIPE, **short})
    sentence = refused("demo", out_dir=tmp_path / "demo")
    assert "is not finite" in sentence
    assert flags_named(sentence) <= {field.name for field in dataclasses.fields(DemoConfig)}


def test_stopped_demo_names_no_train_flags(run, tmp_path, monkeypatch):
    def stopped(trainer):
        raise Interrupted(signal.SIGINT)

    monkeypatch.setattr(demo_run.Trainer, "train", stopped)
    code, out, err = run("demo", out_dir=tmp_path / "demo")
    assert code == 130
    assert "stopped by SIGINT" in err and not flags_named(out + err)
