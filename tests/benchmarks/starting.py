"""From the click to the result of a run, side by side in one run: python tests/benchmarks/starting.py [--images N] [--rounds N].

The same frozen EfficientNet-Lite0 with another learning rate, in a fork of the process that has PyTorch loaded and in a process that
begins from nothing; before them once for the first time, and once on a second dataset. And what a run holds that waits its turn.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from core.data import imports, sources, store
from core.ml import turns
from core.runs import launch, runs
from core.train import train
from tests.benchmarks.reading import photos


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


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--images", type=int, default=400)
    ask.add_argument("--rounds", type=int, default=5)
    given = ask.parse_args()
    files = photos(2 * given.images)
    launchers = {"forked": launch.LocalLauncher(launch._forks), "from nothing": launch.LocalLauncher()}
    took: dict[str, list[float]] = {name: [] for name in launchers}
    held: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as home:
        os.environ["LOUPE_HOME"] = home
        first = dataset("first", Path(home) / "in-1", files[: given.images])
        second = dataset("second", Path(home) / "in-2", files[given.images :])
        launch.expect_run()
        while launch._forks.fork(launch.python("core.ml.turns"), Path(os.devnull)) is None:
            time.sleep(0.1)
        print(f"{given.images} photos of 400 × 534, {psutil.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, seconds on the clock")
        print(f"  the first run: {seconds(first, 0.001):.1f} · on a second dataset, without an export: {seconds(second, 0.001):.1f}")
        for turn in range(given.rounds):
            for number, (name, launcher) in enumerate(launchers.items()):
                launch.launcher = launcher
                took[name].append(seconds(first, 0.002 + 0.0001 * (2 * turn + number)))
        for number, (name, launcher) in enumerate(launchers.items()):
            launch.launcher = launcher
            held[name] = waiting(first, 0.005 + 0.0001 * number)
        launch.close()
    for name, found in took.items():
        middle = statistics.median(found)
        print(f"  another learning rate, {name}: {middle:.1f} ({min(found):.1f} to {max(found):.1f}); waiting it holds {held[name]:.0f} MB")
    print(f"  forked is {statistics.median(took['from nothing']) / statistics.median(took['forked']):.1f} x; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
