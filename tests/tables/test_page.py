import base64
import io
import shutil
import subprocess

import numpy as np
import pytest
from helpers import PageReader, select_own_rows, write_finished_run, write_unfinished_run
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tables.page import find_differing_pixels


def test_page_of_real_runs_needs_no_network(run, tiny_flags, stores, tmp_path):
    runs = tmp_path / "runs"
    scenes = {"test_dir": stores / "test.h5", "eval_dir_ms": stores / "test.h5"}
    for seed in (3000, 3001):
        flags = {**tiny_flags, **scenes, "epochs": 1, "max_iterations": 4, "log_interval": 2, "seed": seed}
        assert run("train", **flags)[0] == 0
    test = {"test_dir": stores / "test.h5", "result_path": runs}
    assert run("test", **test, model_title="Bicubic")[0] == 0
    out_dir = tmp_path / "out <1>"
    code, out, err = run("tables", runs, out_dir=out_dir)
    assert code == 0, err
    page = (out_dir / "index.html").read_text(encoding="utf-8")
    parser = PageReader()
    parser.feed(page)
    assert parser.open == []
    assert all(reference.startswith(("#t", "#c", "data:,")) for reference in parser.references)
    assert "url(#bar" in page
    assert "@import" not in page
    # Two scenes, each with HR, LR, bicubic, DeepShare and two error maps.
    pictures = [
        Image.open(io.BytesIO(base64.b64decode(i.removeprefix("data:image/png;base64,")))) for i in parser.images
    ]
    assert [p.size for p in pictures] == [(48, 48), (12, 12), *[(48, 48)] * 4] * 2
    for title in ("PSNR by band", "Gain on bicubic by band", "Pixel A", "Labelled loss", "Consistency loss"):
        assert title in page
    assert "DeepShare + RGB + SSL + Mixup" in page
    assert "DeepShare + RGB + SSL + Mixup *" in out and "2 of 12 test scenes" in page
    tex = (out_dir / "tables.tex").read_text(encoding="utf-8")
    assert tex.isascii()
    if shutil.which("pdflatex"):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
        done = subprocess.run(command, cwd=out_dir, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:]


def test_own_scenes_are_shown(run, tabulate, tmp_path):
    pytest.importorskip("matplotlib")
    scene = np.random.default_rng(0).random((20, 24, 31), dtype=np.float32)
    axis = {"band_axis": 2, "model_dir": "cave_x4_small"}
    for name in ("field", "lake"):
        np.save(tmp_path / f"{name}.npy", scene)
        output = tmp_path / "runs" / f"{name}.npy"
        assert run("predict", input=tmp_path / f"{name}.npy", output=output, report=1, **axis)[0] == 0
    Image.new("RGB", (8, 8)).save(tmp_path / "runs" / "other_report.png")
    markdown, rows, page = tabulate()
    assert rows == []
    for text in (markdown, page):
        assert "field.npy: 24 x 20 x 31 to 96 x 80" in text
        assert "field_report.png" in text
        assert "downsampled again against the LR input, RMSE over all bands" in text
        assert "other_report.png: passed over, not a report of predict" in text
    parser = PageReader()
    parser.feed(page)
    assert parser.open == []
    assert len(parser.images) == 2
    write_finished_run(tmp_path / "runs" / "a")
    markdown, rows, page = tabulate()
    assert select_own_rows(rows)
    assert "lake_report.png" in markdown


def test_page_shows_the_first_own_scenes(tabulate, tmp_path):
    about = PngInfo()
    about.add_text("Title", "a scene")
    about.add_text("Description", "RMSE 1e-3")
    (tmp_path / "runs").mkdir()
    for k in range(14):
        Image.new("RGB", (8, 8)).save(tmp_path / "runs" / f"s{k:02}_report.png", pnginfo=about)
    _, _, page = tabulate()
    parser = PageReader()
    parser.feed(page)
    assert len(parser.images) == 12
    assert all(f"s{k:02}_report.png" in page for k in range(14))


def test_pixels_that_differ_most_are_apart():
    cube = np.zeros((2, 64, 64), np.float32)
    other = cube.copy()
    # Pixels at the border, and close to one that is chosen already, are skipped.
    for (i, j), value in {(2, 30): 9, (40, 50): 5, (45, 45): 4, (20, 10): 3, (50, 20): -2}.items():
        other[1, i, j] = value
    assert find_differing_pixels(cube, other) == [(40, 50), (20, 10), (50, 20)]


def test_foreign_names_are_escaped(tabulate, tmp_path):
    name = "<script>x</script>"
    write_finished_run(tmp_path / "runs" / "a", changes={"device": name, "UseRGB": True, "dataset_name": name})
    write_unfinished_run(tmp_path / "runs" / "<b>")
    markdown, _, page = tabulate()
    for text in (markdown, page):
        assert name not in text and "&lt;script>" in text.replace("&gt;", ">")
        assert "<b>\n" not in text and "&lt;b>" in text.replace("&gt;", ">")
