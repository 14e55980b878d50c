import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import ROOT

from config import TestConfig, TrainConfig
from models import registry
from models import weights as checkpoint

SCRIPTS = [*sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "scripts").glob("*.sh")), ".ci/run"]
STUB = Path(__file__).with_name("stub_python.py")


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_sound_shell(name):
    assert subprocess.run(["bash", "-n", ROOT / name]).returncode == 0


def write_python(path, command):
    """An executable that stands for Python and is another command."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/usr/bin/env bash\nexec {command} "$@"\n')
    path.chmod(0o755)


class Program:
    """The scripts in a folder of their own, with a .venv/bin/python that is what a test wants it to be."""

    def __init__(self, root, python):
        self.root, self.calls_path = root, root / "calls"
        shutil.copytree(ROOT / "scripts", root / "scripts")
        for path in [ROOT / "mains.py", *ROOT.glob("requirements*.txt")]:
            (root / path.name).symlink_to(path)
        write_python(root / ".venv/bin/python", python)
        stamp = "".join((ROOT / name).read_text() for name in ("requirements.txt", "requirements-extra.txt"))
        (root / ".venv/installed").write_text(stamp)
        self.environment = {"STUB_CALLS": str(self.calls_path), "RUNS": str(root / "runs")}
        self.environment |= {"STORES": str(root / "stores"), "RGB": "pictures"}

    def run(self, name, *words, **settings):
        """Run a script; the finished process."""
        environment = {**os.environ, **self.environment, **settings}
        command = ["bash", str(self.root / "scripts" / name), *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    def calls(self, name, *words, **settings):
        """Run a script that must succeed; the calls of Python that it makes."""
        self.calls_path.write_text("")
        done = self.run(name, *words, **settings)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in self.calls_path.read_text().splitlines()]


@pytest.fixture
def program(tmp_path):
    """The scripts with a Python that only takes notes, and three sets that look prepared."""
    for name in ("cave/labelled", "cave/unlabelled", "cave/test", "harvard_x4/labelled", "harvard_x4/test"):
        path = tmp_path / "stores" / f"{name}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return Program(tmp_path, f"{sys.executable} -S {STUB}")


def flags_of(call):
    """{flag: value} of a call of mains.py; of a flag given twice the last counts, as in the program."""
    words = call[2:]
    assert all(word.startswith("--") for word in words[::2]), call
    return {name[2:]: value for name, value in zip(words[::2], words[1::2], strict=True)}


def rows_of_calls(calls, set_and_scale="cave_x4"):
    """{row/seed: the TrainConfig of its training}; the flags are read as the program reads them."""
    configs = [TrainConfig.from_flags(flags_of(call)) for call in calls if call[:2] == ["mains.py", "train"]]
    return {"/".join(Path(c.save_dir).parts[-2:]): c for c in configs if Path(c.save_dir).parts[-3] == set_and_scale}


def commands(calls):
    return [call[1] for call in calls]


def test_ablation_rows_use_their_losses(program):
    calls = program.calls("ablation.sh", REDUCED="1")
    rows = rows_of_calls(calls)
    losses = {name: (c.UseRGB, c.UseUnlabelConsistency, c.UseLabeledSpectralMixUp) for name, c in rows.items()}
    assert losses == {
        "DeepShare/seed3000": (False, False, False),
        "DeepShare,longer/seed3000": (False, False, False),
        "DeepShare+RGB/seed3000": (True, False, False),
        "DeepShare+RGB+SSL/seed3000": (True, True, False),
        "DeepShare+Mixup/seed3000": (False, False, True),
        "DeepShare+RGB+SSL+Mixup/seed3000": (True, True, True),
    }
    assert {c.resume for c in rows.values()} == {"last"}
    assert {(c.theta_rgb, c.theta_LabeledSpectralMixUp, c.theta_unlabel) for c in rows.values() if c.UseRGB} == {
        (1, 1, 1)
    }
    # One labelled, mixed, RGB and unlabelled mini-batch each: four times the Adam steps of the labelled ones alone.
    assert {name: c.epochs for name, c in rows.items() if c.epochs != 2} == {"DeepShare,longer/seed3000": 8}
    assert commands(calls) == ["test", "test", *["train", "test"] * 6, "tables"]
    tests = [TestConfig.from_flags(flags_of(call)) for call in calls if call[1] == "test"]
    assert [(t.model_title, t.protocol) for t in tests[:2]] == [("Bicubic", "corrected"), ("Bicubic", "published")]
    assert {t.protocol for t in tests[2:]} == {"published"}
    assert {t.test_dir for t in tests} == {str(program.root / "stores/cave/test.h5")}
    assert [Path(t.model_dir).name for t in tests[2:]] == ["title_epoch_1_x.pth"] * 6
    assert calls[-1] == ["mains.py", "tables", str(program.root / "runs")]


def test_repeated_ablation_runs_only_missing_steps(program):
    settings = {"REDUCED": "1", "SEEDS": "1 2", "ROWS": "Bicubic DeepShare"}
    calls = program.calls("ablation.sh", **settings)
    assert [c.seed for c in rows_of_calls(calls).values()] == [1, 2]
    assert commands(program.calls("ablation.sh", **settings)) == ["tables"]
    # Trained, but not tested.
    shutil.rmtree(program.root / "runs/cave_x4/DeepShare/seed2/title_x4/published")
    assert commands(program.calls("ablation.sh", **settings)) == ["test", "tables"]
    # Stopped in the training.
    shutil.rmtree(program.root / "runs/cave_x4/DeepShare/seed2")
    assert commands(program.calls("ablation.sh", **settings)) == ["train", "test", "tables"]
    assert program.run("ablation.sh", **settings).stdout.count("there already") == 2


@pytest.mark.parametrize("command", ["train", "test"])
def test_a_failed_row_stops_it(program, command):
    done = program.run("ablation.sh", REDUCED="1", ROWS="DeepShare DeepShare+Mixup", STUB_FAILS=command)
    assert done.returncode != 0
    made = [json.loads(line) for line in program.calls_path.read_text().splitlines()]
    assert commands(made)[-1] == command
    assert len(rows_of_calls(made)) == 1


def test_ablation_defaults_to_the_published_recipe(program):
    rows = rows_of_calls(program.calls("ablation.sh"))
    assert "DeepShare,longer/seed3000" not in rows
    for config in rows.values():
        assert (config.n_feats, config.epochs, config.patch, config.learning_rate) == (256, 10, (64, 32), 1e-4)
        assert (config.global_residual, config.init, config.clip_gradient) == (False, "default", 0)
    config = rows["DeepShare+RGB+SSL+Mixup/seed3000"]
    assert (config.theta_rgb, config.theta_LabeledSpectralMixUp, config.theta_unlabel) == (3, 1, 3)
    assert config.train_dir_msunlabel == str(program.root / "stores/cave/unlabelled.h5")
    assert config.train_dir_rgb == "pictures"


def test_sweep_rows_have_the_named_settings(program):
    rows = rows_of_calls(program.calls("rgb_minibatches.sh", REDUCED="1"))
    assert [c.theta_rgb for c in rows.values() if c.UseRGB] == [1, 2, 3, 4, 5, 6, 8, 10]
    assert all(name == f"DeepShare+RGB{c.theta_rgb}/seed3000" for name, c in rows.items() if c.UseRGB)
    assert not rows["DeepShare/seed3000"].UseRGB
    for settings, per_scene in (({"REDUCED": "1"}, 64), ({}, 225), ({"SCALE": "8"}, 169)):
        shutil.rmtree(program.root / "runs")
        scale = settings.get("SCALE", "4")
        rows = rows_of_calls(program.calls("labelled_scenes.sh", COUNTS="1 5", **settings), f"cave_x{scale}")
        assert {name: (c.data_train_num, c.UseLabeledSpectralMixUp, c.n_scale) for name, c in rows.items()} == {
            "DeepShare,1-labelled/seed3000": (per_scene, False, int(scale)),
            "DeepShare+RGB+SSL+Mixup,1-labelled/seed3000": (per_scene, True, int(scale)),
            "DeepShare,5-labelled/seed3000": (5 * per_scene, False, int(scale)),
            "DeepShare+RGB+SSL+Mixup,5-labelled/seed3000": (5 * per_scene, True, int(scale)),
        }


def test_few_labelled_rows_have_equal_steps(program):
    rows = rows_of_calls(program.calls("few_labelled.sh", COUNTS="1 3 5", FLAGS="--precision bf16"))
    methods = ["DeepShare", "DeepShare+RGB", "DeepShare+Mixup", "DeepShare+RGB+SSL", "DeepShare+RGB+SSL+Mixup"]
    assert list(rows) == [f"{method},{count}-labelled/seed3000" for count in (1, 3, 5) for method in methods]
    assert {c.data_train_num * c.epochs for c in rows.values()} == {64 * 15}
    same = {(c.joint_loss, c.learning_rate, c.clip_gradient, c.ema_decay, c.precision) for c in rows.values()}
    assert same == {(True, 2e-3, 0.05, 0.995, "bf16")}
    full = [c for name, c in rows.items() if name.startswith(methods[-1])]
    assert all(c.UseRGB and c.UseUnlabelConsistency and c.UseLabeledSpectralMixUp for c in full)


@pytest.mark.parametrize(("name", "scale"), [("best_x4.sh", 4), ("best_x8.sh", 8)])
def test_best_recipe_is_scored_under_both_protocols(program, name, scale):
    calls = program.calls(name, WEIGHTS="cave_x4", FLAGS="--precision bf16")
    ((row, c),) = rows_of_calls(calls, f"cave_x{scale}").items()
    assert row == "best/seed3000"
    assert (c.n_scale, c.n_feats, c.patch_size, c.patch_stride) == (scale, 64, 12 * scale, 8 * scale)
    assert (c.loss, c.theta_rgb, c.weights, c.learning_rate, c.precision) == ("relative", 2, "cave_x4", 5e-4, "bf16")
    assert c.UseRGB and c.UseLabeledSpectralMixUp and not c.UseUnlabelConsistency
    tests = [TestConfig.from_flags(flags_of(call)) for call in calls if call[:2] == ["mains.py", "test"]]
    refined = [(t.protocol, t.normalise, t.back_projection, t.self_ensemble) for t in tests if t.self_ensemble]
    assert refined == [("corrected", "scene", 2, True), ("published", "scene", 2, True)]
    shutil.rmtree(program.root / "runs")
    ((_, c),) = rows_of_calls(program.calls(name), f"cave_x{scale}").items()
    assert (c.weights, c.learning_rate) == ("", 1e-3)


def test_tables_train_baselines_with_their_recipes(program):
    (program.root / "stores/harvard_x4/unlabelled.h5").touch()
    calls = program.calls("table_x4.sh", REDUCED="1")
    methods = ["GDRRN", "3DFCNN", "SSPSR", "MCNet", "DeepShare", "DeepShare+RGB", "DeepShare+RGB+SSL"]
    methods.append("DeepShare+RGB+SSL+Mixup")
    for data_set, folder in (("Cave", "cave"), ("Harvard", "harvard_x4")):
        rows = rows_of_calls(calls, f"{data_set.lower()}_x4")
        assert list(rows) == [f"{method}/seed3000" for method in methods]
        assert {c.dataset_name for c in rows.values()} == {data_set}
        assert {c.train_dir_mslabel for c in rows.values()} == {str(program.root / "stores" / folder / "labelled.h5")}
    rows = {name.split("/")[0]: c for name, c in rows_of_calls(calls).items()}
    assert all(rows[name].model_title == name for name in methods[:4])
    assert {name: (c.n_feats, c.clip_gradient) for name, c in rows.items() if not name.startswith("DeepShare")} == {
        "GDRRN": (64, 0.005), "3DFCNN": (32, 1), "SSPSR": (32, 1), "MCNet": (16, 1),
    }  # fmt: skip
    done = program.run("table_x4.sh", REDUCED="1")
    assert "left out: ntire2020 is not prepared" in done.stderr


def test_tables_of_the_two_scales(program):
    calls = program.calls("table_x8.sh", ROWS="Bicubic GDRRN")
    tests = [flags_of(call) for call in calls if call[1] == "test"]
    # Harvard is prepared for x4 alone.
    assert {c.n_scale for c in rows_of_calls(calls, "cave_x8").values()} == {8}
    assert [(t.get("n_scale"), t["protocol"]) for t in tests[:2]] == [("8", "corrected"), ("8", "published")]
    assert tests[1]["result_path"] == str(program.root / "runs/cave_x8/Bicubic/published")
    assert not (program.root / "runs/harvard_x8").exists()


def test_demo_and_test_scripts_pass_arguments(program):
    assert program.calls("demo.sh", "--out_dir", "a b", "--seed", "7")[-1] == [
        "mains.py", "demo", "--out_dir", "a b", "--seed", "7",
    ]  # fmt: skip
    shutil.copy(ROOT / "requirements-dev.txt", program.root / ".venv/installed-dev")
    assert program.calls("test.sh", "-k", "x") == [["-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", "-k", "x"]]


def test_setup_installs_all_requirements_once(program):
    wanted = ["-r", "requirements.txt", "-r", "requirements-extra.txt"]
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    (program.root / ".venv/installed").write_text((ROOT / "requirements.txt").read_text())
    assert program.calls("setup.sh") == [[*pip, *wanted]]
    assert program.calls("setup.sh") == []
    # The tests' own requirements, beside the program's.
    assert program.calls("test.sh")[0] == [*pip, "-r", "requirements-dev.txt"]
    assert len(program.calls("test.sh")) == 1
    # Without an environment, the one is made that $PYTHON makes.
    shutil.rmtree(program.root / ".venv")
    making = 'f() { mkdir -p .venv/bin; cp "$0" .venv/bin/python; }; [ "$2" != venv ] || f; echo "$*" >>"$STUB_CALLS"'
    write_python(program.root / "python3.x", "true")
    (program.root / "python3.x").write_text(f"#!/usr/bin/env bash\n{making}\n")
    program.calls_path.write_text("")
    assert program.run("setup.sh", PYTHON=str(program.root / "python3.x")).returncode == 0
    assert program.calls_path.read_text().splitlines() == ["-m venv .venv", " ".join([*pip, *wanted])]


def test_real_ablation_writes_its_page_once(stores, raw, tmp_path):
    program = Program(tmp_path, sys.executable)
    (tmp_path / "stores").mkdir()
    (tmp_path / "stores" / "cave").symlink_to(stores)
    rows = ["Bicubic", "DeepShare+RGB+SSL+Mixup"]
    settings = {"ROWS": " ".join(rows), "REDUCED": "1", "FEATS": "4", "EPOCHS": "1", "RGB": str(raw / "rgb")}
    done = program.run("ablation.sh", **settings)
    assert done.returncode == 0, done.stderr
    runs = tmp_path / "runs"
    assert sorted(p.name for p in (runs / "cave_x4").iterdir()) == sorted(rows)
    results = json.loads((runs / "cave_x4/Bicubic/published/Bicubic_x4_results.json").read_text())
    assert (results["n_scale"], results["protocol"]) == (4, "published")
    page = (runs / "tables" / "index.html").read_text(encoding="utf-8")
    assert "DeepShare + RGB + SSL + Mixup" in page
    assert "educed" in page
    written = {p: p.stat().st_mtime_ns for p in runs.rglob("*.pth")}
    assert program.run("ablation.sh", **settings).stdout.count("there already") == 1
    assert written == {p: p.stat().st_mtime_ns for p in runs.rglob("*.pth")}


@pytest.mark.parametrize("name", sorted(path.stem for path in registry.PRETRAINED.glob("*.pth")))
def test_bundled_weights_load_and_are_documented(name):
    loaded = checkpoint.load(name)
    model, architecture = loaded.model, loaded.architecture
    scale = architecture["n_scale"]
    with torch.no_grad():
        output = model(torch.rand(1, 31, 4, 5), torch.rand(1, 31, 4 * scale, 5 * scale))
    assert output.shape == (1, 31, 4 * scale, 5 * scale)
    assert checkpoint.load(name).wavelengths.tolist() == list(range(400, 701, 10))
    card = (ROOT / "pretrained" / "README.md").read_text(encoding="utf-8")
    assert f"`{name}`" in card
    assert f"{sum(p.numel() for p in model.parameters()):,}" in card
