"""Wavelengths of bands: among a file's arrays, in band names, and as users give them."""

import codecs
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from system.errors import DataError

WAVELENGTH_NAMES = ("wavelength", "wavelengths", "wl", "lambda", "bands")
# In nm; shorter waves are not light, or in another unit.
SHORTEST = 100
# Longer waves are not seen by these sensors: the unit is another.
LONGEST = 1e5
# Encodings by byte-order marks.
_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def convert_to_nm(values: Any, unit: str = "") -> np.ndarray | None:
    """Return wavelengths in nm, or None for other numbers; without a unit, values below 100 are micrometres."""
    values = np.asarray(values, dtype=np.float64)
    unit = unit.lower()
    if any(word in unit for word in ("wavenumber", "index", "hz", "cm")):
        return None
    is_micro = "micro" in unit or unit in ("um", "µm", "μm") or (not unit.startswith("n") and values.max() < 100)
    # Where the unit would make heat waves or longer of them, it is not the values'.
    if is_micro and values.max() * 1000 <= LONGEST:
        values = values * 1000
    return values if values.min() >= SHORTEST else None


def find_wavelengths(arrays: Mapping[str, Any], shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the wavelengths in nm, in any order, in a file's arrays under a usual name, or None."""
    by_name = {name.lower(): values for name, values in arrays.items()}
    for name in WAVELENGTH_NAMES:
        values = np.ravel(by_name[name]) if name in by_name else np.zeros(0)
        if values.size < 2 or values.size not in shape or values.dtype.kind not in "fiu":
            continue
        values = values.astype(float)
        # 1, 2, 3, ... count the bands.
        if np.isfinite(values).all() and not (values[0] in (0, 1) and (np.diff(values) == 1).all()):
            found = convert_to_nm(values)
            if found is not None:
                return found
    return None


def parse_band_names(names: Sequence[str | None]) -> np.ndarray | None:
    """Return wavelengths in nm from band names such as "Band 3 (450.5 nm)", or None."""
    found = [re.search(r"([\d.]+)\s*(nm|nanomet|um|µm|micromet)", name or "", re.IGNORECASE) for name in names]
    if not all(found):
        return None
    return np.array([float(m[1]) * (1 if m[2].lower().startswith("n") else 1000) for m in found if m])


def parse_wavelengths(text: str, bands: int | None = None) -> np.ndarray | None:
    """Band centres in nm as a user gives them.

    Args:
        text: "first,last" of evenly spaced bands; all of them, with commas between; or the path of a text file, see
            `read_wavelengths`.
        bands: number of bands; None to check the text only.

    Returns:
        As many as there are bands; None without their number.

    Raises:
        DataError: for a text that is none of these, and for another number of wavelengths.
    """
    values = _given_numbers(text)
    is_span = len(parse_numbers(text)) == 2
    found = np.array(values)
    if len(values) < 2 or found.min() < SHORTEST or (is_span and found[0] >= found[1]):
        raise DataError(
            text,
            "no two wavelengths of light",
            "give {wavelengths} as first,last in nm, such as 400,700, or all of them, or a file that holds them",
        )
    if bands is None:
        return None
    if is_span and bands != 2:
        return np.linspace(found[0], found[1], bands)
    if len(found) != bands:
        raise DataError(text, f"{len(found)} wavelengths for {bands} bands", "give one for each band by {wavelengths}")
    return found


def find_wavelengths_file(text: str) -> Path | None:
    """Return the file that contains a user's wavelengths; None if the text itself does."""
    # Path.is_file raises for a text that is too long for a name.
    return Path(path) if os.path.isfile(path := os.path.expanduser(text)) else None


def count_wavelengths(text: str) -> int:
    """Return the number of wavelengths that a user lists; 0 for none, or for the first and last only."""
    values = _given_numbers(text) if text else []
    return 0 if len(parse_numbers(text)) == 2 else len(values)


def _given_numbers(text: str) -> list[float]:
    """Return the numbers of a user's wavelengths, or of the file that contains them."""
    values = parse_numbers(text)
    path = None if values else find_wavelengths_file(text)
    return read_wavelengths(path) if path else values


def parse_numbers(text: str) -> list[float]:
    """Return the finite numbers of a text, with commas, semicolons or blanks between; [] for anything else."""
    try:
        values = [float(word) for word in re.split(r"[\s,;]+", text.strip(" \t\r\n,;"))]
    except ValueError:
        return []
    return values if np.isfinite(values).all() else []


def read_wavelengths(path: Path) -> list[float]:
    """Read the wavelengths of a text file, of a spreadsheet or an editor: all its numbers, or a column of its table.

    A heading is passed over, and so is a byte-order mark. In a table, the column is the one that the heading names;
    else the only one whose values are wavelengths, beside an index or between blanks, semicolons or tabs.

    Args:
        path: the file, in UTF-8 or UTF-16.

    Returns:
        The numbers; [] if the file contains anything else.
    """
    lines = [line for line in _text(path).replace('"', "").splitlines() if line.strip()]
    is_spreadsheet = any(mark in line for line in lines for mark in ";\t")
    if is_spreadsheet:
        # There, a comma between digits is a decimal mark.
        lines = [re.sub(r"(?<=\d),(?=\d)", ".", line) for line in lines]
    rows = [parse_numbers(line) for line in lines]
    first = next((k for k, row in enumerate(rows) if row), len(rows))
    rows = rows[first:]
    if not all(rows):
        return []
    if len(rows) > 1 and len(rows[0]) > 1 and len({len(row) for row in rows}) == 1:
        table = np.array(rows)
        heading = re.split(r"[;,\t]" if re.search(r"[;,\t]", lines[first - 1]) else r"\s+", lines[first - 1].strip())
        has_commas = any("," in line for line in lines[first:])
        column = _column(table, heading if first else [], has_commas)
        if column is not None:
            return table[:, column].tolist()
    return [value for row in rows for value in row]


def _text(path: Path) -> str:
    content = path.read_bytes()
    encoding = _MARKS.get(content[:2], "utf-8-sig")
    if encoding != "utf-16" and b"\0" in content[:2]:
        encoding = "utf-16-be" if content[0] == 0 else "utf-16-le"
    return content.decode(encoding, errors="replace")


def _column(table: np.ndarray, heading: list[str], has_commas: bool) -> int | None:
    """The number of the column of wavelengths; None if the table is not one, or does not show it."""
    if len(heading) == table.shape[1]:
        pattern = r"wave|lambda|cent(er|re)|^\s*nm"
        named = [k for k, words in enumerate(heading) if re.search(pattern, words, re.IGNORECASE)]
        if len(named) == 1:
            return named[0]
    long = [int(k) for k in np.flatnonzero((table >= SHORTEST).all(axis=0))]
    is_index = table[0, 0] in (0, 1) and bool((np.diff(table[:, 0]) == 1).all())
    # Without an index, "400,5" may be a decimal comma.
    return long[0] if len(long) == 1 and (is_index or not has_commas) else None
