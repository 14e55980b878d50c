"""The settings of `predict`."""

from dataclasses import dataclass
from typing import ClassVar

from config.fields import (
    Config,
    back_projection_flag,
    band_axis_flag,
    bands_flag,
    cuda_flag,
    flag,
    gpus_flag,
    key_flag,
    nodata_flag,
    precision_flag,
    self_ensemble_flag,
    taper_flag,
    value_scale_flag,
    wavelengths_flag,
)
from system.errors import UserError


@dataclass(frozen=True)
class PredictConfig(Config):
    """Super-resolve your own scenes, to files of the same format."""

    TAKES_FILE: ClassVar[bool] = True

    input: str = flag(
        "",
        "scene (.mat, .npy, .npz, HDF5, netCDF, ENVI, TIFF, folder of band PNGs), or folder of scenes",
        "data",
        required="a scene or a folder of scenes",
        affects="place",
    )
    output: str = flag(
        "",
        "super-resolved scene, or folder of them; its extension determines the format, without one that of the input",
        "output",
        required="a file or a folder",
        affects="place",
    )
    model_dir: str = flag(
        "",
        "weights: a .pth file, or the name of bundled weights",
        "method",
        required="a .pth file, or the name of bundled weights such as cave_x4",
        affects="row",
    )
    overwrite: bool = flag(False, "1: replace existing results", "output", affects="place")
    value_scale: float = value_scale_flag()
    nodata: str = nodata_flag()
    wavelengths: str = wavelengths_flag()
    key: str = key_flag()
    band_axis: int = band_axis_flag()
    bands: str = bands_flag()
    resample_bands: bool = flag(False, "1: the same as --bands resample", "method")
    taper: float = taper_flag()
    self_ensemble: bool = self_ensemble_flag()
    back_projection: int = back_projection_flag()
    precision: str = precision_flag()
    normalise: str = flag(
        "auto",
        "divisor of the scene before inference. scene: its largest value; bands: 3 times the largest value of each "
        "band; none: no division; auto: bands with spectral windows, else scene if its largest value is below 0.5 or "
        "above 2 of full scale",
        "method",
        choices=("auto", "scene", "bands", "none"),
    )
    report: bool = flag(
        False,
        "1: write a picture and an interactive page (.html) beside the result: LR, bicubic, SR, spectra, and the "
        "re-degradation error",
        "output",
        affects="place",
    )
    tile_size: int = flag(
        0,
        "LR pixels along a tile's edge; 0: the whole scene, or the largest tile that fits in memory",
        "hardware",
        low=0,
    )
    tile_overlap: int = flag(32, "LR pixels that adjacent tiles share, a multiple of 4", "hardware", low=0)
    memory_limit: float = flag(
        0.0, "GB of memory to use; 0: the free memory", "hardware", low=0, high=1e6, affects="speed"
    )
    cuda: str = cuda_flag()
    gpus: str = gpus_flag()

    def validate(self) -> None:
        """See `Config.validate`."""
        self.check_given()

    def check_given(self) -> None:
        """Check the settings that `super_resolve` has too."""
        if self.resample_bands and self.bands not in ("auto", "resample"):
            raise UserError(f"--bands {self.bands} contradicts --resample_bands 1; leave one of them out")
        if self.tile_overlap % 4:
            raise UserError(f"--tile_overlap takes a multiple of 4, not {self.tile_overlap}")
        if self.tile_size and self.tile_size < 2 * self.tile_overlap:
            raise UserError(
                f"--tile_size ({self.tile_size}) must be at least twice --tile_overlap ({self.tile_overlap})"
            )
