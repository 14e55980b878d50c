"""The settings of `predict`."""

from dataclasses import dataclass

from config.fields import (
    Config,
    band_axis_flag,
    bands_flag,
    check_gpus,
    check_nodata,
    check_value_scale,
    cuda_flag,
    flag,
    gpus_flag,
    key_flag,
    nodata_flag,
    precision_flag,
    taper_flag,
    value_scale_flag,
    wavelengths_flag,
)
from system.errors import UserError


@dataclass(frozen=True)
class PredictConfig(Config):
    """Super-resolve scenes of one's own, from the files that people have to files of the same kind."""

    input: str = flag(
        "",
        "a scene (.mat, .npy, .npz, HDF5, ENVI, TIFF, a folder of band PNGs), or a folder of scenes",
        affects="place",
    )
    output: str = flag(
        "",
        "its result; the extension says the format, without one it is the input's; a folder for a folder",
        affects="place",
    )
    model_dir: str = flag(
        "", "the .pth file of the weights, or the name of weights that come with the program", affects="row"
    )
    overwrite: bool = flag(False, "1: replace results that are there already", affects="place")
    value_scale: float = value_scale_flag()
    nodata: str = nodata_flag()
    wavelengths: str = wavelengths_flag()
    key: str = key_flag()
    band_axis: int = band_axis_flag()
    bands: str = bands_flag()
    resample_bands: bool = flag(False, "1: the same as --bands resample")
    taper: float = taper_flag()
    self_ensemble: bool = flag(False, "1: the mean over 8 flips and rotations; 8 times as long")
    back_projection: int = flag(0, "times that what the result lacks of the input is added to it", low=0)
    precision: str = precision_flag()
    normalise: str = flag(
        "auto",
        "divisor of the scene before the network: scene, its largest value; bands, 3 times the largest value of each "
        "band; none, no division; auto: bands with spectral windows, else scene if its largest value is below 0.5 or "
        "above 2 of full scale",
        choices=("auto", "scene", "bands", "none"),
    )
    report: bool = flag(
        False,
        "1: a picture and an interactive page beside the result: LR, bicubic, SR, spectra, re-degradation error",
        affects="place",
    )
    tile_size: int = flag(
        0, "LR pixels along a tile's edge; 0: the whole scene, or the largest that memory allows", low=0
    )
    tile_overlap: int = flag(32, "LR pixels that neighbouring tiles share, a multiple of 4", low=0)
    memory_limit: float = flag(0.0, "GB that may be used; 0: what is free", low=0, high=1e6, affects="speed")
    cuda: str = cuda_flag()
    gpus: str = gpus_flag()

    def validate(self) -> None:
        """See `Config.validate`."""
        check_gpus(self.gpus)
        for name, what in (("input", "a scene or a folder of scenes"), ("output", "a file or a folder")):
            if not getattr(self, name):
                raise UserError(f"--{name} is missing; give {what}")
        if not self.model_dir:
            raise UserError(
                "--model_dir is missing; give a .pth file, or the name of weights that come with the program"
            )
        self.check_given()

    def check_given(self) -> None:
        """Check what needs no files, also where it came by no command line."""
        self.check_limits()
        if self.resample_bands and self.bands not in ("auto", "resample"):
            raise UserError(f"--bands {self.bands} contradicts --resample_bands 1; leave one of them out")
        self.check_tiles()
        check_value_scale(self.value_scale)
        check_nodata(self.nodata)

    def check_tiles(self) -> None:
        """Refuse tiles that cannot be blended."""
        if self.tile_overlap % 4:
            raise UserError(f"--tile_overlap takes a multiple of 4, not {self.tile_overlap}")
        if self.tile_size and self.tile_size < 2 * self.tile_overlap:
            raise UserError(
                f"--tile_size ({self.tile_size}) must be at least twice --tile_overlap ({self.tile_overlap})"
            )
