"""Additional networks and objectives: one file each."""

import json
import os
import shlex
import subprocess
import sys

import pytest
import torch
from helpers import ROOT, read_blocks, read_rows

# The examples of docs/design.md.
TOY_NETWORK, FIFTH_OBJECTIVE = (code for _, _, code in read_blocks(ROOT / "docs" / "design.md", "python"))
(TRAIN_TOY,) = (code for _, _, code in read_blocks(ROOT / "docs" / "design.md", "sh"))


@pytest.fixture
def commands(tmp_path, stores):
    """Run command lines in one Python that knows an added file; returns their output."""

    def commands(file, *lines):
        (tmp_path / "added.py").write_text(file)
        program = (
            "import sys, json, added, mains\nfor line in json.loads(sys.argv[1]):\n    assert mains.main(line) == 0"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
        words = [[str(word) for word in line] for line in lines]
        command = [sys.executable, "-c", program, json.dumps(words)]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return commands


def run_dir_of(tmp_path):
    (config,) = (tmp_path / "runs").glob("*/config.json")
    return config.parent


def flags(stores, tmp_path):
    return [
        *(
            "--train_dir_mslabel",
            stores / "labelled.h5",
            "--test_dir",
            stores / "test.h5",
            "--save_dir",
            tmp_path / "runs",
        ),
        *("--patch_size", 16, "--patch_stride", 16, "--max_iterations", 2, "--log_interval", 1, "--cuda", 0),
    ]


def own_flags(command):
    """The words of a documented command up to its paths."""
    return shlex.split(command.replace("\\\n", " ").partition("--train_dir")[0])[2:]


@pytest.mark.parametrize(
    ("name", "code"), [("models/toy.py", TOY_NETWORK), ("fifth.py", FIFTH_OBJECTIVE)], ids=["network", "objective"]
)
def test_documented_examples_pass_the_projects_lint(name, code):
    for words in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, "--stdin-filename", name, "-"]
        done = subprocess.run(command, input=code, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_documented_network_trains_and_is_scored(commands, stores, tmp_path):
    train = [*own_flags(TRAIN_TOY), *flags(stores, tmp_path)]
    assert train[:3] == ["train", "--model_title", "Toy"] and "--kernel" in train and "identity" in train
    commands(TOY_NETWORK, train, ["tables", tmp_path / "runs"])
    folder = run_dir_of(tmp_path)
    assert folder.name == "Cave_Toy_Feats=6_kernel=5_dilation=2_x4"
    config = json.loads((folder / "config.json").read_text())
    assert (config["loss"], config["n_feats"], config["iterations"]) == ("l1", 6, 2)
    assert (config["kernel"], config["dilation"]) == (5, 2)
    weights = next(folder.glob("*_epoch_*.pth"))
    state = torch.load(weights, weights_only=True)
    # The kernel's shape is that of the first tensor; the dilation is in no tensor.
    assert state["toy_in.weight"].shape == (6, 31, 5, 5)
    assert vars(state)["_metadata"]["architecture"]["dilation"] == 2
    # Weights alone, in another folder, and a run's checkpoint give what the run itself scored.
    elsewhere = tmp_path / "elsewhere.pth"
    elsewhere.write_bytes(weights.read_bytes())
    test = ["test", "--model_title", "Toy", "--test_dir", stores / "test.h5", "--result_path", tmp_path / "results"]
    commands(TOY_NETWORK, *([*test, "--model_dir", path] for path in (elsewhere, folder / "last.pth")))
    trained = json.loads((folder / "results.json").read_text())
    scored = list((tmp_path / "results").glob("*_results.json"))
    assert len(scored) == 2
    for path in scored:
        loaded = json.loads(path.read_text())
        assert (loaded["model"], loaded["scenes"]) == ("Toy", trained["scenes"])
    assert "| Toy (reduced)" in (tmp_path / "runs" / "tables" / "tables.md").read_text()


def test_resuming_and_fine_tuning_keep_own_settings(commands, stores, tmp_path):
    train = [*own_flags(TRAIN_TOY), *flags(stores, tmp_path)]
    commands(TOY_NETWORK, train, [*train, "--resume", "last", "--max_iterations", 3])
    folder = run_dir_of(tmp_path)
    assert json.loads((folder / "config.json").read_text())["iterations"] == 3
    weights = next(folder.glob("*_epoch_*.pth"))
    other = [*train, "--weights", weights, "--dilation", 1]
    program = "import added, mains, sys; sys.exit(mains.main(sys.argv[1:]))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, "-c", program, *map(str, other)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "has dilation 2, where the run has dilation 1" in done.stderr


@pytest.mark.parametrize(
    ("setting", "words"),
    [({"layers": [1, 2]}, "not a number, text or switch"), ({"seed": 1}, "the name of another flag")],
)
def test_settings_unusable_as_flags_are_refused(setting, words, monkeypatch):
    from config import train
    from models import bicubic, registry

    monkeypatch.setattr(registry, "list_names", lambda: ("Odd",))
    monkeypatch.setattr(registry, "get_entry", lambda name: registry.Entry(name, bicubic.Bicubic, setting))
    with pytest.raises(TypeError, match=words):
        train.with_registered(type("Flags", (), {"__annotations__": {"seed": int, "UseLabeledSpectralMixUp": bool}}))


def test_literal_registrations_are_read_without_import(monkeypatch, tmp_path):
    from models import registry

    monkeypatch.setattr(registry, "_ENTRIES", {})
    (tmp_path / "lazy.py").write_text(
        "raise ImportError\n@register('Lazy', settings={'n_feats': 3}, prefix='x.')\nclass Lazy: ..."
    )
    registry.find_registered(tmp_path / "lazy.py", "lazy")
    assert (registry.list_trainable_names(), registry.get_entry("Lazy").published) == (("Lazy",), {"n_feats": 3})


def test_computed_registrations_are_read_by_import(monkeypatch, tmp_path):
    from models import registry

    monkeypatch.setattr(registry, "_ENTRIES", {})
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "eager_network.py").write_text(
        "from models.registry import register\n@register('Eager', settings=dict(n_feats=1 + 2))\nclass Eager: ..."
    )
    registry.find_registered(tmp_path / "eager_network.py", "eager_network")
    assert registry.get_entry("Eager").settings == {"n_feats": 3}
    assert registry.get_entry("Eager").network_class.__name__ == "Eager"


def test_an_objective_is_added_by_one_file(commands, stores, tmp_path):
    train = ["train", *flags(stores, tmp_path), "--n_feats", 4, "--UseBrightness", 1]
    train += ["--train_dir_msunlabel", stores / "unlabelled.h5"]
    commands(FIFTH_OBJECTIVE, train, ["tables", tmp_path / "runs"])
    folder = run_dir_of(tmp_path)
    assert [float(row["brightness"]) > 0 for row in read_rows(folder / "log.csv")] == [True, True]
    assert json.loads((folder / "config.json").read_text())["theta_brightness"] == 2
    assert "| DeepShare + Brightness (reduced)" in (tmp_path / "runs" / "tables" / "tables.md").read_text()
    assert "Brightness loss" in (tmp_path / "runs" / "tables" / "index.html").read_text(encoding="utf-8")
