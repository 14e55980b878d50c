"""Training: DeepShare's two modalities and four losses in one loop, resumable at any iteration."""

import contextlib
import copy
import dataclasses
import functools
import platform
import signal
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

import config as settings
from data import patches, readers, store
from data.spectral import conversion_for, convert_bands, draw_mixup_matrix, lift_matrix, spectral_mixup
from evaluation import scoring as evaluator
from evaluation.samples import Samples
from losses import hybrid_loss, loss_of
from metrics import UnscoredBandWarning, quality_assessment
from models import build_model
from models import weights as checkpoint
from models.blocks import keep_fewer_activations
from training import log as runlog
from training.processes import PeerLostError, World, is_lost_peer
from utils import (
    Interrupted,
    UserError,
    cpu_computes_bf16,
    progress_bar,
    random_generator,
    say,
    seed_everything,
    select_device,
    writing,
)

BRANCHES = ("labelled", "mixup", "rgb", "consistency")
# Losses against something that stays. Both sides of the consistency loss are the network's: it is near zero as
# long as the network adds nothing to the bicubic image, and grows as it learns.
SUPERVISED = ("labelled", "mixup", "rgb")
# Such a loss is taken to diverge when its mean over a log interval is so many times the lowest mean so far, both
# over enough mini-batches for dark patches not to matter.
DIVERGED, BATCHES_TO_JUDGE = 10, 20
# What the processes of a run may tell each other between iterations, beside the number of a signal.
CHECKPOINT_DUE = 1


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
        self.world = World(self.device)
        if config.precision == "bf16" and self.device.type == "cpu" and not cpu_computes_bf16():
            say(
                "--precision bf16: this CPU has no fast arithmetic for it, so steps take many times as long; fp32 is faster here"
            )
        # The same seed shall give the same log, also where cuDNN has faster algorithms that do not.
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = config.precision != "fp32"
        self.run_dir = self._find_run()
        self._open_data()
        self.model = self._build_model()
        # The weights' running mean, where one is kept, is what is scored and saved.
        self.averaged = copy.deepcopy(self.model).requires_grad_(False) if config.ema_decay else None
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.iteration = self.logged_iteration = 0
        self.losses = _LossMeter(self.device)
        self.seconds = 0.0
        if self.run_dir:
            self._restore(*checkpoint.load_newest_run(self.run_dir))
        self._forward = torch.compile(self.model) if config.compile else self.model
        self._objective = self._synchronised(_Objective(self.model))
        self._rehearse_validation()
        self.run_dir = self.world.from_main(self.run_dir or self._new_run_dir())
        self.files = []

    def train(self):
        """Run to the end: train, keep checkpoints, validate, save the weights, test.

        Returns:
            Paths of the files written.

        Raises:
            Interrupted: after SIGINT or SIGTERM, when last.pth is safe.
            UserError: for a loss that is not finite or diverges, a full disk, or data that cannot be read.
            PeerLostError: where another process of the run has ended.
        """
        try:
            self._open_log()
            if self._validation_is_missing():
                self._validate(self.iteration // self.per_epoch)
            self._loop()
            self._finish()
        except RuntimeError as error:
            if self.world.size > 1 and is_lost_peer(error):
                raise PeerLostError(
                    f"another process of the run has ended at iteration {self.iteration}; its own message says why; "
                    "the same command with --resume last goes on from the last checkpoint"
                ) from error
            raise
        return self.files

    def _loop(self):
        config = self.config
        checkpoint_due = time.monotonic() + 60 * config.checkpoint_minutes
        progress = progress_bar(total=self.total, initial=self.iteration, desc="train", unit="it")
        with _StopSignals() as stop, progress:
            while self.iteration < self.total:
                started = time.monotonic()
                epoch = self.iteration // self.per_epoch + 1
                for group in self.optimizer.param_groups:
                    group["lr"] = self._learning_rate()
                self._iterate(epoch)
                self.iteration += 1
                self.seconds += time.monotonic() - started
                progress.update()
                epoch_ends = self.iteration % self.per_epoch == 0
                if self.iteration % config.log_interval == 0 or epoch_ends or self.iteration == self.total:
                    self._log(epoch, progress)
                elif self.device.type == "cpu":
                    self._show(epoch, progress)
                is_due = CHECKPOINT_DUE if time.monotonic() >= checkpoint_due else 0
                asked = self.world.largest(max(stop.signal_number, is_due))
                if epoch_ends or asked:
                    self._save()
                    checkpoint_due = time.monotonic() + 60 * config.checkpoint_minutes
                if asked > CHECKPOINT_DUE:
                    raise Interrupted(asked)
                # After the checkpoint: a whole scene may be what the memory has no room for.
                if epoch_ends and self.eval_scenes:
                    self._validate(epoch)

    def _iterate(self, epoch):
        """One iteration: labelled, mixed, RGB, unlabelled mini-batches, each with its own Adam step."""
        config = self.config
        labelled = self._batch("labelled", 0, 1)
        self.optimizer.zero_grad(set_to_none=True)
        self._learn("labelled", self.labelled_loss, labelled)
        if config.uses_mixup:
            for r in range(config.theta_LabeledSpectralMixUp):
                self._learn("mixup", functools.partial(self.mixup_loss, repeat=r), labelled)
        if config.uses_rgb:
            for r in range(config.theta_rgb):
                self._learn("rgb", self.rgb_loss, self._batch("rgb", r, config.theta_rgb))
        if config.consistency_is_on(epoch):
            for r in range(config.theta_unlabel):
                self._learn("consistency", self.consistency_loss, self._batch("unlabelled", r, config.theta_unlabel))
        if config.joint_loss:
            self._step()
        if self.averaged:
            # A young mean follows faster, so that it forgets the weights of the start.
            decay = min(config.ema_decay, (1 + self.iteration) / (10 + self.iteration))
            get_ema_multi_avg_fn(decay)(list(self.averaged.parameters()), list(self.model.parameters()), None)

    def labelled_loss(self, batch):
        """Super-resolved HSIs against the true ones."""
        return loss_of(self.config.loss)(self._super_resolve(batch), batch.gt)

    def mixup_loss(self, batch, repeat):
        """The same for bands mixed by a new random matrix (Spectral Mixup)."""
        generator = random_generator(self.config.seed, "mixup", self.iteration, repeat)
        matrix = draw_mixup_matrix(self.n_colors, generator).to(self.device)
        return self.labelled_loss(batch.map(lambda x: spectral_mixup(x, matrix)))

    def rgb_loss(self, batch):
        """Super-resolved RGB images against the true ones."""
        return hybrid_loss(self._super_resolve(batch, "rgb"), batch.gt)

    def consistency_loss(self, batch):
        """An unlabelled HSI super-resolved and then converted to 8 channels, against the reverse order."""
        converted_last = convert_bands(self._super_resolve(batch), self.conversion)
        converted_first = batch.map(lambda x: convert_bands(x, self.conversion))
        return hybrid_loss(converted_last, self._super_resolve(converted_first, "rgb"))

    def _super_resolve(self, batch, modality="spectral"):
        """The network's output, in the precision asked for; what follows it is in float32."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            output = self._forward(batch.ms, batch.lms, modality)
        return output.float()

    def _batch(self, stream, repeat, per_iteration):
        return self.streams[stream].batch(self.iteration * per_iteration + repeat)

    def _learn(self, branch, loss_of, batch):
        # Parameters that a loss does not use must have no gradient rather than a zero one: Adam would
        # move them on by their momentum. The released losses come out only this way.
        if not self.config.joint_loss:
            self.optimizer.zero_grad(set_to_none=True)
        parts = batch.split(self.config.accumulate)
        total = 0
        for number, part in enumerate(parts, 1):
            # Gradients are exchanged between processes once, with the last part.
            alone = number < len(parts) and self.world.size > 1
            with self._objective.no_sync() if alone else contextlib.nullcontext():
                loss = self._objective(loss_of, part) * (part.weight / len(parts))
                loss.backward()
            total += loss.detach()
        if not self.config.joint_loss:
            self._step()
        self.losses.add(BRANCHES.index(branch), total, self.iteration)

    def _step(self):
        if self.config.clip_gradient:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_gradient)
        self.optimizer.step()

    def _learning_rate(self):
        return self.config.learning_rate_at(self.iteration, self.per_epoch)

    def _synchronised(self, objective):
        """The objective with its gradients averaged over the processes, where there are several."""
        if self.world.size == 1:
            return objective
        # Each loss uses other parts of the network; what none of the processes used keeps no gradient.
        return nn.parallel.DistributedDataParallel(objective, broadcast_buffers=False, find_unused_parameters=True)

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
                say(
                    f"--train_dir_{name} is given, but its branch is off; --{'UseRGB' if name == 'rgb' else 'UseUnlabelConsistency'} 1 turns it on"
                )
        self.streams = {
            name: patches.PatchStream(
                source,
                config.batch_size,
                config.seed,
                name,
                self.device,
                keep_last=name == "labelled",
                rank=self.world.rank,
                world_size=self.world.size,
            )
            for name, source in sources.items()
        }
        self.per_epoch = self.streams["labelled"].batches_per_pass
        self.total = config.epochs * self.per_epoch
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
                say(
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
        if hasattr(model, "set_band_means"):
            model.set_band_means(patches.band_means(self.streams["labelled"].source))
        keep_fewer_activations(model, config.activation_checkpointing)
        return model.to(self.device, memory_format=torch.channels_last)

    @property
    def network(self):
        """The network that is scored and saved."""
        return self.averaged or self.model

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
                output = evaluator.super_resolve(self.network, scene, self.device)
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

    def _find_run(self):
        """The folder of the run to go on with, or None for a run from the beginning."""
        if not self.config.resume:
            return None
        if self.config.resume != "last":
            path = Path(self.config.resume).expanduser()
            return path if path.is_dir() else checkpoint.run_of(path)
        title = self.config.run_title
        runs = [
            run
            for run in Path(self.config.save_dir).expanduser().glob("*")
            if checkpoint.run_files(run) and (run.name == title or run.name.removeprefix(title + "_").isdecimal())
        ]
        if runs:
            return max(runs, key=lambda run: max(p.stat().st_mtime for p in checkpoint.run_files(run)))
        say(f"no checkpoint of {title} under {self.config.save_dir}: starting from the beginning")
        return None

    def _save(self):
        self._check_losses(self._means())
        if not self.world.is_main:
            return
        content = {
            "config": settings.as_dict(self.config),
            "n_colors": self.n_colors,
            "patches": self._patch_counts(),
            "iteration": self.iteration,
            "per_epoch": self.per_epoch,
            "processes": self.world.size,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged else None,
            "optimizer": self.optimizer.state_dict(),
            "losses": self.losses.state(),
            "seconds": self.seconds,
        }
        checkpoint.save_run(content, self.run_dir)

    def _restore(self, run, path):
        now = settings.as_dict(self.config)
        free = settings.TrainConfig.FREE_ON_RESUME
        if self.config.batch_size * self.world.size == run["config"]["batch_size"] * run["processes"]:
            free = (*free, "batch_size")
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
        if self.averaged:
            checkpoint.load_strictly(self.averaged, run["averaged"], path)
        self.optimizer.load_state_dict(run["optimizer"])
        self.losses.restore(run["losses"])
        self.iteration = self.logged_iteration = run["iteration"]
        self.seconds = run["seconds"]
        say(f"{path}: going on after iteration {self.iteration}")
        if run["per_epoch"] != self.per_epoch:
            # Another number of processes: the same place in the epoch, in batches of another size.
            self.iteration = self.iteration * self.per_epoch // run["per_epoch"]
            self.losses = _LossMeter(self.device)
            say(
                f"an epoch has {self.per_epoch} iterations now (it had {run['per_epoch']}): "
                f"iterations are counted on from {self.iteration}"
            )

    def _patch_counts(self):
        return {name: len(stream.source) for name, stream in self.streams.items()}

    def _open_log(self):
        if self.world.is_main:
            epoch = self.iteration // self.per_epoch
            self.log = runlog.RunLog(
                self.run_dir, BRANCHES, self.logged_iteration, epoch, bool(self.eval_scenes), self._description()
            )
            self.files += self.log.files

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
            else f"CPU, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}",
            "processes": self.world.size,
            "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
            "git_commit": runlog.git_commit(),
        }

    def _show(self, epoch, progress):
        shown = {name: f"{mean:.4f}" for name, mean in zip(BRANCHES, self.losses.means()) if mean is not None}
        progress.set_postfix(epoch=epoch, **shown, refresh=False)

    def _means(self):
        """Mean of each loss since the last row of the log, over all processes."""
        return self.losses.means(self.world)

    def _log(self, epoch, progress):
        means = self._means()
        self._check_losses(means)
        self._show(epoch, progress)
        if self.world.is_main:
            rate = self.config.learning_rate_at(self.iteration - 1, self.per_epoch)
            self.log.losses(epoch, self.iteration, rate, means)
        self.losses.begin_interval(means)

    def _check_losses(self, means):
        """Stop the run where a loss is not finite or diverges; last.pth stays as it was before.

        Raises:
            UserError: naming the loss and the iteration.
        """
        remedy = (
            f"last.pth in {self.run_dir} is from before; give a --learning_rate below {self.config.learning_rate:g} "
            "(or --clip_gradient 1) and --resume last, or start anew"
        )
        first = self.world.largest(self.losses.first_bad())
        if first:
            iteration, branch = divmod(first, len(BRANCHES))
            raise UserError(
                f"the {BRANCHES[branch]} loss of iteration {iteration} (epoch {(iteration - 1) // self.per_epoch + 1}) "
                f"is not finite; {remedy}"
            )
        for name, mean, lowest in zip(BRANCHES, means, self.losses.judged_against()):
            if name in SUPERVISED and None not in (mean, lowest) and mean > DIVERGED * lowest:
                raise UserError(
                    f"the {name} loss diverges: {mean:.4g} in the mean of the iterations up to {self.iteration}, "
                    f"{lowest:.4g} before; {remedy}"
                )

    def _validate(self, epoch):
        rows, _ = evaluator.evaluate(
            self.network, self.eval_scenes, self.device, description="validate", world=self.world
        )
        if not self.world.is_main:
            return
        mean = evaluator.mean_row(rows)
        say(f"epoch {epoch}: MPSNR {mean['MPSNR']:.4f}  SAM {mean['SAM']:.4f}  ERGAS {mean['ERGAS']:.4f}")
        if all(mean["MPSNR"] > best for _, best in self.log.validations()):
            self._save_weights(self.run_dir / "best.pth")
        self.log.validation(epoch, self.iteration, mean)

    def _save_weights(self, path):
        source = self.config.train_dir_mslabel
        wavelengths = store.wavelengths_of(source) if store.is_store(source) else None
        checkpoint.save_weights(self.network, path, self.config.n_ovls, wavelengths)

    def _validation_is_missing(self):
        """Whether the run ended between the checkpoint of an epoch and its validation."""
        if not self.eval_scenes or self.iteration < self.per_epoch:
            return False
        done = max((e for e, _ in self.log.validations()), default=0) if self.world.is_main else None
        return self.world.from_main(done) < self.iteration // self.per_epoch

    def _finish(self):
        self._save()
        epoch = -(-self.iteration // self.per_epoch)
        stem = f"{self.config.weights_title}_epoch_{epoch}_"
        existing = sorted(self.run_dir.glob(f"{stem}*.pth"))
        weights = existing[-1] if existing else self.run_dir / f"{stem}{time.strftime('%Y%m%d-%H%M%S')}.pth"
        if self.world.is_main:
            self._save_weights(weights)
            self.files += [*checkpoint.run_files(self.run_dir), *self.run_dir.glob("best.pth"), weights]
        if self.test_scenes:
            keep = Samples(self.config.n_scale)
            rows, _ = evaluator.evaluate(self.network, self.test_scenes, self.device, world=self.world, keep=keep)
            if self.world.is_main:
                description = {**self._description(), "training_seconds": round(self.seconds, 1)}
                path = evaluator.write_results(
                    self.run_dir / "results.json", self.config.model_title, self.test_scenes, rows, description, keep
                )
                print(f'x{self.config.n_scale}, protocol "{self.test_scenes.protocol}":\n{evaluator.table(rows)}')
                self.files += [path, *keep.write(path)]
        for stream in self.streams.values():
            stream.close()
        if self.world.is_main:
            self.log.close()


class _Objective(nn.Module):
    """A loss as the forward pass of a module that holds the network, however often the loss calls it.

    DistributedDataParallel takes one forward pass for each backward pass; the consistency loss has two
    passes through the network.
    """

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, loss_of, batch):
        return loss_of(batch)


class _LossMeter:
    """Means of the losses since the last row of the log, kept on the device so that no step waits."""

    def __init__(self, device):
        self._sums = torch.zeros(len(BRANCHES), dtype=torch.float64, device=device)
        self._counts = [0] * len(BRANCHES)
        self._first_bad = torch.zeros((), dtype=torch.int64, device=device)
        self._lowest = [None] * len(BRANCHES)

    def add(self, branch, loss, iteration):
        """Add a mini-batch's loss, of iteration 0, 1, ..."""
        self._sums[branch] += loss
        self._counts[branch] += 1
        is_first = ~torch.isfinite(loss) & (self._first_bad == 0)
        self._first_bad += is_first * ((iteration + 1) * len(BRANCHES) + branch)

    def means(self, world=None):
        """Mean of each branch, None where it took no part; over all processes where a World is given."""
        sums = self._sums.clone()
        if world:
            sums = world.sum_(sums) / world.size
        return [s / n if n else None for s, n in zip(sums.tolist(), self._counts)]

    def first_bad(self):
        """0, or iteration (from 1) * 4 + branch of the first loss that was not finite."""
        return int(self._first_bad)

    def judged_against(self):
        """The lowest mean so far of each branch, None where there are too few mini-batches to judge by."""
        return [low if n >= BATCHES_TO_JUDGE else None for low, n in zip(self._lowest, self._counts)]

    def begin_interval(self, means):
        """Begin a new row; means are those of the one that ends."""
        for k, mean in enumerate(means):
            if mean is not None and self._counts[k] >= BATCHES_TO_JUDGE:
                self._lowest[k] = mean if self._lowest[k] is None else min(mean, self._lowest[k])
        self._sums.zero_()
        self._counts = [0] * len(BRANCHES)

    def state(self):
        """What a checkpoint holds."""
        return {"sums": self._sums.cpu(), "counts": list(self._counts), "lowest": list(self._lowest)}

    def restore(self, state):
        """Go on from a state."""
        self._sums.copy_(state["sums"])
        self._counts, self._lowest = list(state["counts"]), list(state["lowest"])


class _StopSignals:
    """While open, SIGINT and SIGTERM are noted in signal_number, 0 before; the second one acts at once."""

    def __enter__(self):
        self.signal_number = 0
        self._previous = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number, _):
        if self.signal_number:
            raise KeyboardInterrupt
        self.signal_number = number
        say("stopping after this iteration, when the checkpoint is safe (once more: at once)")
