"""Training: the algorithm of the paper, then the run around it: data, checkpoints, validation, log.

An iteration takes one labelled mini-batch and, as the thetas specify, mixed, RGB and unlabelled ones; each has an Adam
step of its own. `docs/method.md` shows the paper's algorithm beside these lines.
"""

import contextlib
import copy
import math
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

import objectives
from config import TrainConfig
from data.stream import Batch, PatchStream
from evaluation import results, scoring
from evaluation.scene_sets import SceneSet
from evaluation.testing import score_run
from models.network import Network
from models.weights import load_strictly, save_weights
from objectives import Objective, Task
from system.devices import configure_arithmetic, select_device
from system.errors import Interrupted
from training import checkpoint, console
from training.backward import Backward
from training.console import TrainingProgress
from training.file_names import BEST, RESULTS
from training.initialization import build_network
from training.inputs import open_inputs, remark_on_pictures
from training.log import RunLog, describe
from training.meters import LossMeter
from training.processes import World, naming_lost_peers
from training.run_directory import RunDirectory
from training.signals import StopSignals, resumable
from utils import print_line, seed_everything

# Sent between the processes of a run after an iteration, in place of the number of a signal.
CHECKPOINT_DUE = 1


def learning_rate(config: TrainConfig, iteration: int, per_epoch: int) -> float:
    """Learning rate of iteration 0, 1, ... of a run with per_epoch iterations in an epoch."""
    if config.schedule == "cosine":
        return cosine_rate(config, iteration, iteration / (config.epochs * per_epoch))
    return warmup_factor(config, iteration) * published_rate(config, iteration // per_epoch + 1)


def published_rate(config: TrainConfig, epoch: int) -> float:
    """Learning rate in epoch 1..epochs as in the released code: times 0.3 every 5 epochs, and in the last one."""
    rate = config.learning_rate * 0.3 ** (epoch // 5)
    return rate * 0.3 if epoch == config.epochs else rate


def cosine_rate(config: TrainConfig, iteration: int, done: float) -> float:
    """Learning rate of iteration 0, 1, ... along half a cosine of which the share `done`, 0..1, is over."""
    return config.learning_rate * (1 + math.cos(math.pi * done)) / 2 * warmup_factor(config, iteration)


def warmup_factor(config: TrainConfig, iteration: int) -> float:
    """Factor of the learning rate in iteration 0, 1, ...: rises linearly to 1."""
    return min(1, (iteration + 1) / config.warmup_iterations) if config.warmup_iterations else 1


class Iterations:
    """The iterations of a training: `Trainer` runs them over epochs, `adapt.Adaptation` over minutes.

    Attributes:
        config: the settings.
        device, world: device of the network, and the processes that take part.
        model: the network that is trained.
        averaged: exponential moving average (EMA) of its weights, or None.
        optimizer: Adam over all of its parameters.
        backward: computes losses and their gradients.
        task: what the losses depend on beside the network and the batch.
        streams: mini-batches by name, see `Objective.stream`.
        losses: running means of the losses.
        iteration: number of iterations done.
        batches_done: number of mini-batches done of the next iteration.
    """

    config: TrainConfig
    device: torch.device
    world: World
    model: Network
    averaged: Network | None
    optimizer: torch.optim.Adam
    backward: Backward
    task: Task
    streams: dict[str, PatchStream]
    losses: LossMeter
    iteration: int
    batches_done: int = 0

    @property
    def network(self) -> Network:
        """The network that is scored and saved."""
        return self.averaged or self.model

    def rate(self) -> float:
        """Learning rate of the next iteration."""
        raise NotImplementedError

    def after_batch(self, count: int) -> bool:
        """Return True to pause the iteration after this one of its `count` mini-batches."""
        return False

    def iterate(self, epoch: int) -> bool:
        """Run one iteration: the mini-batches of every objective, each with an Adam step of its own unless joint.

        Returns:
            False if `after_batch` paused it: the next call continues it. True if it is complete.
        """
        batches = [(o, k, repeats) for o, repeats in objectives.list_active(self.config, epoch) for k in range(repeats)]
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.optimizer.zero_grad(set_to_none=True)
        for objective, repeat, repeats in batches[self.batches_done :]:
            if not self.config.joint_loss:
                # Parameters that a loss does not use must have no gradient instead of zero: Adam would move them by
                # their momentum. The released losses are reproduced only this way.
                self.optimizer.zero_grad(set_to_none=True)
            batch = objective.prepare(self.batch(objective, repeat, repeats), self.task, self.iteration, repeat)
            loss = self.backward(objective.loss, batch)
            if not self.config.joint_loss:
                self.step()
            self.losses.add(objective.name, loss, self.iteration)
            self.batches_done += 1
            can_pause = not self.config.joint_loss and self.batches_done < len(batches)
            if self.after_batch(len(batches)) and can_pause:
                return False
        if self.config.joint_loss:
            self.step()
        self.batches_done = 0
        if self.averaged:
            update_average(self.averaged, self.model, self.config.ema_decay, self.iteration)
        return True

    def batch(self, objective: Objective, repeat: int, repeats: int) -> Batch:
        """Return the repeat-th of an objective's mini-batches in this iteration."""
        k = self.iteration if objective.has_shared_batches else self.iteration * repeats + repeat
        return self.streams[objective.stream].batch(k)

    def step(self) -> None:
        """Average the gradients over the processes, clip them, and let Adam take a step."""
        # A parameter that an objective does not use has no gradient in any process: all exchange the same ones.
        self.world.average_([p.grad for p in self.model.parameters() if p.grad is not None])
        if self.config.clip_gradient:
            at_once = True if self.device.type == "cuda" else None
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_gradient, foreach=at_once)
        self.optimizer.step()


@torch.no_grad()
def update_average(averaged: nn.Module, model: nn.Module, decay: float, iteration: int) -> None:
    """Update the EMA of the weights after iteration 0, 1, ...; a young average decays faster."""
    update = get_ema_multi_avg_fn(min(decay, (1 + iteration) / (10 + iteration)))
    update(list(averaged.parameters()), list(model.parameters()), None)


class Trainer(Iterations):
    """Everything of one run; `train` runs it.

    All data are opened and checked, and one small validation is made, before the run's folder appears.

    Args:
        config: the run's settings.
        has_flags: False for a command that lacks the flags of `train`: its messages then recommend none of them.

    Raises:
        UserError: if something the user gave cannot work.
    """

    def __init__(self, config: TrainConfig, has_flags: bool = True) -> None:
        self._has_flags = has_flags
        seed_everything(config.seed)
        self.device = select_device(config.cuda, config.gpus)
        self.world = World(self.device)
        configure_arithmetic(config.precision, self.device, config.deterministic)
        # Locks the directory of a resumed run before its checkpoint is read.
        self.run_dir = RunDirectory(config, self.world)
        try:
            self._prepare(config)
        except BaseException:
            self.run_dir.close()
            raise

    def _prepare(self, config: TrainConfig) -> None:
        self.inputs = open_inputs(config, self.device, self.world)
        if "rgb" in self.inputs.streams and self._has_flags:
            remark_on_pictures(config.train_dir_rgb)
        self.config = config = self.inputs.config
        self.streams, self.n_colors = self.inputs.streams, self.inputs.n_colors
        self.per_epoch = self.streams["labelled"].batches_per_pass
        self.total = min(config.epochs * self.per_epoch, config.max_iterations or config.epochs * self.per_epoch)
        self.eval_scenes = self._open_scenes("eval_dir_ms", config.data_eval_num)
        self.test_scenes = self._open_scenes("test_dir", config.data_test_num)
        if self.inputs.bands.remark:
            print_line(self.inputs.bands.remark)
        self.model, self.started = build_network(self.inputs, self.device)
        self.averaged = copy.deepcopy(self.model).requires_grad_(False) if config.ema_decay else None
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.iteration = self.logged_iteration = 0
        # Iteration of the newest checkpoint.
        self._saved_iteration = -1
        self.losses = LossMeter(self.device, self.world)
        self.seconds = self._checkpoint_due = 0.0
        self.spikes = 0
        # Within `train` only: iterations can also run by themselves.
        self._progress: TrainingProgress | None = None
        if self.run_dir.is_resumed:
            self._restore(*self.run_dir.load())
        self.task = Task.from_config(config, self.inputs.conversion)
        self.backward = Backward(self.model, config, self.task)
        for scenes in filter(None, (self.eval_scenes, self.test_scenes)):
            scoring.rehearse(self.network, scenes, self.device)
        self.files: list[Path] = []

    def train(self) -> list[Path]:
        """Run to the end: train, keep checkpoints, validate, save the weights, test.

        Returns:
            Paths of the files written.

        Raises:
            Interrupted: after SIGINT or SIGTERM, when last.pth is safe.
            UserError: for a loss that is not finite or diverges, a full disk, or data that cannot be read.
            PeerLostError: where another process of the run has ended.
        """
        peers = naming_lost_peers(self.world, lambda: console.describe_position(self.iteration))
        with peers, contextlib.closing(self.inputs), self.run_dir, self._open_log():
            print_line(console.describe_start(self.inputs, self.model, self.world.size, self.total, self.run_dir))
            if self._validation_is_missing():
                with resumable():
                    self._validate(self.iteration // self.per_epoch)
            self._checkpoint_due = time.monotonic() + 60 * self.config.checkpoint_minutes
            with (
                StopSignals() as self._stop,
                TrainingProgress(self.total, self.iteration, self.device) as progress,
            ):
                self._progress = progress
                while self.iteration < self.total:
                    started = time.monotonic()
                    epoch = self.iteration // self.per_epoch + 1
                    if self.iterate(epoch):
                        self.iteration += 1
                        self._report(epoch, progress)
                    # After the log, where the CPU waits for a GPU.
                    self.seconds += time.monotonic() - started
                    self._keep(epoch)
            if self._saved_iteration != self.iteration:
                self._save()
            with resumable():
                self._finish()
        return self.files

    def after_batch(self, count: int) -> bool:
        """Move the progress bar; pause the iteration after a signal, unless other processes take part in it."""
        if self._progress is None:
            return False
        self._progress.update(1 / count)
        return self.world.size == 1 and bool(self._stop.signal_number)

    def _report(self, epoch: int, progress: TrainingProgress) -> None:
        """Log the losses if it is time, else show them; on CUDA they are read at the log only, to avoid waiting."""
        is_last = self.iteration % self.per_epoch == 0 or self.iteration == self.total
        if self.iteration % self.config.log_interval == 0 or is_last:
            self._log(epoch, progress)
        elif self.device.type == "cpu":
            progress.show_losses(epoch, self.losses.names, self.losses.means())

    def _keep(self, epoch: int) -> None:
        """Write a checkpoint if it is time or a signal came, and validate after an epoch."""
        epoch_ends = self.iteration % self.per_epoch == 0 and not self.batches_done
        is_due = CHECKPOINT_DUE if time.monotonic() >= self._checkpoint_due else 0
        asked = self.world.largest(max(self._stop.signal_number, is_due))
        if epoch_ends or asked:
            self._save()
            self._checkpoint_due = time.monotonic() + 60 * self.config.checkpoint_minutes
        if asked > CHECKPOINT_DUE:
            raise Interrupted(asked)
        # After the checkpoint: memory may be too small for a whole scene.
        if epoch_ends and self.eval_scenes:
            with resumable():
                self._validate(epoch)

    def _open_scenes(self, flag: str, limit: int) -> SceneSet | None:
        path = getattr(self.config, flag)
        if not path:
            return None
        scenes = SceneSet(path, flag, self.config.n_scale, self.config.protocol, limit)
        self.inputs.check_scored(flag, scenes.contents)
        scenes.check(self.n_colors)
        return scenes

    def rate(self) -> float:
        """See `Iterations.rate`."""
        return learning_rate(self.config, self.iteration, self.per_epoch)

    def _save(self) -> None:
        self.check_losses(self.losses.means_of_all())
        if self.world.is_main:
            self._write_checkpoint()
        self._saved_iteration = self.iteration

    def _write_checkpoint(self) -> None:
        content = {
            "config": self.config.as_dict(),
            "n_colors": self.n_colors,
            "patches": self.inputs.patch_counts,
            "conversion": self.inputs.conversion_sha256,
            "iteration": self.iteration,
            "batches_done": self.batches_done,
            "per_epoch": self.per_epoch,
            "processes": self.world.size,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged else None,
            "optimizer": self.optimizer.state_dict(),
            "losses": self.losses.state(),
            "seconds": self.seconds,
        }
        self.run_dir.save(content)

    def _restore(self, run: dict[str, Any], path: Path) -> None:
        checkpoint.refuse_other_run(run, path, self.inputs, self.world.size)
        load_strictly(self.model, run["model"], path)
        if self.averaged:
            load_strictly(self.averaged, run.get("averaged") or {}, path)
        checkpoint.restore_state(run, path, self.optimizer, self.losses)
        self.iteration = self.logged_iteration = self._saved_iteration = run["iteration"]
        self.batches_done = run.get("batches_done") or 0
        self.seconds = run["seconds"]
        print_line(console.describe_resume(path, run, self.config, self.iteration, self.rate()))
        if run["per_epoch"] != self.per_epoch:
            # Another number of processes: the same place in the epoch, in batches of another size.
            self.iteration, self.batches_done = self.iteration * self.per_epoch // run["per_epoch"], 0
            self.losses = LossMeter(self.device, self.world)
            print_line(
                f"an epoch has {self.per_epoch} iterations now (it had {run['per_epoch']}): "
                f"iterations are counted on from {self.iteration}"
            )

    def _description(self) -> dict[str, Any]:
        about = describe(self.inputs, self.total, self.model, self.device, self.world.size)
        return {**about, **self.started}

    def _open_log(self) -> AbstractContextManager[Any]:
        if not self.world.is_main:
            return contextlib.nullcontext()
        epoch = self.iteration // self.per_epoch if self.eval_scenes else None
        self.log = RunLog(self.run_dir.path, self.logged_iteration, epoch, self._description(), self.config.logger)
        self.files += self.log.files
        return self.log

    def _log(self, epoch: int, progress: TrainingProgress) -> None:
        means = self.losses.means_of_all()
        self.check_losses(means)
        self.spikes += bool(spikes := self.losses.spikes(means))
        rate = learning_rate(self.config, self.iteration - 1, self.per_epoch)
        progress.log(epoch, rate, self.losses.names, means, spikes)
        if self.world.is_main:
            self.log.losses(epoch, self.iteration, rate, means)
        self.losses.begin_interval(means)

    def check_losses(self, means: list[float | None]) -> None:
        """Stop the run if a loss is not finite or diverges; last.pth stays as it was."""
        remedy = (
            console.describe_loss_remedy(self.config, self.run_dir)
            if self._has_flags
            else "start again with another --seed"
        )
        self.losses.check(means, self.iteration, self.per_epoch, remedy)

    def _validate(self, epoch: int) -> None:
        assert self.eval_scenes is not None
        rows, _ = scoring.evaluate(
            self.network, self.eval_scenes, self.device, description="validate", world=self.world
        )
        if not self.world.is_main:
            return
        mean = results.mean_row(rows)
        print_line(f"epoch {epoch}: MPSNR {mean['MPSNR']:.4f}  SAM {mean['SAM']:.4f}  ERGAS {mean['ERGAS']:.4f}")
        if all(mean["MPSNR"] > best for _, best in self.log.validations()):
            self._save_weights(self.run_dir.path / BEST)
        self.log.validation(epoch, self.iteration, mean)

    def _save_weights(self, path: Path) -> None:
        save_weights(self.network, path, self.config.n_ovls, self.inputs.wavelengths)

    def _validation_is_missing(self) -> bool:
        """Return True if the run ended between the checkpoint of an epoch and its validation."""
        if not self.eval_scenes or self.iteration < self.per_epoch or self.iteration % self.per_epoch:
            return False
        done = max((e for e, _ in self.log.validations()), default=0) if self.world.is_main else None
        return self.world.from_main(done) < self.iteration // self.per_epoch

    def _finish(self) -> None:
        weights = self.run_dir.final_weights(-(-self.iteration // self.per_epoch))
        if self.world.is_main:
            self._save_weights(weights)
            self.files += [*self.run_dir.checkpoints, *self.run_dir.path.glob(BEST), weights]
        if self.test_scenes:
            about = {**self._description(), "training_seconds": round(self.seconds, 1)}
            results_path = self.run_dir.path / RESULTS
            self.files += score_run(self.network, self.test_scenes, self.device, self.world, results_path, about)
        if self._has_flags:
            print_line(console.describe_end(self.config, weights, self.spikes))


def train(config: TrainConfig) -> list[Path]:
    """Run a config to its end; see `Trainer.train`."""
    return Trainer(config).train()
