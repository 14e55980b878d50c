"""A Report as one page that needs no network: tables, crops, spectra, curves."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from metrics import METRICS
from tables import charts, words
from tables.charts import Style
from tables.crops import BICUBIC, crops_of
from tables.curves import curves_of, runs_by_data
from tables.html import (
    REDUCED_MARK,
    embedded,
    escaped,
    figure,
    line,
    lines_of,
    listed,
    reduced_words,
    small,
    spectral_axis,
)
from tables.html import table as html_table
from tables.rows import Report, Row, Table

# Reports of own scenes that are shown; each takes about half a megabyte of the page.
OWN_SCENES = 12


def page(report: Report) -> str:
    """The whole page as HTML text; what it cannot read of crops is added to the report's notes."""
    sections = list(_sections(report))
    links = [f'<a href="#{anchor}">{escaped(title)}</a>' for anchor, title, _ in sections if anchor]
    shown = [f'<section id="{anchor}">{text}</section>' if anchor else text for anchor, _, text in sections]
    name = escaped(report.folder.absolute().name)
    css = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Results below {name}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>\n{css}</style>\n</head>\n'
        f"<body>\n<header><h1>Results below {name}</h1><p>{_summary(report)}</p><nav>{' '.join(links)}</nav></header>\n"
        f"<main>{''.join(shown)}</main>\n</body>\n</html>\n"
    )


def _sections(report: Report) -> Iterator[tuple[str, str, str]]:
    """(anchor, title, HTML) of what the page links to; ("", "", HTML) of the rest."""
    styles = _styles(report)
    for k, table in enumerate(report.tables):
        yield f"t{k}", table.title, _table_section(table) + _bands(table, styles) + crops_of(table, styles, report)
    for k, (title, runs) in enumerate(runs_by_data(report).items()):
        if curves := curves_of(title, runs, styles):
            yield f"c{k}", f"Training, {title}", curves
    if report.shows_theta_rgb:
        title, head, numbers = words.theta_rgb_lines()
        yield "", "", f"<section>{_published(title, ['theta_rgb', *head], {'RMSE': numbers})}</section>"
    if report.own_scenes:
        yield "own", "Own scenes", _own_scenes(report)
    for title, items in words.asides(report):
        yield "", "", f"<section><h2>{escaped(title)}</h2>{listed(map(escaped, items))}</section>"


def _summary(report: Report) -> str:
    rows = [row for table in report.tables for row in table.rows]
    if not rows:
        return "No results of train or test."
    reduced = sum(row.is_reduced for row in rows)
    told = [f"{len(rows)} rows in {len(report.tables)} table{'s' if len(report.tables) > 1 else ''}."]
    if reduced:
        told.append(
            f"<strong>{'All' if reduced == len(rows) else reduced} of them {'are' if reduced > 1 else 'is'} "
            "<span class=mark>reduced</span></strong>: they differ from the published experiment in what is listed "
            "below each table, and are not comparable with its numbers."
        )
    return f"{' '.join(told)} {escaped(words.SPREAD)}"


def _styles(report: Report) -> dict[str, Style]:
    """{label: Style} of every row on the page, the same wherever it appears."""
    labels = dict.fromkeys(row.label for table in report.tables for row in table.rows)
    others = [label for label in labels if not label.startswith("Bicubic")]
    return dict.fromkeys(labels, BICUBIC) | {label: charts.style_of(k) for k, label in enumerate(others)}


def _table_section(table: Table) -> str:
    rows = {m: table.best(m) for m in table.metrics}
    best = {m: METRICS[m].format_value(row.mean(m)) for m, row in rows.items() if row}
    lines = []
    for kind, row, cells in words.lines_of(table):
        if kind == "ours":
            lines.append(_own_line(table, row, cells, best))
        else:
            shown = [*map(escaped, cells), *[""] * len(words.FACTS)]
            lines.append(line(escaped(words.name_in(kind, table, row)), shown, kind))
    bold = " Bold: the best of the column." if best else ""
    why = [f"<b>{escaped(who)}</b>: {escaped(', '.join(reasons))}" for who, reasons in table.reasons()]
    published = "".join(
        _published(theirs.source, ["Method", *words.headings(theirs.columns)], rows)
        for theirs, rows in table.not_comparable()
    )
    return (
        f"<h2>{escaped(table.title)}</h2><p>Protocol: {escaped(words.protocol_in_words(table))}.{bold}</p>"
        + html_table(["Method", *words.headings(table.metrics), *words.FACTS], lines)
        + (f'<div class="reasons"><h3>{escaped(words.REDUCED)}</h3>{listed(why)}</div>' if why else "")
        + published
    )


def _own_line(table: Table, row: Row, cells: Sequence[str], best: Mapping[str, str]) -> str:
    """A line of ours, what is best of its column in bold."""
    shown = []
    for metric, cell in zip(table.metrics, cells, strict=True):
        is_best = best.get(metric) == METRICS[metric].format_value(row.mean(metric))
        shown.append(f"<b>{small(cell)}</b>" if is_best else small(cell))
    name = escaped(row.label) + (REDUCED_MARK if row.is_reduced else "")
    return line(name, [*shown, *map(small, words.facts_of(row))], "ours")


def _published(source: str, head: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    lines = [line(escaped(name), map(escaped, numbers)) for name, numbers in rows.items()]
    title = f"{escaped(words.PUBLISHED_APART)}: {escaped(source)}"
    return f"<details open><summary>{title}</summary>{html_table(head, lines)}</details>"


def _bands(table: Table, styles: Mapping[str, Style]) -> str:
    """PSNR over the bands of all rows, and what each gains on bicubic."""
    recorded = {row.label: psnr for row in table.rows if (psnr := row.band_psnr()) is not None}
    if not recorded:
        return ""
    count = len(next(iter(recorded.values())))
    curves = {label: psnr for label, psnr in recorded.items() if len(psnr) == count}
    x, x_label = spectral_axis(next((r.wavelengths for row in table.rows for r in row.results), None), count)
    drawn = [charts.line_chart("PSNR by band", lines_of(curves, x, styles), x_label, "PSNR (dB)")]
    if "Bicubic" in curves and len(curves) > 1:
        gains = {label: psnr - curves["Bicubic"] for label, psnr in curves.items()}
        drawn.append(charts.line_chart("Gain on bicubic by band", lines_of(gains, x, styles), x_label, "gain (dB)"))
    about = f"{escaped(table.title)}{reduced_words(table.rows)}"
    caption = f"Each band’s PSNR, mean over the test scenes and seeds. {about}."
    return figure(drawn, {label: styles[label] for label in curves}, "Bands", caption)


def _own_scenes(report: Report) -> str:
    """The pictures that `predict --report 1` has drawn, the first of many."""
    figures = [
        f"<figure><h3>{escaped(scene.title)}</h3><div class='scroll'>"
        f"{embedded(scene.path.read_bytes(), f'report of {scene.title}', 'report')}</div><figcaption>"
        f"{escaped(report.below(scene.path))}: {escaped(scene.description)}.</figcaption></figure>"
        for scene in report.own_scenes[:OWN_SCENES]
    ]
    rest = [escaped(item) for _, items in words.own_scenes(report) for item in items[OWN_SCENES:]]
    told = f"<p>Not shown, to keep the page small:</p>{listed(rest)}" if rest else ""
    return (
        "<h2>Own scenes</h2><p>Made larger by <code>predict</code>; there is no ground truth to score "
        f"them by.</p>{''.join(figures)}{told}"
    )
