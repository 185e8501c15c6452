"""Draws are uniform, independent and the same for ever, and nobody without the salt can tell them."""

from __future__ import annotations

import hashlib
import hmac
from typing import get_args

import numpy as np
import pytest
from scipy.stats import kstest

from core.errors import Invalid
from core.review.arms import Arm, arm, arms

ITEMS = [f"{i:064x}" for i in range(5000)]
SHARES: dict[Arm, float] = {"blind": 0.1, "second": 0.05, "known": 0.05, "audit": 0.01}


@pytest.fixture(scope="module")
def draws() -> np.ndarray:
    """(items, arms)"""
    return np.array([[arm(item, 7, "salt", name) for name in get_args(Arm)] for item in ITEMS])


def test_draws_are_uniform(draws: np.ndarray) -> None:
    assert draws.min() >= 0 and draws.max() < 1
    for column in draws.T:
        assert kstest(column, "uniform").pvalue > 1e-4


def test_draws_of_arms_policies_and_salts_are_independent_of_each_other(draws: np.ndarray) -> None:
    others = np.array([[arm(item, 8, "salt", "blind"), arm(item, 7, "pepper", "blind")] for item in ITEMS])
    correlations = np.corrcoef(np.column_stack([draws, others]).T)
    assert np.abs(correlations - np.eye(6)).max() < 4 / len(ITEMS) ** 0.5
    blind, second = draws[:, 0] < 0.1, draws[:, 1] < 0.05
    assert abs((blind & second).sum() - 25) < 4 * 25**0.5  # of 5,000, as often both as chance has it


def test_an_items_draw_is_the_same_after_every_restart() -> None:
    message = b"\0\0\0\1a" + b"\0\0\0\0017" + b"\0\0\0\5blind"
    expected = int.from_bytes(hmac.new(b"salt", message, hashlib.sha256).digest()[:8], "big") / 2**64
    assert arm("a", 7, "salt", "blind") == pytest.approx(expected, abs=1e-15) == arm("a", "7", "salt", "blind")
    assert arm("a", 71, "salt", "blind") != arm("a7", 1, "salt", "blind")


def test_an_item_falls_in_each_arm_as_often_as_its_share(draws: np.ndarray) -> None:
    fell = [arms(item, 7, "salt", SHARES) for item in ITEMS]
    for at, (name, share) in enumerate(SHARES.items()):
        inside = np.array([name in one for one in fell])
        assert abs(inside.sum() - share * len(ITEMS)) < 4 * (share * len(ITEMS)) ** 0.5
        assert (inside == (draws[:, at] < share)).all()


def test_a_larger_share_keeps_those_of_the_smaller_one_and_the_ends_take_none_and_all() -> None:
    small, large = ({i for i in ITEMS[:2000] if arms(i, 7, "salt", {"audit": share})} for share in (0.01, 0.05))
    assert small < large
    assert not arms("a", 7, "salt", {"audit": 0.0}) and arms("a", 7, "salt", {"audit": 1.0}) == {"audit"}


def test_an_impossible_share_and_an_empty_salt_are_refused() -> None:
    with pytest.raises(Invalid, match="The share of “blind” is 10"):
        arms("a", 7, "salt", {"blind": 10})
    with pytest.raises(Invalid, match="no salt"):
        arm("a", 7, "", "blind")
