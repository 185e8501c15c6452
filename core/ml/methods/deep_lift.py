"""The difference from a baseline, followed through the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.catalog.method_params import BASELINE
from core.types import Method

if TYPE_CHECKING:
    from torch import Tensor

    from core.ml.attribute import Batch

METHOD = Method(
    "deep_lift",
    "DeepLift",
    "Follows the difference from an average picture through the layers and shares the change in score out by it.",
    "The parts should add up to the change in score; how nearly they do stands under the map. Fast: a single pass.",
    "Shrikumar et al. 2017, arXiv:1704.02685, rescale rule",
    order=50,
    params=(BASELINE,),
    batched=True,
    sums_to="change",
    rewrite=True,
    activations=("ReLU", "ReLU6", "LeakyReLU", "ELU", "Sigmoid", "Tanh", "Softplus"),
)


def attribute(batch: Batch) -> Tensor:
    from core.ml.attribute import adds_up

    batch.forward.counted.add(2 * len(batch.x))  # the baseline goes through beside the picture
    parts, delta = shared_out(batch)
    if not adds_up(parts, delta):
        batch.notes.append("The parts do not add up to the change in score: DeepLift is not exact for this network and picture.")
    return parts


def unsupported(batch: Batch) -> str:
    from core.ml.attribute import adds_up

    if adds_up(*shared_out(batch)):
        return ""
    return f"The parts that {METHOD.title} finds in {batch.network.architecture.title} do not add up, so its map would be wrong."


def shared_out(batch: Batch) -> tuple[Tensor, Tensor]:
    """The parts, and the (n,) error of their sum."""
    from core.ml.rescale import share_out

    parts, batch.change = share_out(batch.copy.model, batch.x, batch.baseline, batch.targets)
    return parts, parts.double().sum((1, 2, 3)) - batch.change
