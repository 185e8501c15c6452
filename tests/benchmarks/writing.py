"""Twenty people who label at once: Python's own SQLite beside pysqlite3's, in one run: python -m tests.benchmarks.writing [--seconds N].

Each writer is a thread of one process, as in the server, and labels its next image as soon as the label before is stored. The ways take
turns, on databases of their own on the same disk; what stands after "x" is the ratio to the first way.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from pysqlite3 import dbapi2  # type: ignore[import-not-found, import-untyped, unused-ignore]

from core.data import classes, labels, schema, store
from core.settings import settings
from core.types import Image, now

WRITERS = 20
IMAGES = 200  # of each writer
ROUNDS = 3


def dataset() -> int:
    made = store.create_dataset("cats").id
    classes.ensure(made, ["cat", "dog"])
    rows = [Image(f"{i:016x}", made, "jpg", 640, 480, 3, 90_000, "train", f"{i}.jpg", now(), 0, 0) for i in range(WRITERS * IMAGES)]
    labels.add_images(made, rows, "generator", "import")
    return made


def labelled(made: int, seconds: float) -> list[float]:
    """Seconds that each label took to be stored."""
    end, begin = time.monotonic() + seconds, threading.Barrier(WRITERS)

    def write(writer: int) -> list[float]:
        seen = {one.id: one.label_seq for one in store.get_images(made, [f"{writer * IMAGES + i:016x}" for i in range(IMAGES)])}
        begin.wait()
        taken: list[float] = []
        while time.monotonic() < end:
            image = f"{writer * IMAGES + len(taken) % IMAGES:016x}"
            before = time.monotonic()
            done = labels.apply(made, {image: seen[image]}, ("cat", "dog")[len(taken) // IMAGES % 2], f"person {writer}")
            taken.append(time.monotonic() - before)
            seen[image] = done.seqs[image]
        return taken

    with ThreadPoolExecutor(WRITERS) as pool:
        return [one for taken in pool.map(write, range(WRITERS)) for one in taken]


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--seconds", type=float, default=10)
    seconds = ask.parse_args().seconds
    ways: dict[str, Any] = {"Python's own": sqlite3, "pysqlite3": dbapi2}
    found: dict[str, list[list[float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as home:
        for turn in range(ROUNDS):
            for number, (name, used) in enumerate(ways.items()):
                os.environ["LOUPE_HOME"] = f"{home}/{turn}-{number}"
                settings.cache_clear()
                schema.engine.cache_clear()
                schema.library = lambda used=used: used  # type: ignore[misc]
                found[name].append(labelled(dataset(), seconds))
                schema.engine().dispose()
    first: tuple[float, ...] = ()
    for name, rounds in found.items():
        times = np.concatenate(rounds)
        figures = (len(times) / (seconds * ROUNDS), float(np.quantile(times, 0.95)), float(times.max()))
        first = first or figures
        rate, p95, worst = figures
        journal = "WAL" if schema.wal_is_safe(ways[name].sqlite_version_info) else "DELETE"
        print(
            f"{name} {ways[name].sqlite_version}, {journal}: {rate:.0f} labels/s ({rate / first[0]:.1f} x), "
            f"p95 {1000 * p95:.0f} ms ({p95 / first[1]:.2f} x), worst {worst:.2f} s ({worst / first[2]:.2f} x)"
        )


if __name__ == "__main__":
    main()
