import contextlib
import os
import pty
import shutil
import subprocess
import sys

import pytest
from helpers import ROOT

from config import CONFIGS, TrainConfig, declared_flags
from config.fields import GROUPS
from mains import FUNCTIONS, parse_flags
from system.errors import UserError
from system.version import VERSION


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["trian"], "did you mean train?"),
        (["xyz"], "give one of prepare, info, train, test, tables, predict, adapt, demo"),
        (["train", "--UseRBG", "1"], "did you mean --UseRGB?"),
        (["train", "--zzzzzz", "1"], "--help lists the flags"),
        (["train", "stray"], "'stray' belongs to no flag"),
        (["train", "--seed", "1", "stray"], "'stray' belongs to no flag"),
        (["train", "--save_dir"], "--save_dir has no value"),
        (["train", "--save_dir", "--seed", "1"], "--save_dir has no value"),
        (["train", "-n", "1"], "'-n' belongs to no flag"),
    ],
)
def test_mistyped_commands_are_refused_before_work(refused, words, sentence):
    assert sentence in refused(*words)


def test_text_flags_receive_words_as_typed():
    line = "--train_dir_mslabel 1e5 --save_dir a,b --dataset_name 2020 --learning_rate=-1 --UseRGB --seed 7"
    assert parse_flags("train", line.split()) == {
        "train_dir_mslabel": "1e5", "save_dir": "a,b", "dataset_name": "2020", "learning_rate": "-1", "UseRGB": "1",
        "seed": "7",
    }  # fmt: skip


def test_unambiguous_initials_are_accepted_as_flags():
    line = ["-i", "a", "-w", "400,700"]
    assert parse_flags("predict", line) == {"input": "a", "wavelengths": "400,700"}
    # --output or --overwrite?
    with pytest.raises(UserError, match="'-o' belongs to no flag"):
        parse_flags("predict", [*line, "-o", "b"])


@pytest.mark.parametrize("path", ["it's", "{x}", "#1", "a b", "True", "()", "ä/ö", '"quoted"', "1_000", "--"])
def test_special_characters_in_paths_are_kept(refused, path):
    sentence = refused("train", train_dir_mslabel=path)
    assert f"--train_dir_mslabel {path}: no such file or folder" in sentence


@pytest.mark.parametrize("command", FUNCTIONS)
def test_help_prints_all_flags_to_stdout(run, command):
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    for field in declared_flags(CONFIGS[command]):
        assert f"  --{field.name} " in out
        assert " ".join(field.metadata["help"].split()) in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80


def test_help_groups_flags_and_marks_required_ones(run):
    _, out, _ = run("train", "--help")
    assert [line[:-1] for line in out.splitlines() if line[:-1] in GROUPS] == list(GROUPS)
    (required,) = [part for part in out.split("  --") if "(required)" in part]
    assert required.startswith("train_dir_mslabel ")
    (rate,) = [part for part in out.split("  --") if part.startswith("learning_rate ")]
    assert rate.count(str(TrainConfig.learning_rate)) == 1


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_commands_are_listed_in_order_of_use(run, words):
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    listed = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    assert listed == ["prepare", "info", "train", "test", "tables", "predict", "adapt", "demo"] == list(FUNCTIONS)
    assert "--help" in out and max(map(len, out.splitlines())) <= 80


def test_version_names_release_and_commit(run):
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    code, out, _ = run("--version")
    assert (code, out.split()[0]) == (0, VERSION)
    assert not commit or f"(commit {commit[:12]})" in out


@pytest.mark.parametrize(
    "words", ["[]", "['--version']", "['train', '--help']", "['info', 'STORE']", "['tables', 'RUNS']"]
)
def test_light_commands_do_not_import_torch(words, stores, tmp_path):
    shutil.copytree(ROOT / "tests" / "tables" / "earlier", tmp_path / "runs")
    line = words.replace("STORE", str(stores / "test.h5")).replace("RUNS", str(tmp_path / "runs"))
    program = f"import mains, sys; assert mains.main({line}) == 0; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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
    assert b"usage: python mains.py" in shown and not (tmp_path / "paged").exists()
