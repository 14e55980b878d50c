"""Training: DeepShare's two modalities and four losses in one loop, resumable at any iteration."""

import csv
import dataclasses
import json
import platform
import signal
import subprocess
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import checkpoint
import config as settings
import evaluator
from data import patches, readers, store
from data.spectral import conversion_for, convert_bands, draw_mixup_matrix, lift_matrix, spectral_mixup
from losses import hybrid_loss
from metrics import METRICS, UnscoredBandWarning, quality_assessment
from models import build_model
from utils import (
    Interrupted,
    UserError,
    progress_bar,
    random_generator,
    replacing,
    seed_everything,
    select_device,
    writing,
)

BRANCHES = ("labelled", "mixup", "rgb", "consistency")


class Trainer:
    """Everything of one run; `train` runs it.

    All data are opened and checked, and one small validation is made, before the run's folder appears.

    Args:
        config: a TrainConfig.

    Raises:
        UserError: if something the user gave cannot work.
    """

    def __init__(self, config):
        self.config = config
        seed_everything(config.seed)
        self.device = select_device(config.cuda, config.gpus)
        # The same seed shall give the same log, also where cuDNN has faster algorithms that do not.
        torch.backends.cudnn.deterministic = True
        resumed_from = self._find_checkpoint()
        self._open_data()
        self.model = self._build_model()
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.iteration = 0
        self.sums = torch.zeros(len(BRANCHES), dtype=torch.float64, device=self.device)
        self.counts = [0] * len(BRANCHES)
        self.seconds = 0.0
        if resumed_from:
            self._restore(resumed_from)
        self._rehearse_validation()
        self.run_dir = resumed_from.parent if resumed_from else self._new_run_dir()
        self.files = []

    def train(self):
        """Run to the end: train, keep checkpoints, validate, save the weights, test.

        Returns:
            Paths of the files written.

        Raises:
            Interrupted: after SIGINT or SIGTERM, when last.pth is safe.
            UserError: for a loss that is not finite, a full disk, or data that cannot be read.
        """
        config, per_epoch = self.config, self.streams["labelled"].batches_per_pass
        self._open_logs()
        checkpoint_due = time.monotonic() + 60 * config.checkpoint_minutes
        progress = progress_bar(total=self.total, initial=self.iteration, desc="train", unit="it")
        if (
            self.eval_scenes
            and self.iteration
            and self._validated_epochs() * per_epoch < self.iteration // per_epoch * per_epoch
        ):
            self._validate(self.iteration // per_epoch)
        with _StopSignals() as stop, progress:
            while self.iteration < self.total:
                started = time.monotonic()
                epoch = self.iteration // per_epoch + 1
                for group in self.optimizer.param_groups:
                    group["lr"] = config.learning_rate_in(epoch)
                self._iterate(epoch)
                self.iteration += 1
                self.seconds += time.monotonic() - started
                progress.update()
                epoch_ends = self.iteration % per_epoch == 0
                if self.iteration % config.log_interval == 0 or epoch_ends or self.iteration == self.total:
                    self._log(epoch, progress)
                elif self.device.type == "cpu":
                    self._show(epoch, progress)
                if epoch_ends or stop.signal_number or time.monotonic() >= checkpoint_due:
                    self._save()
                    checkpoint_due = time.monotonic() + 60 * config.checkpoint_minutes
                if stop.signal_number:
                    raise Interrupted(stop.signal_number)
                # After the checkpoint: a whole scene may be what the memory has no room for.
                if epoch_ends and self.eval_scenes:
                    self._validate(epoch)
        self._finish()
        return self.files

    def _iterate(self, epoch):
        """One iteration: labelled, mixed, RGB, unlabelled mini-batches, each with its own Adam step."""
        config = self.config
        labelled = self._batch("labelled", 0, 1)
        self.optimizer.zero_grad(set_to_none=True)
        self._learn("labelled", self.labelled_loss(labelled))
        if config.uses_mixup:
            for r in range(config.theta_LabeledSpectralMixUp):
                self._learn("mixup", self.mixup_loss(labelled, r))
        if config.uses_rgb:
            for r in range(config.theta_rgb):
                self._learn("rgb", self.rgb_loss(self._batch("rgb", r, config.theta_rgb)))
        if config.consistency_is_on(epoch):
            for r in range(config.theta_unlabel):
                batch = self._batch("unlabelled", r, config.theta_unlabel)
                self._learn("consistency", self.consistency_loss(batch))
        if config.joint_loss:
            self.optimizer.step()

    def labelled_loss(self, batch):
        """Super-resolved HSIs against the true ones."""
        return hybrid_loss(self.model(batch.ms, batch.lms), batch.gt)

    def mixup_loss(self, batch, repeat):
        """The same for bands mixed by a new random matrix (Spectral Mixup)."""
        generator = random_generator(self.config.seed, "mixup", self.iteration, repeat)
        matrix = draw_mixup_matrix(self.n_colors, generator).to(self.device)
        return self.labelled_loss(batch.map(lambda x: spectral_mixup(x, matrix)))

    def rgb_loss(self, batch):
        """Super-resolved RGB images against the true ones."""
        return hybrid_loss(self.model(batch.ms, batch.lms, "rgb"), batch.gt)

    def consistency_loss(self, batch):
        """An unlabelled HSI super-resolved and then converted to 8 channels, against the reverse order."""
        converted_last = convert_bands(self.model(batch.ms, batch.lms), self.conversion)
        converted_first = batch.map(lambda x: convert_bands(x, self.conversion))
        return hybrid_loss(converted_last, self.model(converted_first.ms, converted_first.lms, "rgb"))

    def _batch(self, stream, repeat, per_iteration):
        return self.streams[stream].batch(self.iteration * per_iteration + repeat)

    def _learn(self, branch, loss):
        # Parameters that a loss does not use must have no gradient rather than a zero one: Adam would
        # move them on by their momentum. The released losses come out only this way.
        if not self.config.joint_loss:
            self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if not self.config.joint_loss:
            self.optimizer.step()
        k = BRANCHES.index(branch)
        self.sums[k] += loss.detach()
        self.counts[k] += 1

    def _open_data(self):
        config = self.config
        size, stride = config.patch
        lift = lift_matrix(config.n_subs)
        sources = {
            "labelled": patches.labelled_source(
                config.train_dir_mslabel, size, stride, config.n_scale, config.data_train_num, config.protocol
            )
        }
        self.n_colors = sources["labelled"].n_colors
        if config.patch_size not in (0, sources["labelled"].size):
            raise UserError(
                f"--patch_size {config.patch_size}: the patches of {config.train_dir_mslabel} have "
                f"{sources['labelled'].size} pixels and are not cut again; leave the flag out"
            )
        expected = settings.BANDS_OF_DATASET.get(config.dataset_name, self.n_colors)
        if self.n_colors != expected:
            raise UserError(
                f"{config.train_dir_mslabel}: {self.n_colors} bands, {config.dataset_name} has {expected}; set --dataset_name to a name of your own"
            )
        if self.n_colors < config.n_subs:
            raise UserError(
                f"{config.train_dir_mslabel}: {self.n_colors} bands, fewer than --n_subs {config.n_subs}; set a smaller one"
            )
        if config.uses_unlabelled:
            config = self.config = self._with_conversion(config)
        if config.uses_rgb:
            sources["rgb"] = patches.rgb_source(config.train_dir_rgb, size, stride, config.n_scale, lift)
        if config.uses_unlabelled:
            sources["unlabelled"] = patches.unlabelled_source(
                config.train_dir_msunlabel, size, stride, config.n_scale, config.protocol
            )
            if sources["unlabelled"].n_colors != self.n_colors:
                raise UserError(
                    f"{config.train_dir_msunlabel}: {sources['unlabelled'].n_colors} bands, the labelled images have {self.n_colors}; give images of one sensor"
                )
        for given, used, name in (
            (config.train_dir_rgb, config.uses_rgb, "rgb"),
            (config.train_dir_msunlabel, config.uses_unlabelled, "msunlabel"),
        ):
            if given and not used:
                tqdm.write(
                    f"--train_dir_{name} is given, but its branch is off; --{'UseRGB' if name == 'rgb' else 'UseUnlabelConsistency'} 1 turns it on"
                )
        self.streams = {
            name: patches.PatchStream(
                source, config.batch_size, config.seed, name, self.device, keep_last=name == "labelled"
            )
            for name, source in sources.items()
        }
        self.total = config.epochs * self.streams["labelled"].batches_per_pass
        if config.max_iterations:
            self.total = min(self.total, config.max_iterations)
        self.eval_scenes = self._open_scenes(config.eval_dir_ms, "eval_dir_ms", config.data_eval_num)
        self.test_scenes = self._open_scenes(config.test_dir, "test_dir", config.data_test_num)

    def _with_conversion(self, config):
        """Find the conversion; the config comes back without RGB and SSL where the sensor sees no colours."""
        path = config.train_dir_mslabel
        wavelengths = store.wavelengths_of(path) if store.is_store(path) else None
        released = config.dataset_name in ("Cave", "Harvard", "NTIRE2020")
        if not config.conversionMat_path and wavelengths is not None and not released:
            try:
                matrix = conversion_for(wavelengths, config.n_subs)
            except ValueError as error:
                tqdm.write(
                    f"{path}: {error}; RGB images and the consistency loss need the visible bands, or a matrix of your "
                    "own by --conversionMat_path: training goes on without the two"
                )
                return dataclasses.replace(config, UseRGB=False, UseUnlabelConsistency=False)
        else:
            matrix = readers.read_conversion(config.conversionMat_path, self.n_colors, config.n_subs)
        self.conversion = torch.from_numpy(matrix).float().to(self.device)
        return config

    def _open_scenes(self, path, flag_name, limit):
        if not path:
            return None
        scenes = evaluator.SceneSet(path, flag_name, self.config.n_scale, self.config.protocol, limit)
        scenes.check(self.n_colors)
        return scenes

    def _build_model(self):
        config = self.config
        try:
            model = build_model(
                config.model_title,
                self.n_colors,
                config.n_scale,
                config.n_feats,
                config.n_subs,
                config.n_ovls,
                config.n_blocks,
                config.use_share,
                config.global_residual,
            )
            if config.init == "identity":
                model.init_identity()
        except ValueError as error:
            raise UserError(f"{error}; change that flag") from error
        return model.to(self.device, memory_format=torch.channels_last)

    def _rehearse_validation(self):
        """Score one small piece, so that a broken evaluation fails now and not after the first epoch."""
        for scenes in filter(None, (self.eval_scenes, self.test_scenes)):
            scene, edge = scenes.load(scenes.entries[0]), 16
            scene.ms = scene.ms[:, :, :edge, :edge]
            scene.lms, scene.gt = (
                x[:, :, : edge * scenes.n_scale, : edge * scenes.n_scale] for x in (scene.lms, scene.gt)
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UnscoredBandWarning)
                output = evaluator.super_resolve(self.model, scene, self.device)
                quality_assessment(evaluator.as_image(scene.gt), output, ratio=scenes.ergas_ratio)

    def _new_run_dir(self):
        """<save_dir>/<title>, or <title>_2, ... where a run with a checkpoint or weights is there already."""
        base = Path(self.config.save_dir).expanduser() / self.config.run_title
        run_dir, number = base, 1
        while any(run_dir.glob("*.pth")):
            number += 1
            run_dir = base.with_name(f"{base.name}_{number}")
        with writing(run_dir):
            run_dir.mkdir(parents=True, exist_ok=True)
        return run_dir

    def _find_checkpoint(self):
        """The last.pth to go on from, or None for a run from the beginning."""
        if not self.config.resume:
            return None
        if self.config.resume != "last":
            path = Path(self.config.resume).expanduser()
            return path / "last.pth" if path.is_dir() else path
        title = self.config.run_title
        runs = [
            p
            for p in Path(self.config.save_dir).expanduser().glob("*/last.pth")
            if p.parent.name == title or p.parent.name.removeprefix(title + "_").isdecimal()
        ]
        if runs:
            return max(runs, key=lambda p: p.stat().st_mtime)
        tqdm.write(f"no checkpoint of {title} under {self.config.save_dir}: starting from the beginning")
        return None

    def _save(self):
        self._check_losses()
        content = {
            "config": settings.as_dict(self.config),
            "n_colors": self.n_colors,
            "patches": self._patch_counts(),
            "iteration": self.iteration,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sums": self.sums,
            "counts": self.counts,
            "seconds": self.seconds,
        }
        checkpoint.save(content, self.run_dir / "last.pth")

    def _restore(self, path):
        run = checkpoint.load_run(path)
        now = settings.as_dict(self.config)
        free = settings.TrainConfig.FREE_ON_RESUME
        changed = [
            f"--{k} {now[k]} (was {v})" for k, v in run["config"].items() if k in now and k not in free and now[k] != v
        ]
        if changed:
            raise UserError(
                f"{path}: that run had other settings: {', '.join(changed)}; give the same ones, or start anew without --resume"
            )
        if run["patches"] != self._patch_counts():
            raise UserError(
                f"{path}: that run had {run['patches']} patches, now there are {self._patch_counts()}; give the same data, or start anew without --resume"
            )
        checkpoint.load_strictly(self.model, run["model"], path)
        self.optimizer.load_state_dict(run["optimizer"])
        self.iteration, self.counts, self.seconds = run["iteration"], run["counts"], run["seconds"]
        self.sums.copy_(run["sums"])
        tqdm.write(f"{path}: going on after iteration {self.iteration}")

    def _patch_counts(self):
        return {name: len(stream.source) for name, stream in self.streams.items()}

    def _open_logs(self):
        header = ["epoch", "iteration", "lr", *BRANCHES]
        self.log_path = self.run_dir / "log.csv"
        self.validation_path = self.run_dir / "validation.csv"
        per_epoch = self.streams["labelled"].batches_per_pass
        _keep_rows(self.log_path, header, lambda row: int(row["iteration"]) <= self.iteration)
        self._add_file(self.log_path)
        if self.eval_scenes:
            _keep_rows(
                self.validation_path, ["epoch", *METRICS], lambda row: int(row["epoch"]) * per_epoch <= self.iteration
            )
            self._add_file(self.validation_path)
        self._add_file(self.run_dir / "config.json", json.dumps(self._description(), indent=1) + "\n")
        self.tensorboard = _tensorboard(self.run_dir / "tensorboard", self.iteration)
        if self.tensorboard:
            self.files.append(self.run_dir / "tensorboard")

    def _add_file(self, path, text=None):
        if text is not None:
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        self.files.append(path)

    def _description(self):
        """What config.json holds: every setting as resolved, and what the run ran on."""
        _, stride = self.config.patch
        return {
            **settings.as_dict(self.config),
            "patch_size": self.streams["labelled"].source.size,
            "patch_stride": stride,
            "n_colors": self.n_colors,
            "iterations": self.total,
            "patches": self._patch_counts(),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "device": torch.cuda.get_device_name()
            if self.device.type == "cuda"
            else f"CPU, {torch.get_num_threads()} threads",
            "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
            "git_commit": _git_commit(),
        }

    def _means(self):
        return [s / n if n else None for s, n in zip(self.sums.tolist(), self.counts)]

    def _show(self, epoch, progress):
        shown = {name: f"{mean:.4f}" for name, mean in zip(BRANCHES, self._means()) if mean is not None}
        progress.set_postfix(epoch=epoch, **shown, refresh=False)

    def _log(self, epoch, progress):
        self._check_losses()
        self._show(epoch, progress)
        means, rate = self._means(), self.config.learning_rate_in(epoch)
        with writing(self.log_path), open(self.log_path, "a", newline="") as f:
            csv.writer(f).writerow([epoch, self.iteration, rate, *("" if m is None else repr(m) for m in means)])
        if self.tensorboard:
            self.tensorboard.add_scalar("learning_rate", rate, self.iteration)
            for name, mean in zip(BRANCHES, means):
                if mean is not None:
                    self.tensorboard.add_scalar(f"loss/{name}", mean, self.iteration)
        self.sums.zero_()
        self.counts = [0] * len(BRANCHES)

    def _check_losses(self):
        for name, mean in zip(BRANCHES, self._means()):
            if mean is not None and not np.isfinite(mean):
                raise UserError(
                    f"the {name} loss is no longer finite by iteration {self.iteration}; "
                    f"set a --learning_rate below {self.config.learning_rate:g} and go on from the last checkpoint, or start anew"
                )

    def _validate(self, epoch):
        rows, _ = evaluator.evaluate(self.model, self.eval_scenes, self.device, description="validate")
        mean = evaluator.mean_row(rows)
        with writing(self.validation_path), open(self.validation_path, "a", newline="") as f:
            csv.writer(f).writerow([epoch, *(repr(mean[m]) for m in METRICS)])
        tqdm.write(f"epoch {epoch}: MPSNR {mean['MPSNR']:.4f}  SAM {mean['SAM']:.4f}  ERGAS {mean['ERGAS']:.4f}")
        if self.tensorboard:
            for metric, value in mean.items():
                self.tensorboard.add_scalar(f"validation/{metric}", value, self.iteration)

    def _validated_epochs(self):
        """How many epochs validation.csv holds: one too few if the run ended between checkpoint and validation."""
        with open(self.validation_path, newline="") as f:
            return max((int(row["epoch"]) for row in csv.DictReader(f)), default=0)

    def _finish(self):
        self._save()
        self.files.append(self.run_dir / "last.pth")
        epoch = -(-self.iteration // self.streams["labelled"].batches_per_pass)
        stem = f"{self.config.weights_title}_epoch_{epoch}_"
        existing = sorted(self.run_dir.glob(f"{stem}*.pth"))
        weights = existing[-1] if existing else self.run_dir / f"{stem}{time.strftime('%Y%m%d-%H%M%S')}.pth"
        path = self.config.train_dir_mslabel
        wavelengths = store.wavelengths_of(path) if store.is_store(path) else None
        checkpoint.save_weights(self.model, weights, self.config.n_ovls, wavelengths)
        self.files.append(weights)
        if self.test_scenes:
            rows, _ = evaluator.evaluate(self.model, self.test_scenes, self.device)
            description = {**self._description(), "training_seconds": round(self.seconds, 1)}
            path = evaluator.write_results(
                self.run_dir / "results.json", self.config.model_title, self.test_scenes, rows, description
            )
            print(f'x{self.config.n_scale}, protocol "{self.test_scenes.protocol}":\n{evaluator.table(rows)}')
            self.files.append(path)
        for stream in self.streams.values():
            stream.close()
        if self.tensorboard:
            self.tensorboard.close()


class _StopSignals:
    """While open, SIGINT and SIGTERM are noted in signal_number; the second one acts at once."""

    def __enter__(self):
        self.signal_number = None
        self._previous = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number, _):
        if self.signal_number:
            raise KeyboardInterrupt
        self.signal_number = number
        tqdm.write("stopping after this iteration, when the checkpoint is safe (once more: at once)")


def _keep_rows(path, header, keep):
    """Start a CSV with its header, or keep of an existing one the rows from before a checkpoint."""
    rows = []
    if path.is_file():
        with open(path, newline="") as f:
            rows = [row for row in csv.DictReader(f) if None not in row.values() and keep(row)]
    with replacing(path) as temporary, open(temporary, "w", newline="") as f:
        writer = csv.DictWriter(f, header)
        writer.writeheader()
        writer.writerows(rows)


def _tensorboard(folder, iteration):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder, purge_step=iteration or None)


def _git_commit():
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
