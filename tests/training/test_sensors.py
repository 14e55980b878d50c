"""Training on bands of other sensors."""

import fixtures
import numpy as np
import pytest
from helpers import TINY


@pytest.mark.parametrize(("wavelengths", "goes_on_without"), [("400,1000", False), ("900,2500", True)])
def test_scenes_of_any_sensor_are_trained_on(run, raw, tmp_path, wavelengths, goes_on_without):
    for k in range(2):
        fixtures.write_own(
            tmp_path / "raw", "npy", fixtures.make_smooth_cube(k, 32, 48, 12).astype(np.float32), f"s{k}"
        )
    flags = {"dataset_name": "Mine", "raw_dir": tmp_path / "raw", "out_dir": tmp_path, "wavelengths": wavelengths}
    assert run("prepare", **flags, labelled="s0", unlabelled="s1")[0] == 0
    folders = {"train_dir_mslabel": tmp_path / "labelled.h5", "train_dir_msunlabel": tmp_path / "unlabelled.h5"}
    folders |= {"train_dir_rgb": raw / "rgb", "save_dir": tmp_path / "runs"}
    flags = {**TINY, "batch_size": 8, "UseRGB": 1, "UseUnlabelConsistency": 1, "max_iterations": 1, "log_interval": 1}
    code, out, err = run("train", dataset_name="Mine", **folders, **flags)
    assert code == 0
    assert ("no blue band" in out + err) == goes_on_without
    row = (next((tmp_path / "runs").glob("*/log.csv"))).read_text().splitlines()[1].split(",")
    assert (row[5] == row[6] == "") == goes_on_without


def test_chikusei_patches_have_their_data_sets_wavelengths(run, raw, tmp_path):
    folders = {}
    for flag in ("train_dir_mslabel", "train_dir_msunlabel"):
        folders[flag] = fixtures.write_patches(tmp_path / flag, 2, bands=128)
    flags = {**TINY, "patch_size": 0, "UseUnlabelConsistency": 1, "max_iterations": 1, "log_interval": 1}
    code, out, err = run("train", dataset_name="Chikusei", save_dir=tmp_path / "runs", **folders, **flags)
    assert code == 0, out + err
    assert (next((tmp_path / "runs").glob("*/log.csv"))).read_text().splitlines()[1].split(",")[6]


def test_active_flags_are_not_reported_as_off(run, raw, tmp_path, tiny_flags):
    code, out, err = run("train", **{**tiny_flags, "UseRGB": 1, "theta_rgb": 0, "max_iterations": 1})
    assert code == 0
    assert "--UseRGB 1 turns it on" not in out + err
    code, out, err = run("train", **{**tiny_flags, "UseRGB": 0, "max_iterations": 1})
    assert code == 0
    assert "--UseRGB 1 turns it on" in out + err
