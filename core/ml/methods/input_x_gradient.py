"""The gradient of every pixel times its value, whose zero is the average colour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.types import Method

if TYPE_CHECKING:
    from torch import Tensor

    from core.ml.attribute import Batch

METHOD = Method(
    "input_x_gradient",
    "Input × Gradient",
    "The slope at every pixel times how far the pixel lies from the average colour.",
    "As noisy as Saliency, and silent where the picture has the average colour.",
    "Shrikumar et al. 2016, arXiv:1605.01713",
    order=20,
    batched=True,
)


def attribute(batch: Batch) -> Tensor:
    from captum.attr import InputXGradient

    return InputXGradient(batch.forward).attribute(batch.x.requires_grad_(), target=batch.target)
