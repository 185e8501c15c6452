"""Bands are counted image by image; intervals are scipy's exact ones; the slider has its answer at once."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import binomtest

from core.errors import Invalid
from core.review import bands
from core.review.bands import BANDS, Limits

CLASSES = ("approved", "not suitable", "risked")
POLICY = {"not suitable": Limits(0.2, 0.9), "risked": Limits(0.05, 0.6)}


def test_one_class_over_its_upper_threshold_blocks_and_all_below_their_lower_pass() -> None:
    shares = np.array(
        [
            [0.90, 0.08, 0.02],  # both below
            [0.80, 0.15, 0.05],  # risked at its lower
            [0.75, 0.22, 0.03],  # not suitable above its lower
            [0.39, 0.01, 0.60],  # risked at its upper
            [0.02, 0.90, 0.08],  # not suitable at its upper
            [0.40, 0.01, 0.59],
            [np.nan, 0.01, 0.01],  # nothing is known of it
            [0.40, 0.99, np.nan],
        ]
    )
    assert [BANDS[i] for i in bands.bands(shares, CLASSES, POLICY)] == ["pass", "ask", "ask", "block", "block", "ask", "ask", "ask"]
    never = {"risked": Limits(0, None)}
    assert [BANDS[i] for i in bands.bands(np.array([[1.0, 0, 0], [0, 0, 1.0]]), CLASSES, never)] == ["ask", "ask"]


def test_shares_are_those_counted_one_by_one_with_the_exact_interval() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 400, p=[0.7, 0.22, 0.08])
    shares = rng.dirichlet(np.ones(3), 400) * 0.3 + 0.7 * np.eye(3)[np.where(rng.random(400) < 0.8, truth, 0)]
    found = bands.workload(shares, truth, CLASSES, POLICY, pace=3.0)
    word = np.array(
        ["block" if p[1] >= 0.9 or p[2] >= 0.6 else "pass" if p[1] < 0.2 and p[2] < 0.05 else "ask" for p in shares]  # the rule again
    )
    for share, k, n in (
        (found.passed, (word == "pass").sum(), 400),
        (found.asked, (word == "ask").sum(), 400),
        (found.blocked, (word == "block").sum(), 400),
        (found.wrongly_passed["risked"], ((word == "pass") & (truth == 2)).sum(), (truth == 2).sum()),
        (found.wrongly_passed["not suitable"], ((word == "pass") & (truth == 1)).sum(), (truth == 1).sum()),
        (found.wrongly_blocked, ((word == "block") & (truth == 0)).sum(), (truth == 0).sum()),
    ):
        assert (share.k, share.n) == (k, n) and share.interval is not None
        exact = binomtest(int(k), int(n)).proportion_ci(method="exact")
        assert (share.interval.low, share.interval.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert found.n == 400 and found.wrongly_passed["risked"].k > 0 and found.asked.k > 0
    assert found.minutes is not None and found.minutes.value == pytest.approx(found.asked.k / 400 * 1000 * 3 / 60)
    assert found.minutes.low < found.minutes.value < found.minutes.high


def test_nothing_is_said_of_a_class_without_images_or_of_minutes_without_a_pace() -> None:
    found = bands.workload(np.array([[1.0, 0, 0]]), np.array([0]), CLASSES, POLICY)
    assert found.wrongly_passed["risked"].interval is None and found.wrongly_passed["risked"].value is None
    assert found.minutes is None and found.passed.value == 1
    nothing = bands.workload(np.empty((0, 3)), np.empty(0, int), CLASSES, POLICY, pace=3.0)
    assert nothing.n == 0 and nothing.passed.interval is None and nothing.minutes is None


def test_impossible_thresholds_are_refused_in_words() -> None:
    with pytest.raises(Invalid, match=r"The lower threshold, 0\.9, is above the upper one, 0\.2"):
        Limits(0.9, 0.2)
    with pytest.raises(Invalid, match=r"The upper threshold is 1\.5\. It is a probability"):
        Limits(0.9, 1.5)
    with pytest.raises(Invalid, match="The lower threshold is nan"):
        Limits(float("nan"), 0.5)
    with pytest.raises(Invalid, match="no class “gone”"):
        bands.bands(np.ones((1, 3)), CLASSES, {"gone": Limits(0.1, 0.9)})
    with pytest.raises(Invalid, match="everything would pass"):
        bands.bands(np.ones((1, 3)), CLASSES, {})


def test_ten_thousand_images_of_ten_classes_follow_the_slider() -> None:
    rng = np.random.default_rng(0)
    shares, truth, names = rng.dirichlet(np.ones(10), 10_000), rng.integers(0, 10, 10_000), [str(i) for i in range(10)]
    limits = {name: Limits(0.05, 0.6) for name in names[1:]}
    took = []
    for _ in range(9):
        began = time.process_time()
        bands.workload(shares, truth, names, limits, pace=3.0)
        took.append(time.process_time() - began)
    assert min(took) < 0.02
