"""What the tables hold: a results file, the row that results of one kind make, a table of rows, the whole report."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from evaluation import published
from evaluation.published import PublishedTable
from evaluation.results import Rows
from metrics import METRICS

# The metrics in the order of the tables' columns.
SHOWN = ("RMSE", "MPSNR", "ERGAS", "SAM", "MSSIM", "MSSIM_gaussian", "CrossCorrelation")


@dataclass(frozen=True)
class Result:
    """One results file.

    Attributes:
        path: of the file.
        dataset, scale, protocol: the table it belongs to.
        method: network and published components, e.g. "DeepShare + RGB".
        traits: what tells it from other results of the method, {name: value}; not the seed.
        origin: what was scored (a seed, a weights file), so that it is counted once.
        mean, scenes: {metric: value}, and the same by scene.
        bands: {scene: [PSNR of each band]}; {} where an older program wrote the file.
        wavelengths: of the bands in nm, or None.
        reasons: in what it differs from the published experiment.
        run: the content of the run's config.json, {} where there is none.
        run_dir: folder of the run's log.csv, or None.
        seconds: spent on training, or None where it is not known.
    """

    path: Path
    dataset: str
    scale: int
    protocol: str
    method: str
    traits: Mapping[str, Any]
    origin: str
    mean: Mapping[str, float]
    scenes: Rows
    bands: Mapping[str, Sequence[float]]
    wavelengths: Sequence[float] | None
    reasons: Sequence[str]
    run: Mapping[str, Any]
    run_dir: Path | None
    seconds: float | None


@dataclass(frozen=True, eq=False)
class Row:
    """The results of one method with the same traits: one for each seed."""

    label: str
    results: Sequence[Result]

    def mean(self, metric: str) -> float:
        """Mean over the seeds."""
        return float(np.mean([r.mean[metric] for r in self.results]))

    def spread(self, metric: str) -> float | None:
        """Half the range over the seeds; None of a single one."""
        values = [r.mean[metric] for r in self.results]
        return (max(values) - min(values)) / 2 if len(values) > 1 else None

    @property
    def method(self) -> str:
        """Network and published components."""
        return self.results[0].method

    @property
    def reasons(self) -> Sequence[str]:
        """In what it differs from the published experiment."""
        return self.results[0].reasons

    @property
    def is_reduced(self) -> bool:
        """Whether it differs from the published experiment."""
        return bool(self.reasons)

    @property
    def name(self) -> str:
        """The label with the mark of a reduced run."""
        return f"{self.label} (reduced)" if self.is_reduced else self.label

    @property
    def scenes(self) -> list[str]:
        """Names of the scenes that were scored."""
        return list(self.results[0].scenes)

    @property
    def seeds(self) -> list[int]:
        """The seeds of its runs."""
        return [r.run["seed"] for r in self.results if "seed" in r.run]

    @property
    def iterations(self) -> int | None:
        """Of each run; None where it is not known."""
        return self.results[0].run.get("iterations")

    @property
    def seconds(self) -> float | None:
        """Mean training time, None where it is not known of all."""
        seconds = [r.seconds for r in self.results if r.seconds is not None]
        return sum(seconds) / len(seconds) if len(seconds) == len(self.results) else None

    @property
    def parameters(self) -> int | None:
        """Of the network; None where it is not known."""
        return self.results[0].run.get("parameters")

    @property
    def devices(self) -> list[str]:
        """What its runs ran on."""
        return sorted({r.run["device"] for r in self.results if "device" in r.run})

    def band_psnr(self) -> np.ndarray | None:
        """PSNR of each band, mean over scenes and seeds; None where it was not recorded."""
        bands = [values for r in self.results for values in r.bands.values()]
        if not bands or len({len(values) for values in bands}) > 1:
            return None
        return np.mean(bands, axis=0)


@dataclass(frozen=True)
class Table:
    """The rows of one data set, scale and protocol, and what is published of them."""

    dataset: str
    scale: int
    protocol: str
    rows: Sequence[Row]
    published: Sequence[PublishedTable]

    @property
    def title(self) -> str:
        """What it is of, in words."""
        return f"{self.dataset} x{self.scale}, protocol {self.protocol}"

    @property
    def metrics(self) -> list[str]:
        """The shown metrics: some only where something published is to be compared with them."""
        compared = {metric for table in self.published for metric in table.columns}
        return [metric for metric in SHOWN if metric in compared or not METRICS[metric].is_comparison_only]

    def counterpart(self, row: Row) -> tuple[str, dict[str, str]] | None:
        """(source, {metric: printed number}) of the published row of the same experiment; None without one."""
        if row.is_reduced:
            return None
        for theirs in self.published:
            if row.method in theirs.rows and row.method in (theirs.comparable or theirs.rows):
                return theirs.source, dict(zip(theirs.columns, theirs.rows[row.method], strict=True))
        return None

    def difference(self, row: Row, metric: str) -> float | None:
        """Ours less the published number; None where nothing comparable is published."""
        counterpart = self.counterpart(row)
        theirs = published.number(counterpart[1].get(metric, "")) if counterpart else None
        return None if theirs is None else row.mean(metric) - theirs

    def not_comparable(self) -> list[tuple[PublishedTable, dict[str, Sequence[str]]]]:
        """The PublishedTables with the rows that stand beside none of ours, as (table, {method: numbers})."""
        matched = {row.method for row in self.rows if self.counterpart(row)}
        left = [(t, {m: v for m, v in t.rows.items() if m not in matched}) for t in self.published]
        return [(t, rows) for t, rows in left if rows]

    def best(self, metric: str) -> Row | None:
        """The row that is best by a metric; None where the rows were not scored on the same scenes."""
        if len({tuple(row.scenes) for row in self.rows}) > 1 or len(self.rows) < 2:
            return None
        sign = 1 if METRICS[metric].lower_is_better else -1
        return min(self.rows, key=lambda row: (math.isnan(row.mean(metric)), sign * row.mean(metric)))

    def reasons(self) -> list[tuple[str, list[str]]]:
        """Why rows are called reduced: [(rows in words, reasons)], reasons that the same rows have together."""
        labels_of: dict[str, list[str]] = {}
        for row in self.rows:
            for reason in row.reasons:
                labels_of.setdefault(reason, []).append(row.label)
        groups: dict[tuple[str, ...], list[str]] = {}
        for reason, labels in labels_of.items():
            groups.setdefault(tuple(labels), []).append(reason)
        return [(self._in_words(labels), reasons) for labels, reasons in groups.items()]

    def _in_words(self, labels: Sequence[str]) -> str:
        others = [row.label for row in self.rows if row.label not in labels]
        if len(others) > 1 or (others and len(labels) < 3):
            return "; ".join(labels)
        return f"every row but {others[0]}" if others else "every row"


@dataclass(frozen=True)
class OwnScene:
    """What `predict --report 1` has drawn of a scene without ground truth."""

    path: Path
    title: str
    description: str


@dataclass
class Report:
    """Everything that is shown: tables, reports of own scenes, runs without results, what was passed over and why."""

    folder: Path
    tables: list[Table] = field(default_factory=list)
    own_scenes: list[OwnScene] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    unscored: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def below(self, path: Path) -> str:
        """A path as seen from the folder of all results."""
        return path.relative_to(self.folder).as_posix() if path != self.folder else path.name

    @property
    def shows_theta_rgb(self) -> bool:
        """Whether runs differ in theta_rgb, so that the published numbers over it are of interest."""
        traits = [row.results[0].traits for table in self.tables for row in table.rows]
        return len({known["theta_rgb"] for known in traits if "theta_rgb" in known}) > 1
