import numpy as np
import scipy.io
import torch

import config
from data.imresize import imresize
from data.sources import open_labelled


def test_exported_patches_equal_streamed_patches(run, raw, tmp_path):
    cut_as = {"patch_size": 16, "patch_stride": 16}
    flags = {
        "raw_dir": raw / "cave",
        "out_dir": tmp_path,
        "labelled": "balloons",
        "unlabelled": "cd",
        "test": "hairs",
        **cut_as,
    }
    code, out, _ = run("prepare", **flags, format="mat")
    assert code == 0
    assert str(tmp_path / "labelled_x4") in out
    streamed = open_labelled(tmp_path / "labelled.h5", 16, 16, 4)
    exported = open_labelled(tmp_path / "labelled_x4", 16, 16, 4)
    assert len(streamed) == len(exported) == 9
    everything = range(9), [3] * 9
    for a, b in zip(
        vars(streamed.batch(*everything)).values(), vars(exported.batch(*everything)).values(), strict=True
    ):
        # The stream turns patches before it degrades them, a reader of files after: float32 rounding.
        torch.testing.assert_close(a, b, rtol=0, atol=5e-7)
    torch.testing.assert_close(streamed.batch(*everything).gt, exported.batch(*everything).gt, rtol=0, atol=0)
    scene = scipy.io.loadmat(tmp_path / "test_x4" / "hairs.mat")
    assert (scene["gt"].shape, scene["ms"].shape, scene["gt"].dtype) == ((48, 48, 31), (12, 12, 31), np.float32)
    np.testing.assert_allclose(scene["ms"], imresize(scene["gt"], 1 / 4), atol=6e-8)
    assert not (set(scipy.io.loadmat(next((tmp_path / "unlabelled_x4").glob("*.mat")))) & {"gt"})
    code, out, _ = run("prepare", **flags, format="mat")
    assert "nothing to write" in out
    # What was moved aside by an export that was stopped does not stop the next one.
    (tmp_path / ".labelled_x4.before").mkdir()
    (tmp_path / ".labelled_x4.before" / "block_000001.mat").touch()
    code, out, _ = run("prepare", **{**flags, "patch_stride": 8}, format="mat")
    assert code == 0 and not (tmp_path / ".labelled_x4.before").exists()
    assert len(open_labelled(tmp_path / "labelled_x4", 16, 8, 4)) == 25


def test_export_uses_the_published_patch_size():
    c = config.PrepareConfig.from_flags({"raw_dir": "x", "out_dir": "y", "n_scale": 8, "dataset_name": "Chikusei"})
    assert c.patch == (128, 64)
