"""The words and numbers of a Report that Markdown, LaTeX and the page share."""

from collections.abc import Iterator, Sequence

from evaluation.published import THETA_RGB
from metrics import METRICS
from tables.rows import Report, Row, Table

FACTS = ("scenes", "seeds", "iterations", "training time", "parameters", "device")
SPREAD = (
    "Values are means over the test scenes and, where there are several seeds, over these; ± is half the range over "
    "the seeds."
)
PUBLISHED_APART = "Published (full experiment; not comparable with reduced runs)"
REDUCED = "Reduced runs, and in what they differ from the published experiment"


def headings(metrics: Sequence[str]) -> list[str]:
    """The headings of columns."""
    return [METRICS[metric].heading for metric in metrics]


def protocol_in_words(table: Table) -> str:
    """What a table's protocol means for its numbers."""
    if table.protocol == "published":
        scaled = "watercolors / 65535, " if table.dataset == "Cave" else ""
        return f"{scaled}ERGAS with ratio 4, as in the published tables"
    scaled = "watercolors / 255, " if table.dataset == "Cave" else ""
    return f"{scaled}ERGAS with the true ratio, as in later papers"


def cell_text(row: Row, metric: str) -> str:
    """Mean and spread of a Row."""
    spread = row.spread(metric)
    mean = METRICS[metric].format_value(row.mean(metric))
    return mean if spread is None else f"{mean} ± {METRICS[metric].format_value(spread)}"


def facts_of(row: Row) -> list[str]:
    """What stands behind a Row's metrics, in the order of FACTS, as text."""
    seeds = row.seeds
    return [
        str(len(row.scenes)),
        f"{len(seeds)} ({', '.join(map(str, seeds))})" if seeds else "",
        f"{row.iterations:,}" if row.iterations else "",
        duration(row.seconds),
        f"{row.parameters:,}" if row.parameters else "",
        ", ".join(row.devices),
    ]


def duration(seconds: float | None) -> str:
    """Seconds as h:mm:ss; "" for None."""
    if seconds is None:
        return ""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def lines_of(table: Table) -> Iterator[tuple[str, Row, list[str]]]:
    """What a table shows line by line: (kind, row, cells), the cells as text for the table's metrics.

    kind is "ours"; below it, where the same experiment is published, "published" and "difference".
    """
    for row in table.rows:
        yield "ours", row, [cell_text(row, m) for m in table.metrics]
        if counterpart := table.counterpart(row):
            yield "published", row, [counterpart[1].get(m, "") for m in table.metrics]
            differences = [(m, table.difference(row, m)) for m in table.metrics]
            yield "difference", row, ["" if d is None else METRICS[m].format_value(d, sign="+") for m, d in differences]


def name_in(kind: str, table: Table, row: Row) -> str:
    """The first cell of a line of `lines_of`."""
    if kind == "published" and (counterpart := table.counterpart(row)):
        return f"published ({counterpart[0]})"
    return row.name if kind == "ours" else "ours − published"


def theta_rgb_lines() -> tuple[str, list[str], list[str]]:
    """The published sweep of theta_rgb: title, headings, numbers."""
    values = THETA_RGB["values"]
    return f"{THETA_RGB['metric']} against theta_rgb ({THETA_RGB['source']})", list(values), list(values.values())


def own_scenes(report: Report) -> list[tuple[str, list[str]]]:
    """[(title, items)] of the scenes that `predict` has made a report of; [] without any."""
    items = [f"{report.below(scene.path)}: {scene.title}; {scene.description}" for scene in report.own_scenes]
    return [("Scenes without ground truth, made larger by `predict`", items)] if items else []


def asides(report: Report) -> list[tuple[str, list[str]]]:
    """[(title, items)] of what is no table: runs without results, files passed over."""
    named = (
        ("Unfinished runs", report.unfinished),
        ("Finished runs without test results (`test --model_dir` makes some)", report.unscored),
        ("Remarks", report.notes),
    )
    return [(title, items) for title, items in named if items]
