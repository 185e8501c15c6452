"""Random sets of superpixels, covered: an estimate of their Shapley values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core.catalog.method_params import COVER, samples, superpixels
from core.types import Method

if TYPE_CHECKING:
    from torch import Tensor

    from core.ml.attribute import Batch


def problem(settings: Mapping[str, Any]) -> str:
    samples, regions = settings["samples"], settings["superpixels"]
    return f"Samples (samples) is {samples}: {regions} superpixels need {2 * regions} or more." if samples < 2 * regions else ""


METHOD = Method(
    "kernel_shap",
    "Kernel SHAP",
    "Covers many random sets of regions and shares the score out fairly among them (Shapley values).",
    "The parts add up to the change in score. An estimate: with few samples small regions are guesses.",
    "Lundberg and Lee 2017, arXiv:1705.07874; regions: SLIC, Achanta et al. 2012",
    order=120,
    params=(
        superpixels(40),
        samples(200, 5000, "How many sets of regions are tried; at least twice as many as there are regions."),
        COVER,
    ),
    problem=problem,
    passes=lambda settings, height, width: int(settings["samples"]),
    gradient=False,
)


def attribute(batch: Batch) -> Tensor:
    from captum.attr import KernelShap

    return KernelShap(batch.forward).attribute(
        batch.x,
        baselines=batch.baseline,
        target=batch.target,
        feature_mask=batch.superpixels,
        n_samples=batch.settings["samples"],
        perturbations_per_eval=batch.internal_batch_size,
    )
