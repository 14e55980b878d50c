"""Seeds, progress, and names of scenes and files."""

import contextlib
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
    """Return a numpy Generator that depends only on the seed, the purpose (a word) and the counters (iteration, ...).

    Every random draw in training comes from such a generator, so that a resumed run restores no generator's state.
    """
    return np.random.default_rng([seed, *purpose.encode(), *counters])


def progress_bar(iterable: Iterable[Any] | None = None, **options: Any) -> tqdm:
    """Return a tqdm bar, updated every 0.1 s on a terminal and every 10 s in a log file; only rank 0 shows it."""
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
    """Escape the control characters of a text, and shorten words of 400 characters or more."""
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
    """Parse scene names separated by commas; a name that contains a comma stands in double quotes: '"a,b",c'."""
    names = [
        scene_name(quoted or plain.strip()) for quoted, plain in re.findall(r'\s*(?:"([^"]+)"\s*(?=,|$)|([^,]+))', text)
    ]
    return [name for name in names if name]


def as_utf8(text: str) -> str:
    """Replace the bytes of a file name that are not UTF-8 by Latin-1 characters, so that the text can be encoded."""
    return re.sub("[\udc80-\udcff]", lambda byte: chr(ord(byte[0]) - 0xDC00), text)


def format_files(files: Sequence[Path]) -> str:
    """Return the list of written files that a command ends with."""
    return "\n".join(["wrote:", *(f"  {as_utf8(str(path))}" for path in files)] if files else ["nothing to write"])


def scene_name(text: str) -> str:
    """Return a scene's name in composed Unicode (NFC): file names of macOS are decomposed, typed text is not."""
    return unicodedata.normalize("NFC", as_utf8(text))


def file_name(name: str) -> str:
    """Convert a name to that of a file, which is not hidden and does not lead to another folder."""
    kept = re.sub(r"[\x00-\x1f\x7f/\\:*?\"<>|]", "_", name).lstrip(".").strip()
    encoded = kept.encode("utf-8", errors="replace")[:200]
    return encoded.decode("utf-8", errors="ignore") or "_"


def free_memory() -> int:
    """Return `system.machine.get_free_memory()`; scripts outside the repository import it from here."""
    # Not by an import statement: `utils` is the layer below `system`.
    return int(__import__("system.machine", fromlist=["get_free_memory"]).get_free_memory())
