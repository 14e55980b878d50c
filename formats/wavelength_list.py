"""A text file of wavelengths as spreadsheets, editors and MATLAB write it."""

import codecs
import re
from pathlib import Path

import numpy as np

_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def numbers_in(text: str) -> list[float]:
    """The finite numbers that a text consists of, with commas, semicolons or blanks between; [] for anything else."""
    try:
        values = [float(word) for word in re.split(r"[\s,;]+", text.strip(" \t\r\n,;"))]
    except ValueError:
        return []
    return values if np.isfinite(values).all() else []


def read_wavelengths(path: Path, shortest: float) -> list[float]:
    """The wavelengths of a text file: all its numbers, or a column of its table.

    A heading is passed over, and so is a byte-order mark. In a table, the column is the one that the heading names;
    else the only one whose values are wavelengths, beside an index or between blanks, semicolons or tabs.

    Args:
        path: the file, in UTF-8 or UTF-16.
        shortest: smaller numbers are no wavelengths.

    Returns:
        The numbers; [] if the file contains anything else.
    """
    lines = [line for line in _text(path).replace('"', "").splitlines() if line.strip()]
    is_spreadsheet = any(mark in line for line in lines for mark in ";\t")
    if is_spreadsheet:
        # There, a comma between digits is a decimal mark.
        lines = [re.sub(r"(?<=\d),(?=\d)", ".", line) for line in lines]
    rows = [numbers_in(line) for line in lines]
    first = next((k for k, row in enumerate(rows) if row), len(rows))
    rows = rows[first:]
    if not all(rows):
        return []
    if len(rows) > 1 and len(rows[0]) > 1 and len({len(row) for row in rows}) == 1:
        table = np.array(rows)
        heading = re.split(r"[;,\t]" if re.search(r"[;,\t]", lines[first - 1]) else r"\s+", lines[first - 1].strip())
        has_commas = any("," in line for line in lines[first:])
        column = _column(table, heading if first else [], shortest, has_commas)
        if column is not None:
            return table[:, column].tolist()
    return [value for row in rows for value in row]


def _text(path: Path) -> str:
    content = path.read_bytes()
    encoding = _MARKS.get(content[:2], "utf-8-sig")
    if encoding != "utf-16" and b"\0" in content[:2]:
        encoding = "utf-16-be" if content[0] == 0 else "utf-16-le"
    return content.decode(encoding, errors="replace")


def _column(table: np.ndarray, heading: list[str], shortest: float, has_commas: bool) -> int | None:
    """The number of the column of wavelengths; None if the table is not one, or does not show it."""
    if len(heading) == table.shape[1]:
        pattern = r"wave|lambda|cent(er|re)|^\s*nm"
        named = [k for k, words in enumerate(heading) if re.search(pattern, words, re.IGNORECASE)]
        if len(named) == 1:
            return named[0]
    long = [int(k) for k in np.flatnonzero((table >= shortest).all(axis=0))]
    is_index = table[0, 0] in (0, 1) and bool((np.diff(table[:, 0]) == 1).all())
    # Without an index, "400,5" may be a decimal comma.
    return long[0] if len(long) == 1 and (is_index or not has_commas) else None
