"""Files of an evaluation for the command `tables`: crops of a few scenes, and the PSNR of each band.

The position of a crop depends only on the ground truth and the scale, so that all methods show the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import pictures
from system.errors import UserError, refuse_small_memory
from system.files import atomic_write
from system.records import Field
from utils import scene_name

if TYPE_CHECKING:
    # `tables` reads crops without the time that importing torch takes.
    from evaluation.scene_sets import TestScene

# HR pixels along the edge of a crop, and the number of scenes of 31 bands with one: together some 8 MB.
EDGE, SCENES, BANDS = 96, 6, 31
ARRAYS = ("ms", "lms", "gt", "output")
# The other arrays of a samples.npz, as lists; wavelengths in nm, or none.
META = Field(
    dict,
    fields={
        "scenes": Field(list, items=Field(str)),
        "corners": Field(list, items=Field(list, 2, 2, items=Field(int, 0))),
        "shown": Field(list, 3, 3, items=Field(int, 0)),
        "wavelengths": Field(list, items=Field(float, 1e-9)),
    },
)


@dataclass(frozen=True)
class Sample:
    """One window of a scene: ms C x h x w; lms, gt, output C x s*h x s*w; float32.

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
    """Collects the crops and PSNRs of one evaluation, scene by scene.

    Attributes:
        bands: {scene: [PSNR of each band in dB]}.
        wavelengths: of the bands in nm, as a list; None if they are not known.
    """

    def __init__(self, n_scale: int) -> None:
        self.n_scale = n_scale
        self.bands: dict[str, list[float]] = {}
        self.wavelengths: list[float] | None = None
        self.kept: list[Sample] = []

    def add(self, scene: TestScene, output: np.ndarray) -> None:
        """Add a scene and the network's output for it (H x W x C)."""
        # Imports torch, which reading does without.
        from metrics import band_mse, psnr

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

    def join(self, shares: Sequence[Samples], names: Sequence[str]) -> None:
        """Merge the samples of several processes, in the order of the scenes' names."""
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
            arrays |= {f"{name}_{k}": getattr(sample, name) for name in ARRAYS}
        # savez appends .npz to a path.
        with atomic_write(path) as temporary, open(temporary, "wb") as f:
            np.savez_compressed(f, **arrays)
        return [path]


def path_beside(results_path: str | Path) -> Path:
    """Return the path of the crops of a results file."""
    results_path = Path(results_path)
    return results_path.with_name(results_path.name.removesuffix("results.json") + "samples.npz")


def read(path: str | Path) -> list[Sample]:
    """Read the crops that a Samples has written.

    Raises:
        UserError: if the file is damaged or contains something else.
    """
    try:
        # Numbers beyond float32 become infinite, which is refused below.
        with np.load(path) as f, np.errstate(over="ignore"):
            meta = {name: f[name].tolist() for name in META.fields}
            META.check(meta)
            "".join(meta["scenes"]).encode()
            wavelengths = np.array(meta["wavelengths"], dtype=np.float64) if meta["wavelengths"] else None
            samples = [
                Sample(
                    scene_name(scene),
                    tuple(meta["corners"][k]),
                    meta["shown"],
                    wavelengths,
                    *(f[f"{name}_{k}"].astype(np.float32) for name in ARRAYS),
                )
                for k, scene in enumerate(meta["scenes"])
            ]
        for sample in samples:
            _check_arrays(sample)
    # Damaged archives raise errors of nearly any type in numpy and zipfile.
    except Exception as error:
        refuse_small_memory(path, error)
        raise UserError(f"{path}: cannot be read as crops ({error}); run the test again") from error
    return samples


def _check_arrays(sample: Sample) -> None:
    """Raise ValueError unless the arrays are square, of one number of bands, and finite except for the output."""
    (bands, edge, _), lr_edge = sample.gt.shape, sample.ms.shape[1]
    shapes = sample.ms.shape, *{a.shape for a in (sample.lms, sample.gt, sample.output)}
    if shapes != ((bands, lr_edge, lr_edge), (bands, edge, edge)) or not 0 < lr_edge <= edge or edge % lr_edge:
        raise ValueError(f"{sample.scene} has arrays of shapes {', '.join(map(str, shapes))}")
    if not all(np.isfinite(a).all() for a in (sample.ms, sample.lms, sample.gt)):
        raise ValueError(f"{sample.scene} has values that are not finite")
    if max(sample.shown) >= bands or (sample.wavelengths is not None and len(sample.wavelengths) != bands):
        raise ValueError(f"the bands shown or the wavelengths are not those of {bands} bands")


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
