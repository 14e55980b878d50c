"""One scene shared by several processes."""

import os
import signal
import subprocess
import sys
import time

import fixtures
import numpy as np
import pytest
from helpers import ROOT, format_words

from predict import tiles


def predict(**flags):
    """Two processes on a scene, with their output as text."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, str(ROOT / "mains.py"), "predict", *format_words(flags)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


@pytest.fixture
def scene(tmp_path):
    np.save(tmp_path / "scene.npy", (fixtures.make_smooth_cube(3, 96, 72) * 60000).round().astype(np.uint16))
    return tmp_path / "scene.npy"


@pytest.mark.parametrize("waves", ["400,700", "900,1700"])
def test_two_processes_share_a_scenes_strips(run, scene, weights, tmp_path, waves):
    flags = {"input": scene, "model_dir": weights, "cuda": 0, "wavelengths": waves}
    code, _, err = run("predict", **flags, output=tmp_path / "one.npy")
    assert code == 0, err
    process = predict(**flags, output=tmp_path / "two.npy")
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    assert "2 tiles of 72 x 64 pixels with an overlap of 32" in output
    assert output.count("wrote:") == 1
    one, two = (np.load(tmp_path / f"{name}.npy").astype(float) / 65535 for name in ("one", "two"))
    # Each is rounded to 16 bits; what is announced for tiles comes on top.
    assert np.sqrt(np.mean((one - two) ** 2)) < 7e-7 + 0.5 / 65535


def test_refusal_by_rank_0_is_printed_once(scene, weights, tmp_path):
    flags = {"input": scene, "output": tmp_path / "x.npy", "model_dir": weights, "cuda": 0, "nodata": "x"}
    output = predict(**flags).communicate(timeout=120)[0]
    assert "--nodata takes a number" in output
    flags["nodata"] = "-9999"
    (tmp_path / "x.npy").write_bytes(b"")
    process = predict(**flags)
    output = process.communicate(timeout=120)[0]
    assert process.returncode
    assert output.count("error: ") == 1
    assert "already exists" in output


def test_tiles_resume_after_a_killed_process(run, scene, weights, tmp_path):
    flags = {"input": scene, "model_dir": weights, "cuda": 0, "tile_size": 8, "tile_overlap": 4}
    process = predict(**flags, output=tmp_path / "larger.npy")
    kept = tmp_path / ".larger.npy.partial" / "progress.json"
    while process.poll() is None and not kept.exists():
        time.sleep(0.01)
    victim = children_of(process.pid)[-1]
    os.kill(victim, signal.SIGKILL)
    output = process.communicate(timeout=120)[0]
    assert process.returncode, output
    assert not (tmp_path / "larger.npy").exists()
    code, out, _ = run("predict", **flags, output=tmp_path / "larger.npy")
    assert code == 0
    assert "resuming after" in out
    assert run("predict", **flags, output=tmp_path / "undisturbed.npy")[0] == 0
    np.testing.assert_array_equal(*(np.load(tmp_path / f"{name}.npy") for name in ("larger", "undisturbed")))


def children_of(pid):
    """The processes that a process has started, in their order."""
    words = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
    return sorted(map(int, words))


@pytest.mark.parametrize(("height", "processes"), [(96, 2), (97, 3), (300, 4)])
def test_every_process_has_a_strip(height, processes):
    plan = tiles.make_plan({"n_colors": 31, "n_scale": 4, "n_feats": 4}, height, 50, 2**34, processes=processes)
    assert plan.strips
    assert len(plan.tiles) <= processes
    assert plan.tiles[0].rows.start == 0 and plan.tiles[-1].rows.stop == height
    assert all(tile.cols.start == 0 and tile.cols.stop == 50 for tile in plan.tiles)


def test_low_scene_is_not_cut_into_strips():
    plan = tiles.make_plan({"n_colors": 31, "n_scale": 4, "n_feats": 4}, 60, 50, 2**34, processes=2)
    assert len(plan.tiles) == 1
