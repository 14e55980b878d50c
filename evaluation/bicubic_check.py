"""Check of a prepared test set: bicubic on it compared with the published bicubic row."""

from collections.abc import Mapping
from pathlib import Path

import torch

from evaluation import scoring
from evaluation.published import bicubic_row
from evaluation.results import mean_row
from evaluation.scene_sets import SceneSet
from facts import load_published_split
from models import build_model

# One 8-bit scene of CAVE's twelve divided by 255 instead of 65535 lowers the mean by this many dB.
WATERCOLORS_SHIFT = 4.0166


def check_stores(stores: Mapping[str, Path], dataset_name: str, n_scale: int) -> None:
    """Print the check of the test store among {split: path}, or that it is missing."""
    if "test" not in stores:
        print("check: there are no test scenes to check")
        return
    row = bicubic_row(dataset_name, n_scale)
    print(self_check(stores["test"], dataset_name, n_scale, torch.device("cpu"), row)[1])


def self_check(
    test_store: Path, dataset_name: str, n_scale: int, device: torch.device, published: Mapping[str, float] | None
) -> tuple[bool | None, str]:
    """Score bicubic on a test store under protocol "published" and compare with the published row, if there is one.

    Returns:
        (agrees, text): True if MPSNR agrees to 1e-3 dB and ERGAS to 1e-3, None without a published row or without
        all of its scenes; and the comparison with advice for the reader.
    """
    scenes = SceneSet(test_store, "out_dir", n_scale, "published")
    rows, _ = scoring.evaluate(build_model("Bicubic", 0, n_scale), scenes, device, description="check")
    mean = mean_row(rows)
    ours = f"bicubic x{n_scale} on {len(rows)} scenes: {_in_words(mean)}"
    if published is None:
        return None, f"check: {ours}; no bicubic row of {dataset_name} x{n_scale} is published"
    theirs = f"published: {_in_words(published)}"
    split = load_published_split(dataset_name)
    if split and len(rows) != len(split["test"]):
        return None, f"check: {ours}; {theirs} is of {len(split['test'])} scenes, so they cannot be compared"
    agrees = abs(mean["MPSNR"] - published["MPSNR"]) < 1e-3 and abs(mean["ERGAS"] - published["ERGAS"]) < 1e-3
    return agrees, f"check: {ours}; {theirs}: {'agrees' if agrees else _advice(mean, published, dataset_name)}"


def _in_words(row: Mapping[str, float]) -> str:
    """Format a row with the digits of the published tables."""
    return "  ".join(f"{metric} {row[metric]:.4f}" for metric in ("RMSE", "MPSNR", "ERGAS"))


def _advice(mean: Mapping[str, float], published: Mapping[str, float], dataset_name: str) -> str:
    shift = mean["MPSNR"] - published["MPSNR"]
    if dataset_name == "Cave" and abs(shift + WATERCOLORS_SHIFT) < 0.01:
        return "DIFFERS as if watercolors were not 8-bit: was it converted? take it from the original download"
    # Values times a constant change MPSNR by 20 log10 of it and leave ERGAS alone.
    if abs(mean["ERGAS"] - published["ERGAS"]) < 1e-3:
        factor = 10 ** (-shift / 20)
        return (
            f"DIFFERS as if the values were {factor:.4g} times what they should be: "
            "are they scaled already (Harvard x20), or in another range?"
        )
    return "DIFFERS in MPSNR and ERGAS: other scenes, another size or orientation, or images that were processed before"
