import numpy as np
import pytest
import torch
from helpers import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st

from data.stream import Batch, PatchStream, augment
from system.errors import UserError


def test_augmentations_equal_the_released_code():
    arrays = np.load(GOLDEN / "augmentation.npz")
    for mode in range(8):
        np.testing.assert_array_equal(augment(arrays["image"], mode), arrays[f"mode{mode}"])
        torch_result = augment(torch.from_numpy(arrays["image"]), mode)
        np.testing.assert_array_equal(torch_result.numpy(), arrays[f"mode{mode}"])


def test_augmentations_form_a_group_of_eight():
    image = np.arange(9).reshape(3, 3)
    forms = [augment(image, mode).tolist() for mode in range(8)]
    assert all(forms.count(form) == 1 for form in forms)
    for first in range(8):
        after = [augment(augment(image, first), second).tolist() for second in range(8)]
        # Any two make one of the eight, each another; so one of them takes the first back.
        assert sorted(map(forms.index, after)) == list(range(8))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3), st.integers(0, 7))
def test_augmentations_move_pixels_and_keep_their_spectra(height, width, bands, mode):
    image = np.arange(height * width * bands).reshape(height, width, bands)
    moved = augment(image, mode)
    assert moved.shape[:2] in {(height, width), (width, height)}
    assert sorted(map(tuple, moved.reshape(-1, bands))) == sorted(map(tuple, image.reshape(-1, bands)))
    np.testing.assert_array_equal(moved, augment(torch.from_numpy(image), mode).numpy())


class Numbers:
    """A source whose batches are their own item numbers."""

    origin = "numbers"

    def __init__(self, count, reads_files=False):
        self.count, self.reads_files, self.made = count, reads_files, 0

    def __len__(self):
        return self.count

    def to(self, device):
        return self

    def batch(self, numbers, modes):
        self.made += 1
        items = torch.tensor([8 * n + m for n, m in zip(numbers, modes, strict=True)], dtype=torch.float32)
        items = items.reshape(-1, 1, 1, 1)
        return Batch(items, items)


def items_of(stream, ks):
    return [stream.batch(k).ms.flatten().int().tolist() for k in ks]


def test_epoch_contains_each_patch_position_once():
    stream = PatchStream(Numbers(3), 10, 0, "labelled", keep_last=True)
    assert stream.batches_per_pass == 3
    for first in (0, 3):
        batches = items_of(stream, range(first, first + 3))
        assert [len(b) for b in batches] == [10, 10, 4]
        assert sorted(sum(batches, [])) == list(range(24))


def test_auxiliary_streams_repeat_in_a_new_order():
    stream = PatchStream(Numbers(3), 10, 0, "rgb")
    batches = items_of(stream, range(6))
    assert [len(b) for b in batches] == [10] * 6
    assert batches[:2] != batches[2:4] != batches[4:]


def test_batches_depend_on_seed_purpose_and_number():
    a, b = (PatchStream(Numbers(5), 8, 7, "rgb") for _ in range(2))
    forwards = items_of(a, range(8))
    backwards = items_of(b, reversed(range(8)))
    assert forwards == backwards[::-1]
    assert forwards != items_of(PatchStream(Numbers(5), 8, 8, "rgb"), range(8))
    assert forwards != items_of(PatchStream(Numbers(5), 8, 7, "unlabelled"), range(8))


def test_batch_size_above_patch_count_is_refused():
    with pytest.raises(UserError, match="batch_size"):
        PatchStream(Numbers(2), 17, 0, "labelled")


@pytest.mark.parametrize("reads_files", [False, True])
def test_repeated_request_returns_the_same_batch(reads_files):
    stream = PatchStream(Numbers(5, reads_files), 8, 7, "rgb")
    first = stream.batch(3)
    assert stream.batch(3) is first
    other = stream.batch(4)
    assert other is not first
    assert items_of(stream, [3, 4]) == [batch.ms.flatten().int().tolist() for batch in (first, other)]
    stream.close()
    if not reads_files:
        assert stream.source.made == 4


def test_shares_of_processes_form_one_batch():
    alone = PatchStream(Numbers(5), 8, 7, "rgb")
    shares = [PatchStream(Numbers(5), 4, 7, "rgb", rank=rank, world_size=2) for rank in range(2)]
    for k in range(alone.batches_per_pass):
        assert sum((items_of(share, [k])[0] for share in shares), []) == items_of(alone, [k])[0]
