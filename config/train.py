"""The settings of `train`, with those of the registered networks and objectives."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import objectives
from config.fields import (
    Config,
    asked_or_published_patch,
    check_dataset_name,
    check_gpus,
    check_patch,
    cuda_flag,
    flag,
    gpus_flag,
)
from facts import PROTOCOLS, SCALES
from losses import LOSSES
from models import registry
from system.errors import UserError
from utils import file_name

Class = TypeVar("Class", bound=type)
# The flag that gives each stream its patches.
FOLDERS = {"labelled": "train_dir_mslabel", "rgb": "train_dir_rgb", "unlabelled": "train_dir_msunlabel"}
# How a network's settings stand in the names of runs and weights, in this order.
TITLE_PARTS = {"n_blocks": "Blocks=", "n_subs": "Subs", "n_ovls": "Ovls", "n_feats": "Feats="}
# The networks' settings whose flags are declared here; of these, the first are not in the names.
SHARED_SETTINGS = ("use_share", "global_residual", *TITLE_PARTS)


def with_registered(cls: Class) -> Class:
    """Add fields for the networks' own settings, and for the flags of objectives that are added from elsewhere.

    Raises:
        TypeError: for a setting of a network that cannot be a flag.
    """
    own = dict(cls.__annotations__)
    before = list(own).index("UseLabeledSpectralMixUp")
    added: dict[str, type] = {}
    for entry in map(registry.get_entry, registry.list_names()):
        for name, default in entry.settings.items():
            kind = added.get(name) or own.get(name)
            if type(default) not in (bool, int, float, str) or (kind and kind is not type(default)):
                raise TypeError(f"{entry.name}: the setting {name} ({default!r}) is not a number, text or switch")
            if name in own and name not in SHARED_SETTINGS:
                raise TypeError(f"{entry.name}: its setting {name} has the name of another flag of train; rename it")
            if not kind:
                added[name] = type(default)
                setattr(cls, name, flag(default, entry.help.get(name, f"a setting of {entry.name}")))
    for objective in objectives.OBJECTIVES.values():
        if objective.switch and objective.switch not in own:
            added |= {objective.switch: bool, objective.theta: int}
            setattr(cls, objective.switch, flag(False, objective.switch_help))
            setattr(cls, objective.theta, flag(objective.theta_default, objective.theta_help, low=0))
    items = list(own.items())
    cls.__annotations__ = dict([*items[:before], *added.items(), *items[before:]])
    return cls


@dataclass(frozen=True)
@with_registered
class TrainConfig(Config):
    """Train a network with the published recipe; 11,250 iterations for CAVE x4."""

    train_dir_mslabel: str = flag(
        "", "labelled HSIs: a scene store, or a folder of .mat patches (gt, ms, ms_bicubic)", affects="place"
    )
    train_dir_msunlabel: str = flag(
        "", "unlabelled HSIs: a scene store or a folder of .mat patches (ms, ms_bicubic)", affects="place"
    )
    train_dir_rgb: str = flag(
        "",
        "RGB images: rgb.h5, a folder of pictures (taken at the size they have) or of 8-channel .mat patches",
        affects="place",
    )
    eval_dir_ms: str = flag(
        "", "validation scenes: a scene store or a folder of .mat files; scored after each epoch", affects="place"
    )
    test_dir: str = flag(
        "", "test scenes: a scene store or a folder of .mat files; scored once, at the end", affects="place"
    )
    save_dir: str = flag("./runs", "folder under which the run's own folder is made", affects="place")
    dataset_name: str = flag(
        "Cave", "Cave, Harvard, NTIRE2020 (31 bands), Chikusei (128) or a name of your own", affects="row"
    )
    model_title: str = flag(
        "DeepShare",
        f"the network: {', '.join(registry.list_trainable_names())}; each has defaults of its own (docs/networks.md)",
        choices=registry.list_trainable_names,
        affects="row",
    )
    n_scale: int = flag(4, "enlargement", choices=SCALES, affects="row")
    n_feats: int = flag(256, "width F of all feature maps; not used by 3DFCNN, whose widths are fixed", low=1)
    n_blocks: int = flag(3, "spatial-spectral blocks in each body; MCNet: 3-D convolutions in each stage", low=1)
    n_subs: int = flag(8, "bands in a group", low=1)
    n_ovls: int = flag(2, "bands that neighbouring groups share", low=0)
    use_share: bool = flag(True, "1: all groups and the RGB images share the branches; 0: each has its own")
    UseLabeledSpectralMixUp: bool = flag(False, "1: train on spectrally mixed labelled batches too")
    theta_LabeledSpectralMixUp: int = flag(objectives.MIXUP.theta_default, "mixed mini-batches per labelled one", low=0)
    UseRGB: bool = flag(False, "1: train RGB super-resolution alongside")
    theta_rgb: int = flag(objectives.RGB.theta_default, "RGB mini-batches per labelled one", low=0)
    UseUnlabelConsistency: bool = flag(False, "1: train on the consistency of unlabelled HSIs too")
    theta_unlabel: int = flag(objectives.CONSISTENCY.theta_default, "unlabelled mini-batches per labelled one", low=0)
    conversionMat_path: str = flag(
        "",
        "bands-to-8-channels matrix (.csv or .mat); if not given, the released 31 x 8 one, or one made of the "
        "wavelengths",
        affects="place",
    )
    batch_size: int = flag(8, "patches in a mini-batch", low=1)
    epochs: int = flag(10, "passes over the labelled patches and their 8 flips and rotations", low=1)
    learning_rate: float = flag(
        1e-4, "Adam's step; times 0.3 every 5 epochs and once more in the last", above=0, affects="remedy"
    )
    schedule: str = flag(
        "published", "cosine: the learning rate falls along half a cosine instead", choices=("published", "cosine")
    )
    warmup_iterations: int = flag(0, "iterations over which the learning rate rises to its value", low=0)
    weight_decay: float = flag(0.0, "Adam's weight decay", low=0)
    clip_gradient: float = flag(0.0, "largest norm of the gradient; 0: not clipped", low=0, affects="remedy")
    loss: str = flag(
        "hybrid",
        "of labelled and mixed batches: hybrid (L1 with total variation), l1, mse, mse_sam (with spectral angle), or "
        "relative (hybrid with errors in parts of each band's brightness; of RGB batches too)",
        choices=tuple(LOSSES),
    )
    ema_decay: float = flag(
        0.0, "decay of a running mean of the weights, which is then scored and saved; 0: none, 0.999: usual", low=0
    )
    joint_loss: bool = flag(False, "0: one Adam step per loss (as released); 1: one for the sum (as the paper writes)")
    patch_size: int = flag(
        0, "HR pixels along a patch's edge; 0: the published 64 for x4, 128 for x8, 16 times the scale", low=0
    )
    patch_stride: int = flag(0, "HR pixels between patches; 0: the published 32, or 64 for Chikusei at x8", low=0)
    data_train_num: int = flag(0, "use only the first N labelled patches (sorted); 0: all", low=0)
    data_eval_num: int = flag(0, "use only the first N validation scenes (sorted); 0: all", low=0, affects="place")
    data_test_num: int = flag(0, "use only the first N test scenes (sorted); 0: all", low=0, affects="place")
    protocol: str = flag(
        "", "corrected or published; if not given, the store's own", choices=("", *PROTOCOLS), affects="row"
    )
    global_residual: bool = flag(
        False, "1: add the output to the bicubic image, as GDRRN always does; not published, for short runs"
    )
    init: str = flag(
        "default", "identity: start near the bicubic image; for short runs", choices=("default", "identity")
    )
    weights: str = flag(
        "",
        "weights to start from, a .pth or the name of some that come with the program; for other bands than theirs, of "
        "what does not depend on the bands",
    )
    freeze: str = flag(
        "", "branches: of the weights to start from, the branches stay as they are", choices=("", "branches")
    )
    seed: int = flag(3000, "seed of every random draw", low=0, affects="row")
    cuda: str = cuda_flag()
    gpus: str = gpus_flag()
    precision: str = flag(
        "tf32",
        "arithmetic of the convolutions: tf32 (plain fp32 on a CPU), fp32, or bf16, which is faster",
        choices=("tf32", "fp32", "bf16"),
        affects="remedy",
    )
    compile: bool = flag(
        False, "1: compile the network's blocks with torch.compile: slower to start, faster steps", affects="speed"
    )
    accumulate: int = flag(
        1, "parts that each mini-batch goes through in, one after the other, to save memory", low=1, affects="speed"
    )
    deterministic: bool = flag(
        False,
        "1: on CUDA, the same seed gives the same weights to the bit, with slower steps; on a CPU it always does",
        affects="speed",
    )
    activation_checkpointing: bool = flag(
        False, "1: keep fewer feature maps and compute them again, to save memory", affects="speed"
    )
    resume: str = flag(
        "",
        "last: go on with the newest run of the same network in save_dir; or a run's folder, or its last.pth",
        affects="place",
    )
    max_iterations: int = flag(
        0,
        "stop after so many iterations; the schedule still spans all epochs; 0: when they are done",
        low=0,
        affects="place",
    )
    log_interval: int = flag(50, "iterations between rows of log.csv", low=1, affects="place")
    checkpoint_minutes: float = flag(30, "minutes between checkpoints within an epoch", above=0, affects="place")

    IF_MEMORY_FAILS: ClassVar[str] = (
        "try --accumulate 2 (or more), --activation_checkpointing 1, --precision bf16, or a smaller --batch_size, "
        "--patch_size or --n_feats; the first three can be given with --resume last, and the run goes on"
    )

    @classmethod
    def from_flags(cls, flags: Mapping[str, Any]) -> "TrainConfig":
        """As of every command; flags that are not given have the network's published settings."""
        title = flags.get("model_title", "DeepShare")
        published = registry.get_entry(title).published if title in registry.list_trainable_names() else {}
        return super().from_flags({**published, **flags})

    def validate(self) -> None:
        """See `Config.validate`."""
        check_gpus(self.gpus)
        check_dataset_name(self.dataset_name)
        self._check_network()
        if self.n_ovls >= self.n_subs and self.has_setting("n_subs"):
            raise UserError(
                f"--n_ovls ({self.n_ovls}) must be below --n_subs ({self.n_subs}); the published pair is 2 and 8"
            )
        self._check_folders()
        check_patch(self.patch_size, self.patch_stride, self.n_scale)
        if self.ema_decay >= 1:
            raise UserError(f"--ema_decay is below 1, not {self.ema_decay}; 0.999 is usual")
        if self.accumulate > self.batch_size:
            raise UserError(
                f"--accumulate {self.accumulate}: a mini-batch has only {self.batch_size} patches (--batch_size); "
                "set at most that"
            )

    def _check_network(self) -> None:
        network = registry.get_entry(self.model_title)
        for objective, _ in objectives.list_active(self):
            if not set(objective.modalities) <= set(network.network_class.modalities):
                raise UserError(
                    f"--{objective.switch} 1: {self.model_title} has no path for RGB images, only "
                    f"{_having_rgb()} has; give --{objective.switch} 0, or --model_title {_having_rgb()}"
                )
        if not self.use_share and not self.has_setting("use_share"):
            raise UserError(f"--use_share 0: {self.model_title} cannot be had unshared; leave the flag out")
        if self.freeze and not self.weights:
            raise UserError("--freeze branches: keeps those of weights to start from; give them by --weights")
        if self.freeze and not network.network_class.branch_prefixes:
            having = " or ".join(
                name for name in registry.list_names() if registry.get_entry(name).network_class.branch_prefixes
            )
            raise UserError(f"--freeze branches: {self.model_title} has none, only {having} has; leave the flag out")
        if self.init == "identity" and not self.global_residual and network.network_class.identity_needs_residual:
            if not self.has_setting("global_residual"):
                raise UserError(f"--init identity: {self.model_title} cannot start so; leave the flag out")
            raise UserError(f"--init identity: {self.model_title} needs --global_residual 1 with it; give both")

    def _check_folders(self) -> None:
        if not self.train_dir_mslabel:
            raise UserError("--train_dir_mslabel is missing; give the labelled store (labelled.h5) or patch folder")
        for objective, _ in objectives.list_active(self):
            folder = FOLDERS[objective.stream]
            if not getattr(self, folder):
                raise UserError(
                    f"--{objective.switch} 1 needs --{folder}; give a folder or store, or --{objective.switch} 0"
                )

    def has_setting(self, name: str) -> bool:
        """True if the network has a setting, whose flag other networks do not use."""
        return name in registry.get_entry(self.model_title).settings

    @property
    def patch(self) -> tuple[int, int]:
        """(size, stride) of the HR patches, the published ones where none is asked for."""
        return asked_or_published_patch(self.dataset_name, self.n_scale, self.patch_size, self.patch_stride)

    @property
    def run_title(self) -> str:
        """Name of the run's folder."""
        return f"{self.weights_title}_x{self.n_scale}"

    @property
    def weights_title(self) -> str:
        """How the released weights' names begin: a network's settings, as far as it has them."""
        own = {name: f"{name}=" for name in registry.list_settings() if name not in SHARED_SETTINGS}
        parts = [
            word + file_name(str(self.as_dict()[name]))
            for name, word in {**TITLE_PARTS, **own}.items()
            if self.has_setting(name)
        ]
        return "_".join([self.dataset_name, self.model_title, *parts])


def _having_rgb() -> str:
    return " or ".join(n for n in registry.list_names() if "rgb" in registry.get_entry(n).network_class.modalities)
