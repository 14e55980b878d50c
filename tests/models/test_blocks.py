import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import blocks


@pytest.fixture(scope="module", autouse=True)
def narrow_strips():
    """Strips of the fewest rows, so that small images have several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "VALUES_PER_STRIP", 1)
        yield


def cube(seed, *shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@st.composite
def groupings(draw):
    """(bands, bands in a group, shared bands) of any network."""
    n_subs = draw(st.integers(1, 12))
    return draw(st.integers(n_subs, 60)), n_subs, draw(st.integers(0, n_subs - 1))


@given(groupings())
def test_groups_cover_all_bands_in_order(grouping):
    n_colors, n_subs, n_ovls = grouping
    starts = blocks.compute_group_starts(n_colors, n_subs, n_ovls)
    assert (starts[0], starts[-1]) == (0, n_colors - n_subs)
    assert all(0 < after - before <= n_subs - n_ovls for before, after in zip(starts, starts[1:], strict=False))


@given(groupings(), st.integers(1, 3), st.integers(0, 2**16))
def test_merging_gathered_groups_restores_the_image(grouping, batch, seed):
    n_colors, n_subs, n_ovls = grouping
    x = cube(seed, batch, n_colors, 2, 3)
    starts = blocks.compute_group_starts(n_colors, n_subs, n_ovls)
    groups = blocks.gather_groups(x, starts, n_subs)
    assert groups.shape == (len(starts) * batch, n_subs, 2, 3)
    torch.testing.assert_close(blocks.merge_groups(groups, blocks.make_merge_matrix(starts, n_subs, n_colors)), x)


@given(st.integers(1, 70), st.integers(1, 9), st.integers(0, 2**16))
def test_block_in_strips_equals_the_whole_block(height, width, seed):
    torch.manual_seed(seed)
    block, x = blocks.SSB(4).double(), cube(seed, 1, 4, height, width)
    with torch.no_grad():
        whole = block(x)
        torch.testing.assert_close(block.add_to_(x.clone()), whole, rtol=0, atol=1e-12)


@given(st.integers(1, 70), st.integers(1, 12))
def test_strips_cover_each_row_once(height, width):
    rows = blocks.list_strips(torch.empty(1, 2, height, width))
    assert [row for top, bottom in rows for row in range(top, bottom)] == list(range(height))


@given(st.integers(1, 40), st.sampled_from([1, 2, 3, 4, 8]), st.booleans(), st.integers(0, 2**16))
def test_branch_in_strips_equals_the_whole_branch(height, scale, has_tail, seed):
    torch.manual_seed(seed)
    branch = blocks.Branch(3, 4, 1, up_scale=scale, out_channels=3 if has_tail else None).double()
    x = cube(seed, 1, 3, height, 4)
    whole = branch(x).detach()
    with torch.no_grad():
        torch.testing.assert_close(branch(x), whole, rtol=0, atol=1e-12)
