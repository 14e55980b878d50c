"""Choice of the scene's array, of its band axis, and of the sizes stored beside it."""

import fixtures
import h5py
import numpy as np
import pytest
import scipy.io
import spectral.io.envi as envi
import tifffile
from PIL import Image

from data.raw import find_scenes
from formats import CubeOptions, Output, open_raster
from formats.grid import Grid
from formats.mat import read_mat, read_mat_shapes
from system.errors import DataError

HEIGHT, WIDTH, BANDS = 20, 24, 7
CUBE = np.arange(HEIGHT * WIDTH * BANDS, dtype=np.float32).reshape(HEIGHT, WIDTH, BANDS) / 4000
# MATLAB's order: column by column.
Y = CUBE.transpose(2, 1, 0).reshape(BANDS, -1)
ABUNDANCES = np.full((HEIGHT, WIDTH, 3), 0.25, np.float32)


def write(path, arrays):
    """A file of these arrays: v5 or v7.3 (.73.mat) as MATLAB writes them, .npz or HDF5."""
    if path.name.endswith(".73.mat"):
        return fixtures.write_mat(path, {n: np.atleast_2d(a) for n, a in arrays.items()}, "7.3")
    if path.suffix == ".mat":
        scipy.io.savemat(path, arrays)
    elif path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as f:
            for name, array in arrays.items():
                f[name] = array
    return path


def contents(path):
    """{name: array} as the libraries that own the formats read them, MATLAB's order turned back."""
    if path.suffix == ".npz":
        return dict(np.load(path))
    if not h5py.is_hdf5(path):
        return {k: v for k, v in scipy.io.loadmat(path).items() if k[0] != "_"}
    with h5py.File(path) as f:
        return {k: v[()].T if path.suffix == ".mat" else v[()] for k, v in f.items()}


def enlarged(path, scale=4, options=None):
    """The arrays of the result that is made of a file, every pixel as a block."""
    raster = open_raster(path, options or CubeOptions())
    cube = raster.read().repeat(scale, axis=0).repeat(scale, axis=1)
    out = path.with_name(f"out{''.join(path.suffixes)}")
    Output(out, raster, scale).finish(cube)
    return contents(out)


FORMS = ["a.mat", "a.73.mat", "a.npz", "a.h5"]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(("dtype", "scale"), [("u1", 16), ("i1", 8), ("u2", 4), ("i4", 4), ("f8", 4), ("f2", 4)])
def test_sizes_outgrow_small_number_types(tmp_path, name, dtype, scale):
    arrays = {"X": CUBE, "rows": np.array(HEIGHT, dtype), "cols": np.array([WIDTH], dtype)}
    if name == "a.mat" and dtype == "f2":
        pytest.skip("MATLAB has no float16")
    found = enlarged(write(tmp_path / name, arrays), scale)
    assert (np.ravel(found["rows"])[0], np.ravel(found["cols"])[0]) == (HEIGHT * scale, WIDTH * scale)
    assert found["rows"].dtype.kind == np.dtype(dtype).kind


@pytest.mark.parametrize(
    ("dtype", "size", "taken"), [("i2", 9000, "i4"), ("u2", 20000, "u4"), ("u1", 95, "u2"), ("f2", 20000, "f4")]
)
def test_a_size_takes_the_next_type(dtype, size, taken):
    belongs, renewed = Grid(size, 7, 5, 4).upsample_entry("nRow", np.array([[size]], dtype))
    assert belongs and renewed.tolist() == [[4 * size]]
    assert renewed.dtype == taken


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("n_lines", 95, 380),
        ("image_height", np.uint8(95), 380),
        ("num_samples", 60, 240),
        ("N", 95 * 60, 95 * 60 * 16),
        ("lines", b"95", "380"),
        ("imsize", np.array([95, 60], "u1"), [380, 240]),
        ("dims", np.array([12, 95, 60], "u1"), [12, 380, 240]),
        ("rows", 12, 12),
        ("threshold", 95, 95),
    ],
)
def test_sizes_are_known_by_their_names(name, value, expected):
    renewed = Grid(95, 60, 12, 4).upsample_entry(name, value)[1]
    assert np.array_equal(renewed, expected)


def test_ambiguous_sizes_are_left_out():
    assert Grid(64, 48, 48, 2).upsample_entry("shape", np.array([64, 48, 48])) == (True, None)


def test_matlab_class_follows_the_number_type(tmp_path):
    path = write(tmp_path / "a.73.mat", {"X": CUBE, "rows": np.array(HEIGHT, "u1")})
    with h5py.File(path, "r+") as f:
        f["X"].attrs["MATLAB_class"] = np.bytes_("single")
        f["rows"].attrs["MATLAB_class"] = np.bytes_("uint8")
    enlarged(path, 16)
    with h5py.File(tmp_path / "out.73.mat") as f:
        assert (f["rows"][()].tolist(), f["rows"].attrs["MATLAB_class"]) == ([[320]], b"uint16")


PAIRS = [("H", "W"), ("nRow", "nCol"), ("lines", "cols"), ("lines", "samples"), ("num_rows", "width"), ("m", "n")]


@pytest.mark.parametrize("names", PAIRS)
def test_names_of_rows_and_columns_are_known(tmp_path, names):
    path = write(tmp_path / "a.mat", {"Y": Y, names[0]: np.uint8(HEIGHT), names[1]: np.uint8(WIDTH)})
    np.testing.assert_array_equal(open_raster(path).read(), CUBE)
    found = enlarged(path, 16)
    assert (found[names[0]].item(), found[names[1]].item()) == (HEIGHT * 16, WIDTH * 16)
    assert found["Y"].shape == (BANDS, HEIGHT * WIDTH * 256)


@pytest.mark.parametrize("name", FORMS)
def test_y_is_the_scene_not_its_abundances(tmp_path, capsys, name):
    beside = {"A_VCA": ABUNDANCES, "A0": ABUNDANCES.reshape(-1, 3).T, "H": np.float64(HEIGHT), "W": np.float64(WIDTH)}
    path = write(tmp_path / name, {"Y": Y, **beside})
    np.testing.assert_array_equal(open_raster(path).read(), CUBE)
    said = capsys.readouterr()
    assert "Y is read as the scene" in said.out + said.err and "A_VCA 20 x 24 x 3" in said.out + said.err
    found = enlarged(path, 2)
    blocks = CUBE.repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(found["Y"].reshape(BANDS, 2 * WIDTH, 2 * HEIGHT).transpose(2, 1, 0), blocks)
    assert (found["H"].item(), found["W"].item()) == (40, 48) and "A_VCA" not in found


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(
    "arrays",
    [
        {"M": Y, "A": ABUNDANCES, "H": np.uint8(HEIGHT), "W": np.uint8(WIDTH)},
        {"Y": Y, "A": ABUNDANCES},
        {"HSI": CUBE, "MSI": ABUNDANCES},
    ],
)
def test_several_possible_scenes_ask_for_the_key(tmp_path, name, arrays):
    path = write(tmp_path / name, arrays)
    first, second = list(arrays)[:2]
    with pytest.raises(DataError, match="can be the scene") as raised:
        open_raster(path)
    words = raised.value.format_for_command_line()
    assert all(f"{n} {' x '.join(map(str, arrays[n].shape))}" in words for n in (first, second)) and "--key" in words


def test_cube_with_most_bands_is_the_scene(tmp_path, capsys):
    path = write(tmp_path / "a.mat", {"X": CUBE, "A": ABUNDANCES.reshape(-1, 3).T, "E": np.ones((BANDS, 3))})
    np.testing.assert_array_equal(open_raster(path).read(), CUBE)
    assert "X is read as the scene" in "".join(capsys.readouterr())


def test_bands_of_the_weights_choose_among_cubes(tmp_path):
    path = write(tmp_path / "a.mat", {"HSI": CUBE, "MSI": ABUNDANCES})
    np.testing.assert_array_equal(open_raster(path, CubeOptions(n_colors=7)).read(), CUBE)
    np.testing.assert_array_equal(open_raster(path, CubeOptions(n_colors=3)).read(), ABUNDANCES)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (0, 2, 1)])
def test_band_count_of_weights_identifies_the_axis(tmp_path, capsys, axes):
    cube = np.random.default_rng(0).random((20, 24, 12), np.float32)
    np.save(tmp_path / "a.npy", cube.transpose(axes))
    with pytest.raises(DataError, match="cannot tell"):
        open_raster(tmp_path / "a.npy")
    np.testing.assert_array_equal(open_raster(tmp_path / "a.npy", CubeOptions(n_colors=12)).read(), cube)
    assert "is taken for the bands" in "".join(capsys.readouterr())
    with pytest.raises(DataError, match="cannot tell"):
        open_raster(tmp_path / "a.npy", CubeOptions(n_colors=13))


def test_listed_wavelengths_identify_the_axis(tmp_path):
    cube = np.zeros((20, 24, 12), np.float32)
    np.save(tmp_path / "a.npy", cube.transpose(0, 2, 1))
    listed = ",".join(str(400 + 10 * k) for k in range(12))
    assert open_raster(tmp_path / "a.npy", CubeOptions(wavelengths=listed)).shape == (20, 24, 12)


@pytest.mark.parametrize("band_axis", [0, 1, 2])
def test_unmarked_hdf5_is_read_alike_everywhere(tmp_path, band_axis):
    rng = np.random.default_rng(0)
    gt, ms = rng.random((48, 64, 16), np.float32), rng.random((12, 16, 16), np.float32)
    # In a .mat, bands first are MATLAB's order.
    axes = {0: (2, 1, 0), 1: (0, 2, 1), 2: (0, 1, 2)}[band_axis]
    with h5py.File(tmp_path / "a.mat", "w") as f:
        f["gt"], f["ms"] = gt.transpose(axes), ms.transpose(axes)
    assert read_mat_shapes(tmp_path / "a.mat") == {"gt": gt.shape, "ms": ms.shape}
    found = read_mat(tmp_path / "a.mat", ("gt", "ms"))
    np.testing.assert_array_equal(found["gt"], gt)
    np.testing.assert_array_equal(found["ms"], ms)
    np.testing.assert_array_equal(open_raster(tmp_path / "a.mat", CubeOptions("gt")).read(), gt)


@pytest.mark.parametrize("axes", [(2, 1, 0), (0, 1, 2)])
def test_chikusei_is_read_in_either_order(tmp_path, axes):
    cube = np.random.default_rng(1).random((160, 130, 12), np.float32)
    with h5py.File(tmp_path / "c.mat", "w") as f:
        f["chikusei"] = cube.transpose(axes)
    scene = find_scenes("Chikusei", tmp_path)["test_1"].read()
    np.testing.assert_array_equal(scene.cube, cube[:40, :40])
    assert scene.value_scale == cube.max()


def test_matlab_files_keep_their_order(tmp_path):
    path = fixtures.write_mat(tmp_path / "a.mat", {"gt": CUBE}, "7.3")
    np.testing.assert_array_equal(read_mat(path, ("gt",))["gt"], CUBE)
    np.testing.assert_array_equal(open_raster(path).read(), CUBE)


@pytest.mark.parametrize("shape", [(1, 40, 16), (40, 1, 16), (16, 1, 40), (16, 40, 1)])
@pytest.mark.parametrize("name", FORMS)
def test_line_scenes_are_read(tmp_path, name, shape):
    if name == "a.mat" and shape[2] == 1:
        pytest.skip("MATLAB drops a last axis of one entry")
    line = np.random.default_rng(2).random(shape, np.float32)
    path = write(tmp_path / name, {"image": line, "wavelength": np.linspace(400, 700, 16)})
    raster = open_raster(path)
    assert raster.shape == tuple(n for n in shape if n != 16) + (16,)
    out = enlarged(path, 2)["image"]
    np.testing.assert_array_equal(
        out,
        line.repeat(1 if shape[0] == 16 else 2, axis=0).repeat(2, axis=1).repeat(2 if shape[2] != 16 else 1, axis=2),
    )


def test_line_scenes_without_wavelengths_need_band_axis(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((1, 40, 16), np.float32))
    with pytest.raises(DataError, match="cannot tell"):
        open_raster(tmp_path / "a.npy")
    assert open_raster(tmp_path / "a.npy", CubeOptions(n_colors=16)).shape == (1, 40, 16)


def test_doubles_stay_doubles_in_mat_files(tmp_path):
    scipy.io.savemat(tmp_path / "plain.mat", {"Y": Y, "nRow": 20.0, "nCol": 24.0})
    content = (tmp_path / "plain.mat").read_bytes()
    # As MATLAB packs them: an element of class double whose value is one byte of type uint8.
    for value in (20.0, 24.0):
        packed = bytes([2, 0, 1, 0, int(value), 0, 0, 0])
        whole = b"\x09\0\0\0\x08\0\0\0" + np.array([value]).tobytes()
        assert content.count(whole) == 1
        start = content.index(whole)
        # The element that contains it becomes 8 bytes shorter.
        tag = content.rindex(b"\x0e\0\0\0", 0, start)
        length = int.from_bytes(content[tag + 4 : tag + 8], "little") - 8
        content = (
            content[: tag + 4]
            + length.to_bytes(4, "little")
            + content[tag + 8 : start]
            + packed
            + content[start + 16 :]
        )
    (tmp_path / "a.mat").write_bytes(content)
    assert scipy.io.loadmat(tmp_path / "a.mat")["nRow"].dtype == np.uint8
    found = enlarged(tmp_path / "a.mat", 16)
    assert found["nRow"].dtype == np.float64 and found["nRow"].item() == 320


def write_pictures(folder, names):
    """One 16-bit picture a name, the k-th of value 1000 (k + 1) with one brighter pixel."""
    folder.mkdir(parents=True)
    for k, name in enumerate(names):
        band = np.full((8, 9), 1000 * (k + 1), np.uint16)
        band[0, 0] += 500
        Image.fromarray(band).save(folder / name)
    return folder


CENTRES = (400, 410, 425, 1000)


@pytest.mark.parametrize(
    "form",
    ["teapot_{}.png", "teapot-{}nm.png", "{}nm.png", "{}.png", "t {} NM.png", "teapot_{}.0.png", "b2_{}.5nm.png"],
)
def test_band_pictures_are_named_by_wavelength(tmp_path, form):
    folder = write_pictures(tmp_path / "teapot", [form.format(w) for w in CENTRES])
    raster = open_raster(folder)
    assert raster.wavelengths.tolist() == [w + (0.5 if ".5" in form else 0) for w in CENTRES]
    assert raster.read()[1, 1].tolist() == [1000, 2000, 3000, 4000]


@pytest.mark.parametrize("numbers", [(1, 2, 4, 5), (101, 102, 104, 105), (10, 20, 30, 40)])
def test_missing_numbered_pictures_are_refused(tmp_path, numbers):
    with pytest.raises(DataError, match=r"band \d+ of \d+..\d+ is missing"):
        open_raster(write_pictures(tmp_path / "a", [f"a_{n:02d}.png" for n in numbers]))


def test_numbered_pictures_have_no_wavelengths(tmp_path):
    raster = open_raster(write_pictures(tmp_path / "a", [f"a_{n}.png" for n in (400, 401, 402, 403)]))
    assert raster.wavelengths is None and raster.shape == (8, 9, 4)


def test_folders_of_band_pictures_are_own_scenes(tmp_path):
    for name in ("teapot.v1", "cup"):
        write_pictures(tmp_path / name, [f"x_{w}.png" for w in CENTRES])
    (tmp_path / "cube").mkdir()
    write(tmp_path / "cube" / "c.npz", {"X": CUBE})
    for k in range(4):
        Image.fromarray(np.zeros((8, 9), np.uint8)).save(tmp_path / "cube" / f"preview_{k}.png")
    scenes = find_scenes("Mine", tmp_path)
    assert sorted(scenes) == ["c", "cup", "teapot.v1"]
    scene = scenes["cup"].read()
    assert (scene.cube.shape, scene.wavelengths.tolist()) == ((8, 9, 4), list(CENTRES))
    before = scenes["cup"].compute_sha256()
    Image.fromarray(np.ones((8, 9), np.uint16)).save(tmp_path / "cup" / "x_410.png")
    assert find_scenes("Mine", tmp_path)["cup"].compute_sha256() != before


def test_added_wavelengths_are_visible_to_matlab(tmp_path):
    path = fixtures.write_mat(tmp_path / "a.mat", {"X": CUBE}, "7.3")
    with h5py.File(path, "r+") as f:
        f["X"].attrs["MATLAB_class"] = np.bytes_("single")
    enlarged(path, 2, CubeOptions(wavelengths="400,700"))
    with h5py.File(tmp_path / "out.mat") as f:
        added = f["wavelength"]
        # 1 x 7 in MATLAB.
        assert (added.attrs["MATLAB_class"], added.dtype, added.shape) == (b"double", np.float64, (BANDS, 1))
        np.testing.assert_allclose(added[:, 0], np.linspace(400, 700, BANDS))
    np.testing.assert_allclose(open_raster(tmp_path / "out.mat").wavelengths, np.linspace(400, 700, BANDS))


@pytest.mark.parametrize(("unit", "fwhm"), [("Nanometers", 6.5), ("Micrometers", 0.0065)])
def test_fwhm_and_bad_bands_reach_envi(tmp_path, capsys, unit, fwhm):
    rasterio = pytest.importorskip("rasterio")
    wavelengths = np.linspace(400, 700, BANDS) / (1 if unit == "Nanometers" else 1000)
    profile = {"driver": "GTiff", "height": HEIGHT, "width": WIDTH, "count": BANDS, "dtype": "float32"}
    with rasterio.open(tmp_path / "a.tif", "w", **profile, transform=rasterio.Affine(1, 0, 0, 0, -1, 0)) as f:
        f.write(CUBE.transpose(2, 0, 1))
        f.update_tags(start_time="2022")
        for k, wavelength in enumerate(wavelengths):
            tags = {"wavelength": f"{wavelength:.12g}", "wavelength_units": unit, "fwhm": f"{fwhm}", "bbl": k % 2}
            f.update_tags(k + 1, **tags)
    raster = open_raster(tmp_path / "a.tif")
    Output(tmp_path / "b.hdr", raster, 1).finish(CUBE)
    metadata = envi.open(str(tmp_path / "b.hdr")).metadata
    assert [float(v) for v in metadata["fwhm"]] == pytest.approx([6.5] * BANDS)
    assert [float(v) for v in metadata["bbl"]] == [0, 1, 0, 1, 0, 1, 0]
    assert metadata["wavelength units"] == "Nanometers"
    said = "".join(capsys.readouterr())
    assert "start_time" in said and "bbl" not in said
    Output(tmp_path / "b.npz", raster, 1).finish(CUBE)
    assert "start_time, fwhm, bbl" in "".join(capsys.readouterr())


@pytest.mark.parametrize("shape", [(1, 40, 16), (40, 1, 16)])
@pytest.mark.parametrize("form", ["pages", "separate", "contig"])
def test_line_tiffs_are_read(tmp_path, shape, form):
    pytest.importorskip("rasterio")
    line = np.random.default_rng(3).random(shape, np.float32)
    if form == "pages" and shape[1] == 1:
        pytest.skip("tifffile makes one page of these")
    array = line if form == "contig" else line.transpose(2, 0, 1)
    options = {} if form == "pages" else {"planarconfig": form}
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", **options)
    np.testing.assert_array_equal(open_raster(tmp_path / "a.tif").read(), line)
