"""The inside of a v5 .mat file, looked at before scipy reads it: there, a wrong tag ends the process without a word."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from system.errors import DataError
from system.machine import get_free_memory

# Bytes of a value of each of the file's storage types: 8- to 64-bit integers, single, double, and UTF-8, -16, -32.
SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, 16: 1, 17: 2, 18: 4}
MATRIX, COMPRESSED = 14, 15
INT32, UINT32, NAMES = 5, 6, (1, 2, 16)
CELL, STRUCT, OBJECT, CHARS, SPARSE, NUMBERS = 1, 2, 3, 4, 5, range(6, 16)
# Structs in structs, deeper than any person makes them.
DEEPEST = 50


class _Broken(ValueError):
    """Says what is wrong."""


def check_structure(path: Path) -> None:
    """Walk the arrays of a v5 .mat file.

    Raises:
        DataError: where a tag, a size or a type contradicts another.
    """
    content = memoryview(path.read_bytes())
    if len(content) < 128 or bytes(content[126:128]) not in (b"IM", b"MI"):
        return
    order = "<" if bytes(content[126:128]) == b"IM" else ">"
    try:
        for kind, data in _elements(content[128:], order):
            if kind == COMPRESSED:
                for inner, unpacked in _elements(memoryview(_unpacked(data, order, path)), order):
                    _check_matrix(inner, unpacked, order, 0)
            else:
                _check_matrix(kind, data, order, 0)
    except (_Broken, zlib.error, struct.error) as error:
        raise DataError(path, f"cannot be read as a .mat file ({error})", "copy or export it again") from error


def _unpacked(data: memoryview, order: str, path: Path) -> bytes:
    """A compressed element: as many bytes as its tag, which comes first, says, and no more."""
    unpacking = zlib.decompressobj()
    tag = unpacking.decompress(data, 8)
    size = struct.unpack_from(order + "I", tag, 4)[0] if len(tag) == 8 else 0
    if (free := get_free_memory()) and size > free / 2:
        what = f"an array of {size / 1e9:.1f} GB, more than half of the free memory"
        raise DataError(path, what, "close other programs, or save it as v7.3, which is read by windows")
    return tag + unpacking.decompress(unpacking.unconsumed_tail, size + 8)


def _elements(content: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """(type, bytes) of the elements that follow each other."""
    position = 0
    while position + 8 <= len(content):
        word, size = struct.unpack_from(order + "II", content, position)
        if word >> 16:
            # A small element: its size in the upper half of the type, its bytes in place of the size.
            kind, size = word & 0xFFFF, word >> 16
            if size > 4:
                raise _Broken(f"a small element of {size} bytes")
            yield kind, content[position + 4 : position + 4 + size]
            position += 8
            continue
        if position + 8 + size > len(content):
            raise _Broken(f"an element of {size} bytes where {len(content) - position - 8} are left")
        yield word, content[position + 8 : position + 8 + size]
        # Compressed elements are not filled up to a multiple of 8 bytes.
        position += 8 + (size if word == COMPRESSED else -(-size // 8) * 8)


def _check_matrix(kind: int, data: memoryview, order: str, depth: int) -> None:
    if kind != MATRIX:
        raise _Broken(f"an element of type {kind} where an array is needed")
    if not len(data):
        # An empty cell.
        return
    if depth > DEEPEST:
        raise _Broken("structs in structs without an end")
    parts = list(_elements(data, order))
    if len(parts) < 3 or parts[0][0] != UINT32 or len(parts[0][1]) != 8:
        raise _Broken("an array without its flags")
    flags, nonzero = struct.unpack(order + "II", parts[0][1])
    array_class, is_complex = flags & 0xFF, bool(flags & 0x800)
    if array_class not in (CELL, STRUCT, OBJECT, CHARS, SPARSE, *NUMBERS):
        # Functions and objects, which are passed over by their size.
        return
    if parts[1][0] != INT32 or len(parts[1][1]) < 8 or len(parts[1][1]) % 4:
        raise _Broken("an array without its dimensions")
    count = 1
    for side in struct.unpack(f"{order}{len(parts[1][1]) // 4}i", parts[1][1]):
        if side < 0:
            raise _Broken(f"a dimension of {side}")
        count *= side
    if parts[2][0] not in NAMES:
        raise _Broken("an array without its name")
    rest = parts[3:]
    if array_class in NUMBERS or array_class == CHARS:
        _check_numbers(rest, count, 2 if is_complex else 1, array_class == CHARS)
    elif array_class == SPARSE:
        _check_sparse(rest, nonzero, 2 if is_complex else 1)
    elif array_class == CELL:
        _check_arrays(rest, count, order, depth)
    else:
        _check_fields(rest[1:] if array_class == OBJECT else rest, count, order, depth)


def _check_numbers(parts: Sequence[tuple[int, memoryview]], count: int, pieces: int, is_text: bool) -> None:
    """As many values as the dimensions say, of a type that there is; UTF-8 has no fixed number of bytes."""
    if len(parts) < pieces and (count or pieces > 1):
        raise _Broken("an array without its values")
    for kind, data in parts[:pieces]:
        if kind not in SIZES:
            raise _Broken(f"values of the unknown type {kind}")
        if len(data) != count * SIZES[kind] and not is_text:
            raise _Broken(f"{len(data)} bytes where {count * SIZES[kind]} are needed")


def _check_sparse(parts: Sequence[tuple[int, memoryview]], nonzero: int, pieces: int) -> None:
    if len(parts) < 2 + pieces:
        raise _Broken("a sparse matrix without its values")
    for kind, data in parts:
        if kind not in SIZES or len(data) % SIZES[kind]:
            raise _Broken("a sparse matrix of another form")
    if parts and len(parts[0][1]) < 4 * min(nonzero, 1):
        raise _Broken("a sparse matrix without its places")


def _check_arrays(parts: Sequence[tuple[int, memoryview]], count: int, order: str, depth: int) -> None:
    if len(parts) != count:
        raise _Broken(f"{len(parts)} cells where {count} are needed")
    for kind, data in parts:
        _check_matrix(kind, data, order, depth + 1)


def _check_fields(parts: Sequence[tuple[int, memoryview]], count: int, order: str, depth: int) -> None:
    if len(parts) < 2 or parts[0][0] != INT32 or len(parts[0][1]) != 4 or parts[1][0] not in NAMES:
        raise _Broken("a struct without its fields")
    (length,) = struct.unpack(order + "i", parts[0][1])
    if length <= 0 or len(parts[1][1]) % length:
        raise _Broken(f"field names of {length} bytes")
    _check_arrays(parts[2:], count * (len(parts[1][1]) // length), order, depth)
