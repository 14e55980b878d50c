"""The four training objectives, one record each: whoever names an objective reads it here.

`active` says which take part; the trainer learns them one after the other, as often as their theta says. An objective
is added by a record of its own: its switch and theta become flags of `train`, its loss a column of log.csv, its label
a part of the rows' names in tables.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from data.spectral import convert_bands, draw_mixup_matrix, spectral_mixup
from losses import Criterion, hybrid_loss
from utils import random_generator, sent_to

# Random matrices of Spectral Mixup that are drawn, and sent to the device, together.
MATRICES_AT_ONCE = 64


class Batch(Protocol):
    """A mini-batch: ms B x C x h x w, lms and gt B x C x s*h x s*w, in 0..1; gt is None where nobody knows it."""

    ms: torch.Tensor
    lms: torch.Tensor
    gt: Any

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        """The batch with a function applied to each tensor."""


class Learner(Protocol):
    """What a loss asks of whoever trains.

    Attributes:
        conversion: F, the bands x n_subs matrix of the consistency loss; None where nobody needs it.
        criterion, rgb_criterion: the losses that --loss names.
        seed, iteration, repeat: what random draws in `Objective.prepare` depend on; repeat counts an objective's
            mini-batches of an iteration. A loss must not ask for them: on CUDA it is recorded once and replayed.
        kept: what is kept for the draws of later mini-batches, to be made again where it is missing.
    """

    conversion: Any
    seed: int
    iteration: int
    repeat: int
    kept: dict[Any, Any]
    criterion: Criterion
    rgb_criterion: Criterion

    def super_resolve(self, batch: Any, modality: str = "spectral") -> torch.Tensor:
        """The network's output for a batch, in float32."""

    def super_resolve_pair(self, batch: Any, rgb: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The same for a batch of HSIs and one of RGB images, which go through shared parts together."""


def labelled_loss(learner: Learner, batch: Batch) -> torch.Tensor:
    """Super-resolved HSIs against the true ones."""
    return learner.criterion(learner.super_resolve(batch), batch.gt)


def mixed(learner: Learner, batch: Batch) -> Batch:
    """A labelled batch with its bands mixed by a new random matrix (Spectral Mixup)."""
    matrix = mixup_matrix(learner, batch.ms.shape[1], batch.ms.device)
    return batch.map(lambda x: spectral_mixup(x, matrix))


def mixup_matrix(learner: Learner, n_colors: int, device: torch.device) -> torch.Tensor:
    """The n_colors x n_colors matrix of a mini-batch; those of many iterations are sent to the device together."""
    block, number = divmod(learner.iteration, MATRICES_AT_ONCE)
    kept = learner.kept.get(("mixup", learner.repeat))
    if kept is None or kept[0] != block:
        iterations = range(block * MATRICES_AT_ONCE, (block + 1) * MATRICES_AT_ONCE)
        generators = [random_generator(learner.seed, "mixup", iteration, learner.repeat) for iteration in iterations]
        matrices = torch.stack([draw_mixup_matrix(n_colors, generator) for generator in generators])
        kept = learner.kept["mixup", learner.repeat] = block, sent_to(device, matrices)
    return kept[1][number]


def rgb_loss(learner: Learner, batch: Batch) -> torch.Tensor:
    """Super-resolved RGB images against the true ones."""
    return learner.rgb_criterion(learner.super_resolve(batch, "rgb"), batch.gt)


def consistency_loss(learner: Learner, batch: Batch) -> torch.Tensor:
    """An unlabelled HSI super-resolved and then converted to 8 channels, against the reverse order."""
    conversion = learner.conversion
    converted_first = batch.map(lambda x: convert_bands(x, conversion))
    resolved, resolved_after = learner.super_resolve_pair(batch, converted_first)
    return hybrid_loss(convert_bands(resolved, conversion), resolved_after)


def as_it_is(learner: Learner, batch: Batch) -> Batch:
    """The batch as the stream has it."""
    return batch


@dataclass(frozen=True)
class Objective:
    """One of the losses as trained.

    Attributes:
        name: its word in logs, messages and checkpoints.
        loss: loss(learner, batch) -> scalar; depends on nothing that changes but the batch and the network.
        stream: the stream of patches that it takes mini-batches from: labelled, rgb or unlabelled.
        title: of its curve on the page of tables.
        label: its word in the names of rows; "" for what every row has.
        rank: its place among the labels of a row.
        switch, theta: the flags that switch it on, and say how many mini-batches of it come to a labelled one; ""
            for what is always on.
        switch_help, theta_help, theta_default: of those flags.
        modalities: of images that the network must have a path for.
        prepare: prepare(learner, batch) -> the batch that its loss takes: the place for random draws.
        shares_batches: whether its mini-batches are the very ones of the objective before it on that stream.
        is_supervised: whether it compares with something that stays. Both sides of the consistency loss are the
            network's: it is near zero as long as the network adds nothing to the bicubic image, and grows as it learns.
        first_half_only: whether it takes part in the first half of the epochs only (1..6 of 10).
    """

    name: str
    loss: Callable[[Learner, Any], torch.Tensor]
    stream: str
    title: str
    label: str = ""
    rank: int = 0
    switch: str = ""
    theta: str = ""
    switch_help: str = ""
    theta_help: str = ""
    theta_default: int = 1
    modalities: tuple[str, ...] = ("spectral",)
    prepare: Callable[[Learner, Any], Any] = as_it_is
    shares_batches: bool = False
    is_supervised: bool = True
    first_half_only: bool = False

    def is_on(self, config: Any) -> bool:
        """Whether a run has it: a TrainConfig, or the content of a config.json."""
        if not self.switch:
            return True
        values = config if isinstance(config, Mapping) else vars(config)
        return bool(values.get(self.switch)) and values.get(self.theta, self.theta_default) > 0

    def repeats(self, config: Any) -> int:
        """Its mini-batches to a labelled one, where it is on."""
        return getattr(config, self.theta) if self.theta else 1


OBJECTIVES: dict[str, Objective] = {}


def add(objective: Objective) -> Objective:
    """Have an objective trained, in the order in which they are added; before `config` is imported."""
    OBJECTIVES[objective.name] = objective
    return objective


LABELLED = add(Objective("labelled", labelled_loss, "labelled", "Labelled loss"))
MIXUP = add(
    Objective(
        "mixup",
        labelled_loss,
        "labelled",
        "Spectral Mixup loss",
        label="Mixup",
        rank=3,
        switch="UseLabeledSpectralMixUp",
        switch_help="1: train on spectrally mixed labelled batches too",
        theta="theta_LabeledSpectralMixUp",
        theta_help="mixed mini-batches per labelled one",
        shares_batches=True,
        prepare=mixed,
    )
)
RGB = add(
    Objective(
        "rgb",
        rgb_loss,
        "rgb",
        "RGB loss",
        label="RGB",
        rank=1,
        switch="UseRGB",
        switch_help="1: train RGB super-resolution alongside",
        theta="theta_rgb",
        theta_help="RGB mini-batches per labelled one",
        theta_default=3,
        modalities=("rgb",),
    )
)
CONSISTENCY = add(
    Objective(
        "consistency",
        consistency_loss,
        "unlabelled",
        "Consistency loss",
        label="SSL",
        rank=2,
        switch="UseUnlabelConsistency",
        switch_help="1: train on the consistency of unlabelled HSIs too",
        theta="theta_unlabel",
        theta_help="unlabelled mini-batches per labelled one",
        theta_default=3,
        modalities=("spectral", "rgb"),
        is_supervised=False,
        first_half_only=True,
    )
)


def active(config: Any, epoch: int = 1) -> list[tuple[Objective, int]]:
    """The objectives that take part in an epoch 1, 2, ..., in order, each with its mini-batches an iteration."""
    return [
        (objective, objective.repeats(config))
        for objective in OBJECTIVES.values()
        if objective.is_on(config) and not (objective.first_half_only and epoch - 1 > config.epochs / 2)
    ]


def labels(config: Any) -> list[str]:
    """The labels of what a run has beside the labelled loss, in the order of rows' names."""
    chosen = [o for o in OBJECTIVES.values() if o.label and o.is_on(config)]
    return [o.label for o in sorted(chosen, key=lambda o: o.rank)]
