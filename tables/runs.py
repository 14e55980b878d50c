"""The run that a results file belongs to: its config.json, settings, weights and logs."""

import contextlib
import csv
import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from config import TestConfig, TrainConfig, affecting
from evaluation import results
from evaluation.results import SceneResults
from facts import AUGMENTATIONS, METRICS, PROTOCOLS
from models import registry
from models.registry import PRETRAINED
from objectives import OBJECTIVES
from training.file_names import BEST, CONFIG, PREVIOUS
from utils import as_utf8

# Weights in a run's directory other than its last ones.
EARLIER_WEIGHTS = {BEST: "of the best validation", PREVIOUS: "of the checkpoint before the last"}


@dataclass(frozen=True)
class Run:
    """A training run, as far as it is recorded.

    Attributes:
        config: the content of its config.json.
        folder: the directory with its log.csv and results.json; None for bundled and adapted weights.
        bundled: name of bundled weights, or "".
    """

    config: Mapping[str, Any]
    folder: Path | None
    bundled: str = ""

    def describe_weights(self, weights: str | None) -> str | None:
        """Return the state of the run that weights are from; None for the final weights of a finished run."""
        if not weights:
            return None
        words = []
        last = math.ceil(self.config.get("iterations", 0) / (iterations_per_epoch(self.config) or 1))
        epoch = re.search(r"_epoch_(\d+)_", Path(weights).name)
        if self.folder is not None and epoch and int(epoch[1]) < last:
            words.append(f"of epoch {epoch[1]} of {last}")
        if self.folder is not None and not epoch and not is_finished(self.folder):
            words.append("of an unfinished run")
        words.append(EARLIER_WEIGHTS.get(Path(weights).name, ""))
        return ", ".join(filter(None, words)) or None

    def own_results(self) -> SceneResults | None:
        """Return the results of the run's own test; None if they are absent or not readable."""
        if self.folder is not None:
            with contextlib.suppress(OSError, ValueError):
                return results.read(self.folder / "results.json")
        return None

    def protocol(self) -> str:
        """Return the protocol of the training scenes: as configured, else that of the run's own test, else ""."""
        configured = self.config.get("protocol")
        own = None if configured else self.own_results()
        return own.protocol if own else configured or ""

    def seconds(self, found: SceneResults) -> float | None:
        """Return the training time in seconds, from results of the run or its own test; None if not recorded.

        Raises:
            ValueError: for a value that is not a time.
        """
        own = found if "training_seconds" in found.config else self.own_results()
        seconds = own.config.get("training_seconds") if own else None
        if seconds is not None and (not _is_number(seconds) or seconds < 0):
            raise ValueError(f"training_seconds is {seconds!r:.40}, not a time")
        return seconds


def find_run(path: Path, found: SceneResults, runs_dir: Path) -> Run | None:
    """Return the run that a results file belongs to; None if it is not recorded.

    Args:
        path: of the results file.
        found: its content.
        runs_dir: searched, by the names of weights and directory, for runs that were moved after their test.

    Raises:
        OSError, ValueError: for a config.json that cannot be read or has invalid values.
    """
    if "train_dir_mslabel" in found.config:
        check_config(found.config, "config")
        return Run(found.config, path.parent)
    named = found.config.get("model_dir")
    if not named:
        return None
    weights = Path(named)
    # The name was recorded as UTF-8.
    wanted = weights.absolute().parts[-2:]
    moved = [p for p in sorted(runs_dir.rglob("*.pth")) if tuple(map(as_utf8, p.parts[-2:])) == wanted]
    for candidate in [weights, *moved]:
        if not candidate.is_file():
            continue
        # `adapt` writes the settings beside its weights, in any folder.
        if config := read_config(candidate.with_suffix(".json")):
            return Run(config, None)
        if config := read_config(candidate.parent / CONFIG):
            return Run(config, candidate.parent)
    if named == weights.name or weights.parent.name == PRETRAINED.name:
        name = weights.name.removesuffix(".pth")
        config = read_config(PRETRAINED / f"{name}.json")
        return Run(config, None, name) if config else None
    return None


def is_finished(folder: Path) -> bool:
    """Return True if a run's directory contains its final weights."""
    return any(folder.glob("*_epoch_*.pth"))


def traits_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run's config.json that its result depends on, {name: value}.

    Leaves out the mini-batches of objectives that are off and the settings of other networks. A setting that an
    older run did not record has its default.
    """
    shown = affecting(TrainConfig, "result", "remedy")
    for objective in OBJECTIVES.values():
        shown -= {objective.switch} if objective.is_on(config) else {objective.switch, objective.theta}
    shown -= set(registry.list_settings()) - set(network_of(config).settings)
    fields = dataclasses.fields(TrainConfig)
    return {f.name: config.get(f.name, f.default) for f in fields if f.name in shown}


def traits_of_test(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags of `test` that differ from its defaults, {flag: value}; {} for a run's own test."""
    if "model_dir" not in config:
        return {}
    usual = {name: value for name, value in TestConfig().as_dict().items() if name in affecting(TestConfig, "result")}
    # `test` records its choice in place of auto; older results have no bands.
    usual |= {"bands": "exact", "normalise": "bands" if config.get("bands") == "windows" else "none"}
    return {name: config[name] for name in usual if config.get(name, usual[name]) != usual[name]}


def network_of(config: Mapping[str, Any]) -> registry.Entry:
    """Return the registered network of a run; DeepShare, whose settings are the flags' defaults, for an unknown one."""
    title = config.get("model_title")
    return registry.get_entry(title if title in registry.list_names() else "DeepShare")


def iterations_per_epoch(config: Mapping[str, Any]) -> int:
    """Return the number of labelled mini-batches in an epoch; 0 if the patches are not recorded."""
    return math.ceil(config.get("patches", {}).get("labelled", 0) * AUGMENTATIONS / config.get("batch_size", 8))


def check_config(config: Mapping[str, Any], where: str) -> None:
    """Check the values of a run's config.json that the tables show; older runs may lack some.

    Raises:
        ValueError: naming the value.
    """
    shown = affecting(TrainConfig, "result", "remedy")
    checks: dict[str, Callable[[Any], bool]] = {
        f.name: (lambda v: v is None or isinstance(v, str)) if f.type is str else (lambda v: v is None or _is_number(v))
        for f in dataclasses.fields(TrainConfig)
        if f.name in shown
    }
    checks |= dict.fromkeys(("model_title", "dataset_name", "device"), lambda v: isinstance(v, str))
    checks |= dict.fromkeys(("iterations", "parameters"), lambda v: v is None or _is_count(v))
    checks |= dict.fromkeys(("batch_size", "epochs"), lambda v: _is_count(v) and v > 0)
    checks["seed"] = lambda v: isinstance(v, int)
    checks["protocol"] = lambda v: v in ("", *PROTOCOLS)
    checks["patches"] = lambda v: isinstance(v, dict) and all(map(_is_count, v.values()))
    for name, is_valid in checks.items():
        if name in config and not is_valid(config[name]):
            raise ValueError(f"{name} is {config[name]!r:.40} in {where}, which no run has")


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """Return the columns of a log.csv or validation.csv, {name: array}; NaN for an empty field, {} without rows.

    Raises:
        OSError: for a file that cannot be read.
        ValueError: naming the column that does not contain numbers.
    """
    try:
        with open(path, newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError("it is not comma-separated text") from error
    columns = {name: _parse_column(name, [row[name] for row in rows]) for name in rows[0]} if rows else {}
    # The x axis of the curves; a validation records the epoch only.
    over = "epoch" if set(METRICS) & columns.keys() else "iteration"
    if columns and (over not in columns or not np.isfinite(columns[over]).all()):
        raise ValueError(f"its column {over} is missing or has gaps")
    return columns


def _parse_column(name: str | None, fields: list[str | None]) -> np.ndarray:
    try:
        column = np.array([float(field or "nan") for field in fields])
    except (ValueError, TypeError) as error:
        raise ValueError(f"its column {name} contains text that is not a number") from error
    if (np.abs(column[np.isfinite(column)]) > results.LARGEST).any():
        raise ValueError(f"its column {name} contains numbers beyond {results.LARGEST:g}")
    return column


def read_config(path: Path) -> dict[str, Any] | None:
    """Return the content of a run's config.json; None if it is absent or another kind of file."""
    if not path.is_file():
        return None
    content = results.content_of(path)
    if not isinstance(content, dict) or "model_title" not in content:
        return None
    check_config(content, path.name)
    return content


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) <= results.LARGEST


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value <= results.LARGEST
