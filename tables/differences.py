"""In what runs and tests differ: from each other, and from the published experiment."""

import dataclasses
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from config import TestConfig, TrainConfig, affecting
from evaluation import published
from facts import AUGMENTATIONS, get_published_patch, load_published_split
from models import registry
from objectives import OBJECTIVES

# The content of a run's config.json.
Run = Mapping[str, Any]


def traits_of(run: Run) -> dict[str, Any]:
    """The settings of a run's config.json that its result depends on, {name: value}.

    The numbers of mini-batches of objectives that are off, and what the network does not have, are left out; what an
    older run did not record is the default.
    """
    shown = affecting(TrainConfig, "result", "remedy")
    for objective in OBJECTIVES.values():
        shown -= {objective.switch} if objective.is_on(run) else {objective.switch, objective.theta}
    shown -= set(registry.list_settings()) - set(_network_of(run).settings)
    fields = dataclasses.fields(TrainConfig)
    return {f.name: run.get(f.name, f.default) for f in fields if f.name in shown}


def traits_of_test(config: Mapping[str, Any]) -> dict[str, Any]:
    """What `test` was asked to do otherwise than usual, {flag: value}; {} of a run's own test."""
    if "model_dir" not in config:
        return {}
    usual = {name: value for name, value in TestConfig().as_dict().items() if name in affecting(TestConfig, "result")}
    # `test` records the choice that it made in place of auto; older results have no bands.
    usual |= {"bands": "exact", "normalise": "bands" if config.get("bands") == "windows" else "none"}
    return {name: config[name] for name in usual if config.get(name, usual[name]) != usual[name]}


def of_run(run: Run, dataset: str, n_scale: int) -> list[str]:
    """In what a run differs from the published experiment, as phrases; empty if in nothing.

    Args:
        run: the content of its config.json.
        dataset: of the test.
        n_scale: of the test.
    """
    size, stride = get_published_patch(dataset, n_scale)
    patch = {"patch_size": size, "patch_stride": stride}
    reasons = []
    if run.get("dataset_name", dataset) != dataset:
        reasons.append(f"trained on {run['dataset_name']}")
    defaults = {f.name: f.default for f in dataclasses.fields(TrainConfig)}
    expected = {**defaults, **patch, **_network_of(run).published}
    for name, value in traits_of(run).items():
        if value is not None and value != expected[name]:
            instead = f" instead of {_shown(expected[name])}" if expected[name] != "" else ""
            reasons.append(f"{name} {_shown(Path(value).name if name == 'weights' else value)}{instead}")
    if run.get("rgb_is_halved") is False:
        reasons.append("RGB pictures not halved")
    if run.get("adapted"):
        return [*reasons, "adapted to one scene"]
    # Another size or stride, which is a difference already, makes counts of patches mean nothing.
    is_cut_alike = all(run.get(name, value) == value for name, value in patch.items())
    return reasons + _missing_iterations(run) + (_missing_patches(run, dataset, n_scale) if is_cut_alike else [])


def of_scenes(dataset: str, names: Collection[str]) -> list[str]:
    """In what the scenes of a test differ from the published ones, as phrases; empty if in nothing."""
    split = load_published_split(dataset)
    if not split:
        return []
    expected = set(split["test"])
    reasons = []
    if expected - set(names):
        reasons.append(f"{len(expected & set(names))} of {len(expected)} test scenes")
    if set(names) - expected:
        reasons.append(f"{len(set(names) - expected)} scenes that are no published test scenes")
    return reasons


def iterations_an_epoch(run: Run) -> int:
    """How many labelled mini-batches an epoch of a run has; 0 where it does not tell its patches."""
    return math.ceil(run.get("patches", {}).get("labelled", 0) * AUGMENTATIONS / run.get("batch_size", 8))


def _missing_iterations(run: Run) -> list[str]:
    iterations = run.get("epochs", 10) * iterations_an_epoch(run)
    done = run.get("iterations", 0)
    return [f"{done:,} of {iterations:,} iterations"] if done < iterations else []


def _missing_patches(run: Run, dataset: str, n_scale: int) -> list[str]:
    counts = run.get("patches", {}).items()
    full = {stream: published.patches(dataset, n_scale, stream) for stream, _ in counts}
    return [f"{n:,} {stream} patches, fewer than {full[stream]:,}" for stream, n in counts if n < full[stream]]


def _network_of(run: Run) -> registry.Entry:
    """The registered network; DeepShare, whose settings are the flags' defaults, for one that is not known."""
    title = run.get("model_title")
    return registry.get_entry(title if title in registry.list_names() else "DeepShare")


def _shown(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value
