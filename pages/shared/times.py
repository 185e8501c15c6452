"""Times as people say them: in the zone of whoever looks, which is named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import streamlit as st

RECENT = timedelta(hours=1)


def zone() -> tzinfo:
    """The viewer's time zone as the browser names it; UTC where it names none that is known here."""
    try:
        return ZoneInfo(st.context.timezone or "UTC")
    except (KeyError, ValueError, OSError):  # KeyError: ZoneInfoNotFoundError is one
        return UTC


def now() -> datetime:
    return datetime.now(zone())


def when(at: str) -> str:
    """A time in a sentence: 5 minutes ago, today 14:05 CET, 3 Nov 2026 14:05 CET."""
    then, current = _local(at), now()
    passed = current - then
    if timedelta(0) <= passed < RECENT:
        minutes = int(passed.total_seconds() // 60)
        return "just now" if not minutes else f"{minutes} minute{'' if minutes == 1 else 's'} ago"
    days = (current.date() - then.date()).days
    day = {0: "today", 1: "yesterday"}.get(days, _day(then))
    return f"{day} {then:%H:%M} {_zone_of(then)}"


def stamp(at: str) -> str:
    """The same where the words must not change from one minute to the next, as in a choice: 3 Nov 2026 14:05 CET."""
    then = _local(at)
    return f"{_day(then)} {then:%H:%M} {_zone_of(then)}"


def column(at: str) -> str:
    """A time in a table, which sorts as it is written; the column's title names the zone."""
    return f"{_local(at):%Y-%m-%d %H:%M}"


def zone_title() -> str:
    """The zone's name in such a title: Europe/Berlin."""
    return str(zone())


def _local(at: str) -> datetime:
    then = datetime.fromisoformat(at)
    return (then if then.tzinfo else then.replace(tzinfo=UTC)).astimezone(zone())


def _day(then: datetime) -> str:
    return f"{then.day} {then:%b %Y}"


def _zone_of(then: datetime) -> str:
    """CET, or UTC−3 where the zone's hours have no name."""
    name = then.tzname() or ""
    if name.isalpha():
        return name
    minutes = round((then.utcoffset() or timedelta()).total_seconds() / 60)
    return f"UTC{'−' if minutes < 0 else '+'}{abs(minutes) // 60}" + (f":{abs(minutes) % 60:02}" if minutes % 60 else "")
