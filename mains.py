#!/usr/bin/env python3
"""Hyperspectral image super-resolution from the command line: prepare, info, train, test, predict, tables, demo.

`python mains.py COMMAND --help` lists a command's flags. Commands end by naming the files they wrote.
Exit codes: 0 done, 2 something given is wrong (one sentence says what), 130 stopped by Ctrl-C, 1 else.
`torchrun --nproc-per-node N mains.py COMMAND ...` runs train and test on N devices.
"""

import dataclasses
import difflib
import errno
import inspect
import os
import sys

import fire

import config
from training import processes as distributed
from utils import Interrupted, UserError, close_progress_bars, is_main_process, is_out_of_memory

COMMANDS, CONFIG_OF = {}, {}


def command(config_class):
    """Make a function a command, with the flags of a config class as its signature and help text."""

    def decorate(function):
        fields = dataclasses.fields(config_class)
        function.__signature__ = inspect.Signature(
            [
                inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
                for f in fields
            ]
        )
        arguments = "\n".join(f"    {f.name}: {f.metadata['help']}" for f in fields)
        function.__doc__ = f"{config_class.__doc__}\n\nArgs:\n{arguments}\n"
        COMMANDS[function.__name__], CONFIG_OF[function.__name__] = function, config_class
        return function

    return decorate


class Job:
    """A validated command that waits until the whole command line has been understood."""

    def __init__(self, run):
        self._run = run


@command(config.PrepareConfig)
def prepare(**flags):
    settings = config.PrepareConfig.from_flags(flags)

    def run():
        from data.export import export
        from data.prepare import prepare as write_stores

        stores, written = write_stores(settings)
        if settings.format == "mat":
            written += export(stores, settings.n_scale, *settings.patch, settings.protocol)
        if settings.check:
            from evaluation.bicubic_check import check_stores
            from tables.published import bicubic_row

            row = bicubic_row(settings.dataset_name, settings.n_scale)
            check_stores(stores, settings.dataset_name, settings.n_scale, row)
        return written

    return Job(run)


@command(config.InfoConfig)
def info(**flags):
    settings = config.InfoConfig.from_flags(flags)

    def run():
        from data.store import describe

        print(describe(settings.store, settings.verify))

    return Job(run)


@command(config.TrainConfig)
def train(**flags):
    settings = config.TrainConfig.from_flags(flags)

    def run():
        from trainer import Trainer

        return Trainer(settings).train()

    return Job(run)


@command(config.TestConfig)
def test(**flags):
    settings = config.TestConfig.from_flags(flags)

    def run():
        from evaluation.scoring import test as score

        return score(settings)

    return Job(run)


@command(config.PredictConfig)
def predict(**flags):
    settings = config.PredictConfig.from_flags(flags)

    def run():
        from predict import predict as super_resolve_files

        return super_resolve_files(settings)

    return Job(run)


@command(config.TablesConfig)
def tables(**flags):
    settings = config.TablesConfig.from_flags(flags)

    def run():
        from tables import make_tables

        return make_tables(settings)

    return Job(run)


@command(config.DemoConfig)
def demo(**flags):
    settings = config.DemoConfig.from_flags(flags)

    def run():
        from demo import run_demo

        return run_demo(settings)

    return Job(run)


def checked_arguments(arguments):
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
    fields = {f.name: f for f in dataclasses.fields(CONFIG_OF[name])}
    positional = getattr(CONFIG_OF[name], "POSITIONAL", None)
    checked, position = [name], 0
    while position < len(words):
        word = words[position]
        position += 1
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
        if not equals:
            if position < len(words) and not words[position].startswith("--"):
                value = words[position]
                position += 1
            elif fields[flag].type is bool:
                value = "1"
            else:
                raise UserError(f"--{flag} has no value; give one behind it")
        checked.append(f"--{flag}={value!r}")
    return checked


def main(arguments=None):
    """Run one command line; returns the exit code."""
    try:
        arguments = checked_arguments(sys.argv[1:] if arguments is None else list(arguments))
        job = fire.Fire(COMMANDS, command=arguments, name="mains.py", serialize=lambda _: None)
        if isinstance(job, Job):
            files = job._run()
            if files is not None and is_main_process():
                print("\n".join(["wrote:", *(f"  {path}" for path in files)] if files else ["nothing to write"]))
        return 0
    except UserError as error:
        return _end(f"error: {error.on_command_line()}", 2)
    except KeyboardInterrupt:
        return _end("stopped", 130)
    except fire.core.FireExit as leaving:
        return leaving.code
    except Interrupted as stop:
        return _end(str(stop), stop.exit_code)
    except distributed.PeerLostError as error:
        return _end(f"error: {error}", 1)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return _end(
            f"error: {str(error.filename)[:40]}...: the name is too long for the file system; give a shorter one", 2
        )
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return _end(f"error: the memory is not enough; {CONFIG_OF[arguments[0]].IF_MEMORY_FAILS}", 2)
    finally:
        distributed.leave()


def _end(sentence, exit_code):
    close_progress_bars()
    process = "" if is_main_process() else f"process {os.environ['RANK']}: "
    print(f"{process}{sentence}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
