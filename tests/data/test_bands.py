"""Scenes used together need the same bands: count, wavelengths and order."""

import fixtures
import numpy as np
import pytest
from helpers import write_store

from data.bands import BandList, SameBands
from models import build_model
from models.weights import save_weights
from system.errors import DataError

VIS = np.linspace(400, 700, 16)
SETS = {"reversed": VIS[::-1], "infrared": np.linspace(900, 1700, 16), "fewer": VIS[:12], "shifted": VIS + 2.5}
RANGES = {
    "reversed": "16 bands, 700..400 nm",
    "infrared": "16 bands, 900..1700 nm",
    "fewer": "12 bands, 400..620 nm",
    "shifted": "16 bands, 402.5..702.5 nm",
}


def write_npz(folder, name, wavelengths, seed=0, bands=16):
    folder.mkdir(exist_ok=True)
    cube = fixtures.make_smooth_cube(seed, 60, 64, bands).astype(np.float32)
    known = {} if wavelengths is None else {"wavelength": wavelengths}
    np.savez(folder / f"{name}.npz", image=cube, **known)


@pytest.mark.parametrize("other", SETS)
def test_prepare_refuses_scenes_of_different_bands(refused, tmp_path, other):
    waves = SETS[other]
    write_npz(tmp_path / "raw", "a", VIS)
    write_npz(tmp_path / "raw", "b", waves, 1, len(waves))
    flags = {"dataset_name": "Mine", "raw_dir": tmp_path / "raw", "out_dir": tmp_path / "out", "n_scale": 2}
    # In one split, and between two.
    for lists in ({"labelled": "a,b"}, {"labelled": "a", "test": "b"}):
        sentence = refused("prepare", **flags, **lists)
        assert f"b.npz: {RANGES[other]}, but " in sentence
        assert "a.npz has 16 bands, 400..700 nm" in sentence
        assert not list((tmp_path / "out").glob("*.h5"))


def test_prepare_accepts_similar_and_unknown_wavelengths(run, tmp_path):
    for seed, (name, waves) in enumerate({"a": None, "b": VIS, "c": VIS + 1.9, "d": None}.items()):
        write_npz(tmp_path / "raw", name, waves, seed)
    flags = {"dataset_name": "Mine", "raw_dir": tmp_path / "raw", "out_dir": tmp_path / "out", "n_scale": 2}
    code, out, err = run("prepare", **flags, labelled="a,b,c,d")
    assert code == 0
    assert "a.npz (and 1 more): wavelengths are unknown; assuming those of " in out + err
    assert "b.npz (16 bands, 400..700 nm)" in out + err


def test_differing_band_is_named_if_ranges_agree():
    bands = SameBands("remedy")
    bands.add("a", BandList(3, np.array([400.0, 500, 600])))
    with pytest.raises(DataError, match=r"but a has 3 bands, 400..600 nm .band 2: 510 and 500 nm"):
        bands.add("b", BandList(3, np.array([400.0, 510, 600])))


def flags_of_training(tmp_path):
    settings = {"dataset_name": "Mine", "n_scale": 2, "n_feats": 4, "n_blocks": 1, "patch_size": 16, "batch_size": 2}
    return {**settings, "max_iterations": 1, "cuda": 0, "save_dir": tmp_path / "runs"}


@pytest.mark.parametrize("other", SETS)
def test_train_refuses_scenes_of_different_bands(refused, tmp_path, other):
    waves = SETS[other]
    write_store(tmp_path / "vis.h5", {"a": VIS})
    write_store(tmp_path / "other.h5", {"b": waves})
    write_store(tmp_path / "mixed.h5", {"a": VIS, "b": waves})
    flags = {**flags_of_training(tmp_path), "train_dir_mslabel": tmp_path / "vis.h5"}
    unlabelled = {"UseUnlabelConsistency": 1, "theta_unlabel": 1, "train_dir_msunlabel": tmp_path / "other.h5"}
    for wrong in (
        {"train_dir_mslabel": tmp_path / "mixed.h5"},
        {"eval_dir_ms": tmp_path / "other.h5"},
        {"test_dir": tmp_path / "other.h5"},
        unlabelled,
    ):
        sentence = refused("train", **{**flags, **wrong})
        assert f"scene b: {RANGES[other]}, but " in sentence
        assert "scene a has 16 bands, 400..700 nm" in sentence
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("of_weights", "of_scene", "words"),
    [
        (VIS, VIS + 1.9, ""),
        (VIS, VIS[::-1], "16 bands, 700..400 nm; its bands are reordered for the network"),
        (VIS, VIS + 500, "16 bands, 900..1200 nm, super-resolved together; the weights were trained on 16 bands, 400"),
        (VIS, None, "the scene's wavelengths are unknown"),
        (None, VIS, "the network's wavelengths are unknown"),
    ],
)
def test_scores_on_different_wavelengths_have_a_remark(run, tmp_path, of_weights, of_scene, words):
    write_store(tmp_path / "test.h5", {"a": of_scene})
    model = build_model("DeepShare", 16, 2, n_feats=4, n_blocks=1)
    save_weights(model, tmp_path / "w.pth", 2, of_weights)
    code, out, err = run("test", model_dir=tmp_path / "w.pth", test_dir=tmp_path / "test.h5", result_path=tmp_path)
    assert code == 0
    assert words in out + err
    assert out.count("test.h5: ") == bool(words)
