"""What the page shows of trainings: losses and validations of all runs side by side."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation import results
from metrics import METRICS
from objectives import OBJECTIVES
from tables.charts import Line, Style, line_chart
from tables.html import escaped, figure
from tables.rows import Report, Row

# The metrics of validation.csv that are drawn.
VALIDATED = ("MPSNR", "SAM", "ERGAS")


@dataclass(frozen=True)
class RunCurves:
    """The columns of a run's log.csv and validation.csv as {name: array}; the row that it belongs to."""

    row: Row
    log: Mapping[str, np.ndarray]
    validation: Mapping[str, np.ndarray]


def runs_by_data(report: Report) -> dict[str, dict[Path, Row]]:
    """{data set and scale: {run folder: row}}, each run once whatever it was scored under."""
    found: dict[str, dict[Path, Row]] = {}
    for table in report.tables:
        for row in table.rows:
            for result in row.results:
                if result.run_dir:
                    runs = found.setdefault(f"{table.dataset} x{table.scale}", {})
                    runs.setdefault(result.run_dir.resolve(), row)
    return found


def curves_of(title: str, runs: Mapping[Path, Row], styles: Mapping[str, Style]) -> str:
    """Charts of the losses and of the validations under a heading; "" where no run has recorded any."""
    recorded = [
        RunCurves(row, read_columns(folder / "log.csv"), read_columns(folder / "validation.csv"))
        for folder, row in runs.items()
    ]
    drawn = [*_losses(recorded, styles), *_validations(recorded, styles)]
    if not drawn:
        return ""
    caption = (
        f"{escaped(title)}: mean losses between rows of log.csv and, where there are validation scenes, their metrics "
        "after each epoch (validation.csv). One line for each run: seeds of a method share its "
        f"colour{_reduced_runs(list(runs.values()))}."
    )
    shown = {label: styles[label] for label in dict.fromkeys(row.label for row in runs.values())}
    return f"<h2>Training, {escaped(title)}</h2>" + figure(drawn, shown, "", caption)


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """The columns of a log.csv or validation.csv as {name: array}, NaN where a field is empty; {} if unreadable."""
    try:
        return columns_in(path)
    except (OSError, ValueError):
        return {}


def columns_in(path: Path) -> dict[str, np.ndarray]:
    """The columns of a log.csv or validation.csv as {name: array}, NaN where a field is empty; {} without a row.

    Raises:
        OSError: for a file that cannot be read.
        ValueError: saying in which column there are no such numbers.
    """
    if path.exists() and not path.is_file():
        # A pipe would be waited for.
        raise OSError("no regular file")
    try:
        with open(path, newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError("it is no text of numbers between commas") from error
    columns = {name: _column(name, [row[name] for row in rows]) for name in rows[0]} if rows else {}
    # What curves are drawn over; a validation tells the epoch alone.
    over = "epoch" if set(METRICS) & columns.keys() else "iteration"
    if columns and (over not in columns or not np.isfinite(columns[over]).all()):
        raise ValueError(f"its column {over} is not there, or has gaps")
    return columns


def _column(name: str | None, fields: list[str | None]) -> np.ndarray:
    """A column's numbers."""
    try:
        column = np.array([float(field or "nan") for field in fields])
    except (ValueError, TypeError) as error:
        raise ValueError(f"its column {name} holds other things than numbers") from error
    if (np.abs(column[np.isfinite(column)]) > results.LARGEST).any():
        raise ValueError(f"its column {name} holds numbers beyond {results.LARGEST:g}")
    return column


def _losses(recorded: list[RunCurves], styles: Mapping[str, Style]) -> Iterator[str]:
    for objective in OBJECTIVES.values():
        lines = [
            Line(run.row.label, styles[run.row.label], run.log["iteration"], run.log[objective.name])
            for run in recorded
            if objective.name in run.log and np.isfinite(run.log[objective.name]).any()
        ]
        if lines:
            yield line_chart(objective.title, lines, "iteration", "loss", logarithmic=True)


def _validations(recorded: list[RunCurves], styles: Mapping[str, Style]) -> Iterator[str]:
    for metric in VALIDATED:
        lines = [
            Line(run.row.label, styles[run.row.label], run.validation["epoch"], run.validation[metric])
            for run in recorded
            if metric in run.validation
        ]
        if lines:
            yield line_chart(f"Validation {metric}", lines, "epoch", METRICS[metric].heading)


def _reduced_runs(rows: list[Row]) -> str:
    reduced = sum(row.is_reduced for row in rows)
    if not reduced:
        return ""
    return "; all runs are reduced" if reduced == len(rows) else f"; {reduced} of {len(rows)} runs are reduced"
