"""Super-resolution of one scene, tile by tile."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from config import PredictConfig
from data.bands import BandList
from data.imresize import upsample
from formats import Raster
from formats.calibration import compute_divisors, compute_peaks, read_unit, understand
from models.any_bands import plan_bands
from models.predictor import Predictor
from predict import tiles
from predict.device_network import DeviceNetwork
from system.errors import UserError, is_out_of_memory
from training.processes import World
from utils import progress_bar

# LR pixels around a window from which its bicubic upsampling and downsampling equal those of the whole scene.
HALO = 4


@dataclass(frozen=True)
class SceneState:
    """State from which a scene is resumed, besides the values of finished tiles.

    Attributes:
        tile_size, overlap, strips: of its plan.
        peaks: divisors of its values in 0..1 for the network, one or one for each band; 0 for bands without data.
        done: number of finished tiles.
        clipped: number of clipped values in them.
        below, right: seams to the remaining tiles, see `tiles.Blender`.
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
    """Position of a tile within the window that is read for it, in LR pixels."""

    top: int
    left: int
    height: int
    width: int

    def crop(self, image: torch.Tensor, scale: int = 1) -> torch.Tensor:
        """Return the tile's part of B x C x h x w, an image with scale times the LR resolution."""
        rows = slice(self.top * scale, (self.top + self.height) * scale)
        return image[:, :, rows, self.left * scale : (self.left + self.width) * scale]


class SceneUpsampler:
    """Super-resolution of one scene by tiles.

    Args:
        raster: the scene.
        network: on its device.
        config: the settings.
        log: called with each message for the user, with parameters in braces as in `DataError`.
        state: of an interrupted call, whose plan is used (see `restore`).
        world: the processes that share the scene; None for this process only.

    Attributes:
        raster, scale: the scene and the upsampling factor.
        shape: of the result.
        understood, calibration: full-scale and nodata values with their source; conversion of values to 0..1 and back.
        bands: the BandPlan.
        peaks: divisors of its values in 0..1 for the network, see `compute_peaks`.
        has_data: C of bool; False for bands that spectral windows leave out.
        plan: the tiles.Plan.
        done, clipped: finished tiles, and clipped values in them.

    Raises:
        UserError: for bands that the network cannot process, and an unknown full-scale value.
    """

    def __init__(
        self,
        raster: Raster,
        network: DeviceNetwork,
        config: PredictConfig,
        log: Callable[[str], None],
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
        understood = understand(raster, config.value_scale, fallback=network.value_scale)
        self.understood, self.calibration = understood, understood.calibration
        normalise = "bands" if config.normalise == "auto" and self.bands.mode == "windows" else config.normalise
        self.peaks = state.peaks if state else compute_peaks(raster, understood, normalise)
        self.has_data = self.peaks.repeat(bands // len(self.peaks)) > 0
        divisors = torch.from_numpy(compute_divisors(self.peaks))
        self._predictor = Predictor(
            *(network.model, self.scale, self.bands, normalise, config.back_projection),
            peaks=divisors,
            has_data=self.has_data,
        )
        architecture = {**network.architecture, "n_colors": max(bands, network.bands.count)}
        asked = (config.tile_size, config.tile_overlap, False)
        if state:
            asked = (state.tile_size, state.overlap, state.strips)
        # Processes share main memory, but each has a separate CUDA device.
        sharing = self._world.size if network.device.type == "cpu" else 1
        free = network.get_free_memory(config.memory_limit) // sharing
        self.plan = tiles.make_plan(architecture, height, width, free, *asked, processes=self._world.size)
        self._blender = tiles.Blender(width, bands, self.scale)
        self.done = self.clipped = 0
        remarks = (self.bands.remark, *understood.list_remarks(raster.path), *_list_peak_remarks(raster, self.peaks))
        for remark in filter(None, (*remarks, *_list_plan_remarks(self.plan))):
            log(remark)

    def get_state(self) -> SceneState:
        """Return the state from which to resume; its arrays are views that change with the next tile."""
        plan, seams = self.plan, self._blender
        return SceneState(
            *(plan.tile_size, plan.overlap, plan.strips, self.peaks, self.done, self.clipped),
            *(seams.below, seams.right),
        )

    def restore(self, state: SceneState) -> None:
        """Restore a state of the same scene and plan."""
        self.done, self.clipped = state.done, state.clipped
        self._blender.below, self._blender.right = state.below, state.right

    def to_array(self, dtype: np.dtype, show_progress: bool) -> np.ndarray:
        """Compute the whole result in memory, s*rows x s*columns x bands."""
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
        """Process the remaining tiles.

        Args:
            keep: called with (top, left, values) of every finished window of the result.
            show_progress: True: show a progress bar.
            after_tile: called after each tile is kept.

        Raises:
            UserError: if the memory is too small, the input is damaged, or the network's output is not finite.
        """
        hidden: dict[str, Any] = {} if show_progress else {"disable": True}
        title, total = self.raster.path.name, len(self.plan.tiles)
        with progress_bar(total=total, initial=self.done, desc=title, unit="tile", **hidden) as bar:
            for first in range(self.done, total, self._world.size):
                # Each process computes a tile; the main process blends them.
                shared = self.plan.tiles[first : first + self._world.size]
                own = shared[self._world.rank] if self._world.rank < len(shared) else None
                outputs = self._world.to_main(None if own is None else self.upsample_tile(own))
                for tile, (unit, missing) in zip(shared, outputs, strict=False):
                    block = self._blender.add(tile, unit)
                    raw, clipped = self.calibration.to_raw(block, self._crop_missing(tile, missing))
                    keep(tile.rows.done_start * self.scale, tile.cols.done_start * self.scale, raw)
                    self.clipped += clipped
                    self.done += 1
                    after_tile()
                    bar.update()

    def run_worker(self) -> None:
        """Compute the tiles of this process for the main process, which blends them."""
        self.run(lambda top, left, values: None, show_progress=False)

    @torch.inference_mode()
    def upsample_tile(self, tile: tiles.Tile) -> tuple[np.ndarray, np.ndarray | None]:
        """Super-resolve one tile.

        Returns:
            (s*h x s*w x C in 0..1; h x w x C of bool: missing values of the tile's input, or None).

        Raises:
            UserError: if the memory is too small, the input is damaged, or the network's output is not finite.
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
            images = (window.crop(x), window.crop(upsample(x, self.scale), self.scale))
            y = self._predictor(*(image.contiguous(memory_format=torch.channels_last) for image in images))
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise UserError(
                    f"{self.raster.path}: the memory is too small for {window.width} x {window.height} pixels at once; "
                    "set a smaller --tile_size"
                ) from error
            raise
        result = y[0].permute(1, 2, 0).float().cpu().numpy()
        if not np.isfinite(result).all():
            raise UserError(
                f"{self.raster.path}: the network's output is not finite, as its weights have diverged; give other "
                "weights"
            )
        return result, missing

    def _crop_missing(self, tile: tiles.Tile, missing: np.ndarray | None) -> np.ndarray | None:
        """Convert the missing values of a tile's input to those of the finished window of the result; None for None."""
        if missing is None:
            return None
        rows, cols = (
            slice(span.done_start - span.start, span.done_stop - span.start) for span in (tile.rows, tile.cols)
        )
        return missing[rows, cols].repeat(self.scale, axis=0).repeat(self.scale, axis=1)


def _add_halo(span: tiles.Span, size: int) -> tuple[int, slice]:
    """Return (start of the span in the slice, slice of the span with HALO pixels around it within the scene)."""
    start, stop = max(0, span.start - HALO), min(size, span.stop + HALO)
    return span.start - start, slice(start, stop)


def _list_peak_remarks(raster: Raster, peaks: np.ndarray) -> list[str]:
    if len(peaks) > 1 or peaks[0] == 1:
        return []
    return [
        f"{raster.path}: brightest value is {peaks[0]:.3g} of full scale; the scene is normalised before inference "
        "(disable with {normalise} none)"
    ]


def _list_plan_remarks(plan: tiles.Plan) -> list[str]:
    """Return the remark on the tiles for the user; none for a single tile."""
    if len(plan.tiles) == 1:
        return []
    rows, cols = (span.stop - span.start for span in (plan.tiles[0].rows, plan.tiles[0].cols))
    return [
        f"{len(plan.tiles)} tiles of {cols} x {rows} pixels with an overlap of {plan.overlap} "
        f"(the whole scene needs about {plan.needed / 1e9:.1f} GB, {plan.usable / 1e9:.1f} GB may be used); "
        f"{tiles.format_deviation(plan)}"
    ]
