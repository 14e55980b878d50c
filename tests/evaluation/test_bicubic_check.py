import math

import fixtures
import numpy as np
import pytest
import torch

from data.imresize import imresize
from evaluation import bicubic_check


@pytest.fixture(scope="module")
def row():
    """RMSE, MPSNR and ERGAS of bicubic on the two test scenes under protocol "published", worked out here."""
    gts = [(fixtures.make_smooth_cube(k) * levels).round() / 65535 for k, levels in ((4, 65535), (5, 255))]
    scores = []
    for gt in (g.astype(np.float32) for g in gts):
        error = imresize(imresize(gt, 1 / 4).astype(np.float32), 4).astype(np.float32).astype(np.float64) - gt
        mse = (error**2).mean(axis=(0, 1))
        scores.append(
            (
                np.sqrt(mse.mean()),
                np.mean(10 * np.log10(1 / mse)),
                25 * np.sqrt(np.mean(mse / gt.astype(np.float64).mean(axis=(0, 1)) ** 2)),
            )
        )
    return np.mean(scores, axis=0).tolist()


@pytest.mark.parametrize(
    ("factor", "shifts", "agrees", "words"),
    [
        (1, (0, 0), True, "agrees"),
        (1, (4.0166, 0), False, "watercolors"),
        (20, (20 * math.log10(20), 0), False, "20 times what they should be"),
        (1, (1, 1), False, "other scenes"),
    ],
)
def test_published_row_is_compared_with_advice(stores, row, monkeypatch, factor, shifts, agrees, words):
    monkeypatch.setattr(bicubic_check, "load_published_split", lambda _: {"test": fixtures.TEST})
    published = {"RMSE": row[0] / factor, "MPSNR": row[1] + shifts[0], "ERGAS": row[2] + shifts[1]}
    found, text = bicubic_check.self_check(stores / "test.h5", "Cave", 4, torch.device("cpu"), published)
    assert found is agrees
    assert words in text


def test_comparison_needs_all_scenes_and_published_row(stores):
    row = {"RMSE": 0.0185, "MPSNR": 38.738, "ERGAS": 5.2719}
    found, text = bicubic_check.self_check(stores / "test.h5", "Cave", 4, torch.device("cpu"), row)
    assert found is None
    assert "bicubic x4 on 2 scenes: RMSE" in text
    assert "published: RMSE 0.0185  MPSNR 38.7380  ERGAS 5.2719 is of 12 scenes, so they cannot be compared" in text
    found, text = bicubic_check.self_check(stores / "test.h5", "Chikusei", 4, torch.device("cpu"), None)
    assert found is None
    assert "no bicubic row of Chikusei x4 is published" in text


def test_prepare_checks_the_test_store_when_asked(run, raw, tmp_path):
    flags = {"raw_dir": raw / "cave", "out_dir": tmp_path, "test": "jelly_beans,watercolors", "check": 1}
    code, out, _ = run("prepare", **flags)
    assert code == 0
    assert "published: RMSE 0.0185  MPSNR 38.7380  ERGAS 5.2719 is of 12 scenes" in out
