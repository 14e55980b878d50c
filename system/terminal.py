"""Standard output that does not fail when its reader closes."""

import contextlib
import os
from typing import Any


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
