"""Split of one scene: held-out windows for early stopping, and training patches that do not overlap them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from system.errors import DataError
from utils import random_generator

# Smallest and largest edge of windows and patches in LR pixels. Published patches have 16; below 5, padding dominates.
SMALLEST, LARGEST = 5, 16
# Approximate number of windows in a scene that is too small for the largest windows.
FEWEST = 24
# One in SHARE windows is held out, within these limits.
SHARE, FEWEST_HELD_OUT, MOST_HELD_OUT = 5, 2, 48
# Windows ranked by detail for each held-out window.
CANDIDATES = 5
# Patch stride: an eighth of an edge, or more if there would be more than MOST_PATCHES.
STEPS, MOST_PATCHES = 8, 20_000


@dataclass(frozen=True)
class Split:
    """Split of a scene.

    Attributes:
        edge: HR pixels along the edge of windows and patches.
        stride: HR pixels between patches.
        held_out: (top, left) of the held-out windows.
        patches: (top, left) of the training patches.
    """

    edge: int
    stride: int
    held_out: list[tuple[int, int]]
    patches: list[tuple[int, int]]


def split_scene(
    path: str | Path,
    valid: np.ndarray,
    n_scale: int,
    seed: int,
    detail: Callable[[int, int, int], float] = lambda top, left, edge: 0.0,
) -> Split:
    """Split a scene into held-out windows and training patches.

    The held-out windows represent the scene: its windows are ranked by detail, the ranking is cut into as many parts
    as there are held-out windows, and one window is drawn from each part.

    Args:
        path: of the scene, for messages.
        valid: valid mask, rows x columns of bool.
        n_scale: upsampling factor; edges and positions are multiples of it.
        seed: of the draw.
        detail: detail(top, left, edge) -> amount of detail in a window.

    Raises:
        DataError: for a scene that is too small, or has too few valid pixels.
    """
    height, width = valid.shape
    gaps = _MissingCounts(valid)
    wanted = min(int(np.sqrt(height * width / FEWEST)), height, width) // n_scale * n_scale
    edge = min(max(wanted, SMALLEST * n_scale), LARGEST * n_scale)
    whole = _list_windows(gaps, height, width, edge)
    # Narrow scenes, and strips between missing pixels, fit smaller windows only.
    while len(whole) <= FEWEST_HELD_OUT and edge > SMALLEST * n_scale:
        edge -= n_scale
        whole = _list_windows(gaps, height, width, edge)
    count = min(max(round(len(whole) / SHARE), FEWEST_HELD_OUT), MOST_HELD_OUT)
    if len(whole) <= count:
        raise DataError(
            path,
            f"{width} x {height} pixels contain {len(whole)} windows of {edge} x {edge} without missing data, but "
            f"training and validation need at least {FEWEST_HELD_OUT + 1}",
            "give a larger scene",
        )
    held_out = _draw_windows(whole, count, edge, seed, detail)
    taken = ~valid
    for i, j in held_out:
        taken[i : i + edge, j : j + edge] = True
    apart = max(edge / STEPS, np.sqrt(height * width / MOST_PATCHES))
    stride = int(np.ceil(apart / n_scale)) * n_scale
    overlaps = _MissingCounts(~taken)
    places = [(i, j) for i in range(0, height - edge + 1, stride) for j in range(0, width - edge + 1, stride)]
    # Windows that are not held out are patches too, also where the stride misses all other positions.
    places = sorted({*places, *whole})
    return Split(edge, stride, held_out, [place for place in places if not overlaps.count(*place, edge)])


def _draw_windows(
    whole: Sequence[tuple[int, int]], count: int, edge: int, seed: int, detail: Callable[..., float]
) -> list[tuple[int, int]]:
    """Draw the held-out windows; return their (top, left), sorted."""
    generator = random_generator(seed, "held out")
    # In a large scene, only a random subset of the windows is ranked.
    candidates = [whole[k] for k in generator.permutation(len(whole))[: CANDIDATES * count]]
    candidates.sort(key=lambda place: detail(*place, edge))
    parts = np.array_split(np.arange(len(candidates)), count)
    return sorted(candidates[generator.choice(part)] for part in parts)


def _list_windows(gaps: "_MissingCounts", height: int, width: int, edge: int) -> list[tuple[int, int]]:
    """Return (top, left) of the adjacent windows without missing data."""
    cells = [(i, j) for i in range(0, height - edge + 1, edge) for j in range(0, width - edge + 1, edge)]
    return [cell for cell in cells if not gaps.count(*cell, edge)]


class _MissingCounts:
    """Number of missing pixels in any square, from a summed-area table."""

    def __init__(self, valid: np.ndarray) -> None:
        kind = np.int32 if valid.size < 2**31 else np.int64
        self._sums = np.zeros((valid.shape[0] + 1, valid.shape[1] + 1), dtype=kind)
        inside = self._sums[1:, 1:]
        np.cumsum(~valid, axis=0, dtype=kind, out=inside)
        np.cumsum(inside, axis=1, dtype=kind, out=inside)

    def count(self, top: int, left: int, edge: int) -> int:
        """Return the number of missing pixels in a square."""
        sums = self._sums
        bottom, right = top + edge, left + edge
        return int(sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left])
