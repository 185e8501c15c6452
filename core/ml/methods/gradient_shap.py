"""Gradients between random baselines and the picture, an estimate of Shapley values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.catalog.method_params import samples
from core.types import Method

if TYPE_CHECKING:
    from torch import Tensor

    from core.ml.attribute import Batch

METHOD = Method(
    "gradient_shap",
    "Gradient SHAP",
    "Integrated Gradients averaged over several random starting pictures.",
    "An estimate from random samples: small details differ from run to run, large regions should not.",
    "Lundberg and Lee 2017, arXiv:1705.07874",
    order=70,
    params=(samples(16, 256, "How many pictures of one random colour are started from."),),
    passes=lambda settings, height, width: int(settings["samples"]),
)


def attribute(batch: Batch) -> Tensor:
    import torch
    from captum.attr import GradientShap

    # A picture of one colour has no shape that could be mistaken for evidence; the colour is drawn from black to white.
    low, high = batch.extremes
    samples = batch.settings["samples"]
    baselines = low + (high - low) * torch.rand(samples, batch.x.shape[1], 1, 1).to(batch.x.device)
    method = GradientShap(batch.forward)
    total = torch.zeros_like(batch.x)
    for start in range(0, samples, batch.internal_batch_size):  # Captum runs all samples of a call at once
        count = min(batch.internal_batch_size, samples - start)
        total += count * method.attribute(batch.x, baselines=baselines.expand(-1, *batch.x.shape[1:]), n_samples=count, target=batch.target)
    return total / samples
