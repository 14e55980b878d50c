import fixtures
import h5py
import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.store import Scene, Store, is_store, join_parts, read_part_sha256, write_part
from system.errors import DataError

ABOUT = {"dataset": "Mine", "protocol": "published", "program": "test"}


def write_store(folder, *scenes):
    """A store of these scenes; returns its path."""
    parts = [folder / f"{k}.part" for k in range(len(scenes))]
    for part, scene in zip(parts, scenes, strict=True):
        write_part(part, scene)
    join_parts(folder / "store.h5", parts, ABOUT)
    return folder / "store.h5"


def test_stores_contain_the_metadata_of_prepare(stores):
    with Store(stores / "test.h5") as store:
        assert (store.dataset, store.protocol, store.names) == ("Cave", "corrected", list(fixtures.TEST))
        np.testing.assert_array_equal(store.wavelengths, range(400, 701, 10))
        # One scene of 16 bits and one of 8.
        assert (store.n_colors, store.nbytes) == (31, fixtures.EDGE**2 * 31 * 3)
        assert store.get_scale_and_kind("watercolors", "corrected") == (255, 1)
        assert store.get_scale_and_kind("watercolors", "published") == (65535, 1)
        assert store.hashes == {name: store.read(name).source_sha256 for name in store.names}


TYPES = st.sampled_from(["u1", "i2", "u2", "i4", "u4", "f4", "f8"])
SHAPES = st.tuples(st.integers(1, 70), st.integers(1, 70), st.integers(1, 5))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), TYPES, SHAPES, st.text("aä日 ./#-", min_size=1, max_size=8), st.booleans())
def test_any_shape_type_and_name_round_trips(tmp_path, data, dtype, shape, name, is_known):
    seed = data.draw(st.integers(0, 2**32))
    cube = (np.random.default_rng(seed).random(shape) * 100).astype(dtype)
    wavelengths = data.draw(arrays.arrays("f8", shape[2], elements=st.floats(100, 3000))) if is_known else None
    scene = Scene(name, cube, 100.0, 200.0, 4, wavelengths, "a.mat", "0" * 64)
    with Store(write_store(tmp_path, scene)) as store:
        back, left = store.read(name), store.open_cube(name)
        assert store.names == [name]
        assert (left.shape, left.dtype, left.nbytes) == (cube.shape, cube.dtype, cube.nbytes)
        np.testing.assert_array_equal(left[: shape[0] // 2, 1:], cube[: shape[0] // 2, 1:])
    assert back.cube.dtype == cube.dtype
    np.testing.assert_array_equal(back.cube, cube)
    np.testing.assert_array_equal(back.wavelengths, wavelengths)
    assert (back.value_scale, back.published_value_scale, back.lr_scale) == (100, 200, 4)
    assert (back.source, back.source_sha256) == ("a.mat", "0" * 64)


def test_parts_are_known_by_their_source(tmp_path):
    write_part(tmp_path / "part", Scene("a", np.ones((2, 3, 4)), 1.0, source_sha256="abc"))
    assert read_part_sha256(tmp_path / "part") == "abc"
    (tmp_path / "part").write_bytes(b"half")
    assert read_part_sha256(tmp_path / "part") is None
    assert read_part_sha256(tmp_path / "none") is None


def test_open_cube_keeps_its_store_open(stores):
    cube = Store(stores / "labelled.h5").open_cube("hairs")
    expected = (fixtures.make_smooth_cube(1) * 65535).round().astype(np.uint16)
    np.testing.assert_array_equal(cube[3:9, 40:], expected[3:9, 40:])


def test_damaged_scene_is_named_on_reading(stores, tmp_path):
    content = bytearray((stores / "test.h5").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 64] = bytes(64)
    (tmp_path / "damaged.h5").write_bytes(content)
    with Store(tmp_path / "damaged.h5") as store, pytest.raises(DataError, match="scene .* cannot be read"):
        for name in store.names:
            assert store.read(name).name == name


def test_folders_and_absent_files_are_not_stores(stores, tmp_path):
    assert is_store(stores / "test.h5")
    assert not is_store(stores)
    for path in (stores, tmp_path / "none.h5"):
        with pytest.raises(DataError, match="(a folder|no file), not a scene store"):
            Store(path)


def test_a_store_that_lacks_something_is_refused(stores, tmp_path):
    for number, what in enumerate(("dataset", "scenes")):
        path = tmp_path / f"{number}.h5"
        path.write_bytes((stores / "labelled.h5").read_bytes())
        with h5py.File(path, "r+") as f:
            del (f.attrs if what in f.attrs else f)[what]
        with pytest.raises(DataError, match="cannot be read as a scene store"):
            Store(path)


def test_info_shows_and_verifies_a_store(run, refused, stores, tmp_path):
    code, out, _ = run("info", stores / "test.h5", verify=1)
    assert code == 0
    assert "watercolors: 48 x 48 x 31 uint8 / 255 (published: / 65535), HR, 400..700 nm" in out
    assert "every scene was read without errors" in out
    # The hash is of all files of a scene and of the options, and so no file's own SHA-256.
    assert "hash of the source files and options" in out and "sha256" not in out
    code, out, _ = run("info", stores / "unlabelled.h5")
    assert "LR of a x4 camera" in out
    content = bytearray((stores / "test.h5").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 64] = bytes(64)
    (tmp_path / "damaged.h5").write_bytes(content)
    assert "damaged" in refused("info", tmp_path / "damaged.h5", verify=1)
    assert "no such file" in refused("info", tmp_path / "none.h5")
    assert "--store is missing" in refused("info")


@pytest.mark.parametrize("content", [b"", b"no HDF5", None])
def test_files_that_are_not_stores_are_refused(refused, tmp_path, content):
    path = tmp_path / "labelled.h5"
    if content is None:
        h5py.File(path, "w").close()
    else:
        path.write_bytes(content)
    assert "scene store" in refused("train", train_dir_mslabel=path)


def test_a_truncated_store_is_refused(refused, stores, tmp_path):
    path = tmp_path / "labelled.h5"
    path.write_bytes((stores / "labelled.h5").read_bytes()[:20000])
    assert "truncated file" in refused("train", train_dir_mslabel=path)
