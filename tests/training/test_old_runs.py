"""Runs begun by commit fd353b2 are resumed; golden/fd353b2 contains one as that version left it."""

import shutil

import pytest
from helpers import GOLDEN, load_final_weights, read_rows

OLD = GOLDEN / "fd353b2"
# As the run was begun; that program stopped after iteration 3, and its previous.pth is of iteration 2.
FLAGS = {
    **{"n_feats": 2, "n_blocks": 1, "patch_size": 16, "patch_stride": 4, "batch_size": 2, "epochs": 2},
    **{"UseRGB": 1, "theta_rgb": 1, "UseLabeledSpectralMixUp": 1, "UseUnlabelConsistency": 1, "theta_unlabel": 1},
    **{"train_dir_mslabel": OLD / "labelled.h5", "train_dir_msunlabel": OLD / "unlabelled.h5"},
    **{"train_dir_rgb": OLD / "rgb", "cuda": 0, "precision": "fp32", "log_interval": 1},
}
TITLE = "Cave_DeepShare_Blocks=1_Subs8_Ovls2_Feats=2_x4"


@pytest.mark.parametrize(("damaged", "iteration"), [("", 3), ("last.pth", 2)])
def test_run_of_commit_fd353b2_is_resumed(run, tmp_path, damaged, iteration):
    shutil.unpack_archive(OLD / "run.zip", tmp_path)
    run_dir = tmp_path / "runs" / TITLE
    for weights in run_dir.glob("*_epoch_*.pth"):
        weights.unlink()
    if damaged:
        (run_dir / damaged).write_bytes(b"")
    code, out, err = run("train", **FLAGS, save_dir=tmp_path / "runs", resume="last", max_iterations=5)
    assert code == 0, err
    assert f"resuming after iteration {iteration}" in out + err
    # That program's weights after iteration 5, on a machine that rounds otherwise; two steps moved them by up to 8e-4.
    weights, expected = load_final_weights(run_dir), load_final_weights(tmp_path / "expected")
    assert weights.keys() == expected.keys()
    assert max((weights[k] - expected[k]).abs().max() for k in expected) < 1e-6
    rows, expected = read_rows(run_dir / "log.csv"), read_rows(tmp_path / "expected" / "log.csv")
    assert [row["iteration"] for row in rows] == ["1", "2", "3", "4", "5"]
    for row, other in zip(rows, expected, strict=True):
        assert row.keys() == other.keys()
        assert [float(row[k]) for k in row] == pytest.approx([float(other[k]) for k in row], rel=1e-5)
