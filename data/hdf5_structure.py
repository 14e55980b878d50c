"""The inside of HDF5 files, gone through by another process first: damaged, it makes their library hang or die."""

import atexit
import functools
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from data.errors import DataError
from data.hdf5_walk import READY

# Seconds that it may take to go through a file, and bytes that are gone through in each further one.
SECONDS, BYTES_A_SECOND = 12, 10_000_000
ROOT = Path(__file__).parent.parent


def check_structure(path: str | Path) -> None:
    """See that the HDF5 library gets through a file; what it says of the file then is left to the caller.

    Raises:
        DataError: where it dies of it, or does not come to an end.
    """
    path = Path(path).expanduser().absolute()
    about = os.stat(path)
    # Files are opened again and again; each is gone through once.
    _check_once(path, about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=2**16)
def _check_once(path: Path, _changed: int, size: int) -> None:
    seconds = SECONDS + size / BYTES_A_SECOND
    if not _WALKER.gets_through(path, seconds):
        raise DataError(
            path,
            f"the HDF5 library dies of its structure, or is not through in {seconds:.0f} s; the file is damaged",
            "copy or make it again",
        )


class Walker:
    """The other process, started when it is first needed and again after a file that ended it.

    Args:
        words: the command that starts it.

    Attributes:
        process: the one that runs now; None before the first file.
    """

    def __init__(self, words: Sequence[str] = (sys.executable, "-m", "data.hdf5_walk")) -> None:
        self.words = list(words)
        self.process: subprocess.Popen[str] | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def gets_through(self, path: Path, seconds: float) -> bool:
        """Whether the process answers within so many seconds, or none can be started."""
        with self._lock:
            running = self._running()
            if running is None:
                return True
            process, asked, answers = running
            timer = threading.Timer(seconds, process.kill)
            timer.start()
            is_through = False
            try:
                asked.write(json.dumps([str(path), math.ceil(seconds) + 1]) + "\n")
                asked.flush()
                is_through = bool(answers.readline())
            except OSError:
                # It has died meanwhile.
                pass
            finally:
                timer.cancel()
                if not is_through:
                    self.end()
            return is_through

    def _running(self) -> tuple[subprocess.Popen[str], IO[str], IO[str]] | None:
        # A process that was forked from this one has none of its own yet.
        if self.process is None or self._owner != os.getpid() or self.process.poll() is not None:
            pipe = subprocess.PIPE
            try:
                self.process = subprocess.Popen(
                    self.words,
                    cwd=ROOT,
                    stdin=pipe,
                    stdout=pipe,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    encoding="utf-8",
                )
            except OSError:
                return None
            self._owner = os.getpid()
            atexit.register(self.end)
            assert self.process.stdout
            is_ready = False
            try:
                is_ready = self.process.stdout.readline().strip() == READY
            finally:
                if not is_ready:
                    self.end()
            if not is_ready:
                return None
        assert self.process.stdin and self.process.stdout
        return self.process, self.process.stdin, self.process.stdout

    def end(self) -> None:
        """Let the process end, where this one has started it."""
        if self.process is not None and self._owner == os.getpid():
            self.process.kill()
            self.process.communicate()
            self.process = None


_WALKER = Walker()
