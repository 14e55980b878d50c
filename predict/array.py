"""Super-resolution of arrays in memory."""

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
        nodata: nodata value; NaN always is missing data.
        bands: "auto" (as trained if the bands are the network's, else "windows"), "exact", "windows" or "resample".
        resample_bands: the same as bands="resample".
        taper: nm beyond the network's range over which the detail of bands="resample" fades out.
        self_ensemble: average over the 8 flips and rotations.
        back_projection: iterations of iterative back-projection.
        precision: "fp32", "tf32" or "bf16".
        normalise: "scene": divide by the largest value; "bands": by 3 times that of each band; "none"; "auto": "bands"
            with windows, else "scene" if the largest value is below 0.5 or above 2 of full scale.
        tile_size, tile_overlap: in pixels of the image; 0: the whole image, or tiles if memory is short.
        memory_limit: GB that may be used; 0: all free memory.
        cuda: "auto", "1" or "0".
        verbose: print remarks and show a progress bar, instead of `warnings.warn`.

    Returns:
        s*rows x s*columns x bands in the image's type and range, masked if the image is; integers are rounded, clipped.

    Raises:
        UserError: for a single band, bands that `bands` excludes, an unknown full-scale value, invalid weights.
    """
    image = _check_image(image)
    settings: dict[str, Any] = {
        **{"value_scale": value_scale, "nodata": "" if nodata is None else str(nodata), "cuda": cuda},
        **{"bands": bands, "resample_bands": resample_bands, "taper": taper, "self_ensemble": self_ensemble},
        **{"back_projection": back_projection, "precision": precision, "normalise": normalise},
        **{"tile_size": tile_size, "tile_overlap": tile_overlap, "memory_limit": memory_limit},
    }
    config = PredictConfig(**settings)
    config.check_limits()
    config.check_given()
    raster = formats.from_array(image, _check_wavelengths(wavelengths, image.shape[2]), nodata)
    remarks: list[str] = []
    scene = SceneUpsampler(raster, DeviceNetwork(model, config, remarks.append), config, remarks.append)
    for remark in map(format_parameters, remarks):
        print_line(remark) if verbose else warnings.warn(remark, stacklevel=2)
    return _apply_mask(image, scene.to_array(image.dtype, verbose), scene.scale)


def _check_image(image: np.ndarray) -> np.ndarray:
    """Return an image as an array or masked array of rows x columns x bands.

    Raises:
        UserError: for another number of axes or another type.
    """
    image = image if np.ma.isMaskedArray(image) else np.asarray(image)
    if image.ndim != 3 or image.size == 0 or image.dtype.kind not in "fiu":
        raise UserError(f"image must be rows x columns x bands of real numbers, got {image.dtype} of {image.shape}")
    return image


def _apply_mask(image: np.ndarray, result: np.ndarray, scale: int) -> np.ndarray:
    """Return the result with the upsampled mask of a masked image; unchanged for other images."""
    if not isinstance(image, np.ma.MaskedArray):
        return result
    mask = np.ma.getmaskarray(image).repeat(scale, axis=0).repeat(scale, axis=1)
    return np.ma.masked_array(result, mask, fill_value=image.fill_value)


def _check_wavelengths(wavelengths: Sequence[float] | np.ndarray | None, bands: int) -> np.ndarray | None:
    """Return band centres as an array, or None.

    Raises:
        UserError: for another number of wavelengths than bands.
    """
    if wavelengths is None:
        return None
    centres = np.asarray(wavelengths, dtype=np.float64)
    if centres.shape != (bands,):
        raise UserError(f"{centres.size} wavelengths for {bands} bands; give one for each band")
    return centres
