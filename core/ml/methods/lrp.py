"""Layer-wise relevance propagation: the score, handed back from layer to layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.types import Method, Param

if TYPE_CHECKING:
    from torch import Tensor, fx

    from core.ml.attribute import Batch

METHOD = Method(
    "lrp",
    "LRP",
    "Hands the score back from layer to layer, to whatever made it, down to the pixels.",
    "The parts add up to the score less what biases add, which belongs to no pixel.",
    "Bach et al. 2015, doi:10.1371/journal.pone.0130140; rules of Montavon et al. 2019, doi:10.1007/978-3-030-28954-6_10",
    order=60,
    params=(
        Param(
            "gamma", "Gamma", "float", 0.25,
            "How much more counts what speaks for the class, which calms the map; 0 treats both alike.", "method", low=0.0, high=10.0,
        ),
    ),
    batched=True,
    sums_to="score",
    rewrite=True,
    activations=("ReLU", "ReLU6", "Tanh"),
)  # fmt: skip


def attribute(batch: Batch) -> Tensor:
    batch.forward.counted.add(2 * len(batch.x))
    batch.notes.append("What the biases add to the score belongs to no pixel: it is missing in the sum.")
    return relevance(batch, batch.copy.model, batch.settings["gamma"])[0]


def unsupported(batch: Batch) -> str:
    """In a copy without biases relevance has nowhere else to go than to the pixels, so that there the sum must hold."""
    from core.ml.attribute import adds_up
    from core.ml.relevance import check_rules, without_biases

    check_rules(batch.copy.model)
    if adds_up(*relevance(batch, without_biases(batch.copy.model), gamma=0)):
        return ""
    return f"The parts that {METHOD.title} finds in {batch.network.architecture.title} do not add up, so its map would be wrong."


def relevance(batch: Batch, model: fx.GraphModule, gamma: float) -> tuple[Tensor, Tensor]:
    """The parts, and what is missing in their (n,) sums."""
    from captum.attr import LRP

    from core.ml.relevance import set_rules

    set_rules(model, gamma)
    answer: tuple[Tensor, Tensor] = LRP(model).attribute(batch.x.requires_grad_(), target=batch.target, return_convergence_delta=True)
    return answer
