"""The network on the device that it runs on."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from config import PredictConfig
from data.bands import BandList
from models import weights
from models.precision import DEVIATIONS
from models.predictor import wrap_for_inference
from predict import tiles
from system.devices import select_device, warn_slow_bf16
from system.machine import get_free_memory


class DeviceNetwork:
    """A network on its device, and what is known of it.

    Args:
        model: name or path of weights, or a network with n_colors and n_scale.
        config: says the device, the arithmetic, and whether the network is asked eight times.
        tell: takes a message for the user, or None.

    Attributes:
        device: the torch device.
        n_scale: enlargement.
        bands: those that it was trained on.
        sensor: bands of the sensor whose windows it was adapted to; None if it was not.
        architecture: see `tiles.estimate_bytes`.
        fingerprint: tells these weights from others; "" for a network that was given as such.
        value_scale: full-scale value of the sensor that the weights were adapted to; 0 if they record none.

    Raises:
        UserError: for a device that is not there, and weights that cannot be used.
    """

    def __init__(
        self,
        model: str | Path | nn.Module,
        config: PredictConfig,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.architecture: dict[str, Any]
        self.device = select_device(config.cuda, config.gpus)
        if isinstance(model, nn.Module):
            network, self.fingerprint, self.value_scale, self.sensor = model, "", 0.0, None
            # A network of somebody's own need not say how wide it is, nor for which wavelengths.
            width = getattr(model, "n_feats", 0)
            self.architecture = {"n_colors": model.n_colors, "n_scale": model.n_scale, "n_feats": width}
            wavelengths = getattr(model, "wavelengths", None)
        else:
            loaded = weights.load(model)
            network, self.fingerprint = loaded.model, loaded.fingerprint
            self.architecture, wavelengths = loaded.architecture, loaded.wavelengths
            self.value_scale, self.sensor = loaded.value_scale, loaded.sensor
        self.n_scale: int = self.architecture["n_scale"]
        self.bands = BandList(self.architecture["n_colors"], wavelengths)
        network.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        warn_slow_bf16(config.precision, self.device)
        if tell and config.precision in DEVIATIONS:
            tell(DEVIATIONS[config.precision])
        if config.precision == "bf16" and isinstance(model, nn.Module):
            # A caller's network stays as it is.
            network = copy.deepcopy(network)
        self.model = wrap_for_inference(network, config.precision, config.self_ensemble)

    def get_free_memory(self, limit_gb: float) -> int:
        """Bytes at hand on the device: what a limit in GB comes to, or what is free (0 where nobody knows)."""
        if limit_gb:
            return int(limit_gb * 1e9 / tiles.USABLE_SHARE)
        if self.device.type == "cuda":
            return torch.cuda.mem_get_info(self.device)[0]
        return get_free_memory()
