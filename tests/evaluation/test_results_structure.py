"""Results and crops with one wrong entry: their readers refuse them, `tables` skips them by name."""

import csv
import io
import json

import numpy as np
import pytest
from helpers import PLAIN_RUN, SOME_MEAN, write_finished_run, write_results_file

from evaluation import results, samples
from system.errors import UserError

WAVES = list(range(400, 701, 10))


def config_with(**changes):
    return {"config": {**PLAIN_RUN, **changes}}


WRONG_RESULTS = [
    *({"protocol": value} for value in ("abc", 3, None, "\ud800")),
    *({"n_scale": value} for value in (0, -4, 4.5, float("inf"), float("nan"), 1e9, 10**400, True)),
    *({"mean": {**SOME_MEAN, "MPSNR": value}} for value in (None, [], 1e300, 10**400)),
    *({"scenes": {"a": {"MPSNR": value}}} for value in ("x", None, [1], 1e300)),
    *({"bands": {"a": value}} for value in ([], {}, ["x"], [1e308])),
    *({"wavelengths": value, "bands": {"a": [40.0] * 31}} for value in ([400, 500, 600], [], [-1] * 31)),
    *({"wavelengths": [value] * 31} for value in (float("nan"), float("inf"), 0, "blue")),
    {"dataset": ["Cave"]},
    {"dataset": "\ud800"},
    {"scenes": {"\udfff": SOME_MEAN}},
]
WRONG_RUNS = [
    *({"iterations": value} for value in ("many", -1, 1e300, [])),
    *({"seed": value} for value in (None, "x", [1])),
    *({"parameters": value} for value in ("many", -5, [])),
    *({"training_seconds": value} for value in ("long", -1, float("inf"), [])),
    *({"patches": value} for value in ([], {"labelled": "x"}, {"labelled": -1}, 3)),
    *({"batch_size": value} for value in (0, "x", None)),
    *({"theta_rgb": value, "UseRGB": True} for value in ("x", [], {})),
    *({"device": value} for value in (3, None, ["GPU"])),
    *({"protocol": value} for value in ("abc", [])),
    *({"model_title": value} for value in (3, None, "Mine + Own")),
    {"dataset_name": []},
    {"n_feats": "wide"},
    {"loss": 3},
]


@pytest.fixture
def tabulate(run, tmp_path):
    """Run `tables` on tmp_path/runs: the Markdown, and our rows of the CSV."""

    def tabulate():
        code, _, err = run("tables", tmp_path / "runs")
        assert code == 0, err
        assert "Traceback" not in err
        made = tmp_path / "runs" / "tables"
        rows = csv.DictReader(io.StringIO((made / "tables.csv").read_text(encoding="utf-8")))
        assert (made / "index.html").stat().st_size
        return (made / "tables.md").read_text(encoding="utf-8"), [row for row in rows if row["kind"] == "ours"]

    return tabulate


def changed(path, changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("changes", WRONG_RESULTS, ids=range(len(WRONG_RESULTS)))
def test_tables_skip_and_name_wrong_results(tabulate, tmp_path, changes):
    write_finished_run(tmp_path / "runs" / "good")
    write_results_file(tmp_path / "runs" / "bad_results.json", {"model_title": "Bicubic"}, model="Bicubic")
    changed(tmp_path / "runs" / "bad_results.json", changes)
    with pytest.raises(ValueError, match=r"\w"):
        results.read(tmp_path / "runs" / "bad_results.json")
    markdown, rows = tabulate()
    assert "bad_results.json: passed over" in markdown
    assert [row["results"] for row in rows] == ["good/results.json"]


@pytest.mark.parametrize("changes", WRONG_RUNS, ids=range(len(WRONG_RUNS)))
@pytest.mark.parametrize("beside", [True, False])
def test_tables_skip_and_name_wrong_runs(tabulate, tmp_path, changes, beside):
    """In the results of the run's own test, and in the config.json beside weights that were tested later."""
    write_finished_run(tmp_path / "runs" / "good")
    bad = tmp_path / "runs" / "bad"
    write_finished_run(bad, changes=changes)
    if beside and "training_seconds" not in changes:
        (bad / "results.json").unlink()
        test = {"model_title": "", "test_dir": "test.h5", "model_dir": str(next(bad.glob("*.pth")))}
        write_results_file(bad / "w_results.json", test)
    markdown, rows = tabulate()
    assert "results.json: passed over" in markdown
    assert [row["results"] for row in rows] == ["good/results.json"]


@pytest.mark.parametrize("content", [b"\xff\xfe{}", b"[" * 100_000, b"\x00", b'{"config": NaN}', b"9" * 5000])
def test_tables_skip_unreadable_json(tabulate, tmp_path, content):
    write_finished_run(tmp_path / "runs" / "good")
    (tmp_path / "runs" / "bad_results.json").write_bytes(content)
    write_finished_run(tmp_path / "runs" / "other")
    (tmp_path / "runs" / "other" / "results.json").unlink()
    (tmp_path / "runs" / "other" / "config.json").write_bytes(content)
    markdown, rows = tabulate()
    assert "bad_results.json: passed over" in markdown
    assert len(rows) == 1


def crops(**changes):
    gt = np.full((31, 16, 16), 0.5, np.float16)
    arrays = {"scenes": ["a"], "corners": [(0, 4)], "shown": [24, 15, 6], "wavelengths": WAVES}
    arrays |= {"ms_0": gt[:, :4, :4], "lms_0": gt, "gt_0": gt, "output_0": gt}
    return {**arrays, **changes}


HALF = np.full((31, 16, 16), 0.5)
WRONG_CROPS = [
    *({"scenes": value} for value in ([3], 3, ["a", "b"], np.array(["\ud800"]))),
    *({"corners": value} for value in ([(0,)], [(-1, 0)], [(0.5, 0)], [], 3)),
    *({"shown": value} for value in ([0, 1], [0, 1, 31], [0, 1, -1], [0.0, 1.0, 2.0], 3)),
    *({"wavelengths": value} for value in ([400, 500, 600], [-1] * 31, ["a"] * 31, [np.nan] * 31)),
    *({"gt_0": value} for value in (HALF[0], HALF[:3], HALF[:, :8], HALF * np.nan, HALF * 1e300)),
    *({"ms_0": value} for value in (HALF[:, :5, :5], HALF[:, :4, :8], HALF[:, :0, :0])),
    {"output_0": HALF[:, :4]},
    {"output_0": np.full((31, 16, 16), "x")},
    {"lms_0": np.array([None], object)},
]


@pytest.mark.parametrize("changes", WRONG_CROPS, ids=range(len(WRONG_CROPS)))
def test_wrong_crops_are_refused_by_name(tabulate, tmp_path, changes):
    write_finished_run(tmp_path / "runs" / "good")
    path = tmp_path / "runs" / "good" / "samples.npz"
    np.savez(path, **crops())
    assert len(samples.read(path)) == 1
    np.savez(path, **crops(**changes))
    with pytest.raises(UserError, match="cannot be read as crops"):
        samples.read(path)
    markdown, rows = tabulate()
    assert "samples.npz: cannot be read as crops" in markdown
    assert len(rows) == 1


def test_plain_array_is_refused_as_crops(tmp_path):
    with open(tmp_path / "samples.npz", "wb") as f:
        np.save(f, HALF)
    with pytest.raises(UserError, match="cannot be read as crops"):
        samples.read(tmp_path / "samples.npz")
