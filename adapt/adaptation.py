"""The command `adapt`: fine-tune weights for a sensor on one of its scenes.

The scene is the ground truth and its degraded form the input. The method assumes that a network trained at this scale
also serves the next one; one scene cannot verify it.
"""

import contextlib
import copy
import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import formats
from adapt.windows import Split, split_scene
from config import AdaptConfig, TrainConfig
from data import sources
from data.bands import BandList
from data.imresize import degrade
from data.spectral import make_lift_matrix
from data.stream import Batch, PatchStream
from formats.calibration import UnitCube, compute_peaks, understand
from metrics import band_mse, psnr
from models import weights
from models.any_bands import BandPlan, plan_bands
from models.weights import Weights, save_weights
from objectives import Objective, Task
from system.devices import allow_tf32, configure_arithmetic, has_fast_bf16, select_device
from system.errors import Interrupted, UserError, format_flags, name_flag
from system.files import atomic_write, exclusive_lock
from system.machine import get_free_memory
from system.version import git_commit
from trainer import Iterations, cosine_rate
from training.backward import Backward
from training.inputs import remark_on_pictures
from training.meters import LossMeter
from training.processes import World
from training.signals import StopSignals
from utils import as_utf8, print_line, process_count, progress_bar, random_generator, seed_everything

# Recipe of docs/results.md with a fifth of its learning rate: the weights are trained already, and the scene is small.
RECIPE: dict[str, Any] = {
    "batch_size": 8,
    "learning_rate": 2e-4,
    "loss": "relative",
    "clip_gradient": 0.05,
    "warmup_iterations": 20,
    "schedule": "cosine",
    "ema_decay": 0.99,
    "UseLabeledSpectralMixUp": True,
    "theta_LabeledSpectralMixUp": 1,
    "theta_rgb": 1,
}
# Early stopping: evaluations of the held-out windows, evaluations without improvement, largest share of the time.
EVALUATIONS, PATIENCE, EVALUATION_SHARE = 40, 12, 0.1
# Windows in one batch of an evaluation.
EVALUATION_BATCH = 8
# Mean squared error (100 dB) up to which a band counts as exact.
EXACT = 1e-10


def adapt(config: AdaptConfig) -> list[Path]:
    """Fine-tune weights for the sensor of a scene; see `config.AdaptConfig`.

    Returns:
        Paths of the files written: the weights, and their settings as JSON.

    Raises:
        UserError: for input that cannot be read or split, output that cannot be written, and if nothing was gained on
            the held-out windows.
        Interrupted: after Ctrl-C or SIGTERM, when the best weights are saved.
    """
    if process_count() > 1:
        raise UserError("adapt runs in one process; start it without torchrun")
    output = Path(config.output).expanduser()
    with exclusive_lock(output):
        for path in list_files(output):
            if path.exists() and not config.overwrite:
                raise UserError(f"--output {path}: already exists; choose another name, or set --overwrite 1")
        return Adaptation(config, output).run()


def list_files(output: Path) -> list[Path]:
    """Return the paths of the weights and of their settings as JSON."""
    return [output, output.with_suffix(".json")]


class Adaptation(Iterations):
    """Fine-tuning on one scene with early stopping.

    Args:
        config: the settings.
        output: path of the weights.

    Attributes:
        split: the split of the scene.
        best: gain of MPSNR over bicubic in dB of the best weights so far, on all held-out windows as if they were one
            image; initially that of the given weights.
        gains: the same of each window.
        zero_shot: gain of the given weights.
        bands: the BandPlan; with windows of bands, each iteration trains on a random one.
    """

    def __init__(self, config: AdaptConfig, output: Path) -> None:
        seed_everything(config.seed)
        self.device = select_device(config.cuda, config.gpus)
        self.world = World.alone()
        if config.precision == "auto":
            is_fast = self.device.type == "cuda" or has_fast_bf16()
            config = dataclasses.replace(config, precision="bf16" if is_fast else "tf32")
        configure_arithmetic(config.precision, self.device)
        self._asked, self._output = config, output
        given = weights.load(config.model_dir)
        if config.train_dir_rgb and "rgb" not in given.model.modalities:
            raise UserError(
                f"--train_dir_rgb: {given.architecture['name']} has no path for RGB images; leave the flag out, or "
                "give weights of DeepShare"
            )
        with name_flag("input", config.input):
            raster, cube, split, self._value_scale, self.bands, self._has_data = _open_scene(config, given)
        self.split, self._given = split, given
        self._sensor = BandList(raster.shape[2], raster.wavelengths) if self.bands.mode == "windows" else None
        self.config = _make_config(config, given, raster, split)
        self.streams = self._open_streams(raster, cube)
        self.model = given.model.move_to(self.device)
        self.averaged = copy.deepcopy(self.model).requires_grad_(False)
        self._on_scene = self.bands.apply(self.averaged, self._has_data)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=self.config.learning_rate, fused=True)
        self.task = Task.from_config(self.config, None)
        self.backward = Backward(self.model, self.config, self.task)
        self.losses = LossMeter(self.device, self.world)
        self.iteration = 0
        self._seconds, self._began = 60 * config.minutes, time.monotonic()
        edge = split.edge
        self._truth = [_to_bands_first(cube[i : i + edge, j : j + edge]) for i, j in split.held_out]
        self._bicubic = self._measure_errors(lambda ms, lms: lms)
        # Bands without detail, which bicubic reproduces exactly, are not scored.
        self._scored = (self._bicubic.mean(axis=0) > EXACT) & self._has_data
        if not self._scored.any():
            raise UserError(
                f"--input {config.input}: bicubic reproduces all held-out windows exactly; give a scene with detail"
            )
        self.zero_shot, self.gains = self.measure_gain()
        self.best = self.zero_shot
        self._is_saved = False

    def _open_streams(self, raster: formats.Raster, cube: Any) -> dict[str, PatchStream]:
        """Open the scene's patches that do not overlap held-out windows, and RGB images if given."""
        n_scale, size = self.config.n_scale, self.split.edge
        scene = [(raster.path.stem, cube, 1.0, 1)]
        own = sources.ScenePatches(scene, size, self.split.stride, n_scale, raster.path)
        own.positions = [(0, *place) for place in self.split.patches]
        opened: dict[str, Any] = {"labelled": own}
        if folder := self.config.train_dir_rgb:
            with name_flag("train_dir_rgb", folder):
                remark_on_pictures(folder)
                opened["rgb"] = sources.open_rgb(folder, size, size, n_scale, make_lift_matrix(self.config.n_subs))
        batch_size, seed = self.config.batch_size, self.config.seed
        return {name: PatchStream(s, batch_size, seed, name, self.device) for name, s in opened.items()}

    def batch(self, objective: Objective, repeat: int, repeats: int) -> Batch:
        """Return a mini-batch of the network's bands, or of a random window that labelled and mixed ones share."""
        batch = super().batch(objective, repeat, repeats)
        if objective.stream != "labelled":
            return batch
        window = self.bands.order
        if self.bands.mode == "windows":
            generator = random_generator(self.config.seed, "window of bands", self.iteration)
            window = self.bands.draw_window(generator, self._has_data)
        chosen = torch.as_tensor(window, device=batch.ms.device)
        return batch.map(lambda x: x[:, chosen].contiguous(memory_format=torch.channels_last))

    def rate(self) -> float:
        """Return the learning rate: a cosine decay over the available time, after a warm-up."""
        return cosine_rate(self.config, self.iteration, min(1.0, self._measure_elapsed() / self._seconds))

    def run(self) -> list[Path]:
        """Train until the time is over or early stopping; save the best weights whenever they improve."""
        print_line(self._format_summary())
        try:
            with StopSignals("stopping after this iteration") as stop, self._open_bar() as bar:
                self._train(stop, bar)
        except UserError as error:
            # The weights saved before the error remain valid.
            if not self._is_saved:
                raise
            print_line(f"training ends early: {error}")
        finally:
            for stream in self.streams.values():
                stream.close()
        if stop.signal_number:
            kept = f"the best weights ({self.best:+.2f} dB) are in {self._output}"
            kept = kept if self._is_saved else "nothing was gained"
            raise Interrupted(stop.signal_number, f"after {self.iteration} iterations; {kept}")
        return self._finish()

    def _train(self, stop: StopSignals, bar: Any) -> None:
        without_gain, interval = 0, 0.0
        self._began = evaluated = time.monotonic()
        while self._measure_elapsed() < self._seconds and without_gain < PATIENCE and not stop.signal_number:
            self.iterate(epoch=1)
            self.iteration += 1
            bar.update(min(self._measure_elapsed(), self._seconds) - bar.n)
            if time.monotonic() - evaluated >= interval:
                evaluated = time.monotonic()
                without_gain = 0 if self.evaluate(bar) else without_gain + 1
                duration = time.monotonic() - evaluated
                interval = max(self._seconds / EVALUATIONS, duration / EVALUATION_SHARE)
                evaluated = time.monotonic()
        if not stop.signal_number:
            self.evaluate(bar)

    def _open_bar(self) -> contextlib.AbstractContextManager[Any]:
        form = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s [at most {remaining} left{postfix}]"
        return progress_bar(total=self._seconds, desc="adapt", bar_format=form)

    def _measure_elapsed(self) -> float:
        return time.monotonic() - self._began

    def evaluate(self, bar: Any) -> bool:
        """Score the held-out windows; save the weights and return True if they are the best so far."""
        means = self.losses.means()
        self.losses.check(means, self.iteration, self.iteration, "give another --seed, or other weights")
        self.losses.begin_interval(means)
        gain, gains = self.measure_gain()
        bar.set_postfix_str(f"iteration {self.iteration}, gain {gain:+.2f} dB, best {max(gain, self.best):+.2f}")
        if not gain > self.best:
            return False
        self.best, self.gains = gain, gains
        if gain > 0:
            self._save()
            self._is_saved = True
        return True

    def measure_gain(self) -> tuple[float, np.ndarray]:
        """Return (gain over bicubic in dB on all held-out windows as one image, gains on each)."""
        errors = self._measure_errors(self._on_scene)
        together = self._compute_mpsnr(errors.mean(axis=0)) - self._compute_mpsnr(self._bicubic.mean(axis=0))
        pairs = zip(errors, self._bicubic, strict=True)
        return together, np.array([self._compute_mpsnr(sr) - self._compute_mpsnr(bicubic) for sr, bicubic in pairs])

    def _compute_mpsnr(self, errors: np.ndarray) -> float:
        """Return the MPSNR in dB of the scored bands from the mean squared error of each band."""
        return float(psnr(np.maximum(errors[self._scored], EXACT)).mean())

    @torch.inference_mode()
    def _measure_errors(self, network: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> np.ndarray:
        """Return the mean squared error of each band of each held-out window, windows x bands."""
        errors = []
        for first in range(0, len(self._truth), EVALUATION_BATCH):
            gt = torch.stack(self._truth[first : first + EVALUATION_BATCH])
            ms, lms = (x.to(self.device, memory_format=torch.channels_last) for x in degrade(gt, self.config.n_scale))
            with allow_tf32(False):
                output = network(ms, lms).float().cpu().numpy()
            errors += [band_mse(truth, image) for truth, image in zip(gt.numpy(), output, strict=True)]
        return np.stack(errors)

    def _save(self) -> None:
        path, path_about = list_files(self._output)
        wavelengths = None if self._sensor else self._given.wavelengths
        save_weights(self.network, path, self.config.n_ovls, wavelengths, self._value_scale, self._sensor)
        about = {
            **self.config.as_dict(),
            "started_from": {"file": as_utf8(self._given.path.name), "sha256": self._given.fingerprint, "taken": "all"},
            "n_colors": self.model.n_colors,
            "iterations": self.iteration,
            "patches": {name: len(stream.source) for name, stream in self.streams.items()},
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "git_commit": git_commit(),
            "value_scale": self._value_scale,
            "adapted": {
                "seconds": round(self._measure_elapsed(), 1),
                "edge": self.split.edge,
                "held_out": self.split.held_out,
                "bicubic": [round(self._compute_mpsnr(errors), 4) for errors in self._bicubic],
                "bands": self.bands.mode,
                "zero_shot": round(self.zero_shot, 4),
                "gain": round(self.best, 4),
                "gains": self.gains.round(4).tolist(),
            },
        }
        with atomic_write(path_about) as temporary:
            temporary.write_text(json.dumps(about, indent=1), encoding="utf-8")

    def _format_summary(self) -> str:
        split, edge = self.split, self.split.edge
        bicubic = self._compute_mpsnr(self._bicubic.mean(axis=0))
        return (
            f"{self._asked.input}: {len(split.patches)} patches of {edge} x {edge} pixels for training, "
            f"{len(split.held_out)} held-out windows; on these, bicubic has {bicubic:.2f} dB MPSNR and "
            f"{self._given.path.stem} without adaptation {self.zero_shot:+.2f} dB over bicubic"
        )

    def _finish(self) -> list[Path]:
        count = len(self.gains)
        found = f"{self.best:+.2f} dB over bicubic on {count} held-out windows"
        found += f" (single windows {self.gains.min():+.2f} to {self.gains.max():+.2f})"
        advice = "use the weights without adaptation" if self.zero_shot > 0 else "set more --minutes or a larger scene"
        if not self._is_saved:
            raise UserError(
                f"--input {self._asked.input}: no gain over the weights without adaptation after {self.iteration} "
                f"iterations ({found}), so no weights were written; {advice}"
            )
        found += f", {self.best - self.zero_shot:+.2f} dB over {self._given.path.stem} without adaptation"
        if self.best < self.gains.std(ddof=1) / math.sqrt(count):
            found += "; the gain is less than its standard error and may be chance"
        print_line(f"{self._output}: {found}; {self.iteration} iterations in {self._measure_elapsed():.0f} s")
        return list_files(self._output)


def _open_scene(config: AdaptConfig, given: Weights) -> tuple[formats.Raster, Any, Split, float, BandPlan, np.ndarray]:
    """Open the scene to adapt to.

    Returns:
        (the scene; its normalised values, in memory if a tenth of the free memory suffices; its split; the full-scale
        value to record in the weights, 0 if it is assumed or is not one number; the BandPlan; C of bool: bands with
        data).
    """
    n_scale = given.architecture["n_scale"]
    path = Path(config.input).expanduser()
    if not path.exists():
        raise UserError(f"--input {path}: no such file or folder; check the path")
    raster = formats.open_raster(path, formats.CubeOptions.of(config, given.architecture["n_colors"]))
    understood = understand(raster, config.value_scale, fallback=given.value_scale)
    if understood.high is None:
        raise UserError(f"--input {path}: all pixels are missing data; give another scene")
    for remark in understood.list_remarks(path):
        print_line(format_flags(remark))
    scene, network = BandList(raster.shape[2], raster.wavelengths), BandList(given.model.n_colors, given.wavelengths)
    plan = plan_bands(path, scene, network, config.bands, sensor=given.sensor)
    if plan.remark:
        print_line(format_flags(plan.remark))
    # The default normalisation of `predict`.
    peaks = compute_peaks(raster, understood, "bands" if plan.mode == "windows" else "auto")
    has_data = peaks.repeat(raster.shape[2] // len(peaks)) > 0
    cube: Any = UnitCube(raster, understood.calibration, peaks)
    valid = cube.find_valid_pixels()
    # Reading the cube needs several float64 copies.
    if cube.nbytes <= get_free_memory() / 10:
        cube = cube[:, :]

    def measure_detail(top: int, left: int, edge: int) -> float:
        """Return the mean squared error of bicubic in a window."""
        gt = _to_bands_first(cube[top : top + edge, left : left + edge])[None]
        return float((degrade(gt, n_scale)[1] - gt).square().mean())

    is_recorded = understood.source != "type" and understood.calibration.scaling is None
    value_scale = understood.calibration.scale if is_recorded else 0.0
    split = split_scene(path, valid, n_scale, config.seed, measure_detail)
    return raster, cube, split, value_scale, plan, has_data


def _make_config(config: AdaptConfig, given: Weights, raster: formats.Raster, split: Split) -> TrainConfig:
    """Return the settings that an equivalent run of `train` would have."""
    architecture = {k: v for k, v in given.architecture.items() if k != "n_colors"}
    return TrainConfig(
        **{
            **RECIPE,
            **{"model_title": architecture.pop("name"), **architecture},
            **{"dataset_name": raster.path.stem, "train_dir_mslabel": config.input, "weights": config.model_dir},
            **{"patch_size": split.edge, "patch_stride": split.stride, "epochs": 1, "protocol": "corrected"},
            **{"UseRGB": bool(config.train_dir_rgb), "train_dir_rgb": config.train_dir_rgb},
            **{"seed": config.seed, "precision": config.precision, "cuda": config.cuda, "gpus": config.gpus},
        }
    )


def _to_bands_first(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
