"""Metadata that belong to a raster's pixel grid, by name and meaning, and their values for upsampled pixels."""

import itertools
import math
import re
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

# Names of coordinates along an axis, which are recomputed if they are evenly spaced.
X_NAMES = ("x", "xc", "easting", "eastings", "lon", "longitude", "projection_x_coordinate")
Y_NAMES = ("y", "yc", "northing", "northings", "lat", "latitude", "projection_y_coordinate")
# Names of tables of another grid, and of points on the old one: of any shape.
LOOKUP_NAMES = ("glt", "glt_x", "glt_y", "igm", "igm_x", "igm_y", "gcp", "gcps", "structmetadata.0")
# Names of arrays with one number a row or column.
LINE_NAMES = ("row", "rows", "line", "lines", "column", "columns", "col", "sample", "samples", "pixel", "time")
_RESOLUTIONS = (
    *("pixel_size", "pixelsize", "pixel_size_x", "pixel_size_y", "spatial_resolution", "gsd"),
    *("spatial_resolution_x_y", "ground_sampling_distance", "geospatial_lat_resolution", "geospatial_lon_resolution"),
    *("xres", "yres", "cell_size", "cellsize"),
)
# Names of the number of rows, columns or pixels: nRow, image_height, n_lines, ...
_COUNT = r"(?:n|nb|no|num|number_of|image|img|im)?_?"
_ROWS = re.compile(_COUNT + r"(?:rows?|lines?|height|h|ydim|y_?size)|nl")
_COLS = re.compile(_COUNT + r"(?:cols?|columns?|samples?|width|w|xdim|x_?size)|ns")
_PIXELS = re.compile(_COUNT + r"(?:pixels?|pix)|n")
# Names of the sizes of all axes, or of rows and columns.
_SHAPES = ("dimensions", "shape", "size", "sz", "dim", "dims", "imsize", "im_size", "image_size", "img_size")
# Largest deviation of the steps of an even axis, in steps.
EVEN = 1e-3


def upsample_transform(transform: Any, scale: int) -> tuple[float, ...]:
    """Return (a, b, c, d, e, f) for pixels `scale` times as small; further numbers (0, 0, 1) stay.

    Raises:
        ValueError: for anything but six or nine finite numbers.
    """
    values = [float(v) for v in np.ravel(transform)]
    if len(values) not in (6, 9) or not np.isfinite(values).all():
        raise ValueError(f"{len(values)} numbers")
    return tuple(v / scale if k in (0, 1, 3, 4) else v for k, v in enumerate(values))


def parse_geotransform(value: Any) -> tuple[float, ...] | None:
    """Convert GDAL's c, a, b, f, d, e, as text or numbers, to (a, b, c, d, e, f); return None for anything else."""
    text = value.decode() if isinstance(value, bytes) else value
    words = re.split(r"[\s,]+", text.strip(" ,()[]")) if isinstance(text, str) else np.ravel(value)
    try:
        c, a, b, f, d, e = (float(word) for word in words)
    except (ValueError, TypeError):
        return None
    return (a, b, c, d, e, f)


def _upsample_geotransform(value: Any, scale: int) -> str | np.ndarray:
    a, b, c, d, e, f = upsample_transform(parse_geotransform(value), scale)
    numbers = (c, a, b, f, d, e)
    return " ".join(f"{v:.17g}" for v in numbers) if isinstance(value, (str, bytes)) else np.array(numbers)


def upsample_pixel_number(pixel: str, scale: int) -> str:
    """Return an ENVI pixel number, 1 at the upper left corner of the first pixel, for pixels `scale` times as small."""
    return f"{(float(pixel) - 1) * scale + 1:.15g}"


def upsample_map_info(fields: Any, scale: int) -> list[str]:
    """Return the entries of an ENVI "map info" for pixels `scale` times as small."""
    fields = list(fields)
    for k in (1, 2):
        fields[k] = upsample_pixel_number(fields[k], scale)
    for k in (5, 6):
        fields[k] = f"{float(fields[k]) / scale:.15g}"
    return fields


def _upsample_map_info_text(value: Any, scale: int) -> str:
    text = value.decode() if isinstance(value, bytes) else str(value)
    return ",".join(upsample_map_info(text.split(","), scale))


def _upsample_resolution(value: Any, scale: int) -> str | np.ndarray | np.float64:
    if not isinstance(value, (str, bytes)):
        return np.asarray(value, dtype=np.float64) / scale
    text = value.decode() if isinstance(value, bytes) else value
    if not (match := re.match(r"\s*[\d.]+(e[+-]?\d+)?", text, re.IGNORECASE)):
        raise ValueError(text)
    return f"{float(match[0]) / scale:.15g}{text[match.end() :]}"


_UPSAMPLE: dict[str, Callable[[Any, int], Any]] = {
    **dict.fromkeys(("transform", "affine"), lambda value, scale: np.array(upsample_transform(value, scale))),
    "geotransform": _upsample_geotransform,
    "map_info": _upsample_map_info_text,
    **dict.fromkeys(_RESOLUTIONS, _upsample_resolution),
}


def find_even_step(values: Any) -> float | None:
    """Return the step of evenly spaced coordinates, or None."""
    values = np.ravel(values)
    if values.size < 2 or values.dtype.kind not in "fiu":
        return None
    values = values.astype(np.float64)
    step = (values[-1] - values[0]) / (values.size - 1)
    even = np.isfinite(values).all() and step != 0 and np.abs(np.diff(values) - step).max() <= EVEN * abs(step)
    return float(step) if even else None


def upsample_axis(values: Any, scale: int) -> np.ndarray | None:
    """Return coordinates of the centres of pixels `scale` times as small; None if they are not evenly spaced."""
    step = find_even_step(values)
    if step is None:
        return None
    edge = float(np.ravel(values)[0]) - step / 2
    return edge + (np.arange(np.size(values) * scale) + 0.5) * (step / scale)


def is_rows_name(name: str) -> bool:
    """Return True if a variable of that name can be the number of rows."""
    return bool(_ROWS.fullmatch(name.lower()))


def is_cols_name(name: str) -> bool:
    """Return True if a variable of that name can be the number of columns."""
    return bool(_COLS.fullmatch(name.lower()))


def fit_number_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Convert numbers to a number type, or to the smallest larger one of its kind that contains them."""
    for size in (s for s in (1, 2, 4, 8) if s >= dtype.itemsize):
        with np.errstate(over="ignore"):
            converted = values.astype(np.dtype(f"{dtype.kind}{size}").newbyteorder(dtype.byteorder))
        if np.array_equal(converted, values):
            return converted
    return values


class Grid:
    """The pixel grid of a scene that is upsampled.

    Args:
        height, width, bands: of the scene.
        scale: upsampling factor.
        size_names: further names, in small letters, of the number of rows or columns.
    """

    def __init__(self, height: int, width: int, bands: int, scale: int, size_names: Collection[str] = ()) -> None:
        self.height, self.width, self.bands, self.scale = height, width, bands, scale
        self._size_names = size_names

    def is_axis(self, name: str, shape: tuple[int, ...]) -> bool:
        """Return True if an array of that name and shape has one number for each row, or for each column."""
        name, size = name.lower(), max(shape, default=1)
        if size == self.bands or size != math.prod(shape):
            return False
        sizes = {self.height} if name in Y_NAMES else {self.width} if name in X_NAMES else set()
        return size in ({self.height, self.width} if name in LINE_NAMES else sizes)

    def is_per_pixel(self, shape: tuple[int, ...]) -> bool:
        """Return True if an array of that shape has a value for each pixel."""
        if self.height * self.width in shape:
            return True
        return shape.count(self.height) > (self.height == self.width) and self.width in shape

    def upsample_array(self, name: str, value: Any) -> tuple[bool, np.ndarray | None]:
        """Recompute an array beside the cube; see `upsample_entry`."""
        shape = np.shape(value)
        is_of_grid, upsampled = self.upsample_entry(name, np.ravel(value)[0] if math.prod(shape) == 1 else value)
        if is_of_grid and upsampled is not None:
            upsampled = np.asarray(upsampled)
            return True, upsampled.reshape(shape) if upsampled.dtype.kind in "fiu" else upsampled
        if not is_of_grid and self.is_axis(name, shape):
            axis = upsample_axis(value, self.scale)
            return True, None if axis is None else axis.reshape([-1 if n == max(shape) else n for n in shape])
        return is_of_grid or self.is_per_pixel(shape), None

    def upsample_entry(self, name: str, value: Any) -> tuple[bool, Any]:
        """Recompute a named entry of a file for the upsampled grid.

        Returns:
            (True if it belongs to the grid, its new value or None if it cannot be computed exactly).
        """
        key = name.lower().replace(" ", "_")
        if key in _UPSAMPLE:
            try:
                return True, _UPSAMPLE[key](value, self.scale)
            except (ValueError, IndexError, TypeError, AttributeError, UnicodeDecodeError):
                return True, None
        if key in LOOKUP_NAMES:
            return True, None
        if isinstance(value, (str, bytes)):
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            if not text.strip().isdecimal():
                return False, value
            is_of_grid, upsampled = self.upsample_entry(name, np.array(int(text)))
            return is_of_grid, f"{upsampled}" if is_of_grid else value
        numbers = np.asarray(value)
        if numbers.dtype.kind not in "iuf" or numbers.size not in (1, 2, 3):
            return False, value
        sizes = self._upsample_sizes(key, tuple(int(n) if n == n // 1 else 0 for n in numbers.ravel().tolist()))
        if len(sizes) != 1:
            return bool(sizes), None if sizes else value
        return True, fit_number_type(np.reshape(sizes.pop(), numbers.shape), numbers.dtype)

    def _upsample_sizes(self, key: str, numbers: tuple[int, ...]) -> set[tuple[int, ...]]:
        """Return the possible new values of sizes; none if they are not sizes of this grid."""
        if len(numbers) > 1:
            sides = ((self.height, self.scale), (self.width, self.scale), (self.bands, 1))[: len(numbers)]
            orders = [tuple(zip(*order, strict=True)) for order in itertools.permutations(sides)]
            fitting = [order for order in orders if key in _SHAPES and order[0] == numbers]
            return {tuple(size * factor for size, factor in zip(*order, strict=True)) for order in fitting}
        is_side = is_rows_name(key) or is_cols_name(key) or key in self._size_names
        if is_side and numbers[0] in (self.height, self.width):
            return {(numbers[0] * self.scale,)}
        if _PIXELS.fullmatch(key) and numbers[0] == self.height * self.width != self.bands:
            return {(numbers[0] * self.scale**2,)}
        return set()
