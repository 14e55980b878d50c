import pytest
import torch

from models import blocks, build_model
from models import weights as checkpoint


def test_outputs_equal_the_released_network(golden):
    loaded = checkpoint.load(golden.weights_path)
    state, architecture = loaded.model.state_dict(), loaded.architecture
    model = build_model(**architecture)
    checkpoint.load_strictly(model, state, golden.weights_path)
    with torch.no_grad():
        assert (model(golden["ms"], golden["lms"]) - golden["spectral"]).abs().max() < 1e-5
        assert (model(golden["rgb_ms"], golden["rgb_lms"], "rgb") - golden["rgb"]).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("n_colors", "n_scale", "parameters"), [(31, 4, 21_460_975), (31, 8, 23_821_295), (128, 4, 22_131_536)]
)
def test_published_parameter_counts(n_colors, n_scale, parameters):
    with torch.device("meta"):
        model = build_model("DeepShare", n_colors, n_scale)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_group_starts_equal_the_published_ones():
    assert blocks.compute_group_starts(31, 8, 2) == [0, 6, 12, 18, 23]
    assert len(blocks.compute_group_starts(128, 8, 2)) == 21
    assert blocks.compute_group_starts(8, 8, 2) == [0]
    assert blocks.compute_group_starts(9, 8, 7) == [0, 1]


def test_merging_untouched_groups_gives_the_image_back():
    x = torch.rand(2, 31, 3, 4)
    starts = blocks.compute_group_starts(31, 8, 2)
    merged = blocks.merge_groups(blocks.gather_groups(x, starts, 8), blocks.make_merge_matrix(starts, 8, 31))
    torch.testing.assert_close(merged, x)


def test_merging_takes_the_mean_where_groups_overlap():
    # Groups of 2 bands over 3: band 1 is in both and gets the mean of 10 and 20.
    groups = torch.tensor([[1.0, 10.0], [20.0, 3.0]]).reshape(2, 2, 1, 1)
    assert blocks.merge_groups(groups, blocks.make_merge_matrix([0, 1], 2, 3)).flatten().tolist() == [1, 15, 3]


@pytest.mark.parametrize("n_scale", [2, 3, 4, 6, 8, 16])
def test_every_scale_and_modality_has_correct_size(n_scale):
    model = build_model("DeepShare", 10, n_scale, n_feats=4, n_subs=4, n_ovls=1, n_blocks=1)
    side = 3 * n_scale
    assert model(torch.rand(2, 10, 3, 3), torch.rand(2, 10, side, side)).shape == (2, 10, side, side)
    assert model(torch.rand(2, 4, 3, 3), torch.rand(2, 4, side, side), modality="rgb").shape == (2, 4, side, side)


@pytest.mark.parametrize(
    "flags",
    [
        {"n_scale": 5},
        {"n_subs": 12},
        {"n_ovls": 8},
        {"n_blocks": 0},
        {"name": "DeepShave"},
    ],
)
def test_impossible_architectures_are_refused(flags):
    arguments = {"name": "DeepShare", "n_colors": 10, "n_scale": 4, "n_feats": 4, **flags}
    with pytest.raises(ValueError, match=r"n_scale|n_subs|n_ovls|n_blocks|model_title"):
        build_model(**arguments)


def test_n_blocks_changes_every_body():
    for n_blocks in (1, 3, 5):
        state = build_model("DeepShare", 8, 4, n_feats=4, n_blocks=n_blocks).state_dict()
        for body in ("branch1", "branch2", "trunk", "trunk_RGB"):
            assert f"{body}.body.net{n_blocks}.spa.body.0.weight" in state
            assert f"{body}.body.net{n_blocks + 1}.spa.body.0.weight" not in state


def test_portions_of_groups_change_nothing_at_inference(golden_x4, monkeypatch):
    loaded = checkpoint.load(golden_x4.weights_path)
    state, architecture = loaded.model.state_dict(), loaded.architecture
    model = build_model(**architecture)
    model.load_state_dict(state)
    with torch.no_grad():
        at_once = model(golden_x4["ms"], golden_x4["lms"])
        monkeypatch.setattr(blocks, "VALUES_PER_CHUNK", 1)
        chunked = model(golden_x4["ms"], golden_x4["lms"])
    torch.testing.assert_close(chunked, at_once, rtol=0, atol=1e-6)


def test_identity_start_is_near_the_bicubic_image():
    torch.manual_seed(0)
    ms, lms = torch.rand(1, 10, 8, 8), torch.rand(1, 10, 32, 32)
    plain = build_model("DeepShare", 10, 4, n_feats=16)
    near = build_model("DeepShare", 10, 4, n_feats=16)
    near.init_identity()
    assert near.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():
        assert (near(ms, lms) - lms).abs().mean() < 0.1 * (plain(ms, lms) - lms).abs().mean()


def test_identity_start_with_residual_equals_bicubic():
    model = build_model("DeepShare", 10, 4, n_feats=4, global_residual=True)
    model.init_identity()
    lms = torch.rand(1, 10, 8, 8)
    assert torch.equal(model(torch.rand(1, 10, 2, 2), lms), lms)


def test_identity_start_needs_enough_features():
    with pytest.raises(ValueError, match="n_feats"):
        build_model("DeepShare", 31, 4, n_feats=16).init_identity()


def test_global_residual_adds_bicubic_and_marks_weights():
    torch.manual_seed(0)
    plain = build_model("DeepShare", 8, 4, n_feats=4)
    residual = build_model("DeepShare", 8, 4, n_feats=4, global_residual=True)
    residual.load_state_dict(plain.state_dict(), strict=False)
    ms, lms = torch.rand(1, 8, 4, 4), torch.rand(1, 8, 16, 16)
    with torch.no_grad():
        for modality in ("spectral", "rgb"):
            torch.testing.assert_close(residual(ms, lms, modality), plain(ms, lms, modality) + lms)
    assert residual.state_dict().keys() - plain.state_dict().keys() == {"global_residual"}


def test_unshared_branches_exist_per_group_and_rgb():
    model = build_model("DeepShare", 14, 4, n_feats=4, use_share=False)
    assert len(model.branch1) == len(model.branch2) == 3
    ms, lms = torch.rand(1, 14, 4, 4), torch.rand(1, 14, 16, 16)
    model(ms, lms).sum().backward()
    used = [
        p.grad is not None for p in (model.branch1[0].head.bias, model.branch1[1].head.bias, model.branch1[2].head.bias)
    ]
    assert used == [True, True, False]


def test_bicubic_is_the_bicubic_image():
    lms = torch.rand(1, 5, 8, 8)
    assert build_model("Bicubic", 5, 4)(torch.rand(1, 5, 2, 2), lms) is lms
