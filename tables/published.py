"""What was published (published.json), and in what a run of ours differs from the published experiment."""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path

import objectives
from config import TrainConfig, affecting
from data.facts import AUGMENTATIONS, DATASETS, published_patch, published_split
from models import registry


@dataclass(frozen=True)
class PublishedTable:
    """One published table, its numbers as printed: "" for none, a question mark behind a doubtful one.

    Attributes:
        rows: {method: [value of each of columns]}.
        comparable: the only methods whose experiment our full runs repeat; () for all.
    """

    dataset: str
    scale: int
    protocol: str
    source: str
    columns: list
    rows: dict
    comparable: tuple = ()


_FACTS = json.loads((Path(__file__).parent / "published.json").read_text(encoding="utf-8"))
TABLES = [PublishedTable(**table) for table in _FACTS["tables"]]
# RMSE against theta_rgb: {"source": ..., "metric": ..., "values": {theta: number as printed}}.
THETA_RGB = _FACTS["theta_rgb"]


def tables_of(dataset, scale, protocol):
    """The PublishedTables of a data set, scale and protocol."""
    return [t for t in TABLES if (t.dataset, t.scale, t.protocol) == (dataset, scale, protocol)]


def number(printed):
    """A number as printed as a float; None for none and for a doubtful one."""
    try:
        return float(printed)
    except ValueError:
        return None


def settings_of(run):
    """The settings of a run's config.json that its result depends on, {name: value}.

    The numbers of mini-batches of objectives that are off, and what the network does not have, are left out; what an
    older run did not record is the default.
    """
    shown = affecting(TrainConfig, "result", "remedy")
    for objective in objectives.OBJECTIVES.values():
        shown -= {objective.switch} if objective.is_on(run) else {objective.switch, objective.theta}
    shown -= set(registry.all_settings()) - set(_network(run).settings)
    fields = dataclasses.fields(TrainConfig)
    return {f.name: run.get(f.name, f.default) for f in fields if f.name in shown}


def _network(run):
    return registry.network(run.get("model_title", "DeepShare"))


def differences(run, dataset, n_scale):
    """In what a run differs from the published experiment, as a list of phrases; empty if in nothing.

    Args:
        run: the content of its config.json.
    """
    reasons = []
    if run.get("dataset_name", dataset) != dataset:
        reasons.append(f"trained on {run['dataset_name']}")
    size, stride = published_patch(dataset, n_scale)
    usual = {"patch_size": size, "patch_stride": stride}
    for field in dataclasses.fields(TrainConfig):
        value = settings_of(run).get(field.name)
        # The flags' defaults are DeepShare's.
        own = _network(run).published
        expected = own.get(field.name, usual.get(field.name, field.default))
        if value is not None and value != expected:
            reasons.append(f"{field.name} {_shown(value)} instead of {_shown(expected)}")
    patches = run.get("patches", {})
    iterations = run.get("epochs", 10) * math.ceil(
        patches.get("labelled", 0) * AUGMENTATIONS / run.get("batch_size", 8)
    )
    if run.get("iterations", 0) < iterations:
        reasons.append(f"{run.get('iterations', 0):,} of {iterations:,} iterations")
    # Another size or stride, which is a difference already, makes these counts mean nothing.
    if all(run.get(name, value) == value for name, value in usual.items()):
        for stream, count in patches.items():
            full = _FACTS["patches"].get(dataset, {}).get(stream, {}).get(str(n_scale), 0)
            full = _FACTS["rgb_patches_at_least"] if stream == "rgb" else full
            if count < full:
                reasons.append(f"{count:,} {stream} patches, fewer than {full:,}")
    return reasons


def missing_scenes(dataset, names):
    """In what the scenes of a test differ from the published ones, as a list of phrases."""
    split = published_split(dataset)
    if not split:
        return []
    expected = set(split["test"])
    reasons = []
    if expected - set(names):
        reasons.append(f"{len(expected & set(names))} of {len(expected)} test scenes")
    if set(names) - expected:
        reasons.append(f"{len(set(names) - expected)} scenes that are no published test scenes")
    return reasons


def dataset_of_scenes(names):
    """The data set whose published test scenes have these names; None if no one's have."""
    for dataset in DATASETS:
        split = published_split(dataset)
        if split and names and set(names) <= set(split["test"]):
            return dataset
    return None


def _shown(value):
    return int(value) if isinstance(value, bool) else value
