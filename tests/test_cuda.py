"""Tests that need a CUDA device: run by `scripts/gpu.sh check`, skipped without one."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from helpers import ROOT, TITLE, are_equal, compute_released_losses, format_words, load_final_weights, read_rows

from config import TrainConfig
from models import build_model
from models import weights as checkpoint
from models.registry import list_trainable_names
from predict import super_resolve
from system.devices import configure_arithmetic
from trainer import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

DEVICE = torch.device("cuda")
# Largest deviation of outputs in 0..1, and relative one of losses, from the released code's in float32.
TOLERANCES = {"fp32": (1e-5, 1e-5), "tf32": (2e-3, 1e-3), "bf16": (2e-2, 5e-3)}


def flags_of(tiny_flags, **more):
    return {**{k: str(v) for k, v in tiny_flags.items()}, "cuda": "1", **more}


@pytest.mark.parametrize("precision", TOLERANCES)
def test_the_released_outputs(golden, precision):
    configure_arithmetic(precision, DEVICE)
    model = checkpoint.load(golden.weights_path, n_ovls=2).model.move_to(DEVICE)
    for modality, given, expected in (
        ("spectral", ("ms", "lms"), "spectral"),
        ("rgb", ("rgb_ms", "rgb_lms"), "rgb"),
    ):
        inputs = [golden[name].to(DEVICE) for name in given]
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
            trained = model(*inputs, modality)
            with torch.no_grad():
                scored = model(*inputs, modality)
        for output in (trained, scored):
            assert (output.float().cpu() - golden[expected]).abs().max() < TOLERANCES[precision][0]


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("compiled", [0, 1])
def test_two_iterations_give_the_released_losses(golden_x4, tiny_flags, monkeypatch, precision, compiled):
    if compiled and precision == "tf32":
        pytest.skip("tf32 is tried without")
    flags = flags_of(tiny_flags, n_feats="32", precision=precision, compile=str(compiled))
    trainer = Trainer(TrainConfig.from_flags(flags))
    losses = compute_released_losses(trainer, golden_x4, monkeypatch, "cuda")
    expected = golden_x4.values["losses_two_iterations"]
    assert losses == pytest.approx(expected, rel=TOLERANCES[precision][1])


def test_an_iteration_never_waits_for_the_device(tiny_flags):
    trainer = Trainer(TrainConfig.from_flags(flags_of(tiny_flags, precision="bf16")))
    for _ in range(2):
        trainer.iterate(epoch=1)
        trainer.iteration += 1
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.iterate(epoch=1)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_losses_equal_those_of_the_cpu(run, tiny_flags, tmp_path, precision):
    flags = {**tiny_flags, "log_interval": 1, "max_iterations": 6, "precision": precision}
    for cuda in (0, 1):
        assert run("train", **{**flags, "cuda": cuda, "save_dir": tmp_path / str(cuda)})[0] == 0
    on_cpu, on_cuda = (read_rows(tmp_path / str(cuda) / TITLE / "log.csv") for cuda in (0, 1))
    for row, other in zip(on_cpu, on_cuda, strict=True):
        for name in ("labelled", "mixup", "rgb", "consistency"):
            assert float(row[name]) == pytest.approx(float(other[name]), rel=1e-3 if precision == "fp32" else 2e-2)


def test_stopped_run_resumes_to_equal_weights(tiny_flags, tmp_path):
    flags = {**tiny_flags, "cuda": 1, "deterministic": 1, "precision": "bf16", "max_iterations": 60, "log_interval": 5}

    def start(name):
        command = [sys.executable, str(ROOT / "mains.py"), "train", "--resume", "last"]
        command += format_words({**flags, "save_dir": tmp_path / name})
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ)

    whole = start("whole")
    stopped = start("stopped")
    log = tmp_path / "stopped" / TITLE / "log.csv"
    while stopped.poll() is None and not (log.exists() and len(log.read_text().splitlines()) > 2):
        time.sleep(0.02)
    stopped.send_signal(signal.SIGTERM)
    output = stopped.communicate(timeout=120)[0]
    assert stopped.returncode == 143, output
    resumed = start("stopped")
    assert resumed.wait(timeout=120) == whole.wait(timeout=120) == 0
    assert are_equal(*(load_final_weights(tmp_path / name / TITLE) for name in ("whole", "stopped")))


@pytest.mark.parametrize("name", list_trainable_names())
def test_graphs_have_the_losses_of_single_operations(run, tiny_flags, tmp_path, name, monkeypatch, capsys):
    flags = {**tiny_flags, "model_title": name, "log_interval": 1, "max_iterations": 6, "precision": "fp32", "cuda": 1}
    if name != "DeepShare":
        flags |= {"UseRGB": 0, "UseUnlabelConsistency": 0}
    code, out, err = run("train", **flags)
    assert code == 0
    assert "not recorded" not in out + err
    monkeypatch.setattr("training.backward.GraphedSteps", lambda parameters: None)
    assert run("train", **{**flags, "save_dir": tmp_path / "single"})[0] == 0
    logs = [next(folder.glob("*/log.csv")) for folder in (tmp_path / "runs", tmp_path / "single")]
    for row, other in zip(*map(read_rows, logs), strict=True):
        for objective in ("labelled", "mixup"):
            assert float(row[objective]) == pytest.approx(float(other[objective]), rel=1e-4)


@pytest.mark.parametrize("name", list_trainable_names())
def test_every_network_trains_as_on_the_cpu(name):
    configure_arithmetic("fp32", DEVICE, deterministic=True)
    torch.manual_seed(0)
    model = build_model(name, 31, 4, **({} if name == "3DFCNN" else {"n_feats": 16}))
    ms, lms = torch.rand(2, 31, 8, 8), torch.rand(2, 31, 32, 32)
    results = []
    for device in ("cpu", "cuda"):
        model = model.move_to(torch.device(device))
        model.zero_grad()
        output = model(ms.to(device), lms.to(device))
        output.square().mean().backward()
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        results.append((output.detach().cpu(), torch.cat(gradients).cpu()))
    for ours, expected in zip(*reversed(results), strict=True):
        assert (ours - expected).norm() < 1e-4 * expected.norm()


def test_predictions_are_those_of_the_cpu():
    scene = np.random.default_rng(0).random((40, 36, 31), dtype=np.float32)
    model = build_model("DeepShare", 31, 4, n_feats=16, global_residual=True)
    results = [super_resolve(scene, model, cuda=cuda, tile_size=24, tile_overlap=4) for cuda in ("0", "1")]
    np.testing.assert_allclose(results[1], results[0], atol=2e-5)
