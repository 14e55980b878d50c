"""Split of one scene into held-out windows and patches that do not overlap them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapt.windows import split_scene
from system.errors import DataError


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 120), st.integers(20, 900), st.sampled_from((2, 3, 4, 8)), st.integers(0, 5), st.booleans())
def test_patches_do_not_touch_windows_or_gaps(height, width, n_scale, seed, has_gap):
    there = np.ones((height, width), dtype=bool)
    if has_gap:
        there[: height // 6, : width // 6] = False
    try:
        split = split_scene("a", there, n_scale, seed)
    except DataError as error:
        assert "need at least 3" in str(error)
        smallest = 5 * n_scale
        tops, lefts = (range(0, side - smallest + 1, smallest) for side in (height, width))
        assert sum(there[i : i + smallest, j : j + smallest].all() for i in tops for j in lefts) < 3
        return
    edge = split.edge
    assert edge % n_scale == split.stride % n_scale == 0
    assert 5 * n_scale <= edge <= 16 * n_scale
    free = there.copy()
    for i, j in split.held_out:
        assert there[i : i + edge, j : j + edge].all() and i + edge <= height and j + edge <= width
        # No two windows share a pixel.
        assert free[i : i + edge, j : j + edge].all()
        free[i : i + edge, j : j + edge] = False
    assert len(split.held_out) >= 2 and len(split.patches) >= 1
    for i, j in split.patches:
        assert free[i : i + edge, j : j + edge].all() and i + edge <= height and j + edge <= width


def test_scene_split_equals_hand_worked_sizes():
    split = split_scene("a", np.ones((100, 100), dtype=bool), 4, 3000)
    # 100 / sqrt(24) = 20.4, of which 20 is a multiple of 4: 25 windows, of which a fifth is held out.
    assert (split.edge, split.stride, len(split.held_out)) == (20, 4, 5)
    large = split_scene("a", np.ones((1000, 2000), dtype=bool), 4, 3000)
    assert (large.edge, len(large.held_out)) == (64, 48)
    # 2,000,000 pixels in at most 20,000 patches are 10 pixels apart, 12 as a multiple of 4.
    assert large.stride == 12 and len(large.patches) <= 20000
    assert split_scene("a", np.ones((100, 100), dtype=bool), 4, 3001).held_out != split.held_out


def test_scenes_with_too_few_windows_are_refused():
    with pytest.raises(DataError, match="24 x 24 pixels contain 1 windows of 20 x 20 without missing data"):
        split_scene("a", np.ones((24, 24), dtype=bool), 4, 0)
    there = np.ones((100, 100), dtype=bool)
    there[::10] = False
    with pytest.raises(DataError, match="contain 0 windows of 20 x 20"):
        split_scene("a", there, 4, 0)


@pytest.mark.parametrize(("height", "width", "n_scale"), [(30, 3000, 4), (1000, 60, 4), (100, 2000, 8), (20, 60, 4)])
def test_narrow_scenes_get_smaller_windows(height, width, n_scale):
    split = split_scene("a", np.ones((height, width), dtype=bool), n_scale, 0)
    assert 5 * n_scale <= split.edge <= min(height, width) and split.patches


def test_diagonal_flight_line_has_held_out_windows():
    rows, cols = np.mgrid[:600, :600]
    there = np.abs(rows - cols) < 56
    split = split_scene("a", there, 4, 0)
    assert split.patches and all(there[i : i + split.edge, j : j + split.edge].all() for i, j in split.held_out)


def test_held_out_windows_cover_all_detail_levels():
    there = np.ones((200, 200), dtype=bool)
    for seed in range(20):
        split = split_scene("a", there, 4, seed, lambda top, left, edge: top)
        # 25 windows of 40 pixels, five in each of the rows 0, 40, ... 160: one of each row.
        assert (split.edge, len(split.held_out)) == (40, 5)
        assert [top for top, _ in split.held_out] == [0, 40, 80, 120, 160]
