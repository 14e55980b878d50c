"""The folder of a run and its checkpoints: found, made, saved whole, gone on with."""

import contextlib
import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from config import TrainConfig, affecting
from facts import AUGMENTATIONS
from models.weights import is_plain_tensor, read_checkpoint
from objectives import OBJECTIVES
from system.errors import UserError
from system.files import atomic_write, exclusive_lock, explain_write_errors, is_locked
from utils import print_line

# What a run leaves to go on from: the newest checkpoint and the one before it.
RUN_FILES = ("last.pth", "previous.pth")
RUN_KEYS = {
    *("config", "n_colors", "patches", "iteration", "per_epoch", "processes", "model", "averaged"),
    *("optimizer", "losses", "seconds"),
}
# What Adam keeps of a parameter: how often it was moved, and its two moments.
MOMENTS = ("exp_avg", "exp_avg_sq")
# Adam's switches that no run turns on, and what would be asked of its state if one were.
ADAM_OFF = ("amsgrad", "maximize", "differentiable")


def save_run(content: Mapping[str, Any], folder: Path, keep_previous: bool = False) -> None:
    """Save a run's checkpoint as last.pth; the one that was there becomes previous.pth.

    Args:
        content: a dict with RUN_KEYS.
        folder: the run's.
        keep_previous: previous.pth stays, since the last.pth that is there cannot be read.
    """
    last, previous = (folder / name for name in RUN_FILES)
    with atomic_write(last, None if keep_previous else previous) as temporary:
        torch.save(content, temporary)


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
            print_line(f"{error}\ngoing back to {older.name}, the checkpoint before it")
    return load_run(files[-1]), files[-1]


def load_run(path: Path) -> dict[str, Any]:
    """What `save_run` has saved, as a dict on the CPU.

    Raises:
        UserError: for a file that cannot be read, is no run's, or holds what no run leaves.
    """
    run = read_checkpoint(path)
    if not isinstance(run, dict) or not run.keys() >= RUN_KEYS:
        raise UserError(
            f"{path}: not a checkpoint of a run; --resume takes a last.pth; give weights to start from by --weights"
        )
    for wrong in (_wrong_of_counts, _wrong_of_tensors, _wrong_of_adam, _wrong_of_losses):
        if words := wrong(run):
            raise _damaged(path, words)
    return run


def check_moments(run: Mapping[str, Any], path: Path, parameters: Sequence[torch.Tensor]) -> None:
    """Refuse a state of Adam that is of other parameters: its fused steps would read beyond the tensors' ends.

    Args:
        run, path: a checkpoint of `load_run`, and its file.
        parameters: those of the network that goes on, in the optimizer's order.

    Raises:
        UserError: naming the first that does not fit.
    """
    count = len(run["optimizer"]["param_groups"][0]["params"])
    if count != len(parameters):
        raise _damaged(path, f"Adam's state is of {count} parameters, the network has {len(parameters)}")
    for k, moments in run["optimizer"]["state"].items():
        for name in MOMENTS:
            if moments[name].shape != parameters[k].shape:
                found, needed = (tuple(tensor.shape) for tensor in (moments[name], parameters[k]))
                raise _damaged(path, f"Adam's {name} of parameter {k} is of shape {found}, not {needed}")


def find_run(config: TrainConfig, held: contextlib.ExitStack) -> Path | None:
    """The folder of the run to go on with, as --resume says, this process's own until `held` is left.

    Returns:
        None for a run from the beginning.

    Raises:
        UserError: if what --resume names is no run's checkpoint, or another process trains in its folder.
    """
    folder = _run_to_resume(config) if config.resume else None
    if folder:
        try:
            held.enter_context(exclusive_lock(folder))
        except UserError as error:
            # A full disk, or a folder that may not be written, says so itself.
            if is_locked(folder):
                raise UserError(f"{folder}: another process trains in it; wait for its end") from error
            raise
    return folder


def _run_to_resume(config: TrainConfig) -> Path | None:
    if config.resume != "last":
        path = Path(config.resume).expanduser()
        return path if path.is_dir() else _folder_of(path)
    if runs := list(_runs_called(config.run_title, Path(config.save_dir).expanduser())):
        # Not by the files' times: a clock may have been set back.
        return max(runs, key=lambda run: _number_of(run, config.run_title))
    print_line(f"no checkpoint of {config.run_title} under {config.save_dir}: starting from the beginning")
    return None


def new_run(config: TrainConfig) -> Path:
    """Make <save_dir>/<title>, or <title>_2, ... where a run with a checkpoint or weights is there already."""
    base = Path(config.save_dir).expanduser() / config.run_title
    folder, number = base, 1
    while any(folder.glob("*.pth")) or is_locked(folder):
        number += 1
        folder = base.with_name(f"{base.name}_{number}")
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def hold(folder: Path, config: TrainConfig, held: contextlib.ExitStack) -> Path:
    """Make a new run's folder this process's own until `held` is left.

    Returns:
        The folder; another new one where somebody took it first.
    """
    while True:
        try:
            held.enter_context(exclusive_lock(folder))
            return folder
        except UserError:
            # A full disk, or a folder that may not be written.
            if not is_locked(folder):
                raise
            folder = new_run(config)


def final_weights(folder: Path, config: TrainConfig, epoch: int) -> Path:
    """Where the weights after an epoch go: the file that is there already, else a new one called as released ones."""
    stem = f"{config.weights_title}_epoch_{epoch}_"
    existing = sorted(folder.glob(f"{stem}*.pth"))
    return existing[-1] if existing else folder / f"{stem}{time.strftime('%Y%m%d-%H%M%S')}.pth"


def refuse_other_run(
    run: Mapping[str, Any],
    path: Path,
    config: TrainConfig,
    patches: dict[str, int],
    conversion: str | None,
    processes: int,
) -> None:
    """Refuse to go on with a run that had settings or data on which the result depends otherwise than now.

    Args:
        run, path: a checkpoint and its file.
        patches: how many there are now, by stream.
        conversion: hash of the conversion of bands now; None without one.
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
            f"{path}: that run had other settings: {', '.join(changed)}; give the same ones, the folder of the run "
            "that is meant as --resume, or start anew without"
        )
    if run["patches"] != patches:
        raise UserError(
            f"{path}: that run had {run['patches']} patches, now there are {patches}; give the same data, or start "
            "anew without --resume"
        )
    # Older runs did not record it.
    if run.get("conversion") not in (None, conversion):
        raise UserError(
            f"{path}: that run had another conversion of bands; give the same --conversionMat_path, or start anew "
            "without --resume"
        )


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path}: {what}; copy it again, or start anew without --resume")


def _wrong_of_counts(run: Mapping[str, Any]) -> str:
    """What is wrong with the settings, counts and times of a run, in words; "" for nothing."""
    config, patches = run["config"], run["patches"]
    if not isinstance(config, dict) or not all(isinstance(v, (str, int, float, type(None))) for v in config.values()):
        return "config holds no settings"
    if not isinstance(patches, dict) or not all(map(_is_positive, patches.values())) or "labelled" not in patches:
        return "patches holds no numbers of patches"
    counts = {name: run[name] for name in ("n_colors", "per_epoch", "processes")}
    counts |= {
        name: config.get(name, TrainConfig.__dataclass_fields__[name].default) for name in ("batch_size", "epochs")
    }
    for name, value in counts.items():
        if not _is_positive(value):
            return f"{name} is {value!r:.40}, not a number from 1"
    per_epoch = -(-patches["labelled"] * AUGMENTATIONS // (counts["batch_size"] * counts["processes"]))
    if counts["per_epoch"] != per_epoch:
        return f"per_epoch is {counts['per_epoch']}, its patches make {per_epoch}"
    last = counts["epochs"] * per_epoch
    if not _is_whole(run["iteration"]) or not 0 <= run["iteration"] <= last:
        return f"iteration is {run['iteration']!r:.40}, not one of 0 to {last}"
    if not _is_finite(run["seconds"]) or run["seconds"] < 0:
        return f"seconds is {run['seconds']!r:.40}, not a time"
    return ""


def _wrong_of_tensors(run: Mapping[str, Any]) -> str:
    """What is wrong with a run's weights, in words; "" for nothing. Whether they fit the network is asked later."""
    for name in ("model", "averaged"):
        state = run[name]
        if name == "averaged" and state is None:
            if run["config"].get("ema_decay"):
                return "averaged is missing, of a run with --ema_decay"
        elif not isinstance(state, dict) or not state:
            return f"{name} holds no tensors"
        else:
            for key, tensor in state.items():
                if not isinstance(key, str) or not is_plain_tensor(tensor):
                    return f"{name} holds something else than tensors at {str(key)!r:.60}"
    return ""


def _wrong_of_adam(run: Mapping[str, Any]) -> str:
    """What is wrong with the optimizer's state, in words; "" for nothing. `check_moments` compares its shapes."""
    optimizer = run["optimizer"]
    groups = optimizer.get("param_groups") if isinstance(optimizer, dict) else None
    if not isinstance(groups, list) or len(groups) != 1 or not isinstance(groups[0], dict):
        return "optimizer holds no group of parameters"
    group, state = groups[0], optimizer.get("state")
    if not isinstance(state, dict) or not isinstance(group.get("params"), list):
        return "optimizer holds no state of Adam"
    if group["params"] != list(range(len(group["params"]))) or not set(state) <= set(group["params"]):
        return "optimizer holds the state of parameters that it does not name"
    betas = group.get("betas")
    if not isinstance(betas, (tuple, list)) or len(betas) != 2 or not all(_is_finite(b) and 0 <= b < 1 for b in betas):
        return f"Adam's betas are {betas!r:.40}"
    for name in ("lr", "eps", "weight_decay"):
        if not _is_finite(group.get(name)) or group[name] < 0:
            return f"Adam's {name} is {group.get(name)!r:.40}"
    for name in (*ADAM_OFF, "capturable", "fused", "foreach"):
        allowed = (None, False) if name in ADAM_OFF else (None, False, True)
        if not any(group.get(name) is value for value in allowed):
            return f"Adam's {name} is {group[name]!r:.40}"
    if group.get("fused") and group.get("foreach"):
        return "Adam is both fused and foreach"
    for k, moments in state.items():
        names = ("step", *MOMENTS)
        if not isinstance(moments, dict) or not all(is_plain_tensor(moments.get(n)) for n in names):
            return f"Adam's moments of parameter {k} are missing"
        if any(not moments[n].is_floating_point() or not torch.isfinite(moments[n]).all() for n in names):
            return f"Adam's moments of parameter {k} are not finite numbers"
        if moments["step"].numel() != 1 or moments["step"].min() < 0 or moments["exp_avg_sq"].lt(0).any():
            return f"Adam's moments of parameter {k} are none that it makes"
    return ""


def _wrong_of_losses(run: Mapping[str, Any]) -> str:
    """What is wrong with the losses since the last row of the log, in words; "" for nothing."""
    losses, count = run["losses"], len(OBJECTIVES)
    if not isinstance(losses, dict):
        return "losses holds no sums"
    sums: Any
    counts: Any
    lowest: Any
    sums, counts, lowest = (losses.get(name) for name in ("sums", "counts", "lowest"))
    if not is_plain_tensor(sums) or sums.shape != (count,) or not torch.isfinite(sums).all():
        return f"losses holds no sums of {count} losses"
    if (
        not isinstance(counts, (list, tuple))
        or len(counts) != count
        or not all(_is_whole(n) and n >= 0 for n in counts)
    ):
        return f"losses holds no counts of {count} losses"
    are_lowest = isinstance(lowest, (list, tuple)) and len(lowest) == count
    if not are_lowest or not all(m is None or _is_finite(m) for m in lowest):
        return f"losses holds no lowest means of {count} losses"
    return ""


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_positive(value: Any) -> bool:
    return _is_whole(value) and value > 0


def _is_finite(value: Any) -> bool:
    # Whole numbers may be too large for a float.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf


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
