"""Settings that several attribution methods have."""

from __future__ import annotations

from dataclasses import replace

from core.types import Param

BASELINE = Param(
    "baseline", "Compared with", "choice", "mean",
    "The picture without evidence that this one is compared with: the average colour, black, white, or the picture itself, blurred.",
    "method", options=("mean", "black", "white", "blur"),
)  # fmt: skip
COVER = replace(
    BASELINE,
    title="Covered with",
    help="What a part of the picture is hidden behind: the average colour, black, white, or the picture itself, blurred.",
)
LAYER = Param(
    "layer", "Layer", "choice", "", "The layer whose regions are weighed: late layers know things, early ones edges and colours.", "method",
)  # fmt: skip


def samples(default: int, high: int, help: str) -> Param:
    return Param("samples", "Samples", "int", default, help, "method", low=2, high=high)


def superpixels(default: int) -> Param:
    return Param(
        "superpixels", "Superpixels", "int", default,
        "Into how many connected regions of like colour the picture is divided, about.", "method", low=4, high=400,
    )  # fmt: skip
