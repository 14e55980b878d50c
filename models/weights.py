"""Weights and runs on disk: atomic saving, resuming, and strict reading of anybody's weights of the networks here."""

import contextlib
import json
import pickle
import re
from pathlib import Path

import numpy as np
import torch

from data.datasets import WAVELENGTHS_OF_DATASET
from models import build_model
from models.mcnet import CAVE_BAND_MEANS
from utils import UserError, replacing, say

# Weights that come with the program; --model_dir takes their names.
PRETRAINED = Path(__file__).parent.parent / "pretrained"

# The key under which a final state_dict carries, outside its tensors, what these cannot tell.
METADATA_KEY = "architecture"
# What a run leaves to go on from: the newest checkpoint and the one before it.
RUN_FILES = ("last.pth", "previous.pth")
RUN_KEYS = {
    *("config", "n_colors", "patches", "iteration", "per_epoch", "processes", "model", "averaged"),
    *("optimizer", "losses", "seconds"),
}


def save(content, path):
    """torch.save, whole or not at all."""
    with replacing(path) as temporary:
        torch.save(content, temporary)


def save_weights(model, path, n_ovls, wavelengths=None):
    """Save a plain state_dict that the released code can load too.

    What cannot be told from the tensors travels in the state_dict's metadata: the overlap of the band groups
    (it is in the file's name too), the wavelengths of the bands in nm, and of some peers the scale and the
    number of bands.
    """
    state = model.state_dict()
    for name in list(state):
        state[name] = state[name].detach().to("cpu", memory_format=torch.contiguous_format)
    metadata = {"n_ovls": n_ovls, "n_scale": model.n_scale, "n_colors": model.n_colors}
    if wavelengths is not None:
        metadata["wavelengths"] = [float(w) for w in wavelengths]
    state._metadata[METADATA_KEY] = metadata
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


def load_network(name_or_path, n_ovls=None, n_scale=None):
    """A network with its weights, ready to be called.

    Args:
        name_or_path: a .pth file (see `load_weights`), or the name of weights that come with the program.
        n_ovls, n_scale: see `load_weights`.

    Returns:
        (model, architecture): on the CPU, in eval mode; the architecture as `architecture_of` gives it.

    Raises:
        UserError: for a file that is missing, damaged, or no network's weights.
    """
    path = weights_path(name_or_path)
    state, architecture = load_weights(path, n_ovls, n_scale)
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


def load_weights(path, n_ovls=None, n_scale=None):
    """Read weights for testing.

    Args:
        n_ovls, n_scale: the overlap of the band groups, and the scale, for files that nothing tells them of.
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
    if "SSRM1.gamma" in state and "band_means" not in state:
        say(f"{path}: holds no band means; those of the released MCNet, of CAVE, are taken")
        state["band_means"] = torch.tensor(CAVE_BAND_MEANS)
    return state, architecture_of(state, path, metadata, n_ovls, n_scale)


def architecture_of(state, path, metadata=None, n_ovls=None, n_scale=None):
    """Read a network's architecture off its tensors.

    n_ovls is not in the tensors, nor is n_scale in those of GDRRN and 3DFCNN, nor n_colors in those of the latter:
    they come from the file's metadata, else (n_ovls) from "Ovls<N>" in its name, as released, else from a run's
    config.json beside it. Where nothing tells them, they are those given; n_ovls else the published 2, and
    n_colors 0, which stands for any.

    Returns:
        dict of the keyword arguments of `models.build_model` that the network has.

    Raises:
        UserError: if the tensors are none of these networks', or nothing tells the scale.
    """
    path = Path(path)
    name = next((n for n, (mark, _) in _READERS.items() if any(t.startswith(mark) for t in state)), None)
    try:
        architecture = {"name": name, **_READERS[name][1](state)}
    except (LookupError, TypeError, ValueError, ZeroDivisionError) as error:
        found = ", ".join(list(state)[:3])
        raise UserError(
            f"{path}: not the weights of a {name or ' or '.join(_READERS)} (its first tensors are {found}); "
            "give a checkpoint trained by this program or by the released code"
        ) from error
    if "n_subs" in architecture:
        architecture["n_ovls"] = _told("n_ovls", _recorded("n_ovls", path, metadata), n_ovls, path)
        if architecture["n_ovls"] is None:
            say(f"{path}: nothing tells n_ovls; the published 2 is taken (--n_ovls N says otherwise)")
            architecture["n_ovls"] = 2
    if "n_scale" not in architecture:
        architecture["n_scale"] = _told("n_scale", _recorded("n_scale", path, metadata), n_scale, path)
        if architecture["n_scale"] is None:
            raise UserError(f"{path}: nothing tells for what scale these weights are; give --n_scale, as 4")
    if "n_colors" not in architecture:
        architecture["n_colors"] = _recorded("n_colors", path, metadata) or 0
    return architecture


def _deepshare(state):
    shared = "branch1.head.weight" in state
    branch1, branch2 = ("branch1.", "branch2.") if shared else ("branch1.0.", "branch2.0.")
    n_feats, n_subs = state[f"{branch1}head.weight"].shape[:2]
    return {
        "n_colors": state["trunk.head.weight"].shape[1],
        "n_scale": _enlargement(state, branch1, n_feats) * _enlargement(state, branch2, n_feats),
        "n_feats": n_feats,
        "n_subs": n_subs,
        "n_blocks": _count(state, r"trunk\.body\.(net\d+)\."),
        "use_share": shared,
        "global_residual": "global_residual" in state,
    }


def _sspsr(state):
    n_feats, n_subs = state["branch.head.weight"].shape[:2]
    return {
        "n_colors": state["trunk.head.weight"].shape[1],
        "n_scale": _enlargement(state, "branch.", n_feats) * _enlargement(state, "trunk.", n_feats),
        "n_feats": n_feats,
        "n_subs": n_subs,
        "n_blocks": _count(state, r"trunk\.body\.net\.(\d+)\."),
        "global_residual": "global_residual" in state,
    }


def _mcnet(state):
    return {
        "n_colors": len(state["band_means"]),
        "n_scale": state["tail.0.weight_v"].shape[-1] - 2,
        "n_feats": len(state["head.weight_g"]),
        "n_blocks": _count(state, r"SSRM1\.Block1\.(\d+)\."),
        "global_residual": "global_residual" in state,
    }


def _gdrrn(state):
    n_feats, n_colors = state["input.weight"].shape[:2]
    return {"n_colors": n_colors, "n_feats": n_feats}


def _fcnn3d(state):
    return {"global_residual": "global_residual" in state}


# How the names of a network's tensors begin and no other's, and what reads them.
_READERS = {
    "DeepShare": ("branch1.", _deepshare),
    "SSPSR": ("branch.", _sspsr),
    "GDRRN": ("input.", _gdrrn),
    "3DFCNN": ("conv4.", _fcnn3d),
    "MCNet": ("SSRM1.", _mcnet),
}


def _enlargement(state, branch, n_feats):
    """The scale of a branch's upsampler: each of its convolutions makes scale**2 maps of one."""
    scale = 1
    for name, tensor in state.items():
        if re.fullmatch(rf"{re.escape(branch)}upsample\.\d+\.weight", name):
            scale *= round((tensor.shape[0] / n_feats) ** 0.5)
    return scale


def _count(state, pattern):
    """How many different blocks the tensors' names have, by the pattern's group."""
    return len({m[1] for m in (re.match(pattern, name) for name in state) if m})


def _told(name, recorded, given, path):
    """A setting as recorded, else as given, else None; the two must not contradict each other."""
    if None not in (recorded, given) and recorded != given:
        raise UserError(f"--{name} {given}: {path} was made with {recorded}; leave the flag out, or give other weights")
    return given if recorded is None else recorded


def _recorded(name, path, metadata):
    """A setting as the metadata, the file's name or the run's config.json have it; None where nothing does."""
    metadata = metadata or {}
    named = re.search(r"Ovls=?(\d+)", path.name) if name == "n_ovls" else None
    if named and name not in metadata:
        return int(named[1])
    beside = path.parent / "config.json"
    if name not in metadata and beside.is_file():
        with contextlib.suppress(ValueError, OSError):
            content = json.loads(beside.read_text(encoding="utf-8"))
            metadata = content if isinstance(content, dict) else {}
    value = metadata.get(name)
    return value if isinstance(value, int) else None


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
