"""Line charts as SVG text, small enough to stand in a page by the dozen."""

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pictures import split_spectral_runs

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 70, 12, 30, 46
# Told apart by colour and, after these are used up, by dashes too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e6a700", "#56b4e9", "#8b4513", "#6a3d9a")
DASHES = ("", "7 3", "2 3")


@dataclass(frozen=True)
class Style:
    """How a line is drawn: colour, SVG dash pattern, width in px."""

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


def style_of(k: int) -> Style:
    """The k-th of a row of styles that can be told apart."""
    return Style(COLOURS[k % len(COLOURS)], DASHES[k // len(COLOURS) % len(DASHES)])


def line_chart(title: str, lines: Sequence[Line], x_label: str, y_label: str, logarithmic: bool = False) -> str:
    """A chart with a title, both axes with their units, and no legend (see `legend`): SVG text."""
    lines = [line for line in lines if len(line.x)]
    x = np.concatenate([line.x for line in lines])
    y = np.concatenate([line.y for line in lines])
    y = y[np.isfinite(y) & ((y > 0) | (not logarithmic))]
    if not len(y):
        y = np.array([1.0])
    # Within less than a factor of 2 round numbers are too rare for a logarithmic axis.
    logarithmic = bool(logarithmic and y.max() > 2 * y.min())
    x_axis = _Axis(float(x.min()), float(x.max()), LEFT, WIDTH - RIGHT, 6, whole=not np.any(x % 1))
    y_axis = _Axis(float(y.min()), float(y.max()), HEIGHT - BOTTOM, TOP, 5, logarithmic, 0.04)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}">',
        f'<text class="title" x="{LEFT}" y="17">{html.escape(title)}</text>',
        *_grid(x_axis, y_axis),
        *_axes(x_label, y_label),
        *(_drawn(line, x_axis, y_axis) for line in lines),
        "</svg>",
    ]
    return "\n".join(parts)


def legend(styles: Mapping[str, Style]) -> str:
    """Names with a piece of their line, {name: Style}, as HTML that stands below charts."""
    entries = [
        f'<li><svg class="key" viewBox="0 0 28 10" aria-hidden="true"><path {_stroke(style)} d="M1 5H27"/></svg>'
        f"{html.escape(name)}</li>"
        for name, style in styles.items()
    ]
    return f'<ul class="legend">{"".join(entries)}</ul>'


class _Axis:
    """Maps values from low to high onto pixels from start to end; about so many ticks, whole numbers if asked."""

    def __init__(
        self,
        low: float,
        high: float,
        start: float,
        end: float,
        about: int,
        logarithmic: bool = False,
        margin: float = 0.0,
        whole: bool = False,
    ) -> None:
        self.start, self.end, self.about, self.logarithmic, self.whole = start, end, about, logarithmic, whole
        low, high = (math.log10(low), math.log10(high)) if logarithmic else (low, high)
        room = (high - low) * margin or (0 if high > low else max(abs(high) * 0.05, 0.05))
        self.low, self.high = low - room, high + room

    def __call__(self, value: float) -> float:
        value = np.log10(value) if self.logarithmic else value
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """(value, word) of each tick: round numbers; on a logarithmic axis 1, 2 and 5 times powers of ten."""
        return self._logarithmic_ticks() if self.logarithmic else self._even_ticks()

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


def _grid(x_axis: _Axis, y_axis: _Axis) -> Iterator[str]:
    """A line and a word at each tick."""
    for value, word in y_axis.ticks():
        at = y_axis(value)
        yield f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>'
        yield f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{word}</text>'
    for value, word in x_axis.ticks():
        at = x_axis(value)
        yield f'<path class="grid" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
        yield f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{word}</text>'


def _axes(x_label: str, y_label: str) -> Iterator[str]:
    """Both axes with their labels."""
    x, y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    yield f'<path class="axis" d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>'
    yield f'<text x="{x}" y="{HEIGHT - 8}" text-anchor="middle">{html.escape(x_label)}</text>'
    yield f'<text transform="translate(13 {y}) rotate(-90)" text-anchor="middle">{html.escape(y_label)}</text>'


def _drawn(line: Line, x_axis: _Axis, y_axis: _Axis) -> str:
    """A line as an SVG path with its name as tooltip; a lone point as a dot."""
    pieces: list[list[str]] = []
    for run in split_spectral_runs(line.x):
        pieces.append([])
        for x, y in zip(line.x[run], line.y[run], strict=True):
            if np.isfinite(y) and (y > 0 or not y_axis.logarithmic):
                pieces[-1].append(f"{x_axis(x):.1f} {y_axis(y):.1f}")
            else:
                pieces.append([])
    # A round cap makes a lone point visible.
    path = "".join(f"M{'L'.join(p if len(p) > 1 else p * 2)}" for p in pieces if p)
    return f'<path {_stroke(line.style)} d="{path}"><title>{html.escape(line.name)}</title></path>'


def _stroke(style: Style) -> str:
    dash = f' stroke-dasharray="{style.dash}"' if style.dash else ""
    return f'class="line" stroke="{style.colour}" stroke-width="{style.width}"{dash}'
