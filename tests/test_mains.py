import contextlib
import dataclasses
import os
import pty
import subprocess
import sys

import pytest
from helpers import ROOT

import mains
from mains import checked_arguments
from system.errors import UserError


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["trian"], "did you mean train?"),
        (["xyz"], "give one of prepare, info, train, test, predict, tables, demo"),
        (["train", "--UseRBG", "1"], "did you mean --UseRGB?"),
        (["train", "--zzzzzz", "1"], "--help lists the flags"),
        (["train", "stray"], "'stray' belongs to no flag"),
        (["train", "--seed", "1", "stray"], "'stray' belongs to no flag"),
        (["train", "--save_dir"], "--save_dir has no value"),
        (["train", "--save_dir", "--seed", "1"], "--save_dir has no value"),
        (["train", "-n", "1"], "'-n' belongs to no flag"),
    ],
)
def test_mistyped_command_lines_are_refused_before_any_work(refused, words, sentence):
    assert sentence in refused(*words)


def test_words_reach_text_flags_as_they_are_typed():
    line = "train --train_dir_mslabel 1e5 --save_dir a,b --dataset_name 2020 --learning_rate=-1 --UseRGB --seed 7"
    assert checked_arguments(line.split()) == [
        "train", "--train_dir_mslabel='1e5'", "--save_dir='a,b'", "--dataset_name='2020'", "--learning_rate='-1'",
        "--UseRGB='1'", "--seed='7'",
    ]  # fmt: skip


def test_short_flags_that_the_help_shows_are_taken():
    line = ["predict", "-i", "a", "-w", "400,700"]
    assert checked_arguments(line) == ["predict", "--input='a'", "--wavelengths='400,700'"]
    # --output or --overwrite?
    with pytest.raises(UserError, match="'-o' belongs to no flag"):
        checked_arguments([*line, "-o", "b"])


@pytest.mark.parametrize("path", ["it's", "{x}", "#1", "a b", "True", "()", "ä/ö", '"quoted"', "1_000", "--"])
def test_odd_paths_come_through_the_whole_command_line(refused, path):
    sentence = refused("train", train_dir_mslabel=path)
    assert f"--train_dir_mslabel {path}: no such file or folder" in sentence


@pytest.mark.parametrize("command", mains.COMMANDS)
def test_help_writes_the_flags_to_standard_output(run, command):
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    assert "FLAGS" in out
    for field in dataclasses.fields(mains.COMMANDS[command][0]):
        assert f"--{field.name}" in out
        # The help wraps its lines.
        assert field.metadata["help"].split()[0] in out


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_without_a_command_the_commands_are_listed(run, words):
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert all(name in out for name in ("prepare", "info", "train", "test", "predict", "tables", "demo"))


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"]])
def test_help_starts_no_pager_on_a_terminal(words, tmp_path):
    pager = tmp_path / "pager"
    pager.write_text(f"#!/bin/sh\ntouch {tmp_path}/paged\ncat\n")
    pager.chmod(0o755)
    main, terminal = pty.openpty()
    command = [sys.executable, ROOT / "mains.py", *words]
    environment = {**os.environ, "PAGER": str(pager), "TERM": "xterm"}
    with subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment, stdin=terminal) as process:
        os.close(terminal)
        shown = b""
        # The terminal's end is an error on Linux.
        with contextlib.suppress(OSError):
            while piece := os.read(main, 4096):
                shown += piece
    os.close(main)
    assert process.returncode == 0
    assert b"SYNOPSIS" in shown and not (tmp_path / "paged").exists()
