"""Test scenes, with ground truth: of a store, or of a folder of .mat files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.bands import BandList
from data.imresize import degrade, upsample
from data.sources import to_bands_first
from data.store import Contents, Store, describe_folder, is_store
from formats.folders import find_mats, index_by_name
from formats.mat import read_mat
from system.errors import DataError, name_flag
from utils import print_line, progress_bar, scene_name

# SSIM needs a window of 7 x 7 pixels.
SMALLEST = 7


@dataclass
class TestScene:
    """One scene ready for a network: ms 1 x C x h x w, lms and gt 1 x C x s*h x s*w, float32 in 0..1."""

    __test__ = False

    name: str
    ms: torch.Tensor
    lms: torch.Tensor
    gt: torch.Tensor
    band_names: list[str]
    wavelengths: np.ndarray | None = None


class SceneSet:
    """The scenes of a store or of a folder of .mat files, loaded one by one.

    The files of a folder contain gt, and can contain ms and ms_bicubic, which are otherwise made from gt.

    Args:
        path: the store or folder.
        flag_name: its flag, for messages.
        n_scale: upsampling factor.
        protocol: "corrected", "published" or "": that of the store, "corrected" for a folder.
        limit: number of scenes; 0 for all.

    Attributes:
        entries: arguments of `load`: names of a store's scenes, or paths.
        dataset: data set of a store; "" for a folder.

    Raises:
        UserError: if there are no scenes.
    """

    def __init__(self, path: str | Path, flag_name: str, n_scale: int, protocol: str = "", limit: int = 0) -> None:
        self.path, self.n_scale = Path(path), n_scale
        self.entries: list[Any]
        self._store: Store | None = None
        with name_flag(flag_name, path):
            if is_store(path):
                self._store = Store(path)
                self.entries, self.dataset = self._store.names, self._store.dataset
                self.protocol = protocol or self._store.protocol
            else:
                self.entries, self.dataset, self.protocol = find_mats(path), "", protocol or "corrected"
                index_by_name(self.path, [(p.stem, p) for p in self.entries], lambda p: p.name)
            if not self.entries:
                raise DataError(
                    path, "neither a scene store nor a folder of .mat files", "make a store with the command prepare"
                )
        if limit and limit < len(self.entries):
            print_line(f"{path}: the first {limit} of {len(self.entries)} scenes are used, as asked")
            self.entries = self.entries[:limit]

    @property
    def contents(self) -> Contents:
        """Bands (of a store) and sources of the scenes."""
        if self._store is None:
            return describe_folder(self.path, self.entries)
        bands, hashes = self._store.bands, self._store.hashes
        return Contents(self.path, {n: bands[n] for n in self.entries}, {n: hashes[n] for n in self.entries})

    @property
    def bands(self) -> BandList:
        """Bands of the first scene with known wavelengths, else of the first scene."""
        if self._store is None:
            return BandList(self.load(self.entries[0]).gt.shape[1], None)
        bands = list(self.contents.bands.values())
        return next((b for b in bands if b.centres is not None), bands[0])

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[TestScene]:
        return map(self.load, self.entries)

    @property
    def names(self) -> list[str]:
        """Names of the scenes."""
        return [scene_name(entry.stem) if isinstance(entry, Path) else entry for entry in self.entries]

    @property
    def ergas_ratio(self) -> int:
        """Ratio in ERGAS: the scale, but 4 in all published tables."""
        return 4 if self.protocol == "published" else self.n_scale

    def check(self, n_colors: int | None = None) -> None:
        """Load every scene once, so that damaged ones are refused before hours of training.

        Args:
            n_colors: number of bands that they must have; None for any.

        Raises:
            DataError: as `load`, or for a scene of other bands.
        """
        for scene in progress_bar(self, desc=f"check {self.path.name}", unit="scene", leave=False):
            if n_colors not in (None, scene.gt.shape[1]):
                found = f"{scene.name} has {scene.gt.shape[1]} bands, the network {n_colors}"
                raise DataError(self.path, found, "give scenes of the same bands")

    def load(self, entry: Any) -> TestScene:
        """Load a scene, and make its LR image and the bicubic upsampling if they are missing.

        Raises:
            DataError: for a scene that is not an HR image, not divisible by the scale, or damaged.
        """
        if self._store is not None:
            scene = self._store.read(entry)
            if scene.lr_scale != 1:
                raise DataError(self.path, f"{scene.name} is an LR image without HR", "it cannot be scored")
            gt, name, given = to_bands_first(scene.values(self.protocol)), scene.name, {}
            band_names, wavelengths = scene.band_names, scene.wavelengths
        else:
            given, wavelengths = read_mat(entry, ("gt",), ("ms", "ms_bicubic")), None
            name = scene_name(entry.stem)
            gt = to_bands_first(given["gt"])
            band_names = [f"band {k + 1}" for k in range(gt.shape[1])]
        height, width = gt.shape[2:]
        pixels = f"{name} has {width} x {height} pixels"
        if min(height, width) < SMALLEST:
            raise DataError(self.path, f"{pixels}, too few to be scored ({SMALLEST} x {SMALLEST})", "take it out")
        if height % self.n_scale or width % self.n_scale:
            problem = f"{pixels}, not divisible by --n_scale {self.n_scale}"
            raise DataError(self.path, problem, "prepare it with --crop 1")
        return TestScene(name, *self._inputs(entry, gt, given), gt, band_names, wavelengths)

    def _inputs(self, entry: Any, gt: torch.Tensor, given: dict[str, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (ms, lms) of the file, else made from gt."""
        if "ms" not in given:
            return degrade(gt, self.n_scale)
        ms = to_bands_first(given["ms"])
        if ms.shape != (1, gt.shape[1], gt.shape[2] // self.n_scale, gt.shape[3] // self.n_scale):
            problem = f"ms is {given['ms'].shape} and gt {given['gt'].shape}, not x{self.n_scale}"
            raise DataError(entry, problem, "give the files' --n_scale")
        if "ms_bicubic" not in given:
            return ms, upsample(ms, self.n_scale)
        lms = to_bands_first(given["ms_bicubic"])
        if lms.shape != gt.shape:
            problem = f"ms_bicubic is {given['ms_bicubic'].shape} and gt {given['gt'].shape}"
            raise DataError(entry, problem, "make it as large as gt, or leave it out")
        return ms, lms
