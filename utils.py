"""Seeds, progress, and names of scenes and files."""

import contextlib
import importlib
import os
import random
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from tqdm import tqdm


def seed_everything(seed: int) -> None:
    """Seed every global generator (the program's own draws come from `random_generator`)."""
    import torch

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


def progress_bar(iterable: Iterable[Any] | None = None, **options: Any) -> tqdm:
    """A tqdm bar with the time left; in a log file it writes a line now and then, not many a second.

    Of several processes only the first one shows it.
    """
    interval = 0.1 if sys.stderr.isatty() else 10
    options.setdefault("disable", not is_main_process())
    options["desc"] = sanitize_for_terminal(options.get("desc") or "")
    return tqdm(iterable, dynamic_ncols=True, mininterval=interval, **options)


def close_progress_bars() -> None:
    """Close open progress bars, so that a message begins a new line."""
    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()


# Open text logs, which get the lines of `print_line` too.
_LOGS: list[TextIO] = []


def print_line(text: str, to_terminal: bool = True) -> None:
    """Write text to the terminal, above the progress bar, and to open text logs; only the main process does."""
    if not is_main_process():
        return
    text = sanitize_for_terminal(text)
    if to_terminal:
        tqdm.write(text)
    for log in _LOGS:
        # A full disk is reported by the files that matter; a signal's message can interrupt another line.
        with contextlib.suppress(OSError, RuntimeError):
            print(text, file=log, flush=True)


@contextlib.contextmanager
def copy_lines_to(path: Path) -> Iterator[None]:
    """Append the lines of `print_line` to a text log, within this context."""
    with open(path, "a", encoding="utf-8", errors="backslashreplace") as log:
        _LOGS.append(log)
        try:
            yield
        finally:
            _LOGS.remove(log)


def sanitize_for_terminal(text: str) -> str:
    """A text whose foreign parts do nothing to a terminal: control characters are escaped, endless words cut."""
    plain = "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
    return re.sub(r"[^\s,;]{400,}", lambda word: f"{word[0][:100]}...{word[0][-50:]}", plain)


def is_main_process() -> bool:
    """Return True for the only process, and for rank 0 of those that torchrun has started."""
    return process_count() == 1 or os.environ.get("RANK", "0") == "0"


def process_count() -> int:
    """Return the number of processes of this run: torchrun's WORLD_SIZE, 1 without it.

    RANK or LOCAL_RANK without a WORLD_SIZE above 1, as job scripts leave them, mean nothing.
    """
    count = os.environ.get("WORLD_SIZE", "")
    return max(1, int(count)) if count.isdecimal() else 1


def parse_names(text: str) -> list[str]:
    """Scene names with commas between as a list; names that contain a comma are put in double quotes: '"a,b",c'."""
    names = [
        scene_name(quoted or plain.strip()) for quoted, plain in re.findall(r'\s*(?:"([^"]+)"\s*(?=,|$)|([^,]+))', text)
    ]
    return [name for name in names if name]


def as_utf8(text: str) -> str:
    """A text that every file can contain: bytes of file names that are not UTF-8 are read as Latin-1."""
    return re.sub("[\udc80-\udcff]", lambda byte: chr(ord(byte[0]) - 0xDC00), text)


def format_files(files: Sequence[Path]) -> str:
    """Return the list of written files that a command ends with."""
    return "\n".join(["wrote:", *(f"  {as_utf8(str(path))}" for path in files)] if files else ["nothing to write"])


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


def free_memory() -> int:
    """Return the bytes of main memory that this process can take, see `system.machine.get_free_memory`."""
    # By name: the package `system` imports this module.
    return int(importlib.import_module("system.machine").get_free_memory())
