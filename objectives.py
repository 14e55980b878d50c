"""The four training objectives: labelled HSIs, Spectral Mixup, RGB images, consistency of unlabelled HSIs.

Each is one record: its loss, its stream of mini-batches, its flags and its names. `trainer.Iterations.iterate` trains
the active ones in this order, each with a separate Adam step. `config.train` declares their flags. A further objective
needs one record: its switch and theta become flags of `train`, its loss a column of log.csv, its label a part of the
rows' names in tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from utils import random_generator

if TYPE_CHECKING:
    # `config` reads the records for --help without the time that importing torch takes.
    import torch

    from data.stream import Batch
    from losses import Criterion

# Random matrices of Spectral Mixup that are drawn, and sent to the device, together.
MATRICES_AT_ONCE = 64


@dataclass
class Task:
    """Settings of a run that its losses depend on.

    Attributes:
        criterion: loss of labelled and mixed mini-batches, (pred, target) -> scalar.
        rgb_criterion: loss of RGB mini-batches.
        conversion: F of the consistency loss, bands x n_subs; None if the consistency loss is off.
        seed: of the mixup matrices.
        matrices: {number of the mini-batch in its iteration: (block of iterations, its matrices)}, a cache.
    """

    criterion: Criterion
    rgb_criterion: Criterion
    conversion: Any = None
    seed: int = 0
    matrices: dict[int, tuple[int, torch.Tensor]] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: Any, conversion: torch.Tensor | None) -> Task:
        """Return the task of a TrainConfig; the RGB loss is hybrid, as released, unless --loss is relative."""
        from losses import LOSSES, hybrid_loss, relative_loss

        rgb_criterion = relative_loss if config.loss == "relative" else hybrid_loss
        return cls(LOSSES[config.loss], rgb_criterion, conversion, config.seed)


def labelled_loss(network: Any, batch: Batch, task: Task) -> torch.Tensor:
    """Return the loss of super-resolved HSIs against their HR images (arXiv 2101.07589, section 3).

    Args:
        network: called as network(ms, lms, modality), see `models.network.Network`.
        batch: labelled or mixed HSIs.
        task: see `Task`.

    Returns:
        A scalar tensor.
    """
    return task.criterion(network(batch.ms, batch.lms), batch.gt)


def mix_batch(batch: Batch, task: Task, iteration: int, repeat: int) -> Batch:
    """Mix the bands of a labelled batch by a random matrix (Spectral Mixup, arXiv 2101.07589, section 3.3).

    X' = (X + X R) / 2 for ms, lms and gt, with one R for the mini-batch. R depends only on the seed, the iteration and
    the number of the mini-batch in it, so that resumed runs draw the same matrices.
    """
    import torch

    from data.spectral import draw_mixup_matrix, spectral_mixup
    from system.devices import send_to

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
    """Return the loss of super-resolved RGB images, lifted to one band group; see `labelled_loss`."""
    return task.rgb_criterion(network(batch.ms, batch.lms, "rgb"), batch.gt)


def consistency_loss(network: Any, batch: Batch, task: Task) -> torch.Tensor:
    """Return L(F(net(x)), net_RGB(F(x))) of unlabelled HSIs x; gradients flow through both; see `labelled_loss`."""
    from data.spectral import convert_bands
    from losses import hybrid_loss

    converted = batch.map(lambda x: convert_bands(x, task.conversion))
    spectral, rgb = network.forward_pair(batch.ms, batch.lms, converted.ms, converted.lms)
    return hybrid_loss(convert_bands(spectral, task.conversion), rgb)


def keep_batch(batch: Batch, task: Task, iteration: int, repeat: int) -> Batch:
    """Return the batch unchanged."""
    return batch


@dataclass(frozen=True)
class Objective:
    """A training objective.

    Attributes:
        name: in logs, messages and checkpoints.
        loss: loss(network, batch, task) -> scalar; may depend on nothing else that changes during a run.
        stream: source of its mini-batches: "labelled", "rgb" or "unlabelled".
        title: of its curve on the page of tables.
        label: in the names of rows; "" for the objective of all rows.
        rank: position among the labels of a row.
        switch, theta: flags that switch it on, and set its mini-batches for each labelled one; "" if always on.
        switch_help, theta_help: help of these flags, if `config.train` does not declare them.
        theta_default: default of theta.
        modalities: of images that the network must have a path for.
        prepare: prepare(batch, task, iteration, repeat) -> the batch for the loss; draws random numbers, if any.
        has_shared_batches: True if it uses the mini-batches of the preceding objective of its stream.
        is_supervised: True if the target is fixed. Both sides of the consistency loss are outputs of the network: it
            is near zero while the output is near the bicubic image, and grows in training.
        is_first_half_only: True if it is active only in the first half of the epochs (1..6 of 10).
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
        """Return True if the objective is on in a TrainConfig or in the content of a config.json."""
        if not self.switch:
            return True
        values = config if isinstance(config, Mapping) else vars(config)
        return bool(values.get(self.switch)) and values.get(self.theta, self.theta_default) > 0

    def count_batches(self, config: Any) -> int:
        """Return its mini-batches for each labelled one in a TrainConfig in which it is on."""
        return getattr(config, self.theta) if self.theta else 1


OBJECTIVES: dict[str, Objective] = {}


def register_objective(objective: Objective) -> Objective:
    """Add an objective, which is trained after those added before; call it before `config` is imported."""
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
    """Return the objectives active in an epoch 1, 2, ..., in order, with their mini-batches in each iteration."""
    return [
        (objective, objective.count_batches(config))
        for objective in OBJECTIVES.values()
        if objective.is_on(config) and not (objective.is_first_half_only and epoch - 1 > config.epochs / 2)
    ]


def list_labels(config: Any) -> list[str]:
    """Return the labels of a run's objectives except the labelled one, in the order of rows' names."""
    chosen = [o for o in OBJECTIVES.values() if o.label and o.is_on(config)]
    return [o.label for o in sorted(chosen, key=lambda o: o.rank)]
