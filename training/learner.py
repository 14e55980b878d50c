"""What an objective's loss asks of the network in training; see `objectives.Learner`."""

import copy
import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from config import TrainConfig
from data.stream import Batch
from losses import loss_of, rgb_loss_of
from models.blocks import SSB
from models.network import Network
from models.precision import in_bf16
from training.graphs import GraphedSteps
from utils import UserError


class Learner:
    """Calls the network in the precision asked for, and knows what a batch's random draws depend on.

    In bf16 a twin of the network computes, whose weights are copied from the network's for each mini-batch, all in
    one operation: autocast would convert each weight at each call.

    Args:
        model: the network that learns.
        config: the run's.
        conversion: bands x n_subs matrix of the consistency loss, or None where nobody needs it.
    """

    def __init__(self, model: Network, config: TrainConfig, conversion: torch.Tensor | None) -> None:
        self._twin = Bf16Twin(model) if config.precision == "bf16" else None
        self._network = self._twin.network if self._twin else model
        if config.compile:
            check_compiler(next(model.parameters()).device)
            compile_blocks(self._network)
        # Graphs leave their gradients in a place of their own, so they cannot add to others.
        is_whole = config.accumulate == 1 and not config.joint_loss
        parameters = list(model.parameters())
        can_record = parameters[0].is_cuda and is_whole and not config.activation_checkpointing
        passing = self._twin.network.parameters() if self._twin else ()
        self._graphs = GraphedSteps(parameters, passing) if can_record else None
        self.config = config
        self.conversion, self.seed = conversion, config.seed
        self.criterion, self.rgb_criterion = loss_of(config.loss), rgb_loss_of(config.loss)
        self.iteration = self.repeat = 0
        self.kept: dict[Any, Any] = {}

    def begin(self, iteration: int, repeat: int) -> None:
        """Begin with an objective's repeat-th mini-batch of an iteration 0, 1, ..."""
        self.iteration, self.repeat = iteration, repeat
        if self._twin:
            self._twin.copy_weights()

    def super_resolve(self, batch: Batch, modality: str = "spectral") -> torch.Tensor:
        """The network's output; what follows it is in float32."""
        with self._precision(batch):
            return self._network(batch.ms, batch.lms, modality).float()

    def super_resolve_pair(self, batch: Batch, rgb: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The network's outputs for a batch of HSIs and one of RGB images; what follows them is in float32."""
        with self._precision(batch):
            spectral, other = self._network.forward_pair(batch.ms, batch.lms, rgb.ms, rgb.lms)
            return spectral.float(), other.float()

    def learn(self, loss: Callable[[Any, Any], torch.Tensor], batch: Batch, factor: float = 1) -> torch.Tensor:
        """Add the gradients of factor * loss(self, batch) to those of the network's parameters; the others keep none.

        Returns:
            factor * loss, without gradient. On CUDA the next mini-batch may write over it.
        """

        def step(batch: Batch) -> torch.Tensor:
            value = loss(self, batch) * factor
            value.backward()
            if self._twin:
                self._twin.hand_gradients_over()
            return value.detach()

        return self._graphs.run((loss, factor), step, batch) if self._graphs else step(batch)

    def _precision(self, batch):
        return torch.autocast(batch.ms.device.type, torch.bfloat16, enabled=self._twin is not None)


def check_compiler(device: torch.device) -> None:
    """Find the compiler of torch.compile and compile a small function, before a run depends on it.

    Raises:
        UserError: if torch.compile does not work here.
    """
    try:
        if device.type == "cpu":
            # The caches can hold the function below from a time when there was a compiler.
            importlib.import_module("torch._inductor.cpp_builder").get_cpp_compiler()
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(
            f"--compile 1: torch.compile does not work here ({reason[:200]}); install a C++ compiler such as g++, or "
            "use --compile 0"
        ) from error


def compile_blocks(network: nn.Module) -> None:
    """Have a network's blocks compiled when they are first called, or all of it where it has none of ours.

    Blocks of one size share what is compiled for them: seconds in place of the minutes that a whole network takes.
    """
    # As many as there are sizes of maps in the objectives' mini-batches, whole and at the end of an epoch.
    torch._dynamo.config.recompile_limit = 64
    blocks: list[nn.Module] = [module for module in network.modules() if isinstance(module, SSB)]
    for part in blocks or [network]:
        part.compile(dynamic=False)


class Bf16Twin:
    """A copy of a network with its parameters in bf16, whose gradients go to the network's own.

    Args:
        model: the network that learns, in float32.

    Attributes:
        network: the copy.
    """

    def __init__(self, model: Network) -> None:
        self.network = in_bf16(copy.deepcopy(model))
        self._pairs = list(zip(model.parameters(), self.network.parameters(), strict=True))

    @torch.no_grad()
    def copy_weights(self) -> None:
        """Bring the copy's parameters up to date, all in one operation."""
        torch._foreach_copy_([copied for _, copied in self._pairs], [own for own, _ in self._pairs])

    @torch.no_grad()
    def hand_gradients_over(self) -> None:
        """Move the copy's gradients to the network's parameters, adding to those that are there."""
        used = [(own, copied, copied.grad) for own, copied in self._pairs if copied.grad is not None]
        gradients = [torch.empty_like(own) for own, _, _ in used]
        torch._foreach_copy_(gradients, [gradient for _, _, gradient in used])
        added_to = []
        for (own, copied, _), gradient in zip(used, gradients, strict=True):
            copied.grad = None
            if own.grad is None:
                own.grad = gradient
            else:
                added_to.append((own.grad, gradient))
        if added_to:
            torch._foreach_add_(*map(list, zip(*added_to, strict=True)))


@torch.no_grad()
def update_mean(averaged: nn.Module, model: nn.Module, decay: float, iteration: int) -> None:
    """Move a running mean of the weights on by one iteration 0, 1, ..."""
    # A young mean follows faster, so that it forgets the weights of the start.
    update = get_ema_multi_avg_fn(min(decay, (1 + iteration) / (10 + iteration)))
    update(list(averaged.parameters()), list(model.parameters()), None)
