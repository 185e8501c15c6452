"""Twenty people who have signed in and label at once, then decide at once, through the server."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from core.data import people, queue, schema
from core.people import sessions
from core.settings import settings
from tests.browser.conftest import Server
from tests.ports import free_port
from tests.postgres import Cluster
from tests.reliability import acts, homes
from tests.reliability.row import Row
from tests.reliability.server import lost

PEOPLE = 20
IMAGES = 100  # of each
PAUSE = 0.3  # s between two acts of one person; 66 acts a second of all
LIMIT = 300  # ms, of 19 in 20 answers


def worked(home: Path, each: int, url: str, row: Row) -> str:
    """Figures of one database, of so many labels and decisions of each person."""
    with homes.moved_in(home, url=url), pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOUPE_SIGN_IN", "accounts")
        settings.cache_clear()
        made = acts.dataset(PEOPLE * IMAGES, PEOPLE * each)
        items = [one.id for one in queue.browse(made, queue.Which(), limit=PEOPLE * each)]
        tokens = [sessions.begin(people.add(f"person {i}", "moderator", "accounts"), "accounts", "") for i in range(2 * PEOPLE)]
        schema.engine().dispose()
        server = Server(home, free_port())
        server.start()
        name, stop = "PostgreSQL" if url else "SQLite", Event()
        labelling, deciding = (
            [acts.Person(first + i, server.port, made, stop, each, PAUSE, tokens[first + i]) for i in range(PEOPLE)]
            for first in (0, PEOPLE)
        )
        ways: list[tuple[str, list[acts.Person], Callable[[acts.Person], None]]] = [
            ("labels", labelling, lambda p: p.label([f"{p.number * IMAGES + i:016x}" for i in range(IMAGES)])),
            ("decisions", deciding, lambda p: p.decide(items[p.number - PEOPLE :: PEOPLE])),
        ]
        figures = []
        try:
            for what, team, work in ways:
                began = time.monotonic()
                with ThreadPoolExecutor(PEOPLE) as pool:
                    list(pool.map(work, team))
                taken = np.array([t for p in team for t in p.taken]) * 1000
                late = float(np.quantile(taken, 0.95))
                row.check(late < LIMIT, f"{name}: one answer in twenty to {what} takes more than {late:.0f} ms")
                pace = len(taken) / (time.monotonic() - began)
                figures.append(f"{pace:.0f} {what}/s, p95 {late:.0f} ms of {LIMIT} allowed, worst {taken.max():.0f} ms")
        finally:
            server.stop()
        rows = acts.stored()
        for said in [f"{p.number}-{i}" for p in labelling for i in range(each)] + [
            f"decision {i % PEOPLE + PEOPLE}-{items[i]}" for i in range(PEOPLE * each)
        ]:
            row.check(rows[said] == 1, f"{name}: act {said} is there {rows[said]} times")
        everybody = [*labelling, *deciding]
        row.check(not (odd := [e for p in everybody for e in p.errors]), f"{name}: {len(odd)} errors, such as {odd[:1]}")
        row.check(not (problem := acts.integrity()), f"{name}: {problem}")
        if not url:
            row.control_check(not lost([*everybody, acts.Person(99, 0, made, Event(), acknowledged=["99-0"])]))
        schema.engine().dispose()
        return f"{name} {', '.join(figures)}"


def trial(home: Path, acts_of_each: int) -> Row:
    row, each = Row(control="an act that was never sent"), max(1, acts_of_each // 2)
    figures = [worked(home, each, "", row)]
    try:
        cluster = Cluster(options=())
    except BaseException as e:  # pytest.skip, where it is not installed
        figures.append(f"PostgreSQL not tried: {e}")
    else:
        try:
            figures.append(worked(home.parent / "postgresql", each, cluster.create("load"), row))
        finally:
            cluster.remove()
    row.figures = "; ".join(figures)
    return row
