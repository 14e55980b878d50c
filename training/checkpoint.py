"""The folder of a run and its checkpoints: found, made, saved whole, gone on with."""

import contextlib
import itertools
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from config import TrainConfig, affecting
from models.weights import read_checkpoint
from utils import UserError, is_held, only_here, replacing, say, writing

# What a run leaves to go on from: the newest checkpoint and the one before it.
RUN_FILES = ("last.pth", "previous.pth")
RUN_KEYS = {
    *("config", "n_colors", "patches", "iteration", "per_epoch", "processes", "model", "averaged"),
    *("optimizer", "losses", "seconds"),
}


def save_run(content: Mapping[str, Any], folder: Path) -> None:
    """Save a run's checkpoint, a dict with RUN_KEYS, as last.pth; the one that was there becomes previous.pth."""
    last, previous = (folder / name for name in RUN_FILES)
    with replacing(last) as temporary:
        torch.save(content, temporary)
        if last.exists():
            last.replace(previous)


def run_files(folder: Path) -> list[Path]:
    """The checkpoints that are in a run's folder, the newest first."""
    return [folder / name for name in RUN_FILES if (folder / name).is_file()]


def load_newest_run(folder: Path) -> tuple[dict[str, Any], Path]:
    """The newest checkpoint of a run's folder that can be read.

    Returns:
        (run, path): what was saved, as a dict on the CPU, and its file.

    Raises:
        UserError: if none can be read.
    """
    files = run_files(folder)
    if not files:
        raise UserError(f"{folder}: has no last.pth; give the folder of a run that has made a checkpoint")
    for path, older in itertools.pairwise(files):
        try:
            return load_run(path), path
        except UserError as error:
            say(f"{error}\ngoing back to {older.name}, the checkpoint before it")
    return load_run(files[-1]), files[-1]


def load_run(path: Path) -> dict[str, Any]:
    """What `save_run` has saved, as a dict on the CPU."""
    run = read_checkpoint(path)
    if not isinstance(run, dict) or not run.keys() >= RUN_KEYS:
        raise UserError(f"{path}: not a checkpoint of a run; --resume takes a last.pth (weights go to --model_dir)")
    return run


def find_run(config: TrainConfig) -> Path | None:
    """The folder of the run to go on with, as --resume says; None for a run from the beginning.

    Raises:
        UserError: if what --resume names is no run's checkpoint.
    """
    if not config.resume:
        return None
    if config.resume != "last":
        path = Path(config.resume).expanduser()
        return path if path.is_dir() else _folder_of(path)
    if runs := list(_runs_called(config.run_title, Path(config.save_dir).expanduser())):
        # Not by the files' times: a clock may have been set back.
        return max(runs, key=lambda run: _number_of(run, config.run_title))
    say(f"no checkpoint of {config.run_title} under {config.save_dir}: starting from the beginning")
    return None


def new_run(config: TrainConfig) -> Path:
    """Make <save_dir>/<title>, or <title>_2, ... where a run with a checkpoint or weights is there already."""
    base = Path(config.save_dir).expanduser() / config.run_title
    folder, number = base, 1
    while any(folder.glob("*.pth")) or is_held(folder):
        number += 1
        folder = base.with_name(f"{base.name}_{number}")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def hold(folder: Path, config: TrainConfig, is_resumed: bool, held: contextlib.ExitStack) -> Path:
    """Make a run's folder this process's own until `held` is left.

    Returns:
        The folder; another new one where somebody took it first.

    Raises:
        UserError: for a run that is gone on with where another process trains in its folder.
    """
    while True:
        try:
            held.enter_context(only_here(folder))
            return folder
        except UserError as error:
            if is_resumed or not is_held(folder):
                raise UserError(f"{folder}: another process trains in it; wait for its end") from error
            folder = new_run(config)


def final_weights(folder: Path, config: TrainConfig, epoch: int) -> Path:
    """Where the weights after an epoch go: the file that is there already, else a new one called as released ones."""
    stem = f"{config.weights_title}_epoch_{epoch}_"
    existing = sorted(folder.glob(f"{stem}*.pth"))
    return existing[-1] if existing else folder / f"{stem}{time.strftime('%Y%m%d-%H%M%S')}.pth"


def refuse_other_run(
    run: Mapping[str, Any], path: Path, config: TrainConfig, patches: dict[str, int], processes: int
) -> None:
    """Refuse to go on with a run that had settings or data on which the result depends otherwise than now.

    Args:
        run, path: a checkpoint and its file.
        patches: how many there are now, by stream.
        processes: how many take part now.
    """
    now = config.as_dict()
    free = affecting(TrainConfig, "place", "speed", "remedy")
    if config.batch_size * processes == run["config"]["batch_size"] * run["processes"]:
        free.add("batch_size")
    changed = [
        f"--{k} {now[k]} (was {v})" for k, v in run["config"].items() if k in now and k not in free and now[k] != v
    ]
    if changed:
        raise UserError(
            f"{path}: that run had other settings: {', '.join(changed)}; give the same ones, or start anew without "
            "--resume"
        )
    if run["patches"] != patches:
        raise UserError(
            f"{path}: that run had {run['patches']} patches, now there are {patches}; give the same data, or start "
            "anew without --resume"
        )


def _folder_of(path: Path) -> Path:
    if path.name not in RUN_FILES:
        load_run(path)
        raise UserError(f"{path}: --resume takes a run's folder or its last.pth; give the checkpoint its name back")
    if not path.is_file() and not run_files(path.parent):
        raise UserError(f"{path}: no such file; give a run's folder or its last.pth")
    return path.parent


def _number_of(run: Path, title: str) -> int:
    """1 for <title>, N for <title>_N."""
    number = run.name.removeprefix(title).removeprefix("_")
    return int(number) if number else 1


def _runs_called(title: str, save_dir: Path) -> Iterator[Path]:
    for run in save_dir.glob("*"):
        if run_files(run) and (run.name == title or run.name.removeprefix(title + "_").isdecimal()):
            yield run
