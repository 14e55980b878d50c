"""A Report of `tables.py` as one page that needs no network: tables, crops, spectra, curves."""

import base64
import csv
import html
import io

import numpy as np
from PIL import Image

import pictures
from evaluation import samples
from tables import charts, text
from utils import UserError

HIGH_RES = charts.Style("#111111", "", 2.2)
BICUBIC = charts.Style("#767676", "6 4", 1.8)
# Pixels of a crop whose spectra are shown, how far apart they are, and how far from the border, in HR pixels.
PIXELS, APART, BORDER = 3, 16, 6
# Reports of own scenes that are shown; each takes about half a megabyte of the page.
OWN_SCENES = 12
# Columns of log.csv and validation.csv that are drawn.
LOSSES = {
    "labelled": "Labelled loss",
    "mixup": "Spectral Mixup loss",
    "rgb": "RGB loss",
    "consistency": "Consistency loss",
}
VALIDATED = {"MPSNR": "MPSNR (dB)", "SAM": "SAM (°)", "ERGAS": "ERGAS"}


def page(report):
    """The whole page as HTML text; what it cannot read of crops is added to the report's notes."""
    styles = _styles(report)
    sections, links = [], []
    for k, table in enumerate(report.tables):
        links.append(f'<a href="#t{k}">{_(table.title)}</a>')
        sections.append(
            f'<section id="t{k}">{_table_section(table)}{_bands(table, styles)}{_scenes(table, styles, report)}</section>'
        )
    for k, (title, runs) in enumerate(_runs_by_data(report).items()):
        if curves := _curves(title, runs, styles):
            links.append(f'<a href="#c{k}">Training, {_(title)}</a>')
            sections.append(f'<section id="c{k}">{curves}</section>')
    if report.shows_theta_rgb:
        title, head, numbers = text.theta_rgb_lines()
        sections.append(f"<section>{_published(title, ['theta_rgb', *head], {'RMSE': numbers})}</section>")
    if report.own_scenes:
        links.append('<a href="#own">Own scenes</a>')
        sections.append(_own_scenes(report))
    asides = "".join(
        f"<section><h2>{_(title)}</h2><ul>{''.join(f'<li>{_(item)}</li>' for item in items)}</ul></section>"
        for title, items in text.asides(report)
    )
    name = _(report.folder.absolute().name)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Results below {name}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{_CSS}</style>\n</head>\n<body>\n'
        f"<header><h1>Results below {name}</h1><p>{_summary(report)}</p><nav>{' '.join(links)}</nav></header>\n"
        f"<main>{''.join(sections)}{asides}</main>\n</body>\n</html>\n"
    )


def _own_scenes(report):
    """The pictures that `predict --report 1` has drawn, the first of many."""
    figures = [
        f"<figure><h3>{_(scene.title)}</h3><div class='scroll'>"
        f"{_embedded(scene.path.read_bytes(), f'report of {scene.title}', 'report')}</div><figcaption>"
        f"{_(text.path_below(scene, report))}: {_(scene.description)}.</figcaption></figure>"
        for scene in report.own_scenes[:OWN_SCENES]
    ]
    ((_title, items),) = text.own_scenes(report)
    rest = "".join(f"<li>{_(item)}</li>" for item in items[OWN_SCENES:])
    words = f"<p>Not shown, to keep the page small:</p><ul>{rest}</ul>" if rest else ""
    return (
        '<section id="own"><h2>Own scenes</h2><p>Made larger by <code>predict</code>; there is no ground truth to score '
        f"them by.</p>{''.join(figures)}{words}</section>"
    )


def _summary(report):
    rows = [row for table in report.tables for row in table.rows]
    if not rows:
        return "No results of train or test."
    reduced = sum(row.is_reduced for row in rows)
    words = [f"{len(rows)} rows in {len(report.tables)} table{'s' if len(report.tables) > 1 else ''}."]
    if reduced:
        words.append(
            f"<strong>{'All' if reduced == len(rows) else reduced} of them {'are' if reduced > 1 else 'is'} "
            f"<span class=mark>reduced</span></strong>: they differ from the published experiment in what is listed below "
            "each table, and are not comparable with its numbers."
        )
    return f"{' '.join(words)} {_(text.SPREAD)}"


def _styles(report):
    """{label: Style} of every row on the page, the same wherever it appears."""
    labels = dict.fromkeys(row.label for table in report.tables for row in table.rows)
    others = [label for label in labels if not label.startswith("Bicubic")]
    return {label: BICUBIC for label in labels} | {label: charts.style_of(k) for k, label in enumerate(others)}


def _table_section(table):
    head = ["Method", *(text.HEADINGS[m][0] for m in table.metrics), *text.FACTS]
    best = {m: (row := table.best(m)) and text.metric_text(row.mean(m), m) for m in table.metrics}
    lines = []
    for kind, row, cells in text.lines_of(table):
        name = _(text.name_in(kind, table, row))
        if kind == "ours":
            name = _(row.label) + (' <span class="mark">reduced</span>' if row.is_reduced else "")
            cells = [
                f"<b>{_small(cell)}</b>" if best[m] == text.metric_text(row.mean(m), m) else _small(cell)
                for m, cell in zip(table.metrics, cells)
            ]
            cells += map(_small, text.facts_of(row))
        else:
            cells = [*map(_, cells), *[""] * len(text.FACTS)]
        lines.append(
            f'<tr class="{kind}"><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        )
    headings = "".join(f'<th scope="col">{_(h)}</th>' for h in head)
    why = "".join(f"<li><b>{_(who)}</b>: {_(', '.join(reasons))}</li>" for who, reasons in table.reasons())
    published = "".join(
        _published(theirs.source, ["Method", *(text.HEADINGS[m][0] for m in theirs.columns)], rows)
        for theirs, rows in table.not_comparable()
    )
    bold = " Bold: the best of the column." if any(best.values()) else ""
    return (
        f"<h2>{_(table.title)}</h2><p>Protocol: {_(text.protocol_in_words(table))}.{bold}</p>"
        f'<div class="scroll"><table><thead><tr>{headings}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
        + (f'<div class="reasons"><h3>{_(text.REDUCED)}</h3><ul>{why}</ul></div>' if why else "")
        + published
    )


def _published(source, head, rows):
    headings = "".join(f'<th scope="col">{_(h)}</th>' for h in head)
    lines = "".join(
        f'<tr><th scope="row">{_(name)}</th>{"".join(f"<td>{_(n)}</td>" for n in numbers)}</tr>'
        for name, numbers in rows.items()
    )
    return (
        f'<details open><summary>{_(text.PUBLISHED_APART)}: {_(source)}</summary><div class="scroll">'
        f"<table><thead><tr>{headings}</tr></thead><tbody>{lines}</tbody></table></div></details>"
    )


def _bands(table, styles):
    """PSNR over the bands of all rows, and what each gains on bicubic."""
    curves = {row.label: row.band_psnr() for row in table.rows}
    count = next((len(c) for c in curves.values() if c is not None), 0)
    curves = {label: c for label, c in curves.items() if c is not None and len(c) == count}
    if not curves:
        return ""
    x, x_label = _spectral_axis(next((r.wavelengths for row in table.rows for r in row.results), None), count)
    drawn = [charts.line_chart("PSNR by band", _lines(curves, x, styles), x_label, "PSNR (dB)")]
    if "Bicubic" in curves and len(curves) > 1:
        gains = {label: c - curves["Bicubic"] for label, c in curves.items()}
        drawn.append(charts.line_chart("Gain on bicubic by band", _lines(gains, x, styles), x_label, "gain (dB)"))
    caption = f"Each band’s PSNR, mean over the test scenes and seeds. {_(table.title)}{_reduced_words(table.rows)}."
    return _figure(drawn, {label: styles[label] for label in curves}, "Bands", caption)


def _scenes(table, styles, report):
    """For each scene that left crops: the pictures of all rows, their errors, and spectra of some pixels."""
    found = {}
    for row in table.rows:
        for sample in _read_samples(row, report):
            found.setdefault(sample.scene, {})[row] = sample
    return "".join(_scene(table, scene, by_row, styles, report) for scene, by_row in found.items())


def _read_samples(row, report):
    """The crops of the first of a row's results that has any."""
    for path in (samples.path_beside(r.path) for r in row.results):
        if path.is_file():
            try:
                return samples.read(path)
            except UserError as error:
                report.notes.append(str(error))
    return []


def _scene(table, scene, by_row, styles, report):
    reference = next(iter(by_row.values()))
    for row, sample in list(by_row.items()):
        if sample.corner != reference.corner or not np.array_equal(sample.gt, reference.gt):
            report.notes.append(
                f"{table.title}, {scene}: the crop of {row.label} shows something else, and is left out"
            )
            del by_row[row]
    outputs = {row.label: s.output for row, s in by_row.items() if row.method != "Bicubic"}
    errors = {label: _error(output, reference.gt) for label, output in {"Bicubic": reference.lms, **outputs}.items()}
    full_scale = max(float(np.percentile(errors["Bicubic"], 99)), 1e-6)
    rows = [row for row in by_row if row.method != "Bicubic"]
    best = max(rows, key=lambda row: row.mean("MPSNR"), default=None)
    pixels = _telling_pixels(reference, by_row[best].output if best else reference.gt)
    bands = reference.shown
    white = pictures.white_level(_image(reference.gt), bands)
    scale = reference.gt.shape[1] // reference.ms.shape[1]

    def colours(cube):
        return pictures.false_colour(_image(cube), bands, white)

    edge, column = reference.gt.shape[1], reference.corner[1]
    tiles = [
        _tile("HR truth", _marked(colours(reference.gt), pixels), _colour_bar(full_scale), ""),
        _tile(
            "LR input",
            _picture(colours(reference.ms), "LR input"),
            f'<div class="note">{edge} × {edge} HR pixels from row {reference.corner[0]}, column {column}; '
            f"{edge // scale} × {edge // scale} at LR</div>",
            "",
        ),
    ]
    reduced = {row.label for row in by_row if row.is_reduced and row.method != "Bicubic"}
    for label, error in errors.items():
        cube = outputs.get(label, reference.lms)
        tiles.append(
            _tile(
                label,
                _picture(colours(cube), label),
                _picture(pictures.colour_errors(error, full_scale), f"errors of {label}"),
                f"RMSE {np.sqrt(np.mean(error**2)):.5f}",
                label in reduced,
            )
        )
    x, x_label = _spectral_axis(reference.wavelengths, len(reference.gt))
    # What comes later is drawn over what came before.
    spectra = {"Bicubic": reference.lms, **outputs, "HR truth": reference.gt}
    shown = {"HR truth": HIGH_RES, "Bicubic": BICUBIC, **{label: styles[label] for label in outputs}}
    drawn = [
        charts.line_chart(
            f"Pixel {letter}: row {reference.corner[0] + i}, column {column + j}",
            _lines({label: cube[:, i, j] for label, cube in spectra.items()}, x, shown),
            x_label,
            "value (0..1)",
        )
        for letter, (i, j) in zip("ABC", pixels)
    ]
    wave = reference.wavelengths
    named = ", ".join(f"{wave[b]:g} nm" if wave is not None else f"band {b + 1}" for b in bands)
    words = _reduced_words(by_row)
    about = f"{_(scene)}, {_(table.title)}{words}"
    chosen = f"where bicubic and {_(best.label)} (the best MPSNR) differ most" if best else "where bicubic errs most"
    return (
        f"<figure><h3>{_(scene)}</h3><div class='tiles' style='--count:{len(tiles)}'>{''.join(tiles)}</div><figcaption>{about}. Upper row: false colour "
        f"({_(named)}), all on one scale. Lower row: root mean squared error over the bands, all on the scale under “HR truth”, "
        "its end being the 99th percentile of bicubic’s errors. RMSE is of this crop; a row of several seeds shows its first."
        f"</figcaption></figure>"
        + _figure(
            drawn, shown, f"{_(scene)}: spectra", f"Spectra of the pixels marked on “HR truth”, {chosen}. {about}."
        )
    )


def _telling_pixels(sample, other):
    """(row, column) of the pixels where bicubic and another cube differ most, apart from each other."""
    difference = _error(sample.lms, other)
    height, width = difference.shape
    border = min(BORDER, height // 4, width // 4)
    difference[:border] = difference[height - border :] = -1
    difference[:, :border] = difference[:, width - border :] = -1
    rows, columns = np.mgrid[:height, :width]
    pixels = []
    for _number in range(PIXELS):
        i, j = np.unravel_index(difference.argmax(), difference.shape)
        if difference[i, j] < 0:
            break
        pixels.append((int(i), int(j)))
        difference[(rows - i) ** 2 + (columns - j) ** 2 < APART**2] = -1
    return pixels


def _runs_by_data(report):
    """{data set and scale: {run folder: (label, is reduced)}}, each run once whatever it was scored under."""
    found = {}
    for table in report.tables:
        for row in table.rows:
            for result in row.results:
                if result.run_dir:
                    runs = found.setdefault(f"{table.dataset} x{table.scale}", {})
                    runs.setdefault(result.run_dir.resolve(), (row.label, row.is_reduced))
    return found


def _curves(title, runs, styles):
    """Losses and validation of all runs side by side."""
    logs = [
        (label, _read_curves(folder / "log.csv"), _read_curves(folder / "validation.csv"))
        for folder, (label, _r) in runs.items()
    ]
    drawn = []
    for branch, name in LOSSES.items():
        lines = [
            charts.Line(label, styles[label], log["iteration"], log[branch])
            for label, log, _validation in logs
            if branch in log and np.isfinite(log[branch]).any()
        ]
        if lines:
            drawn.append(charts.line_chart(name, lines, "iteration", "loss", logarithmic=True))
    for metric, y_label in VALIDATED.items():
        lines = [
            charts.Line(label, styles[label], validation["epoch"], validation[metric])
            for label, _log, validation in logs
            if metric in validation
        ]
        if lines:
            drawn.append(charts.line_chart(f"Validation {metric}", lines, "epoch", y_label))
    if not drawn:
        return ""
    reduced = sum(r for _label, r in runs.values())
    words = (
        ""
        if not reduced
        else "; all runs are reduced"
        if reduced == len(runs)
        else f"; {reduced} of {len(runs)} runs are reduced"
    )
    caption = (
        f"{_(title)}: mean losses between rows of log.csv and, where there are validation scenes, their metrics "
        f"after each epoch (validation.csv). One line for each run: seeds of a method share its colour{words}."
    )
    shown = {label: styles[label] for label in dict.fromkeys(label for label, _r in runs.values())}
    return f"<h2>Training, {_(title)}</h2>" + _figure(drawn, shown, "", caption)


def _read_curves(path):
    """The columns of a log.csv or validation.csv as {name: array}, NaN where a field is empty; {} if unreadable."""
    try:
        with open(path, newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
        return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}
    except (OSError, ValueError, IndexError, TypeError):
        return {}


def _lines(curves, x, styles):
    return [charts.Line(label, styles[label], x, np.asarray(y)) for label, y in curves.items()]


def _spectral_axis(wavelengths, count):
    if wavelengths is not None and len(wavelengths) == count:
        return np.asarray(wavelengths), "wavelength (nm)"
    return np.arange(1, count + 1), "band"


def _reduced_words(rows):
    labels = [row.label for row in rows if row.is_reduced]
    return (
        f"; reduced: {_('; '.join(labels))}"
        if labels and len(labels) < len(list(rows))
        else "; all rows reduced"
        if labels
        else ""
    )


def _figure(drawn, styles, title, caption):
    heading = f"<h3>{title}</h3>" if title else ""
    return f"<figure>{heading}<div class='charts'>{''.join(drawn)}</div>{charts.legend(styles)}<figcaption>{caption}</figcaption></figure>"


def _tile(title, upper, lower, words, reduced=False):
    mark = ' <span class="mark">reduced</span>' if reduced else ""
    return f'<div class="tile"><h4>{_(title)}{mark}</h4>{upper}{lower}<p>{_(words)}</p></div>'


def _picture(pixels, description):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG", optimize=True)
    return _embedded(content.getvalue(), description)


def _embedded(png, description, css_class=""):
    data = base64.b64encode(png).decode()
    kind = f' class="{css_class}"' if css_class else ""
    return f'<img{kind} src="data:image/png;base64,{data}" alt="{_(description)}">'


def _marked(pixels, marks):
    """The picture with a ring and a letter at each of the marks."""
    height, width = pixels.shape[:2]
    rings = "".join(
        f'<circle class="below" cx="{j + 0.5}" cy="{i + 0.5}" r="3"/><circle cx="{j + 0.5}" cy="{i + 0.5}" r="3"/>'
        f'<text x="{j + 5 if j < width - 14 else j - 11}" y="{i - 3 if i > 12 else i + 11}">{letter}</text>'
        for letter, (i, j) in zip("ABC", marks)
    )
    return (
        f'<div class="marked">{_picture(pixels, "HR truth")}<svg viewBox="0 0 {width} {height}" aria-hidden="true">'
        f"{rings}</svg></div>"
    )


def _colour_bar(full_scale):
    """The errors' colour scale, upright, as large as a picture."""
    levels = np.linspace(0, 1, 9)
    colours = pictures.colour_errors(levels[None] * full_scale, full_scale)[0]
    stops = "".join(
        f'<stop offset="{1 - level:g}" stop-color="rgb({r},{g},{b})"/>'
        for level, (r, g, b) in reversed(list(zip(levels, colours)))
    )
    ticks = "".join(
        f'<path d="M36 {10 + 80 * (1 - part):g}h3"/><text x="42" y="{13 + 80 * (1 - part):g}">{full_scale * part:.4f}</text>'
        for part in (0, 0.25, 0.5, 0.75, 1)
    )
    # Each colour bar needs a name of its own on the page; equal scales may share one.
    name = f"bar{full_scale:.9f}"
    return (
        f'<svg class="bar" viewBox="0 0 100 100" role="img" aria-label="error colours from 0 to {full_scale:.4f}">'
        f'<linearGradient id="{name}" x1="0" y1="0" x2="0" y2="1">{stops}</linearGradient>'
        f'<rect x="20" y="10" width="16" height="80" fill="url(#{name})"/>{ticks}'
        '<text transform="translate(13 50) rotate(-90)" text-anchor="middle">RMSE over bands</text></svg>'
    )


def _error(a, b):
    return pictures.error_map(_image(a), _image(b))


def _image(cube):
    return cube.transpose(1, 2, 0)


def _small(cell):
    """A cell with its spread, or what is in brackets, in small letters below."""
    main, sign, rest = _(cell).partition(" ± ")
    if sign:
        return f"{main}<small>±&nbsp;{rest}</small>"
    main, bracket, rest = main.partition(" (")
    return f"{main}<small>{rest.removesuffix(')')}</small>" if bracket else main


def _(value):
    return html.escape(str(value))


_CSS = """
:root{color-scheme:light;--ink:#1a1a1a;--soft:#5b6068;--line:#d9dce1;--mark:#9a3412}
*{box-sizing:border-box}
body{margin:0;font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;color:var(--ink);background:#fff}
header,main{max-width:1240px;margin:0 auto;padding:0 20px}
h1{font-size:26px;margin:28px 0 4px}
h2{font-size:20px;margin:44px 0 4px;padding-top:14px;border-top:2px solid var(--ink)}
h3{font-size:16px;margin:24px 0 8px}
h4{font-size:13px;margin:0 0 4px;line-height:1.3;display:flex;flex-direction:column;justify-content:flex-end;align-items:flex-start}
p{margin:4px 0 12px}
nav{display:flex;flex-wrap:wrap;gap:4px 20px}
a{color:#0b5394}
.mark{font-size:11px;font-weight:600;color:var(--mark);border:1px solid #e3b59f;border-radius:3px;padding:0 4px;background:#fff6f1;white-space:nowrap}
.scroll{overflow-x:auto;margin:8px 0}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums;border-top:2px solid var(--ink);border-bottom:2px solid var(--ink)}
th,td{padding:5px 8px;text-align:right;vertical-align:top;font-weight:400}
td small{display:block;color:var(--soft);font-size:11px;white-space:nowrap}
thead th{font-weight:600;border-bottom:1px solid var(--ink);vertical-align:bottom}
tbody th,thead th:first-child{text-align:left;min-width:150px;position:sticky;left:0;background:#fff}
tr.ours>*,details tbody tr>*{border-top:1px solid var(--line)}
tr.published>*,tr.difference>*{color:var(--soft);padding-top:0}
tr.published th,tr.difference th{padding-left:22px}
.reasons{border-left:3px solid var(--mark);padding:1px 14px;margin:16px 0;background:#fffaf7;font-size:13px}
.reasons h3{font-size:13px;margin:8px 0 4px}
.reasons ul,main ul{margin:4px 0 10px;padding-left:20px}
details{margin:10px 0;font-size:14px}
summary{cursor:pointer}
figure{margin:20px 0}
figcaption{font-size:13px;color:var(--soft);max-width:900px;margin-top:8px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));gap:12px 20px}
.chart{width:100%;max-width:560px;height:auto;font-size:12px;fill:var(--ink)}
.chart .title{font-weight:600;font-size:13px}
.chart .grid{stroke:#e6e8eb;fill:none}
.chart .axis{stroke:#555;fill:none}
.line{fill:none;stroke-linejoin:round}
.line:not([stroke-dasharray]){stroke-linecap:round}
main ul.legend{list-style:none;display:flex;flex-wrap:wrap;gap:2px 20px;padding:0;font-size:13px}
.key{width:28px;height:10px;margin-right:7px}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(max(150px,min(230px,(100% - (var(--count) - 1)*12px)/var(--count))),1fr));gap:16px 12px}
.tile{display:grid;grid-template-rows:subgrid;grid-row:span 4;gap:4px}
.tile img,.bar,.note{width:100%;aspect-ratio:1;display:block;image-rendering:pixelated}
.tile p{font-size:12px;margin:0;color:var(--soft);font-variant-numeric:tabular-nums}
.report{width:100%;min-width:700px;max-width:1000px;display:block}
.note{font-size:12px;color:var(--soft);padding-top:6px}
.bar{font-size:7.5px;fill:var(--ink)}
.bar path{stroke:var(--ink);stroke-width:.6}
.marked{position:relative}
.marked svg{position:absolute;inset:0;width:100%;height:100%;font:700 9px system-ui,sans-serif}
.marked circle{fill:none;stroke:#fff;stroke-width:1}
.marked .below{stroke:#000;stroke-width:2.2}
.marked text{fill:#fff;stroke:#000;stroke-width:1.6;paint-order:stroke}
"""
