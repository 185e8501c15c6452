"""The gradients on the straight way from a baseline to the picture, added up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.catalog.method_params import BASELINE
from core.types import Method, Param

if TYPE_CHECKING:
    from torch import Tensor

    from core.ml.attribute import Batch

METHOD = Method(
    "integrated_gradients",
    "Integrated Gradients",
    "Adds up the sensitivity on the way from an average picture to this one.",
    "The parts should add up to the change in score; how nearly they do stands under the map.",
    "Sundararajan et al. 2017, arXiv:1703.01365",
    order=40,
    params=(
        Param(
            "steps", "Steps", "int", 32, "Points on the way; more bring the sum nearer to the change in score.", "method", low=4, high=512
        ),
        BASELINE,
    ),
    passes=lambda settings, height, width: int(settings["steps"]),
    sums_to="change",
)


def attribute(batch: Batch) -> Tensor:
    from captum.attr import IntegratedGradients

    return IntegratedGradients(batch.forward).attribute(
        batch.x,
        baselines=batch.baseline,
        target=batch.target,
        n_steps=batch.settings["steps"],
        internal_batch_size=batch.internal_batch_size,
    )
