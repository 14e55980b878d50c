"""README and docs: they lead where they say, and what can be run in them is run, on small data."""

import re
import shlex

import fixtures
import numpy as np
import pytest
from helpers import ROOT

import mains
from models import build_model
from models.weights import save_weights

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# What makes a command small enough for a test.
SHORT = {
    "prepare": ["--allow_missing", "1"],
    "train": ["--n_feats", "4", "--patch_size", "16", "--patch_stride", "16", "--max_iterations", "2", "--cuda", "0"],
}
# A block behind such a comment is not run.
NOT_RUN = "<!-- not run:"


def blocks(page, language):
    """(text before, code) of a page's blocks of a language."""
    parts = re.split(r"^ *```", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for before, block in zip(parts[::2], parts[1::2], strict=False):
        name, _, code = block.partition("\n")
        if name.strip() == language:
            yield before, code


def commands(code):
    """The words of each `python mains.py` command of a shell block."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:2] == ["python", "mains.py"]:
            yield words[2:]


@pytest.fixture(scope="module")
def place(raw, tmp_path_factory):
    """A folder in which the names that the pages use stand for small data."""
    place = tmp_path_factory.mktemp("place")
    (place / "CAVE").symlink_to(raw / "cave")
    for pictures in ("DIV2K", "DIV2K_PIECES"):
        (place / pictures).symlink_to(raw / "rgb")
    cube = fixtures.smooth_cube(3, 24, 20)
    fixtures.write_own(place, "envi", (cube * 60000).round().astype(np.uint16), "SCENE")
    header = (place / "SCENE.hdr").read_text()
    even = ", ".join(str(w) for w in range(400, 701, 10))
    header = re.sub(r"wavelength = \{[^}]*\}", f"wavelength = {{{even}}}", header)
    (place / "SCENE.hdr").write_text(header.replace("Micrometers", "Nanometers"))
    np.save(place / "scene.npy", cube.astype(np.float32))
    network = build_model("DeepShare", 31, 4, n_feats=4, global_residual=True)
    for name in ("WEIGHTS.pth", "weights.pth"):
        save_weights(network, place / name, 2, range(400, 701, 10))
    return place


def test_the_commands_of_the_pages_run_as_they_stand(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    ran = []
    for page in PAGES:
        for before, code in blocks(page, "sh"):
            if NOT_RUN in before.rstrip().rpartition("\n")[2]:
                continue
            for words in commands(code):
                extra = SHORT.get(words[0], [])
                assert mains.main([*words, *extra, *(["--overwrite", "1"] if words[0] == "predict" else [])]) == 0, (
                    words
                )
                ran.append(words[0])
    assert {"prepare", "train", "test", "tables", "predict"} <= set(ran)


def test_the_examples_in_python_run(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    for page in PAGES:
        for _, code in blocks(page, "python"):
            exec(compile(code, page.name, "exec"), {})
            assert "(24, 20, 31) -> (96, 80, 31) float32" in capsys.readouterr().out


def test_the_readme_is_one_that_one_reads():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
