"""The command `test`: weights, or bicubic enlargement, scored on test scenes."""

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from config import TestConfig
from data.bands import BandList
from data.folders import few_of, unique_by_name
from data.imresize import back_project
from evaluation import results, scoring
from evaluation.samples import Samples
from evaluation.scenes import SceneSet
from models import build_model, weights
from models.brightness import Normalised
from models.ensemble import SelfEnsemble
from models.network import Network
from models.precision import DEVIATIONS, InPrecision
from training.checkpoint import RUN_FILES
from training.processes import World
from utils import UserError, as_utf8, file_name, only_here, say, select_device, warn_of_slow_bf16, writing

# Weights that are called alike in every run's folder; results are called after the folder.
RUN_WEIGHTS = (*RUN_FILES, results.BEST_WEIGHTS)
# Flags that are only checked against the weights.
CHECKED = ("n_scale", "n_colors", "n_feats", "n_blocks", "n_subs")


@dataclass
class Method:
    """What is scored: its network, the network's name, what results are called after, its scale and bands (0: any)."""

    model: Network
    name: str
    title: str
    n_scale: int
    n_colors: int
    wavelengths: np.ndarray | None = None


class BackProjected(nn.Module):
    """A network to whose output is added, a number of times, what it lacks of the input; called as the network is.

    Args:
        network: called as network(ms, lms).
        n_scale: its enlargement.
        times: see `data.imresize.back_project`.
    """

    def __init__(self, network: nn.Module, n_scale: int, times: int) -> None:
        super().__init__()
        self.network, self.n_scale, self.times = network, n_scale, times

    def forward(self, ms: torch.Tensor, lms: torch.Tensor) -> torch.Tensor:
        """B x C x h x w and B x C x s*h x s*w -> B x C x s*h x s*w."""
        return back_project(self.network(ms, lms), ms, self.n_scale, self.times)


def test(config: TestConfig) -> list[Path]:
    """Score the weights (or Bicubic) on the test scenes, print the table, write it.

    Returns:
        Paths of the files written.

    Raises:
        UserError: for weights or scenes that cannot be used, or flags that contradict the weights.
    """
    device = select_device(config.cuda, config.gpus)
    world = World(device)
    method = _method_of(config)
    scenes = SceneSet(config.test_dir, "test_dir", method.n_scale, config.protocol, config.data_test_num)
    result_path = Path(config.result_path).expanduser()
    with writing(result_path):
        result_path.mkdir(parents=True, exist_ok=True)
    if config.save_images:
        unique_by_name(scenes.path, [(file_name(name), name) for name in scenes.names], str)
    scenes.check(method.n_colors or None)
    if method.n_colors:
        _remark_on_bands(scenes, BandList(method.n_colors, method.wavelengths))
    model, title = _as_asked(method, config, device)
    images_dir = result_path / f"{file_name(title)}_images" if config.save_images else None
    started = time.monotonic()
    keep = Samples(scenes.n_scale)
    path = result_path / f"{file_name(title)}_results.json"
    with only_here(path) if world.is_main else contextlib.nullcontext():
        rows, files = scoring.evaluate(model, scenes, device, images_dir, world=world, keep=keep)
        if not world.is_main:
            return []
        about = {**config.as_dict(), "seconds": round(time.monotonic() - started, 1)}
        results.write(path, method.name, scenes, rows, about, keep)
        written = [path, *keep.write(path), *files]
    # What is on the disk is not lost where nobody reads the table.
    print(f'{title}: x{scenes.n_scale}, protocol "{scenes.protocol}"\n{results.table(rows)}')
    return written


def _remark_on_bands(scenes: SceneSet, network: BandList) -> None:
    """Name scenes of other wavelengths than those that the weights were trained on, or note that these are unknown."""
    bands = scenes.contents.bands
    if others := [name for name, its in bands.items() if not its.is_same(network)]:
        first = bands[others[0]]
        say(
            f"{scenes.path}: {few_of(others)} {'have' if len(others) > 1 else 'has'} {first}, but the weights were "
            f"trained on {network}{first.differs_from(network)}: the scores are of bands that they were not trained for"
        )
    elif network.centres is None or not bands or any(its.centres is None for its in bands.values()):
        whose = "weights'" if network.centres is None else "scenes'"
        say(f"{scenes.path}: the {whose} wavelengths are not known; assuming the {network.count} bands of the weights")


def _as_asked(method: Method, config: TestConfig, device: torch.device) -> tuple[nn.Module, str]:
    """The method's network as the flags want it used, and what its results are called after."""
    model: nn.Module = method.model.placed_on(device)
    title = method.title
    if config.precision != "fp32":
        warn_of_slow_bf16(config.precision, device)
        model, title = InPrecision(model, config.precision), f"{title}_{config.precision}"
        say(DEVIATIONS[config.precision])
    if config.self_ensemble:
        model, title = SelfEnsemble(model), f"{title}_ensemble"
    if config.normalise == "scene":
        model, title = Normalised(model), f"{title}_normalised"
    if config.back_projection:
        times = config.back_projection
        model, title = BackProjected(model, method.n_scale, times), f"{title}_projected{times}"
    return model, title


def score_run(
    model: Network,
    scenes: SceneSet,
    device: torch.device,
    world: World,
    folder: Path,
    name: str,
    about: Mapping[str, Any],
) -> list[Path]:
    """Score a run's network on its test scenes; the first process prints the table and writes results.json.

    Args:
        model: the network.
        scenes: the test scenes.
        device: of the network.
        world: the processes, which share the scenes.
        folder: of the run.
        name: of the network.
        about: what results.json says of the run.

    Returns:
        Paths of the files written by this process.
    """
    keep = Samples(scenes.n_scale)
    rows, _ = scoring.evaluate(model, scenes, device, world=world, keep=keep)
    if not world.is_main:
        return []
    path = results.write(folder / "results.json", name, scenes, rows, about, keep)
    written = [path, *keep.write(path)]
    print(f'x{scenes.n_scale}, protocol "{scenes.protocol}":\n{results.table(rows)}')
    return written


def _method_of(config: TestConfig) -> Method:
    if not config.model_dir:
        n_scale = config.n_scale or 4
        return Method(
            build_model(config.model_title, 0, n_scale), config.model_title, f"Bicubic_x{n_scale}", n_scale, 0
        )
    loaded = weights.load(config.model_dir, config.n_ovls if config.n_ovls >= 0 else None, config.n_scale or None)
    architecture = loaded.architecture
    _refuse_contradictions(config, architecture)
    path = loaded.path.absolute()
    title = as_utf8(path.stem)
    if path.name in RUN_WEIGHTS:
        title = as_utf8(path.parent.name if path.name == RUN_FILES[0] else f"{path.parent.name}_{path.stem}")
    n_scale, n_colors = architecture["n_scale"], architecture["n_colors"]
    return Method(loaded.model, architecture["name"], title, n_scale, n_colors, loaded.wavelengths)


def _refuse_contradictions(config: TestConfig, architecture: dict[str, Any]) -> None:
    remedy = "leave the flag out, or give other weights"
    if config.model_title not in ("", architecture["name"]):
        raise UserError(f"--model_title {config.model_title}: {config.model_dir} is a {architecture['name']}; {remedy}")
    for name in CHECKED:
        asked = getattr(config, name)
        # What a network has not, or has in any number (0), contradicts nothing.
        if asked and architecture.get(name) and asked != architecture[name]:
            raise UserError(f"--{name} {asked}: {config.model_dir} has {architecture[name]}; {remedy}")
