"""Being told to stop while a checkpoint is still to be made."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

from system.errors import Interrupted, Terminated, get_signal
from utils import print_line


class StopSignals:
    """While open, SIGINT and SIGTERM are noted in signal_number, 0 before; the second one acts at once.

    Args:
        words: what is said at the first one.
    """

    def __init__(self, words: str = "stopping after this iteration, when the checkpoint is safe") -> None:
        self._words = words

    def __enter__(self) -> "StopSignals":
        self.signal_number = 0
        self._previous: dict[signal.Signals, Any] = {
            s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal_number:
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
        self.signal_number = number
        print_line(f"{self._words} (once more: at once)")


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """Say of what is stopped here that the checkpoint is safe: the iterations are done.

    Raises:
        Interrupted: in place of what stopped it.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Interrupted(get_signal(stop)) from stop
