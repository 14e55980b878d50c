"""A Report as one page without external resources: computes its figures and pictures, templates/ lay them out."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

import pictures
import viewer
from facts import METRICS
from objectives import OBJECTIVES
from tables import charts, reduced
from tables.charts import Chart, Figure, Line, Style, line_chart
from tables.report import Crop, Curves, Report, Row, Table
from tables.texts import make_environment

HIGH_RES = Style("#111111", "", 2.2)
BICUBIC = Style("#767676", "6 4", 1.8)
# Diameter of the dots in scatter charts in px.
DOT = 10.0
# Metrics of validation.csv that are drawn.
VALIDATED = ("MPSNR", "SAM", "ERGAS")
# Pixels of a crop whose spectra are drawn: their number, distance from each other and from the border in HR pixels.
PIXELS, APART, BORDER = 3, 16, 6
LETTERS = "ABC"

Styles = Mapping[str, Style]


@dataclass(frozen=True)
class Section:
    """A table of the page with its figures, crops, and the viewer of the crops as HTML ("" without any)."""

    table: Table
    figures: Sequence[Figure]
    crops: Sequence["CropFigure"]
    viewer: str


def render_page(report: Report, refresh_seconds: float = 0) -> str:
    """Return the page as HTML; it reloads itself every refresh_seconds unless they are 0."""
    styles = _assign_styles(report)
    shown = [table for table in report.tables if table.crops]
    sections = []
    for table in report.tables:
        crops = [CropFigure(crop, table, styles) for crop in table.crops]
        scenes, budget = [crop.scene() for crop in crops], viewer.BUDGET_BYTES // max(1, len(shown))
        fragment = viewer.render_fragment(scenes, budget, table is shown[-1], level=4) if crops else ""
        figures = [draw_bands(table, styles), draw_costs(table, styles)]
        sections.append(Section(table, [figure for figure in figures if figure], crops, fragment))
    trainings = [(title, draw_training(title, curves, styles)) for title, curves in report.trainings.items()]
    files = {name: Markup((Path(__file__).parent / f"page.{name}").read_text("utf-8")) for name in ("css", "js")}
    return HTML.get_template("index.html").render(
        report=report,
        sections=sections,
        trainings=[(title, figure) for title, figure in trainings if figure.charts],
        summary=reduced.summarize([row.reasons for row in report.rows]),
        refresh_seconds=refresh_seconds,
        **files,
    )


def draw_bands(table: Table, styles: Styles) -> Figure | None:
    """Return the PSNR of all rows by band and their gain over bicubic; None if it is not recorded."""
    recorded = {row.label: psnr for row in table.rows if (psnr := row.band_psnr()) is not None}
    if not recorded:
        return None
    count = len(next(iter(recorded.values())))
    curves = {label: psnr for label, psnr in recorded.items() if len(psnr) == count}
    wavelengths = next((r.found.wavelengths for row in table.rows for r in row.results), None)
    x, x_label = pictures.get_spectral_axis(wavelengths, count)
    drawn = [line_chart("PSNR by band", _lines(curves, x, styles), x_label, "PSNR (dB)")]
    baselines = {row.label: base.label for row in table.rows if (base := table.baseline(row)) and base.label in curves}
    gains = {label: curves[label] - curves[base] for label, base in baselines.items() if label in curves}
    if gains:
        drawn.append(line_chart("Gain on bicubic by band", _lines(gains, x, styles), x_label, "gain (dB)"))
    about = f"{table.title}{reduced.describe_in_caption(table.reasons)}"
    caption = f"PSNR of each band, mean over the test scenes and seeds. {about}."
    return Figure(drawn, {label: styles[label] for label in curves}, caption, "Bands")


def draw_costs(table: Table, styles: Styles) -> Figure | None:
    """Return MPSNR against parameters and against training time; None unless two rows record either."""
    costs: list[tuple[str, str, dict[Row, float]]] = [
        ("parameters", "parameters (million)", {r: (r.config.get("parameters") or 0) / 1e6 for r in table.rows}),
        ("training time", "training time (minutes)", {r: (r.seconds or 0) / 60 for r in table.rows}),
    ]
    drawn: list[Chart] = []
    labels: dict[str, None] = {}
    for cost, x_label, values in costs:
        points = {row: value for row, value in values.items() if value > 0}
        if len(points) < 2:
            continue
        ends = np.array([min(points.values()), max(points.values())])
        bicubic = [row for row in table.rows if row.is_bicubic]
        lines = [Line(row.label, BICUBIC, ends, np.full(2, row.mean("MPSNR"))) for row in bicubic]
        for row, value in points.items():
            dot = replace(styles[row.label], dash="", width=DOT)
            lines.append(Line(row.label, dot, np.array([value]), np.array([row.mean("MPSNR")])))
        drawn.append(line_chart(f"PSNR against {cost}", lines, x_label, "MPSNR (dB)", is_scatter=True))
        labels |= dict.fromkeys(row.label for row in [*bicubic, *points])
    caption = (
        "Mean PSNR of each row against its size and mean training time, where they are recorded"
        f"{reduced.describe_in_caption({row.label: row.reasons for row in table.rows if row.label in labels})}."
    )
    return Figure(drawn, {label: styles[label] for label in labels}, caption, "Cost") if drawn else None


def draw_training(title: str, curves: Sequence[Curves], styles: Styles) -> Figure:
    """Return charts of the losses and validation metrics of runs; without charts if nothing is recorded."""
    drawn: list[Chart] = []

    def add_chart(title: str, file: str, x: str, y: str, y_label: str, logarithmic: bool = False) -> None:
        recorded = [(c.label, getattr(c, file)) for c in curves]
        recorded = [(label, columns) for label, columns in recorded if np.isfinite(columns.get(y, np.nan)).any()]
        if recorded:
            lines = [Line(label, styles[label], columns[x], columns[y]) for label, columns in recorded]
            drawn.append(line_chart(title, lines, x, y_label, logarithmic))

    for objective in OBJECTIVES.values():
        add_chart(objective.title, "log", "iteration", objective.name, "loss", logarithmic=True)
    for metric in VALIDATED:
        add_chart(f"Validation {metric}", "validation", "epoch", metric, METRICS[metric].heading)
    reasons = {c.label: c.reasons for c in curves}
    caption = (
        f"{title}: mean losses between rows of log.csv and, with validation scenes, their metrics after each "
        "epoch (validation.csv). One line for each run; seeds of a method share its colour"
        f"{reduced.describe_in_caption(reasons)}."
    )
    return Figure(drawn, {label: styles[label] for label in reasons}, caption)


class CropFigure:
    """Pictures, errors and spectra of a crop: all pictures on one scale, all errors on another.

    Attributes:
        cubes: {label: C x H x W} of bicubic and of every other row.
        rows: {label: row} of these, without bicubic.
        pixels: [(letter, row, column)] of the pixels whose spectra are drawn.
        full_scale: the error at the end of the colour scale.
        about: the end of captions.
        shown: {name: Style} of the spectra.
        best: label of the row with the best MPSNR, or None.
    """

    def __init__(self, crop: Crop, table: Table, styles: Styles) -> None:
        self.crop = crop
        self.rows = {row.label: row for row in crop.outputs if not row.is_bicubic}
        self.shown = {"HR truth": HIGH_RES, "Bicubic": BICUBIC, **{label: styles[label] for label in self.rows}}
        self.cubes = {"Bicubic": crop.lms, **{label: crop.outputs[row] for label, row in self.rows.items()}}
        self.white = pictures.compute_white_level(_to_image(crop.gt), crop.bands)
        self.full_scale = max(float(np.percentile(_error(crop.lms, crop.gt), 99)), 1e-6)
        reasons = {row.label: row.reasons for row in crop.outputs if not row.is_bicubic}
        self.about = f"{crop.scene}, {table.title}{reduced.describe_in_caption(reasons)}"
        best = max(self.rows, key=lambda label: self.rows[label].mean("MPSNR"), default=None)
        self.best = best
        chosen = f"where bicubic and {best} (the best MPSNR) differ most" if best else "where bicubic errs most"
        pixels = find_differing_pixels(crop.lms, self.cubes[best] if best else crop.gt)
        self.pixels = [(letter, *pixel) for letter, pixel in zip(LETTERS, pixels, strict=False)]
        caption = f"Spectra of the pixels marked on “HR truth”, {chosen}. {self.about}."
        self.spectra = self._draw_spectra(caption)

    def scene(self) -> viewer.Scene:
        """Return the crop as a scene of the viewer, with all rows as layers."""
        crop = self.crop
        cubes = {"LR input": crop.ms, **self.cubes, "HR truth": crop.gt}
        return viewer.Scene.from_arrays(
            crop.scene,
            {name: _to_image(cube) for name, cube in cubes.items()},
            before="Bicubic",
            after=self.best or "HR truth",
            reference="HR truth",
            rgb=crop.bands,
            x=crop.wavelengths,
            origin=crop.corner,
            styles={name: (self.shown[name].colour, self.shown[name].dash) for name in [*self.cubes, "HR truth"]},
            runs=None if crop.wavelengths is None else pictures.split_spectral_runs(crop.wavelengths),
        )

    def picture(self, cube: np.ndarray) -> str:
        """Return a cube in false colour as a data URI."""
        return encode_picture(pictures.render_false_colour(_to_image(cube), self.crop.bands, self.white))

    def errors(self, cube: np.ndarray) -> str:
        """Return the errors of a cube in colour as a data URI."""
        return encode_picture(pictures.colour_errors(_error(cube, self.crop.gt), self.full_scale))

    def rmse(self, cube: np.ndarray) -> float:
        """Return the root mean squared error of a cube."""
        return float(np.sqrt(np.mean(_error(cube, self.crop.gt) ** 2)))

    def colours(self) -> list[tuple[float, list[int]]]:
        """Return the colour scale of the errors, [(part of the full scale, [red, green, blue])]."""
        levels = np.linspace(0, 1, 9)
        return list(zip(levels.tolist(), pictures.colour_errors(levels[None], 1)[0].tolist(), strict=True))

    def band_names(self) -> list[str]:
        """Return the bands shown as red, green and blue in words."""
        waves = self.crop.wavelengths
        return [f"band {b + 1}" if waves is None else f"{waves[b]:g} nm" for b in self.crop.bands]

    def _draw_spectra(self, caption: str) -> Figure:
        row, column = self.crop.corner
        x, x_label = pictures.get_spectral_axis(self.crop.wavelengths, len(self.crop.gt))
        # Later lines are drawn over earlier ones.
        cubes = {**self.cubes, "HR truth": self.crop.gt}
        drawn = [
            line_chart(
                f"Pixel {letter}: row {row + i}, column {column + j}",
                _lines({label: cube[:, i, j] for label, cube in cubes.items()}, x, self.shown),
                x_label,
                "value (0..1)",
            )
            for letter, i, j in self.pixels
        ]
        return Figure(drawn, self.shown, caption, f"{self.crop.scene}: spectra")


def find_differing_pixels(cube: np.ndarray, other: np.ndarray) -> list[tuple[int, int]]:
    """Return (row, column) of the pixels where two C x H x W cubes differ most, apart from each other."""
    difference = _error(cube, other)
    height, width = difference.shape
    border = min(BORDER, height // 4, width // 4)
    difference[:border] = difference[height - border :] = -1
    difference[:, :border] = difference[:, width - border :] = -1
    rows, columns = np.mgrid[:height, :width]
    pixels: list[tuple[int, int]] = []
    while len(pixels) < PIXELS:
        i, j = np.unravel_index(difference.argmax(), difference.shape)
        if difference[i, j] < 0:
            break
        pixels.append((int(i), int(j)))
        difference[(rows - i) ** 2 + (columns - j) ** 2 < APART**2] = -1
    return pixels


def encode_picture(picture: np.ndarray | bytes) -> str:
    """Return an H x W x 3 uint8 array or the content of a PNG file as a data URI."""
    if isinstance(picture, np.ndarray):
        content = io.BytesIO()
        Image.fromarray(picture).save(content, format="PNG", optimize=True)
        picture = content.getvalue()
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def _assign_styles(report: Report) -> dict[str, Style]:
    """Return {label: Style} of every row, the same for all figures."""
    labels = dict.fromkeys(row.label for row in report.rows)
    labels |= dict.fromkeys(curves.label for runs in report.trainings.values() for curves in runs)
    rest = [label for label in labels if not label.startswith("Bicubic")]
    return dict.fromkeys(labels, BICUBIC) | {label: charts.numbered_style(k) for k, label in enumerate(rest)}


def _lines(curves: Mapping[str, np.ndarray], x: np.ndarray, styles: Styles) -> list[Line]:
    return [Line(label, styles[label], x, y) for label, y in curves.items()]


def _error(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return pictures.compute_error_map(_to_image(a), _to_image(b))


def _to_image(cube: np.ndarray) -> np.ndarray:
    """C x H x W -> H x W x C."""
    return cube.transpose(1, 2, 0)


HTML = make_environment()
HTML.globals |= {"charts": charts, "encode_picture": encode_picture}
