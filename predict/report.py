"""Can a result without ground truth be trusted? One picture: what was done, where, and what its input says to it."""

import io
from fractions import Fraction

import numpy as np
import torch

import pictures
from data.imresize import enlarge, resize_batch
from utils import UserError

# The widest overview, in pixels; larger scenes are shown by every n-th.
WIDEST = 700
# Edge of the detail that is shown pixel for pixel, and number of spectra.
DETAIL, SPECTRA = 48, 4
# LR rows that are looked at in one go hold about this many HR values.
STRIP_VALUES = 2**25
# Rows that degrading and enlarging a strip need around it.
HALO = 4


def check_library():
    """Refuse a report without matplotlib before any work."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UserError(
            "--report 1 needs the package matplotlib; pip install matplotlib, or leave the flag out"
        ) from error


class Findings:
    """What one pass over a scene and its result finds.

    Attributes:
        rmse, bicubic_rmse: per band, of the result and of the bicubic image degraded again against the input, in
            parts of what stands for 1.
        overview: (LR, bicubic, SR) false-colour bands, h x w x 3, thinned out.
        step: of the overview, in LR pixels.
        spots: [(row, column)] of the LR pixels in which the result differs most from the bicubic image.
    """

    def __init__(self, raster, result, values, scale):
        height, width, bands = raster.shape
        self.step = max(1, -(-max(height, width) // WIDEST))
        self.shown = pictures.shown_bands(bands, raster.wavelengths)
        squares, counts = np.zeros((2, bands)), np.zeros(bands)
        thumbs, candidates = ([], [], []), []
        rows = max(1, STRIP_VALUES // (width * bands * scale**2))
        for top in range(0, height, rows):
            bottom = min(height, top + rows)
            strip = Strip(raster, result, values, scale, top, bottom)
            if strip.lr is None:
                blank = np.zeros((len(range(-top % self.step, bottom - top, self.step)), -(-width // self.step), 3))
                for thumb in thumbs:
                    thumb.append(
                        blank.repeat(1 if thumb is thumbs[0] else scale, 0).repeat(
                            1 if thumb is thumbs[0] else scale, 1
                        )
                    )
                continue
            there = strip.there
            counts += there.sum(axis=(0, 1))
            for k, image in enumerate((strip.sr_degraded, strip.bicubic_degraded)):
                squares[k] += ((image - strip.lr) ** 2 * there).sum(axis=(0, 1), dtype=np.float64)
            first = -top % self.step
            thumbs[0].append(strip.lr[first :: self.step, :: self.step, self.shown])
            for thumb, image in zip(thumbs[1:], (strip.bicubic, strip.sr)):
                image = image[:, :, self.shown]
                thumb.append(_thinned(image, first, self.step, scale))
            difference = np.sqrt(((strip.sr - strip.bicubic) ** 2).mean(axis=2))
            difference = difference.reshape(bottom - top, scale, width, scale).max(axis=(1, 3)) * there.all(axis=2)
            for place in np.argsort(difference, axis=None)[-200:]:
                row, col = np.unravel_index(place, difference.shape)
                candidates.append((difference[row, col], top + row, col))
        self.rmse, self.bicubic_rmse = np.sqrt(squares / np.maximum(counts, 1))
        self.overview = [np.concatenate(thumb) for thumb in thumbs]
        self.spots = _apart(candidates, min(height, width) // 8)


class Strip:
    """Some rows of a scene: LR, bicubic, SR, both degraded again (H x W x C in 0..1), and where there is data.

    All None for rows without any data.
    """

    def __init__(self, raster, result, values, scale, top, bottom, left=0, right=None):
        height, width, _ = raster.shape
        right = right or width
        low, high = max(0, top - HALO), min(height, bottom + HALO)
        west, east = max(0, left - HALO), min(width, right + HALO)
        lr, missing = values.to_unit(raster.read(slice(low, high), slice(west, east)))
        self.lr = None
        sr = np.asarray(result[low * scale : high * scale, west * scale : east * scale])
        sr, _ = values.to_unit(sr.astype(sr.dtype.newbyteorder("=")))
        if lr is None or sr is None:
            return
        tensors = [torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1)))[None] for x in (lr, sr)]
        bicubic = enlarge(tensors[0], scale, torch.float32)

        def cropped(x, s):
            x = x[0].permute(1, 2, 0).numpy() if isinstance(x, torch.Tensor) else x
            return x[(top - low) * s : (bottom - low) * s, (left - west) * s : (right - west) * s]

        self.lr, self.sr, self.bicubic = cropped(lr, 1), cropped(sr, scale), cropped(bicubic, scale)
        shrink = Fraction(1, scale)
        self.sr_degraded = cropped(resize_batch(tensors[1], shrink), 1)
        self.bicubic_degraded = cropped(resize_batch(bicubic, shrink), 1)
        self.there = np.ones(self.lr.shape, dtype=bool) if missing is None else ~cropped(missing, 1)


def _thinned(image, first, step, scale):
    """Every step-th LR pixel's block of an HR image, side by side."""
    rows = np.concatenate(
        [np.arange(r, r + scale) for r in range(first * scale, len(image), step * scale)] or [np.zeros(0, int)]
    )
    cols = np.concatenate([np.arange(c, c + scale) for c in range(0, image.shape[1], step * scale)])
    return image[rows][:, cols]


def _apart(candidates, distance):
    """The pixels of the greatest difference that are no neighbours of each other."""
    spots = []
    for _, row, col in sorted(candidates, reverse=True):
        if all(abs(row - r) > distance or abs(col - c) > distance for r, c in spots):
            spots.append((int(row), int(col)))
        if len(spots) == SPECTRA:
            break
    return spots


def draw(raster, result, scene):
    """The report as PNG bytes, with a title and a description in them for the command `tables`.

    Args:
        raster: the input.
        result: s*rows x s*columns x bands, as written.
        scene: what made it, with its `values` and `scale`.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    values, scale = scene.values, scene.scale
    found = Findings(raster, result, values, scale)
    height, width, bands = raster.shape
    known = raster.wavelengths is not None
    x = raster.wavelengths if known else np.arange(1, bands + 1)
    axis_name = "wavelength (nm)" if known else "band"
    white = pictures.white_level(found.overview[0], [0, 1, 2])
    figure = Figure(figsize=(15, 17), layout="constrained")
    heading = f"{raster.path.name}: {width} x {height} x {bands} to {width * scale} x {height * scale}"
    shown = f"{', '.join(f'{x[k]:g}' for k in found.shown)}{' nm' if known else ''}"
    figure.suptitle(f"{heading}, false colour {shown}", fontsize=14)
    grid = figure.add_gridspec(4, 12, height_ratios=(4, 4, 3, 3))
    colours = [matplotlib.colormaps["tab10"](k) for k in range(SPECTRA)]
    titles = ("LR input", "bicubic", "super-resolved")
    for k, (title, image) in enumerate(zip(titles, found.overview)):
        panel = figure.add_subplot(grid[0, 4 * k : 4 * k + 4])
        extent = (0, image.shape[1] / (1 if k == 0 else scale), image.shape[0] / (1 if k == 0 else scale), 0)
        panel.imshow(pictures.false_colour(image, [0, 1, 2], white), extent=extent, interpolation="nearest")
        panel.set_title(title + (f", every {found.step}th LR pixel" if found.step > 1 else ""))
        panel.set_axis_off()
        for (row, col), colour in zip(found.spots, colours):
            panel.plot((col + 0.5) / found.step, (row + 0.5) / found.step, "o", ms=12, mfc="none", mec=colour, mew=2)
    if found.spots:
        _draw_detail(figure, grid, raster, result, values, scale, found, white)
        _draw_spectra(figure, grid, raster, result, values, scale, found.spots, x, axis_name, colours)
    panel = figure.add_subplot(grid[3, :])
    for error, title in ((found.bicubic_rmse, "bicubic"), (found.rmse, "super-resolved")):
        whole = np.sqrt(np.mean(error**2))
        panel.plot(x, error, label=f"{title}: {whole:.2e} over all bands", marker="." if bands < 60 else None)
    panel.set_title("degraded again against the LR input: RMSE per band, in parts of what stands for 1")
    panel.set(xlabel=axis_name, ylim=(0, None))
    panel.legend()
    errors = [np.sqrt(np.mean(error**2)) for error in (found.bicubic_rmse, found.rmse)]
    about = {
        "Title": heading,
        "Description": "degraded again against the LR input, RMSE over all bands in parts of what stands for 1: "
        "bicubic {:.2e}, super-resolved {:.2e}".format(*errors),
    }
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata=about)
    return buffer.getvalue()


def _draw_detail(figure, grid, raster, result, values, scale, found, white):
    """The surroundings of the most different pixel, pixel for pixel."""
    height, width, _ = raster.shape
    row, col = found.spots[0]
    top, left = (max(0, min(size - DETAIL, at - DETAIL // 2)) for at, size in ((row, height), (col, width)))
    bottom, right = min(height, top + DETAIL), min(width, left + DETAIL)
    strip = Strip(raster, result, values, scale, top, bottom, left, right)
    for k, image in enumerate((strip.lr, strip.bicubic, strip.sr)):
        panel = figure.add_subplot(grid[1, 4 * k : 4 * k + 4])
        panel.imshow(pictures.false_colour(image, found.shown, white), interpolation="nearest")
        panel.set_title(f"around row {row}, column {col} of the LR image")
        panel.set_axis_off()


def _draw_spectra(figure, grid, raster, result, values, scale, spots, x, axis_name, colours):
    """LR, bicubic and SR spectra where SR and bicubic differ most."""
    for k, ((row, col), colour) in enumerate(zip(spots, colours)):
        strip = Strip(raster, result, values, scale, row, row + 1, col, col + 1)
        difference = ((strip.sr - strip.bicubic) ** 2).sum(axis=2)
        place = np.unravel_index(np.argmax(difference), difference.shape)
        panel = figure.add_subplot(grid[2, 3 * k : 3 * k + 3])
        panel.plot(x, strip.lr[0, 0], color="0.6", label="LR")
        panel.plot(x, strip.bicubic[place], "--", color=colour, label="bicubic")
        panel.plot(x, strip.sr[place], color=colour, label="super-resolved")
        panel.set_title(f"row {row * scale + place[0]}, column {col * scale + place[1]}", fontsize=10)
        panel.set_xlabel(axis_name)
        if k == 0:
            panel.legend(fontsize=8)
