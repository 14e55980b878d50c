"""Runs that start from weights: transferred and reinitialised layers, frozen branches, refusals."""

import json

import numpy as np
import pytest
import torch
from helpers import (
    VISIBLE,
    are_equal,
    load_final_weights,
    make_tiny_network,
    make_training_flags,
    read_rows,
    select_own_rows,
)

from config import TrainConfig
from models import build_model, weights
from models.weights import load_state, save_weights
from trainer import Trainer

SHARED = ("branch1.", "branch2.", "trunk_RGB.", "skip_conv_RGB.", "final_RGB.")
LIKE_TINY = {"n_scale": 4, "global_residual": 1, "n_ovls": 2}


@pytest.fixture
def flags(tiny_flags):
    return {**tiny_flags, "global_residual": 1, "max_iterations": 2, "cuda": 0}


@pytest.fixture
def start(tmp_path):
    """Weights of the bands of the tests' stores."""
    save_weights(make_tiny_network(), tmp_path / "start.pth", 2, VISIBLE)
    return tmp_path / "start.pth"


@pytest.fixture
def other(tmp_path):
    """Weights of 40 other bands."""
    save_weights(make_tiny_network(40), tmp_path / "other.pth", 2, np.linspace(400, 1000, 40))
    return tmp_path / "other.pth"


def test_equal_bands_take_all_weights(flags, start, capsys):
    trainer = Trainer(TrainConfig.from_flags({**flags, "weights": start}))
    state, given = trainer.model.state_dict(), load_state(start)
    assert are_equal(state, given)
    assert "was trained on these 31 bands: all of it is taken" in capsys.readouterr().out


def test_different_bands_take_band_independent_layers(flags, other, capsys):
    flags = {**flags, "init": "identity"}
    trainer = Trainer(TrainConfig.from_flags({**flags, "weights": other}))
    state, given = trainer.model.state_dict(), load_state(other)
    plain = Trainer(TrainConfig.from_flags(flags)).model.state_dict()
    for name, tensor in state.items():
        expected = given if name.startswith(SHARED) else plain
        assert torch.equal(tensor, expected[name]), name
    assert not state["final.weight"].any()
    words = "was trained on 40 other bands: branch1, branch2, trunk_RGB, skip_conv_RGB, final_RGB are taken"
    assert f"{words}; trunk, skip_conv, final start anew" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("title", "anew"),
    [("SSPSR", {"trunk", "skip_conv", "final"}), ("GDRRN", {"input", "output"}), ("MCNet", {"band_means"})],
)
def test_baselines_take_band_independent_layers(flags, tmp_path, title, anew):
    settings = {"n_feats": 4, "n_subs": 8, "n_ovls": 2, "n_blocks": 1, "global_residual": True}
    model = build_model(title, 40, 4, **settings)
    save_weights(model, tmp_path / "a.pth", 2, np.linspace(400, 1000, 40))
    off = {"UseRGB": 0, "UseUnlabelConsistency": 0}
    asked = {**flags, **off, "model_title": title, "n_blocks": 1, "weights": tmp_path / "a.pth"}
    state = Trainer(TrainConfig.from_flags(asked)).model.state_dict()
    given = model.state_dict()
    taken = {name for name in state if name in given and torch.equal(state[name], given[name])}
    learnt = {name for name in taken if given[name].numel() > 1 and given[name].any()}
    assert learnt == {name for name in given if name.split(".")[0] not in anew and given[name].numel() > 1}


def test_frozen_branches_stay_as_they_are(run, flags, other, tmp_path):
    for freeze in ("branches", ""):
        given = {**flags, "weights": other, "freeze": freeze, "save_dir": tmp_path / f"runs{freeze}"}
        assert run("train", **given)[0] == 0
        path = next((tmp_path / f"runs{freeze}").rglob("*_epoch_*.pth"))
        state, before = load_state(path), load_state(other)
        stay = [torch.equal(state[name], before[name]) for name in before if name.startswith(("branch1.", "branch2."))]
        assert all(stay) == bool(freeze)
        assert not torch.equal(state["trunk_RGB.head.weight"], before["trunk_RGB.head.weight"])
        config = json.loads((path.parent / "config.json").read_text())
        assert (config["weights"], config["freeze"]) == (str(other), freeze)
        assert config["started_from"]["file"] == "other.pth"
        assert config["started_from"]["sha256"] == weights.load(other).fingerprint
        assert config["started_from"]["taken"] == "branch1, branch2, trunk_RGB, skip_conv_RGB, final_RGB"


def test_fine_tuning_resumes_exactly(run, flags, other, tmp_path):
    flags = {**flags, "weights": other, "freeze": "branches", "max_iterations": 4}
    whole = {**flags, "save_dir": tmp_path / "whole"}
    stopped = {**flags, "save_dir": tmp_path / "stopped"}
    assert run("train", **whole)[0] == 0
    assert run("train", **{**stopped, "max_iterations": 2})[0] == 0
    assert run("train", **stopped, resume="last")[0] == 0
    ends = [load_final_weights(next((tmp_path / name).glob("*"))) for name in ("whole", "stopped")]
    assert are_equal(*ends)


def test_tables_name_the_initial_weights(run, flags, start, stores, tmp_path):
    assert run("train", **flags, weights=start, test_dir=stores / "test.h5")[0] == 0
    assert run("tables", runs_dir=tmp_path / "runs")[0] == 0
    assert "weights start.pth" in (tmp_path / "runs" / "tables" / "tables.md").read_text()


def test_runs_from_different_weights_are_separate_rows(run, flags, start, stores, tmp_path):
    save_weights(make_tiny_network(gain=0.2), tmp_path / "second.pth", 2, VISIBLE)
    for seed, begin in ((3000, {}), (3001, {"weights": start}), (3002, {"weights": tmp_path / "second.pth"})):
        given = {**flags, "seed": seed, "max_iterations": 1, "test_dir": stores / "test.h5", **begin}
        assert run("train", **given)[0] == 0
    assert run("tables", runs_dir=tmp_path / "runs")[0] == 0
    rows = list(select_own_rows(read_rows(tmp_path / "runs" / "tables" / "tables.csv")))
    assert len(rows) == 4 and "Bicubic" in rows, rows
    assert sum("start.pth" in row for row in rows) == sum("second.pth" in row for row in rows) == 1


def test_weights_without_scale_use_the_configured_scale(flags, tmp_path):
    torch.save(dict(build_model("GDRRN", 31, 4, n_feats=4).state_dict()), tmp_path / "G.pth")
    off = {"UseRGB": 0, "UseUnlabelConsistency": 0, "global_residual": 0}
    asked = {**flags, **off, "model_title": "GDRRN", "weights": tmp_path / "G.pth"}
    state = Trainer(TrainConfig.from_flags(asked)).model.state_dict()
    assert are_equal(state, dict(load_state(tmp_path / "G.pth")))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_feats": 8}, "has n_feats 4, where the run has n_feats 8; give the flags of the weights"),
        ({"global_residual": 0}, "has global_residual 1, where the run has global_residual 0"),
        (
            {"model_title": "SSPSR", "UseRGB": 0, "UseUnlabelConsistency": 0},
            "has name DeepShare, where the run has name",
        ),
        ({"weights": "nowhere.pth"}, "nowhere.pth: no such file"),
        ({"weights": "nowhere"}, "--weights nowhere: neither a file"),
        ({"weights": "", "freeze": "branches"}, "--freeze branches: keeps those of weights to start from"),
        ({"freeze": "trunk"}, "--freeze takes branches, not 'trunk'"),
        (
            {"model_title": "MCNet", "UseRGB": 0, "UseUnlabelConsistency": 0, "freeze": "branches"},
            "--freeze branches: MCNet has none, only DeepShare or SSPSR has",
        ),
    ],
)
def test_conflicting_weights_and_flags_are_refused(refused, flags, start, changes, words):
    assert words in refused("train", **{**flags, "weights": start, **changes})


def test_another_scale_reinitialises_the_upsampler(flags, tmp_path, capsys):
    # Branch 1 upsamples by 1 at x2, without a layer, and by 2 at x4.
    given = make_tiny_network(n_scale=2)
    save_weights(given, tmp_path / "x2.pth", 2, VISIBLE)
    state = Trainer(TrainConfig.from_flags({**flags, "weights": tmp_path / "x2.pth"})).model.state_dict()
    assert "was trained for x2" in (words := capsys.readouterr().out)
    assert "are taken; branch1.upsample start anew" in words
    assert are_equal(dict(given.state_dict()), {name: state[name] for name in given.state_dict()})
    assert {name.split(".")[1] for name in state.keys() - given.state_dict().keys()} == {"upsample"}


def test_freezing_a_reinitialised_upsampler_is_refused(refused, flags, tmp_path):
    save_weights(make_tiny_network(n_scale=2), tmp_path / "x2.pth", 2, VISIBLE)
    assert "another scale" in refused("train", **flags, weights=tmp_path / "x2.pth", freeze="branches")


def test_runs_without_weights_start_from_seed(stores, raw, tmp_path):
    """Without weights the very network that the seed makes."""
    flags = {**make_training_flags(stores, raw), "save_dir": tmp_path, "cuda": 0}
    config = TrainConfig.from_flags(flags)
    trainer = Trainer(config)
    torch.manual_seed(config.seed)
    fresh = build_model("DeepShare", 31, 4, n_feats=config.n_feats, n_blocks=config.n_blocks).state_dict()
    state = trainer.model.state_dict()
    assert all(torch.equal(state[name], fresh[name]) for name in fresh)


def test_unshared_branches_are_not_transferred_between_sensors(flags, tmp_path, refused):
    shape = {"n_feats": 4, "n_subs": 8, "global_residual": True, "use_share": False}
    model = build_model("DeepShare", 37, 4, n_ovls=2, **shape)
    save_weights(model, tmp_path / "a.pth", 2, np.linspace(400, 1000, 37))
    asked = {**flags, "use_share": 0, "weights": tmp_path / "a.pth"}
    state, given = Trainer(TrainConfig.from_flags(asked)).model.state_dict(), model.state_dict()
    for name, tensor in state.items():
        if tensor.numel() > 1 and tensor.any():
            is_taken = name in given and torch.equal(tensor, given[name])
            assert is_taken == name.startswith(("trunk_RGB.", "skip_conv_RGB.", "final_RGB.")), name
    # As many groups, cut elsewhere.
    save_weights(build_model("DeepShare", 31, 4, n_ovls=3, **shape), tmp_path / "b.pth", 3, VISIBLE)
    assert "has n_ovls 3" in refused("train", **{**asked, "weights": tmp_path / "b.pth"})
    words = refused("train", **{**asked, "freeze": "branches"})
    assert "is of other bands or another scale" in words
