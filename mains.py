#!/usr/bin/env python3
"""Hyperspectral image super-resolution from the command line.

The commands: prepare, info, train, test, predict, tables, demo, adapt.

`python mains.py COMMAND --help` lists a command's flags. Commands end by naming the files they wrote.
Exit codes: 0 done, 2 something given is wrong (one sentence says what), 130 stopped by Ctrl-C, 143 by SIGTERM,
1 else.
`torchrun --nproc-per-node N mains.py COMMAND ...` runs train, test and predict on N devices.
"""

import dataclasses
import difflib
import errno
import importlib
import inspect
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import fire
from fire.helptext import HelpText
from fire.trace import FireTrace

from system.machine import set_thread_defaults

# Before torch is imported, which the modules below do.
set_thread_defaults()

import config  # noqa: E402
from system.errors import Interrupted, Terminated, UserError, get_signal, is_out_of_memory  # noqa: E402
from system.terminal import FaultTolerantStream  # noqa: E402
from training import processes  # noqa: E402
from utils import as_utf8, close_progress_bars, is_main_process, sanitize_for_terminal  # noqa: E402

# What each command takes, and the function that does it: it is imported when it is called, and gives the files written.
COMMANDS: dict[str, tuple[type[config.Config], str]] = {
    "prepare": (config.PrepareConfig, "evaluation.preparing:prepare"),
    "info": (config.InfoConfig, "data.store:print_store"),
    "train": (config.TrainConfig, "trainer:train"),
    "test": (config.TestConfig, "evaluation.testing:test"),
    "predict": (config.PredictConfig, "predict.files:predict"),
    "tables": (config.TablesConfig, "tables:make_tables"),
    "demo": (config.DemoConfig, "demo.run:run_demo"),
    "adapt": (config.AdaptConfig, "adapt.adaptation:adapt"),
}


# What a path of the user's may meet where no command says it better: what is wrong, and the remedy.
OF_PATHS = {
    errno.ENAMETOOLONG: ("the name is too long for the file system", "give a shorter one"),
    errno.EACCES: ("may not be read or written", "ask its owner for the permission, or give another path"),
    errno.EPERM: ("may not be read or written", "ask its owner for the permission, or give another path"),
    errno.ELOOP: ("links that lead to themselves", "correct them, or give another path"),
    errno.ENOTDIR: ("leads through a file as if it were a folder", "check the path"),
    errno.EISDIR: ("a folder, where a file is needed", "check the path"),
}


class Deferred:
    """A validated command that waits until the whole command line has been understood."""

    def __init__(self, place: str, asked: config.Config) -> None:
        self._place, self._asked = place, asked

    # Not public: fire takes public methods for sub-commands.
    def _run(self) -> list[Any] | None:
        module, _, function = self._place.partition(":")
        return getattr(importlib.import_module(module), function)(self._asked)


def fire_command(name: str) -> Callable[..., Deferred]:
    """The function that fire calls for a command, with the config's fields as its signature and help text."""
    config_class, place = COMMANDS[name]
    fields = dataclasses.fields(config_class)

    def command(**flags: Any) -> Deferred:
        return Deferred(place, config_class.from_flags(flags))

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(f.name, keyword, default=f.default, annotation=f.type) for f in fields]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    arguments = "\n".join(f"    {f.name}: {f.metadata['help']}" for f in fields)
    command.__name__, command.__doc__ = name, f"{config_class.__doc__}\n\nArgs:\n{arguments}\n"
    return command


def checked_arguments(arguments: Sequence[str]) -> list[str]:
    """The command line as fire shall see it, with unknown commands, flags and stray words refused first.

    Fire runs a command before it finds a mistyped flag, and reads text such as 1e5, 2020 or a,b as
    numbers and tuples: words for text flags are quoted here.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        return ["--", "--help"]
    name, *words = arguments
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"give one of {', '.join(COMMANDS)}"
        raise UserError(f"{name} is not a command; {remedy}")
    if "-h" in words or "--help" in words:
        return [name, "--help"]
    config_class = COMMANDS[name][0]
    fields = {f.name: f for f in dataclasses.fields(config_class)}
    checked, words = [name], list(words)
    while words:
        word = words.pop(0)
        positional = config_class.POSITIONAL
        if not word.startswith("-") and positional and not any(f"--{positional}=" in c for c in checked):
            checked.append(f"--{positional}={word!r}")
            continue
        # Fire's help shows -i for --input where no other flag begins with an i.
        if len(word) == 2 and len(found := [name for name in fields if word == f"-{name[0]}"]) == 1:
            word = f"--{found[0]}"
        if not word.startswith("--") or word == "--":
            raise UserError(f"{word!r} belongs to no flag; flags are given as --name value (quote values with blanks)")
        flag, equals, value = word[2:].partition("=")
        flag = flag.replace("-", "_")
        if flag not in fields:
            raise UserError(config.unknown_flag(flag, fields))
        value = value if equals else _value_of(fields[flag], words)
        checked.append(f"--{flag}={value!r}")
    return checked


def help_text(commands: dict[str, Callable[..., Deferred]], name: str) -> str:
    """Help for one command, or for the program if there is none of the name, as fire formats it.

    Fire itself writes it to standard error, and on a terminal into a pager.
    """
    trace = FireTrace(commands, name="mains.py")
    if name not in commands:
        return HelpText(commands, trace=trace)
    trace.AddAccessedProperty(commands[name], name, [name], None, None)
    return HelpText(commands[name], trace=trace)


def _value_of(field: dataclasses.Field[Any], words: list[str]) -> str:
    """The value that follows a flag, taken off the words; a switch needs none."""
    if words and not words[0].startswith("--"):
        return words.pop(0)
    if field.type is bool:
        return "1"
    raise UserError(f"--{field.name} has no value; give one behind it")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    exit_code = 1
    try:
        exit_code = _exit_code_of(arguments)
        return exit_code
    finally:
        processes.leave(failed=exit_code != 0)


def _exit_code_of(arguments: Sequence[str] | None) -> int:
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        checked = checked_arguments(arguments)
        commands = {name: fire_command(name) for name in COMMANDS}
        if checked[-1] == "--help":
            print(help_text(commands, checked[0]))
            return 0
        deferred = fire.Fire(commands, command=checked, name="mains.py", serialize=lambda _: None)
        if isinstance(deferred, Deferred):
            _name_files(deferred._run())
        return 0
    except UserError as error:
        return 2 if error.is_reported else _end(f"error: {error.format_for_command_line()}", 2)
    except KeyboardInterrupt as stop:
        number = get_signal(stop)
        return _end(f"stopped by {number.name}; the same command starts it again", 128 + number)
    except fire.core.FireExit as leaving:
        return leaving.code
    except Interrupted as stop:
        return _end(str(stop), stop.exit_code)
    except processes.PeerLostError as error:
        return _end(f"error: {error}", 1)
    except OSError as error:
        if error.errno not in OF_PATHS or not error.filename:
            raise
        what, remedy = OF_PATHS[error.errno]
        name = os.fsdecode(error.filename)
        name = f"{name[:40]}..." if error.errno == errno.ENAMETOOLONG else name
        return _end(f"error: {name}: {what}; {remedy}", 2)
    except RecursionError:
        return _end("error: a file is nested too deep to be read; give another", 2)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return _end(f"error: the memory is not enough; {COMMANDS[arguments[0]][0].IF_MEMORY_FAILS}", 2)


def _name_files(files: list[Any] | None) -> None:
    if files is not None and is_main_process():
        print("\n".join(["wrote:", *(f"  {as_utf8(str(path))}" for path in files)] if files else ["nothing to write"]))


def _end(sentence: str, exit_code: int) -> int:
    close_progress_bars()
    process = "" if is_main_process() else f"process {os.environ['RANK']}: "
    print(f"{process}{sanitize_for_terminal(sentence)}", file=sys.stderr)
    return exit_code


def _terminate(number: int, frame: Any) -> None:
    raise Terminated


def run_as_program() -> None:
    """Run the command line of this process and end it."""
    sys.stdout, sys.stderr = FaultTolerantStream(sys.stdout), FaultTolerantStream(sys.stderr)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        exit_code = main()
    except Exception:
        traceback.print_exc()
        exit_code = 1
    processes.end_at_once(exit_code)
    sys.exit(exit_code)


if __name__ == "__main__":
    run_as_program()
