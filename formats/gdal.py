"""GeoTIFF, COG and BigTIFF through GDAL, and georeferencing as GDAL understands it."""

import contextlib
import dataclasses
import errno
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from formats.raster import (
    CubeOptions,
    Georeference,
    Raster,
    check_numbers,
    find_axes,
    make_scaling,
    report_left_out,
    split_rows,
)
from formats.wavelengths import convert_to_nm, parse_band_names, parse_numbers
from system.errors import DataError

# Drivers of GDAL that access other files and machines, and the suffixes that its network may open: none.
NO_NETWORK = {
    "GDAL_SKIP": "VRT GTI HTTP WCS WFS WMS WMTS PLMOSAIC OGCAPI STACIT STACTA DAAS EEDA EEDAI",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
}
# GDAL reads them when it is loaded.
for _name, _value in NO_NETWORK.items():
    os.environ.setdefault(_name, _value)

import rasterio  # noqa: E402
import rasterio.shutil  # noqa: E402
from rasterio.enums import ColorInterp, MaskFlags, Resampling  # noqa: E402
from rasterio.errors import NotGeoreferencedWarning, RasterioError  # noqa: E402
from rasterio.warp import transform  # noqa: E402

CREATION_OPTIONS = ("compress", "tiled", "blockxsize", "blockysize", "interleave", "photometric")
# Words of GDAL's messages of damage that it passes over: lost tags, directories in a circle or lost.
DAMAGE = ("io error", "looping", "failed to read directory")
Window = tuple[tuple[int, int], tuple[int, int]]
# Corners this near to each other, in parts of a pixel, are the same.
TOLERANCE = 0.01
# Band tags that ENVI's headers can contain too.
BAND_FIELDS = ("fwhm", "bbl")
# Descriptions that contain the sizes of the old pixels: of tifffile, OME and ImageJ.
OLD_DESCRIPTIONS = ('{"shape"', "<?xml", "<OME", "ImageJ=")


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence rasterio's warning of rasters without georeferencing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def open_dataset(path: str | Path, driver: str) -> Any:
    """Return a rasterio dataset, opened by this driver of GDAL only."""
    with _without_warnings():
        return rasterio.open(path, driver=driver)


class _DamageLog(logging.Handler):
    """Collects GDAL's messages of damage that it passes over while this is entered.

    Attributes:
        found: the last one; "" if there is none.
    """

    def __enter__(self) -> "_DamageLog":
        # Within an Env, GDAL writes to the log and not to stderr.
        self._environment = rasterio.Env()
        self._environment.__enter__()
        self.found, self._log = "", logging.getLogger("rasterio._env")
        self._before = self._log.propagate, self._log.level
        self._log.propagate = False
        # rasterio logs errors that it does not raise as information.
        self._log.setLevel(logging.INFO)
        self._log.addHandler(self)
        return self

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())
        if any(words in text.lower() for words in DAMAGE):
            self.found = text[-150:]

    def __exit__(self, *_: object) -> None:
        self._log.removeHandler(self)
        self._log.propagate = self._before[0]
        self._log.setLevel(self._before[1])
        self._environment.__exit__()


@dataclass(kw_only=True)
class TiffRaster(Raster):
    """A TIFF of several bands, or of several pages of one band each.

    Attributes:
        pages: its datasets: one, or one for each band.
        indexes: numbers of the bands in the first page, without an alpha band.
        has_alpha: True if an alpha band is the mask.
    """

    kind = "tiff"
    pages: list[Any]
    indexes: list[int]
    has_alpha: bool

    @property
    def is_stack(self) -> bool:
        return len(self.pages) > 1

    def write_upsampled(self, path: Path, cube: np.ndarray, scale: int) -> None:
        write_tiff(path, cube, self, scale)


def open_tiff(path: Path, options: CubeOptions) -> TiffRaster:
    """Open a TIFF of several bands.

    Raises:
        DataError: for a damaged file and for a picture.
        RasterioError: for a file that GDAL cannot read.
    """
    with _DamageLog() as log:
        first = open_dataset(path, "GTiff")
        # rasterio sorts their names, GTIFF_DIR:NUMBER:PATH, as texts.
        names = sorted(first.subdatasets, key=lambda name: int(name.split(":")[1]))
        pages = [open_dataset(name, "GTiff") for name in names] or [first]
    if log.found:
        raise DataError(path, f"cannot be read as TIFF ({log.found})", "copy or export it again")
    if first.count > 1:
        # Further pages of other sizes are previews.
        pages = [page for page in pages if (page.shape, page.count) == (first.shape, first.count)]
        pages = [first] if len(pages) == 1 else pages
    if len(pages) > 1 and any((p.count, p.shape, p.dtypes) != (1, first.shape, first.dtypes) for p in pages):
        what = f"{len(pages)} pages that are not single bands of one size and type"
        raise DataError(path, what, "export them as one image")
    alphas = [first.count] if first.count > 1 and first.colorinterp[-1] == ColorInterp.alpha else []
    indexes = [k for k in first.indexes if k not in alphas]
    _refuse_pictures(path, first, len(indexes) if len(pages) == 1 else len(pages))
    if options.band_axis == 1:
        raise DataError(path, f"a TIFF defines itself which its {len(indexes)} bands are", "leave {band_axis} out")
    for page in pages:
        _check_end(page)
    return _describe_pages(path, options, pages, indexes, alphas)


def _refuse_pictures(path: Path, f: Any, bands: int) -> None:
    remedy = "take it out of the folder"
    if bands == 1:
        raise DataError(path, f"a picture of shape {f.shape}, where several bands are needed", remedy)
    is_rgb = bands == 3 and f.colorinterp[:3] == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    is_described = f.crs is not None or not f.transform.is_identity or bool(f.tags(1))
    if is_rgb and not is_described:
        raise DataError(path, "an RGB picture, where a cube of many bands is needed", remedy)


def _check_end(f: Any) -> None:
    """Read the last row of all bands, which a truncated file lacks."""
    f.read(window=((f.height - 1, f.height), (0, f.width)))


def _describe_pages(
    path: Path, options: CubeOptions, pages: list[Any], indexes: list[int], alphas: list[int]
) -> TiffRaster:
    """Return the Raster of an open TIFF with the metadata that GDAL knows."""
    first, is_stack = pages[0], len(pages) > 1
    bands = [(page, 1) for page in pages] if is_stack else [(first, k) for k in indexes]
    dtype = np.dtype(first.dtypes[0])
    check_numbers(path, dtype)

    def read(rows: slice, cols: slice) -> np.ndarray:
        window = _window(first, rows, cols)
        if is_stack:
            return np.stack([page.read(1, window=window) for page in pages], axis=2)
        return first.read(indexes, window=window).transpose(1, 2, 0)

    def mask(rows: slice, cols: slice) -> np.ndarray:
        window = _window(first, rows, cols)
        return (first.read(alphas[0], window=window) if alphas else first.read_masks(1, window=window)) != 0

    flags = first.mask_flag_enums[0]
    has_mask = bool(alphas) or (MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags)
    tags = [{k.lower(): v for k, v in page.tags(index).items()} for page, index in bands]
    names = [page.descriptions[index - 1] for page, index in bands]
    known = _wavelengths_of(bands, tags, names)
    shape = (*first.shape, len(bands))
    _, wavelengths = find_axes(path, shape, dataclasses.replace(options, band_axis=-1), known, band_axis=2)
    gains, offsets = ([getattr(page, name)[k - 1] for page, k in bands] for name in ("scales", "offsets"))
    value_scale, scaling = make_scaling(path, gains, offsets, len(bands))
    fields = _band_fields(tags)
    return TiffRaster(
        path=path,
        shape=shape,
        dtype=dtype,
        source=read,
        files=tuple(dict.fromkeys([path, *map(Path, first.files)])) if not is_stack else (path,),
        wavelengths=wavelengths,
        wavelengths_given=known is None and wavelengths is not None,
        band_names=names if any(names) else None,
        nodata=first.nodata,
        value_scale=value_scale,
        scaling=scaling,
        mask=mask if has_mask else None,
        locate=lambda: get_georeference(first),
        interleave="bsq" if is_stack or first.profile.get("interleave") == "band" else "bip",
        band_fields=fields,
        other_fields=_other_fields(first, [first.tags(), *(page.tags(k) for page, k in bands)], fields),
        pages=pages,
        indexes=indexes,
        has_alpha=bool(alphas),
    )


def _window(f: Any, rows: slice, cols: slice) -> Window:
    (top, bottom, _), (left, right, _) = rows.indices(f.height), cols.indices(f.width)
    return (top, bottom), (left, right)


def _wavelengths_of(
    bands: list[tuple[Any, int]], tags: list[dict[str, str]], names: list[str | None]
) -> np.ndarray | None:
    """Wavelengths as GDAL keeps them: a tag of each band, or words in their names."""
    if all("wavelength" in t for t in tags):
        return convert_to_nm([float(t["wavelength"]) for t in tags], _unit_of(tags[0]))
    imagery = [page.tags(k, ns="IMAGERY").get("CENTRAL_WAVELENGTH_UM") for page, k in bands]
    if all(imagery):
        return convert_to_nm([float(w) for w in imagery], "um")
    return parse_band_names([n or t.get("tifftag_imagedescription") for n, t in zip(names, tags, strict=True)])


def _unit_of(tags: Mapping[str, str]) -> str:
    return tags.get("wavelength_units", tags.get("wavelength_unit", "")).lower()


def _band_fields(tags: list[dict[str, str]]) -> dict[str, list[str]]:
    """Return fwhm in nm and bbl, one value a band, as ENVI's headers have them."""
    unit, fields = _unit_of(tags[0]), {}
    for name in BAND_FIELDS:
        values = parse_numbers(" ".join(t.get(name, "nan") for t in tags))
        factor = 1000 if name == "fwhm" and (unit.startswith("micro") or unit in ("um", "µm")) else 1
        if len(values) == len(tags):
            fields[name] = [f"{v * factor:.15g}" for v in values]
    return fields


def _other_fields(f: Any, tags: list[dict[str, str]], fields: Mapping[str, list[str]]) -> list[str]:
    """Names of the metadata that no other format can contain."""
    known = {"wavelength", "wavelength_units", "wavelength_unit", "area_or_point", *fields}
    names = dict.fromkeys(name for t in tags for name in t if name.lower() not in known)
    held = {"control points": f.gcps[0], "RPCs": f.rpcs}
    own = [n for n in names if not n.lower().startswith(("statistics_", "tifftag_"))]
    return [*(words for words, value in held.items() if value), *own]


def write_tiff(path: Path, cube: np.ndarray, like: Raster, scale: int) -> None:
    """Write a rows x columns x bands array as a GeoTIFF: like the TIFF it was made from, or a new one.

    Raises:
        OSError: if GDAL cannot write it, or not all of it.
    """
    own = like if isinstance(like, TiffRaster) else None
    is_cog = own is not None and own.pages[0].tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
    plain = path.with_name(f"plain_{path.name}") if is_cog else path
    try:
        with _without_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            _write_plain(plain, cube, like, own, scale)
            if own is not None and is_cog:
                _make_cog(plain, path, own.pages[0])
                plain.unlink()
        # On a full disk, GDAL may close a file without an error.
        with _DamageLog() as log, open_dataset(path, "GTiff") as f:
            _check_end(f)
        if log.found:
            raise OSError(errno.ENOSPC, f"{path} was not written")
    # GDAL does not name the reason.
    except RasterioError as error:
        raise OSError(errno.ENOSPC, f"{path} was not written") from error


def _write_plain(path: Path, cube: np.ndarray, like: Raster, own: TiffRaster | None, scale: int) -> None:
    indexes = list(range(1, cube.shape[2] + 1)) if own is None or own.is_stack else own.indexes
    with rasterio.open(path, "w", **_profile(cube, like, own, scale)) as f:
        if own is not None:
            _copy_tags(path, own, f, scale)
        _describe(f, like, own, indexes)
        for rows in split_rows(cube.shape, cube.dtype.itemsize, multiple=f.block_shapes[0][0]):
            window = ((rows.start, rows.stop), (0, cube.shape[1]))
            f.write(np.ascontiguousarray(cube[rows].transpose(2, 0, 1)), indexes, window=window)
            if own is not None and own.mask:
                _write_mask(f, own, rows, window, scale)
    if own is not None and (factors := own.pages[0].overviews(1)):
        with rasterio.open(path, "r+", driver="GTiff") as f:
            f.build_overviews(factors, Resampling.average)


def _profile(cube: np.ndarray, like: Raster, own: TiffRaster | None, scale: int) -> dict[str, Any]:
    """Return the creation options of the file."""
    height, width, bands = cube.shape
    profile: dict[str, Any] = {"driver": "GTiff", "height": height, "width": width, "count": bands}
    profile |= {"dtype": cube.dtype.name, "nodata": like.nodata, "BIGTIFF": "IF_SAFER"}
    if own is not None:
        source = own.pages[0].profile
        profile |= {name: source[name] for name in CREATION_OPTIONS if name in source}
        if not profile.get("tiled"):
            # Strips are as wide as the image.
            profile.pop("blockxsize", None)
        if own.has_alpha:
            profile["count"] = own.pages[0].count
    if own is None or own.is_stack:
        # GDAL takes three or four bands of uint8 for red, green, blue and alpha.
        profile |= {"interleave": "band" if like.interleave == "bsq" else "pixel", "photometric": "minisblack"}
    if georeference := like.georeference():
        finer = georeference.upsample(scale)
        profile |= {"crs": finer.crs or None, "transform": rasterio.Affine(*finer.transform)}
    return profile


def _write_mask(f: Any, own: TiffRaster, rows: slice, window: Window, scale: int) -> None:
    """Write the mask, or the alpha band, of some rows of the result."""
    above, below = rows.start // scale, -(-rows.stop // scale)
    there = own.read_mask(slice(above, below))
    assert there is not None, "a scene with a mask"
    if own.has_alpha:
        there = own.pages[0].read(own.pages[0].count, window=((above, below), (0, own.shape[1])))
    finer = there.repeat(scale, axis=0)[rows.start - above * scale : rows.stop - above * scale].repeat(scale, axis=1)
    if own.has_alpha:
        f.write(finer, own.pages[0].count, window=window)
    else:
        f.write_mask(finer, window=window)


def _make_cog(plain: Path, path: Path, source: Any) -> None:
    """Write a cloud-optimised copy, with overviews of its own."""
    options = {"BLOCKSIZE": source.block_shapes[0][0], "OVERVIEWS": "AUTO", "BIGTIFF": "IF_SAFER"}
    if compression := source.profile.get("compress"):
        options["COMPRESS"] = compression
    rasterio.shutil.copy(str(plain), str(path), driver="COG", **options)


def _copy_tags(path: Path, own: TiffRaster, target: Any, scale: int) -> None:
    """Copy the metadata of a TIFF, of a stack those of its first page; renew control points, RPCs and resolution."""
    source = own.pages[0]
    if not own.is_stack:
        target.descriptions, target.units = source.descriptions, source.units
        if source.count == target.count:
            target.colorinterp = source.colorinterp
    for band in (0,) if own.is_stack else (0, *source.indexes):
        for namespace in ("", *source.tag_namespaces(band)):
            if namespace in ("IMAGE_STRUCTURE", "DERIVED_SUBDATASETS", "SUBDATASETS", "RPC", "TIFF"):
                continue
            tags = source.tags(band, ns=namespace or None)
            # Statistics are those of the old pixels.
            tags = {k: v for k, v in tags.items() if not k.startswith("STATISTICS_")}
            if tags.get("TIFFTAG_IMAGEDESCRIPTION", "").startswith(OLD_DESCRIPTIONS):
                if not tags.pop("TIFFTAG_IMAGEDESCRIPTION").startswith(OLD_DESCRIPTIONS[0]):
                    report_left_out(path, ["its image description"])
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
    if rpcs := source.rpcs:
        # RPCs count from the middle of the first pixel.
        rpcs.line_off, rpcs.samp_off = ((v + 0.5) * scale - 0.5 for v in (rpcs.line_off, rpcs.samp_off))
        rpcs.line_scale, rpcs.samp_scale = rpcs.line_scale * scale, rpcs.samp_scale * scale
        target.rpcs = rpcs


def _describe(target: Any, like: Raster, own: TiffRaster | None, indexes: list[int]) -> None:
    """Write the metadata of the bands that are not copied from a TIFF of the same bands."""
    is_new = own is None or own.is_stack
    if is_new and like.band_names:
        target.descriptions = like.band_names
    if own is None or own.is_stack or not _copy_scaling(target, like, own):
        scales, offsets, chosen = np.ones(target.count), np.zeros(target.count), np.array(indexes) - 1
        scales[chosen] = like.scaling.gains if like.scaling else 1 / (like.value_scale or 1)
        offsets[chosen] = like.scaling.offsets if like.scaling else 0
        if like.scaling or like.value_scale:
            target.scales, target.offsets = scales.tolist(), offsets.tolist()
    has_wavelengths = like.wavelengths is not None and (is_new or like.wavelengths_given)
    for place, band in enumerate(indexes):
        tags = {name: values[place] for name, values in like.band_fields.items()} if is_new else {}
        if like.wavelengths is not None and has_wavelengths:
            tags["wavelength"] = f"{like.wavelengths[place]:.15g}"
        if "wavelength" in tags or "fwhm" in tags:
            tags["wavelength_units"] = "Nanometers"
        if tags:
            target.update_tags(band, **tags)


def _copy_scaling(target: Any, like: Raster, own: TiffRaster) -> bool:
    """Copy gains and offsets of a TIFF if the user has not given others; return True if so."""
    source = own.pages[0]
    gains, offsets = ([values[k - 1] for k in own.indexes] for values in (source.scales, source.offsets))
    if (like.value_scale, like.scaling) != make_scaling(like.path, gains, offsets, len(own.indexes)):
        return False
    target.scales, target.offsets = source.scales, source.offsets
    return True


def is_known_crs(crs: str) -> bool:
    """Return True if GDAL understands a coordinate system's text, or if it is empty."""
    try:
        return not crs or bool(rasterio.CRS.from_user_input(crs))
    # GDAL raises errors of several types.
    except Exception:
        return False


def is_geographic(crs: str) -> bool:
    """Return True if a coordinate system that GDAL understands is one of longitudes and latitudes."""
    return bool(rasterio.CRS.from_user_input(crs).is_geographic)


def get_georeference(f: Any) -> Georeference | None:
    """Return the georeferencing of an open rasterio dataset, or None."""
    if f.crs is None and f.transform.is_identity:
        return None
    wkt = f.crs.to_wkt() if f.crs else ""
    # GDAL's name for an ENVI grid without a coordinate system.
    return Georeference("" if wkt.startswith('LOCAL_CS["Arbitrary"') else wkt, tuple(f.transform)[:6])


def read_georeference(path: str | Path, driver: str) -> Georeference | None:
    """Return the georeferencing of a file as a driver of GDAL reads it, or None."""
    with open_dataset(path, driver) as f:
        return get_georeference(f)


def are_same(a: Georeference | None, b: Georeference | None, height: int, width: int) -> bool:
    """Return True if two georeferences of a raster put its corners at the same places on the ground."""
    if a is None or b is None:
        return a is b
    corners = np.array([(0, 0, 1), (width, 0, 1), (0, height, 1), (width, height, 1)], dtype=np.float64)
    places: list[Any] = [corners @ np.reshape(place.transform[:6], (2, 3)).T for place in (a, b)]
    if bool(a.crs) != bool(b.crs):
        return False
    if a.crs != b.crs:
        try:
            places[1] = np.array(transform(b.crs, a.crs, *places[1].T)).T
        # GDAL refuses pairs of systems that it cannot convert into each other.
        except Exception:
            return False
    pixel = min(np.hypot(a.transform[0], a.transform[3]), np.hypot(a.transform[1], a.transform[4]))
    return bool(np.abs(places[0] - places[1]).max() <= TOLERANCE * pixel)


def write_empty(path: Path, driver: str, georeference: Georeference, **options: str) -> None:
    """Write a raster of 4 x 4 zeros with this georeferencing by a driver of GDAL."""
    profile = {"driver": driver, "width": 4, "height": 4, "count": 1, "dtype": "uint8", **options}
    place = {"crs": georeference.crs or None, "transform": rasterio.Affine(*georeference.transform)}
    with _without_warnings(), rasterio.open(path, "w", **profile, **place) as f:
        f.write(np.zeros((1, 4, 4), np.uint8))
