"""A Report as a LaTeX document with booktabs; below each table what stands behind its rows."""

import re
from collections.abc import Iterable, Iterator, Sequence

from tables import words
from tables.rows import Report, Table


def latex(report: Report) -> str:
    """The whole report as a LaTeX document."""
    parts = [_HEAD]
    for table in report.tables:
        parts += _parts_of(table)
    if report.shows_theta_rgb:
        title, head, numbers = words.theta_rgb_lines()
        caption = f"{words.PUBLISHED_APART}: {title}."
        parts.append(_tabular(caption, ["theta_rgb", *head], [_line(["RMSE", *numbers])]))
    for title, items in words.own_scenes(report) + words.asides(report):
        parts.append(_escaped(f"{title}: {'; '.join(items)}.") + "\n")
    return "\n".join([*parts, "\\end{document}\n"])


def _parts_of(table: Table) -> Iterator[str]:
    lines, previous = [], None
    for kind, row, cells in words.lines_of(table):
        # Lines of the same row are closer together. A line of its own: no letter may follow a control word.
        if previous == "difference":
            lines.append(r"\addlinespace")
        indent = "" if kind == "ours" else r"\quad "
        lines.append(indent + _line([words.name_in(kind, table, row), *cells]))
        previous = kind
    caption = f"{table.title}: {words.protocol_in_words(table)}. {words.SPREAD}"
    if reasons := table.reasons():
        listed = "; ".join(f"{who}: {', '.join(why)}" for who, why in reasons)
        caption += f" {words.REDUCED}: {listed}."
    yield _tabular(caption, ["Method", *words.headings(table.metrics)], lines)
    facts = [_line([row.name, *words.facts_of(row)]) for row in table.rows]
    yield _tabular(f"Runs behind {table.title}.", ["Method", *words.FACTS], facts)
    for theirs, rows in table.not_comparable():
        numbers = [_line([method, *printed]) for method, printed in rows.items()]
        caption = f"{table.title}. {words.PUBLISHED_APART}: {theirs.source}."
        yield _tabular(caption, ["Method", *words.headings(theirs.columns)], numbers)
    yield "\\clearpage"


_HEAD = r"""\documentclass{article}
\usepackage[a4paper,landscape,margin=15mm]{geometry}
\usepackage{booktabs}
\begin{document}
"""


def _tabular(caption: str, head: Sequence[str], lines: Iterable[str]) -> str:
    return "\n".join(
        [
            "\\begin{table}[htbp]",
            "\\centering\\footnotesize\\setlength{\\tabcolsep}{4pt}",
            f"\\caption{{{_escaped(caption)}}}",
            f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            "\\toprule",
            _line(head),
            "\\midrule",
            *lines,
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}\n",
        ]
    )


def _line(cells: Iterable[str]) -> str:
    return " & ".join(map(_escaped, cells)) + r" \\"


def _escaped(text: str) -> str:
    # A blank line ends a caption; pdflatex stops at control characters, and at letters that its fonts do not have.
    text = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    text = re.sub("-(?=-)", "-{}", text.translate(_CHARACTERS))
    return text.encode("latin-1", "replace").decode("latin-1")


_CHARACTERS = str.maketrans(
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
        # The letters of Latin-1 that LaTeX's default fonts lack.
        **dict.fromkeys("«»ÐðÞþ", "?"),
        # After the \\\\ of the previous line, both would be its arguments.
        "[": "{[}",
        "*": "{*}",
    }
)
