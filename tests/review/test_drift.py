"""A change raises an alarm, chance does not, and of few images nothing is said."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from core.errors import Invalid
from core.metrics import newcombe
from core.review.drift import drift, moved


def scores(n: int, mean: float = 0.0, seed: int = 0) -> np.ndarray:
    """Probabilities, most near 0 as those of a rare class are."""
    found: np.ndarray = 1 / (1 + np.exp(3 - np.random.default_rng(seed).normal(mean, 1.5, n)))
    return found


def test_the_index_is_the_sum_over_the_deciles_of_the_reference() -> None:
    then, now = np.arange(1000) / 1000, np.arange(2000) / 2000 * 0.499
    found = drift(then, now)  # five of ten bins hold a fifth each instead of a tenth, five nothing
    full, empty = 400.5 / 2005, 0.5 / 2005
    assert found.psi == pytest.approx(5 * (full - 0.1) * np.log(full / 0.1) + 5 * (empty - 0.1) * np.log(empty / 0.1), rel=0.01)
    test = ks_2samp(then, now)
    assert found.ks == pytest.approx(test.statistic) and found.p is not None and found.p < 1e-6
    assert (found.then, found.now, found.level) == (1000, 2000, "large")


def test_a_change_raises_an_alarm_that_points_to_the_audit() -> None:
    assert drift(scores(5000), scores(1000, seed=1)).level == "none"
    slight = drift(scores(5000), scores(1000, 0.6, seed=1))
    assert slight.level == "slight" and slight.psi is not None and 0.1 <= slight.psi < 0.25
    large = drift(scores(5000), scores(1000, 1.5, seed=1))
    assert large.level == "large" and "clearly differently" in large.words and "audit more" in large.words


@pytest.mark.parametrize("n", [100, 2000])
def test_chance_raises_an_alarm_in_no_more_than_about_one_of_a_hundred_weeks(n: int) -> None:
    weeks = [drift(scores(2000, seed=2 * i), scores(n, seed=2 * i + 1)) for i in range(100)]
    assert sum(one.level != "none" for one in weeks) <= 3
    assert sum(one.psi > one.psi_by_chance for one in weeks if one.psi and one.psi_by_chance) <= 4


def test_of_few_images_no_alarm_is_given_and_it_is_said() -> None:
    found = drift(scores(5000), np.ones(99))
    assert found.level == "too few" and "99 images now and 5,000 in the reference are too few" in found.words
    assert found.psi is not None and found.psi > 1  # though it looks like one
    assert drift(scores(5000), np.ones(100)).level == "large"
    nothing = drift(scores(5000), np.full(500, np.nan))
    assert (nothing.now, nothing.psi, nothing.ks, nothing.p, nothing.level) == (0, None, None, None, "too few")


def test_scores_that_are_all_the_same_can_be_compared() -> None:
    same = drift(np.zeros(500), np.zeros(500))
    assert same.level == "none" and same.psi == pytest.approx(0)
    for now in (np.ones(500), -np.ones(500)):
        found = drift(np.zeros(500), now)
        assert found.ks == 1 and found.level == "large"
    mostly = np.r_[np.zeros(900), np.linspace(0.1, 1, 100)]
    assert drift(mostly, np.r_[np.zeros(450), np.linspace(0.1, 1, 50)]).level == "none"
    assert drift(mostly, np.r_[np.zeros(300), np.linspace(0.1, 1, 200)]).level == "large"


def test_bands_are_compared_with_newcombes_interval() -> None:
    found = moved({"pass": 800, "ask": 150, "block": 50}, {"pass": 300, "ask": 200, "block": 0})
    assert found["ask"].difference == newcombe(200, 500, 150, 1000)
    assert found["ask"].difference is not None and found["ask"].difference.value == pytest.approx(0.25)
    assert (found["block"].now.k, found["block"].now.n, found["block"].then.n) == (0, 500, 1000)
    assert moved({"pass": 1}, {"pass": 0})["pass"].difference is None
    with pytest.raises(Invalid, match="Name the same ones"):
        moved({"pass": 1}, {"pass": 1, "ask": 0})
