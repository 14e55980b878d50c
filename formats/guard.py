"""Call a reader in a child process, so that a damaged file that crashes or hangs its library cannot stop the program.

The child is forked: it needs no imports of its own. It calls only the reader, and of a CUDA device nothing. Locks that
threads of the program may hold at the fork do not matter to it: Python, glibc and h5py free theirs in the child.
"""

import contextlib
import faulthandler
import math
import os
import pickle
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from system.errors import DataError
from system.machine import get_address_space
from utils import print_line

T = TypeVar("T")
# Tells that the reader gets on, which extends its CPU time.
Progress = Callable[[], None]
# CPU time that a reader may take without progress, and bytes for each further second of it.
CPU_SECONDS, BYTES_PER_SECOND = 6, 10_000_000
# Memory that a reader may take; absurd sizes fail in the child and not in the program.
MEMORY = 2**33
# Seconds without an answer after which the user is told what the program waits for.
PATIENCE = 5


def call_guarded(path: Path, read: Callable[[Progress], T]) -> T:
    """Return what a reader of a file returns, called in a child process with limited CPU time and memory.

    Elapsed time is not limited: a child that waits for a disk or a busy core only takes longer. Where processes cannot
    be forked safely (Windows, macOS), the reader is called directly.

    Raises:
        DataError: if the child crashes or exceeds its CPU time.
        UserError: if another process ends the child.
        Exception: any exception of the reader.
    """
    if sys.platform != "linux":
        return read(lambda: None)
    # A signal between the fork and the try block would leave the child behind.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        child, answer = _fork(path, read)
    except OSError:
        # No further process is allowed.
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return read(lambda: None)
    content, status = b"", -1
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        content = _receive(path, answer)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.close(answer)
        with contextlib.suppress(ChildProcessError):
            status = os.waitpid(child, 0)[1]
    if status == 0:
        is_returned, outcome = pickle.loads(content)
        if not is_returned:
            raise outcome
        return outcome
    raise _crash(path, os.WTERMSIG(status) if status > 0 else 0)


def _crash(path: Path, number: int) -> DataError:
    if number == signal.SIGXCPU:
        return DataError(
            path, f"its library makes no progress in {_cpu_seconds(path)} s of CPU time, it is damaged", "copy it again"
        )
    if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP):
        remedy = "free memory if it was short, and run the same command again"
        return DataError(path, f"the process that checks it was ended by {signal.Signals(number).name}", remedy)
    return DataError(path, "its library crashes on it, it is damaged", "copy or make it again")


def _cpu_seconds(path: Path) -> int:
    return CPU_SECONDS + math.ceil(path.stat().st_size / BYTES_PER_SECOND)


def _receive(path: Path, answer: int) -> bytes:
    """Read the child's answer to its end, with one message if it takes long."""
    poll = select.poll()
    poll.register(answer)
    if not poll.poll(1000 * PATIENCE):
        print_line(f"checking {path} ...")
    parts = []
    while part := os.read(answer, 2**20):
        parts.append(part)
    return b"".join(parts)


def _fork(path: Path, read: Callable[[Progress], Any]) -> tuple[int, int]:
    """(process id, file descriptor of its answer) of a child that calls a reader."""
    seconds = _cpu_seconds(path)
    answer, target = os.pipe()
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns of threads that are running; see the module's docstring.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
    except OSError:
        os.close(answer)
        os.close(target)
        raise
    if child == 0:
        _answer(read, target, seconds)
    os.close(target)
    return child, answer


def _answer(read: Callable[[Progress], Any], target: int, seconds: int) -> NoReturn:
    """Write (True, result) or (False, exception), pickled; runs in the child and ends it."""
    code = 1
    try:
        # Ctrl-C is for the program, which then ends this process.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        # A crash is the program's to report.
        faulthandler.disable()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        _limit("RLIMIT_CORE", 0)
        _limit("RLIMIT_AS", get_address_space() + MEMORY)
        progress = lambda: _limit("RLIMIT_CPU", math.ceil(time.process_time()) + seconds)  # noqa: E731
        progress()
        try:
            content = pickle.dumps((True, read(progress)))
        except Exception as error:
            content = _pickled(error)
        with open(target, "wb", closefd=False) as f:
            f.write(content)
        code = 0
    finally:
        os._exit(code)


def _pickled(error: Exception) -> bytes:
    """An exception as the child answers it; as a RuntimeError if it cannot be restored."""
    try:
        content = pickle.dumps((False, error))
        pickle.loads(content)
        return content
    except Exception:
        return pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))


def _limit(name: str, value: int) -> None:
    """Lower a resource limit of this process, or raise it again as far as it may be."""
    import resource

    kind = getattr(resource, name)
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
