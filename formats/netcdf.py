"""netCDF-4, an HDF5 file under the CF conventions: where its cube lies, and a new one."""

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from formats import gdal
from formats.grid import X_NAMES, Y_NAMES, find_even_step, parse_geotransform
from formats.guard import open_hdf5
from formats.raster import CRS_NAMES, Georeference, Raster, decode_text, find_uniform_number, format_scaling, split_rows

EXTENSIONS = (".nc", ".nc4")
# What netCDF calls a dimension without coordinates, with its length behind it.
_BARE = "This is a netCDF dimension but not a netCDF variable"
GEOGRAPHIC = "EPSG:4326"
# Attributes that point to other objects of their file, or that make a dataset a scale; made anew in another.
POINTERS = ("DIMENSION_LIST", "REFERENCE_LIST", "CLASS", "NAME")


def is_netcdf_name(path: Path) -> bool:
    """Whether a file's name says that it is netCDF."""
    return path.suffix.lower() in EXTENSIONS


def describe_external_storage(item: h5py.Dataset) -> str:
    """What a dataset is whose values stand in other files, which may be any of this machine; "" for any other."""
    if item.is_virtual:
        return "a virtual dataset, made of others"
    return "stored in another file" if item.external else ""


def list_scales(dataset: h5py.Dataset) -> list[list[h5py.Dataset]]:
    """The scales of each axis of a dataset.

    By its own references: the library's way over the scales' names ends the process where these are damaged.
    """
    references = dataset.attrs.get("DIMENSION_LIST")
    if references is None or len(references) != dataset.ndim:
        return [[] for _ in range(dataset.ndim)]
    found = [[dataset.file[reference] for reference in axis if reference] for axis in references]
    return [[item for item in axis if isinstance(item, h5py.Dataset)] for axis in found]


def is_bare_dimension(item: h5py.Dataset) -> bool:
    """Whether a dataset stands for a dimension without coordinates."""
    return decode_text(item.attrs.get("NAME", "")).startswith(_BARE)


def get_scale_name(item: h5py.Dataset, renewed: h5py.Dataset) -> str:
    """The name that a scale has as one, in a copy of another length."""
    if is_bare_dimension(item):
        return f"{_BARE}{renewed.shape[0]:10d}"
    return decode_text(item.attrs.get("NAME", ""))


def is_coordinate(item: h5py.Dataset, name: str) -> bool:
    """Whether a dataset holds coordinates on the ground along an axis."""
    return bool(_direction(item, name))


def _direction(item: h5py.Dataset, name: str) -> str:
    """Return "x" or "y" for coordinates along an axis, "" for anything else."""
    words = {name.rsplit("/", 1)[-1].lower(), decode_text(item.attrs.get("standard_name", "")).lower()}
    if words & set(X_NAMES) or decode_text(item.attrs.get("axis", "")) == "X":
        return "x"
    return "y" if words & set(Y_NAMES) or decode_text(item.attrs.get("axis", "")) == "Y" else ""


def read_georeference(
    f: h5py.File, arrays: dict[str, h5py.Dataset], dataset: h5py.Dataset, stored: tuple[int, ...], size: tuple[int, ...]
) -> Georeference | None:
    """Where a cube lies by its grid mapping and the coordinates of its axes.

    Args:
        f: the open file.
        arrays: all its datasets by their paths.
        dataset: the cube.
        stored: which of its axes are rows, columns and bands.
        size: its rows, columns and bands.
    """
    mapping = _grid_mapping(f, dataset)
    attributes = {} if mapping is None else mapping.attrs
    along = [_coordinates(arrays, dataset, stored[k], size[k]) for k in (0, 1)]
    said = next((attributes[n] for n in attributes if n.lower() == "geotransform"), None)
    transform = parse_geotransform(said) if said is not None else _transform(along)
    if transform is None:
        return None
    wkt = next((decode_text(attributes[n]) for n in CRS_NAMES if n in attributes), "")
    is_geographic = all(
        coordinates and decode_text(coordinates[1].attrs.get("units", "")).lower().startswith("degree")
        for coordinates in along
    )
    if not wkt and mapping is not None:
        wkt = _crs_by_gdal(f.filename, dataset.name)
    return Georeference(wkt or (GEOGRAPHIC if is_geographic else ""), transform)


def _grid_mapping(f: h5py.File, dataset: h5py.Dataset) -> h5py.Dataset | None:
    name = decode_text(dataset.attrs.get("grid_mapping", "")).split(":")[0].strip()
    if not name:
        return None
    group = dataset.parent
    while name not in group and group.name != "/":
        group = group.parent
    return group[name] if name in group and isinstance(group[name], h5py.Dataset) else None


def _coordinates(
    arrays: Mapping[str, h5py.Dataset], dataset: h5py.Dataset, axis: int, size: int
) -> tuple[str, h5py.Dataset] | None:
    """("x" or "y", dataset) of the coordinates along an axis of the cube, or None."""
    own = [(scale.name, scale) for scale in list_scales(dataset)[axis]] if dataset.ndim == 3 else []
    if not own:
        folder = dataset.name.rpartition("/")[0].lstrip("/")
        places = {folder, ""}
        own = [(name, a) for name, a in arrays.items() if name.rpartition("/")[0] in places and a.shape == (size,)]
    found = [(_direction(item, name), item) for name, item in own]
    return next(((direction, item) for direction, item in found if direction), None)


def _transform(along: Sequence[tuple[str, h5py.Dataset] | None]) -> tuple[float, ...] | None:
    """The transform of even coordinates of the rows and columns; None without them."""
    if along[0] is None or along[1] is None or along[0][0] == along[1][0]:
        return None
    rows, cols = _unpacked(along[0][1]), _unpacked(along[1][1])
    steps = find_even_step(rows), find_even_step(cols)
    if steps[0] is None or steps[1] is None:
        return None
    down, across = rows[0] - steps[0] / 2, cols[0] - steps[1] / 2
    if along[1][0] == "x":
        return (steps[1], 0.0, float(across), 0.0, steps[0], float(down))
    return (0.0, steps[0], float(down), steps[1], 0.0, float(across))


def _unpacked(item: h5py.Dataset) -> np.ndarray:
    """The numbers of coordinates, which may be packed as those of a cube."""
    factor, offset = (find_uniform_number(item.attrs.get(name)) for name in ("scale_factor", "add_offset"))
    return np.ravel(item[()]).astype(np.float64) * (1.0 if factor is None else factor) + (offset or 0.0)


def _crs_by_gdal(path: str, name: str) -> str:
    """Return the coordinate system that GDAL makes of a grid mapping's parameters; "" if it makes none."""
    # GDAL raises errors of several types.
    with contextlib.suppress(Exception), gdal.open_dataset(f'NETCDF:"{path}":{name.lstrip("/")}', "netCDF") as f:
        return f.crs.to_wkt() if f.crs else ""
    return ""


def write_nodata(dataset: h5py.Dataset, nodata: float | None) -> None:
    """Give a dataset the attribute that says what marks missing data."""
    if nodata is not None:
        dataset.attrs["_FillValue"] = np.array(nodata).astype(dataset.dtype)


def write(path: Path, cube: np.ndarray, like: Raster, scale: int) -> None:
    """Write a rows x columns x bands array as a new netCDF file: image(wavelength, y, x), or image(band, y, x)."""
    height, width, bands = cube.shape
    with open_hdf5(path, "w", track_order=True) as f:
        f.attrs["Conventions"] = "CF-1.10"
        spectral = "band" if like.wavelengths is None else "wavelength"
        f[spectral] = np.arange(1, bands + 1) if like.wavelengths is None else np.asarray(like.wavelengths)
        if like.wavelengths is not None:
            f[spectral].attrs.update({"units": "nm", "standard_name": "radiation_wavelength"})
        georeference = like.georeference()
        finer = georeference.upsample(scale) if georeference else None
        _add_axes(f, height, width, finer)
        dataset = f.create_dataset(
            "image",
            (bands, height, width),
            cube.dtype,
            chunks=(1, min(256, height), min(256, width)),
            compression="gzip",
            compression_opts=1,
            shuffle=True,
        )
        for rows in split_rows(cube.shape, cube.dtype.itemsize, 256):
            dataset[:, rows] = cube[rows].transpose(2, 0, 1)
        write_nodata(dataset, like.nodata)
        dataset.attrs.update(format_scaling(like))
        for name in (spectral, "y", "x"):
            f[name].make_scale(get_scale_name(f[name], f[name]) or name)
        for axis, name in enumerate((spectral, "y", "x")):
            dataset.dims[axis].attach_scale(f[name])
        if like.band_names:
            f["band_names"] = [str(name) for name in like.band_names]
            f["band_names"].dims[0].attach_scale(f[spectral])
        if finer:
            _add_grid_mapping(f, dataset, finer)


def _add_axes(f: h5py.File, height: int, width: int, finer: Georeference | None) -> None:
    """Coordinates of the pixels' centres, in metres or degrees; for a rotated grid, only their count."""
    is_straight = finer is not None and finer.transform[1] == finer.transform[3] == 0
    for axis, count in (("y", height), ("x", width)):
        if finer is None or not is_straight:
            f[axis] = np.arange(count)
            continue
        a, _, c, _, e, top = finer.transform
        step, first = (a, c) if axis == "x" else (e, top)
        f[axis] = first + (np.arange(count) + 0.5) * step
        if finer.crs and gdal.is_geographic(finer.crs):
            word, unit = ("longitude", "degrees_east") if axis == "x" else ("latitude", "degrees_north")
        else:
            word, unit = f"projection_{axis}_coordinate", "m"
        f[axis].attrs.update({"standard_name": word, "units": unit, "axis": axis.upper()})


def _add_grid_mapping(f: h5py.File, dataset: h5py.Dataset, finer: Georeference) -> None:
    f["spatial_ref"] = 0
    attributes: dict[str, Any] = {**_parameters_by_gdal(finer), "crs_wkt": finer.crs, "spatial_ref": finer.crs}
    a, b, c, d, e, top = finer.transform
    attributes["GeoTransform"] = " ".join(f"{v:.17g}" for v in (c, a, b, top, d, e))
    f["spatial_ref"].attrs.update(attributes)
    dataset.attrs["grid_mapping"] = "spatial_ref"


def _parameters_by_gdal(finer: Georeference) -> dict[str, Any]:
    """Return the attributes of a grid mapping under CF, as GDAL writes them for a coordinate system."""
    if not finer.crs:
        return {}
    straight = tuple(v if k not in (1, 3) else 0.0 for k, v in enumerate(finer.transform))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.nc"
        try:
            gdal.write_empty(path, "netCDF", Georeference(finer.crs, straight), FORMAT="NC4")
        # A GDAL without netCDF, or a system that CF has no words for.
        except Exception:
            return {}
        with open_hdf5(path) as g:
            mappings = [item for item in g.values() if "grid_mapping_name" in item.attrs]
            names = [n for n in mappings[0].attrs if n.lower() != "geotransform"] if mappings else []
            return {n: mappings[0].attrs[n] for n in names if n not in POINTERS and not n.startswith("_")}
