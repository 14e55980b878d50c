"""The text of an ENVI header, as people's programs write it: read leniently, written plainly."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from system.errors import DataError

Header = dict[str, str | list[str]]

# A header longer than this is none.
LARGEST = 2**26
_FIELD = re.compile(r"\s*([^={}]+?)\s*=\s*(.*)")
_WIDTH = 120


def is_header(start: bytes) -> bool:
    """Whether a file that begins so is an ENVI header, with or without a byte-order mark of its text."""
    return start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"ENVI")


def read(path: Path) -> Header:
    """The fields of a header, their names in small letters; what stands in braces as a list of its entries.

    Raises:
        DataError: for a file that is no ENVI header.
    """
    content = path.read_bytes() if path.stat().st_size < LARGEST else b""
    if not is_header(content):
        raise DataError(path, "no ENVI header", "give the header of an ENVI file, whose first line is ENVI")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return parsed(text)


def parsed(text: str) -> Header:
    """The fields of a header's text, see `read`."""
    lines = iter(text.splitlines()[1:])
    fields: Header = {}
    for line in lines:
        if line.lstrip().startswith(";") or not (match := _FIELD.match(line)):
            continue
        name, value = match[1].lower(), match[2].strip()
        if value.startswith("{"):
            kept = [value]
            rest = []
            while "}" not in kept[-1] and (following := next(lines, None)) is not None:
                kept.append(following)
            if "}" not in kept[-1]:
                # A brace that is never closed ends with its line, and what follows are fields.
                kept, rest = kept[:1], kept[1:]
            inside = "\n".join(kept).partition("{")[2].rpartition("}")[0] if "}" in kept[-1] else kept[0][1:]
            fields[name] = [inside.strip()] if name == "description" else _entries(inside)
            fields |= parsed("\n".join(["", *rest])) if rest else {}
        else:
            fields[name] = value
    return fields


def _entries(text: str) -> list[str]:
    """The entries between braces; a comma after the last one adds none."""
    separator = "," if "," in text else ";"
    entries = [" ".join(entry.split()) for entry in text.split(separator)]
    return entries[:-1] if entries[-1] == "" else entries


def write(path: Path, fields: Mapping[str, str | int | Sequence[str]]) -> None:
    """Write a header."""
    lines = ["ENVI"]
    for name, value in fields.items():
        if isinstance(value, str | int):
            lines.append(f"{name} = {value}")
        else:
            lines.append(f"{name} = {{{_wrapped([str(entry) for entry in value])}}}")
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def _wrapped(entries: Sequence[str]) -> str:
    """Entries with commas between, in lines of a readable length."""
    lines, current = [], ""
    for entry in entries:
        if current and len(current) + len(entry) > _WIDTH:
            lines.append(current)
            current = ""
        current += (", " if current else "") + entry
    return ",\n ".join([*lines, current])
