"""The settings of `train`, with those of the registered networks and objectives."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import objectives
from config.fields import (
    Config,
    asked_or_published_patch,
    check_dataset_name,
    check_patch,
    cuda_flag,
    flag,
    gpus_flag,
    protocol_flag,
)
from facts import SCALES
from models import registry
from system.errors import UserError
from utils import file_name

Class = TypeVar("Class", bound=type)
# The flag for the patches of each stream.
FOLDERS = {"labelled": "train_dir_mslabel", "rgb": "train_dir_rgb", "unlabelled": "train_dir_msunlabel"}
# Prefixes of a network's settings in the names of runs and weights, in this order.
TITLE_PARTS = {"n_blocks": "Blocks=", "n_subs": "Subs", "n_ovls": "Ovls", "n_feats": "Feats="}
# Settings of networks whose flags are declared here; the first two are not in the names.
SHARED_SETTINGS = ("use_share", "global_residual", *TITLE_PARTS)


def with_registered(cls: Class) -> Class:
    """Add fields for settings of single networks, and for the flags of objectives that another module adds.

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
                setattr(cls, name, flag(default, entry.help.get(name, f"setting of {entry.name}"), "method"))
    for objective in objectives.OBJECTIVES.values():
        if objective.switch and objective.switch not in own:
            added |= {objective.switch: bool, objective.theta: int}
            setattr(cls, objective.switch, flag(False, objective.switch_help, "method"))
            setattr(cls, objective.theta, flag(objective.theta_default, objective.theta_help, "method", low=0))
    items = list(own.items())
    cls.__annotations__ = dict([*items[:before], *added.items(), *items[before:]])
    return cls


@dataclass(frozen=True)
@with_registered
class TrainConfig(Config):
    """Train a network, by default with the published recipe."""

    TAKES_FILE: ClassVar[bool] = True

    train_dir_mslabel: str = flag(
        "",
        "labelled HSIs: a scene store, or a folder of .mat patches (gt, ms, ms_bicubic)",
        "data",
        required="the labelled store (labelled.h5) or patch folder",
        affects="place",
    )
    train_dir_msunlabel: str = flag(
        "", "unlabelled HSIs: a scene store, or a folder of .mat patches (ms, ms_bicubic)", "data", affects="place"
    )
    train_dir_rgb: str = flag(
        "",
        "RGB images: rgb.h5, a folder of images (used at their size), or a folder of 8-channel .mat patches",
        "data",
        affects="place",
    )
    eval_dir_ms: str = flag(
        "",
        "validation scenes, scored after each epoch: a scene store, or a folder of .mat files",
        "data",
        affects="place",
    )
    test_dir: str = flag(
        "", "test scenes, scored after training: a scene store, or a folder of .mat files", "data", affects="place"
    )
    save_dir: str = flag("./runs", "folder in which the run directory is created", "output", affects="place")
    dataset_name: str = flag(
        "Cave", "Cave, Harvard, NTIRE2020 (31 bands), Chikusei (128), or a name of your own", "data", affects="row"
    )
    model_title: str = flag(
        "DeepShare",
        "network; its published settings replace the defaults below (docs/networks.md)",
        "method",
        choices=registry.list_trainable_names,
        affects="row",
    )
    n_scale: int = flag(4, "upsampling factor", "method", choices=SCALES, affects="row")
    n_feats: int = flag(256, "feature maps (F); 3DFCNN ignores it", "method", low=1)
    n_blocks: int = flag(
        3, "spatial-spectral blocks in each body; MCNet: 3-D convolutions in each stage", "method", low=1
    )
    n_subs: int = flag(8, "bands per group", "method", low=1)
    n_ovls: int = flag(2, "overlap of adjacent groups in bands", "method", low=0)
    use_share: bool = flag(
        True, "1: all groups and the RGB images share the branches; 0: each group has its own branches", "method"
    )
    UseLabeledSpectralMixUp: bool = flag(False, "1: also train on labelled batches with Spectral Mixup", "method")
    theta_LabeledSpectralMixUp: int = flag(
        objectives.MIXUP.theta_default, "mini-batches with Spectral Mixup per labelled one", "method", low=0
    )
    UseRGB: bool = flag(False, "1: also train RGB super-resolution", "method")
    theta_rgb: int = flag(objectives.RGB.theta_default, "RGB mini-batches per labelled one", "method", low=0)
    UseUnlabelConsistency: bool = flag(False, "1: also train the consistency of unlabelled HSIs", "method")
    theta_unlabel: int = flag(
        objectives.CONSISTENCY.theta_default, "unlabelled mini-batches per labelled one", "method", low=0
    )
    conversionMat_path: str = flag(
        "",
        "matrix from bands to 8 channels (.csv or .mat); without it, the released 31 x 8 matrix, or one from the "
        "wavelengths",
        "method",
        affects="place",
    )
    batch_size: int = flag(8, "patches per mini-batch", "optimisation", low=1)
    epochs: int = flag(10, "passes over the labelled patches in all 8 flips and rotations", "optimisation", low=1)
    learning_rate: float = flag(
        1e-4,
        "learning rate of Adam; times 0.3 every 5 epochs and in the last epoch",
        "optimisation",
        above=0,
        affects="remedy",
    )
    schedule: str = flag(
        "published",
        "learning-rate schedule; cosine: half a cosine over all epochs",
        "optimisation",
        choices=("published", "cosine"),
    )
    warmup_iterations: int = flag(0, "iterations of linear learning-rate warm-up", "optimisation", low=0)
    weight_decay: float = flag(0.0, "weight decay of Adam", "optimisation", low=0)
    clip_gradient: float = flag(0.0, "maximum gradient norm; 0: no clipping", "optimisation", low=0, affects="remedy")
    loss: str = flag(
        "hybrid",
        "loss of labelled and mixed batches. hybrid: L1 with total variation; mse_sam: MSE with spectral angle; "
        "relative: hybrid with errors relative to each band's brightness, also for RGB batches",
        "optimisation",
        choices=("hybrid", "l1", "mse", "mse_sam", "relative"),
    )
    ema_decay: float = flag(
        0.0,
        "decay of the exponential moving average of the weights, which is scored and saved; 0: none, 0.999: usual",
        "optimisation",
        low=0,
    )
    joint_loss: bool = flag(
        False, "0: one Adam step per loss (released code); 1: one Adam step on the sum (paper)", "optimisation"
    )
    patch_size: int = flag(
        0, "HR pixels along a patch's edge; 0: published, 64 for x4, 128 for x8, else 16 times the scale", "data", low=0
    )
    patch_stride: int = flag(0, "HR pixels between patches; 0: published, 32, or 64 for Chikusei x8", "data", low=0)
    data_train_num: int = flag(0, "use only the first N labelled patches (sorted); 0: all", "data", low=0)
    data_eval_num: int = flag(
        0, "use only the first N validation scenes (sorted); 0: all", "data", low=0, affects="place"
    )
    data_test_num: int = flag(0, "use only the first N test scenes (sorted); 0: all", "data", low=0, affects="place")
    protocol: str = protocol_flag()
    global_residual: bool = flag(
        False, "1: predict the difference from bicubic, as GDRRN always does; not published, for short runs", "method"
    )
    init: str = flag(
        "default",
        "initialization; identity: start near bicubic, for short runs",
        "method",
        choices=("default", "identity"),
    )
    weights: str = flag(
        "",
        "fine-tune these weights: a .pth file, or the name of bundled weights; for other bands, only the layers that "
        "do not depend on the bands are loaded",
        "method",
    )
    freeze: str = flag("", "branches: with --weights, do not train the branches", "method", choices=("", "branches"))
    seed: int = flag(3000, "seed of all random numbers", "optimisation", low=0, affects="row")
    cuda: str = cuda_flag()
    gpus: str = gpus_flag()
    precision: str = flag(
        "tf32",
        "arithmetic of the convolutions: tf32 (fp32 on a CPU); fp32; bf16, faster",
        "hardware",
        choices=("tf32", "fp32", "bf16"),
        affects="remedy",
    )
    compile: bool = flag(
        False,
        "1: compile the blocks of the network with torch.compile: slower start, faster steps",
        "hardware",
        affects="speed",
    )
    accumulate: int = flag(1, "gradient accumulation steps, to save memory", "hardware", low=1, affects="speed")
    deterministic: bool = flag(
        False,
        "1: bitwise reproducible on CUDA, with slower steps; a CPU always is",
        "hardware",
        affects="speed",
    )
    activation_checkpointing: bool = flag(
        False, "1: recompute feature maps in the backward pass, to save memory", "hardware", affects="speed"
    )
    resume: str = flag(
        "",
        "resume a run: last (the newest run of this network in save_dir), a run directory, or its last.pth",
        "output",
        affects="place",
    )
    max_iterations: int = flag(
        0,
        "stop after N iterations; the schedule still spans all epochs; 0: no limit",
        "optimisation",
        low=0,
        affects="place",
    )
    logger: str = flag(
        "none",
        "additional log: none, or tensorboard (needs that package)",
        "output",
        choices=("none", "tensorboard"),
        affects="place",
    )
    log_interval: int = flag(50, "iterations between rows of log.csv", "output", low=1, affects="place")
    checkpoint_minutes: float = flag(
        30, "minutes between checkpoints within an epoch", "output", above=0, affects="place"
    )

    IF_MEMORY_FAILS: ClassVar[str] = (
        "try --accumulate 2 (or more), --activation_checkpointing 1, --precision bf16, or a smaller --batch_size, "
        "--patch_size or --n_feats; the first three can be added when resuming (--resume last)"
    )

    @classmethod
    def from_flags(cls, flags: Mapping[str, Any]) -> "TrainConfig":
        """See `Config.from_flags`; flags that are not given have the network's published settings."""
        title = flags.get("model_title", "DeepShare")
        published = registry.get_entry(title).published if title in registry.list_trainable_names() else {}
        return super().from_flags({**published, **flags})

    def validate(self) -> None:
        """See `Config.validate`."""
        check_dataset_name(self.dataset_name)
        self._check_network()
        if self.n_ovls >= self.n_subs and self.has_setting("n_subs"):
            raise UserError(
                f"--n_ovls ({self.n_ovls}) must be below --n_subs ({self.n_subs}); the published pair is 2 and 8"
            )
        if self.logger == "tensorboard" and not importlib.util.find_spec("tensorboard"):
            raise UserError("--logger tensorboard: the package is missing; pip install tensorboard, or omit the flag")
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
        for objective, _ in objectives.list_active(self):
            folder = FOLDERS[objective.stream]
            if not getattr(self, folder):
                raise UserError(
                    f"--{objective.switch} 1 needs --{folder}; give a folder or store, or --{objective.switch} 0"
                )

    def has_setting(self, name: str) -> bool:
        """Return True if the network has this setting."""
        return name in registry.get_entry(self.model_title).settings

    @property
    def patch(self) -> tuple[int, int]:
        """Return (size, stride) of the HR patches; by default the published ones."""
        return asked_or_published_patch(self.dataset_name, self.n_scale, self.patch_size, self.patch_stride)

    @property
    def run_title(self) -> str:
        """Return the name of the run directory."""
        return f"{self.weights_title}_x{self.n_scale}"

    @property
    def weights_title(self) -> str:
        """Return the prefix of the names of weights: data set, network and its settings, as in the released code."""
        own = {name: f"{name}=" for name in registry.list_settings() if name not in SHARED_SETTINGS}
        parts = [
            word + file_name(str(self.as_dict()[name]))
            for name, word in {**TITLE_PARTS, **own}.items()
            if self.has_setting(name)
        ]
        return "_".join([self.dataset_name, self.model_title, *parts])


def _having_rgb() -> str:
    return " or ".join(n for n in registry.list_names() if "rgb" in registry.get_entry(n).network_class.modalities)
