"""README and docs: links resolve; commands and examples run on small data."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import fixtures
import numpy as np
import pytest
from helpers import ROOT, read_blocks

import mains
from models import build_model
from models.weights import save_weights
from system.version import VERSION

PAGES = [ROOT / "README.md", *(ROOT / place / "README.md" for place in ("benchmarks", "pretrained"))]
PAGES += [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
# What makes a command small enough for a test.
SHORT = {
    "prepare": "--allow_missing 1 --workers 1 --patch_size 16 --patch_stride 16",
    "train": "--n_feats 4 --patch_size 16 --patch_stride 16 --batch_size 4 --max_iterations 2 --cuda 0",
    "test": "--cuda 0",
    "predict": "--cuda 0",
    "adapt": "--minutes 0.2 --cuda 0",
}


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def slugs(page):
    """The anchors of a page's headings, as the usual forges make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def write_scene(path, nanometres, cube=None):
    """An ENVI scene, uint16, 24 x 20 unless a cube in 0..1 is given, with these band centres; returns its pixels."""
    cube = fixtures.make_smooth_cube(3, 24, 20, len(nanometres)) if cube is None else cube
    pixels = (cube * 9000).round().astype(np.uint16)
    header = fixtures.write_own(path.parent, "envi", pixels, path.stem)
    centres = ", ".join(f"{w / 1000:g}" for w in nanometres)
    header.write_text(re.sub(r"wavelength = \{[^}]*\}", f"wavelength = {{{centres}}}", header.read_text()))
    return pixels


@pytest.fixture
def place(raw, stores, tmp_path, monkeypatch):
    """The working folder: the names that the pages use stand for small data."""
    links = {"CAVE": "cave", "CAVE_LR": "cave_lr_x4", "DIV2K": "rgb", "DIV2K_PIECES": "rgb"}
    for name, kind in links.items():
        (tmp_path / name).symlink_to(raw / kind)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    fixtures.write_harvard(tmp_path / "HARVARD")
    fixtures.write_ntire(tmp_path / "ARAD")
    fixtures.write_chikusei(tmp_path / "CHIKUSEI")
    for k in range(3):
        fixtures.write_own(tmp_path / "CUBES", "npy", fixtures.make_smooth_cube(k, 32, 24, 9), f"cube{k}")
    visible = np.arange(400, 701, 10)
    np.save(tmp_path / "scene.npy", write_scene(tmp_path / "SCENE.hdr", visible))
    np.save(tmp_path / "sensor.npy", write_scene(tmp_path / "SENSOR.hdr", np.linspace(420, 900, 25)))
    write_scene(tmp_path / "MINE.hdr", np.linspace(420, 900, 25), fixtures.make_sharp_cube(64, 72, 25))
    write_scene(tmp_path / "SCENES" / "one.hdr", visible)
    (tmp_path / "stores").mkdir()
    shutil.copytree(stores, tmp_path / "stores" / "cave")
    network = build_model("DeepShare", 31, 4, n_feats=4, global_residual=True)
    save_weights(network, tmp_path / "WEIGHTS.pth", 2, visible)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [p for p in PAGES if any(read_blocks(p, "sh"))], ids=name_of)
def test_commands_of_each_page_run_in_order(page, place):
    for number, reason, code in read_blocks(page, "sh"):
        if reason:
            continue
        for line in code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            here = f"{name_of(page)}, block at line {number}: {line}"
            assert words[:2] == ["python", "mains.py"], f"{here} is no command that this test runs; say why before it"
            assert mains.main([*words[2:], *SHORT.get(words[2], "").split()]) == 0, here


def test_few_blocks_are_not_run():
    reasons = {(name_of(p), number): reason for p in PAGES for number, reason, _ in read_blocks(p, "sh") if reason}
    run_elsewhere = {place for place, reason in reasons.items() if (ROOT / reason.split()[0]).is_file()}
    assert len(reasons.keys() - run_elsewhere) <= 3, reasons


def test_the_readmes_example_runs(place):
    ((_, reason, example),) = read_blocks(ROOT / "README.md", "python")
    assert not reason
    assert example.count("\n") <= 10
    exec(compile(example, "README.md", "exec"), {})
    assert np.load("scene_x4.npy").shape == (96, 80, 31)
    assert np.load("scene_x4.npy").dtype == np.uint16


def test_the_example_for_other_bands_runs(place):
    ((_, reason, example),) = read_blocks(ROOT / "docs" / "own_scenes.md", "python")
    assert not reason
    exec(compile(example, "own_scenes.md", "exec"), {})
    assert np.load("scene_x4.npy").shape == (96, 80, 25)


def test_readme_has_at_most_200_lines():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        # Pages of the web are not fetched.
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        there = page.parent / file if file else page
        assert there.exists(), target
        assert not anchor or anchor in slugs(there), target


def test_the_notebook_runs_in_another_folder(tmp_path):
    notebook = json.loads((ROOT / "docs" / "quickstart.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for name in ("utils.py", "data.py"):
        (tmp_path / name).write_text("raise ImportError('a module of the user')")
    program = "import json, sys\nnamespace = {}\nfor cell in json.loads(sys.argv[1]):\n    exec(cell, namespace)"
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(cells)],
        cwd=tmp_path,
        env={**os.environ, "HSISR": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    bicubic, super_resolved = (
        float(re.search(rf"{name} +MPSNR ([0-9.]+)", done.stdout)[1]) for name in ("bicubic", "cave_x4_small")
    )
    assert super_resolved > bicubic


def test_changelog_and_citation_name_the_version():
    (first, *_) = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert first == VERSION
    assert f"version: {VERSION}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
