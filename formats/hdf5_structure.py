"""Opening HDF5 files: locks of other programs, and structures that crash or hang the HDF5 library."""

import contextlib
import functools
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5t

from formats.guard import Progress, call_guarded
from system.errors import DataError

# Arrays of at most so many bytes are read whole; of larger ones the index of the chunks and two values are read.
SMALL = 2**20
# Groups in groups, deeper than programs nest them.
DEEPEST = 100
# Types of texts of variable length in memory, by their character set.
_TEXT = h5py.string_dtype("utf-8")
_TEXTS = {
    h5t.CSET_ASCII: h5t.py_create(h5py.string_dtype("ascii")),
    h5t.CSET_UTF8: h5t.py_create(_TEXT),
}


def open_hdf5(path: str | Path, mode: str = "r", **options: Any) -> h5py.File:
    """Open an HDF5 file as h5py.File does, also on a file system that has no locks.

    Raises:
        DataError: if another program holds a lock on the file.
        OSError: as h5py.File.
    """
    try:
        return h5py.File(path, mode, **options)
    except BlockingIOError as error:
        raise locked(path) from error
    except OSError as error:
        # A disk without locks, or a file that is open already without one. No program can hold a lock there.
        if not any(words in str(error) for words in ("unable to lock file", "locking flag values")):
            raise
        return h5py.File(path, mode, locking=False, **options)


def locked(path: str | Path) -> DataError:
    """Return the error for a file that another program has open for writing."""
    remedy = "close it there, or set HDF5_USE_FILE_LOCKING=FALSE in the environment to open it nevertheless"
    return DataError(path, "locked: another program has it open for writing", remedy)


def check_structure(path: str | Path) -> None:
    """Walk an HDF5 file in a child process; errors that the library reports are left to the caller.

    Raises:
        DataError: if the library crashes or hangs, or another program holds a lock on the file.
    """
    path = Path(path).expanduser().absolute()
    about = os.stat(path)
    # Files are opened again and again; each is walked once.
    _check_once(path, about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=2**16)
def _check_once(path: Path, _changed: int, _size: int) -> None:
    call_guarded(path, lambda progress: walk(path, progress))


def walk(path: Path, progress: Progress) -> None:
    """Read all attributes, the indexes of chunks and the small arrays of a file; follow no link out of it.

    Raises:
        DataError: if another program holds a lock on the file.
    """

    def look_at(name: str, item: h5py.Group | h5py.Dataset) -> None:
        # Each object is opened by its whole path, which takes ever longer in groups without end.
        if name.count("/") <= DEEPEST:
            progress()
        # An object that cannot be read does not keep the rest from being read.
        with contextlib.suppress(Exception):
            for index in range(h5a.get_num_attrs(item.id)):
                with contextlib.suppress(Exception):
                    _attribute(item, index)
            if isinstance(item, h5py.Dataset):
                read_ends(item)

    with contextlib.suppress(OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError), open_hdf5(path) as f:
        look_at("/", f)
        f.visititems(look_at)


def read_ends(dataset: h5py.Dataset) -> None:
    """Read the index of an array's chunks and its first and last value, or all of a small array."""
    if dataset.is_virtual or dataset.external or not dataset.size:
        return
    dataset.id.get_storage_size()
    if dataset.chunks:
        with contextlib.suppress(AttributeError):
            dataset.id.get_num_chunks()
    if dataset.nbytes <= SMALL:
        dataset[()]
    elif dataset.ndim:
        dataset[(0,) * dataset.ndim]
        dataset[tuple(side - 1 for side in dataset.shape)]


def read_attributes(item: h5py.Group | h5py.Dataset) -> dict[str, Any]:
    """Return an object's attributes, as dict(item.attrs) does in a third of the time."""
    return dict(_attribute(item, index) for index in range(h5a.get_num_attrs(item.id)))


def _attribute(item: h5py.Group | h5py.Dataset, index: int) -> tuple[str, Any]:
    """(name, value) of an attribute. Numbers and single texts are read here, everything else by h5py's own way."""
    attribute = h5a.open(item.id, index=index)
    name, kind, shape = attribute.name.decode("utf-8", "surrogateescape"), attribute.get_type(), attribute.shape
    if shape is not None and isinstance(kind, (h5t.TypeIntegerID, h5t.TypeFloatID)):
        array = np.empty(shape, kind.dtype)
        attribute.read(array, mtype=kind)
        return name, array if array.ndim else array[()]
    if shape == () and isinstance(kind, h5t.TypeStringID) and kind.is_variable_str():
        text: Any = np.empty((), _TEXT)
        attribute.read(text, mtype=_TEXTS[kind.get_cset()])
        return name, text[()].decode("utf-8", "surrogateescape")
    return name, item.attrs[name]
