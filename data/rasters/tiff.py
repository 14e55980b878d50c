"""Multi-band TIFF and GeoTIFF: through rasterio where it is installed, plain TIFF without it through tifffile."""

import errno
import logging
import warnings
from pathlib import Path

import numpy as np
import tifffile

from data.errors import DataError
from data.rasters.base import (
    CubeOptions,
    Georeference,
    Raster,
    checked_numbers,
    layout,
    nanometres,
    row_blocks,
    unreadable,
    wavelengths_in_names,
)

# Tags that hold coordinates, or what GDAL says of a file: GeoKeys, pixel scale, tie points, metadata, no data.
GDAL_TAGS = (34735, 33550, 33922, 34264, 42112, 42113)
CREATION_OPTIONS = ("compress", "tiled", "blockxsize", "blockysize", "interleave", "photometric")


def open_raster(path: Path, options: CubeOptions) -> Raster:
    """Open a TIFF of several bands.

    Raises:
        DataError: for one that is cut off, a picture, or needs rasterio where that is missing.
    """
    with _Complaints() as complaints, tifffile.TiffFile(path) as f:
        check_whole(path, f)
        pages, tags = len(f.pages), f.pages.first.tags
        if complaints.heard:
            raise unreadable(path, "tiff")
        series = f.series[0]
        for_gdal = any(tag in tags for tag in GDAL_TAGS)
        picture = series.axes.endswith("S") and series.shape[-1] in (3, 4) and f.pages.first.photometric == 2
    if len(series.shape) != 3:
        raise DataError(
            path, f"a picture of shape {series.shape}, where several bands are needed", "take it out of the folder"
        )
    if picture:
        raise DataError(path, "an RGB picture, where a cube of many bands is needed", "take it out of the folder")
    checked_numbers(path, series.dtype)
    # GDAL takes pages for separate pictures.
    if pages == 1 and options.band_axis < 0:
        try:
            import rasterio
        except ImportError as error:
            if for_gdal:
                raise DataError(
                    path, "a GeoTIFF needs the package rasterio, to keep its coordinates", "pip install rasterio"
                ) from error
        else:
            return _with_rasterio(path, options, rasterio)
    return _with_tifffile(path, options, series)


class _Complaints(logging.Handler):
    """Takes what tifffile says of damaged tags to its log, where it would go on without them.

    Attributes:
        heard: whether anything was said while it was entered.
    """

    def __enter__(self) -> "_Complaints":
        self.heard = False
        log = logging.getLogger("tifffile")
        self._before = log.propagate
        log.propagate = False
        log.addHandler(self)
        return self

    def emit(self, record: logging.LogRecord) -> None:
        self.heard |= record.levelno >= logging.ERROR

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


def _with_rasterio(path, options, rasterio):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        f = rasterio.open(path)
    names = list(f.descriptions) if any(f.descriptions) else None
    _, wavelengths = layout(path, (f.height, f.width, f.count), options, _wavelengths(f, names), band_axis=2)
    scales = set(f.scales)
    scale = 1 / f.scales[0] if len(scales) == 1 and 0 < f.scales[0] < 1 else None

    def read(rows: slice, cols: slice) -> np.ndarray:
        (top, bottom, _), (left, right, _) = rows.indices(f.height), cols.indices(f.width)
        return f.read(window=((top, bottom), (left, right))).transpose(1, 2, 0)

    def georeference():
        if f.crs is None and f.transform.is_identity:
            return None
        return Georeference(f.crs.to_wkt() if f.crs else "", tuple(f.transform)[:6])

    return Raster(
        path=path,
        kind="tiff",
        shape=(f.height, f.width, f.count),
        dtype=np.dtype(f.dtypes[0]),
        source=read,
        files=(path,),
        wavelengths=wavelengths,
        band_names=names,
        nodata=f.nodata,
        value_scale=scale,
        georeference=georeference,
        interleave="bsq" if f.profile.get("interleave") == "band" else "bip",
        details={"rasterio": f},
    )


def _wavelengths(f, names):
    """Wavelengths as GDAL keeps them: a tag of each band, or words in their names."""
    tags = [{k.lower(): v for k, v in f.tags(k).items()} for k in f.indexes]
    if all("wavelength" in t for t in tags):
        unit = tags[0].get("wavelength_units", tags[0].get("wavelength_unit", ""))
        return nanometres([float(t["wavelength"]) for t in tags], unit)
    imagery = [f.tags(k, ns="IMAGERY").get("CENTRAL_WAVELENGTH_UM") for k in f.indexes]
    if all(imagery):
        return nanometres([float(w) for w in imagery], "um")
    return wavelengths_in_names(names) if names else None


def _with_tifffile(path, options, series):
    axes, wavelengths = layout(path, series.shape, options, None, {"YXS": 2}.get(series.axes, 0))
    with tifffile.TiffFile(path) as f:
        page = f.pages[0]
        kept = {
            "photometric": page.photometric,
            "compression": page.compression,
            "planarconfig": page.planarconfig,
            "description": page.description or None,
            "tile": page.tile[-2:] if page.is_tiled else None,
        }
    try:
        array = tifffile.memmap(path, mode="r")
    except ValueError:
        # Compressed, or in strips that do not follow each other.
        array = tifffile.imread(path)
    if array.shape != series.shape:
        raise unreadable(path, "tiff")
    return Raster(
        path=path,
        kind="tiff",
        shape=tuple(series.shape[k] for k in axes),
        dtype=series.dtype,
        source=lambda rows, cols: np.transpose(array[_index(axes, rows, cols)], axes),
        files=(path,),
        wavelengths=wavelengths,
        interleave="bip" if axes[2] == 2 else "bsq",
        details={"tifffile": kept, "axes": axes, "pages": series.axes},
    )


def _index(axes, rows, cols):
    index = [slice(None)] * 3
    index[axes[0]], index[axes[1]] = rows, cols
    return tuple(index)


def write(path: Path, cube: np.ndarray, like: Raster, scale: int) -> None:
    """Write a rows x columns x bands array as a TIFF like the one it was made from, or a new one.

    Raises:
        DataError: where that needs rasterio, which is missing.
    """
    if like.kind == "tiff" and "tifffile" in like.details:
        return _write_with_tifffile(path, cube, like)
    try:
        import rasterio
    except ImportError as error:
        if like.georeference():
            raise DataError(path, "a GeoTIFF needs the package rasterio", "pip install rasterio") from error
        return _write_with_tifffile(path, cube, like)
    profile = {"driver": "GTiff", "height": cube.shape[0], "width": cube.shape[1], "count": cube.shape[2]}
    profile |= {"dtype": cube.dtype.name, "nodata": like.nodata, "BIGTIFF": "IF_SAFER"}
    if like.kind == "tiff":
        source = like.details["rasterio"]
        profile |= {name: source.profile[name] for name in CREATION_OPTIONS if name in source.profile}
        if not profile.get("tiled"):
            # A strip's height is its own, the width the picture's.
            profile.pop("blockxsize", None)
    else:
        profile["interleave"] = "band" if like.interleave == "bsq" else "pixel"
    if georeference := like.georeference():
        finer = georeference.finer(scale)
        profile |= {"crs": finer.crs or None, "transform": rasterio.Affine(*finer.transform)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            f = rasterio.open(path, "w", **profile)
        with f:
            if like.kind == "tiff":
                _copy_tags(source, f, scale)
            else:
                _describe(f, like)
            for rows in row_blocks(cube.shape, cube.dtype.itemsize, multiple=f.block_shapes[0][0]):
                window = ((rows.start, rows.stop), (0, cube.shape[1]))
                f.write(np.ascontiguousarray(cube[rows].transpose(2, 0, 1)), window=window)
        # GDAL may close a file on a full disk without a word.
        with tifffile.TiffFile(path) as f:
            check_whole(path, f)
    # GDAL does not say what kept it from writing.
    except (rasterio.errors.RasterioError, tifffile.TiffFileError, DataError) as error:
        raise OSError(errno.ENOSPC, f"{path} was not written") from error


def _copy_tags(source, target, scale):
    target.descriptions = source.descriptions
    target.scales, target.offsets, target.units = source.scales, source.offsets, source.units
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


def _describe(target, like):
    """What a scene of another format says of its bands."""
    if like.band_names:
        target.descriptions = like.band_names
    if like.value_scale:
        target.scales = [1 / like.value_scale] * target.count
    if like.wavelengths is not None:
        for band, wavelength in enumerate(like.wavelengths, start=1):
            target.update_tags(band, wavelength=f"{wavelength:.15g}", wavelength_units="Nanometers")


def _write_with_tifffile(path, cube, like):
    kept = dict(like.details.get("tifffile", {"photometric": "minisblack", "planarconfig": "separate"}))
    axes = like.details.get("axes", (1, 2, 0))
    array = cube.transpose(np.argsort(axes))
    compression = kept.pop("compression", 1)
    # Other compressions would need a further package; deflate is everywhere.
    compression = None if compression == 1 else "zlib"
    pages = like.details.get("pages", "SYX")
    if pages[0] != "S" and axes[2] == 0:
        # A page for each band.
        kept.pop("planarconfig")
        kept["metadata"] = None
    tifffile.imwrite(path, array, compression=compression, bigtiff=cube.nbytes > 2**31, **kept)
