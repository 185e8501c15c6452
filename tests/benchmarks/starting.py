"""From the click to the result of a run, on the clock: python -m tests.benchmarks starting.

The same frozen EfficientNet-Lite0 with another learning rate, in a fork of the process that has PyTorch loaded and in a process that
begins from nothing; before them once for the first time, and once on a second dataset, beside decoding the same files and one forward
pass. And what a run holds that waits its turn.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from core.data import imports, sources, store
from core.ml import turns
from core.runs import launch, runs
from core.train import train
from tests.benchmarks.photos import Beside, splits
from tests.benchmarks.reading import photos
from tests.benchmarks.rows import Row, in_turns

COUNT = 3000
BOUND = "decoding and one forward pass"


def dataset(name: str, folder: Path, files: list[bytes]) -> int:
    for number, data in enumerate(files):
        (folder / str(number % 2)).mkdir(parents=True, exist_ok=True)
        (folder / str(number % 2) / f"{number}.jpg").write_bytes(data)
    imports.import_now(name, sources.at(folder), "benchmark")
    found = store.find_dataset(name)
    assert found is not None
    return found.id


def seconds(dataset_id: int, rate: float) -> float:
    """Of one run, from its start to its last event."""
    begun = time.perf_counter()
    run = train.start(dataset_id, {"architecture": "efficientnet_lite0", "epochs": 10, "learning_rate": rate}, "benchmark")
    state = train.wait(run.id)
    assert state.status == "succeeded", (state.message, train.log_tail(run.id))
    return time.perf_counter() - begun


def waiting(dataset_id: int, rate: float) -> float:
    """Megabytes that a run has for itself while it waits."""
    with turns.slot_lock("cpu"):
        run = train.start(dataset_id, {"architecture": "efficientnet_lite0", "device": "cpu", "learning_rate": rate}, "benchmark")
        while train.state(run.id).status != "queued":
            time.sleep(0.1)
        held = psutil.Process(runs.read_json(runs.folder(run.id) / "handle.json")["pid"]).memory_full_info().uss
        train.stop(run.id)
        train.wait(run.id)
    return float(held / 1e6)


def measure() -> Iterator[Row]:
    files = photos(2 * COUNT)
    launchers = {"Loupe": launch.LocalLauncher(launch._forks), "a process begun from nothing": launch.LocalLauncher()}
    rates = (0.002 + 0.0001 * turn for turn in range(100))
    with tempfile.TemporaryDirectory() as home:
        os.environ["LOUPE_HOME"] = home
        first = dataset("first", Path(home) / "in-1", files[:COUNT])
        second = dataset("second", Path(home) / "in-2", files[COUNT:])
        launch.expect_run()
        while launch._forks.fork(launch.python("core.ml.turns"), Path(os.devnull)) is None:
            time.sleep(0.1)

        def by(launcher: launch.Launcher, work: Callable[[int, float], float]) -> Callable[[], float]:
            def measured() -> float:
                launch.launcher = launcher
                return work(first, next(rates))

            return measured

        n = f"{COUNT} photographs of 400 × 534, a frozen EfficientNet-Lite0, 10 epochs"
        for made, work, wanted in (
            (first, "the first run, the network exported", f"1.3 × {BOUND}"),
            (second, "a run on a second dataset", "no export again"),
        ):
            took = seconds(made, 0.001)
            (Path(home) / "splits.json").write_text(json.dumps(splits(Path(home), train.list_runs(made)[0].run.id)))
            bound = Beside(Path(home), "", "efficientnet_lite0", {"epochs": 0, "batch_size": 0}).other("bound", "")
            yield Row(work, n, wanted, "s", {"Loupe": [took], BOUND: [bound]})
        again = {name: by(launcher, seconds) for name, launcher in launchers.items()}
        yield Row("a run with another learning rate", n, "2 s", "s", in_turns(again))
        held = {name: by(launcher, waiting) for name, launcher in launchers.items()}
        yield Row("memory of a run that waits its turn", n, "under 50 MB", "MB", in_turns(held, 1))
        launch.close()
