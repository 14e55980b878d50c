"""ENVI: a text header beside a file of bare values."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.errors import DataError
from data.rasters.base import CubeOptions, Georeference, Raster, checked_numbers, given_wavelengths, nanometres
from data.rasters.raw import AXES, RawCube

HEADER_EXTENSIONS = (".hdr", ".HDR")
# Fields that are about the bytes of one file.
LAYOUT_FIELDS = ("samples", "lines", "bands", "header offset", "file type", "data type", "interleave", "byte order")


# Fields that are about the pixel grid.
FIELDS_OF_PIXELS = ("map info", "pixel size", "x start", "y start", "geo points")
# Extensions of data files, beside those that name their interleave.
DATA_EXTENSIONS = ("img", "dat", "sli", "hyspex", "raw", "bin")


def header_of(path: str | Path) -> Path | None:
    """The header of an ENVI file that may be named by its header or by its data; None without one."""
    path = Path(path)
    beside = [path.with_name(path.name + e) for e in HEADER_EXTENSIONS] + [
        path.with_suffix(e) for e in HEADER_EXTENSIONS
    ]
    for candidate in [path, *beside]:
        if candidate.is_file() and candidate.suffix.lower() == ".hdr":
            with open(candidate, "rb") as f:
                if f.read(32).lstrip().startswith(b"ENVI"):
                    return candidate
    return None


def open_raster(path: Path, options: CubeOptions) -> Raster:
    """Open an ENVI scene by its header.

    Raises:
        DataError: without the package `spectral`, for a header that cannot be used or does not fit its data.
    """
    envi = _library(path)
    with warnings.catch_warnings():
        # Field names with capital letters.
        warnings.simplefilter("ignore")
        try:
            image = envi.open(str(path))
        except envi.EnviDataFileNotFoundError as error:
            raise DataError(path, "its data file is missing", "put it beside the header under the same name") from error
        except envi.EnviException as error:
            raise DataError(path, f"its header cannot be used ({error})", "correct it") from error
    if isinstance(image, envi.SpectralLibrary):
        raise DataError(path, "a spectral library, where an image is needed", "give the header of an image")
    dtype = np.dtype(image.dtype)
    checked_numbers(path, dtype)
    header, shape = image.metadata, (image.nrows, image.ncols, image.nbands)
    _check_fields(path, header)
    needed = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize + image.offset
    held = Path(image.filename).stat().st_size
    # A file too long has other lines or samples than the header says: its image would be sheared.
    if held != needed:
        raise DataError(
            image.filename, f"{held} bytes, its header speaks of {needed}", "copy the data again or correct the header"
        )
    wavelengths = None
    if header.get("wavelength"):
        values = _listed(header["wavelength"])
        if len(values) != shape[2]:
            raise DataError(path, f"{len(values)} wavelengths for {shape[2]} bands", "correct the header")
        wavelengths = nanometres([float(w) for w in values], header.get("wavelength units", ""))
    elif options.wavelengths:
        wavelengths = given_wavelengths(options.wavelengths, shape[2])
    scale = header.get("reflectance scale factor")
    nodata = header.get("data ignore value")
    pixels = image.open_memmap(interleave="bip", writable=False)
    return Raster(
        path=Path(path),
        kind="envi",
        shape=shape,
        dtype=dtype,
        source=lambda rows, cols: pixels[rows, cols],
        files=(Path(path), Path(image.filename)),
        wavelengths=wavelengths,
        band_names=header.get("band names"),
        nodata=None if nodata is None else float(nodata),
        value_scale=float(scale) if scale else None,
        georeference=lambda: _georeference(image.filename, header),
        interleave=header["interleave"].lower(),
        details={"header": header, "extension": Path(image.filename).suffix},
    )


def _check_fields(path, header):
    """Refuse a header with fields that cannot be understood, which libraries pass on as they are."""
    checks = {
        "interleave": lambda value: value.lower() in AXES,
        "byte order": lambda value: int(value) in (0, 1),
        "wavelength": lambda value: np.isfinite(np.array(_listed(value), dtype=float)).all(),
        "reflectance scale factor": lambda value: float(value) > 0,
        "data ignore value": lambda value: [float(value)],
        # What is made of these for finer pixels must be possible before any work.
        **dict.fromkeys(FIELDS_OF_PIXELS, None),
    }
    for name, check in checks.items():
        if name not in header:
            continue
        try:
            is_good = check(header[name]) if check else _finer({name: header[name]}, 2)
        except (ValueError, IndexError, TypeError, AttributeError):
            is_good = False
        if not is_good:
            value = header[name] if isinstance(header[name], str) else ", ".join(map(str, header[name]))
            raise DataError(path, f"its field {name} = {value[:60]} cannot be understood", "correct it or take it out")


def _listed(value):
    """A field's entries: the library gives one that stands without braces as bare text."""
    return [value] if isinstance(value, str) else value


def readers_data_names(stem: str) -> list[str]:
    """Names under which readers look for the data of a header of that stem, in their order."""
    return [stem, *(f"{stem}.{case(e)}" for case in (str.lower, str.upper) for e in (*DATA_EXTENSIONS, *AXES))]


def data_name(stem: str, like: Raster) -> str:
    """The data file's name for a header of that stem."""
    return stem + (like.details["extension"] if like.kind == "envi" else ".img")


def write_header(path: Path, raw: RawCube, like: Raster, scale: int) -> None:
    """Write the header of a RawCube: the one that it is made from, with finer pixels, or a new one.

    Args:
        path: the .hdr file.
        raw: RawCube that holds the values.
        like: Raster that it was made from.
        scale: how many times as many rows and columns it has.
    """
    envi = _library(path)
    if like.kind == "envi":
        fields = _finer(like.details["header"], scale)
    else:
        fields = {k: v for k, v in _described(like, scale).items() if v is not None}
    height, width, bands = raw.shape
    fields |= {
        "samples": width,
        "lines": height,
        "bands": bands,
        "header offset": 0,
        "file type": "ENVI Standard",
        "data type": envi.dtype_to_envi[raw.dtype.newbyteorder("=").char],
        "interleave": raw.interleave,
    }
    fields.setdefault("byte order", int(raw.dtype.str.startswith(">")))
    envi.write_envi_header(str(path), fields)


def supports(dtype: np.dtype) -> bool:
    """Whether ENVI has this number type."""
    return np.dtype(dtype).newbyteorder("=") in [
        np.dtype(t) for t in ("u1", "i2", "i4", "f4", "f8", "u2", "u4", "i8", "u8")
    ]


def finer_map_info(fields: Sequence[str], scale: int) -> list[str]:
    """The entries of a "map info" field for pixels `scale` times as small.

    Its reference pixel counts from 1 at the upper left corner of the first pixel.
    """
    fields = list(fields)
    for k in (1, 2):
        fields[k] = f"{(float(fields[k]) - 1) * scale + 1:.15g}"
    for k in (5, 6):
        fields[k] = f"{float(fields[k]) / scale:.15g}"
    return fields


def _finer(header, scale):
    header = dict(header)
    if "map info" in header:
        header["map info"] = finer_map_info(header["map info"], scale)
    if "pixel size" in header:
        header["pixel size"] = [
            re.sub(r"^[\d.eE+-]+", lambda m: f"{float(m[0]) / scale:.15g}", v) for v in _listed(header["pixel size"])
        ]
    for name in ("x start", "y start"):
        if name in header:
            header[name] = f"{(float(header[name]) - 1) * scale + 1:.15g}"
    if "geo points" in header:
        # x, y, latitude, longitude of each point.
        header["geo points"] = [
            f"{(float(v) - 1) * scale + 1:.15g}" if k % 4 < 2 else v for k, v in enumerate(header["geo points"])
        ]
    # The sensor model's own pixel grid.
    header.pop("rpc info", None)
    return header


def _described(like, scale):
    """Header fields of a scene that came from another format."""
    fields = {"description": f"{like.path.name}, {scale} times as large"}
    if like.wavelengths is not None:
        fields |= {"wavelength": [f"{w:.15g}" for w in like.wavelengths], "wavelength units": "Nanometers"}
    fields["band names"] = like.band_names
    if like.nodata is not None:
        fields["data ignore value"] = f"{like.nodata:.17g}"
    if like.value_scale:
        fields["reflectance scale factor"] = f"{like.value_scale:.15g}"
    if georeference := like.georeference():
        fields |= _fields_of(georeference.finer(scale))
    return fields


def _fields_of(georeference):
    """The header fields that GDAL gives a georeference."""
    import rasterio
    from rasterio.io import MemoryFile
    from rasterio.transform import Affine

    with MemoryFile(ext=".img") as memory:
        profile = {"driver": "ENVI", "width": 1, "height": 1, "count": 1, "dtype": "uint8"}
        with memory.open(**profile, crs=georeference.crs, transform=Affine(*georeference.transform)):
            pass
        with rasterio.open(memory.name) as written:
            header = written.tags(ns="ENVI")
    names = ("map_info", "coordinate_system_string", "projection_info")
    return {n.replace("_", " "): header[n].strip("{} ").split(",") for n in names if n in header}


def _georeference(path, header):
    if "map info" not in header:
        return None
    try:
        import rasterio
    except ImportError:
        return None
    with rasterio.open(path) as f:
        return Georeference(f.crs.to_wkt() if f.crs else "", tuple(f.transform)[:6])


def _library(path):
    try:
        import spectral.io.envi as envi
    except ImportError as error:
        raise DataError(path, "ENVI files need the package spectral", "pip install spectral") from error
    return envi
