"""Training in several processes and precisions, schedules, running means, damaged checkpoints."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from helpers import ROOT, TITLE, are_equal, format_words, load_final_weights, make_training_flags, read_rows

import mains
import trainer as trainer_module
from config import TrainConfig
from data.stream import Batch
from models import build_model
from models import weights as checkpoint
from system.errors import Terminated, UserError
from trainer import Trainer, learning_rate
from training import checkpoint as runs


def losses_of(save_dir):
    rows = read_rows(save_dir / TITLE / "log.csv")
    return [[float(row[b] or "nan") for b in ("labelled", "mixup", "rgb", "consistency")] for row in rows]


def torchrun(*words, **flags):
    # Two processes with two threads each would wait for each other on a small machine.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, str(ROOT / "mains.py"), *words, *format_words(flags)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


@pytest.fixture
def logged(tiny_flags):
    return {**tiny_flags, "log_interval": 1, "cuda": 0}


def test_two_processes_equal_one_with_doubled_batch(run, logged, stores, tmp_path):
    # 64 patches in their positions; batches of 10 leave one of 4 to the two processes at the end.
    one = {**logged, "patch_stride": 32, "batch_size": 10, "epochs": 1, "test_dir": stores / "test.h5"}
    one["save_dir"] = tmp_path / "one"
    two = {**one, "save_dir": tmp_path / "two", "batch_size": 5}
    assert run("train", **one)[0] == 0
    process = torchrun("train", **two)
    output = process.communicate(timeout=240)[0]
    assert process.returncode == 0, output
    expected = losses_of(tmp_path / "one")
    assert len(expected) == 7
    for row, other in zip(losses_of(tmp_path / "two"), expected, strict=True):
        assert row == pytest.approx(other, rel=1e-4)
    a, b = (load_final_weights(tmp_path / name / TITLE) for name in ("one", "two"))
    assert max((a[k] - b[k]).abs().max() for k in a) < 2e-5
    assert output.count("wrote:") == 1
    assert (tmp_path / "two" / TITLE / "results.json").is_file()


def test_one_process_resumes_after_another_is_killed(run, logged):
    flags = {**logged, "batch_size": 4, "epochs": 100, "checkpoint_minutes": 0.001}
    process = torchrun("train", **flags)
    run_dir = flags["save_dir"] / TITLE
    deadline = time.monotonic() + 120
    while not (run_dir / "previous.pth").is_file():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    workers = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(workers[1]), signal.SIGKILL)
    output = process.communicate(timeout=30)[0]
    assert "another process of the run has ended" in output
    before = runs.load_run(run_dir / "last.pth")["iteration"]
    # The same data in an epoch: one process with the doubled batch.
    code, _, err = run("train", **{**flags, "batch_size": 8}, resume="last", max_iterations=before + 2)
    assert code == 0, err
    assert int(read_rows(run_dir / "log.csv")[-1]["iteration"]) == before + 2


def test_changed_process_count_resumes_within_the_epoch(run, logged):
    assert run("train", **logged, max_iterations=9)[0] == 0
    # What two processes with this batch would have left: half the iterations to an epoch.
    last = logged["save_dir"] / TITLE / "last.pth"
    content = runs.load_run(last)
    assert content["per_epoch"] == 18
    torch.save({**content, "per_epoch": 9, "processes": 2}, last)
    code, out, err = run("train", **logged, resume="last", max_iterations=20)
    assert code == 0, err
    assert "counted on from 18" in out + err
    assert read_rows(last.with_name("log.csv"))[-1]["epoch"] == "2"


def test_two_processes_share_a_folders_scenes(tmp_path):
    checkpoint.save_weights(build_model("DeepShare", 9, 2, n_feats=4, n_blocks=1), tmp_path / "w.pth", 2)
    (tmp_path / "in").mkdir()
    for k in range(3):
        np.save(tmp_path / "in" / f"{k}.npy", np.random.default_rng(k).random((12, 10, 9), dtype=np.float32))
    flags = {
        "input": tmp_path / "in",
        "output": tmp_path / "out",
        "model_dir": tmp_path / "w.pth",
        "cuda": 0,
        "band_axis": 2,
    }
    process = torchrun("predict", **flags)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.npy", "1.npy", "2.npy"]
    assert all(str(tmp_path / "out" / f"{k}.npy") in output for k in range(3))
    assert np.load(tmp_path / "out" / "1.npy").shape == (24, 20, 9)


def test_batch_parts_are_weighted_by_size():
    x = torch.arange(7.0).reshape(7, 1, 1, 1)
    parts = Batch(x, x, x).split(3)
    assert [len(p.ms) for p in parts] == [3, 2, 2]
    assert sum(p.weight * p.gt.mean() for p in parts) / 3 == pytest.approx(3)
    assert torch.equal(torch.cat([p.lms for p in parts]), x)
    assert len(Batch(x, x).split(9)) == 7


@pytest.mark.parametrize("option", [{"accumulate": 3}, {"activation_checkpointing": 1}, {"precision": "fp32"}])
def test_memory_saving_options_change_no_loss(run, logged, tmp_path, option):
    for name, flags in (("plain", {}), ("option", option)):
        assert run("train", **{**logged, "save_dir": tmp_path / name}, **flags, max_iterations=4)[0] == 0
    for row, other in zip(losses_of(tmp_path / "option"), losses_of(tmp_path / "plain"), strict=True):
        assert row == pytest.approx(other, rel=1e-4)


def test_bf16_training_is_near_with_float32_weights(run, logged, tmp_path):
    for precision in ("fp32", "bf16"):
        flags = {**logged, "save_dir": tmp_path / precision, "precision": precision}
        assert run("train", **flags, max_iterations=4)[0] == 0
    a, b = losses_of(tmp_path / "bf16"), losses_of(tmp_path / "fp32")
    assert a != b
    for row, other in zip(a, b, strict=True):
        assert row == pytest.approx(other, rel=2e-2)
    assert all(t.dtype == torch.float32 for t in load_final_weights(tmp_path / "bf16" / TITLE).values())


@pytest.mark.parametrize(
    ("is_fast", "precision", "warned"), [(True, "bf16", 0), (False, "bf16", 1), (False, "fp32", 0)]
)
def test_slow_bf16_on_cpu_gives_a_warning(run, logged, monkeypatch, is_fast, precision, warned):
    monkeypatch.setattr("system.devices.has_fast_bf16", lambda: is_fast)
    code, out, _ = run("train", **logged, precision=precision, max_iterations=1)
    assert code == 0
    assert out.count("set --precision fp32") == warned


def test_learning_rates_worked_by_hand():
    def rates(iterations, **flags):
        config = TrainConfig.from_flags({"train_dir_mslabel": "x", "learning_rate": 1.0, "epochs": 10, **flags})
        return [learning_rate(config, k, per_epoch=10) for k in iterations]

    # Epochs 1, 5, 9 and 10: 0.3^(e // 5), and 0.3 more in the last.
    assert rates((0, 39, 40, 89, 90)) == pytest.approx([1, 1, 0.3, 0.3, 0.027])
    assert rates((0, 50, 99), schedule="cosine") == pytest.approx([1, 0.5, 0.000247], rel=1e-2)
    assert rates((0, 1, 3, 4), warmup_iterations=4) == pytest.approx([0.25, 0.5, 1, 1])


def test_the_running_mean_worked_by_hand(tiny_flags):
    flags = {k: str(v) for k, v in tiny_flags.items()}
    trainer = Trainer(TrainConfig.from_flags({**flags, "ema_decay": 0.5}))
    weights, means = [trainer.model.final.bias.detach().clone()], []
    for _ in range(3):
        trainer.iterate(epoch=1)
        trainer.iteration += 1
        weights.append(trainer.model.final.bias.detach().clone())
        means.append(trainer.averaged.final.bias.detach().clone())
    # Decays 1/10, 2/11 and 3/12 while the mean is young (below 0.5).
    expected = weights[0]
    for decay, new, mean in zip((1 / 10, 2 / 11, 3 / 12), weights[1:], means, strict=True):
        expected = decay * expected + (1 - decay) * new
        torch.testing.assert_close(mean, expected)


def test_running_mean_is_saved_and_resumed_exactly(run, logged, tmp_path):
    flags = {**logged, "ema_decay": 0.9, "schedule": "cosine", "warmup_iterations": 3, "clip_gradient": 0.1}
    states = []
    for name in ("whole", "parts"):
        there = {**flags, "save_dir": tmp_path / name}
        if name == "parts":
            assert run("train", **there, max_iterations=5)[0] == 0
        assert run("train", **there, max_iterations=9, resume="last")[0] == 0
        states.append(load_final_weights(tmp_path / name / TITLE))
    assert are_equal(*states)
    saved = runs.load_run(tmp_path / "whole" / TITLE / "last.pth")
    assert are_equal(states[0], saved["averaged"])
    assert not are_equal(states[0], saved["model"])


def test_gradients_are_clipped(tiny_flags):
    flags = {**{k: str(v) for k, v in tiny_flags.items()}, "clip_gradient": "0.001", "joint_loss": "1"}
    trainer = Trainer(TrainConfig.from_flags(flags))
    norms = []
    trainer.optimizer.step = lambda: norms.append(
        torch.cat([p.grad.flatten() for p in trainer.model.parameters()]).norm()
    )
    trainer.iterate(epoch=1)
    assert norms == [pytest.approx(0.001, rel=1e-3)]


@pytest.mark.parametrize("damage", ["truncated", "empty", "missing"])
def test_damaged_checkpoint_falls_back_to_previous(run, logged, nine_iterations, damage):
    assert run("train", **logged, max_iterations=3)[0] == 0
    assert run("train", **logged, max_iterations=6, resume="last")[0] == 0
    run_dir = logged["save_dir"] / TITLE
    last = run_dir / "last.pth"
    if damage == "missing":
        last.unlink()
    else:
        last.write_bytes(last.read_bytes()[: 1000 if damage == "truncated" else 0])
    code, out, err = run("train", **logged, max_iterations=9, resume="last")
    assert code == 0
    assert "previous.pth: resuming after iteration 3" in out + err
    assert ("the checkpoint before it" in out + err) == (damage != "missing")
    assert are_equal(load_final_weights(run_dir), nine_iterations)


@pytest.fixture(scope="module")
def nine_iterations(stores, raw, tmp_path_factory):
    """The weights of a run of nine iterations that nothing happened to."""
    save_dir = tmp_path_factory.mktemp("nine")
    flags = {
        **make_training_flags(stores, raw),
        "save_dir": save_dir,
        "log_interval": 1,
        "cuda": 0,
        "max_iterations": 9,
    }
    assert mains.main(["train", *format_words(flags)]) == 0
    return load_final_weights(save_dir / TITLE)


def test_two_damaged_checkpoints_are_refused(run, refused, logged):
    assert run("train", **logged, max_iterations=2)[0] == 0
    run_dir = logged["save_dir"] / TITLE
    for name in ("last.pth", "previous.pth"):
        (run_dir / name).write_bytes(b"x")
    assert "previous.pth" in refused("train", **logged, resume="last")


def test_a_loss_that_diverges_stops_the_run(run, refused, logged):
    assert run("train", **logged, max_iterations=30)[0] == 0
    sentence = refused("train", **{**logged, "log_interval": 25}, resume="last", max_iterations=90, learning_rate=3.0)
    assert re.search(r"the (labelled|mixup|rgb) loss of iteration \d+ .* is not finite", sentence)
    run_dir = logged["save_dir"] / TITLE
    state = checkpoint.load_state(run_dir / "last.pth")
    assert max(t.abs().max() for t in state.values()) < 2


@pytest.mark.parametrize(("branch", "stops"), [("labelled", True), ("rgb", True), ("consistency", False)])
def test_only_losses_with_fixed_targets_can_diverge(tiny_flags, branch, stops):
    trainer = Trainer(TrainConfig.from_flags({k: str(v) for k, v in tiny_flags.items()}))
    # An interval of 20 mini-batches with a mean of 0.01, then one of 0.11: eleven times that.
    for loss in (0.01, 0.11):
        for k in range(20):
            trainer.losses.add(branch, torch.tensor(loss), k)
        means = trainer.losses.means()
        if loss == 0.11 and stops:
            with pytest.raises(UserError, match=f"the {branch} loss diverges: 0.11 .* 0.01 before"):
                trainer.check_losses(means)
        else:
            trainer.check_losses(means)
        trainer.losses.begin_interval(means)


@pytest.mark.parametrize(("loss", "count", "says"), [(0.016, 20, True), (0.014, 20, False), (0.016, 19, False)])
def test_spikes_of_the_loss_are_reported(tiny_flags, loss, count, says):
    trainer = Trainer(TrainConfig.from_flags({k: str(v) for k, v in tiny_flags.items()}))
    for value, times in ((0.01, 20), (loss, count)):
        for k in range(times):
            trainer.losses.add("labelled", torch.tensor(value), k)
            trainer.losses.add("consistency", torch.tensor(10 * value), k)
        means = trainer.losses.means()
        spikes = trainer.losses.spikes(means)
        trainer.losses.begin_interval(means)
    assert spikes == (["the labelled loss is 0.016, 0.01 before"] if says else [])


def test_the_best_validation_is_kept(run, logged, stores):
    flags = {**logged, "patch_stride": 32, "eval_dir_ms": stores / "test.h5", "epochs": 3}
    assert run("train", **flags)[0] == 0
    run_dir = logged["save_dir"] / TITLE
    scores = [float(row["MPSNR"]) for row in read_rows(run_dir / "validation.csv")]
    code, out, _ = run("test", test_dir=stores / "test.h5", model_dir=run_dir / "best.pth", result_path=run_dir)
    assert code == 0
    assert f"{max(scores):.4f}" in out


def test_unfinished_epoch_is_not_validated(run, logged, stores):
    # An epoch has eight iterations.
    flags = {**logged, "patch_stride": 32, "epochs": 2}
    assert run("train", **flags, max_iterations=12)[0] == 0
    assert run("train", **flags, eval_dir_ms=stores / "test.h5", resume="last")[0] == 0
    rows = read_rows(logged["save_dir"] / TITLE / "validation.csv")
    assert [row["epoch"] for row in rows] == ["2"]


@pytest.mark.parametrize(("stop", "code"), [(Terminated, 143), (KeyboardInterrupt, 130)])
def test_run_stopped_while_scoring_is_resumed(run, logged, stores, monkeypatch, stop, code):
    flags = {**logged, "max_iterations": 2, "test_dir": stores / "test.h5"}

    def stopped(*_):
        raise stop

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "score_run", stopped)
        found, out, err = run("train", **flags)
    assert found == code and "repeat the command with --resume last" in out + err
    assert runs.load_run(logged["save_dir"] / TITLE / "last.pth")["iteration"] == 2
    found, out, _ = run("train", **flags, resume="last")
    assert found == 0 and "resuming after iteration 2" in out


def test_resuming_with_another_conversion_is_refused(run, refused, logged, tmp_path):
    matrix = np.random.default_rng(0).random((31, 8))
    np.savetxt(tmp_path / "m.csv", matrix, delimiter=",")
    flags = {**logged, "conversionMat_path": tmp_path / "m.csv"}
    assert run("train", **flags, max_iterations=1)[0] == 0
    np.savetxt(tmp_path / "n.csv", matrix, delimiter=",")
    moved = {**flags, "conversionMat_path": tmp_path / "n.csv"}
    assert run("train", **moved, max_iterations=2, resume="last")[0] == 0
    np.savetxt(tmp_path / "n.csv", 2 * matrix, delimiter=",")
    assert "another conversion of bands" in refused("train", **moved, max_iterations=3, resume="last")


def test_compiling_without_a_compiler_is_refused(refused, tiny_flags, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "No working C++ compiler found" in refused("train", **{**tiny_flags, "compile": 1})
    assert not (tmp_path / "runs").exists()


def test_compiled_steps_have_the_same_losses(tiny_flags, monkeypatch):
    monkeypatch.setattr("training.backward.check_compiler", lambda device: None)
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda part, dynamic: compiled.append(type(part).__name__))
    flags = {k: str(v) for k, v in tiny_flags.items()}
    trainer = Trainer(TrainConfig.from_flags({**flags, "compile": "1"}))
    # Three blocks in each of the two branches and of the two trunks.
    assert compiled == ["SSB"] * 12
    trainer.iterate(epoch=1)
    assert all(mean > 0 for mean in trainer.losses.means())
    Trainer(
        TrainConfig.from_flags(
            {**flags, "compile": "1", "model_title": "GDRRN", "UseRGB": "0", "UseUnlabelConsistency": "0"}
        )
    )
    assert compiled[12:] == ["GDRRN"]


@pytest.mark.parametrize("values", [2**23, 1])
def test_strips_at_inference_equal_the_whole(monkeypatch, values):
    monkeypatch.setattr("models.blocks.VALUES_PER_STRIP", values)
    model = build_model("DeepShare", 31, 4, n_feats=16)
    ms, lms = torch.rand(1, 31, 20, 6), torch.rand(1, 31, 80, 24)
    for modality, bands in (("spectral", 31), ("rgb", 8)):
        whole = model(ms[:, :bands], lms[:, :bands], modality).detach()
        with torch.no_grad():
            apply_in_strips = model(ms[:, :bands], lms[:, :bands], modality)
        torch.testing.assert_close(apply_in_strips, whole, rtol=0, atol=2e-6)
