"""A planted rate of mistakes lies within its interval; what cannot be said is None."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from core.metrics import newcombe, wilson
from core.review import quality

CLASSES = ("risked", "approved", "not suitable")


def test_answers_are_counted_against_the_final_ones_as_scikit_learn_does() -> None:
    rng = np.random.default_rng(0)
    final, given = rng.choice(CLASSES[:2], 300).tolist(), rng.choice(CLASSES[:2], 300).tolist()
    found = quality.confusion(given, final, CLASSES)
    assert found.classes == CLASSES and (found.counts == confusion_matrix(final, given, labels=CLASSES)).all()
    right = sum(a == b for a, b in zip(given, final, strict=True))
    assert (found.right.k, found.right.n, found.right.interval) == (right, 300, wilson(right, 300))
    assert found.by_class["risked"].n == final.count("risked") and found.by_class["risked"].k == found.counts[0, 0]
    assert found.by_class["not suitable"].interval is None  # nobody knows how well it is seen
    assert quality.confusion(["new"], ["risked"], CLASSES).classes == (*CLASSES, "new")
    assert quality.confusion([], []).right.interval is None


def test_each_persons_true_rate_lies_within_the_interval() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for true in np.repeat([0.02, 0.1, 0.3, 0.5], 100):
        wrong = rng.random(200) < true
        found = quality.confusion(["approved" if w else "risked" for w in wrong], ["risked"] * 200).right.interval
        assert found is not None
        held += found.low <= 1 - true <= found.high
    assert held >= 365  # of 400; Wilson holds 378 of these on average


def test_pace_is_a_median_that_lunch_and_a_jumping_clock_do_not_move() -> None:
    found = quality.pace([2.0, 3.0, 4.0, 5.0, 3600.0, -7000.0, float("nan")])
    assert found == quality.Pace(4.0, None, (3.0, 5.0), 5)
    assert quality.pace([]) is None and quality.pace([0.0, -1.0]) is None
    six = quality.pace([1, 2, 3, 4, 5, 6])
    assert six is not None and six.interval is not None and (six.interval.low, six.interval.high) == (1, 6)
    twenty = quality.pace(np.arange(1, 21))
    assert twenty is not None and twenty.interval is not None and (twenty.interval.low, twenty.interval.high) == (6, 15)  # Conover's table


def test_the_interval_of_the_median_holds_the_true_one() -> None:
    rng = np.random.default_rng(0)
    found = [quality.pace(rng.lognormal(1.0, 0.8, 41)) for _ in range(400)]
    assert sum(one is not None and one.interval is not None and one.interval.low <= np.e <= one.interval.high for one in found) >= 372


def test_the_effect_of_the_hint_is_the_difference_on_the_networks_mistakes_alone() -> None:
    network = ["risked"] * 60 + ["approved"] * 40
    final = ["approved"] * 100  # wrong in the first 60
    given = ["risked"] * 18 + ["approved"] * 12 + ["risked"] * 6 + ["not suitable"] * 24 + ["approved"] * 40
    blind = [False] * 30 + [True] * 30 + [False] * 40
    found = quality.hint(network, given, final, blind)
    assert (found.shown.k, found.shown.n, found.blind.k, found.blind.n) == (18, 30, 6, 30)
    assert found.difference == newcombe(18, 30, 6, 30) and found.difference is not None and found.difference.value == pytest.approx(0.4)
    assert quality.hint(network, given, final, [False] * 100).difference is None
    assert quality.hint([], [], [], []).shown.interval is None
