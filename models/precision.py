"""The arithmetic that a network is used with: fp32, tf32 or bf16."""

from typing import TypeVar

import torch
from torch import nn

from system.devices import allow_tf32

AnyModule = TypeVar("AnyModule", bound=nn.Module)

PRECISIONS = ("fp32", "tf32", "bf16")
# What results lose, as measured (docs/results.md), for the user.
DEVIATIONS = {
    "tf32": "tf32: the results of fp32 on a CPU, and near them on CUDA",
    "bf16": "bf16: expect results to deviate a little (37.4349 dB for 37.4341 in fp32, as measured on CAVE)",
}


class PrecisionWrapper(nn.Module):
    """A network in the arithmetic asked for, called as it is; what it gives is float32.

    Args:
        network: on its device. In bf16 its parameters are converted for good.
        precision: fp32; tf32, which is fp32 on a CPU; or bf16.
    """

    def __init__(self, network: nn.Module, precision: str) -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(f"precision is one of {', '.join(PRECISIONS)}, not {precision!r}")
        self.network, self.precision = convert_to_bf16(network) if precision == "bf16" else network, precision

    def forward(self, ms: torch.Tensor, lms: torch.Tensor, modality: str = "spectral") -> torch.Tensor:
        """B x C x h x w and B x C x s*h x s*w -> B x C x s*h x s*w."""
        half = torch.autocast(ms.device.type, torch.bfloat16, enabled=self.precision == "bf16")
        with allow_tf32(self.precision == "tf32"), half:
            return self.network(ms, lms, modality).float()


def convert_to_bf16(network: AnyModule) -> AnyModule:
    """The network with its parameters in bf16, for calls under autocast; buffers stay as they are."""
    for parameter in network.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    return network
