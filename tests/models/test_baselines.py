import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from models import blocks, build_model, registry, volumes
from models import weights as checkpoint

PEERS = ("SSPSR", "GDRRN", "3DFCNN", "MCNet")
# GDRRN always adds lms; the others do where asked.
RESIDUAL = {"SSPSR": True, "GDRRN": False, "3DFCNN": True, "MCNet": True}


def small(name, n_colors=9, n_scale=4, **settings):
    torch.manual_seed(0)
    return build_model(name, n_colors, n_scale, **{"n_feats": 4, "n_subs": 4, "n_ovls": 1, "n_blocks": 1, **settings})


def images(n_colors=9, n_scale=4, height=5, width=6, batch=2):
    torch.manual_seed(1)
    return torch.rand(batch, n_colors, height, width), torch.rand(batch, n_colors, n_scale * height, n_scale * width)


def test_outputs_equal_the_released_networks(golden_peer):
    model = checkpoint.load(golden_peer.weights_path, n_scale=4).model
    assert (model(golden_peer["ms"], golden_peer["lms"]) - golden_peer["output"]).abs().max() < 1e-5
    with torch.no_grad():
        assert (model(golden_peer["ms"], golden_peer["lms"]) - golden_peer["output"]).abs().max() < 1e-5
    # MCNet's is the sum of the values beside the band means, which are no parameters.
    assert sum(p.numel() for p in model.parameters()) == golden_peer.values["parameters"]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("SSPSR", 12_893_831),
        ("GDRRN", 218_880),
        ("MCNet", 2_174_094),
        # 64 * 567 + 64, 32 * 64 + 32, 9 * 32 + 9, 9 * 75 + 1.
        ("3DFCNN", 39_405),
    ],
)
def test_published_parameter_counts(name, parameters):
    architecture = {k: v for k, v in registry.get_entry(name).published.items() if k in ("n_feats", "n_blocks")}
    with torch.device("meta"):
        model = build_model(name, 31, 4, **architecture)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("n_scale", [2, 3, 4, 8])
def test_every_scale_has_the_right_size(name, n_scale):
    model = small(name, n_scale=n_scale)
    ms, lms = images(n_scale=n_scale)
    assert model(ms, lms).shape == lms.shape
    assert (model.n_colors, model.n_scale) == (9, n_scale)


@pytest.mark.parametrize("name", PEERS)
def test_rgb_images_are_refused(name):
    with pytest.raises(ValueError, match="'spectral', not 'rgb'"):
        small(name)(*images(), "rgb")


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("SSPSR", {"n_scale": 5}, "n_scale"),
        ("SSPSR", {"n_subs": 10}, "n_subs"),
        ("SSPSR", {"n_ovls": 4}, "n_ovls"),
        ("SSPSR", {"n_blocks": 0}, "n_blocks"),
        ("GDRRN", {"n_feats": 5}, "n_feats"),
        ("MCNet", {"n_scale": 1}, "n_scale"),
        ("MCNet", {"n_blocks": 0}, "n_blocks"),
    ],
)
def test_impossible_architectures_are_refused(name, settings, words):
    with pytest.raises(ValueError, match=words):
        small(name, **settings)


@pytest.mark.parametrize(("n_colors", "height", "width"), [(9, 20, 24), (2, 3, 8), (1, 1, 1)])
def test_3dfcnn_convolves_the_symmetrically_padded_image(n_colors, height, width):
    # The released network without padding, on an image padded by numpy; bands as in the released data script.
    model = small("3DFCNN", n_colors=n_colors, n_scale=2).double()
    lms = torch.rand(2, n_colors, height, width, dtype=torch.float64)
    padded = np.pad(lms.numpy(), ((0, 0), (4, 4), (6, 6), (6, 6)), mode="symmetric")
    x = torch.from_numpy(padded)[:, None]
    for layer in (model.conv1, model.conv2, model.conv3):
        x = functional.relu(functional.conv3d(x, layer.weight, layer.bias))
    x = functional.conv3d(x, model.conv4.weight, model.conv4.bias)[:, 0]
    torch.testing.assert_close(model(None, lms), x, rtol=0, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(model(None, lms), x, rtol=0, atol=1e-12)


def test_symmetric_padding_repeats_the_end_values():
    x = volumes.pad_symmetric(torch.tensor([[0, 1, 2, 3]]), {1: 4})
    assert x.tolist() == [[3, 2, 1, 0, 0, 1, 2, 3, 3, 2, 1, 0]]


@pytest.mark.parametrize(
    "kernel",
    [
        (6, 4, 1, 3, 3),
        (6, 4, 3, 1, 1),
        (6, 4, 1, 1, 1),
        (6, 1, 3, 3, 3),
        (6, 4, 5, 3, 3),
        (1, 4, 3, 5, 5),
        (3, 5, 3, 3, 3),
    ],
)
@pytest.mark.parametrize("has_bias", [True, False])
def test_folded_convolutions_are_torchs_3d_ones(kernel, has_bias):
    torch.manual_seed(0)
    x = torch.rand(2, kernel[1], 7, 6, 5)
    weight, bias = torch.randn(kernel), torch.randn(kernel[0]) if has_bias else None
    for same in (True, False):
        expected = functional.conv3d(x, weight, bias, padding="same" if same else 0)
        y = volumes.conv_volume(volumes.fold(x), weight, bias, 7, same)
        torch.testing.assert_close(volumes.unfold(y, expected.shape[2]), expected, rtol=0, atol=1e-4)


def test_folded_upsampling_is_torchs_transposed_3d_convolution():
    torch.manual_seed(0)
    layer = nn.ConvTranspose3d(4, 3, (3, 6, 6), stride=(1, 4, 4), padding=1)
    x = torch.rand(2, 4, 7, 6, 5)
    y = volumes.upsample_volume(volumes.fold(x), layer.weight, layer.bias, 7, 4)
    torch.testing.assert_close(volumes.unfold(y, 7), layer(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "settings", "height"),
    [("3DFCNN", {}, 10), ("GDRRN", {}, 10), ("MCNet", {"n_blocks": 2}, 40), ("SSPSR", {}, 10)],
)
def test_strips_and_chunks_change_nothing_at_inference(name, settings, height, monkeypatch):
    model = small(name, **settings).double()
    ms, lms = (x.double() for x in images(height=height))
    whole = model(ms, lms).detach()
    monkeypatch.setattr(blocks, "VALUES_PER_STRIP", 1)
    monkeypatch.setattr("models.blocks.VALUES_PER_CHUNK", 1)
    with torch.inference_mode():
        in_strips = model(ms, lms)
    torch.testing.assert_close(in_strips, whole, rtol=0, atol=1e-11)
    assert len(blocks.list_strips(ms if name == "MCNet" else lms)) >= 5


@pytest.mark.parametrize("name", PEERS)
def test_identity_start_is_bicubic_and_trainable(name):
    model = small(name, global_residual=RESIDUAL[name])
    model.init_identity()
    ms, lms = images()
    y = model(ms, lms)
    assert torch.equal(y, lms)
    (y - 1).square().mean().backward()
    assert any(p.grad.abs().sum() > 0 for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ["SSPSR", "3DFCNN", "MCNet"])
def test_identity_start_needs_a_global_residual(name):
    with pytest.raises(ValueError, match="--global_residual 1"):
        small(name).init_identity()


@pytest.mark.parametrize("name", ["SSPSR", "3DFCNN", "MCNet"])
def test_global_residual_adds_bicubic_and_marks_weights(name):
    plain, residual = small(name), small(name, global_residual=True)
    residual.load_state_dict(plain.state_dict(), strict=False)
    ms, lms = images()
    torch.testing.assert_close(residual(ms, lms), plain(ms, lms) + lms)
    assert residual.state_dict().keys() - plain.state_dict().keys() == {"global_residual"}


def test_mcnet_subtracts_and_restores_band_means():
    model = small("MCNet")
    means = torch.linspace(0.1, 0.9, 9)
    ms, lms = images()
    shifted = model(ms, lms)
    model.set_band_means(means)
    torch.testing.assert_close(model(ms + means.view(-1, 1, 1), lms), shifted + means.view(-1, 1, 1))
    model.has_global_residual = True
    torch.testing.assert_close(model(ms + means.view(-1, 1, 1), lms), shifted + lms)


def test_gdrrn_starts_with_the_published_spread():
    model = build_model("GDRRN", 31, 4, n_feats=128)
    for layer, maps in ((model.input, 128), (model.conv1, 128), (model.conv2, 128), (model.output, 31)):
        assert layer.weight.std().item() == pytest.approx((2 / (9 * maps)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("name", PEERS)
def test_networks_go_to_the_devices_format(name):
    # Trainer and evaluator ask for channels_last, which 3-D kernels cannot have.
    model, (ms, lms) = small(name).double(), (x.double() for x in images())
    expected = model(ms, lms)
    model = model.to("cpu", memory_format=torch.channels_last)
    torch.testing.assert_close(model(ms, lms), expected, rtol=0, atol=1e-11)
