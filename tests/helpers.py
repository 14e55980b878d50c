"""What the tests share."""

import csv
from pathlib import Path

import fixtures
import numpy as np
import torch
from spectral.io import envi
from torch import nn

from data.patches import Batch
from models import build_model
from models import weights as checkpoint

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden"

# Flags of the smallest training runs.
TINY = {"n_feats": 4, "patch_size": 16, "patch_stride": 16, "batch_size": 8}
# The folder of such a run.
TITLE = "Cave_DeepShare_Blocks=3_Subs8_Ovls2_Feats=4_x4"


def rows_of(path):
    with open(path, newline="") as f:
        return list(csv.DictReader(f))


def final_weights(run_dir):
    return checkpoint.load_state(next(run_dir.glob("*_epoch_*.pth")))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class OneBatch:
    """A stream that hands out one batch again and again."""

    batches_per_pass = 2

    def __init__(self, *tensors):
        self._batch = Batch(*tensors)

    def batch(self, k):
        return self._batch


# What config.json says of the published experiment on CAVE, x4, with RGB and SSL.
FULL = {
    "dataset_name": "Cave",
    "model_title": "DeepShare",
    "n_scale": 4,
    "n_feats": 256,
    "patch_size": 64,
    "patch_stride": 32,
    "UseRGB": True,
    "theta_rgb": 3,
    "UseUnlabelConsistency": True,
    "theta_unlabel": 3,
    "UseLabeledSpectralMixUp": False,
    "batch_size": 8,
    "epochs": 10,
    "iterations": 11250,
    "patches": {"labelled": 1125, "rgb": 400000, "unlabelled": 3375},
    "seed": 3000,
    "save_dir": "anywhere",
}

# Band centres in nm of most weights here.
VISIBLE = np.arange(400, 701, 10.0)
# An LR scene of a user's own: uint16, 28 x 28, made 112 x 112 by `tiny_network`.
OWN_CUBE = (fixtures.smooth_cube(3, 28, 28) * 60000).round().astype(np.uint16)


def tiny_network(n_colors=31, n_scale=4, gain=0.1):
    """A network that does something: fresh weights around a global residual."""
    torch.manual_seed(5)
    model = build_model("DeepShare", n_colors, n_scale, n_feats=4, global_residual=True).eval()
    model.final.weight.data *= gain
    return model


class StubNetwork(nn.Module):
    """A network that answers lms plus what a function makes of it."""

    def __init__(self, n_colors, detail, n_scale=2):
        super().__init__()
        self.n_colors, self.n_scale, self.detail, self.calls = n_colors, n_scale, detail, 0

    def forward(self, ms, lms, modality="spectral"):
        self.calls += 1
        return lms + self.detail(lms)


def bicubic_network(n_colors, n_scale=2):
    return StubNetwork(n_colors, torch.zeros_like, n_scale)


def reflectance_envi(folder, **metadata):
    """An ENVI scene of int16 up to 10000 with a hole; returns (path, cube)."""
    folder.mkdir(parents=True, exist_ok=True)
    cube = (fixtures.smooth_cube(3, 28, 28) * 10000).round().astype(np.int16)
    metadata = {"wavelength": list(VISIBLE), "wavelength units": "Nanometers", "data ignore value": -9999, **metadata}
    cube[3:5, 4:6] = -9999
    envi.save_image(str(folder / "scene.hdr"), cube, dtype=np.int16, interleave="bil", metadata=metadata)
    return folder / "scene.hdr", cube
