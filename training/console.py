"""Terminal output of a training: summary at the start, progress bar, a line for each row of the log, expected time."""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import objectives
from models.network import Network
from system.version import describe_version
from training.inputs import Inputs
from utils import print_line, progress_bar

# Seconds of work before the total time is estimated, and between lines of the log on the terminal.
SECONDS_TO_ESTIMATE, SECONDS_BETWEEN_LINES = 15, 60
# Estimates below these many seconds are not printed; above DAY, a CPU is too slow for the recipe.
SHORT, DAY = 60, 24 * 3600
SHORT_RUN = "for a run of three minutes see 'Train' in README.md"


def describe_start(
    inputs: Inputs, model: Network, device: torch.device, processes: int, iterations: int, run_dir: Path
) -> str:
    """Return the summary of a run that starts, in six lines.

    Args:
        inputs: data and settings of the run.
        model: the network.
        device: of the network.
        processes: number of processes.
        iterations: number of iterations of the whole run.
        run_dir: directory of the run.
    """
    config, counts = inputs.config, inputs.patch_counts
    scenes = len(inputs.contents["labelled"].bands)
    size = inputs.streams["labelled"].source.size
    data = [f"{scenes} labelled scenes, {inputs.n_colors} bands, {counts['labelled']:,} patches of {size} x {size}"]
    data += [f"{counts[name]:,} of {name} images" for name in ("rgb", "unlabelled") if name in counts]
    losses = [f"{o.name} x{repeats}" if repeats > 1 else o.name for o, repeats in objectives.active(config)]
    threads = torch.get_num_threads()
    place = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {threads} thread{'s'[: threads > 1]}"
    parameters = sum(p.numel() for p in model.parameters())
    lines = {
        "program": f"{describe_version()}, torch {torch.__version__}",
        "network": f"{config.model_title} x{config.n_scale}, F={config.n_feats}, {parameters:,} parameters",
        "data": ", ".join(data),
        "losses": f"{', '.join(losses)}; {iterations:,} iterations of batches of {config.batch_size * processes}",
        "device": f"{place}, {config.precision}" + (f", {processes} processes" if processes > 1 else ""),
        "run": str(run_dir),
    }
    return "\n".join(f"{name:8} {text}" for name, text in lines.items())


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
        elapsed = time.monotonic() - self._started
        if not self._is_estimated and elapsed >= SECONDS_TO_ESTIMATE:
            self._is_estimated = True
            self._print_estimate(elapsed / (self._done - self._initial))

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
        left = (now - self._started) / max(self._done - self._initial, 1e-9) * (self._total - self._done)
        line = f"{round(self._done):,}/{self._total:,} e{epoch} lr {rate:.1e} {_format_losses(names, means)}"
        line += f" left {format_duration(left)}" + (f"; spike: {', '.join(spikes)}" if spikes else "")
        is_due = now - self._printed >= SECONDS_BETWEEN_LINES
        print_line(line, to_terminal=is_due or bool(spikes))
        self._printed = now if is_due else self._printed

    def _print_estimate(self, seconds: float) -> None:
        """Print the time that remains at so many seconds an iteration."""
        remaining = seconds * (self._total - self._done)
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
