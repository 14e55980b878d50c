"""The four training objectives: labelled HSIs, Spectral Mixup, RGB images, consistency of unlabelled HSIs.

Each is one record: its loss, its stream of mini-batches, its flags and its names. `trainer.Iterations.iterate` trains
the active ones in this order, each with an Adam step of its own. `config.train` declares their flags. A further
objective is added by a record: its switch and theta become flags of `train`, its loss a column of log.csv, its label a
part of the rows' names in tables.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from data.spectral import convert_bands, draw_mixup_matrix, spectral_mixup
from data.stream import Batch
from losses import Criterion, get_loss, get_rgb_loss, hybrid_loss
from system.devices import send_to
from utils import random_generator

# Random matrices of Spectral Mixup that are drawn, and sent to the device, together.
MATRICES_AT_ONCE = 64


@dataclass
class Task:
    """What the losses of a run depend on beside the network and the batch.

    Attributes:
        criterion: loss of labelled and mixed mini-batches, pred and target -> scalar.
        rgb_criterion: loss of RGB mini-batches.
        conversion: F of the consistency loss, bands x n_subs; None if that is switched off.
        seed: of the mixup matrices.
        matrices: those drawn last, by the number of the mini-batch in its iteration.
    """

    criterion: Criterion
    rgb_criterion: Criterion
    conversion: Any = None
    seed: int = 0
    matrices: dict[int, tuple[int, torch.Tensor]] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: Any, conversion: torch.Tensor | None) -> "Task":
        """The task of a TrainConfig."""
        return cls(get_loss(config.loss), get_rgb_loss(config.loss), conversion, config.seed)


def labelled_loss(network: Any, batch: Batch, task: Task) -> torch.Tensor:
    """Compare super-resolved HSIs with the HR ones (arXiv 2101.07589, section 3).

    Args:
        network: called as network(ms, lms, modality), see `models.network.Network.forward`.
        batch: of labelled HSIs, or of mixed ones.
        task: see `Task`.

    Returns:
        A scalar tensor.
    """
    return task.criterion(network(batch.ms, batch.lms), batch.gt)


def mix_batch(batch: Batch, task: Task, iteration: int, repeat: int) -> Batch:
    """Return a labelled batch with its bands mixed by a random matrix (Spectral Mixup).

    X' = (X + X R) / 2 for ms, lms and gt, with one R for the mini-batch. R depends on the seed, the iteration and the
    number of the mini-batch in it only, so that resumed runs draw the same; those of many iterations are sent to the
    device together.
    """
    block, number = divmod(iteration, MATRICES_AT_ONCE)
    drawn = task.matrices.get(repeat)
    if drawn is None or drawn[0] != block:
        iterations = range(block * MATRICES_AT_ONCE, (block + 1) * MATRICES_AT_ONCE)
        generators = [random_generator(task.seed, "mixup", k, repeat) for k in iterations]
        matrices = torch.stack([draw_mixup_matrix(batch.ms.shape[1], generator) for generator in generators])
        drawn = task.matrices[repeat] = block, send_to(batch.ms.device, matrices)
    matrix = drawn[1][number]
    return batch.map(lambda x: spectral_mixup(x, matrix))


def rgb_loss(network: Any, batch: Batch, task: Task) -> torch.Tensor:
    """Compare super-resolved RGB images, lifted to one group of bands, with the HR ones; see `labelled_loss`."""
    return task.rgb_criterion(network(batch.ms, batch.lms, "rgb"), batch.gt)


def consistency_loss(network: Any, batch: Batch, task: Task) -> torch.Tensor:
    """Compare F(SR of an unlabelled HSI) with SR of F(the HSI); gradients flow through both; see `labelled_loss`."""
    converted = batch.map(lambda x: convert_bands(x, task.conversion))
    spectral, rgb = network.forward_pair(batch.ms, batch.lms, converted.ms, converted.lms)
    return hybrid_loss(convert_bands(spectral, task.conversion), rgb)


def keep_batch(batch: Batch, task: Task, iteration: int, repeat: int) -> Batch:
    """Return a batch that its loss takes as it is."""
    return batch


@dataclass(frozen=True)
class Objective:
    """One of the losses as trained.

    Attributes:
        name: its word in logs, messages and checkpoints.
        loss: loss(network, batch, task) -> scalar; depends on nothing that changes but the batch and the network.
        stream: the stream of patches that it takes mini-batches from: labelled, rgb or unlabelled.
        title: of its curve on the page of tables.
        label: its word in the names of rows; "" for what every row has.
        rank: its place among the labels of a row.
        switch, theta: the flags that switch it on, and say how many mini-batches of it come to a labelled one; ""
            for what is always on.
        switch_help, theta_help: of those flags, where `config.train` does not declare them.
        theta_default: default of theta.
        modalities: of images that the network must have a path for.
        prepare: prepare(batch, task, iteration, repeat) -> the batch for its loss: the place for random draws.
        has_shared_batches: whether its mini-batches are the very ones of the objective before it on that stream.
        is_supervised: whether it compares with something that stays. Both sides of the consistency loss are the
            network's: it is near zero as long as the network adds nothing to the bicubic image, and grows as it learns.
        is_first_half_only: whether it takes part in the first half of the epochs only (1..6 of 10).
    """

    name: str
    loss: Callable[[Any, Batch, Task], torch.Tensor]
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
    prepare: Callable[[Batch, Task, int, int], Batch] = keep_batch
    has_shared_batches: bool = False
    is_supervised: bool = True
    is_first_half_only: bool = False

    def is_on(self, config: Any) -> bool:
        """Whether a run has it: a TrainConfig, or the content of a config.json."""
        if not self.switch:
            return True
        values = config if isinstance(config, Mapping) else vars(config)
        return bool(values.get(self.switch)) and values.get(self.theta, self.theta_default) > 0

    def count_batches(self, config: Any) -> int:
        """Its mini-batches to a labelled one, where it is on."""
        return getattr(config, self.theta) if self.theta else 1


OBJECTIVES: dict[str, Objective] = {}


def register_objective(objective: Objective) -> Objective:
    """Have an objective trained, in the order in which they are added; before `config` is imported."""
    OBJECTIVES[objective.name] = objective
    return objective


LABELLED = register_objective(Objective("labelled", labelled_loss, "labelled", "Labelled loss"))
MIXUP = register_objective(
    Objective(
        "mixup",
        labelled_loss,
        "labelled",
        "Spectral Mixup loss",
        label="Mixup",
        rank=3,
        switch="UseLabeledSpectralMixUp",
        theta="theta_LabeledSpectralMixUp",
        has_shared_batches=True,
        prepare=mix_batch,
    )
)
RGB = register_objective(
    Objective(
        "rgb",
        rgb_loss,
        "rgb",
        "RGB loss",
        label="RGB",
        rank=1,
        switch="UseRGB",
        theta="theta_rgb",
        theta_default=3,
        modalities=("rgb",),
    )
)
CONSISTENCY = register_objective(
    Objective(
        "consistency",
        consistency_loss,
        "unlabelled",
        "Consistency loss",
        label="SSL",
        rank=2,
        switch="UseUnlabelConsistency",
        theta="theta_unlabel",
        theta_default=3,
        modalities=("spectral", "rgb"),
        is_supervised=False,
        is_first_half_only=True,
    )
)


def list_active(config: Any, epoch: int = 1) -> list[tuple[Objective, int]]:
    """The objectives that take part in an epoch 1, 2, ..., in order, each with its mini-batches an iteration."""
    return [
        (objective, objective.count_batches(config))
        for objective in OBJECTIVES.values()
        if objective.is_on(config) and not (objective.is_first_half_only and epoch - 1 > config.epochs / 2)
    ]


def list_labels(config: Any) -> list[str]:
    """The labels of what a run has beside the labelled loss, in the order of rows' names."""
    chosen = [o for o in OBJECTIVES.values() if o.label and o.is_on(config)]
    return [o.label for o in sorted(chosen, key=lambda o: o.rank)]
