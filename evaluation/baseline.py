"""Scores of bicubic upsampling beside those of a network, computed once and kept in results files."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from evaluation import results, scoring
from evaluation.samples import Samples
from evaluation.scene_sets import SceneSet
from models import build_model
from training.processes import World
from utils import print_line

PRINTED = ("MPSNR", "SAM", "ERGAS")
SHORT_RUN_ADVICE = "train longer, or with --global_residual 1 --init identity, by which short runs converge"


def score_bicubic(scenes: SceneSet, folder: Path, world: World) -> dict[str, Any]:
    """Return the scores of bicubic upsampling on the scenes, from a results file of the same scenes if there is one.

    Args:
        scenes: the test scenes.
        folder: of the results that are about to be written; files there and in its siblings are searched.
        world: the processes, which share the scenes.

    Returns:
        The entry "bicubic" of results.json: fingerprint, scenes {name: metrics}, bands {name: PSNR of each band}.
    """
    fingerprint = _fingerprint(scenes)
    kept: dict[str, Any] | None = world.on_main(lambda: _find_kept(fingerprint, folder))
    if kept:
        return kept
    keep = Samples(scenes.n_scale)
    bicubic = build_model("Bicubic", 0, scenes.n_scale)
    rows, _ = scoring.evaluate(bicubic, scenes, torch.device("cpu"), description="bicubic", world=world, keep=keep)
    return {"fingerprint": fingerprint, "scenes": rows, "bands": keep.bands}


def print_gain(rows: results.Rows, bicubic: results.Rows) -> None:
    """Print the mean metrics beside those of bicubic, and a warning if the network is worse."""
    mean, reference = results.mean_row(rows), results.mean_row(bicubic)
    words = [f"{metric} {mean[metric]:.4f} ({mean[metric] - reference[metric]:+.4f})" for metric in PRINTED]
    print_line(f"mean, and difference to bicubic: {', '.join(words)}")
    if mean["MPSNR"] < reference["MPSNR"]:
        print_line(
            f"warning: {reference['MPSNR'] - mean['MPSNR']:.2f} dB below bicubic upsampling, so these weights are not "
            f"usable; {SHORT_RUN_ADVICE}"
        )


def _fingerprint(scenes: SceneSet) -> str:
    """Return a hash of all that the scores depend on; "" if the scenes are not those of a store."""
    if not scenes.path.is_file():
        return ""
    contents = [scenes.names, dict(scenes.contents.hashes), scenes.n_scale, scenes.protocol, scenes.ergas_ratio]
    return hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:16]


def _find_kept(fingerprint: str, folder: Path) -> dict[str, Any] | None:
    """Return the scores with a fingerprint from the results files in the folder and its siblings, or None."""
    if not fingerprint:
        return None
    for path in (*folder.glob("*results.json"), *folder.parent.glob("*/*results.json")):
        try:
            kept = results.read(path).bicubic
        except (OSError, ValueError):
            continue
        if kept and kept["fingerprint"] == fingerprint:
            return dict(kept)
    return None
