"""The settings of `adapt`."""

from dataclasses import dataclass
from typing import ClassVar

from config.fields import (
    Config,
    band_axis_flag,
    cuda_flag,
    flag,
    gpus_flag,
    key_flag,
    nodata_flag,
    value_scale_flag,
    wavelengths_flag,
)
from system.errors import UserError


@dataclass(frozen=True)
class AdaptConfig(Config):
    """Fine-tune weights for another sensor on one scene of it."""

    TAKES_FILE: ClassVar[bool] = True

    input: str = flag(
        "", "scene of the sensor, in a format of `predict`", "data", required="a scene of your sensor", affects="place"
    )
    model_dir: str = flag(
        "",
        "weights to start from: a .pth file, or the name of bundled weights",
        "method",
        required="weights to start from, such as cave_x4_small",
        affects="row",
    )
    output: str = flag(
        "", ".pth file for the new weights", "output", required="the .pth file of the new weights", affects="place"
    )
    minutes: float = flag(3.0, "time limit; early stopping may end earlier", "optimisation", above=0, high=1e5)
    train_dir_rgb: str = flag(
        "", "RGB images for training beside the scene: a folder of images, or rgb.h5", "data", affects="place"
    )
    overwrite: bool = flag(False, "1: replace existing weights and the .json beside them", "output", affects="place")
    bands: str = flag(
        "auto",
        "use of the bands. auto: exact if the scene has the bands of the weights, else windows; exact: refuse other "
        "bands; windows: overlapping windows of neighbouring bands",
        "method",
        choices=("auto", "exact", "windows"),
    )
    value_scale: float = value_scale_flag()
    nodata: str = nodata_flag()
    wavelengths: str = wavelengths_flag()
    key: str = key_flag()
    band_axis: int = band_axis_flag()
    precision: str = flag(
        "auto",
        "arithmetic of the convolutions: bf16; tf32 (fp32 on a CPU); fp32; auto: bf16 on hardware where it is fast",
        "hardware",
        choices=("auto", "bf16", "tf32", "fp32"),
    )
    seed: int = flag(3000, "seed of all random numbers", "optimisation", low=0, affects="row")
    cuda: str = cuda_flag()
    gpus: str = gpus_flag()

    def validate(self) -> None:
        """See `Config.validate`."""
        if not self.output.endswith(".pth"):
            raise UserError(f"--output {self.output}: weights are .pth files; end its name so")
