"""Mini-batches as CUDA graphs: all operations of a loss and its gradients launched at once.

A step of this method is some five hundred operations of 20 microseconds each. A CPU takes longer to launch them one by
one than a GPU to do them; recorded once, they are launched together.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from data.stream import Batch
from utils import print_line

Step = Callable[[Batch], torch.Tensor]


@dataclass
class Recorded:
    """A step as it was recorded: its graph, where that reads its batch, and where it leaves loss and gradients."""

    graph: Any
    batch: Batch
    loss: torch.Tensor
    gradients: list[tuple[nn.Parameter, torch.Tensor]]


class GraphedSteps:
    """Steps that are run once as they are, and from then on as CUDA graphs, one for each size of batch.

    Args:
        parameters: those that steps leave gradients at. They have none before a step.
        passing: others that have gradients within a step, and none after it.
    """

    def __init__(self, parameters: list[nn.Parameter], passing: Iterable[nn.Parameter] = ()) -> None:
        self._parameters, self._passing = parameters, list(passing)
        self._seen: set[Any] = set()
        self._recorded: dict[Any, Recorded | None] = {}

    def run(self, key: Any, step: Step, batch: Batch) -> torch.Tensor:
        """Do a step on a batch.

        Args:
            key: tells steps apart.
            step: batch -> loss, detached; leaves its gradients at the parameters. Nothing but the batch's and the
                parameters' values may differ between calls with one key.

        Returns:
            The loss; the next step with this key writes over it.
        """
        key = key, batch.ms.shape, batch.lms.shape
        if key not in self._seen:
            # cuDNN tries its ways out now: it cannot while a graph is recorded.
            self._seen.add(key)
            return step(batch)
        if key not in self._recorded:
            self._recorded[key] = self._record(step, batch)
        recorded = self._recorded[key]
        if recorded is None:
            return step(batch)
        for target, source in zip(tensors_of(recorded.batch), tensors_of(batch), strict=True):
            target.copy_(source)
        recorded.graph.replay()
        for parameter, gradient in recorded.gradients:
            parameter.grad = gradient
        return recorded.loss

    def _record(self, step: Step, batch: Batch) -> Recorded | None:
        """The step's graph; None where it has operations that cannot be recorded."""
        kept = batch.map(torch.clone)
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                loss = step(kept)
        except RuntimeError as error:
            print_line(
                f"steps are not recorded as CUDA graphs, which only makes them slower: {str(error).splitlines()[0]}"
            )
            # Of a step that ended half-way, the memory of these was never computed.
            for parameter in (*self._parameters, *self._passing):
                parameter.grad = None
            return None
        gradients = [(p, p.grad) for p in self._parameters if p.grad is not None]
        return Recorded(graph, kept, loss, gradients)


def tensors_of(batch: Batch) -> list[torch.Tensor]:
    """The tensors of a batch, in one order."""
    return [x for x in (batch.ms, batch.lms, batch.gt) if x is not None]
