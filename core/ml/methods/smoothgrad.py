"""The gradient, averaged over noisy copies of the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.catalog.method_params import samples
from core.types import Method, Param

if TYPE_CHECKING:
    from torch import Tensor

    from core.ml.attribute import Batch

METHOD = Method(
    "smoothgrad",
    "SmoothGrad",
    "Saliency averaged over copies of the picture with random noise, which calms it.",
    "Smoother than Saliency and easier to read, but still sensitivity, not cause.",
    "Smilkov et al. 2017, arXiv:1706.03825; the noise is a share of all possible values, not of the picture's own",
    order=30,
    params=(
        samples(16, 256, "How many noisy copies are averaged: more give a smoother map and take longer."),
        Param(
            "noise", "Noise", "float", 0.1, "Standard deviation, as a share of the way from black to white.", "method", low=0.001, high=1.0
        ),
    ),
    passes=lambda settings, height, width: int(settings["samples"]),
)


def attribute(batch: Batch) -> Tensor:
    from captum.attr import NoiseTunnel, Saliency

    low, high = batch.extremes
    return NoiseTunnel(Saliency(batch.forward)).attribute(
        batch.x.requires_grad_(),
        nt_type="smoothgrad",
        nt_samples=batch.settings["samples"],
        nt_samples_batch_size=min(batch.internal_batch_size, batch.settings["samples"]),
        stdevs=float(batch.settings["noise"] * (high - low).mean()),
        target=batch.target,
        abs=False,
    )
