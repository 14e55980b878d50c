#!/usr/bin/env python3
"""Hyperspectral image super-resolution from the command line.

`python mains.py` lists the commands; `python mains.py COMMAND --help` lists the flags of a command.
Commands end by listing the files they wrote. Exit codes: 0 done, 2 invalid input (one sentence on standard error),
130 stopped by Ctrl-C, 143 by SIGTERM, 1 any other error.
`torchrun --nproc-per-node N mains.py COMMAND ...` runs train, test and predict on N devices.
"""

import dataclasses
import difflib
import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import fire

from system.machine import set_thread_defaults

# Before numpy and torch are imported: numpy below, torch by the command that runs.
set_thread_defaults()

import config  # noqa: E402
from system.errors import (  # noqa: E402
    Interrupted,
    PeerLostError,
    UserError,
    get_signal,
    is_out_of_memory,
)
from system.terminal import FaultTolerantStream, raise_terminated, repeat_discarded_signal  # noqa: E402
from system.version import describe_version  # noqa: E402
from utils import close_progress_bars, format_files, is_main_process, sanitize_for_terminal  # noqa: E402

# The function of each command, as "module:function". It takes the command's config and returns the files it wrote.
FUNCTIONS = {
    "prepare": "evaluation.preparing:prepare",
    "info": "data.store:print_store",
    "train": "trainer:train",
    "test": "evaluation.testing:test",
    "tables": "tables:make_tables",
    "predict": "predict.files:predict",
    "adapt": "adapt.adaptation:adapt",
    "demo": "demo.run:run_demo",
}

# Errors of users' paths that no command describes better: problem and remedy.
PATH_ERRORS = {
    errno.ENAMETOOLONG: ("the name is too long for the file system", "give a shorter one"),
    errno.EACCES: ("may not be read or written", "ask its owner for the permission, or give another path"),
    errno.EPERM: ("may not be read or written", "ask its owner for the permission, or give another path"),
    errno.ELOOP: ("links that lead to themselves", "correct them, or give another path"),
    errno.ENOTDIR: ("leads through a file as if it were a folder", "check the path"),
    errno.EISDIR: ("a folder, where a file is needed", "check the path"),
}


def parse_flags(name: str, words: Sequence[str]) -> dict[str, str]:
    """Return the flags of a command line with their values, as typed.

    Args:
        name: the command.
        words: the words behind it: --flag value, --flag=value, a switch without a value, or the value of the flag whose
            name may be omitted.

    Raises:
        UserError: for an unknown flag, a flag without a value, or a word that belongs to no flag.
    """
    config_class = config.CONFIGS[name]
    fields = {f.name: f for f in config.declared_flags(config_class)}
    words, flags = list(words), {}
    while words:
        word = words.pop(0)
        positional = config_class.POSITIONAL
        if not word.startswith("-") and positional and positional not in flags:
            flags[positional] = word
            continue
        # -i is short for --input if no other flag begins with an i.
        if len(word) == 2 and len(found := [name for name in fields if word == f"-{name[0]}"]) == 1:
            word = f"--{found[0]}"
        if not word.startswith("--") or word == "--":
            raise UserError(f"{word!r} belongs to no flag; flags are given as --name value (quote values with blanks)")
        flag, equals, value = word[2:].partition("=")
        flag = flag.replace("-", "_")
        if flag not in fields:
            raise UserError(config.unknown_flag(flag, fields))
        flags[flag] = value if equals else _take_value(fields[flag], words)
    return flags


def _take_value(field: dataclasses.Field[Any], words: list[str]) -> str:
    """Remove the value of a flag from the words and return it; a switch without a value is 1."""
    if words and not words[0].startswith("--"):
        return words.pop(0)
    if field.type is bool:
        return "1"
    raise UserError(f"--{field.name} has no value; give one behind it")


def run_command(arguments: Sequence[str]) -> None:
    """Run a command, or print a help text or the version.

    Raises:
        UserError: for invalid input.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(config.format_commands())
        return
    name, *words = arguments
    if name == "--version":
        print(describe_version())
        return
    if name not in FUNCTIONS:
        near = difflib.get_close_matches(name, FUNCTIONS, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"give one of {', '.join(FUNCTIONS)}"
        raise UserError(f"{name} is not a command; {remedy}")
    if "-h" in words or "--help" in words:
        print(config.format_help(name), end="")
        return
    # Flags and words are checked before fire sees them: it runs a command before it notices a mistyped flag, and reads
    # 1e5, 2020 or a,b as numbers and tuples where their text is meant.
    words = [f"--{flag}={value!r}" for flag, value in parse_flags(name, words).items()]
    commands = {command: make_command(command) for command in FUNCTIONS}
    settings = fire.Fire(commands, command=[name, *words], name="mains.py", serialize=lambda _: None)
    module, _, function = FUNCTIONS[name].partition(":")
    # As the statement `from module import function`.
    _print_files(getattr(__import__(module, fromlist=[function]), function)(settings))


def make_command(name: str) -> Callable[..., config.Config]:
    """Return the function that fire calls for a command; it returns the checked settings."""

    def command(**flags: str) -> config.Config:
        config_class = config.CONFIGS[name]
        file = flags.pop("config", "")
        return config_class.from_flags({**config.read_flags(file, config_class), **flags} if file else flags)

    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    exit_code = 1
    try:
        exit_code = _exit_code_of(arguments)
        return exit_code
    finally:
        if "torch" in sys.modules:
            from training import processes

            processes.leave(failed=exit_code != 0)


def _exit_code_of(arguments: Sequence[str] | None) -> int:
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        run_command(arguments)
        return 0
    except UserError as error:
        return 2 if error.is_reported else _end(f"error: {error.format_for_command_line()}", 2)
    except KeyboardInterrupt as stop:
        number = get_signal(stop)
        return _end(f"stopped by {number.name}; the same command starts it again", 128 + number)
    except Interrupted as stop:
        return _end(str(stop), stop.exit_code)
    except PeerLostError as error:
        return _end(f"error: {error}", 1)
    except OSError as error:
        if error.errno not in PATH_ERRORS or not error.filename:
            raise
        what, remedy = PATH_ERRORS[error.errno]
        name = os.fsdecode(error.filename)
        name = f"{name[:40]}..." if error.errno == errno.ENAMETOOLONG else name
        return _end(f"error: {name}: {what}; {remedy}", 2)
    except RecursionError:
        return _end("error: a file is nested too deep to be read; give another", 2)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return _end(f"error: the memory is not enough; {config.CONFIGS[arguments[0]].IF_MEMORY_FAILS}", 2)


def _print_files(files: list[Any] | None) -> None:
    if files is not None and is_main_process():
        print(format_files(files))


def _end(sentence: str, exit_code: int) -> int:
    close_progress_bars()
    process = "" if is_main_process() else f"process {os.environ['RANK']}: "
    print(f"{process}{sanitize_for_terminal(sentence)}", file=sys.stderr)
    return exit_code


def run_as_program() -> None:
    """Run the command line of this process and end it."""
    sys.stdout, sys.stderr = FaultTolerantStream(sys.stdout), FaultTolerantStream(sys.stderr)
    signal.signal(signal.SIGTERM, raise_terminated)
    sys.unraisablehook = repeat_discarded_signal
    try:
        exit_code = main()
    except Exception:
        traceback.print_exc()
        exit_code = 1
    if "torch" in sys.modules:
        from training import processes

        processes.end_at_once(exit_code)
    sys.exit(exit_code)


if __name__ == "__main__":
    run_as_program()
