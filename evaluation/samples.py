"""What an evaluation leaves behind for the command `tables`: crops of a few scenes, and every band's PSNR.

The place of a crop depends on nothing but the true image and the scale, so that all methods show the same one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import pictures
from evaluation.scene_sets import TestScene
from metrics import band_mse, psnr
from system.errors import UserError, refuse_small_memory
from system.files import atomic_write
from utils import scene_name

# HR pixels along a crop's edge, and how many scenes of 31 bands leave one: together some 4 MB.
EDGE, SCENES, BANDS = 96, 3, 31


@dataclass(frozen=True)
class Sample:
    """The same window of a scene before and after: ms C x h x w; lms, gt, output C x s*h x s*w; float32.

    Attributes:
        corner: (row, column) of the window's first HR pixel.
        shown: the bands for red, green and blue.
        wavelengths: C values in nm, or None.
    """

    scene: str
    corner: tuple[int, int]
    shown: list[int]
    wavelengths: np.ndarray | None
    ms: np.ndarray
    lms: np.ndarray
    gt: np.ndarray
    output: np.ndarray


class Samples:
    """Collects what one evaluation leaves, scene by scene.

    Attributes:
        bands: {scene: [PSNR of each band in dB]}.
        wavelengths: of the bands in nm, as a list, or None where they are not known.
    """

    def __init__(self, n_scale: int) -> None:
        self.n_scale = n_scale
        self.bands: dict[str, list[float]] = {}
        self.wavelengths: list[float] | None = None
        self.kept: list[Sample] = []

    def add(self, scene: TestScene, output: np.ndarray) -> None:
        """Take note of a scene and the network's output for it (H x W x C)."""
        gt, output = scene.gt[0].numpy(), output.transpose(2, 0, 1)
        self.bands[scene.name] = psnr(band_mse(gt.astype(np.float64), output.astype(np.float64))).tolist()
        if scene.wavelengths is not None:
            self.wavelengths = [float(w) for w in scene.wavelengths]
        if len(self.kept) >= self._limit(len(gt)):
            return
        step = self.n_scale
        edge = min(EDGE, *gt.shape[1:]) // step * step
        row, column = busiest_window(gt, edge, step)
        window = np.s_[:, row : row + edge, column : column + edge]
        low = np.s_[:, row // step : (row + edge) // step, column // step : (column + edge) // step]
        arrays = scene.ms[0].numpy()[low], scene.lms[0].numpy()[window], gt[window], output[window]
        shown = pictures.select_display_bands(len(gt), scene.wavelengths)
        self.kept.append(Sample(scene.name, (row, column), shown, scene.wavelengths, *map(_as_half, arrays)))

    def join(self, shares: Sequence["Samples"], names: Sequence[str]) -> None:
        """Take together what several processes have collected, in the order of the scenes' names."""
        self.bands = {name: share.bands[name] for name in names for share in shares if name in share.bands}
        self.wavelengths = next((s.wavelengths for s in shares if s.wavelengths), None)
        kept = sorted((sample for share in shares for sample in share.kept), key=lambda s: names.index(s.scene))
        self.kept = kept[: self._limit(len(kept[0].gt))]

    @staticmethod
    def _limit(n_colors: int) -> int:
        # Cubes of many bands are large: fewer of them are kept.
        return max(1, SCENES * BANDS // n_colors)

    def write(self, results_path: Path) -> list[Path]:
        """Write the crops beside a results file: results.json -> samples.npz. Returns a list of the path."""
        path = path_beside(results_path)
        arrays: dict[str, Any] = {
            "scenes": [s.scene for s in self.kept],
            "corners": [s.corner for s in self.kept],
            "shown": self.kept[0].shown,
            "wavelengths": self.wavelengths or [],
        }
        for k, sample in enumerate(self.kept):
            arrays |= {f"{name}_{k}": getattr(sample, name) for name in ("ms", "lms", "gt", "output")}
        # Given a path, savez would add an extension of its own.
        with atomic_write(path) as temporary, open(temporary, "wb") as f:
            np.savez_compressed(f, **arrays)
        return [path]


def path_beside(results_path: str | Path) -> Path:
    """Where the crops of a results file are."""
    results_path = Path(results_path)
    return results_path.with_name(results_path.name.removesuffix("results.json") + "samples.npz")


def read(path: str | Path) -> list[Sample]:
    """The crops that a Samples has written.

    Raises:
        UserError: for a file that is damaged or holds something else.
    """
    try:
        # Numbers beyond float32 become infinite, and are found below.
        with np.load(path) as f, np.errstate(over="ignore"):
            scenes, corners, shown = f["scenes"].tolist(), f["corners"].tolist(), f["shown"].tolist()
            wavelengths = f["wavelengths"] if f["wavelengths"].size else None
            crops = [
                Sample(
                    scene_name(scene) if isinstance(scene, str) else scene,
                    tuple(corners[k]),
                    shown,
                    wavelengths,
                    *(f[f"{name}_{k}"].astype(np.float32) for name in ("ms", "lms", "gt", "output")),
                )
                for k, scene in enumerate(scenes)
            ]
    # Neither numpy nor zipfile says of what kind their errors are: a wrong byte is met wherever it stands.
    except Exception as error:
        refuse_small_memory(path, error)
        raise UserError(f"{path}: cannot be read as crops; run the test again") from error
    for crop in crops:
        if wrong := _wrong_of(crop):
            raise UserError(f"{path}: cannot be read as crops ({wrong}); run the test again")
    return crops


def _wrong_of(crop: Sample) -> str:
    """What is not as `Samples` writes it, in words; "" for nothing."""
    if not isinstance(crop.scene, str) or not _is_utf8(crop.scene):
        return f"a scene is called {crop.scene!a:.40}"
    if len(crop.corner) != 2 or not all(isinstance(k, int) and k >= 0 for k in crop.corner):
        return f"{crop.scene} begins at {crop.corner!r:.40}"
    shapes = [a.shape for a in (crop.ms, crop.lms, crop.gt, crop.output)]
    if any(len(shape) != 3 or 0 in shape for shape in shapes) or len({*shapes[1:]}) > 1 or shapes[0][0] != shapes[1][0]:
        return f"{crop.scene} has arrays of shapes {', '.join(map(str, shapes))}"
    (bands, height, width), (_, rows, columns) = shapes[1], shapes[0]
    # The windows are square, and telling pixels stand apart from their borders.
    if height != width or rows != columns or height % rows:
        return f"{crop.scene} has crops of {width} x {height} and {columns} x {rows} pixels"
    # A network may answer anything, NaN too; what it was asked has to be numbers.
    if not all(np.isfinite(a).all() for a in (crop.ms, crop.lms, crop.gt)):
        return f"{crop.scene} has values that are not finite"
    if not isinstance(crop.shown, list) or len(crop.shown) != 3 or not all(_is_band(k, bands) for k in crop.shown):
        return f"the bands shown are {crop.shown!r:.40}"
    waves = crop.wavelengths
    if waves is None:
        return ""
    if waves.shape != (bands,) or waves.dtype.kind not in "fiu" or not (np.isfinite(waves) & (waves > 0)).all():
        return f"there are no wavelengths of {bands} bands"
    return ""


def _is_band(number: object, count: int) -> bool:
    return isinstance(number, int) and 0 <= number < count


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def busiest_window(image: np.ndarray, edge: int, step: int) -> tuple[int, int]:
    """(row, column) of the edge x edge window of a C x H x W image with the greatest total variation.

    Rows and columns that are multiples of step are tried; the first of equals is taken.
    """
    squares = np.zeros(image.shape[1:])
    for band in image:
        squares[:-1] += np.diff(band, axis=0) ** 2
        squares[:, :-1] += np.diff(band, axis=1) ** 2
    total = np.pad(np.sqrt(squares), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    sums = total[edge:, edge:] - total[:-edge, edge:] - total[edge:, :-edge] + total[:-edge, :-edge]
    sums = sums[::step, ::step]
    row, column = np.unravel_index(sums.argmax(), sums.shape)
    return int(row) * step, int(column) * step


def _as_half(array: np.ndarray) -> np.ndarray:
    limit = np.finfo(np.float16).max
    return array.clip(-limit, limit).astype(np.float16)
