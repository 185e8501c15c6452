"""Explain's maps of EfficientNet-Lite0 at 224, as the model worker makes them: python -m tests.benchmarks maps."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch

from core.catalog import methods
from core.ml import attribute, forward_passes
from core.ml.model import LoadedModel
from core.ml.rewrite import noise
from tests.benchmarks.rows import Row, in_turns, seconds
from tests.ml.plain import network, pictures

DEFAULT = ("grad_cam", "feature_ablation")  # of a network of this size: core.explain.explain.at_first


def served() -> LoadedModel:
    """As core.ml.infer keeps it, after what the first question of a run costs."""
    warnings.simplefilter("ignore")
    found = network("efficientnet_lite0", 224)
    found.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for method in methods.METHODS:
        attribute.unsupported(found, method)
    with torch.inference_mode():
        found.model(noise(found))
    return found


def measure() -> Iterator[Row]:
    found, turn = served(), 0

    def some(names: tuple[str, ...], classes: int) -> float:
        nonlocal turn
        turn += 1
        forward_passes._remembered.clear()
        x = pictures(1, 224) + turn / 1000  # another picture, of which nothing is remembered
        wanted = [name for name in names if not attribute.unsupported(found, name)]
        return seconds(lambda: [attribute.maps(found, x, name, [target]) for target in range(classes) for name in wanted])

    n = "one picture at 224, EfficientNet-Lite0 with random weights"
    yield Row("Explain's first map", n, "3 s", "s", in_turns({"Loupe": lambda: some(DEFAULT[:1], 1)}))
    yield Row("both default maps", n, "10 s", "s", in_turns({"Loupe": lambda: some(DEFAULT, 1)}, 3))
    yield Row("twelve methods for two classes", n, "60 s", "s", in_turns({"Loupe": lambda: some(tuple(methods.METHODS), 2)}, 1))
