"""An image in memory made larger."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from config import PredictConfig
from data import rasters
from predict import tiles
from predict.network import DeviceNetwork
from predict.scene import SceneUpscaling
from utils import UserError, say


def super_resolve(
    image: np.ndarray,
    model: str | Path | nn.Module,
    wavelengths: Sequence[float] | np.ndarray | None = None,
    *,
    value_scale: float = 0.0,
    nodata: float | None = None,
    resample_bands: bool = False,
    taper: float = 50.0,
    self_ensemble: bool = False,
    back_projection: int = 0,
    precision: str = "fp32",
    normalise: str = "none",
    tile_size: int = 0,
    tile_overlap: int = tiles.OVERLAP,
    memory_limit: float = 0.0,
    cuda: str = "auto",
    verbose: bool = False,
) -> np.ndarray:
    """Super-resolve one image.

    Args:
        image: rows x columns x bands, any integer or floating-point type.
        model: name or path of weights, or a network as `models.weights.load` gives it (with n_colors, n_scale).
        wavelengths: band centres in nm; None where they are not known.
        value_scale: what stands for 1; 0: the integer type's maximum, 1 for floating point.
        nodata: value that marks missing data; NaN always does.
        resample_bands: interpolate the bands to the network's, and its detail back to them.
        taper: nm beyond the network's range over which that detail fades out.
        self_ensemble: the mean over 8 flips and rotations.
        back_projection: how many times what the result lacks of the input is added to it.
        precision: "fp32", "tf32" or "bf16".
        normalise: "scene": the network sees the image divided by its largest value; "auto": where that is below 0.5 or
            above 2 of what stands for 1; "none".
        tile_size, tile_overlap: in pixels of the image; 0: the whole image, or tiles as the memory wants them.
        memory_limit: GB that may be used; 0: what is free.
        cuda: "auto", "1" or "0".
        verbose: say what is done, and show a progress bar.

    Returns:
        s*rows x s*columns x bands in the image's type and range; integers are rounded and clipped to their type.

    Raises:
        UserError: for bands that do not fit the network, values that cannot be understood, unusable weights.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.size == 0 or image.dtype.kind not in "fiu":
        raise UserError(f"an image is rows x columns x bands of real numbers, got {image.dtype} of {image.shape}")
    settings: dict[str, Any] = {
        **{"value_scale": value_scale, "nodata": "" if nodata is None else str(nodata), "cuda": cuda},
        **{"resample_bands": resample_bands, "self_ensemble": self_ensemble, "back_projection": back_projection},
        **{"precision": precision, "normalise": normalise, "taper": taper},
        **{"tile_size": tile_size, "tile_overlap": tile_overlap, "memory_limit": memory_limit},
    }
    config = PredictConfig(**settings)
    config.check_given()
    raster = rasters.from_array(image, _centres(wavelengths, image.shape[2]))
    scene = SceneUpscaling(raster, DeviceNetwork(model, config), config, say if verbose else lambda text: None)
    return scene.to_array(image.dtype, verbose)


def _centres(wavelengths, bands):
    """Band centres as an array, or None."""
    if wavelengths is None:
        return None
    centres = np.asarray(wavelengths, dtype=np.float64)
    if centres.shape != (bands,):
        raise UserError(f"{centres.size} wavelengths for {bands} bands; give one for each")
    return centres
