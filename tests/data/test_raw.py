import fixtures
import h5py
import numpy as np
import pytest
import scipy.sparse
import tifffile

from data.imresize import imresize
from data.raw import find_scenes
from data.sources import open_labelled, open_rgb
from data.spectral import make_lift_matrix
from data.store import Store
from formats.images import read_picture

FORMATS = ("mat5", "mat73", "npy", "npz", "hdf5", "tiff", "envi")


def test_harvard_is_multiplied_by_20(run, tmp_path):
    raw = fixtures.write_harvard(tmp_path / "raw")
    assert run("prepare", dataset_name="Harvard", raw_dir=raw, out_dir=tmp_path, allow_missing=1)[0] == 0
    scene = Store(tmp_path / "labelled.h5").read("img1")
    np.testing.assert_allclose(scene.values(), fixtures.make_smooth_cube(30, 40, 48), rtol=1e-6)
    assert Store(tmp_path / "unlabelled.h5").names == ["img2"]
    assert Store(tmp_path / "test.h5").names == ["imga1"]


def test_ntire_is_transposed_and_cropped_to_multiples(run, tmp_path):
    raw = fixtures.write_ntire(tmp_path / "raw")
    assert run("prepare", dataset_name="NTIRE2020", raw_dir=raw, out_dir=tmp_path, allow_missing=1)[0] == 0
    scene = Store(tmp_path / "labelled.h5").read("ARAD_HS_0005")
    np.testing.assert_allclose(scene.values(), fixtures.make_smooth_cube(40, 42, 48)[:40], rtol=1e-6)


def test_chikusei_images_are_divided_by_global_maximum(run, tmp_path):
    raw, cube = fixtures.write_chikusei(tmp_path / "raw")
    flags = {"dataset_name": "Chikusei", "raw_dir": raw, "out_dir": tmp_path, "fractions": "0.25,0.75,0"}
    assert run("prepare", **flags)[0] == 0
    # A quarter of the rows, as 512 are of 2048 columns: 40; training images half as large.
    assert Store(tmp_path / "test.h5").names == ["test_1", "test_2", "test_3"]
    test = Store(tmp_path / "test.h5").read("test_2")
    np.testing.assert_array_equal(test.cube, cube[:40, 40:80])
    np.testing.assert_allclose(test.values(), cube[:40, 40:80] / cube.max(), rtol=1e-6)
    names = Store(tmp_path / "labelled.h5").names + Store(tmp_path / "unlabelled.h5").names
    assert len(names) == len(set(names)) == 6 * 6
    assert len(Store(tmp_path / "labelled.h5").names) == 9
    scene = Store(tmp_path / "labelled.h5").read(Store(tmp_path / "labelled.h5").names[0])
    i, j = (int(part) - 1 for part in scene.name.split("_")[1:])
    np.testing.assert_array_equal(scene.cube, cube[40 + 20 * i : 60 + 20 * i, 20 * j : 20 * j + 20])


def test_full_chikusei_is_cut_as_published(tmp_path):
    with h5py.File(tmp_path / "c.mat", "w") as f:
        # Never written, so it takes no room; one value inside the crop, a larger one outside.
        f.create_dataset("chikusei", (2, 2335, 2517), "f4", chunks=(1, 2335, 100))
        f["chikusei"][1, 200, 150] = 0.5
        f["chikusei"][1, 0, 0] = 9
    scenes = find_scenes("Chikusei", tmp_path)
    assert [n for n in scenes if n.startswith("test")] == ["test_1", "test_2", "test_3", "test_4"]
    # 2304 rows less 512, 2048 columns: 7 x 8 images of 256.
    assert sum(n.startswith("train") for n in scenes) == 56
    first = scenes["test_1"].read()
    assert (first.cube.shape, first.value_scale) == ((512, 512, 2), 0.5)
    assert first.cube[150 - 106, 200 - 143, 1] == 0.5


def test_div2k_is_stored_at_half_size(run, tmp_path):
    raw = fixtures.write_pictures(tmp_path / "raw")
    assert run("prepare", dataset_name="DIV2K", raw_dir=raw, out_dir=tmp_path)[0] == 0
    scene = Store(tmp_path / "rgb.h5").read("picture0")
    expected = np.clip(np.rint(imresize(read_picture(raw / "picture0.png"), 0.5)), 0, 255)
    np.testing.assert_array_equal(scene.cube, expected)
    source = open_rgb(tmp_path / "rgb.h5", 16, 4, 4, make_lift_matrix(8))
    assert source.batch([0], [0]).gt.shape == (1, 8, 16, 16)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.float32])
def test_own_cubes_are_read_from_every_format(run, tmp_path, kind, dtype):
    cube = fixtures.make_smooth_cube(0, 24, 20, 9)
    highest = 1 if dtype == np.float32 else np.iinfo(dtype).max
    cube = (cube * highest).astype(dtype)
    fixtures.write_own(tmp_path / "raw", kind, cube)
    flags = {"value_scale": highest} if dtype == np.uint32 else {}
    folders = {"raw_dir": tmp_path / "raw", "out_dir": tmp_path}
    assert run("prepare", dataset_name="Mine", **folders, fractions="1,0,0", **flags)[0] == 0
    scene = Store(tmp_path / "labelled.h5").read("scene")
    assert scene.cube.dtype == dtype
    np.testing.assert_array_equal(scene.cube, cube)
    assert scene.value_scale == highest
    batch = open_labelled(tmp_path / "labelled.h5", 16, 16, 4).batch([0], [0])
    np.testing.assert_allclose(batch.gt[0].permute(1, 2, 0), cube[:16, :16] / highest, rtol=1e-6)
    if kind in ("npz", "hdf5", "envi"):
        np.testing.assert_allclose(scene.wavelengths, np.linspace(400, 1000, 9))


def test_file_content_decides_not_the_name(run, tmp_path):
    cube = fixtures.make_smooth_cube(0, 24, 20, 9).astype(np.float32)
    fixtures.write_own(tmp_path / "raw", "npy", cube).rename(tmp_path / "raw" / "scene.tif")
    assert run("prepare", dataset_name="Mine", raw_dir=tmp_path / "raw", out_dir=tmp_path, fractions="1,0,0")[0] == 0
    np.testing.assert_array_equal(Store(tmp_path / "labelled.h5").read("scene").cube, cube)


def test_the_unmixing_form_of_cubes_is_understood(run, tmp_path):
    cube = (fixtures.make_smooth_cube(0, 10, 8, 6) * 5000).round().astype(np.uint16)
    # Y: bands x pixels, pixels column by column.
    arrays = {"Y": cube.transpose(2, 1, 0).reshape(6, -1), "nRow": 10, "nCol": 8}
    fixtures.write_mat(tmp_path / "raw" / "jasper.mat", arrays)
    flags = {"raw_dir": tmp_path / "raw", "out_dir": tmp_path, "fractions": "1,0,0", "value_scale": 5000}
    assert run("prepare", dataset_name="Mine", **flags)[0] == 0
    scene = Store(tmp_path / "labelled.h5").read("jasper")
    np.testing.assert_array_equal(scene.cube, cube)
    assert scene.values().max() == pytest.approx(cube.max() / 5000)


CUBE = fixtures.make_smooth_cube(0, 24, 20, 9).astype(np.float32)


def own(kind, cube, **extra):
    return lambda d: fixtures.write_own(d, kind, cube, **extra)


def cut(kind, keep):
    def make(folder):
        path = fixtures.write_own(folder, kind, CUBE)
        path = path.with_suffix(".dat") if kind == "envi" else path
        path.write_bytes(path.read_bytes()[:keep])

    return make


def marked(value):
    cube = CUBE.copy()
    cube[3, 4, 5] = value
    return cube


def raw_bytes(name, content):
    return lambda d: (d / name).write_bytes(content)


def twice(folder):
    fixtures.write_own(folder / "a", "npy", CUBE)
    fixtures.write_own(folder / "b", "mat5", CUBE)


def empty_hdf5(folder):
    h5py.File(folder / "scene.h5", "w").close()


def no_data_file(folder):
    fixtures.write_own(folder, "envi", CUBE)
    (folder / "scene.dat").unlink()


def lying_header(folder):
    path = fixtures.write_own(folder, "envi", CUBE)
    path.write_text(path.read_text().replace("lines = 24", "lines = 2400"))


def own_mat(**arrays):
    return lambda d: fixtures.write_mat(d / "scene.mat", arrays)


def picture_tiff(shape, **options):
    return lambda d: tifffile.imwrite(d / "a.tif", np.zeros(shape, np.uint8), **options)


def pickled(folder):
    np.save(folder / "scene.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)


WORDS = b"not a cube, just words " * 20
# What is wrong, and a word of the sentence that says so.
OWN_DAMAGE = {
    **{f"truncated {kind}": (cut(kind, 300), "scene") for kind in FORMATS},
    **{f"zero bytes {e}": (raw_bytes(f"scene.{e}", b""), "0 bytes") for e in ("mat", "npy", "npz", "h5", "tif", "hdr")},
    **{f"text as {e}": (raw_bytes(f"a.{e}", WORDS), "a text that") for e in ("mat", "npy", "h5", "tif", "hdr")},
    "NaN": (own("npy", marked(np.nan)), "1 values are NaN or infinite"),
    "infinite": (own("mat5", marked(np.inf)), "NaN or infinite"),
    "no-data mark": (own("npy", marked(-9999)), "the value -9999 may mark missing data"),
    "no-data mark in integers": (own("npy", (marked(-1) * 9999).astype(np.int16)), "set --nodata -9999 if it does"),
    "constant": (own("npy", np.full((12, 10, 5), 0.5)), "all values are 0.5"),
    "all zero": (own("tiff", np.zeros((12, 10, 5), np.uint16)), "all values are 0"),
    "complex": (own("npy", CUBE.astype(np.complex64)), "complex64"),
    "logical": (own("npy", CUBE > 0.5), "bool"),
    "one band": (own("npy", CUBE[:, :, 0]), "(24, 20)"),
    "four axes": (own("npy", np.stack([CUBE, CUBE])), "(2, 24, 20, 9)"),
    "unknown range": (own("npy", CUBE * 5000), "--value_scale"),
    "unclear bands": (own("npy", fixtures.make_smooth_cube(0, 24, 20, 16)), "--band_axis"),
    "equal axes": (own("npy", fixtures.make_smooth_cube(0, 16, 16, 16)), "--band_axis"),
    "two cubes": (own_mat(a=CUBE, b=CUBE), "2 cubes"),
    "no cube": (own_mat(a=np.zeros((3, 3))), "no cubes in it"),
    "sparse": (own_mat(a=scipy.sparse.csc_matrix(np.eye(5))), "no cubes in it"),
    "text only": (own_mat(a="words"), "no cubes in it"),
    "empty HDF5": (empty_hdf5, "no cubes in it"),
    "RGB TIFF": (picture_tiff((8, 9, 3), photometric="rgb"), "RGB picture"),
    "RGBA TIFF": (picture_tiff((8, 9, 4), photometric="rgb", extrasamples=["unassalpha"]), "RGB picture"),
    "grey TIFF": (picture_tiff((8, 9)), "several bands"),
    "no data file": (no_data_file, "data file is missing"),
    "header that lies": (lying_header, "its header specifies"),
    "same name twice": (twice, "exists twice"),
    "pickled": (pickled, "scene.npy"),
    "only a text": (raw_bytes("readme.txt", b"hello"), "no cubes in it"),
    "tiny": (own("npy", fixtures.make_smooth_cube(0, 4, 4, 9)), "too few for x4"),
}  # fmt: skip


@pytest.mark.parametrize("case", OWN_DAMAGE)
def test_unusable_own_files_leave_no_store(refused, tmp_path, case):
    make, words = OWN_DAMAGE[case]
    (tmp_path / "raw").mkdir()
    make(tmp_path / "raw")
    assert words in refused(
        "prepare", dataset_name="Mine", raw_dir=tmp_path / "raw", out_dir=tmp_path / "out", fractions="1,0,0"
    )
    assert not list((tmp_path / "out").rglob("*.h5"))


@pytest.mark.parametrize("name", ["ä ö", "a b.c", "[x]", "日本", "-dash", "#1"])
def test_unusual_names_are_kept(run, tmp_path, name):
    fixtures.write_own(tmp_path / "ra w", "npy", CUBE, name)
    code, out, _ = run(
        "prepare", dataset_name="Mine", raw_dir=tmp_path / "ra w", out_dir=tmp_path / "öut", fractions="1,0,0"
    )
    assert code == 0
    np.testing.assert_array_equal(Store(tmp_path / "öut" / "labelled.h5").read(name).cube, CUBE)


@pytest.mark.parametrize("value", [-0.01, -0.12])
def test_measured_negative_values_stay(run, tmp_path, value):
    fixtures.write_own(tmp_path / "raw", "npy", marked(value))
    assert run("prepare", dataset_name="Mine", raw_dir=tmp_path / "raw", out_dir=tmp_path, fractions="1,0,0")[0] == 0
    assert Store(tmp_path / "labelled.h5").read("scene").cube[3, 4, 5] == np.float32(value)


def test_a_declared_nodata_value_is_interpolated(run, tmp_path):
    fixtures.write_own(tmp_path / "raw", "npy", marked(np.nan))
    folders = {"raw_dir": tmp_path / "raw", "out_dir": tmp_path}
    assert run("prepare", dataset_name="Mine", **folders, fractions="1,0,0", nodata="nan")[0] == 0
    cube = Store(tmp_path / "labelled.h5").read("scene").cube
    # A value that is missing in one band only becomes that of the nearest band, the lower one of two.
    assert cube[3, 4, 5] == np.float32(CUBE[3, 4, 4])


@pytest.mark.parametrize(
    ("dataset", "write", "words"),
    [
        ("Harvard", lambda d: fixtures.write_mat(d / "img1.mat", {"cube": CUBE}), "has no ref, only cube"),
        ("Harvard", lambda d: fixtures.write_mat(d / "img1.mat", {"ref": CUBE}), "31 bands"),
        ("Harvard", lambda d: fixtures.write_pictures(d / "p"), "no .mat files in it"),
        (
            "NTIRE2020",
            lambda d: fixtures.write_mat(
                d / "ARAD_HS_0005.mat", {"cube": np.moveaxis(fixtures.make_smooth_cube(0), 2, 0)}, "7.3"
            ),
            "transposed",
        ),
        (
            "Chikusei",
            lambda d: fixtures.write_mat(d / "c.mat", {"cube": CUBE}, "7.3"),
            "no .mat file (v7.3) with the key chikusei",
        ),
        ("Chikusei", lambda d: fixtures.write_mat(d / "c.mat", {"chikusei": CUBE[:8, :8]}, "7.3"), "too small"),
        ("DIV2K", lambda d: fixtures.write_own(d, "npy", CUBE), "no pictures"),
        ("DIV2K", lambda d: (d / "0001.png").write_bytes(b"\x89PNG"), "cannot be read as a PNG"),
    ],
)
def test_wrong_downloads_are_refused(refused, tmp_path, dataset, write, words):
    (tmp_path / "raw").mkdir()
    write(tmp_path / "raw")
    assert words in refused(
        "prepare", dataset_name=dataset, raw_dir=tmp_path / "raw", out_dir=tmp_path / "out", allow_missing=1
    )
    assert not list((tmp_path / "out").rglob("*.h5"))
