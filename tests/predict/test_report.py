import errno
import json
import re
from pathlib import Path

import fixtures
import h5py
import numpy as np
import pytest
from helpers import OWN_CUBE, write_reflectance_envi
from PIL import Image

import formats
import pictures
from data.imresize import imresize
from formats.calibration import Calibration
from predict import findings, report
from predict.findings import Comparison


def draw(comparison):
    return report.draw(comparison, findings.collect_findings(comparison))


def test_failed_report_writes_no_result(refused, weights, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    source = fixtures.write_own(tmp_path, "npy", OWN_CUBE)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    flags = {"input": source, "output": tmp_path / "out" / "a.npy", "model_dir": weights, "report": 1}
    assert "a_report.png: the disk is full" in refused("predict", **flags)
    assert not list((tmp_path / "out").iterdir())


def test_report_writes_a_picture_and_page(run, weights, tmp_path):
    pytest.importorskip("matplotlib")
    source, _ = write_reflectance_envi(tmp_path / "a")
    code, out, _ = run(
        "predict", input=source, output=tmp_path / "out.hdr", model_dir=weights, value_scale=10000, report=1
    )
    assert code == 0
    assert str(tmp_path / "out_report.png") in out
    with Image.open(tmp_path / "out_report.png") as picture:
        assert picture.size == (1500, 1700)
    assert str(tmp_path / "out_report.html") in out


def test_the_page_contains_input_bicubic_and_result():
    comparison = holed_comparison()
    page = report.render_viewer(comparison, findings.collect_findings(comparison))
    (view,) = (json.loads(text) for text in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page))
    names = [(layer["name"], layer["height"], layer["width"]) for layer in view["layers"]]
    assert names == [("LR input", 40, 30), ("bicubic", 80, 60), ("super-resolved", 80, 60)]
    assert (view["reference"], view["rgb"]) == ("bicubic", [6, 4, 1])
    assert "full-scale value 1" in page and "Re-degradation error" in page


def test_a_page_is_not_replaced_without_overwrite(refused, weights, tmp_path):
    pytest.importorskip("matplotlib")
    source = fixtures.write_own(tmp_path, "npy", OWN_CUBE)
    (tmp_path / "b_report.html").write_text("mine")
    flags = {"input": source, "output": tmp_path / "b.npy", "model_dir": weights, "report": 1}
    assert "b_report.html: already exists" in refused("predict", **flags)


def test_findings_equal_a_direct_computation(monkeypatch):
    image = fixtures.make_smooth_cube(8, 40, 30, 5)
    result = imresize(image, 2)
    result[21, 33] += 0.3
    monkeypatch.setattr(findings, "STRIP_VALUES", 30 * 5 * 4 * 7)
    found = findings.collect_findings(Comparison(formats.from_array(image), result, Calibration("f8", 1.0), 2))
    for error, larger in ((found.rmse, result), (found.bicubic_rmse, imresize(image, 2))):
        expected = np.sqrt(((imresize(larger, 1 / 2) - image) ** 2).mean(axis=(0, 1)))
        np.testing.assert_allclose(error, expected, atol=1e-6)
    assert found.spots[0] == (10, 16)
    assert not np.isnan(found.overview[0]).any()
    assert [x.shape for x in found.overview] == [(40, 30, 3), (80, 60, 3), (80, 60, 3)]


def test_report_shades_bands_with_network_detail(run, weights, tmp_path, monkeypatch):
    centres = np.array([300.0, 380, 450, 500, 690, 720, 900, 1000])
    cube = fixtures.make_smooth_cube(0, 20, 24, 8).astype(np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["image"], f["wavelength"] = cube, centres
    axes = pytest.importorskip("matplotlib.axes").Axes
    drawn = []
    monkeypatch.setattr(axes, "fill_between", lambda *words, **how: drawn.append((how["label"], how["where"])))
    flags = {"input": tmp_path / "a.h5", "output": tmp_path / "o.h5", "model_dir": weights, "report": 1}
    assert run("predict", **flags, resample_bands=1)[0] == 0
    reached, inside = ([w.tolist() for label, w in drawn if words in label] for words in ("fades out", "has the"))
    assert len(reached) == len(inside) >= 2
    assert all(where == [False, True, True, True, True, True, False, False] for where in reached)
    assert all(where == [False, False, True, True, True, False, False, False] for where in inside)


def test_the_report_marks_the_spectral_windows(run, weights, tmp_path, monkeypatch):
    cube = fixtures.make_smooth_cube(0, 20, 24, 40).astype(np.float32)
    cube[:, :, 35:] = 0
    np.save(tmp_path / "a.npy", cube)
    axes = pytest.importorskip("matplotlib.axes").Axes
    drawn, plot = [], axes.plot

    def recording(self, *points, **how):
        if how.get("lw") == 3:
            drawn.append(points[0])
        return plot(self, *points, **how)

    monkeypatch.setattr(axes, "plot", recording)
    flags = {"input": tmp_path / "a.npy", "output": tmp_path / "o.npy", "model_dir": weights, "report": 1}
    assert run("predict", **flags, wavelengths="401,440", bands="windows", band_axis=2)[0] == 0
    # 35 bands with data, two windows of 31.
    np.testing.assert_allclose(drawn, [(401, 431), (405, 435)])


def test_spots_are_found_where_data_exist(tmp_path):
    image = fixtures.make_smooth_cube(8, 40, 30, 5).astype(np.float32)
    result = imresize(image, 2).astype(np.float32)
    result[21, 33] += 0.3
    # One band is missing everywhere, and all of them but in a corner.
    for empty, empty_in_result, rows in (((..., 2), (..., 2), 40), (slice(20, None), slice(40, None), 20)):
        holed, larger = image.copy(), result.copy()
        holed[empty] = np.nan
        larger[empty_in_result] = np.nan
        found = findings.collect_findings(Comparison(formats.from_array(holed), larger, Calibration("f4", 1.0), 2))
        assert found.spots[0] == (10, 16)
        assert all(row < rows for row, _ in found.spots)


def test_report_of_nearly_empty_scene_is_written(run, weights, tmp_path):
    pytest.importorskip("matplotlib")
    cube = np.full((40, 40, OWN_CUBE.shape[2]), np.nan, np.float32)
    cube[:3, :3] = 0.5
    np.save(tmp_path / "a.npy", cube)
    code, _, _ = run("predict", input=tmp_path / "a.npy", output=tmp_path / "b.npy", model_dir=weights, report=1)
    assert code == 0 and (tmp_path / "b_report.png").is_file()


def test_scenes_of_equal_name_have_separate_reports(run, weights, tmp_path):
    pytest.importorskip("matplotlib")
    for kind in ("npy", "mat5"):
        fixtures.write_own(tmp_path / "in", kind, OWN_CUBE)
    code, _, _ = run("predict", input=tmp_path / "in", output=tmp_path / "out", model_dir=weights, report=1)
    assert code == 0
    names = {path.name for path in (tmp_path / "in").iterdir()}
    assert len(names) == 2
    reports = {f"{name}_report.{kind}" for name in names for kind in ("png", "html")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | reports


def holed_comparison(wavelengths=None):
    """A scene of 9 bands and its result: bands 2 and 7 without data, and a corner in all bands."""
    image = fixtures.make_smooth_cube(8, 40, 30, 9).astype(np.float32)
    result = imresize(image, 2).astype(np.float32)
    result[21, 33] += 0.3
    for cube, edge in ((image, 12), (result, 24)):
        cube[..., [2, 7]] = np.nan
        cube[:edge, :edge] = np.nan
    return Comparison(formats.from_array(image, wavelengths), result, Calibration("f4", 1.0), 2)


def test_bands_without_data_have_no_error():
    found = findings.collect_findings(holed_comparison())
    for error in (found.rmse, found.bicubic_rmse):
        assert np.flatnonzero(np.isnan(error)).tolist() == [2, 7]
    # By hand: without wavelengths the bands 6, 4 and 2 of 9 would be shown; of the 7 with data, the 5th, 3rd and 1st.
    assert found.shown == [6, 4, 1]


def test_pixels_without_data_are_drawn_grey():
    found = findings.collect_findings(holed_comparison())
    for image, edge in zip(found.overview, (12, 24, 24), strict=True):
        missing = np.isnan(image).all(axis=2)
        assert missing[:edge, :edge].all() and missing.sum() == edge**2
        drawn = pictures.render_false_colour(image, [0, 1, 2], pictures.compute_white_level(image, [0, 1, 2]))
        assert ((drawn == pictures.NO_DATA).all(axis=2) >= missing).all()
    # The white level of 0.01 to 1 in hundredths, each 10 times, is the 99.5th percentile: 1.
    cube = np.repeat(np.arange(1, 101) / 100, 30).reshape(100, 10, 3)
    assert pictures.compute_white_level(np.concatenate([cube, np.full((300, 10, 3), np.nan)]), [0, 1, 2]) == 1


def test_overlapping_detectors_are_drawn_as_separate_lines(monkeypatch):
    axes = pytest.importorskip("matplotlib.axes").Axes
    drawn = []
    plot = axes.plot

    def note(self, x, y, *words, **style):
        drawn.append((np.atleast_1d(x), np.atleast_1d(y), style.get("label")))
        return plot(self, x, y, *words, **style)

    monkeypatch.setattr(axes, "plot", note)
    # As of EnMAP: the second detector begins below the end of the first.
    waves = np.array([900.0, 940, 980, 1020, 910, 950, 990, 1030, 1070])
    draw(holed_comparison(waves))
    spectra = [line for line in drawn if len(line[0]) > 1]
    assert len(spectra) >= 4 and all((np.diff(x) > 0).all() for x, _, _ in spectra)
    assert {tuple(x) for x, _, _ in spectra} == {(900, 940, 980, 1020), (910, 950, 990, 1030, 1070)}
    errors = [(x, y) for x, y, label in drawn[-4:]]
    assert [np.isnan(y).tolist() for _, y in errors[:2]] == [[False] * 2 + [True, False], [False] * 3 + [True, False]]
    assert [label for _, _, label in drawn[-4:]][1::2] == [None, None]
    assert all("over the 7 bands with data" in drawn[k][2] for k in (-4, -2))


def test_scene_without_data_has_a_report():
    pytest.importorskip("matplotlib")
    empty = np.full((6, 5, 4), np.nan, np.float32)
    result = empty.repeat(2, axis=0).repeat(2, axis=1)
    comparison = Comparison(formats.from_array(empty), result, Calibration("f4", 1.0), 2)
    assert draw(comparison).startswith(b"\x89PNG")
    assert "<svg" in report.render_viewer(comparison, findings.collect_findings(comparison))
