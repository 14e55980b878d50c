import base64
import csv
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers import FULL
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from data.facts import published_split
from evaluation.samples import Sample
from tables import page as tables_html

MEAN = {"MPSNR": 40.0, "MSSIM": 0.95, "MSSIM_gaussian": 0.94, "ERGAS": 4.0, "SAM": 4.0, "CrossCorrelation": 0.99, "RMSE": 0.02}  # fmt: skip
PLAIN = {**FULL, "train_dir_mslabel": "labelled.h5", "UseRGB": False, "UseUnlabelConsistency": False, "device": "GPU A", "parameters": 21460975, "training_seconds": 3725.4}  # fmt: skip
CAVE = published_split("Cave")["test"]


def write_results(path, config, protocol="published", scenes=CAVE, model="DeepShare", **mean):
    """A results file as train and test write it, with the same metrics for every scene."""
    mean = {**MEAN, **mean}
    content = {"model": model, "n_scale": 4, "protocol": protocol, "dataset": "Cave", "mean": mean, "scenes": dict.fromkeys(scenes, mean), "config": config}  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_run(folder, protocol="published", scenes=CAVE, changes=(), **mean):
    """A finished run's folder: config.json, log.csv, weights, results.json."""
    config = {**PLAIN, **dict(changes)}
    write_results(folder / "results.json", config, protocol, scenes, **mean)
    write_unfinished(folder, config)
    (folder / "Cave_DeepShare_epoch_10_now.pth").write_bytes(b"")


def write_unfinished(folder, config=PLAIN):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "log.csv").write_text(
        "epoch,iteration,lr,labelled,mixup,rgb,consistency\n1,5,1e-4,0.5,,,\n1,10,1e-4,0.3,,,\n"
    )


@pytest.fixture
def tabulate(run, tmp_path):
    """Run `tables` on tmp_path/runs: returns the Markdown, the CSV's rows and the page."""

    def tabulate():
        code, out, err = run("tables", tmp_path / "runs")
        assert code == 0, err
        made = tmp_path / "runs" / "tables"
        texts = [(made / name).read_text(encoding="utf-8") for name in ("tables.md", "tables.csv", "index.html")]
        assert out.startswith(texts[0])
        assert all(str(made / name) in out for name in ("tables.md", "tables.csv", "tables.tex", "index.html"))
        return texts[0], list(csv.DictReader(io.StringIO(texts[1]))), texts[2]

    return tabulate


def ours(rows):
    return {row["method"]: row for row in rows if row["kind"] == "ours"}


def line_of(markdown, method):
    """The cells of a table's line by heading."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if "|" in line]
    (found,) = [line for line in lines if line[0] == method]
    return dict(zip(lines[0], found))


def test_seeds_are_merged_into_a_mean_and_half_their_range(tabulate, tmp_path):
    write_run(tmp_path / "runs" / "a", RMSE=0.02, MPSNR=40.0, ERGAS=4.0)
    changes = {"seed": 3001, "training_seconds": 3735.4, "save_dir": "b", "log_interval": 7}
    write_run(tmp_path / "runs" / "b", RMSE=0.03, MPSNR=41.0, ERGAS=4.0, changes=changes)
    markdown, rows, _ = tabulate()
    line = line_of(markdown, "DeepShare")
    assert line["RMSE"] == "0.02500 ± 0.00500"
    assert line["MPSNR (dB)"] == "40.5000 ± 0.5000"
    assert line["ERGAS"] == "4.0000 ± 0.0000"
    assert line["seeds"] == "2 (3000, 3001)"
    assert (line["scenes"], line["iterations"], line["training time"]) == ("12", "11,250", "1:02:10")
    assert (line["parameters"], line["device"]) == ("21,460,975", "GPU A")
    row = ours(rows)["DeepShare"]
    assert float(row["MPSNR"]) == 40.5
    assert float(row["spread_RMSE"]) == pytest.approx(0.005)
    assert row["results"] == "a/results.json b/results.json"


def test_a_full_run_stands_beside_its_published_row_with_the_difference(tabulate, tmp_path):
    # Published: DeepShare .0144 / 40.8385 / 4.0345; + RGB 42.3575, its ERGAS doubtful.
    write_run(tmp_path / "runs" / "a", RMSE=0.0150, MPSNR=41.0, ERGAS=4.0)
    write_run(tmp_path / "runs" / "b", MPSNR=42.0, ERGAS=3.5, changes={"UseRGB": True})
    write_results(tmp_path / "runs" / "bicubic_results.json", {"model_dir": "", "model_title": "Bicubic"}, model="Bicubic", MPSNR=38.7380)  # fmt: skip
    markdown, rows, page = tabulate()
    found = ours(rows)
    assert list(found) == ["Bicubic", "DeepShare", "DeepShare + RGB"]
    assert float(found["DeepShare"]["difference_RMSE"]) == pytest.approx(0.0006)
    assert float(found["DeepShare"]["difference_MPSNR"]) == pytest.approx(0.1615)
    assert float(found["DeepShare"]["difference_ERGAS"]) == pytest.approx(-0.0345)
    assert found["DeepShare"]["published_MPSNR"] == "40.8385"
    assert found["DeepShare"]["difference_SAM"] == ""
    assert float(found["DeepShare + RGB"]["difference_MPSNR"]) == pytest.approx(-0.3575)
    assert (found["DeepShare + RGB"]["published_ERGAS"], found["DeepShare + RGB"]["difference_ERGAS"]) == (
        "3.0128?",
        "",
    )
    assert float(found["Bicubic"]["difference_MPSNR"]) == 0
    assert {row["reduced"] for row in found.values()} == {"0"}
    for text in (markdown, page):
        assert "+0.1615" in text
        assert "reduced)" not in text
        # What no run of ours repeats is shown apart.
        assert text.index("not comparable") < text.index("MCNet")
    apart = [row["method"] for row in rows if row["kind"] == "published, not comparable"]
    assert apart == ["GDRRN", "3DFCNN", "SSPSR", "MCNet", "DeepShare + RGB + SSL"]


@pytest.mark.parametrize(
    ("changes", "scenes", "reason"),
    [
        ({"n_feats": 8}, CAVE, "n_feats 8 instead of 256"),
        ({"iterations": 30}, CAVE, "30 of 11,250 iterations"),
        ({}, CAVE[:11], "11 of 12 test scenes"),
    ],
)
def test_reduced_runs_are_marked_everywhere_and_never_compared(tabulate, tmp_path, changes, scenes, reason):
    write_run(tmp_path / "runs" / "a", scenes=scenes, changes=changes, MPSNR=41.0)
    markdown, rows, page = tabulate()
    tex = (tmp_path / "runs" / "tables" / "tables.tex").read_text()
    row = ours(rows)["DeepShare"]
    assert (row["reduced"], row["reasons"], row["difference_MPSNR"], row["published_MPSNR"]) == ("1", reason, "", "")
    assert "DeepShare (reduced)" in markdown
    assert "DeepShare (reduced)" in tex
    assert 'DeepShare <span class="mark">reduced</span>' in page
    for text in (markdown, page, tex.replace("\\_", "_")):
        assert reason in text
        assert "0.1615" not in text
        assert text.index("Published (full experiment; not comparable with reduced runs)") < text.index("40.8385")


def test_protocols_have_tables_of_their_own_and_other_peoples_training_is_not_compared(tabulate, tmp_path):
    write_run(tmp_path / "runs" / "a", protocol="corrected", changes={"protocol": "corrected"}, MPSNR=35.0)
    write_run(tmp_path / "runs" / "b", protocol="published", MPSNR=40.0)
    config = {"model_dir": "", "model_title": "Bicubic"}
    write_results(tmp_path / "runs" / "Bicubic_x4_results.json", config, "corrected", model="Bicubic", MPSNR=34.7214, MSSIM_gaussian=0.93)  # fmt: skip
    markdown, rows, _ = tabulate()
    assert re.findall("(?m)^## (.*)", markdown) == ["Cave x4, protocol corrected", "Cave x4, protocol published"]
    kept = [(row["protocol"], row["method"], float(row["MPSNR"])) for row in rows if row["kind"] == "ours"]
    assert kept == [
        ("corrected", "Bicubic", 34.7214),
        ("corrected", "DeepShare", 35.0),
        ("published", "DeepShare", 40.0),
    ]
    # SSPSR's own table has MSSIM with a Gaussian window, and networks that had 20 labelled scenes.
    bicubic = ours(rows)["Bicubic"]
    assert float(bicubic["difference_MSSIM_gaussian"]) == pytest.approx(0.93 - 0.9277)
    assert bicubic["difference_MSSIM"] == ""
    assert "SSPSR" in [
        r["method"] for r in rows if (r["kind"], r["protocol"]) == ("published, not comparable", "corrected")
    ]


def test_settings_that_differ_make_rows_that_name_them(tabulate, tmp_path):
    for k, theta in enumerate((1, 3)):
        for seed in (3000, 3001):
            changes = {"UseRGB": True, "theta_rgb": theta, "seed": seed}
            write_run(tmp_path / "runs" / f"run{k}_{seed}", changes=changes, MPSNR=40.0 + k)
    changes = {"UseRGB": True, "patches": {**PLAIN["patches"], "labelled": 450}, "iterations": 4500}
    write_run(tmp_path / "runs" / "few", changes=changes)
    # theta_rgb means nothing where the branch is off.
    write_run(tmp_path / "runs" / "plain", changes={"theta_rgb": 7})
    markdown, rows, _ = tabulate()
    assert list(ours(rows)) == [
        "DeepShare",
        "DeepShare + RGB (theta_rgb 1, 11,250 iterations, 1,125 labelled patches)",
        "DeepShare + RGB (theta_rgb 3, 11,250 iterations, 1,125 labelled patches)",
        "DeepShare + RGB (theta_rgb 3, 4,500 iterations, 450 labelled patches)",
    ]
    assert "RMSE against theta_rgb" in markdown
    assert "0.01309" in markdown


def test_a_row_is_called_the_same_under_both_protocols(tabulate, tmp_path):
    for k, protocol in enumerate(("corrected", "corrected", "published")):
        changes = {"UseRGB": True, "theta_rgb": (1, 2, 1)[k], "protocol": "corrected"}
        write_run(tmp_path / "runs" / str(k), protocol=protocol, changes=changes)
    _, rows, _ = tabulate()
    kept = [(row["protocol"], row["method"]) for row in rows if row["kind"] == "ours"]
    assert kept == [
        ("corrected", "DeepShare + RGB (theta_rgb 1)"),
        ("corrected", "DeepShare + RGB (theta_rgb 2)"),
        ("published", "DeepShare + RGB (theta_rgb 1)"),
    ]


def test_components_are_named_in_the_tables_order(tabulate, tmp_path):
    rgb, ssl, mixup = {"UseRGB": True}, {"UseUnlabelConsistency": True}, {"UseLabeledSpectralMixUp": True, "theta_LabeledSpectralMixUp": 1}  # fmt: skip
    off = {"UseLabeledSpectralMixUp": True, "theta_LabeledSpectralMixUp": 0, "seed": 7}
    for k, changes in enumerate(({**rgb, **ssl, **mixup}, mixup, {**rgb, **ssl}, rgb, off)):
        write_run(tmp_path / "runs" / str(k), changes=changes)
    _, rows, _ = tabulate()
    names = [
        "DeepShare",
        "DeepShare + RGB",
        "DeepShare + Mixup",
        "DeepShare + RGB + SSL",
        "DeepShare + RGB + SSL + Mixup",
    ]
    assert list(ours(rows)) == names


def test_a_later_test_of_a_runs_weights_belongs_to_the_run(tabulate, tmp_path):
    run_dir = tmp_path / "runs" / "a"
    write_run(run_dir, protocol="corrected", changes={"UseRGB": True})
    weights = {"model_title": "", "test_dir": "test.h5", "seconds": 3.0}
    # One by its path, one where the runs have been moved since.
    write_results(run_dir / "published" / "w_results.json", {**weights, "model_dir": str(run_dir / "Cave_DeepShare_epoch_10_now.pth")})  # fmt: skip
    write_results(tmp_path / "runs" / "again_results.json", {**weights, "model_dir": "/gone/a/Cave_DeepShare_epoch_10_now.pth"}, "corrected", MPSNR=1.0)  # fmt: skip
    write_results(tmp_path / "runs" / "early_results.json", {**weights, "model_dir": "/gone/a/Cave_DeepShare_epoch_2_now.pth"})  # fmt: skip
    (run_dir / "Cave_DeepShare_epoch_2_now.pth").write_bytes(b"")
    write_results(tmp_path / "runs" / "other_results.json", {**weights, "model_dir": "/gone/released.pth"})
    _, rows, page = tabulate()
    found = [(r["protocol"], r["method"], r["seeds"], r["training_seconds"]) for r in rows if r["kind"] == "ours"]
    assert found == [
        ("corrected", "DeepShare + RGB", "3000", "3725.4"),
        ("published", "DeepShare (weights released)", "", ""),
        ("published", "DeepShare + RGB", "3000", "3725.4"),
        ("published", "DeepShare + RGB (weights of epoch 2 of 10)", "3000", "3725.4"),
    ]
    reasons = [r["reasons"] for r in rows if r["kind"] == "ours"]
    assert reasons == ["", "how it was trained is not recorded", "", "weights of epoch 2 of 10"]
    assert float(ours(rows)["DeepShare + RGB"]["MPSNR"]) == MEAN["MPSNR"]
    assert page.count("Labelled loss</text>") == 1


def test_what_is_unfinished_damaged_or_there_twice_is_named(tabulate, tmp_path):
    runs = tmp_path / "runs"
    write_run(runs / "a")
    write_run(runs / "a_again", MPSNR=1.0)
    write_unfinished(runs / "stopped")
    write_unfinished(runs / "untested")
    (runs / "untested" / "Cave_DeepShare_epoch_10_now.pth").write_bytes(b"")
    for name, content in (("cut", '{"model": "Deep'), ("other", "[1]"), ("poor", '{"config": {}, "n_scale": 4}')):
        (runs / f"{name}_results.json").write_text(content)
    (runs / "a" / "samples.npz").write_bytes(b"nonsense")
    (runs / "a" / "log.csv").write_text("iteration,labelled\n1,abc\n")
    markdown, rows, page = tabulate()
    assert float(ours(rows)["DeepShare"]["MPSNR"]) == MEAN["MPSNR"]
    for text in (markdown, page):
        unfinished, unscored = text.index("Unfinished runs"), text.index("Finished runs without test results")
        assert unfinished < text.index("stopped") < unscored < text.index("untested")
        for name in ("cut", "other", "poor"):
            assert f"{name}_results.json: passed over" in text
        assert "a_again/results.json: left out, of the same settings and seed as a/results.json" in text
        assert "samples.npz: cannot be read as crops" in text


def test_data_sets_of_older_or_foreign_results_are_told_by_their_scenes(tabulate, tmp_path):
    path = tmp_path / "runs" / "Bicubic_x4_results.json"
    write_results(path, {"model_title": "Bicubic", "model_dir": "", "test_dir": "x/test.h5"}, model="Bicubic")
    content = json.loads(path.read_text())
    del content["dataset"]
    path.write_text(json.dumps(content))
    path.with_name("folder_results.json").write_text(json.dumps({**content, "scenes": {"block_1": MEAN}}))
    markdown, _, _ = tabulate()
    assert re.findall("(?m)^## (.*)", markdown) == [
        "Cave x4, protocol published",
        "scenes of test.h5 x4, protocol published",
    ]


def test_folders_without_results_are_refused(refused, tmp_path):
    assert "no such folder" in refused("tables", tmp_path / "none")
    assert "no results in it" in refused("tables", tmp_path)
    (tmp_path / "results.json").write_text("{")
    assert "results.json: passed over" in refused("tables", tmp_path)
    assert not (tmp_path / "tables").exists()
    assert "which runs?" in refused("tables")


def test_spectra_are_of_the_pixels_where_bicubic_and_the_best_differ_most_apart_from_each_other():
    lms = np.zeros((2, 64, 64), np.float32)
    other = lms.copy()
    # The border and the neighbourhood of a pixel that is taken already are passed over.
    for (i, j), value in {(2, 30): 9, (40, 50): 5, (45, 45): 4, (20, 10): 3, (50, 20): -2}.items():
        other[1, i, j] = value
    sample = Sample("s", (0, 0), [0, 0, 0], None, lms[:, ::4, ::4], lms, lms, other)
    assert tables_html._telling_pixels(sample, other) == [(40, 50), (20, 10), (50, 20)]


class Links(HTMLParser):
    """Collects what a page refers to, and checks that its tags are closed."""

    VOID = ("meta", "img", "br", "stop", "path", "rect", "circle")

    def __init__(self):
        super().__init__()
        self.references, self.images, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data", "action"):
                (self.images if tag == "img" else self.references).append(value)
        assert tag not in ("script", "link", "iframe", "object")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        pass


def test_real_runs_become_a_page_that_needs_nothing_else(run, tiny_flags, stores, tmp_path):
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
    parser = Links()
    parser.feed(page)
    assert parser.open == []
    assert all(reference.startswith(("#t", "#c")) for reference in parser.references)
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
    assert "2 of 12 test scenes" in out
    tex = (out_dir / "tables.tex").read_text(encoding="utf-8")
    assert tex.isascii()
    if shutil.which("pdflatex"):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
        done = subprocess.run(command, cwd=out_dir, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:]


def test_latex_lines_have_as_many_cells_as_their_tables_columns(tabulate, tmp_path):
    write_run(tmp_path / "runs" / "50% & more_~^\\{}", changes={"device": "A & B_2"})
    write_run(tmp_path / "runs" / "b", changes={"UseRGB": True, "theta_rgb": 1, "device": "ü 好"})
    write_unfinished(tmp_path / "runs" / "50%_stopped")
    tabulate()
    tex = (tmp_path / "runs" / "tables" / "tables.tex").read_text(encoding="utf-8")
    for columns, body in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", tex, re.DOTALL):
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in lines} == {len(columns)}
    assert r"50\%\_stopped" in tex


def test_reports_of_own_scenes_are_shown_with_the_results_or_without_any(run, tabulate, tmp_path):
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
        assert "degraded again against the LR input, RMSE over all bands" in text
        assert "other_report.png: passed over, no report of predict" in text
    parser = Links()
    parser.feed(page)
    assert parser.open == []
    assert len(parser.images) == 2
    write_run(tmp_path / "runs" / "a")
    markdown, rows, page = tabulate()
    assert ours(rows)
    assert "lake_report.png" in markdown


def test_of_many_reports_the_first_are_shown_and_the_rest_named(tabulate, tmp_path):
    about = PngInfo()
    about.add_text("Title", "a scene")
    about.add_text("Description", "RMSE 1e-3")
    (tmp_path / "runs").mkdir()
    for k in range(14):
        Image.new("RGB", (8, 8)).save(tmp_path / "runs" / f"s{k:02}_report.png", pnginfo=about)
    _, _, page = tabulate()
    parser = Links()
    parser.feed(page)
    assert len(parser.images) == 12
    assert all(f"s{k:02}_report.png" in page for k in range(14))
