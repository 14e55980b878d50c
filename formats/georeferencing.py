"""Positions as GDAL understands them: from and to ENVI's fields, compared on the ground, read back from files."""

import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from formats import envi_header
from formats.raster import Georeference

# Drivers of GDAL that reach out to other files and machines, and the suffixes that its network may open: none.
NO_NETWORK = {
    "GDAL_SKIP": "VRT GTI HTTP WCS WFS WMS WMTS PLMOSAIC OGCAPI STACIT STACTA DAAS EEDA EEDAI",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
}
# Corners this near to each other, in parts of a pixel, are the same.
TOLERANCE = 0.01
_ENVI_FIELDS = ("map info", "coordinate system string", "projection info")


def library() -> Any:
    """The package rasterio, or None where it is not installed.

    Files that are read here come from anywhere: GDAL shall not fetch what they name.
    """
    for name, value in NO_NETWORK.items():
        os.environ.setdefault(name, value)
    try:
        import rasterio
    except ImportError:
        return None
    return rasterio


def is_known(crs: str) -> bool:
    """Whether a coordinate system's text can be understood, or is empty; True without rasterio, which would tell."""
    rasterio = library()
    if rasterio is None or not crs:
        return True
    try:
        return bool(rasterio.CRS.from_user_input(crs))
    # Texts that are none are met with errors of several types.
    except Exception:
        return False


def of_file(path: str | Path, driver: str) -> Georeference | None:
    """Where GDAL's driver of that name says that a file lies; None where it says nothing, or without rasterio."""
    rasterio = library()
    if rasterio is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, driver=driver) as f:
            return of_dataset(f)


def of_dataset(f: Any) -> Georeference | None:
    """Where an open rasterio dataset lies, or None."""
    if f.crs is None and f.transform.is_identity:
        return None
    wkt = f.crs.to_wkt() if f.crs else ""
    # What an ENVI header calls a grid of no system.
    return Georeference("" if wkt.startswith('LOCAL_CS["Arbitrary"') else wkt, tuple(f.transform)[:6])


def same(a: Georeference | None, b: Georeference | None, height: int, width: int) -> bool:
    """Whether two positions of a raster put its corners at the same places on the ground."""
    if a is None or b is None:
        return a is b
    corners = np.array([(0, 0), (width, 0), (0, height), (width, height)], dtype=np.float64)
    places = [_places(position, corners) for position in (a, b)]
    if b.crs and a.crs and b.crs != a.crs:
        from rasterio.warp import transform

        try:
            places[1] = np.array(transform(b.crs, a.crs, *places[1].T)).T
        # GDAL refuses pairs of systems that it cannot convert into each other.
        except Exception:
            return False
    elif bool(a.crs) != bool(b.crs):
        return False
    pixel = min(np.hypot(a.transform[0], a.transform[3]), np.hypot(a.transform[1], a.transform[4]))
    return bool(np.abs(places[0] - places[1]).max() <= TOLERANCE * pixel)


def _places(position: Georeference, corners: np.ndarray) -> np.ndarray:
    a, b, c, d, e, f = position.transform
    return np.stack([a * corners[:, 0] + b * corners[:, 1] + c, d * corners[:, 0] + e * corners[:, 1] + f], axis=1)


def from_map_info(map_info: str, crs: str = "") -> Georeference | None:
    """What GDAL makes of ENVI's "map info" and "coordinate system string", or None."""
    fields = {"map info": [entry.strip() for entry in map_info.strip(" {}").split(",")]}
    if crs.strip():
        fields["coordinate system string"] = [crs.strip(" {}")]
    try:
        return _through_gdal(fields)
    # GDAL meets what it cannot read with errors of several types.
    except Exception:
        return None


def _through_gdal(fields: Mapping[str, Sequence[str]]) -> Georeference | None:
    layout: dict[str, str | int] = {"samples": 4, "lines": 4, "bands": 1, "header offset": 0}
    layout |= {"file type": "ENVI Standard", "data type": 1}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "a.img"
        data.write_bytes(bytes(16))
        envi_header.write(data.with_suffix(".hdr"), {**layout, "interleave": "bsq", "byte order": 0, **fields})
        return of_file(data, "ENVI")


def to_envi(georeference: Georeference, height: int, width: int) -> envi_header.Header:
    """The header fields that GDAL gives a position; none where ENVI's header cannot hold it.

    Args:
        georeference: the position.
        height, width: of the raster.
    """
    rasterio = library()
    if rasterio is None:
        return {}
    profile = {"driver": "ENVI", "width": 4, "height": 4, "count": 1, "dtype": "uint8"}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = Path(folder) / "a.img"
        transform = rasterio.Affine(*georeference.transform)
        with rasterio.open(data, "w", **profile, crs=georeference.crs or None, transform=transform):
            pass
        fields = envi_header.read(data.with_suffix(".hdr"))
        kept = {name: fields[name] for name in _ENVI_FIELDS if name in fields}
        back = of_file(data, "ENVI")
    return kept if same(georeference, back, height, width) else {}
