"""Device selection and arithmetic precision."""

import contextlib
import os
from collections.abc import Iterator

import torch

from system.errors import UserError
from utils import print_line, process_count


def select_device(cuda: str, gpus: str) -> torch.device:
    """Return the torch device for the flags --cuda (auto, 1 or 0) and --gpus ("0", "1", "0,1": the first is used).

    Each process started by torchrun uses the device of its LOCAL_RANK. Call this before CUDA is first used, since
    --gpus sets CUDA_VISIBLE_DEVICES.

    Raises:
        UserError: if a required CUDA device does not exist.
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
                "start one process for each device (--nproc-per-node), or set --cuda 0"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
        return device
    if cuda == "1":
        raise UserError("--cuda 1: no CUDA device was found; set --cuda auto or --cuda 0 to run on the CPU")
    if gpus:
        print_line(f"--gpus {gpus}: no such CUDA device was found; running on the CPU")
    return torch.device("cpu")


def describe_device(device: torch.device) -> str:
    """Return the name of a CUDA device, or the CPU's number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def send_to(device: str | torch.device, tensor: torch.Tensor) -> torch.Tensor:
    """Copy a tensor to a device; from the CPU to CUDA asynchronously, through pinned memory."""
    device = torch.device(device)
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor)
    return pinned.to(device, non_blocking=True)


@contextlib.contextmanager
def allow_tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 for convolutions on CUDA within the context."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def has_fast_bf16() -> bool:
    """Return True if bf16 convolutions are fast on this CPU; on other CPUs they are many times slower than fp32."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def warn_slow_bf16(precision: str, device: torch.device) -> None:
    """Log a warning if bf16 is slow on the device."""
    if precision == "bf16" and device.type == "cpu" and not has_fast_bf16():
        print_line(
            "--precision bf16: this CPU has no bf16 instructions, so that bf16 is many times slower than fp32; set "
            "--precision fp32"
        )


def configure_arithmetic(precision: str, device: torch.device, deterministic: bool = False) -> None:
    """Configure precision and determinism of cuDNN.

    Args:
        precision: "fp32", "tf32" or "bf16".
        device: of the run.
        deterministic: True: the same seed gives bit-identical weights on CUDA too. False: cuDNN benchmarks its
            algorithms for each image size and uses the fastest.
    """
    warn_slow_bf16(precision, device)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = precision != "fp32"
