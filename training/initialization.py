"""The network that a run trains, as it starts."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from data.sources import compute_band_means
from facts import are_same_bands
from models import build_model, registry, weights
from models.blocks import set_activation_checkpointing
from models.network import Network
from system.errors import UserError
from training.inputs import Inputs
from utils import as_utf8, print_line


def build_network(inputs: Inputs, device: torch.device) -> tuple[Network, dict[str, Any]]:
    """Make the network that a config asks for, on its device.

    Returns:
        (network, about): about says what weights it starts from, for config.json; {} for fresh ones.

    Raises:
        UserError: naming the setting that cannot be, or weights that cannot be started from.
    """
    config = inputs.config
    asked = {name: getattr(config, name) for name in registry.list_settings()}
    try:
        model = build_model(config.model_title, inputs.n_colors, config.n_scale, **asked)
        if config.init == "identity":
            model.init_identity()
    except ValueError as error:
        raise UserError(f"{error}; change that flag") from error
    if model.has_band_means:
        model.set_band_means(compute_band_means(inputs.streams["labelled"].source))
    about = {}
    if config.weights:
        given = weights.load(config.weights, n_scale=config.n_scale, flag="weights")
        refuse_other_network(given, {**asked, "name": config.model_title})
        about = start_from(model, given, inputs.wavelengths)
        taken = about["started_from"]["taken"].split(", ")
        has_all = taken == ["all"] or {b.rstrip(".") for b in model.branch_prefixes} <= set(taken)
        if config.freeze and not (has_all and given.architecture["n_scale"] == config.n_scale):
            raise UserError(
                f"--freeze {config.freeze}: {given.path} is of other bands or another scale, so that its branches, or "
                "a part of them, start anew; leave the flag out, or give weights of this scale whose groups share "
                "their branches"
            )
    if config.freeze:
        freeze(model)
    set_activation_checkpointing(model, config.activation_checkpointing)
    return model.move_to(device), about


def refuse_other_network(given: weights.Weights, asked: Mapping[str, Any]) -> None:
    """Refuse weights to start from that are of another network or width than the run's.

    Args:
        given: the weights.
        asked: the settings of the run's network, and its name.

    Raises:
        UserError: with both.
    """
    # The overlap of the band groups changes no tensor if all groups share their branches.
    free = ("n_ovls",) if asked.get("use_share", True) else ()
    names = ("name", *(k for k in registry.list_settings() if k not in free))
    others = [k for k in names if k in given.architecture and asked[k] != given.architecture[k]]
    if others:
        theirs, ours = (", ".join(f"{k} {_plain(had[k])}" for k in others) for had in (given.architecture, asked))
        raise UserError(
            f"--weights {given.path}: has {theirs}, where the run has {ours}; give the flags of the weights, or other "
            "weights"
        )


def is_of_bands(given: weights.Weights, n_colors: int, wavelengths: np.ndarray | None) -> bool:
    """Whether all of some weights serves these bands: they are its own, or nothing of it depends on them."""
    bands = given.architecture["n_colors"]
    return not bands or not given.model.band_prefixes or are_same_bands(n_colors, wavelengths, bands, given.wavelengths)


def start_from(model: Network, given: weights.Weights, wavelengths: np.ndarray | None) -> dict[str, Any]:
    """Copy weights into a fresh network: all of them, or the part that fits its bands and its scale.

    One line of output says which parts were taken and which start anew.

    Args:
        model: the fresh network, of the weights' architecture except for bands and scale.
        given: the weights.
        wavelengths: centres in nm of its bands, or None.

    Returns:
        {"started_from": {file, SHA-256, what was taken}}, for config.json.
    """
    bands, scale = given.architecture["n_colors"], given.architecture["n_scale"]
    state, fresh = given.model.state_dict(), model.state_dict()
    kept = dict(state)
    trained = []
    if not is_of_bands(given, model.n_colors, wavelengths):
        kept = {name: tensor for name, tensor in kept.items() if not name.startswith(model.band_prefixes)}
        trained.append(f"on {bands} other bands")
    if scale != model.n_scale:
        kept = {name: tensor for name, tensor in kept.items() if name in fresh and tensor.shape == fresh[name].shape}
        trained.append(f"for x{scale}")
    taken = "all"
    if trained:
        taken = ", ".join(_parts(name for name in fresh if name in kept))
        anew = ", ".join(_parts(name for name in fresh if name not in kept))
        print_line(f"{given.path}: was trained {' and '.join(trained)}: {taken} are taken; {anew} start anew")
    elif not model.band_prefixes:
        print_line(f"{given.path}: nothing of it depends on the bands: all of it is taken")
    elif wavelengths is not None and given.wavelengths is not None:
        print_line(f"{given.path}: was trained on these {model.n_colors} bands: all of it is taken")
    else:
        print_line(
            f"{given.path}: was trained on {bands} bands too, not all known by their wavelengths: all of it is taken"
        )
    weights.load_strictly(model, {**fresh, **kept}, given.path)
    return {"started_from": {"file": as_utf8(given.path.name), "sha256": given.fingerprint, "taken": taken}}


def _parts(names: Iterable[str]) -> list[str]:
    """Names of the parts of a network that tensors belong to; an upsampler is a part of its own."""
    parts = (".".join(name.split(".")[: 2 if ".upsample." in name else 1]) for name in names)
    return [part for part in dict.fromkeys(parts) if part != "global_residual"]


def freeze(model: Network) -> None:
    """Let the network's branches stay as they are in training."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(model.branch_prefixes))


def _plain(value: Any) -> Any:
    """A setting as a flag takes it."""
    return int(value) if isinstance(value, bool) else value
