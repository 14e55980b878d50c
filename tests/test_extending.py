"""What has to be touched to add a network, or an objective: one file each."""

import json
import os
import subprocess
import sys

import pytest
from helpers import ROOT, blocks, rows_of

# The examples of docs/design.md.
TOY_NETWORK, FIFTH_OBJECTIVE = (code for _, _, code in blocks(ROOT / "docs" / "design.md", "python"))


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


def test_a_network_is_added_by_one_file(commands, stores, tmp_path):
    train = ["train", "--model_title", "Toy", *flags(stores, tmp_path)]
    predict = ["test", "--model_title", "Toy", "--test_dir", stores / "test.h5", "--result_path", tmp_path / "results"]
    tables = ["tables", tmp_path / "runs"]
    commands(TOY_NETWORK, train, tables)
    folder = run_dir_of(tmp_path)
    assert folder.name == "Cave_Toy_Feats=6_x4"
    config = json.loads((folder / "config.json").read_text())
    assert (config["loss"], config["n_feats"], config["iterations"]) == ("l1", 6, 2)
    weights = next(folder.glob("*_epoch_*.pth"))
    commands(TOY_NETWORK, [*predict, "--model_dir", weights])
    trained = json.loads((folder / "results.json").read_text())
    loaded = json.loads((tmp_path / "results" / f"{weights.stem}_results.json").read_text())
    assert (loaded["model"], loaded["scenes"]) == ("Toy", trained["scenes"])
    assert "| Toy (reduced)" in (tmp_path / "runs" / "tables" / "tables.md").read_text()


def test_an_objective_is_added_by_one_file(commands, stores, tmp_path):
    train = ["train", *flags(stores, tmp_path), "--n_feats", 4, "--UseBrightness", 1]
    train += ["--train_dir_msunlabel", stores / "unlabelled.h5"]
    commands(FIFTH_OBJECTIVE, train, ["tables", tmp_path / "runs"])
    folder = run_dir_of(tmp_path)
    assert [float(row["brightness"]) > 0 for row in rows_of(folder / "log.csv")] == [True, True]
    assert json.loads((folder / "config.json").read_text())["theta_brightness"] == 2
    assert "| DeepShare + Brightness (reduced)" in (tmp_path / "runs" / "tables" / "tables.md").read_text()
    assert "Brightness loss" in (tmp_path / "runs" / "tables" / "index.html").read_text(encoding="utf-8")
