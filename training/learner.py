"""What an objective's loss asks of the network in training; see `objectives.Learner`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from config import TrainConfig
from data.stream import Batch
from losses import loss_of
from objectives import Objective
from training.processes import World


class Learner:
    """Calls the network in the precision asked for, and knows what random draws depend on.

    Args:
        forward: the network, compiled or not.
        config: the run's.
        conversion: bands x n_subs matrix of the consistency loss, or None where nobody needs it.
    """

    def __init__(
        self, forward: Callable[..., torch.Tensor], config: TrainConfig, conversion: torch.Tensor | None
    ) -> None:
        self._forward, self.config = forward, config
        self.conversion, self.criterion, self.seed = conversion, loss_of(config.loss), config.seed
        self.iteration = self.repeat = 0

    def super_resolve(self, batch: Batch, modality: str = "spectral") -> torch.Tensor:
        """The network's output; what follows it is in float32."""
        with torch.autocast(batch.ms.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            output = self._forward(batch.ms, batch.lms, modality)
        return output.float()


class LossModule(nn.Module):
    """A loss as the forward pass of a module that holds the network, however often the loss calls it.

    DistributedDataParallel takes one forward pass for each backward pass; the consistency loss has two
    passes through the network.
    """

    def __init__(self, model: nn.Module, learner: Learner) -> None:
        super().__init__()
        self.model, self._learner = model, learner

    def forward(self, objective: Objective, batch: Any) -> torch.Tensor:
        """The objective's loss of a mini-batch."""
        return objective.loss(self._learner, batch)


def synchronised(module: LossModule, world: World) -> Any:
    """The module with its gradients averaged over the processes, where there are several."""
    if world.size == 1:
        return module
    # Each loss uses other parts of the network; what none of the processes used keeps no gradient.
    return nn.parallel.DistributedDataParallel(module, broadcast_buffers=False, find_unused_parameters=True)


@torch.no_grad()
def update_mean(averaged: nn.Module, model: nn.Module, decay: float, iteration: int) -> None:
    """Move a running mean of the weights on by one iteration 0, 1, ..."""
    # A young mean follows faster, so that it forgets the weights of the start.
    update = get_ema_multi_avg_fn(min(decay, (1 + iteration) / (10 + iteration)))
    update(list(averaged.parameters()), list(model.parameters()), None)
