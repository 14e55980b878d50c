"""Wrappers of networks: reduced precision, and normalisation of brightness."""

import copy

import pytest
import torch
from helpers import make_tiny_network
from torch import nn

from models.brightness import NormalisedNetwork
from models.precision import PrecisionWrapper


class Squaring(nn.Module):
    """A network that is not linear in brightness: lms + lms ** 2."""

    def forward(self, ms, lms, modality="spectral"):
        return lms + lms.square()


def test_normalised_network_sees_maximum_one():
    ms, lms = torch.tensor([0.1, 0.2]).view(2, 1, 1, 1), torch.tensor([0.05, 0.3]).view(2, 1, 1, 1)
    # By hand: 0.05 / 0.1 = 0.5 -> 0.75 -> 0.075; 0.3 / 0.2 = 1.5 -> 3.75 -> 0.75.
    torch.testing.assert_close(NormalisedNetwork(Squaring())(ms, lms).flatten(), torch.tensor([0.075, 0.75]))
    dark = torch.zeros(1, 1, 2, 2)
    assert NormalisedNetwork(Squaring())(dark, dark).abs().max() == 0


def test_bf16_output_is_near_fp32_in_float32():
    torch.manual_seed(0)
    ms, lms = torch.rand(1, 31, 8, 8), torch.rand(1, 31, 32, 32)
    network = make_tiny_network()
    with torch.inference_mode():
        plain = network(ms, lms)
        same = PrecisionWrapper(network, "fp32")(ms, lms)
        halved = PrecisionWrapper(copy.deepcopy(network), "bf16")(ms, lms)
    assert torch.equal(plain, same)
    assert halved.dtype == torch.float32
    deviation = (halved - plain).abs().max()
    assert 0 < deviation < 2e-2
    with pytest.raises(ValueError, match="fp32, tf32, bf16"):
        PrecisionWrapper(network, "fp16")
