"""Agreement is that of the literature's worked examples; intervals hold the true figure; what is undefined is None."""

from __future__ import annotations

import time

import numpy as np
import pytest

from core.metrics import wilson
from core.review.agreement import Figure, agreement


def people(*rows: str) -> list[list[str | None]]:
    """A row per person, a letter per item, a dot where there is no answer."""
    return [[None if one == "." else one for one in row] for row in rows]


def table(counts: list[list[int]]) -> list[list[str | None]]:
    """Two persons whose answers make this table."""
    pairs = [(str(i), str(j)) for i, row in enumerate(counts) for j, k in enumerate(row) for _ in range(k)]
    return [[a for a, _ in pairs], [b for _, b in pairs]]


FOUR = people("123321412...", "1233224125.3", ".3332342251.", "12332441251.")  # Krippendorff 2011, section C


@pytest.mark.parametrize(
    ("labels", "alpha"),
    [
        (people("0100000010", "1110010000"), 0.095),  # Krippendorff 2011, section A
        (people("aabbdcccedda", "babbbcccedda"[:-1] + "d"), 0.692),  # section B
        (FOUR, 0.743),  # section C
    ],
)
def test_alpha_is_that_of_krippendorffs_examples(labels: list[list[str | None]], alpha: float) -> None:
    found = agreement(labels).alpha
    assert found.value == pytest.approx(alpha, abs=5e-4)
    assert found.interval is not None and found.interval.low < alpha < found.interval.high


def test_ac1_and_raw_agreement_are_those_of_gwets_examples() -> None:
    four = agreement(FOUR)  # Gwet 2014, Handbook of inter-rater reliability, 4th edition: four raters, twelve subjects
    assert (four.raw.value, four.ac1.value) == pytest.approx((0.81818, 0.77544), abs=5e-6)
    assert (four.n, four.answers) == (11, 40)  # the twelfth item has one answer
    abstractors = agreement(table([[13, 0, 0], [0, 20, 7], [0, 4, 56]]))  # the same: two abstractors, pregnancies
    assert (abstractors.raw.value, abstractors.ac1.value) == pytest.approx((0.89, 0.84933), abs=5e-6)
    assert abstractors.raw.interval == wilson(89, 100) and abstractors.alpha.value == pytest.approx(0.79726, abs=5e-6)


def test_agreement_on_a_class_is_counted_among_those_who_gave_it() -> None:
    found = agreement(table([[4, 3], [1, 92]])).by_class
    assert found["0"].value == pytest.approx(2 * 4 / (7 + 5)) and found["0"].n == 8  # Cicchetti and Feinstein 1990: 2a / (2a + b + c)
    assert found["1"].value == pytest.approx(2 * 92 / (95 + 93)) and found["1"].n == 96


def test_rare_classes_pull_alpha_down_and_ac1_stays() -> None:
    found = agreement(table([[1, 3], [2, 94]]))
    assert found.raw.value == 0.95 and found.alpha.value is not None and found.ac1.value is not None
    assert found.alpha.value < 0.4 and found.ac1.value > 0.9


def test_intervals_hold_the_true_figure() -> None:
    rng = np.random.default_rng(1)

    def draw(n: int) -> list[list[str | None]]:
        true = rng.choice(3, n, p=[0.72, 0.2, 0.08])
        return [["abc"[i] for i in np.where(rng.random(n) < 0.1, rng.integers(0, 3, n), true)] for _ in range(2)]

    true, drawn = agreement(draw(50_000)), [agreement(draw(100)) for _ in range(60)]
    for name in ("raw", "alpha", "ac1"):
        value, intervals = getattr(true, name).value, [getattr(one, name).interval for one in drawn]
        assert sum(i.low <= value <= i.high for i in intervals) >= 52  # of 60


def test_everybody_agreeing_on_a_few_items_is_not_taken_for_certainty() -> None:
    found = agreement(people("aaaaabbb", "aaaaabbb"), "abc")
    for figure in (found.raw, found.alpha, found.ac1, found.by_class["a"]):
        assert figure.value == 1 and figure.interval is not None and figure.interval.low < 0.7 and figure.interval.high == 1
    never = agreement(people("a" * 20 + "b" * 9, "b" * 9 + "c" * 20), "abc").by_class["a"]
    assert never.value == 0 and never.interval is not None and never.interval.low == 0 < never.interval.high < 0.3


def test_what_is_undefined_is_none_and_never_zero() -> None:
    one_class = agreement(people("aaaa", "aaaa"))
    assert one_class.raw.value == 1 and one_class.alpha == Figure(None, None, 4) == one_class.ac1
    assert agreement(people("aaaa", "aaaa"), "ab").ac1.value is not None  # the other class could have been chosen
    assert agreement(people("aaaa", "aaaa"), "ab").by_class["b"] == Figure(None, None, 0)
    for labels in ([], people("", ""), people("...", "..."), people("ab.", "..c"), people("abc")):
        found = agreement(labels)
        assert found.n == 0 and found.raw == found.alpha == found.ac1 == Figure(None, None, 0)


def test_a_thousand_draws_of_ten_thousand_items_take_no_more_than_two_seconds() -> None:
    began = time.process_time()
    agreement(table([[4000, 100, 20], [140, 4000, 10], [20, 10, 1700]]))
    assert time.process_time() - began < 2
