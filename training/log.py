"""What a run writes about itself: config.json, log.csv, validation.csv and TensorBoard's events."""

import contextlib
import csv
import json
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metrics import METRICS
from system.errors import UserError
from system.files import atomic_write, explain_write_errors
from training.inputs import Inputs


class RunLog:
    """The logs of one run, opened when the run begins or goes on.

    Args:
        folder: the run's folder.
        objectives: names of the losses.
        iteration: rows after this iteration, left by a run that was stopped, are dropped.
        epoch: validations after this epoch likewise.
        validates: whether there will be validations.
        description: what config.json holds.
    """

    def __init__(
        self,
        folder: Path,
        objectives: Sequence[str],
        iteration: int,
        epoch: int,
        validates: bool,
        description: Mapping[str, Any],
    ) -> None:
        self.objectives = objectives
        self.path, self.validation_path = folder / "log.csv", folder / "validation.csv"
        config_path = folder / "config.json"
        with atomic_write(config_path) as temporary:
            temporary.write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        header = ["epoch", "iteration", "lr", *objectives]
        _keep_rows(self.path, header, lambda row: _number_in(row, "iteration") <= iteration)
        self.files = [self.path, config_path]
        if validates:
            _keep_rows(self.validation_path, ["epoch", *METRICS], lambda row: _number_in(row, "epoch") <= epoch)
            self.files.append(self.validation_path)
        self._tensorboard = _tensorboard(folder / "tensorboard", iteration)
        if self._tensorboard:
            self.files.append(folder / "tensorboard")

    def losses(self, epoch: int, iteration: int, rate: float, means: Sequence[float | None]) -> None:
        """Add a row of mean losses; None for an objective that took no part."""
        _append(self.path, [epoch, iteration, rate, *("" if m is None else repr(m) for m in means)])
        if self._tensorboard:
            self._tensorboard.add_scalar("learning_rate", rate, iteration)
            for name, mean in zip(self.objectives, means, strict=True):
                if mean is not None:
                    self._tensorboard.add_scalar(f"loss/{name}", mean, iteration)

    def validation(self, epoch: int, iteration: int, row: Mapping[str, float]) -> None:
        """Add the mean metrics of a validation."""
        _append(self.validation_path, [epoch, *(repr(row[m]) for m in METRICS)])
        if self._tensorboard:
            for metric, value in row.items():
                self._tensorboard.add_scalar(f"validation/{metric}", value, iteration)

    def validations(self) -> list[tuple[int, float]]:
        """[(epoch, MPSNR), ...] of the validations so far."""
        with open(self.validation_path, newline="") as f:
            rows = [row for row in csv.DictReader(f) if row.get("MPSNR") and np.isfinite(_number_in(row, "epoch"))]
            return [(int(row["epoch"]), float(row["MPSNR"])) for row in rows]

    def close(self) -> None:
        """End what stands open."""
        if self._tensorboard:
            # On a full disk, which has been told, it cannot write what it still holds.
            with contextlib.suppress(OSError):
                self._tensorboard.close()


def description_of(
    inputs: Inputs, iterations: int, model: torch.nn.Module, device: torch.device, processes: int
) -> dict[str, Any]:
    """What config.json holds: every setting as resolved, and what the run ran on."""
    config = inputs.config
    _, stride = config.patch
    threads = torch.get_num_threads()
    on_cpu = f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    return {
        **config.as_dict(),
        "patch_size": inputs.streams["labelled"].source.size,
        "patch_stride": stride,
        "n_colors": inputs.n_colors,
        "iterations": iterations,
        "patches": inputs.patch_counts,
        "rgb_is_halved": inputs.rgb_is_halved,
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else on_cpu,
        "processes": processes,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "git_commit": git_commit(),
    }


def git_commit() -> str | None:
    """The commit of the program that runs, or None where git does not tell."""
    command = ["git", "-C", str(Path(__file__).parent.parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _append(path: Path, row: Sequence[Any]) -> None:
    with explain_write_errors(path), open(path, "a", newline="") as f:
        csv.writer(f).writerow(row)


def _number_in(row: dict[str, str], name: str) -> float:
    """A row's count; infinite where it cannot be read, so that the row counts as from after the checkpoint."""
    try:
        return int(row[name])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _keep_rows(path: Path, header: Sequence[str], keep: Callable[[dict[str, str]], bool]) -> None:
    """Start a CSV with its header, or keep of an existing one the rows from before a checkpoint."""
    rows = []
    if path.is_file():
        try:
            with open(path, newline="", encoding="utf-8") as f:
                found = list(csv.DictReader(f))
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path}: no text of numbers between commas any more; move it away") from error
        # What a stopped run has written of a row, and what others have added to one, is no row.
        rows = [row for row in found if None not in row.values() and row.keys() <= set(header) and keep(row)]
    with atomic_write(path) as temporary, open(temporary, "w", newline="") as f:
        writer = csv.DictWriter(f, header)
        writer.writeheader()
        writer.writerows(rows)


def _tensorboard(folder: Path, iteration: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    # What was noted at the iteration of the checkpoint is not noted again.
    return SummaryWriter(folder, purge_step=iteration + 1 if iteration else None)
