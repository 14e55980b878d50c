import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import build_model
from predict import super_resolve
from predict.tiles import Blender, make_plan, make_tiles, split_axis


@st.composite
def cuts(draw):
    """(height, width, tile size, overlap) of a scene and its tiles: an overlap is at most half a tile."""
    overlap = 4 * draw(st.integers(0, 4))
    tile_size = draw(st.integers(max(1, 2 * overlap), 2 * overlap + 20))
    return draw(st.integers(1, 90)), draw(st.integers(1, 90)), tile_size, overlap


@settings(max_examples=60, deadline=None)
@given(cuts())
def test_tiles_finish_every_pixel_once(cut):
    height, width, tile_size, overlap = cut
    times = np.zeros((height, width), int)
    for tile in make_tiles(height, width, tile_size, overlap):
        assert 0 <= tile.rows.start < tile.rows.stop <= height and tile.rows.stop - tile.rows.start <= tile_size
        assert 0 <= tile.cols.start < tile.cols.stop <= width and tile.cols.stop - tile.cols.start <= tile_size
        times[tile.rows.done_start : tile.rows.done_stop, tile.cols.done_start : tile.cols.done_stop] += 1
    assert (times == 1).all()


@settings(max_examples=40, deadline=None)
@given(cuts(), st.integers(1, 3))
def test_tile_weights_sum_to_one_everywhere(cut, scale):
    height, width, tile_size, overlap = cut
    image = np.random.default_rng(0).random((height, width, 1))
    out = stitched(image, lambda x: x.repeat(scale, 0).repeat(scale, 1), tile_size, overlap, scale)
    np.testing.assert_allclose(out, image.repeat(scale, 0).repeat(scale, 1), atol=1e-6)


def test_only_scenes_exceeding_memory_are_tiled():
    architecture = {"n_colors": 31, "n_scale": 4, "n_feats": 32}
    whole = make_plan(architecture, 100, 80, 2**40)
    assert (len(whole.tiles), whole.tile_size, whole.overlap) == (1, 0, 0)
    for free in (2**30, 2**31, 2**32):
        plan = make_plan(architecture, 4000, 300, free)
        assert len(plan.tiles) > 1 and plan.needed > plan.usable == int(0.8 * free)
    assert make_plan(architecture, 4000, 300, 2**32).tile_size > make_plan(architecture, 4000, 300, 2**30).tile_size


@pytest.mark.parametrize(
    ("size", "tile_size", "overlap"),
    [(320, 128, 32), (129, 128, 32), (1000, 64, 32), (77, 16, 0), (50, 24, 8), (12, 64, 8)],
)
def test_tiles_cover_an_axis_with_equal_overlap(size, tile_size, overlap):
    cut = split_axis(size, tile_size, overlap)
    assert (cut[0].start, cut[0].done_start, cut[-1].stop, cut[-1].done_stop) == (0, 0, size, size)
    assert max(s.stop - s.start for s in cut) <= tile_size
    assert max(s.stop - s.start for s in cut) - min(s.stop - s.start for s in cut) <= 1
    for a, b in zip(cut, cut[1:], strict=False):
        assert a.stop - b.start == overlap
        assert a.done_stop == b.done_start == b.blend_start
        assert a.blend_stop - b.blend_start == overlap // 2
        assert b.blend_start - b.start == a.stop - a.blend_stop == overlap // 4


def test_tiles_of_320_pixels_worked_by_hand():
    assert [(s.start, s.stop) for s in split_axis(320, 128, 32)] == [(0, 128), (96, 224), (192, 320)]


def stitched(image, network, tile_size, overlap, scale):
    height, width, bands = image.shape
    blender, out = Blender(width, bands, scale), np.full((height * scale, width * scale, bands), np.nan)
    for tile in make_tiles(height, width, tile_size, overlap):
        values = network(image[tile.rows.start : tile.rows.stop, tile.cols.start : tile.cols.stop])
        finished = blender.add(tile, values)
        rows, cols = (slice(x.done_start * scale, x.done_stop * scale) for x in (tile.rows, tile.cols))
        assert np.isnan(out[rows, cols]).all()
        out[rows, cols] = finished
    return out


def test_sufficient_overlap_gives_no_seams():
    def network(x):
        # Sees 4 pixels far, and differs at the borders of what it is given.
        return scipy.ndimage.uniform_filter(x, (9, 9, 1), mode="constant").repeat(2, axis=0).repeat(2, axis=1)

    image = np.random.default_rng(0).random((70, 51, 3))
    np.testing.assert_allclose(stitched(image, network, 40, 16, 2), network(image), atol=1e-6)
    # With less overlap the borders show.
    assert np.abs(stitched(image, network, 40, 8, 2) - network(image)).max() > 1e-3


def test_disagreeing_tiles_are_blended_smoothly():
    levels = iter([0.0, 1.0])
    out = stitched(np.zeros((8, 48, 1)), lambda x: np.full(x.shape, next(levels)), 32, 16, 1)[:, :, 0]
    # The tiles 0..32 and 16..48: their first and last 4 shared pixels count for one alone.
    assert (out[:, :20] == 0).all() and (out[:, 28:] == 1).all()
    np.testing.assert_allclose(out[0, 20:28], 0.5 - 0.5 * np.cos(np.pi * (np.arange(8) + 0.5) / 8), atol=1e-6)


def test_tiles_of_3dfcnn_equal_the_whole_scene():
    torch.manual_seed(0)
    model = build_model("3DFCNN", 5, 2)
    image = np.random.default_rng(0).random((70, 52, 5)).astype(np.float32)
    whole = super_resolve(image, model, cuda="0")
    tiled = super_resolve(image, model, cuda="0", tile_size=40, tile_overlap=16)
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-5 * np.abs(whole).max())
