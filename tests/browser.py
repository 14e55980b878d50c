"""A headless Chromium for tests, and the viewer in it."""

import re
import shutil
import time

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

__all__ = ["ActionChains", "Keys", "Page", "Select", "WebDriverWait", "needs_browser", "open_page", "start"]
CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="Chromium and its driver are not installed")


def start():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


class Page:
    """The viewer in a browser."""

    def __init__(self, driver):
        self.driver = driver

    def part(self, name):
        return self.driver.find_element("css selector", f'[data-part="{name}"]')

    def choose(self, name, text):
        Select(self.part(name)).select_by_visible_text(text)

    def choices(self, name):
        return [option.text for option in Select(self.part(name)).options]

    def click_pixel(self, row, column, shape=(8, 10)):
        # Offsets refer to the middle of the visible part.
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", self.part("images"))
        size = self.part("images").size
        x, y = ((at + 0.5) / count - 0.5 for at, count in ((column, shape[1]), (row, shape[0])))
        action = ActionChains(self.driver)
        action.move_to_element_with_offset(self.part("images"), round(x * size["width"]), round(y * size["height"]))
        action.click().perform()

    def colour_at(self, name, x, y):
        """RGB of a canvas at a place in parts of its size."""
        script = "const c = arguments[0]; return [...c.getContext('2d').getImageData(c.width * arguments[1], "
        return self.driver.execute_script(f"{script}c.height * arguments[2], 1, 1).data]", self.part(name), x, y)[:3]

    def plotted(self):
        """{layer: values of the drawn points} of the spectra."""
        chart = self.part("spectra")
        low, high, top, bottom = (float(chart.get_attribute(f"data-{k}")) for k in ("low", "high", "top", "bottom"))
        spectra = {}
        for line in chart.find_elements("css selector", "path[data-layer]"):
            heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", line.get_attribute("d"))]
            spectra[line.get_attribute("data-layer")] = [
                low + (bottom - y) / (bottom - top) * (high - low) for y in heights
            ]
        return spectra

    def table(self):
        """{layer: (spectral angle, mean difference)} as texts."""
        rows = self.part("layers").find_elements("css selector", "tr")
        return {
            r.find_element("css selector", "th").text: [c.text for c in r.find_elements("css selector", "td")]
            for r in rows
        }

    def errors(self):
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


def open_page(browser, page, width=1280):
    browser.set_window_size(width, 900)
    started = time.monotonic()
    browser.get(page)
    root = browser.find_element("css selector", ".hsv")
    WebDriverWait(browser, 60).until(lambda _: root.get_attribute("data-viewer") in ("ready", "failed"))
    print(f"opened in {time.monotonic() - started:.2f} s")
    assert root.get_attribute("data-viewer") == "ready"
    return Page(browser)
