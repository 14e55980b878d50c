"""Standard output that does not fail when its reader closes, and the handler of SIGTERM."""

import contextlib
import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any

from system.errors import Terminated

# Modules of the standard library with callbacks of weak references.
CALLBACKS = ("weakref.py", "_weakrefset.py")


class FaultTolerantStream:
    """Standard output or error that discards text after its reader has closed (`| head -1`).

    Characters that the terminal cannot encode are escaped.

    Args:
        stream: sys.stdout or sys.stderr; None if it was closed before the program started.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = open(os.devnull, "w", encoding="utf-8") if stream is None else stream
        if hasattr(self._stream, "reconfigure"):
            self._stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write a text, or discard it if the stream is closed."""
        try:
            self._stream.write(text)
        except (OSError, ValueError):
            self._discard()
        return len(text)

    def flush(self) -> None:
        """Flush the stream, or discard its buffer if it is closed."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._discard()

    def _discard(self) -> None:
        # The descriptor is redirected to the null device, so that flushing the buffer at exit does not fail.
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def raise_terminated(number: int, frame: FrameType | None) -> None:
    """Raise Terminated, as the handler of a signal; a little later if Python would discard the exception here.

    Exceptions in finalizers (`__del__`, callbacks of weak references) are discarded, and the program would continue.
    """
    while frame and frame.f_code.co_name != "__del__" and Path(frame.f_code.co_filename).name not in CALLBACKS:
        frame = frame.f_back
    if frame is None or not hasattr(signal, "setitimer"):
        raise Terminated
    signal.signal(signal.SIGALRM, raise_terminated)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
