"""The learning rate over a run."""

import math

from config import TrainConfig


def learning_rate(config: TrainConfig, iteration: int, per_epoch: int) -> float:
    """Learning rate of iteration 0, 1, ... of a run with per_epoch iterations in an epoch."""
    if config.schedule == "cosine":
        rate = config.learning_rate * (1 + math.cos(math.pi * iteration / (config.epochs * per_epoch))) / 2
    else:
        rate = published_rate(config, iteration // per_epoch + 1)
    return rate * min(1, (iteration + 1) / config.warmup_iterations) if config.warmup_iterations else rate


def published_rate(config: TrainConfig, epoch: int) -> float:
    """Learning rate in epoch 1..epochs: times 0.3 every 5 epochs, and once more in the last."""
    rate = config.learning_rate * 0.3 ** (epoch // 5)
    return rate * 0.3 if epoch == config.epochs else rate
