"""Split weights into small files for transfer, and join them again; of a run's last.pth, the weights that it scores.

    python scripts/pieces.py split WEIGHTS.pth FOLDER [--megabytes 16]    fp16, in pieces, with their SHA-256
    python scripts/pieces.py join FOLDER WEIGHTS.pth                      to float32, checksums verified

fp16 halves the size; 11 significant bits do not change PSNR (`tests/scripts/test_gpu.py`).
"""

import hashlib
import json
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import fire
import torch

from models.weights import load_state
from system.errors import UserError
from system.files import atomic_write

LIST = "pieces.json"


def split(weights: str, folder: str, megabytes: float = 16) -> None:
    """Write weights as pieces of at most `megabytes` MiB."""
    state = load_state(Path(weights))
    halved = {name: x.half() if x.is_floating_point() else x for name, x in state.items()}
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile() as whole:
        torch.save({"state": halved, "metadata": dict(getattr(state, "_metadata", {}))}, whole)
        whole.seek(0)
        names: dict[str, str] = {}
        digest = hashlib.sha256()
        while piece := whole.read(int(megabytes * 2**20)):
            name = f"piece_{len(names)}"
            (out / name).write_bytes(piece)
            names[name] = hashlib.sha256(piece).hexdigest()
            digest.update(piece)
    (out / LIST).write_text(json.dumps({"pieces": names, "whole": digest.hexdigest()}, indent=1))
    print(f"wrote: {len(names)} pieces to {out}")


def join(folder: str, weights: str) -> None:
    """Join pieces into a weights file.

    Raises:
        UserError: for a piece with another checksum.
    """
    listed = json.loads((Path(folder) / LIST).read_text())
    with tempfile.TemporaryFile() as whole:
        for name, expected in listed["pieces"].items():
            piece = (Path(folder) / name).read_bytes()
            if hashlib.sha256(piece).hexdigest() != expected:
                raise UserError(f"{folder}/{name}: the checksum does not match; transfer this piece again")
            whole.write(piece)
        whole.seek(0)
        content = torch.load(whole, weights_only=True)
    state = {name: x.float() if x.dtype == torch.float16 else x for name, x in content["state"].items()}
    state = OrderedDict(state)
    state._metadata = content["metadata"]  # type: ignore[attr-defined]
    with atomic_write(weights) as temporary:
        torch.save(state, temporary)
    print(f"wrote: {weights}")


if __name__ == "__main__":
    try:
        fire.Fire({"split": split, "join": join})
    except UserError as error:
        sys.exit(f"error: {error}")
