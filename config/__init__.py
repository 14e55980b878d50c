"""Every setting of every command: its published default, its meaning, its limits.

The dataclasses here are the single source of the command line: `mains.py` takes flags, help and types
from them, the README's tables are made from them, and a run's config.json is one written out.
"""

import dataclasses
import difflib
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from utils import UserError

BANDS_OF_DATASET = {"Cave": 31, "Harvard": 31, "NTIRE2020": 31, "Chikusei": 128}
SCALES = (2, 3, 4, 6, 8, 16)
PROTOCOLS = ("corrected", "published")
NETWORKS = ("DeepShare", "SSPSR", "GDRRN", "3DFCNN", "MCNet")

# In what the peers were published with other settings than DeepShare, whose settings are the flags' defaults.
PUBLISHED = {
    "SSPSR": {},
    "GDRRN": {"n_feats": 128, "loss": "mse_sam", "weight_decay": 1e-4, "clip_gradient": 0.005},
    "3DFCNN": {"n_feats": 64, "loss": "mse", "learning_rate": 5e-5},
    "MCNet": {"n_feats": 64, "n_blocks": 1, "loss": "l1"},
}
# Which settings of their architecture the networks have; the others are not used.
ARCHITECTURE = {
    "DeepShare": ("n_blocks", "n_subs", "n_ovls", "n_feats"),
    "SSPSR": ("n_blocks", "n_subs", "n_ovls", "n_feats"),
    "GDRRN": ("n_feats",),
    "3DFCNN": (),
    "MCNet": ("n_blocks", "n_feats"),
}


def flag(default, help, choices=None, low=None, above=None):
    """A dataclass field with its help text and limits (one of choices, low <= value, above < value)."""
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices, "low": low, "above": above})


class Config:
    """Base of the commands' settings: converts what the command line gives and checks it."""

    # What the user may try where a command runs out of memory.
    IF_MEMORY_FAILS = "close other programs, or take smaller images"

    @classmethod
    def from_flags(cls, flags):
        """Build from a dict of raw flag values (numbers, strings, tuples as fire parses them).

        Raises:
            UserError: naming the flag, the value received and what it takes.
        """
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for name in flags:
            if name not in fields:
                raise UserError(unknown_flag(name, fields))
        values = {name: _converted(fields[name], value) for name, value in flags.items()}
        config = cls(**values)
        config.validate()
        return config

    def validate(self):
        """Check the settings against each other.

        Raises:
            UserError: for a combination that cannot work.
        """

    def check_patch(self):
        for name in ("patch_size", "patch_stride"):
            if (value := getattr(self, name)) % self.n_scale:
                raise UserError(f"--{name} ({value}) must be a multiple of --n_scale ({self.n_scale})")

    def check_dataset_name(self):
        if not re.fullmatch(r"[\w.+ -]+", self.dataset_name):
            raise UserError(
                f"--dataset_name {self.dataset_name!r}: it becomes part of file names; use letters, digits, _ and -"
            )

    def check_gpus(self):
        if self.gpus and not all(part.strip().isdecimal() for part in self.gpus.split(",")):
            raise UserError(f"--gpus takes device numbers such as 0 or 0,1, not {self.gpus!r}")


def unknown_flag(name, known):
    """The sentence for a flag that does not exist, with the nearest one that does."""
    by_lower_case = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.5)
    remedy = f"did you mean --{by_lower_case[near[0]]}?" if near else "--help lists the flags"
    return f"--{name} is not a flag of this command; {remedy}"


def _converted(field, value):
    """A raw flag value in the field's type and within its limits."""
    name, limits = field.name, field.metadata
    if field.type is str:
        value = ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
        value = os.path.expanduser(value) if value.startswith("~") else value
    else:
        number = _number(value)
        if field.type is bool and number not in (0, 1):
            raise UserError(f"--{name} takes 1 or 0, not {value!r}")
        # Beyond 2**53 a float no longer tells whole numbers apart.
        if number is None or (field.type is int and (number % 1 or abs(number) > 2**53)):
            raise UserError(f"--{name} takes a {'whole ' if field.type is int else ''}number, not {value!r}")
        value = field.type(number)
    if limits["choices"] and value not in limits["choices"]:
        raise UserError(f"--{name} takes {_one_of(limits['choices'], field.default)}, not {value!r}")
    if limits["low"] is not None and value < limits["low"]:
        raise UserError(f"--{name} is at least {limits['low']}, not {value!r}")
    if limits["above"] is not None and value <= limits["above"]:
        raise UserError(f"--{name} is above {limits['above']}, not {value!r}")
    return value


def _number(value):
    """The finite number that a value is or spells, with true and false as 1 and 0; None if it is none."""
    if isinstance(value, str):
        value = {"true": 1, "false": 0}.get(value.strip().lower(), value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if abs(number) < float("inf") else None


def _one_of(choices, default):
    # "" and 0 as a default say that nothing was chosen.
    words = [str(c) for c in choices if c != "" and not (c == default == 0)]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def names(text):
    """A comma-separated list of scene names as a list, without blanks at the ends."""
    return [n.strip() for n in text.split(",") if n.strip()]


@dataclass(frozen=True)
class PrepareConfig(Config):
    """Turn a raw download into scene stores: labelled.h5, unlabelled.h5, test.h5."""

    raw_dir: str = flag("", "folder of the raw download")
    out_dir: str = flag("", "folder for the scene stores")
    dataset_name: str = flag(
        "Cave", "Cave, Harvard, NTIRE2020, Chikusei, DIV2K, or a name of your own for any folder of cubes"
    )
    n_scale: int = flag(4, "enlargement that LR-only images were taken for", choices=SCALES)
    protocol: str = flag(
        "corrected",
        "how CAVE's 8-bit watercolors is scaled when nothing else is asked: corrected (/255) or published (/65535)",
        choices=PROTOCOLS,
    )
    labelled: str = flag("", "names of the labelled scenes, A,B,...; the published split without")
    unlabelled: str = flag("", "names of the unlabelled scenes; the published split without")
    test: str = flag("", "names of the test scenes; the published split without")
    unlabelled_lr_dir: str = flag(
        "", "folder of low-resolution scenes, for which no HR exists, to be the unlabelled ones"
    )
    allow_missing: bool = flag(False, "go on with the scenes that are there when some of the split are missing")
    fractions: str = flag(
        "0.6,0.2,0.2", "labelled, unlabelled and test parts, drawn by the seed where no split is published"
    )
    seed: int = flag(3000, "seed of that draw", low=0)
    key: str = flag("", "own cubes: name of the array in .mat, .npz and HDF5 files; the only cube without")
    band_axis: int = flag(-1, "own cubes: axis of the bands, 0, 1 or 2; -1: found", choices=(-1, 0, 1, 2))
    value_scale: float = flag(0.0, "own cubes: what stands for 1; 0: the integer type's maximum, 1 for floats", low=0)
    wavelengths: str = flag("", "own cubes: first,last in nm of evenly spaced bands; where files do not say")
    format: str = flag(
        "h5", "mat: write released-style .mat patches (gt, ms, ms_bicubic) beside the stores", choices=("h5", "mat")
    )
    patch_size: int = flag(0, "--format mat: HR pixels along a patch's edge; 0: the published ones", low=0)
    patch_stride: int = flag(0, "--format mat: HR pixels between patches; 0: the published ones", low=0)
    check: bool = flag(False, "1: score bicubic on the test store beside the published bicubic row")
    workers: int = flag(0, "processes that read scenes; 0: as many as there are cores, at most 4", low=0)

    def validate(self):
        if not self.raw_dir and not self.unlabelled_lr_dir:
            raise UserError("--raw_dir is missing; give the folder of the raw download")
        if not self.out_dir:
            raise UserError("--out_dir is missing; give the folder for the scene stores")
        self.check_patch()
        parts = [_number(part) for part in self.fractions.split(",")]
        if len(parts) != 3 or None in parts or min(parts) < 0 or sum(parts) <= 0:
            raise UserError(f"--fractions takes three parts such as 0.6,0.2,0.2, not {self.fractions!r}")
        seen = {}
        for split in ("labelled", "unlabelled", "test"):
            for name in names(getattr(self, split)):
                if seen.setdefault(name, split) != split:
                    raise UserError(
                        f"scene {name} is in both --{seen[name]} and --{split}; a scene belongs to one split"
                    )


@dataclass(frozen=True)
class TrainConfig(Config):
    """Train a network with the published recipe; 11,250 iterations for CAVE x4."""

    train_dir_mslabel: str = flag("", "labelled HSIs: a scene store, or a folder of .mat patches (gt, ms, ms_bicubic)")
    train_dir_msunlabel: str = flag("", "unlabelled HSIs: a scene store or a folder of .mat patches (ms, ms_bicubic)")
    train_dir_rgb: str = flag("", "RGB images: a folder of pictures or of 8-channel .mat patches")
    eval_dir_ms: str = flag("", "validation scenes: a scene store or a folder of .mat files; scored after each epoch")
    test_dir: str = flag("", "test scenes: a scene store or a folder of .mat files; scored once, at the end")
    save_dir: str = flag("./runs", "folder under which the run's own folder is made")
    dataset_name: str = flag("Cave", "Cave, Harvard, NTIRE2020 (31 bands), Chikusei (128) or a name of your own")
    model_title: str = flag(
        "DeepShare",
        "the network: DeepShare, SSPSR, GDRRN, 3DFCNN or MCNet; each has defaults of its own (see below)",
        choices=NETWORKS,
    )
    n_scale: int = flag(4, "enlargement", choices=SCALES)
    n_feats: int = flag(256, "width F of all feature maps; not used by 3DFCNN, whose widths are fixed", low=1)
    n_blocks: int = flag(3, "spatial-spectral blocks in each body; MCNet: 3-D convolutions in each stage", low=1)
    n_subs: int = flag(8, "bands in a group", low=1)
    n_ovls: int = flag(2, "bands that neighbouring groups share", low=0)
    use_share: bool = flag(True, "1: all groups and the RGB images share the branches; 0: each has its own")
    UseRGB: bool = flag(False, "1: train RGB super-resolution alongside")
    theta_rgb: int = flag(3, "RGB mini-batches per labelled one", low=0)
    UseLabeledSpectralMixUp: bool = flag(False, "1: train on spectrally mixed labelled batches too")
    theta_LabeledSpectralMixUp: int = flag(1, "mixed mini-batches per labelled one", low=0)
    UseUnlabelConsistency: bool = flag(False, "1: train on the consistency of unlabelled HSIs too")
    theta_unlabel: int = flag(3, "unlabelled mini-batches per labelled one", low=0)
    conversionMat_path: str = flag("", "bands-to-8-channels matrix (.csv or .mat); the released 31 x 8 one without")
    batch_size: int = flag(8, "patches in a mini-batch", low=1)
    epochs: int = flag(10, "passes over the labelled patches and their 8 flips and rotations", low=1)
    learning_rate: float = flag(1e-4, "Adam's step; times 0.3 every 5 epochs and once more in the last", above=0)
    schedule: str = flag(
        "published", "cosine: the learning rate falls along half a cosine instead", choices=("published", "cosine")
    )
    warmup_iterations: int = flag(0, "iterations over which the learning rate rises to its value", low=0)
    weight_decay: float = flag(0.0, "Adam's weight decay", low=0)
    clip_gradient: float = flag(0.0, "largest norm of the gradient; 0: not clipped", low=0)
    loss: str = flag(
        "hybrid",
        "of labelled and mixed batches: hybrid (L1 with total variation), l1, mse, or mse_sam (with spectral angle)",
        choices=("hybrid", "l1", "mse", "mse_sam"),
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
    data_eval_num: int = flag(0, "use only the first N validation scenes (sorted); 0: all", low=0)
    data_test_num: int = flag(0, "use only the first N test scenes (sorted); 0: all", low=0)
    protocol: str = flag("", "corrected or published; the store's own without", choices=("", *PROTOCOLS))
    global_residual: bool = flag(
        False, "1: add the output to the bicubic image, as GDRRN always does; not published, for short runs"
    )
    init: str = flag(
        "default", "identity: start near the bicubic image; for short runs", choices=("default", "identity")
    )
    seed: int = flag(3000, "seed of every random draw", low=0)
    cuda: str = flag("auto", "1: CUDA, 0: CPU, auto: CUDA where there is one", choices=("auto", "1", "0"))
    gpus: str = flag("", "number of the CUDA device to use; the first one without")
    precision: str = flag(
        "tf32",
        "arithmetic of the convolutions: tf32 (plain fp32 on a CPU), fp32, or bf16, which is faster",
        choices=("tf32", "fp32", "bf16"),
    )
    compile: bool = flag(False, "1: compile the network with torch.compile: some minutes at the start, faster steps")
    accumulate: int = flag(1, "parts that each mini-batch goes through in, one after the other, to save memory", low=1)
    activation_checkpointing: bool = flag(False, "1: keep fewer feature maps and compute them again, to save memory")
    resume: str = flag("", "last: go on with the newest checkpoint of the same title; or the path of a last.pth")
    max_iterations: int = flag(0, "end after so many iterations; 0: when the epochs are done", low=0)
    log_interval: int = flag(50, "iterations between rows of log.csv", low=1)
    checkpoint_minutes: float = flag(30, "minutes between checkpoints within an epoch", above=0)

    IF_MEMORY_FAILS = (
        "try --accumulate 2 (or more), --activation_checkpointing 1, --precision bf16, or a smaller --batch_size, "
        "--patch_size or --n_feats; the first three can be given with --resume last, and the run goes on"
    )
    # Settings that say where a run's files are, how it is watched and how it is computed, and the remedies
    # for a run that diverged; they may differ on resuming.
    FREE_ON_RESUME = (
        *("train_dir_mslabel", "train_dir_msunlabel", "train_dir_rgb", "eval_dir_ms", "test_dir", "save_dir"),
        *("conversionMat_path", "data_eval_num", "data_test_num", "cuda", "gpus", "resume"),
        *("max_iterations", "checkpoint_minutes", "log_interval"),
        *("learning_rate", "clip_gradient", "precision", "compile", "accumulate", "activation_checkpointing"),
    )

    @classmethod
    def from_flags(cls, flags):
        """As of every command; flags that are not given have the network's published settings."""
        return super().from_flags({**PUBLISHED.get(flags.get("model_title"), {}), **flags})

    def validate(self):
        self.check_gpus()
        self.check_dataset_name()
        self._check_network()
        if self.n_ovls >= self.n_subs:
            raise UserError(
                f"--n_ovls ({self.n_ovls}) must be below --n_subs ({self.n_subs}); the published pair is 2 and 8"
            )
        if not self.train_dir_mslabel:
            raise UserError("--train_dir_mslabel is missing; give the labelled store (labelled.h5) or patch folder")
        if self.uses_rgb and not self.train_dir_rgb:
            raise UserError("--UseRGB 1 needs --train_dir_rgb; give a folder of pictures, or --UseRGB 0")
        if self.uses_unlabelled and not self.train_dir_msunlabel:
            raise UserError(
                "--UseUnlabelConsistency 1 needs --train_dir_msunlabel; give a store or folder, or --UseUnlabelConsistency 0"
            )
        self.check_patch()
        if self.ema_decay >= 1:
            raise UserError(f"--ema_decay is below 1, not {self.ema_decay}; 0.999 is usual")
        if self.accumulate > self.batch_size:
            raise UserError(
                f"--accumulate {self.accumulate}: a mini-batch has only {self.batch_size} patches (--batch_size); set at most that"
            )

    def _check_network(self):
        if self.model_title == "DeepShare":
            return
        for name, used in (("UseRGB", self.uses_rgb), ("UseUnlabelConsistency", self.uses_unlabelled)):
            if used:
                raise UserError(
                    f"--{name} 1: {self.model_title} has no path for RGB images, only DeepShare has; "
                    f"give --{name} 0, or --model_title DeepShare"
                )
        if not self.use_share:
            raise UserError(
                f"--use_share 0: {self.model_title} cannot be had unshared, only DeepShare; leave the flag out"
            )
        if self.init == "identity" and not self.global_residual and self.model_title != "GDRRN":
            raise UserError(f"--init identity: {self.model_title} needs --global_residual 1 with it; give both")

    @property
    def uses_rgb(self):
        return self.UseRGB and self.theta_rgb > 0

    @property
    def uses_mixup(self):
        return self.UseLabeledSpectralMixUp and self.theta_LabeledSpectralMixUp > 0

    @property
    def uses_unlabelled(self):
        return self.UseUnlabelConsistency and self.theta_unlabel > 0

    @property
    def patch(self):
        """(size, stride) of the HR patches, the published ones where none is asked for."""
        return patch_of(self)

    @property
    def run_title(self):
        """Name of the run's folder."""
        return f"{self.weights_title}_x{self.n_scale}"

    @property
    def weights_title(self):
        """How the released weights' names begin: a network's settings, as far as it has them."""
        parts = {"n_blocks": "Blocks=", "n_subs": "Subs", "n_ovls": "Ovls", "n_feats": "Feats="}
        settings = [parts[name] + str(getattr(self, name)) for name in ARCHITECTURE[self.model_title]]
        return "_".join([self.dataset_name, self.model_title, *settings])

    def learning_rate_in(self, epoch):
        """Learning rate in epoch 1..epochs: times 0.3 every 5 epochs, and once more in the last."""
        rate = self.learning_rate * 0.3 ** (epoch // 5)
        return rate * 0.3 if epoch == self.epochs else rate

    def learning_rate_at(self, iteration, per_epoch):
        """Learning rate of iteration 0, 1, ... of a run with per_epoch iterations in an epoch."""
        if self.schedule == "cosine":
            rate = self.learning_rate * (1 + math.cos(math.pi * iteration / (self.epochs * per_epoch))) / 2
        else:
            rate = self.learning_rate_in(iteration // per_epoch + 1)
        return rate * min(1, (iteration + 1) / self.warmup_iterations) if self.warmup_iterations else rate

    def consistency_is_on(self, epoch):
        """The consistency loss takes part in the first half of the epochs (1..6 of 10)."""
        return self.uses_unlabelled and epoch - 1 <= self.epochs / 2


@dataclass(frozen=True)
class TestConfig(Config):
    """Score a network on whole scenes: PSNR, SSIM, SAM, ERGAS and more, per scene and in the mean."""

    __test__ = False  # not a test case, whatever pytest makes of the name

    IF_MEMORY_FAILS = "try --cuda 0, which uses main memory, close other programs, or crop the scenes"

    test_dir: str = flag("", "test scenes: a scene store or a folder of .mat files (gt; ms and ms_bicubic if there)")
    model_dir: str = flag("", "the .pth file of the weights (ours or released); its architecture is read off it")
    model_title: str = flag(
        "",
        "Bicubic, which needs no weights; of other networks only checked against the weights",
        choices=("", *NETWORKS, "Bicubic"),
    )
    result_path: str = flag("./results", "folder for the results")
    n_scale: int = flag(
        0, "enlargement; for Bicubic 4 without, else as told by the weights' file", choices=(0, *SCALES)
    )
    n_colors: int = flag(0, "bands; only checked against the weights", low=0)
    n_feats: int = flag(0, "width; only checked against the weights", low=0)
    n_blocks: int = flag(0, "blocks; only checked against the weights", low=0)
    n_subs: int = flag(0, "bands in a group; only checked against the weights", low=0)
    n_ovls: int = flag(-1, "shared bands; as told by the weights' file without", low=-1)
    data_test_num: int = flag(0, "use only the first N scenes (sorted); 0: all", low=0)
    protocol: str = flag("", "corrected or published; the store's own without", choices=("", *PROTOCOLS))
    self_ensemble: bool = flag(False, "1: the mean over 8 flips and rotations; better, and 8 times as long")
    save_images: bool = flag(False, "1: write each cube (.mat) and a picture of LR, bicubic, SR, HR and the error")
    cuda: str = flag("auto", "1: CUDA, 0: CPU, auto: CUDA where there is one", choices=("auto", "1", "0"))
    gpus: str = flag("", "number of the CUDA device to use; the first one without")

    def validate(self):
        self.check_gpus()
        if not self.test_dir:
            raise UserError("--test_dir is missing; give a scene store (test.h5) or a folder of .mat files")
        if not self.model_dir and self.model_title != "Bicubic":
            raise UserError("--model_dir is missing; give the .pth file of the weights, or --model_title Bicubic")
        if self.model_dir and self.model_title == "Bicubic":
            raise UserError("--model_title Bicubic needs no weights; leave --model_dir out")


@dataclass(frozen=True)
class PredictConfig(Config):
    """Super-resolve scenes of one's own, from the files that people have to files of the same kind."""

    input: str = flag("", "a scene (.mat, .npy, .npz, HDF5, ENVI, TIFF, a folder of band PNGs), or a folder of scenes")
    output: str = flag("", "its result; the extension says the format, the input's without; a folder for a folder")
    model_dir: str = flag("", "the .pth file of the weights, or the name of weights that come with the program")
    overwrite: bool = flag(False, "1: replace results that are there already")
    value_scale: float = flag(
        0.0,
        "what stands for 1 (10000 for most reflectance); 0: as the file says, else the integer type's maximum",
        low=0,
    )
    nodata: str = flag("", "value that marks missing data, where the file does not say; NaN always does")
    wavelengths: str = flag("", "first,last in nm of evenly spaced bands, where the file does not say")
    key: str = flag("", "name of the array in .mat, .npz and HDF5 files; the only cube without")
    band_axis: int = flag(-1, "axis of the bands, 0, 1 or 2; -1: found", choices=(-1, 0, 1, 2))
    resample_bands: bool = flag(False, "1: interpolate other bands to the network's, and its detail back to them")
    self_ensemble: bool = flag(False, "1: the mean over 8 flips and rotations; 8 times as long")
    back_projection: int = flag(0, "times that what the result lacks of the input is added to it", low=0)
    report: bool = flag(
        False, "1: a picture beside the result: LR, bicubic, SR, spectra, and SR degraded against the input"
    )
    tile_size: int = flag(
        0, "LR pixels along a tile's edge; 0: the whole scene, or the largest that memory allows", low=0
    )
    tile_overlap: int = flag(32, "LR pixels that neighbouring tiles share, a multiple of 4", low=0)
    memory_limit: float = flag(0.0, "GB that may be used; 0: what is free", low=0)
    cuda: str = flag("auto", "1: CUDA, 0: CPU, auto: CUDA where there is one", choices=("auto", "1", "0"))
    gpus: str = flag("", "number of the CUDA device to use; the first one without")

    def validate(self):
        self.check_gpus()
        for name, what in (("input", "a scene or a folder of scenes"), ("output", "a file or a folder")):
            if not getattr(self, name):
                raise UserError(f"--{name} is missing; give {what}")
        if not self.model_dir:
            raise UserError(
                "--model_dir is missing; give a .pth file, or the name of weights that come with the program"
            )
        self.check_tiles()
        if self.nodata and self.nodata.lower() != "nan" and _number(self.nodata) is None:
            raise UserError(f"--nodata takes a number or nan, not {self.nodata!r}")

    def check_tiles(self):
        if self.tile_overlap % 4:
            raise UserError(f"--tile_overlap takes a multiple of 4, not {self.tile_overlap}")
        if self.tile_size and self.tile_size < 2 * self.tile_overlap:
            raise UserError(
                f"--tile_size ({self.tile_size}) must be at least twice --tile_overlap ({self.tile_overlap})"
            )


@dataclass(frozen=True)
class InfoConfig(Config):
    """Show what a scene store holds; --verify 1 reads every value of it."""

    store: str = flag("", "the store; may stand without its flag: mains.py info STORE")
    verify: bool = flag(False, "1: read and check every scene")

    POSITIONAL = "store"

    def validate(self):
        if not self.store:
            raise UserError("which store? give its path: mains.py info STORE")


@dataclass(frozen=True)
class TablesConfig(Config):
    """Gather the results below a folder into tables (Markdown, CSV, LaTeX) and a page with pictures and curves."""

    runs_dir: str = flag("", "the folder of runs and results; may stand without its flag: mains.py tables RUNS_DIR")
    out_dir: str = flag("", "folder for the tables and the page; RUNS_DIR/tables without")

    POSITIONAL = "runs_dir"

    def validate(self):
        if not self.runs_dir:
            raise UserError("which runs? give the folder that holds them: mains.py tables RUNS_DIR")


@dataclass(frozen=True)
class DemoConfig(Config):
    """Train the full method for a minute on built-in photographs and score it: no download, no GPU."""

    out_dir: str = flag("./demo_output", "folder for the demo's stores, run, table and picture")
    seed: int = flag(3000, "seed of every random draw", low=0)
    cuda: str = flag("auto", "1: CUDA, 0: CPU, auto: CUDA where there is one", choices=("auto", "1", "0"))
    gpus: str = flag("", "number of the CUDA device to use; the first one without")

    def validate(self):
        self.check_gpus()


def flags_table(config_class):
    """The flags of a command as a Markdown table, as the README has it."""
    lines = ["| flag | default | meaning |", "|---|---|---|"]
    for f in dataclasses.fields(config_class):
        default = int(f.default) if isinstance(f.default, bool) else f.default
        help = f.metadata["help"].replace("|", "\\|")
        lines.append(f"| `--{f.name}` | {f'`{default}`' if default != '' else ''} | {help} |")
    return "\n".join(lines)


def patch_of(config):
    """(size, stride) in HR pixels of the patches that a config asks for, else the published ones."""
    size = config.patch_size or 16 * config.n_scale
    stride = config.patch_stride or (64 if config.dataset_name == "Chikusei" and config.n_scale == 8 else 32)
    # 32 is no multiple of 3 or 6: LR patches must start on whole LR pixels.
    return size, max(config.n_scale, stride // config.n_scale * config.n_scale)


def as_dict(config):
    """The settings as plain values, for config.json and checkpoints."""
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}


def existing(path, flag_name):
    """The path that a flag gives, as a Path that exists.

    Raises:
        UserError: if there is none.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f"--{flag_name} {path}: no such file or folder; check the path")
    return path
