"""The learning rate through a run, without torch: what a page draws of core.ml.fit.make_scheduler."""

from __future__ import annotations

import math

from core.types import RunConfig

# Smith and Topin 2018 (arXiv:1708.07120), in the sizes of fastai's fit_one_cycle.
RISE = 0.25  # share of a one-cycle run in which the learning rate rises
DIVIDED, FALLEN = 25.0, 1e5  # it begins with the highest rate divided by the one, and ends with that divided by the other
COLD = 0.01  # what a warm-up begins with


def share(config: RunConfig, epoch: float) -> float:
    """The learning rate after so many epochs, as a share of the one that is set."""
    if config.schedule == "one_cycle":
        top = RISE * config.epochs
        if epoch < top:
            return _cosine(1 / DIVIDED, 1.0, epoch / top)
        return _cosine(1.0, 1 / DIVIDED / FALLEN, (epoch - top) / (config.epochs - top))
    if epoch < config.warmup:
        return COLD + (1 - COLD) * epoch / config.warmup
    after = epoch - config.warmup
    if config.schedule == "cosine":
        return _cosine(1.0, 0.0, after / (config.epochs - config.warmup))
    if config.schedule == "step":
        return float(config.step_factor ** (after // config.step_every))
    return 1.0


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, done))) / 2


def course(config: RunConfig, points: int = 240) -> tuple[list[float], list[float]]:
    """(epochs, learning rates) to draw."""
    epochs = [config.epochs * i / points for i in range(points + 1)]
    return epochs, [config.learning_rate * share(config, e) for e in epochs]
