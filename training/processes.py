"""Processes that train or test together: one, or those of torchrun."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist

from system.errors import PeerLostError, UserError
from utils import process_count

CPU = torch.device("cpu")


class World:
    """The processes of one run, as this one sees them.

    With torchrun's environment (WORLD_SIZE above 1) it opens the process group: gloo for tensors on the CPU, NCCL for
    those on a CUDA device. Otherwise it is a single process, and every exchange returns its argument.

    Attributes:
        rank: number of this process.
        size: number of processes.
    """

    def __init__(self, device: torch.device = CPU) -> None:
        self.size = process_count()
        if self.size > 1 and not dist.is_initialized():
            _check_launcher()
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        self.rank = int(os.environ["RANK"]) if self.size > 1 else 0

    @classmethod
    def alone(cls) -> "World":
        """Return a world of this process only, also within a group of processes."""
        world = cls.__new__(cls)
        world.size, world.rank = 1, 0
        return world

    @property
    def is_main(self) -> bool:
        """True for rank 0, the process that writes."""
        return self.rank == 0

    def largest(self, number: int) -> int:
        """Return the largest of the processes' whole numbers."""
        if self.size == 1:
            return number
        value = torch.tensor(number)
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return int(value)

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Replace a tensor by its sum over the processes."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def average_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace float32 tensors by their means over the processes, all in one exchange; all give as many."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        parts = flat.split([tensor.numel() for tensor in tensors])
        torch._foreach_copy_(list(tensors), [part.view_as(t) for part, t in zip(parts, tensors, strict=True)])

    def on_main(self, function: Callable[[], Any]) -> Any:
        """Run a function in the main process, and return its result in all of them.

        Raises:
            UserError: in all processes if the function raises it; only the main process prints it.
        """
        result, error = None, None
        if self.is_main:
            try:
                result = function()
            except UserError as raised:
                error = raised
        result, has_failed = self.from_main((result, error is not None))
        if has_failed:
            error = error or UserError("the main process has failed")
            error.is_reported = not self.is_main
            raise error
        return result

    def from_main(self, value: Any) -> Any:
        """Return the main process's value in all processes."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def to_main(self, value: Any) -> list[Any]:
        """Return the values of all processes by rank in the main process, [] in the other ones."""
        if self.size == 1:
            return [value]
        values = [None] * self.size if self.is_main else None
        dist.gather_object(value, values)
        return values or []

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes by rank."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        dist.all_gather_object(values, value)
        return values


def _check_launcher() -> None:
    """Refuse a WORLD_SIZE above 1 without the other variables of torchrun, as job scripts leave it.

    Raises:
        UserError: naming the variables that are missing or contradict each other.
    """
    count, rank = os.environ["WORLD_SIZE"], os.environ.get("RANK", "")
    problem = ""
    if missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]:
        problem = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set"
    elif not rank.isdecimal() or int(rank) >= int(count):
        problem = f"RANK is {rank}"
    if problem:
        raise UserError(
            f"WORLD_SIZE is {count} in the environment, but {problem}; start several processes with torchrun, "
            "or unset WORLD_SIZE to run a single one"
        )


def leave(failed: bool = False) -> None:
    """Close the process group, if there is one.

    After a failure NCCL would wait here for processes that wait for this one: `end_at_once` then ends the process.
    """
    is_open = dist.is_available() and dist.is_initialized()
    if is_open and not (failed and "nccl" in str(dist.get_backend_config()).lower()):
        dist.destroy_process_group()


def end_at_once(exit_code: int) -> None:
    """End this process without the interpreter's shutdown if it was one of several.

    The shutdown waits for the other processes, and can abort while a backend's threads still run.
    """
    if process_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)


@contextlib.contextmanager
def naming_lost_peers(world: World, where: Callable[[], str]) -> Iterator[None]:
    """Turn an error that the end of another process causes into a PeerLostError.

    Args:
        world: the processes.
        where: returns the rest of the sentence: how far the work is, and how to resume it.
    """
    try:
        yield
    except RuntimeError as error:
        is_lost = any(word in str(error).lower() for word in ("gloo", "connection", "peer", "nccl"))
        if world.size > 1 and dist.is_initialized() and (is_lost or isinstance(error, dist.DistError)):
            raise PeerLostError(f"another process of the run has ended{where()}") from error
        raise
