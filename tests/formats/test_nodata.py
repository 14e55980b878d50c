import numpy as np
import pytest

from formats.nodata import fill_missing, find_missing


def test_missing_values_are_filled_from_nearest_pixels():
    cube = np.arange(24.0).reshape(2, 3, 4)
    missing = np.zeros(cube.shape, bool)
    missing[:, :2] = missing[1, 2, 0] = missing[1, 2, 3] = True
    result = fill_missing(cube, missing)
    np.testing.assert_array_equal(result[0, 0], cube[0, 2])
    np.testing.assert_array_equal(result[1, 1], [21, 21, 22, 22])
    np.testing.assert_array_equal(result[1, 2], [21, 21, 22, 22])
    assert (result[~missing] == cube[~missing]).all()


@pytest.mark.parametrize(
    ("dtype", "nodata", "count"),
    [
        ("u1", -9999, 0),
        ("u1", 3.5, 0),
        ("u1", 3, 1),
        ("f4", None, 1),
        ("f4", 3, 2),
        ("f4", float("nan"), 1),
        ("i2", None, 0),
    ],
)
def test_nodata_values_outside_the_type_are_ignored(dtype, nodata, count):
    cube = np.array([[[1, 3, 4]]], dtype)
    if dtype == "f4":
        cube[0, 0, 0] = np.nan
    missing = find_missing(cube, nodata)
    assert (0 if missing is None else missing.sum()) == count
