"""One scene shared out: windows that are held out to judge by, and patches to learn from that touch none of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from system.errors import DataError
from utils import random_generator

# Edges of windows and patches in LR pixels: published patches have 16; what is smaller is all border.
SMALLEST, LARGEST = 5, 16
# A scene is cut into at least about so many windows where it is too small for the largest ones.
FEWEST = 24
# One in so many windows is held out, of at least and at most so many.
SHARE, FEWEST_HELD_OUT, MOST_HELD_OUT = 5, 2, 48
# Windows ranked by their detail for each that is held out.
CANDIDATES = 5
# Patches to learn from are taken every eighth of an edge, or further apart where there would be more than this.
STEPS, MOST_PATCHES = 8, 20_000


@dataclass(frozen=True)
class Split:
    """How a scene is shared out.

    Attributes:
        edge: HR pixels along a window's and a patch's edge.
        stride: HR pixels between patches.
        held_out: (top, left) of the windows that are held out.
        patches: (top, left) of the patches to learn from.
    """

    edge: int
    stride: int
    held_out: list[tuple[int, int]]
    patches: list[tuple[int, int]]


def split_scene(
    path: str | Path,
    there: np.ndarray,
    n_scale: int,
    seed: int,
    detail: Callable[[int, int, int], float] = lambda top, left, edge: 0.0,
) -> Split:
    """Share a scene out.

    What is held out shall stand for the scene: its windows are ranked by their detail, and one is drawn of as many
    parts of the ranking as there are to be held out.

    Args:
        path: of the scene, for messages.
        there: rows x columns of bool, where the scene has data.
        n_scale: enlargement: edges and places are multiples of it.
        seed: of the draw of the windows.
        detail: detail(top, left, edge) -> how much there is to be found in a window.

    Raises:
        DataError: for a scene that is too small, or has too little data.
    """
    height, width = there.shape
    gaps = _MissingCounts(there)
    wanted = min(int(np.sqrt(height * width / FEWEST)), height, width) // n_scale * n_scale
    edge = min(max(wanted, SMALLEST * n_scale), LARGEST * n_scale)
    whole = _list_windows(gaps, height, width, edge)
    # Narrow scenes, and strips between gaps, have room for smaller ones.
    while len(whole) <= FEWEST_HELD_OUT and edge > SMALLEST * n_scale:
        edge -= n_scale
        whole = _list_windows(gaps, height, width, edge)
    count = min(max(round(len(whole) / SHARE), FEWEST_HELD_OUT), MOST_HELD_OUT)
    if len(whole) <= count:
        raise DataError(
            path,
            f"{width} x {height} pixels have {len(whole)} windows of {edge} x {edge} with data everywhere",
            f"at least {FEWEST_HELD_OUT + 1} are needed, to learn from and to judge by: give a larger scene",
        )
    held_out = _draw_windows(whole, count, edge, seed, detail)
    taken = ~there
    for i, j in held_out:
        taken[i : i + edge, j : j + edge] = True
    apart = max(edge / STEPS, np.sqrt(height * width / MOST_PATCHES))
    stride = int(np.ceil(apart / n_scale)) * n_scale
    overlaps = _MissingCounts(~taken)
    places = [(i, j) for i in range(0, height - edge + 1, stride) for j in range(0, width - edge + 1, stride)]
    # The cells that are left are patches too: where the stride misses all others, these are there.
    places = sorted({*places, *whole})
    return Split(edge, stride, held_out, [place for place in places if not overlaps.within(*place, edge)])


def _draw_windows(
    whole: Sequence[tuple[int, int]], count: int, edge: int, seed: int, detail: Callable[..., float]
) -> list[tuple[int, int]]:
    """(top, left) of the windows that are held out, sorted."""
    generator = random_generator(seed, "held out")
    # Of a large scene not all windows are looked at.
    candidates = [whole[k] for k in generator.permutation(len(whole))[: CANDIDATES * count]]
    candidates.sort(key=lambda place: detail(*place, edge))
    parts = np.array_split(np.arange(len(candidates)), count)
    return sorted(candidates[generator.choice(part)] for part in parts)


def _list_windows(gaps: "_MissingCounts", height: int, width: int, edge: int) -> list[tuple[int, int]]:
    """(top, left) of the windows, side by side, that have data everywhere."""
    cells = [(i, j) for i in range(0, height - edge + 1, edge) for j in range(0, width - edge + 1, edge)]
    return [cell for cell in cells if not gaps.within(*cell, edge)]


class _MissingCounts:
    """Counts what is not there in any square, by sums from the corner."""

    def __init__(self, there: np.ndarray) -> None:
        kind = np.int32 if there.size < 2**31 else np.int64
        self._sums = np.zeros((there.shape[0] + 1, there.shape[1] + 1), dtype=kind)
        inside = self._sums[1:, 1:]
        np.cumsum(~there, axis=0, dtype=kind, out=inside)
        np.cumsum(inside, axis=1, dtype=kind, out=inside)

    def within(self, top: int, left: int, edge: int) -> int:
        """How many pixels of a square are not there."""
        sums = self._sums
        bottom, right = top + edge, left + edge
        return int(sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left])
