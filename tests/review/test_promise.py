"""The promise holds on fresh images, on average or in 95 of 100 draws, whatever the network; too few images promise nothing."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import Invalid
from core.review import promise

IDS = [f"image {i}" for i in range(2000)]
CHOOSING = [i for i in IDS if promise.half(i) == 0]
REPORTING = [i for i in IDS if promise.half(i) == 1]


def shares_that_pass(n: int, most: float, kind: promise.Kind, draws: int, seed: int = 0) -> np.ndarray:
    """(draws,) the true share of the class below the threshold chosen from n images; scores are uniform, so it is the threshold itself."""
    rng = np.random.default_rng(seed)
    return np.array([promise.promise("risked", rng.random(n), CHOOSING[:n], most, kind).threshold for _ in range(draws)])


@pytest.mark.parametrize(("n", "most"), [(19, 0.05), (59, 0.05), (75, 0.05), (120, 0.02), (9, 0.1)])
def test_on_average_no_more_than_promised_pass(n: int, most: float) -> None:
    true = shares_that_pass(n, most, "on average", 600)
    assert true.mean() <= most + 3 * true.std() / 600**0.5
    assert true.mean() >= most - 1 / (n + 1) - 3 * true.std() / 600**0.5  # and it is no lower than it has to be


def test_in_at_least_95_of_100_draws_the_mean_over_fresh_data_is_within_the_promise() -> None:
    kept = [shares_that_pass(70, 0.05, "on average", 40, seed).mean() <= 0.05 for seed in range(100)]
    assert sum(kept) >= 95


def test_the_surer_promise_is_kept_in_at_least_95_of_100_single_draws() -> None:
    assert (shares_that_pass(100, 0.05, "19 of 20", 100) <= 0.05).sum() >= 95
    assert (shares_that_pass(80, 0.05, "19 of 20", 1500) <= 0.05).mean() >= 0.95
    assert 0.93 < (shares_that_pass(93, 0.05, "19 of 20", 1500) <= 0.05).mean() < 0.97  # 93 use the allowance up: 95.2%


def test_ties_never_let_more_pass_than_are_allowed() -> None:
    scores = np.repeat([0.0, 0.3, 0.9], [5, 50, 45])
    found = promise.promise("risked", scores, CHOOSING[:100], 0.2)
    assert found.threshold == 0.3 and found.chosen_on.k == 5  # 19 may pass, the next 50 are alike
    assert promise.promise("risked", np.zeros(100), CHOOSING[:100], 0.2).threshold == 0


def test_the_figure_to_quote_comes_from_images_that_had_no_say() -> None:
    rng = np.random.default_rng(1)
    scores = rng.random(2000)
    found = promise.promise("risked", scores, IDS, 0.05)
    other = np.array([promise.half(i) for i in IDS]) == 1
    assert found.passed.n == other.sum() and found.passed.k == (scores[other] < found.threshold).sum()
    assert found.passed.interval is not None and found.passed.interval.low <= 0.05 <= found.passed.interval.high
    scores[other] = 0.0
    again = promise.promise("risked", scores, IDS, 0.05)
    assert again.threshold == found.threshold and again.passed.value == 1
    assert promise.promise("risked", rng.random(30), CHOOSING[:30], 0.05).passed.interval is None  # nobody is left to report


def test_halves_are_equal_and_stay() -> None:
    assert abs(len(CHOOSING) - 1000) < 100
    assert [promise.half(i) for i in ("a", "b", "c", "d", "e", "f")] == [0, 0, 0, 1, 0, 0]


def test_too_few_images_promise_nothing_and_it_is_said_how_many_do() -> None:
    assert [promise.needed(x) for x in (0.5, 0.1, 0.05, 0.01, 0.001)] == [1, 9, 19, 99, 999]
    assert [promise.needed(x, "19 of 20") for x in (0.05, 0.01, 0.001)] == [59, 299, 2995]
    for kind in ("on average", "19 of 20"):
        n = promise.needed(0.05, kind)  # type: ignore[arg-type]
        promise.promise("risked", np.ones(n), CHOOSING[:n], 0.05, kind)  # type: ignore[arg-type]
        with pytest.raises(Invalid, match=f"{n - 1} images of “risked” are too few to promise that at most 5% pass.*at least {n}"):
            promise.promise("risked", np.ones(n - 1), CHOOSING[: n - 1], 0.05, kind)  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="A share of 0% cannot be promised"):
        promise.promise("risked", np.ones(500), CHOOSING[:500], 0.0)
    with pytest.raises(Invalid, match="18 images"):  # a probability that is no number is no image
        promise.promise("risked", np.r_[np.ones(18), np.nan], CHOOSING[:19], 0.05)
