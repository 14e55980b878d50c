"""A Report as one page without external resources: computes its figures and pictures, templates/ lay them out."""

import base64
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

import pictures
from metrics import METRICS
from objectives import OBJECTIVES
from tables import charts, reduced
from tables.charts import Chart, Figure, Line, Style, line_chart
from tables.report import Crop, Report, Row, Table, Training
from tables.texts import make_environment

HIGH_RES = Style("#111111", "", 2.2)
BICUBIC = Style("#767676", "6 4", 1.8)
# Metrics of validation.csv that are drawn.
VALIDATED = ("MPSNR", "SAM", "ERGAS")
# Pixels of a crop whose spectra are drawn: their number, distance from each other and from the border in HR pixels.
PIXELS, APART, BORDER = 3, 16, 6
LETTERS = "ABC"

Styles = Mapping[str, Style]


@dataclass(frozen=True)
class Output:
    """A row's picture of a crop and the errors below it, as data URIs, and the crop's RMSE."""

    label: str
    is_reduced: bool
    picture: str
    errors: str
    rmse: float


@dataclass(frozen=True)
class CropFigure:
    """The pictures and spectra of a Crop.

    Attributes:
        pixels: [(letter, row, column)] of the pixels whose spectra are drawn.
        truth, low_res: pictures as data URIs.
        full_scale: the error at the end of the colour scale.
        colours: [(part of the full scale, (red, green, blue))].
        bands: the bands of the false-colour pictures in words.
        about: the end of captions.
    """

    crop: Crop
    pixels: list[tuple[str, int, int]]
    truth: str
    low_res: str
    outputs: list[Output]
    full_scale: float
    colours: list[tuple[float, list[int]]]
    bands: str
    about: str
    spectra: Figure


def render_page(report: Report) -> str:
    """Return the page as HTML."""
    styles = _assign_styles(report)
    sections = [
        (table, draw_bands(table, styles), [draw_crop(crop, table, styles) for crop in table.crops])
        for table in report.tables
    ]
    trainings = [(training.title, draw_training(training, styles)) for training in report.trainings]
    css = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    return HTML.get_template("index.html").render(
        report=report,
        sections=sections,
        trainings=[(title, figure) for title, figure in trainings if figure.charts],
        summary=reduced.summarize([row.reasons for row in report.rows]),
        css=Markup(css),
    )


def draw_bands(table: Table, styles: Styles) -> Figure | None:
    """Return the PSNR of all rows by band and their gain over bicubic; None if it is not recorded."""
    recorded = {row.label: psnr for row in table.rows if (psnr := row.band_psnr()) is not None}
    if not recorded:
        return None
    count = len(next(iter(recorded.values())))
    curves = {label: psnr for label, psnr in recorded.items() if len(psnr) == count}
    wavelengths = next((r.found.wavelengths for row in table.rows for r in row.results), None)
    x, x_label = _spectral_axis(wavelengths, count)
    drawn = [line_chart("PSNR by band", _lines(curves, x, styles), x_label, "PSNR (dB)")]
    if "Bicubic" in curves and len(curves) > 1:
        gains = {label: psnr - curves["Bicubic"] for label, psnr in curves.items()}
        drawn.append(line_chart("Gain on bicubic by band", _lines(gains, x, styles), x_label, "gain (dB)"))
    about = f"{table.title}{reduced.describe_in_caption(table.reasons)}"
    caption = f"PSNR of each band, mean over the test scenes and seeds. {about}."
    return Figure(drawn, {label: styles[label] for label in curves}, caption, "Bands")


def draw_training(training: Training, styles: Styles) -> Figure:
    """Return charts of the losses and validation metrics of runs; without charts if nothing is recorded."""
    rows = [curves.row for curves in training.curves]
    caption = (
        f"{training.title}: mean losses between rows of log.csv and, with validation scenes, their metrics after each "
        "epoch (validation.csv). One line for each run; seeds of a method share its colour"
        f"{reduced.describe_in_caption({row.label: row.reasons for row in rows})}."
    )
    return Figure(list(_training_charts(training, styles)), {row.label: styles[row.label] for row in rows}, caption)


def _training_charts(training: Training, styles: Styles) -> Iterator[Chart]:
    def lines(columns: Iterable[tuple[Row, Mapping[str, np.ndarray]]], x: str, y: str) -> list[Line]:
        found = [(row, column) for row, column in columns if y in column and (np.isfinite(column[y]).any())]
        return [Line(row.label, styles[row.label], column[x], column[y]) for row, column in found]

    for objective in OBJECTIVES.values():
        if losses := lines([(c.row, c.log) for c in training.curves], "iteration", objective.name):
            yield line_chart(objective.title, losses, "iteration", "loss", logarithmic=True)
    for metric in VALIDATED:
        if values := lines([(c.row, c.validation) for c in training.curves], "epoch", metric):
            yield line_chart(f"Validation {metric}", values, "epoch", METRICS[metric].heading)


def draw_crop(crop: Crop, table: Table, styles: Styles) -> CropFigure:
    """Return false-colour pictures and errors of bicubic and all rows, and spectra of the pixels that differ most."""
    outputs = {row: output for row, output in crop.outputs.items() if not row.is_bicubic}
    best = max(outputs, key=lambda row: row.mean("MPSNR"), default=None)
    pixels = find_differing_pixels(crop.lms, outputs[best] if best else crop.gt)
    cubes = {"Bicubic": crop.lms, **{row.label: output for row, output in outputs.items()}}
    marked = {row.label for row in outputs if row.is_reduced}
    errors = {label: _error(cube, crop.gt) for label, cube in cubes.items()}
    full_scale = max(float(np.percentile(errors["Bicubic"], 99)), 1e-6)
    white = pictures.white_level(_to_image(crop.gt), crop.bands)
    levels = np.linspace(0, 1, 9)
    colours = pictures.colour_errors(levels[None] * full_scale, full_scale)[0].tolist()
    reasons = {row.label: row.reasons for row in crop.outputs}
    about = f"{crop.scene}, {table.title}{reduced.describe_in_caption(reasons)}"
    chosen = f"where bicubic and {best.label} (the best MPSNR) differ most" if best else "where bicubic errs most"

    def false_colour(cube: np.ndarray) -> str:
        return encode_picture(pictures.false_colour(_to_image(cube), crop.bands, white))

    return CropFigure(
        crop=crop,
        pixels=[(letter, *pixel) for letter, pixel in zip(LETTERS, pixels, strict=False)],
        truth=false_colour(crop.gt),
        low_res=false_colour(crop.ms),
        outputs=[
            Output(
                label=label,
                is_reduced=label in marked,
                picture=false_colour(cubes[label]),
                errors=encode_picture(pictures.colour_errors(error, full_scale)),
                rmse=float(np.sqrt(np.mean(error**2))),
            )
            for label, error in errors.items()
        ],
        full_scale=full_scale,
        colours=list(zip(levels.tolist(), colours, strict=True)),
        bands=", ".join(
            f"band {b + 1}" if crop.wavelengths is None else f"{crop.wavelengths[b]:g} nm" for b in crop.bands
        ),
        about=about,
        spectra=_draw_spectra(
            crop, cubes, pixels, styles, f"Spectra of the pixels marked on “HR truth”, {chosen}. {about}."
        ),
    )


def _draw_spectra(
    crop: Crop, cubes: Mapping[str, np.ndarray], pixels: Sequence[tuple[int, int]], styles: Styles, caption: str
) -> Figure:
    x, x_label = _spectral_axis(crop.wavelengths, len(crop.gt))
    shown = {"HR truth": HIGH_RES, **{label: styles.get(label, BICUBIC) for label in cubes}}
    # Later lines are drawn over earlier ones.
    drawn = [
        line_chart(
            f"Pixel {letter}: row {crop.corner[0] + i}, column {crop.corner[1] + j}",
            _lines({label: cube[:, i, j] for label, cube in {**cubes, "HR truth": crop.gt}.items()}, x, shown),
            x_label,
            "value (0..1)",
        )
        for letter, (i, j) in zip(LETTERS, pixels, strict=False)
    ]
    return Figure(drawn, shown, caption, f"{crop.scene}: spectra")


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
    rest = [label for label in labels if not label.startswith("Bicubic")]
    return dict.fromkeys(labels, BICUBIC) | {label: charts.numbered_style(k) for k, label in enumerate(rest)}


def _lines(curves: Mapping[str, np.ndarray], x: np.ndarray, styles: Styles) -> list[Line]:
    return [Line(label, styles[label], x, y) for label, y in curves.items()]


def _spectral_axis(wavelengths: Sequence[float] | np.ndarray | None, count: int) -> tuple[np.ndarray, str]:
    """Return (x, label) of the bands: wavelengths if they are known, else numbers from 1."""
    if wavelengths is not None and len(wavelengths) == count:
        return np.asarray(wavelengths), "wavelength (nm)"
    return np.arange(1, count + 1), "band"


def _error(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return pictures.error_map(_to_image(a), _to_image(b))


def _to_image(cube: np.ndarray) -> np.ndarray:
    """C x H x W -> H x W x C."""
    return cube.transpose(1, 2, 0)


HTML = make_environment()
HTML.globals |= {"charts": charts, "encode_picture": encode_picture}
