"""Weights and runs on disk: atomic saving, resuming, and strict reading of anybody's DeepShare weights."""

import json
import pickle
import re
from pathlib import Path

import torch

from utils import UserError, replacing

# The key under which a final state_dict carries, outside its tensors, what these cannot tell.
METADATA_KEY = "architecture"


def save(content, path):
    """torch.save, whole or not at all."""
    with replacing(path) as temporary:
        torch.save(content, temporary)


def save_weights(model, path, n_ovls):
    """Save a plain state_dict that the released code can load too.

    The overlap of the band groups cannot be told from the tensors: it travels in the state_dict's
    metadata (and in the file's name).
    """
    state = model.state_dict()
    for name in list(state):
        state[name] = state[name].detach().to("cpu", memory_format=torch.contiguous_format)
    state._metadata[METADATA_KEY] = {"n_ovls": n_ovls}
    save(state, path)


def load_run(path):
    """What `Trainer` saved in last.pth, as a dict on the CPU."""
    run = _load(path)
    if not isinstance(run, dict) or "optimizer" not in run:
        raise UserError(f"{path}: not a checkpoint of a run; --resume takes a last.pth (weights go to --model_dir)")
    return run


def load_weights(path):
    """Read weights for testing.

    Args:
        path: a released or own .pth (a plain state_dict, also with DataParallel's `module.` prefix or
            inside {"state_dict": ...}), or a run's last.pth.

    Returns:
        (state_dict, architecture): the latter as `architecture_of` gives it.
    """
    path = Path(path)
    content, metadata = _load(path), {}
    if isinstance(content, dict):
        metadata = content.get("config", {})
        for key in ("model", "state_dict", "net"):
            if isinstance(content.get(key), dict):
                content = content[key]
                break
    if not isinstance(content, dict) or not content or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise UserError(f"{path}: holds no state_dict; --model_dir takes a .pth of network weights")
    metadata = getattr(content, "_metadata", {}).get(METADATA_KEY, metadata)
    state = {name.removeprefix("module."): tensor for name, tensor in content.items()}
    return state, architecture_of(state, path, metadata)


def architecture_of(state, path, metadata=None):
    """Read a DeepShare's architecture off its tensors.

    n_ovls is not in the tensors: it comes from the file's metadata, else from the run's config.json
    beside it, else from "Ovls<N>" in the file's name (as released), else it is the published 2.

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
    named = re.search(r"Ovls=?(\d+)", path.name)
    beside = path.parent / "config.json"
    if metadata and "n_ovls" in metadata:
        n_ovls = metadata["n_ovls"]
    elif beside.is_file() and "n_ovls" in (config := json.loads(beside.read_text(encoding="utf-8"))):
        n_ovls = config["n_ovls"]
    else:
        n_ovls = int(named[1]) if named else 2
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
