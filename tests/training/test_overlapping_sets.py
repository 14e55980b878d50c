"""Overlap between the sets of a run: scored scenes are not trained on."""

import numpy as np
import pytest
from helpers import write_store

WAVES = np.linspace(400, 700, 16)
NETWORK = {"n_scale": 2, "n_feats": 4, "n_blocks": 1}
FLAGS = {"dataset_name": "Mine", **NETWORK, "patch_size": 16, "batch_size": 2, "cuda": 0}


@pytest.fixture
def flags(tmp_path):
    write_store(tmp_path / "labelled.h5", {"a": WAVES, "b": WAVES}, hashes={"b": "same"})
    write_store(tmp_path / "scored.h5", {"c": WAVES, "d": WAVES}, hashes={"d": "same"})
    return {
        **FLAGS,
        "max_iterations": 1,
        "save_dir": tmp_path / "runs",
        "train_dir_mslabel": tmp_path / "labelled.h5",
    }


@pytest.mark.parametrize("flag", ["test_dir", "eval_dir_ms"])
def test_scored_scenes_among_the_labelled_are_refused(refused, tmp_path, flags, flag):
    sentence = refused("train", **flags, **{flag: tmp_path / "scored.h5"})
    assert f"--{flag} {tmp_path / 'scored.h5'}: d (labelled as b) is among the labelled scenes" in sentence
    assert str(tmp_path / "labelled.h5") in sentence
    assert not (tmp_path / "runs").exists()


def test_unused_test_scenes_are_not_checked(run, tmp_path, flags):
    assert run("train", **flags, test_dir=tmp_path / "scored.h5", data_test_num=1)[0] == 0


def test_scored_scenes_among_the_unlabelled_are_named(run, tmp_path, flags):
    write_store(tmp_path / "unlabelled.h5", {"e": WAVES}, hashes={"e": "other"})
    write_store(tmp_path / "test.h5", {"f": WAVES}, hashes={"f": "other"})
    unlabelled = {"UseUnlabelConsistency": 1, "theta_unlabel": 1, "train_dir_msunlabel": tmp_path / "unlabelled.h5"}
    code, out, err = run("train", **flags, **unlabelled, test_dir=tmp_path / "test.h5")
    assert code == 0
    assert "f among the unlabelled images" in out + err


def test_equal_names_with_different_content_are_reported(run, tmp_path, flags):
    write_store(tmp_path / "again.h5", {"a": WAVES})
    code, out, err = run("train", **flags, test_dir=tmp_path / "again.h5")
    assert code == 0
    assert "check that the images differ" in out + err


def test_exported_patches_know_their_scenes(run, refused, tmp_path):
    (tmp_path / "raw").mkdir()
    for seed, name in enumerate("ab"):
        noise = np.random.default_rng(seed).random((32, 32, 16), dtype=np.float32)
        np.savez(tmp_path / "raw" / f"{name}.npz", image=noise, wavelength=WAVES)
    prepared = {"dataset_name": "Mine", "raw_dir": tmp_path / "raw", "n_scale": 2, "format": "mat", "patch_size": 16}
    assert run("prepare", **prepared, out_dir=tmp_path / "one", labelled="a", test="b")[0] == 0
    assert run("prepare", **prepared, out_dir=tmp_path / "two", labelled="b", test="a")[0] == 0
    folders = {"train_dir_mslabel": tmp_path / "one" / "labelled_x2", "test_dir": tmp_path / "two" / "test_x2"}
    settings = {**FLAGS, "patch_size": 0, "max_iterations": 1, "save_dir": tmp_path / "runs"}
    assert ": a is among the labelled scenes" in refused("train", **settings, **folders)
    assert run("train", **settings, **{**folders, "test_dir": tmp_path / "one" / "test_x2"})[0] == 0
