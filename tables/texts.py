"""A Report as Markdown, LaTeX and CSV; and the jinja2 environment of all templates."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evaluation.published import PublishedTable
from evaluation.results import in_columns
from facts import METRICS
from tables import reduced
from tables.report import FACTS, THETA_RGB_SWEEP, Report, Row, Table, headings
from utils import sanitize_for_terminal

TEMPLATES = Path(__file__).parent / "templates"
SPREAD = (
    "Values are means over the test scenes and, where there are several seeds, over these; ± is half the range over "
    "the seeds."
)
CSV_PLACE = ("dataset", "scale", "protocol", "kind", "method", "reduced", "reasons", "source")
CSV_FACTS = ("scenes", "seeds", "iterations", "training_seconds", "parameters", "device", "results")
# Columns of the summary on a terminal.
SUMMARY_WIDTH = 80
# Spreadsheets compute a text that begins with one of these.
FORMULAS = ("=", "+", "@", "-", "\t", "\r")
LATEX_CHARACTERS = str.maketrans(
    {
        "\\": "\\textbackslash{}",
        **{c: f"\\{c}" for c in "&%$#_{}"},
        "~": "\\textasciitilde{}",
        "^": "\\textasciicircum{}",
        "°": "$^\\circ$",
        "±": "$\\pm$",
        "−": "$-$",
        "<": "$<$",
        ">": "$>$",
        "|": "$|$",
        # LaTeX's default fonts lack these letters of Latin-1.
        **dict.fromkeys("«»ÐðÞþ", "?"),
        # After the \\ of the previous line, both would be its arguments.
        "[": "{[}",
        "*": "{*}",
    }
)


def make_environment(escape: Callable[[str], str] | None = None, **delimiters: str) -> Environment:
    """Return an environment for the templates, which escapes every inserted text, as HTML by default."""

    def finalize(value: Any) -> Any:
        return Markup(escape(str(value))) if escape and not hasattr(value, "__html__") else value

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **delimiters,  # type: ignore[arg-type]
    )
    environment.globals |= {
        "FACTS": FACTS,
        "SPREAD": SPREAD,
        "THETA_RGB_SWEEP": THETA_RGB_SWEEP,
        "headings": headings,
        "reduced": reduced,
    }
    return environment


def escape_markdown(text: str) -> str:
    """Escape a text that may come from a foreign file: Markdown passes HTML on."""
    return text.replace("<", "&lt;")


def escape_latex(text: str) -> str:
    """Escape a text as one paragraph of LaTeX in the letters that pdflatex's default fonts have."""
    # A blank line ends a caption, and pdflatex stops at control characters.
    text = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    text = re.sub("-(?=-)", "-{}", text.translate(LATEX_CHARACTERS))
    return text.encode("latin-1", "replace").decode("latin-1")


def align_columns(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table that is legible in a terminal: first column to the left, the other ones to the right."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    widths = [max(len(line[k]) for line in [head, *lines]) for k in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    aligned = [
        [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        for line in (head, *lines)
    ]
    aligned.insert(1, rule)
    return "\n".join(f"| {' | '.join(line)} |" for line in aligned)


def align_table(table: Table) -> str:
    """Return the rows of a table with their facts as a Markdown table."""
    head = ["method", *headings(table.metrics), *FACTS]
    lines = [
        [line.name if line.kind == "ours" else f"· {line.name}", *line.cells, *line.facts] for line in table.lines()
    ]
    return align_columns(head, lines)


def align_published(table: PublishedTable, first: str) -> str:
    """Return a published table as a Markdown table; first is the heading of the first column."""
    return align_columns([first, *headings(table.columns)], [[name, *cells] for name, cells in table.rows.items()])


MARKDOWN = make_environment(escape_markdown)
MARKDOWN.globals |= {"align_table": align_table, "align_published": align_published}
LATEX = make_environment(
    escape_latex,
    variable_start_string="<<",
    variable_end_string=">>",
    block_start_string="<%",
    block_end_string="%>",
    comment_start_string="<#",
    comment_end_string="#>",
)


def render_markdown(report: Report) -> str:
    """Return the report as Markdown."""
    return MARKDOWN.get_template("tables.md").render(report=report)


def render_latex(report: Report) -> str:
    """Return the report as a LaTeX document with booktabs."""
    return LATEX.get_template("tables.tex").render(report=report)


def render_summary(report: Report) -> str:
    """Return the main columns of all tables for a terminal of 80 columns, and the numbers of remarks."""
    blocks = []
    for table in report.tables:
        cells = [
            [METRICS["MPSNR"].format_value(row.mean("MPSNR")), table.gain(row)]
            + [METRICS[metric].format_value(row.mean(metric)) for metric in ("SAM", "ERGAS")]
            + [str(len(row.seeds) or "")]
            for row in table.rows
        ]
        head = ["MPSNR", "gain (dB)", "SAM", "ERGAS", "seeds"]
        # Two blanks before each column, and two characters for the mark.
        free = SUMMARY_WIDTH - 2 - sum(2 + max(map(len, column)) for column in zip(head, *cells, strict=True))
        names = [_shorten_middle(sanitize_for_terminal(row.label), free) + " *" * row.is_reduced for row in table.rows]
        lines = [["method", *head], *([name, *line] for name, line in zip(names, cells, strict=True))]
        title = _shorten_middle(f"{table.title}; gain: MPSNR over that of bicubic", SUMMARY_WIDTH)
        blocks.append(f"{title}\n{in_columns(lines)}")
    if any(row.is_reduced for row in report.rows):
        blocks.append(f"* {reduced.MARK}: differs from the published experiment as listed in tables.md")
    counts = [f"{title}: {len(items)}" for title, items in report.list_own_scenes() + report.list_remarks()]
    return "\n\n".join(blocks + ["\n".join([*counts, "All columns and remarks are in the files."])]) + "\n"


def _shorten_middle(text: str, width: int) -> str:
    """Shorten a text to a width by leaving out its middle: names often differ at their ends."""
    half = (width - 3) // 2
    return text if len(text) <= width else f"{text[: width - 3 - half]}...{text[-half:]}"


def render_csv(report: Report) -> str:
    """Return every row of every table, ours and published, as CSV with all digits.

    `reduced` is 1 or 0; difference_* is ours minus published, empty without a comparable published number.
    """
    numbers = [f"{kind}{metric}" for kind in ("", "spread_", "published_", "difference_") for metric in METRICS]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*CSV_PLACE, *numbers, *CSV_FACTS], lineterminator="\n")
    writer.writeheader()
    for table in report.tables:
        place = {"dataset": table.dataset, "scale": table.scale, "protocol": table.protocol}
        rows = [_csv_row(row, table, report) for row in table.rows]
        for printed in table.not_comparable():
            for method, cells in printed.rows.items():
                kind = {"kind": "published, not comparable", "method": method, "source": printed.source}
                rows.append({**kind, **dict(zip(printed.columns, cells, strict=True))})
        writer.writerows(_disarm_formulas({**place, **row}) for row in rows)
    return text.getvalue()


def _csv_row(row: Row, table: Table, report: Report) -> dict[str, Any]:
    source, printed = table.counterpart(row) or ("", {})
    return {
        "kind": "ours",
        "method": row.label,
        "reduced": int(row.is_reduced),
        "reasons": "; ".join(row.reasons),
        "source": source,
        **{metric: row.mean(metric) for metric in METRICS},
        **{f"spread_{metric}": row.spread(metric) for metric in METRICS},
        **{f"published_{metric}": number for metric, number in printed.items()},
        **{f"difference_{metric}": table.difference(row, metric) for metric in METRICS},
        "scenes": len(row.scenes),
        "seeds": " ".join(map(str, row.seeds)),
        "iterations": row.config.get("iterations"),
        "training_seconds": row.seconds,
        "parameters": row.config.get("parameters"),
        "device": ", ".join(row.devices),
        "results": " ".join(report.below(result.path) for result in row.results),
    }


def _disarm_formulas(row: dict[str, Any]) -> dict[str, Any]:
    """Quote the texts of a row that spreadsheets take for formulas: names come from foreign files."""
    return {k: f"'{v}" if isinstance(v, str) and v.startswith(FORMULAS) else v for k, v in row.items()}
