import re

import numpy as np

import viewer
from viewer.charts import round_ticks

LABELS = ("band", "value")


def test_ticks_are_round_numbers():
    assert round_ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert round_ticks(-30, 2500) == [0, 500, 1000, 1500, 2000, 2500]


def test_lines_break_at_missing_values():
    x = np.arange(1.0, 7)
    svg = viewer.draw_lines("a & b", x, {"one": np.array([1, 2, np.nan, 4, 5, 6.0])}, LABELS)
    (path,) = re.findall(r'<path d="([^"]*L[^"]*)"', svg)
    assert [piece.count("L") for piece in path.split("M")[1:]] == [1, 2]
    assert "a &amp; b" in svg


def test_lines_break_between_runs():
    x = np.array([1.0, 2, 3, 2.5, 3.5])
    svg = viewer.draw_lines("a", x, {"one": np.ones(5)}, LABELS, [np.arange(3), np.arange(3, 5)])
    (path,) = re.findall(r'<path d="([^"]*L[^"]*)"', svg)
    assert [piece.count("L") for piece in path.split("M")[1:]] == [2, 1]


def test_histograms_show_the_share_of_values():
    values = np.array([0.1] * 30 + [0.5] * 10 + [np.nan])
    svg = viewer.draw_histogram("a", values, {"full-scale value 1": 1.0}, LABELS)
    heights = [float(height) for height in re.findall(r'<rect .*?height="([\d.]+)"', svg)]
    np.testing.assert_allclose(heights[0] / heights[1], 3, rtol=0.02)
    assert "full-scale value 1" in svg


def test_histograms_without_values_are_drawn():
    assert "<svg" in viewer.draw_histogram("a", np.full(3, np.nan), {}, LABELS)
