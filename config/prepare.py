"""The settings of `prepare`."""

from dataclasses import dataclass

from config.fields import (
    Config,
    asked_or_published_patch,
    band_axis_flag,
    check_nodata,
    check_patch,
    check_value_scale,
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

# What says how cubes of one's own are read.
OF_OWN_CUBES = ("key", "band_axis", "value_scale", "nodata", "wavelengths")


@dataclass(frozen=True)
class PrepareConfig(Config):
    """Turn a raw download into scene stores: labelled.h5, unlabelled.h5, test.h5."""

    raw_dir: str = flag("", "folder of the raw download", affects="place")
    out_dir: str = flag("", "folder for the scene stores", affects="place")
    dataset_name: str = flag(
        "Cave",
        "Cave, Harvard, NTIRE2020, Chikusei, DIV2K, or a name of your own for any folder of cubes",
        affects="row",
    )
    n_scale: int = flag(
        4,
        "enlargement: of LR-only images, and what --crop, --check and --format mat are made for",
        choices=SCALES,
        affects="row",
    )
    protocol: str = flag(
        "corrected",
        "how CAVE's 8-bit watercolors is scaled when nothing else is asked: corrected (/255) or published (/65535)",
        choices=PROTOCOLS,
        affects="row",
    )
    labelled: str = flag(
        "",
        "names of the labelled scenes, A,B,..., with double quotes around one that contains a comma; if not given, the "
        "published split",
    )
    unlabelled: str = flag("", "names of the unlabelled scenes; if not given, the published split")
    test: str = flag("", "names of the test scenes; if not given, the published split")
    unlabelled_lr_dir: str = flag(
        "", "folder of low-resolution scenes, for which no HR exists, to be the unlabelled ones", affects="place"
    )
    allow_missing: bool = flag(
        False, "go on with the scenes that are there when some of the split are missing", affects="place"
    )
    fractions: str = flag(
        "0.6,0.2,0.2", "labelled, unlabelled and test parts, drawn by the seed where no split is published"
    )
    seed: int = flag(3000, "seed of that draw", low=0)
    key: str = key_flag("own cubes: ")
    band_axis: int = band_axis_flag("own cubes: ")
    value_scale: float = value_scale_flag("own cubes: ")
    nodata: str = nodata_flag("own cubes: ")
    wavelengths: str = wavelengths_flag("own cubes: ")
    crop: bool = flag(False, "1: cut rows and columns at the end off, so that the scale divides what is left")
    format: str = flag(
        "h5",
        "mat: write released-style .mat patches (gt, ms, ms_bicubic) beside the stores",
        choices=("h5", "mat"),
        affects="place",
    )
    patch_size: int = flag(0, "--format mat: HR pixels along a patch's edge; 0: the published ones", low=0)
    patch_stride: int = flag(0, "--format mat: HR pixels between patches; 0: the published ones", low=0)
    check: bool = flag(False, "1: score bicubic on the test store beside the published bicubic row", affects="place")
    workers: int = flag(
        0, "processes that read scenes; 0: as many as there are cores, at most 4", low=0, affects="speed"
    )

    @property
    def patch(self) -> tuple[int, int]:
        """(size, stride) of the exported HR patches, the published ones where none is asked for."""
        return asked_or_published_patch(self.dataset_name, self.n_scale, self.patch_size, self.patch_stride)

    def validate(self) -> None:
        """See `Config.validate`."""
        if not self.raw_dir and not self.unlabelled_lr_dir:
            raise UserError("--raw_dir is missing; give the folder of the raw download")
        if not self.out_dir:
            raise UserError("--out_dir is missing; give the folder for the scene stores")
        check_patch(self.patch_size, self.patch_stride, self.n_scale)
        check_value_scale(self.value_scale)
        check_nodata(self.nodata)
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
        """Refuse flags that say how own cubes are read, where the cubes are those of a published data set."""
        given = [name for name in OF_OWN_CUBES if getattr(self, name) != getattr(type(self), name)]
        if given and self.dataset_name in (*DATASETS, "DIV2K"):
            raise UserError(
                f"--{given[0]}: is for cubes of one's own, and of {self.dataset_name} it is known; leave it out, or "
                "give a --dataset_name of your own"
            )
