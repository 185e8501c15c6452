"""What a tab has asked for ends with the tab, and not before."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.explain import explain
from pages.shared import closed


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Sessions whose tab is open; no thread looks for them."""
    found = {"mine", "other"}
    monkeypatch.setattr(closed, "_asked", {})
    monkeypatch.setattr(closed.threading, "Thread", lambda **_: SimpleNamespace(start=lambda: None))
    monkeypatch.setattr(closed.runtime, "exists", lambda: True)
    monkeypatch.setattr(closed.runtime, "get_instance", lambda: SimpleNamespace(is_active_session=found.__contains__))
    monkeypatch.setattr(closed.time, "monotonic", lambda: 0.0)
    return found


def asked(session: str, monkeypatch: pytest.MonkeyPatch) -> Future[Any]:
    future: Future[Any] = Future()
    monkeypatch.setattr(closed, "get_script_run_ctx", lambda **_: SimpleNamespace(session_id=session))
    closed.follow(explain.Asked("run", "image", "saliency", {}, Path("map.npz"), future, "token"))
    return future


def test_a_question_ends_a_while_after_its_tab_and_those_of_open_tabs_go_on(there: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = asked("mine", monkeypatch), asked("other", monkeypatch)
    closed.look(100.0)
    there.remove("mine")
    closed.look(100.0 + closed.AWAY)  # it may only have lost its connection
    assert not mine.cancelled()
    closed.look(100.1 + closed.AWAY)
    assert mine.cancelled() and not other.cancelled()
    closed.look(1000.0)
    assert not other.cancelled()


def test_a_tab_that_comes_back_in_time_keeps_its_question(there: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    mine = asked("mine", monkeypatch)
    there.remove("mine")
    closed.look(closed.AWAY - 1)
    there.add("mine")
    closed.look(closed.AWAY + 1)
    there.remove("mine")
    closed.look(2 * closed.AWAY)
    assert not mine.cancelled()
    mine.set_result(None)
    closed.look(9 * closed.AWAY)
    assert not closed._asked
