import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import formats
from formats import calibration
from formats.calibration import Calibration, choose_full_scale, sample_range, understand
from formats.raster import Scaling
from system.errors import DataError

INTEGERS = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")
# float32 keeps whole numbers up to this with a spare bit for the rounding of a quotient and a product.
EXACT = 2**22


def test_integers_are_rounded_clipped_and_counted():
    calibration = Calibration("u1", 255, None)
    raw, clipped = calibration.to_raw(np.array([[[-0.1, 0.1, 1.5 / 255, 1.01]]], np.float32), None)
    assert (raw.tolist(), clipped) == ([[[0, 26, 2, 255]]], 2)
    raw, clipped = Calibration("i2", 10000, None).to_raw(np.array([[[-0.1, 1.2, 4.0]]], np.float32), None)
    assert (raw.tolist(), clipped) == ([[[-1000, 12000, 32767]]], 1)
    for dtype in ("i8", "u8"):
        raw, _ = Calibration(dtype, 1e19, None).to_raw(np.array([[[4.0]]], np.float32), None)
        assert np.iinfo(dtype).max - 2048 < int(raw[0, 0, 0]) <= np.iinfo(dtype).max


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(INTEGERS), st.floats(1, 1e6))
def test_integers_round_trip_exactly_through_unit_range(data, dtype, scale):
    info = np.iinfo(dtype)
    elements = st.integers(max(info.min, -EXACT), min(info.max, EXACT))
    raw = data.draw(arrays.arrays(dtype, (2, 3, 4), elements=elements))
    calibration = Calibration(dtype, scale)
    unit, missing = calibration.to_unit(raw)
    assert unit.dtype == np.float32 and missing is None
    back, clipped = calibration.to_raw(unit)
    assert (back.dtype, clipped) == (np.dtype(dtype), 0)
    np.testing.assert_array_equal(back, raw)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(("i4", "u4", "i8", "u8")))
def test_wide_integers_round_trip_to_float32_precision(data, dtype):
    info = np.iinfo(dtype)
    raw = data.draw(arrays.arrays(dtype, (2, 3, 4), elements=st.integers(info.min, info.max)))
    calibration = Calibration(dtype, float(info.max))
    back, _ = calibration.to_raw(calibration.to_unit(raw)[0])
    np.testing.assert_allclose(back.astype(np.float64), raw.astype(np.float64), rtol=2.0**-23, atol=1)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(INTEGERS))
def test_only_missing_values_become_nodata_values(data, dtype):
    raw = data.draw(arrays.arrays(dtype, (3, 3, 2), elements=st.integers(0, 5)))
    mark = data.draw(st.integers(0, 5))
    calibration = Calibration(dtype, 100.0, mark)
    unit, missing = calibration.to_unit(raw)
    assert (unit is None) == (raw == mark).all()
    if unit is not None:
        back, _ = calibration.to_raw(unit, missing)
        np.testing.assert_array_equal(back == mark, raw == mark)
        np.testing.assert_array_equal(back[raw != mark], raw[raw != mark])


def cube_of(dtype, *calibration):
    """Return a cube of 2 x n x 1 with these values in both rows."""
    return np.array([[[v] for v in calibration]] * 2, dtype)


@pytest.mark.parametrize(
    ("cube", "value_scale", "of_file", "scale", "source"),
    [
        (cube_of("u2", 3, 900), 0.0, None, 65535.0, "type"),
        (cube_of("i2", -3, 900), 0.0, None, 32767.0, "type"),
        (cube_of("f4", 0, 2), 0.0, None, 1.0, "type"),
        (cube_of("f4", 0, 9000), 10000.0, None, 10000.0, "caller"),
        (cube_of("u2", 3, 900), 0.0, 4095.0, 4095.0, "file"),
        (cube_of("u2", 3, 900), 1000.0, 4095.0, 1000.0, "caller"),
    ],
)
def test_full_scale_value_prefers_caller_then_file(cube, value_scale, of_file, scale, source):
    raster = formats.from_array(cube)
    raster.value_scale = of_file
    understood = understand(raster, value_scale)
    assert (understood.calibration.scale, understood.source) == (scale, source)
    assert (understood.low, understood.high) == (cube.min(), cube.max())


def test_nodata_values_are_excluded_from_the_range():
    cube = cube_of("i2", -9999, 3, 900, -1)
    for raster, given_mark in ((formats.from_array(cube), -9999), (formats.from_array(cube, nodata=-9999), None)):
        understood = understand(raster, 1000, given_mark)
        assert (understood.low, understood.high) == (-1, 900)
        assert understood.calibration.result_nodata == -9999
    nothing = understand(formats.from_array(np.full((4, 4, 2), np.nan, np.float32)))
    assert (nothing.low, nothing.high, nothing.calibration.scale) == (None, None, 1.0)


def test_ambiguous_values_are_refused_with_the_parameter():
    with pytest.raises(DataError) as caught:
        understand(formats.from_array(cube_of("f4", 0, 2.5)))
    assert str(caught.value) == (
        "image: floating-point values up to 2.5 of unknown full-scale value; set value_scale, e.g. 10000 for most "
        "reflectance products"
    )
    assert "set --value_scale" in caught.value.format_for_command_line()
    with pytest.raises(DataError) as caught:
        understand(formats.from_array(cube_of("i2", -9999, 900)), 10000)
    assert str(caught.value) == (
        "image: the value -9999 may mark missing data; set nodata -9999 if it does, nodata nan if it is measured"
    )
    assert "set --nodata -9999 if" in caught.value.format_for_command_line()


@pytest.mark.parametrize("dtype", ["i4", "u4", "i8", "u8"])
def test_wide_integers_need_a_full_scale_value(dtype):
    cube = cube_of(dtype, 3, 7515)
    with pytest.raises(DataError, match=f"{np.dtype(dtype).name} values up to 7515 of unknown full-scale value"):
        understand(formats.from_array(cube))
    assert understand(formats.from_array(cube), 10000).calibration.scale == 10000
    assert understand(formats.from_array(cube), fallback=8000.0).source == "weights"


@pytest.mark.parametrize(
    ("values_", "nodata", "is_refused"),
    [
        ((-1498, -1300, -800, 900), None, False),
        ((-1498, -1300, -800, 900), -32768, False),
        ((-9999, 3, 900), None, True),
        ((-9999, 3, 900), float("nan"), False),
        ((-9999, 3, 900), -32768, False),
        ((-600, 3, 900), None, True),
        ((-490, 3, 900), None, False),
        ((-12000, -7000, -3000, 900), None, True),
        ((-12000, -7000, -3000, 900), -32768, False),
    ],
)
def test_only_isolated_undeclared_negatives_are_refused(values_, nodata, is_refused):
    raster = formats.from_array(cube_of("i2", *values_), nodata=nodata)
    if is_refused:
        with pytest.raises(DataError, match="may mark missing data"):
            understand(raster, 10000)
    else:
        assert understand(raster, 10000).low == min(values_)


def test_a_refused_negative_value_is_named_exactly():
    cube = cube_of("f4", -123456.789, 0.5)
    with pytest.raises(DataError, match="set nodata -123456.7890625 if it does"):
        understand(formats.from_array(cube))
    assert np.float32(-123456.7890625) == cube.min()
    raster = formats.from_array(cube_of("i2", -200, 900))
    raster.scaling = Scaling(np.array([0.001]), np.array([-0.5]))
    with pytest.raises(DataError, match="the value -200 may"):
        understand(raster)


def test_an_isolated_value_is_found_across_blocks(monkeypatch):
    monkeypatch.setattr(calibration, "SAMPLE_VALUES", 4)
    rows = [[[-9999, 5]], [[7, 9]], [[-9999, 8]], [[6, -20]]]
    found = sample_range(formats.from_array(np.array(rows, "i2")))
    assert (found.low, found.high, found.count, found.following) == (-9999, 9, 2, -20)


@pytest.mark.parametrize(
    ("high", "is_reported"), [(4095, True), (16383, True), (32767, True), (32768, False), (65535, False)]
)
def test_assumed_full_scale_value_is_reported(high, is_reported):
    remarks = understand(formats.from_array(cube_of("u2", 3, high))).list_remarks("x.npz")
    expected = [f"x.npz: brightest value is {high:g}; assuming a full-scale value of 65535 (the maximum of uint16); "
            "set {value_scale}, e.g. 10000 for most reflectance products"]  # fmt: skip
    assert remarks == (expected if is_reported else [])
    assert understand(formats.from_array(cube_of("u2", 3, high)), 65535).list_remarks("x.npz") == []


@pytest.mark.parametrize("scale", [60000, 65535, 100000])
def test_float16_values_are_divided_by_any_scale(scale):
    cube = np.array([[[6.0, 48000.0, 60000.0]]], "f2")
    calibration = Calibration("f2", scale)
    unit, _ = calibration.to_unit(cube)
    np.testing.assert_allclose(unit, cube.astype("f8") / scale, rtol=1e-6)
    raw, clipped = calibration.to_raw(unit)
    np.testing.assert_array_equal(raw, cube)
    assert clipped == 0
    raw, clipped = calibration.to_raw(np.array([[[2.0]]], "f4"))
    assert (float(raw[0, 0, 0]), clipped) == (65504.0, 1)


def test_scales_of_narrow_types_are_their_maximum():
    assert choose_full_scale("image", np.dtype("f8"), 2.0) == 1.0
    assert choose_full_scale("image", np.dtype(">u2"), 900) == 65535


def test_sampled_range_covers_the_whole_height(monkeypatch):
    monkeypatch.setattr(calibration, "SAMPLE_VALUES", 4 * 5 * 3)
    seen = []
    raster = formats.from_array(np.arange(70.0)[:, None, None] * np.ones((1, 5, 3)))
    source = raster.source
    raster.source = lambda rows, cols: seen.append(rows) or source(rows, cols)
    found = sample_range(raster)
    assert (found.low, found.high) == (0, 69)
    assert [rows.stop - rows.start for rows in seen] == [4] * 8
    assert (seen[0].start, seen[-1].stop) == (0, 70)
