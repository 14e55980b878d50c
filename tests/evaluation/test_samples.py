import json

import numpy as np
import pytest
import torch
from helpers import read_scene, read_scene_names

from data.imresize import imresize
from evaluation import samples
from evaluation.scene_sets import TestScene
from system.errors import UserError


def test_busiest_window_lies_on_multiples_of_step():
    image = np.zeros((2, 40, 60), np.float32)
    assert samples.busiest_window(image, 8, 4) == (0, 0)
    image[1, 21, 33] = 1
    # The dot's four slopes begin in rows 20 and 21, columns 32 and 33: windows from 16 to 20 and 28 to 32 hold them.
    assert samples.busiest_window(image, 8, 4) == (16, 28)
    assert samples.busiest_window(image, 8, 8) == (16, 32)


def test_many_faint_edges_outweigh_one_strong_edge():
    image = np.zeros((1, 16, 64), np.float32)
    image[0, :, 8:12] = 1
    image[0, :, 40:56:2] = 0.2
    assert samples.busiest_window(image, 16, 4)[1] == 40


def scene(name, bands, height=128, width=144):
    generator = torch.Generator().manual_seed(bands)
    gt = torch.rand(1, bands, height, width, generator=generator)
    return TestScene(name, gt[:, :, ::4, ::4], gt * 0.5, gt, [], None)


def test_up_to_six_scenes_are_kept():
    few, many = samples.Samples(4), samples.Samples(4)
    for k in range(8):
        few.add(scene(f"s{k}", 31), np.zeros((128, 144, 31), np.float32))
        many.add(scene(f"s{k}", 128), np.zeros((128, 144, 128), np.float32))
    assert [s.scene for s in few.kept] == [f"s{k}" for k in range(6)]
    assert [s.scene for s in many.kept] == ["s0"]
    assert few.kept[0].gt.shape == (31, 96, 96)
    assert few.kept[0].ms.shape == (31, 24, 24)
    assert list(few.bands) == [f"s{k}" for k in range(8)]
    assert few.wavelengths is None


def test_test_writes_crops_and_psnr_per_band(run, stores, tmp_path):
    flags = {"test_dir": stores / "test.h5", "result_path": tmp_path, "protocol": "published"}
    code, out, _ = run("test", model_title="Bicubic", **flags)
    assert code == 0
    path = tmp_path / "Bicubic_x4_samples.npz"
    assert str(path) in out
    results = json.loads((tmp_path / "Bicubic_x4_results.json").read_text())
    assert results["dataset"] == "Cave"
    assert results["wavelengths"] == list(range(400, 701, 10))
    for name, values in results["bands"].items():
        assert np.mean(values) == pytest.approx(results["scenes"][name]["MPSNR"])
    found = samples.read(path)
    assert [s.scene for s in found] == read_scene_names(stores / "test.h5")
    for sample in found:
        gt = read_scene(stores / "test.h5", sample.scene).values("published")
        ms = imresize(gt, 1 / 4).astype(np.float32)
        np.testing.assert_allclose(sample.gt, gt.transpose(2, 0, 1), rtol=1e-3)
        np.testing.assert_allclose(sample.ms, ms.transpose(2, 0, 1), rtol=1e-3, atol=1e-6)
        np.testing.assert_array_equal(sample.output, sample.lms)
        # Nearest to 640, 550 and 460 nm.
        assert (sample.corner, sample.shown) == ((0, 0), [24, 15, 6])


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_damaged_crops_are_refused(tmp_path, content):
    path = tmp_path / "samples.npz"
    if content is None:
        np.savez(path, other=1)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as crops"):
        samples.read(path)
