import pytest
from helpers import ROOT

import losses
import mains
import objectives
from config import CONFIGS, TestConfig, TrainConfig
from config.page import flags_page
from system.errors import UserError
from trainer import published_rate


def train_config(**flags):
    return TrainConfig.from_flags({"train_dir_mslabel": "x", **flags})


def test_defaults_are_the_published_settings():
    c = train_config()
    published = {
        "batch_size": 8, "epochs": 10, "n_feats": 256, "n_blocks": 3, "n_subs": 8, "n_ovls": 2, "n_scale": 4,
        "learning_rate": 1e-4, "weight_decay": 0.0, "seed": 3000, "theta_LabeledSpectralMixUp": 1, "theta_rgb": 3,
        "theta_unlabel": 3, "joint_loss": False, "global_residual": False, "init": "default", "cuda": "auto",
        "loss": "hybrid", "clip_gradient": 0.0,
    }  # fmt: skip
    assert {name: getattr(c, name) for name in published} == published


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("SSPSR", (256, 3, "hybrid", 1e-4, 0.0, 0.0)),
        ("GDRRN", (128, 3, "mse_sam", 1e-4, 1e-4, 0.005)),
        ("3DFCNN", (64, 3, "mse", 5e-5, 0.0, 0.0)),
        ("MCNet", (64, 1, "l1", 1e-4, 0.0, 0.0)),
    ],
)
def test_baselines_default_to_their_published_settings(name, published):
    settings = ("n_feats", "n_blocks", "loss", "learning_rate", "weight_decay", "clip_gradient")
    c = train_config(model_title=name)
    assert tuple(getattr(c, s) for s in settings) == published
    given = {
        "n_feats": 8,
        "n_blocks": 2,
        "loss": "hybrid",
        "learning_rate": 1.0,
        "weight_decay": 1.0,
        "clip_gradient": 1.0,
    }
    c = train_config(model_title=name, **given)
    assert {s: getattr(c, s) for s in settings} == given


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("DeepShare", "Cave_DeepShare_Blocks=3_Subs8_Ovls2_Feats=256_x4"),
        ("SSPSR", "Cave_SSPSR_Blocks=3_Subs8_Ovls2_Feats=256_x4"),
        ("GDRRN", "Cave_GDRRN_Feats=128_x4"),
        ("3DFCNN", "Cave_3DFCNN_x4"),
        ("MCNet", "Cave_MCNet_Blocks=1_Feats=64_x4"),
    ],
)
def test_run_titles_contain_the_networks_settings(name, title):
    assert train_config(model_title=name).run_title == title


@pytest.mark.parametrize(
    ("flags", "patch"),
    [
        ({}, (64, 32)),
        ({"n_scale": 8}, (128, 32)),
        ({"n_scale": 8, "dataset_name": "Chikusei"}, (128, 64)),
        ({"n_scale": 3}, (48, 30)),
        ({"patch_size": 32, "patch_stride": 16}, (32, 16)),
    ],
)
def test_patches_are_the_published_ones(flags, patch):
    assert train_config(**flags).patch == patch


def test_published_learning_rate_falls_every_5_epochs():
    c = train_config(epochs=12)
    rates = [published_rate(c, e) for e in range(1, 13)]
    assert rates == pytest.approx([1e-4] * 4 + [3e-5] * 5 + [9e-6] * 2 + [2.7e-6])


def test_consistency_ends_after_6_of_10_epochs():
    c = train_config(UseUnlabelConsistency=1, train_dir_msunlabel="y")
    assert [e for e in range(1, 11) if any(o.name == "consistency" for o, _ in objectives.list_active(c, e))] == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]


def test_mixup_is_on_unless_theta_is_zero():
    assert objectives.MIXUP.is_on(train_config(UseLabeledSpectralMixUp=1))
    assert not objectives.MIXUP.is_on(train_config(UseLabeledSpectralMixUp=1, theta_LabeledSpectralMixUp=0))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"n_feats": "abc"}, "--n_feats takes a whole number, not 'abc'"),
        ({"n_feats": 2.5}, "--n_feats takes a whole number, not 2.5"),
        ({"n_feats": (1, 2)}, "--n_feats takes a whole number"),
        ({"n_feats": 0}, "--n_feats is at least 1, not 0"),
        ({"learning_rate": "nan"}, "--learning_rate takes a number"),
        ({"learning_rate": 0}, "--learning_rate is above 0"),
        ({"UseRGB": 2}, "--UseRGB takes 1 or 0, not 2"),
        ({"n_scale": 5}, "--n_scale takes 2, 3, 4, 6, 8 or 16, not 5"),
        ({"model_title": "DeepShave"}, "--model_title takes DeepShare"),
        ({"n_ovls": 8}, "--n_ovls (8) must be below --n_subs (8)"),
        ({"UseRGB": 1}, "needs --train_dir_rgb"),
        ({"UseUnlabelConsistency": 1}, "needs --train_dir_msunlabel"),
        ({"patch_size": 30}, "--patch_size (30) must be a multiple of --n_scale (4)"),
        ({"gpus": "first"}, "--gpus takes device numbers"),
        ({"use_rgb": 1}, "--use_rgb is not a flag of this command; did you mean --UseRGB?"),
        ({"train_dir_mslabel": ""}, "--train_dir_mslabel is missing"),
        ({"loss": "l2"}, "--loss takes hybrid, l1, mse, mse_sam or relative, not 'l2'"),
        ({"clip_gradient": -1}, "--clip_gradient is at least 0"),
        ({"model_title": "MCNet", "UseRGB": 1}, "--UseRGB 1: MCNet has no path for RGB images"),
        ({"model_title": "GDRRN", "UseUnlabelConsistency": 1}, "--UseUnlabelConsistency 1: GDRRN has no path"),
        ({"model_title": "SSPSR", "use_share": 0}, "--use_share 0: SSPSR"),
        ({"model_title": "SSPSR", "init": "identity"}, "--init identity: SSPSR needs --global_residual 1"),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(flags, words):
    with pytest.raises(UserError) as caught:
        train_config(**flags)
    assert words in str(caught.value)


@pytest.mark.parametrize(("value", "expected"), [("1e1", 10), ("10", 10), (10.0, 10)])
def test_whole_numbers_are_accepted_in_any_notation(value, expected):
    assert train_config(epochs=value).epochs == expected


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({}, "--test_dir is missing"),
        ({"test_dir": "x"}, "--model_dir is missing"),
        ({"test_dir": "x", "model_dir": "y", "model_title": "Bicubic"}, "leave --model_dir out"),
    ],
)
def test_incomplete_test_commands_are_refused(flags, words):
    with pytest.raises(UserError, match=words):
        TestConfig.from_flags(flags)


def test_flags_page_is_up_to_date():
    assert (ROOT / "docs" / "flags.md").read_text(encoding="utf-8") == flags_page()
    assert list(CONFIGS) == list(mains.FUNCTIONS)


def test_choices_of_loss_are_all_losses():
    assert TrainConfig.__dataclass_fields__["loss"].metadata["choices"] == tuple(losses.LOSSES)
