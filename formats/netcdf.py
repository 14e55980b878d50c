"""netCDF-4, an HDF5 file under the CF conventions: georeferencing and new files."""

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from formats import gdal, raster
from formats.grid import X_NAMES, Y_NAMES, find_even_step, parse_geotransform
from formats.guard import open_hdf5
from formats.raster import Georeference, Raster

EXTENSIONS = (".nc", ".nc4")
COMPRESSION: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
# netCDF's name of a dimension without coordinates, followed by its length.
_BARE = "This is a netCDF dimension but not a netCDF variable"
GEOGRAPHIC = "EPSG:4326"
# Attributes that point to other objects of their file, or that define a scale: HDF5 writes them in a copy.
POINTERS = ("DIMENSION_LIST", "REFERENCE_LIST", "CLASS", "NAME")


def is_netcdf_name(path: Path) -> bool:
    """Return True if a file has an extension of netCDF."""
    return path.suffix.lower() in EXTENSIONS


def describe_external_storage(item: h5py.Dataset) -> str:
    """Name the storage of a dataset whose values are in other files, possibly private ones; "" for any other."""
    if item.is_virtual:
        return "a virtual dataset, whose values are in other files"
    return "stored in another file" if item.external else ""


def list_scales(dataset: h5py.Dataset) -> list[list[h5py.Dataset]]:
    """Return the scales of each axis of a dataset.

    Its references are followed directly: the library looks the scales up by name, and crashes on damaged names.
    """
    references = dataset.attrs.get("DIMENSION_LIST")
    if references is None or len(references) != dataset.ndim:
        return [[] for _ in range(dataset.ndim)]
    found = [[dataset.file[reference] for reference in axis if reference] for axis in references]
    return [[item for item in axis if isinstance(item, h5py.Dataset)] for axis in found]


def is_bare_dimension(item: h5py.Dataset) -> bool:
    """Return True if a dataset represents a dimension without coordinates."""
    return raster.decode_text(item.attrs.get("NAME", "")).startswith(_BARE)


def get_scale_name(item: h5py.Dataset, resized: h5py.Dataset) -> str:
    """Return a scale's name for a copy of another length."""
    if is_bare_dimension(item):
        return f"{_BARE}{resized.shape[0]:10d}"
    return raster.decode_text(item.attrs.get("NAME", ""))


def find_direction(item: h5py.Dataset, name: str) -> str:
    """Return "x" or "y" for coordinates on the ground along an axis, "" for anything else."""
    words = {name.rsplit("/", 1)[-1].lower(), raster.decode_text(item.attrs.get("standard_name", "")).lower()}
    if words & set(X_NAMES) or raster.decode_text(item.attrs.get("axis", "")) == "X":
        return "x"
    return "y" if words & set(Y_NAMES) or raster.decode_text(item.attrs.get("axis", "")) == "Y" else ""


def read_georeference(
    arrays: dict[str, h5py.Dataset], dataset: h5py.Dataset, stored: tuple[int, ...], size: tuple[int, ...]
) -> Georeference | None:
    """Return the georeferencing by a cube's grid mapping and the coordinates of its axes, or None.

    Args:
        arrays: {path: dataset} of the file.
        dataset: the cube.
        stored: axes of its rows, columns and bands.
        size: numbers of its rows, columns and bands.
    """
    mapping = _find_grid_mapping(dataset)
    attributes = {} if mapping is None else mapping.attrs
    along = [_find_coordinates(arrays, dataset, stored[k], size[k]) for k in (0, 1)]
    geotransform = next((attributes[n] for n in attributes if n.lower() == "geotransform"), None)
    transform = _make_transform(along) if geotransform is None else parse_geotransform(geotransform)
    if transform is None:
        return None
    wkt = next((raster.decode_text(attributes[n]) for n in raster.CRS_NAMES if n in attributes), "")
    is_geographic = all(
        coordinates and raster.decode_text(coordinates[1].attrs.get("units", "")).lower().startswith("degree")
        for coordinates in along
    )
    if not wkt and mapping is not None:
        wkt = _read_crs(dataset.file.filename, dataset.name)
    return Georeference(wkt or (GEOGRAPHIC if is_geographic else ""), transform)


def _find_grid_mapping(dataset: h5py.Dataset) -> h5py.Dataset | None:
    name = raster.decode_text(dataset.attrs.get("grid_mapping", "")).split(":")[0].strip()
    if not name:
        return None
    group = dataset.parent
    while name not in group and group.name != "/":
        group = group.parent
    return group[name] if name in group and isinstance(group[name], h5py.Dataset) else None


def _find_coordinates(
    arrays: Mapping[str, h5py.Dataset], dataset: h5py.Dataset, axis: int, size: int
) -> tuple[str, h5py.Dataset] | None:
    """Return ("x" or "y", dataset) of the coordinates along an axis of the cube, or None."""
    own = [(scale.name, scale) for scale in list_scales(dataset)[axis]] if dataset.ndim == 3 else []
    if not own:
        folder = dataset.name.rpartition("/")[0].lstrip("/")
        own = [(n, a) for n, a in arrays.items() if n.rpartition("/")[0] in (folder, "") and a.shape == (size,)]
    return next(((direction, item) for name, item in own if (direction := find_direction(item, name))), None)


def _make_transform(along: Sequence[tuple[str, h5py.Dataset] | None]) -> tuple[float, ...] | None:
    """Return the transform by evenly spaced coordinates of the rows and columns; None without them."""
    if along[0] is None or along[1] is None or along[0][0] == along[1][0]:
        return None
    # (step, coordinate of the outer edge) along rows and columns.
    spans = []
    for _, item in along:  # type: ignore[misc]
        factor, offset = (raster.find_uniform_number(item.attrs.get(name)) for name in ("scale_factor", "add_offset"))
        values = np.ravel(item[()]).astype(np.float64) * (1.0 if factor is None else factor) + (offset or 0.0)
        if (step := find_even_step(values)) is None:
            return None
        spans.append((step, float(values[0] - step / 2)))
    (down, top), (across, left) = spans
    is_usual = along[1][0] == "x"
    return (across, 0.0, left, 0.0, down, top) if is_usual else (0.0, down, top, across, 0.0, left)


def _read_crs(path: str, name: str) -> str:
    """Return the CRS that GDAL derives from the parameters of a grid mapping; "" if it derives none."""
    # GDAL raises errors of several types.
    with contextlib.suppress(Exception), gdal.open_dataset(f'NETCDF:"{path}":{name.lstrip("/")}', "netCDF") as f:
        return f.crs.to_wkt() if f.crs else ""
    return ""


def write_nodata(dataset: h5py.Dataset, nodata: float | None) -> None:
    """Write the nodata value of a dataset."""
    if nodata is not None:
        dataset.attrs["_FillValue"] = np.array(nodata).astype(dataset.dtype)


def write(path: Path, cube: np.ndarray, template: Raster, scale: int) -> None:
    """Write a rows x columns x bands array as a new netCDF file: image(wavelength, y, x), or image(band, y, x)."""
    height, width, bands = cube.shape
    with open_hdf5(path, "w", track_order=True) as f:
        f.attrs["Conventions"] = "CF-1.10"
        spectral = "band" if template.wavelengths is None else "wavelength"
        f[spectral] = np.arange(1, bands + 1) if template.wavelengths is None else np.asarray(template.wavelengths)
        if template.wavelengths is not None:
            f[spectral].attrs.update({"units": "nm", "standard_name": "radiation_wavelength"})
        place = georeference.upsample(scale) if (georeference := template.read_georeference()) else None
        _add_axes(f, height, width, place)
        chunks = (1, min(256, height), min(256, width))
        dataset = f.create_dataset("image", (bands, height, width), cube.dtype, chunks=chunks, **COMPRESSION)
        for rows in raster.split_rows(cube.shape, cube.dtype.itemsize, 256):
            dataset[:, rows] = cube[rows].transpose(2, 0, 1)
        write_nodata(dataset, template.nodata)
        dataset.attrs.update(raster.format_scaling(template))
        for name in (spectral, "y", "x"):
            f[name].make_scale(get_scale_name(f[name], f[name]) or name)
        for axis, name in enumerate((spectral, "y", "x")):
            dataset.dims[axis].attach_scale(f[name])
        if template.band_names:
            f["band_names"] = [str(name) for name in template.band_names]
            f["band_names"].dims[0].attach_scale(f[spectral])
        if place:
            _add_grid_mapping(f, dataset, place)


def _add_axes(f: h5py.File, height: int, width: int, place: Georeference | None) -> None:
    """Add the coordinates of the pixels' centres, in metres or degrees; of a rotated grid, pixel numbers."""
    is_straight = place is not None and place.transform[1] == place.transform[3] == 0
    for axis, count in (("y", height), ("x", width)):
        if place is None or not is_straight:
            f[axis] = np.arange(count)
            continue
        a, _, c, _, e, top = place.transform
        step, first = (a, c) if axis == "x" else (e, top)
        f[axis] = first + (np.arange(count) + 0.5) * step
        if place.crs and gdal.is_geographic(place.crs):
            word, unit = ("longitude", "degrees_east") if axis == "x" else ("latitude", "degrees_north")
        else:
            word, unit = f"projection_{axis}_coordinate", "m"
        f[axis].attrs.update({"standard_name": word, "units": unit, "axis": axis.upper()})


def _add_grid_mapping(f: h5py.File, dataset: h5py.Dataset, place: Georeference) -> None:
    f["spatial_ref"] = 0
    attributes: dict[str, Any] = {**_make_cf_parameters(place), "crs_wkt": place.crs, "spatial_ref": place.crs}
    a, b, c, d, e, top = place.transform
    attributes["GeoTransform"] = " ".join(f"{v:.17g}" for v in (c, a, b, top, d, e))
    f["spatial_ref"].attrs.update(attributes)
    dataset.attrs["grid_mapping"] = "spatial_ref"


def _make_cf_parameters(place: Georeference) -> dict[str, Any]:
    """Return the attributes of a grid mapping under CF, as GDAL writes them for a CRS."""
    if not place.crs:
        return {}
    straight = tuple(v if k not in (1, 3) else 0.0 for k, v in enumerate(place.transform))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.nc"
        try:
            gdal.write_empty(path, "netCDF", Georeference(place.crs, straight), FORMAT="NC4")
        # A GDAL without netCDF, or a CRS that CF cannot describe.
        except Exception:
            return {}
        with open_hdf5(path) as g:
            mappings = [item for item in g.values() if "grid_mapping_name" in item.attrs]
            names = [n for n in mappings[0].attrs if n.lower() != "geotransform"] if mappings else []
            return {n: mappings[0].attrs[n] for n in names if n not in POINTERS and not n.startswith("_")}
