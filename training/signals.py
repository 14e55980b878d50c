"""Signals that stop a run after its checkpoint is written."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

from system.errors import Interrupted, Terminated, get_signal
from utils import print_line


class StopSignals:
    """Context in which a first SIGINT or SIGTERM only sets signal_number (0 before); the second one acts at once.

    Args:
        words: message at the first one.
    """

    def __init__(self, words: str = "stopping after this mini-batch, when the checkpoint is safe") -> None:
        self._words = words

    def __enter__(self) -> "StopSignals":
        self.signal_number = 0
        self._previous: dict[int, Any] = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
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
    """Turn a KeyboardInterrupt after the last iteration into Interrupted, whose message says how to resume."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Interrupted(get_signal(stop)) from stop
