"""The gradient of the score with respect to every pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.types import Method

if TYPE_CHECKING:
    from torch import Tensor

    from core.ml.attribute import Batch

METHOD = Method(
    "saliency",
    "Saliency",
    "The slope at every pixel: where red, a little more brightness would raise the score; where blue, lower it.",
    "Noisy: it shows where the network is sensitive, not why it decided.",
    "Simonyan et al. 2013, arXiv:1312.6034",
    order=10,
    batched=True,
)


def attribute(batch: Batch) -> Tensor:
    from captum.attr import Saliency

    return Saliency(batch.forward).attribute(batch.x.requires_grad_(), target=batch.target, abs=False)
