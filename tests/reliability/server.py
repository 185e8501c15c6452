"""The server killed while four people label and two decide, whose network drops some of its answers."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from threading import Event, Thread

import sqlalchemy as sa

from core.data import queue, schema
from tests.browser.conftest import Server
from tests.ports import free_port
from tests.reliability import acts, homes
from tests.reliability.row import Row

LABELLERS, DECIDERS = 4, 2
IMAGES = 50  # of each
WAITING = 4000
DROPS = 0.1  # of the answers, which nobody hears
LIFE = 1.5  # s at most from its first answer to its death


def lost(people: list[acts.Person]) -> list[str]:
    """Acts that were acknowledged and are not there once, and others that are there twice."""
    rows = acts.stored()
    said = [operation for one in people for operation in one.acknowledged]
    missing = [f"“{one}” is there {rows[one]} times" for one in said if rows[one] != 1]
    return missing + [f"“{one}” is there {n} times" for one, n in rows.items() if n > 1]


def trial(home: Path, n: int) -> Row:
    row, chance = Row(control="an acknowledged act taken out of the database"), random.Random(1)
    with homes.moved_in(home):
        made = acts.dataset(LABELLERS * IMAGES, WAITING)
        items = [one.id for one in queue.browse(made, queue.Which(), limit=WAITING)]
        schema.engine().dispose()
        server, stop, bodies = Server(home, free_port()), Event(), []
        people = [acts.Person(i, server.port, made, stop, drops=DROPS, chance=random.Random(i)) for i in range(LABELLERS + DECIDERS)]
        threads = [Thread(target=p.label, args=([f"{p.number * IMAGES + i:016x}" for i in range(IMAGES)],)) for p in people[:LABELLERS]]
        threads += [Thread(target=p.decide, args=(items[p.number - LABELLERS :: DECIDERS],)) for p in people[LABELLERS:]]
        for thread in threads:
            thread.start()
        restarts = []
        for kill in range(n):
            began = time.monotonic()
            server.start()
            restarts.append(time.monotonic() - began)
            time.sleep(chance.random() * LIFE)
            assert server.process is not None
            bodies += homes.family(server.process.pid)
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait()
            wrong = lost_since(people, acts.integrity())
            row.check(not wrong, f"kill {kill}: {wrong}")
        stop.set()
        for thread in threads:
            thread.join()
        for problem in lost(people):
            row.check(False, problem)
        row.check(not (left := homes.litter(home)), f"left behind: {left}")
        row.check(homes.until(lambda: homes.gone(bodies), 20), "processes of a dead server live on")
        row.check(not (odd := [e for p in people for e in p.errors]), f"errors: {odd[:3]}")
        count = sum(len(p.acknowledged) for p in people)
        row.figures = f"{count:,} of {count:,} acknowledged acts there once, {sum(p.unheard for p in people):,} answers lost on their way; back within {max(restarts[1:]):.1f} s"
        schema.engine().dispose()
        shutil.copytree(home, copy := home.parent / "control")
    with homes.moved_in(copy):
        one = people[0].acknowledged[-1]
        with schema.writing() as c:
            c.execute(sa.delete(schema.label_events).where(schema.label_events.c.operation == one))
        row.control_check(not lost(people))
    return row


def lost_since(people: list[acts.Person], integrity: str) -> str:
    """Looked at between a death and the next start: what was answered until then must be there."""
    said = {operation for one in people for operation in list(one.acknowledged)}
    missing = said - acts.stored().keys()
    schema.engine().dispose()
    return integrity or (f"{len(missing)} acts are missing" if missing else "")


if __name__ == "__main__":
    print(trial(Path(sys.argv[1]), int(sys.argv[2])))
