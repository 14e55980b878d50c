"""A Report of `tables.py` as Markdown, CSV and LaTeX, and the words that the page shares with them."""

import csv
import io

from metrics import METRICS
from tables import published

# How metrics are printed: heading, digits behind the point.
HEADINGS = {
    "RMSE": ("RMSE", 5),
    "MPSNR": ("MPSNR (dB)", 4),
    "ERGAS": ("ERGAS", 4),
    "SAM": ("SAM (°)", 4),
    "MSSIM": ("MSSIM", 4),
    "MSSIM_gaussian": ("MSSIM (Gaussian)", 4),
    "CrossCorrelation": ("CC", 4),
}
FACTS = ("scenes", "seeds", "iterations", "training time", "parameters", "device")
SPREAD = "Values are means over the test scenes and, where there are several seeds, over these; ± is half the range over the seeds."
PUBLISHED_APART = "Published (full experiment; not comparable with reduced runs)"
REDUCED = "Reduced runs, and in what they differ from the published experiment"


def protocol_in_words(table):
    """What a table's protocol means for its numbers."""
    if table.protocol == "published":
        scaled = "watercolors / 65535, " if table.dataset == "Cave" else ""
        return f"{scaled}ERGAS with ratio 4, as in the published tables"
    scaled = "watercolors / 255, " if table.dataset == "Cave" else ""
    return f"{scaled}ERGAS with the true ratio, as in later papers"


def metric_text(value, metric):
    """A metric's mean as text."""
    return f"{value:.{HEADINGS[metric][1]}f}"


def cell_text(row, metric):
    """Mean and spread of a Row."""
    spread = row.spread(metric)
    return metric_text(row.mean(metric), metric) + ("" if spread is None else f" ± {metric_text(spread, metric)}")


def facts_of(row):
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


def duration(seconds):
    """Seconds as h:mm:ss; "" for None."""
    if seconds is None:
        return ""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def lines_of(table):
    """What a table shows line by line: (kind, row, cells), the cells as text for the table's metrics.

    kind is "ours"; below it, where the same experiment is published, "published" and "difference".
    """
    for row in table.rows:
        yield "ours", row, [cell_text(row, m) for m in table.metrics]
        if counterpart := table.counterpart(row):
            yield "published", row, [counterpart[1].get(m, "") for m in table.metrics]
            differences = [table.difference(row, m) for m in table.metrics]
            yield (
                "difference",
                row,
                ["" if d is None else f"{d:+.{HEADINGS[m][1]}f}" for m, d in zip(table.metrics, differences)],
            )


def name_in(kind, table, row):
    """The first cell of a line of `lines_of`."""
    if kind == "ours":
        return row.name
    return f"published ({table.counterpart(row)[0]})" if kind == "published" else "ours − published"


def theta_rgb_lines():
    """The published sweep of theta_rgb: title, headings, numbers."""
    sweep = published.THETA_RGB
    return (
        f"{sweep['metric']} against theta_rgb ({sweep['source']})",
        list(sweep["values"]),
        list(sweep["values"].values()),
    )


def markdown(report):
    """The report as Markdown, its tables in even columns so that they read well in a terminal too."""
    parts = [f"# Results below {report.folder.absolute().name}", *([SPREAD] if report.tables else [])]
    for table in report.tables:
        parts.append(f"## {table.title}\n\nProtocol: {protocol_in_words(table)}.")
        head = ["method", *(HEADINGS[m][0] for m in table.metrics), *FACTS]
        lines = [
            [
                ("" if kind == "ours" else "· ") + name_in(kind, table, row),
                *cells,
                *(facts_of(row) if kind == "ours" else [""] * len(FACTS)),
            ]
            for kind, row, cells in lines_of(table)
        ]
        parts.append(_markdown_table(head, lines))
        if reasons := table.reasons():
            listed = "\n".join(f"- {who}: {', '.join(why)}" for who, why in reasons)
            parts.append(f"{REDUCED}:\n\n{listed}")
        for theirs, rows in table.not_comparable():
            head = ["method", *(HEADINGS[m][0] for m in theirs.columns)]
            listed = _markdown_table(head, [[method, *numbers] for method, numbers in rows.items()])
            parts.append(f"### {PUBLISHED_APART}\n\n{theirs.source}\n\n{listed}")
    if report.shows_theta_rgb:
        title, head, numbers = theta_rgb_lines()
        parts.append(
            f"### {PUBLISHED_APART}\n\n{title}\n\n" + _markdown_table(["theta_rgb", *head], [["RMSE", *numbers]])
        )
    for title, items in own_scenes(report) + asides(report):
        parts.append(f"{title}:\n\n" + "\n".join(f"- {item}" for item in items))
    return "\n\n".join(parts) + "\n"


def own_scenes(report):
    """(title, items) of the scenes that `predict` has made a report of; () without any."""
    items = [f"{path_below(scene, report)}: {scene.title}; {scene.description}" for scene in report.own_scenes]
    return [("Scenes without ground truth, made larger by `predict`", items)] if items else []


def path_below(scene, report):
    """Where the report of a scene is, as seen from the folder of all results."""
    return scene.path.relative_to(report.folder).as_posix()


def asides(report):
    """(title, items) of what is no table: runs without results, files passed over."""
    named = (
        ("Unfinished runs", report.unfinished),
        ("Finished runs without test results (`test --model_dir` makes some)", report.unscored),
        ("Remarks", report.notes),
    )
    return [(title, items) for title, items in named if items]


def _markdown_table(head, lines):
    lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    widths = [max(len(line[k]) for line in [head, *lines]) for k in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    aligned = [
        [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]
        for line in (head, *lines)
    ]
    aligned.insert(1, rule)
    return "\n".join(f"| {' | '.join(line)} |" for line in aligned)


def comma_separated(report):
    """Every row of every table, ours and published, as CSV with numbers in full.

    `reduced` is 1 or 0; difference_* is ours less published, empty where the two are not comparable.
    """
    head = [*("dataset", "scale", "protocol", "kind", "method", "reduced", "reasons", "source"), *METRICS]
    head += [*(f"spread_{m}" for m in METRICS), *(f"published_{m}" for m in METRICS)]
    head += [*(f"difference_{m}" for m in METRICS)]
    head += [*("scenes", "seeds", "iterations", "training_seconds", "parameters", "device", "results")]
    text = io.StringIO()
    writer = csv.DictWriter(text, head, lineterminator="\n")
    writer.writeheader()
    for table in report.tables:
        place = {"dataset": table.dataset, "scale": table.scale, "protocol": table.protocol}
        for row in table.rows:
            source, theirs = table.counterpart(row) or ("", {})
            line = {
                **place,
                "kind": "ours",
                "method": row.label,
                "reduced": int(row.is_reduced),
                "reasons": "; ".join(row.reasons),
                "source": source,
                **{m: row.mean(m) for m in METRICS},
                **{f"spread_{m}": row.spread(m) for m in METRICS},
                **{f"published_{m}": number for m, number in theirs.items()},
                **{f"difference_{m}": table.difference(row, m) for m in METRICS},
                "scenes": len(row.scenes),
                "seeds": " ".join(map(str, row.seeds)),
                "iterations": row.iterations,
                "training_seconds": row.seconds,
                "parameters": row.parameters,
                "device": ", ".join(row.devices),
                "results": " ".join(r.path.relative_to(report.folder).as_posix() for r in row.results),
            }
            writer.writerow(line)
        for theirs, rows in table.not_comparable():
            for method, numbers in rows.items():
                kind = {"kind": "published, not comparable", "method": method, "source": theirs.source}
                writer.writerow({**place, **kind, **dict(zip(theirs.columns, numbers))})
    return text.getvalue()


def latex(report):
    """The tables as a LaTeX document with booktabs; below each table what stands behind its rows."""
    parts = [_TEX_HEAD]
    for table in report.tables:
        head = ["Method", *(HEADINGS[m][0] for m in table.metrics)]
        lines, previous = [], None
        for kind, row, cells in lines_of(table):
            # Lines of the same row stand closer together.
            space = r"\addlinespace" if previous == "difference" else ""
            indent = "" if kind == "ours" else r"\quad "
            lines.append(space + indent + _tex_line([name_in(kind, table, row), *cells]))
            previous = kind
        caption = f"{table.title}: {protocol_in_words(table)}. {SPREAD}"
        if reasons := table.reasons():
            listed = "; ".join(f"{who}: {', '.join(why)}" for who, why in reasons)
            caption += f" {REDUCED}: {listed}."
        parts.append(_tex_table(caption, head, lines))
        facts = [_tex_line([row.name, *facts_of(row)]) for row in table.rows]
        parts.append(_tex_table(f"Runs behind {table.title}.", ["Method", *FACTS], facts))
        for theirs, rows in table.not_comparable():
            head = ["Method", *(HEADINGS[m][0] for m in theirs.columns)]
            lines = [_tex_line([method, *numbers]) for method, numbers in rows.items()]
            parts.append(_tex_table(f"{table.title}. {PUBLISHED_APART}: {theirs.source}.", head, lines))
        parts.append("\\clearpage")
    if report.shows_theta_rgb:
        title, head, numbers = theta_rgb_lines()
        parts.append(_tex_table(f"{PUBLISHED_APART}: {title}.", ["theta_rgb", *head], [_tex_line(["RMSE", *numbers])]))
    for title, items in own_scenes(report) + asides(report):
        parts.append(_tex(f"{title}: {'; '.join(items)}.") + "\n")
    return "\n".join([*parts, "\\end{document}\n"])


_TEX_HEAD = r"""\documentclass{article}
\usepackage[a4paper,landscape,margin=15mm]{geometry}
\usepackage{booktabs}
\begin{document}
"""


def _tex_table(caption, head, lines):
    return "\n".join(
        [
            "\\begin{table}[htbp]",
            "\\centering\\footnotesize\\setlength{\\tabcolsep}{4pt}",
            f"\\caption{{{_tex(caption)}}}",
            f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            "\\toprule",
            _tex_line(head),
            "\\midrule",
            *lines,
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}\n",
        ]
    )


def _tex_line(cells):
    return " & ".join(map(_tex, cells)) + r" \\"


def _tex(text):
    # pdflatex ends at letters that its fonts do not have.
    return text.translate(_TEX_CHARACTERS).encode("latin-1", "replace").decode("latin-1")


_TEX_CHARACTERS = str.maketrans(
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
    }
)
