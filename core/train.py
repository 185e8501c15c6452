"""Starting, watching and stopping runs."""

from __future__ import annotations

import logging
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

from core import catalog, launch, networks, runs, store
from core.errors import Conflict, Invalid, NotFound
from core.settings import settings
from core.types import SPLITS, Ended, EpochEnd, Preparing, Run, RunConfig, RunStatus, Snapshot, Started, Step, now

# Without a known seed two people would get two validation sets, and their figures could not be compared.
VALIDATION_SEED = 0
ACTIVE = ("pending", "queued", "running")


@dataclass(frozen=True)
class RunState:
    """A run and what its events say about it."""

    run: Run
    status: RunStatus
    epoch: int
    epochs: int
    best_epoch: int | None
    best: EpochEnd | None  # the epoch whose weights are kept
    progress: float  # 0..1
    device: str
    images_per_s: float | None
    seconds: float | None
    seconds_left: float | None
    message: str

    @property
    def active(self) -> bool:
        return self.status in ACTIVE


def plan(dataset_id: int) -> tuple[Snapshot, list[str]]:
    """The images a run would use, and what a person should know before it starts; Invalid if it cannot."""
    snapshot = store.snapshot(dataset_id, VALIDATION_SEED)
    if not snapshot.rows:
        raise Invalid("No image of this dataset carries a label.", "Label some images on the Dataset page first.")
    train = Counter(r.label for r in snapshot.rows if r.split == "train")
    if len(train) < 2:
        only = f"the only class with training images is “{next(iter(train))}”" if train else "no training image carries a label"
        raise Invalid(f"A classifier needs at least two classes; {only}.", "Add images of another class, or label some.")
    warnings = []
    for split, word in (("train", "training"), ("validation", "validation"), ("test", "test")):
        held = Counter(r.label for r in snapshot.rows if r.split == split)
        missing = [c for c in snapshot.classes if c not in held]
        if not held:
            warnings.append(f"There are no {word} images.")
        elif missing:
            warnings.append(f"No {word} image of {_names(missing)}.")
    few = [c for c, n in train.items() if n < 10]
    if few:
        warnings.append(f"Fewer than ten training images of {_names(few)}: what is learned about them may be chance.")
    if train and max(train.values()) > 10 * min(train.values()):
        common, rare = max(train, key=lambda c: train[c]), min(train, key=lambda c: train[c])
        warnings.append(f"“{common}” has {train[common]:,} training images, “{rare}” only {train[rare]:,}: rare classes are learned worse.")
    return snapshot, warnings


def _names(names: list[str]) -> str:
    shown = ", ".join(f"“{n}”" for n in names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown


def start(dataset_id: int, values: Mapping[str, Any], by: str, preset: str = "") -> Run:
    """Freezes a snapshot, makes the run's folder and launches its worker."""
    config = catalog.run_config(values)
    dataset = store.get_dataset(dataset_id)
    if dataset.deleted_at:
        raise Invalid(f"The dataset “{dataset.name}” was deleted.", "Restore it, or choose another one.")
    snapshot, _ = plan(dataset_id)
    for other in list_runs(dataset_id):
        if other.active and other.run.config == config and other.run.snapshot_id == snapshot.id:
            raise Conflict(f"This very run is going on already: {other.run.name}.", "Watch it below, or change a setting to start another.")
    arch = networks.architecture(config.architecture)
    names = [r.run.name.removeprefix(f"{arch.title} ") for r in list_runs(dataset_id)]
    number = 1 + max((int(n) for n in names if n.isascii() and n.isdigit()), default=0)  # runs before this one may be deleted
    counts = Counter(r.split for r in snapshot.rows)
    run = Run(
        id=f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        name=f"{arch.title} {number}",
        dataset_id=dataset_id,
        dataset_name=dataset.name,
        config=config,
        classes=snapshot.classes,
        snapshot_id=snapshot.id,
        counts={split: counts[split] for split in SPLITS},
        created_at=now(),
        by=by,
        code_version=_code_version(),
        preset=preset,
    )
    path = settings().runs / run.id
    runs.create(path, run, snapshot)
    launch.launcher.start(path, launch.python("core.ml.worker", str(path)))
    return run


@lru_cache(maxsize=1)
def _code_version() -> str:
    """The commit the code is at; "unknown" outside a git checkout."""
    return launch.output(["git", "rev-parse", "--short", "HEAD"]) or "unknown"


def state(run_id: str) -> RunState:
    path = runs.folder(run_id)
    alive = launch.launcher.alive(path)  # asked first: what it wrote before it ended is then among the events
    try:
        size = (path / "events.jsonl").stat().st_size
    except FileNotFoundError:
        size = 0
    return _finished(path, size, alive)


@lru_cache(maxsize=512)
def _finished(path: Path, _size: int, alive: bool) -> RunState:
    """What the run has come to; it depends on nothing but its events and on whether its process lives."""
    run = runs.load(path)
    history = runs.events(path)
    status = runs.status(history, alive)
    started = next((e for e in history if isinstance(e, Started)), None)
    ended = next((e for e in reversed(history) if isinstance(e, Ended)), None)
    epochs = [e for e in history if isinstance(e, EpochEnd)]
    step = next((e for e in reversed(history) if isinstance(e, Step)), None)
    last = history[-1] if history else None
    best_epoch = (ended.best_epoch if ended else None) or (epochs[-1].best_epoch if epochs else None)
    total = started.steps * started.epochs if started else 0
    done = max(step.step if step else 0, epochs[-1].step if epochs else 0)
    message = ended.message if ended else ""
    if status == "lost":
        message = (
            "The training process is gone: it was killed, or the machine restarted. What it had learned up to its last checkpoint is kept."
        )
    elif isinstance(last, Preparing):
        message = f"{last.what}: {last.done:,} of {last.total:,}"
    return RunState(
        run=run,
        status=status,
        epoch=step.epoch if step else len(epochs),
        epochs=run.config.epochs,
        best_epoch=best_epoch,
        best=next((e for e in epochs if e.epoch == best_epoch), None),
        progress=1.0 if ended else min(1.0, done / total) if total else 0.0,
        device=started.device if started else "",
        images_per_s=epochs[-1].images_per_s if epochs else (step.images_per_s if step else None),
        seconds=ended.seconds if ended else None,
        seconds_left=step.seconds_left if step and status == "running" else None,
        message=message,
    )


def list_runs(dataset_id: int | None = None) -> list[RunState]:
    """Runs, newest first, but for those whose folder is damaged."""
    found = []
    for path in sorted(settings().runs.glob("*/config.json"), reverse=True):
        try:
            one = state(path.parent.name)
        except (Invalid, NotFound) as e:  # or deleted a moment ago
            _log_once(str(e))
            continue
        if dataset_id is None or one.run.dataset_id == dataset_id:
            found.append(one)
    return found


@lru_cache(maxsize=512)
def _log_once(message: str) -> None:
    logging.getLogger(__name__).warning(message)


def usable(dataset_id: int) -> list[RunState]:
    """Runs with a checkpoint, newest first; those that were cut off before they wrote predictions come last."""
    found = [r for r in list_runs(dataset_id) if runs.checkpoint(runs.folder(r.run.id)).exists() and not r.active]
    return sorted(found, key=lambda r: not runs.predictions_path(runs.folder(r.run.id)).exists())


def stop(run_id: str) -> None:
    """Asks the run to stop after its current step; its best weights are kept."""
    runs.request_stop(runs.folder(run_id))


def wait(run_id: str) -> RunState:
    """Returns when the run has ended."""
    while (current := state(run_id)).active:
        time.sleep(0.2)
    return current


def log_tail(run_id: str, lines: int = 20) -> str:
    return runs.log_tail(runs.folder(run_id), lines)


def delete(run_id: str) -> None:
    """Moves the run's folder to the bin; restore() brings it back."""
    path = runs.folder(run_id)
    if state(run_id).active:
        raise Conflict("This run is still going on.", "Stop it first.")
    target = settings().home / "bin" / run_id
    target.parent.mkdir(exist_ok=True)
    shutil.move(path, target)


def restore(run_id: str) -> None:
    source = settings().home / "bin" / run_id
    if run_id in ("", "..") or source.parent != settings().home / "bin" or not source.is_dir():
        raise NotFound(f"The run “{run_id}” is not in the bin.")
    shutil.move(source, settings().runs / run_id)


def estimate(dataset_id: int, config: RunConfig) -> float | None:
    """Seconds a run will take, judged by the last finished one that did the same work per epoch; None without one."""

    def work(c: RunConfig) -> tuple[object, ...]:
        return c.architecture, c.freeze, c.image_size, c.batch_size, c.device

    for one in list_runs(dataset_id):
        if work(one.run.config) == work(config) and one.seconds and one.epoch:
            return one.seconds / one.epoch * config.epochs
    return None


def suggested(dataset_id: int) -> str:
    """The network to start with: a small one for small pictures, a pretrained one for photos."""
    some = store.some(dataset_id, "train", 63)
    if not some or median(max(i.width, i.height) for i in some) > 64:
        return "efficientnet_lite0"
    return "convnet" if median(i.channels for i in some) == 1 else "cnn3"


def stopping(run_id: str) -> bool:
    return runs.stop_requested(runs.folder(run_id))


def no_better_than_guessing(one: RunState) -> bool:
    """Whether the best epoch was right no more often than always answering validation's commonest class."""
    if one.best is None or one.best.val_accuracy is None:
        return False
    held = Counter(r.label for r in runs.snapshot_rows(runs.folder(one.run.id)) if r.split == "validation")
    return one.best.val_accuracy * held.total() <= max(held.values(), default=0)
