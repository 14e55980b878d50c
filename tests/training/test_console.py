"""Terminal output of a training: summary, progress, expected time, text log, scores beside bicubic."""

import json
import signal

import pytest
import torch
from helpers import TITLE, are_equal, load_final_weights, make_training_flags

from config import TrainConfig
from system.errors import Interrupted
from trainer import Trainer
from training import checkpoint, console
from training.console import TrainingProgress, format_duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (5, "5 seconds"),
        (119, "119 seconds"),
        (150, "2.5 minutes"),
        (5400, "90 minutes"),
        (7200, "2 hours"),
        (1.8e6, "21 days"),
    ],
)
def test_durations_have_a_readable_unit(seconds, words):
    assert format_duration(seconds) == words


def test_a_run_starts_with_its_summary(run, tiny_flags, stores):
    code, out, _ = run("train", **tiny_flags, max_iterations=2, test_dir=stores / "test.h5", cuda=0)
    lines = out.splitlines()
    first = next(k for k, line in enumerate(lines) if line.startswith("program"))
    assert code == 0 and [line.split()[0] for line in lines[first : first + 6]] == [
        *("program", "network", "data", "losses", "device", "run"),
    ]
    assert "DeepShare x4, F=4" in out and "2 iterations of batches of 8" in out
    log = (tiny_flags["save_dir"] / TITLE / "train.log").read_text()
    assert lines[first] in log and "difference to bicubic" in log and "2/2 e1 lr" in log
    assert "warning" in out and "below bicubic" in out
    assert "next: python mains.py test --model_dir" in out


def test_bicubic_is_scored_once_for_adjacent_runs(run, tiny_flags, stores, monkeypatch):
    flags = {**tiny_flags, "max_iterations": 1, "test_dir": stores / "test.h5", "cuda": 0}
    assert run("train", **flags)[0] == 0
    monkeypatch.setattr("evaluation.baseline.build_model", lambda *_: pytest.fail("scored again"))
    assert run("train", **flags)[0] == 0
    kept = [json.loads(path.read_text())["bicubic"] for path in sorted(flags["save_dir"].glob("*/results.json"))]
    assert len(kept) == 2 and kept[0] == kept[1]


def test_expected_time_is_printed_once(monkeypatch, capsys):
    monkeypatch.setattr(console, "SECONDS_TO_ESTIMATE", 0)
    with TrainingProgress(10**9, 0, torch.device("cpu")) as progress:
        for _ in range(3):
            progress.update(1e-6)
    out = capsys.readouterr().out
    assert out.count("expected time: about") == 1 and "three minutes see" in out


def test_run_stopped_within_an_iteration_resumes_exactly(stores, raw, tmp_path, monkeypatch):
    flags = {**make_training_flags(stores, raw), "max_iterations": 3, "cuda": "0"}
    flags = {name: str(value) for name, value in flags.items()}
    Trainer(TrainConfig.from_flags({**flags, "save_dir": str(tmp_path / "whole")})).train()
    stopped = {**flags, "save_dir": str(tmp_path / "stopped")}
    trainer, after_batch = Trainer(TrainConfig.from_flags(stopped)), Trainer.after_batch

    def interrupted(self, count):
        if (self.iteration, self.batches_done) == (1, 2):
            signal.raise_signal(signal.SIGINT)
        return after_batch(self, count)

    monkeypatch.setattr(Trainer, "after_batch", interrupted)
    with pytest.raises(Interrupted):
        trainer.train()
    monkeypatch.undo()
    saved = checkpoint.load_run(tmp_path / "stopped" / TITLE / "last.pth")
    assert (saved["iteration"], saved["batches_done"]) == (1, 2)
    Trainer(TrainConfig.from_flags({**stopped, "resume": "last"})).train()
    assert are_equal(*(load_final_weights(tmp_path / name / TITLE) for name in ("whole", "stopped")))
    assert (tmp_path / "stopped" / TITLE / "log.csv").read_text() == (
        tmp_path / "whole" / TITLE / "log.csv"
    ).read_text()


def test_a_run_resumes_with_more_epochs(run, refused, tiny_flags):
    flags = {**tiny_flags, "cuda": 0, "max_iterations": 2}
    assert run("train", **flags, epochs=1)[0] == 0
    code, out, _ = run("train", **{**flags, "max_iterations": 3}, epochs=2, resume="last")
    assert code == 0 and "2 epochs in place of 1" in out
    assert "--epochs 1 (was 2)" in refused("train", **flags, epochs=1, resume="last")


def test_missing_tensorboard_is_refused(refused, tiny_flags, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install tensorboard" in refused("train", **tiny_flags, logger="tensorboard")
