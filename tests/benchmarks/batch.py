"""Prediction of many pictures in the background: how its memory grows, and its pace beside the network's own: python -m tests.benchmarks batch.

A linear network on 10,000 pictures of 8 × 8 shows what each picture leaves behind; a large one shows whether reading keeps up.
The network's own pace is that of its answers to arrays that are in memory already, in the very worker that answers the batches, before
and after each of them. Wanted is 0.9 of it by the clock on a machine that does nothing else; by CPU a busy one tells it, too.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from core.data import images, imports, sources, store
from core.ml import infer
from core.review import batch
from core.runs import jobs, launch, runs
from core.settings import settings
from core.train import train
from tests.benchmarks.rows import REPEATS, Row
from tests.conftest import forget

MANY, SMALL = 10_000, 8  # pictures, pixels wide
LARGE, SIDE = "resnet18", 256
ALONE = 10.0  # s of the network alone, between two batches of about as long
EVERY = 0.5  # s between two looks at the memory


def zipped(path: Path, n: int, side: int, seed: int) -> Path:
    """So many different pictures: soft shapes, so that they are as quick to decode as photos are."""
    noise = np.random.default_rng(seed)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as z:
        for i in range(n):
            coarse = noise.integers(0, 256, (8, 8), np.uint8)
            z.writestr(f"{i:05}.png", images.png(coarse.repeat(side // 8, 0).repeat(side // 8, 1)))
    return path


def memory() -> float:
    """MB of this process and its workers."""
    here = psutil.Process()
    return sum(one.memory_info().rss for one in (here, *here.children(recursive=True))) / 1e6


def answered(dataset_id: int, run_id: str, path: Path) -> tuple[float, list[float]]:
    """Seconds that a batch takes, and the memory while it goes on."""
    seen, over = [memory()], threading.Event()

    def look() -> None:
        while not over.wait(EVERY):
            seen.append(memory())

    job = {"dataset_id": dataset_id, "runs": [run_id], "source": sources.at(path).as_dict(), "by": "tester", "how": "zip", "watch": False}
    folder = settings().answers / path.stem
    folder.mkdir(parents=True)
    runs.write_json(folder / "job.json", job)
    watching = threading.Thread(target=look)
    watching.start()
    begun = time.monotonic()
    jobs.run(folder, batch.PREDICT)
    took = time.monotonic() - begun
    over.set()
    watching.join()
    state = jobs.state(folder, batch.PREDICT)
    assert state.status == "done", state
    return took, seen


def own_pace(run_folder: str, seconds: float) -> int:
    """How many pictures the network answers in so long, in the process that this is called in."""
    found = infer.loaded(run_folder)
    file = next(settings().images.rglob("*.png"))
    some = [(dict[str, Any](), infer.read(str(file), found.preprocess)) for _ in range(infer.BATCH)]
    n, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        infer._answer(found, some)
        n += len(some)
    return n


@dataclass(frozen=True)
class Pace:
    """Pictures per second by the clock, and per second of CPU of this process and its workers."""

    clock: float
    cpu: float


def paid() -> float:
    """CPU seconds of this process and its workers."""
    here = psutil.Process()
    return sum(t.user + t.system for t in (one.cpu_times() for one in (here, *here.children(recursive=True))))


def alone(run_id: str) -> Pace:
    """Of the network in the worker."""
    before, begun = paid(), time.monotonic()
    n = launch.ask(own_pace, str(runs.folder(run_id)), ALONE)
    return Pace(n / (time.monotonic() - begun), n / (paid() - before))


def shares(batches: list[float], own: list[float]) -> list[float]:
    """Each batch beside the mean of the network's paces before and after it."""
    return [rate / (0.5 * (a + b)) for rate, (a, b) in zip(batches, pairwise(own), strict=True)]


def trained(dataset_id: int, name: str, size: int) -> str:
    """A run that is loaded in the worker."""
    shown = {"image_size": size, "pretrained": False, "freeze": False}
    run = train.start(dataset_id, {"architecture": name, "epochs": 1, **shown}, "tester")
    assert train.wait(run.id).status == "succeeded", train.log_tail(run.id)
    launch.ask(own_pace, str(runs.folder(run.id)), 1.0)  # loads what is loaded once
    return run.id


def measure() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as home:
        os.environ["LOUPE_HOME"] = home
        forget()
        zipped(Path(home) / "few.zip", 40, SIDE, 99)
        with zipfile.ZipFile(Path(home) / "few.zip") as z:
            for i, name in enumerate(z.namelist()):
                z.extract(name, Path(home) / "few" / "ab"[i % 2])
        imports.import_now("few", sources.at(Path(home) / "few"), "tester")
        made = store.list_datasets()[0].id
        settings().roots[0].mkdir(parents=True, exist_ok=True)

        run_id, path = trained(made, "linear", SMALL), zipped(settings().roots[0] / "small.zip", MANY, SMALL, 0)
        took, seen = answered(made, run_id, path)
        half = len(seen) // 2
        grown = float(np.median(seen[-half // 2 :]) - np.median(seen[half // 2 : half]))
        many = f"{MANY:,} pictures of {SMALL} × {SMALL}, a linear network"
        yield Row("a batch, memory from half to half", many, "flat", "MB", {"Loupe": [grown]})
        yield Row("a batch", many, "", "images/s", {"Loupe": [MANY / took]})

        run_id = trained(made, LARGE, 224)
        own, batches = [alone(run_id)], list[Pace]()
        n = round(own[0].clock * ALONE)
        for turn in range(REPEATS):
            path, before = zipped(settings().roots[0] / f"large-{turn}.zip", n, SIDE, turn), paid()
            took, _ = answered(made, run_id, path)
            batches.append(Pace(n / took, n / (paid() - before)))
            own.append(alone(run_id))
        each = f"{n:,} pictures of {SIDE} × {SIDE}, {LARGE} at 224"
        pace = {"Loupe": [one.clock for one in batches], "the network alone, of arrays in memory": [one.clock for one in own]}
        yield Row("a batch", each, "0.9 of the network alone", "images/s", pace)
        for by in ("clock", "cpu"):
            rates, paces = ([getattr(one, by) for one in some] for some in (batches, own))
            yield Row(f"a batch, by {by}, of the network's pace before and after it", each, "0.9", "of it", {"Loupe": shares(rates, paces)})
        launch.close()
