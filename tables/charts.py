"""Geometry of line charts; templates/chart.svg draws them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pictures import split_spectral_runs

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 70, 12, 30, 46
# Lines differ in colour and, after these are used up, in dashes too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e6a700", "#56b4e9", "#8b4513", "#6a3d9a")
DASHES = ("", "7 3", "2 3")


@dataclass(frozen=True)
class Style:
    """Colour, SVG dash pattern and width in px of a line."""

    colour: str
    dash: str = ""
    width: float = 1.6


@dataclass(frozen=True)
class Line:
    """One line of a chart: its name, its Style, and its points; a y that is not finite is a gap."""

    name: str
    style: Style
    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Chart:
    """A chart in px: ticks as [(position, word)], paths as [(line, SVG path data)].

    y_axis contains the values (logarithms if the axis is logarithmic) at its bottom and top.
    """

    title: str
    x_label: str
    y_label: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    paths: list[tuple[Line, str]]
    y_axis: tuple[float, float]
    is_logarithmic: bool


@dataclass(frozen=True)
class Figure:
    """Charts over one legend, {name: Style}, and a caption."""

    charts: Sequence[Chart]
    styles: Mapping[str, Style]
    caption: str
    title: str = ""


def numbered_style(k: int) -> Style:
    """Return the k-th of a series of distinguishable styles."""
    return Style(COLOURS[k % len(COLOURS)], DASHES[k // len(COLOURS) % len(DASHES)])


def line_chart(
    title: str, lines: Sequence[Line], x_label: str, y_label: str, logarithmic: bool = False, is_scatter: bool = False
) -> Chart:
    """Return a Chart whose axes span all lines.

    Args:
        title: of the chart.
        lines: drawn in this order; a line of one point is a dot.
        x_label, y_label: of the axes.
        logarithmic: y axis logarithmic if y spans more than a factor of 2.
        is_scatter: x axis with margins, and logarithmic if x spans more than a factor of 2.
    """
    lines = [line for line in lines if len(line.x)]
    x = np.concatenate([line.x for line in lines])
    y = np.concatenate([line.y for line in lines])
    y = y[np.isfinite(y) & ((y > 0) | (not logarithmic))]
    if not len(y):
        y = np.array([1.0])
    # Within less than a factor of 2 round numbers are too rare for a logarithmic axis.
    logarithmic = bool(logarithmic and y.max() > 2 * y.min())
    ends, is_far = (float(x.min()), float(x.max())), bool(is_scatter and x.max() > 2 * x.min() > 0)
    whole = not is_scatter and not np.any(x % 1)
    x_axis = _Axis(*ends, LEFT, WIDTH - RIGHT, 6, is_far, 0.06 if is_scatter else 0.0, whole)
    y_axis = _Axis(float(y.min()), float(y.max()), HEIGHT - BOTTOM, TOP, 5, logarithmic, 0.04)
    paths = [(line, _path(line, x_axis, y_axis)) for line in lines]
    ticks = list(x_axis.ticks()), list(y_axis.ticks())
    return Chart(title, x_label, y_label, *ticks, paths, (y_axis.low, y_axis.high), logarithmic)


@dataclass
class _Axis:
    """Maps values from low to high to pixels from start to end, with about so many ticks."""

    low: float
    high: float
    start: float
    end: float
    about: int
    logarithmic: bool = False
    margin: float = 0.0
    whole: bool = False

    def __post_init__(self) -> None:
        if self.logarithmic:
            self.low, self.high = math.log10(self.low), math.log10(self.high)
        length = self.high - self.low
        free = length * self.margin or (0 if length > 0 else max(abs(self.high) * 0.05, 0.05))
        self.low, self.high = self.low - free, self.high + free

    def __call__(self, value: float) -> float:
        value = math.log10(value) if self.logarithmic else value
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Yield (position, word) of round numbers; on a logarithmic axis of 1, 2 and 5 times powers of ten."""
        for value, word in self._logarithmic_ticks() if self.logarithmic else self._even_ticks():
            yield round(self(value), 1), word

    def _logarithmic_ticks(self) -> list[tuple[float, str]]:
        decades = self.high - self.low
        factors: tuple[float, ...] = (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
        if decades > 0.5:
            factors = (1,) if decades > 3 else (1, 2, 5)
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        values = [f * 10.0**p for p in powers for f in factors]
        return [(v, f"{v:g}") for v in values if self.low <= math.log10(v) <= self.high]

    def _even_ticks(self) -> list[tuple[float, str]]:
        rough = (self.high - self.low) / self.about
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= rough * 0.999)
        step = math.ceil(step) if self.whole else step
        numbers = range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)
        digits = max(0, -math.floor(math.log10(step) + 1e-9) + (f"{step:.1e}"[2] != "0"))
        return [(n * step, f"{n * step:.{digits}f}") for n in numbers]


def _path(line: Line, x_axis: _Axis, y_axis: _Axis) -> str:
    """Return SVG path data of a line; a lone point appears twice, so that round caps draw it as a dot."""
    pieces: list[list[str]] = []
    for run in split_spectral_runs(line.x):
        pieces.append([])
        for x, y in zip(line.x[run], line.y[run], strict=True):
            if np.isfinite(y) and (y > 0 or not y_axis.logarithmic):
                # Digits for page.js, which stretches the axis if rows are hidden.
                pieces[-1].append(f"{x_axis(x):.1f} {y_axis(y):.3f}")
            else:
                pieces.append([])
    return "".join(f"M{'L'.join(p if len(p) > 1 else p * 2)}" for p in pieces if p)
