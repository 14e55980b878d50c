import numpy as np
import pytest

from tables.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Line, Style, line_chart, numbered_style
from tables.page import HTML

RED = Style("#ff0000")


def chart(x, y, **options):
    return line_chart("Title", [Line("a < b", RED, np.array(x, float), np.array(y, float))], "x", "y", **options)


def words(ticks):
    return [word for _, word in ticks]


def points(chart):
    ((_, path),) = chart.paths
    return [[tuple(map(float, p.split())) for p in piece.split("L")] for piece in path.split("M")[1:]]


def test_lines_span_the_axes():
    ((first, middle, last),) = points(chart([0, 5, 10], [0, 1, 4]))
    assert (first[0], middle[0], last[0]) == (LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT)
    # 4 % of the range is left free above and below.
    free = (HEIGHT - BOTTOM - TOP) * 0.04 / 1.08
    assert first[1] == pytest.approx(HEIGHT - BOTTOM - free, abs=0.1)
    assert last[1] == pytest.approx(TOP + free, abs=0.1)


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([0, 1], ["0.00", "0.25", "0.50", "0.75", "1.00"]),
        ([38.2, 41.9], ["39", "40", "41", "42"]),
        ([1200, 5100], ["2000", "3000", "4000", "5000"]),
        ([0.0121, 0.0139], ["0.0125", "0.0130", "0.0135"]),
    ],
)
def test_ticks_are_round_numbers(y, expected):
    assert words(chart([0, 1], y).y_ticks) == expected


def test_whole_numbers_have_whole_ticks():
    assert words(chart([1, 2, 3, 4], [0, 1, 1, 1]).x_ticks) == ["1", "2", "3", "4"]


def test_logarithmic_ticks_are_round_numbers():
    assert words(chart([0, 1], [0.004, 0.06], logarithmic=True).y_ticks) == ["0.005", "0.01", "0.02", "0.05"]


def test_values_not_finite_are_gaps():
    pieces = points(chart([0, 1, 2, 3, 4], [1, 2, np.nan, 3, np.inf]))
    assert [len(piece) for piece in pieces] == [2, 2]
    assert pieces[1][0] == pieces[1][1]


def test_lines_break_at_the_next_detector():
    pieces = points(chart([900, 940, 980, 1020, 910, 950, 990], range(7)))
    assert [len(piece) for piece in pieces] == [4, 3]
    assert all((np.diff([x for x, _ in piece]) > 0).all() for piece in pieces)
    # Descending wavelengths are one line, and bands in no order are sorted.
    (piece,) = points(chart([700, 600, 500, 400], [1, 2, 3, 4]))
    assert len(piece) == 4
    (piece,) = points(chart([640, 550, 700, 460, 500, 420], [5, 4, 6, 2, 3, 1]))
    assert (np.diff([x for x, _ in piece]) > 0).all() and (np.diff([y for _, y in piece]) < 0).all()


@pytest.mark.parametrize("y", [[np.nan, np.nan], [2, 2], [0, -1]])
def test_charts_of_nothing_or_constants_are_drawn(y):
    for logarithmic in (False, True):
        drawn = draw(chart([1, 1], y, logarithmic=logarithmic))
        assert "nan" not in drawn and "inf" not in drawn


def draw(chart):
    return str(HTML.get_template("chart.svg").module.line_chart(chart))


def test_names_in_charts_are_escaped():
    assert "<title>a &lt; b</title>" in draw(chart([0, 1], [0, 1]))
    assert "a &lt; b" in HTML.get_template("chart.svg").module.legend({"a < b": RED})


def test_styles_of_many_lines_differ():
    assert len({numbered_style(k) for k in range(24)}) == 24
