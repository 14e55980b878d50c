"""GeoTIFF, COG and BigTIFF through GDAL, and georeferencing as GDAL understands it."""

import contextlib
import dataclasses
import errno
import logging.handlers
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from formats import raster
from formats.raster import CubeOptions, Georeference, Raster
from formats.wavelengths import convert_to_nm, parse_band_names, parse_numbers
from system.errors import DataError

# Drivers of GDAL that access other files and machines, and the suffixes of URLs that it may open: none.
NO_NETWORK = {
    "GDAL_SKIP": "VRT GTI HTTP WCS WFS WMS WMTS PLMOSAIC OGCAPI STACIT STACTA DAAS EEDA EEDAI",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
}
# GDAL reads these variables when it is loaded.
for _name, _value in NO_NETWORK.items():
    os.environ.setdefault(_name, _value)

import rasterio  # noqa: E402
import rasterio.shutil  # noqa: E402
from rasterio.enums import ColorInterp, MaskFlags, Resampling  # noqa: E402
from rasterio.errors import NotGeoreferencedWarning, RasterioError  # noqa: E402
from rasterio.warp import transform  # noqa: E402

CREATION_OPTIONS = ("compress", "tiled", "blockxsize", "blockysize", "interleave", "photometric")
# Words of GDAL's warnings of damage that it ignores: lost tags, lost or circular directories.
DAMAGE = ("io error", "looping", "failed to read directory")
Window = tuple[tuple[int, int], tuple[int, int]]
# Largest distance of equal corners, in pixels.
TOLERANCE = 0.01
# Descriptions that contain the sizes of the old pixels: of tifffile, OME and ImageJ.
OLD_DESCRIPTIONS = ('{"shape"', "<?xml", "<OME", "ImageJ=")


@contextlib.contextmanager
def _silence_warnings() -> Iterator[None]:
    """Silence rasterio's warning of rasters without georeferencing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def open_dataset(path: str | Path, driver: str) -> Any:
    """Return a rasterio dataset, opened by this driver of GDAL only."""
    with _silence_warnings():
        return rasterio.open(path, driver=driver)


@contextlib.contextmanager
def _collect_damage() -> Iterator[list[str]]:
    """Collect GDAL's warnings of damage within the context; the list is complete at its end."""
    found: list[str] = []
    log, handler = logging.getLogger("rasterio._env"), logging.handlers.BufferingHandler(2**20)
    before = log.propagate, log.level
    # Within an Env, GDAL writes to the log and not to stderr.
    with rasterio.Env():
        log.propagate = False
        # rasterio logs errors that it does not raise as information.
        log.setLevel(logging.INFO)
        log.addHandler(handler)
        try:
            yield found
        finally:
            log.removeHandler(handler)
            log.propagate = before[0]
            log.setLevel(before[1])
            texts = [" ".join(record.getMessage().split()) for record in handler.buffer]
            found += [text[-150:] for text in texts if any(words in text.lower() for words in DAMAGE)]


@dataclass(kw_only=True)
class TiffRaster(Raster):
    """A TIFF of several bands, or of several pages of one band each.

    Attributes:
        pages: its rasterio datasets: one, or one for each band.
        indexes: numbers of the bands in the first page, without an alpha band.
        has_alpha: True if an alpha band is the mask.
    """

    kind: str = "tiff"
    pages: list[Any]
    indexes: list[int]
    has_alpha: bool

    @property
    def is_stack(self) -> bool:
        """True if each band is a page."""
        return len(self.pages) > 1


def open_tiff(path: Path, options: CubeOptions) -> TiffRaster:
    """Open a TIFF of several bands.

    Raises:
        DataError: for a damaged file and for a picture.
        RasterioError: for a file that GDAL cannot read.
    """
    with _collect_damage() as damage:
        first = open_dataset(path, "GTiff")
        # rasterio sorts their names, GTIFF_DIR:NUMBER:PATH, as texts.
        names = sorted(first.subdatasets, key=lambda name: int(name.split(":")[1]))
        pages = [open_dataset(name, "GTiff") for name in names] or [first]
    if damage:
        raise DataError(path, f"cannot be read as TIFF ({damage[-1]})", "copy or export it again")
    if first.count > 1:
        # Further pages of other sizes are previews.
        pages = [page for page in pages if (page.shape, page.count) == (first.shape, first.count)]
        pages = [first] if len(pages) == 1 else pages
    if len(pages) > 1 and any((p.count, p.shape, p.dtypes) != (1, first.shape, first.dtypes) for p in pages):
        what = f"{len(pages)} pages that are not single bands of one size and type"
        raise DataError(path, what, "export them as one image")
    has_alpha = first.count > 1 and first.colorinterp[-1] == ColorInterp.alpha
    indexes = list(first.indexes[:-1] if has_alpha else first.indexes)
    bands = len(indexes) if len(pages) == 1 else len(pages)
    _refuse_pictures(path, first, bands)
    if options.band_axis == 1:
        raise DataError(path, f"a TIFF defines itself which its {bands} bands are", "leave {band_axis} out")
    for page in pages:
        _read_last_row(page)
    return _describe_pages(path, options, pages, indexes, has_alpha)


def _refuse_pictures(path: Path, f: Any, bands: int) -> None:
    remedy = "take it out of the folder"
    if bands == 1:
        raise DataError(path, f"a picture of shape {f.shape}, where several bands are needed", remedy)
    is_rgb = bands == 3 and f.colorinterp[:3] == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    is_described = f.crs is not None or not f.transform.is_identity or bool(f.tags(1))
    if is_rgb and not is_described:
        raise DataError(path, "an RGB picture, where a cube of many bands is needed", remedy)


def _read_last_row(f: Any) -> None:
    """Read the last row of all bands, which a truncated file lacks."""
    f.read(window=((f.height - 1, f.height), (0, f.width)))


def _describe_pages(
    path: Path, options: CubeOptions, pages: list[Any], indexes: list[int], has_alpha: bool
) -> TiffRaster:
    """Return the Raster of an open TIFF with the metadata that GDAL knows."""
    first, is_stack = pages[0], len(pages) > 1
    bands = [(page, 1) for page in pages] if is_stack else [(first, k) for k in indexes]
    dtype = np.dtype(first.dtypes[0])
    raster.check_numbers(path, dtype)

    def read(rows: slice, cols: slice) -> np.ndarray:
        window = rows.indices(first.height)[:2], cols.indices(first.width)[:2]
        if is_stack:
            return np.stack([page.read(1, window=window) for page in pages], axis=2)
        return first.read(indexes, window=window).transpose(1, 2, 0)

    def mask(rows: slice, cols: slice) -> np.ndarray:
        window = rows.indices(first.height)[:2], cols.indices(first.width)[:2]
        return (first.read(first.count, window=window) if has_alpha else first.read_masks(1, window=window)) != 0

    flags = first.mask_flag_enums[0]
    has_mask = has_alpha or (MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags)
    tags = [{k.lower(): v for k, v in page.tags(index).items()} for page, index in bands]
    names = [page.descriptions[index - 1] for page, index in bands]
    known = _find_wavelengths(bands, tags, names)
    shape = (*first.shape, len(bands))
    _, wavelengths = raster.find_axes(path, shape, dataclasses.replace(options, band_axis=-1), known, band_axis=2)
    gains, offsets = ([getattr(page, name)[k - 1] for page, k in bands] for name in ("scales", "offsets"))
    value_scale, scaling = raster.make_scaling(path, gains, offsets, len(bands))
    numeric = (*raster.BAND_FIELDS, "wavelength")
    numbers = {name: parse_numbers(" ".join(t.get(name, "nan") for t in tags)) for name in numeric}
    fields = raster.convert_band_fields(numbers, _get_unit(tags[0]), len(tags))
    return TiffRaster(
        path=path,
        shape=shape,
        dtype=dtype,
        source=read,
        files=(path,) if is_stack else tuple(dict.fromkeys([path, *map(Path, first.files)])),
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
        other_fields=_list_other_fields(first, [first.tags(), *(page.tags(k) for page, k in bands)], fields),
        pages=pages,
        indexes=indexes,
        has_alpha=has_alpha,
    )


def _find_wavelengths(
    bands: list[tuple[Any, int]], tags: list[dict[str, str]], names: list[str | None]
) -> np.ndarray | None:
    """Return the wavelengths in nm in a tag of each band, or in the bands' names; None without them."""
    if all("wavelength" in t for t in tags):
        return convert_to_nm([float(t["wavelength"]) for t in tags], _get_unit(tags[0]))
    imagery = [page.tags(k, ns="IMAGERY").get("CENTRAL_WAVELENGTH_UM") for page, k in bands]
    if all(imagery):
        return convert_to_nm([float(w) for w in imagery], "um")
    return parse_band_names([n or t.get("tifftag_imagedescription") for n, t in zip(names, tags, strict=True)])


def _get_unit(tags: Mapping[str, str]) -> str:
    return tags.get("wavelength_units", tags.get("wavelength_unit", ""))


def _list_other_fields(f: Any, tags: list[dict[str, str]], fields: Mapping[str, list[str]]) -> list[str]:
    """Return the names of the metadata that no other format can contain."""
    known = {"wavelength", "wavelength_units", "wavelength_unit", "area_or_point", *fields}
    names = [n for n in dict.fromkeys(n for t in tags for n in t) if n.lower() not in known]
    special = [words for words, value in {"control points": f.gcps[0], "RPCs": f.rpcs}.items() if value]
    return special + [n for n in names if not n.lower().startswith(("statistics_", "tifftag_"))]


def write_tiff(path: Path, cube: np.ndarray, template: Raster, scale: int) -> None:
    """Write a rows x columns x bands array as a GeoTIFF with the metadata of the template.

    Raises:
        OSError: if GDAL cannot write it, or not all of it.
    """
    own = template if isinstance(template, TiffRaster) else None
    is_cog = own is not None and own.pages[0].tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
    plain = path.with_name(f"plain_{path.name}") if is_cog else path
    try:
        with _silence_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            _write_plain(plain, cube, template, own, scale)
            if own is not None and is_cog:
                _write_cog(plain, path, own.pages[0])
                plain.unlink()
        # On a full disk, GDAL may close a file without an error.
        with _collect_damage() as damage, open_dataset(path, "GTiff") as f:
            _read_last_row(f)
        if damage:
            raise OSError(errno.ENOSPC, f"{path} was not written")
    # GDAL does not name the reason.
    except RasterioError as error:
        raise OSError(errno.ENOSPC, f"{path} was not written") from error


def _write_plain(path: Path, cube: np.ndarray, template: Raster, own: TiffRaster | None, scale: int) -> None:
    # A stack of pages becomes one page: a new file.
    source = own if own and not own.is_stack else None
    indexes = source.indexes if source else list(range(1, cube.shape[2] + 1))
    with rasterio.open(path, "w", **_make_profile(cube, template, own, scale)) as f:
        if own:
            _copy_tags(path, own, f, scale)
        _write_band_metadata(f, template, source, indexes)
        for rows in raster.split_rows(cube.shape, cube.dtype.itemsize, multiple=f.block_shapes[0][0]):
            window = ((rows.start, rows.stop), (0, cube.shape[1]))
            f.write(np.ascontiguousarray(cube[rows].transpose(2, 0, 1)), indexes, window=window)
            if own and own.mask:
                _write_mask(f, own, rows, window, scale)
    if own and (factors := own.pages[0].overviews(1)):
        with rasterio.open(path, "r+", driver="GTiff") as f:
            f.build_overviews(factors, Resampling.average)


def _make_profile(cube: np.ndarray, template: Raster, own: TiffRaster | None, scale: int) -> dict[str, Any]:
    """Return the creation options of the file."""
    height, width, bands = cube.shape
    profile: dict[str, Any] = {"driver": "GTiff", "height": height, "width": width, "count": bands}
    profile |= {"dtype": cube.dtype.name, "nodata": template.nodata, "BIGTIFF": "IF_SAFER"}
    if own:
        source = own.pages[0].profile
        profile |= {name: source[name] for name in CREATION_OPTIONS if name in source}
        if not profile.get("tiled"):
            # Strips are as wide as the image.
            profile.pop("blockxsize", None)
        if own.has_alpha:
            profile["count"] = own.pages[0].count
    if own is None or own.is_stack:
        # By default, three or four bands of uint8 are red, green, blue and alpha.
        profile |= {"interleave": "band" if template.interleave == "bsq" else "pixel", "photometric": "minisblack"}
    if georeference := template.read_georeference():
        place = georeference.upsample(scale)
        profile |= {"crs": place.crs or None, "transform": rasterio.Affine(*place.transform)}
    return profile


def _write_mask(f: Any, own: TiffRaster, rows: slice, window: Window, scale: int) -> None:
    """Write the mask, or the alpha band, of some rows of the result."""
    first, last = rows.start // scale, -(-rows.stop // scale)
    page, count = own.pages[0], own.pages[0].count
    if own.has_alpha:
        valid = page.read(count, window=((first, last), (0, own.shape[1])))
    else:
        valid = page.read_masks(1, window=((first, last), (0, own.shape[1])))
    valid = valid.repeat(scale, axis=0)[rows.start - first * scale : rows.stop - first * scale].repeat(scale, axis=1)
    if own.has_alpha:
        f.write(valid, count, window=window)
    else:
        f.write_mask(valid, window=window)


def _write_cog(plain: Path, path: Path, source: Any) -> None:
    """Write a cloud-optimised copy with overviews."""
    options = {"BLOCKSIZE": source.block_shapes[0][0], "OVERVIEWS": "AUTO", "BIGTIFF": "IF_SAFER"}
    if compression := source.profile.get("compress"):
        options["COMPRESS"] = compression
    rasterio.shutil.copy(str(plain), str(path), driver="COG", **options)


def _copy_tags(path: Path, own: TiffRaster, target: Any, scale: int) -> None:
    """Copy the tags of a TIFF, of a stack those of its first page; recompute control points, RPCs and resolution."""
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
            # Statistics of the old pixels.
            tags = {k: v for k, v in tags.items() if not k.startswith("STATISTICS_")}
            if tags.get("TIFFTAG_IMAGEDESCRIPTION", "").startswith(OLD_DESCRIPTIONS):
                if not tags.pop("TIFFTAG_IMAGEDESCRIPTION").startswith(OLD_DESCRIPTIONS[0]):
                    raster.report_left_out(path, ["its image description"])
            # Dots an inch or centimetre.
            for name in {"TIFFTAG_XRESOLUTION", "TIFFTAG_YRESOLUTION"} & tags.keys():
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


def _write_band_metadata(target: Any, template: Raster, source: TiffRaster | None, indexes: list[int]) -> None:
    """Write the metadata of the bands; of a source of the same bands, tags are copied already."""
    if source is None and template.band_names:
        target.descriptions = template.band_names
    pairs = np.ones(target.count), np.zeros(target.count)
    if source:
        pairs = np.array(source.pages[0].scales), np.array(source.pages[0].offsets)
    chosen = np.array(indexes) - 1
    known = raster.make_scaling(template.path, pairs[0][chosen], pairs[1][chosen], len(indexes))
    if (template.value_scale, template.scaling) != known:
        scaling = template.scaling
        pairs[0][chosen] = scaling.gains if scaling else 1 / (template.value_scale or 1)
        pairs[1][chosen] = scaling.offsets if scaling else 0
    if source or template.scaling or template.value_scale:
        target.scales, target.offsets = (values.tolist() for values in pairs)
    waves = template.wavelengths if source is None or template.wavelengths_given else None
    for place, band in enumerate(indexes):
        tags = {name: values[place] for name, values in template.band_fields.items()} if source is None else {}
        if waves is not None:
            tags["wavelength"] = f"{waves[place]:.15g}"
        if "wavelength" in tags or "fwhm" in tags:
            tags["wavelength_units"] = "Nanometers"
        if tags:
            target.update_tags(band, **tags)


def is_known_crs(crs: str) -> bool:
    """Return True if GDAL knows a CRS by its text, or if the text is empty."""
    try:
        return not crs or bool(rasterio.CRS.from_user_input(crs))
    # GDAL raises errors of several types.
    except Exception:
        return False


def is_geographic(crs: str) -> bool:
    """Return True if a CRS that GDAL knows is one of longitudes and latitudes."""
    return bool(rasterio.CRS.from_user_input(crs).is_geographic)


def get_georeference(f: Any) -> Georeference | None:
    """Return the georeferencing of an open rasterio dataset, or None."""
    if f.crs is None and f.transform.is_identity:
        return None
    wkt = f.crs.to_wkt() if f.crs else ""
    # GDAL's name for an ENVI grid without a CRS.
    return Georeference("" if wkt.startswith('LOCAL_CS["Arbitrary"') else wkt, tuple(f.transform)[:6])


def read_georeference(path: str | Path, driver: str) -> Georeference | None:
    """Return the georeferencing of a file as a driver of GDAL reads it, or None."""
    with open_dataset(path, driver) as f:
        return get_georeference(f)


def are_same(a: Georeference | None, b: Georeference | None, height: int, width: int) -> bool:
    """Return True if two georeferences of a raster agree at its corners, to `TOLERANCE`."""
    if a is None or b is None:
        return a is b
    if bool(a.crs) != bool(b.crs):
        return False
    corners = np.array([(0, 0, 1), (width, 0, 1), (0, height, 1), (width, height, 1)], dtype=np.float64)
    places: list[Any] = [corners @ np.reshape(place.transform[:6], (2, 3)).T for place in (a, b)]
    if a.crs != b.crs:
        try:
            places[1] = np.array(transform(b.crs, a.crs, *places[1].T)).T
        # GDAL cannot convert every pair of systems.
        except Exception:
            return False
    pixel = min(np.hypot(a.transform[0], a.transform[3]), np.hypot(a.transform[1], a.transform[4]))
    return bool(np.abs(places[0] - places[1]).max() <= TOLERANCE * pixel)


def write_empty(path: Path, driver: str, georeference: Georeference, **options: str) -> None:
    """Write a raster of 4 x 4 zeros with this georeferencing by a driver of GDAL."""
    profile = {"driver": driver, "width": 4, "height": 4, "count": 1, "dtype": "uint8", **options}
    place = {"crs": georeference.crs or None, "transform": rasterio.Affine(*georeference.transform)}
    with _silence_warnings(), rasterio.open(path, "w", **profile, **place) as f:
        f.write(np.zeros((1, 4, 4), np.uint8))
