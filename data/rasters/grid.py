"""What belongs to a raster's pixel grid, told by its name and meaning, and its like for finer pixels."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np

# Coordinates along an axis, by name: they are renewed where their steps are even.
X_NAMES = ("x", "xc", "easting", "eastings", "lon", "longitude", "projection_x_coordinate")
Y_NAMES = ("y", "yc", "northing", "northings", "lat", "latitude", "projection_y_coordinate")
# Tables that lead from one grid to another, and points on the old one: of any shape.
LOOKUP_NAMES = ("glt", "glt_x", "glt_y", "igm", "igm_x", "igm_y", "gcp", "gcps", "structmetadata.0")
# One number a row or column, where they are as long.
LINE_NAMES = ("row", "rows", "line", "lines", "column", "columns", "col", "sample", "samples", "pixel", "time")
_RESOLUTIONS = (
    *("pixel_size", "pixelsize", "pixel_size_x", "pixel_size_y", "spatial_resolution", "gsd"),
    *("spatial_resolution_x_y", "ground_sampling_distance", "geospatial_lat_resolution", "geospatial_lon_resolution"),
    *("xres", "yres", "cell_size", "cellsize"),
)
_SIZES = (
    *("lines", "samples", "rows", "cols", "columns", "height", "width", "nrow", "ncol", "nrows", "ncols", "xdim"),
    *("ydim", "xsize", "ysize", "image_height", "image_width", "h", "w"),
)
_SHAPES = ("dimensions", "shape")
# Steps of an axis that differ by less than this part of one are even.
EVEN = 1e-3


def finer_transform(transform: Any, scale: int) -> tuple[float, ...]:
    """(a, b, c, d, e, f) of pixels `scale` times as small; further numbers (0, 0, 1) stay.

    Raises:
        ValueError: for what is no six or nine numbers.
    """
    values = [float(v) for v in np.ravel(transform)]
    if len(values) not in (6, 9) or not np.isfinite(values).all():
        raise ValueError(f"{len(values)} numbers")
    return tuple(v / scale if k in (0, 1, 3, 4) else v for k, v in enumerate(values))


def geotransform_numbers(value: Any) -> tuple[float, ...] | None:
    """GDAL's c, a, b, f, d, e, as text or numbers -> (a, b, c, d, e, f), or None for anything else."""
    text = value.decode() if isinstance(value, bytes) else value
    words = re.split(r"[\s,]+", text.strip(" ,()[]")) if isinstance(text, str) else np.ravel(value)
    try:
        c, a, b, f, d, e = (float(word) for word in words)
    except (ValueError, TypeError):
        return None
    return (a, b, c, d, e, f)


def _finer_geotransform(value, scale):
    numbers = geotransform_numbers(value)
    if numbers is None:
        raise ValueError(value)
    a, b, c, d, e, f = finer_transform(numbers, scale)
    finer = (c, a, b, f, d, e)
    return " ".join(f"{v:.17g}" for v in finer) if isinstance(value, (str, bytes)) else np.array(finer)


def finer_map_info(fields: Any, scale: int) -> list[str]:
    """The entries of an ENVI "map info" for pixels `scale` times as small.

    Its reference pixel counts from 1 at the upper left corner of the first pixel.
    """
    fields = list(fields)
    for k in (1, 2):
        fields[k] = f"{(float(fields[k]) - 1) * scale + 1:.15g}"
    for k in (5, 6):
        fields[k] = f"{float(fields[k]) / scale:.15g}"
    return fields


def _finer_map_info_text(value, scale):
    text = value.decode() if isinstance(value, bytes) else str(value)
    return ",".join(finer_map_info(text.split(","), scale))


def _finer_resolution(value, scale):
    if isinstance(value, (str, bytes)):
        text = value.decode() if isinstance(value, bytes) else value
        if not (match := re.match(r"\s*[\d.]+(e[+-]?\d+)?", text, re.IGNORECASE)):
            raise ValueError(text)
        return f"{float(match[0]) / scale:.15g}{text[match.end() :]}"
    return np.asarray(value, dtype=np.float64) / scale


def even_step(values: Any) -> float | None:
    """The step of an axis of evenly spaced coordinates, or None."""
    values = np.ravel(values)
    if values.size < 2 or values.dtype.kind not in "fiu":
        return None
    values = values.astype(np.float64)
    step = (values[-1] - values[0]) / (values.size - 1)
    even = np.isfinite(values).all() and step != 0 and np.abs(np.diff(values) - step).max() <= EVEN * abs(step)
    return float(step) if even else None


def finer_axis(values: Any, scale: int) -> np.ndarray | None:
    """Coordinates of pixel centres along an axis -> those of pixels `scale` times as small; None for uneven ones."""
    step = even_step(values)
    if step is None:
        return None
    values = np.ravel(values)
    edge = float(values[0]) - step / 2
    return edge + (np.arange(values.size * scale) + 0.5) * (step / scale)


def is_of_axis(name: str, size: int, height: int, width: int) -> bool:
    """Whether an array of that name and length has a number for each row or column."""
    name = name.lower()
    if name in LINE_NAMES:
        return size in (height, width)
    return (name in Y_NAMES and size == height) or (name in X_NAMES and size == width)


def is_per_pixel(shape: tuple[int, ...], height: int, width: int) -> bool:
    """Whether an array of that shape has a value for each pixel, and so belongs to the old grid only."""
    sides = (height, width)
    return height * width in shape or (
        shape.count(height) >= 2 if height == width else all(side in shape for side in sides)
    )


class Grid:
    """The pixel grid of a scene that becomes `scale` times as fine.

    Args:
        height, width: rows and columns of the old one.
        scale: how many of the new pixels are in one of the old.
    """

    def __init__(self, height: int, width: int, scale: int) -> None:
        self.height, self.width, self.scale = height, width, scale

    def renewed(self, name: str, value: Any) -> tuple[bool, Any]:
        """What stands under a name beside a cube, for the finer grid.

        Returns:
            (whether it belongs to the grid, what takes its place: None where that cannot be told exactly).
        """
        key = name.lower().replace(" ", "_")
        make: dict[str, Callable[[], Any]] = {
            "transform": lambda: np.array(finer_transform(value, self.scale)),
            "affine": lambda: np.array(finer_transform(value, self.scale)),
            "geotransform": lambda: _finer_geotransform(value, self.scale),
            "map_info": lambda: _finer_map_info_text(value, self.scale),
            **dict.fromkeys(_RESOLUTIONS, lambda: _finer_resolution(value, self.scale)),
        }
        if key in make:
            try:
                return True, make[key]()
            except (ValueError, IndexError, TypeError, AttributeError, UnicodeDecodeError):
                return True, None
        if key in LOOKUP_NAMES:
            return True, None
        if key in _SIZES or key in _SHAPES:
            return self._renewed_size(key, value)
        return False, value

    def _renewed_size(self, key, value):
        numbers = np.asarray(value)
        if numbers.dtype.kind not in "iuf" or numbers.size != (1 if key in _SIZES else 3):
            return False, value
        sides = (self.height, self.width)
        if key in _SHAPES and not all(side in numbers for side in sides):
            return False, value
        if not np.isin(numbers, sides).any():
            return False, value
        return True, np.where(np.isin(numbers, sides), numbers * self.scale, numbers).astype(numbers.dtype)
