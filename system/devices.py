"""The device of a run, and the arithmetic on it."""

import contextlib
import os
from collections.abc import Iterator

import torch

from system.errors import UserError
from utils import print_line, process_count


def select_device(cuda: str, gpus: str) -> torch.device:
    """The torch device for the flags --cuda (auto, 1 or 0) and --gpus ("0", "1", "0,1": first one used).

    Of processes started by torchrun each takes the device of its LOCAL_RANK.

    Must run before CUDA is first used, since --gpus works through CUDA_VISIBLE_DEVICES.
    """
    if cuda == "0":
        return torch.device("cpu")
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    if torch.cuda.is_available():
        local_rank = int(os.environ.get("LOCAL_RANK", "0")) if process_count() > 1 else 0
        if local_rank >= torch.cuda.device_count():
            raise UserError(
                f"process {local_rank} of this machine has no CUDA device ({torch.cuda.device_count()} found); "
                "start as many processes as there are devices (--nproc-per-node), or use --cuda 0"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
        return device
    if cuda == "1":
        raise UserError("--cuda 1: no CUDA device was found; use --cuda auto or --cuda 0 to run on the CPU")
    if gpus:
        print_line(f"--gpus {gpus}: no such CUDA device was found; this runs on the CPU")
    return torch.device("cpu")


def send_to(device: str | torch.device, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor on a device; a CUDA device takes it from pinned memory, and nobody waits for that."""
    device = torch.device(device)
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor)
    return pinned.to(device, non_blocking=True)


def disable_tf32() -> contextlib.AbstractContextManager[None]:
    """Convolutions below are in full float32 on CUDA too: results shall not depend on the device."""
    return allow_tf32(False)


@contextlib.contextmanager
def allow_tf32(allowed: bool) -> Iterator[None]:
    """Whether convolutions below may be in TF32 on CUDA."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def has_fast_bf16() -> bool:
    """Whether torch's convolutions in bf16 are fast on this CPU; elsewhere they are many times slower than in fp32."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def warn_slow_bf16(precision: str, device: torch.device) -> None:
    """Say where bf16 is asked for that it is slow there."""
    if precision == "bf16" and device.type == "cpu" and not has_fast_bf16():
        print_line(
            "--precision bf16: this CPU has no fast arithmetic for it, so everything takes many times as long; fp32 is "
            "faster here"
        )


def configure_arithmetic(precision: str, device: torch.device, deterministic: bool = False) -> None:
    """Set how a run computes.

    Args:
        precision: fp32, tf32 or bf16.
        device: what computes.
        deterministic: whether the same seed shall give the same weights to the bit on CUDA too, where cuDNN has faster
            ways that do not; without, it tries its ways out for each size of image, and keeps the fastest.
    """
    warn_slow_bf16(precision, device)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = precision != "fp32"
