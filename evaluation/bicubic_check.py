"""Does a prepared test set hold what its owner thinks? Bicubic on it beside the published bicubic row."""

import torch

from data import facts
from evaluation import scoring as evaluator
from evaluation.scenes import SceneSet
from models import build_model
from tables import published

# RMSE, MPSNR, ERGAS of bicubic under protocol "published", by data set and scale; the number of scenes.
PUBLISHED = {
    (t.dataset, t.scale): tuple(map(float, t.rows["Bicubic"])) for t in published.TABLES if t.protocol == "published"
}
TEST_SCENES = {name: len(split["test"]) for name in facts.DATASETS if (split := facts.published_split(name))}
# One 8-bit scene of CAVE's twelve divided by 255 instead of 65535 lowers the mean by this many dB.
WATERCOLORS_SHIFT = 4.0166


def check_stores(stores, dataset_name, n_scale):
    """Print the check of the test store among {split: path}, or why there is none."""
    if "test" not in stores:
        print("check: there are no test scenes to check")
        return
    print(self_check(stores["test"], dataset_name, n_scale, torch.device("cpu"))[1])


def self_check(test_store, dataset_name, n_scale, device):
    """Score bicubic on a test store under protocol "published" and compare with the published row.

    Returns:
        (agrees, text): whether MPSNR agrees to 1e-3 dB and ERGAS to 1e-3 (None where nothing is published or
        the scenes are not all there), and the comparison with advice for the reader.
    """
    scenes = SceneSet(test_store, "out_dir", n_scale, "published")
    rows, _ = evaluator.evaluate(build_model("Bicubic", 0, n_scale), scenes, device, description="check")
    mean = evaluator.mean_row(rows)
    ours = f"bicubic x{n_scale} on {len(rows)} scenes: RMSE {mean['RMSE']:.4f}  MPSNR {mean['MPSNR']:.4f}  ERGAS {mean['ERGAS']:.4f}"
    row = PUBLISHED.get((dataset_name, n_scale))
    if row is None:
        return None, f"check: {ours}; no bicubic row of {dataset_name} x{n_scale} is published"
    theirs = f"published: RMSE {row[0]:.4f}  MPSNR {row[1]:.4f}  ERGAS {row[2]:.4f}"
    if len(rows) != TEST_SCENES[dataset_name]:
        return None, f"check: {ours}; {theirs} is of {TEST_SCENES[dataset_name]} scenes, so they cannot be compared"
    agrees = abs(mean["MPSNR"] - row[1]) < 1e-3 and abs(mean["ERGAS"] - row[2]) < 1e-3
    return agrees, f"check: {ours}; {theirs}: {'agrees' if agrees else _advice(mean, row, dataset_name)}"


def _advice(mean, row, dataset_name):
    shift = mean["MPSNR"] - row[1]
    if dataset_name == "Cave" and abs(shift + WATERCOLORS_SHIFT) < 0.01:
        return "DIFFERS as if watercolors were not 8-bit: was it converted? take it from the original download"
    # Values times a constant change MPSNR by 20 log10 of it and leave ERGAS alone.
    if abs(mean["ERGAS"] - row[2]) < 1e-3:
        factor = 10 ** (-shift / 20)
        return (
            f"DIFFERS as if the values were {factor:.4g} times what they should be: "
            "are they scaled already (Harvard x20), or in another range?"
        )
    return "DIFFERS in MPSNR and ERGAS: other scenes, another size or orientation, or images that were processed before"
