"""Errors that a user can mend, interruptions by signals, and memory that is too small."""

import contextlib
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class UserError(Exception):
    """Something the user gave is wrong: one sentence saying what, the value received and the remedy."""

    path: str | Path | None = None
    # Whether another process of the run says it.
    is_reported = False

    def format_for_command_line(self) -> str:
        """The sentence as the command line says it."""
        return str(self)


@contextlib.contextmanager
def name_flag(flag: str, path: str | Path) -> Iterator[None]:
    """Name the flag that a path came by where an error below is about that very path."""
    try:
        yield
    except UserError as error:
        if error.path is None or not str(path) or Path(error.path).expanduser() != Path(path).expanduser():
            raise
        raise UserError(f"--{flag} {error.format_for_command_line()}") from error


class DataError(UserError):
    """Something read is not what is needed: one sentence of where, what and the remedy.

    Args:
        path: the file or folder.
        what: what is wrong with it, with the value found.
        remedy: what to do. Parameters of this room's functions stand in braces: "name the array by {key}".
    """

    def __init__(self, path: str | Path, what: str, remedy: str) -> None:
        self.path, self.what, self.remedy = path, what, remedy
        super().__init__(f"{path}: {what}; {format_parameters(remedy)}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors come back from other processes by their three parts."""
        return type(self), (self.path, self.what, self.remedy)

    def format_for_command_line(self) -> str:
        """The sentence with parameters as flags: "name the array by --key"."""
        return f"{self.path}: {self.what}; {format_flags(self.remedy)}"


def format_flags(text: str) -> str:
    """A message with the parameters in braces as flags: --key."""
    return re.sub(r"\{(\w+)\}", r"--\1", text)


def format_parameters(text: str) -> str:
    """A message with the parameters in braces as those of a Python function: key."""
    return re.sub(r"\{(\w+)\}", r"\1", text)


SAFE = "the checkpoint is safe; the same command with --resume last goes on"


class Interrupted(Exception):
    """The run was told to stop by a signal and what it did is safe; `exit_code` is the shell's for the signal."""

    def __init__(self, signal_number: int, state: str = SAFE) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}, {state}")
        self.exit_code = 128 + signal_number


class Terminated(KeyboardInterrupt):
    """The program was told to end by SIGTERM."""


def get_signal(stop: KeyboardInterrupt) -> signal.Signals:
    """The signal that a command was stopped by."""
    return signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that main memory or a device's memory was not enough."""
    words = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(w in words for w in ("can't allocate memory", "cannot allocate memory", "out of memory", "bad_alloc"))
    )


def refuse_small_memory(path: str | Path, error: BaseException) -> None:
    """Raise a sentence where a file could not be read for want of memory: that is no damage of the file.

    Raises:
        UserError: for such an error.
    """
    if is_out_of_memory(error):
        raise UserError(f"{path}: the memory is too small to read it; close other programs, or take less") from error
