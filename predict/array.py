"""Super-resolution of an array in memory."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

import formats
from config import PredictConfig
from predict import tiles
from predict.device_network import DeviceNetwork
from predict.scene import SceneUpsampler
from system.errors import UserError, format_parameters
from utils import print_line


def super_resolve(
    image: np.ndarray,
    model: str | Path | nn.Module,
    wavelengths: Sequence[float] | np.ndarray | None = None,
    *,
    value_scale: float = 0.0,
    nodata: float | None = None,
    bands: str = "auto",
    resample_bands: bool = False,
    taper: float = 50.0,
    self_ensemble: bool = False,
    back_projection: int = 0,
    precision: str = "fp32",
    normalise: str = "auto",
    tile_size: int = 0,
    tile_overlap: int = tiles.OVERLAP,
    memory_limit: float = 0.0,
    cuda: str = "auto",
    verbose: bool = False,
) -> np.ndarray:
    """Super-resolve one image as the command `predict` does, with the same defaults.

    Args:
        image: rows x columns x bands of integers or floating point; masked values are missing data.
        model: name or path of weights, or a network as `models.weights.load` returns it.
        wavelengths: band centres in nm; None if they are unknown.
        value_scale: full-scale value, required for integers of 32 and 64 bits and for floating point above 2; 0: what
            the weights record, else the maximum of the integer type, 1 for floating point.
        nodata: value that marks missing data; NaN always does.
        bands: "auto" (as trained if the bands are the network's, else "windows"), "exact", "windows" or "resample".
        resample_bands: the same as bands="resample".
        taper, self_ensemble, back_projection, precision: see the flags of the command.
        normalise: "scene": divide by the largest value; "bands": by 3 times that of each band; "none"; "auto": "bands"
            with windows, else "scene" if the largest value is below 0.5 or above 2 of full scale.
        tile_size, tile_overlap: in pixels of the image; 0: the whole image, or tiles if memory is short.
        memory_limit, cuda: GB that may be used, 0 for what is free; "auto", "1" or "0".
        verbose: print remarks and show a progress bar, in place of `warnings.warn`.

    Returns:
        s*rows x s*columns x bands in the image's type and range, masked if the image is; integers are rounded, clipped.

    Raises:
        UserError: for one band, bands that `bands` excludes, values that cannot be understood, unusable weights.
    """
    image = _check_image(image)
    settings: dict[str, Any] = {
        **{"value_scale": value_scale, "nodata": "" if nodata is None else str(nodata), "cuda": cuda},
        **{"bands": bands, "resample_bands": resample_bands, "taper": taper, "self_ensemble": self_ensemble},
        **{"back_projection": back_projection, "precision": precision, "normalise": normalise},
        **{"tile_size": tile_size, "tile_overlap": tile_overlap, "memory_limit": memory_limit},
    }
    config = PredictConfig(**settings)
    config.check_given()
    raster = formats.from_array(image, _check_wavelengths(wavelengths, image.shape[2]))
    remarks: list[str] = []
    scene = SceneUpsampler(raster, DeviceNetwork(model, config, remarks.append), config, remarks.append)
    for remark in map(format_parameters, remarks):
        print_line(remark) if verbose else warnings.warn(remark, stacklevel=2)
    return _apply_mask(image, scene.to_array(image.dtype, verbose), scene.scale)


def _check_image(image: np.ndarray) -> np.ndarray:
    """An image as an array, also a masked one, of three axes and real numbers."""
    image = image if np.ma.isMaskedArray(image) else np.asarray(image)
    if image.ndim != 3 or image.size == 0 or image.dtype.kind not in "fiu":
        raise UserError(f"an image is rows x columns x bands of real numbers, got {image.dtype} of {image.shape}")
    return image


def _apply_mask(image: np.ndarray, result: np.ndarray, scale: int) -> np.ndarray:
    """The result with the enlarged mask of a masked image; as it is for any other."""
    if not isinstance(image, np.ma.MaskedArray):
        return result
    mask = np.ma.getmaskarray(image).repeat(scale, axis=0).repeat(scale, axis=1)
    return np.ma.masked_array(result, mask, fill_value=image.fill_value)


def _check_wavelengths(wavelengths: Sequence[float] | np.ndarray | None, bands: int) -> np.ndarray | None:
    """Band centres as an array, or None."""
    if wavelengths is None:
        return None
    centres = np.asarray(wavelengths, dtype=np.float64)
    if centres.shape != (bands,):
        raise UserError(f"{centres.size} wavelengths for {bands} bands; give one for each")
    return centres
