"""Running means of the losses, with divergence and spike detection."""

from typing import Any

import torch

from objectives import OBJECTIVES
from system.errors import UserError
from system.records import Field
from training.processes import World

# A supervised loss diverges if its mean over a log interval is DIVERGED times the lowest mean so far, a spike is SPIKE
# times it. Means of fewer mini-batches depend on dark patches. A spike costs some tenths of a dB at the end.
DIVERGED, SPIKE, BATCHES_TO_JUDGE = 10, 1.5, 20

Means = list[float | None]
COUNT = len(OBJECTIVES)
# The losses in a checkpoint, one for each objective.
STATE = Field(
    dict,
    fields={
        "sums": Field(torch.Tensor),
        "counts": Field(list, COUNT, COUNT, items=Field(int, 0)),
        "lowest": Field(list, COUNT, COUNT, items=Field(float, is_optional=True)),
    },
)


class LossMeter:
    """Means of the losses since the last row of the log, accumulated on the device so that no step waits.

    Args:
        device: of the losses.
        world: the processes of the run.
    """

    def __init__(self, device: torch.device, world: World) -> None:
        self.names = list(OBJECTIVES)
        self._world = world
        self._sums = torch.zeros(len(self.names), dtype=torch.float64, device=device)
        self._counts = [0] * len(self.names)
        self._first_bad = torch.zeros((), dtype=torch.int64, device=device)
        self._lowest: Means = [None] * len(self.names)

    def add(self, name: str, loss: torch.Tensor, iteration: int) -> None:
        """Add the loss of a mini-batch in iteration 0, 1, ..."""
        k = self.names.index(name)
        self._sums[k] += loss
        self._counts[k] += 1
        is_first = ~torch.isfinite(loss) & (self._first_bad == 0)
        self._first_bad += is_first * ((iteration + 1) * len(self.names) + k)

    def means(self) -> Means:
        """Return the mean of each loss in this process, None for a loss without mini-batches."""
        return self._means_of(self._sums)

    def means_of_all(self) -> Means:
        """Return the mean of each loss over all processes, which all call this."""
        return self._means_of(self._world.sum_(self._sums.clone()) / self._world.size)

    def check(self, means: Means, iteration: int, per_epoch: int, remedy: str) -> None:
        """Stop the run if a loss is not finite or diverges; all processes call this.

        Args:
            means: of all processes, up to that iteration (from 1).
            iteration: number of iterations done.
            per_epoch: iterations in an epoch.
            remedy: end of the sentence.

        Raises:
            UserError: naming the loss and the iteration.
        """
        if first := self._world.largest(int(self._first_bad)):
            bad, k = divmod(first, len(self.names))
            raise UserError(
                f"the {self.names[k]} loss of iteration {bad} (epoch {(bad - 1) // per_epoch + 1}) is not finite; "
                f"{remedy}"
            )
        for name, mean, lowest in self._above(means, DIVERGED):
            raise UserError(
                f"the {name} loss diverges: {mean:.4g} in the mean of the iterations up to {iteration}, "
                f"{lowest:.4g} before; {remedy}"
            )

    def spikes(self, means: Means) -> list[str]:
        """Describe the losses that have spiked in this row of the log."""
        return [f"the {name} loss is {mean:.4g}, {low:.4g} before" for name, mean, low in self._above(means, SPIKE)]

    def _above(self, means: Means, times: float) -> list[tuple[str, float, float]]:
        """Return (name, mean, lowest mean) of the supervised losses whose mean is above `times` the lowest."""
        return [
            (name, mean, lowest)
            for name, mean, lowest, count in zip(self.names, means, self._lowest, self._counts, strict=True)
            if OBJECTIVES[name].is_supervised and count >= BATCHES_TO_JUDGE
            if mean is not None and lowest is not None and mean > times * lowest
        ]

    def begin_interval(self, means: Means) -> None:
        """Begin a new row of the log after one with these means."""
        for k, mean in enumerate(means):
            if mean is not None and self._counts[k] >= BATCHES_TO_JUDGE:
                lowest = self._lowest[k]
                self._lowest[k] = mean if lowest is None else min(mean, lowest)
        self._sums.zero_()
        self._counts = [0] * len(self.names)

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint, with the fields of STATE."""
        return {"sums": self._sums.cpu(), "counts": list(self._counts), "lowest": list(self._lowest)}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from the state of a checkpoint."""
        self._sums.copy_(state["sums"])
        self._counts, self._lowest = list(state["counts"]), list(state["lowest"])

    def _means_of(self, sums: torch.Tensor) -> Means:
        return [s / n if n else None for s, n in zip(sums.tolist(), self._counts, strict=True)]
