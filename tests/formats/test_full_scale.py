"""Full-scale value of a set of scenes: reported once if it is assumed, refused if it differs."""

import fixtures
import numpy as np
import pytest

from data.store import Store
from formats.full_scale import FullScale, SameScale
from system.errors import DataError


def write_scenes(folder, **scenes):
    folder.mkdir()
    for name, (dtype, highest) in scenes.items():
        cube = fixtures.make_sharp_cube(24, 20, 9) * highest
        np.save(folder / f"{name}.npy", cube.astype(dtype))
    return folder


def test_prepare_names_an_assumed_scale_once(run, tmp_path):
    raw = write_scenes(tmp_path / "raw", a=("u2", 4000), b=("u2", 4095), c=("u2", 3000))
    flags = {"dataset_name": "Mine", "raw_dir": raw, "out_dir": tmp_path / "st", "n_scale": 2}
    code, out, err = run("prepare", **flags, labelled="a,b", test="c")
    assert code == 0, err
    assert out.count("assuming a full-scale value of 65535 (the maximum of uint16); set --value_scale") == 1
    assert Store(tmp_path / "st" / "test.h5").read("c").value_scale == 65535
    code, out, _ = run("prepare", **flags, labelled="a,b", test="c", value_scale=4095)
    assert code == 0 and "assuming" not in out


@pytest.mark.parametrize("highest", [4095, 32767])
def test_mixed_integer_types_need_value_scale(run, refused, tmp_path, highest):
    raw = write_scenes(tmp_path / "raw", a=("u2", highest), b=("i2", highest))
    flags = {"dataset_name": "Mine", "raw_dir": raw, "out_dir": tmp_path / "st", "n_scale": 2}
    message = refused("prepare", **flags, labelled="a", test="b")
    assert all(word in message for word in ("a.npy", "b.npy", "65535", "32767", "--value_scale"))
    assert not list((tmp_path / "st").glob("*.h5"))
    assert run("prepare", **flags, labelled="a", test="b", value_scale=highest)[0] == 0


def test_declared_scales_may_differ():
    scales = SameScale()
    scales.add("a", FullScale(10000.0, np.dtype("i2")))
    scales.add("b", FullScale(4095.0, np.dtype("u2")))
    assert scales.remark == ""
    with pytest.raises(DataError, match="c: the full-scale value 65535, assumed from uint16, but a has the full-scale"):
        scales.add("c", FullScale(65535.0, np.dtype("u2"), 900.0))


def test_bright_scene_confirms_the_assumed_scale():
    scales = SameScale()
    scales.add("dark", FullScale(65535.0, np.dtype("u2"), 900.0))
    assert scales.remark.startswith("dark: brightest value 900; assuming a full-scale value of 65535")
    scales.add("bright", FullScale(65535.0, np.dtype("u2"), 60000.0))
    assert scales.remark == ""
