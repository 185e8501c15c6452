"""One superpixel after another, covered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.catalog.method_params import COVER, superpixels
from core.types import Method

if TYPE_CHECKING:
    from torch import Tensor

    from core.ml.attribute import Batch

METHOD = Method(
    "feature_ablation",
    "Feature Ablation",
    "Covers one region of like colour after another, along the edges of things, and watches the score fall.",
    "A real experiment on the picture, but one region at a time: what two regions both show is missed.",
    "Regions: SLIC, Achanta et al. 2012, doi:10.1109/TPAMI.2012.120",
    order=110,
    params=(superpixels(50), COVER),
    passes=lambda settings, height, width: 1 + int(settings["superpixels"]),
    gradient=False,
)


def attribute(batch: Batch) -> Tensor:
    from captum.attr import FeatureAblation

    return FeatureAblation(batch.forward).attribute(
        batch.x,
        baselines=batch.baseline,
        target=batch.target,
        feature_mask=batch.superpixels,
        perturbations_per_eval=batch.internal_batch_size,
    )
