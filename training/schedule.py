"""The learning rate over a run."""

import math

from config import TrainConfig


def learning_rate(config: TrainConfig, iteration: int, per_epoch: int) -> float:
    """Learning rate of iteration 0, 1, ... of a run with per_epoch iterations in an epoch."""
    if config.schedule == "cosine":
        return rate_after(config, iteration, iteration / (config.epochs * per_epoch))
    return risen(config, iteration) * published_rate(config, iteration // per_epoch + 1)


def rate_after(config: TrainConfig, iteration: int, part: float) -> float:
    """Learning rate of iteration 0, 1, ... along half a cosine of which that part, 0..1, is over."""
    return config.learning_rate * (1 + math.cos(math.pi * part)) / 2 * risen(config, iteration)


def risen(config: TrainConfig, iteration: int) -> float:
    """How far the rate has risen in iteration 0, 1, ... of the warm-up, up to 1."""
    return min(1, (iteration + 1) / config.warmup_iterations) if config.warmup_iterations else 1


def published_rate(config: TrainConfig, epoch: int) -> float:
    """Learning rate in epoch 1..epochs: times 0.3 every 5 epochs, and once more in the last."""
    rate = config.learning_rate * 0.3 ** (epoch // 5)
    return rate * 0.3 if epoch == config.epochs else rate
