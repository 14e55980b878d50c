"""Scenes with ground truth, to be scored: of a store, or of a folder of .mat files."""

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
from formats.folders import find_mats, unique_by_name
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

    A folder's files hold gt, and may hold ms and ms_bicubic, which are made from gt otherwise.

    Args:
        path: the user's store or folder.
        flag_name: the flag that it came by.
        n_scale: enlargement.
        protocol: "corrected", "published" or "": the store's own, "corrected" for a folder.
        limit: only the first so many scenes; 0 for all.

    Attributes:
        entries: what `load` takes: names of a store's scenes, or paths.
        dataset: the data set that a store says it is of; "" for a folder.

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
                unique_by_name(self.path, [(p.stem, p) for p in self.entries], lambda p: p.name)
            if not self.entries:
                raise DataError(
                    path, "neither a scene store nor a folder of .mat files", "make a store with the command prepare"
                )
        if limit and limit < len(self.entries):
            print_line(f"{path}: the first {limit} of {len(self.entries)} scenes are used, as asked")
            self.entries = self.entries[:limit]

    @property
    def contents(self) -> Contents:
        """Bands (of a store) and sources of the scenes that are used."""
        if self._store is None:
            return describe_folder(self.path, self.entries)
        store = self._store
        return Contents(
            self.path, {n: store.bands[n] for n in self.entries}, {n: store.hashes[n] for n in self.entries}
        )

    @property
    def bands(self) -> BandList:
        """Bands of the scenes: of the first one that knows its wavelengths, else of the first."""
        if self._store is None:
            return BandList(self.load(self.entries[0]).gt.shape[1], None)
        bands = list(self.contents.bands.values())
        return next((its for its in bands if its.centres is not None), bands[0])

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[TestScene]:
        return map(self.load, self.entries)

    @property
    def names(self) -> list[str]:
        """Names of the scenes that are used."""
        return [scene_name(entry.stem) if isinstance(entry, Path) else entry for entry in self.entries]

    @property
    def ergas_ratio(self) -> int:
        """The published tables were all made with 4, at x8 too."""
        return 4 if self.protocol == "published" else self.n_scale

    def check(self, n_colors: int | None = None) -> None:
        """Load every scene once, so that nothing can be wrong with them after hours of training.

        Args:
            n_colors: bands that they must have; None for any.
        """
        for scene in progress_bar(self, desc=f"check {self.path.name}", unit="scene", leave=False):
            if n_colors not in (None, scene.gt.shape[1]):
                raise DataError(
                    self.path,
                    f"{scene.name} has {scene.gt.shape[1]} bands, the network {n_colors}",
                    "give scenes of the same bands",
                )

    def load(self, entry: Any) -> TestScene:
        """Load a scene and make, where they are not there, its LR image and bicubic enlargement.

        Raises:
            DataError: for a scene that is no HR image, not divisible by the scale, or damaged.
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
        self._check_size(name, gt)
        ms, lms = self._inputs(entry, gt, given)
        return TestScene(name, ms, lms, gt, band_names, wavelengths)

    def _check_size(self, name: str, gt: torch.Tensor) -> None:
        height, width = gt.shape[2:]
        pixels = f"{name} has {width} x {height} pixels"
        if min(height, width) < SMALLEST:
            raise DataError(self.path, f"{pixels}, too few to be scored ({SMALLEST} x {SMALLEST})", "take it out")
        if height % self.n_scale or width % self.n_scale:
            raise DataError(
                self.path, f"{pixels}, not divisible by --n_scale {self.n_scale}", "prepare it with --crop 1"
            )

    def _inputs(self, entry: Any, gt: torch.Tensor, given: dict[str, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """(ms, lms) as the file has them, else made from gt."""
        if "ms" not in given:
            return degrade(gt, self.n_scale)
        ms = to_bands_first(given["ms"])
        if ms.shape != (1, gt.shape[1], gt.shape[2] // self.n_scale, gt.shape[3] // self.n_scale):
            raise DataError(
                entry,
                f"ms is {given['ms'].shape} and gt {given['gt'].shape}, not x{self.n_scale}",
                "give the files' --n_scale",
            )
        if "ms_bicubic" not in given:
            return ms, upsample(ms, self.n_scale)
        lms = to_bands_first(given["ms_bicubic"])
        if lms.shape != gt.shape:
            raise DataError(
                entry,
                f"ms_bicubic is {given['ms_bicubic'].shape} and gt {given['gt'].shape}",
                "make it as large as gt, or leave it out",
            )
        return ms, lms
