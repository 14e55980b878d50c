"""The command `test`: weights, or bicubic upsampling, scored on test scenes."""

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
from evaluation import results, scoring
from evaluation.baseline import print_gain, score_bicubic
from evaluation.samples import Samples
from evaluation.scene_sets import SceneSet
from formats.folders import index_by_name
from models import build_model, weights
from models.any_bands import plan_bands
from models.network import Network
from models.precision import DEVIATIONS
from models.predictor import Predictor, wrap_for_inference
from system.devices import select_device, warn_slow_bf16
from system.errors import UserError, format_flags
from system.files import exclusive_lock, explain_write_errors
from training.file_names import BEST, LAST, PREVIOUS
from training.processes import World
from utils import as_utf8, file_name, print_line

# Flags that are only checked against the weights.
CHECKED = ("n_scale", "n_colors", "n_feats", "n_blocks", "n_subs")


@dataclass
class Method:
    """A network to be scored: its name, the title of its results, its scale and number of bands (0: any)."""

    model: Network
    name: str
    title: str
    n_scale: int
    n_colors: int
    wavelengths: np.ndarray | None = None
    sensor: BandList | None = None


def test(config: TestConfig) -> list[Path]:
    """Score the weights (or bicubic) on the test scenes; print the table and write the results.

    Returns:
        Paths of the files written.

    Raises:
        UserError: for weights or scenes that cannot be used, or flags that contradict the weights.
    """
    device = select_device(config.cuda, config.gpus)
    world = World(device)
    method = _load_method(config)
    scenes = SceneSet(config.test_dir, "test_dir", method.n_scale, config.protocol, config.data_test_num)
    result_path = Path(config.result_path).expanduser()
    with explain_write_errors(result_path):
        result_path.mkdir(parents=True, exist_ok=True)
    if config.save_images:
        index_by_name(scenes.path, [(file_name(name), name) for name in scenes.names], str)
    model, title, chosen = _apply_options(method, scenes, config, device)
    images_dir = result_path / f"{file_name(title)}_images" if config.save_images else None
    started = time.monotonic()
    keep = Samples(scenes.n_scale)
    path = result_path / f"{file_name(title)}_results.json"
    with exclusive_lock(path) if world.is_main else contextlib.nullcontext():
        rows, files = scoring.evaluate(model, scenes, device, images_dir, world=world, keep=keep)
        seconds = round(time.monotonic() - started, 1)
        bicubic = None if not config.model_dir else score_bicubic(scenes, result_path, world)
        if not world.is_main:
            return []
        about = {**config.as_dict(), **chosen, "seconds": seconds}
        results.write(path, method.name, scenes, rows, about, keep, bicubic)
        written = [path, *keep.write(path), *([images_dir] if images_dir and files else [])]
    # After the files: the terminal may be closed.
    print_line(f'{title}: x{scenes.n_scale}, protocol "{scenes.protocol}"\n{results.table(rows)}')
    if bicubic:
        print_gain(rows, bicubic["scenes"])
    return written


def _apply_options(
    method: Method, scenes: SceneSet, config: TestConfig, device: torch.device
) -> tuple[nn.Module, str, dict[str, Any]]:
    """Check the scenes; return the network with the flags' options, the title of its results, and the options."""
    bands, network_bands = scenes.bands, BandList(method.n_colors, method.wavelengths)
    plan = plan_bands(scenes.path, bands, network_bands, config.bands, config.taper, method.sensor)
    scenes.check(bands.count)
    if plan.remark:
        print_line(format_flags(plan.remark))
    title, normalise = method.title, config.normalise
    if normalise == "auto":
        normalise = "bands" if plan.mode == "windows" else "none"
    if config.precision != "fp32":
        warn_slow_bf16(config.precision, device)
        print_line(DEVIATIONS[config.precision])
    network = wrap_for_inference(method.model.move_to(device), config.precision, config.self_ensemble)
    model = Predictor(network, method.n_scale, plan, normalise, config.back_projection)
    for is_on, suffix in (
        (config.precision != "fp32", config.precision),
        (config.self_ensemble, "ensemble"),
        (plan.mode != "exact", plan.mode),
        (normalise == "scene", "normalised"),
        (normalise == "bands" and plan.mode != "windows", "normalised_bands"),
        (normalise != "bands" and plan.mode == "windows", f"by_{normalise}"),
        (config.back_projection > 0, f"projected{config.back_projection}"),
    ):
        title += f"_{suffix}" if is_on else ""
    return model, title, {"bands": plan.mode, "normalise": normalise}


def score_run(
    model: Network, scenes: SceneSet, device: torch.device, world: World, path: Path, about: Mapping[str, Any]
) -> list[Path]:
    """Score a run's network on its test scenes; the main process prints the table and writes the results.

    Args:
        model: the network.
        scenes: the test scenes.
        device: of the network.
        world: the processes, which share the scenes.
        path: of the results.
        about: the config in them, of the run.

    Returns:
        Paths of the files written by this process.
    """
    keep = Samples(scenes.n_scale)
    rows, _ = scoring.evaluate(model, scenes, device, world=world, keep=keep)
    bicubic = score_bicubic(scenes, path.parent, world)
    if not world.is_main:
        return []
    written = [results.write(path, about["model_title"], scenes, rows, about, keep, bicubic), *keep.write(path)]
    print_line(f'x{scenes.n_scale}, protocol "{scenes.protocol}":\n{results.table(rows)}')
    print_gain(rows, bicubic["scenes"])
    return written


def _load_method(config: TestConfig) -> Method:
    if not config.model_dir:
        name, n_scale = config.model_title, config.n_scale or 4
        return Method(build_model(name, 0, n_scale), name, f"Bicubic_x{n_scale}", n_scale, 0)
    loaded = weights.load(config.model_dir, config.n_ovls if config.n_ovls >= 0 else None, config.n_scale or None)
    architecture = loaded.architecture
    _refuse_contradictions(config, architecture)
    path = loaded.path.absolute()
    title = as_utf8(path.stem)
    # These names are the same in all runs: the results are named after the directory.
    if path.name in (LAST, PREVIOUS, BEST):
        title = as_utf8(path.parent.name if path.name == LAST else f"{path.parent.name}_{path.stem}")
    n_scale, n_colors = architecture["n_scale"], architecture["n_colors"]
    return Method(loaded.model, architecture["name"], title, n_scale, n_colors, loaded.wavelengths, loaded.sensor)


def _refuse_contradictions(config: TestConfig, architecture: dict[str, Any]) -> None:
    remedy = "leave the flag out, or give other weights"
    if config.model_title not in ("", architecture["name"]):
        raise UserError(f"--model_title {config.model_title}: {config.model_dir} is a {architecture['name']}; {remedy}")
    for name in CHECKED:
        asked = getattr(config, name)
        # A network can lack a setting, or accept any number (0).
        if asked and architecture.get(name) and asked != architecture[name]:
            raise UserError(f"--{name} {asked}: {config.model_dir} has {architecture[name]}; {remedy}")
