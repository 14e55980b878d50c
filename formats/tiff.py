"""Multi-band TIFF and GeoTIFF: through rasterio where it is installed, plain TIFF without it through tifffile."""

import dataclasses
import errno
import logging
import os
import re
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tifffile

from formats import georeferencing
from formats.raster import (
    CubeOptions,
    Raster,
    checked_numbers,
    layout,
    nanometres,
    row_blocks,
    scaling_said,
    wavelengths_in_names,
)
from formats.wavelength_list import numbers_in
from system.errors import DataError
from utils import print_line

# Tags that hold coordinates, or what GDAL says of a file: GeoKeys, pixel scale, tie points, metadata, no data.
GDAL_TAGS = (34735, 33550, 33922, 34264, 42112, 42113)
CREATION_OPTIONS = ("compress", "tiled", "blockxsize", "blockysize", "interleave", "photometric")
# Bits of a page's kind: a smaller copy (an overview), or a mask.
REDUCED, MASK = 1, 4


def open_raster(path: Path, options: CubeOptions) -> Raster:
    """Open a TIFF of several bands.

    Raises:
        DataError: for one that is cut off, a picture, or needs rasterio where that is missing.
    """
    _refuse_endless(path)
    with _Complaints() as complaints, tifffile.TiffFile(path) as f:
        check_whole(path, f)
        pages = [page for page in f.pages if not _kind_of(page) & (REDUCED | MASK)]
        first = f.pages.first
        if complaints.heard:
            raise DataError(path, f"cannot be read as TIFF ({complaints.heard})", "copy or export it again")
        is_for_gdal = any(tag in first.tags for tag in GDAL_TAGS)
        is_geographic = any(tag in first.tags for tag in GDAL_TAGS[:4])
        series = f.series[0]
        shape, axes = (first.shape, first.axes) if len(pages) == 1 else (series.shape, series.axes)
        picture = axes.endswith("S") and shape[-1] in (3, 4) and first.photometric == 2 and len(shape) == 3
    rasterio = georeferencing.library()
    if is_for_gdal and rasterio is None:
        raise DataError(path, "a GeoTIFF needs the package rasterio, to keep its coordinates", "pip install rasterio")
    if rasterio is not None and len(pages) > 1 and (is_for_gdal or not _is_unpacked_by_tifffile(path)):
        return _stack_with_rasterio(path, options, rasterio, len(pages), is_geographic)
    if len(shape) != 3:
        raise DataError(
            path, f"a picture of shape {shape}, where several bands are needed", "take it out of the folder"
        )
    if picture and not is_for_gdal:
        raise DataError(path, "an RGB picture, where a cube of many bands is needed", "take it out of the folder")
    checked_numbers(path, series.dtype)
    # GDAL takes pages for separate pictures, and knows of no other axis than its own.
    if rasterio is not None and len(pages) == 1 and (options.band_axis < 0 or is_for_gdal):
        return _with_rasterio(path, options, rasterio)
    return _with_tifffile(path, options, series)


def _refuse_endless(path: Path) -> None:
    """Refuse a TIFF whose directories lead back to each other, which readers follow for ever."""
    with open(path, "rb") as f:
        head = f.read(16)
        order = "<" if head[:2] == b"II" else ">"
        is_big = struct.unpack(order + "H", head[2:4])[0] == 43
        # Numbers of a directory's entries, their bytes, and the place of the next directory.
        count, entry, place = ("Q", 20, "Q") if is_big else ("H", 12, "I")
        if len(head) < (16 if is_big else 8):
            raise DataError(path, f"truncated ({len(head)} bytes)", "copy it again")
        (offset,) = struct.unpack(order + place, head[8:16] if is_big else head[4:8])
        seen: set[int] = set()
        while offset:
            if offset in seen:
                raise DataError(path, "damaged: its directories lead back to each other", "copy or export it again")
            seen.add(offset)
            f.seek(offset)
            number = f.read(struct.calcsize(count))
            if len(number) < struct.calcsize(count):
                break
            f.seek(struct.unpack(order + count, number)[0] * entry, os.SEEK_CUR)
            following = f.read(struct.calcsize(place))
            offset = struct.unpack(order + place, following)[0] if len(following) == struct.calcsize(place) else 0


def _kind_of(page: Any) -> int:
    """The bits of a page's NewSubfileType."""
    return int(page.keyframe.subfiletype or 0) if page.is_frame else int(page.subfiletype or 0)


def _is_unpacked_by_tifffile(path: Path) -> bool:
    """Whether tifffile can unpack a file's pages without further packages."""
    with tifffile.TiffFile(path) as f:
        try:
            f.pages.first.asarray()
        except ValueError as error:
            return "imagecodecs" not in str(error)
    return True


class _Complaints(logging.Handler):
    """Takes what tifffile says of damaged tags to its log, where it would go on without them.

    Attributes:
        heard: what was said last while it was entered; "" for nothing.
    """

    def __enter__(self) -> "_Complaints":
        self.heard = ""
        log = logging.getLogger("tifffile")
        self._before = log.propagate
        log.propagate = False
        log.addHandler(self)
        return self

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            self.heard = " ".join(record.getMessage().split())[-150:]

    def __exit__(self, *_: object) -> None:
        log = logging.getLogger("tifffile")
        log.removeHandler(self)
        log.propagate = self._before


def check_whole(path: Path, f: tifffile.TiffFile) -> None:
    """Refuse a TIFF whose last strips or tiles lie behind the end of the file."""
    size = path.stat().st_size
    for page in f.pages:
        ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
        if max(ends, default=0) > size:
            raise DataError(path, f"truncated ({size} bytes, at least {max(ends)} are needed)", "copy it again")


def _with_rasterio(path: Path, options: CubeOptions, rasterio: ModuleType) -> Raster:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        f = rasterio.open(path, driver="GTiff")
    # One amid the bands is theirs, whatever a program has noted.
    alphas = [f.count] if f.count > 1 and f.colorinterp[-1] == rasterio.enums.ColorInterp.alpha else []
    indexes = [k for k in f.indexes if k not in alphas]
    if (
        len(indexes) <= 3
        and f.dtypes[0] == "uint8"
        and f.photometric is not None
        and "rgb" in f.photometric.value.lower()
    ):
        raise DataError(path, "an RGB picture, where a cube of many bands is needed", "take it out of the folder")
    if options.band_axis == 1:
        raise DataError(path, f"a GeoTIFF says itself which its {len(indexes)} bands are", "leave {band_axis} out")

    def read(rows: slice, cols: slice) -> np.ndarray:
        return f.read(indexes, window=_window(f, rows, cols)).transpose(1, 2, 0)

    def mask(rows: slice, cols: slice) -> np.ndarray:
        window = _window(f, rows, cols)
        masks = f.read(alphas[0], window=window) if alphas else f.read_masks(indexes[0], window=window)
        return masks != 0

    flags = rasterio.enums.MaskFlags
    own = f.mask_flag_enums[indexes[0] - 1]
    has_mask = bool(alphas) or (flags.per_dataset in own and flags.alpha not in own)
    raster = _described_by_gdal(path, options, f, indexes)
    raster.source, raster.mask = read, mask if has_mask else None
    raster.interleave = "bsq" if f.profile.get("interleave") == "band" else "bip"
    raster.files = tuple(dict.fromkeys([path, *map(Path, f.files)]))
    raster.details = {"rasterio": f, "indexes": indexes, "alpha": bool(alphas)}
    raster.details["band_fields"], others = _fields_of_bands(f, indexes)
    raster.details["only_in_tiff"] = [
        *(words for words, held in (("control points", f.gcps[0]), ("RPCs", f.rpcs)) if held),
        *others,
    ]
    return raster


def _fields_of_bands(f: Any, indexes: list[int]) -> tuple[dict[str, list[str]], list[str]]:
    """(fwhm in nm and bbl, one value a band, as ENVI's headers have them; the names of all other tags)."""
    tags = [{k.lower(): v for k, v in f.tags(k).items()} for k in indexes]
    unit = tags[0].get("wavelength_units", tags[0].get("wavelength_unit", "")).lower()
    is_micro = unit.startswith("micro") or unit in ("um", "µm")
    fields = {}
    for name in ("fwhm", "bbl"):
        values = numbers_in(" ".join(t.get(name, "nan") for t in tags))
        if len(values) == len(indexes):
            fields[name] = [f"{v * (1000 if is_micro and name == 'fwhm' else 1):.15g}" for v in values]
    known = {"wavelength", "wavelength_units", "wavelength_unit", "area_or_point", *fields}
    names = dict.fromkeys(n for t in [f.tags(), *tags] for n in t if n.lower() not in known)
    return fields, [n for n in names if not n.lower().startswith(("statistics_", "tifftag_"))]


def _window(f: Any, rows: slice, cols: slice) -> tuple[tuple[int, int], tuple[int, int]]:
    (top, bottom, _), (left, right, _) = rows.indices(f.height), cols.indices(f.width)
    return (top, bottom), (left, right)


def _described_by_gdal(path: Path, options: CubeOptions, f: Any, indexes: list[int]) -> Raster:
    """A Raster with what GDAL knows of a dataset's bands of these numbers."""
    descriptions = [f.descriptions[k - 1] for k in indexes]
    names = descriptions if any(descriptions) else None
    known = _wavelengths(f, indexes, names)
    given = known is None and bool(options.wavelengths)
    _, wavelengths = layout(
        path, (f.height, f.width, len(indexes)), dataclasses.replace(options, band_axis=-1), known, band_axis=2
    )
    gains, offsets = ([values[k - 1] for k in indexes] for values in (f.scales, f.offsets))
    value_scale, scaling = scaling_said(path, gains, offsets, len(indexes))
    return Raster(
        path=path,
        kind="tiff",
        shape=(f.height, f.width, len(indexes)),
        dtype=np.dtype(f.dtypes[indexes[0] - 1]),
        source=lambda rows, cols: np.zeros(0),
        wavelengths=wavelengths,
        wavelengths_given=given,
        band_names=names,
        nodata=f.nodatavals[indexes[0] - 1],
        value_scale=value_scale,
        scaling=scaling,
        georeference=lambda: georeferencing.of_dataset(f),
    )


def _stack_with_rasterio(
    path: Path, options: CubeOptions, rasterio: ModuleType, count: int, is_geographic: bool
) -> Raster:
    """Pages of one band each, through GDAL: they have coordinates, or a packing that tifffile does not know."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        names = [f"GTIFF_DIR:{k}:{path}" for k in range(1, count + 1)]
        pages = [rasterio.open(name, driver="GTiff") for name in names]
    first = pages[0]
    if any((p.count, p.shape, p.dtypes) != (1, first.shape, first.dtypes) for p in pages):
        raise DataError(
            path, f"{count} pages that are not single bands of one size and type", "export them as one image"
        )

    def read(rows: slice, cols: slice) -> np.ndarray:
        return np.stack([page.read(1, window=_window(page, rows, cols)) for page in pages], axis=2)

    known = wavelengths_in_names([p.descriptions[0] or p.tags().get("TIFFTAG_IMAGEDESCRIPTION") for p in pages])
    shape = (*first.shape, count)
    _, wavelengths = layout(path, shape, dataclasses.replace(options, band_axis=-1), known, band_axis=2)
    value_scale, scaling = scaling_said(path, [p.scales[0] for p in pages], [p.offsets[0] for p in pages], count)
    kept = {"photometric": "minisblack", "planarconfig": "separate", "compression": 8}
    return Raster(
        path=path,
        kind="tiff",
        shape=shape,
        dtype=np.dtype(first.dtypes[0]),
        source=read,
        files=(path,),
        wavelengths=wavelengths,
        wavelengths_given=known is None and wavelengths is not None,
        nodata=first.nodata,
        value_scale=value_scale,
        scaling=scaling,
        georeference=lambda: georeferencing.of_dataset(first),
        interleave="bsq",
        details={} if is_geographic else {"tifffile": kept, "axes": (1, 2, 0), "pages": "QYX"},
    )


def _wavelengths(f: Any, indexes: list[int], names: Sequence[str | None] | None) -> np.ndarray | None:
    """Wavelengths as GDAL keeps them: a tag of each band, or words in their names."""
    tags = [{k.lower(): v for k, v in f.tags(k).items()} for k in indexes]
    if all("wavelength" in t for t in tags):
        unit = tags[0].get("wavelength_units", tags[0].get("wavelength_unit", ""))
        return nanometres([float(t["wavelength"]) for t in tags], unit)
    imagery = [f.tags(k, ns="IMAGERY").get("CENTRAL_WAVELENGTH_UM") for k in indexes]
    if all(imagery):
        return nanometres([float(w) for w in imagery], "um")
    return wavelengths_in_names(names) if names else None


def _with_tifffile(path: Path, options: CubeOptions, series: tifffile.TiffPageSeries) -> Raster:
    axes, wavelengths = layout(path, series.shape, options, None, {"YXS": 2}.get(series.axes, 0))
    given = wavelengths is not None
    with tifffile.TiffFile(path) as f:
        page = f.pages.first
        kept = {
            "photometric": page.photometric,
            "compression": page.compression,
            "planarconfig": page.planarconfig,
            "description": page.description or None,
            "tile": page.tile[-2:] if page.tile else None,
            "byteorder": f.byteorder,
            **_resolution(page),
        }
    try:
        array: np.ndarray = tifffile.memmap(path, mode="r")
    except ValueError:
        # Compressed, or in strips that do not follow each other.
        array = tifffile.imread(path)
    if array.shape != series.shape:
        raise DataError(path, f"its pages are {array.shape}, its first one speaks of {series.shape}", "export it again")
    return Raster(
        path=path,
        kind="tiff",
        shape=tuple(series.shape[k] for k in axes),
        dtype=series.dtype,
        source=lambda rows, cols: np.transpose(array[_index(axes, rows, cols)], axes),
        files=(path,),
        wavelengths=wavelengths,
        wavelengths_given=given,
        interleave="bip" if axes[2] == 2 else "bsq",
        details={"tifffile": kept, "axes": axes, "pages": series.axes},
    )


def _index(axes: tuple[int, ...], rows: slice, cols: slice) -> tuple[slice, ...]:
    index = [slice(None)] * 3
    index[axes[0]], index[axes[1]] = rows, cols
    return tuple(index)


def write(path: Path, cube: np.ndarray, like: Raster, scale: int) -> None:
    """Write a rows x columns x bands array as a TIFF like the one it was made from, or a new one.

    Raises:
        DataError: where that needs rasterio, which is missing.
    """
    if like.kind == "tiff" and "tifffile" in like.details:
        return _write_with_tifffile(path, cube, like, scale)
    rasterio = georeferencing.library()
    if rasterio is None:
        if like.georeference():
            raise DataError(path, "a GeoTIFF needs the package rasterio", "pip install rasterio")
        return _write_with_tifffile(path, cube, like, scale)
    source = like.details.get("rasterio")
    is_cog = source is not None and source.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
    first = path.with_name(f"plain_{path.name}") if is_cog else path
    try:
        _write_with_rasterio(rasterio, first, cube, like, scale)
        if is_cog:
            _make_cog(rasterio, first, path, source)
            first.unlink()
        # GDAL may close a file on a full disk without a word.
        with tifffile.TiffFile(path) as f:
            check_whole(path, f)
    # GDAL does not say what kept it from writing.
    except (rasterio.errors.RasterioError, tifffile.TiffFileError, DataError) as error:
        raise OSError(errno.ENOSPC, f"{path} was not written") from error


def _write_with_rasterio(rasterio: ModuleType, path: Path, cube: np.ndarray, like: Raster, scale: int) -> None:
    source = like.details.get("rasterio")
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        indexes = list(range(1, cube.shape[2] + 1)) if source is None else like.details["indexes"]
        with rasterio.open(path, "w", **_profile(rasterio, cube, like, scale, source)) as f:
            if source is not None:
                _copy_tags(source, f, scale)
            _describe(f, like, source, indexes)
            for rows in row_blocks(cube.shape, cube.dtype.itemsize, multiple=f.block_shapes[0][0]):
                window = ((rows.start, rows.stop), (0, cube.shape[1]))
                f.write(np.ascontiguousarray(cube[rows].transpose(2, 0, 1)), indexes, window=window)
                if source is not None and like.mask:
                    _write_mask(f, like, source, rows, window, scale)
        factors = [] if source is None else source.overviews(indexes[0])
        if factors:
            with rasterio.open(path, "r+", driver="GTiff") as f:
                f.build_overviews(factors, rasterio.enums.Resampling.average)


def _profile(rasterio: ModuleType, cube: np.ndarray, like: Raster, scale: int, source: Any) -> dict[str, Any]:
    """How rasterio is to make the file."""
    height, width, bands = cube.shape
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": bands,
        "dtype": cube.dtype.name,
    }
    profile |= {"nodata": like.nodata, "BIGTIFF": "IF_SAFER"}
    if source is not None:
        profile |= {name: source.profile[name] for name in CREATION_OPTIONS if name in source.profile}
        if not profile.get("tiled"):
            # A strip's height is its own, the width the picture's.
            profile.pop("blockxsize", None)
        if like.details["alpha"]:
            profile["count"] = source.count
    else:
        profile["interleave"] = "band" if like.interleave == "bsq" else "pixel"
    if georeference := like.georeference():
        finer = georeference.finer(scale)
        profile |= {"crs": finer.crs or None, "transform": rasterio.Affine(*finer.transform)}
    return profile


def _write_mask(
    target: Any, like: Raster, source: Any, rows: slice, window: tuple[tuple[int, int], tuple[int, int]], scale: int
) -> None:
    """The mask, or the alpha band, of some rows of the result."""
    above, below = rows.start // scale, -(-rows.stop // scale)
    part = slice(rows.start - above * scale, rows.stop - above * scale)

    def enlarged(image: np.ndarray) -> np.ndarray:
        return image.repeat(scale, axis=0)[part].repeat(scale, axis=1)

    if like.details["alpha"]:
        for index in set(source.indexes) - set(like.details["indexes"]):
            alpha = source.read(index, window=((above, below), (0, source.width)))
            target.write(enlarged(alpha), index, window=window)
    else:
        there = like.there(slice(above, below), slice(0, source.width))
        assert there is not None, "a scene with a mask"
        target.write_mask(enlarged(there), window=window)


def _make_cog(rasterio: ModuleType, plain: Path, path: Path, source: Any) -> None:
    """A cloud-optimised copy, with overviews of its own."""
    from rasterio.shutil import copy

    options = {"BLOCKSIZE": source.block_shapes[0][0], "OVERVIEWS": "AUTO", "BIGTIFF": "IF_SAFER"}
    if compression := source.profile.get("compress"):
        options["COMPRESS"] = compression
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        copy(str(plain), str(path), driver="COG", **options)


def _copy_tags(source: Any, target: Any, scale: int) -> None:
    target.descriptions, target.units = source.descriptions, source.units
    if source.count == target.count:
        target.colorinterp = source.colorinterp
    for band in (0, *source.indexes):
        for namespace in ("", *source.tag_namespaces(band)):
            if namespace in ("IMAGE_STRUCTURE", "DERIVED_SUBDATASETS", "RPC", "TIFF"):
                continue
            tags = source.tags(band, ns=namespace or None)
            # Statistics were those of the old pixels.
            tags = {k: v for k, v in tags.items() if not k.startswith("STATISTICS_")}
            # tifffile notes an array's shape there.
            if tags.get("TIFFTAG_IMAGEDESCRIPTION", "").startswith('{"shape"'):
                del tags["TIFFTAG_IMAGEDESCRIPTION"]
            # Dots an inch or centimetre.
            for name in ("TIFFTAG_XRESOLUTION", "TIFFTAG_YRESOLUTION"):
                if name in tags:
                    tags[name] = f"{float(tags[name]) * scale:.15g}"
            if tags:
                target.update_tags(band, ns=namespace or None, **tags)
    points, crs = source.gcps
    if points:
        for point in points:
            point.row, point.col = point.row * scale, point.col * scale
        target.gcps = points, crs
    if source.rpcs:
        rpcs = source.rpcs
        # RPCs count from the middle of the first pixel.
        rpcs.line_off, rpcs.samp_off = ((v + 0.5) * scale - 0.5 for v in (rpcs.line_off, rpcs.samp_off))
        rpcs.line_scale, rpcs.samp_scale = rpcs.line_scale * scale, rpcs.samp_scale * scale
        target.rpcs = rpcs


def _describe(target: Any, like: Raster, source: Any, indexes: list[int]) -> None:
    """What a scene says of its bands, as far as a file that it is copied from does not say it."""
    if source is None and like.band_names:
        target.descriptions = like.band_names
    _set_scaling(target, like, source, indexes)
    if like.wavelengths is not None and (source is None or like.wavelengths_given):
        for band, wavelength in zip(indexes, like.wavelengths, strict=True):
            target.update_tags(band, wavelength=f"{wavelength:.15g}", wavelength_units="Nanometers")


def _set_scaling(target: Any, like: Raster, source: Any, indexes: list[int]) -> None:
    offsets: Sequence[float] | np.ndarray
    if source is not None:
        gains, offsets = ([values[k - 1] for k in indexes] for values in (source.scales, source.offsets))
        if (like.value_scale, like.scaling) == scaling_said(like.path, gains, offsets, len(indexes)):
            target.scales, target.offsets = source.scales, source.offsets
            return
    if not like.scaling and not like.value_scale:
        return
    scales, offsets = np.ones(target.count), np.zeros(target.count)
    chosen = np.array(indexes) - 1
    scales[chosen] = like.scaling.gains if like.scaling else 1 / (like.value_scale or 1)
    offsets[chosen] = like.scaling.offsets if like.scaling else 0
    target.scales, target.offsets = scales.tolist(), offsets.tolist()


def _resolution(page: tifffile.TiffPage) -> dict[str, Any]:
    """Dots an inch or centimetre, as tifffile takes them; nothing where the file says nothing."""
    if "XResolution" not in page.tags or "YResolution" not in page.tags:
        return {}
    x, y = (page.tags[name].value for name in ("XResolution", "YResolution"))
    unit = page.tags["ResolutionUnit"].value if "ResolutionUnit" in page.tags else 1
    return {"resolution": (x, y), "resolutionunit": int(unit)} if x[1] and y[1] else {}


def _write_with_tifffile(path: Path, cube: np.ndarray, like: Raster, scale: int) -> None:
    kept = dict(like.details.get("tifffile", {"photometric": "minisblack", "planarconfig": "separate"}))
    axes = like.details.get("axes", (1, 2, 0))
    array = cube.transpose(np.argsort(axes))
    compression = kept.pop("compression", 1)
    # Other compressions would need a further package; deflate is everywhere.
    compression = None if compression == 1 else "zlib"
    pages = like.details.get("pages", "SYX")
    is_stack = pages[0] != "S" and axes[2] == 0
    if is_stack:
        # A page for each band.
        kept.pop("planarconfig")
        kept["metadata"] = None
    if description := kept.get("description"):
        kept["description"] = None if description.startswith('{"shape"') else _finer_ome(description, scale)
    if "resolution" in kept:
        kept["resolution"] = tuple(dots * scale / per for dots, per in kept["resolution"])
    extra = _tags_for_gdal(like, is_stack)
    tifffile.imwrite(path, array, compression=compression, bigtiff=cube.nbytes > 2**31, extratags=extra, **kept)


def _finer_ome(description: str, scale: int) -> str:
    """The description of an OME-TIFF for finer pixels; any other as it is."""
    if "<OME" not in description:
        return description
    larger = re.sub(r'\b(Size[XY])="(\d+)"', lambda m: f'{m[1]}="{int(m[2]) * scale}"', description)
    return re.sub(r'\b(PhysicalSize[XY])="([\d.eE+-]+)"', lambda m: f'{m[1]}="{float(m[2]) / scale:.15g}"', larger)


def _tags_for_gdal(like: Raster, is_stack: bool) -> list[tuple[int, str, int, str, bool]]:
    """What the user said of a plain TIFF, in the tags in which GDAL keeps it: no data, scale, wavelengths."""
    items = []
    bands = [0] if is_stack else range(like.shape[2])
    for k in bands:
        if like.value_scale:
            items.append((k, "SCALE", ' role="scale"', f"{1 / like.value_scale:.17g}"))
        if like.wavelengths_given and not is_stack:
            items.append((k, "wavelength", "", f"{np.asarray(like.wavelengths)[k]:.15g}"))
            items.append((k, "wavelength_units", "", "Nanometers"))
    tags = []
    if items:
        lines = [f'<Item name="{name}" sample="{k}"{role}>{value}</Item>' for k, name, role, value in items]
        tags.append((42112, "s", 0, f"<GDALMetadata>{''.join(lines)}</GDALMetadata>", False))
    if like.nodata is not None:
        tags.append((42113, "s", 0, f"{like.nodata:.17g}", False))
    if like.wavelengths_given and is_stack:
        print_line(f"{like.path.name}: a stack of pages has no place for the wavelengths that were given")
    return tags
