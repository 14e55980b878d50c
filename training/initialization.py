"""Initialisation of the network that a run trains: fresh, or from given weights (fine-tuning)."""

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
    """Build the network of a config on its device.

    Returns:
        (network, about): about describes the weights it starts from, for config.json; {} without them.

    Raises:
        UserError: naming a setting that is not possible, or weights that do not fit the settings.
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
        taken = set(about["started_from"]["taken"].split(", "))
        has_all = taken == {"all"} or {b.rstrip(".") for b in model.branch_prefixes} <= taken
        if config.freeze and not (has_all and given.architecture["n_scale"] == config.n_scale):
            raise UserError(
                f"--freeze {config.freeze}: {given.path} is of other bands or another scale, so that its branches, or "
                "a part of them, start anew; leave the flag out, or give weights of this scale whose groups share "
                "their branches"
            )
    if config.freeze:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(model.branch_prefixes))
    set_activation_checkpointing(model, config.activation_checkpointing)
    return model.move_to(device), about


def refuse_other_network(given: weights.Weights, asked: Mapping[str, Any]) -> None:
    """Raise UserError if weights to start from are of another network or width than asked: its settings and name."""
    # The overlap of the band groups changes no tensor if all groups share their branches.
    free = ("n_ovls",) if asked.get("use_share", True) else ()
    names = ("name", *(k for k in registry.list_settings() if k not in free))
    differing = [k for k in names if k in given.architecture and asked[k] != given.architecture[k]]
    if differing:
        # Switches as flags take them: 0 or 1.
        found, wanted = (
            ", ".join(f"{k} {int(had[k]) if isinstance(had[k], bool) else had[k]}" for k in differing)
            for had in (given.architecture, asked)
        )
        raise UserError(
            f"--weights {given.path}: has {found}, where the run has {wanted}; give the flags of the weights, or other "
            "weights"
        )


def start_from(model: Network, given: weights.Weights, wavelengths: np.ndarray | None) -> dict[str, Any]:
    """Copy weights into a fresh network: all of them, or the part that fits its bands and its scale; log which.

    Args:
        model: the fresh network, of the weights' architecture except for bands and scale.
        given: the weights.
        wavelengths: centres in nm of its bands, or None.

    Returns:
        {"started_from": {file, SHA-256, parts taken}}, for config.json.
    """
    bands, scale = given.architecture["n_colors"], given.architecture["n_scale"]
    state, fresh = given.model.state_dict(), model.state_dict()
    kept = dict(state)
    trained = []
    depends_on_bands = bands and given.model.band_prefixes
    if depends_on_bands and not are_same_bands(model.n_colors, wavelengths, bands, given.wavelengths):
        kept = {name: tensor for name, tensor in kept.items() if not name.startswith(model.band_prefixes)}
        trained.append(f"on {bands} other bands")
    if scale != model.n_scale:
        kept = {name: tensor for name, tensor in kept.items() if name in fresh and tensor.shape == fresh[name].shape}
        trained.append(f"for x{scale}")
    taken = "all"
    if trained:
        taken = _list_parts(name for name in fresh if name in kept)
        # Of other bands whole parts start anew, of another scale the upsampler of a branch.
        anew = ", ".join(
            part if part not in taken.split(", ") else f"{part}.upsample"
            for part in _list_parts(name for name in fresh if name not in kept).split(", ")
        )
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


def _list_parts(names: Iterable[str]) -> str:
    """Return the names of the parts of a network that tensors belong to, with commas between."""
    parts = dict.fromkeys(name.split(".")[0] for name in names)
    return ", ".join(part for part in parts if part != "global_residual")
