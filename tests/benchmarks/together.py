"""Twenty people who label at once, through the server, on SQLite and on PostgreSQL: python tests/benchmarks/together.py [--seconds N].

Each person presses a key every PAUSE seconds on average and asks for what others did as often as the page does. A time is that from
the key to the answer that the label is stored. The databases take turns; both write through to the disk, PostgreSQL as it is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from core.api import signing
from core.data import schema
from tests.benchmarks.writing import IMAGES, WRITERS, dataset
from tests.browser.conftest import Server
from tests.conftest import forget
from tests.postgres import Cluster

PAUSE = 0.5  # s
POLL = 1.5  # s, as in assets/common/outbox.js
ROUNDS = 3
LIMIT = 300  # ms


def person(number: int, made: int, port: int, seconds: float, begin: threading.Barrier) -> list[float]:
    """Seconds that each of this person's labels took to be stored."""
    headers = {"X-Loupe-Token": signing.token(f"person {number}"), "Content-Type": "application/json"}
    chance, line, newest = random.Random(number), HTTPConnection("localhost", port), -1
    taken: list[float] = []
    seen = {f"{number * IMAGES + i:016x}": 0 for i in range(IMAGES)}

    def ask(method: str, path: str, body: str | None = None) -> dict[str, object]:
        line.request(method, path, body, headers)
        answer = line.getresponse()
        said = answer.read()
        assert answer.status == 200, said
        return dict(json.loads(said))

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


def labelled(home: Path, url: str, seconds: float) -> list[float]:
    home.mkdir()
    forget()
    os.environ |= {"LOUPE_HOME": str(home), "LOUPE_DATABASE_URL": url}
    made = dataset()
    schema.engine().dispose()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        server = Server(home, s.getsockname()[1])
    server.start()
    try:
        begin = threading.Barrier(WRITERS)
        with ThreadPoolExecutor(WRITERS) as pool:
            people = [pool.submit(person, i, made, server.port, seconds, begin) for i in range(WRITERS)]
            return [one for found in people for one in found.result()]
    finally:
        server.stop()


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--seconds", type=float, default=20)
    seconds = ask.parse_args().seconds
    cluster = Cluster(settings=())
    found: dict[str, list[float]] = {"SQLite": [], "PostgreSQL": []}
    load = [psutil.getloadavg()[0]]
    try:
        with tempfile.TemporaryDirectory() as folder:
            for turn in range(ROUNDS):
                for name, times in found.items():
                    home = Path(folder) / f"{name}-{turn}"
                    times += labelled(home, "" if name == "SQLite" else cluster.create(home.name), seconds)
                    load.append(psutil.getloadavg()[0])
            forget()
    finally:
        cluster.remove()
    for name, times in found.items():
        rate = len(times) / (seconds * ROUNDS)
        half, most = (1000 * float(np.quantile(times, q)) for q in (0.5, 0.95))
        print(f"{name}: {rate:.0f} labels/s, median {half:.0f} ms, p95 {most:.0f} ms, worst {1000 * max(times):.0f} ms; limit {LIMIT} ms")
    print(f"load of the machine: {min(load):.1f} to {max(load):.1f} on {psutil.cpu_count()} cores")


if __name__ == "__main__":
    main()
