"""Conversions between all formats, read by the libraries that own the formats.

The table of docs/own_scenes.md lists the metadata that is kept; each of its cells is tested here.
"""

import re
import warnings

import h5py
import netCDF4
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import scipy.io
import spectral.io.envi as envi
from helpers import ROOT

from formats import Output, open_raster
from formats.calibration import understand

SCALE, HEIGHT, WIDTH, BANDS = 2, 14, 12, 5
WAVELENGTHS = np.array([712.5, 640, 655.25, 500, 412])
NAMES = [f"B{k}" for k in range(BANDS)]
NODATA, GAIN, OFFSET = -9999, 0.0001, -0.1
STRAIGHT = rasterio.Affine(10, 0, 500000, 0, -20, 5400000)
ROTATED = rasterio.Affine.translation(500000, 5400000) * rasterio.Affine.rotation(33.5) * rasterio.Affine.scale(2, -2)
EPSG = 32633
VALUES = np.random.default_rng(5).integers(1000, 9000, (HEIGHT, WIDTH, BANDS)).astype(np.int16)
VALUES[3:6, 2:9] = NODATA
LARGER = VALUES.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
GAINS, OFFSETS = GAIN * np.arange(1, BANDS + 1), OFFSET * np.arange(BANDS)

PROPERTIES = ("position", "rotation", "scale", "offset", "each band's scale", "no data", "wavelengths", "band names")


class Metadata:
    """Metadata that a test writes to a file."""

    def __init__(self, transform, gains, offsets):
        self.transform, self.gains, self.offsets = transform, np.asarray(gains), np.asarray(offsets)


def per_band(metadata):
    return np.broadcast_to(metadata.gains, BANDS), np.broadcast_to(metadata.offsets, BANDS)


def write_tif(path, metadata, **profile):
    kind = {"driver": "GTiff", "width": WIDTH, "height": HEIGHT, "count": BANDS, "dtype": "int16", "nodata": NODATA}
    with rasterio.open(path, "w", **kind, crs=f"EPSG:{EPSG}", transform=metadata.transform, **profile) as f:
        f.write(VALUES.transpose(2, 0, 1))
        f.descriptions = NAMES
        f.scales, f.offsets = (list(v) for v in per_band(metadata))
        for k, wavelength in enumerate(WAVELENGTHS, start=1):
            f.update_tags(k, wavelength=str(wavelength), wavelength_units="Nanometers")


def write_cog(path, metadata):
    write_tif(path.with_name("plain.tif"), metadata, tiled=True, blockxsize=16, blockysize=16, compress="lzw")
    rasterio.shutil.copy(path.with_name("plain.tif"), path, driver="COG", BLOCKSIZE=16, COMPRESS="LZW")


def write_hdr(path, metadata):
    profile = {"driver": "ENVI", "width": WIDTH, "height": HEIGHT, "count": BANDS, "dtype": "int16"}
    with rasterio.open(path.with_suffix(".img"), "w", **profile, crs=f"EPSG:{EPSG}", transform=metadata.transform) as f:
        f.write(VALUES.transpose(2, 0, 1))
    lists = zip(("data gain values", "data offset values"), per_band(metadata), strict=True)
    fields = {"wavelength": WAVELENGTHS, **dict(lists)}
    lines = [f"{name} = {{{', '.join(f'{v:g}' for v in values)}}}" for name, values in fields.items()]
    text = re.sub(r"band names = \{[^}]*\}", f"band names = {{{', '.join(NAMES)}}}", path.read_text())
    path.write_text("\n".join([text, *lines, "wavelength units = Nanometers", f"data ignore value = {NODATA}", ""]))


def write_h5(path, metadata):
    with h5py.File(path, "w") as f:
        f["site/cube"], f["site/wavelength"], f["site/band_names"] = VALUES, WAVELENGTHS, NAMES
        f["site/cube"].attrs.update(
            {
                "_FillValue": np.int16(NODATA),
                "scale_factor": metadata.gains,
                "add_offset": metadata.offsets,
                "crs_wkt": rasterio.CRS.from_epsg(EPSG).to_wkt(),
                "transform": tuple(metadata.transform)[:6],
            }
        )


def write_nc(path, metadata):
    with netCDF4.Dataset(path, "w") as f:
        for name, size in (("wavelength", BANDS), ("y", HEIGHT), ("x", WIDTH)):
            f.createDimension(name, size)
        f.createVariable("wavelength", "f8", ("wavelength",))[:] = WAVELENGTHS
        f["wavelength"].units = "nm"
        f.createVariable("band_names", str, ("wavelength",))[:] = np.array(NAMES, dtype=object)
        mapping = f.createVariable("crs", "i4", ())
        mapping.crs_wkt = rasterio.CRS.from_epsg(EPSG).to_wkt()
        a, b, c, d, e, top = tuple(metadata.transform)[:6]
        if b == 0:
            f.createVariable("y", "f8", ("y",))[:] = top + (np.arange(HEIGHT) + 0.5) * e
            f.createVariable("x", "f8", ("x",))[:] = c + (np.arange(WIDTH) + 0.5) * a
            f["y"].standard_name, f["x"].standard_name = "projection_y_coordinate", "projection_x_coordinate"
        else:
            mapping.GeoTransform = " ".join(map(repr, (c, a, b, top, d, e)))
        cube = f.createVariable("radiance", "i2", ("wavelength", "y", "x"), fill_value=NODATA, zlib=True)
        cube.set_auto_maskandscale(False)
        cube[:] = VALUES.transpose(2, 0, 1)
        cube.grid_mapping, cube.scale_factor, cube.add_offset = "crs", metadata.gains, metadata.offsets


def arrays(metadata):
    return {
        "cube": VALUES,
        "wavelength": WAVELENGTHS,
        "band_names": np.array(NAMES),
        "nodata": float(NODATA),
        "scale_factor": metadata.gains,
        "add_offset": metadata.offsets,
        "crs_wkt": rasterio.CRS.from_epsg(EPSG).to_wkt(),
        "transform": np.array(tuple(metadata.transform)[:6]),
    }


WRITE = {
    "tif": write_tif,
    "cog": write_cog,
    "hdr": write_hdr,
    "h5": write_h5,
    "nc": write_nc,
    "mat": lambda path, metadata: scipy.io.savemat(path, arrays(metadata)),
    "npz": lambda path, metadata: np.savez(path, **arrays(metadata)),
    "npy": lambda path, metadata: np.save(path, VALUES),
}


def read_tif(path):
    with rasterio.open(path) as f:
        tags = [f.tags(k) for k in f.indexes]
        return {
            "values": f.read().transpose(1, 2, 0),
            "place": (f.crs and f.crs.to_epsg(), f.transform),
            "gains": f.scales,
            "offsets": f.offsets,
            "no data": f.nodata,
            "wavelengths": [float(t["wavelength"]) for t in tags] if "wavelength" in tags[0] else None,
            "band names": list(f.descriptions),
        }


def read_hdr(path):
    with rasterio.open(path.with_suffix(".img"), driver="ENVI") as f:
        found = {
            "place": (f.crs and f.crs.to_epsg(), f.transform),
            "gains": f.scales,
            "offsets": f.offsets,
            "no data": f.nodata,
        }
    image = envi.open(str(path))
    fields = image.metadata
    found["values"] = np.asarray(image.open_memmap(interleave="bip"))
    found["wavelengths"] = [float(w) for w in fields["wavelength"]] if "wavelength" in fields else None
    return found | {"band names": fields.get("band names")}


def read_h5(path):
    with h5py.File(path) as f:
        is_netcdf = "radiance" in f
    if is_netcdf:
        # A copy of the netCDF file.
        return read_nc(path)
    with h5py.File(path) as f:
        cube = f["image" if "image" in f else "site/cube"]
        attributes, beside = cube.attrs, cube.parent
        place = None
        if "transform" in attributes:
            place = rasterio.CRS.from_wkt(attributes["crs_wkt"]).to_epsg(), rasterio.Affine(*attributes["transform"])
        return {
            "values": cube[()],
            "place": place,
            "gains": attributes.get("scale_factor", 1),
            "offsets": attributes.get("add_offset", 0),
            "no data": attributes.get("_FillValue"),
            "wavelengths": beside["wavelength"][()].tolist() if "wavelength" in beside else None,
            "band names": list(beside["band_names"].asstr()) if "band_names" in beside else None,
        }


def read_nc(path):
    with netCDF4.Dataset(path) as f:
        cube = f["radiance" if "radiance" in f.variables else "image"]
        cube.set_auto_maskandscale(False)
        found = {
            "values": cube[:].transpose(1, 2, 0),
            "gains": getattr(cube, "scale_factor", 1),
            "offsets": getattr(cube, "add_offset", 0),
            "no data": getattr(cube, "_FillValue", None),
            "wavelengths": f["wavelength"][:].tolist() if "wavelength" in f.variables else None,
            "band names": list(f["band_names"][:]) if "band_names" in f.variables else None,
        }
        assert cube.dimensions[1:] == ("y", "x")
        name = cube.name
    with rasterio.open(f'NETCDF:"{path}":{name}') as g:
        return found | {"place": (g.crs and g.crs.to_epsg(), g.transform)}


def read_arrays(held):
    key = "cube" if "cube" in held else "image"
    place = None
    if "transform" in held:
        wkt = str(np.ravel(held["crs_wkt"])[0])
        place = rasterio.CRS.from_wkt(wkt).to_epsg(), rasterio.Affine(*np.ravel(held["transform"])[:6])
    return {
        "values": held[key],
        "place": place,
        "gains": np.ravel(held.get("scale_factor", 1)),
        "offsets": np.ravel(held.get("add_offset", 0)),
        "no data": np.ravel(held["nodata"])[0] if "nodata" in held else None,
        "wavelengths": np.ravel(held["wavelength"]).tolist() if "wavelength" in held else None,
        "band names": [str(n).strip() for n in np.ravel(held["band_names"])] if "band_names" in held else None,
    }


READ = {
    "tif": read_tif,
    "cog": read_tif,
    "hdr": read_hdr,
    "h5": read_h5,
    "nc": read_nc,
    "mat": lambda path: read_arrays(scipy.io.loadmat(path)),
    "npz": lambda path: read_arrays(dict(np.load(path))),
    "npy": lambda path: {"values": np.load(path)},
}


def table_of_docs():
    """Return {format: {property: True if it is kept}} of the table in docs/own_scenes.md."""
    lines = (ROOT / "docs" / "own_scenes.md").read_text(encoding="utf-8").splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("| written as"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start:]]
    rows = rows[: next((k for k, row in enumerate(rows) if len(row) < 2), len(rows))]
    return {row[0].strip("`."): dict(zip(rows[0][1:], (c == "yes" for c in row[1:]), strict=True)) for row in rows[2:]}


KEPT = table_of_docs()


def converted(tmp_path, source, target, metadata):
    """Convert a file of the source's format, upsampled by SCALE; return the metadata of the result."""
    path = tmp_path / f"in.{'tif' if source == 'cog' else source}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        WRITE[source](path, metadata)
    raster = open_raster(path)
    assert raster.shape == VALUES.shape
    out = tmp_path / f"out.{'tif' if target == 'cog' else target}"
    output = Output(out, raster, SCALE)
    output.describe(understand(raster, nodata=NODATA if source == "npy" else None))
    output.finish(raster.read().repeat(SCALE, axis=0).repeat(SCALE, axis=1))
    found = READ[target](out)
    if found["values"].shape[0] == BANDS:
        # Arrays keep the axes of the template.
        found["values"] = found["values"].transpose(1, 2, 0)
    np.testing.assert_array_equal(found["values"], LARGER)
    return found


def is_at(found, transform):
    place = found.get("place")
    return bool(
        place
        and place[0] == EPSG
        and np.allclose(tuple(place[1])[:6], tuple(transform * rasterio.Affine.scale(1 / SCALE))[:6], atol=1e-6)
    )


def is_scaled(found, gains, offsets):
    return [
        np.allclose(np.broadcast_to(found.get(name, default), BANDS), wanted, atol=1e-12)
        for name, default, wanted in (("gains", 1, gains), ("offsets", 0, offsets))
    ]


PAIRS = [(s, t) for s in WRITE for t in WRITE if t != "cog" or s == "cog"]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_documented_metadata_are_kept(tmp_path, source, target):
    metadata = Metadata(STRAIGHT, GAIN, OFFSET)
    found = converted(tmp_path, source, target, metadata)
    scale, offset = is_scaled(found, GAIN, OFFSET)
    kept = {
        "position": is_at(found, STRAIGHT),
        "scale": scale,
        "offset": offset,
        "no data": found.get("no data") == NODATA,
        "wavelengths": found.get("wavelengths") == WAVELENGTHS.tolist(),
        "band names": found.get("band names") == NAMES,
    }
    if source == "npy":
        # A .npy has no metadata; the nodata value is the user's.
        assert [name for name in kept if kept[name]] == (["no data"] if KEPT[target]["no data"] else [])
    else:
        assert kept == {name: KEPT[target][name] for name in kept}


@pytest.mark.parametrize(("source", "target"), [pair for pair in PAIRS if pair[0] != "npy"])
def test_rotation_and_each_bands_scale(tmp_path, source, target):
    found = converted(tmp_path, source, target, Metadata(ROTATED, GAINS, OFFSETS))
    kept = {"rotation": is_at(found, ROTATED), "each band's scale": all(is_scaled(found, GAINS, OFFSETS))}
    assert kept == {name: KEPT[target][name] for name in kept}


@pytest.mark.parametrize("target", WRITE)
def test_masked_pixels_stay_masked_in_every_format(tmp_path, target):
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[:4] = 0
    values = np.abs(VALUES)
    profile = {"driver": "GTiff", "width": WIDTH, "height": HEIGHT, "count": BANDS, "dtype": "int16"}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(tmp_path / "in.tif", "w", **profile, tiled=True, blockxsize=16, blockysize=16) as f:
            f.write(values.transpose(2, 0, 1))
            f.write_mask(mask)
        path = tmp_path / "in.tif"
        if target == "cog":
            path = tmp_path / "cog.tif"
            rasterio.shutil.copy(tmp_path / "in.tif", path, driver="COG", BLOCKSIZE=16)
    raster = open_raster(path)
    output = Output(tmp_path / f"out.{'tif' if target == 'cog' else target}", raster, SCALE)
    understood = understand(raster)
    output.describe(understood)
    unit, missing = understood.calibration.to_unit(raster.read(), raster.read_mask(slice(None), slice(None)))
    enlarged = [x.repeat(SCALE, axis=0).repeat(SCALE, axis=1) for x in (unit, missing)]
    output.finish(understood.calibration.to_raw(*enlarged)[0])
    there = (mask != 0).repeat(SCALE, axis=0).repeat(SCALE, axis=1)
    found = READ[target](output.path)
    if target in ("tif", "cog"):
        with rasterio.open(output.path) as f:
            np.testing.assert_array_equal(f.dataset_mask() != 0, there)
            assert f.nodata is None
    else:
        mark = found.get("no data", -32768)
        assert mark == -32768
        np.testing.assert_array_equal((found["values"] != mark).all(axis=2), there)
    np.testing.assert_array_equal(found["values"][there], values.repeat(2, axis=0).repeat(2, axis=1)[there])
