"""Standard output that outlives its reader."""

import contextlib
import os
from typing import Any


class FaultTolerantStream:
    """Standard output or error that is written to as long as somebody reads it; afterwards what is said is lost.

    A reader that ends early (`| head -1`) or a terminal that lacks a letter is no reason to stop.

    Args:
        stream: sys.stdout or sys.stderr; None where it was closed before the program began.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = open(os.devnull, "w", encoding="utf-8") if stream is None else stream
        if hasattr(self._stream, "reconfigure"):
            self._stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write a text, or lose it."""
        try:
            self._stream.write(text)
        except (OSError, ValueError):
            self._lose()
        return len(text)

    def flush(self) -> None:
        """Hand what was written on, or lose it."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._lose()

    def _lose(self) -> None:
        # What is still in the buffer goes nowhere too, so that nothing fails when the interpreter ends.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
