"""scripts/gpu.sh on the CPU with lowered limits: time, pieces, resuming, joined weights."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from helpers import ROOT

from models import weights as checkpoint


def gpu(stage, folder, *words, **settings):
    """Run a stage to its end."""
    process = begin(stage, folder, *words, **settings)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def begin(stage, folder, *words, **settings):
    lowered = {"SECONDS_TO_TRAIN": 300, "FEATS": 8, "PATCH": 16, "PIECE": 0.05, "CUDA": 0, "WIDTHS": 8, "EDGE": 32}
    environment = {
        **{name: str(value) for name, value in {**lowered, "REPEATS": 1, "HOWS": "bf16", "WORKERS": 0}.items()},
        **{"PYTHON": sys.executable, "OUT": str(folder / "out"), "KEEP": str(folder / "keep")},
        **{"STORES": str(folder / "stores"), "OMP_NUM_THREADS": "1"},
        **{name: str(value) for name, value in settings.items()},
    }
    command = ["bash", str(ROOT / "scripts" / "gpu.sh"), stage, *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, **environment}, cwd=ROOT, **pipes)


def end_training(process):
    """What `timeout` does when the time is up, whenever the test wants it."""
    listed = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", str(process.pid)], capture_output=True, text=True)
    (timeout,) = [line.split()[0] for line in listed.stdout.splitlines() if line.split()[1] == "timeout"]
    os.kill(int(timeout), signal.SIGTERM)


@pytest.fixture
def folder(stores, raw, tmp_path, run):
    shutil.copytree(stores, tmp_path / "stores")
    flags = {"dataset_name": "DIV2K", "raw_dir": raw / "rgb", "out_dir": tmp_path / "stores"}
    assert run("prepare", **flags)[0] == 0
    return tmp_path


def test_best_trains_the_whole_cosine_schedule(folder):
    done = gpu("best", folder, "--max_iterations", 2)
    assert done.returncode == 0 and "done: " in done.stdout, done.stderr
    config = json.loads((folder / "out" / "config.json").read_text())
    assert (config["loss"], config["schedule"], config["epochs"], config["UseUnlabelConsistency"]) == (
        *("relative", "cosine", 8, False),
    )


def test_stopped_run_resumes_and_returns_in_pieces(folder, run):
    process = begin("train", folder, CHECKPOINT_MINUTES=0.01)
    while process.poll() is None and not list((folder / "keep").glob("run/*/last.pth")):
        time.sleep(0.05)
    end_training(process)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "not done" in output
    out = folder / "out"
    assert (out / "log.csv").exists()
    pieces = json.loads((out / "pieces.json").read_text())["pieces"]
    assert len(pieces) > 1
    assert all((out / name).stat().st_size <= 0.05 * 2**20 for name in pieces)
    (last,) = (folder / "keep" / "run").glob("*/last.pth")
    iteration = torch.load(last, weights_only=True)["iteration"]
    assert iteration
    done = gpu("train", folder, "--max_iterations", iteration + 3)
    assert done.returncode == 0, done.stderr
    assert "done: " in done.stdout and "not done" not in done.stdout
    assert torch.load(last, weights_only=True)["iteration"] == iteration + 3

    join = [sys.executable, ROOT / "scripts" / "pieces.py", "join", out, folder / "weights.pth"]
    assert subprocess.run(join).returncode == 0
    (final,) = (folder / "keep" / "run").glob("*/*_epoch_*.pth")
    whole, joined = checkpoint.load(final, n_ovls=2), checkpoint.load(folder / "weights.pth", n_ovls=2)
    assert joined.architecture == whole.architecture
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(joined.model.state_dict()[name], tensor, rtol=1e-3, atol=1e-6)
    scores = []
    for weights in (final, folder / "weights.pth"):
        flags = {"test_dir": folder / "stores" / "test.h5", "model_dir": weights, "n_ovls": 2, "cuda": 0}
        assert run("test", **flags, result_path=folder / "results")[0] == 0
        found = json.loads((folder / "results" / f"{weights.stem}_results.json").read_text())
        scores.append(found["mean"]["MPSNR"])
    assert scores[0] == pytest.approx(scores[1], abs=0.005)

    (out / "piece_1").write_bytes(b"another")
    broken = subprocess.run(join, capture_output=True, text=True)
    assert broken.returncode
    assert "piece_1: the checksum does not match" in broken.stderr


def test_the_check_measures_and_chooses(folder):
    checked = gpu("check", folder)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "chosen: bf16" in checked.stdout
    assert json.loads((folder / "keep" / "choice.json").read_text())["flags"] == ["--precision", "bf16"]


def test_an_unknown_stage_shows_the_usage(tmp_path):
    shown = gpu("fly", tmp_path)
    assert shown.returncode == 2
    assert "bash scripts/gpu.sh STAGE" in shown.stdout
