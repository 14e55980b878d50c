"""The network of `predict` on its device."""

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
    """A network on its device, with its metadata.

    Args:
        model: name or path of weights, or a network with n_colors and n_scale.
        config: device, precision and self-ensemble.
        log: called with each message for the user, or None.

    Attributes:
        device: the torch device.
        n_scale: upsampling factor.
        bands: of its training.
        sensor: bands of the sensor whose windows it was fine-tuned on, or None.
        architecture: see `tiles.estimate_bytes`.
        fingerprint: hash of the weights; "" for a network given as a module.
        value_scale: full-scale value of the sensor that the weights were fine-tuned for; 0 if not recorded.

    Raises:
        UserError: for an unavailable device, and invalid weights.
    """

    def __init__(
        self,
        model: str | Path | nn.Module,
        config: PredictConfig,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.architecture: dict[str, Any]
        self.device = select_device(config.cuda, config.gpus)
        if isinstance(model, nn.Module):
            network, self.fingerprint, self.value_scale, self.sensor = model, "", 0.0, None
            # A caller's network need not have a width or wavelengths.
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
        if log and config.precision in DEVIATIONS:
            log(DEVIATIONS[config.precision])
        if config.precision == "bf16" and isinstance(model, nn.Module):
            # The conversion is in place and must not change the caller's network.
            network = copy.deepcopy(network)
        self.model = wrap_for_inference(network, config.precision, config.self_ensemble)

    def get_free_memory(self, limit_gb: float) -> int:
        """Return the available bytes on the device: a limit in GB, or the free memory (0 if unknown)."""
        if limit_gb:
            return int(limit_gb * 1e9 / tiles.USABLE_SHARE)
        if self.device.type == "cuda":
            return torch.cuda.mem_get_info(self.device)[0]
        return get_free_memory()
