"""Report of a result without ground truth, as a picture and as an interactive page: overview, spectra, errors."""

import io
from typing import Any

import numpy as np

import pictures
import viewer
from formats.calibration import read_unit
from predict import findings
from predict.findings import Comparison, Findings
from system.errors import UserError
from utils import as_utf8

# Edge of the detail that is shown pixel for pixel.
DETAIL = 48
# Of the page in inches, at 100 pixels an inch.
PAGE = (15, 17)
# More bands than this are drawn without a dot each.
MOST_DOTS = 60
# Pixels along the edges of the static picture of the viewer page, at most.
STATIC = (960, 640)
# LR values that the histogram counts, at most.
HISTOGRAM_VALUES = 2**22


def check_library() -> None:
    """Refuse a report without matplotlib before any work.

    Raises:
        UserError: if it is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UserError(
            "--report 1 needs the package matplotlib; pip install matplotlib, or leave the flag out"
        ) from error


def draw(comparison: Comparison, found: Findings) -> bytes:
    """Return the report as a PNG file, which contains a title and a description for the command `tables`."""
    page = _Page(comparison, found)
    page.draw_overview()
    if page.found.spots:
        page.draw_detail()
        page.draw_spectra()
    page.draw_errors()
    return page.encode()


def render_viewer(comparison: Comparison, found: Findings) -> str:
    """Return the interactive report as an HTML page: LR input, bicubic and result, re-degradation errors, histogram."""
    raster, scale = comparison.raster, comparison.scale
    height, width, bands = raster.shape
    layers = {"LR input": 1, "bicubic": scale, "super-resolved": scale}

    def read(rows: slice, cols: slice) -> dict[str, np.ndarray]:
        strip = comparison.read_strip(rows.start, rows.stop, cols.start, cols.stop)
        if strip is None:
            shape = rows.stop - rows.start, cols.stop - cols.start
            return {name: np.full((shape[0] * s, shape[1] * s, bands), np.nan) for name, s in layers.items()}
        images = (strip.lr, strip.bicubic, strip.sr)
        return {name: strip.mask_missing(image) for name, image in zip(layers, images, strict=True)}

    name, white = as_utf8(raster.path.name), _compute_white_level(found)
    compared = [pictures.render_false_colour(image, [0, 1, 2], white) for image in found.overview[1:]]
    picture = io.BytesIO()
    sheet = pictures.draw_contact_sheet([(compared[0], "bicubic"), (compared[1], "super-resolved")], columns=2)
    sheet.thumbnail(STATIC)
    sheet.save(picture, "png")
    scene = viewer.Scene(
        name=name,
        shape=(height, width, bands),
        layers=layers,
        read=read,
        before="bicubic",
        after="super-resolved",
        reference="bicubic",
        rgb=found.shown,
        x=raster.wavelengths,
        runs=None if raster.wavelengths is None else pictures.split_spectral_runs(raster.wavelengths),
        focus=found.spots[0] if found.spots else None,
        picture=picture.getvalue(),
        picture_text="False colour: bicubic upsampling (left) and super-resolved (right)",
        charts=_draw_charts(comparison, found),
    )
    introduction = (
        f"{width} x {height} pixels and {bands} bands, super-resolved by x{scale}. Differences and spectral angles "
        "refer to bicubic upsampling, since the scene has no ground truth: they are what the network added, not errors."
    )
    return viewer.render_page(f"Super-resolution of {name}", introduction, [scene])


def _draw_charts(comparison: Comparison, found: Findings) -> list[str]:
    """Draw the re-degradation errors by band, and a histogram of the LR values with the full-scale value marked."""
    full_scale = comparison.calibration.scale
    x, x_label = pictures.get_spectral_axis(comparison.raster.wavelengths, len(found.rmse))
    errors = viewer.draw_lines(
        "Re-degradation error against the LR input",
        x,
        {"bicubic": found.bicubic_rmse, "super-resolved": found.rmse},
        (x_label, "RMSE (full scale = 1)"),
        pictures.split_spectral_runs(x),
    )
    histogram = viewer.draw_histogram(
        "Values of the LR input, all bands",
        _sample_values(comparison) * full_scale,
        {f"full-scale value {full_scale:g}": full_scale},
        ("physical value" if comparison.calibration.scaling else "value in the file", "share of the values (%)"),
    )
    return [errors, histogram]


def _sample_values(comparison: Comparison) -> np.ndarray:
    """Return valid LR values in parts of full scale, of rows over the whole height."""
    height, width, bands = comparison.raster.shape
    count = max(1, min(height, HISTOGRAM_VALUES // (width * bands)))
    rows = np.unique(np.linspace(0, height - 1, count).astype(int))
    values = [np.zeros(0, dtype=np.float32)]
    for row in rows:
        unit, missing = read_unit(comparison.raster, comparison.calibration, slice(row, row + 1), slice(0, width))
        if unit is not None:
            values.append(unit.ravel() if missing is None else unit[~missing])
    return np.concatenate(values)


def _compute_white_level(found: Findings) -> float:
    return pictures.compute_white_level(found.overview[0], [0, 1, 2])


class _Page:
    """The report being drawn."""

    def __init__(self, comparison: Comparison, found: Findings) -> None:
        from matplotlib import colormaps
        from matplotlib.figure import Figure

        self.comparison, self.found = comparison, found
        raster, scale = comparison.raster, comparison.scale
        height, width, bands = raster.shape
        self.x, self.x_label = pictures.get_spectral_axis(raster.wavelengths, bands)
        self.white = _compute_white_level(found)
        self.colours = [colormaps["tab10"](k) for k in range(findings.SPOTS)]
        self.figure = Figure(figsize=PAGE, layout="constrained")
        self.grid = self.figure.add_gridspec(4, 12, height_ratios=(4, 4, 3, 3))
        self.heading = (
            f"{as_utf8(raster.path.name)}: {width} x {height} x {bands} to {width * scale} x {height * scale}"
        )
        shown = ", ".join(f"{self.x[k]:g}" for k in self.found.shown) + ("" if raster.wavelengths is None else " nm")
        grey = "; grey: no data" if np.isnan(self.found.overview[0]).any() else ""
        self.figure.suptitle(f"{self.heading}, false colour {shown}{grey}", fontsize=14, parse_math=False)

    def draw_overview(self) -> None:
        """Draw the whole scene three times (LR, bicubic, SR), and mark the pixels of the spectra."""
        step = self.found.step
        thinned = f", every {step}th LR pixel" if step > 1 else ""
        scale_of = {"LR input": 1, "bicubic": self.comparison.scale, "super-resolved": self.comparison.scale}
        for k, (image, (title, scale)) in enumerate(zip(self.found.overview, scale_of.items(), strict=True)):
            panel = self.figure.add_subplot(self.grid[0, 4 * k : 4 * k + 4])
            extent = (0, image.shape[1] / scale, image.shape[0] / scale, 0)
            colours = pictures.render_false_colour(image, [0, 1, 2], self.white)
            panel.imshow(colours, extent=extent, interpolation="nearest")
            panel.set_title(title + thinned)
            panel.set_axis_off()
            for (row, col), colour in zip(self.found.spots, self.colours, strict=False):
                panel.plot((col + 0.5) / step, (row + 0.5) / step, "o", ms=12, mfc="none", mec=colour, mew=2)

    def draw_detail(self) -> None:
        """Draw the surroundings of the most different pixel, pixel for pixel."""
        height, width, _ = self.comparison.raster.shape
        row, col = self.found.spots[0]
        top, left = (max(0, min(size - DETAIL, at - DETAIL // 2)) for at, size in ((row, height), (col, width)))
        strip = self.comparison.read_strip(top, min(height, top + DETAIL), left, min(width, left + DETAIL))
        assert strip is not None, "where the result differs, there are data"
        for k, image in enumerate((strip.lr, strip.bicubic, strip.sr)):
            panel = self.figure.add_subplot(self.grid[1, 4 * k : 4 * k + 4])
            colours = pictures.render_false_colour(strip.mask_missing(image), self.found.shown, self.white)
            panel.imshow(colours, interpolation="nearest")
            panel.set_title(f"around row {row}, column {col} of the LR image")
            panel.set_axis_off()

    def draw_spectra(self) -> None:
        """Draw the LR, bicubic and SR spectra of the pixels in which SR and bicubic differ most."""
        scale = self.comparison.scale
        for k, ((row, col), colour) in enumerate(zip(self.found.spots, self.colours, strict=False)):
            strip = self.comparison.read_strip(row, row + 1, col, col + 1)
            assert strip is not None, "where the result differs, there are data"
            lr, bicubic, sr = (strip.mask_missing(image) for image in (strip.lr, strip.bicubic, strip.sr))
            difference = np.nansum((sr - bicubic) ** 2, axis=2)
            place = np.unravel_index(np.argmax(difference), difference.shape)
            panel = self.figure.add_subplot(self.grid[2, 3 * k : 3 * k + 3])
            self._plot(panel, lr[0, 0], color="0.6", label="LR")
            self._plot(panel, bicubic[place], linestyle="--", color=colour, label="bicubic")
            self._plot(panel, sr[place], color=colour, label="super-resolved")
            panel.set_title(f"row {row * scale + place[0]}, column {col * scale + place[1]}", fontsize=10)
            panel.set_xlabel(self.x_label)
            self._mark_detail(panel)
            if k == 0:
                panel.legend(fontsize=8)

    def draw_errors(self) -> None:
        """Draw the re-degradation error of bicubic and SR in each band."""
        panel = self.figure.add_subplot(self.grid[3, :])
        marker = "." if len(self.x) < MOST_DOTS else None
        errors = ((self.found.bicubic_rmse, "bicubic"), (self.found.rmse, "super-resolved"))
        for (error, title), colour in zip(errors, ("C0", "C1"), strict=True):
            label = f"{title}: {_format_rmse(error)} over {_describe_bands(error)}"
            self._plot(panel, error, color=colour, label=label, marker=marker)
        panel.set_title("downsampled again against the LR input: RMSE per band, in parts of full scale")
        panel.set(xlabel=self.x_label, ylim=(0, None))
        self._mark_detail(panel)
        self._mark_windows(panel)
        panel.legend()

    def _mark_windows(self, panel: Any) -> None:
        """Draw the spectral windows as lines above the axis, overlapping ones at two heights."""
        plan: Any = self.comparison.bands
        has_data = self.comparison.has_data
        windows = plan.list_windows(np.ones(len(self.x), dtype=bool) if has_data is None else has_data) if plan else []
        for k, window in enumerate(windows):
            ends = self.x[window].min(), self.x[window].max()
            label = f"spectral windows of {plan.width} bands" if k == 0 else None
            height = 0.03 + 0.03 * (k % 2)
            panel.plot(ends, (height, height), color="0.4", lw=3, transform=panel.get_xaxis_transform(), label=label)

    def _plot(self, panel: Any, values: np.ndarray, label: str | None, **style: Any) -> None:
        """Draw a line over the bands, interrupted at bands without data and where the next detector begins."""
        for run in pictures.split_spectral_runs(self.x):
            panel.plot(self.x[run], values[run], label=label, **style)
            # One entry of the legend for all pieces.
            label = None

    def _mark_detail(self, panel: Any) -> None:
        """Shade the bands with detail from the network, and in a lighter colour those over which it fades out."""
        plan = self.comparison.bands
        if plan is None or (plan.shares == 1).all():
            return
        shares = plan.shares
        order = np.argsort(self.x)
        for chosen, strength, label in (
            (shares > 0, 0.12, "the network's detail fades out"),
            (shares == 1, 0.25, "has the network's detail"),
        ):
            options = {"step": "mid", "color": "gold", "alpha": strength, "lw": 0, "label": label}
            x_axis = panel.get_xaxis_transform()
            panel.fill_between(self.x[order], 0, 1, where=chosen[order], transform=x_axis, zorder=0, **options)

    def encode(self) -> bytes:
        """Return the page as a PNG file with its title and description."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        bicubic, sr = _format_rmse(self.found.bicubic_rmse), _format_rmse(self.found.rmse)
        over = f"RMSE over {_describe_bands(self.found.rmse)} in parts of full scale"
        description = f"downsampled again against the LR input, {over}: bicubic {bicubic}, super-resolved {sr}"
        metadata = {"Title": self.heading, "Description": description}
        buffer = io.BytesIO()
        FigureCanvasAgg(self.figure).print_png(buffer, metadata=metadata)
        return buffer.getvalue()


def _format_rmse(error: np.ndarray) -> str:
    """Format the RMSE over the bands with data."""
    known = error[~np.isnan(error)]
    return f"{np.sqrt(np.mean(known**2)):.2e}" if len(known) else "none"


def _describe_bands(error: np.ndarray) -> str:
    missing = np.count_nonzero(np.isnan(error))
    return f"the {len(error) - missing} bands with data" if missing else "all bands"
