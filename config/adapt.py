"""The settings of `adapt`."""

from dataclasses import dataclass

from config.fields import (
    Config,
    band_axis_flag,
    check_gpus,
    check_nodata,
    check_value_scale,
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
    """Make weights for a sensor of one's own from one scene of it, learning to undo its degradation."""

    input: str = flag("", "a scene of the sensor, as `predict` reads them", affects="place")
    model_dir: str = flag(
        "", "the weights to start from: a .pth file, or the name of some that come with the program", affects="row"
    )
    output: str = flag("", "the .pth file of the new weights", affects="place")
    minutes: float = flag(3.0, "time limit; early stopping may end it before", above=0, high=1e5)
    train_dir_rgb: str = flag(
        "", "RGB images to learn from beside the scene: a folder of pictures, or rgb.h5", affects="place"
    )
    overwrite: bool = flag(
        False, "1: replace weights that are there already, and the .json beside them", affects="place"
    )
    bands: str = flag(
        "auto",
        "auto: as trained if the scene has the bands of the weights, else windows; exact: refuse other bands; windows: "
        "overlapping windows of neighbouring bands",
        choices=("auto", "exact", "windows"),
    )
    value_scale: float = value_scale_flag()
    nodata: str = nodata_flag()
    wavelengths: str = wavelengths_flag()
    key: str = key_flag()
    band_axis: int = band_axis_flag()
    precision: str = flag(
        "auto",
        "arithmetic of the convolutions: bf16, tf32 (plain fp32 on a CPU), fp32; auto: bf16 where it is fast",
        choices=("auto", "bf16", "tf32", "fp32"),
    )
    seed: int = flag(3000, "seed of every random draw", low=0, affects="row")
    cuda: str = cuda_flag()
    gpus: str = gpus_flag()

    def validate(self) -> None:
        """See `Config.validate`."""
        for name, what in (
            ("input", "a scene of your sensor"),
            ("model_dir", "weights to start from, such as cave_x4_small"),
            ("output", "the .pth file of the new weights"),
        ):
            if not getattr(self, name):
                raise UserError(f"--{name} is missing; give {what}")
        if not self.output.endswith(".pth"):
            raise UserError(f"--output {self.output}: weights are .pth files; end its name so")
        check_gpus(self.gpus)
        check_value_scale(self.value_scale)
        check_nodata(self.nodata)
