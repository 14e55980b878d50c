"""Reduced runs: decides in what a test and its run differ from the published experiment, and words it.

A row with at least one such difference is called reduced, and is never compared with a published number.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from config import TrainConfig
from evaluation import published
from facts import get_published_patch, load_published_split
from tables.runs import iterations_per_epoch, network_of, traits_of

MARK = "reduced"
HEADING = "Reduced runs, and in what they differ from the published experiment"
EXPLANATION = (
    "they differ from the published experiment as listed below each table, and are not comparable with its numbers"
)
PUBLISHED_APART = "Published (full experiment; not comparable with reduced runs)"
UNKNOWN_TRAINING = "how it was trained is not recorded"

# {label of a row: differences from the published experiment, empty for a full run}
Reasons = Mapping[str, Sequence[str]]


def compare_run(config: Mapping[str, Any], dataset: str, n_scale: int) -> list[str]:
    """Return the differences of a run from the published experiment as phrases.

    Args:
        config: the content of its config.json.
        dataset: of the test.
        n_scale: of the test.
    """
    size, stride = get_published_patch(dataset, n_scale)
    patch = {"patch_size": size, "patch_stride": stride}
    reasons = []
    if config.get("dataset_name", dataset) != dataset:
        reasons.append(f"trained on {config['dataset_name']}")
    defaults = {f.name: f.default for f in dataclasses.fields(TrainConfig)}
    expected = {**defaults, **patch, **network_of(config).published}
    for name, value in traits_of(config).items():
        if value is not None and value != expected[name]:
            instead = f" instead of {_format_setting(expected[name])}" if expected[name] != "" else ""
            reasons.append(f"{name} {_format_setting(Path(value).name if name == 'weights' else value)}{instead}")
    if config.get("rgb_is_halved") is False:
        reasons.append("RGB pictures not halved")
    if config.get("adapted"):
        return [*reasons, "adapted to one scene"]
    done, iterations = config.get("iterations", 0), config.get("epochs", 10) * iterations_per_epoch(config)
    if done < iterations:
        reasons.append(f"{done:,} of {iterations:,} iterations")
    # Counts of patches are comparable only for patches of the published size and stride.
    if all(config.get(name, value) == value for name, value in patch.items()):
        for stream, count in config.get("patches", {}).items():
            full = published.patches(dataset, n_scale, stream)
            reasons += [f"{count:,} {stream} patches, fewer than {full:,}"] if count < full else []
    return reasons


def compare_scenes(dataset: str, names: Collection[str]) -> list[str]:
    """Return the differences of a test's scenes from the published test scenes as phrases."""
    split = load_published_split(dataset)
    if not split:
        return []
    expected, names = set(split["test"]), set(names)
    reasons = []
    if expected - names:
        reasons.append(f"{len(expected & names)} of {len(expected)} test scenes")
    if names - expected:
        reasons.append(f"{len(names - expected)} scenes that are no published test scenes")
    return reasons


def name_row(label: str, reasons: Sequence[str]) -> str:
    """Return a row's label, marked if the row is reduced."""
    return f"{label} ({MARK})" if reasons else label


def summarize(reasons: Sequence[Sequence[str]]) -> str:
    """Return the number of reduced rows of a report as the subject and verb of a sentence; "" without any."""
    count = sum(map(bool, reasons))
    if not count:
        return ""
    return f"{'All' if count == len(reasons) else count} of them {'are' if count > 1 else 'is'}"


def describe_in_caption(reasons: Reasons) -> str:
    """Return the end of a figure's caption that names the reduced rows; "" without any."""
    labels = [label for label, why in reasons.items() if why]
    if not labels:
        return ""
    return f"; {MARK}: {'; '.join(labels)}" if len(labels) < len(reasons) else f"; all rows {MARK}"


def group_rows(reasons: Reasons) -> list[tuple[str, list[str]]]:
    """Return [(rows in words, differences)]: differences that the same rows have are grouped."""
    labels_of: dict[str, list[str]] = {}
    for label, why in reasons.items():
        for reason in why:
            labels_of.setdefault(reason, []).append(label)
    groups: dict[tuple[str, ...], list[str]] = {}
    for reason, labels in labels_of.items():
        groups.setdefault(tuple(labels), []).append(reason)
    return [(_list_rows(labels, list(reasons)), why) for labels, why in groups.items()]


def _list_rows(labels: Sequence[str], all_labels: Sequence[str]) -> str:
    rest = [label for label in all_labels if label not in labels]
    if len(rest) > 1 or (rest and len(labels) < 3):
        return "; ".join(labels)
    return f"every row but {rest[0]}" if rest else "every row"


def _format_setting(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value
