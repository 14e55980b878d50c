import json
import os
import subprocess

import pytest
import torch
from helpers import ROOT

from models import weights as checkpoint

SCRIPTS = sorted(p.name for p in (ROOT / "scripts").glob("*.sh"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_sound_shell(name):
    assert subprocess.run(["bash", "-n", ROOT / "scripts" / name]).returncode == 0


needs_environment = pytest.mark.skipif(
    not (ROOT / ".venv" / "installed").is_file(), reason="the scripts would set up .venv first"
)


@pytest.fixture
def script(stores, raw, tmp_path):
    """Run a script reduced on small stores; returns its stdout."""
    (tmp_path / "stores").mkdir()
    (tmp_path / "stores" / "cave").symlink_to(stores)

    def script(name, **settings):
        environment = {
            **os.environ,
            **{"STORES": str(tmp_path / "stores"), "RGB": str(raw / "rgb"), "RUNS": str(tmp_path / "runs")},
            **{"REDUCED": "1", "FEATS": "4", "EPOCHS": "1", **settings},
        }
        command = ["bash", str(ROOT / "scripts" / name)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return script


def settings_of_runs(runs):
    """{row's folder: its config.json}."""
    return {p.relative_to(runs).parts[0]: json.loads(p.read_text()) for p in runs.rglob("config.json")}


@needs_environment
def test_an_ablation_runs_to_its_page_and_does_nothing_twice(script, tmp_path):
    rows = ["Bicubic", "DeepShare", "DeepShare+RGB+SSL+Mixup", "DeepShare,longer"]
    script("ablation.sh", ROWS=" ".join(rows))
    runs = tmp_path / "runs"
    assert sorted(p.name for p in (runs / "cave_x4").iterdir()) == sorted(rows)
    iterations = {name: run["iterations"] for name, run in settings_of_runs(runs / "cave_x4").items()}
    assert iterations["DeepShare,longer"] == 4 * iterations["DeepShare"] == 4 * iterations["DeepShare+RGB+SSL+Mixup"]
    page = (runs / "tables" / "index.html").read_text(encoding="utf-8")
    assert "DeepShare + RGB + SSL + Mixup" in page
    assert "educed" in page
    written = {p: p.stat().st_mtime_ns for p in runs.rglob("*.pth")}
    assert script("ablation.sh", ROWS=" ".join(rows)).count("there already") == 3
    assert written == {p: p.stat().st_mtime_ns for p in runs.rglob("*.pth")}


@needs_environment
def test_sweeps_and_peers_have_the_settings_that_their_rows_are_called_after(script, tmp_path):
    script("rgb_minibatches.sh", THETAS="2")
    script("labelled_scenes.sh", COUNTS="1", ROWS="DeepShare,1-labelled")
    script("table_x4.sh", ROWS="GDRRN MCNet")
    script("table_x8.sh", ROWS="Bicubic")
    runs = settings_of_runs(tmp_path / "runs" / "cave_x4")
    assert sorted(runs) == ["DeepShare+RGB2", "DeepShare,1-labelled", "GDRRN", "MCNet"]
    assert (runs["DeepShare,1-labelled"]["UseRGB"], runs["DeepShare+RGB2"]["theta_rgb"]) == (False, 2)
    assert runs["DeepShare,1-labelled"]["data_train_num"] == 64
    assert [(runs[name]["clip_gradient"], runs[name]["n_feats"]) for name in ("GDRRN", "MCNet")] == [
        (0.005, 64),
        (1, 16),
    ]
    results = json.loads((tmp_path / "runs/cave_x8/Bicubic/published/Bicubic_x8_results.json").read_text())
    assert (results["n_scale"], results["protocol"]) == (8, "published")


def test_a_set_that_is_not_prepared_is_left_out_by_name(tmp_path):
    done = subprocess.run(
        [
            "bash",
            "-c",
            f"cd {ROOT}; source() {{ python=false; }}; . scripts/rows.sh; unset -f source; stores_of harvard",
        ],
        env={**os.environ, "STORES": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "left out: harvard is not prepared" in done.stderr


@pytest.mark.parametrize("name", ["cave_x4_small", "cave_x8_small"])
def test_weights_that_come_with_the_program_load_and_have_a_card(name):
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
