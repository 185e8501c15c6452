"""The interval of what slipped through holds the true share of simulated weeks, also where few, none or all were audited."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from core.errors import Invalid
from core.metrics import wilson
from core.review.slipped import Recall, Slipped, Stratum, recall, slipped

# items that passed, share of them wrong and share audited, by stratum of the score
WEEKS = {
    "rare, audited alike": ((12_000, 3000, 800, 200), (0.0005, 0.008, 0.03, 0.10), (0.02, 0.02, 0.02, 0.02)),
    "rare, high scores more": ((12_000, 3000, 800, 200), (0.0005, 0.008, 0.03, 0.10), (0.01, 0.02, 0.06, 0.25)),
    "rare, the scores say nothing": ((12_000, 3000, 800, 200), (0.005, 0.005, 0.005, 0.005), (0.01, 0.02, 0.06, 0.25)),
    "common, audited alike": ((12_000, 3000, 800, 200), (0.02, 0.1, 0.2, 0.35), (0.02, 0.02, 0.02, 0.02)),
    "common, high scores more": ((12_000, 3000, 800, 200), (0.02, 0.1, 0.2, 0.35), (0.01, 0.02, 0.06, 0.25)),
    "common, most where few were audited": ((20_000, 4000, 1000), (0.045, 0.05, 0.2), (0.002, 0.05, 0.3)),
    "common, half of few audited": ((300, 100, 50), (0.03, 0.08, 0.15), (0.5, 0.5, 0.8)),
}


@pytest.mark.parametrize("week", WEEKS)
def test_in_at_least_93_of_100_weeks_the_interval_holds_the_true_share_and_the_true_recall(week: str) -> None:
    sizes, wrong, audited = (np.array(one) for one in WEEKS[week])
    rng = np.random.default_rng(0)
    held = recalled = 0
    errors, caught = [], 300
    for _ in range(100):
        missed = rng.binomial(sizes, wrong)
        sampled = np.maximum(rng.binomial(sizes, audited), 1)
        found = rng.hypergeometric(missed, sizes - missed, sampled)
        made = slipped([Stratum(str(i), *(int(x) for x in row)) for i, row in enumerate(zip(sizes, sampled, found, strict=True))])
        assert made is not None and made.value is not None and made.low <= made.value <= made.high < 0.5
        true = missed.sum() / sizes.sum()
        held += made.low <= true <= made.high
        errors.append(made.value - true)
        part = recall(caught, made)
        assert part is not None
        recalled += part.low <= caught / (caught + missed.sum()) <= part.high
    assert held >= 93 and recalled >= 93
    assert abs(np.mean(errors)) < 4 * np.std(errors) / 10  # the estimate leans to no side


def test_a_share_is_weighted_by_what_each_stratum_stands_for() -> None:
    made = slipped([Stratum("low", 900, 90, 1), Stratum("high", 100, 50, 10), Stratum("empty", 0, 0, 0)])
    assert made is not None and made.value == pytest.approx(0.9 / 90 + 0.1 * 10 / 50)
    assert (made.n, made.found, made.size, made.never_sampled) == (140, 11, 1000, ())
    assert made.missed[0] == pytest.approx(30) and made.missed[1] >= 11
    assert [one.share.interval for one in made.strata] == [wilson(1, 90), wilson(10, 50)]


@pytest.mark.parametrize("found", [0, 1, 7])
def test_of_one_large_stratum_the_interval_is_the_exact_one_of_a_count(found: int) -> None:
    made = slipped([Stratum("all", 10**9, 500, found)])  # Garwood 1936, Fiducial limits for the Poisson distribution
    low = chi2.ppf(0.025, 2 * found) / 2 / 500 if found else 0.0
    assert made is not None and (made.low, made.high) == pytest.approx((low, chi2.ppf(0.975, 2 * found + 2) / 2 / 500), rel=1e-5)


def test_none_found_is_an_upper_bound_and_not_zero() -> None:
    made = slipped([Stratum("low", 9000, 90, 0), Stratum("high", 1000, 100, 0)])
    assert made is not None and (made.value, made.low) == (0, 0)
    assert made.high == pytest.approx(3.69 * 0.9 / 90, rel=0.01)  # 3.69 is the most of a count that shows none in 1 of 40
    assert made.high < sum(one.size / 10_000 * one.share.interval.high for one in made.strata if one.share.interval)


def test_a_stratum_never_sampled_is_said_and_may_be_all_wrong() -> None:
    made = slipped([Stratum("low", 900, 300, 3), Stratum("high", 100, 0, 0)])
    assert made is not None and made.value is None and made.missed[0] is None and made.never_sampled == ("high",)
    alone = slipped([Stratum("low", 900, 300, 3)])
    assert alone is not None and made.low == pytest.approx(0.9 * alone.low) and made.high == pytest.approx(0.9 * alone.high + 0.1)
    part = recall(50, made)
    assert part is not None and part.value is None and 0 < part.low < part.high < 1
    nothing = slipped([Stratum("low", 900, 0, 0)])
    assert nothing is not None and (nothing.value, nothing.low, nothing.high, nothing.n) == (None, 0, 1, 0)


def test_what_was_audited_whole_is_known() -> None:
    assert slipped([Stratum("all", 40, 40, 3)]) == Slipped(0.075, 0.075, 0.075, 40, 3, 40, (Stratum("all", 40, 40, 3),), ())
    made = slipped([Stratum("low", 100, 99, 0), Stratum("high", 100, 100, 20)])
    assert made is not None and made.low == made.value == 0.1 < made.high <= 0.105  # one picture is left
    half = slipped([Stratum("all", 100, 50, 0)])
    assert half is not None and 0.05 <= half.high < 0.06  # 5 wrong ones escape half an audit in 1 of 36, 6 in 1 of 75
    most = slipped([Stratum("all", 100, 90, 20)])
    assert most is not None and most.low == 0.2  # those found are wrong
    assert slipped([]) is None and slipped([Stratum("low", 0, 0, 0)]) is None


def test_recall_is_of_what_was_caught_and_what_was_missed() -> None:
    made = slipped([Stratum("all", 1000, 100, 2)])
    assert made is not None
    found = recall(80, made)
    assert found is not None and found.value == pytest.approx(0.8) and (found.caught, found.n) == (80, 100)
    assert (found.low, found.high) == pytest.approx((80 / (80 + 1000 * made.high), 80 / (80 + 1000 * made.low)))
    none = slipped([Stratum("all", 1000, 100, 0)])
    assert none is not None and recall(0, none) is None  # nobody knows of one
    perfect = recall(80, none)
    assert perfect is not None and (perfect.value, perfect.high) == (1, 1) and perfect.low < 0.7
    assert recall(0, made) == Recall(0.0, 0.0, 0.0, 0, 100)


def test_counts_that_cannot_be_are_refused() -> None:
    for counts in ((10, 20, 0), (10, 5, 6), (10, 5, -1)):
        with pytest.raises(Invalid, match=r"Stratum “low”: .* No more can be found than were audited"):
            Stratum("low", *counts)
