"""Checkpoints, logs and weights in which one thing is not as a run leaves it: --resume and test refuse them."""

import shutil
import subprocess
import sys

import pytest
import torch
from helpers import ROOT, TITLE, tiny_network

from models import weights
from system.errors import UserError
from training import checkpoint

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


def one_parameter_less(run):
    optimizer = run["optimizer"]
    optimizer["param_groups"][0]["params"].pop()
    optimizer["state"] = {
        k: v for k, v in optimizer["state"].items() if k < len(optimizer["param_groups"][0]["params"])
    }


def a_tensor(make):
    def harm(run):
        key = next(iter(run["model"]))
        run["model"][key] = make(run["model"][key])

    return harm


GROUP = ("optimizer", "param_groups", 0)
CASES = [
    *((at("config", value), "config") for value in (None, [], {"batch_size": [8]}, {"seed": torch.zeros(2)})),
    *((at("config", "batch_size", value), "batch_size") for value in (0, "8", None)),
    *((at("config", "epochs", value), "epochs") for value in (0, 1.5)),
    *((at("iteration", value), "iteration") for value in (10**9, -1, 2.0, "2", None, NAN, torch.tensor(2), True)),
    *((at("per_epoch", value), "per_epoch") for value in (0, -1, 10**9, "3", None)),
    *((at("processes", value), "processes") for value in (0, -1, 1.0, None)),
    *((at("n_colors", value), "n_colors") for value in (0, "31", None)),
    *((at("patches", value), "patches") for value in (None, {}, {"labelled": 0}, {"labelled": torch.zeros(2)}, 3)),
    *((at("seconds", value), "seconds") for value in (INF, NAN, -1.0, "long", None)),
    *((at("model", value), "model") for value in (None, {}, [], {3: torch.zeros(2)}, {"a": 1})),
    *((at("averaged", value), "averaged") for value in ({}, [], 3)),
    (at("config", "ema_decay", 0.9), "averaged"),
    (a_tensor(lambda t: t.to(torch.complex64)), "model"),
    (a_tensor(lambda t: t.to_sparse()), "model"),
    (a_tensor(lambda t: t.to("meta")), "model"),
    *((at("losses", value), "losses") for value in (None, [], {})),
    *((at("losses", "sums", value), "sums") for value in (torch.zeros(3), torch.full((4,), NAN), [0, 0, 0, 0])),
    *((at("losses", "counts", value), "counts") for value in ([0], [-1] * 4, ["a"] * 4, None)),
    *((at("losses", "lowest", value), "lowest") for value in ([0.0], [NAN] * 4, "abcd", None)),
    *((at("optimizer", value), "optimizer") for value in (None, [], {}, {"state": {}, "param_groups": []})),
    *((at("optimizer", "state", value), "optimizer") for value in (None, [], {10**6: {}})),
    *((at(*GROUP, "params", value), "optimizer") for value in (None, [], [0, 0], ["a"])),
    *((at(*GROUP, "betas", value), "betas") for value in (None, (0.9,), (0.9, 2.0), "ab", (NAN, 0.9))),
    *((at(*GROUP, name, value), name) for name in ("lr", "eps", "weight_decay") for value in (None, NAN, -1.0, "x")),
    *((at(*GROUP, name, True), name) for name in ("amsgrad", "maximize", "differentiable")),
    (at(*GROUP, "fused", "yes"), "fused"),
    (at(*GROUP, "foreach", True), "foreach"),
    *((moment(name, lambda t: t[:1].clone()), "of shape") for name in ("exp_avg", "exp_avg_sq")),
    *((moment(name, lambda t: t * NAN), "not finite") for name in ("exp_avg", "exp_avg_sq", "step")),
    *((moment(name, lambda _: 3), "missing") for name in ("exp_avg", "step")),
    (moment("exp_avg_sq", lambda t: t - 1), "none that it makes"),
    (moment("step", lambda _: torch.zeros(2)), "none that it makes"),
    (moment("exp_avg", lambda t: t.long()), "not finite numbers"),
    (without_moment, "missing"),
    (one_parameter_less, "parameters, the network has"),
]


@pytest.mark.parametrize(("harm", "word"), CASES, ids=range(len(CASES)))
def test_a_checkpoint_in_which_one_thing_is_wrong_is_refused_by_its_name(refused, tiny_flags, begun, harm, word):
    path = begun / "last.pth"
    content = torch.load(path, weights_only=True)
    harm(content)
    torch.save(content, path)
    before = path.read_bytes()
    sentence = refused("train", **tiny_flags, resume="last", max_iterations=3, log_interval=1)
    assert "last.pth" in sentence
    assert word in sentence
    assert path.read_bytes() == before


def test_moments_are_compared_with_the_networks_parameters(begun):
    path = begun / "last.pth"
    run = checkpoint.load_run(path)
    parameters = [torch.zeros_like(tensor) for tensor in run["model"].values()]
    checkpoint.check_moments(run, path, parameters)
    with pytest.raises(UserError, match="the network has"):
        checkpoint.check_moments(run, path, parameters[1:])
    with pytest.raises(UserError, match="exp_avg of parameter 0 is of shape"):
        checkpoint.check_moments(run, path, [torch.zeros(7, 7), *parameters[1:]])


def test_a_harmed_last_checkpoint_is_passed_over_for_the_one_before(run, tiny_flags, begun):
    shutil.copy(begun / "last.pth", begun / "previous.pth")
    content = torch.load(begun / "last.pth", weights_only=True)
    content["iteration"] = 10**9
    torch.save(content, begun / "last.pth")
    code, out, err = run("train", **tiny_flags, resume="last", max_iterations=3, log_interval=1)
    assert code == 0, err
    assert "going back to previous.pth" in out + err
    # The one that was good stays beside the new one.
    assert [checkpoint.load_run(begun / name)["iteration"] for name in checkpoint.RUN_FILES] == [3, 2]


def test_the_checkpoint_before_the_last_is_an_older_one(run, tiny_flags, tmp_path):
    code, out, _ = run("train", **tiny_flags, epochs=2)
    assert code == 0, out
    runs = [checkpoint.load_run(tiny_flags["save_dir"] / TITLE / name) for name in checkpoint.RUN_FILES]
    assert [r["iteration"] for r in runs] == [2 * runs[0]["per_epoch"], runs[0]["per_epoch"]]


def test_a_run_is_held_before_its_checkpoint_is_read(refused, tiny_flags, begun, monkeypatch):
    def read(folder):
        raise AssertionError("read while another process trains")

    monkeypatch.setattr(checkpoint, "load_newest_run", read)
    words = (
        "import sys; from system.files import exclusive_lock\n"
        "with exclusive_lock(sys.argv[1]): print(1, flush=True); input()"
    )
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
def test_rows_of_a_log_that_nobody_can_read_are_refused_or_dropped(run, tiny_flags, begun, content, exit_code):
    (begun / "log.csv").write_bytes(content)
    code, _, err = run("train", **tiny_flags, resume="last", max_iterations=3, log_interval=1)
    assert code == exit_code, err
    assert "Traceback" not in err
    assert exit_code == 0 or "log.csv: no text" in err


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
def test_metadata_of_weights_in_which_one_thing_is_wrong_are_refused(refused, stores, tmp_path, metadata):
    path = tmp_path / "weights.pth"
    state = tiny_network().state_dict()
    sound = {"n_ovls": 2, "n_scale": 4, "n_colors": 31}
    told = {**sound, **metadata} if isinstance(metadata, dict) else metadata
    vars(state)["_metadata"][weights.METADATA_KEY] = told
    torch.save(state, path)
    sentence = refused("test", model_dir=path, test_dir=stores / "test.h5", result_path=tmp_path / "out")
    assert str(path) in sentence
    assert "save its state_dict() alone" in sentence


@pytest.mark.parametrize("config", [{"n_ovls": -1, "n_scale": "x4"}, {"dataset_name": [], "wavelengths": 3}])
def test_what_others_call_config_beside_a_state_dict_is_not_taken_for_ours(run, stores, tmp_path, config):
    torch.save({"config": config, "state_dict": dict(tiny_network().state_dict())}, tmp_path / "w.pth")
    flags = {"test_dir": stores / "test.h5", "result_path": tmp_path / "out"}
    code, _, err = run("test", model_dir=tmp_path / "w.pth", **flags)
    assert code == 0, err
