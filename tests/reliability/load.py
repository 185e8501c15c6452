"""Twenty people who have signed in and label at once, through the server."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from core.data import people, schema
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


def labelled(home: Path, each: int, url: str, row: Row) -> str:
    """Figures of one database."""
    with homes.moved_in(home, url=url), pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOUPE_SIGN_IN", "accounts")
        settings.cache_clear()
        made = acts.dataset(PEOPLE * IMAGES)
        tokens = [sessions.begin(people.add(f"person {i}", "labeller", "accounts"), "accounts", "") for i in range(PEOPLE)]
        schema.engine().dispose()
        server = Server(home, free_port())
        server.start()
        team = [acts.Person(i, server.port, made, Event(), each, PAUSE, one) for i, one in enumerate(tokens)]
        began = time.monotonic()
        try:
            with ThreadPoolExecutor(PEOPLE) as pool:
                list(pool.map(lambda p: p.label([f"{p.number * IMAGES + i:016x}" for i in range(IMAGES)]), team))
        finally:
            server.stop()
        seconds = time.monotonic() - began
        name = "PostgreSQL" if url else "SQLite"
        rows = acts.stored()
        for one in team:
            for i in range(each):
                row.check(rows[f"{one.number}-{i}"] == 1, f"{name}: act {one.number}-{i} is there {rows[f'{one.number}-{i}']} times")
        row.check(not (odd := [e for p in team for e in p.errors]), f"{name}: {len(odd)} errors, such as {odd[:1]}")
        row.check(not (problem := acts.integrity()), f"{name}: {problem}")
        if not url:
            row.control_check(not lost([*team, acts.Person(99, 0, made, Event(), acknowledged=["99-0"])]))
        taken = np.array([t for p in team for t in p.taken]) * 1000
        late = float(np.quantile(taken, 0.95))
        row.check(late < LIMIT, f"{name}: one answer in twenty takes more than {late:.0f} ms")
        schema.engine().dispose()
        return f"{name} {len(taken) / seconds:.0f} acts/s, p95 {late:.0f} ms of {LIMIT} allowed, worst {taken.max():.0f} ms"


def trial(home: Path, each: int) -> Row:
    row = Row(control="an act that was never sent")
    figures = [labelled(home, each, "", row)]
    try:
        cluster = Cluster(options=())
    except BaseException as e:  # pytest.skip, where it is not installed
        figures.append(f"PostgreSQL not tried: {e}")
    else:
        try:
            figures.append(labelled(home.parent / "postgresql", each, cluster.create("load"), row))
        finally:
            cluster.remove()
    row.figures = "; ".join(figures)
    return row
