"""One square of the picture after another, covered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core.catalog.method_params import COVER
from core.types import Method, Param

if TYPE_CHECKING:
    from torch import Tensor

    from core.ml.attribute import Batch

WINDOWS = 7  # squares across the picture, unless the settings say more


def window(settings: Mapping[str, Any], height: int, width: int) -> tuple[int, int]:
    """Side and step of the square that covers a part of a picture, in pixels; no larger than the picture."""
    side = min(settings["window"] or max(1, round(min(height, width) / WINDOWS)), height, width)
    return side, min(settings["stride"], side) or max(1, side // 2)


def passes(settings: Mapping[str, Any], height: int, width: int) -> int:
    side, step = window(settings, height, width)
    return 1 + (1 + -(-(height - side) // step)) * (1 + -(-(width - side) // step))


METHOD = Method(
    "occlusion",
    "Occlusion",
    "Covers one square after another and watches the score fall.",
    "A real experiment on the picture, so it can be trusted where the square fits the object.",
    "Zeiler and Fergus 2013, arXiv:1311.2901",
    order=100,
    params=(
        Param(
            "window", "Window", "int", 0, "Side of the square; 0 takes a seventh of the picture's shorter side.", "method",
            low=0, high=1024, unit="pixels, 0 = automatic",
        ),
        Param(
            "stride", "Stride", "int", 0, "How far the square moves between two answers; 0 takes half of the window.", "method",
            low=0, high=1024, unit="pixels, 0 = automatic",
        ),
        COVER,
    ),
    passes=passes,
    gradient=False,
)  # fmt: skip


def attribute(batch: Batch) -> Tensor:
    from captum.attr import Occlusion

    channels, height, width = batch.x.shape[1:]
    side, step = window(batch.settings, height, width)
    if batch.settings["window"] > side:
        batch.notes.append(f"The window of {batch.settings['window']} pixels is larger than this picture: one of {side} was used.")
    return Occlusion(batch.forward).attribute(
        batch.x,
        sliding_window_shapes=(channels, side, side),
        strides=(channels, step, step),
        baselines=batch.baseline,
        target=batch.target,
        perturbations_per_eval=batch.internal_batch_size,
    )
