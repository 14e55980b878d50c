"""Logs of a run: config.json, log.csv, validation.csv and TensorBoard's events."""

import contextlib
import csv
import json
import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facts import METRICS
from models.network import Network
from objectives import OBJECTIVES
from system.devices import describe_device
from system.errors import UserError
from system.files import atomic_write, explain_write_errors
from system.version import git_commit
from training.file_names import CONFIG, LOG, TENSORBOARD, TEXT_LOG, VALIDATION
from training.inputs import Inputs
from utils import copy_lines_to


class RunLog(contextlib.ExitStack):
    """The logs of one run, opened when the run begins or continues; printed lines go to its text log too.

    Args:
        folder: directory of the run.
        iteration: of the checkpoint; later rows, of a run that was stopped, are dropped.
        epoch: of the checkpoint if the run validates; later validations are dropped.
        description: content of config.json.
        logger: "tensorboard" or "none".

    Raises:
        UserError: if an existing log is not a CSV file, the disk is full or the directory is not writable.
    """

    def __init__(
        self, folder: Path, iteration: int, epoch: int | None, description: Mapping[str, Any], logger: str = "none"
    ) -> None:
        super().__init__()
        self.path, self.validation_path = folder / LOG, folder / VALIDATION
        self.files = [self.path, folder / CONFIG, folder / TEXT_LOG]
        with atomic_write(folder / CONFIG) as temporary:
            temporary.write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        _keep_rows(self.path, ["epoch", "iteration", "lr", *OBJECTIVES], "iteration", iteration)
        if epoch is not None:
            _keep_rows(self.validation_path, ["epoch", *METRICS], "epoch", epoch)
            self.files.append(self.validation_path)
        self._tensorboard = _open_tensorboard(folder / TENSORBOARD, iteration) if logger == "tensorboard" else None
        if self._tensorboard:
            self.files.append(folder / TENSORBOARD)
            self.callback(_close_tensorboard, self._tensorboard)
        with explain_write_errors(folder / TEXT_LOG):
            self.enter_context(copy_lines_to(folder / TEXT_LOG))

    def losses(self, epoch: int, iteration: int, rate: float, means: Sequence[float | None]) -> None:
        """Add a row of mean losses; None for an objective without mini-batches."""
        _append(self.path, [epoch, iteration, rate, *("" if m is None else repr(m) for m in means)])
        if self._tensorboard:
            self._tensorboard.add_scalar("learning_rate", rate, iteration)
            for name, mean in zip(OBJECTIVES, means, strict=True):
                if mean is not None:
                    self._tensorboard.add_scalar(f"loss/{name}", mean, iteration)

    def validation(self, epoch: int, iteration: int, row: Mapping[str, float]) -> None:
        """Add the mean metrics of a validation."""
        _append(self.validation_path, [epoch, *(repr(row[m]) for m in METRICS)])
        if self._tensorboard:
            for metric, value in row.items():
                self._tensorboard.add_scalar(f"validation/{metric}", value, iteration)

    def validations(self) -> list[tuple[int, float]]:
        """Return [(epoch, MPSNR), ...] of the validations so far."""
        with open(self.validation_path, newline="") as f:
            rows = [row for row in csv.DictReader(f) if row.get("MPSNR") and _count_of(row["epoch"]) < math.inf]
            return [(int(row["epoch"]), float(row["MPSNR"])) for row in rows]


def describe(inputs: Inputs, iterations: int, model: Network, device: torch.device, processes: int) -> dict[str, Any]:
    """Return the content of config.json: all settings as resolved, the data, the device and the versions."""
    return {
        **inputs.config.as_dict(),
        "patch_size": inputs.streams["labelled"].source.size,
        "patch_stride": inputs.config.patch[1],
        "n_colors": inputs.n_colors,
        "iterations": iterations,
        "patches": inputs.patch_counts,
        "rgb_is_halved": inputs.rgb_is_halved,
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": describe_device(device),
        "processes": processes,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "git_commit": git_commit(),
    }


def _append(path: Path, row: Sequence[Any]) -> None:
    with explain_write_errors(path), open(path, "a", newline="") as f:
        csv.writer(f).writerow(row)


def _count_of(text: str | None) -> float:
    """Parse an epoch or iteration; an unreadable one is infinite, so that its row counts as later than a checkpoint."""
    return int(text) if text and text.isdecimal() and len(text) < 19 else math.inf


def _keep_rows(path: Path, header: Sequence[str], key: str, last: int) -> None:
    """Start a CSV file with its header; of an existing one keep the rows up to a checkpoint's epoch or iteration."""
    rows = []
    if path.is_file():
        try:
            with open(path, newline="", encoding="utf-8") as f:
                found = list(csv.DictReader(f))
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path}: is not text of numbers between commas; move it away") from error
        # Rows that a stopped run has not completed, or with other columns, are dropped.
        whole = [row for row in found if None not in row.values() and row.keys() <= set(header)]
        rows = [row for row in whole if _count_of(row.get(key)) <= last]
    with atomic_write(path) as temporary, open(temporary, "w", newline="") as f:
        writer = csv.DictWriter(f, header)
        writer.writeheader()
        writer.writerows(rows)


def _open_tensorboard(folder: Path, iteration: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    # Events later than the checkpoint are purged.
    return SummaryWriter(folder, purge_step=iteration + 1 if iteration else None)


def _close_tensorboard(writer: Any) -> None:
    # On a full disk, which is reported already, it cannot write its buffer.
    with contextlib.suppress(OSError):
        writer.close()
