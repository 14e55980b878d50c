"""The page in a headless Chromium; skipped where none is installed."""

import json

import numpy as np
import pytest
from browser import Keys, Select, WebDriverWait, needs_browser, open_page
from helpers import CAVE_TEST, SOME_MEAN, write_finished_run

import mains
from evaluation import samples
from evaluation.samples import Sample, Samples

pytestmark = needs_browser
# {run: (settings, MPSNR, noise of its crops)}: the second is an outlier.
RUNS = {
    "plain": ({}, 40.0, 0.02),
    "broken": ({"model_title": "SSPSR", "parameters": 5_000_000}, 9.0, 0.5),
    "rgb": ({"UseRGB": True, "parameters": 1_000_000, "training_seconds": 600.0}, 41.5, 0.01),
}
CORNER = (20, 60)


def write_run(folder, changes, mpsnr, noise):
    generator, scenes = np.random.default_rng(0), CAVE_TEST[:2]
    write_finished_run(folder, "corrected", scenes, {**changes, "protocol": "corrected"}, MPSNR=mpsnr)
    keep = Samples(4)
    for scene in scenes:
        gt, ms = generator.uniform(0.2, 0.8, (5, 16, 16)), generator.uniform(0.2, 0.8, (5, 4, 4))
        lms, output = (gt + generator.normal(0, deviation, gt.shape) for deviation in (0.05, noise))
        arrays = (array.astype(np.float16) for array in (ms, lms, gt, output))
        keep.kept.append(Sample(scene, CORNER, [4, 2, 0], None, *arrays))
    keep.write(folder / "results.json")
    path = folder / "results.json"
    bands = {scene: [mpsnr - 0.4, mpsnr, mpsnr + 0.4] for scene in scenes}
    bicubic = {"fingerprint": "", "scenes": dict.fromkeys(scenes, {**SOME_MEAN, "MPSNR": 38.0})}
    bicubic["bands"] = {scene: [38.0, 38.5, 39.0] for scene in scenes}
    path.write_text(json.dumps({**json.loads(path.read_text()), "bands": bands, "bicubic": bicubic}))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, settings in RUNS.items():
        write_run(folder / name, *settings)
    assert mains.main(["tables", str(folder)]) == 0
    return folder


def open_tables(browser, runs, width=1280):
    shown = open_page(browser, (runs / "tables" / "index.html").as_uri(), width)
    WebDriverWait(browser, 60).until(lambda _: browser.find_element("css selector", "body[data-page=ready]"))
    return shown


@pytest.fixture
def opened(browser, runs):
    shown = open_tables(browser, runs)
    yield shown
    assert not shown.errors()


def find(shown, selector):
    return shown.driver.find_elements("css selector", selector)


def methods(shown):
    """First cells of our rows, in the order of the table."""
    return [head.text.removesuffix("reduced").strip() for head in find(shown, "table.sortable tr.ours th")]


def y_ticks(shown):
    return [float(tick.text) for tick in find(shown, "svg.chart")[0].find_elements("css selector", ".y-ticks text")]


def test_hidden_rows_leave_charts_and_images(opened):
    assert min(y_ticks(opened)) < 20
    box = find(opened, 'tr.ours input[data-toggle="SSPSR"]')[0]
    box.send_keys(Keys.SPACE)
    # The axis spans the remaining rows, of 38 to 41.9 dB.
    assert y_ticks(opened) == [38, 39, 40, 41, 42]
    assert not any(path.is_displayed() for path in find(opened, 'svg.chart path[data-row="SSPSR"]'))
    # Plain DeepShare's middle band: 40 dB.
    path = find(opened, 'svg.chart path[data-row="DeepShare"]')[0].get_attribute("d")
    middle = float(path.split("L")[1].split()[1])
    low, high = 38 - 0.04 * 3.9, 41.9 + 0.04 * 3.9
    assert middle == pytest.approx(254 - (40 - low) / (high - low) * 224, abs=0.2)
    assert "SSPSR" not in opened.plotted() and "SSPSR" not in opened.choices("left")
    assert not any(legend.is_selected() for legend in find(opened, '.legend input[data-toggle="SSPSR"]'))
    opened.choose("scene", CAVE_TEST[1])
    WebDriverWait(opened.driver, 20).until(lambda _: "SSPSR" not in opened.plotted())
    box.click()
    assert min(y_ticks(opened)) < 20 and "SSPSR" in opened.plotted()


def test_columns_are_sorted_by_click_and_keyboard(opened):
    assert methods(opened) == ["Bicubic", "SSPSR", "DeepShare", "DeepShare + RGB"]
    heads = {
        head.text.replace("\n", " "): head
        for head in find(opened, "table.sortable")[0].find_elements("css selector", "th[scope=col]")
    }
    button = heads["MPSNR (dB)"].find_element("css selector", "button")
    button.click()
    assert methods(opened) == ["DeepShare + RGB", "DeepShare", "Bicubic", "SSPSR"]
    assert heads["MPSNR (dB)"].get_attribute("aria-sort") == "descending"
    button.send_keys(Keys.ENTER)
    assert methods(opened) == ["SSPSR", "Bicubic", "DeepShare", "DeepShare + RGB"]
    assert heads["MPSNR (dB)"].get_attribute("aria-sort") == "ascending"
    # Bicubic has no training time, and is last in both directions; the published row stays below it.
    heads["training time"].find_element("css selector", "button").click()
    assert methods(opened)[0] != "DeepShare + RGB" and methods(opened)[2:] == ["DeepShare + RGB", "Bicubic"]
    assert heads["MPSNR (dB)"].get_attribute("aria-sort") is None


def test_spectra_are_those_of_the_samples(opened, runs):
    opened.choose("scene", CAVE_TEST[1])
    WebDriverWait(opened.driver, 20).until(
        lambda _: Select(opened.part("scene")).first_selected_option.text == CAVE_TEST[1]
    )
    opened.click_pixel(5, 9, (16, 16))
    assert opened.part("status").text == f"Row {CORNER[0] + 5}, column {CORNER[1] + 9}"
    sample = samples.read(runs / "plain" / "samples.npz")[1]
    plotted = opened.plotted()
    for name, cube in {"HR truth": sample.gt, "DeepShare": sample.output, "Bicubic": sample.lms}.items():
        np.testing.assert_allclose(plotted[name], cube[:, 5, 9], atol=1e-3)
    a, b = sample.output[:, 5, 9], sample.gt[:, 5, 9]
    angle = np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
    assert float(opened.table()["DeepShare"][0].rstrip("°")) == pytest.approx(angle, abs=0.1)


def test_scenes_have_a_table(opened):
    details = find(opened, "details.scenes")[0]
    details.find_element("css selector", "summary").click()
    rows = details.find_elements("css selector", "tbody tr")
    assert [row.text.split("\n")[0].split()[0] for row in rows] == CAVE_TEST[:2]
    assert "+3.50" in rows[0].text and "-29.00" in rows[0].text


def test_settings_outlive_the_reload_of_watched_pages(browser, runs):
    page = runs / "tables" / "index.html"
    watched = page.with_name("watched.html")
    watched.write_text(page.read_text(encoding="utf-8").replace("<body>", '<body data-refresh="3">'), encoding="utf-8")
    shown = open_page(browser, watched.as_uri())
    WebDriverWait(browser, 60).until(lambda _: browser.find_element("css selector", "body[data-page=ready]"))
    find(shown, 'tr.ours input[data-toggle="SSPSR"]')[0].click()
    shown.choose("scene", CAVE_TEST[1])
    browser.execute_script("window.isOld = true")
    is_new = "return !window.isOld && document.body.dataset.page === 'ready'"
    WebDriverWait(browser, 60).until(lambda _: browser.execute_script(is_new))
    assert not find(shown, 'tr.ours input[data-toggle="SSPSR"]')[0].is_selected()
    assert Select(shown.part("scene")).first_selected_option.text == CAVE_TEST[1]
    # Also on the last page of `--watch`, which no longer reloads itself.
    browser.execute_script("window.isOld = true")
    watched.write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    WebDriverWait(browser, 60).until(lambda _: browser.execute_script(is_new))
    assert not find(shown, 'tr.ours input[data-toggle="SSPSR"]')[0].is_selected()
    assert Select(shown.part("scene")).first_selected_option.text == CAVE_TEST[1]
    browser.get("about:blank")


def test_narrow_screens_do_not_scroll_sideways(browser, runs):
    metrics = {"width": 400, "height": 900, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        open_tables(browser, runs, 400)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_static_pictures_need_no_javascript(browser, runs):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get((runs / "tables" / "index.html").as_uri())
        assert all(picture.is_displayed() for picture in browser.find_elements("css selector", ".tile img"))
        assert not browser.find_element("css selector", "input[data-toggle]").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_controls_and_pictures_have_names(opened):
    unnamed = opened.driver.execute_script(
        "return [...document.querySelectorAll('select, input, button, canvas, img, svg.chart')].filter((e) => "
        "!(e.labels?.length || e.ariaLabel || e.alt || e.textContent.trim())).map((e) => e.outerHTML)"
    )
    assert unnamed == []
