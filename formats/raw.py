"""A cube as bare values in a file, written and read by windows in any order."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# Order of rows, columns and bands in the file.
AXES = {"bip": (0, 1, 2), "bil": (0, 2, 1), "bsq": (2, 0, 1)}


class RawWindows:
    """rows x columns x bands values of one type in a file, read by windows.

    No memory map: it ends the process if the file is truncated meanwhile.

    Args:
        file: a path, or an open file.
        shape: (rows, columns, bands).
        dtype: of the values, in the file's byte order.
        interleave: bip, bil or bsq.
        offset: bytes before the first value.
    """

    def __init__(
        self,
        file: Path | io.BufferedRandom,
        shape: tuple[int, ...],
        dtype: np.dtype | str,
        interleave: str = "bip",
        offset: int = 0,
    ) -> None:
        self._file = open(file, "rb") if isinstance(file, Path) else file
        self.shape, self.dtype, self.interleave, self._offset = tuple(shape), np.dtype(dtype), interleave, offset

    def _iterate_runs(self, rows: slice, cols: slice) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yield (position in bytes, index in the stored window) of each run of consecutive values of a window."""
        spans = [rows.indices(self.shape[0])[:2], cols.indices(self.shape[1])[:2], (0, self.shape[2])]
        axes = AXES[self.interleave]
        _, middle, inner = (self.shape[k] for k in axes)
        outer_span, middle_span, inner_span = (spans[k] for k in axes)
        is_whole = inner_span == (0, inner)
        for a, outer in enumerate(range(*outer_span)):
            for b, line in enumerate(range(*middle_span)[:1] if is_whole else range(*middle_span)):
                first = (outer * middle + line) * inner + inner_span[0]
                yield self._offset + first * self.dtype.itemsize, (a,) if is_whole else (a, b)

    def read(self, rows: slice, cols: slice) -> np.ndarray:
        """Return a window, h x w x C.

        Raises:
            EOFError: if the file is too short.
        """
        axes = AXES[self.interleave]
        sides = (len(range(*rows.indices(self.shape[0]))), len(range(*cols.indices(self.shape[1]))), self.shape[2])
        values = np.empty([sides[k] for k in axes], self.dtype)
        for position, place in self._iterate_runs(rows, cols):
            self._file.seek(position)
            run = values[place].view(np.uint8)
            if self._file.readinto(run) < run.nbytes:
                raise EOFError("the file has become shorter")
        return values.transpose(np.argsort(axes))


class RawCube(RawWindows):
    """rows x columns x bands values of one type in a file that contains nothing else, written by windows.

    No memory map: it ends the process on a full disk.

    Args:
        path: the file; created if it does not exist, else continued.
        shape, dtype: of the cube; the type's byte order is the file's.
        interleave: bip, bil or bsq.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype | str, interleave: str = "bip") -> None:
        self.path = path
        super().__init__(open(path, "r+b" if path.exists() else "w+b"), shape, dtype, interleave)
        self._file.truncate(int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize)

    def write(self, top: int, left: int, values: np.ndarray) -> None:
        """Write an h x w x C window at its place."""
        window = slice(top, top + values.shape[0]), slice(left, left + values.shape[1])
        stored = np.ascontiguousarray(values.transpose(AXES[self.interleave]), dtype=self.dtype)
        for position, place in self._iterate_runs(*window):
            self._file.seek(position)
            self._file.write(stored[place])

    def flush(self) -> None:
        """Pass all values to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def abandon(self) -> None:
        """Close after an error, ignoring values that cannot be written."""
        with contextlib.suppress(OSError):
            self._file.close()

    @property
    def cube(self) -> np.ndarray:
        """The values as a rows x columns x bands array that stays on disk."""
        self.flush()
        axes = AXES[self.interleave]
        mapped = np.memmap(self.path, self.dtype, mode="r", shape=tuple(self.shape[k] for k in axes))
        return mapped.transpose(np.argsort(axes))
