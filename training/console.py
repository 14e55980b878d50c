"""Terminal output of a training: summary at the start, progress bar, a line for each row of the log, expected time."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import objectives
from config import TrainConfig
from models.network import Network
from system.devices import describe_device
from system.version import describe_version
from training.file_names import LAST, TEXT_LOG
from training.inputs import Inputs
from training.run_directory import RunDirectory
from utils import print_line, progress_bar

# Seconds of work before the total time is estimated, and between lines of the log on the terminal.
SECONDS_TO_ESTIMATE, SECONDS_BETWEEN_LINES = 15, 60
# Estimates below these many seconds are not printed; above DAY, a CPU is too slow for the recipe.
SHORT, DAY = 60, 24 * 3600
SHORT_RUN = "for a run of three minutes see 'Train and test' in README.md"


def describe_start(inputs: Inputs, model: Network, processes: int, iterations: int, run_dir: RunDirectory) -> str:
    """Return the summary of a run that starts, in six lines.

    Args:
        inputs: data and settings of the run.
        model: the network, on its device.
        processes: number of processes.
        iterations: number of iterations of the whole run.
        run_dir: the run's directory.
    """
    config, counts, device = inputs.config, inputs.patch_counts, next(model.parameters()).device
    scenes = len(inputs.contents["labelled"].bands)
    size = inputs.streams["labelled"].source.size
    data = [f"{scenes} labelled scenes, {inputs.n_colors} bands, {counts['labelled']:,} patches of {size} x {size}"]
    streams = {"rgb": "RGB", "unlabelled": "unlabelled"}
    data += [f"{counts[name]:,} {words} patches" for name, words in streams.items() if name in counts]
    losses = [f"{o.name} x{repeats}" if repeats > 1 else o.name for o, repeats in objectives.list_active(config)]
    parameters = sum(p.numel() for p in model.parameters())
    lines = {
        "program": f"{describe_version()}, torch {torch.__version__}",
        "network": f"{config.model_title} x{config.n_scale}, F={config.n_feats}, {parameters:,} parameters",
        "data": ", ".join(data),
        "losses": f"{', '.join(losses)}; {iterations:,} iterations of batches of {config.batch_size * processes}",
        "device": f"{describe_device(device)}, {config.precision}"
        + (f", {processes} processes" if processes > 1 else ""),
        "run": str(run_dir.path),
    }
    return "\n".join(f"{name:8} {text}" for name, text in lines.items())


def describe_end(config: TrainConfig, weights: Path, spikes: int) -> str:
    """Return the last lines of a run: the intervals of the log with loss spikes, and the command that follows."""
    words = f"next: python mains.py test --model_dir {weights} --test_dir {config.test_dir or 'TEST_STORE'}"
    words += f" --protocol {config.protocol}" if config.protocol else ""
    if not spikes:
        return words
    advice = "" if 0 < config.clip_gradient <= 0.05 else "; --clip_gradient 0.05 reduces them"
    return f"{spikes} intervals of the log contain loss spikes, see {TEXT_LOG}{advice}\n{words}"


def describe_loss_remedy(config: TrainConfig, run_dir: RunDirectory) -> str:
    """Return the remedy for a loss that is not finite or diverges."""
    gentler = f"give a --learning_rate below {config.learning_rate:g} (or --clip_gradient 0.05)"
    if run_dir.checkpoints:
        return f"{LAST} in {run_dir.path} is from before; {gentler} and --resume last, or start anew"
    return f"the run has no checkpoint yet; start again: {gentler}"


def describe_position(iteration: int) -> str:
    """Return the position of a run that another process's end has stopped, and how to resume."""
    return (
        f" at iteration {iteration}; the message of that process contains the reason; to resume from the last "
        "checkpoint, repeat the command with --resume last"
    )


def describe_resume(path: Path, run: Mapping[str, Any], config: TrainConfig, iteration: int, rate: float) -> str:
    """Return the lines on a resumed run: its checkpoint, and the schedule if the number of epochs has changed."""
    words = f"{path}: resuming after iteration {iteration}"
    if (planned := run["config"].get("epochs", config.epochs)) == config.epochs:
        return words
    return (
        f"{words}\n{config.epochs} epochs in place of {planned}: the {config.schedule} schedule spans all of them, so "
        f"that the learning rate continues at {rate:.3g}"
    )


def format_duration(seconds: float) -> str:
    """Format a duration with the unit that leaves at most three digits."""
    for unit, size in (("days", DAY), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.{0 if seconds >= 10 * size else 1}f} {unit}".replace(".0 ", " ")
    return f"{seconds:.0f} seconds"


class TrainingProgress(contextlib.ExitStack):
    """Progress bar of a training, at most 80 columns wide, which moves with each mini-batch.

    Args:
        total: iterations of the whole run.
        initial: iterations done before.
        device: of the network.
    """

    def __init__(self, total: int, initial: int, device: torch.device) -> None:
        super().__init__()
        self._total, self._initial, self._done = total, initial, float(initial)
        self._device, self._is_estimated, self._started, self._printed = device, False, 0.0, 0.0
        self._form = "{percentage:3.0f}% {n:.0f}/{total:.0f} [{elapsed}<{remaining}{postfix}]"

    def __enter__(self) -> "TrainingProgress":
        self._bar = self.enter_context(progress_bar(total=self._total, initial=self._initial, bar_format=self._form))
        self._started = self._printed = time.monotonic()
        return self

    def update(self, share: float) -> None:
        """Add a share of an iteration, 0..1; print the expected time once it can be estimated."""
        self._done += share
        self._bar.update(share)
        if not self._is_estimated and time.monotonic() - self._started >= SECONDS_TO_ESTIMATE:
            self._is_estimated = True
            self._print_estimate()

    def show_losses(self, epoch: int, names: Sequence[str], means: Sequence[float | None]) -> None:
        """Show the epoch and the mean losses behind the bar."""
        self._bar.set_postfix_str(f"e{epoch} {_format_losses(names, means)}", refresh=False)

    def log(
        self, epoch: int, rate: float, names: Sequence[str], means: Sequence[float | None], spikes: Sequence[str]
    ) -> None:
        """Write a line to the text log; to the terminal at most once a minute, and if losses have spiked.

        Args:
            epoch: from 1.
            rate: learning rate.
            names, means: of the losses since the line before; None for a loss without mini-batches.
            spikes: descriptions of the losses that have spiked.
        """
        self.show_losses(epoch, names, means)
        now = time.monotonic()
        line = f"{round(self._done):,}/{self._total:,} e{epoch} lr {rate:.1e} {_format_losses(names, means)}"
        line += f" left {format_duration(self._estimate()[1])}" + (f"; spike: {', '.join(spikes)}" if spikes else "")
        is_due = now - self._printed >= SECONDS_BETWEEN_LINES
        print_line(line, to_terminal=is_due or bool(spikes))
        self._printed = now if is_due else self._printed

    def _estimate(self) -> tuple[float, float]:
        """Return the seconds of an iteration so far, and of all that remain."""
        seconds = (time.monotonic() - self._started) / max(self._done - self._initial, 1e-9)
        return seconds, seconds * (self._total - self._done)

    def _print_estimate(self) -> None:
        """Print the expected time if it is not short."""
        seconds, remaining = self._estimate()
        if remaining < SHORT:
            return
        is_slow = remaining > DAY and self._device.type == "cpu"
        words = f"expected time: about {format_duration(remaining)}, {seconds:.3g} s an iteration"
        print_line(words + (f" on this CPU; {SHORT_RUN}" if is_slow else ""))


def _format_losses(names: Sequence[str], means: Sequence[float | None]) -> str:
    """Format mean losses with the first letters of their names: lab .0153 mix .0141."""
    return " ".join(
        f"{name[:3]} {f'{mean:.4f}'.removeprefix('0')}"
        for name, mean in zip(names, means, strict=True)
        if mean is not None
    )
