"""Small helpers used on every floor: the user's error, seeds, devices, safe files, memory at hand."""

import contextlib
import errno
import os
import random
import re
import shutil
import signal
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from machine import free_memory as free_memory

try:
    import fcntl
except ImportError:
    # Windows, which has no such locks.
    fcntl = None  # type: ignore[assignment]


class UserError(Exception):
    """Something the user gave is wrong: one sentence saying what, the value received and the remedy."""

    path: str | Path | None = None
    # Whether another process of the run says it.
    is_told = False

    def on_command_line(self) -> str:
        """The sentence as the command line says it."""
        return str(self)


@contextlib.contextmanager
def given_by(flag: str, path: str | Path) -> Iterator[None]:
    """Name the flag that a path came by where an error below is about that very path."""
    try:
        yield
    except UserError as error:
        if error.path is None or not str(path) or Path(error.path).expanduser() != Path(path).expanduser():
            raise
        raise UserError(f"--{flag} {error.on_command_line()}") from error


SAFE = "the checkpoint is safe; the same command with --resume last goes on"


class Interrupted(Exception):
    """The run was told to stop by a signal and what it did is safe; `exit_code` is the shell's for the signal."""

    def __init__(self, signal_number: int, state: str = SAFE) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}, {state}")
        self.exit_code = 128 + signal_number


def seed_everything(seed: int) -> None:
    """Seed every global generator (the program's own draws come from `random_generator`)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """A numpy Generator that depends on nothing but its arguments.

    Every random draw in training comes from one of these, told apart by purpose (a word) and counters
    (epoch, iteration, ...), so that a resumed run draws what an undisturbed one would have drawn without
    any generator's state having to be kept.
    """
    return np.random.default_rng([seed, *purpose.encode(), *counters])


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
        say(f"--gpus {gpus}: no such CUDA device was found; this runs on the CPU")
    return torch.device("cpu")


def sent_to(device: str | torch.device, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor on a device; a CUDA device takes it from pinned memory, and nobody waits for that."""
    device = torch.device(device)
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor)
    return pinned.to(device, non_blocking=True)


def progress_bar(iterable: Iterable[Any] | None = None, **options: Any) -> tqdm:
    """A tqdm bar with the time left; in a log file it writes a line now and then, not many a second.

    Of several processes only the first one shows it.
    """
    interval = 0.1 if sys.stderr.isatty() else 10
    options.setdefault("disable", not is_main_process())
    options["desc"] = shown(options.get("desc") or "")
    return tqdm(iterable, dynamic_ncols=True, mininterval=interval, **options)


def say(text: str) -> None:
    """Write a line to the terminal above the progress bar; of several processes only the first one does."""
    if is_main_process():
        tqdm.write(shown(text))


def shown(text: str) -> str:
    """A text whose foreign parts do nothing to a terminal: control characters are escaped, endless words cut."""
    plain = "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
    return re.sub(r"[^\s,;]{400,}", lambda word: f"{word[0][:100]}...{word[0][-50:]}", plain)


class Terminated(KeyboardInterrupt):
    """The program was told to end by SIGTERM."""


def signal_of(stop: KeyboardInterrupt) -> signal.Signals:
    """The signal that a command was stopped by."""
    return signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT


class ForgivingStream:
    """Standard output or error that is written to as long as somebody reads it; afterwards what is said is lost.

    A reader that ends early (`| head -1`) or a terminal that lacks a letter is no reason to stop.

    Args:
        stream: sys.stdout or sys.stderr; None where it was closed before the program began.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = open(os.devnull, "w", encoding="utf-8") if stream is None else stream
        if hasattr(self._stream, "reconfigure"):
            self._stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write a text, or lose it."""
        try:
            self._stream.write(text)
        except (OSError, ValueError):
            self._lose()
        return len(text)

    def flush(self) -> None:
        """Hand what was written on, or lose it."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._lose()

    def _lose(self) -> None:
        # What is still in the buffer goes nowhere too, so that nothing fails when the interpreter ends.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def is_main_process() -> bool:
    """Return True for the only process, and for rank 0 of those that torchrun has started."""
    return process_count() == 1 or os.environ.get("RANK", "0") == "0"


def process_count() -> int:
    """Return the number of processes of this run: torchrun's WORLD_SIZE, 1 without it.

    RANK or LOCAL_RANK without a WORLD_SIZE above 1, as job scripts leave them, mean nothing.
    """
    count = os.environ.get("WORLD_SIZE", "")
    return max(1, int(count)) if count.isdecimal() else 1


def close_progress_bars() -> None:
    """End what bars stand open, so that a message gets a line of its own."""
    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()


def without_tf32() -> contextlib.AbstractContextManager[None]:
    """Convolutions below are in full float32 on CUDA too: results shall not depend on the device."""
    return allowing_tf32(False)


@contextlib.contextmanager
def allowing_tf32(allowed: bool) -> Iterator[None]:
    """Whether convolutions below may be in TF32 on CUDA."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def cpu_computes_bf16() -> bool:
    """Whether torch's convolutions in bf16 are fast on this CPU; elsewhere they are many times slower than in fp32."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def warn_of_slow_bf16(precision: str, device: torch.device) -> None:
    """Say where bf16 is asked for that it is slow there."""
    if precision == "bf16" and device.type == "cpu" and not cpu_computes_bf16():
        say(
            "--precision bf16: this CPU has no fast arithmetic for it, so everything takes many times as long; fp32 is "
            "faster here"
        )


def prepare_arithmetic(precision: str, device: torch.device, deterministic: bool = False) -> None:
    """Set how a run computes.

    Args:
        precision: fp32, tf32 or bf16.
        device: what computes.
        deterministic: whether the same seed shall give the same weights to the bit on CUDA too, where cuDNN has faster
            ways that do not; without, it tries its ways out for each size of image, and keeps the fastest.
    """
    warn_of_slow_bf16(precision, device)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = precision != "fp32"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that main memory or a device's memory was not enough."""
    words = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        w in words for w in ("can't allocate memory", "cannot allocate memory", "out of memory", "bad_alloc")
    )


def refuse_small_memory(path: str | Path, error: BaseException) -> None:
    """Raise a sentence where a file could not be read for want of memory: that is no damage of the file.

    Raises:
        UserError: for such an error.
    """
    if is_out_of_memory(error):
        raise UserError(f"{path}: the memory is too small to read it; close other programs, or take less") from error


@contextlib.contextmanager
def replacing(path: str | Path, aside: Path | None = None) -> Iterator[Path]:
    """Write a file whole or not at all: yields a temporary path beside it, moved into place at the end.

    Args:
        path: the file.
        aside: where one that stands there goes, once the new one is on the disk; None: it is replaced.

    Raises:
        UserError: where the disk is full or the folder may not be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            sync_file(temporary)
            if aside and path.exists():
                os.replace(path, aside)
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def sync_file(path: Path) -> None:
    """Flush a file to the disk, as far as its file system can.

    Raises:
        OSError: if the disk is full or fails.
    """
    # Windows syncs only files opened for writing; a copy of a read-only file cannot be opened so.
    with open(path, "r+b" if os.access(path, os.W_OK) else "rb") as f:
        try:
            os.fsync(f.fileno())
        except OSError as error:
            # Any other error: a mount, for example of FUSE, that does not implement fsync.
            if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
                raise


@contextlib.contextmanager
def only_here(path: str | Path) -> Iterator[list[Path]]:
    """Hold a file or folder while it is made, so that no other process makes it too.

    The lock is a file beside it, `.NAME.lock`. The system gives it up when its process ends, in whatever way.

    Yields:
        The folders that were made for the lock. At the end, those that still stand in this list and are empty are
        taken away again.

    Raises:
        UserError: where another process holds it, or the folder may not be written.
    """
    path = Path(path)
    lock = path.absolute().with_name(f".{path.name}.lock")
    made = [folder for folder in lock.parents if not folder.exists()]
    with writing(path):
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = _locked(lock)
    if handle is None:
        raise UserError(f"{path}: another process is at work on it; wait for its end, or choose another place")
    try:
        yield made
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(handle)
        with contextlib.suppress(OSError):
            for folder in made:
                folder.rmdir()


def is_held(path: str | Path) -> bool:
    """Whether a living process holds a file or folder by `only_here`."""
    lock = Path(path).absolute().with_name(f".{Path(path).name}.lock")
    if not lock.exists():
        return False
    handle = _locked(lock)
    if handle is not None:
        os.close(handle)
    return handle is None


def _locked(lock: Path) -> int | None:
    """The open lock file, or None where another process has it."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        if fcntl is None:
            return handle
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:
            # A file system without locks.
            return handle
        with contextlib.suppress(FileNotFoundError):
            if os.stat(lock).st_ino == os.fstat(handle).st_ino:
                return handle
        # Its last holder has taken the file away meanwhile.
        os.close(handle)


def listed(text: str) -> list[str]:
    """Scene names with commas between as a list; a name that contains a comma stands in double quotes: '"a,b",c'."""
    names = [
        scene_name(quoted or plain.strip()) for quoted, plain in re.findall(r'\s*(?:"([^"]+)"\s*(?=,|$)|([^,]+))', text)
    ]
    return [name for name in names if name]


def as_utf8(text: str) -> str:
    """A text that every file can contain: bytes of file names that are not UTF-8 are read as Latin-1."""
    return re.sub("[\udc80-\udcff]", lambda byte: chr(ord(byte[0]) - 0xDC00), text)


def scene_name(text: str) -> str:
    """A scene's name as valid text in composed Unicode (NFC), which is equal however it was typed or stored.

    A Mac's file names are decomposed, text from a keyboard is not.
    """
    return unicodedata.normalize("NFC", as_utf8(text))


def file_name(name: str) -> str:
    """A foreign name as that of a file: nothing in it leads to another folder or is hidden."""
    kept = re.sub(r"[\x00-\x1f\x7f/\\:*?\"<>|]", "_", name).lstrip(".").strip()
    encoded = kept.encode("utf-8", errors="replace")[:200]
    return encoded.decode("utf-8", errors="ignore") or "_"


def refuse_irregular(path: str | Path) -> None:
    """Refuse what is no regular file, such as a pipe or a device, before it is opened and waited for.

    Raises:
        UserError: for one that is there.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe or device"
        raise UserError(f"{path}: {kind}, where a file is needed; give another path")


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn a failed write below into the sentence that says which file and what to do."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = getattr(error, "errno", None)
        if _is_disk_full(error, path):
            raise UserError(f"{path}: the disk is full; free some space and run the same command again") from error
        if number == errno.EFBIG:
            raise UserError(
                f"{path}: larger than a file may be there (the disk's format, or ulimit -f); choose another folder"
            ) from error
        if isinstance(error, PermissionError) or number == errno.EROFS:
            raise UserError(f"{path}: may not be written; choose another folder or change its permissions") from error
        if isinstance(error, IsADirectoryError):
            raise UserError(f"{path}: a folder stands where the file is to be written; move it away") from error
        if isinstance(error, (NotADirectoryError, FileExistsError)):
            raise UserError(f"{path}: a file stands where a folder is needed; choose another folder") from error
        raise


def _is_disk_full(error: BaseException | None, path: str | Path) -> bool:
    """Whether a failed write found the disk full. HDF5 and torch keep only the words, or lose them too."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            return True
        error = error.__cause__ or error.__context__
    folder = Path(path).absolute().parent
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free < 2**16
