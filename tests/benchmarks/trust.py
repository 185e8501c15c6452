"""The checks of two methods' maps of one picture: python -m tests.benchmarks trust."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from core.catalog import params
from core.explain import trust as checks
from core.ml import trust
from tests.benchmarks.maps import DEFAULT, served
from tests.benchmarks.rows import Row, in_turns, seconds


def measure() -> Iterator[Row]:
    found, how = served(), checks.settings_of()
    config = params.run_config({"architecture": "efficientnet_lite0"})
    array = np.random.default_rng(0).integers(0, 256, (3, 224, 224), np.uint8)

    def both() -> float:
        return seconds(lambda: [trust.check(found, config, array, method, 0, {}, how) for method in DEFAULT])

    n = "one picture at 224, EfficientNet-Lite0 with random weights"
    yield Row("trust checks of two methods", n, "25 s", "s", in_turns({"Loupe": both}, 3))
