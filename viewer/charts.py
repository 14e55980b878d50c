"""Static charts as SVG text: lines over the bands, and histograms with marked values."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

# Colours and dashes of lines that colour-blind readers can distinguish (Okabe and Ito), black for the reference.
COLOURS = ("#111111", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00")
DASHES = ("6 4", "", "2 3")
WIDTH, HEIGHT = 460, 290
LEFT, RIGHT, TOP, BOTTOM = 76, 14, 50, 46
BINS = 60

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def draw_lines(
    title: str,
    x: np.ndarray,
    lines: Mapping[str, np.ndarray],
    labels: tuple[str, str],
    runs: Sequence[np.ndarray] | None = None,
) -> str:
    """Draw lines over the bands, from zero upwards, with a legend; return SVG text.

    Args:
        title: of the chart.
        x: C positions of the bands.
        lines: {name: C values}; NaN interrupts a line.
        labels: of the axes.
        runs: indices of bands that a line may join; None: all bands.
    """
    known = [values[np.isfinite(values)] for values in lines.values()]
    top = max((float(values.max()) for values in known if values.size), default=0) or 1.0
    axes = _Axes((float(x.min()), float(x.max())), (0.0, top))
    drawn = [
        {"name": name, "colour": COLOURS[k % len(COLOURS)], "dash": DASHES[k % len(DASHES)], "path": path}
        for k, (name, values) in enumerate(lines.items())
        for path in [axes.path(x, values, [np.arange(len(x))] if runs is None else runs)]
    ]
    return axes.render(title, labels, lines=drawn)


def draw_histogram(title: str, values: np.ndarray, marks: Mapping[str, float], labels: tuple[str, str]) -> str:
    """Draw a histogram of the finite values, in percent, with vertical lines at the marked ones; return SVG text.

    Args:
        title: of the chart.
        values: of any shape.
        marks: {label: value}.
        labels: of the axes.
    """
    values = values[np.isfinite(values)]
    ends = [*marks.values(), *([float(values.min()), float(values.max())] if values.size else [0.0])]
    low, high = min(0.0, *ends), max(ends)
    counts, edges = np.histogram(values, BINS, (low, high if high > low else low + 1))
    shares = 100 * counts / max(1, values.size)
    axes = _Axes((low, float(edges[-1]) + 0.02 * (edges[-1] - low)), (0.0, float(shares.max()) or 1.0))
    bars = [
        (axes.x(left), axes.y(share), axes.x(right) - axes.x(left), axes.y(0) - axes.y(share))
        for left, right, share in zip(edges, edges[1:], shares, strict=False)
        if share
    ]
    return axes.render(title, labels, bars=bars, marks={label: axes.x(value) for label, value in marks.items()})


class _Axes:
    """Two linear axes and their round ticks."""

    def __init__(self, x_range: tuple[float, float], y_range: tuple[float, float]) -> None:
        (self._left, right), (self._bottom, top) = x_range, y_range
        self._across, self._up = (right - self._left) or 1.0, 1.05 * (top - self._bottom) or 1.0

    def x(self, value: float) -> float:
        return round(LEFT + (value - self._left) / self._across * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - self._bottom) / self._up * (HEIGHT - TOP - BOTTOM), 1)

    def path(self, x: np.ndarray, y: np.ndarray, runs: Sequence[np.ndarray]) -> str:
        """Return SVG path data of a line, interrupted by NaN and between runs."""
        parts = []
        for run in runs:
            gaps = np.flatnonzero(~np.isfinite(y[run]))
            pieces = [piece[np.isfinite(y[piece])] for piece in np.split(np.asarray(run), gaps)]
            parts += ["M" + "L".join(f"{self.x(x[k])} {self.y(y[k])}" for k in piece) for piece in pieces if len(piece)]
        return "".join(parts)

    def render(self, title: str, labels: tuple[str, str], **shapes: Any) -> str:
        """Return the chart as SVG text."""
        x_ticks = {f"{v:g}": self.x(v) for v in round_ticks(self._left, self._left + self._across)}
        y_ticks = {f"{v:g}": self.y(v) for v in round_ticks(self._bottom, self._bottom + self._up)}
        shapes = {"lines": (), "bars": (), "marks": {}, **shapes}
        size = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM}
        template = TEMPLATES.get_template("chart.svg")
        return Markup(template.render(title=title, labels=labels, x_ticks=x_ticks, y_ticks=y_ticks, **size, **shapes))


def round_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Return about `count` multiples of 1, 2 or 5 times a power of ten within a range."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    return [round(k * step, 12) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
