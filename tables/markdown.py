"""A Report as Markdown, its tables in even columns so that they read well in a terminal too."""

from collections.abc import Iterable, Iterator, Sequence

from tables import words
from tables.rows import Report, Table


def markdown(report: Report) -> str:
    """The whole report as Markdown."""
    parts = [f"# Results below {report.folder.absolute().name}", *([words.SPREAD] if report.tables else [])]
    for table in report.tables:
        parts += _parts_of(table)
    if report.shows_theta_rgb:
        title, head, numbers = words.theta_rgb_lines()
        sweep = _in_even_columns(["theta_rgb", *head], [["RMSE", *numbers]])
        parts.append(f"### {words.PUBLISHED_APART}\n\n{title}\n\n{sweep}")
    for title, items in words.own_scenes(report) + words.asides(report):
        parts.append(f"{title}:\n\n{_listed(items)}")
    # Names come from foreign files: Markdown passes HTML on.
    return ("\n\n".join(parts) + "\n").replace("<", "&lt;")


def _parts_of(table: Table) -> Iterator[str]:
    yield f"## {table.title}\n\nProtocol: {words.protocol_in_words(table)}."
    lines = []
    for kind, row, cells in words.lines_of(table):
        mark, facts = ("", words.facts_of(row)) if kind == "ours" else ("· ", [""] * len(words.FACTS))
        lines.append([mark + words.name_in(kind, table, row), *cells, *facts])
    yield _in_even_columns(["method", *words.headings(table.metrics), *words.FACTS], lines)
    if reasons := table.reasons():
        listed = _listed(f"{who}: {', '.join(why)}" for who, why in reasons)
        yield f"{words.REDUCED}:\n\n{listed}"
    for theirs, rows in table.not_comparable():
        numbers = [[method, *printed] for method, printed in rows.items()]
        apart = _in_even_columns(["method", *words.headings(theirs.columns)], numbers)
        yield f"### {words.PUBLISHED_APART}\n\n{theirs.source}\n\n{apart}"


def _listed(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _in_even_columns(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    widths = [max(len(line[k]) for line in [head, *lines]) for k in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    aligned = [
        [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        for line in (head, *lines)
    ]
    aligned.insert(1, rule)
    return "\n".join(f"| {' | '.join(line)} |" for line in aligned)
