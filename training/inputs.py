"""Data of a run: the streams of patches that its objectives need, and the bands of the sensor."""

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import objectives
from config import FOLDERS, TrainConfig
from data import sources
from data.bands import SameBands
from data.sources import Source
from data.spectral import make_conversion, make_lift_matrix, read_conversion
from data.store import Contents
from data.stream import PatchStream
from facts import DATASETS, get_wavelengths
from formats.folders import format_names
from system.errors import UserError, name_flag
from training.processes import World
from utils import print_line


@dataclass
class Inputs:
    """The data of a run, opened and checked.

    Attributes:
        config: settings, without the objectives that need colours which the sensor lacks.
        streams: by name, see `objectives.Objective.stream`.
        n_colors: number of bands.
        wavelengths: their centres in nm, or None.
        conversion: bands x n_subs matrix of the consistency loss on the device; None without that loss.
        rgb_is_halved: True if RGB images were halved first, as in the paper; None without them.
        bands: those of the spectral images, to which scored scenes are added.
        contents: of the labelled and unlabelled images.
    """

    config: TrainConfig
    streams: dict[str, PatchStream]
    n_colors: int
    wavelengths: np.ndarray | None
    conversion: torch.Tensor | None
    rgb_is_halved: bool | None
    bands: SameBands
    contents: dict[str, Contents]

    @property
    def patch_counts(self) -> dict[str, int]:
        """Number of patches in each stream."""
        return {name: len(stream.source) for name, stream in self.streams.items()}

    @property
    def conversion_sha256(self) -> str | None:
        """SHA-256 of the conversion's values; None without one."""
        return None if self.conversion is None else hashlib.sha256(self.conversion.cpu().numpy().tobytes()).hexdigest()

    def check_scored(self, flag: str, scenes: Contents) -> None:
        """Compare the scenes of a flag, which are scored, with those that are trained on.

        Raises:
            UserError: naming a scored scene that is labelled too, or one of other bands.
        """
        scenes.add_to(self.bands)
        labelled, unlabelled = self.contents["labelled"], self.contents.get("unlabelled")
        if shared := labelled.find_shared(scenes):
            same = format_names([there if here == there else f"{there} (labelled as {here})" for here, there in shared])
            raise UserError(
                f"--{flag} {scenes.path}: {same} {'are' if len(shared) > 1 else 'is'} among the labelled scenes of "
                f"{labelled.path}, and a network is not scored on what it was trained on; prepare the splits again, or "
                "give other scenes"
            )
        if alike := sorted(set(labelled.bands) & set(scenes.bands)):
            print_line(
                f"--{flag} {scenes.path}: {format_names(alike)} in {labelled.path} too, of another content or prepared "
                "in another way; a network is not scored on what it was trained on, so check that the images differ"
            )
        if unlabelled and (shared := unlabelled.find_shared(scenes)):
            print_line(
                f"--{flag} {scenes.path}: {format_names([there for _, there in shared])} among the unlabelled images "
                f"of {unlabelled.path} too: the network is trained on their LR images, without HR"
            )

    def close(self) -> None:
        """Stop reading ahead."""
        for stream in self.streams.values():
            stream.close()


def open_inputs(config: TrainConfig, device: torch.device, world: World) -> Inputs:
    """Open and check all data of a run.

    Raises:
        UserError: for data or settings that do not fit each other.
    """
    opened = {"labelled": (labelled := _open("labelled", config))}
    _check_labelled(labelled, config)
    conversion, given = None, config
    if objectives.CONSISTENCY.is_on(config):
        config, matrix = _with_conversion(config, labelled.n_colors, labelled.wavelengths)
        conversion = None if matrix is None else torch.from_numpy(matrix).float().to(device)
    for stream in dict.fromkeys(objective.stream for objective, _ in objectives.list_active(config)):
        if stream != "labelled":
            opened[stream] = _open(stream, config)
    bands = SameBands(sources.ONE_SENSOR)
    contents = {name: source.contents for name, source in opened.items() if name != "rgb"}
    for images in contents.values():
        images.add_to(bands)
    _log_unused(given, opened)
    size, seed, place = config.batch_size, config.seed, {"rank": world.rank, "world_size": world.size}
    streams = {
        name: PatchStream(source, size, seed, name, device, keep_last=name == "labelled", **place)
        for name, source in opened.items()
    }
    rgb_is_halved = not sources.are_whole_pictures(config.train_dir_rgb) if "rgb" in opened else None
    return Inputs(config, streams, labelled.n_colors, labelled.wavelengths, conversion, rgb_is_halved, bands, contents)


def remark_on_pictures(path: str) -> None:
    """Log that pictures, unlike those of a store, are not halved as in the paper."""
    if sources.are_whole_pictures(path):
        print_line(
            f"{path}: pictures are taken as they are; the paper halves them, as `prepare --dataset_name DIV2K` does "
            "(some 0.2 dB in short runs on CAVE)"
        )


def _open(stream: str, config: TrainConfig) -> Source:
    """Open the source of a stream."""
    path = getattr(config, FOLDERS[stream])
    what = path, *config.patch, config.n_scale
    with name_flag(FOLDERS[stream], path):
        if stream == "rgb":
            return sources.open_rgb(*what, make_lift_matrix(config.n_subs))
        if stream == "unlabelled":
            return sources.open_unlabelled(*what, config.protocol)
        return sources.open_labelled(*what, config.data_train_num, config.protocol)


def _check_labelled(source: Source, config: TrainConfig) -> None:
    path = config.train_dir_mslabel
    if config.patch_size not in (0, source.size):
        raise UserError(
            f"--patch_size {config.patch_size}: the patches of {path} have {source.size} pixels and are not cut again; "
            "leave the flag out"
        )
    known = DATASETS.get(config.dataset_name)
    if known and source.n_colors != known.n_colors:
        raise UserError(
            f"{path}: {source.n_colors} bands, {config.dataset_name} has {known.n_colors}; set --dataset_name to a "
            "name of your own"
        )
    if config.has_setting("n_subs") and source.n_colors < config.n_subs:
        fitting = f"--n_subs {source.n_colors} --n_ovls {min(config.n_ovls, source.n_colors - 1)}"
        raise UserError(f"{path}: {source.n_colors} bands, fewer than --n_subs {config.n_subs}; give {fitting}")


def _with_conversion(
    config: TrainConfig, n_colors: int, wavelengths: np.ndarray | None
) -> tuple[TrainConfig, np.ndarray | None]:
    """Return (config, conversion to n_subs channels); without RGB and consistency if the sensor sees no colours."""
    known = DATASETS.get(config.dataset_name)
    if wavelengths is None:
        wavelengths = get_wavelengths(config.dataset_name, n_colors)
    if config.conversionMat_path or wavelengths is None or (known and known.has_released_conversion):
        with name_flag("conversionMat_path", config.conversionMat_path):
            return config, read_conversion(config.conversionMat_path, n_colors, config.n_subs)
    try:
        return config, make_conversion(wavelengths, config.n_subs)
    except ValueError as error:
        print_line(
            f"{config.train_dir_mslabel}: {error}; RGB images and the consistency loss need the visible bands, or a "
            "matrix of your own by --conversionMat_path: training continues without the two"
        )
        switches = [o.switch for o in objectives.OBJECTIVES.values() if o.switch and "rgb" in o.modalities]
        off: dict[str, Any] = dict.fromkeys(switches, False)
        return dataclasses.replace(config, **off), None


def _log_unused(config: TrainConfig, opened: dict[str, Source]) -> None:
    """Log the folders that are given for objectives whose switch is off."""
    for objective in objectives.OBJECTIVES.values():
        flag, is_asked = FOLDERS[objective.stream], not objective.switch or getattr(config, objective.switch)
        if objective.stream not in opened and getattr(config, flag) and not is_asked:
            print_line(
                f"--{flag} is given, but the {objective.name} objective is off; --{objective.switch} 1 turns it on"
            )
