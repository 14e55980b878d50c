"""Gradients of a loss: in fp32 or bf16, in one or several parts, and on CUDA replayed as graphs."""

import copy
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from config import TrainConfig
from data.stream import Batch
from models.blocks import SSB
from models.network import Network
from models.precision import convert_to_bf16
from objectives import Task
from system.errors import UserError
from utils import print_line

# loss(network, batch, task) -> scalar; network(ms, lms, modality) returns float32.
Loss = Callable[[Any, Batch, Task], torch.Tensor]
Step = Callable[[Batch], torch.Tensor]


class Backward:
    """Computes a loss and adds its gradients to those of the network's parameters.

    In bf16 a working copy of the network computes, whose weights are copied from the fp32 master weights for each
    mini-batch in one operation: autocast would convert each weight at each call.

    Args:
        model: the network that is trained, in fp32.
        config: settings: precision, compile, accumulate, joint_loss, activation_checkpointing.
        task: passed on to the losses.

    Raises:
        UserError: if torch.compile is asked for and does not work.
    """

    def __init__(self, model: Network, config: TrainConfig, task: Task) -> None:
        self._task = task
        self._copy = WorkingCopy(model) if config.precision == "bf16" else None
        self._network: nn.Module = self._copy or model
        self._accumulate = config.accumulate
        if config.compile:
            check_compiler(next(model.parameters()).device)
            compile_blocks(self._copy.network if self._copy else model)
        # Replayed graphs overwrite gradients, so that they cannot accumulate.
        is_whole = config.accumulate == 1 and not config.joint_loss
        parameters = list(model.parameters())
        can_record = parameters[0].is_cuda and is_whole and not config.activation_checkpointing
        temporary = self._copy.network.parameters() if self._copy else ()
        self._graphs = GraphedSteps(parameters, temporary) if can_record else None

    def __call__(self, loss: Loss, batch: Batch) -> torch.Tensor:
        """Add the gradients of loss(network, batch, task); parameters that the loss does not use keep None.

        Args:
            loss: depends on nothing that changes but the network and the batch, since CUDA graphs replay it.
            batch: a mini-batch, processed in --accumulate parts.

        Returns:
            The loss without gradient. On CUDA the next mini-batch may overwrite it.
        """
        if self._copy:
            self._copy.copy_weights()
        parts = batch.split(self._accumulate)
        total: Any = 0
        for number, part in enumerate(parts, 1):
            factor = part.weight / len(parts)

            def step(part: Batch, factor: float = factor) -> torch.Tensor:
                value = loss(self._network, part, self._task) * factor
                value.backward()
                if self._copy:
                    self._copy.accumulate_gradients()
                return value.detach()

            value = self._graphs.run((loss, factor), step, part) if self._graphs else step(part)
            total = value if number == 1 else total + value
        return total


@dataclass
class Recorded:
    """A recorded step: its graph, the batch that it reads, and the loss and gradients that it writes."""

    graph: Any
    batch: Batch
    loss: torch.Tensor
    gradients: list[tuple[nn.Parameter, torch.Tensor]]


class GraphedSteps:
    """Steps that run once eagerly, and from then on as CUDA graphs, one for each size of batch.

    A step has some 500 operations of 20 microseconds. A CPU launches them one by one more slowly than a GPU runs them.

    Args:
        parameters: have gradients after a step, and none before it.
        passing: have gradients only within a step.
    """

    def __init__(self, parameters: list[nn.Parameter], passing: Iterable[nn.Parameter] = ()) -> None:
        self._parameters, self._passing = parameters, list(passing)
        self._seen: set[Any] = set()
        self._recorded: dict[Any, Recorded | None] = {}

    def run(self, key: Any, step: Step, batch: Batch) -> torch.Tensor:
        """Run a step on a batch.

        Args:
            key: identifies the step.
            step: batch -> detached loss; writes the parameters' gradients. Only the values of the batch and the
                parameters may differ between calls with one key.
            batch: the batch.

        Returns:
            The loss, which the next step with this key overwrites.
        """
        key = key, batch.ms.shape, batch.lms.shape
        if key not in self._seen:
            # cuDNN benchmarks its algorithms now: it cannot while a graph is recorded.
            self._seen.add(key)
            return step(batch)
        if key not in self._recorded:
            self._recorded[key] = self._record(step, batch)
        recorded = self._recorded[key]
        if recorded is None:
            return step(batch)
        for target, source in zip(vars(recorded.batch).values(), vars(batch).values(), strict=True):
            if isinstance(target, torch.Tensor):
                target.copy_(source)
        recorded.graph.replay()
        for parameter, gradient in recorded.gradients:
            parameter.grad = gradient
        return recorded.loss

    def _record(self, step: Step, batch: Batch) -> Recorded | None:
        """Record a step; return None if it has operations that cannot be recorded."""
        kept = batch.map(torch.clone)
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                loss = step(kept)
        except RuntimeError as error:
            print_line(
                f"steps are not recorded as CUDA graphs, which only makes them slower: {str(error).splitlines()[0]}"
            )
            # A step that failed half-way has not computed them.
            for parameter in (*self._parameters, *self._passing):
                parameter.grad = None
            return None
        gradients = [(p, p.grad) for p in self._parameters if p.grad is not None]
        return Recorded(graph, kept, loss, gradients)


class WorkingCopy(nn.Module):
    """The bf16 copy of a network, whose gradients are added to those of the fp32 master weights.

    Args:
        model: the network that is trained, in fp32.

    Attributes:
        network: the copy, with parameters in bf16.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.network = convert_to_bf16(copy.deepcopy(model))
        self._pairs = list(zip(model.parameters(), self.network.parameters(), strict=True))

    def forward(self, ms: torch.Tensor, lms: torch.Tensor, modality: str = "spectral") -> torch.Tensor:
        """See `Network.forward`; the output is float32."""
        with torch.autocast(ms.device.type, torch.bfloat16):
            return self.network(ms, lms, modality).float()

    def forward_pair(
        self, ms: torch.Tensor, lms: torch.Tensor, rgb_ms: torch.Tensor, rgb_lms: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Network.forward_pair`; the outputs are float32."""
        with torch.autocast(ms.device.type, torch.bfloat16):
            forward_pair: Any = self.network.forward_pair
            spectral, rgb = forward_pair(ms, lms, rgb_ms, rgb_lms)
            return spectral.float(), rgb.float()

    @torch.no_grad()
    def copy_weights(self) -> None:
        """Copy the master weights, all in one operation."""
        torch._foreach_copy_([copied for _, copied in self._pairs], [master for master, _ in self._pairs])

    @torch.no_grad()
    def accumulate_gradients(self) -> None:
        """Add the gradients to those of the master weights in fp32, and clear them."""
        used = [(master, copied, copied.grad) for master, copied in self._pairs if copied.grad is not None]
        gradients = [torch.empty_like(master) for master, _, _ in used]
        torch._foreach_copy_(gradients, [gradient for _, _, gradient in used])
        added_to = []
        for (master, copied, _), gradient in zip(used, gradients, strict=True):
            copied.grad = None
            if master.grad is None:
                master.grad = gradient
            else:
                added_to.append((master.grad, gradient))
        if added_to:
            torch._foreach_add_(*map(list, zip(*added_to, strict=True)))


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
    """Compile a network's blocks when they are first called, or the whole network if it has none.

    Blocks of one size share the compiled code: seconds in place of the minutes for a whole network.
    """
    # As many as there are sizes of maps in the objectives' mini-batches, whole and at the end of an epoch.
    torch._dynamo.config.recompile_limit = 64
    blocks: list[nn.Module] = [module for module in network.modules() if isinstance(module, SSB)]
    for part in blocks or [network]:
        part.compile(dynamic=False)
