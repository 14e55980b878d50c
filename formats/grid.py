"""What belongs to a raster's pixel grid, told by its name and meaning, and its like for finer pixels."""

import itertools
import math
import re
from collections.abc import Callable, Collection
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
# Names of variables that hold the number of rows, of columns or of pixels: nRow, image_height, n_lines, ...
_COUNT = r"(?:n|nb|no|num|number_of|image|img|im)?_?"
_ROWS = re.compile(_COUNT + r"(?:rows?|lines?|height|h|ydim|y_?size)|nl")
_COLS = re.compile(_COUNT + r"(?:cols?|columns?|samples?|width|w|xdim|x_?size)|ns")
_PIXELS = re.compile(_COUNT + r"(?:pixels?|pix)|n")
# Names of variables that hold the sizes of all axes, or of rows and columns.
_SHAPES = ("dimensions", "shape", "size", "sz", "dim", "dims", "imsize", "im_size", "image_size", "img_size")
# Steps of an axis that differ by less than this part of one are even.
EVEN = 1e-3


def upsample_transform(transform: Any, scale: int) -> tuple[float, ...]:
    """(a, b, c, d, e, f) of pixels `scale` times as small; further numbers (0, 0, 1) stay.

    Raises:
        ValueError: for what is no six or nine numbers.
    """
    values = [float(v) for v in np.ravel(transform)]
    if len(values) not in (6, 9) or not np.isfinite(values).all():
        raise ValueError(f"{len(values)} numbers")
    return tuple(v / scale if k in (0, 1, 3, 4) else v for k, v in enumerate(values))


def parse_geotransform(value: Any) -> tuple[float, ...] | None:
    """GDAL's c, a, b, f, d, e, as text or numbers -> (a, b, c, d, e, f), or None for anything else."""
    text = value.decode() if isinstance(value, bytes) else value
    words = re.split(r"[\s,]+", text.strip(" ,()[]")) if isinstance(text, str) else np.ravel(value)
    try:
        c, a, b, f, d, e = (float(word) for word in words)
    except (ValueError, TypeError):
        return None
    return (a, b, c, d, e, f)


def _finer_geotransform(value: Any, scale: int) -> str | np.ndarray:
    numbers = parse_geotransform(value)
    if numbers is None:
        raise ValueError(value)
    a, b, c, d, e, f = upsample_transform(numbers, scale)
    finer = (c, a, b, f, d, e)
    return " ".join(f"{v:.17g}" for v in finer) if isinstance(value, (str, bytes)) else np.array(finer)


def upsample_map_info(fields: Any, scale: int) -> list[str]:
    """The entries of an ENVI "map info" for pixels `scale` times as small.

    Its reference pixel counts from 1 at the upper left corner of the first pixel.
    """
    fields = list(fields)
    for k in (1, 2):
        fields[k] = f"{(float(fields[k]) - 1) * scale + 1:.15g}"
    for k in (5, 6):
        fields[k] = f"{float(fields[k]) / scale:.15g}"
    return fields


def _finer_map_info_text(value: Any, scale: int) -> str:
    text = value.decode() if isinstance(value, bytes) else str(value)
    return ",".join(upsample_map_info(text.split(","), scale))


def _finer_resolution(value: Any, scale: int) -> str | np.ndarray | np.float64:
    if isinstance(value, (str, bytes)):
        text = value.decode() if isinstance(value, bytes) else value
        if not (match := re.match(r"\s*[\d.]+(e[+-]?\d+)?", text, re.IGNORECASE)):
            raise ValueError(text)
        return f"{float(match[0]) / scale:.15g}{text[match.end() :]}"
    return np.asarray(value, dtype=np.float64) / scale


def find_even_step(values: Any) -> float | None:
    """The step of an axis of evenly spaced coordinates, or None."""
    values = np.ravel(values)
    if values.size < 2 or values.dtype.kind not in "fiu":
        return None
    values = values.astype(np.float64)
    step = (values[-1] - values[0]) / (values.size - 1)
    even = np.isfinite(values).all() and step != 0 and np.abs(np.diff(values) - step).max() <= EVEN * abs(step)
    return float(step) if even else None


def upsample_axis(values: Any, scale: int) -> np.ndarray | None:
    """Coordinates of pixel centres along an axis -> those of pixels `scale` times as small; None for uneven ones."""
    step = find_even_step(values)
    if step is None:
        return None
    values = np.ravel(values)
    edge = float(values[0]) - step / 2
    return edge + (np.arange(values.size * scale) + 0.5) * (step / scale)


def is_rows_name(name: str) -> bool:
    """True if a variable of that name can hold the number of rows."""
    return bool(_ROWS.fullmatch(name.lower()))


def is_cols_name(name: str) -> bool:
    """True if a variable of that name can hold the number of columns."""
    return bool(_COLS.fullmatch(name.lower()))


def fit_number_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Numbers in a number type, or in the smallest larger one of its kind that holds them."""
    for size in (s for s in (1, 2, 4, 8) if s >= dtype.itemsize):
        with np.errstate(over="ignore"):
            converted = values.astype(np.dtype(f"{dtype.kind}{size}").newbyteorder(dtype.byteorder))
        if np.array_equal(converted, values):
            return converted
    return values


class Grid:
    """The pixel grid of a scene that becomes `scale` times as fine.

    Args:
        height, width, bands: of the scene, before.
        scale: upsampling factor.
        size_names: further names, in small letters, of variables that hold the number of rows or columns.
    """

    def __init__(self, height: int, width: int, bands: int, scale: int, size_names: Collection[str] = ()) -> None:
        self.height, self.width, self.bands, self.scale = height, width, bands, scale
        self._size_names = size_names

    def is_axis(self, name: str, shape: tuple[int, ...]) -> bool:
        """Return True if an array of that name and shape has one number for each row, or for each column."""
        name, size = name.lower(), max(shape, default=1)
        if size == self.bands or size != math.prod(shape):
            return False
        is_rows, is_cols = size == self.height, size == self.width
        return (name in LINE_NAMES and (is_rows or is_cols)) or (
            (name in Y_NAMES and is_rows) or (name in X_NAMES and is_cols)
        )

    def is_per_pixel(self, shape: tuple[int, ...]) -> bool:
        """Return True if an array of that shape has a value for each pixel."""
        if self.height * self.width in shape:
            return True
        return shape.count(self.height) > (self.height == self.width) and self.width in shape

    def upsample_array(self, name: str, value: Any) -> tuple[bool, np.ndarray | None]:
        """Return (True if an array beside the cube belongs to the grid, recomputed array or None)."""
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
        """What stands under a name beside a cube, for the finer grid.

        Returns:
            (whether it belongs to the grid, what takes its place: None where that cannot be told exactly).
        """
        key = name.lower().replace(" ", "_")
        make: dict[str, Callable[[], Any]] = {
            "transform": lambda: np.array(upsample_transform(value, self.scale)),
            "affine": lambda: np.array(upsample_transform(value, self.scale)),
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
        return self._renewed_size(key, value)

    def _renewed_size(self, key: str, value: Any) -> tuple[bool, Any]:
        """`renewed` for the numbers of rows, columns and pixels, whose type becomes a larger one where it must."""
        if isinstance(value, (str, bytes)):
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            belongs, renewed = (
                self._renewed_size(key, np.array(int(text))) if text.strip().isdecimal() else (False, None)
            )
            return belongs, f"{renewed}" if belongs else value
        numbers = np.asarray(value)
        if numbers.dtype.kind not in "iuf" or numbers.size not in (1, 2, 3):
            return False, value
        outcomes = self._finer_sizes(key, tuple(int(n) if n == n // 1 else 0 for n in numbers.ravel().tolist()))
        if not outcomes:
            return False, value
        if len(outcomes) > 1:
            return True, None
        return True, fit_number_type(np.reshape(outcomes.pop(), numbers.shape), numbers.dtype)

    def _finer_sizes(self, key: str, numbers: tuple[int, ...]) -> set[tuple[int, ...]]:
        """The sizes that may take the place of these: none where they are no sizes of this grid."""
        rows, cols = (self.height, self.scale), (self.width, self.scale)
        if len(numbers) > 1:
            named = key in _SHAPES
            sides: tuple[tuple[int, int], ...] = (rows, cols, (self.bands, 1))[: len(numbers)]
            orders = itertools.permutations(sides) if named else ()
            return {
                tuple(size * factor for size, factor in order)
                for order in orders
                if numbers == tuple(size for size, _ in order)
            }
        if (is_rows_name(key) or is_cols_name(key) or key in self._size_names) and numbers[0] in (rows[0], cols[0]):
            return {(numbers[0] * self.scale,)}
        if _PIXELS.fullmatch(key) and numbers[0] == self.height * self.width != self.bands:
            return {(numbers[0] * self.scale**2,)}
        return set()
