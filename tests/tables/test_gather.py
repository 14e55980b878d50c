import json
import re
import shutil
from pathlib import Path

import pytest
from helpers import (
    CAVE_TEST,
    PLAIN_RUN,
    SOME_MEAN,
    find_line,
    select_own_rows,
    write_finished_run,
    write_results_file,
    write_unfinished_run,
)

from tables.gather import gather
from tables.page import render_page
from tables.texts import render_csv, render_latex, render_markdown

MIXUP = {"UseLabeledSpectralMixUp": True, "theta_LabeledSpectralMixUp": 1}


def test_seeds_give_mean_and_half_range(tabulate, tmp_path):
    write_finished_run(tmp_path / "runs" / "a", RMSE=0.02, MPSNR=40.0, ERGAS=4.0)
    changes = {"seed": 3001, "training_seconds": 3735.4, "save_dir": "b", "log_interval": 7}
    write_finished_run(tmp_path / "runs" / "b", RMSE=0.03, MPSNR=41.0, ERGAS=4.0, changes=changes)
    markdown, rows, _ = tabulate()
    line = find_line(markdown, "DeepShare")
    assert line["RMSE"] == "0.02500 ± 0.00500"
    assert line["MPSNR (dB)"] == "40.5000 ± 0.5000"
    assert line["ERGAS"] == "4.0000 ± 0.0000"
    assert line["seeds"] == "2 (3000, 3001)"
    assert (line["scenes"], line["iterations"], line["training time"]) == ("12", "11,250", "1:02:10")
    assert (line["parameters"], line["device"]) == ("21,460,975", "GPU A")
    row = select_own_rows(rows)["DeepShare"]
    assert float(row["MPSNR"]) == 40.5
    assert float(row["spread_RMSE"]) == pytest.approx(0.005)
    assert row["results"] == "a/results.json b/results.json"


def test_rows_name_the_settings_that_differ(tabulate, tmp_path):
    for k, theta in enumerate((1, 3)):
        for seed in (3000, 3001):
            changes = {"UseRGB": True, "theta_rgb": theta, "seed": seed}
            write_finished_run(tmp_path / "runs" / f"run{k}_{seed}", changes=changes, MPSNR=40.0 + k)
    changes = {"UseRGB": True, "patches": {**PLAIN_RUN["patches"], "labelled": 450}, "iterations": 4500}
    write_finished_run(tmp_path / "runs" / "few", changes=changes)
    # theta_rgb means nothing where the branch is off.
    write_finished_run(tmp_path / "runs" / "plain", changes={"theta_rgb": 7})
    markdown, rows, _ = tabulate()
    assert list(select_own_rows(rows)) == [
        "DeepShare",
        "DeepShare + RGB (theta_rgb 1, 11,250 iterations, 1,125 labelled patches)",
        "DeepShare + RGB (theta_rgb 3, 11,250 iterations, 1,125 labelled patches)",
        "DeepShare + RGB (theta_rgb 3, 4,500 iterations, 450 labelled patches)",
    ]
    assert "RMSE against theta_rgb" in markdown
    assert "0.01309" in markdown


def test_labels_are_equal_under_both_protocols(tabulate, tmp_path):
    for k, protocol in enumerate(("corrected", "corrected", "published")):
        changes = {"UseRGB": True, "theta_rgb": (1, 2, 1)[k], "protocol": "corrected"}
        write_finished_run(tmp_path / "runs" / str(k), protocol=protocol, changes=changes)
    _, rows, _ = tabulate()
    kept = [(row["protocol"], row["method"]) for row in rows if row["kind"] == "ours"]
    assert kept == [
        ("corrected", "DeepShare + RGB (theta_rgb 1)"),
        ("corrected", "DeepShare + RGB (theta_rgb 2)"),
        ("published", "DeepShare + RGB (theta_rgb 1)"),
    ]


def test_components_are_named_in_the_tables_order(tabulate, tmp_path):
    rgb, ssl = {"UseRGB": True}, {"UseUnlabelConsistency": True}
    mixup = {"UseLabeledSpectralMixUp": True, "theta_LabeledSpectralMixUp": 1}
    off = {"UseLabeledSpectralMixUp": True, "theta_LabeledSpectralMixUp": 0, "seed": 7}
    for k, changes in enumerate(({**rgb, **ssl, **mixup}, mixup, {**rgb, **ssl}, rgb, off)):
        write_finished_run(tmp_path / "runs" / str(k), changes=changes)
    _, rows, _ = tabulate()
    names = [
        "DeepShare",
        "DeepShare + RGB",
        "DeepShare + Mixup",
        "DeepShare + RGB + SSL",
        "DeepShare + RGB + SSL + Mixup",
    ]
    assert list(select_own_rows(rows)) == names


def test_later_tests_belong_to_their_run(tabulate, tmp_path):
    run_dir = tmp_path / "runs" / "a"
    write_finished_run(run_dir, protocol="corrected", changes={"UseRGB": True})
    test = {"model_title": "", "test_dir": "test.h5", "seconds": 3.0}
    final = "Cave_DeepShare_epoch_10_now.pth"
    # One by its path, one where the runs have been moved since.
    write_results_file(run_dir / "published" / "w_results.json", {**test, "model_dir": str(run_dir / final)})
    moved = {**test, "model_dir": f"/gone/a/{final}"}
    write_results_file(tmp_path / "runs" / "again_results.json", moved, "corrected", MPSNR=1.0)
    early = {**test, "model_dir": "/gone/a/Cave_DeepShare_epoch_2_now.pth"}
    write_results_file(tmp_path / "runs" / "early_results.json", early)
    (run_dir / "Cave_DeepShare_epoch_2_now.pth").write_bytes(b"")
    write_results_file(tmp_path / "runs" / "other_results.json", {**test, "model_dir": "/gone/released.pth"})
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
    assert float(select_own_rows(rows)["DeepShare + RGB"]["MPSNR"]) == SOME_MEAN["MPSNR"]
    assert page.count("Labelled loss</text>") == 1


def test_unfinished_damaged_and_repeated_results_are_named(tabulate, tmp_path):
    runs = tmp_path / "runs"
    write_finished_run(runs / "a")
    write_finished_run(runs / "a_again", MPSNR=1.0)
    write_unfinished_run(runs / "stopped")
    write_unfinished_run(runs / "untested")
    (runs / "untested" / "Cave_DeepShare_epoch_10_now.pth").write_bytes(b"")
    for name, content in (("cut", '{"model": "Deep'), ("other", "[1]"), ("poor", '{"config": {}, "n_scale": 4}')):
        (runs / f"{name}_results.json").write_text(content)
    (runs / "a" / "samples.npz").write_bytes(b"nonsense")
    (runs / "a" / "log.csv").write_text("iteration,labelled\n1,abc\n")
    markdown, rows, page = tabulate()
    assert float(select_own_rows(rows)["DeepShare"]["MPSNR"]) == SOME_MEAN["MPSNR"]
    for text in (markdown, page):
        listed = text[text.index("Unfinished runs") :]
        assert listed.index("stopped") < listed.index("Finished runs without test results") < listed.index("untested")
        for name in ("cut", "other", "poor"):
            assert f"{name}_results.json: passed over" in text
        assert "a_again/results.json: left out, of the same settings and seed as a/results.json" in text
        assert "samples.npz: cannot be read as crops" in text


def test_scene_names_identify_unnamed_data_sets(tabulate, tmp_path):
    path = tmp_path / "runs" / "Bicubic_x4_results.json"
    write_results_file(path, {"model_title": "Bicubic", "model_dir": "", "test_dir": "x/test.h5"}, model="Bicubic")
    content = json.loads(path.read_text())
    del content["dataset"]
    path.write_text(json.dumps(content))
    path.with_name("folder_results.json").write_text(json.dumps({**content, "scenes": {"block_1": SOME_MEAN}}))
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
    assert "--runs_dir is missing" in refused("tables")


EARLIER = Path(__file__).parent / "earlier"


def test_earlier_results_give_the_same_tables(run, tmp_path):
    # A run and a test of bicubic on scenes of 16 x 16 pixels, and the table, all made by commit fd353b2.
    shutil.copytree(EARLIER, tmp_path / "earlier")
    code, out, err = run("tables", tmp_path / "earlier")
    assert code == 0, err
    made = tmp_path / "earlier" / "tables"
    assert (made / "tables.csv").read_bytes() == (EARLIER / "expected.csv").read_bytes()
    page = (made / "index.html").read_text(encoding="utf-8")
    for title in ("PSNR by band", "Gain on bicubic by band", "Pixel A", "Labelled loss", "RGB loss", "Validation SAM"):
        assert title in page
    for scene in ("jelly_beans", "watercolors"):
        assert f"{scene}: spectra" in page


@pytest.mark.parametrize(
    ("name", "scale"), [("cave_x4_small", 4), ("/elsewhere/pretrained/cave_x4_small.pth", 4), ("cave_x8_small", 8)]
)
def test_bundled_weights_have_their_training_settings(tabulate, tmp_path, name, scale):
    path = tmp_path / "runs" / "small_results.json"
    write_results_file(path, {"model_title": "", "model_dir": name, "test_dir": "test.h5"}, "corrected")
    path.write_text(json.dumps({**json.loads(path.read_text()), "n_scale": scale}))
    _, rows, _ = tabulate()
    (row,) = select_own_rows(rows).values()
    label = f"DeepShare + RGB + SSL + Mixup ({Path(name).stem})"
    epochs, iterations, parameters = {4: (3, 3840, 370983), 8: (4, 1280, 407975)}[scale]
    assert (row["method"], row["seeds"]) == (label, "3000")
    assert (row["iterations"], row["parameters"]) == (str(iterations), str(parameters))
    assert row["training_seconds"] == ""
    reasons = row["reasons"].split("; ")
    assert f"epochs {epochs} instead of 10" in reasons
    assert {
        "n_feats 32 instead of 256",
        "schedule cosine instead of published",
        "init identity instead of default",
    } <= {*reasons}
    assert not any("not recorded" in reason or "iterations" in reason.split() for reason in reasons)


def test_foreign_weights_of_bundled_names_stay_unknown(tabulate, tmp_path):
    config = {"model_title": "", "model_dir": "/mine/cave_x4_small.pth", "test_dir": "test.h5"}
    write_results_file(tmp_path / "runs" / "a_results.json", config)
    _, rows, _ = tabulate()
    assert select_own_rows(rows)["DeepShare (weights cave_x4_small)"]["reasons"] == "how it was trained is not recorded"


def test_unknown_networks_follow_the_known_ones(tabulate, tmp_path):
    write_finished_run(tmp_path / "runs" / "a", changes={"model_title": "Another"})
    write_finished_run(tmp_path / "runs" / "b")
    _, rows, _ = tabulate()
    assert list(select_own_rows(rows)) == ["DeepShare", "Another"]


def test_best_weights_have_a_separate_row(tabulate, tmp_path):
    run = tmp_path / "runs" / "a"
    write_finished_run(run, MPSNR=42.0)
    config = {"model_dir": str(run / "best.pth"), "test_dir": "x"}
    (run / "best.pth").touch()
    write_results_file(run / "a_best_results.json", config, MPSNR=43.0)
    _, rows, _ = tabulate()
    found = {name: float(row["MPSNR"]) for name, row in select_own_rows(rows).items()}
    assert found == {"DeepShare": 42.0, "DeepShare (weights of the best validation)": 43.0}
    assert select_own_rows(rows)["DeepShare (weights of the best validation)"]["reasons"]


def test_unknown_weights_are_not_merged_as_seeds(tabulate, tmp_path):
    for folder, mpsnr in (("one", 40.0), ("two", 30.0)):
        config = {"model_dir": f"/{folder}/model.pth", "test_dir": "x"}
        write_results_file(tmp_path / "runs" / folder / "model_results.json", config, MPSNR=mpsnr)
    _, rows, _ = tabulate()
    found = {name: float(row["MPSNR"]) for name, row in select_own_rows(rows).items()}
    assert found == {"DeepShare (weights model, in /one)": 40.0, "DeepShare (weights model, in /two)": 30.0}


def test_labels_name_scenes_regardless_of_order(tabulate, tmp_path):
    config = {"model_title": "Bicubic", "model_dir": "", "test_dir": "x/test.h5"}
    for name, scenes in (("a", "xyz"), ("b", "zyx"), ("c", "xyw")):
        write_results_file(tmp_path / "runs" / name / "r_results.json", config, scenes=scenes, model="Bicubic")
    _, rows, _ = tabulate()
    assert list(select_own_rows(rows)) == ["Bicubic (3 test scenes with w)", "Bicubic (3 test scenes with z)"]


def test_scenes_are_named_until_labels_differ(tabulate, tmp_path):
    config = {"model_title": "Bicubic", "model_dir": "", "test_dir": "x/test.h5"}
    for name, scenes in (("a", "abcd"), ("b", "abce"), ("c", "fghi")):
        write_results_file(tmp_path / "runs" / name / "r_results.json", config, scenes=scenes, model="Bicubic")
    markdown, rows, _ = tabulate()
    expected = [f"Bicubic (4 test scenes with {', '.join(scenes)})" for scenes in ("abcd", "abce", "fghi")]
    assert list(select_own_rows(rows)) == expected
    assert "left out" not in markdown


def bicubic_of(scenes, mpsnr):
    rows = dict.fromkeys(scenes, {**SOME_MEAN, "MPSNR": mpsnr})
    return {"bicubic": {"fingerprint": "", "scenes": rows, "bands": {scene: [mpsnr, mpsnr] for scene in scenes}}}


def add_to_results(path, **entries):
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_recorded_bicubic_scores_have_a_row(tabulate, tmp_path):
    runs = tmp_path / "runs"
    for name, changes in (("a", {}), ("b", {"UseRGB": True})):
        write_finished_run(runs / name, changes=changes, MPSNR=41.0)
        bands = {"bands": {scene: [40.0, 42.0] for scene in CAVE_TEST}}
        add_to_results(runs / name / "results.json", **bands, **bicubic_of(CAVE_TEST, 38.5))
    markdown, rows, page = tabulate()
    found = select_own_rows(rows)
    assert list(found) == ["Bicubic", "DeepShare", "DeepShare + RGB"]
    assert (found["Bicubic"]["MPSNR"], found["Bicubic"]["reduced"], found["Bicubic"]["seeds"]) == ("38.5", "0", "")
    assert "Gain on bicubic by band" in page and page.count("<td>+2.50</td>") == 2
    assert "Remarks" not in markdown


def test_bicubic_results_precede_recorded_scores(tabulate, tmp_path):
    runs = tmp_path / "runs"
    write_finished_run(runs / "a")
    add_to_results(runs / "a" / "results.json", **bicubic_of(CAVE_TEST, 38.5))
    config = {"model_title": "Bicubic", "model_dir": "", "test_dir": "x/test.h5"}
    write_results_file(runs / "b_results.json", config, model="Bicubic", MPSNR=38.0)
    # Other test scenes have a row of their own.
    write_finished_run(runs / "few", scenes=["x"])
    add_to_results(runs / "few" / "results.json", **bicubic_of(["x"], 30.0))
    _, rows, _ = tabulate()
    found = {name: row["MPSNR"] for name, row in select_own_rows(rows).items() if row["method"].startswith("Bicubic")}
    assert found == {"Bicubic (1 test scenes)": "30.0", "Bicubic (12 test scenes)": "38.0"}


def test_settings_not_recorded_are_not_differences(tabulate, tmp_path):
    runs = tmp_path / "runs"
    write_finished_run(runs / "a")
    config = {"model_title": "", "model_dir": "/mine/w.pth", "test_dir": "test.h5"}
    write_results_file(runs / "w_results.json", config)
    write_results_file(runs / "e_results.json", {**config, "self_ensemble": True})
    _, rows, _ = tabulate()
    assert list(select_own_rows(rows)) == [
        "DeepShare",
        "DeepShare (weights w)",
        "DeepShare (weights w, self_ensemble 1)",
    ]


def test_runs_have_curves_for_every_data_set(tabulate, tmp_path):
    run_dir = tmp_path / "runs" / "a"
    write_finished_run(run_dir)
    other = run_dir / "Cave_DeepShare_epoch_10_now_results.json"
    write_results_file(other, {"model_dir": str(run_dir / "Cave_DeepShare_epoch_10_now.pth"), "test_dir": "x"})
    add_to_results(other, dataset="Harvard")
    _, _, page = tabulate()
    assert page.count("Labelled loss</text>") == 2


def test_bundled_weights_differ_by_name_and_flags(tabulate, tmp_path):
    runs = tmp_path / "runs"
    write_finished_run(runs / "a", changes={"UseRGB": True, **MIXUP})
    config = {"model_title": "", "model_dir": "cave_x4", "test_dir": "test.h5"}
    write_results_file(runs / "cave_x4_results.json", config)
    write_results_file(runs / "cave_x4_ensemble_results.json", {**config, "self_ensemble": True})
    _, rows, _ = tabulate()
    assert list(select_own_rows(rows)) == [
        "DeepShare + RGB + Mixup",
        "DeepShare + RGB + Mixup (cave_x4)",
        "DeepShare + RGB + Mixup (cave_x4, self_ensemble 1)",
    ]


def test_unfinished_runs_have_curves(tabulate, tmp_path):
    write_unfinished_run(tmp_path / "runs" / "going")
    markdown, rows, page = tabulate()
    assert rows == []
    assert "DeepShare (unfinished: going)" in page and "Labelled loss" in page
    assert "Unfinished runs" in markdown
    write_unfinished_run(tmp_path / "runs" / "odd", {"model_title": "DeepShare", "seed": "x"})
    markdown, _, _ = tabulate()
    assert "odd/config.json: passed over, its settings cannot be read" in markdown


def test_watching_repeats_until_interrupted(run, tmp_path, monkeypatch):
    runs, pauses, pages = tmp_path / "runs", [], []

    def pause(seconds):
        pauses.append(seconds)
        pages.append((runs / "tables" / "index.html").read_text(encoding="utf-8"))
        if len(pauses) > 1:
            raise KeyboardInterrupt
        write_finished_run(runs / "later", changes={"UseRGB": True})

    monkeypatch.setattr("tables.time.sleep", pause)
    write_finished_run(runs / "a")
    code, out, _ = run("tables", runs, watch=7)
    assert (code, pauses) == (130, [7, 7])
    assert out.count("again in 7 s") == 2
    assert 'data-refresh="7.0"' in pages[-1] and "DeepShare + RGB" in pages[-1]
    # An open page loads this last one, and stops reloading.
    last = (runs / "tables" / "index.html").read_text(encoding="utf-8")
    assert last == pages[-1].replace(' data-refresh="7.0"', "")


def test_contradicting_results_are_named(tabulate, tmp_path):
    config = {"model_title": "Bicubic", "model_dir": "", "test_dir": "x/test.h5"}
    for name, mpsnr in (("a", 40.0), ("b", 40.0), ("c", 30.0)):
        write_results_file(tmp_path / "runs" / name / "r_results.json", config, model="Bicubic", MPSNR=mpsnr)
    markdown, rows, _ = tabulate()
    assert float(select_own_rows(rows)["Bicubic"]["MPSNR"]) == 40.0
    assert "c/r_results.json: left out" in markdown and "b/r_results.json: left out" not in markdown


def test_writers_need_nothing_but_the_report(tmp_path):
    shutil.copytree(EARLIER, tmp_path / "earlier")
    report = gather(tmp_path / "earlier")
    shutil.rmtree(tmp_path / "earlier")
    assert "Pixel A" in render_page(report) and "Labelled loss" in render_page(report)
    assert render_csv(report) == (EARLIER / "expected.csv").read_text()
    assert "DeepShare + RGB (reduced)" in render_markdown(report)
    assert "DeepShare + RGB (reduced)" in render_latex(report)
