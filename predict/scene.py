"""One scene super-resolved, tile by tile."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from config import PredictConfig
from data.bands import BandList
from data.imresize import upsample
from formats import Raster
from formats.calibration import divisors_of, peaks_of, read_unit, understand
from models.any_bands import plan_bands
from models.predictor import Predictor
from predict import tiles
from predict.device_network import DeviceNetwork
from system.errors import UserError, is_out_of_memory
from training.processes import World
from utils import progress_bar

# Bicubic enlarging and degrading a window read this many LR pixels beyond it, and so equal the whole scene's.
HALO = 4


@dataclass(frozen=True)
class SceneState:
    """What is needed to go on with a scene, beside the values that are done.

    Attributes:
        tile_size, overlap, strips: of its plan.
        peaks: divisors of its values in 0..1 for the network, one or one for each band; 0 for bands without data.
        done: tiles.
        clipped: values clipped in them.
        below, right: the seams to the tiles that follow, see `tiles.Blender`.
    """

    tile_size: int
    overlap: int
    strips: bool
    peaks: np.ndarray
    done: int
    clipped: int
    below: np.ndarray
    right: np.ndarray


@dataclass(frozen=True)
class _Window:
    """A tile within the piece that is read for it, in LR pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, image: torch.Tensor, scale: int = 1) -> torch.Tensor:
        """The tile's part of B x C x h x w at a scale of the LR pixels."""
        rows = slice(self.top * scale, (self.top + self.height) * scale)
        return image[:, :, rows, self.left * scale : (self.left + self.width) * scale]


class SceneUpsampler:
    """One scene, ready to be super-resolved.

    Args:
        raster: the scene.
        network: on its device.
        config: how it is to be done.
        tell: takes messages for the user, with parameters in braces as those of `DataError`.
        state: of an earlier call that was stopped: the plan is that one's (see `restore`).
        world: the processes that share the scene; None for this one alone.

    Attributes:
        raster, scale: the scene and its enlargement.
        shape: of the result.
        understood, calibration: how its values are understood, and between these and 0..1.
        bands: the BandPlan.
        peaks: divisors of its values in 0..1 for the network, see `peaks_of`.
        has_data: C of bool; False for bands that spectral windows leave out.
        plan: the tiles.Plan.
        done, clipped: tiles done, and values clipped in them.

    Raises:
        UserError: for bands that do not fit the network, and values that cannot be understood.
    """

    def __init__(
        self,
        raster: Raster,
        network: DeviceNetwork,
        config: PredictConfig,
        tell: Callable[[str], None],
        state: SceneState | None = None,
        world: World | None = None,
    ) -> None:
        self._world = world or World.alone()
        self.raster, self.scale = raster, network.n_scale
        self._network = network
        height, width, bands = raster.shape
        self.shape = (height * self.scale, width * self.scale, bands)
        own_bands = BandList(bands, raster.wavelengths)
        mode = "resample" if config.resample_bands else config.bands
        self.bands = plan_bands(raster.path, own_bands, network.bands, mode, config.taper, network.sensor)
        nodata = float(config.nodata) if config.nodata else None
        understood = understand(raster, config.value_scale, nodata, network.value_scale)
        self.understood, self.calibration = understood, understood.calibration
        normalise = "bands" if config.normalise == "auto" and self.bands.mode == "windows" else config.normalise
        self.peaks = state.peaks if state else peaks_of(raster, understood, normalise)
        self.has_data = self.peaks.repeat(bands // len(self.peaks)) > 0
        divisors = torch.from_numpy(divisors_of(self.peaks))
        self._predictor = Predictor(
            *(network.model, self.scale, self.bands, normalise, config.back_projection),
            peaks=divisors,
            has_data=self.has_data,
        )
        architecture = {**network.architecture, "n_colors": max(bands, network.bands.count)}
        asked = (config.tile_size, config.tile_overlap, False)
        if state:
            asked = (state.tile_size, state.overlap, state.strips)
        # Processes share main memory; of a CUDA device each has its own.
        sharing = self._world.size if network.device.type == "cpu" else 1
        free = network.get_free_memory(config.memory_limit) // sharing
        self.plan = tiles.make_plan(architecture, height, width, free, *asked, processes=self._world.size)
        self._blender = tiles.Blender(width, bands, self.scale)
        self.done = self.clipped = 0
        remarks = (self.bands.remark, *understood.remarks(raster.path), *_list_peak_remarks(raster, self.peaks))
        for remark in filter(None, (*remarks, *_list_plan_remarks(self.plan))):
            tell(remark)

    def state(self) -> SceneState:
        """What is needed to go on from here; its arrays are the scene's own, and change when it goes on."""
        plan, seams = self.plan, self._blender
        return SceneState(
            *(plan.tile_size, plan.overlap, plan.strips, self.peaks, self.done, self.clipped),
            *(seams.below, seams.right),
        )

    def restore(self, state: SceneState) -> None:
        """Go on from a state of the same scene and plan."""
        self.done, self.clipped = state.done, state.clipped
        self._blender.below, self._blender.right = state.below, state.right

    def to_array(self, dtype: np.dtype, show_progress: bool) -> np.ndarray:
        """The whole result, s*rows x s*columns x bands."""
        result = np.empty(self.shape, dtype)

        def keep(top: int, left: int, values: np.ndarray) -> None:
            result[top : top + values.shape[0], left : left + values.shape[1]] = values

        self.run(keep, show_progress)
        return result

    def run(
        self,
        keep: Callable[[int, int, np.ndarray], None],
        show_progress: bool,
        after_tile: Callable[[], None] = lambda: None,
    ) -> None:
        """Go through the tiles that are not done yet.

        Args:
            keep: takes (top, left, values) of every finished window of the result.
            show_progress: whether a progress bar is shown.
            after_tile: called when a tile is done and kept.

        Raises:
            UserError: where the memory is too small, the input damaged, or the network's output not finite.
        """
        hidden: dict[str, Any] = {} if show_progress else {"disable": True}
        title, total = self.raster.path.name, len(self.plan.tiles)
        with progress_bar(total=total, initial=self.done, desc=title, unit="tile", **hidden) as bar:
            for first in range(self.done, total, self._world.size):
                # Each process makes a tile; they are put together in one.
                shared = self.plan.tiles[first : first + self._world.size]
                mine = shared[self._world.rank] if self._world.rank < len(shared) else None
                made = self._world.to_main(None if mine is None else self.upsample_tile(mine))
                for tile, (unit, missing) in zip(shared, made, strict=False):
                    block = self._blender.add(tile, unit)
                    raw, clipped = self.calibration.to_raw(block, self._crop_missing(tile, missing))
                    keep(tile.rows.done_start * self.scale, tile.cols.done_start * self.scale, raw)
                    self.clipped += clipped
                    self.done += 1
                    after_tile()
                    bar.update()

    def run_worker(self) -> None:
        """Make this process's tiles for the main one, which puts them together."""
        self.run(lambda top, left, values: None, show_progress=False)

    @torch.inference_mode()
    def upsample_tile(self, tile: tiles.Tile) -> tuple[np.ndarray, np.ndarray | None]:
        """One tile by itself.

        Returns:
            (s*h x s*w x C in 0..1, where the h x w x C input of the tile is missing, or None).

        Raises:
            UserError: where the memory is too small, the input damaged, or the network's output not finite.
        """
        top, rows = _add_halo(tile.rows, self.raster.shape[0])
        left, cols = _add_halo(tile.cols, self.raster.shape[1])
        window = _Window(top, left, tile.rows.stop - tile.rows.start, tile.cols.stop - tile.cols.start)
        unit, missing = read_unit(self.raster, self.calibration, rows, cols)
        if missing is not None:
            missing = missing[top : top + window.height, left : left + window.width]
        if unit is None:
            shape = (window.height * self.scale, window.width * self.scale, self.shape[2])
            return np.zeros(shape, dtype=np.float32), missing
        x = torch.from_numpy(np.ascontiguousarray(unit.transpose(2, 0, 1)))[None].to(self._network.device)
        try:
            y = self._predictor(*map(_to_channels_last, (window.of(x), window.of(upsample(x, self.scale), self.scale))))
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise UserError(
                    f"{self.raster.path}: the memory is too small for {window.width} x {window.height} pixels at once; "
                    "give a smaller --tile_size"
                ) from error
            raise
        result = y[0].permute(1, 2, 0).float().cpu().numpy()
        if not np.isfinite(result).all():
            raise UserError(
                f"{self.raster.path}: the network's output is not finite; its weights have diverged, give others"
            )
        return result, missing

    def _crop_missing(self, tile: tiles.Tile, missing: np.ndarray | None) -> np.ndarray | None:
        """Where a tile's input is missing -> where the result that is finished with it has no data; None for None."""
        if missing is None:
            return None
        rows, cols = (
            slice(span.done_start - span.start, span.done_stop - span.start) for span in (tile.rows, tile.cols)
        )
        return missing[rows, cols].repeat(self.scale, axis=0).repeat(self.scale, axis=1)


def _add_halo(span: tiles.Span, size: int) -> tuple[int, slice]:
    """(where the span begins in it, slice of the span and HALO pixels around it within the scene)."""
    start, stop = max(0, span.start - HALO), min(size, span.stop + HALO)
    return span.start - start, slice(start, stop)


def _to_channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _list_peak_remarks(raster: Raster, peaks: np.ndarray) -> list[str]:
    if len(peaks) > 1 or peaks[0] == 1:
        return []
    return [
        f"{raster.path}: brightest value is {peaks[0]:.3g} of full scale; the scene is normalised before inference "
        "(disable with {normalise} none)"
    ]


def _list_plan_remarks(plan: tiles.Plan) -> list[str]:
    """What the user should know of the tiles, where there are several."""
    if len(plan.tiles) == 1:
        return []
    rows, cols = (span.stop - span.start for span in (plan.tiles[0].rows, plan.tiles[0].cols))
    return [
        f"{len(plan.tiles)} tiles of {cols} x {rows} pixels that share {plan.overlap} "
        f"(the whole scene takes about {plan.needed / 1e9:.1f} GB, {plan.usable / 1e9:.1f} GB may be used); "
        f"{tiles.format_deviation(plan)}"
    ]
