"""What a run learns from: the streams of patches that its objectives need, and what they tell of the sensor."""

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
from formats.folders import few_of
from system.errors import UserError, name_flag
from training.processes import World
from utils import print_line


@dataclass
class Inputs:
    """The data of a run, opened and checked.

    Attributes:
        config: the run's config, without objectives that the sensor has no colours for.
        streams: by name, see `objectives.Objective.stream`.
        n_colors: bands.
        wavelengths: their centres in nm, or None.
        conversion: bands x n_subs matrix of the consistency loss on the device; None where nobody needs it.
        rgb_is_halved: whether RGB images were halved first, as in the paper; None without them.
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
        """How many patches each stream has."""
        return {name: len(stream.source) for name, stream in self.streams.items()}

    @property
    def conversion_sha256(self) -> str | None:
        """Hash of the conversion's values, which may stand in a file; None without one."""
        matrix = self.conversion
        return None if matrix is None else hashlib.sha256(matrix.cpu().numpy().tobytes()).hexdigest()

    def check_scored(self, flag: str, scenes: Contents) -> None:
        """Compare scenes that are scored with those that are trained on.

        Args:
            flag: that the scenes came by.
            scenes: the scenes.

        Raises:
            UserError: naming a scored scene that is labelled too, or one of other bands.
        """
        scenes.add_to(self.bands)
        labelled, unlabelled = self.contents["labelled"], self.contents.get("unlabelled")
        if shared := labelled.find_shared(scenes):
            same = few_of([there if here == there else f"{there} (labelled as {here})" for here, there in shared])
            raise UserError(
                f"--{flag} {scenes.path}: {same} {'are' if len(shared) > 1 else 'is'} among the labelled scenes of "
                f"{labelled.path}, and a network is not scored on what it was trained on; prepare the splits again, or "
                "give other scenes"
            )
        if alike := sorted(set(labelled.bands) & set(scenes.bands)):
            print_line(
                f"--{flag} {scenes.path}: {few_of(alike)} in {labelled.path} too, of another content or prepared in "
                "another way; a network is not scored on what it was trained on, so check that the images differ"
            )
        if unlabelled and (shared := unlabelled.find_shared(scenes)):
            print_line(
                f"--{flag} {scenes.path}: {few_of([there for _, there in shared])} among the unlabelled images of "
                f"{unlabelled.path} too: the network is trained on their LR images, without HR"
            )

    def close(self) -> None:
        """End what reads ahead."""
        for stream in self.streams.values():
            stream.close()


def open_inputs(config: TrainConfig, device: torch.device, world: World) -> Inputs:
    """Open and check all data of a run.

    Raises:
        UserError: if something the user gave cannot work.
    """
    size, stride = config.patch
    with name_flag("train_dir_mslabel", config.train_dir_mslabel):
        labelled = sources.open_labelled(
            config.train_dir_mslabel, size, stride, config.n_scale, config.data_train_num, config.protocol
        )
    _check_labelled(labelled, config)
    conversion, given = None, config
    if objectives.CONSISTENCY.is_on(config):
        config, matrix = _with_conversion(config, labelled.n_colors, labelled.wavelengths)
        conversion = None if matrix is None else torch.from_numpy(matrix).float().to(device)
    opened: dict[str, Source] = {"labelled": labelled}
    for objective, _ in objectives.list_active(config):
        if objective.stream not in opened:
            opened[objective.stream] = _open(objective.stream, config)
    bands = SameBands(sources.ONE_SENSOR)
    contents = {name: source.contents for name, source in opened.items() if name != "rgb"}
    for images in contents.values():
        images.add_to(bands)
    _say_unused(given, opened)
    streams = {
        name: PatchStream(
            source,
            config.batch_size,
            config.seed,
            name,
            device,
            keep_last=name == "labelled",
            rank=world.rank,
            world_size=world.size,
        )
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
    """The source of the RGB or unlabelled stream."""
    size, stride = config.patch
    flag = FOLDERS[stream]
    path = getattr(config, flag)
    with name_flag(flag, path):
        if stream == "rgb":
            return sources.open_rgb(path, size, stride, config.n_scale, make_lift_matrix(config.n_subs))
        return sources.open_unlabelled(path, size, stride, config.n_scale, config.protocol)


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
    """The conversion to n_subs channels; config without RGB and consistency where the sensor sees no colours."""
    known = DATASETS.get(config.dataset_name)
    if wavelengths is None:
        wavelengths = get_wavelengths(config.dataset_name, n_colors)
    is_released = known is not None and known.has_released_conversion
    if config.conversionMat_path or wavelengths is None or is_released:
        with name_flag("conversionMat_path", config.conversionMat_path):
            return config, read_conversion(config.conversionMat_path, n_colors, config.n_subs)
    try:
        return config, make_conversion(wavelengths, config.n_subs)
    except ValueError as error:
        print_line(
            f"{config.train_dir_mslabel}: {error}; RGB images and the consistency loss need the visible bands, or a "
            "matrix of your own by --conversionMat_path: training goes on without the two"
        )
        off: dict[str, Any] = {
            o.switch: False for o in objectives.OBJECTIVES.values() if o.switch and "rgb" in o.modalities
        }
        return dataclasses.replace(config, **off), None


def _say_unused(config: TrainConfig, opened: dict[str, Source]) -> None:
    """Name the folders that are given for objectives whose switch nobody has turned on."""
    for objective in objectives.OBJECTIVES.values():
        flag, is_asked = FOLDERS[objective.stream], not objective.switch or getattr(config, objective.switch)
        if objective.stream not in opened and getattr(config, flag) and not is_asked:
            print_line(
                f"--{flag} is given, but the {objective.name} objective is off; --{objective.switch} 1 turns it on"
            )
