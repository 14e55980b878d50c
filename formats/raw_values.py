"""A cube as bare values in a file, written and read by windows in any order."""

import contextlib
import io
from pathlib import Path

import numpy as np

# How rows, columns and bands follow each other in the file.
AXES = {"bip": (0, 1, 2), "bil": (0, 2, 1), "bsq": (2, 0, 1)}


class RawCube:
    """rows x columns x bands values of one type, nothing else, in a file of their own.

    Written plainly and not through a memory map: on a full disk a map ends the process without a word.

    Args:
        path: the file; made if it is not there, gone on with if it is.
        shape, dtype: of the cube; the type's byte order is the file's.
        interleave: bip, bil or bsq.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int], dtype: np.dtype, interleave: str = "bip") -> None:
        self.path, self.shape, self.dtype, self.interleave = path, tuple(shape), np.dtype(dtype), interleave
        self._file = open(path, "r+b" if path.exists() else "w+b")
        self._file.truncate(int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize)

    def write(self, top: int, left: int, values: np.ndarray) -> None:
        """Put an h x w x C window at its place."""
        width, bands = self.shape[1:]
        values = np.ascontiguousarray(values.transpose(AXES[self.interleave]), dtype=self.dtype)
        # As outer x inner runs of values that follow each other in the file.
        if self.interleave == "bip":
            values = values.reshape(len(values), 1, -1)
            inner, row_length, offset, starts = 1, width * bands, left * bands, (top, 0)
        elif self.interleave == "bil":
            inner, row_length, offset, starts = bands, width, left, (top, 0)
        else:
            inner, row_length, offset, starts = self.shape[0], width, left, (0, top)
        whole_rows = values.shape[2] == row_length
        for outer, runs in enumerate(values, start=starts[0]):
            for k, run in [(0, runs)] if whole_rows else enumerate(runs):
                position = ((outer * inner + starts[1] + k) * row_length + offset) * self.dtype.itemsize
                self._file.seek(position)
                self._file.write(run)

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def abandon(self) -> None:
        """Close after an error; what could not be written is lost."""
        with contextlib.suppress(OSError):
            self._file.close()

    @property
    def cube(self) -> np.ndarray:
        """The values as a rows x columns x bands array that stays on disk."""
        self.flush()
        axes = AXES[self.interleave]
        mapped = np.memmap(self.path, self.dtype, mode="r", shape=tuple(self.shape[k] for k in axes))
        return mapped.transpose(np.argsort(axes))


class RawWindows:
    """rows x columns x bands values of one type that lie in a file, read by windows.

    Read plainly and not through a memory map: where the file is cut off meanwhile, a map ends the process without a
    word.

    Args:
        path: the file, which is opened now, or an open one.
        shape: (rows, columns, bands).
        dtype: of the values, in the file's byte order.
        interleave: bip, bil or bsq.
        offset: bytes before the first value.
    """

    def __init__(
        self,
        path: Path | io.BufferedRandom,
        shape: tuple[int, ...],
        dtype: np.dtype,
        interleave: str = "bip",
        offset: int = 0,
    ) -> None:
        self._file = open(path, "rb", buffering=0) if isinstance(path, Path) else path
        self._shape, self._dtype, self._interleave, self._offset = shape, np.dtype(dtype), interleave, offset

    def read(self, rows: slice, cols: slice) -> np.ndarray:
        """A window, h x w x C.

        Raises:
            EOFError: where the file ends before it.
        """
        height, width, bands = self._shape
        (top, bottom, _), (left, right, _) = rows.indices(height), cols.indices(width)
        lines = max(0, bottom - top)
        if self._interleave == "bsq":
            image = np.empty((bands, lines, max(0, right - left)), self._dtype)
            for band in range(bands):
                first = (band * height + top) * width
                image[band] = self._values(first, lines * width).reshape(lines, width)[:, left:right]
            return image.transpose(1, 2, 0)
        values = self._values(top * width * bands, lines * width * bands)
        if self._interleave == "bil":
            return values.reshape(lines, bands, width).transpose(0, 2, 1)[:, left:right]
        return values.reshape(lines, width, bands)[:, left:right]

    def _values(self, first: int, count: int) -> np.ndarray:
        size, start = self._dtype.itemsize, self._offset + first * self._dtype.itemsize
        content = bytearray(count * size)
        view, done = memoryview(content), 0
        self._file.seek(start)
        while done < len(content):
            got = self._file.readinto(view[done : done + 2**30])
            if not got:
                raise EOFError("the file has become shorter")
            done += got
        return np.frombuffer(content, self._dtype)
