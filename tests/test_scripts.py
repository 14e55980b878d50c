import os
import subprocess

import pytest
import torch
from conftest import ROOT

import checkpoint

SCRIPTS = sorted(p.name for p in (ROOT / "scripts").glob("*.sh"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_sound_shell(name):
    assert subprocess.run(["bash", "-n", ROOT / "scripts" / name]).returncode == 0


@pytest.mark.skipif(not (ROOT / ".venv" / "installed").is_file(), reason="the scripts would set up .venv first")
def test_an_ablation_runs_to_its_page_and_does_nothing_twice(stores, raw, tmp_path):
    (tmp_path / "stores").mkdir()
    (tmp_path / "stores" / "cave").symlink_to(stores)
    environment = {
        **os.environ,
        **{"STORES": str(tmp_path / "stores"), "RGB": str(raw / "rgb"), "RUNS": str(tmp_path / "runs")},
        **{"REDUCED": "1", "FEATS": "4", "EPOCHS": "1", "ROWS": "Bicubic DeepShare DeepShare+RGB+SSL+Mixup"},
    }
    command = ["bash", str(ROOT / "scripts" / "ablation.sh")]
    first = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    runs = tmp_path / "runs"
    assert sorted(p.name for p in (runs / "cave_x4").iterdir()) == ["Bicubic", "DeepShare", "DeepShare+RGB+SSL+Mixup"]
    page = (runs / "tables" / "index.html").read_text(encoding="utf-8")
    assert "DeepShare + RGB + SSL + Mixup" in page
    assert "educed" in page
    written = {p: p.stat().st_mtime_ns for p in runs.rglob("*.pth")}
    again = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("there already") == 2
    assert written == {p: p.stat().st_mtime_ns for p in runs.rglob("*.pth")}


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
    model, architecture = checkpoint.load_network(name)
    scale = architecture["n_scale"]
    with torch.no_grad():
        output = model(torch.rand(1, 31, 4, 5), torch.rand(1, 31, 4 * scale, 5 * scale))
    assert output.shape == (1, 31, 4 * scale, 5 * scale)
    assert checkpoint.wavelengths_of(name, 31).tolist() == list(range(400, 701, 10))
    card = (ROOT / "pretrained" / "README.md").read_text(encoding="utf-8")
    assert f"`{name}`" in card
    assert f"{sum(p.numel() for p in model.parameters()):,}" in card
