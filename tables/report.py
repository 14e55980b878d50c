"""The gathered report as plain data: results, rows, tables, crops, training curves. The writers only read it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from evaluation import published
from evaluation.published import THETA_RGB, PublishedTable
from evaluation.results import SceneResults
from facts import METRICS
from tables import reduced

# The metrics in the order of the tables' columns, and the facts about a row that follow them.
SHOWN = ("RMSE", "MPSNR", "ERGAS", "SAM", "MSSIM", "MSSIM_gaussian", "CrossCorrelation")
FACTS = ("scenes", "seeds", "iterations", "training time", "parameters", "device")
THETA_RGB_SWEEP = PublishedTable(
    dataset="",
    scale=0,
    protocol="",
    source=f"{THETA_RGB['metric']} against theta_rgb ({THETA_RGB['source']})",
    columns=list(THETA_RGB["values"]),
    rows={THETA_RGB["metric"]: list(THETA_RGB["values"].values())},
)


@dataclass(frozen=True, eq=False)
class Result:
    """One results file.

    Attributes:
        path: of the file.
        found: its content.
        dataset: the data set that was scored, also if the file does not name it.
        method: network and published components, e.g. "DeepShare + RGB".
        traits: what distinguishes it from other results of the method, {name: value}; without the seed.
        origin: what was scored (a seed, a weights file), so that it is counted once.
        reasons: differences from the published experiment.
        config: the content of the run's config.json; {} without one.
        run_dir: directory of the run's log.csv, or None.
        seconds: training time, or None if it is not recorded.
    """

    path: Path
    found: SceneResults
    dataset: str
    method: str
    traits: Mapping[str, Any]
    origin: str
    reasons: Sequence[str]
    config: Mapping[str, Any]
    run_dir: Path | None
    seconds: float | None


@dataclass(frozen=True, eq=False)
class Row:
    """The results of one method with the same traits, one for each seed; the first represents their settings."""

    label: str
    results: Sequence[Result]

    def mean(self, metric: str) -> float:
        """Return the mean over the seeds."""
        return float(np.mean([r.found.mean[metric] for r in self.results]))

    def spread(self, metric: str) -> float | None:
        """Return half the range over the seeds; None for a single seed."""
        values = [r.found.mean[metric] for r in self.results]
        return (max(values) - min(values)) / 2 if len(values) > 1 else None

    def cell(self, metric: str) -> str:
        """Return mean and spread as text."""
        spread = self.spread(metric)
        mean = METRICS[metric].format_value(self.mean(metric))
        return mean if spread is None else f"{mean} ± {METRICS[metric].format_value(spread)}"

    @property
    def method(self) -> str:
        return self.results[0].method

    @property
    def is_bicubic(self) -> bool:
        return self.method == "Bicubic"

    @property
    def reasons(self) -> Sequence[str]:
        """Differences from the published experiment; a row with any is reduced."""
        return self.results[0].reasons

    @property
    def is_reduced(self) -> bool:
        return bool(self.reasons)

    @property
    def name(self) -> str:
        """The label, marked if the row is reduced."""
        return reduced.name_row(self.label, self.reasons)

    @property
    def scenes(self) -> list[str]:
        return list(self.results[0].found.scenes)

    @property
    def config(self) -> Mapping[str, Any]:
        """The content of the first run's config.json; {} without one."""
        return self.results[0].config

    @property
    def seeds(self) -> list[int]:
        return [r.config["seed"] for r in self.results if "seed" in r.config]

    @property
    def seconds(self) -> float | None:
        """Mean training time; None unless all runs recorded it."""
        seconds = [r.seconds for r in self.results if r.seconds is not None]
        return sum(seconds) / len(seconds) if len(seconds) == len(self.results) else None

    @property
    def devices(self) -> list[str]:
        return sorted({r.config["device"] for r in self.results if "device" in r.config})

    @property
    def facts(self) -> list[str]:
        """The texts of the columns FACTS."""
        iterations, parameters = self.config.get("iterations"), self.config.get("parameters")
        return [
            str(len(self.scenes)),
            f"{len(self.seeds)} ({', '.join(map(str, self.seeds))})" if self.seeds else "",
            f"{iterations:,}" if iterations else "",
            format_duration(self.seconds),
            f"{parameters:,}" if parameters else "",
            ", ".join(self.devices),
        ]

    def scene_psnr(self, scene: str) -> float:
        """Return the MPSNR of a scene, mean over the seeds; NaN if it is not recorded."""
        return float(np.mean([r.found.scenes.get(scene, {}).get("MPSNR", math.nan) for r in self.results]))

    def band_psnr(self) -> np.ndarray | None:
        """Return the PSNR of each band in dB, mean over scenes and seeds; None if it is not recorded."""
        bands = [values for r in self.results for values in r.found.bands.values()]
        if not bands or len({len(values) for values in bands}) > 1:
            return None
        return np.mean(bands, axis=0)


@dataclass(frozen=True)
class Line:
    """One line of a table: its first cell, the metrics as text, which of them are the best of their column, FACTS.

    kind is "ours" for a row; "published" and "difference" below it, if the same experiment is published.
    """

    kind: str
    row: Row
    name: str
    cells: list[str]
    best: list[bool] = field(default_factory=lambda: [False] * len(SHOWN))
    facts: list[str] = field(default_factory=lambda: [""] * len(FACTS))


@dataclass(frozen=True)
class Crop:
    """One window of a scene, as all rows of a table reproduce it.

    Attributes:
        corner: (row, column) of the first HR pixel.
        bands: indices shown as red, green and blue.
        wavelengths: C values in nm, or None.
        ms: the LR input, C x h x w.
        lms: its bicubic upsampling, C x H x W.
        gt: the HR truth, C x H x W.
        outputs: {row: C x H x W}.
    """

    scene: str
    corner: tuple[int, int]
    bands: Sequence[int]
    wavelengths: np.ndarray | None
    ms: np.ndarray
    lms: np.ndarray
    gt: np.ndarray
    outputs: Mapping[Row, np.ndarray]


@dataclass(frozen=True)
class Table:
    """The rows of one data set, scale and protocol, the published numbers, and crops of the scenes."""

    dataset: str
    scale: int
    protocol: str
    rows: Sequence[Row]
    published: Sequence[PublishedTable]
    crops: list[Crop] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Data set, scale and protocol."""
        return f"{self.dataset} x{self.scale}, protocol {self.protocol}"

    @property
    def protocol_note(self) -> str:
        """The meaning of the protocol for the numbers."""
        is_published = self.protocol == "published"
        scaled = f"watercolors / {65535 if is_published else 255}, " if self.dataset == "Cave" else ""
        ratio = "ratio 4, as in the published tables" if is_published else "the true ratio, as in later papers"
        return f"{scaled}ERGAS with {ratio}"

    @property
    def metrics(self) -> list[str]:
        """The shown metrics; some only beside a published number."""
        compared = {metric for table in self.published for metric in table.columns}
        return [metric for metric in SHOWN if metric in compared or not METRICS[metric].is_comparison_only]

    @property
    def reasons(self) -> reduced.Reasons:
        """Differences of each row from the published experiment."""
        return {row.label: row.reasons for row in self.rows}

    def baseline(self, row: Row) -> Row | None:
        """Return the row of bicubic on the same test scenes; None for bicubic itself, or without one."""
        rows = (r for r in self.rows if r.is_bicubic and set(r.scenes) == set(row.scenes) and not row.is_bicubic)
        return next(rows, None)

    def gain(self, row: Row) -> str:
        """Return the difference to bicubic in dB as text; "" without one."""
        baseline = self.baseline(row)
        return f"{row.mean('MPSNR') - baseline.mean('MPSNR'):+.2f}" if baseline else ""

    @property
    def scenes(self) -> list[str]:
        """The test scenes of all rows."""
        return list(dict.fromkeys(scene for row in self.rows for scene in row.scenes))

    def scene_psnr(self, row: Row, scene: str) -> tuple[str, str]:
        """Return the MPSNR of a scene, mean over the seeds, and its difference to bicubic as texts; "" without one."""
        baseline, psnr = self.baseline(row), row.scene_psnr(scene)
        if math.isnan(psnr):
            return "", ""
        return f"{psnr:.2f}", f"{psnr - baseline.scene_psnr(scene):+.2f}" if baseline else ""

    def counterpart(self, row: Row) -> tuple[str, dict[str, str]] | None:
        """Return (source, {metric: printed number}) of the published row of the same experiment; None without one."""
        if row.is_reduced:
            return None
        for table in self.published:
            if row.method in table.rows and row.method in (table.comparable or table.rows):
                return table.source, dict(zip(table.columns, table.rows[row.method], strict=True))
        return None

    def difference(self, row: Row, metric: str) -> float | None:
        """Return the row's mean minus the published number; None without a comparable one."""
        counterpart = self.counterpart(row)
        printed = published.number(counterpart[1].get(metric, "")) if counterpart else None
        return None if printed is None else row.mean(metric) - printed

    def not_comparable(self) -> list[PublishedTable]:
        """Return the published tables with the rows that are not the counterpart of any row."""
        matched = {row.method for row in self.rows if self.counterpart(row)}
        tables = [replace(t, rows={m: v for m, v in t.rows.items() if m not in matched}) for t in self.published]
        return [table for table in tables if table.rows]

    @cached_property
    def best(self) -> dict[str, str]:
        """{metric: text of the best mean}; {} for a single row or rows that were scored on different scenes."""
        if len({tuple(row.scenes) for row in self.rows}) > 1 or len(self.rows) < 2:
            return {}
        best = {}
        for metric in map(METRICS.__getitem__, self.metrics):
            sign = 1 if metric.lower_is_better else -1
            means = [row.mean(metric.key) for row in self.rows]
            best[metric.key] = metric.format_value(min(means, key=lambda mean: (math.isnan(mean), sign * mean)))
        return best

    def lines(self) -> list[Line]:
        """Return the rows with their published counterparts and the differences, line by line."""
        lines = []
        for row in self.rows:
            is_best = [self.best.get(m) == METRICS[m].format_value(row.mean(m)) for m in self.metrics]
            lines.append(Line("ours", row, row.name, [row.cell(m) for m in self.metrics], is_best, row.facts))
            if counterpart := self.counterpart(row):
                source, numbers = counterpart
                cells = [numbers.get(m, "") for m in self.metrics]
                lines.append(Line("published", row, f"published ({source})", cells))
                differences = [(m, self.difference(row, m)) for m in self.metrics]
                cells = ["" if d is None else METRICS[m].format_value(d, sign="+") for m, d in differences]
                lines.append(Line("difference", row, "ours − published", cells))
        return lines


@dataclass(frozen=True)
class Curves:
    """The training curves of a run.

    Attributes:
        title: data set and scale.
        label: of the run's row, or of a run without results.
        reasons: differences from the published experiment.
        log, validation: columns of log.csv and validation.csv as {name: array}; {} for a file that was not read.
    """

    title: str
    label: str
    reasons: Sequence[str]
    log: Mapping[str, np.ndarray]
    validation: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class OwnScene:
    """The report picture that `predict --report 1` wrote of a scene; png is b"" beyond the first few."""

    name: str
    title: str
    description: str
    png: bytes


@dataclass
class Report:
    """Everything that the writers show; trainings contains the curves of all runs by data set and scale."""

    folder: Path
    tables: list[Table] = field(default_factory=list)
    trainings: dict[str, list[Curves]] = field(default_factory=dict)
    own_scenes: list[OwnScene] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    unscored: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.absolute().name

    @property
    def rows(self) -> list[Row]:
        """The rows of all tables."""
        return [row for table in self.tables for row in table.rows]

    def below(self, path: Path) -> str:
        """Return a path relative to the folder, or unchanged if it is elsewhere."""
        if path == self.folder:
            return path.name
        return path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else str(path)

    @property
    def shows_theta_rgb(self) -> bool:
        """True if runs differ in theta_rgb, so that the published sweep over it is of interest."""
        traits = [row.results[0].traits for row in self.rows]
        return len({known["theta_rgb"] for known in traits if "theta_rgb" in known}) > 1

    def list_own_scenes(self) -> list[tuple[str, list[str]]]:
        """Return [(title, items)] of the own scenes; [] without any."""
        items = [f"{scene.name}: {scene.title}; {scene.description}" for scene in self.own_scenes]
        return [("Scenes without ground truth, super-resolved by `predict`", items)] if items else []

    def list_remarks(self) -> list[tuple[str, list[str]]]:
        """Return [(title, items)] of runs without results and of files that were passed over."""
        lists = (
            ("Unfinished runs", self.unfinished),
            ("Finished runs without test results (run `test --model_dir`)", self.unscored),
            ("Remarks", self.notes),
        )
        return [(title, items) for title, items in lists if items]


def headings(columns: Sequence[str]) -> list[str]:
    """Return the headings of columns, with the units of metrics."""
    return [METRICS[column].heading if column in METRICS else column for column in columns]


def format_duration(seconds: float | None) -> str:
    """Return seconds as h:mm:ss; "" for None."""
    if seconds is None:
        return ""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
