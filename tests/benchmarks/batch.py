"""Prediction of many pictures in the background: how its memory grows and its pace beside the network's own: python tests/benchmarks/batch.py.

A linear network on 10,000 pictures of 8 × 8 shows what each picture leaves behind; a large one shows whether reading keeps up.
The network's own pace is that of its answers to arrays that are in memory already, measured before and after each batch: their load is
the same, more or less, and the median of the rounds is told.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from core.data import images, imports, sources, store, uploads
from core.ml import infer
from core.review import batch
from core.runs import jobs, launch, runs
from core.settings import settings
from core.train import train

ROUNDS = 3
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


def own_pace(run_id: str, seconds: float = 5) -> float:
    """Pictures per second of the network alone."""
    found = infer.loaded(str(runs.folder(run_id)))
    file = next(uploads.pictures().iterdir())
    some = [(dict[str, Any](), infer.read(str(file), found.preprocess)) for _ in range(infer.BATCH)]
    infer._answer(found, some)
    n, begun = 0, time.monotonic()
    while time.monotonic() < begun + seconds:
        infer._answer(found, some)
        n += len(some)
    return n / (time.monotonic() - begun)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--pictures", type=int, default=10_000)
    ask.add_argument("--large", default="resnet18", help="the network whose pace is measured, on a tenth of the pictures")
    args = ask.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["LOUPE_HOME"] = home
        imports.import_now("digits", sources.named("sample"), "tester")
        made = store.list_datasets()[0].id
        for name, n, side in (("linear", args.pictures, 8), (args.large, args.pictures // 10, 256)):
            run = train.start(made, {"architecture": name, "epochs": 1, "pretrained": False, "freeze": False}, "tester")
            assert train.wait(run.id).status == "succeeded", train.log_tail(run.id)
            settings().roots[0].mkdir(parents=True, exist_ok=True)
            shares = []
            for turn in range(1 if name == "linear" else ROUNDS):
                before = own_pace(run.id) if turn else 0.0  # there are no pictures before the first
                took, seen = answered(made, run.id, zipped(settings().roots[0] / f"{name}-{turn}.zip", n, side, turn))
                alone = own_pace(run.id)
                shares.append(n / took / (0.5 * (before + alone) if turn else alone))
            half = len(seen) // 2
            grown = float(np.median(seen[-half // 2 :]) - np.median(seen[half // 2 : half]))
            print(
                f"{name}: {n:,} pictures in {took:.0f} s, {n / took:.0f} a second, the network alone {alone:.0f}: "
                f"{np.median(shares):.2f} of it ({min(shares):.2f} to {max(shares):.2f}); "
                f"memory at a quarter {seen[len(seen) // 4]:.0f} MB, at the end {seen[-1]:.0f} MB, {grown:+.0f} MB from half to half",
                flush=True,
            )
        launch.close()


if __name__ == "__main__":
    main()
