import pytest
from helpers import FULL

import objectives
from facts import load_published_split
from tables.reduced import compare_run, compare_scenes, describe_in_caption, group_rows, summarize


def test_the_published_experiment_differs_in_nothing():
    assert compare_run(FULL, "Cave", 4) == []
    assert objectives.list_labels(FULL) == ["RGB", "SSL"]


def test_settings_of_other_networks_are_no_difference():
    plain = {**FULL, "UseRGB": False, "UseUnlabelConsistency": False}
    peer = {**plain, "model_title": "3DFCNN", "loss": "mse", "learning_rate": 5e-5}
    assert compare_run({**peer, "n_feats": 32, "n_subs": 4}, "Cave", 4) == []
    assert compare_run({**peer, "loss": "l1"}, "Cave", 4) == ["loss l1 instead of mse"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n_feats": 8}, "n_feats 8 instead of 256"),
        ({"epochs": 5, "iterations": 5625}, "epochs 5 instead of 10"),
        ({"iterations": 600}, "600 of 11,250 iterations"),
        ({"theta_rgb": 6}, "theta_rgb 6 instead of 3"),
        ({"patch_size": 32}, "patch_size 32 instead of 64"),
        ({"global_residual": True}, "global_residual 1 instead of 0"),
        ({"init": "identity"}, "init identity instead of default"),
        ({"learning_rate": 0.001}, "learning_rate 0.001 instead of 0.0001"),
        ({"dataset_name": "Harvard"}, "trained on Harvard"),
        ({"rgb_is_halved": False}, "RGB pictures not halved"),
        (
            {"patches": {**FULL["patches"], "labelled": 450}, "iterations": 4500},
            "450 labelled patches, fewer than 1,125",
        ),
        ({"patches": {**FULL["patches"], "rgb": 4900}}, "4,900 rgb patches, fewer than 100,000"),
        ({"model_title": "MCNet", "n_feats": 16, "n_blocks": 1, "loss": "l1"}, "n_feats 16 instead of 64"),
    ],
)
def test_each_difference_is_named(changes, reason):
    assert compare_run({**FULL, **changes}, "Cave", 4) == [reason]


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1, "save_dir": "elsewhere", "cuda": "0", "log_interval": 5, "max_iterations": 20000},
        {"UseRGB": False, "theta_rgb": 6},
        {
            **{"model_title": "GDRRN", "n_feats": 128, "loss": "mse_sam", "weight_decay": 1e-4},
            "clip_gradient": 0.005,
        },
    ],
)
def test_settings_without_effect_are_no_difference(changes):
    assert compare_run({**FULL, **changes}, "Cave", 4) == []


def test_the_published_patches_depend_on_the_scale():
    x8 = {"patch_size": 128, "patches": {"labelled": 845, "unlabelled": 2535, "rgb": 400000}, "iterations": 8450}
    assert compare_run({**FULL, **x8}, "Cave", 8) == []


def test_missing_and_foreign_scenes_are_named():
    scenes = load_published_split("Cave")["test"]
    assert compare_scenes("Cave", scenes) == []
    assert compare_scenes("Cave", scenes[:6]) == ["6 of 12 test scenes"]
    assert compare_scenes("Cave", [*scenes, "balloons"]) == ["1 scenes that are no published test scenes"]
    assert compare_scenes("Mine", ["a"]) == []


def test_reduced_rows_are_named_in_captions():
    assert describe_in_caption({"a": []}) == ""
    assert describe_in_caption({"a": ["few scenes"], "b": []}) == "; reduced: a"
    assert describe_in_caption({"a": ["few scenes"], "b": ["few scenes"]}) == "; all rows reduced"


def test_rows_of_the_same_difference_are_grouped():
    reasons = {"a": ["x", "y"], "b": ["x"], "c": ["x"], "d": []}
    assert group_rows(reasons) == [("every row but d", ["x"]), ("a", ["y"])]
    assert group_rows({"a": ["x"], "b": ["x"]}) == [("every row", ["x"])]


def test_summary_counts_reduced_rows():
    assert summarize([[], []]) == ""
    assert summarize([["x"], []]) == "1 of them is"
    assert summarize([["x"], ["x"]]) == "All of them are"
