"""One iteration of training: what every loop does with its mini-batches."""

from typing import Any

import torch
from torch import nn

import objectives
from config import TrainConfig
from data.stream import Batch, PatchStream
from models.network import Network
from objectives import Objective
from training.learner import Learner, update_mean
from training.meters import LossMeter
from training.processes import World


class Steps:
    """Base of what trains a network; a subclass has these attributes.

    Attributes:
        config: the settings.
        device, world: where it runs, and the processes that take part.
        model: the network that learns; averaged: the running mean of its weights, or None.
        optimizer: Adam over all of the model's parameters.
        learner: calls the model for the objectives' losses.
        streams: of mini-batches, by name.
        losses: takes note of each loss.
        iteration: how many are done.
    """

    config: TrainConfig
    device: torch.device
    world: World
    model: Network
    averaged: Network | None
    optimizer: torch.optim.Adam
    learner: Learner
    streams: dict[str, PatchStream]
    losses: LossMeter
    iteration: int

    def rate(self) -> float:
        """Adam's step in the iteration that comes."""
        raise NotImplementedError

    @property
    def network(self) -> Network:
        """The network that is scored and saved."""
        return self.averaged or self.model

    def iterate(self, epoch: int) -> None:
        """One iteration: the mini-batches of every objective, each with its own Adam step unless joint."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.optimizer.zero_grad(set_to_none=True)
        for objective, repeats in objectives.active(self.config, epoch):
            for repeat in range(repeats):
                self._learn(objective, self.batch(objective, repeat, repeats), repeat)
        if self.config.joint_loss:
            self._step()
        if self.averaged:
            update_mean(self.averaged, self.model, self.config.ema_decay, self.iteration)

    def batch(self, objective: Objective, repeat: int, repeats: int) -> Batch:
        """Return the repeat-th of an objective's mini-batches in this iteration."""
        k = self.iteration if objective.shares_batches else self.iteration * repeats + repeat
        return self.streams[objective.stream].batch(k)

    def _learn(self, objective: Objective, batch: Batch, repeat: int) -> None:
        # Parameters that a loss does not use must have no gradient rather than a zero one: Adam would
        # move them on by their momentum. The released losses come out only this way.
        if not self.config.joint_loss:
            self.optimizer.zero_grad(set_to_none=True)
        self.learner.begin(self.iteration, repeat)
        parts = objective.prepare(self.learner, batch).split(self.config.accumulate)
        total: Any = 0
        for number, part in enumerate(parts, 1):
            loss = self.learner.learn(objective.loss, part, part.weight / len(parts))
            total = loss if number == 1 else total + loss
        if not self.config.joint_loss:
            self._step()
        self.losses.add(objective.name, total, self.iteration)

    def _step(self) -> None:
        # What an objective does not use, it uses in no process: all exchange the same gradients.
        self.world.average_([p.grad for p in self.model.parameters() if p.grad is not None])
        if self.config.clip_gradient:
            at_once = True if self.device.type == "cuda" else None
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_gradient, foreach=at_once)
        self.optimizer.step()
