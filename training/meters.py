"""The losses of a run between two rows of its log, and whether they go astray."""

from typing import Any

import torch

from objectives import OBJECTIVES
from system.errors import UserError
from system.records import Field
from training.processes import World

# A supervised loss is taken to diverge when its mean over a log interval is so many times the lowest mean so far,
# both over enough mini-batches for dark patches not to matter.
DIVERGED, BATCHES_TO_JUDGE = 10, 20
# One whose mean is so many times the lowest is a spike: most come back, and cost some tenths of a dB at the end.
SPIKE = 1.5

Means = list[float | None]


class LossMeter:
    """Means of the losses since the last row of the log, kept on the device so that no step waits.

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
        """Add a mini-batch's loss, of iteration 0, 1, ..."""
        k = self.names.index(name)
        self._sums[k] += loss
        self._counts[k] += 1
        is_first = ~torch.isfinite(loss) & (self._first_bad == 0)
        self._first_bad += is_first * ((iteration + 1) * len(self.names) + k)

    def means(self) -> Means:
        """Mean of each loss in this process, None where it took no part."""
        return self._means_of(self._sums)

    def means_of_all(self) -> Means:
        """Mean of each loss over all processes; all of them call it."""
        return self._means_of(self._world.sum_(self._sums.clone()) / self._world.size)

    def check(self, means: Means, iteration: int, per_epoch: int, remedy: str) -> None:
        """Stop the run where a loss is not finite or diverges; all processes call it.

        Args:
            means: of all processes, up to that iteration (from 1).
            remedy: words for what to do.

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
        """Words for the losses that have risen in the row that ends; [] for none."""
        return [
            f"the {name} loss is {mean:.4g}, {lowest:.4g} before" for name, mean, lowest in self._above(means, SPIKE)
        ]

    def _above(self, means: Means, times: float) -> list[tuple[str, float, float]]:
        """(name, mean, lowest mean) of the supervised losses whose mean is more than so many times the lowest."""
        rows = zip(self.names, means, self._lowest, self._counts, strict=True)
        judged: list[tuple[str, Any, Any, int]] = [
            row for row in rows if None not in row and row[3] >= BATCHES_TO_JUDGE
        ]
        return [row[:3] for row in judged if OBJECTIVES[row[0]].is_supervised and row[1] > times * row[2]]

    def begin_interval(self, means: Means) -> None:
        """Begin a new row; means are those of the one that ends."""
        for k, mean in enumerate(means):
            if mean is not None and self._counts[k] >= BATCHES_TO_JUDGE:
                lowest = self._lowest[k]
                self._lowest[k] = mean if lowest is None else min(mean, lowest)
        self._sums.zero_()
        self._counts = [0] * len(self.names)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"sums": self._sums.cpu(), "counts": list(self._counts), "lowest": list(self._lowest)}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state.

        Raises:
            ValueError: if the state is not of these objectives.
        """
        count = len(self.names)
        counts, lowest = Field(int, 0), Field(float, is_optional=True)
        fields = {"counts": Field(list, count, count, items=counts), "lowest": Field(list, count, count, items=lowest)}
        Field(dict, fields={"sums": Field(torch.Tensor), **fields}).check(state)
        self._sums.copy_(state["sums"])
        self._counts, self._lowest = list(state["counts"]), list(state["lowest"])

    def _means_of(self, sums: torch.Tensor) -> Means:
        return [s / n if n else None for s, n in zip(sums.tolist(), self._counts, strict=True)]
