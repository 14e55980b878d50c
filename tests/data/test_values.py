import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from data import rasters
from data.errors import DataError
from data.rasters.values import Calibration, refuse_marks, scale_of, understand, value_range

INTEGERS = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")
# Whole numbers up to this are kept by float32 with a bit to spare for the rounding of a quotient and a product.
EXACT = 2**22


def test_integers_are_rounded_and_clipped_to_their_type_and_the_clipped_counted():
    values = Calibration("u1", 255, None)
    raw, clipped = values.to_raw(np.array([[[-0.1, 0.1, 1.5 / 255, 1.01]]], np.float32), None)
    assert (raw.tolist(), clipped) == ([[[0, 26, 2, 255]]], 2)
    raw, clipped = Calibration("i2", 10000, None).to_raw(np.array([[[-0.1, 1.2, 4.0]]], np.float32), None)
    assert (raw.tolist(), clipped) == ([[[-1000, 12000, 32767]]], 1)
    for dtype in ("i8", "u8"):
        raw, _ = Calibration(dtype, 1e19, None).to_raw(np.array([[[4.0]]], np.float32), None)
        assert np.iinfo(dtype).max - 2048 < int(raw[0, 0, 0]) <= np.iinfo(dtype).max


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(INTEGERS), st.floats(1, 1e6))
def test_integers_come_back_from_0_to_1_as_they_were(data, dtype, scale):
    info = np.iinfo(dtype)
    values = st.integers(max(info.min, -EXACT), min(info.max, EXACT))
    raw = data.draw(arrays.arrays(dtype, (2, 3, 4), elements=values))
    calibration = Calibration(dtype, scale)
    unit, missing = calibration.to_unit(raw)
    assert unit.dtype == np.float32 and missing is None
    back, clipped = calibration.to_raw(unit)
    assert (back.dtype, clipped) == (np.dtype(dtype), 0)
    np.testing.assert_array_equal(back, raw)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(("i4", "u4", "i8", "u8")))
def test_the_widest_integers_come_back_as_far_as_float32_goes(data, dtype):
    info = np.iinfo(dtype)
    raw = data.draw(arrays.arrays(dtype, (2, 3, 4), elements=st.integers(info.min, info.max)))
    calibration = Calibration(dtype, float(info.max))
    back, _ = calibration.to_raw(calibration.to_unit(raw)[0])
    np.testing.assert_allclose(back.astype(np.float64), raw.astype(np.float64), rtol=2.0**-23, atol=1)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(INTEGERS))
def test_gaps_come_back_as_gaps_and_nothing_else_does(data, dtype):
    raw = data.draw(arrays.arrays(dtype, (3, 3, 2), elements=st.integers(0, 5)))
    mark = data.draw(st.integers(0, 5))
    calibration = Calibration(dtype, 100.0, mark)
    unit, missing = calibration.to_unit(raw)
    assert (unit is None) == (raw == mark).all()
    if unit is not None:
        back, _ = calibration.to_raw(unit, missing)
        np.testing.assert_array_equal(back == mark, raw == mark)
        np.testing.assert_array_equal(back[raw != mark], raw[raw != mark])


def cube_of(dtype, *values):
    """2 x n x 1, twice these values."""
    return np.array([[[v] for v in values]] * 2, dtype)


@pytest.mark.parametrize(
    ("cube", "value_scale", "of_file", "scale", "told_by"),
    [
        (cube_of("u2", 3, 900), 0.0, None, 65535.0, "type"),
        (cube_of("i2", -3, 900), 0.0, None, 32767.0, "type"),
        (cube_of("f4", 0, 2), 0.0, None, 1.0, "type"),
        (cube_of("f4", 0, 9000), 10000.0, None, 10000.0, "caller"),
        (cube_of("u2", 3, 900), 0.0, 4095.0, 4095.0, "file"),
        (cube_of("u2", 3, 900), 1000.0, 4095.0, 1000.0, "caller"),
    ],
)
def test_what_stands_for_1_is_said_by_the_caller_or_the_file_or_the_type(cube, value_scale, of_file, scale, told_by):
    raster = rasters.from_array(cube)
    raster.value_scale = of_file
    understood = understand(raster, value_scale)
    assert (understood.calibration.scale, understood.told_by) == (scale, told_by)
    assert (understood.low, understood.high) == (cube.min(), cube.max())


def test_a_mark_is_the_callers_or_the_files_and_no_value():
    cube = cube_of("i2", -9999, 3, 900, -1)
    for raster, given_mark in ((rasters.from_array(cube), -9999), (rasters.from_array(cube, nodata=-9999), None)):
        understood = understand(raster, 1000, given_mark)
        assert (understood.low, understood.high) == (-1, 900)
        assert understood.calibration.mark == -9999
    nothing = understand(rasters.from_array(np.full((4, 4, 2), np.nan, np.float32)))
    assert (nothing.low, nothing.high, nothing.calibration.scale) == (None, None, 1.0)


def test_values_that_cannot_be_understood_are_refused_with_the_parameter_that_helps():
    with pytest.raises(DataError) as caught:
        understand(rasters.from_array(cube_of("f4", 0, 2.5)))
    assert str(caught.value) == "image: floating-point values up to 2.5; say what stands for 1 by value_scale"
    assert caught.value.on_command_line().endswith("by --value_scale")
    with pytest.raises(DataError) as caught:
        understand(rasters.from_array(cube_of("i2", -9999, 900)), 10000)
    assert str(caught.value) == (
        "image: values down to -9999 (a mark for no data?); name it by nodata, or what stands for 1 by value_scale"
    )
    assert "by --nodata, or what stands for 1 by --value_scale" in caught.value.on_command_line()


def test_noise_below_zero_is_no_mark():
    refuse_marks("image", -500, 10000.0, "fill them")
    with pytest.raises(DataError, match="values down to -501"):
        refuse_marks("image", -501, 10000.0, "fill them")
    assert scale_of("image", np.dtype("f8"), 2.0) == 1.0
    assert scale_of("image", np.dtype(">u2"), 900) == 65535


def test_the_range_of_a_large_scene_is_that_of_rows_over_its_whole_height():
    seen = []
    cube = np.arange(70, dtype=np.float32)[:, None, None] * np.ones((1, 2**10, 2**10), np.float32)
    raster = rasters.from_array(cube)
    source = raster.source
    raster.source = lambda rows, cols: seen.append(rows.stop - rows.start) or source(rows, cols)
    assert value_range(raster) == (0, 69)
    assert seen == [4] * 8
