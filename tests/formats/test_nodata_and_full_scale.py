"""Nodata values, full-scale values and georeferencing, written and read again."""

import h5py
import numpy as np
import pytest
import rasterio
import scipy.io
from helpers import repeat_pixels, write_upsampled
from PIL import Image

from data import raw
from formats import CubeOptions, Output, gdal, open_raster
from formats.calibration import understand
from system.errors import DataError

HEIGHT, WIDTH, BANDS, SCALE = 24, 28, 5, 2
COUNTS = np.random.default_rng(7).integers(100, 9000, (HEIGHT, WIDTH, BANDS)).astype(np.uint16)
RADIANCE = (COUNTS / 200000).astype(np.float32)
PLACE = (30.0, 0.0, 500000.0, 0.0, -30.0, 5400000.0)
EXTENSIONS = (".hdr", ".h5", ".nc", ".npz", ".mat", ".tif")


def made_larger(path, out, value_scale=0.0, nodata=None):
    """Write a file twice as large, opened again."""
    return open_raster(write_upsampled(path, out, value_scale=value_scale, nodata=nodata)[1])


def envi(path, cube, **fields):
    codes = {"float32": 4, "uint16": 12, "int16": 2}
    lines = [f"samples = {cube.shape[1]}", f"lines = {cube.shape[0]}", f"bands = {cube.shape[2]}", "interleave = bip"]
    lines += [f"data type = {codes[cube.dtype.name]}", "byte order = 0", "header offset = 0"]
    lines += [f"{name.replace('_', ' ')} = {value}" for name, value in fields.items()]
    path.write_text("ENVI\n" + "\n".join(lines) + "\n")
    path.with_suffix(".img").write_bytes(np.ascontiguousarray(cube).tobytes())
    return path


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("scale", [0.05, 10000.0])
def test_every_format_keeps_the_full_scale_value(tmp_path, scale, extension):
    np.save(tmp_path / "a.npy", RADIANCE * np.float32(scale / 0.05))
    again = made_larger(tmp_path / "a.npy", tmp_path / f"b{extension}", scale)
    assert again.value_scale == pytest.approx(scale, rel=1e-12)
    # The same once more, from the format to itself.
    assert made_larger(again.path, tmp_path / f"c{extension}").value_scale == pytest.approx(scale, rel=1e-12)
    changed = made_larger(again.path, tmp_path / f"d{extension}", 3 * scale)
    assert changed.value_scale == pytest.approx(3 * scale, rel=1e-12)


@pytest.mark.parametrize("name", ["scale_factor", "reflectance_scale_factor"])
@pytest.mark.parametrize(("factor", "scale"), [(1e4, 1e4), (1e-4, 1e4)])
def test_lone_scale_factor_gives_full_scale_value(tmp_path, name, factor, scale):
    np.savez(tmp_path / "a.npz", image=COUNTS, **{name: factor})
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["image"] = COUNTS
        f["image"].attrs[name] = factor
    for file in ("a.npz", "a.h5"):
        assert open_raster(tmp_path / file).value_scale == pytest.approx(scale)


def test_only_plausible_scale_factors_are_used(tmp_path):
    for k, (factor, scale) in enumerate([(0.0, None), (-1.0, None), ([1e4] * BANDS, 1e4), ([1e-4] * BANDS, 1e4)]):
        with h5py.File(tmp_path / f"{k}.h5", "w") as f:
            f["image"] = COUNTS
            f["image"].attrs["reflectance_scale_factor"] = factor
        assert open_raster(tmp_path / f"{k}.h5").value_scale == (scale and pytest.approx(scale))
    # Beside an array it is rather an upsampling factor.
    np.savez(tmp_path / "a.npz", image=RADIANCE, scale_factor=4)
    raster = open_raster(tmp_path / "a.npz")
    assert (raster.value_scale, raster.scaling) == (None, None)


def test_a_gain_above_one_gives_physical_values(tmp_path):
    raster = open_raster(envi(tmp_path / "a.hdr", RADIANCE, data_gain_values="{20, 20, 20, 20, 20}"))
    unit, _ = understand(raster).calibration.to_unit(raster.read())
    np.testing.assert_allclose(unit, RADIANCE * 20, rtol=1e-6)


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("mark", [-9999, float("nan")])
def test_nodata_value_absent_from_data_masks_nothing(tmp_path, mark, extension):
    path = envi(tmp_path / "a.hdr", COUNTS)
    again = made_larger(path, tmp_path / f"b{extension}", 10000, mark)
    assert again.read_mask() is None
    np.testing.assert_array_equal(again.read(), repeat_pixels(COUNTS))
    if extension == ".tif":
        with rasterio.open(tmp_path / "b.tif") as f:
            assert f.dataset_mask().all()


@pytest.mark.parametrize("kind", ["npz", "mat", "h5"])
@pytest.mark.parametrize("name", ["_FillValue", "_fillvalue", "missing_value", "nodata"])
def test_nodata_value_of_the_user_replaces_the_files(tmp_path, name, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "h5":
        with h5py.File(path, "w") as f:
            f["image"] = RADIANCE
            f["image"].attrs[name] = -9999.0
    elif kind == "npz":
        np.savez(path, image=RADIANCE, **{name: -9999.0})
    elif name.startswith("_"):
        pytest.skip("MATLAB has no such names")
    else:
        scipy.io.savemat(path, {"image": RADIANCE, name: -9999.0})
    assert open_raster(path).nodata == -9999
    assert made_larger(path, tmp_path / f"b.{kind}", nodata=-1.0).nodata == -1


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32"])
def test_finer_coordinates_become_floating_point(tmp_path, dtype):
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["image"] = COUNTS
        f["x"], f["y"] = (
            np.arange(30, 30 + 3 * WIDTH, 3).astype(dtype),
            np.arange(90, 90 - 3 * HEIGHT, -3).astype(dtype),
        )
        for axis, name in enumerate(("y", "x")):
            f[name].make_scale(name)
            f["image"].dims[axis].attach_scale(f[name])
        f["pixel_size"] = np.array(3, dtype)
    assert open_raster(tmp_path / "a.h5").read_georeference().transform == (3, 0, 28.5, 0, -3, 91.5)
    again = made_larger(tmp_path / "a.h5", tmp_path / "b.h5")
    assert again.read_georeference().transform == (1.5, 0, 28.5, 0, -1.5, 91.5)
    with h5py.File(tmp_path / "b.h5") as f:
        np.testing.assert_array_equal(f["x"][:3], [29.25, 30.75, 32.25])
        assert f["pixel_size"][()] == 1.5


def test_packed_coordinates_are_unpacked(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["image"] = COUNTS
        f["x"], f["y"] = np.arange(WIDTH, dtype=np.int16), np.arange(HEIGHT, dtype=np.int16)
        for axis, (name, step, first) in enumerate((("y", -30.0, 5399985.0), ("x", 30.0, 500015.0))):
            f[name].attrs.update({"scale_factor": step, "add_offset": first})
            f[name].make_scale(name)
            f["image"].dims[axis].attach_scale(f[name])
    assert open_raster(tmp_path / "a.h5").read_georeference().transform == PLACE
    again = made_larger(tmp_path / "a.h5", tmp_path / "b.h5")
    assert again.read_georeference().transform == (15.0, 0.0, 500000.0, 0.0, -15.0, 5400000.0)
    with h5py.File(tmp_path / "a.h5", "r+") as f:
        f["x"].attrs["scale_factor"] = "1.0"
    assert open_raster(tmp_path / "a.h5").read_georeference().transform[0] == 1


@pytest.mark.parametrize("layout", ["chunked with scales", "matlab"])
def test_axes_of_one_entry_come_back(tmp_path, layout):
    stored = COUNTS.transpose(2, 0, 1)[None] if layout != "matlab" else COUNTS.transpose(2, 1, 0)[None]
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f.create_dataset("image", data=stored, chunks=(1, BANDS, 8, 8), compression="gzip")
        if layout == "matlab":
            f["image"].attrs["MATLAB_class"] = np.bytes_("uint16")
        else:
            f["time"] = np.zeros(1)
            f["time"].make_scale("time")
            f["image"].dims[0].attach_scale(f["time"])
    again = made_larger(tmp_path / "a.h5", tmp_path / "b.h5")
    np.testing.assert_array_equal(again.read(), repeat_pixels(COUNTS))
    with h5py.File(tmp_path / "b.h5") as f:
        sides = (SCALE * WIDTH, SCALE * HEIGHT) if layout == "matlab" else (SCALE * HEIGHT, SCALE * WIDTH)
        assert f["image"].shape == (1, BANDS, *sides) and f["image"].chunks == (1, BANDS, 8, 8)


@pytest.mark.parametrize("extension", [".tif", ".hdr", ".nc", ".h5"])
def test_unknown_coordinate_system_is_omitted_by_name(tmp_path, capsys, extension):
    np.savez(tmp_path / "a.npz", image=COUNTS, crs_wkt="UTM zone 33N", transform=np.array(PLACE))
    again = made_larger(tmp_path / "a.npz", tmp_path / f"b{extension}")
    printed = "".join(capsys.readouterr())
    # HDF5 contains any text.
    assert ("without its coordinate system, which is not known (UTM zone 33N)" in printed) == (extension != ".h5")
    place = again.read_georeference()
    assert place.crs == ("UTM zone 33N" if extension == ".h5" else "")
    np.testing.assert_allclose(place.transform, (15.0, 0.0, 500000.0, 0.0, -15.0, 5400000.0))
    # A file of the same kind keeps the text.
    assert made_larger(tmp_path / "a.npz", tmp_path / "b.npz").read_georeference().crs == "UTM zone 33N"


def test_replacing_a_tiff_removes_its_mask_file(tmp_path):
    np.savez(tmp_path / "a.npz", image=COUNTS)
    output = Output(tmp_path / "b.tif", open_raster(tmp_path / "a.npz"), SCALE)
    profile = {"driver": "GTiff", "width": 4, "height": 4, "count": BANDS, "dtype": "uint16"}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(tmp_path / "b.tif", "w", **profile) as f:
        f.write_mask(np.zeros((4, 4), bool))
    beside = tmp_path / "b.tif.msk"
    assert beside.is_file() and beside in output.list_replaced_paths() and not output.list_misleading_paths()
    again = made_larger(tmp_path / "a.npz", tmp_path / "b.tif")
    assert not beside.exists() and again.read_mask() is None
    # Without the TIFF, the user has not agreed to its removal.
    beside.write_bytes(b"")
    (tmp_path / "b.tif").unlink()
    assert output.list_misleading_paths() == [beside]


def found(folder, options=None):
    return raw.find_scenes("mine", folder, options or CubeOptions())


@pytest.mark.parametrize("mark", [0, 65535])
def test_nodata_values_of_scenes_are_filled(tmp_path, mark, capsys):
    cube = COUNTS.copy()
    cube[:6] = mark
    envi(tmp_path / "a.hdr", cube, data_ignore_value=mark)
    filled = found(tmp_path)["a"].read().cube
    np.testing.assert_array_equal(filled[:6], np.broadcast_to(COUNTS[6], (6, WIDTH, BANDS)))
    np.testing.assert_array_equal(filled[6:], COUNTS[6:])
    assert f"25.0% of the values are the nodata value {mark}" in capsys.readouterr().out


def test_fully_masked_cube_is_refused(tmp_path):
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", width=WIDTH, height=HEIGHT, count=BANDS, dtype="uint16"
    ) as f:  # fmt: skip
        f.write(COUNTS.transpose(2, 0, 1))
        f.write_mask(np.zeros((HEIGHT, WIDTH), bool))
    with pytest.raises(DataError, match="all pixels are missing"):
        found(tmp_path)["a"].read()


def test_radiance_with_gains_needs_value_scale(tmp_path):
    envi(tmp_path / "a.hdr", COUNTS, data_gain_values="{1.5, 1.5, 1.5, 1.5, 1.5}")
    with pytest.raises(DataError, match=r"physical values up to 13\d+.*value_scale"):
        found(tmp_path)["a"].read()


def test_hash_of_a_scene_covers_its_dependencies(tmp_path):
    envi(tmp_path / "scene[1].hdr", COUNTS)
    (tmp_path / "w.txt").write_text("400 450 500 550 600")
    options = CubeOptions(wavelengths=str(tmp_path / "w.txt"))
    hashes = [found(tmp_path, options)["scene[1]"].compute_sha256()]
    (tmp_path / "w.txt").write_text("410 450 500 550 600")
    hashes.append(found(tmp_path, options)["scene[1]"].compute_sha256())
    (tmp_path / "scene[1].img").write_bytes((COUNTS + 1).tobytes())
    hashes.append(found(tmp_path, options)["scene[1]"].compute_sha256())
    (tmp_path / "scene[1].img.aux.xml").write_text("<PAMDataset></PAMDataset>")
    hashes.append(found(tmp_path, options)["scene[1]"].compute_sha256())
    assert len(set(hashes)) == 4


def test_wavelength_list_may_exceed_name_length(tmp_path):
    cube = np.random.default_rng(1).random((40, 40, 90)).astype(np.float32)
    np.save(tmp_path / "a.npy", cube)
    options = CubeOptions(wavelengths=",".join(f"{w:.3f}" for w in np.linspace(400, 1000, 90)))
    assert found(tmp_path, options)["a"].read().wavelengths[-1] == 1000


@pytest.mark.parametrize("words", ["EPSG:32633 (UTM)", "EPSG:4326:", "[1]"])
def test_invalid_coordinate_systems_are_not_recognised(words):
    assert not gdal.is_known_crs(words)


def test_miscased_data_set_gets_a_suggestion(tmp_path):
    envi(tmp_path / "a.hdr", COUNTS)
    with pytest.raises(DataError, match="harvard is not a published data set; set dataset_name Harvard"):
        raw.find_scenes("harvard", tmp_path)


def test_pictures_of_one_name_are_refused(tmp_path):
    for name in ("a.png", "a.jpg", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    with pytest.raises(DataError, match=r"scene a exists twice, in a\.\w+ and a\.\w+"):
        raw.find_scenes("DIV2K", tmp_path)
