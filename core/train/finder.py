"""Finding a learning rate: a short trial in a process of its own, in a folder like that of a run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import roles
from core.catalog import params
from core.data import store
from core.errors import NotFound
from core.runs import launch, runs
from core.settings import settings
from core.train import plan
from core.types import Ended, Preparing, RunConfig, RunStatus, Snapshot, Step

STEPS, MOST_STEPS = 100, 400
IMAGES = 3000  # seen at least: with small batches that takes more steps, or their noise is all there is
KEPT = 20  # folders


@dataclass(frozen=True)
class Curve:
    """The loss while the learning rate rises."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]  # of each step's batch
    smooth: tuple[float, ...]
    suggested: float | None  # None: the loss did not fall
    images: int  # different ones that were seen


@dataclass(frozen=True)
class Find:
    id: str
    status: RunStatus
    config: RunConfig
    images: int  # that it may look at
    done: int  # steps
    message: str
    curve: Curve | None

    @property
    def active(self) -> bool:
        return self.status in runs.ACTIVE


def steps(config: RunConfig) -> int:
    return max(STEPS, min(MOST_STEPS, IMAGES // config.batch_size))


@roles.needs("train")
def start(dataset_id: int, values: Mapping[str, Any], by: str) -> str:
    """Starts a trial with the settings of a run and returns its id; its learning rate does not matter.

    It gets training images only, as many as it can look at: validation and test are not in its folder.
    """
    config = params.run_config({name: value for name, value in values.items() if name != "learning_rate"})
    whole = plan.snapshot(dataset_id, config)
    training = [row for row in whole.rows if row.split == "train"]  # in the order of their hashes: any part of them is a random sample
    snapshot = Snapshot(whole.id, whole.classes, tuple(training[: steps(config) * config.batch_size]))
    run = runs.new("Learning rate", store.get_dataset(dataset_id), config, snapshot, by)
    _tidy()
    path = _home() / run.id
    runs.create(path, run, snapshot)
    launch.launcher.start(path, launch.python("core.ml.finder", str(path), str(steps(config))))
    return run.id


def _home() -> Path:
    return settings().home / "finds"


def _tidy() -> None:
    """Removes old trials: only the last ones are looked at."""
    for path in sorted(_home().glob("*"))[: -KEPT + 1]:
        if not launch.launcher.alive(path):
            shutil.rmtree(path, ignore_errors=True)


def _folder(find_id: str) -> Path:
    path = _home() / find_id
    if not runs.ID.fullmatch(find_id) or not path.is_dir():
        raise NotFound("This trial does not exist any more.", "Find a learning rate again.")
    roles.allow("see", runs.load(path).dataset_id)
    return path


def state(find_id: str) -> Find:
    path = _folder(find_id)
    alive = launch.launcher.alive(path)  # asked first: what it wrote before it ended is then among the events
    run, history = runs.load(path), runs.events(path)
    status = runs.status(history, alive)
    last = history[-1] if history else None
    done = next((e.step for e in reversed(history) if isinstance(e, Step)), 0)
    message = ""
    if isinstance(last, Ended):
        message = last.message
    elif isinstance(last, Preparing):
        message = last.words
    elif status == "lost":
        message = "The process is gone: it was killed, or the machine restarted. Find a learning rate again."
    curve = Curve(**runs.read_json(path / "curve.json")) if status == "succeeded" else None
    return Find(find_id, status, run.config, run.counts["train"], done, message, curve)


def stop(find_id: str) -> None:
    path = _folder(find_id)
    roles.allow("train", runs.load(path).dataset_id)
    runs.request_stop(path)
