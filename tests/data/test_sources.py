import fixtures
import numpy as np
import pytest
import torch

from data import sources
from data.imresize import imresize
from data.sources import ScenePatches, compute_band_means, open_labelled, open_rgb, open_unlabelled
from data.spectral import RGB_TO_CHANNELS, make_lift_matrix
from data.store import Store
from data.stream import PatchStream, augment
from formats.images import read_picture
from system.errors import DataError, UserError


def bands_first(image):
    return np.asarray(image).transpose(2, 0, 1)


def test_batch_equals_patches_degraded_one_by_one(stores):
    source = open_labelled(stores / "labelled.h5", 16, 8, 4)
    assert len(source) == 2 * 5 * 5
    numbers, modes = [0, 7, 49, 26], [0, 3, 6, 1]
    batch = source.batch(numbers, modes)
    for k, (number, mode) in enumerate(zip(numbers, modes, strict=True)):
        scene, place = divmod(number, 25)
        i, j = 8 * (place // 5), 8 * (place % 5)
        cube = Store(stores / "labelled.h5").read(fixtures.LABELLED[scene]).values()
        gt = augment(cube[i : i + 16, j : j + 16], mode)
        ms = imresize(gt, 1 / 4).astype(np.float32)
        lms = imresize(ms, 4).astype(np.float32)
        np.testing.assert_array_equal(batch.gt[k].numpy(), bands_first(gt))
        np.testing.assert_allclose(batch.ms[k].numpy(), bands_first(ms), rtol=0, atol=3e-7)
        np.testing.assert_allclose(batch.lms[k].numpy(), bands_first(lms), rtol=0, atol=5e-7)
        alone = source.batch([number], [mode])
        for together, single in ((batch.ms, alone.ms), (batch.lms, alone.lms), (batch.gt, alone.gt)):
            torch.testing.assert_close(together[k], single[0], rtol=0, atol=0)


def test_unlabelled_lr_images_are_not_degraded(stores):
    source = open_unlabelled(stores / "unlabelled.h5", 16, 16, 4)
    assert len(source) == 2 * 3 * 3
    batch = source.batch([4], [0])
    cube = Store(stores / "unlabelled.h5").read("beads").values()
    assert batch.gt is None
    np.testing.assert_array_equal(batch.ms[0].numpy(), bands_first(cube[4:8, 4:8]))
    np.testing.assert_allclose(batch.lms[0].numpy(), bands_first(imresize(cube[4:8, 4:8], 4)), atol=1e-6)


def test_unlabelled_hr_scenes_are_degraded(stores):
    labelled = open_labelled(stores / "labelled.h5", 16, 16, 4).batch([1, 5], [2, 0])
    unlabelled = open_unlabelled(stores / "labelled.h5", 16, 16, 4).batch([1, 5], [2, 0])
    torch.testing.assert_close(unlabelled.ms, labelled.ms, rtol=0, atol=0)
    assert unlabelled.gt is None


def test_hr_and_lr_images_share_a_batch():
    hr, lr = fixtures.make_smooth_cube(0, 16, 16, 9), fixtures.make_smooth_cube(1, 4, 4, 9)
    source = ScenePatches([("hr", hr, 1, 1), ("lr", lr, 1, 4)], 16, 16, 4, "both", labelled=False)
    batch = source.batch([1, 0, 1], [0, 0, 0])
    np.testing.assert_allclose(batch.ms[1].numpy(), bands_first(imresize(hr, 1 / 4)), atol=1e-6)
    for k in (0, 2):
        np.testing.assert_allclose(batch.ms[k].numpy(), bands_first(lr), atol=1e-7)


def test_pictures_are_lifted_red_first(raw):
    source = open_rgb(raw / "rgb", 16, 16, 4, make_lift_matrix(8))
    batch = source.batch([0], [0])
    pixels = read_picture(raw / "rgb" / "picture0.png")[:16, :16] / 255
    np.testing.assert_allclose(batch.gt[0].numpy(), bands_first(pixels @ RGB_TO_CHANNELS), atol=1e-6)


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_released_patches_are_read_unchanged(tmp_path, version):
    folder = fixtures.write_patches(tmp_path / "patches", version=version)
    source = open_labelled(folder, 64, 32, 4)
    assert len(source) == 3
    batch = source.batch([2, 0], [5, 0])
    for k, (number, mode) in enumerate(((2, 5), (0, 0))):
        arrays = fixtures.make_patch_arrays(50 + number)
        for tensor, key in ((batch.gt, "gt"), (batch.ms, "ms"), (batch.lms, "ms_bicubic")):
            np.testing.assert_array_equal(tensor[k].numpy(), bands_first(augment(arrays[key], mode)))


def test_files_read_on_demand_give_equal_batches(tmp_path, monkeypatch):
    folder = fixtures.write_patches(tmp_path / "patches")
    held = PatchStream(open_labelled(folder, 64, 32, 4), 4, 0, "labelled")
    monkeypatch.setattr(sources, "get_free_memory", lambda: 0)
    read = PatchStream(open_labelled(folder, 64, 32, 4), 4, 0, "labelled")
    assert read.source.reads_files
    assert not held.source.reads_files
    for k in (0, 1, 2, 5, 3, 4):
        torch.testing.assert_close(read.batch(k).gt, held.batch(k).gt, rtol=0, atol=0)
    read.close()


@pytest.mark.parametrize("split", ["labelled", "unlabelled", "test"])
def test_scenes_read_from_disk_give_equal_batches(stores, monkeypatch, split):
    def stream():
        make = open_unlabelled if split == "unlabelled" else open_labelled
        return PatchStream(make(stores / f"{split}.h5", 16, 16, 4), 8, 0, split)

    held = stream()
    monkeypatch.setattr(sources, "get_free_memory", lambda: 0)
    chunked = stream()
    assert chunked.source.reads_files
    assert not held.source.reads_files
    for k in (0, 1, 3):
        torch.testing.assert_close(chunked.batch(k).lms, held.batch(k).lms, rtol=0, atol=0)
    chunked.close()


def test_unlabelled_folders_need_no_gt(tmp_path):
    folder = fixtures.write_patches(tmp_path / "patches", keys=("ms", "ms_bicubic"))
    batch = open_unlabelled(folder, 64, 32, 4).batch([1], [0])
    assert batch.gt is None
    with pytest.raises(UserError, match="but not gt"):
        open_labelled(folder, 64, 32, 4)


def test_limits_use_the_first_patches_only(tmp_path, stores, capsys):
    folder = fixtures.write_patches(tmp_path / "patches", count=4)
    source = open_labelled(folder, 64, 32, 4, limit=3)
    assert [p.name for p in source.files] == ["block_1.mat", "block_2.mat", "block_3.mat"]
    assert "first 3 of 4" in "".join(capsys.readouterr())
    assert len(open_labelled(stores / "labelled.h5", 16, 16, 4, limit=11)) == 11
    assert "first 11 of 18" in "".join(capsys.readouterr())
    assert len(open_labelled(folder, 64, 32, 4, limit=3396)) == 4
    assert "".join(capsys.readouterr()).count("are used") == 0


def test_scenes_that_cannot_be_cut_are_refused(stores, raw):
    with pytest.raises(UserError, match="patch_size"):
        open_labelled(stores / "labelled.h5", 64, 32, 4)
    with pytest.raises(UserError, match="LR image for x4"):
        open_unlabelled(stores / "unlabelled.h5", 16, 16, 8)
    with pytest.raises(UserError, match="LR image without HR"):
        open_labelled(stores / "unlabelled.h5", 16, 16, 4)


def test_sources_have_the_wavelengths_of_stores(stores, tmp_path):
    source = open_labelled(stores / "labelled.h5", 16, 16, 4)
    np.testing.assert_array_equal(source.wavelengths, range(400, 701, 10))
    assert open_labelled(fixtures.write_patches(tmp_path / "patches"), 64, 32, 4).wavelengths is None


def test_band_means_are_those_of_all_patches(stores):
    source = open_labelled(stores / "labelled.h5", 16, 16, 4)
    everything = source.batch(range(len(source)), [0] * len(source)).gt
    torch.testing.assert_close(compute_band_means(source), everything.double().mean((0, 2, 3)), rtol=1e-6, atol=0)


def test_parameters_become_flags_on_the_command_line(stores):
    with pytest.raises(DataError) as caught:
        open_labelled(stores / "labelled.h5", 64, 32, 4)
    assert caught.value.path == stores / "labelled.h5"
    assert "set a smaller patch_size" in str(caught.value)
    assert "set a smaller --patch_size" in caught.value.format_for_command_line()


def test_images_smaller_than_a_patch_are_named(capsys):
    sizes = {"big": (16, 16), "low": (15, 40), "narrow": (40, 15)}
    scenes = [(name, np.ones((*size, 5), np.float32), 1.0, 1) for name, size in sizes.items()]
    assert len(ScenePatches(scenes, 16, 16, 4, "st/labelled.h5")) == 1
    said = capsys.readouterr().out
    assert "st/labelled.h5: skipping 2 of 3 images smaller than a patch of 16 pixels (low, narrow)" in said
    ScenePatches(scenes[:1], 16, 16, 4, "st/labelled.h5")
    assert "smaller" not in capsys.readouterr().out
