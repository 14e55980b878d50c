"""The network that a run trains, as it starts."""

import torch

from data.sources import band_means
from models import build_model, registry
from models.blocks import keep_fewer_activations
from models.network import Network
from training.inputs import Inputs
from utils import UserError


def build_network(inputs: Inputs, device: torch.device) -> Network:
    """Make the network that a config asks for, on its device.

    Raises:
        UserError: naming the setting that cannot be.
    """
    config = inputs.config
    asked = {name: getattr(config, name) for name in registry.all_settings()}
    try:
        model = build_model(config.model_title, inputs.n_colors, config.n_scale, **asked)
        if config.init == "identity":
            model.init_identity()
    except ValueError as error:
        raise UserError(f"{error}; change that flag") from error
    if model.takes_band_means:
        model.set_band_means(band_means(inputs.streams["labelled"].source))
    keep_fewer_activations(model, config.activation_checkpointing)
    return model.placed_on(device)
