"""The directory of a run: its lock and its checkpoints; found for --resume, or made."""

import contextlib
import itertools
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from config import TrainConfig
from system.errors import UserError
from system.files import atomic_write, exclusive_lock, explain_write_errors, is_locked
from training.checkpoint import load_run
from training.file_names import LAST, PREVIOUS
from training.processes import World
from utils import print_line


class RunDirectory(contextlib.ExitStack):
    """The directory of one run, locked until the context ends; only the main process makes, locks and writes it.

    The directory of a resumed run is locked at once, that of a new one is made and locked on entering the context.

    Args:
        config: settings of the run.
        world: processes of the run.

    Attributes:
        path: of the directory; of a new run, certain only within the context.
        is_resumed: True if the run continues.

    Raises:
        UserError: if --resume does not name a run, or another process trains in its directory.
    """

    def __init__(self, config: TrainConfig, world: World) -> None:
        super().__init__()
        self._config, self._world = config, world
        self._is_last_damaged = False
        resumed: Path | None = world.on_main(self._lock_resumed)
        self.is_resumed = resumed is not None
        self.path = resumed or Path(config.save_dir).expanduser() / config.run_title

    def __enter__(self) -> "RunDirectory":
        if not self.is_resumed:
            self.path = self._world.on_main(self._make)
        return self

    @property
    def checkpoints(self) -> list[Path]:
        """Checkpoints that exist, the newest first."""
        return list_checkpoints(self.path)

    def load(self) -> tuple[dict[str, Any], Path]:
        """Load the newest checkpoint that can be read.

        Returns:
            (run, path): what `load_run` returns, and the file.

        Raises:
            UserError: if none can be read.
        """
        for path in (files := self.checkpoints):
            try:
                return load_run(path), path
            except UserError as error:
                if path == files[-1]:
                    raise
                print_line(f"{error}\ngoing back to {PREVIOUS}, the checkpoint before it")
                self._is_last_damaged = True
        raise UserError(f"{self.path}: has no {LAST}; give the folder of a run that has made a checkpoint")

    def save(self, content: Mapping[str, Any]) -> None:
        """Write a checkpoint atomically; the newest one becomes the previous one, unless it was damaged.

        Args:
            content: with the fields of `checkpoint.RUN`.

        Raises:
            UserError: if the disk is full or the directory is not writable.
        """
        with atomic_write(self.path / LAST, None if self._is_last_damaged else self.path / PREVIOUS) as temporary:
            torch.save(content, temporary)
        self._is_last_damaged = False

    def final_weights(self, epoch: int) -> Path:
        """Return the path of the weights after an epoch: those that exist, else a new one named as released weights."""
        stem = f"{self._config.weights_title}_epoch_{epoch}_"
        existing = sorted(self.path.glob(f"{stem}*.pth"))
        return existing[-1] if existing else self.path / f"{stem}{time.strftime('%Y%m%d-%H%M%S')}.pth"

    def _lock_resumed(self) -> Path | None:
        folder = find_run(self._config) if self._config.resume else None
        if folder and not self._try_lock(folder):
            raise UserError(f"{folder}: another process trains in it; wait for its end")
        return folder

    def _make(self) -> Path:
        """Make <save_dir>/<title>, or <title>_2, ... if a run with a checkpoint or weights is there, and lock it."""
        base = Path(self._config.save_dir).expanduser() / self._config.run_title
        for number in itertools.count(1):
            folder = base.with_name(f"{base.name}_{number}") if number > 1 else base
            if not any(folder.glob("*.pth")) and not is_locked(folder):
                with explain_write_errors(folder):
                    folder.mkdir(parents=True, exist_ok=True)
                if self._try_lock(folder):
                    break
        return folder

    def _try_lock(self, folder: Path) -> bool:
        """Lock a directory; return False if another process holds it."""
        try:
            self.enter_context(exclusive_lock(folder))
        except UserError:
            # Otherwise the disk is full or the directory is not writable.
            if is_locked(folder):
                return False
            raise
        return True


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a run's directory, the newest first."""
    return [folder / name for name in (LAST, PREVIOUS) if (folder / name).is_file()]


def find_run(config: TrainConfig) -> Path | None:
    """Find the directory of the run that --resume names.

    Returns:
        The directory; None for `last` if the network has no run in save_dir.

    Raises:
        UserError: if --resume does not name a run.
    """
    if config.resume == "last":
        title, save_dir = re.compile(re.escape(config.run_title) + r"(?:_(\d+))?"), Path(config.save_dir).expanduser()
        names = [title.fullmatch(folder.name) for folder in save_dir.glob("*") if list_checkpoints(folder)]
        # By number, since a clock can have been set back.
        if runs := {int(name[1] or 1): save_dir / name[0] for name in names if name}:
            return runs[max(runs)]
        print_line(f"no checkpoint of {config.run_title} under {config.save_dir}: starting from the beginning")
        return None
    path = Path(config.resume).expanduser()
    if path.is_dir():
        return path
    if path.name not in (LAST, PREVIOUS):
        load_run(path)
        raise UserError(f"{path}: --resume takes a run's folder or its {LAST}; give the checkpoint its name back")
    if not path.is_file() and not list_checkpoints(path.parent):
        raise UserError(f"{path}: no such file; give a run's folder or its {LAST}")
    return path.parent
