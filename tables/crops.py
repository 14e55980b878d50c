"""What the page shows of scenes that left crops: pictures of all rows, their errors, and spectra of some pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

import pictures
from evaluation import samples
from evaluation.samples import Sample
from system.errors import UserError
from tables.charts import Style, line_chart
from tables.html import REDUCED_MARK, escaped, figure, lines_of, picture, reduced_words, spectral_axis
from tables.rows import Report, Row, Table

HIGH_RES = Style("#111111", "", 2.2)
BICUBIC = Style("#767676", "6 4", 1.8)
# Pixels of a crop whose spectra are shown, how far apart they are, and how far from the border, in HR pixels.
PIXELS, APART, BORDER = 3, 16, 6
LETTERS = "ABC"


def crops_of(table: Table, styles: Mapping[str, Style], report: Report) -> str:
    """A section for each scene of a table that left crops; what cannot be read or compared is noted in the report."""
    found: dict[str, dict[Row, Sample]] = {}
    for row in table.rows:
        for sample in _read_samples(row, report):
            found.setdefault(sample.scene, {})[row] = sample
    return "".join(_scene(_comparable(table, scene, by_row, report), styles) for scene, by_row in found.items())


def telling_pixels(sample: Sample, other: np.ndarray) -> list[tuple[int, int]]:
    """(row, column) of the pixels where bicubic and another C x H x W cube differ most, apart from each other."""
    difference = _error(sample.lms, other)
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


@dataclass(frozen=True)
class _Crop:
    """One window of a scene as all rows of a table made it.

    Attributes:
        samples: of the rows, all of the same window.
        outputs: {label: C x H x W} of the rows but bicubic.
        best: the row of the best MPSNR but bicubic; None without one.
    """

    table: Table
    scene: str
    samples: Mapping[Row, Sample]

    @property
    def reference(self) -> Sample:
        return next(iter(self.samples.values()))

    @property
    def outputs(self) -> dict[str, np.ndarray]:
        return {row.label: s.output for row, s in self.samples.items() if row.method != "Bicubic"}

    @property
    def best(self) -> Row | None:
        rows = [row for row in self.samples if row.method != "Bicubic"]
        return max(rows, key=lambda row: row.mean("MPSNR"), default=None)

    @property
    def about(self) -> str:
        return f"{escaped(self.scene)}, {escaped(self.table.title)}{reduced_words(self.samples)}"


def _read_samples(row: Row, report: Report) -> list[Sample]:
    """The crops of the first of a row's results that has any."""
    for path in (samples.path_beside(r.path) for r in row.results):
        if path.is_file():
            try:
                return samples.read(path)
            except UserError as error:
                report.notes.append(str(error))
    return []


def _comparable(table: Table, scene: str, by_row: dict[Row, Sample], report: Report) -> _Crop:
    """The rows that show the same as the first one; the others are noted."""
    reference = next(iter(by_row.values()))
    same = {}
    for row, sample in by_row.items():
        if sample.corner == reference.corner and np.array_equal(sample.gt, reference.gt):
            same[row] = sample
        else:
            report.notes.append(
                f"{table.title}, {scene}: the crop of {row.label} shows something else, and is left out"
            )
    return _Crop(table, scene, same)


def _scene(crop: _Crop, styles: Mapping[str, Style]) -> str:
    best = crop.best
    pixels = telling_pixels(crop.reference, crop.samples[best].output if best else crop.reference.gt)
    chosen = (
        f"where bicubic and {escaped(best.label)} (the best MPSNR) differ most" if best else "where bicubic errs most"
    )
    return _pictures(crop, pixels) + _spectra(crop, pixels, styles, chosen)


def _pictures(crop: _Crop, pixels: Sequence[tuple[int, int]]) -> str:
    """False colour of truth, input and all rows, and the errors below."""
    reference, bands = crop.reference, crop.reference.shown
    white = pictures.compute_white_level(_image(reference.gt), bands)
    cubes = {"Bicubic": reference.lms, **crop.outputs}
    errors = {label: _error(cube, reference.gt) for label, cube in cubes.items()}
    full_scale = max(float(np.percentile(errors["Bicubic"], 99)), 1e-6)
    reduced = {row.label for row in crop.samples if row.is_reduced and row.method != "Bicubic"}

    def colours(cube: np.ndarray) -> np.ndarray:
        return pictures.render_false_colour(_image(cube), bands, white)

    tiles = [
        _tile("HR truth", _marked(colours(reference.gt), pixels), _colour_bar(full_scale), ""),
        _tile("LR input", picture(colours(reference.ms), "LR input"), _place_of(reference), ""),
    ]
    for label, error in errors.items():
        upper = picture(colours(cubes[label]), label)
        lower = picture(pictures.colour_errors(error, full_scale), f"errors of {label}")
        tiles.append(_tile(label, upper, lower, f"RMSE {np.sqrt(np.mean(error**2)):.5f}", label in reduced))
    wave = reference.wavelengths
    named = ", ".join(f"{wave[b]:g} nm" if wave is not None else f"band {b + 1}" for b in bands)
    return (
        f"<figure><h3>{escaped(crop.scene)}</h3><div class='tiles' style='--count:{len(tiles)}'>{''.join(tiles)}</div>"
        f"<figcaption>{crop.about}. Upper row: false colour ({escaped(named)}), all on one scale. Lower row: root mean "
        "squared error over the bands, all on the scale under “HR truth”, its end being the 99th percentile of "
        "bicubic’s errors. RMSE is of this crop; a row of several seeds shows its first.</figcaption></figure>"
    )


def _spectra(crop: _Crop, pixels: Sequence[tuple[int, int]], styles: Mapping[str, Style], chosen: str) -> str:
    """A chart of the spectra of each pixel."""
    reference, outputs = crop.reference, crop.outputs
    x, x_label = spectral_axis(reference.wavelengths, len(reference.gt))
    # What comes later is drawn over what came before.
    spectra = {"Bicubic": reference.lms, **outputs, "HR truth": reference.gt}
    shown = {"HR truth": HIGH_RES, "Bicubic": BICUBIC, **{label: styles[label] for label in outputs}}
    drawn = [
        line_chart(
            f"Pixel {letter}: row {reference.corner[0] + i}, column {reference.corner[1] + j}",
            lines_of({label: cube[:, i, j] for label, cube in spectra.items()}, x, shown),
            x_label,
            "value (0..1)",
        )
        for letter, (i, j) in zip(LETTERS, pixels, strict=False)
    ]
    caption = f"Spectra of the pixels marked on “HR truth”, {chosen}. {crop.about}."
    return figure(drawn, shown, f"{escaped(crop.scene)}: spectra", caption)


def _place_of(sample: Sample) -> str:
    """Where in its scene a crop is from."""
    edge, low = sample.gt.shape[1], sample.ms.shape[1]
    row, column = sample.corner
    return f'<div class="note">{edge} × {edge} HR pixels from row {row}, column {column}; {low} × {low} at LR</div>'


def _tile(title: str, upper: str, lower: str, words: str, is_reduced: bool = False) -> str:
    mark = REDUCED_MARK if is_reduced else ""
    return f'<div class="tile"><h4>{escaped(title)}{mark}</h4>{upper}{lower}<p>{escaped(words)}</p></div>'


def _marked(pixels: np.ndarray, marks: Sequence[tuple[int, int]]) -> str:
    """The picture with a ring and a letter at each of the marks."""
    height, width = pixels.shape[:2]
    rings = "".join(
        f'<circle class="below" cx="{j + 0.5}" cy="{i + 0.5}" r="3"/><circle cx="{j + 0.5}" cy="{i + 0.5}" r="3"/>'
        f'<text x="{j + 5 if j < width - 14 else j - 11}" y="{i - 3 if i > 12 else i + 11}">{letter}</text>'
        for letter, (i, j) in zip(LETTERS, marks, strict=False)
    )
    return (
        f'<div class="marked">{picture(pixels, "HR truth")}<svg viewBox="0 0 {width} {height}" aria-hidden="true">'
        f"{rings}</svg></div>"
    )


def _colour_bar(full_scale: float) -> str:
    """The errors' colour scale, upright, as large as a picture."""
    levels = np.linspace(0, 1, 9)
    colours = pictures.colour_errors(levels[None] * full_scale, full_scale)[0]
    stops = "".join(
        f'<stop offset="{1 - level:g}" stop-color="rgb({r},{g},{b})"/>'
        for level, (r, g, b) in reversed(list(zip(levels, colours, strict=True)))
    )
    ticks = "".join(
        f'<path d="M36 {10 + 80 * (1 - part):g}h3"/>'
        f'<text x="42" y="{13 + 80 * (1 - part):g}">{full_scale * part:.4f}</text>'
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


def _error(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return pictures.compute_error_map(_image(a), _image(b))


def _image(cube: np.ndarray) -> np.ndarray:
    """C x H x W -> H x W x C."""
    return cube.transpose(1, 2, 0)
