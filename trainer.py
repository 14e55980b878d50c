"""Training: DeepShare's two modalities and four objectives in one loop, resumable at any iteration."""

import contextlib
import copy
import time
from pathlib import Path
from typing import Any

import torch

from config import TrainConfig
from evaluation import results, scoring
from evaluation.scenes import SceneSet
from evaluation.testing import score_run
from models.weights import load_strictly, save_weights
from training import checkpoint
from training.inputs import open_inputs, remark_on_pictures
from training.learner import Learner
from training.log import RunLog, description_of
from training.meters import LossMeter
from training.network import build_network
from training.processes import World, naming_lost_peers
from training.schedule import learning_rate
from training.signals import StopSignals, resumable
from training.steps import Steps
from utils import Interrupted, UserError, prepare_arithmetic, progress_bar, say, seed_everything, select_device

# What the processes of a run may tell each other between iterations, beside the number of a signal.
CHECKPOINT_DUE = 1


class Trainer(Steps):
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
        # A run that is gone on with is this process's from before its checkpoint is read.
        with contextlib.ExitStack() as held:
            self._prepare(config, held)
            self._held = held.pop_all()

    def _prepare(self, config: TrainConfig, held: contextlib.ExitStack) -> None:
        seed_everything(config.seed)
        self.device = select_device(config.cuda, config.gpus)
        self.world = World(self.device)
        prepare_arithmetic(config.precision, self.device, config.deterministic)
        run_dir = self.world.on_main(lambda: checkpoint.find_run(config, held))
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
            say(self.inputs.bands.remark)
        self.model, self.started = build_network(self.inputs, self.device)
        # The weights' running mean, where one is kept, is what is scored and saved.
        self.averaged = copy.deepcopy(self.model).requires_grad_(False) if config.ema_decay else None
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.iteration = self.logged_iteration = 0
        # What the checkpoint is of that is on the disk, and whether it is previous.pth.
        self._saved_iteration, self._is_last_damaged = -1, False
        self.losses = LossMeter(self.device, self.world)
        self.seconds = 0.0
        if run_dir:
            self._restore(*checkpoint.load_newest_run(run_dir))
        self.learner = Learner(self.model, config, self.inputs.conversion)
        for scenes in filter(None, (self.eval_scenes, self.test_scenes)):
            scoring.rehearse(self.network, scenes, self.device)
        self._is_resumed = bool(run_dir)
        self.run_dir: Path = run_dir or self.world.on_main(lambda: checkpoint.new_run(config))
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
        with self._held as held, naming_lost_peers(self.world, self._place):
            held.callback(self.inputs.close)
            if not self._is_resumed:
                folder = self.run_dir
                self.run_dir = self.world.on_main(lambda: checkpoint.hold(folder, self.config, held))
            self._open_log(held)
            if self._validation_is_missing():
                with resumable():
                    self._validate(self.iteration // self.per_epoch)
            self._loop()
            if self._saved_iteration != self.iteration:
                self._save()
            with resumable():
                self._finish()
        return self.files

    def _place(self) -> str:
        return (
            f" at iteration {self.iteration}; its own message says why; the same command with --resume last goes on "
            "from the last checkpoint"
        )

    def _loop(self) -> None:
        config = self.config
        checkpoint_due = time.monotonic() + 60 * config.checkpoint_minutes
        progress = progress_bar(total=self.total, initial=self.iteration, desc="train", unit="it")
        with StopSignals() as stop, progress:
            while self.iteration < self.total:
                started = time.monotonic()
                epoch = self.iteration // self.per_epoch + 1
                self.iterate(epoch)
                self.iteration += 1
                progress.update()
                epoch_ends = self.iteration % self.per_epoch == 0
                if self.iteration % config.log_interval == 0 or epoch_ends or self.iteration == self.total:
                    self._log(epoch, progress)
                elif self.device.type == "cpu":
                    self._show(epoch, progress)
                # After the log, where the CPU waits for a GPU.
                self.seconds += time.monotonic() - started
                is_due = CHECKPOINT_DUE if time.monotonic() >= checkpoint_due else 0
                asked = self.world.largest(max(stop.signal_number, is_due))
                if epoch_ends or asked:
                    self._save()
                    checkpoint_due = time.monotonic() + 60 * config.checkpoint_minutes
                if asked > CHECKPOINT_DUE:
                    raise Interrupted(asked)
                # After the checkpoint: a whole scene may be what the memory has no room for.
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
        """Adam's step in the iteration that comes."""
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
            "per_epoch": self.per_epoch,
            "processes": self.world.size,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged else None,
            "optimizer": self.optimizer.state_dict(),
            "losses": self.losses.state(),
            "seconds": self.seconds,
        }
        checkpoint.save_run(content, self.run_dir, self._is_last_damaged)
        self._is_last_damaged = False

    def _restore(self, run: dict[str, Any], path: Path) -> None:
        inputs = self.inputs
        checkpoint.refuse_other_run(
            run, path, self.config, inputs.patch_counts, inputs.conversion_sha256, self.world.size
        )
        load_strictly(self.model, run["model"], path)
        if self.averaged:
            load_strictly(self.averaged, run["averaged"], path)
        checkpoint.check_moments(run, path, list(self.model.parameters()))
        try:
            self.optimizer.load_state_dict(run["optimizer"])
            self.losses.restore(run["losses"])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise UserError(f"{path}: its optimizer or losses are not what a run leaves; start anew") from error
        self.iteration = self.logged_iteration = self._saved_iteration = run["iteration"]
        self._is_last_damaged = path.name == checkpoint.RUN_FILES[1]
        self.seconds = run["seconds"]
        say(f"{path}: going on after iteration {self.iteration}")
        if run["per_epoch"] != self.per_epoch:
            # Another number of processes: the same place in the epoch, in batches of another size.
            self.iteration = self.iteration * self.per_epoch // run["per_epoch"]
            self.losses = LossMeter(self.device, self.world)
            say(
                f"an epoch has {self.per_epoch} iterations now (it had {run['per_epoch']}): "
                f"iterations are counted on from {self.iteration}"
            )

    def _description(self) -> dict[str, Any]:
        about = description_of(self.inputs, self.total, self.model, self.device, self.world.size)
        return {**about, **self.started}

    def _open_log(self, held: contextlib.ExitStack) -> None:
        if self.world.is_main:
            epoch = self.iteration // self.per_epoch
            self.log = RunLog(
                self.run_dir,
                self.losses.names,
                self.logged_iteration,
                epoch,
                bool(self.eval_scenes),
                self._description(),
            )
            held.callback(self.log.close)
            self.files += self.log.files

    def _show(self, epoch: int, progress: Any) -> None:
        means = zip(self.losses.names, self.losses.means(), strict=True)
        shown = {name: f"{mean:.4f}" for name, mean in means if mean is not None}
        progress.set_postfix(epoch=epoch, **shown, refresh=False)

    def _log(self, epoch: int, progress: Any) -> None:
        means = self.losses.means_of_all()
        self.check_losses(means)
        is_clipped = 0 < self.config.clip_gradient <= 0.05
        remedy = "; --clip_gradient 0.05 keeps the next one small" if self._has_flags and not is_clipped else ""
        for words in self.losses.spikes(means):
            say(f"iteration {self.iteration}: a spike, {words}{remedy}")
        self._show(epoch, progress)
        if self.world.is_main:
            rate = learning_rate(self.config, self.iteration - 1, self.per_epoch)
            self.log.losses(epoch, self.iteration, rate, means)
        self.losses.begin_interval(means)

    def check_losses(self, means: list[float | None]) -> None:
        """Stop the run if a loss is not finite or diverges; last.pth, if there is one, stays as it was before."""
        gentler = f"give a --learning_rate below {self.config.learning_rate:g} (or --clip_gradient 0.05)"
        if not self._has_flags:
            remedy = "start again with another --seed"
        elif checkpoint.run_files(self.run_dir):
            remedy = f"last.pth in {self.run_dir} is from before; {gentler} and --resume last, or start anew"
        else:
            remedy = f"the run has no checkpoint yet; start again: {gentler}"
        self.losses.check(means, self.iteration, self.per_epoch, remedy)

    def _validate(self, epoch: int) -> None:
        assert self.eval_scenes is not None
        rows, _ = scoring.evaluate(
            self.network, self.eval_scenes, self.device, description="validate", world=self.world
        )
        if not self.world.is_main:
            return
        mean = results.mean_row(rows)
        say(f"epoch {epoch}: MPSNR {mean['MPSNR']:.4f}  SAM {mean['SAM']:.4f}  ERGAS {mean['ERGAS']:.4f}")
        if all(mean["MPSNR"] > best for _, best in self.log.validations()):
            self._save_weights(self.run_dir / results.BEST_WEIGHTS)
        self.log.validation(epoch, self.iteration, mean)

    def _save_weights(self, path: Path) -> None:
        save_weights(self.network, path, self.config.n_ovls, self.inputs.wavelengths)

    def _validation_is_missing(self) -> bool:
        """Whether the run ended between the checkpoint of an epoch and its validation."""
        if not self.eval_scenes or self.iteration < self.per_epoch or self.iteration % self.per_epoch:
            return False
        done = max((e for e, _ in self.log.validations()), default=0) if self.world.is_main else None
        return self.world.from_main(done) < self.iteration // self.per_epoch

    def _finish(self) -> None:
        if self.world.is_main:
            weights = checkpoint.final_weights(self.run_dir, self.config, -(-self.iteration // self.per_epoch))
            self._save_weights(weights)
            self.files += [*checkpoint.run_files(self.run_dir), *self.run_dir.glob(results.BEST_WEIGHTS), weights]
        if self.test_scenes:
            about = {**self._description(), "training_seconds": round(self.seconds, 1)}
            self.files += score_run(
                self.network, self.test_scenes, self.device, self.world, self.run_dir, self.config.model_title, about
            )


def train(config: TrainConfig) -> list[Path]:
    """Run a config to its end; see `Trainer.train`."""
    return Trainer(config).train()
