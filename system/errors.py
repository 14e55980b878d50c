"""Errors that users can fix, interruptions by signals, and lack of memory."""

import contextlib
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class UserError(Exception):
    """Invalid input of the user: one sentence with the problem, the value received and the remedy."""

    path: str | Path | None = None
    # True if another process of the run reports it.
    is_reported = False

    def format_for_command_line(self) -> str:
        """Format the sentence for the command line."""
        return str(self)


@contextlib.contextmanager
def name_flag(flag: str, path: str | Path) -> Iterator[None]:
    """Add the name of a flag to UserErrors about its path that are raised within the context."""
    try:
        yield
    except UserError as error:
        if error.path is None or not str(path) or Path(error.path).expanduser() != Path(path).expanduser():
            raise
        raise UserError(f"--{flag} {error.format_for_command_line()}") from error


class DataError(UserError):
    """Invalid content of a file or folder: one sentence with the path, the problem and the remedy.

    Args:
        path: the file or folder, as the user gave it.
        what: the problem, with the value found.
        remedy: instruction for the user, with parameters in braces: "name the array by {key}".
    """

    def __init__(self, path: str | Path, what: str, remedy: str) -> None:
        self.path, self.what, self.remedy = path, what, remedy
        super().__init__(f"{path}: {what}; {format_parameters(remedy)}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the three arguments, so that worker processes can raise the error in the main process."""
        return type(self), (self.path, self.what, self.remedy)

    def format_for_command_line(self) -> str:
        """Format the sentence with parameters as flags: "name the array by --key"."""
        return f"{self.path}: {self.what}; {format_flags(self.remedy)}"


def format_flags(text: str) -> str:
    """Replace the parameters in braces of a message by flags: {key} -> --key."""
    return re.sub(r"\{(\w+)\}", r"--\1", text)


def format_parameters(text: str) -> str:
    """Replace the parameters in braces of a message by Python parameters: {key} -> key."""
    return re.sub(r"\{(\w+)\}", r"\1", text)


SAFE = "the checkpoint is safe; to continue, repeat the command with --resume last"


class Interrupted(Exception):
    """Interruption by a signal after the state was saved; `exit_code` is 128 + the signal's number."""

    def __init__(self, signal_number: int, state: str = SAFE) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}, {state}")
        self.exit_code = 128 + signal_number


class PeerLostError(Exception):
    """Another process of the run has ended; what is on disk is from before."""


class Terminated(KeyboardInterrupt):
    """Interruption by SIGTERM."""


def get_signal(stop: KeyboardInterrupt) -> signal.Signals:
    """Return the signal that interrupted a command."""
    return signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if an error reports a lack of main memory or device memory."""
    words = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(w in words for w in ("can't allocate memory", "cannot allocate memory", "out of memory", "bad_alloc"))
    )


def refuse_small_memory(path: str | Path, error: BaseException) -> None:
    """Raise a UserError if an error reports a lack of memory, so that the file is not reported as damaged.

    Raises:
        UserError: for such an error.
    """
    if is_out_of_memory(error):
        raise UserError(
            f"{path}: the memory is too small to read it; close other programs, or give a smaller file"
        ) from error
