"""Verifying and searching an audit of a million entries, in SQLite: python -m tests.benchmarks audit.

The entries are label acts of twenty people on 50,000 images, two images each, with a decision in Review every tenth time.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import rfc8785

from core.data import audit, schema
from core.data.audit import Which
from core.settings import settings
from tests.benchmarks.rows import Row, in_turns, seconds

ENTRIES = 1_000_000
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
AT_ONCE = 20_000
SEARCHES = {
    "by nothing, page 1": (Which(), 1),
    "by nothing, page 9,000": (Which(), 9000),
    "by person": (Which(by="person 7"), 1),
    "by kind": (Which(kind="review.decide"), 1),
    "by time": (Which(since="2026-03-01", until="2026-03-02"), 1),
    "by image": (Which(image=f"{123:016x}"), 1),
    "by person, kind and time": (Which("person 7", "label", "2026-02-01", "2026-06-01"), 200),
}


def _write() -> None:
    """As core.data.audit.record chains them, without asking for the last one before each."""
    previous = ""
    for start in range(1, ENTRIES + 1, AT_ONCE):
        rows: list[dict[str, Any]] = []
        images = []
        for seq in range(start, min(start + AT_ONCE, ENTRIES + 1)):
            kind, ids = "label" if seq % 10 else "review.decide", [f"{seq * step % 50_000:016x}" for step in (1, 7)]
            at = (FIRST + timedelta(seconds=15 * seq)).isoformat(timespec="milliseconds")
            row: dict[str, Any] = {"seq": seq, "at": at, "by": f"person {seq % 20}", "kind": kind}
            said: dict[str, Any] = {
                "on": {"dataset": 1, "images": ids},
                "before": {"label": None},
                "after": {"label": "cat"},
                "previous": previous,
            }
            entry = rfc8785.dumps({**row, **said})
            previous = audit._sha256(entry)
            rows.append({**row, "entry": entry.decode(), "hash": previous})
            images += [{"seq": seq, "image_id": one} for one in dict.fromkeys(ids)]
        with schema.writing() as c:
            c.execute(schema.audit.insert(), rows)
            c.execute(schema.audit_images.insert(), images)


def _verify() -> float:
    def work() -> None:
        found = audit.verify()
        assert found.broken is None and found.entries == ENTRIES, found

    return seconds(work)


def measure() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as home:
        os.environ["LOUPE_HOME"] = home
        settings.cache_clear()
        schema.engine.cache_clear()
        _write()
        n = f"{ENTRIES:,} entries"
        yield Row("verifying the audit", n, "under 60 s", "s", in_turns({"Loupe": _verify}, 3))
        for name, (which, page) in SEARCHES.items():
            assert audit.search(which, page, 100)[0], name
            ways = {"Loupe": lambda which=which, page=page: seconds(lambda: audit.search(which, page, 100))}  # type: ignore[misc]
            yield Row(f"searching the audit {name}", n, "under 1 s", "s", in_turns(ways))
