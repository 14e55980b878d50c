"""Files as written by libraries, data portals and by hand."""

import gzip
import warnings

import h5py
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import scipy.io
import scipy.sparse
import spectral.io.envi as envi
import tifffile
from helpers import repeat_pixels, write_upsampled
from PIL import Image

from formats import CubeOptions, open_raster
from formats.calibration import understand
from models import build_model
from models.weights import save_weights
from system.errors import DataError

HEIGHT, WIDTH, BANDS, SCALE = 36, 40, 6, 2
CUBE = np.random.default_rng(3).integers(100, 9000, (HEIGHT, WIDTH, BANDS)).astype(np.uint16)
WAVELENGTHS = np.linspace(450, 700, BANDS)
PLACE = rasterio.Affine(30, 0, 500000, 0, -30, 5400000)


@pytest.fixture(scope="module")
def still_weights(tmp_path_factory):
    """Weights of six bands, x4, whose network gives the bicubic image."""
    network = build_model("DeepShare", BANDS, 4, n_feats=4, n_subs=BANDS, n_blocks=1, global_residual=True)
    network.init_identity()
    path = tmp_path_factory.mktemp("weights") / "still.pth"
    save_weights(network, path, 2)
    return path


def geotiff(path, cube=CUBE, overviews=False, **profile):
    with rasterio.open(
        path, "w", driver="GTiff", width=WIDTH, height=HEIGHT, count=cube.shape[2], dtype=cube.dtype,
        crs="EPSG:32633", transform=PLACE, **profile,
    ) as f:  # fmt: skip
        f.write(cube.transpose(2, 0, 1))
        f.scales = [1e-4] * cube.shape[2]
        f.descriptions = [f"{w:g} nm" for w in WAVELENGTHS[: cube.shape[2]]]
    if overviews:
        with rasterio.open(path, "r+") as f:
            f.build_overviews([2, 4])
    return path


def is_finer(path):
    with rasterio.open(path) as f:
        assert (f.crs.to_epsg(), f.transform.a, f.transform.e) == (32633, 15, -15)
        assert (f.scales[0], f.descriptions[0]) == (1e-4, "450 nm")
        return f.overviews(1), f.tags(ns="IMAGE_STRUCTURE").get("LAYOUT"), f.block_shapes[0]


def test_overviews_are_not_pages(tmp_path):
    raster, out = write_upsampled(geotiff(tmp_path / "a.tif", overviews=True), tmp_path / "b.tif")
    assert (raster.shape, raster.value_scale) == (CUBE.shape, pytest.approx(10000))
    assert is_finer(out)[0] == [2, 4]


@pytest.mark.parametrize("axis", [0, 2])
def test_geotiff_accepts_band_axis_0_and_2(tmp_path, axis):
    _, out = write_upsampled(geotiff(tmp_path / "a.tif"), tmp_path / "b.tif", CubeOptions(band_axis=axis))
    is_finer(out)
    with pytest.raises(DataError, match="defines itself which its 6 bands are"):
        open_raster(tmp_path / "a.tif", CubeOptions(band_axis=1))


@pytest.mark.parametrize("compress", ["LZW", "DEFLATE", "NONE"])
def test_a_cog_becomes_a_cog(tmp_path, compress):
    geotiff(tmp_path / "a.tif", tiled=True, blockxsize=16, blockysize=16)
    rasterio.shutil.copy(tmp_path / "a.tif", tmp_path / "cog.tif", driver="COG", BLOCKSIZE=16, COMPRESS=compress)
    raster, out = write_upsampled(tmp_path / "cog.tif", tmp_path / "b.tif")
    assert raster.shape == CUBE.shape
    assert is_finer(out)[1:] == ("COG", (16, 16))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif", "b.tif", "cog.tif"]


@pytest.mark.parametrize("place", ["inside", "beside"])
def test_masks_inside_and_beside_are_known(tmp_path, place):
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[:10, 5:] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=place == "inside"):
        geotiff(tmp_path / "a.tif")
        with rasterio.open(tmp_path / "a.tif", "r+") as f:
            f.write_mask(mask)
    assert (tmp_path / "a.tif.msk").exists() == (place == "beside")
    raster, out = write_upsampled(tmp_path / "a.tif", tmp_path / "b.tif")
    np.testing.assert_array_equal(raster.read_mask(slice(0, 12), slice(2, 9)), mask[:12, 2:9] != 0)
    with rasterio.open(out) as f:
        np.testing.assert_array_equal(f.dataset_mask(), repeat_pixels(mask[:, :, None])[:, :, 0])


def test_alpha_band_is_the_valid_mask(tmp_path):
    cube = np.concatenate([CUBE, np.full((HEIGHT, WIDTH, 1), 65535, np.uint16)], axis=2)
    cube[:7, :, -1] = 0
    profile = {"driver": "GTiff", "width": WIDTH, "height": HEIGHT, "count": BANDS + 1, "dtype": "uint16"}
    with rasterio.open(tmp_path / "a.tif", "w", **profile, crs="EPSG:32633", transform=PLACE) as f:
        interp = rasterio.enums.ColorInterp
        f.colorinterp = [interp.gray, *[interp.undefined] * (BANDS - 1), interp.alpha]
        f.write(cube.transpose(2, 0, 1))
    raster, out = write_upsampled(tmp_path / "a.tif", tmp_path / "b.tif")
    assert raster.shape == CUBE.shape
    assert not raster.read_mask(slice(0, 7), slice(0, WIDTH)).any()
    with rasterio.open(out) as f:
        assert f.count == BANDS + 1
        assert f.colorinterp[-1] == rasterio.enums.ColorInterp.alpha
        np.testing.assert_array_equal(f.read().transpose(1, 2, 0), repeat_pixels(cube))


def test_pages_with_coordinates_keep_them(tmp_path):
    keys = [
        (33550, "d", 3, (30.0, 30.0, 0.0), False),
        (33922, "d", 6, (0.0, 0.0, 0.0, 500000.0, 5400000.0, 0.0), False),
    ]
    keys.append((34735, "H", 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633), False))
    pages = CUBE.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack", metadata=None, extratags=keys)
    with tifffile.TiffFile(tmp_path / "a.tif") as f:
        assert len(f.pages) == BANDS
    _, out = write_upsampled(tmp_path / "a.tif", tmp_path / "b.tif")
    with rasterio.open(out) as f:
        assert (f.crs.to_epsg(), f.transform.a, f.transform.c) == (32633, 15, 500000)
        np.testing.assert_array_equal(f.read().transpose(1, 2, 0), repeat_pixels(CUBE))


def test_pages_in_lzw_become_bands(tmp_path):
    first, *others = (Image.fromarray(np.ascontiguousarray(CUBE[:, :, k])) for k in range(BANDS))
    first.save(tmp_path / "a.tif", save_all=True, append_images=others, compression="tiff_lzw")
    raster, out = write_upsampled(tmp_path / "a.tif", tmp_path / "b.tif")
    np.testing.assert_array_equal(raster.read(), CUBE)
    with rasterio.open(out) as f:
        assert (f.count, f.profile["compress"]) == (BANDS, "lzw")
        np.testing.assert_array_equal(f.read().transpose(1, 2, 0), repeat_pixels(CUBE))


def test_stacks_that_lost_pages_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as f:
        for k in range(BANDS):
            f.write(CUBE[:, :, k], contiguous=False, metadata=None, photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "a.tif") as f:
        offset = f.pages[3].offset
    assert open_raster(tmp_path / "a.tif").shape == CUBE.shape
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[: offset + 4])
    with pytest.raises(DataError, match="cannot be read as TIFF"):
        open_raster(tmp_path / "a.tif")


def test_ome_descriptions_are_left_out_by_name(tmp_path, capsys):
    tifffile.imwrite(
        tmp_path / "a.ome.tif", CUBE.transpose(2, 0, 1), photometric="minisblack",
        metadata={"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}, resolution=(100, 100),
    )  # fmt: skip
    _, out = write_upsampled(tmp_path / "a.ome.tif", tmp_path / "b.ome.tif")
    assert "without its image description" in capsys.readouterr().out
    with tifffile.TiffFile(out) as f:
        assert f.series[0].shape == (BANDS, HEIGHT * SCALE, WIDTH * SCALE)
        assert f.pages[0].description == ""
        assert f.pages[0].tags["XResolution"].value[0] / f.pages[0].tags["XResolution"].value[1] == 200


def test_plain_tiff_results_contain_given_metadata(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", CUBE.transpose(2, 0, 1), photometric="minisblack", planarconfig="separate")
    options = CubeOptions(wavelengths="450,700", band_axis=0)
    write_upsampled(tmp_path / "a.tif", tmp_path / "b.tif", options, 10000, 0)
    again = open_raster(tmp_path / "b.tif")
    assert (again.value_scale, again.nodata, again.shape) == (pytest.approx(10000), 0, (72, 80, BANDS))
    np.testing.assert_array_equal(again.wavelengths, WAVELENGTHS)


def header(path, offset=0, **fields):
    """An ENVI header beside a file of CUBE's values; a field of None is left out."""
    said = {"samples": WIDTH, "lines": HEIGHT, "bands": BANDS, "header offset": offset, "data type": 12}
    said |= {"interleave": "bip", "byte order": 0, **{name.replace("_", " "): v for name, v in fields.items()}}
    lines = [f"{name} = {value}" for name, value in said.items() if value is not None]
    path.write_bytes("\n".join(["ENVI", *lines, ""]).encode())
    return path


WRITTEN_SO = {
    "a number with a comma": ({"bands": "6,"}, {}),
    "a fraction": ({"data_type": "12.0", "lines": "36.0"}, {}),
    "a byte order in words": ({"byte_order": "Little Endian"}, {}),
    "no byte order": ({"byte_order": None}, {}),
    "a comma at the end": ({"wavelength": "{450, 500, 550, 600, 650, 700,}"}, {"wavelengths": WAVELENGTHS}),
    "semicolons": ({"wavelength": "{450; 500; 550; 600; 650; 700}"}, {"wavelengths": WAVELENGTHS}),
    "units behind the numbers": (
        {"wavelength": "{450 nm, 500 nm, 550 nm, 600 nm, 650 nm, 700 nm}"},
        {"wavelengths": WAVELENGTHS},
    ),
    "the wrong unit": (
        {"wavelength": "{450, 500, 550, 600, 650, 700}", "wavelength_units": "Micrometers"},
        {"wavelengths": WAVELENGTHS},
    ),
    "wavelengths by another name": ({"wavelengths": "{450, 500, 550, 600, 650, 700}"}, {"wavelengths": WAVELENGTHS}),
    "a scale for each band": ({"reflectance_scale_factor": "{1e4, 1e4, 1e4, 1e4, 1e4, 1e4}"}, {"value_scale": 10000}),
    "a mark for each band": ({"data_ignore_value": "{0, 0, 0, 0, 0, 0}"}, {"nodata": 0}),
    "words among the numbers of no use": ({"fwhm": "{a, b}", "bbl": "{1, x}"}, {}),
    "a brace that is not closed": ({"map_info": "{UTM, 1, 1, 500000, 5400000, 30, 30, 33, North, WGS-84"}, {}),
}


@pytest.mark.parametrize("case", WRITTEN_SO)
def test_hand_written_headers_are_read(tmp_path, case):
    fields, expected = WRITTEN_SO[case]
    (tmp_path / "a.img").write_bytes(CUBE.tobytes())
    raster, out = write_upsampled(header(tmp_path / "a.hdr", **fields), tmp_path / "b.hdr", value_scale=10000)
    np.testing.assert_array_equal(raster.read(), CUBE)
    for name, value in expected.items():
        np.testing.assert_array_equal(getattr(raster, name), value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(envi.open(str(out)).open_memmap(interleave="bip"), repeat_pixels(CUBE))


@pytest.mark.parametrize(("encoding", "start"), [("utf-8", "\ufeff"), ("latin-1", ""), ("utf-8", "")])
def test_headers_in_any_encoding(tmp_path, encoding, start):
    (tmp_path / "a.img").write_bytes(CUBE.tobytes())
    text = header(tmp_path / "a.hdr").read_text() + "description = {Prüfstück, 5 µm}\n"
    (tmp_path / "a.hdr").write_bytes((start + text.replace("\n", "\r\n")).encode(encoding))
    _, out = write_upsampled(tmp_path / "a.hdr", tmp_path / "b.hdr")
    assert "Prüfstück, 5 µm" in out.read_text(encoding="utf-8")


REFUSED_SO = {
    "an unknown type": ({"data_type": 99}, "data type = 99 is none of ENVI's"),
    "the entry that is wrong": ({"wavelength": "{450, 500, blue, 600, 650, 700}"}, r"wavelength = blue \(entry 3\)"),
    "a decimal comma": ({"wavelength": "{450,5, 500,5, 550,5, 600,5, 650,5, 700,5}"}, "a comma as the decimal mark"),
    "marks that differ": ({"data_ignore_value": "{0, 0, 0, -1, 0, 0}"}, "0 and, for band 4, -1"),
    "gains of another sensor": ({"data_gain_values": "{1, 2}"}, "2 gains for 6 bands"),
    "a gain of nothing": ({"data_gain_values": "{1, 1, 0, 1, 1, 1}"}, r"0 among its gains \(number 3\)"),
    "bytes between the lines": ({"major_frame_offsets": "{0, 40}"}, "defines gaps between its values"),
    "a spectral library": ({"file_type": "ENVI Spectral Library"}, "a spectral library"),
}


@pytest.mark.parametrize("case", REFUSED_SO)
def test_unusable_headers_are_refused_with_the_reason(tmp_path, case):
    fields, words = REFUSED_SO[case]
    (tmp_path / "a.img").write_bytes(CUBE.tobytes())
    with pytest.raises(DataError, match=words):
        open_raster(header(tmp_path / "a.hdr", **fields))


STRANGERS = {
    "esri.hdr": (b"BYTEORDER I\nLAYOUT BIL\nNROWS 36\nNCOLS 40\nNBANDS 6\nNBITS 16\n", "an ESRI header"),
    "radiance.hdr": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", "Radiance"),
    "old.nc": (b"CDF\x01" + bytes(60), "netCDF-3"),
    "scene.tif.gz": (b"\x1f\x8b\x08" + bytes(60), "packed with gzip"),
    "scene.h4": (b"\x0e\x03\x13\x01" + bytes(60), "HDF4"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_unsupported_files_are_named_by_kind(tmp_path, name):
    content, words = STRANGERS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words) as refusal:
        open_raster(tmp_path / name)
    assert "damaged" not in str(refusal.value)


def test_missing_hdf5_filter_is_not_called_damage(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as f:
        space, kind = h5py.h5s.create_simple(CUBE.shape), h5py.h5t.NATIVE_UINT16
        how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        how.set_chunk((HEIGHT, WIDTH, BANDS))
        # A number of nobody; optional, so that it may be asked for where it is not there.
        how.set_filter(32700, h5py.h5z.FLAG_OPTIONAL, (0, 0, 0, 0))
        dataset = h5py.h5d.create(f.id, b"cube", kind, space, how)
        dataset.write_direct_chunk((0, 0, 0), CUBE.tobytes(), 0)
    with pytest.raises(DataError, match="pip install hdf5plugin"):
        open_raster(tmp_path / "a.h5").read()


@pytest.mark.parametrize(
    ("name", "out", "wrote"),
    [
        ("scene.pix", "o/", ["scene.pix", "scene.pix.hdr"]),
        ("scene.pix", "big.hdr", ["big.hdr", "big.img"]),
        ("scene.img", "o/", ["scene.img", "scene.img.hdr"]),
        ("scene", "o/", ["scene", "scene.hdr"]),
        ("scene", "a.bil", ["a.bil", "a.hdr"]),
        ("scene", "a.BSQ", ["a.BSQ", "a.hdr"]),
        ("scene", "a.dat", ["a.dat", "a.hdr"]),
        ("scene", "a.v1.2.hdr", ["a.v1.2", "a.v1.2.hdr"]),
        ("scene.img", "a.v1.2.hdr", ["a.v1.2.hdr", "a.v1.2.img"]),
        ("scene", "results.img/", ["scene", "scene.hdr"]),
    ],
)
def test_envi_results_are_found_by_other_readers(run, still_weights, tmp_path, name, out, wrote):
    (tmp_path / name).write_bytes(bytes(100) + CUBE.tobytes())
    header(tmp_path / f"{name}.hdr", offset=100)
    run("predict", input=tmp_path / name, output=f"{tmp_path}/there/{out}", model_dir=still_weights, value_scale=10000)
    folder = tmp_path / "there" / out if out.endswith("/") else tmp_path / "there"
    assert sorted(p.name for p in folder.iterdir()) == sorted(wrote)
    path = next(folder.glob("*.hdr"))
    image = envi.open(str(path))
    assert image.shape == (HEIGHT * 4, WIDTH * 4, BANDS)
    if out.lower().endswith((".bil", ".bsq")):
        assert image.metadata["interleave"] == out[-3:].lower()
    with rasterio.open(next(p for p in folder.iterdir() if p.suffix != ".hdr"), driver="ENVI") as f:
        assert (f.height, f.width, f.count) == image.shape


def test_envi_data_of_any_extension_are_found(tmp_path):
    (tmp_path / "a.rfl").write_bytes(CUBE.tobytes())
    np.testing.assert_array_equal(open_raster(header(tmp_path / "a.hdr")).read(), CUBE)
    np.testing.assert_array_equal(open_raster(tmp_path / "a.rfl").read(), CUBE)


def test_hdf5_grid_metadata_are_scaled_by_meaning(tmp_path, capsys):
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["cube"] = CUBE
        f["cube"].attrs.update({"GeoTransform": "500000 30 0 5400000 0 -30", "Dimensions": np.array(CUBE.shape)})
        f["cube"].attrs["Spatial_Resolution_X_Y"] = np.array([30.0, 30.0])
        f.attrs.update({"lines": HEIGHT, "samples": np.int32(WIDTH), "title": "flight"})
        # Lookup tables of another grid, one of which happens to be square.
        f["location/glt_x"], f["location/glt_y"] = np.zeros((50, 50), "i4"), np.zeros((7, 9), "i4")
        f["location/lat"], f["elevation"] = np.zeros((HEIGHT, WIDTH)), np.zeros((HEIGHT, WIDTH, 1))
        f["y"], f["x"] = 5400000 - 30 * (np.arange(HEIGHT) + 0.5), 500000 + 30 * (np.arange(WIDTH) + 0.5)
        f["time"] = np.arange(float(HEIGHT))
        f["wavelength"], f["response"] = WAVELENGTHS, np.eye(BANDS)
    write_upsampled(tmp_path / "a.h5", tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5") as f:
        attributes = f["cube"].attrs
        assert attributes["GeoTransform"] == "500000 15 0 5400000 0 -15"
        assert attributes["Dimensions"].tolist() == [72, 80, BANDS]
        assert attributes["Spatial_Resolution_X_Y"].tolist() == [15, 15]
        assert (f.attrs["lines"], f.attrs["samples"], f.attrs["title"]) == (72, 80, "flight")
        np.testing.assert_allclose(f["x"][:3], [500007.5, 500022.5, 500037.5])
        np.testing.assert_allclose(f["y"][-1], 5400000 - 36 * 30 + 7.5)
        assert sorted(f) == ["cube", "location", "response", "wavelength", "x", "y"]
        assert not len(f["location"])
    said = capsys.readouterr().out
    assert all(name in said for name in ("location/glt_x", "location/glt_y", "location/lat", "elevation", "time"))


def test_airborne_hdf5_georeferencing_is_kept_as_geotiff(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["site/data"] = CUBE
        f["site/Coordinate_System/Map_Info"] = (
            "UTM, 1, 1, 500000.0, 5400000.0, 30.0, 30.0, 33, North, WGS-84, units=Meters"
        )
        f["site/Coordinate_System/Coordinate_System_String"] = rasterio.CRS.from_epsg(32633).to_wkt()
    _, out = write_upsampled(tmp_path / "a.h5", tmp_path / "b.tif")
    with rasterio.open(out) as f:
        assert (f.crs.to_epsg(), f.transform.a, f.transform.f) == (32633, 15, 5400000)


def test_axes_in_degrees_are_georeferencing(tmp_path):
    with h5py.File(tmp_path / "a.nc", "w") as f:
        f["cube"], f["lat"], f["lon"] = CUBE, 48 - 0.01 * np.arange(HEIGHT), 11 + 0.01 * np.arange(WIDTH)
        for axis, name, unit in ((0, "lat", "degrees_north"), (1, "lon", "degrees_east")):
            f[name].make_scale(name)
            f[name].attrs["units"] = unit
            f["cube"].dims[axis].attach_scale(f[name])
    _, out = write_upsampled(tmp_path / "a.nc", tmp_path / "b.tif")
    with rasterio.open(out) as f:
        assert f.crs.to_epsg() == 4326
        np.testing.assert_allclose(tuple(f.transform)[:6], (0.005, 0, 10.995, 0, -0.005, 48.005))


def test_unsupported_envi_georeferencing_is_reported(tmp_path, capsys):
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", width=WIDTH, height=HEIGHT, count=BANDS, dtype="uint16",
        crs="EPSG:32633", transform=rasterio.Affine(2, 0.5, 500000, 0, -2, 5400000),
    ) as f:  # fmt: skip
        f.write(CUBE.transpose(2, 0, 1))
    _, out = write_upsampled(tmp_path / "a.tif", tmp_path / "b.hdr")
    assert "map info" not in out.read_text()
    assert "b.hdr: without its position" in capsys.readouterr().out


def test_dropped_control_points_are_reported(tmp_path, capsys):
    profile = {"driver": "GTiff", "width": WIDTH, "height": HEIGHT, "count": BANDS, "dtype": "uint16"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(tmp_path / "a.tif", "w", **profile) as f:
            f.write(CUBE.transpose(2, 0, 1))
            f.gcps = [rasterio.control.GroundControlPoint(row=1, col=2, x=10, y=20)], rasterio.CRS.from_epsg(4326)
    write_upsampled(tmp_path / "a.tif", tmp_path / "b.hdr")
    assert "b.hdr: without its control points" in capsys.readouterr().out


def test_fwhm_of_envi_is_kept_or_named(tmp_path, capsys):
    (tmp_path / "a.img").write_bytes(CUBE.tobytes())
    listed = {"wavelength": "{0.45, 0.5, 0.55, 0.6, 0.65, 0.7}", "fwhm": "{0.01, 0.01, 0.01, 0.01, 0.02, 0.02}"}
    path = header(tmp_path / "a.hdr", wavelength_units="Micrometers", **listed, bbl="{1, 1, 0, 1, 1, 1}")
    write_upsampled(path, tmp_path / "b.npz", value_scale=10000)
    assert "b.npz: without its fwhm, bbl, which this format cannot contain" in capsys.readouterr().out
    _, out = write_upsampled(path, tmp_path / "b.tif", value_scale=10000)
    _, again = write_upsampled(out, tmp_path / "c.hdr")
    assert "fwhm" not in capsys.readouterr().out
    fields = envi.open(str(again)).metadata
    assert [float(v) for v in fields["fwhm"]] == [10, 10, 10, 10, 20, 20]
    assert [int(v) for v in fields["bbl"]] == [1, 1, 0, 1, 1, 1]


@pytest.mark.parametrize("name", ["a.hdr", "a.h5", "a.npz", "a.mat", "a.tif"])
def test_results_contain_given_metadata(tmp_path, name):
    cube = CUBE.astype(np.int16)
    cube[:4] = -9999
    if name == "a.hdr":
        (tmp_path / "a.img").write_bytes(cube.tobytes())
        header(tmp_path / name, data_type=2)
    elif name == "a.h5":
        with h5py.File(tmp_path / name, "w") as f:
            f["cube"] = cube
    elif name == "a.npz":
        np.savez(tmp_path / name, cube=cube)
    elif name == "a.mat":
        scipy.io.savemat(tmp_path / name, {"cube": cube})
    else:
        with rasterio.open(
            tmp_path / name, "w", driver="GTiff", width=WIDTH, height=HEIGHT, count=BANDS, dtype="int16",
            crs="EPSG:32633", transform=PLACE,
        ) as f:  # fmt: skip
            f.write(cube.transpose(2, 0, 1))
    write_upsampled(tmp_path / name, tmp_path / f"b{name[1:]}", CubeOptions(wavelengths="450,700"), 10000, -9999)
    again = open_raster(tmp_path / f"b{name[1:]}")
    assert (again.nodata, again.value_scale) == (-9999, pytest.approx(10000))
    np.testing.assert_array_equal(again.wavelengths, WAVELENGTHS)


@pytest.mark.parametrize("key", ["hsi.Data", "hsi/Data"])
def test_fields_of_structs_have_names(tmp_path, key):
    struct = {"Data": CUBE, "RGB": np.zeros((HEIGHT, WIDTH, 3), np.uint8), "info": {"wavelength": WAVELENGTHS}}
    scipy.io.savemat(tmp_path / "a.mat", {"hsi": struct, "note": "x"})
    raster, out = write_upsampled(tmp_path / "a.mat", tmp_path / "b.mat", CubeOptions(key=key))
    np.testing.assert_array_equal(raster.wavelengths, WAVELENGTHS)
    back = scipy.io.loadmat(out, simplify_cells=True)
    np.testing.assert_array_equal(back["hsi"]["Data"], repeat_pixels(CUBE))
    np.testing.assert_array_equal(back["hsi"]["info"]["wavelength"], WAVELENGTHS)
    assert (back["note"], back["hsi"]["RGB"].size) == ("x", 0)
    with pytest.raises(DataError, match="hsi is a struct; name one of its fields by key: hsi.Data"):
        open_raster(tmp_path / "a.mat", CubeOptions(key="hsi"))


def test_plain_hdf5_named_mat_stays_plain_hdf5(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w") as f:
        f["data"], f["wavelength"], f["fwhm"] = CUBE, WAVELENGTHS, np.ones(BANDS)
        f.attrs["sensor"] = "X"
    _, out = write_upsampled(tmp_path / "a.mat", tmp_path / "b.mat")
    with h5py.File(out) as f:
        np.testing.assert_array_equal(f["data"][()], repeat_pixels(CUBE))
        assert (sorted(f), f.attrs["sensor"]) == (["data", "fwhm", "wavelength"], "X")


@pytest.mark.parametrize("bands_first", [False, True])
@pytest.mark.parametrize("by_columns", [False, True])
def test_pixel_lists_with_given_size_are_read(tmp_path, bands_first, by_columns):
    y, x, k = np.mgrid[0:HEIGHT, 0:WIDTH, 0:BANDS]
    cube = 0.5 + 0.3 * np.sin(y / 9 + k) + 0.2 * np.cos(x / 5)
    listed = (cube.transpose(1, 0, 2) if by_columns else cube).reshape(-1, BANDS)
    held = {"X": listed.T if bands_first else listed, "h": HEIGHT, "w": WIDTH}
    scipy.io.savemat(tmp_path / "a.mat", held)
    raster, out = write_upsampled(tmp_path / "a.mat", tmp_path / "b.mat")
    np.testing.assert_array_equal(raster.read(), cube)
    back = scipy.io.loadmat(out)
    assert (back["h"].item(), back["w"].item()) == (72, 80)
    np.testing.assert_array_equal(open_raster(out).read(), repeat_pixels(cube))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.stack([CUBE, CUBE]), r"a stack of cubes, of shape \(2, 36, 40, 6\)"),
        (CUBE.reshape(-1, BANDS), "1440 x 6, and the rows and columns of its image are not known"),
        (scipy.sparse.csr_matrix(CUBE[:, :, 0]), "a sparse matrix"),
    ],
)
def test_keys_of_unusable_arrays_are_refused(tmp_path, array, words):
    scipy.io.savemat(tmp_path / "a.mat", {"X": array})
    with pytest.raises(DataError, match=words):
        open_raster(tmp_path / "a.mat", CubeOptions(key="X"))


def test_stack_of_one_cube_is_read(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"X": CUBE[None]})
    np.testing.assert_array_equal(open_raster(tmp_path / "a.mat").read(), CUBE)


def test_gains_and_offsets_yield_physical_values(tmp_path):
    reflectance = np.linspace(0, 0.9, CUBE.size).reshape(CUBE.shape)
    counts = np.rint((reflectance + 0.1) * 10000).astype(np.uint16)
    np.savez(tmp_path / "a.npz", cube=counts, scale_factor=1e-4, add_offset=-0.1)
    raster = open_raster(tmp_path / "a.npz")
    calibration = understand(raster).calibration
    unit, _ = calibration.to_unit(counts)
    np.testing.assert_allclose(unit, reflectance, atol=6e-5)
    np.testing.assert_array_equal(calibration.to_raw(unit)[0], counts)
    # The user's number takes the place of the gain, and the zero stays where the file has it.
    half = understand(raster, 20000).calibration.to_unit(counts)[0]
    np.testing.assert_allclose(half, reflectance / 2, atol=6e-5)


def test_compressed_envi_is_read_as_by_gdal(tmp_path):
    path = header(tmp_path / "a.hdr", file_compression=1, map_info="{UTM, 1, 1, 5e5, 5.4e6, 30, 30, 33, North, WGS-84}")
    (tmp_path / "a.img").write_bytes(gzip.compress(CUBE.tobytes()))
    with rasterio.open(tmp_path / "a.img") as f:
        np.testing.assert_array_equal(f.read().transpose(1, 2, 0), CUBE)
    raster, out = write_upsampled(path, tmp_path / "b.hdr")
    np.testing.assert_array_equal(raster.read(slice(3, 20), slice(5, 9)), CUBE[3:20, 5:9])
    assert "compression" not in out.read_text()
    with rasterio.open(tmp_path / "b.img") as f:
        np.testing.assert_array_equal(f.read().transpose(1, 2, 0), repeat_pixels(CUBE))
        assert (f.transform.a, f.transform.c) == (15, 5e5)


PACKED_SO = {
    "short": (gzip.compress(CUBE.tobytes())[:-100], r"cannot be read as gzip data .*ended before"),
    "more": (gzip.compress(CUBE.tobytes() + b"1"), "more bytes when unpacked"),
    "less": (gzip.compress(CUBE.tobytes()[:-1]), r"17279 bytes when unpacked, its header specifies 17280"),
    "another sum": (gzip.compress(CUBE.tobytes())[:-8] + bytes(8), "CRC check failed"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer.* git lfs pull"),
    "not packed": (b"words", "not gzip data"),
}


@pytest.mark.parametrize("case", PACKED_SO)
def test_compressed_envi_with_other_data_is_refused(tmp_path, case):
    content, words = PACKED_SO[case]
    (tmp_path / "a.img").write_bytes(content)
    with pytest.raises(DataError, match=words):
        open_raster(header(tmp_path / "a.hdr", file_compression=1))


def test_too_small_compressed_envi_is_refused(tmp_path):
    (tmp_path / "a.img").write_bytes(gzip.compress(bytes(10**6)))
    with pytest.raises(DataError, match="packed bytes cannot contain the 17280000000 of its header"):
        open_raster(header(tmp_path / "a.hdr", file_compression=1, lines=36000000))


def test_compressed_envi_needs_temporary_disk_space(tmp_path, monkeypatch):
    (tmp_path / "a.img").write_bytes(gzip.compress(CUBE.tobytes()))
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(DataError, match="set TMPDIR to a larger folder"):
        open_raster(header(tmp_path / "a.hdr", file_compression=1))


def test_undeclared_compression_of_envi_is_refused(tmp_path):
    (tmp_path / "a.img").write_bytes(gzip.compress(CUBE.tobytes()))
    with pytest.raises(DataError, match="packed with gzip.*unpack it first"):
        open_raster(header(tmp_path / "a.hdr"))
