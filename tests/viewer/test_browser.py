"""Page in a headless Chromium; skipped if none is installed."""

import numpy as np
import pytest
from browser import ActionChains, Keys, WebDriverWait, needs_browser, open_page

import viewer

pytestmark = needs_browser
WAVES = np.array([450.0, 500, 550, 600, 650])
GENERATOR = np.random.default_rng(0)
CUBES = {
    "LR": GENERATOR.uniform(0.1, 0.9, (4, 5, 5)),
    "bicubic": GENERATOR.uniform(0.1, 0.9, (8, 10, 5)),
    "result": GENERATOR.uniform(0.1, 0.9, (8, 10, 5)),
    "truth": GENERATOR.uniform(0.1, 0.9, (8, 10, 5)),
}
CUBES["result"][2, 3, 1] = np.nan
CUBES["result"][:2, :2] = np.nan
FLAT = {"dark": np.full((8, 10, 3), 0.2), "bright": np.full((8, 10, 3), 0.4)}
CHART = viewer.draw_lines("RMSE by band", WAVES, {"bicubic": np.ones(5)}, ("wavelength (nm)", "RMSE"))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    scenes = [
        viewer.Scene.from_arrays(
            *("noise", CUBES),
            **{"before": "bicubic", "after": "result", "reference": "truth", "rgb": (4, 2, 0), "x": WAVES},
            **{"picture": b"picture", "picture_text": "bicubic and result", "charts": [CHART]},
        ),
        viewer.Scene.from_arrays("flat", FLAT, before="dark", after="bright", reference="bright", rgb=(2, 1, 0)),
    ]
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(viewer.render_page("A page", "About it.", scenes), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def opened(browser, page):
    shown = open_page(browser, page)
    yield shown
    assert not shown.errors()


def test_spectra_of_a_clicked_pixel_are_plotted(opened):
    opened.click_pixel(2, 3)
    assert opened.part("status").text == "Row 2, column 3"
    plotted = opened.plotted()
    assert list(plotted) == list(CUBES)
    for name, cube in CUBES.items():
        values = cube[1, 1] if name == "LR" else cube[2, 3]
        # A hundredth of a pixel of the chart, and half a quantisation step.
        np.testing.assert_allclose(plotted[name], values[~np.isnan(values)], atol=2e-4)
    line = opened.part("spectra").find_element("css selector", 'path[data-layer="result"]').get_attribute("d")
    assert line.count("M") == 2


def test_angles_and_differences_refer_to_truth(opened):
    opened.click_pixel(5, 7)
    a, b = CUBES["bicubic"][5, 7], CUBES["truth"][5, 7]
    angle = np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
    shown = opened.table()
    assert shown["truth"][0] == "reference"
    assert abs(float(shown["bicubic"][0].rstrip("°")) - angle) < 0.05
    assert abs(float(shown["bicubic"][1]) - np.abs(a - b).mean()) < 1e-3
    opened.click_pixel(0, 0)
    assert opened.table()["result"] == ["no data", ""]


def test_divider_moves_by_keyboard(opened):
    opened.choose("scene", "flat")
    WebDriverWait(opened.driver, 20).until(lambda _: opened.part("left-tag").text == "dark")
    divider = opened.part("divider")
    divider.send_keys(Keys.END)
    # Half of the white level, gamma 2.2: 255 * 0.5 ** (1 / 2.2) = 186.
    assert opened.colour_at("images", 0.3, 0.8) == opened.colour_at("images", 0.8, 0.8) == [186, 186, 186]
    divider.send_keys(Keys.HOME)
    assert opened.colour_at("images", 0.3, 0.8) == [255, 255, 255]


def test_divider_is_dragged(opened):
    images = opened.part("images")
    ActionChains(opened.driver).drag_and_drop_by_offset(images, images.size["width"] // 4, 0).perform()
    assert abs(float(opened.part("divider").get_attribute("value")) - 0.75) < 0.02


def test_hidden_layers_disappear_everywhere(opened):
    opened.part("layers").find_element("css selector", 'input[value="bicubic"]').click()
    assert list(opened.plotted()) == ["LR", "result", "truth"]
    assert opened.choices("left") == ["LR", "result", "truth"]
    assert opened.choices("map-layer") == ["LR", "result"]
    assert opened.part("left-tag").text != "bicubic"
    opened.part("layers").find_element("css selector", 'input[value="LR"]').click()
    # Two layers remain.
    boxes = opened.part("layers").find_elements("css selector", "input:checked")
    assert len(boxes) == 2 and not any(box.is_enabled() for box in boxes)


def test_scenes_are_switched(opened):
    assert opened.choices("red")[4] == "650 nm (band 5)"
    opened.choose("scene", "flat")
    WebDriverWait(opened.driver, 20).until(lambda _: opened.choices("red") == ["band 1", "band 2", "band 3"])
    assert opened.part("reference").text == "bright"
    assert list(opened.plotted()) == ["dark", "bright"]
    assert not opened.driver.find_elements("css selector", ".hsv-scene")[0].is_displayed()


def test_one_band_is_shown_in_grey(opened):
    before = opened.colour_at("images", 0.3, 0.7)
    opened.choose("mode", "one band, grey")
    opened.choose("red", "500 nm (band 2)")
    red, green, blue = opened.colour_at("images", 0.3, 0.7)
    assert red == green == blue and len(set(before)) > 1
    assert not opened.part("green").is_displayed()


def test_map_has_a_colour_scale(opened):
    opened.choose("map-band", "550 nm (band 3)")
    differences = [np.abs(CUBES[name] - CUBES["truth"])[..., 2].ravel() for name in ("bicubic", "result")]
    # The 99th percentile, from below, of the layer in which it is larger.
    end = max(np.sort(d[~np.isnan(d)])[int(0.99 * (np.count_nonzero(~np.isnan(d)) - 1))] for d in differences)
    shown = opened.part("bar-values").find_elements("css selector", "span")[-1].text
    assert abs(float(shown.lstrip("≥ ")) - end) < 1e-3


def test_missing_data_are_hatched(opened):
    opened.choose("map-layer", "result")
    # The corner of 2 x 2 of 8 x 10 pixels has no data; the colours of the hatching are grey.
    assert all(
        max(colour) - min(colour) <= 2 for colour in [opened.colour_at("map", x, 0.1) for x in (0.05, 0.1, 0.15)]
    )


def test_keyboard_moves_and_zooms(opened):
    opened.click_pixel(5, 7)
    images = opened.part("images")
    images.send_keys(Keys.ARROW_LEFT, Keys.ARROW_UP)
    assert opened.part("status").text == "Row 4, column 6"
    images.send_keys("+")
    assert opened.part("zoom").text == "1.5×"
    images.send_keys("0")
    assert opened.part("zoom").text == "1.0×"


def test_clicks_find_pixels_after_zooming(opened):
    opened.part("zoom-in").click()
    opened.click_pixel(4, 5)
    # The middle of the zoomed image stays where it was: pixel 4, 5 begins there.
    assert opened.part("status").text == "Row 4, column 5"
    assert not opened.driver.find_elements("css selector", "figure")[0].is_displayed()


def test_page_fits_narrow_screens(browser, page):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 400, "height": 900, "deviceScaleFactor": 2, "mobile": True}
    )
    try:
        open_page(browser, page)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_controls_have_names(opened):
    unnamed = opened.driver.execute_script(
        "return [...document.querySelectorAll('select, input, button, canvas')].filter((e) => "
        "!(e.labels?.length || e.ariaLabel || e.textContent.trim())).map((e) => e.outerHTML)"
    )
    assert unnamed == []


def test_page_is_readable_without_javascript(browser, page):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(page)
        assert "needs JavaScript" in browser.find_element("css selector", "noscript").text
        assert browser.find_element("css selector", "figure img").get_attribute("alt") == "bicubic and result"
        assert browser.find_element("css selector", ".hsv-chart").is_displayed()
        assert not browser.find_element("css selector", ".hsv-app").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_old_browsers_get_a_message(browser, page):
    source = "delete window.DecompressionStream"
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": source})
    try:
        browser.get(page)
        assert "DecompressionStream" in browser.find_element("css selector", '[data-part="message"]').text
        assert browser.find_element("css selector", "figure img").is_displayed()
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
