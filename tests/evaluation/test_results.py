import json
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import SOME_MEAN

from evaluation import results
from facts import METRICS

SCENES = SimpleNamespace(n_scale=4, protocol="corrected", dataset="Cave", ergas_ratio=4)
ROWS = {"a": SOME_MEAN, "b": {**SOME_MEAN, "MPSNR": 41.0, "ERGAS": float("inf")}}
CONFIG = {"model_title": "Bicubic", "seconds": 1.5}


def test_written_results_are_read_back(tmp_path):
    keep = SimpleNamespace(wavelengths=[400.0, 410.0], bands={"a": [39.0, 41.0], "b": [40.0, float("inf")]})
    path = results.write(tmp_path / "out" / "results.json", "Bicubic", SCENES, ROWS, CONFIG, keep)
    found = results.read(path)
    assert (found.model, found.n_scale, found.protocol, found.dataset) == ("Bicubic", 4, "corrected", "Cave")
    assert found.mean == {**SOME_MEAN, "MPSNR": 40.5, "ERGAS": float("inf")}
    assert found.scenes == ROWS
    assert found.config == CONFIG
    assert (found.bands, found.wavelengths) == (keep.bands, keep.wavelengths)


def test_files_keep_their_keys(tmp_path):
    path = results.write(tmp_path / "results.json", "Bicubic", SCENES, ROWS, CONFIG)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert list(content) == ["model", "n_scale", "protocol", "dataset", "ergas_ratio", "mean", "scenes", "config"]
    assert content["ergas_ratio"] == 4
    assert list(content["mean"]) == list(METRICS)


def test_older_results_lack_data_set_and_bands(tmp_path):
    path = results.write(tmp_path / "results.json", "Bicubic", SCENES, ROWS, CONFIG)
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["dataset"]
    path.write_text(json.dumps(content), encoding="utf-8")
    found = results.read(path)
    assert (found.dataset, found.bands, found.wavelengths) == ("", {}, None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scenes": {}}, "scenes is {}"),
        ({"scenes": ["a"]}, "scenes is .* not a mapping"),
        ({"scenes": {"a": 1}}, "a of scenes is 1, not a mapping"),
        ({"n_scale": "4"}, "n_scale is '4', not a whole number"),
        ({"model": None}, "model is None, not text"),
        ({"config": []}, "config is"),
        ({"mean": {}}, "MPSNR of mean is missing"),
        ({"mean": {**SOME_MEAN, "SAM": "x"}}, "SAM of mean is 'x', not a number"),
        ({"bands": {"a": 1}}, "a of bands is 1"),
        ({"wavelengths": "blue"}, "wavelengths is 'blue'"),
    ],
)
def test_the_first_impossible_entry_is_named(tmp_path, changes, words):
    path = results.write(tmp_path / "results.json", "Bicubic", SCENES, ROWS, CONFIG)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ValueError, match=words):
        results.read(path)


@pytest.mark.parametrize(("text", "words"), [("{", "Expecting"), ("[1]", "the record is"), ("{}", "model is missing")])
def test_invalid_results_are_refused(tmp_path, text, words):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=words):
        results.read(tmp_path / "results.json")


def test_the_mean_is_over_the_scenes():
    mean = results.mean_row(ROWS)
    assert mean["MPSNR"] == 40.5
    assert mean["ERGAS"] == np.inf
    assert list(mean) == list(METRICS)


def test_the_printed_table_fits_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert results.table({"jelly_beans": SOME_MEAN}).splitlines() == [
        "scene          MPSNR   MSSIM     SAM   ERGAS     RMSE",
        "-" * 53,
        "jelly_beans  40.0000  0.9500  4.0000  4.0000  0.02000",
        "-" * 53,
        "mean         40.0000  0.9500  4.0000  4.0000  0.02000",
    ]


def test_a_wide_terminal_gets_all_metrics(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert results.table({"jelly_beans": SOME_MEAN}).splitlines()[0] == (
        "scene          MPSNR   MSSIM  MSSIM_gaussian     SAM   ERGAS  CrossCorrelation     RMSE"
    )
