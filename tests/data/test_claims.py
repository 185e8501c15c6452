"""Work is dealt out once."""

from __future__ import annotations

import threading
import time

import pytest

from core import servers
from core.data import claims, store
from core.types import Dataset
from tests.data.acts import give

pytestmark = pytest.mark.databases("sqlite", "postgresql")


def test_labelled_work_is_not_with_others_and_what_was_passed_over_is_free_for_them(
    small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = unlabelled(small)[:8]
    assert claims.deal(small.id, "a", every, 4) == every[:4] and claims.held_by_others(small.id, "b") == 4
    give(small, every[:1], "blue")
    assert claims.held_by_others(small.id, "b") == 3
    monkeypatch.setattr(claims, "GRACE_SECONDS", 0.2)
    assert claims.deal(small.id, "a", every[4:], 2, keep=every[3:4]) == every[4:6]
    assert claims.deal(small.id, "b", every, 1) == every[6:7]  # a label of theirs may be on its way
    assert claims.held_by_others(small.id, "a") == 1  # what it has given back itself is with nobody else
    time.sleep(0.25)
    assert claims.deal(small.id, "b", every, 4, keep=every[6:7]) == [*every[1:3], *every[6:8]]


def unlabelled(made: Dataset) -> list[str]:
    """All of its images, after their labels were taken away."""
    every = [i.id for i in store.all_images(made.id)]
    give(made, every, None)
    return every


def test_two_sessions_never_hold_the_same_image(small: Dataset) -> None:
    every = unlabelled(small)
    first = claims.deal(small.id, "a", every, 5)
    assert first == every[:5] and claims.deal(small.id, "a", every, 5, keep=first) == first
    assert claims.deal(small.id, "b", every, 5) == every[5:10]
    claims.release(small.id, "a")
    assert claims.deal(small.id, "b", every, 3) == first[:3]


def test_what_a_session_has_given_back_it_gets_again_at_once(small: Dataset) -> None:
    every = unlabelled(small)
    assert claims.deal(small.id, "a", every, 3) == every[:3] and claims.held_by_others(small.id, "a") == 0
    assert claims.deal(small.id, "a", every[3:], 1) == every[3:4] and claims.held_by_others(small.id, "a") == 0
    assert claims.deal(small.id, "a", every, 4) == every[:4]
    assert claims.held_by_others(small.id, "b") == 4


def test_sessions_that_ask_at_once_get_different_images(small: Dataset) -> None:
    every = unlabelled(small)
    got: dict[str, list[str]] = {}

    def ask(session: str) -> None:
        got[session] = claims.deal(small.id, session, every, 3)

    threads = [threading.Thread(target=ask, args=(f"s{i}",)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(i for mine in got.values() for i in mine) == sorted(every)


def test_what_was_dealt_to_somebody_who_left_is_dealt_again_unless_renewed(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    every = unlabelled(small)
    monkeypatch.setattr(claims, "CLAIM_SECONDS", 1)
    gone = claims.deal(small.id, "gone", every, 2)
    claims.deal(small.id, "here", every, 2)
    monkeypatch.setattr(claims, "CLAIM_SECONDS", 60)
    claims.renew(small.id, "here")
    time.sleep(1.05)
    assert claims.deal(small.id, "new", every, 4) == gone + every[4:6]


@pytest.mark.parametrize("jump", [86_400, -86_400])
def test_a_clock_that_jumps_keeps_nothing_from_others(small: Dataset, monkeypatch: pytest.MonkeyPatch, jump: int) -> None:
    every, now = unlabelled(small), time.time()
    mine = claims.deal(small.id, "a", every, 3)
    monkeypatch.setattr(time, "time", lambda: now + jump)
    assert claims.held_by_others(small.id, "b") == 0 and claims.deal(small.id, "b", every, 3) == mine


def test_a_server_whose_clock_is_a_little_behind_takes_nothing_away(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    every, now = unlabelled(small), time.time()
    mine = claims.deal(small.id, "a", every, 3)
    monkeypatch.setattr(time, "time", lambda: now - servers.MOST_APART + 1)
    assert not set(claims.deal(small.id, "b", every, 3)) & set(mine) and claims.held_by_others(small.id, "b") == 3
