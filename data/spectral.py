"""Spectral Mixup, the conversion of many bands to 8 channels, and the lift of RGB to 8 channels."""

from pathlib import Path

import numpy as np
import scipy.io
import torch

from facts import VISIBLE
from formats.kinds import make_kind_error
from system.errors import DataError, refuse_small_memory

# K: weights of red, green and blue in each of the 8 channels of the shared branches. The released matrix has 0.76
# (0.66 would sum to one), and the released weights were trained with it.
RGB_TO_CHANNELS = np.array(
    [
        [1, 0.66, 0.34, 0, 0, 0, 0, 0],
        [0, 0.34, 0.76, 1, 0.75, 0.5, 0.25, 0],
        [0, 0, 0, 0, 0.25, 0.5, 0.75, 1],
    ]
)
# 31 bands, 400..700 nm in steps of 10, to 8 channels: CIE colour matching functions times the lift.
RELEASED_CONVERSION = Path(__file__).parent / "conversion_31_to_8.csv"


def apply_along_bands(x: torch.Tensor, matrix: torch.Tensor | np.ndarray) -> torch.Tensor:
    """Multiply B x C x H x W by C x K along the bands: B x K x H x W in the dtype of x and in channels_last.

    Raises:
        ValueError: if the matrix does not have C rows.
    """
    matrix = torch.as_tensor(matrix, dtype=x.dtype, device=x.device)
    if matrix.ndim != 2 or matrix.shape[0] != x.shape[1]:
        raise ValueError(f"matrix must have a row for each of the {x.shape[1]} bands, got {tuple(matrix.shape)}")
    # A product along the last axis of B x H x W x C: the result is in channels_last, and so is the gradient.
    return (x.permute(0, 2, 3, 1) @ matrix).permute(0, 3, 1, 2)


def spectral_mixup(x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Apply Spectral Mixup to a batch: (X + X R) / 2 along the bands (arXiv 2101.07589, section 3.3).

    Args:
        x: B x C x H x W, values 0..1.
        matrix: R, C x C, from `draw_mixup_matrix`, the same for ms, lms and gt.

    Returns:
        B x C x H x W; single values may exceed 1.
    """
    return (x + apply_along_bands(x, matrix)) / 2


def draw_mixup_matrix(n_colors: int, generator: np.random.Generator) -> torch.Tensor:
    """Draw R ~ U(0,1)^(C x C) divided by the mean of its column sums (a scalar), as a float32 tensor.

    See arXiv 2101.07589, section 3.3.
    """
    matrix = generator.random((n_colors, n_colors))
    return torch.from_numpy((matrix / matrix.sum(axis=0).mean()).astype(np.float32))


def convert_bands(x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Apply F of the consistency loss: B x C x H x W times the C x K conversion -> B x K x H x W."""
    return apply_along_bands(x, matrix)


def make_lift_matrix(n_subs: int) -> np.ndarray:
    """Return K, the 3 x n_subs lift of RGB (red first) to one band group; interpolated for n_subs != 8."""
    if n_subs == RGB_TO_CHANNELS.shape[1]:
        return RGB_TO_CHANNELS.copy()
    from_positions = np.linspace(0, 1, RGB_TO_CHANNELS.shape[1])
    to_positions = np.linspace(0, 1, n_subs)
    return np.stack([np.interp(to_positions, from_positions, row) for row in RGB_TO_CHANNELS])


def load_matching_functions() -> np.ndarray:
    """Return S, 31 x 3: the CIE functions x, y, z at 400..700 nm as the released conversion contains them.

    They are the three columns in which the lift is 1 for one colour and 0 for the other two.
    """
    released = np.loadtxt(RELEASED_CONVERSION, delimiter=",")
    alone = RGB_TO_CHANNELS.sum(axis=0) == 1
    return released[:, [int(np.flatnonzero((row == 1) & alone)[0]) for row in RGB_TO_CHANNELS]]


def load_conversion(n_subs: int = 8) -> np.ndarray:
    """Return F for 31 bands of 400..700 nm: the released 31 x 8 matrix, or S K with K of n_subs columns."""
    if n_subs == RGB_TO_CHANNELS.shape[1]:
        return np.loadtxt(RELEASED_CONVERSION, delimiter=",")
    output: np.ndarray = load_matching_functions() @ make_lift_matrix(n_subs)
    return output


def make_conversion(wavelengths: np.ndarray, n_subs: int = 8) -> np.ndarray:
    """Return F for bands at any wavelengths: S K, with S interpolated to the bands.

    Not in the paper, whose authors released the matrix for 31 bands only. S is linear between its samples of 10 nm and
    zero outside 400..700 nm; its columns are scaled to the sums of the released ones.

    Args:
        wavelengths: C band centres in nm.

    Returns:
        C x n_subs array.

    Raises:
        ValueError: if blue (430..480 nm), green (510..570) or red (590..660) has no band.
    """
    wavelengths = np.asarray(wavelengths, dtype=np.float64)
    for colour, low, high in (("blue", 430, 480), ("green", 510, 570), ("red", 590, 660)):
        if not ((wavelengths >= low) & (wavelengths <= high)).any():
            raise ValueError(
                f"no {colour} band ({low}..{high} nm) among {wavelengths.min():g}..{wavelengths.max():g} nm"
            )
    table = load_matching_functions()
    if np.array_equal(wavelengths, VISIBLE):
        return load_conversion(n_subs)
    sampled = np.stack([np.interp(wavelengths, VISIBLE, column, left=0, right=0) for column in table.T], axis=1)
    output: np.ndarray = sampled * (table.sum(axis=0) / sampled.sum(axis=0)) @ make_lift_matrix(n_subs)
    return output


def read_conversion(path: str, n_colors: int, n_subs: int) -> np.ndarray:
    """Return the n_colors x n_subs conversion F of a .csv or .mat file, or without a path the released one.

    Raises:
        DataError: if the file cannot be read or has another shape; without a path, for any other number of bands.
    """
    if not path:
        if n_colors == len(VISIBLE):
            return load_conversion(n_subs)
        raise DataError(
            "the consistency loss",
            f"the conversion of {n_colors} bands cannot be derived, as their wavelengths are unknown",
            "set {conversionMat_path}, or {UseUnlabelConsistency} 0",
        )
    file = Path(path).expanduser()
    if not file.exists():
        raise DataError(file, "no such file or folder", "check the path")
    try:
        matrix = _read_matrix(file, (n_colors, n_subs))
    # scipy raises errors of nearly any type for damaged files.
    except Exception as error:
        refuse_small_memory(file, error)
        remedy = "give a .csv of numbers or a .mat (v5)"
        raise make_kind_error(file, "a matrix", "matrix", (remedy, remedy), error) from error
    if matrix.shape != (n_colors, n_subs) or not np.isfinite(matrix).all():
        raise DataError(
            file,
            f"a matrix of shape {matrix.shape}, but a finite one of {n_colors} x {n_subs} (bands x n_subs) is needed",
            "give such a matrix",
        )
    return matrix


def _read_matrix(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Read the matrix of a .csv file; of a .mat file, that of the shape, else the first."""
    if path.suffix.lower() != ".mat":
        return np.loadtxt(path, delimiter=",", ndmin=2)
    arrays = [a for k, a in scipy.io.loadmat(path).items() if not k.startswith("__") and np.ndim(a) == 2]
    first = arrays[0] if arrays else np.zeros((0, 0))
    return np.asarray(next((a for a in arrays if a.shape == shape), first), dtype=np.float64)
