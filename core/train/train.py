"""Starting, watching and stopping runs."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, ParamSpec

from core import roles, servers, space, storage
from core.catalog import networks, params
from core.data import audit, store
from core.errors import Conflict, Invalid, NotFound
from core.runs import jobs, launch, runs
from core.settings import settings
from core.train import plan, speed, watch
from core.types import EpochEnd, Preparing, Queued, Run, RunConfig, RunStatus, now

TRAINED_NOTHING = "It had not begun to train; resumed, it begins."
KEPT = "What it had learned up to its last checkpoint is kept, and it can go on from there."


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
    place: int | None  # in line for the device, while it is queued
    remedy: dict[str, Any]  # settings with which a failed run would have worked
    note: str
    tags: tuple[str, ...]
    host: str = ""  # the other machine that it is on while it goes on, or was lost

    @property
    def active(self) -> bool:
        return self.status in runs.ACTIVE


P = ParamSpec("P")
_turn = threading.RLock()


def _one_at_a_time(act: Callable[P, Run]) -> Callable[P, Run]:
    """Two clicks are two threads, or two servers, at once: the second sees what the first has done."""

    @wraps(act)
    def waits(*args: P.args, **kwargs: P.kwargs) -> Run:
        with _turn, servers.alone("start"):
            return act(*args, **kwargs)

    return waits


@roles.needs("train")
@_one_at_a_time
def start(dataset_id: int, values: Mapping[str, Any], by: str, preset: str = "") -> Run:
    """Freezes a snapshot, makes the run's folder and launches its worker."""
    config = params.run_config(values)
    dataset = store.get_dataset(dataset_id)
    if dataset.deleted_at:
        raise Invalid(f"The dataset “{dataset.name}” was deleted.", "Restore it, or choose another one.")
    snapshot = plan.snapshot(dataset_id, config)
    others = list_runs(dataset_id)
    for other in others:
        if other.active and other.run.config == config and other.run.snapshot_id == snapshot.id:
            raise Conflict(f"This very run is going on already: {other.run.name}.", "Watch it, or change a setting to start another.")
    arch = networks.architecture(config.architecture)
    names = [r.run.name.removeprefix(f"{arch.title} ") for r in others]
    number = 1 + max((int(n) for n in names if n.isascii() and n.isdigit()), default=0)  # runs before this one may be deleted
    run = runs.new(f"{arch.title} {number}", dataset, config, snapshot, by, _code_version(), preset)
    path = settings().runs / run.id
    with audit.beside("run.start", on={"run": run.id, "dataset": dataset_id}, after={"name": run.name, "config": asdict(config)}, by=by):
        runs.create(path, run, snapshot)
    launch.launcher.start(path, command(path))
    return run


def expect() -> None:
    """Makes ready for somebody who looks at the form and may start a run: it then begins 4 to 5 s sooner."""
    launch.expect_run()


def command(folder: Path) -> list[str]:
    """What trains the folder's run: the worker, started by torchrun once for each of its devices where it asks for several."""
    devices = runs.load(folder).config.devices
    if devices == 1:
        return launch.python("core.ml.worker", str(folder))
    together = ("--standalone", f"--nproc-per-node={devices}", "-m", "core.ml.worker", str(folder))
    return launch.python("torch.distributed.run", *together)


@lru_cache(maxsize=1)
def _code_version() -> str:
    """The commit the code is at; "unknown" outside a git checkout."""
    trusted = f"safe.directory={launch.ROOT}"  # the checkout may be root's, as in a container
    return launch.output(["git", "-c", trusted, "rev-parse", "--short", "HEAD"]) or "unknown"


def state(run_id: str) -> RunState:
    path = runs.folder(run_id)
    alive = launch.launcher.alive(path)  # asked first: what it wrote before it ended is then among the events
    try:
        size = (path / "events.jsonl").stat().st_size
    except FileNotFoundError:
        size = 0
    found = _finished(path, size, alive, *(_changed(p) for p in (path / "config.json", runs.notes_path(path))))
    if found.active and launch.halted(path):
        return replace(found, message=watch.HALTED)
    if found.active and (word := launch.word(path)):
        found = replace(found, message=word.words)
        return replace(found, status="queued", place=word.place or None) if word.waits else found
    if found.status == "lost" and (why := launch.why_gone(path)):
        return replace(found, message=f"{why} {KEPT if found.device else TRAINED_NOTHING}")
    if (found.active or found.status == "lost") and (host := launch.elsewhere(path)):
        silent = f"Nothing is heard of the training process on {host}: that machine is gone, or cut off. {KEPT}"
        return replace(found, host=host, message=silent if found.status == "lost" else found.message)
    if found.status == "lost" and (short := space.short()):
        return replace(found, message=f"The training process is gone, perhaps because the disk is full: {short}. {KEPT}")
    return found


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


@lru_cache(maxsize=512)
def _finished(path: Path, _size: int, alive: bool, _config: int, _notes: int) -> RunState:
    """What the run has come to; it depends on nothing but its files and on whether its process lives."""
    run = runs.load(path)
    notes = runs.read_notes(path)
    history = runs.events(path, skip="Answers")  # of 50 classes and 1,000 epochs they are 14 MB, and a page asks every two seconds
    status = runs.status(history, alive)
    found = watch.course(history)
    last, started, ended, step, epochs = found.last, found.started, found.ended, found.step, found.ends
    total = started.steps * started.epochs if started else 0
    done = max(step.step if step else 0, epochs[-1].step if epochs else 0)
    message = ended.message if ended else ""
    if status == "lost":
        message = f"The training process is gone: it was killed, or the machine restarted. {KEPT}"
    elif isinstance(last, Preparing):
        message = last.words
    return RunState(
        run=run,
        status=status,
        epoch=step.epoch if step else len(epochs),
        epochs=run.config.epochs,
        best_epoch=found.best_epoch,
        best=found.best,
        progress=1.0 if ended and ended.outcome != "paused" else min(1.0, done / total) if total else 0.0,
        device=started.device if started else "",
        images_per_s=epochs[-1].images_per_s if epochs else (step.images_per_s if step else None),
        seconds=ended.seconds if ended else None,
        seconds_left=step.seconds_left if step and status == "running" else None,
        message=message,
        place=last.place if isinstance(last, Queued) else None,
        remedy=ended.remedy if ended else {},
        note=notes["note"],
        tags=tuple(notes["tags"]),
    )


def list_runs(dataset_id: int | None = None) -> list[RunState]:
    """Runs of what who acts may see, newest first, but for those whose folder is damaged."""
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


@roles.needs("see")
def usable(dataset_id: int) -> list[RunState]:
    """Runs with a checkpoint, newest first; those that were cut off before they wrote predictions come last."""
    found = [r for r in list_runs(dataset_id) if storage.known(runs.checkpoint(runs.folder(r.run.id))) and not r.active]
    return sorted(found, key=lambda r: not runs.predictions_path(runs.folder(r.run.id)).exists())


@runs.needs("train")
def stop(run_id: str) -> None:
    """Asks the run to stop after its current step; its best weights are kept."""
    _ask("run.stop", run_id, runs.request_stop)


@runs.needs("train")
def pause(run_id: str) -> None:
    """Asks the run to end after its current step in such a way that it can go on later, as if nothing had been."""
    _ask("run.pause", run_id, runs.request_pause)


def _ask(kind: str, run_id: str, request: Callable[[Path], None]) -> None:
    """A second click asks for nothing more."""
    folder, asked = runs.folder(run_id), stopping(run_id) if kind == "run.stop" else pausing(run_id)
    if not asked:
        with audit.beside(kind, on={"run": run_id}):
            request(folder)
    if waits_for_cluster(run_id):  # no process is there that would see it
        launch.launcher.kill(folder)
        from core.ml import turns  # without PyTorch

        runs.append(folder, turns.halted(folder))


def _on(run: Run) -> dict[str, Any]:
    return {"run": run.id, "dataset": run.dataset_id}


def pausing(run_id: str) -> bool:
    return runs.pause_requested(runs.folder(run_id))


@runs.needs("train")
@_one_at_a_time
def resume(run_id: str, changes: Mapping[str, Any] | None = None, what: str = "Going on") -> Run:
    """Lets a run go on from its last checkpoint, with another batch size if asked; other changes start a new run.

    what: is said until it has gone on. Raises Conflict if it is going on, Invalid if it has come to its end.
    """
    path = runs.folder(run_id)
    current = state(run_id)
    run, changes = current.run, changes or {}
    deadline = time.monotonic() + 10
    while not current.active and launch.launcher.alive(path) and time.monotonic() < deadline:
        time.sleep(0.1)  # it has written its last event and is on its way out
    if current.active or launch.launcher.alive(path):
        raise Conflict(f"The run {run.name} is going on.", "Wait until it has ended, or pause it.")
    if changes.keys() - {"batch_size"}:
        return start(run.dataset_id, {**asdict(run.config), **changes}, run.by, run.preset)
    if current.status == "succeeded":
        raise Invalid(f"The run {run.name} has come to its end.", "Clone it with changes to train more.")
    # It would begin anew and write over its weights. One that was killed in its first checkpoint has lost nothing by that.
    if current.status != "lost" and storage.known(runs.checkpoint(path)) and not storage.known(runs.last_checkpoint(path)):
        raise Invalid(f"Only the best weights of {run.name} are here, not what it needs to go on.", "Clone it with changes to train more.")
    if store.get_dataset(run.dataset_id).deleted_at:
        raise Invalid(f"The dataset “{run.dataset_name}” was deleted.", "Restore it first.")
    with audit.beside("run.resume", on=_on(run), after={"config": dict(changes)}):
        if changes:
            runs.write_json(path / "config.json", asdict(replace(run, config=params.run_config({**asdict(run.config), **changes}))))
        runs.clear_requests(path)
        jobs.remove_left(path)
        runs.append(path, Preparing(what, 0, 1, now()))
    launch.launcher.start(path, command(path))
    return runs.load(path)


def waits_for_cluster(run_id: str) -> bool:
    word = launch.word(runs.folder(run_id))
    return word is not None and word.waits


@runs.needs("train")
@_one_at_a_time
def here(run_id: str) -> Run:
    """Trains a run that waits for the Ray cluster on this machine instead; Conflict if it waits no longer."""
    path = runs.folder(run_id)
    run = runs.load(path)
    if not waits_for_cluster(run_id):
        raise Conflict(f"The run {run.name} does not wait for the cluster any more.", "Watch it, or stop it.")
    with audit.beside("run.resume", on=_on(run), after={"config": {}, "where": "this machine"}):
        launch.start_here(path, command(path))
    return run


@runs.needs("train")
def annotate(run_id: str, note: str, tags: Sequence[str]) -> None:
    """Writes a note and tags beside the run; Invalid if they are too long."""
    kept = list(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))
    if runs.notes_too_long(note, kept):
        raise Invalid(
            "The note or a tag is too long.",
            f"Up to {runs.MOST_NOTE:,} characters of note, and {runs.MOST_TAGS} tags of {runs.MOST_TAG} characters are kept.",
        )
    path = runs.folder(run_id)
    before, after = runs.read_notes(path), {"note": note.strip(), "tags": kept}
    with audit.beside("run.describe", on={"run": run_id}, before=before, after=after):
        runs.write_json(runs.notes_path(path), after)


def samples(run_id: str) -> list[str]:
    """Ids of the validation images whose answers are shown after every epoch."""
    return runs.sample_ids(runs.snapshot_rows(runs.folder(run_id)))


def wait(run_id: str, tell: Callable[[RunState], None] = lambda _: None) -> RunState:
    """Returns when the run has ended; tells meanwhile how it stands."""
    while (current := state(run_id)).active:
        tell(current)
        if current.status == "queued":
            launch.hand_in(runs.folder(run_id))  # of a command line, perhaps without a server that looks after it
        time.sleep(0.2)
    return current


def log_tail(run_id: str, lines: int = 20) -> str:
    return runs.log_tail(runs.folder(run_id), lines)


@runs.needs("delete")
def delete(run_id: str) -> None:
    """Moves the run's folder to the bin; restore() brings it back."""
    path = runs.folder(run_id)
    current = state(run_id)
    if current.active:
        raise Conflict("This run is still going on.", "Stop it first.")
    target = settings().home / "bin" / run_id
    target.parent.mkdir(exist_ok=True)
    with audit.beside("run.delete", on=_on(current.run), before={"name": current.run.name}):
        shutil.move(path, target)


def restore(run_id: str) -> None:
    source = settings().home / "bin" / run_id
    if run_id in ("", "..") or source.parent != settings().home / "bin" or not source.is_dir():
        raise NotFound(f"The run “{run_id}” is not in the bin.")
    roles.allow("delete", runs.load(source).dataset_id)
    with audit.beside("run.restore", on={"run": run_id}):
        shutil.move(source, settings().runs / run_id)


@dataclass(frozen=True)
class Estimate:
    seconds: float
    by: str  # what judged it, to be said after "judged by"


START_SECONDS = 5.0  # of the process, until the first image is read
FORWARD = 1 / 3  # of the work of a step, of which going back is twice as much


@roles.needs("see")
def estimate(dataset_id: int, config: RunConfig, images: int) -> Estimate | None:
    """How long a run of so many training images will take at most, judged by the last finished one that did the same work with each
    image, else by the measured speed of its network; None without either."""

    def work(c: RunConfig) -> RunConfig:
        usual = params.run_config({})
        return replace(c, **{p.name: getattr(usual, p.name) for p in params.TRAIN_PARAMS if not p.timed})

    for one in list_runs(dataset_id):
        if work(one.run.config) == work(config) and one.seconds and one.epoch and (before := one.run.counts["train"]):
            return Estimate(one.seconds / one.epoch * config.epochs * images / before, "the last such run here")
    known, seen = speed.known().get(config.architecture), plan.pictures(dataset_id)
    if known is None or seen is None or config.device not in ("auto", known.device.partition(" ")[0]):
        return None
    each = (networks.preprocess_for(config, seen.sizes).crop / known.side) ** 2 / known.images_per_s
    frozen = (config.unfreeze_after or config.epochs) if config.freeze else 0  # epochs
    forward = (frozen if params.augmented(config) else min(frozen, 1)) * FORWARD  # else the backbone is run once
    return Estimate(START_SECONDS + images * each * (config.epochs - frozen + forward), "the measured speed of this network")


@roles.needs("see")
def suggested(dataset_id: int) -> str:
    """The network to start with on this dataset."""
    return plan.suggested(plan.pictures(dataset_id))


def stopping(run_id: str) -> bool:
    return runs.stop_requested(runs.folder(run_id))


def no_better_than_guessing(one: RunState) -> bool:
    """Whether the best epoch was right no more often than always answering validation's commonest class."""
    if one.best is None or one.best.val_accuracy is None:
        return False
    held = watch.validation_labels(runs.folder(one.run.id))
    return round(one.best.val_accuracy * held.total()) <= max(held.values(), default=0)
