"""The run that a results file is of: found beside it, beside its weights, or with the weights of the program."""

import contextlib
import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config import TrainConfig, affecting
from evaluation import results
from evaluation.results import SceneResults
from facts import PROTOCOLS
from models.registry import PRETRAINED
from tables.differences import iterations_an_epoch
from utils import as_utf8


@dataclass(frozen=True)
class Run:
    """A training, as far as it is recorded.

    Attributes:
        config: the content of its config.json.
        folder: with its log.csv and results.json; None of weights that come with the program.
    """

    config: Mapping[str, Any]
    folder: Path | None

    def partial(self, weights: str | None) -> str | None:
        """What weights of it are of, where they are from before its end; else None."""
        if not weights or self.folder is None:
            return None
        last = math.ceil(self.config.get("iterations", 0) / (iterations_an_epoch(self.config) or 1))
        named = re.search(r"_epoch_(\d+)_", Path(weights).name)
        if named and int(named[1]) < last:
            return f"of epoch {named[1]} of {last}"
        if not named and not is_finished(self.folder):
            return "of an unfinished run"
        return None

    def own_results(self) -> SceneResults | None:
        """What its own test has found; None where it has no readable results."""
        if self.folder is not None:
            with contextlib.suppress(OSError, ValueError):
                return results.read(self.folder / "results.json")
        return None

    def protocol(self) -> str:
        """The protocol that its scenes were read under: as asked, else that of its own test, else unknown ("")."""
        asked = self.config.get("protocol")
        own = None if asked else self.own_results()
        return own.protocol if own else asked or ""

    def seconds(self, found: SceneResults) -> float | None:
        """Spent on training, as results of it tell, or those of its own test; None where it is not known.

        Raises:
            ValueError: for what is no time.
        """
        own = found if "training_seconds" in found.config else self.own_results()
        seconds = own.config.get("training_seconds") if own else None
        if seconds is not None and (not _is_number(seconds) or seconds < 0):
            raise ValueError(f"training_seconds is {seconds!r:.40}, not a time")
        return seconds


def run_of(path: Path, found: SceneResults, runs_dir: Path) -> Run | None:
    """The run that a results file is of; None where nothing tells.

    Args:
        path: of the results file.
        found: its content.
        runs_dir: where runs are that were moved since they were tested: found by the names of weights and folder.

    Raises:
        OSError, ValueError: for a config.json that cannot be read, or holds what no run has.
    """
    if "train_dir_mslabel" in found.config:
        check_run(found.config, "config")
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
        # Weights that `adapt` has made have what they were made with beside them, in whatever folder.
        if config := _config_in(candidate.with_suffix(".json")):
            return Run(config, None)
        if config := _config_in(candidate.parent / "config.json"):
            return Run(config, candidate.parent)
    if named == weights.name or weights.parent.name == PRETRAINED.name:
        config = _config_in(PRETRAINED / f"{weights.name.removesuffix('.pth')}.json")
        return Run(config, None) if config else None
    return None


def check_run(config: Mapping[str, Any], where: str) -> None:
    """Refuse a run's config.json that holds what the tables cannot show; what older runs do not record may be absent.

    Raises:
        ValueError: saying what.
    """

    def refuse_unless(is_so: bool, name: str) -> None:
        if not is_so:
            raise ValueError(f"{name} is {config[name]!r:.40} in {where}, which no run has")

    for name in ("model_title", "dataset_name", "device"):
        refuse_unless(isinstance(config.get(name, ""), str), name)
    refuse_unless(isinstance(config.get("seed", 0), int), "seed")
    for name in ("iterations", "parameters"):
        refuse_unless(config.get(name) is None or _is_count(config[name]), name)
    refuse_unless(config.get("protocol", "") in ("", *PROTOCOLS), "protocol")
    patches = config.get("patches", {})
    refuse_unless(isinstance(patches, dict) and all(map(_is_count, patches.values())), "patches")
    for name in ("batch_size", "epochs"):
        refuse_unless(_is_count(config.get(name, 1)) and config.get(name, 1) > 0, name)
    shown = affecting(TrainConfig, "result", "remedy")
    for field in dataclasses.fields(TrainConfig):
        value = config.get(field.name)
        if field.name in shown and value is not None:
            refuse_unless(isinstance(value, str) if field.type is str else _is_number(value), field.name)


def is_finished(folder: Path) -> bool:
    """Whether a run's folder has its final weights."""
    return any(folder.glob("*_epoch_*.pth"))


def _config_in(path: Path) -> dict[str, Any] | None:
    """The content of a run's config.json; None where it is not there, or something else."""
    if not path.is_file():
        return None
    content = results.content_of(path)
    if not isinstance(content, dict) or "model_title" not in content:
        return None
    check_run(content, path.name)
    return content


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) <= results.LARGEST


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value <= results.LARGEST
