"""Grad-CAM's regions times guided backpropagation's lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.catalog.method_params import LAYER
from core.types import Method

if TYPE_CHECKING:
    from torch import Tensor

    from core.ml.attribute import Batch

METHOD = Method(
    "guided_grad_cam",
    "Guided Grad-CAM",
    "Grad-CAM's regions with fine lines in them: only slopes that speak for the class are followed back.",
    "Looks crisp, but the lines are largely edges of the picture, whatever the network has learned.",
    "Selvaraju et al. 2016, arXiv:1610.02391; Springenberg et al. 2014, arXiv:1412.6806",
    order=90,
    params=(LAYER,),
    batched=True,
    rewrite=True,
    activations=("ReLU", "ReLU6"),
)


def attribute(batch: Batch) -> Tensor:
    from captum.attr import GuidedBackprop

    batch.forward.counted.add(len(batch.x))
    guided = GuidedBackprop(batch.copy.model).attribute(batch.x.clone().requires_grad_(), target=batch.target)
    return guided * batch.regions(relu=True)


def unsupported(batch: Batch) -> str:
    if batch.copy.activations:
        return ""
    return f"{METHOD.title} changes the slopes of ReLU, and {batch.network.architecture.title} has no ReLU."
