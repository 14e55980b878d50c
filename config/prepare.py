"""The settings of `prepare`."""

from dataclasses import dataclass

from config.fields import (
    Config,
    asked_or_published_patch,
    band_axis_flag,
    check_patch,
    flag,
    key_flag,
    nodata_flag,
    number,
    value_scale_flag,
    wavelengths_flag,
)
from facts import DATASETS, PROTOCOLS, SCALES, SPLITS
from system.errors import UserError
from utils import parse_names

# Flags that specify how own cubes are read.
OF_OWN_CUBES = ("key", "band_axis", "value_scale", "nodata", "wavelengths")


@dataclass(frozen=True)
class PrepareConfig(Config):
    """Convert a raw download to scene stores (labelled, unlabelled, test)."""

    raw_dir: str = flag(
        "", "folder of the raw download (required, except with --unlabelled_lr_dir)", "data", affects="place"
    )
    out_dir: str = flag(
        "", "folder for the scene stores", "output", required="the folder for the scene stores", affects="place"
    )
    dataset_name: str = flag(
        "Cave",
        "Cave, Harvard, NTIRE2020, Chikusei, DIV2K, or a name of your own for any folder of cubes",
        "data",
        affects="row",
    )
    n_scale: int = flag(
        4,
        "upsampling factor of LR-only images, --crop, --check and --format mat",
        "method",
        choices=SCALES,
        affects="row",
    )
    protocol: str = flag(
        "corrected",
        "default scaling of CAVE's 8-bit watercolors: corrected (/255) or published (/65535)",
        "method",
        choices=PROTOCOLS,
        affects="row",
    )
    labelled: str = flag(
        "",
        "names of the labelled scenes, separated by commas, in double quotes if they contain one; without it, the "
        "published split",
        "data",
    )
    unlabelled: str = flag("", "names of the unlabelled scenes; without it, the published split", "data")
    test: str = flag("", "names of the test scenes; without it, the published split", "data")
    unlabelled_lr_dir: str = flag(
        "", "folder of LR-only scenes, which become the unlabelled ones", "data", affects="place"
    )
    allow_missing: bool = flag(
        False, "1: continue with the available scenes if some of the split are missing", "data", affects="place"
    )
    fractions: str = flag(
        "0.6,0.2,0.2",
        "fractions of labelled, unlabelled and test scenes of a random split, if none is published",
        "data",
    )
    seed: int = flag(3000, "seed of the random split", "data", low=0)
    key: str = key_flag("own cubes: ")
    band_axis: int = band_axis_flag("own cubes: ")
    value_scale: float = value_scale_flag("own cubes: ")
    nodata: str = nodata_flag("own cubes: ")
    wavelengths: str = wavelengths_flag("own cubes: ")
    crop: bool = flag(False, "1: crop rows and columns at the end to a multiple of the upsampling factor", "data")
    format: str = flag(
        "h5",
        "mat: write patches like the released MATLAB scripts (gt, ms, ms_bicubic) beside the stores",
        "output",
        choices=("h5", "mat"),
        affects="place",
    )
    patch_size: int = flag(
        0, "with --format mat, HR pixels along a patch's edge; 0: the published size", "output", low=0
    )
    patch_stride: int = flag(
        0, "with --format mat, HR pixels between patches; 0: the published stride", "output", low=0
    )
    check: bool = flag(
        False, "1: score bicubic on the test store and compare with the paper's row", "output", affects="place"
    )
    workers: int = flag(0, "processes that read scenes; 0: one per core, at most 4", "hardware", low=0, affects="speed")

    @property
    def patch(self) -> tuple[int, int]:
        """(size, stride) of the exported HR patches; by default the published ones."""
        return asked_or_published_patch(self.dataset_name, self.n_scale, self.patch_size, self.patch_stride)

    def validate(self) -> None:
        """See `Config.validate`."""
        if not self.raw_dir and not self.unlabelled_lr_dir:
            raise UserError("--raw_dir is missing; give the folder of the raw download")
        check_patch(self.patch_size, self.patch_stride, self.n_scale)
        self._refuse_unused()
        parts = [p for part in self.fractions.split(",") if (p := number(part)) is not None]
        if len(parts) != 3 or self.fractions.count(",") != 2 or min(parts) < 0 or not 0 < sum(parts) < 1e9:
            raise UserError(f"--fractions takes three parts such as 0.6,0.2,0.2, not {self.fractions!r}")
        seen: dict[str, str] = {}
        for split in SPLITS:
            for name in parse_names(getattr(self, split)):
                if seen.setdefault(name, split) != split:
                    raise UserError(
                        f"scene {name} is in both --{seen[name]} and --{split}; a scene belongs to one split"
                    )

    def _refuse_unused(self) -> None:
        """Refuse flags of own cubes for a published data set."""
        given = [name for name in OF_OWN_CUBES if getattr(self, name) != getattr(type(self), name)]
        if given and self.dataset_name in (*DATASETS, "DIV2K"):
            raise UserError(
                f"--{given[0]}: is for own cubes; {self.dataset_name} does not need it; leave it out, or "
                "give a --dataset_name of your own"
            )
