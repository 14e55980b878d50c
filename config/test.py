"""The settings of `test`."""

from dataclasses import dataclass
from typing import ClassVar

from config.fields import Config, bands_flag, check_gpus, cuda_flag, flag, gpus_flag, precision_flag, taper_flag
from facts import PROTOCOLS, SCALES
from models import registry
from system.errors import UserError


@dataclass(frozen=True)
class TestConfig(Config):
    """Score a network on whole scenes: PSNR, SSIM, SAM, ERGAS and more, per scene and in the mean."""

    __test__ = False  # not a test case, whatever pytest makes of the name

    IF_MEMORY_FAILS: ClassVar[str] = "try --cuda 0, which uses main memory, close other programs, or crop the scenes"

    test_dir: str = flag(
        "", "test scenes: a scene store or a folder of .mat files (gt; ms and ms_bicubic if there)", affects="place"
    )
    model_dir: str = flag(
        "",
        "the .pth file of the weights (ours or released), or the name of some that come with the program",
        affects="row",
    )
    model_title: str = flag(
        "",
        "Bicubic, which needs no weights; of other networks only checked against the weights",
        choices=lambda: ("", *registry.list_names()),
        affects="row",
    )
    result_path: str = flag("./results", "folder for the results", affects="place")
    n_scale: int = flag(
        0, "enlargement; 0: as the weights' file says, 4 for Bicubic", choices=(0, *SCALES), affects="row"
    )
    n_colors: int = flag(0, "bands; only checked against the weights", low=0, affects="row")
    n_feats: int = flag(0, "width; only checked against the weights", low=0, affects="row")
    n_blocks: int = flag(0, "blocks; only checked against the weights", low=0, affects="row")
    n_subs: int = flag(0, "bands in a group; only checked against the weights", low=0, affects="row")
    n_ovls: int = flag(-1, "shared bands; -1: as the weights' file says", low=-1, affects="row")
    data_test_num: int = flag(0, "use only the first N scenes (sorted); 0: all", low=0, affects="row")
    protocol: str = flag(
        "", "corrected or published; if not given, the store's own", choices=("", *PROTOCOLS), affects="row"
    )
    self_ensemble: bool = flag(False, "1: the mean over 8 flips and rotations; better, and 8 times as long")
    precision: str = precision_flag()
    bands: str = bands_flag()
    taper: float = taper_flag()
    normalise: str = flag(
        "auto",
        "divisor of each scene before the network: scene, its largest LR value; bands, 3 times that of each band; "
        "none, no division, as published; auto: bands with spectral windows, else none",
        choices=("auto", "none", "scene", "bands"),
    )
    back_projection: int = flag(0, "times that what the result lacks of the input is added to it", low=0)
    save_images: bool = flag(
        False, "1: write each cube (.mat) and a picture of LR, bicubic, SR, HR and the error", affects="place"
    )
    cuda: str = cuda_flag()
    gpus: str = gpus_flag()

    def validate(self) -> None:
        """See `Config.validate`."""
        check_gpus(self.gpus)
        if not self.test_dir:
            raise UserError("--test_dir is missing; give a scene store (test.h5) or a folder of .mat files")
        if not self.model_dir and self.model_title != "Bicubic":
            raise UserError("--model_dir is missing; give the .pth file of the weights, or --model_title Bicubic")
        if self.model_dir and self.model_title == "Bicubic":
            raise UserError("--model_title Bicubic needs no weights; leave --model_dir out")
