import pytest
from helpers import FULL

import objectives
from facts import load_published_split
from tables import differences


def test_the_published_experiment_differs_in_nothing():
    assert differences.of_run(FULL, "Cave", 4) == []
    assert objectives.list_labels(FULL) == ["RGB", "SSL"]


def test_what_a_network_does_not_have_is_no_difference():
    plain = {**FULL, "UseRGB": False, "UseUnlabelConsistency": False}
    peer = {**plain, "model_title": "3DFCNN", "loss": "mse", "learning_rate": 5e-5}
    assert differences.of_run({**peer, "n_feats": 32, "n_subs": 4}, "Cave", 4) == []
    assert differences.of_run({**peer, "loss": "l1"}, "Cave", 4) == ["loss l1 instead of mse"]


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
    assert differences.of_run({**FULL, **changes}, "Cave", 4) == [reason]


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
def test_what_cannot_change_the_result_is_no_difference(changes):
    assert differences.of_run({**FULL, **changes}, "Cave", 4) == []


def test_the_published_patches_depend_on_the_scale():
    x8 = {"patch_size": 128, "patches": {"labelled": 845, "unlabelled": 2535, "rgb": 400000}, "iterations": 8450}
    assert differences.of_run({**FULL, **x8}, "Cave", 8) == []


def test_missing_and_foreign_test_scenes_are_told():
    scenes = load_published_split("Cave")["test"]
    assert differences.of_scenes("Cave", scenes) == []
    assert differences.of_scenes("Cave", scenes[:6]) == ["6 of 12 test scenes"]
    assert differences.of_scenes("Cave", [*scenes, "balloons"]) == ["1 scenes that are no published test scenes"]
    assert differences.of_scenes("Mine", ["a"]) == []


@pytest.mark.parametrize(
    ("recorded", "traits"),
    [
        ({"normalise": "none"}, {}),
        ({"bands": "exact", "normalise": "none", "taper": 50.0}, {}),
        ({"bands": "exact", "normalise": "scene"}, {"normalise": "scene"}),
        ({"bands": "windows", "normalise": "bands"}, {"bands": "windows"}),
        ({"bands": "windows", "normalise": "none"}, {"bands": "windows", "normalise": "none"}),
    ],
)
def test_the_usual_way_to_test_is_no_difference(recorded, traits):
    assert differences.traits_of_test({"model_dir": "w.pth", **recorded}) == traits
