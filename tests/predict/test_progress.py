import copy
import json
import os
import shutil
from pathlib import Path

import fixtures
import numpy as np
import pytest
from helpers import OWN_CUBE, make_tiny_network

import formats
from config import PredictConfig
from models.weights import load, save_weights
from predict import progress
from predict.device_network import DeviceNetwork
from predict.scene import SceneUpsampler

TILES = {"tile_size": 16, "tile_overlap": 8}


def stop_after(monkeypatch, tiles, error):
    """Let the tile after so many raise an error."""
    real, count = SceneUpsampler.upsample_tile, []

    def stopping(self, tile):
        count.append(tile)
        if len(count) > tiles:
            raise error
        return real(self, tile)

    monkeypatch.setattr(SceneUpsampler, "upsample_tile", stopping)
    return count


@pytest.mark.parametrize("kind", ["npy", "envi", "tiff", "hdf5", "mat5"])
def test_stopped_prediction_resumes_after_finished_tiles(run, unlabelled_weights, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(progress, "SAVING_SHARE", 0)
    source = fixtures.write_own(tmp_path / "in", kind, OWN_CUBE)
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
    assert "4 of 9 tiles are kept; repeat the command to continue" in err
    assert [p.name for p in (tmp_path / "out").iterdir()] == [f".{source.name}.partial"]
    with monkeypatch.context() as patch:
        count = stop_after(patch, 99, None)
        code, out, _ = run("predict", **flags)
    assert code == 0
    assert "resuming after 4 of 9 tiles" in out
    assert len(count) == 5
    a, b = (formats.open_raster(tmp_path / folder / source.name).read() for folder in ("out", "undisturbed"))
    np.testing.assert_array_equal(a, b)
    assert not list((tmp_path / "out").glob(".*"))


def test_band_windows_resume_with_equal_normalisation(run, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "SAVING_SHARE", 0)
    cube = fixtures.make_smooth_cube(0, 40, 40, 50) * np.linspace(0.1, 1, 40)[:, None, None]
    np.save(tmp_path / "in.npy", (cube * 60000).astype(np.uint16))
    flags = {"input": tmp_path / "in.npy", "model_dir": weights, "wavelengths": "900,1700", **TILES}
    assert run("predict", **flags, output=tmp_path / "undisturbed.npy")[0] == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 4, KeyboardInterrupt())
        assert run("predict", **flags, output=tmp_path / "out.npy")[0] == 130
    kept = json.loads((tmp_path / ".out.npy.partial" / "progress.json").read_text())
    assert len(kept["peaks"]) == 50
    code, out, _ = run("predict", **flags, output=tmp_path / "out.npy")
    assert code == 0 and "in 2 overlapping windows of 31 bands" in out and "resuming after 4 of" in out
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), np.load(tmp_path / "undisturbed.npy"))


@pytest.mark.parametrize("harm", ["values", "seams", "state"])
def test_damaged_progress_starts_from_the_beginning(run, unlabelled_weights, tmp_path, monkeypatch, harm):
    monkeypatch.setattr(progress, "SAVING_SHARE", 0)
    source = fixtures.write_own(tmp_path, "npy", OWN_CUBE)
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
    assert "starting from the beginning" in out
    assert run("predict", **{**flags, "output": tmp_path / "undisturbed.npy"})[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), np.load(tmp_path / "undisturbed.npy"))


def test_changed_settings_start_from_the_beginning(run, weights, tmp_path, monkeypatch):
    source = fixtures.write_own(tmp_path / "in", "npy", OWN_CUBE)
    flags = {"input": source, "output": tmp_path / "out.npy", "model_dir": weights, **TILES}
    with monkeypatch.context() as patch:
        stop_after(patch, 4, KeyboardInterrupt())
        assert run("predict", **flags)[0] == 130
    code, out, _ = run("predict", **flags, back_projection=1)
    assert code == 0
    assert "starting from the beginning" in out


@pytest.mark.parametrize("kind", ["npy", "envi"])
def test_full_disk_keeps_the_finished_tiles(run, refused, unlabelled_weights, tmp_path, monkeypatch, kind):
    source = fixtures.write_own(tmp_path / "in", kind, OWN_CUBE)
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
    assert "resuming after" in out


def test_ctrl_c_without_tiles_leaves_nothing(run, weights, tmp_path, monkeypatch):
    source = fixtures.write_own(tmp_path / "in", "npy", OWN_CUBE)
    stop_after(monkeypatch, 0, KeyboardInterrupt())
    code, _, err = run("predict", input=source, output=tmp_path / "out" / "a.npy", model_dir=weights)
    assert (code, list((tmp_path / "out").iterdir())) == (130, [])
    assert "nothing was written" in err


HALF_DONE = Path(__file__).parent / "half_done"
# The modification time of its input, which is part of the fingerprint.
MODIFIED = 1_600_000_000_123_456_789


def put_half_done(folder):
    """An earlier version's half-done prediction, to be gone on with as larger.hdr; returns the command's flags."""
    for name in ("scene.hdr", "scene.dat", "weights.pth"):
        shutil.copyfile(HALF_DONE / name, folder / name)
        os.utime(folder / name, ns=(MODIFIED, MODIFIED))
    shutil.copytree(HALF_DONE / "partial", folder / ".larger.hdr.partial")
    given = {"input": folder / "scene.hdr", "model_dir": folder / "weights.pth"}
    return {**given, **TILES, "back_projection": 1, "cuda": 0}


def test_progress_of_earlier_versions_is_resumed(run, tmp_path):
    flags = put_half_done(tmp_path)
    code, out, _ = run("predict", output=tmp_path / "larger.hdr", **flags)
    assert code == 0
    assert "resuming after 4 of 8 tiles" in out
    assert not (tmp_path / ".larger.hdr.partial").exists()
    assert run("predict", output=tmp_path / "undisturbed.hdr", **flags)[0] == 0
    a, b = (formats.open_raster(tmp_path / f"{name}.hdr").read() for name in ("larger", "undisturbed"))
    # Its tiles were computed on another processor.
    assert np.abs(a.astype(int) - b).max() <= 1
    assert (a != b).mean() < 1e-3


@pytest.mark.parametrize("change", ["weights", "input", "time"])
def test_changed_input_or_weights_restart_the_prediction(run, tmp_path, change):
    flags = put_half_done(tmp_path)
    if change == "weights":
        save_weights(load(tmp_path / "weights.pth").model, tmp_path / "weights.pth", 2)
    elif change == "input":
        (tmp_path / "scene.hdr").write_text((tmp_path / "scene.hdr").read_text() + "\n")
        os.utime(tmp_path / "scene.hdr", ns=(MODIFIED, MODIFIED))
    else:
        os.utime(tmp_path / "scene.dat", ns=(MODIFIED, MODIFIED + 1))
    code, out, _ = run("predict", output=tmp_path / "larger.hdr", **flags)
    assert code == 0
    assert "starting from the beginning" in out


def test_restored_state_continues_with_equal_results():
    config = PredictConfig(tile_size=16, tile_overlap=8, cuda="0")
    raster, network = formats.from_array(OWN_CUBE), DeviceNetwork(make_tiny_network(), config)
    scene, windows, states = SceneUpsampler(raster, network, config, lambda text: None), [], []
    scene.run(lambda *window: windows.append(window), False, lambda: states.append(copy.deepcopy(scene.get_state())))
    again, rest = SceneUpsampler(raster, network, config, lambda text: None, states[3]), []
    again.restore(states[3])
    again.run(lambda *window: rest.append(window), False)
    assert len(rest) == 5
    for (top, left, values), expected in zip(rest, windows[4:], strict=True):
        assert (top, left) == expected[:2]
        np.testing.assert_array_equal(values, expected[2])
    assert (again.done, again.clipped) == (scene.done, scene.clipped)
    assert scene.done == 9 and scene.clipped > 0


def test_saved_state_round_trips(tmp_path):
    output = formats.Output(tmp_path / "a.npy", formats.from_array(OWN_CUBE), 4)
    config = PredictConfig(tile_size=16, tile_overlap=8, cuda="0")
    scene = SceneUpsampler(
        formats.from_array(OWN_CUBE), DeviceNetwork(make_tiny_network(), config), config, lambda text: None
    )
    first = progress.Progress(output, "mine")
    assert first.state is None
    first.begin(scene)
    raw = output.open_raw()
    scene.run(raw.write, False)
    first.save(scene)
    assert json.loads((output.work / "progress.json").read_text()) == {
        "fingerprint": "mine",
        "tile_size": 16,
        "overlap": 8,
        "done": 9,
        "clipped": scene.clipped,
        "seams": "seams_9.npz",
    }
    read = progress.Progress(output, "mine").state
    np.testing.assert_array_equal(read.below, scene.get_state().below)
    np.testing.assert_array_equal(read.right, scene.get_state().right)
    assert (read.tile_size, read.overlap, read.done, read.clipped) == (16, 8, 9, scene.clipped)
    assert progress.Progress(output, "another").state is None
    assert first.suspend(scene) == "9 of 9 tiles are kept; repeat the command to continue"
