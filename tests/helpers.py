"""What the tests share."""

import csv
from pathlib import Path

import torch

from data.patches import Batch
from models import weights as checkpoint

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden"

# Flags of the smallest training runs.
TINY = {"n_feats": 4, "patch_size": 16, "patch_stride": 16, "batch_size": 8}
# The folder of such a run.
TITLE = "Cave_DeepShare_Blocks=3_Subs8_Ovls2_Feats=4_x4"


def everything_on(stores, raw):
    """Flags of a training run with all four losses that takes a second or two; save_dir is left to the caller."""
    return {
        **TINY,
        "train_dir_mslabel": stores / "labelled.h5",
        "train_dir_msunlabel": stores / "unlabelled.h5",
        "train_dir_rgb": raw / "rgb",
        "UseRGB": 1,
        "theta_rgb": 1,
        "UseLabeledSpectralMixUp": 1,
        "UseUnlabelConsistency": 1,
        "theta_unlabel": 1,
    }


def words_of(flags):
    """Flags as the words of a command line."""
    return [f"--{name}={value}" for name, value in flags.items()]


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
