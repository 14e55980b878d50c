"""Synthetic hyperspectral scenes: scikit-image's photographs lifted to 31 bands.

Each pixel has the smoothest spectrum (least sum of squared second differences along 400..700 nm) whose CIE colour is
that of the pixel, mapped to 0.04..1, since a surface of refractive index 1.5 reflects at least 4 % at any wavelength.
The scenes have realistic colours and smooth spectra, but only three degrees of freedom per pixel: enough to try the
program, not to compare methods.
"""

from pathlib import Path

import numpy as np
import skimage.color
import skimage.data
from PIL import Image

from data import store
from data.spectral import load_matching_functions
from facts import VISIBLE
from system.files import atomic_write

EDGE = 256
# Fresnel reflection of refractive index 1.5 at normal incidence: ((1.5 - 1) / (1.5 + 1))^2.
MIRRORED = 0.04
# Photographs by split, each with the top left corner of its crop.
PHOTOGRAPHS = {
    "labelled": {"astronaut": (0, 100), "chelsea": (20, 100)},
    "unlabelled": {"rocket": (170, 190), "retina": (500, 300), "coffee": (60, 120)},
    # Fine structure in two colours, so that super-resolution can improve the spectra too.
    "test": {"immunohistochemistry": (100, 100)},
}
RGB_PHOTOGRAPHS = {"astronaut": (256, 200), "hubble_deep_field": (300, 300), "rocket": (0, 300)}


def compute_spectrum_matrix() -> np.ndarray:
    """Return the 31 x 3 matrix from CIE XYZ to the smoothest spectrum of that colour (Lagrange multipliers)."""
    sensitivity = load_matching_functions()
    bands = len(sensitivity)
    second_difference = np.diff(np.eye(bands), n=2, axis=0)
    roughness = second_difference.T @ second_difference
    system = np.block([[roughness, sensitivity], [sensitivity.T, np.zeros((3, 3))]])
    return np.linalg.solve(system, np.vstack([np.zeros((bands, 3)), np.eye(3)]))[:bands]


def lift_photograph(pixels: np.ndarray) -> np.ndarray:
    """Lift H x W x 3 uint8 sRGB to H x W x 31 uint16 radiance with full-scale value 65535."""
    xyz = skimage.color.rgb2xyz(pixels)
    cube = MIRRORED + (1 - MIRRORED) * np.clip(xyz @ compute_spectrum_matrix().T, 0, 1)
    return (cube * 65535).round().astype(np.uint16)


def write_demo_data(folder: Path) -> list[Path]:
    """Write labelled.h5, unlabelled.h5, test.h5 and a folder rgb of pictures; return their paths."""
    written = []
    for split, names in PHOTOGRAPHS.items():
        parts = []
        for name, corner in names.items():
            scene = store.Scene(
                name=name,
                cube=lift_photograph(_crop_photograph(name, corner)),
                value_scale=65535.0,
                wavelengths=VISIBLE,
                source=f"skimage.data.{name}, lifted to 31 bands",
            )
            parts.append(folder / f".{split}_{name}.h5")
            store.write_part(parts[-1], scene)
        written.append(folder / f"{split}.h5")
        store.join_parts(written[-1], parts, {"dataset": "Demo", "protocol": "corrected", "program": "demo"})
        for part in parts:
            part.unlink()
    for name, corner in RGB_PHOTOGRAPHS.items():
        with atomic_write(folder / "rgb" / f"{name}.png") as temporary:
            Image.fromarray(_crop_photograph(name, corner)).save(temporary, format="PNG")
    return [*written, folder / "rgb"]


def _crop_photograph(name: str, corner: tuple[int, int]) -> np.ndarray:
    top, left = corner
    return np.ascontiguousarray(getattr(skimage.data, name)()[top : top + EDGE, left : left + EDGE, :3])
