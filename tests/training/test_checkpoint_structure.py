"""Checkpoints, logs and weights with one wrong entry: --resume and test refuse them."""

import re
import shutil
import subprocess
import sys

import pytest
import torch
from helpers import ROOT, TITLE, make_tiny_network

from models import weights
from training import checkpoint
from training.file_names import LAST, PREVIOUS
from training.meters import LossMeter
from training.processes import World
from training.run_directory import RunDirectory

INF, NAN = float("inf"), float("nan")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Where the run is that the first test of this module has made."""
    return tmp_path_factory.mktemp("kept") / "runs"


@pytest.fixture
def begun(run, tiny_flags, kept, tmp_path):
    """A run's folder after two iterations, of the test's own."""
    if not kept.exists():
        assert run("train", **{**tiny_flags, "save_dir": kept}, max_iterations=2, log_interval=1)[0] == 0
    shutil.copytree(kept, tmp_path / "runs")
    (tmp_path / "runs" / TITLE / "previous.pth").unlink(missing_ok=True)
    return tmp_path / "runs" / TITLE


def at(*keys_and_value):
    """Sets a value deep in a checkpoint: keys, and the value behind them."""
    *keys, last, value = keys_and_value

    def harm(run):
        for key in keys:
            run = run[key]
        run[last] = value

    return harm


def moment(name, change):
    def harm(run):
        state = next(iter(run["optimizer"]["state"].values()))
        state[name] = change(state[name])

    return harm


def without_moment(run):
    del next(iter(run["optimizer"]["state"].values()))["exp_avg_sq"]


def a_tensor(make):
    def harm(run):
        key = next(iter(run["model"]))
        run["model"][key] = make(run["model"][key])

    return harm


ADAM = "optimizer or losses"
CASES = [
    *((at("config", value), "config") for value in (None, [], {"batch_size": [8]}, {"seed": torch.zeros(2)})),
    *((at("config", "batch_size", value), "batch_size") for value in (0, "8", None)),
    (at("config", "ema_decay", 0.9), "ema_decay"),
    *((at("iteration", value), "iteration") for value in (-1, 2.0, "2", None, NAN, torch.tensor(2), True)),
    *((at("per_epoch", value), "per_epoch") for value in (0, -1, "3", None)),
    *((at("processes", value), "processes") for value in (0, -1, 1.0, None)),
    *((at("n_colors", value), "n_colors") for value in (0, "31", None)),
    *((at("patches", value), "patches") for value in (None, {}, {"labelled": 0}, {"labelled": torch.zeros(2)}, 3)),
    *((at("seconds", value), "seconds") for value in (INF, NAN, -1.0, "long", None)),
    *((at("model", value), "model") for value in (None, {}, [], {3: torch.zeros(2)}, {"a": 1})),
    *((at("averaged", value), "averaged") for value in ({}, [], 3)),
    *(
        (a_tensor(make), "tensors|sparse")
        for make in (lambda t: t[:1], lambda t: t.to_sparse(), lambda t: t.to("meta"))
    ),
    *((at("losses", value), "losses") for value in (None, [], {})),
    *((at("losses", "sums", value), "losses") for value in (torch.zeros(3), [0, 0, 0, 0])),
    *((at("losses", "counts", value), "counts") for value in ([0], [-1] * 4, ["a"] * 4, None)),
    *((at("losses", "lowest", value), "lowest") for value in ([0.0], [NAN] * 4, "abcd", None)),
    *((at("optimizer", value), "optimizer") for value in (None, [], {})),
    *((at("optimizer", "state", value), ADAM) for value in (None, [], {10**6: {}}, {"a": {}}, {0: 3})),
    *((moment(name, lambda t: t[:1].clone()), "a moment of shape") for name in ("exp_avg", "exp_avg_sq")),
    *((moment(name, lambda _: 3), ADAM) for name in ("exp_avg", "step")),
    (moment("step", lambda _: torch.zeros(2)), ADAM),
    (without_moment, "exp_avg_sq"),
]


@pytest.mark.parametrize(("harm", "word"), CASES, ids=range(len(CASES)))
def test_resume_refuses_checkpoints_with_wrong_entries(refused, tiny_flags, begun, harm, word):
    path = begun / "last.pth"
    content = torch.load(path, weights_only=True)
    harm(content)
    torch.save(content, path)
    before = path.read_bytes()
    sentence = refused("train", **tiny_flags, resume="last", max_iterations=3, log_interval=1)
    assert "last.pth" in sentence
    assert re.search(word, sentence)
    assert path.read_bytes() == before


def test_moments_take_the_layout_of_their_parameters(begun):
    parameter = torch.nn.Parameter(torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last))
    optimizer = torch.optim.Adam([parameter], lr=1.0, fused=True)
    moments = {"exp_avg": torch.rand(2, 3, 4, 5), "exp_avg_sq": torch.ones(1, 1, 1, 1).expand(2, 3, 4, 5)}
    run = checkpoint.load_run(begun / "last.pth")
    run["optimizer"] = {"state": {0: {"step": torch.tensor(3.0), **moments}}}
    checkpoint.restore_state(run, begun / "last.pth", optimizer, LossMeter(torch.device("cpu"), World()))
    state = optimizer.state[parameter]
    assert state["step"] == 3
    for name, moment in moments.items():
        assert torch.equal(state[name], moment)
        assert state[name].stride() == parameter.stride()


def test_invalid_last_checkpoint_resumes_from_previous(run, tiny_flags, begun):
    shutil.copy(begun / "last.pth", begun / "previous.pth")
    content = torch.load(begun / "last.pth", weights_only=True)
    content["iteration"] = -1
    torch.save(content, begun / "last.pth")
    code, out, err = run("train", **tiny_flags, resume="last", max_iterations=3, log_interval=1)
    assert code == 0, err
    assert "going back to previous.pth" in out + err
    # The one that was good stays beside the new one.
    assert [checkpoint.load_run(begun / name)["iteration"] for name in (LAST, PREVIOUS)] == [3, 2]


def test_previous_checkpoint_is_one_epoch_older(run, tiny_flags, tmp_path):
    code, out, _ = run("train", **tiny_flags, epochs=2)
    assert code == 0, out
    runs = [checkpoint.load_run(tiny_flags["save_dir"] / TITLE / name) for name in (LAST, PREVIOUS)]
    assert [r["iteration"] for r in runs] == [2 * runs[0]["per_epoch"], runs[0]["per_epoch"]]


def test_run_is_locked_before_reading_its_checkpoint(refused, tiny_flags, begun, monkeypatch):
    def load(run_dir):
        raise AssertionError("read while another process trains")

    monkeypatch.setattr(RunDirectory, "load", load)
    words = "import sys; from system.files import exclusive_lock\n"
    words += "with exclusive_lock(sys.argv[1]): print(1, flush=True); input()"
    command = [sys.executable, "-c", words, str(begun)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        assert "another process trains in it" in refused("train", **tiny_flags, resume="last")
        other.communicate(b"\n")


@pytest.mark.parametrize(
    ("content", "exit_code"),
    [
        (b"iteration\n\xff\n", 2),
        (b"epoch,iteration\n1," + b"1" * 200_000 + b"\n", 2),
        (b"x,y\n1,2\n", 0),
        (b"epoch,iteration\n1,abc\n", 0),
        (b"epoch,iteration,lr\n1,1,1e-4,7,8\n", 0),
        (b"", 0),
    ],
    ids=range(6),
)
def test_unreadable_log_rows_are_refused_or_dropped(run, tiny_flags, begun, content, exit_code):
    (begun / "log.csv").write_bytes(content)
    code, _, err = run("train", **tiny_flags, resume="last", max_iterations=3, log_interval=1)
    assert code == exit_code, err
    assert "Traceback" not in err
    assert ("log.csv: is not text" in err) == (exit_code == 2)


@pytest.mark.parametrize(
    "metadata",
    [
        3,
        [1],
        {"n_ovls": "2"},
        {"n_ovls": -1},
        {"n_ovls": True},
        {"n_ovls": 10**9},
        {"n_scale": 0},
        {"n_scale": 4.0},
        {"n_colors": -31},
        {"wavelengths": "blue"},
        {"wavelengths": [400.0, "x"]},
        {"wavelengths": [NAN] * 31},
        {"wavelengths": [-1.0] * 31},
        {"wavelengths": [400.0, 500.0, 600.0], "n_colors": 31},
    ],
    ids=range(14),
)
def test_wrong_metadata_of_weights_are_refused(refused, stores, tmp_path, metadata):
    path = tmp_path / "weights.pth"
    state = make_tiny_network().state_dict()
    sound = {"n_ovls": 2, "n_scale": 4, "n_colors": 31}
    told = {**sound, **metadata} if isinstance(metadata, dict) else metadata
    vars(state)["_metadata"][weights.METADATA_KEY] = told
    torch.save(state, path)
    sentence = refused("test", model_dir=path, test_dir=stores / "test.h5", result_path=tmp_path / "out")
    assert str(path) in sentence
    assert "save its state_dict() alone" in sentence


@pytest.mark.parametrize("config", [{"n_ovls": -1, "n_scale": "x4"}, {"dataset_name": [], "wavelengths": 3}])
def test_foreign_config_beside_weights_is_ignored(run, stores, tmp_path, config):
    torch.save({"config": config, "state_dict": dict(make_tiny_network().state_dict())}, tmp_path / "w.pth")
    flags = {"test_dir": stores / "test.h5", "result_path": tmp_path / "out"}
    code, _, err = run("test", model_dir=tmp_path / "w.pth", **flags)
    assert code == 0, err
