"""Tiling of scenes that do not fit into memory: tiles planned from the available memory, blended at overlaps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

# Overlap of neighbouring tiles in LR pixels; see benchmarks/README.md.
OVERLAP = 32
# Overlaps are cut into quarters: the outer two are discarded, over the inner two neighbouring tiles are blended.
QUARTERS = 4
# Edges of automatic tiles are multiples of this many LR pixels.
TILE_STEP = 16
SMALLEST_TILE = 4 * TILE_STEP
# Share of the available memory that a plan may use.
USABLE_SHARE = 0.8
# Number of float32 images of all bands at the HR size: input, float64 bicubic, groups, output, self-ensemble, copies.
IMAGES_HELD = 9
# Memory of the network's strips, independent of the size.
STRIP_BYTES = 200 * 2**20
# RMSE between tiles of 64 pixels and the whole scene by overlap: CAVE, F = 32 (benchmarks/README.md).
DEVIATION = ((32, 7e-7), (16, 5e-6), (8, 1e-4), (0, 1e-3))
# Assumed free memory if the system does not report it.
ASSUMED_MEMORY = 4 * 2**30


def estimate_bytes(architecture: Mapping[str, Any], height: int, width: int) -> int:
    """Estimate the peak memory of `predict` for an LR image, with input and output, in bytes.

    Fitted to runs with F = 16..256, 31..198 bands, 64..256 pixels square (benchmarks/predict.py): the network keeps one
    map of every feature at the HR size, works in strips, and keeps some images of all bands.

    Args:
        architecture: n_colors, n_scale and, if the network has it, n_feats (see `models.weights.Weights`).
        height, width: of the LR image.
    """
    pixels = height * width * architecture["n_scale"] ** 2
    images = IMAGES_HELD * architecture["n_colors"]
    return 4 * pixels * (architecture.get("n_feats", 0) + images) + STRIP_BYTES


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in LR pixels.

    Attributes:
        start, stop: input of the network.
        blend_start, blend_stop: part of its output that is used; the overlaps of two neighbours are the same pixels.
        done_start, done_stop: part of the result that is finished after this tile is added to those before it.
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
    """Tiling of a scene.

    Attributes:
        tiles: row by row.
        tile_size, overlap: in LR pixels; tile_size 0 for the whole scene as one tile.
        strips: True if tiles are as wide as the scene; tile_size is then their height.
        needed, usable: estimated bytes of the whole scene, and bytes that may be used.
    """

    tiles: list[Tile]
    tile_size: int
    overlap: int
    needed: int
    usable: int
    strips: bool = False


def split_axis(size: int, tile_size: int, overlap: int) -> list[Span]:
    """Split an axis of `size` pixels into tiles of nearly equal length, at most tile_size, with an overlap."""
    count = 1 if size <= tile_size else -(-(size - overlap) // (tile_size - overlap))
    half, quarter = overlap // 2, overlap // QUARTERS
    cuts = [half + k * (size - overlap) // count for k in range(count + 1)]

    def extend(k: int, by: int) -> tuple[int, int]:
        return (cuts[k] - by if k else 0), (cuts[k + 1] + by if k < count - 1 else size)

    return [
        Span(*extend(k, half), *extend(k, quarter), extend(k, quarter)[0], extend(k, -quarter)[1]) for k in range(count)
    ]


def make_tiles(height: int, width: int, tile_size: int, overlap: int) -> list[Tile]:
    """Return the tiles of a scene, row by row."""
    columns = split_axis(width, tile_size, overlap)
    rows = split_axis(height, tile_size, overlap)
    return [Tile(r, c) for r in rows for c in columns]


def make_strips(height: int, width: int, strip_height: int, overlap: int) -> list[Tile]:
    """Return the tiles of a scene that are as wide as the scene, from top to bottom."""
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
    """Plan the whole scene, or a strip for each process, if memory suffices, else the largest tiles that fit.

    Args:
        architecture: see `estimate_bytes`.
        height, width: of the LR scene.
        free: available bytes; 0 if unknown.
        tile_size: LR pixels along a tile's edge; 0: derived from the memory.
        overlap: LR pixels shared by neighbouring tiles, a multiple of 4, at most half a tile.
        strips: True: tiles are as wide as the scene, and tile_size is their height.
        processes: number of processes that share the scene.
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
            next_size = tile_size + TILE_STEP
            if estimate_bytes(architecture, min(next_size, height), min(next_size, width)) + seam > usable:
                break
            tile_size = next_size
    return Plan(make_tiles(height, width, tile_size, overlap), tile_size, overlap, needed, usable)


def format_deviation(plan: Plan) -> str:
    """Format the measured deviation of tiles from the whole scene."""
    rmse = next(value for overlap, value in DEVIATION if plan.overlap >= overlap)
    return f"the expected deviation from an untiled result is {rmse:.0e} of full scale (RMSE, measured on CAVE)"


class Blender:
    """Blends tiles row by row and keeps only the seams to the remaining tiles.

    In an overlap, the weights of two tiles are cosine ramps that sum to one. The outer quarter of the overlap of each
    tile is discarded, so that a network with a smaller receptive field gives the same result as on the whole scene.

    Args:
        width: of the LR scene.
        bands, scale: of the output.

    Attributes:
        below: weighted seam to the tiles of the next row, h x s*width x bands.
        right: weighted seam to the next tile of the row, h x w x bands.
    """

    def __init__(self, width: int, bands: int, scale: int) -> None:
        self.scale = scale
        self.below = np.zeros((0, width * scale, bands), dtype=np.float32)
        self.right = np.zeros((0, 0, bands), dtype=np.float32)

    def add(self, tile: Tile, values: np.ndarray) -> np.ndarray:
        """Add a tile's output and return the part of the result that it finishes.

        Args:
            values: s*h x s*w x C for the tile's h x w LR pixels.

        Returns:
            The result for rows done_start..done_stop and columns done_start..done_stop of the tile.
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
    """Multiply values by a ramp up over the first `rising` and down over the last `falling` of an axis."""
    length = values.shape[axis]
    weights = np.ones(length, dtype=np.float32)
    weights[:rising] = _make_ramp(rising)
    weights[length - falling :] *= 1 - _make_ramp(falling)
    return values * weights.reshape([-1 if k == axis else 1 for k in range(3)])


def _make_ramp(length: int) -> np.ndarray:
    return (0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / max(1, length))).astype(np.float32)
