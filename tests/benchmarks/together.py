"""Twenty people at once, through the server, on SQLite and on PostgreSQL: python -m tests.benchmarks.together [label|decide] [--seconds N].

Each person presses a key every PAUSE seconds on average. Who labels asks for what others did as often as the page does; who decides in
Review is dealt pictures ahead as the page is. A time is that from the key to the answer that the label or decision is stored. The
databases take turns; both write through to the disk, PostgreSQL as it is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from core.api import signing
from core.data import decisions, images, policies, queue, schema, uploads
from core.review import policy
from core.review.bands import Limits
from tests.benchmarks.writing import IMAGES, WRITERS, dataset
from tests.browser.conftest import Server
from tests.conftest import forget
from tests.ports import free_port
from tests.postgres import Cluster

PAUSE = 0.5  # s
POLL = 1.5  # s, as in assets/common/outbox.js
ROUNDS = 3
AHEAD = 12  # pictures at hand, as in pages/parts/review/queue.py
LIMIT = 300  # ms


def asker(number: int, port: int) -> Callable[..., dict[str, Any]]:
    """Asks the server as one person over one connection: (method, path, body) to what it answers."""
    headers = {"X-Loupe-Token": signing.token(f"person {number}"), "Content-Type": "application/json"}
    line = HTTPConnection("localhost", port)

    def ask(method: str, path: str, body: str | None = None) -> dict[str, Any]:
        line.request(method, path, body, headers)
        answer = line.getresponse()
        said = answer.read()
        assert answer.status == 200, said
        return dict(json.loads(said))

    return ask


def person(number: int, made: int, port: int, seconds: float, begin: threading.Barrier) -> list[float]:
    """Seconds that each of this person's labels took to be stored."""
    chance, ask, newest = random.Random(number), asker(number, port), -1
    taken: list[float] = []
    seen = {f"{number * IMAGES + i:016x}": 0 for i in range(IMAGES)}

    begin.wait()
    end = time.monotonic() + seconds
    polled = time.monotonic() + chance.random() * POLL
    while time.monotonic() < end:
        time.sleep(chance.uniform(0.5, 1.5) * PAUSE)
        if time.monotonic() > polled:
            newest = int(str(ask("GET", f"/api/changes?dataset={made}&after={newest}")["seq"]))
            polled = time.monotonic() + POLL
        image = f"{number * IMAGES + len(taken) % IMAGES:016x}"
        act = {
            "operation": f"{number}-{len(taken)}",
            "dataset_id": made,
            "seen": {image: seen[image]},
            "label": ("cat", "dog")[len(taken) % 2],
        }
        before = time.monotonic()
        seqs = ask("POST", "/api/label", json.dumps(act))["seqs"]
        taken.append(time.monotonic() - before)
        assert isinstance(seqs, dict)
        seen[image] = seqs[image]
    return taken


def moderator(number: int, made: int, port: int, seconds: float, begin: threading.Barrier) -> list[float]:
    """Seconds that each of this person's decisions took to be stored; every other one is a correction, the rest fit no class."""
    chance, ask = random.Random(number), asker(number, port)
    taken: list[float] = []
    hand: list[int] = []
    where = {"dataset_id": made, "session": f"page {number}"}

    def review(path: str, **body: object) -> dict[str, Any]:
        return ask("POST", f"/api/review/{path}", json.dumps({**where, **body}))

    begin.wait()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if len(hand) < AHEAD // 2:
            hand += [one["id"] for one in review("deal", count=AHEAD - len(hand), keep=hand)["items"]]
        time.sleep(chance.uniform(0.5, 1.5) * PAUSE)
        verdict = {"verdict": "corrected", "label": "dog"} if len(taken) % 2 else {"verdict": "rejected"}
        before = time.monotonic()
        review("decide", id=hand.pop(0), operation=f"{number}-{len(taken)}", seconds=PAUSE, **verdict)
        taken.append(time.monotonic() - before)
    return taken


def waiting(made: int) -> None:
    """Pictures that wait under a policy, enough for all."""
    rules = policy.as_json(policy.Rules({"dog": Limits(0.2, 0.9)}, salt="benchmark"))
    ruled, picture = policies.write(made, "run", "Benchmark", rules, "tester"), images.png(np.zeros((8, 8, 3), np.uint8))
    rows = []
    for i in range(4000):
        image_id = images.image_id(str(i).encode())
        images.store_original(uploads.pictures(), f"{image_id}.png", picture)
        said = {"predicted": "cat", "probability": 0.5 + i / 10_000, "probabilities": {"cat": 0.6, "dog": 0.4}, "risk": 0.4, "band": "ask"}
        kept = {"image_id": image_id, "ext": "png", "name": f"{i}.png", "by": "tester", "policy_id": ruled.id}
        rows.append({"dataset_id": made, "run_id": "run", "state": "waiting", **said, **kept})
    assert queue.add(rows).count("new") == len(rows)


def ready(url: str) -> bool:
    try:
        return bool(urllib.request.urlopen(f"{url}/readyz", timeout=10).status == 200)
    except OSError:
        return False


def measured(act: str, home: Path, url: str, seconds: float) -> list[float]:
    home.mkdir()
    forget()
    os.environ |= {"LOUPE_HOME": str(home), "LOUPE_DATABASE_URL": url}
    made = dataset()
    if act == "decide":
        waiting(made)
    schema.engine().dispose()
    server = Server(home, free_port())
    server.start()
    try:
        while act == "decide" and not ready(server.url):  # a first picture waits for the model worker, whoever decides on it
            time.sleep(0.2)
        begin = threading.Barrier(WRITERS)
        with ThreadPoolExecutor(WRITERS) as pool:
            people = [pool.submit(moderator if act == "decide" else person, i, made, server.port, seconds, begin) for i in range(WRITERS)]
            found = [one for each in people for one in each.result()]
        if act == "decide":
            stored = decisions.made(made)
            assert len({(item.id, one.by) for one, item in stored}) == len(stored) == len(found), "0 lost, 0 double"
        return found
    finally:
        server.stop()


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("act", nargs="?", choices=("label", "decide"), default="label")
    ask.add_argument("--seconds", type=float, default=20)
    args = ask.parse_args()
    act, seconds = args.act, args.seconds
    cluster = Cluster(options=())
    found: dict[str, list[float]] = {"SQLite": [], "PostgreSQL": []}
    load = [psutil.getloadavg()[0]]
    try:
        with tempfile.TemporaryDirectory() as folder:
            for turn in range(ROUNDS):
                for name, times in found.items():
                    home = Path(folder) / f"{name}-{turn}"
                    times += measured(act, home, "" if name == "SQLite" else cluster.create(home.name), seconds)
                    load.append(psutil.getloadavg()[0])
            forget()
    finally:
        cluster.remove()
    for name, times in found.items():
        rate = len(times) / (seconds * ROUNDS)
        half, most = (1000 * float(np.quantile(times, q)) for q in (0.5, 0.95))
        print(f"{name}: {rate:.0f} a second, median {half:.0f} ms, p95 {most:.0f} ms, worst {1000 * max(times):.0f} ms; limit {LIMIT} ms")
    print(f"load of the machine: {min(load):.1f} to {max(load):.1f} on {psutil.cpu_count()} cores")


if __name__ == "__main__":
    main()
