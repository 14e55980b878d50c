"""Errors of files and arrays that cannot be used."""

import re
from pathlib import Path
from typing import Any

from utils import UserError


class DataError(UserError):
    """Something read is not what is needed: one sentence of where, what and the remedy.

    Args:
        path: the file or folder.
        what: what is wrong with it, with the value found.
        remedy: what to do. Parameters of this room's functions stand in braces: "name the array by {key}".
    """

    def __init__(self, path: str | Path, what: str, remedy: str) -> None:
        self.path, self.what, self.remedy = path, what, remedy
        super().__init__(f"{path}: {what}; {as_parameters(remedy)}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors come back from other processes by their three parts."""
        return type(self), (self.path, self.what, self.remedy)

    def on_command_line(self) -> str:
        """The sentence with parameters as flags: "name the array by --key"."""
        return f"{self.path}: {self.what}; {as_flags(self.remedy)}"


def as_flags(text: str) -> str:
    """A message with the parameters in braces as flags: --key."""
    return re.sub(r"\{(\w+)\}", r"--\1", text)


def as_parameters(text: str) -> str:
    """A message with the parameters in braces as those of a Python function: key."""
    return re.sub(r"\{(\w+)\}", r"\1", text)
