"""The processes that train or test together: one, or those that torchrun has started."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist

from system.errors import UserError
from utils import process_count

CPU = torch.device("cpu")
# What the main process says to the others where it fails for all.
FAILED = "the first process has failed"


class PeerLostError(Exception):
    """Another process of the run has ended; what is on disk is from before."""


class World:
    """This process's place among the processes of one run.

    With torchrun's environment (WORLD_SIZE above 1) it opens the process group: gloo for what is on the
    CPU, NCCL for what is on a CUDA device. Otherwise it stands for one process and costs nothing.

    Attributes:
        rank, size: this process's number, and how many there are.
    """

    def __init__(self, device: torch.device = CPU) -> None:
        self.size = process_count()
        if self.size > 1 and not dist.is_initialized():
            _check_launcher()
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        self.rank = int(os.environ["RANK"]) if self.size > 1 else 0

    @classmethod
    def alone(cls) -> "World":
        """This process by itself, whatever others there are."""
        world = cls.__new__(cls)
        world.size, world.rank = 1, 0
        return world

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def largest(self, number: int) -> int:
        """The largest of a whole number that each process gives."""
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
        """What a function returns in the main process; where it raises a UserError there, all raise one.

        The others' are marked as told: the main process has the word.
        """
        outcome: Any = None
        if self.is_main:
            try:
                outcome = function()
            except UserError:
                self.from_main(FAILED)
                raise
        outcome = self.from_main(outcome)
        if isinstance(outcome, str) and outcome == FAILED:
            error = UserError(FAILED)
            error.is_reported = True
            raise error
        return outcome

    def from_main(self, value: Any) -> Any:
        """What the main process gives here."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def to_main(self, value: Any) -> list[Any]:
        """What every process gives here, as a list by rank in the main process; [] in the others."""
        if self.size == 1:
            return [value]
        values = [None] * self.size if self.is_main else None
        dist.gather_object(value, values)
        return values or []

    def gather(self, value: Any) -> list[Any]:
        """What every process gives here, as a list by rank."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        dist.all_gather_object(values, value)
        return values


def _check_launcher() -> None:
    """Refuse a WORLD_SIZE above 1 without the other variables that torchrun sets, as job scripts leave it.

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
    """Close the process group, where there is one.

    After a failure NCCL would wait here for the others, who wait for this process: its group is left open, and
    `end_at_once` is to end the process.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    if not (failed and uses_nccl()):
        dist.destroy_process_group()


def uses_nccl() -> bool:
    """Whether the open process group has a part for CUDA devices."""
    return "nccl" in str(dist.get_backend_config()).lower()


def end_at_once(exit_code: int) -> None:
    """End this process now if it was one of several.

    Nothing then waits for the others, and no thread of a backend is met by the interpreter's own ending, which can
    abort the process after its work is done.
    """
    if process_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)


@contextlib.contextmanager
def naming_lost_peers(world: World, where: Callable[[], str]) -> Iterator[None]:
    """Turn the errors below that come of another process's end into a PeerLostError.

    Args:
        where: says how far the work is, and how it is gone on with.
    """
    try:
        yield
    except RuntimeError as error:
        if world.size > 1 and is_lost_peer(error):
            raise PeerLostError(f"another process of the run has ended{where()}") from error
        raise


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error is the end of another process, as the group's backends report it."""
    if not dist.is_initialized():
        return False
    words = str(error).lower()
    return isinstance(error, dist.DistError) or any(w in words for w in ("gloo", "connection", "peer", "nccl"))
