"""Read files in a child process, so that a damaged file that crashes or hangs its library cannot stop the program.

The child is forked, which saves its imports, and calls only the reader. Locks that threads hold at the fork cannot
block it: Python, glibc and h5py release theirs in the child.
"""

import contextlib
import faulthandler
import math
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import h5py

from system.errors import DataError, UserError, is_out_of_memory
from system.machine import get_address_space, get_free_memory
from utils import print_line

T = TypeVar("T")
# Limit of CPU time for an empty file, in seconds.
CPU_SECONDS = 6
# Seconds without an answer after which a message names the file.
PATIENCE = 5
# Bytes of the largest array that is read whole; of larger ones the index of the chunks and two values are read.
SMALL = 2**20
# Largest depth of groups, above that of any program.
DEEPEST = 1000
# Results of `call_once` by reader, path, time of change and size.
_RESULTS: dict[tuple[Any, ...], Any] = {}


def call_guarded(paths: Sequence[Path], read: Callable[[Path], T]) -> list[T]:
    """Return what a reader returns for each file, called in one child process with limited CPU time and memory.

    CPU time is limited by a file's size, memory to half of what is free. Elapsed time is not limited: a child that
    waits for a disk or a busy core only takes longer. Where processes cannot be forked safely (Windows, macOS), the
    reader is called directly.

    Raises:
        DataError: for a file on which the child crashes or exceeds a limit, or if another process ends the child.
        Exception: any exception of the reader.
    """
    if sys.platform != "linux":
        return [read(path) for path in paths]
    answers, sender = multiprocessing.Pipe(duplex=False)
    # Blocked: a signal between the fork and the try block would leave the child running.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns of running threads; see the module's docstring.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
    except OSError:
        # The limit of processes is reached.
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return [read(path) for path in paths]
    if child == 0:
        _answer(paths, read, sender)
    results: list[T] = []
    status = 0
    try:
        sender.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for path in paths:
            results.append(_receive(path, answers))
        return results
    except EOFError:
        pass
    finally:
        # A child that has crashed keeps its status.
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
        answers.close()
    raise _make_crash_error(paths[len(results)], os.WTERMSIG(status))


def call_once(paths: Sequence[Path], read: Callable[[Path], T]) -> list[T]:
    """Return the results of `call_guarded`, cached until a file changes."""
    found = [(path.absolute(), path.stat()) for path in paths]
    keys = [(read, path, about.st_mtime_ns, about.st_size) for path, about in found]
    new = [key for key in keys if key not in _RESULTS]
    if new:
        _RESULTS.update(zip(new, call_guarded([key[1] for key in new], read), strict=True))
    return [_RESULTS[key] for key in keys]


def _make_crash_error(path: Path, number: int) -> DataError:
    if number == signal.SIGXCPU:
        limit = f"{_limit_cpu_seconds(path)} s of CPU time"
        return DataError(path, f"damaged: its library has not finished after {limit}", "copy or make it again")
    if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP):
        remedy = "free memory if it was short, and run the same command again"
        return DataError(path, f"the process that checks it was ended by {signal.Signals(number).name}", remedy)
    return DataError(path, "damaged: its library crashes on it", "copy or make it again")


def _limit_cpu_seconds(path: Path) -> int:
    """Return the CPU time for a file: DEFLATE unpacks 200 kB to at most 200 MB, which memory limits."""
    size = path.stat().st_size
    return CPU_SECONDS + math.ceil(min(size / 200_000, 40) + size / 10_000_000)


def _receive(path: Path, answers: Connection) -> Any:
    """Return the child's result for a file or raise its exception; print one message if it takes long."""
    if not answers.poll(PATIENCE):
        print_line(f"checking {path} ...")
    is_returned, outcome = answers.recv()
    if not is_returned:
        raise outcome
    return outcome


def _answer(paths: Sequence[Path], read: Callable[[Path], Any], sender: Connection) -> NoReturn:
    """Send (True, result) or (False, exception) for each file; called in the child, which ends here."""
    try:
        # Crashes are reported by the parent.
        faulthandler.disable()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        _limit("RLIMIT_CORE", 0)
        for path in paths:
            sender.send(_call(path, read))
    finally:
        os._exit(0)


def _call(path: Path, read: Callable[[Path], Any]) -> tuple[bool, Any]:
    free = get_free_memory()
    try:
        _limit("RLIMIT_CPU", math.ceil(time.process_time()) + _limit_cpu_seconds(path))
        _limit("RLIMIT_AS", get_address_space() + free // 2 if free else sys.maxsize)
        return True, read(path)
    except Exception as error:
        if isinstance(error, UserError) or not is_out_of_memory(error):
            return False, error
        what = f"the memory is too small to read it: it needs more than half of the {free / 1e9:.1f} GB that are free"
        return False, DataError(path, what, "close other programs, or save it in parts")
    finally:
        _limit("RLIMIT_AS", sys.maxsize)


def _limit(name: str, value: int) -> None:
    """Set a resource limit of this process, up to its hard limit."""
    import resource

    kind = getattr(resource, name)
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def open_hdf5(path: str | Path, mode: str = "r", **options: Any) -> h5py.File:
    """Open an HDF5 file as h5py.File does, also on a file system that has no locks.

    Raises:
        DataError: if another program holds a lock on the file.
        OSError: as h5py.File.
    """
    try:
        return h5py.File(path, mode, **options)
    except BlockingIOError as error:
        remedy = "close it there, or set HDF5_USE_FILE_LOCKING=FALSE in the environment to open it nevertheless"
        raise DataError(path, "locked: another program has it open for writing", remedy) from error
    except OSError as error:
        # A file system without locks, or a file that this process has open without a lock.
        if not any(words in str(error) for words in ("unable to lock file", "locking flag values")):
            raise
        return h5py.File(path, mode, locking=False, **options)


def check_hdf5(path: Path) -> None:
    """Read an HDF5 file in a child process once; errors that the library reports are left to the caller.

    Raises:
        DataError: if the library crashes or hangs, or another program holds a lock on the file.
    """
    call_once([path], read_hdf5)


def read_hdf5(path: Path) -> None:
    """Read all attributes, the indexes of chunks and the small arrays of a file; follow no link out of it.

    Raises:
        DataError: if another program holds a lock on the file, or its groups are nested too deep.
    """

    def read(name: str, item: h5py.Group | h5py.Dataset) -> None:
        # h5py opens each object by its whole path: the time grows with the square of the depth.
        if name.count("/") > DEEPEST:
            raise DataError(path, f"damaged: its groups are nested more than {DEEPEST} deep", "copy or make it again")
        # The rest is read even if an object cannot be.
        with contextlib.suppress(Exception):
            for attribute in item.attrs:
                with contextlib.suppress(Exception):
                    item.attrs[attribute]
            if isinstance(item, h5py.Dataset):
                read_ends(item)

    with contextlib.suppress(OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError), open_hdf5(path) as f:
        read("/", f)
        f.visititems(read)


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
