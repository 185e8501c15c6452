"""Prediction of many pictures in the background: how its memory grows and its pace beside the network's own: python tests/benchmarks/batch.py.

A linear network on 10,000 pictures of 8 × 8 shows what each picture leaves behind; a large one shows whether reading keeps up.
The network's own pace is that of its answers to arrays that are in memory already, in the very worker that answers the batches, before
and after each of them. Wanted is 0.9 of it by the clock on a machine that does nothing else; by CPU a busy one tells it, too.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
import zipfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from core.data import images, imports, sources, store
from core.ml import infer
from core.review import batch
from core.runs import jobs, launch, runs
from core.settings import settings
from core.train import train

ROUNDS = 3
ALONE = 20.0  # s of the network alone, between two batches of about as long
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


def told(by: Literal["clock", "cpu"], batches: list[Pace], own: list[Pace]) -> str:
    """Each batch beside the mean of the network's paces before and after it."""
    n, each = [getattr(one, by) for one in batches], [getattr(one, by) for one in own]
    shares = [rate / (0.5 * (a + b)) for rate, (a, b) in zip(n, pairwise(each), strict=True)]
    return (
        f"by {by} {np.median(n):.1f} a second, the network alone {np.median(each):.1f}: {np.median(shares):.2f} of it "
        f"({min(shares):.2f} to {max(shares):.2f}, n = {len(shares)})"
    )


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--pictures", type=int, default=10_000)
    ask.add_argument("--large", default="resnet18", help="the network whose pace is measured")
    args = ask.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["LOUPE_HOME"] = home
        zipped(Path(home) / "few.zip", 40, 256, 99)
        with zipfile.ZipFile(Path(home) / "few.zip") as z:
            for i, name in enumerate(z.namelist()):
                z.extract(name, Path(home) / "few" / "ab"[i % 2])
        imports.import_now("few", sources.at(Path(home) / "few"), "tester")
        made = store.list_datasets()[0].id
        for name, side in (("linear", 8), (args.large, 256)):
            shown = {"image_size": 8 if name == "linear" else 224, "pretrained": False, "freeze": False}
            run = train.start(made, {"architecture": name, "epochs": 1, **shown}, "tester")
            assert train.wait(run.id).status == "succeeded", train.log_tail(run.id)
            settings().roots[0].mkdir(parents=True, exist_ok=True)
            launch.ask(own_pace, str(runs.folder(run.id)), 1.0)  # loads what is loaded once
            own, batches = [alone(run.id)], list[Pace]()
            n = args.pictures if name == "linear" else round(own[0].clock * ALONE)
            for turn in range(1 if name == "linear" else ROUNDS):
                path = zipped(settings().roots[0] / f"{name}-{turn}.zip", n, side, turn)
                before = paid()
                took, seen = answered(made, run.id, path)
                batches.append(Pace(n / took, n / (paid() - before)))
                own.append(alone(run.id))
            half = len(seen) // 2
            grown = float(np.median(seen[-half // 2 :]) - np.median(seen[half // 2 : half]))
            print(
                f"{name}: {n:,} pictures in {took:.0f} s; {told('clock', batches, own)}; {told('cpu', batches, own)}; "
                f"memory at a quarter {seen[len(seen) // 4]:.0f} MB, at the end {seen[-1]:.0f} MB, {grown:+.0f} MB from half to half",
                flush=True,
            )
        launch.close()


if __name__ == "__main__":
    main()
