"""A scene that does not fit into memory: tiles planned from the memory at hand, blended where they overlap."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

# LR pixels that neighbouring tiles share; see benchmarks/README.md.
OVERLAP = 32
# Overlaps are cut into quarters: the outer two are thrown away, over the inner two one tile passes into the next.
QUARTERS = 4
# Edges of automatic tiles are multiples of this many LR pixels.
TILE_STEP = 16
SMALLEST_TILE = 4 * TILE_STEP
# Of the memory at hand, what a plan may use.
USABLE_SHARE = 0.8
# Of float32 images of all bands, so many at the HR size: input, bicubic in float64, groups, output, the ensemble
# and copies.
IMAGES_HELD = 9
# What the network's strips take, whatever the size.
STRIP_BYTES = 200 * 2**20
# RMSE between tiles of 64 pixels and the whole scene by overlap: CAVE, F = 32 (benchmarks/README.md).
DEVIATION = ((32, 7e-7), (16, 5e-6), (8, 1e-4), (0, 1e-3))
# What is assumed where the system does not say how much is free.
ASSUMED_MEMORY = 4 * 2**30


def estimate_bytes(architecture: Mapping[str, Any], height: int, width: int) -> int:
    """Peak memory of `predict` over an LR image, with its input and output, in bytes.

    Read off runs with F = 16..256, 31..198 bands, 64..256 pixels square (benchmarks/predict.py): the network
    keeps one map of every feature at the HR size, works in strips, and holds some images of all bands.

    Args:
        architecture: has n_colors and n_scale, and n_feats where the network has it (see `models.weights.Weights`).
        height, width: of the LR image.
    """
    pixels = height * width * architecture["n_scale"] ** 2
    images = IMAGES_HELD * architecture["n_colors"]
    return 4 * pixels * (architecture.get("n_feats", 0) + images) + STRIP_BYTES


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in LR pixels.

    Attributes:
        start, stop: what the network sees.
        blend_start, blend_stop: what counts of its output; the blended parts of two neighbours are the same pixels.
        done_start, done_stop: what is finished when this tile has been added to those before it.
    """

    start: int
    stop: int
    blend_start: int
    blend_stop: int
    done_start: int
    done_stop: int


@dataclass(frozen=True)
class Tile:
    """A Span of rows and a Span of columns."""

    rows: Span
    cols: Span


@dataclass(frozen=True)
class Plan:
    """How a scene is cut.

    Attributes:
        tiles: row by row.
        tile_size, overlap: in LR pixels; tile_size 0 for the whole scene at once.
        strips: whether tiles are as wide as the scene; tile_size is then their height.
        needed, usable: bytes that the whole scene would need, and that may be used.
    """

    tiles: list[Tile]
    tile_size: int
    overlap: int
    needed: int
    usable: int
    strips: bool = False


def split_axis(size: int, tile_size: int, overlap: int) -> list[Span]:
    """Cut an axis of `size` pixels into tiles of at most tile_size that share `overlap`, of nearly equal length."""
    count = 1 if size <= tile_size else -(-(size - overlap) // (tile_size - overlap))
    half, quarter = overlap // 2, overlap // QUARTERS
    cuts = [half + k * (size - overlap) // count for k in range(count + 1)]

    def extended(k: int, by: int) -> tuple[int, int]:
        return (cuts[k] - by if k else 0), (cuts[k + 1] + by if k < count - 1 else size)

    def done(k: int) -> tuple[int, int]:
        return extended(k, quarter)[0], extended(k, -quarter)[1]

    return [Span(*extended(k, half), *extended(k, quarter), *done(k)) for k in range(count)]


def make_tiles(height: int, width: int, tile_size: int, overlap: int) -> list[Tile]:
    """All tiles of a scene, row by row."""
    columns = split_axis(width, tile_size, overlap)
    rows = split_axis(height, tile_size, overlap)
    return [Tile(r, c) for r in rows for c in columns]


def make_strips(height: int, width: int, strip_height: int, overlap: int) -> list[Tile]:
    """All tiles of a scene that are as wide as it is, from above."""
    (columns,) = split_axis(width, width, 0)
    return [Tile(rows, columns) for rows in split_axis(height, strip_height, overlap)]


def make_plan(
    architecture: Mapping[str, Any],
    height: int,
    width: int,
    free: int,
    tile_size: int = 0,
    overlap: int = OVERLAP,
    strips: bool = False,
    processes: int = 1,
) -> Plan:
    """The whole scene where memory allows it, or a strip of it for each process, else the largest tiles that it allows.

    Args:
        architecture: see `estimate_bytes`.
        height, width: of the LR scene.
        free: bytes at hand; 0 where nobody knows.
        tile_size: LR pixels along a tile's edge; 0: from the memory.
        overlap: LR pixels shared by neighbouring tiles, a multiple of 4, at most half a tile.
        strips: tiles are as wide as the scene, and tile_size is their height.
        processes: that share the scene.
    """
    usable = int(USABLE_SHARE * (free or ASSUMED_MEMORY))
    needed = estimate_bytes(architecture, height, width)
    if strips:
        return Plan(make_strips(height, width, tile_size, overlap), tile_size, overlap, needed, usable, True)
    if not tile_size and processes > 1:
        strip = max(2 * overlap, -(-(height + (processes - 1) * overlap) // processes))
        if strip < height and estimate_bytes(architecture, strip, width) <= usable:
            return Plan(make_strips(height, width, strip, overlap), strip, overlap, needed, usable, True)
    if not tile_size and needed <= usable:
        return Plan(make_tiles(height, width, max(height, width), 0), 0, 0, needed, usable)
    if not tile_size:
        seam = 4 * overlap // 2 * width * architecture["n_colors"] * architecture["n_scale"] ** 2
        tile_size = max(SMALLEST_TILE, 2 * overlap)
        while tile_size < max(height, width):
            larger = tile_size + TILE_STEP
            if estimate_bytes(architecture, min(larger, height), min(larger, width)) + seam > usable:
                break
            tile_size = larger
    return Plan(make_tiles(height, width, tile_size, overlap), tile_size, overlap, needed, usable)


def format_deviation(plan: Plan) -> str:
    """How far tiles were from the whole scene where it was measured, in words."""
    rmse = next(value for overlap, value in DEVIATION if plan.overlap >= overlap)
    return f"expect them to deviate from the whole scene by {rmse:.0e} of what stands for 1 (RMSE, as measured on CAVE)"


class Blender:
    """Puts tiles together, row by row, keeping no more than the seams to the tiles that follow.

    Where two tiles overlap, the weight of one falls as a cosine while that of the other rises, and the two
    sum to one: what the tiles agree on comes out as it is. A quarter of the overlap from its edge on, a tile does
    not count at all, so a network that sees no further than that gives the same as on the whole scene.

    Args:
        width: of the LR scene.
        bands, scale: of the output.

    Attributes:
        below: what the tiles of the next row get from those above, h x s*width x bands.
        right: what the next tile of the row gets, h x w x bands.
    """

    def __init__(self, width: int, bands: int, scale: int) -> None:
        self.scale = scale
        self.below = np.zeros((0, width * scale, bands), dtype=np.float32)
        self.right = np.zeros((0, 0, bands), dtype=np.float32)

    def add(self, tile: Tile, values: np.ndarray) -> np.ndarray:
        """Take a tile's output and give what is finished by it.

        Args:
            values: s*h x s*w x C for the tile's h x w LR pixels.

        Returns:
            The output for the rows done_start..done_stop and columns done_start..done_stop of the tile.
        """
        s, rows, cols = self.scale, tile.rows, tile.cols
        top, left = (rows.blend_start - rows.start) * s, (cols.blend_start - cols.start) * s
        height, width = (rows.blend_stop - rows.blend_start) * s, (cols.blend_stop - cols.blend_start) * s
        values = values[top : top + height, left : left + width].astype(np.float32)
        done_height, done_width = (rows.done_stop - rows.done_start) * s, (cols.done_stop - cols.done_start) * s

        shared = self.right.shape[1] if cols.start else 0
        values = _apply_ramps(values, shared, width - done_width, axis=1)
        if shared:
            values[:, :shared] += self.right
        self.right = values[:, done_width:].copy()
        values = values[:, :done_width]

        columns = slice(cols.done_start * s, cols.done_stop * s)
        shared = len(self.below) if rows.start else 0
        values = _apply_ramps(values, shared, height - done_height, axis=0)
        if shared:
            values[:shared] += self.below[:, columns]
        if height > done_height:
            if len(self.below) != height - done_height:
                self.below = np.zeros((height - done_height, *self.below.shape[1:]), dtype=np.float32)
            self.below[:, columns] = values[done_height:]
        return values[:done_height]


def _apply_ramps(values: np.ndarray, rising: int, falling: int, axis: int) -> np.ndarray:
    """Values times a ramp up over the first `rising` and down over the last `falling` of an axis."""
    length = values.shape[axis]
    weights = np.ones(length, dtype=np.float32)
    weights[:rising] = _make_ramp(rising)
    weights[length - falling :] *= 1 - _make_ramp(falling)
    return values * weights.reshape([-1 if k == axis else 1 for k in range(3)])


def _make_ramp(length: int) -> np.ndarray:
    return (0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / max(1, length))).astype(np.float32)
