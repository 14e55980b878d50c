"""Pieces of the page, as HTML text: tables, figures, pictures."""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import Image

from tables import charts
from tables.charts import Line, Style
from tables.rows import Row

REDUCED_MARK = ' <span class="mark">reduced</span>'


def escaped(value: object) -> str:
    """A value as text of the page."""
    return html.escape(str(value))


def table(head: Iterable[str], lines: Iterable[str]) -> str:
    """A table that scrolls where the window is narrow: headings as text, lines as HTML (see `line`)."""
    headings = "".join(f'<th scope="col">{escaped(h)}</th>' for h in head)
    return f'<div class="scroll"><table><thead><tr>{headings}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def line(name: str, cells: Iterable[str], css_class: str = "") -> str:
    """A line of a table; its name and cells are HTML already."""
    kind = f' class="{css_class}"' if css_class else ""
    return f'<tr{kind}><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def listed(items: Iterable[str]) -> str:
    """Items, HTML already, as a list."""
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def small(cell: str) -> str:
    """A cell, plain text, with its spread, or what is in brackets, in small letters below."""
    main, sign, rest = escaped(cell).partition(" ± ")
    if sign:
        return f"{main}<small>±&nbsp;{rest}</small>"
    main, bracket, rest = main.partition(" (")
    return f"{main}<small>{rest.removesuffix(')')}</small>" if bracket else main


def figure(drawn: Sequence[str], styles: Mapping[str, Style], title: str, caption: str) -> str:
    """Charts over their legend and a caption; title and caption are HTML already."""
    heading = f"<h3>{title}</h3>" if title else ""
    return (
        f"<figure>{heading}<div class='charts'>{''.join(drawn)}</div>{charts.legend(styles)}"
        f"<figcaption>{caption}</figcaption></figure>"
    )


def picture(pixels: np.ndarray, description: str) -> str:
    """H x W x 3 uint8 as a picture within the page."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG", optimize=True)
    return embedded(content.getvalue(), description)


def embedded(png: bytes, description: str, css_class: str = "") -> str:
    """A PNG file's content as a picture within the page."""
    data = base64.b64encode(png).decode()
    kind = f' class="{css_class}"' if css_class else ""
    return f'<img{kind} src="data:image/png;base64,{data}" alt="{escaped(description)}">'


def lines_of(curves: Mapping[str, np.ndarray], x: np.ndarray, styles: Mapping[str, Style]) -> list[Line]:
    """Curves over the same x, each in the style of its name."""
    return [Line(label, styles[label], x, np.asarray(y)) for label, y in curves.items()]


def spectral_axis(wavelengths: Sequence[float] | np.ndarray | None, count: int) -> tuple[np.ndarray, str]:
    """(x, label) of so many bands: wavelengths where they are known, else numbers from 1."""
    if wavelengths is not None and len(wavelengths) == count:
        return np.asarray(wavelengths), "wavelength (nm)"
    return np.arange(1, count + 1), "band"


def reduced_words(rows: Iterable[Row]) -> str:
    """Which rows are reduced, to stand in a caption."""
    rows = list(rows)
    labels = [row.label for row in rows if row.is_reduced]
    if not labels:
        return ""
    return f"; reduced: {escaped('; '.join(labels))}" if len(labels) < len(rows) else "; all rows reduced"
