"""The settings of `test`."""

from dataclasses import dataclass
from typing import ClassVar

from config.fields import (
    Config,
    back_projection_flag,
    bands_flag,
    cuda_flag,
    flag,
    gpus_flag,
    precision_flag,
    protocol_flag,
    self_ensemble_flag,
    taper_flag,
)
from facts import SCALES
from models import registry
from system.errors import UserError


@dataclass(frozen=True)
class TestConfig(Config):
    """Score a network on whole scenes: PSNR, SSIM, SAM, ERGAS and more."""

    # pytest collects classes whose names begin with Test.
    __test__ = False

    IF_MEMORY_FAILS: ClassVar[str] = "try --cuda 0, which uses main memory, close other programs, or crop the scenes"

    TAKES_FILE: ClassVar[bool] = True

    test_dir: str = flag(
        "",
        "test scenes: a scene store, or a folder of .mat files (gt, optionally ms and ms_bicubic)",
        "data",
        required="a scene store (test.h5) or a folder of .mat files",
        affects="place",
    )
    model_dir: str = flag(
        "",
        "weights: a .pth file of this program or a released one, or the name of bundled weights (required, except for "
        "Bicubic)",
        "method",
        affects="row",
    )
    model_title: str = flag(
        "",
        "network: Bicubic needs no weights; another name is checked against the weights",
        "method",
        choices=lambda: ("", *registry.list_names()),
        affects="row",
    )
    result_path: str = flag("./results", "folder for the results", "output", affects="place")
    n_scale: int = flag(
        0, "upsampling factor; 0: that of the weights, 4 for Bicubic", "method", choices=(0, *SCALES), affects="row"
    )
    n_colors: int = flag(0, "bands, checked against the weights; 0: any", "method", low=0, affects="row")
    n_feats: int = flag(0, "feature maps, checked against the weights; 0: any", "method", low=0, affects="row")
    n_blocks: int = flag(0, "blocks, checked against the weights; 0: any", "method", low=0, affects="row")
    n_subs: int = flag(0, "bands per group, checked against the weights; 0: any", "method", low=0, affects="row")
    n_ovls: int = flag(-1, "overlap of band groups; -1: that of the weights", "method", low=-1, affects="row")
    data_test_num: int = flag(0, "score only the first N scenes (sorted); 0: all", "data", low=0, affects="row")
    protocol: str = protocol_flag()
    self_ensemble: bool = self_ensemble_flag()
    precision: str = precision_flag()
    bands: str = bands_flag()
    taper: float = taper_flag()
    normalise: str = flag(
        "auto",
        "divisor of each scene before inference. scene: its largest LR value; bands: 3 times that of each band; none: "
        "no division, as published; auto: bands with spectral windows, else none",
        "method",
        choices=("auto", "none", "scene", "bands"),
    )
    back_projection: int = back_projection_flag()
    save_images: bool = flag(
        False, "1: write each cube (.mat) and a figure of LR, bicubic, SR, HR and the error", "output", affects="place"
    )
    cuda: str = cuda_flag()
    gpus: str = gpus_flag()

    def validate(self) -> None:
        """See `Config.validate`."""
        if not self.model_dir and self.model_title != "Bicubic":
            raise UserError("--model_dir is missing; give the .pth file of the weights, or --model_title Bicubic")
        if self.model_dir and self.model_title == "Bicubic":
            raise UserError("--model_title Bicubic needs no weights; leave --model_dir out")
