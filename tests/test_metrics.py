"""Intervals are those of scipy and of the papers' own examples."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from core.metrics import clopper_pearson, newcombe


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 59), (3, 40), (40, 40), (500, 1000)])
def test_the_exact_interval_is_that_of_scipy(k: int, n: int) -> None:
    found, exact = clopper_pearson(k, n), binomtest(k, n).proportion_ci(method="exact")
    assert found is not None and (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize(
    ("counts", "low", "high"),  # Newcombe 1998, table II, method 10
    [
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((6, 7, 2, 7), 0.0582, 0.8062),
        ((5, 56, 0, 29), -0.0381, 0.1926),
        ((0, 10, 0, 20), -0.1611, 0.2775),
        ((10, 10, 0, 10), 0.6075, 1.0),
    ],
)
def test_the_interval_of_a_difference_is_that_of_newcombes_examples(counts: tuple[int, int, int, int], low: float, high: float) -> None:
    found = newcombe(*counts)
    assert found is not None and (found.low, found.high) == pytest.approx((low, high), abs=6e-5)


def test_of_no_image_no_share_is_said() -> None:
    assert clopper_pearson(0, 0) is None and newcombe(0, 0, 1, 2) is None and newcombe(1, 2, 0, 0) is None
