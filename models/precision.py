"""Precision of inference: fp32, tf32 or bf16."""

from typing import TypeVar

import torch
from torch import nn

from system.devices import allow_tf32

AnyModule = TypeVar("AnyModule", bound=nn.Module)

PRECISIONS = ("fp32", "tf32", "bf16")
# Remarks for the user, with the deviations measured in docs/results.md.
DEVIATIONS = {
    "tf32": "tf32: results equal those of fp32 on a CPU and deviate slightly on CUDA",
    "bf16": "bf16: results deviate slightly from fp32 (measured on CAVE: 37.4349 dB instead of 37.4341)",
}


class PrecisionWrapper(nn.Module):
    """A network evaluated in a precision; called like the network, it returns float32.

    Args:
        network: on its device. For bf16, its parameters are converted in place.
        precision: "fp32"; "tf32", which is fp32 on a CPU; or "bf16".

    Raises:
        ValueError: for another precision.
    """

    def __init__(self, network: nn.Module, precision: str) -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
        self.network, self.precision = convert_to_bf16(network) if precision == "bf16" else network, precision

    def forward(self, ms: torch.Tensor, lms: torch.Tensor, modality: str = "spectral") -> torch.Tensor:
        """B x C x h x w and B x C x s*h x s*w -> B x C x s*h x s*w."""
        half = torch.autocast(ms.device.type, torch.bfloat16, enabled=self.precision == "bf16")
        with allow_tf32(self.precision == "tf32"), half:
            output: torch.Tensor = self.network(ms, lms, modality).float()
            return output


def convert_to_bf16(network: AnyModule) -> AnyModule:
    """Convert a network's parameters to bf16 in place, for calls under autocast; buffers are not converted."""
    for parameter in network.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    return network
