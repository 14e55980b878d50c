"""Streams of training batches: shuffled patches in their 8 flips and rotations.

Batch k of a stream depends only on the source, the seed and k. So checkpoints need no state of the streams, and batches
can be read ahead in another thread.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from facts import AUGMENTATIONS
from system.devices import send_to
from system.errors import DataError
from utils import random_generator

Image = TypeVar("Image", np.ndarray, torch.Tensor)


@dataclass
class Batch:
    """One mini-batch: ms B x C x h x w, lms and gt B x C x s*h x s*w, float32 in 0..1; gt None if unlabelled.

    weight: factor of its mean loss if the batch is one of n parts of a larger batch: n times its share of the patches,
    so that the mean of the weighted losses of all parts is the loss of the larger batch.
    """

    ms: torch.Tensor
    lms: torch.Tensor
    gt: Any = None
    weight: float = 1.0

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        """Return the batch with a function applied to each tensor."""
        gt = None if self.gt is None else function(self.gt)
        return Batch(function(self.ms), function(self.lms), gt, self.weight)

    def split(self, n: int) -> list["Batch"]:
        """Split the batch into at most n parts of nearly equal size, each with its weight."""
        size, parts = len(self.ms), []
        n = min(n, size)
        for rows in np.array_split(np.arange(size), n):
            cut = slice(rows[0], rows[-1] + 1)
            part = Batch(self.ms[cut], self.lms[cut], None if self.gt is None else self.gt[cut])
            part.weight = self.weight * len(rows) * n / size
            parts.append(part)
        return parts


def augment(image: Image, mode: int) -> Image:
    """Flip or rotate an H x W x C array or tensor; modes 0..7 are in the order of the released code.

    Mode 2r + f: r quarter turns counter-clockwise, then, if f is 1, a flip upside down.
    """
    library = torch if isinstance(image, torch.Tensor) else np
    turned = library.rot90(image, mode // 2, (0, 1))
    return library.flip(turned, (0,)) if mode % 2 else turned


class PatchSource(Protocol):
    """Source of patches for a stream, indexed by number.

    Attributes:
        origin: file or folder, for messages.
        size: HR pixels along a patch's edge.
        n_colors: bands of its batches.
    """

    origin: str | Path
    size: int
    n_colors: int

    @property
    def reads_files(self) -> bool:
        """True if each batch is read from disk."""

    def __len__(self) -> int:
        """Return the number of patches."""

    def to(self, device: str | torch.device) -> "PatchSource":
        """Create batches on this device if that is faster; return the source."""

    def batch(self, numbers: Any, modes: Any) -> Batch:
        """Return the patches of these numbers, augmented by these modes (see `augment`)."""


class PatchStream:
    """Endless shuffled batches of a source; each pass over the source has a new order.

    Args:
        source: ScenePatches or MatPatches.
        batch_size: patches in a batch of one process.
        seed, purpose: of the orders; the purpose is a word that differs between streams.
        device: of the batches.
        keep_last: True: a pass ends with a smaller batch (labelled stream, whose pass is an epoch); False: the
            remainder of each pass is omitted.
        rank, world_size: of this process; the streams of all processes form one stream of batches world_size times as
            large.

    Raises:
        DataError: for a source with fewer augmented patches than a batch.
    """

    def __init__(
        self,
        source: PatchSource,
        batch_size: int,
        seed: int,
        purpose: str,
        device: str | torch.device = "cpu",
        keep_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.source = source.to(device)
        self.batch_size, self.seed, self.purpose, self.device = batch_size * world_size, seed, purpose, device
        self.rank, self.world_size = rank, world_size
        items = len(source) * AUGMENTATIONS
        if items < self.batch_size:
            times = f" times {world_size} processes" if world_size > 1 else ""
            raise DataError(
                source.origin,
                f"{len(source)} patches with their flips and rotations are {items}, fewer than a batch of "
                f"{batch_size}{times}",
                "set a smaller {batch_size}",
            )
        self.batches_per_pass = -(-items // self.batch_size) if keep_last else items // self.batch_size
        self._order: tuple[int, np.ndarray] | None = None
        self._ahead: tuple[int, Future[Any]] | None = None
        self._last: tuple[int, Batch] | None = None
        # Only files are read ahead in a thread: for data in memory, it would compete for a core.
        self._pool = ThreadPoolExecutor(1) if source.reads_files else None

    def batch(self, k: int) -> Batch:
        """Return batch k = 0, 1, ... of the stream; the last one is cached, since objectives may share it."""
        if self._last is not None and self._last[0] == k:
            return self._last[1]
        if self._pool is None:
            batch = self._make_batch(k)
        else:
            is_ahead = self._ahead is not None and self._ahead[0] == k
            future = self._ahead[1] if self._ahead and is_ahead else self._pool.submit(self._make_batch, k)
            self._ahead = (k + 1, self._pool.submit(self._make_batch, k + 1))
            batch = future.result()
        self._last = (k, batch)
        return batch

    def close(self) -> None:
        """Stop the thread that reads ahead."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def _make_batch(self, k: int) -> Batch:
        pass_number, position = divmod(k, self.batches_per_pass)
        if self._order is None or self._order[0] != pass_number:
            generator = random_generator(self.seed, self.purpose, pass_number)
            self._order = (pass_number, generator.permutation(len(self.source) * AUGMENTATIONS))
        items = self._order[1][position * self.batch_size : (position + 1) * self.batch_size]
        share = np.array_split(items, self.world_size)[self.rank]
        # All processes take part in every step: one without patches computes a patch with weight 0.
        weight = len(share) * self.world_size / len(items)
        share = share if len(share) else items[:1]
        batch = self.source.batch(share // AUGMENTATIONS, share % AUGMENTATIONS)
        batch.weight = weight
        return batch.map(lambda x: send_to(self.device, x).contiguous(memory_format=torch.channels_last))
