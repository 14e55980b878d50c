"""Constants of the published data sets (bands, wavelengths, splits, patches), and names of the metrics."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

# Upsampling factors of the networks.
SCALES = (2, 3, 4, 6, 8, 16)
PROTOCOLS = ("corrected", "published")
SPLITS = ("labelled", "unlabelled", "test")
# Flips and rotations of every training patch.
AUGMENTATIONS = 8
# Largest full-scale value, gain or offset; the inverse is the smallest.
LARGEST_SCALE = 2.0**64
# Normalisation by bands maps the largest LR value of each band to 1 / HEADROOM, as most pixels of the training scenes
# are that dark. Zero-shot gains on other sensors are 0.1 to 0.2 dB larger than with 1 (docs/own_sensor.md).
HEADROOM = 3.0
# Largest difference in nm between the centres of equal bands.
SAME_BAND = 2.0
# Band centres in nm of the data sets of visible light.
VISIBLE = np.arange(400, 701, 10, dtype=np.float64)


@dataclass(frozen=True)
class DataSet:
    """A published data set.

    Attributes:
        name: value of --dataset_name.
        wavelengths: band centres in nm.
        x8_stride: HR pixels between the published patches for x8; PATCH_STRIDE for other scales.
        has_released_conversion: True if the released matrix of bands to 8 channels is for it.
    """

    name: str
    wavelengths: np.ndarray
    x8_stride: int = 32
    has_released_conversion: bool = True

    @property
    def n_colors(self) -> int:
        """Number of bands."""
        return len(self.wavelengths)


PATCH_STRIDE = 32
DATASETS = {
    s.name: s
    for s in (
        DataSet("Cave", VISIBLE),
        DataSet("Harvard", VISIBLE),
        DataSet("NTIRE2020", VISIBLE),
        DataSet("Chikusei", np.linspace(363, 1018, 128), x8_stride=64, has_released_conversion=False),
    )
}


@dataclass(frozen=True)
class Metric:
    """Name and number format of a metric.

    Attributes:
        key: name in results files, and in the columns of CSV files.
        label: name in headings.
        unit: "" for none.
        digits: decimal places.
        lower_is_better: True if a smaller value is better.
        is_comparison_only: True if tables show it only beside a value of a paper.
    """

    key: str
    label: str
    unit: str = ""
    digits: int = 4
    lower_is_better: bool = False
    is_comparison_only: bool = False

    @property
    def heading(self) -> str:
        """Label with the unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def format_value(self, value: float, sign: str = "") -> str:
        """Format a value; sign "+" prints the sign of positive numbers too."""
        return f"{value:{sign}.{self.digits}f}"


# By key, in the order of `quality_assessment`, of validation.csv and of tables.csv.
METRICS: dict[str, Metric] = {
    metric.key: metric
    for metric in (
        Metric("MPSNR", "MPSNR", unit="dB"),
        Metric("MSSIM", "MSSIM"),
        Metric("MSSIM_gaussian", "MSSIM (Gaussian)", is_comparison_only=True),
        Metric("ERGAS", "ERGAS", lower_is_better=True),
        Metric("SAM", "SAM", unit="°", lower_is_better=True),
        Metric("CrossCorrelation", "CC"),
        Metric("RMSE", "RMSE", digits=5, lower_is_better=True),
    )
}


def are_same_bands(n_colors: int, centres: np.ndarray | None, n_others: int, others: np.ndarray | None) -> bool:
    """Return True if two lists of bands have the same centres in nm or, if either is unknown, the same number."""
    if centres is None or others is None:
        return n_colors == n_others
    return n_colors == n_others and bool(np.abs(np.asarray(centres) - others).max() <= SAME_BAND)


def get_wavelengths(name: str, n_colors: int) -> np.ndarray | None:
    """Return the band centres in nm of a data set; None for an unknown name or another number of bands."""
    known = DATASETS.get(name)
    return known.wavelengths if known and known.n_colors == n_colors else None


def get_published_patch(name: str, n_scale: int) -> tuple[int, int]:
    """Return (size, stride) in HR pixels of the published patches: 64 and 32 for x4, 128 and 32 or 64 for x8."""
    stride = DATASETS[name].x8_stride if name in DATASETS and n_scale == 8 else PATCH_STRIDE
    # A multiple of the scale: patches must start on whole LR pixels.
    return 16 * n_scale, max(n_scale, stride // n_scale * n_scale)


@cache
def load_published_split(name: str) -> dict[str, list[str]] | None:
    """Return {split: scene names} of a data set's published split (data/splits/); None if it has none."""
    path = Path(__file__).parent / "data" / "splits" / f"{name.lower()}.txt"
    if not path.is_file():
        return None
    split: list[str] = []
    lists: dict[str, list[str]] = {}
    for line in map(str.strip, path.read_text(encoding="utf-8").splitlines()):
        if line.startswith("["):
            split = lists.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            split.append(line)
    return lists
