"""Times in the zone of whoever looks, named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import streamlit as st

from core.data import labels, store
from core.types import Dataset
from pages.shared import times
from tests.pages.app import opened, words


@pytest.fixture
def somewhere(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The browser says that it is there, and the clock 23:30 UTC of the 28th of November."""
    monkeypatch.setattr(type(st.context), "timezone", property(lambda _: request.param))
    clock = datetime(2026, 11, 28, 23, 30, tzinfo=UTC)
    monkeypatch.setattr(times, "now", lambda: clock.astimezone(times.zone()))


@pytest.mark.parametrize(
    ("somewhere", "at", "said"),
    [
        ("Europe/Berlin", "2026-11-28T22:15:00.000+00:00", "yesterday 23:15 CET"),  # there it is the 29th already
        ("America/New_York", "2026-11-28T06:15:00.000+00:00", "today 01:15 EST"),
        ("Europe/Berlin", "2026-07-03T10:00:00.000+00:00", "3 Jul 2026 12:00 CEST"),
        ("America/Sao_Paulo", "2026-11-03T10:00:00.000+00:00", "3 Nov 2026 07:00 UTC−3"),
        ("Asia/Kathmandu", "2026-11-03T10:00:00.000+00:00", "3 Nov 2026 15:45 UTC+5:45"),
        ("No/Where", "2026-11-03T10:00:00.000+00:00", "3 Nov 2026 10:00 UTC"),
        ("../../etc/passwd", "2026-11-03T10:00:00.000+00:00", "3 Nov 2026 10:00 UTC"),
        (None, "2026-11-03T10:00:00", "3 Nov 2026 10:00 UTC"),
        ("Europe/Berlin", "2026-11-28T23:29:30.000+00:00", "just now"),
        ("Europe/Berlin", "2026-11-28T23:28:30.000+00:00", "1 minute ago"),
        ("Europe/Berlin", "2026-11-28T22:31:00.000+00:00", "59 minutes ago"),
        ("Europe/Berlin", "2026-11-29T00:10:00.000+00:00", "today 01:10 CET"),  # of a clock that is ahead
    ],
    indirect=["somewhere"],
)
def test_a_time_is_said_in_the_viewers_zone_and_names_it(somewhere: None, at: str, said: str) -> None:
    assert times.when(at) == said


@pytest.mark.parametrize("somewhere", ["Asia/Tokyo"], indirect=True)
def test_today_in_the_history_begins_at_the_viewers_midnight(somewhere: None) -> None:
    from pages.shared import history

    since, until = history._period("Today")
    assert since and history._iso(since) == "2026-11-28T15:00:00.000+00:00" and until is None
    assert times.column("2026-11-28T23:00:00.000+00:00") == "2026-11-29 08:00" and times.zone_title() == "Asia/Tokyo"
    assert times.now() - since == timedelta(hours=8, minutes=30)


def test_the_history_says_what_happened_this_minute_as_just_now(small: Dataset) -> None:
    first = store.all_images(small.id)[0]
    labels.apply(small.id, {first.id: first.label_seq}, None, "tester")
    app = opened("dataset", dataset=small.name, view="History")
    app.query_params["view"] = "History"
    assert "just now" in words(app.run())
