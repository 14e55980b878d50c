"""Stores with one wrong entry: every command that reads them refuses them by name."""

import h5py
import numpy as np
import pytest

from data.store import Scene, Store, read_attributes, read_part_sha256, write_part
from system.errors import DataError


def first(f):
    return f["scenes"][next(iter(f["scenes"]))]


def with_attribute(name, value):
    def harm(f):
        first(f).attrs[name] = value

    return harm


def without_attribute(name):
    def harm(f):
        del first(f).attrs[name]

    return harm


def replaced_by(make):
    """Another thing in place of the first scene, with the attributes that the scene had."""

    def harm(f):
        key = next(iter(f["scenes"]))
        held = dict(f["scenes"][key].attrs)
        del f["scenes"][key]
        made = make(f["scenes"], key)
        if made is not None:
            made.attrs.update(held)

    return harm


def a_link(link):
    def make(group, key):
        group[key] = link

    return replaced_by(make)


def an_array(**options):
    return replaced_by(lambda group, key: group.create_dataset(key, **options))


def virtual(group, key):
    layout = h5py.VirtualLayout((48, 48, 31), "u2")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "cube", (48, 48, 31))
    return group.create_virtual_dataset(key, layout)


def on_root(name, value):
    def harm(f):
        f.attrs[name] = value

    return harm


def scenes_elsewhere(f):
    del f["scenes"]
    f["scenes"] = h5py.ExternalLink("elsewhere.h5", "/scenes")


def scenes_as_an_array(f):
    del f["scenes"]
    f["scenes"] = np.zeros(3)


def twice(f):
    first_key, second_key = list(f["scenes"])[:2]
    f["scenes"][second_key].attrs["name"] = f["scenes"][first_key].attrs["name"]


# A text by its type, but no UTF-8.
NO_TEXT = np.array(b"\xff\xfe", h5py.string_dtype("utf-8"))
SCALES = [
    (with_attribute(f"value_scale_{protocol}", value), f"value_scale_{protocol}")
    for protocol in ("corrected", "published")
    for value in (-1.0, 0.0, np.inf, np.nan, "one", 1e300, [1.0, 2.0], True)
]
CASES = [
    *SCALES,
    *((with_attribute("lr_scale", value), "lr_scale") for value in (0, -4, 2.5, "4", 10**9, [4, 4])),
    *((with_attribute("wavelengths", value), "wavelengths") for value in ([400.0, 500.0, 600.0], "blue", [-1.0] * 31)),
    *((with_attribute("wavelengths", value), "wavelengths") for value in ([np.nan] * 31, np.ones((31, 1)), 500.0)),
    (with_attribute("wavelengths", h5py.Empty("f8")), "wavelengths"),
    *((with_attribute(name, 3), f"no readable {name}") for name in ("name", "source", "source_sha256")),
    (with_attribute("source", NO_TEXT), "no readable source"),
    *((without_attribute(name), name) for name in ("name", "source", "lr_scale", "value_scale_published")),
    (replaced_by(lambda group, key: group.create_group(key)), "is not an array of this file"),
    (a_link(h5py.SoftLink("/nowhere")), "is not an array of this file"),
    (a_link(h5py.ExternalLink("elsewhere.h5", "/cube")), "is not an array of this file"),
    (replaced_by(virtual), "in another file"),
    (an_array(shape=(4, 4, 31), dtype="u2", external="elsewhere.bin"), "in another file"),
    *((an_array(data=np.ones(shape)), "shape") for shape in ((48,), (48, 48), (1, 48, 48, 31), (0, 48, 31), ())),
    (an_array(data=h5py.Empty("f4")), "shape"),
    *((an_array(data=np.ones((48, 48, 31), kind)), "not a numeric array") for kind in ("c8", "?", "S4")),
    (an_array(shape=(10**6, 10**6, 31), dtype="u2", chunks=(64, 64, 31)), "is incomplete"),
    (on_root("protocol", "abc"), "protocol"),
    (on_root("protocol", 3), "protocol"),
    (on_root("protocol", ["corrected", "published"]), "store"),
    (on_root("dataset", 3), "data set"),
    (on_root("program", NO_TEXT), "UTF-8"),
    (on_root("format", ["a", "b"]), "store"),
    (scenes_elsewhere, "does not contain the group of scenes"),
    (scenes_as_an_array, "does not contain the group of scenes"),
    (twice, "has the name of another scene"),
]


@pytest.fixture
def harmed(stores, tmp_path):
    """A copy of the test store in which something was changed."""

    def harmed(harm):
        path = tmp_path / "harmed.h5"
        path.write_bytes((stores / "test.h5").read_bytes())
        with h5py.File(path, "r+") as f:
            harm(f)
        return path

    return harmed


@pytest.mark.parametrize(("harm", "word"), CASES, ids=range(len(CASES)))
def test_info_refuses_stores_with_one_wrong_entry(refused, harmed, harm, word):
    path = harmed(harm)
    for sentence in (refused("info", path), refused("info", path, verify=1)):
        assert str(path) in sentence
        assert word in sentence


@pytest.mark.parametrize(
    "harm", [with_attribute("value_scale_corrected", -1.0), with_attribute("wavelengths", ["a"] * 31)]
)
def test_train_and_test_refuse_wrong_stores_early(refused, harmed, tmp_path, harm):
    path = harmed(harm)
    assert "scene" in refused("test", model_title="Bicubic", test_dir=path, result_path=tmp_path / "out")
    assert "scene" in refused("train", train_dir_mslabel=path, save_dir=tmp_path / "runs")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "runs").exists()


def test_big_endian_scenes_are_read_as_native(harmed):
    cube = np.arange(48 * 48 * 31).reshape(48, 48, 31).astype(">u2")
    with Store(harmed(an_array(data=cube))) as store:
        name = store.names[-1]
        assert store.read(name).cube.dtype.isnative
        np.testing.assert_array_equal(store.read(name).cube, cube)
        left = store.open_cube(name)
        assert left.dtype.isnative
        assert left[:2].dtype.isnative


def test_additional_attributes_of_a_store_are_accepted(run, harmed):
    assert run("info", harmed(on_root("mine", [1, 2, 3])), verify=1)[0] == 0


def test_part_without_a_hash_is_not_resumed(tmp_path):
    write_part(tmp_path / "part", Scene("a", np.ones((2, 3, 4)), 1.0, source_sha256="abc"))
    with h5py.File(tmp_path / "part", "r+") as f:
        f["scene"].attrs["source_sha256"] = 3
    assert read_part_sha256(tmp_path / "part") is None


def test_errors_of_a_store_name_the_file(harmed):
    path = harmed(with_attribute("lr_scale", 0))
    with pytest.raises(DataError) as caught:
        Store(path)
    assert caught.value.path == path


def test_attributes_are_those_of_h5py(tmp_path):
    given = {
        **{"text": "bänd", "number": 3.5, "whole": np.uint8(200), "big": np.array([1, 2], ">i4"), "flag": True},
        **{"none": h5py.Empty("f4"), "texts": ["a", "b"], "bytes": np.bytes_(b"abc"), "one": np.ones((1, 1))},
        "ascii": np.array("abc", h5py.string_dtype("ascii")),
        "broken": np.array(b"\xff\xfe", h5py.string_dtype("utf-8")),
    }
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f.attrs.update(given)
        found, expected = read_attributes(f), dict(f.attrs)
    assert list(found) == list(expected) == sorted(given)
    for name, value in expected.items():
        assert type(found[name]) is type(value)
        assert found[name] == value if name == "none" else np.array_equal(found[name], value)
