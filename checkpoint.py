"""Weights and runs on disk: atomic saving, resuming, and strict reading of anybody's DeepShare weights."""

import contextlib
import json
import pickle
import re
from pathlib import Path

import numpy as np
import torch

from data.datasets import WAVELENGTHS_OF_DATASET
from models import build_model
from utils import UserError, replacing, say

# Weights that come with the program; --model_dir takes their names.
PRETRAINED = Path(__file__).parent / "pretrained"

# The key under which a final state_dict carries, outside its tensors, what these cannot tell.
METADATA_KEY = "architecture"
# What a run leaves to go on from: the newest checkpoint and the one before it.
RUN_FILES = ("last.pth", "previous.pth")
RUN_KEYS = {
    *("config", "n_colors", "patches", "iteration", "per_epoch", "model", "averaged", "optimizer"),
    *("losses", "seconds"),
}


def save(content, path):
    """torch.save, whole or not at all."""
    with replacing(path) as temporary:
        torch.save(content, temporary)


def save_weights(model, path, n_ovls, wavelengths=None):
    """Save a plain state_dict that the released code can load too.

    The overlap of the band groups and the wavelengths of the bands (in nm) cannot be told from the tensors:
    they travel in the state_dict's metadata (the former in the file's name too).
    """
    state = model.state_dict()
    for name in list(state):
        state[name] = state[name].detach().to("cpu", memory_format=torch.contiguous_format)
    state._metadata[METADATA_KEY] = {"n_ovls": n_ovls}
    if wavelengths is not None:
        state._metadata[METADATA_KEY]["wavelengths"] = [float(w) for w in wavelengths]
    save(state, path)


def save_run(content, folder):
    """Save a run's checkpoint as last.pth; the one that was there becomes previous.pth."""
    last, previous = (folder / name for name in RUN_FILES)
    with replacing(last) as temporary:
        torch.save(content, temporary)
        if last.exists():
            last.replace(previous)


def run_files(folder):
    """The checkpoints that are in a run's folder, the newest first."""
    return [folder / name for name in RUN_FILES if (folder / name).is_file()]


def run_of(path):
    """The folder of the run that a checkpoint's path names.

    Raises:
        UserError: if it is no run's checkpoint.
    """
    if path.name not in RUN_FILES:
        load_run(path)
        raise UserError(f"{path}: --resume takes a run's folder or its last.pth; give the checkpoint its name back")
    if not path.is_file() and not run_files(path.parent):
        raise UserError(f"{path}: no such file; give a run's folder or its last.pth")
    return path.parent


def load_newest_run(folder):
    """The newest checkpoint of a run's folder that can be read.

    Returns:
        (run, path): what was saved, as a dict on the CPU, and its file.

    Raises:
        UserError: if none can be read.
    """
    files = run_files(folder)
    if not files:
        raise UserError(f"{folder}: has no last.pth; give the folder of a run that has made a checkpoint")
    for path, older in zip(files, files[1:]):
        try:
            return load_run(path), path
        except UserError as error:
            say(f"{error}\ngoing back to {older.name}, the checkpoint before it")
    return load_run(files[-1]), files[-1]


def load_run(path):
    """What `Trainer` saved in a checkpoint, as a dict on the CPU."""
    run = _load(path)
    if not isinstance(run, dict) or not run.keys() >= RUN_KEYS:
        raise UserError(f"{path}: not a checkpoint of a run; --resume takes a last.pth (weights go to --model_dir)")
    return run


def load_network(name_or_path, n_ovls=None):
    """A network with its weights, ready to be called.

    Args:
        name_or_path: a .pth file (see `load_weights`), or the name of weights that come with the program.
        n_ovls: see `load_weights`.

    Returns:
        (model, architecture): on the CPU, in eval mode; the architecture as `architecture_of` gives it.

    Raises:
        UserError: for a file that is missing, damaged, or no network's weights.
    """
    path = weights_path(name_or_path)
    state, architecture = load_weights(path, n_ovls)
    try:
        model = build_model(**architecture)
    except ValueError as error:
        raise UserError(f"{path}: {error}; these are no weights of this program's networks") from error
    load_strictly(model, state, path)
    return model.eval(), architecture


def wavelengths_of(name_or_path, n_colors):
    """Centres in nm of the bands that weights were trained on, or None where nothing tells them.

    Own weights carry them; released ones, and runs, are known by their data set.
    """
    path = weights_path(name_or_path)
    content = _load(path)
    if content.keys() >= RUN_KEYS:
        dataset = content["config"].get("dataset_name", "")
    else:
        recorded = getattr(content, "_metadata", {}).get(METADATA_KEY, {}).get("wavelengths")
        if recorded is not None and len(recorded) == n_colors:
            return np.array(recorded)
        dataset = path.name.split("_")[0]
    known = WAVELENGTHS_OF_DATASET.get(dataset)
    return known if known is not None and len(known) == n_colors else None


def weights_path(name_or_path):
    """The file that --model_dir means: a path, or the name of weights that come with the program."""
    shipped = {p.stem: p for p in sorted(PRETRAINED.glob("*.pth"))}
    path = Path(name_or_path).expanduser()
    if path.name != str(name_or_path) or path.exists() or path.suffix == ".pth":
        return path
    if str(name_or_path) not in shipped:
        raise UserError(
            f"--model_dir {name_or_path}: no such file, and no weights of that name come with the program "
            f"(it has {', '.join(shipped) or 'none'}); give a .pth file"
        )
    return shipped[str(name_or_path)]


def load_weights(path, n_ovls=None):
    """Read weights for testing.

    Args:
        n_ovls: the overlap of the band groups, for files that nothing tells it of.
        path: a released or own .pth (a plain state_dict, also with DataParallel's `module.` prefix or
            inside {"state_dict": ...}), or a run's last.pth.

    Returns:
        (state_dict, architecture): the latter as `architecture_of` gives it.
    """
    path = Path(path)
    content, metadata = _load(path), {}
    if isinstance(content, dict):
        metadata = content.get("config", {}) if content.keys() >= RUN_KEYS else {}
        # Of a run that keeps the weights' running mean, it is the network.
        for key in ("averaged", "model", "state_dict", "net"):
            if isinstance(content.get(key), dict):
                content = content[key]
                break
    if (
        not isinstance(content, dict)
        or not content
        or not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in content.items())
    ):
        raise UserError(f"{path}: holds no state_dict; --model_dir takes a .pth of network weights")
    metadata = getattr(content, "_metadata", {}).get(METADATA_KEY, metadata)
    state = {name.removeprefix("module."): tensor for name, tensor in content.items()}
    return state, architecture_of(state, path, metadata, n_ovls)


def architecture_of(state, path, metadata=None, n_ovls=None):
    """Read a DeepShare's architecture off its tensors.

    n_ovls is not in the tensors: it comes from the file's metadata, else from "Ovls<N>" in its name (as
    released), else from a run's config.json beside it, else it is the one given, or the published 2.

    Returns:
        dict of the keyword arguments of `models.build_model`.

    Raises:
        UserError: if the tensors are not a DeepShare's.
    """
    path = Path(path)
    shared = "branch1.head.weight" in state
    branch1 = "branch1." if shared else "branch1.0."
    branch2 = "branch2." if shared else "branch2.0."
    try:
        n_feats, n_subs = state[f"{branch1}head.weight"].shape[:2]
        n_colors = state["trunk.head.weight"].shape[1]
        blocks = {m[1] for m in (re.match(r"trunk\.body\.(net\d+)\.", name) for name in state) if m}
        scale = 1
        for branch in (branch1, branch2):
            for name, tensor in state.items():
                if re.fullmatch(rf"{re.escape(branch)}upsample\.\d+\.weight", name):
                    scale *= round((tensor.shape[0] / n_feats) ** 0.5)
    except (KeyError, ValueError) as error:
        found = ", ".join(list(state)[:3])
        raise UserError(
            f"{path}: not the weights of a DeepShare (its first tensors are {found}); "
            "give a checkpoint trained by this program or by the released code"
        ) from error
    recorded = _recorded_overlap(path, metadata or {})
    if recorded is not None and n_ovls is not None and recorded != n_ovls:
        raise UserError(
            f"--n_ovls {n_ovls}: {path} was made with {recorded}; leave the flag out, or give other weights"
        )
    if recorded is None and n_ovls is None:
        say(f"{path}: nothing tells n_ovls; the published 2 is taken (--n_ovls N says otherwise)")
    n_ovls = next(n for n in (recorded, n_ovls, 2) if n is not None)
    return {
        "name": "DeepShare",
        "n_colors": int(n_colors),
        "n_scale": scale,
        "n_feats": int(n_feats),
        "n_subs": int(n_subs),
        "n_ovls": int(n_ovls),
        "n_blocks": len(blocks),
        "use_share": shared,
        "global_residual": "global_residual" in state,
    }


def _recorded_overlap(path, metadata):
    """n_ovls as the metadata, the name or the run's config.json have it; None where nothing does."""
    if (named := re.search(r"Ovls=?(\d+)", path.name)) and "n_ovls" not in metadata:
        return int(named[1])
    beside = path.parent / "config.json"
    if "n_ovls" not in metadata and beside.is_file():
        with contextlib.suppress(ValueError, OSError):
            content = json.loads(beside.read_text(encoding="utf-8"))
            metadata = content if isinstance(content, dict) else {}
    n_ovls = metadata.get("n_ovls")
    return n_ovls if isinstance(n_ovls, int) else None


def load_strictly(model, state, path):
    """Put the tensors into the model, every one and no other.

    Raises:
        UserError: naming the first tensors that do not fit.
    """
    own = model.state_dict()
    missing, surplus = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    reshaped = [k for k in own.keys() & state.keys() if own[k].shape != state[k].shape]
    if missing or surplus or reshaped:
        parts = [
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for what, names in (("missing", missing), ("unknown", surplus), ("of another shape", sorted(reshaped)))
            if names
        ]
        raise UserError(f"{path}: the tensors do not fit the network: {'; '.join(parts)}; give the matching checkpoint")
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise UserError(
                f"{path}: {name} has values that are not finite; the file is damaged or its training diverged"
            )
    model.load_state_dict(state, strict=True)


def _load(path):
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the path of a .pth checkpoint")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: holds Python objects (a whole pickled module?) or is damaged, and is not run for safety; "
            "save its state_dict() with torch.save instead"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: cannot be read as a checkpoint (truncated?); copy or download it again") from error
