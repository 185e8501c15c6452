"""The regions of a convolution, weighed by their gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.catalog.method_params import LAYER
from core.types import Method

if TYPE_CHECKING:
    from torch import Tensor

    from core.ml.attribute import Batch

METHOD = Method(
    "grad_cam",
    "Grad-CAM",
    "Which regions one convolution, usually the last, used for this class.",
    "Coarse: it names regions, not edges. A good first look.",
    "Selvaraju et al. 2016, arXiv:1610.02391; negative evidence is kept here, the paper drops it",
    order=80,
    params=(LAYER,),
    batched=True,
)


def attribute(batch: Batch) -> Tensor:
    return batch.regions(relu=False)
