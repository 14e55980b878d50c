import re

import pytest
from helpers import CAVE_TEST, select_own_rows, write_finished_run, write_results_file

from tables.report import format_duration, headings


def test_full_runs_are_compared_with_published_rows(tabulate, tmp_path):
    # Published: DeepShare .0144 / 40.8385 / 4.0345; + RGB 42.3575, its ERGAS doubtful.
    write_finished_run(tmp_path / "runs" / "a", RMSE=0.0150, MPSNR=41.0, ERGAS=4.0)
    write_finished_run(tmp_path / "runs" / "b", MPSNR=42.0, ERGAS=3.5, changes={"UseRGB": True})
    config = {"model_dir": "", "model_title": "Bicubic"}
    write_results_file(tmp_path / "runs" / "bicubic_results.json", config, model="Bicubic", MPSNR=38.7380)
    markdown, rows, page = tabulate()
    found = select_own_rows(rows)
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
        ({"n_feats": 8}, CAVE_TEST, "n_feats 8 instead of 256"),
        ({"iterations": 30}, CAVE_TEST, "30 of 11,250 iterations"),
        ({}, CAVE_TEST[:11], "11 of 12 test scenes"),
    ],
)
def test_reduced_runs_are_marked_and_not_compared(tabulate, tmp_path, changes, scenes, reason):
    write_finished_run(tmp_path / "runs" / "a", scenes=scenes, changes=changes, MPSNR=41.0)
    markdown, rows, page = tabulate()
    tex = (tmp_path / "runs" / "tables" / "tables.tex").read_text()
    row = select_own_rows(rows)["DeepShare"]
    assert (row["reduced"], row["reasons"], row["difference_MPSNR"], row["published_MPSNR"]) == ("1", reason, "", "")
    assert "DeepShare (reduced)" in markdown
    assert "DeepShare (reduced)" in tex
    assert 'DeepShare <span class="mark">reduced</span>' in page
    for text in (markdown, page, tex.replace("\\_", "_")):
        assert reason in text
        assert "0.1615" not in text
        assert text.index("Published (full experiment; not comparable with reduced runs)") < text.index("40.8385")


def test_protocols_have_separate_tables(tabulate, tmp_path):
    write_finished_run(tmp_path / "runs" / "a", protocol="corrected", changes={"protocol": "corrected"}, MPSNR=35.0)
    write_finished_run(tmp_path / "runs" / "b", protocol="published", MPSNR=40.0)
    config = {"model_dir": "", "model_title": "Bicubic"}
    bicubic = {"model": "Bicubic", "MPSNR": 34.7214, "MSSIM_gaussian": 0.93}
    write_results_file(tmp_path / "runs" / "Bicubic_x4_results.json", config, "corrected", **bicubic)
    markdown, rows, _ = tabulate()
    assert re.findall("(?m)^## (.*)", markdown) == ["Cave x4, protocol corrected", "Cave x4, protocol published"]
    kept = [(row["protocol"], row["method"], float(row["MPSNR"])) for row in rows if row["kind"] == "ours"]
    assert kept == [
        ("corrected", "Bicubic", 34.7214),
        ("corrected", "DeepShare", 35.0),
        ("published", "DeepShare", 40.0),
    ]
    # SSPSR's own table has MSSIM with a Gaussian window, and networks that had 20 labelled scenes.
    bicubic = select_own_rows(rows)["Bicubic"]
    assert float(bicubic["difference_MSSIM_gaussian"]) == pytest.approx(0.93 - 0.9277)
    assert bicubic["difference_MSSIM"] == ""
    assert "SSPSR" in [
        r["method"] for r in rows if (r["kind"], r["protocol"]) == ("published, not comparable", "corrected")
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (0, "0:00:00"), (59.6, "0:01:00"), (3725.4, "1:02:05"), (90061, "25:01:01")]
)
def test_durations_have_hours_minutes_seconds(seconds, text):
    assert format_duration(seconds) == text


def test_headings_have_units():
    assert headings(["RMSE", "SAM", "MPSNR"]) == ["RMSE", "SAM (°)", "MPSNR (dB)"]
