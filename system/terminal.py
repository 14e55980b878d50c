"""Standard output that does not fail when its reader closes, and interruptions that Python does not discard."""

import contextlib
import os
import sys
import threading
from types import FrameType
from typing import Any

from system.errors import Terminated, get_signal


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


def raise_terminated(number: int, _: FrameType | None) -> None:
    """Raise Terminated, as the handler of SIGTERM."""
    raise Terminated


def repeat_discarded_signal(discarded: "sys.UnraisableHookArgs") -> None:
    """Send the signal of a discarded interruption again, a little later; for sys.unraisablehook.

    Python discards exceptions in finalizers (`__del__`, callbacks of weak references), and the program would continue.
    """
    error = discarded.exc_value
    # On Windows os.kill ends the process without handlers.
    if isinstance(error, KeyboardInterrupt) and os.name == "posix":
        threading.Timer(0.01, os.kill, (os.getpid(), get_signal(error))).start()
    else:
        sys.__unraisablehook__(discarded)
