import numpy as np
import pytest

import facts
from facts import load_published_split


def test_published_cave_split_has_32_scenes():
    split = load_published_split("Cave")
    assert {k: len(v) for k, v in split.items()} == {"labelled": 5, "unlabelled": 15, "test": 12}
    assert len({name for names in split.values() for name in names}) == 32


def test_published_splits_have_their_numbers_of_scenes():
    counts = {name: [len(s) for s in load_published_split(name).values()] for name in ("Cave", "Harvard", "NTIRE2020")}
    assert counts == {"Cave": [5, 15, 12], "Harvard": [10, 30, 10], "NTIRE2020": [105, 315, 40]}
    assert load_published_split("Mine") is None


def test_wavelengths_depend_on_data_set_and_bands():
    np.testing.assert_array_equal(facts.get_wavelengths("Harvard", 31), range(400, 701, 10))
    assert facts.get_wavelengths("Chikusei", 128)[[0, -1]].tolist() == [363, 1018]
    assert facts.get_wavelengths("Cave", 30) is None
    assert facts.get_wavelengths("Mine", 31) is None


@pytest.mark.parametrize(
    ("name", "n_scale", "patch"),
    [("Cave", 4, (64, 32)), ("Cave", 8, (128, 32)), ("Chikusei", 8, (128, 64)), ("Mine", 3, (48, 30))],
)
def test_published_patches_start_on_whole_lr_pixels(name, n_scale, patch):
    assert facts.get_published_patch(name, n_scale) == patch
