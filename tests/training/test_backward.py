"""Gradients in bf16 through a working copy, and by CUDA graphs."""

import contextlib
import signal

import pytest
import torch
from helpers import compute_released_losses
from torch import nn

from config import TrainConfig
from data.stream import Batch
from system.errors import Interrupted, Terminated
from trainer import Trainer
from training.backward import GraphedSteps, WorkingCopy
from training.signals import StopSignals, resumable


def test_bf16_losses_are_near_the_released_losses(golden_x4, tiny_flags, monkeypatch):
    flags = {**{k: str(v) for k, v in tiny_flags.items()}, "n_feats": "32", "precision": "bf16", "cuda": "0"}
    trainer = Trainer(TrainConfig.from_flags(flags))
    losses = compute_released_losses(trainer, golden_x4, monkeypatch)
    assert losses == pytest.approx(golden_x4.values["losses_two_iterations"], rel=5e-3)
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters())


def test_working_copy_gradients_accumulate_in_master_weights():
    model = nn.ModuleDict({"used": nn.Linear(2, 1, bias=False), "unused": nn.Linear(2, 1, bias=False)})
    working = WorkingCopy(model)
    for expected in ([1.0, 2.0], [2.0, 4.0]):
        # The gradient of w x is x; a second one is added.
        working.network["used"](torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16)).sum().backward()
        working.accumulate_gradients()
        assert model["used"].weight.grad.dtype == torch.float32
        assert model["used"].weight.grad.flatten().tolist() == expected
        assert working.network["used"].weight.grad is None
    assert model["unused"].weight.grad is None
    with torch.no_grad():
        model["used"].weight.fill_(0.5)
    working.copy_weights()
    assert working.network["used"].weight.flatten().tolist() == [0.5, 0.5]


def test_unrecordable_steps_run_without_cuda_graphs(capsys):
    weight = nn.Parameter(torch.tensor(3.0))
    steps = GraphedSteps([weight])

    def step(batch):
        loss = weight * batch.ms.sum()
        loss.backward()
        return loss.detach()

    for value in (1.0, 2.0, 4.0, 5.0):
        weight.grad = None
        loss = steps.run("a", step, Batch(torch.full((1, 1, 1, 1), value), torch.zeros(1, 1, 1, 1)))
        assert (loss.item(), weight.grad.item()) == (3 * value, value)
    assert capsys.readouterr().out.count("not recorded as CUDA graphs") == 1


def test_failed_graph_recording_leaves_no_gradients(monkeypatch):
    weight, passing = nn.Parameter(torch.tensor(3.0)), nn.Parameter(torch.tensor(1.0))
    steps = GraphedSteps([weight], [passing])
    recording = []

    @contextlib.contextmanager
    def recorded(*_, **__):
        recording.append(True)
        try:
            yield
        finally:
            recording.pop()

    def step(batch):
        (passing * batch.ms.sum()).backward()
        if recording:
            raise RuntimeError("no such operation in a graph")
        weight.grad, passing.grad = passing.grad, None
        return weight.grad.detach()

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", recorded)
    batch = Batch(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1), None)
    for _ in range(3):
        weight.grad = None
        assert steps.run("key", step, batch) == 1


def test_second_signal_stops_at_once():
    for number, kind in ((signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)):
        with pytest.raises(KeyboardInterrupt) as stopped, StopSignals() as stop:
            signal.raise_signal(signal.SIGINT)
            assert stop.signal_number == signal.SIGINT
            signal.raise_signal(number)
        assert stopped.type is kind


def test_signals_after_training_raise_interrupted():
    for stop, number in ((Terminated, signal.SIGTERM), (KeyboardInterrupt, signal.SIGINT)):
        with pytest.raises(Interrupted) as stopped, resumable():
            raise stop
        assert stopped.value.exit_code == 128 + number
