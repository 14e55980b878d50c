"""Wavelengths of bands: in a file's arrays, in band names, and as given by users."""

import codecs
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from system.errors import DataError

WAVELENGTH_NAMES = ("wavelength", "wavelengths", "wl", "lambda", "bands")
# Limits of optical wavelengths in nm; other values are in another unit.
SHORTEST = 100
LONGEST = 1e5


# Parts of the units of other quantities than wavelengths.
OTHER_UNITS = ("wavenumber", "index", "hz", "cm")


def are_micrometres(values: Any, unit: str = "") -> bool:
    """Return True if wavelengths, of any number, are in micrometres by their unit; without one, if below 100."""
    unit, highest = unit.lower(), np.max(values, initial=0)
    if any(word in unit for word in OTHER_UNITS):
        return False
    is_micro = "micro" in unit or unit in ("um", "µm", "μm") or (not unit.startswith("n") and 0 < highest < 100)
    # Values that would exceed LONGEST are not in the unit that the file declares.
    return bool(is_micro and highest * 1000 <= LONGEST)


def convert_to_nm(values: Any, unit: str = "") -> np.ndarray | None:
    """Return wavelengths in nm, or None for other numbers; see `are_micrometres`."""
    if any(word in unit.lower() for word in OTHER_UNITS):
        return None
    values = np.asarray(values, dtype=np.float64) * (1000 if are_micrometres(values, unit) else 1)
    return values if values.min() >= SHORTEST else None


def find_wavelengths(arrays: Mapping[str, Any], shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the wavelengths in nm, in any order, in a file's arrays under a usual name, or None."""
    by_name = {name.lower(): np.ravel(values) for name, values in arrays.items() if name.lower() in WAVELENGTH_NAMES}
    for values in (by_name[name] for name in WAVELENGTH_NAMES if name in by_name):
        if values.size < 2 or values.size not in shape or values.dtype.kind not in "fiu":
            continue
        values = values.astype(float)
        # 1, 2, 3, ... are band numbers.
        is_index = values[0] in (0, 1) and (np.diff(values) == 1).all()
        if np.isfinite(values).all() and not is_index and (found := convert_to_nm(values)) is not None:
            return found
    return None


def parse_band_names(names: Sequence[str | None]) -> np.ndarray | None:
    """Return wavelengths in nm from band names such as "Band 3 (450.5 nm)", or None."""
    found = [re.search(r"([\d.]+)\s*(nm|nanomet|um|µm|micromet)", name or "", re.IGNORECASE) for name in names]
    if not all(found):
        return None
    return np.array([float(m[1]) * (1 if m[2].lower().startswith("n") else 1000) for m in found if m])


def parse_wavelengths(text: str, bands: int | None = None) -> np.ndarray | None:
    """Parse a user's band centres in nm.

    Args:
        text: "first,last" of evenly spaced bands; all of them, separated by commas; or the path of a text file, see
            `read_wavelengths`.
        bands: number of bands; None to check the text only.

    Returns:
        One wavelength a band; None without the number of bands.

    Raises:
        DataError: for any other text, and for another number of wavelengths.
    """
    values = np.array(_read_numbers(text))
    is_span = len(parse_numbers(text)) == 2
    if len(values) < 2 or values.min() < SHORTEST or (is_span and values[0] >= values[1]):
        remedy = "give {wavelengths} as first,last in nm, such as 400,700, or all of them, or a file that contains them"
        raise DataError(text, "no two wavelengths of light", remedy)
    if bands is None:
        return None
    if is_span and bands != 2:
        return np.linspace(values[0], values[1], bands)
    if len(values) != bands:
        place = find_wavelengths_file(text) or f"{values[0]:g},...,{values[-1]:g}"
        raise DataError(
            place, f"{len(values)} wavelengths for {bands} bands", "give one for each band by {wavelengths}"
        )
    return values


def find_wavelengths_file(text: str) -> Path | None:
    """Return the file that contains a user's wavelengths; None if the text itself does."""
    # Path.is_file raises for a text that is too long for a name.
    return Path(path) if os.path.isfile(path := os.path.expanduser(text)) else None


def count_wavelengths(text: str) -> int:
    """Return the number of wavelengths that a user lists; 0 for none, or for the first and last only."""
    return len(_read_numbers(text)) if text and len(parse_numbers(text)) != 2 else 0


def _read_numbers(text: str) -> list[float]:
    """Return the numbers of a user's wavelengths, or of the file that contains them."""
    values = parse_numbers(text)
    path = None if values else find_wavelengths_file(text)
    return read_wavelengths(path) if path else values


def parse_numbers(text: str) -> list[float]:
    """Return the finite numbers of a text, separated by commas, semicolons or blanks; [] for anything else."""
    try:
        values = [float(word) for word in re.split(r"[\s,;]+", text.strip(" \t\r\n,;"))]
    except ValueError:
        return []
    return values if np.isfinite(values).all() else []


def read_wavelengths(path: Path) -> list[float]:
    """Read the wavelengths of a text file: all its numbers, or a column of its table.

    A heading and a byte-order mark are skipped. In a table, the column is the one named in the heading; else the only
    one whose values are wavelengths, beside an index or separated by blanks, semicolons or tabs.

    Args:
        path: the file, in UTF-8 or UTF-16.

    Returns:
        The numbers; [] if the file contains anything else.
    """
    lines = [line for line in _decode(path.read_bytes()).replace('"', "").splitlines() if line.strip()]
    if any(separator in line for line in lines for separator in ";\t"):
        # A comma between digits is a decimal comma.
        lines = [re.sub(r"(?<=\d),(?=\d)", ".", line) for line in lines]
    rows = [parse_numbers(line) for line in lines]
    first = next((k for k, row in enumerate(rows) if row), len(rows))
    rows = rows[first:]
    if not all(rows):
        return []
    if len(rows) > 1 and len(rows[0]) > 1 and len({len(row) for row in rows}) == 1:
        table, title = np.array(rows), lines[first - 1].strip() if first else ""
        heading = re.split(r"[;,\t]" if re.search(r"[;,\t]", title) else r"\s+", title)
        column = _find_column(table, heading, has_commas=any("," in line for line in lines[first:]))
        if column is not None:
            return table[:, column].tolist()
    return [value for row in rows for value in row]


def _decode(content: bytes) -> str:
    if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return content.decode("utf-16", errors="replace")
    if b"\0" in content[:2]:
        return content.decode("utf-16-be" if content[0] == 0 else "utf-16-le", errors="replace")
    return content.decode("utf-8-sig", errors="replace")


def _find_column(table: np.ndarray, heading: list[str], has_commas: bool) -> int | None:
    """Return the number of the column of wavelengths; None if it is ambiguous."""
    if len(heading) == table.shape[1]:
        pattern = r"wave|lambda|cent(er|re)|^\s*nm"
        named = [k for k, words in enumerate(heading) if re.search(pattern, words, re.IGNORECASE)]
        if len(named) == 1:
            return named[0]
    long = [int(k) for k in np.flatnonzero((table >= SHORTEST).all(axis=0))]
    is_index = table[0, 0] in (0, 1) and bool((np.diff(table[:, 0]) == 1).all())
    # Without an index, "400,5" may contain a decimal comma.
    return long[0] if len(long) == 1 and (is_index or not has_commas) else None
