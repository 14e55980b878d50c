"""Round trips of every format, read again by the libraries that own the formats."""

import shutil
import subprocess
import sys

import fixtures
import h5py
import numpy as np
import pytest
import rasterio
import scipy.io
import spectral.io.envi as envi
import tifffile
from helpers import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC

from formats import CubeOptions, Output, open_raster
from formats.envi import upsample_map_info
from formats.raster import Georeference, split_rows
from formats.raw import RawCube
from formats.wavelengths import parse_wavelengths
from system.errors import DataError, UserError

WAVELENGTHS = np.array([412.5, 500, 555.25, 640, 705])
SCALE = 2


def numbers(dtype, height=7, width=6, bands=5):
    """Return a cube of different values, up to the type's range."""
    values = np.arange(height * width * bands, dtype=np.float64).reshape(height, width, bands)
    if np.dtype(dtype).kind == "f":
        return (values / 1000).astype(dtype)
    info = np.iinfo(dtype)
    return np.linspace(info.min, info.max, values.size).astype(dtype).reshape(values.shape)


def larger(cube):
    """Return the upsampled cube that the tests write: every pixel as a block."""
    return cube.repeat(SCALE, axis=0).repeat(SCALE, axis=1)


def there_and_back(path, out, in_tiles=False, options=None):
    """Open a file and write it upsampled by SCALE; return (raster, paths written)."""
    raster = open_raster(path, options or CubeOptions())
    output = Output(out, raster, SCALE)
    cube = larger(raster.read())
    if in_tiles:
        raw = output.open_raw()
        for top in range(0, cube.shape[0], 5):
            for left in range(0, cube.shape[1], 4):
                raw.write(top, left, cube[top : top + 5, left : left + 4])
        cube = raw.cube
    written = output.finish(cube)
    assert all(p.exists() for p in written)
    assert not list(out.parent.glob(".*"))
    return raster, written


def write_envi(path, cube, offset=0, ext="dat", **options):
    metadata = {
        "wavelength": list(WAVELENGTHS / 1000),
        "wavelength units": "Micrometers",
        "fwhm": [0.01] * 5,
        "band names": [f"b{k}" for k in range(5)],
        "data ignore value": 7,
        "reflectance scale factor": 10000,
        "sensor type": "AVIRIS",
        "map info": "UTM 1.5 2 500000.0 4100000.0 20.0 10.0 11 North WGS-84 units=Meters".split(),
        "x start": 3,
    }  # fmt: skip
    envi.save_image(str(path), cube, dtype=cube.dtype, ext=ext, metadata=metadata, **options)
    if offset:
        data = path.with_suffix("." + ext)
        data.write_bytes(bytes(offset) + data.read_bytes())
        path.write_text(path.read_text().replace("header offset = 0", f"header offset = {offset}"))
    return path


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
@pytest.mark.parametrize(("data_type", "dtype"), [(1, "u1"), (2, "i2"), (4, "f4"), (5, "f8"), (12, "u2"), (13, "u4")])
@pytest.mark.parametrize(("byte_order", "offset", "in_tiles"), [(0, 0, False), (1, 100, True)])
def test_envi(tmp_path, interleave, data_type, dtype, byte_order, offset, in_tiles):
    cube = numbers(dtype)
    source = write_envi(tmp_path / "in.hdr", cube, offset, interleave=interleave, byteorder=byte_order)
    raster, written = there_and_back(source, tmp_path / "out.hdr", in_tiles)
    np.testing.assert_array_equal(raster.read(slice(2, 5), slice(1, 4)), cube[2:5, 1:4])
    np.testing.assert_allclose(raster.wavelengths, WAVELENGTHS)
    assert (raster.nodata, raster.value_scale, raster.band_names[4]) == (7, 10000, "b4")
    assert [p.name for p in written] == ["out.dat", "out.hdr"]
    image = envi.open(str(tmp_path / "out.hdr"))
    np.testing.assert_array_equal(image.open_memmap(), larger(cube))
    header, before = image.metadata, envi.open(str(source)).metadata
    assert (header["data type"], header["interleave"], header["byte order"]) == (
        str(data_type),
        interleave,
        str(byte_order),
    )
    assert (header["samples"], header["lines"], header["header offset"]) == ("12", "14", "0")
    kept = (
        "wavelength",
        "wavelength units",
        "fwhm",
        "band names",
        "data ignore value",
        "reflectance scale factor",
        "sensor type",
    )
    assert {k: header[k] for k in kept} == {k: before[k] for k in kept}
    # The reference pixel 1.5 is half a pixel from the corner; half an old pixel is a whole new one.
    assert header["map info"][:7] == ["UTM", "2", "3", "500000.0", "4100000.0", "10", "5"]
    assert header["x start"] == "5"


def ground(fields, row, column):
    """Return the coordinates by a map info of the upper left corner of a pixel, counted from 0."""
    x0, y0, x, y, width, height = map(float, fields[1:7])
    return x + (column - (x0 - 1)) * width, y - (row - (y0 - 1)) * height


COORDINATES = st.floats(-1e6, 1e6)
PIXELS = st.floats(0.01, 1000)


@settings(max_examples=20, deadline=None)
@given(st.floats(1, 500), st.floats(1, 500), COORDINATES, COORDINATES, PIXELS, PIXELS, st.integers(1, 16))
def test_finer_map_info_keeps_corner_coordinates(x0, y0, x, y, width, height, scale):
    fields = ["UTM", *map(repr, (x0, y0, x, y, width, height)), "11", "North"]
    finer = upsample_map_info(fields, scale)
    assert (finer[0], finer[7:]) == (fields[0], fields[7:])
    for row, column in ((0, 0), (3, 7)):
        np.testing.assert_allclose(
            ground(finer, row * scale, column * scale), ground(fields, row, column), rtol=1e-9, atol=1e-6
        )


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.floats(-1e4, 1e4)] * 6), st.integers(1, 16))
def test_finer_georeferences_keep_corner_coordinates(transform, scale):
    a, b, c, d, e, f = Georeference("", transform).upsample(scale).transform
    for row, column in ((0, 0), (3, 7)):
        fine = a * column * scale + b * row * scale + c, d * column * scale + e * row * scale + f
        A, B, C, D, E, F = transform
        np.testing.assert_allclose(fine, (A * column + B * row + C, D * column + E * row + F), rtol=1e-9, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 3000), st.integers(1, 300), st.sampled_from([1, 16, 256]))
def test_blocks_of_rows_cover_the_cube_once(height, width, bands, multiple):
    blocks = split_rows((height, width, bands), 4, multiple)
    assert [row for block in blocks for row in range(block.start, block.stop)] == list(range(height))
    assert all(block.start % multiple == 0 for block in blocks)


def test_envi_georeferencing_is_kept(tmp_path):
    with rasterio.open(
        tmp_path / "in.img", "w", driver="ENVI", width=6, height=7, count=5, dtype="uint16", crs="EPSG:32611",
        transform=rasterio.Affine(20, 0, 500000, 0, -20, 4100000),
    ) as f:  # fmt: skip
        f.write(numbers("u2").transpose(2, 0, 1))
    there_and_back(tmp_path / "in.img", tmp_path / "out.hdr")
    with rasterio.open(tmp_path / "out.img") as f:
        assert f.crs.to_epsg() == 32611
        assert tuple(f.transform)[:6] == (10, 0, 500000, 0, -10, 4100000)
        np.testing.assert_array_equal(f.read().transpose(1, 2, 0), larger(numbers("u2")))


def geotiff(path, cube, **profile):
    profile = {"crs": "EPSG:32611", "transform": rasterio.Affine(4, 0, 500000, 0, -4, 4100000), "nodata": 7, **profile}
    height, width, bands = cube.shape
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=bands, dtype=cube.dtype, **profile
    ) as f:
        f.write(cube.transpose(2, 0, 1))
        f.descriptions = [f"band {w:g} nm" for w in WAVELENGTHS]
        f.scales = [0.0001] * bands
        f.update_tags(sensor="AVIRIS")
        for band, wavelength in enumerate(WAVELENGTHS, start=1):
            f.update_tags(band, wavelength=str(wavelength), wavelength_units="Nanometers", STATISTICS_MAXIMUM="1")
    return path


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "f4", "f8"])
@pytest.mark.parametrize(
    "profile",
    [
        {"interleave": "band"},
        {"interleave": "pixel", "blockysize": 3},
        {"interleave": "pixel", "tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"},
    ],
)
def test_geotiff(tmp_path, dtype, profile):
    cube = numbers(dtype)
    raster, _ = there_and_back(geotiff(tmp_path / "in.tif", cube, **profile), tmp_path / "out.tif", dtype == "u2")
    np.testing.assert_array_equal(raster.read(slice(2, 5), slice(1, 4)), cube[2:5, 1:4])
    np.testing.assert_allclose(raster.wavelengths, WAVELENGTHS)
    assert (raster.nodata, raster.value_scale) == (7, pytest.approx(10000))
    with rasterio.open(tmp_path / "out.tif") as f:
        np.testing.assert_array_equal(f.read().transpose(1, 2, 0), larger(cube))
        assert (f.dtypes[0], f.nodata, f.crs.to_epsg()) == (cube.dtype.name, 7, 32611)
        assert tuple(f.transform)[:6] == (2, 0, 500000, 0, -2, 4100000)
        assert f.descriptions[0] == "band 412.5 nm"
        assert f.scales[0] == 0.0001
        assert f.tags()["sensor"] == "AVIRIS"
        assert f.tags(2) == {"wavelength": "500.0", "wavelength_units": "Nanometers"}
        assert {k: f.profile[k] for k in profile} == profile


def test_control_points_and_rpcs_are_scaled(tmp_path):
    ones = [1.0] + [0.0] * 19
    with rasterio.open(tmp_path / "in.tif", "w", driver="GTiff", width=6, height=7, count=5, dtype="uint16") as f:
        f.write(numbers("u2").transpose(2, 0, 1))
        f.gcps = [GroundControlPoint(row=3.5, col=2, x=10, y=20)], rasterio.CRS.from_epsg(4326)
        f.rpcs = RPC(0, 1, 0, 1, ones, ones, 3, 3.5, 0, 1, ones, ones, 2.5, 3)
    there_and_back(tmp_path / "in.tif", tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as f:
        points, crs = f.gcps
        assert [(p.row, p.col, p.x, p.y) for p in points] == [(7, 4, 10, 20)]
        assert crs.to_epsg() == 4326
        # Line 3 was the middle of the fourth pixel, now of the seventh and eighth.
        assert (f.rpcs.line_off, f.rpcs.samp_off, f.rpcs.line_scale) == (6.5, 5.5, 7)


@pytest.mark.parametrize(
    "form",
    [
        {"planarconfig": "separate"},
        {"planarconfig": "contig"},
        {"planarconfig": "separate", "compression": "zlib", "tile": (16, 16)},
        {"metadata": None},
        {"metadata": None, "bigtiff": True},
    ],
)
def test_plain_tiff(tmp_path, form):
    cube = numbers("u2")
    stored = cube if form.get("planarconfig") == "contig" else cube.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "in.tif", stored, photometric="minisblack", byteorder=">", **form)
    with tifffile.TiffFile(tmp_path / "in.tif") as f:
        assert (len(f.pages) == 5) == ("metadata" in form)
    raster, _ = there_and_back(tmp_path / "in.tif", tmp_path / "out.tif")
    np.testing.assert_array_equal(raster.read(slice(2, 5), slice(1, 4)), cube[2:5, 1:4])
    with tifffile.TiffFile(tmp_path / "out.tif") as f:
        # Pages become bands of one page.
        assert len(f.pages) == 1
        assert f.pages[0].is_tiled == ("tile" in form)
        assert (f.pages[0].compression != 1) == ("compression" in form)
    with rasterio.open(tmp_path / "out.tif") as f:
        np.testing.assert_array_equal(f.read().transpose(1, 2, 0), larger(cube))


def test_four_bands_of_bytes_stay_bands(tmp_path):
    np.save(tmp_path / "in.npy", numbers("u1", bands=4))
    there_and_back(tmp_path / "in.npy", tmp_path / "out.tif", options=CubeOptions(band_axis=2))
    np.testing.assert_array_equal(open_raster(tmp_path / "out.tif").read(), larger(numbers("u1", bands=4)))


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_a_geotiff_is_opened_at_most_twice(tmp_path):
    path = geotiff(tmp_path / "in.tif", numbers("u2"))
    script = f"import formats; formats.open_raster({str(path)!r}).read()"
    words = ["strace", "-f", "-e", "trace=openat", sys.executable, "-c", script]
    trace = subprocess.run(words, cwd=ROOT, text=True, capture_output=True).stderr
    assert 1 <= trace.count(f'"{path}"') <= 2


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_hdf5(tmp_path, capsys, axis, compression):
    cube = numbers("i2")
    with h5py.File(tmp_path / "in.h5", "w") as f:
        chunks = tuple(np.moveaxis(np.empty((4, 3, 5)), 2, axis).shape) if compression else None
        data = f.create_dataset("site/data", data=np.moveaxis(cube, 2, axis), compression=compression, chunks=chunks)
        data.attrs.update({"Data_Ignore_Value": -9999.0, "Scale_Factor": 10000.0, "unit": "reflectance"})
        f["site/spectral/Wavelength"] = WAVELENGTHS
        f["site/spectral/Wavelength"].attrs["Units"] = "nanometers"
        f["site/grid/Map_Info"] = "UTM,  1.000,  1.000, 257000.00, 4112000.0, 1.0, 1.0, 11, North, WGS-84, units=Meters"
        f["site/latitude"] = np.zeros((7, 6))
        f["site/names"] = [b"a", b"b"]
        f.attrs["title"] = "flight"
    raster, _ = there_and_back(tmp_path / "in.h5", tmp_path / "out.h5", axis == 1)
    np.testing.assert_array_equal(raster.read(slice(2, 5), slice(1, 4)), cube[2:5, 1:4])
    np.testing.assert_array_equal(raster.wavelengths, WAVELENGTHS)
    assert (raster.nodata, raster.value_scale) == (-9999, 10000)
    with h5py.File(tmp_path / "out.h5") as f:
        np.testing.assert_array_equal(f["site/data"][()], np.moveaxis(larger(cube), 2, axis))
        assert (f["site/data"].dtype, f["site/data"].compression) == (np.int16, compression)
        assert f["site/data"].attrs["unit"] == "reflectance"
        np.testing.assert_array_equal(f["site/spectral/Wavelength"][()], WAVELENGTHS)
        assert f["site/spectral/Wavelength"].attrs["Units"] == "nanometers"
        assert (
            f["site/grid/Map_Info"][()]
            .decode()
            .replace(" ", "")
            .startswith("UTM,1,1,257000.00,4112000.0,0.5,0.5,11,North")
        )
        assert list(f["site/names"]) == [b"a", b"b"]
        assert f.attrs["title"] == "flight"
        # It belongs to the old pixels.
        assert "latitude" not in f["site"]
    assert "out.h5: without site/latitude" in capsys.readouterr().out


def test_hdf5_keeps_links_types_and_valid_axes(tmp_path, capsys):
    cube = numbers("u2")
    with h5py.File(tmp_path / "in.h5", "w") as f:
        f["image"] = cube
        f["gone"], f["elsewhere"], f["same"] = (
            h5py.SoftLink("/none"),
            h5py.ExternalLink("no.h5", "/x"),
            h5py.SoftLink("/image"),
        )
        f["type"] = np.dtype("f8")
        f.create_group("group")["up"] = f["/"]
        f["map_info"] = "UTM, 1.0"
        f["rows"], f["spectral"] = np.arange(7.0), np.arange(5.0)
        for name in ("rows", "spectral"):
            f[name].make_scale(name)
        f["image"].dims[0].attach_scale(f["rows"])
    there_and_back(tmp_path / "in.h5", tmp_path / "out.h5", False, CubeOptions(band_axis=2))
    with h5py.File(tmp_path / "out.h5") as f:
        np.testing.assert_array_equal(f["same"][()], larger(cube))
        assert f.get("gone", getlink=True).path == "/none"
        assert f["type"].dtype == np.float64
        assert sorted(f) == ["gone", "group", "image", "same", "spectral", "type"]
    printed = capsys.readouterr().out
    assert "without map_info, rows" in printed
    assert "without elsewhere, whose values are in other files" in printed


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_mat(tmp_path, version):
    cube = numbers("f8")
    held = {"scene": cube, "wavelength": WAVELENGTHS[None], "labels": np.zeros((7, 6)), "site": np.ones((2, 3))}
    fixtures.write_mat(tmp_path / "in.mat", held, version)
    if version == "7.3":
        with h5py.File(tmp_path / "in.mat", "r+") as f:
            f["scene"].attrs["MATLAB_class"] = np.bytes_("double")
    raster, _ = there_and_back(tmp_path / "in.mat", tmp_path / "out.mat")
    np.testing.assert_array_equal(raster.wavelengths, WAVELENGTHS)
    if version == "5":
        back = scipy.io.loadmat(tmp_path / "out.mat")
    else:
        assert (tmp_path / "out.mat").read_bytes()[:19] == b"MATLAB 7.3 MAT-file"
        with h5py.File(tmp_path / "out.mat") as f:
            assert f["scene"].attrs["MATLAB_class"] == b"double"
            back = {k: v[()].T for k, v in f.items()}
    np.testing.assert_array_equal(back["scene"], larger(cube))
    np.testing.assert_array_equal(back["wavelength"], WAVELENGTHS[None])
    np.testing.assert_array_equal(back["site"], np.ones((2, 3)))
    assert "labels" not in back


def test_mat_of_pixels_in_a_list(tmp_path):
    # The unmixing benchmarks store bands x pixels, column by column.
    cube = numbers("u2")
    held = {"Y": cube.transpose(2, 1, 0).reshape(5, -1), "nRow": 7, "nCol": 6, "A": np.zeros((3, 42)), "maxValue": 5000}
    fixtures.write_mat(tmp_path / "in.mat", held)
    raster, _ = there_and_back(tmp_path / "in.mat", tmp_path / "out.mat")
    np.testing.assert_array_equal(raster.read(), cube)
    back = scipy.io.loadmat(tmp_path / "out.mat")
    assert (back["nRow"], back["nCol"], back["maxValue"]) == (14, 12, 5000)
    np.testing.assert_array_equal(back["Y"][:, 14 * 3 + 2], larger(cube)[2, 3])
    assert "A" not in back


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_npy(tmp_path, axis):
    cube = numbers("u2")
    np.save(tmp_path / "in.npy", np.moveaxis(cube, 2, axis))
    raster, _ = there_and_back(tmp_path / "in.npy", tmp_path / "out.npy", axis == 0, CubeOptions(band_axis=axis))
    np.testing.assert_array_equal(raster.read(slice(2, 5), slice(1, 4)), cube[2:5, 1:4])
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), np.moveaxis(larger(cube), 2, axis))


def test_dates_and_long_names_beside_cubes_remain(tmp_path):
    days, long = np.array(["2026-01-02", "2026-01-03"], "datetime64[D]"), "n" * 40
    np.savez(tmp_path / "in.npz", cube=numbers("u2"), days=days)
    there_and_back(tmp_path / "in.npz", tmp_path / "out.npz", False, CubeOptions(band_axis=2))
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["days"], days)
    scipy.io.savemat(tmp_path / "in.mat", {"cube": numbers("u2"), "s": {long: 1.0}}, long_field_names=True)
    there_and_back(tmp_path / "in.mat", tmp_path / "out.mat", False, CubeOptions(band_axis=2))
    assert scipy.io.loadmat(tmp_path / "out.mat")["s"].dtype.names == (long,)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    cube = numbers("f4")
    save(tmp_path / "in.npz", cube=cube, wavelengths=WAVELENGTHS, mask=np.zeros((7, 6)), day=np.array(5))
    raster, _ = there_and_back(tmp_path / "in.npz", tmp_path / "out.npz", save is np.savez)
    np.testing.assert_array_equal(raster.wavelengths, WAVELENGTHS)
    with np.load(tmp_path / "out.npz") as back:
        assert sorted(back.files) == ["cube", "day", "wavelengths"]
        np.testing.assert_array_equal(back["cube"], larger(cube))
        assert back["day"] == 5


@pytest.mark.parametrize(("dtype", "peak"), [(np.uint16, 65535), (np.uint8, 255)])
def test_band_pictures(tmp_path, dtype, peak):
    cube = fixtures.make_smooth_cube(0, 7, 6)
    folder = fixtures.write_cave_scene(tmp_path, "scene", cube, dtype)
    raster, written = there_and_back(folder, tmp_path / "out_ms")
    assert written == [tmp_path / "out_ms"]
    np.testing.assert_array_equal(raster.wavelengths, np.arange(400, 701, 10))
    pixels = (cube * peak).round().astype(dtype)
    for k in (0, 30):
        with Image.open(tmp_path / "out_ms" / f"scene_ms_{k + 1:02d}.png") as band:
            np.testing.assert_array_equal(np.array(band), larger(pixels)[:, :, k])
    assert len(list((tmp_path / "out_ms").iterdir())) == 31


def test_metadata_is_kept_across_formats(tmp_path):
    cube = numbers("i2")
    there_and_back(geotiff(tmp_path / "in.tif", cube), tmp_path / "a.hdr")
    header = envi.open(str(tmp_path / "a.hdr")).metadata
    assert [float(w) for w in header["wavelength"]] == list(WAVELENGTHS)
    assert (header["wavelength units"], float(header["data ignore value"])) == ("Nanometers", 7)
    assert float(header["reflectance scale factor"]) == pytest.approx(10000)
    there_and_back(tmp_path / "a.hdr", tmp_path / "b.tif")
    with rasterio.open(tmp_path / "b.tif") as f:
        assert (f.crs.to_epsg(), f.nodata) == (32611, 7)
        assert tuple(f.transform)[:6] == (1, 0, 500000, 0, -1, 4100000)
        assert f.tags(3)["wavelength"] == "555.25"
        np.testing.assert_array_equal(f.read().transpose(1, 2, 0), larger(larger(cube)))
    raster, _ = there_and_back(tmp_path / "in.tif", tmp_path / "c.h5")
    again = open_raster(tmp_path / "c.h5")
    np.testing.assert_array_equal(again.wavelengths, WAVELENGTHS)
    assert (again.nodata, again.value_scale) == (7, pytest.approx(10000))
    with h5py.File(tmp_path / "c.h5") as f:
        assert rasterio.CRS.from_wkt(f["image"].attrs["crs_wkt"]).to_epsg() == 32611
    for name in ("d.npy", "d.npz", "d.mat"):
        there_and_back(tmp_path / "c.h5", tmp_path / name)
        np.testing.assert_array_equal(open_raster(tmp_path / name).read(), larger(larger(cube)))


@pytest.mark.parametrize("interleave", ["bip", "bil", "bsq"])
def test_raw_windows_come_to_their_places(tmp_path, interleave):
    raw = RawCube(tmp_path / "raw", (3, 4, 2), ">i2", interleave)
    raw.write(1, 2, np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]]))
    raw.close()
    raw = RawCube(tmp_path / "raw", (3, 4, 2), ">i2", interleave)
    raw.write(0, 0, np.full((1, 4, 2), 9))
    shown = {"bip": (0, 1, 2), "bil": (0, 2, 1), "bsq": (2, 0, 1)}[interleave]
    expected = np.zeros((3, 4, 2), ">i2")
    expected[1, 2:], expected[2, 2:], expected[0] = [[1, 2], [3, 4]], [[5, 6], [7, 8]], 9
    np.testing.assert_array_equal(raw.cube, expected)
    assert (tmp_path / "raw").read_bytes() == expected.transpose(shown).tobytes()


@pytest.mark.parametrize(("dtype", "name"), [("f4", "out_ms"), ("f2", "out.hdr"), ("f2", "out.tif"), ("f2", "out.mat")])
def test_unsupported_number_types_are_refused(tmp_path, dtype, name):
    raster = open_raster(fixtures.write_own(tmp_path, "npy", numbers(dtype, 20, 20)))
    if name == "out_ms":
        raster.kind = "png"
    with pytest.raises(UserError, match="no values of type"):
        Output(tmp_path / name, raster, SCALE)


def test_indexed_units_are_not_wavelengths(tmp_path):
    path = write_envi(tmp_path / "a.hdr", numbers("u2"))
    path.write_text(path.read_text().replace("Micrometers", "Wavenumber"))
    assert open_raster(path).wavelengths is None


@pytest.mark.parametrize("unit", ["", "wavelength units = Unknown"])
def test_fwhm_has_the_unit_of_wavelengths(tmp_path, unit):
    path = write_envi(tmp_path / "a.hdr", numbers("u2"))
    path.write_text(path.read_text().replace("wavelength units = Micrometers", unit))
    raster, _ = there_and_back(path, tmp_path / "b.tif")
    np.testing.assert_allclose(raster.wavelengths, WAVELENGTHS)
    assert raster.band_fields["fwhm"] == ["10"] * 5
    with rasterio.open(tmp_path / "b.tif") as f:
        assert (f.tags(1)["fwhm"], f.tags(1)["wavelength_units"]) == ("10", "Nanometers")
        pages = [f.read(k) for k in f.indexes]
    with rasterio.open(
        tmp_path / "c.tif", "w", driver="GTiff", width=12, height=14, count=5, dtype="uint16", interleave="band"
    ) as f:
        for k, page in enumerate(pages, start=1):
            f.write(page, k)
            f.update_tags(k, wavelength=str(WAVELENGTHS[k - 1] / 1000), fwhm="0.01")
    assert open_raster(tmp_path / "c.tif").band_fields["fwhm"] == ["10"] * 5


def test_band_count_of_envi_is_not_a_wavelength(tmp_path):
    path = tmp_path / "a.hdr"
    envi.save_image(str(path), numbers("u2", bands=1), dtype="uint16", ext="dat")
    assert open_raster(path).wavelengths is None


def test_band_axis_of_a_page_stack_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", numbers("u2").transpose(2, 0, 1), photometric="minisblack", metadata=None)
    with pytest.raises(DataError, match="its 5 bands are; leave band_axis out"):
        open_raster(tmp_path / "a.tif", CubeOptions(band_axis=1))


@pytest.mark.parametrize("name", ["wavelength", "wl", "Lambda", "bands"])
@pytest.mark.parametrize("order", ["descending", "overlapping", "unsorted"])
@pytest.mark.parametrize("kind", ["npz", "mat", "h5"])
def test_wavelengths_in_any_order_are_read(tmp_path, kind, order, name):
    cube = np.random.default_rng(0).random((9, 8, 5)).astype(np.float32)
    values = {
        "descending": [700.0, 650, 600, 550, 500],
        "overlapping": [500.0, 550, 600, 580, 630],
        "unsorted": [600.0, 500, 700, 550, 650],
    }[order]
    path = tmp_path / f"scene.{kind}"
    if kind == "npz":
        np.savez(path, image=cube, **{name: values})
    elif kind == "mat":
        scipy.io.savemat(path, {"image": cube, name: values})
    else:
        with h5py.File(path, "w") as f:
            f["image"], f[name] = cube, values
    assert open_raster(path).wavelengths.tolist() == values


def test_numbers_of_bands_are_not_wavelengths(tmp_path):
    cube = np.zeros((12, 20, 5), np.float32)
    for first in (0, 1):
        np.savez(tmp_path / "scene.npz", image=cube, bands=np.arange(first, first + 5))
        assert open_raster(tmp_path / "scene.npz").wavelengths is None


def test_wavelengths_accept_span_list_or_file(tmp_path):
    assert parse_wavelengths("400,700", 4).tolist() == [400, 500, 600, 700]
    assert parse_wavelengths("700, 420.5, 450", 3).tolist() == [700, 420.5, 450]
    (tmp_path / "centres.txt").write_text("400\n450, 500;\t610\n")
    assert parse_wavelengths(str(tmp_path / "centres.txt"), 4).tolist() == [400, 450, 500, 610]
    many = ",".join(str(400 + k) for k in range(300))
    assert len(parse_wavelengths(many, 300)) == 300
    with pytest.raises(DataError, match="3 wavelengths for 4 bands"):
        parse_wavelengths("400,500,600", 4)
    for text in ("700,400", "0.4,0.7", "blue,red", "400", str(tmp_path / "none.txt"), "nan,700"):
        with pytest.raises(DataError, match="no two wavelengths of light"):
            parse_wavelengths(text)
