"""A scene of the viewer: its layers, read by windows, reduced to a limited size and encoded for the page."""

import base64
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Quantisation steps from the lowest to the highest value of a scene (the first that fits the budget is taken), and the
# encoded bytes per value, measured on scenes of CAVE.
LEVELS = {4094: 0.95, 1022: 0.65, 254: 0.4}
COARSEST = min(LEVELS)
# Values that are read at once, of the finest layer.
BLOCK_VALUES = 2**24
# Edges of a detail (at most) and of the square that is encoded first, in pixels of the coarsest layer.
DETAIL, SAMPLE = 160, 24
# Encoded bytes per value that are expected at least: the square may have no data.
LOWEST_RATE = 0.1


@dataclass(frozen=True)
class Scene:
    """Layers of one scene that the viewer compares.

    Attributes:
        name: heading of the scene.
        shape: (rows, columns, bands) of the coarsest layer.
        layers: {name: pixels along the edge of one pixel of the coarsest layer}, in the order of the legend.
        read: takes slices of rows and columns of the coarsest layer; returns {name: h x w x C} of all layers in that
            window, in parts of full scale, NaN where data are missing.
        before, after: names of the layers that are compared first.
        reference: name of the layer to which differences and spectral angles refer.
        rgb: indices of the bands shown as red, green and blue.
        x: C wavelengths in nm, or None.
        runs: indices of bands that a line may join; None: all bands.
        focus: (row, column) of the coarsest layer around which a large scene is shown in detail; None: its centre.
        picture: PNG that is shown without JavaScript.
        picture_text: its text alternative.
        charts: SVG texts, shown below the images.
        origin: (row, column) of the first pixel of the finest layer, as displayed.
        styles: {name: (colour, SVG dash pattern)} of lines; other layers have the viewer's own.
    """

    name: str
    shape: tuple[int, int, int]
    layers: Mapping[str, int]
    read: Callable[[slice, slice], Mapping[str, np.ndarray]]
    before: str
    after: str
    reference: str
    rgb: Sequence[int]
    x: np.ndarray | None = None
    runs: Sequence[np.ndarray] | None = None
    focus: tuple[int, int] | None = None
    picture: bytes = b""
    picture_text: str = ""
    charts: Sequence[str] = ()
    origin: tuple[int, int] = (0, 0)
    styles: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def from_arrays(cls, name: str, layers: Mapping[str, np.ndarray], **details: Any) -> "Scene":
        """Make a scene of cubes in memory.

        Args:
            name: heading of the scene.
            layers: {name: H x W x C}, the size of each a multiple of the smallest one's; NaN where data are missing.
            details: further attributes; `rgb`, `before`, `after` and `reference` are required.
        """
        shape = min((cube.shape for cube in layers.values()), key=math.prod)
        factors = {key: len(cube) // shape[0] for key, cube in layers.items()}

        def read(rows: slice, cols: slice) -> dict[str, np.ndarray]:
            spans = {key: [slice(s.start * f, s.stop * f) for s in (rows, cols)] for key, f in factors.items()}
            return {key: cube[tuple(spans[key])] for key, cube in layers.items()}

        return cls(name, shape, factors, read, **details)


def encode_scene(scene: Scene, budget_bytes: int) -> list[dict[str, Any]]:
    """Quantise and compress a scene for viewer.js.

    A scene that exceeds the budget becomes two: area-averaged as a whole, and a detail in all pixels.

    Args:
        scene: the scene.
        budget_bytes: of the encoded layers together.

    Returns:
        One or two views for JSON. In each layer, `data` is base64 of a zlib stream: codes band by band, minus those of
        the reference if `hasBase`, each band minus the one before it (modulo the type), in zigzag code; of 16-bit codes
        all low bytes, then all high bytes. Code c means low + c * step; the code `levels` + 1 marks missing data.
    """
    height, width, _ = scene.shape
    whole = slice(0, height), slice(0, width)
    rate = _measure_rate(scene)
    if rate * _count_values(scene, 1, height, width) <= budget_bytes:
        encoded = _encode_layers(scene, _read_reduced(scene, 1, *whole), budget_bytes)
        if encoded:
            return [_describe(scene, encoded, 1, *whole)]
    return [_encode_reduced(scene, budget_bytes // 2, rate), _encode_detail(scene, budget_bytes // 2, rate)]


def _measure_rate(scene: Scene) -> float:
    """Return the encoded bytes per value at the coarsest quantisation, around the focus: most of a scene takes less."""
    layers = _read_reduced(scene, 1, *_select_window(scene, SAMPLE))
    encoded = _encode_layers(scene, layers, 0, is_forced=True)
    size = sum(len(layer["data"]) for layer in encoded["layers"]) if encoded else 0
    return max(LOWEST_RATE, size / sum(cube.size for cube in layers.values()))


def _select_window(scene: Scene, edge: int) -> tuple[slice, slice]:
    """Return the rows and columns of a square around the focus, within the scene."""
    row, column = scene.focus or (scene.shape[0] // 2, scene.shape[1] // 2)
    starts = (max(0, min(size - edge, at - edge // 2)) for at, size in zip((row, column), scene.shape, strict=False))
    rows, cols = (slice(s, min(s + edge, size)) for s, size in zip(starts, scene.shape, strict=False))
    return rows, cols


def _encode_reduced(scene: Scene, budget_bytes: int, rate: float) -> dict[str, Any]:
    """Encode the whole scene in the smallest averaged pixels that fit the budget."""
    height, width, _ = scene.shape
    largest = max(height, width) * max(scene.layers.values())
    for pixel in _list_reductions(scene):
        is_last = pixel >= largest
        if is_last or rate * _count_values(scene, pixel, height, width) <= budget_bytes:
            spans = slice(0, height), slice(0, width)
            encoded = _encode_layers(scene, _read_reduced(scene, pixel, *spans), budget_bytes, is_last)
            if encoded:
                return _describe(scene, encoded, pixel, *spans)
    raise AssertionError("the largest pixel is encoded in any case")


def _encode_detail(scene: Scene, budget_bytes: int, rate: float) -> dict[str, Any]:
    """Encode a square in all pixels around the focus, the largest that fits the budget."""
    edge = DETAIL
    while True:
        if edge == 1 or rate * _count_values(scene, 1, edge, edge) <= budget_bytes:
            spans = _select_window(scene, edge)
            encoded = _encode_layers(scene, _read_reduced(scene, 1, *spans), budget_bytes, edge == 1)
            if encoded:
                return _describe(scene, encoded, 1, *spans)
        edge = max(1, edge * 7 // 8)


def _count_values(scene: Scene, pixel: int, height: int, width: int) -> int:
    """Return the number of all layers' values in height x width pixels of the coarsest, reduced to `pixel`."""
    steps = {factor: _count_averaged(scene, factor, pixel) for factor in scene.layers.values()}
    pixels = (-(-height * f // steps[f]) * -(-width * f // steps[f]) for f in scene.layers.values())
    return sum(pixels) * scene.shape[2]


def _list_reductions(scene: Scene) -> Iterator[int]:
    """Yield edges of the reduced pixel in pixels of the finest layer: divisors of the scale above 1, its multiples."""
    scale = max(scene.layers.values())
    yield from (pixel for pixel in range(2, scale) if scale % pixel == 0)
    pixel = max(scale, 2)
    while pixel < 2 * scale * max(scene.shape[:2]):
        yield pixel
        pixel += scale if pixel < 8 * scale else pixel // scale // 4 * scale


def _count_averaged(scene: Scene, factor: int, pixel: int) -> int:
    """Return the number of a layer's pixels, along an edge, that become one; 1 for a layer coarser than that."""
    own = max(scene.layers.values()) // factor
    return pixel // own if pixel % own == 0 else 1


def _read_reduced(scene: Scene, pixel: int, rows: slice, cols: slice) -> dict[str, np.ndarray]:
    """Return {name: h x w x C float32} of a window, averaged over `pixel` x `pixel` pixels of the finest layer."""
    scale = max(scene.layers.values())
    step = max(1, pixel // scale)
    row_values = (cols.stop - cols.start) * scale**2 * scene.shape[2]
    count = max(1, BLOCK_VALUES // (row_values * step)) * step
    blocks: dict[str, list[np.ndarray]] = {name: [] for name in scene.layers}
    for top in range(rows.start, rows.stop, count):
        window = scene.read(slice(top, min(rows.stop, top + count)), cols)
        for name, factor in scene.layers.items():
            blocks[name].append(_average(window[name], _count_averaged(scene, factor, pixel)))
    return {name: np.concatenate(parts) for name, parts in blocks.items()}


def _average(cube: np.ndarray, step: int) -> np.ndarray:
    """H x W x C -> means of the values that are not NaN, of squares of step x step pixels (fewer at the far edges)."""
    if step == 1:
        return cube.astype(np.float32)
    height, width, bands = cube.shape
    padding = (-height % step, -width % step)
    padded = np.pad(cube, ((0, padding[0]), (0, padding[1]), (0, 0)), constant_values=np.nan)
    squares = padded.reshape(len(padded) // step, step, -1, step, bands)
    counts = np.count_nonzero(~np.isnan(squares), axis=(1, 3))
    return (np.nansum(squares, axis=(1, 3)) / np.where(counts, counts, np.nan)).astype(np.float32)


def _encode_layers(
    scene: Scene, layers: Mapping[str, np.ndarray], budget: int, is_forced: bool = False
) -> dict[str, Any] | None:
    """Encode layers with the most levels that fit the budget; None if none do, unless forced."""
    known = [cube[np.isfinite(cube)] for cube in layers.values()]
    low = float(min((values.min() for values in known if values.size), default=0))
    high = float(max((values.max() for values in known if values.size), default=1))
    values = sum(cube.size for cube in layers.values())
    for levels, bytes_per_value in LEVELS.items():
        # Smooth scenes take less than the measured ones.
        if levels > COARSEST and values * bytes_per_value > 2 * budget:
            continue
        step = (high - low) / levels or 1.0
        codes = {name: _quantise(cube, low, step, levels) for name, cube in layers.items()}
        reference, encoded = codes[scene.reference], []
        for name, layer in codes.items():
            has_base = name != scene.reference and layer.shape == reference.shape
            data = _encode(layer, reference if has_base else None)
            _, height, width = layer.shape
            encoded.append({"name": name, "height": height, "width": width, "hasBase": has_base, "data": data})
        if sum(len(layer["data"]) for layer in encoded) <= budget or (is_forced and levels == COARSEST):
            return {"low": low, "step": step, "levels": levels, "layers": encoded}
    return None


def _quantise(cube: np.ndarray, low: float, step: float, levels: int) -> np.ndarray:
    """H x W x C -> codes, C x H x W; see `encode_scene`."""
    bands_first = cube.transpose(2, 0, 1)
    codes = np.where(np.isfinite(bands_first), np.rint((bands_first - low) / step), levels + 1)
    return codes.astype(np.uint8 if levels < 255 else "<u2")


def _encode(codes: np.ndarray, reference: np.ndarray | None) -> str:
    """Encode the codes of a layer, as differences from those of the reference if it is given; see `encode_scene`."""
    codes = codes.copy() if reference is None else codes - reference
    codes[1:] -= codes[:-1].copy()
    signed = codes.view(np.int8 if codes.itemsize == 1 else "<i2")
    # Zigzag code: small numbers of either sign have a high byte of 0.
    zigzag = (signed << 1) ^ (signed >> (8 * codes.itemsize - 1))
    planes = zigzag.reshape(-1, 1).view(np.uint8).T
    return base64.b64encode(zlib.compress(planes.tobytes())).decode()


def _describe(scene: Scene, encoded: Mapping[str, Any], pixel: int, rows: slice, cols: slice) -> dict[str, Any]:
    """Return the view's entry for viewer.js; rows and columns count pixels of the finest layer."""
    height, width, bands = scene.shape
    scale = max(scene.layers.values())
    title = ""
    if pixel > 1:
        title = f"whole scene, averaged over {pixel} x {pixel} pixels"
    elif (rows.stop - rows.start, cols.stop - cols.start) != (height, width):
        title = "detail in full resolution"
    x = np.arange(1, bands + 1) if scene.x is None else scene.x
    return {
        "title": ": ".join(filter(None, (scene.name, title))),
        "origin": [scene.origin[0] + rows.start * scale, scene.origin[1] + cols.start * scale],
        "pixel": pixel,
        "bands": bands,
        "x": [round(float(value), 3) for value in x],
        "unit": "" if scene.x is None else "nm",
        "runs": [np.asarray(run).tolist() for run in ([np.arange(bands)] if scene.runs is None else scene.runs)],
        "rgb": [int(band) for band in scene.rgb],
        "before": scene.before,
        "after": scene.after,
        "reference": scene.reference,
        "styles": dict(scene.styles),
        **encoded,
    }
