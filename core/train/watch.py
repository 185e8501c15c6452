"""A run while it trains: what its events add up to, in figures and in sentences."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from core.catalog import params, schedule
from core.errors import Invalid
from core.metrics import TOO_FEW, wilson
from core.runs import launch, runs
from core.types import Answers, Ended, EpochEnd, Event, Preparing, Queued, Resumed, Run, RunConfig, RunStatus, Started, Step

MOST_COURSES = 64  # kept, of all who watch; each is a list of epochs, which it shares with the one that it came from
HALTED = (
    "The training process does not answer: it was stopped on this machine (SIGSTOP). The signal SIGCONT lets it go on. If it is ended "
    "instead, the run can be resumed from its last checkpoint."
)
FAR_APART = 0.05  # of training accuracy over the upper end of validation's interval
ENDED = {"paused": "Paused after", "stopped": "Stopped after", "succeeded": "Finished in"}


# The fold -----------------------------------------------------------------------------------------


@dataclass
class Course:
    """What the events so far add up to; it grows with the epochs, not with the steps."""

    last: Event | None = None
    started: Started | None = None
    step: Step | None = None
    ends: list[EpochEnd] = field(default_factory=list)
    at: float = 0.0  # epochs
    spent: dict[str, float] = field(default_factory=dict)  # seconds by phase, in the order in which they began

    def add(self, event: Event) -> None:
        self._spend(event)
        self.last = event
        if isinstance(event, Started):
            self.started = event
        elif isinstance(event, Resumed):  # what came after that step did not last
            self.ends = [e for e in self.ends if runs.lasted(e, event)]
            self.step = self.step if self.step and runs.lasted(self.step, event) else None
            self.at = min(self.at, self._epochs(event.step, event.epoch))
        elif isinstance(event, Step):
            self.step, self.at = event, min(event.epoch, self._epochs(event.step, event.epoch))
        elif isinstance(event, EpochEnd):
            self.ends.append(event)
            self.at = event.epoch

    def _spend(self, event: Event) -> None:
        """The time since the event before belongs to the phase that this one told of; what lies before going on was a pause."""

        def going_on(one: Event) -> bool:
            return isinstance(one, Resumed) or (isinstance(one, Preparing) and one.what.startswith("Going on"))

        if self.last is None or self.ended or going_on(event) or isinstance(self.last, Queued):
            return
        what = "learning" if not isinstance(self.last, Preparing) or going_on(self.last) else self.last.what.lower() or "preparing"
        passed = datetime.fromisoformat(event.at) - datetime.fromisoformat(self.last.at)
        self.spent[what] = self.spent.get(what, 0.0) + max(0.0, passed.total_seconds())

    def _epochs(self, step: int, unknown: int) -> float:
        """Counted from the last whole epoch on: after a pause the batches may have another size."""
        if self.started is None or not self.started.steps:
            return unknown
        epoch, before = (self.end.epoch, self.end.step) if self.end else (0, 0)
        return epoch + (step - before) / self.started.steps

    @property
    def end(self) -> EpochEnd | None:
        return self.ends[-1] if self.ends else None

    @property
    def ended(self) -> Ended | None:
        """What comes after an end is a run that goes on."""
        return self.last if isinstance(self.last, Ended) else None

    @property
    def best_epoch(self) -> int | None:
        return (self.ended.best_epoch if self.ended else None) or (self.end.best_epoch if self.end else None)

    @property
    def best(self) -> EpochEnd | None:
        """The epoch whose weights are kept."""
        return next((e for e in self.ends if e.epoch == self.best_epoch), None)

    @property
    def risen(self) -> int:
        """For how many epochs in a row validation loss has risen."""
        losses = [e.val_loss for e in reversed(self.ends)]
        n = 0
        for later, earlier in pairwise(losses):
            if later is None or earlier is None or later <= earlier:
                break
            n += 1
        return n


def course(events: Iterable[Event]) -> Course:
    found = Course()
    for event in events:
        found.add(event)
    return found


# What is new --------------------------------------------------------------------------------------

_courses: dict[tuple[Path, int], Course] = {}  # by the offset that they were folded up to; never changed, the newest last
_turn = threading.Lock()


def follow(run_id: str, after: int, most: int, answers: bool) -> dict[str, Any]:
    """What was written after a byte offset, for a page to add to what it has drawn, and how the run stands after it.

    after: the `next` of the answer before; Invalid where no line begins. most: bytes of events in one answer. answers: with those
    to the validation images.
    """
    folder = runs.folder(run_id)
    alive = launch.launcher.alive(folder)  # asked first: what it wrote before it ended is then among the events
    run = runs.load(folder)
    lines, offset = runs.read_lines(folder, after, most, skip="" if answers else "Answers")
    before = _until(folder, after, most)
    now = replace(before, ends=list(before.ends), spent=dict(before.spent))
    new = added(now, runs.as_events(lines), run.classes)
    _keep(folder, offset, now)
    more = offset - after >= most
    status = runs.status([now.last] if now.last else [], alive or more)
    guessing = commonest(folder) if now.ends else None
    how = stands(run, now, status, guessing)
    if how["active"] and launch.halted(folder):
        how.update(what="Does not answer", facts=[], words=HALTED)
    elif how["active"] and (word := launch.word(folder)):
        if word.waits:
            how.update(
                status="queued", what=f"Queued: {in_line(word.place)} on the cluster" if word.place else "Queued for the cluster", facts=[]
            )
        how.update(words=word.words)
    return {**new, "now": how, "next": offset, "more": more}


def _until(folder: Path, offset: int, most: int) -> Course:
    """The events before the offset, folded: as a rule the one who asks has had them folded a moment ago."""
    with _turn:
        known = _courses.get((folder, offset))
    if known is not None:
        return known
    found, at = Course(), 0
    while at < offset:
        lines, end = runs.read_lines(folder, at, min(most, offset - at - 1), skip="Answers")
        if not at < end <= offset:
            raise Invalid("This is not the start of an event.", "Ask from offset 0.")
        for event in runs.as_events(lines):
            found.add(event)
        at = end
    return found


def _keep(folder: Path, offset: int, found: Course) -> None:
    with _turn:
        _courses.pop((folder, offset), None)
        _courses[folder, offset] = found
        while len(_courses) > MOST_COURSES:
            del _courses[next(iter(_courses))]


def added(now: Course, events: Iterable[Event], classes: tuple[str, ...]) -> dict[str, Any]:
    """Adds the events to the course, and tells what that adds to its curves.

    back: {epoch, step}, what was drawn after them goes first. points: [step, epochs, loss, accuracy, learning rate, images/s].
    ends: [epoch, validation loss, validation accuracy].
    """
    back: Resumed | None = None
    points: list[list[Any]] = []
    ends: list[EpochEnd] = []
    answers: list[Answers] = []
    for event in events:
        seen = now.at
        now.add(event)
        if isinstance(event, Resumed):
            back = event if back is None or event.step < back.step else back
            points = [p for p in points if p[0] <= event.step]
            ends = [e for e in ends if runs.lasted(e, event)]
            answers = [a for a in answers if runs.lasted(a, event)]
        elif isinstance(event, Step):
            figures = (event.loss, event.accuracy, event.learning_rate, event.images_per_s)
            points.append([event.step, *map(_short, (now.at, *figures))])
        elif isinstance(event, EpochEnd):
            if seen <= event.epoch - 1:  # no step was told
                figures = (event.train_loss, event.train_accuracy, event.learning_rate, event.images_per_s)
                points.append([event.step, *map(_short, (now.at, *figures))])
            for point in reversed(points):  # runs of an older Loupe tell the learning rate with the epoch alone
                if point[4] is not None:
                    break
                point[4] = event.learning_rate
            ends.append(event)
        elif isinstance(event, Answers):
            answers.append(event)
    return {
        "back": {"epoch": back.epoch, "step": back.step} if back else None,
        "points": points,
        "ends": [[e.epoch, e.val_loss, e.val_accuracy] for e in ends],
        "answers": [matrix(one, classes) for one in answers],
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def matrix(one: Answers, classes: tuple[str, ...]) -> dict[str, Any]:
    """cells: [actual, predicted, images, share of its row]; rows: images of each class; samples as the event has them."""
    rows = [0] * len(classes)
    for actual, _, many in one.confusion:
        rows[actual] += many
    right = sum(many for actual, predicted, many in one.confusion if actual == predicted)
    wrong = [cell for cell in one.confusion if cell[0] != cell[1]]
    worst = max(wrong, key=lambda cell: cell[2], default=None)
    confused = f"Most often confused: {cell_words(worst, classes)}." if worst else "Nothing is confused."
    hits = sum(actual == predicted for _, actual, predicted, *_ in one.samples)
    return {
        "epoch": one.epoch,
        "cells": [[actual, predicted, many, round(many / rows[actual], 4)] for actual, predicted, many in one.confusion],
        "rows": rows,
        "words": f"{right:,} of {_images(sum(rows))} right. Rows: what it is; columns: what the network says.",
        "confused": confused,
        "samples": one.samples,
        "sampled": f"{hits} of {len(one.samples)} right. Beside each: what the network says, how sure it is, and under a wrong answer what it is.",
    }


def cell_words(cell: list[int], classes: tuple[str, ...]) -> str:
    actual, predicted, many = cell
    return f"actual {classes[actual]}, predicted {classes[predicted]}: {_images(many)}"


@lru_cache(maxsize=MOST_COURSES)
def validation_labels(folder: Path) -> Counter[str]:
    """Of the run's validation images, how many carry each label; the caller leaves it as it is."""
    return Counter(r.label for r in runs.snapshot_rows(folder) if r.split == "validation")


def commonest(folder: Path) -> float | None:
    """The share that always answering the commonest class would get right; None without validation images."""
    held = validation_labels(folder)
    return max(held.values()) / held.total() if held else None


# Words --------------------------------------------------------------------------------------------


def stands(run: Run, now: Course, status: RunStatus, guessing: float | None) -> dict[str, Any]:
    """How the run stands: what is happening and the facts beside it, the share that is done (0..1), and what the curves mean."""
    epochs = (now.started.epochs if now.started else 0) or run.config.epochs
    what, facts = headline(now, status, epochs, run.config)
    said = now.started.note if now.started else ""
    return {
        "status": status,
        "active": status in runs.ACTIVE,
        "what": what,
        "facts": facts,
        "words": " ".join(filter(None, [*sentences(run, now, status, epochs, guessing), said])),
        "share": round(_done(now, epochs), 4),
        "epochs": epochs,
        "best": now.best.epoch if now.best else None,
    }


def _done(now: Course, epochs: int) -> float:
    if now.ended and now.ended.outcome == "succeeded":
        return 1.0
    if isinstance(now.last, Preparing) and not now.at:
        return now.last.done / now.last.total if now.last.total else 0.0
    return min(1.0, now.at / epochs)


def headline(now: Course, status: RunStatus, epochs: int, config: RunConfig) -> tuple[str, list[str]]:
    """What is happening, and facts beside it."""
    last, whole = now.last, now.end.epoch if now.end else 0
    if isinstance(last, Ended):
        after = ENDED.get(last.outcome)
        return f"{after} {duration(last.seconds)}" if after else "The training failed", afterwards(now)
    if status == "lost":
        return f"Cut off in epoch {min(epochs, whole + 1)}" if whole else "Cut off", afterwards(now)
    if last is None:
        return "Starting", []
    if isinstance(last, Queued):
        return f"Queued: {in_line(last.place)} for the {device(last.device)}", []
    if isinstance(last, Preparing):
        return last.what or "Preparing", [f"{last.done:,} of {last.total:,}"] if last.total > 1 else []
    begun = now.step.epoch if now.step else 0
    kept = config.pretrained and config.freeze and not params.augmented(config)
    return f"Epoch {min(epochs, max(begun, whole + 1))} of {epochs}", facts(now, kept)


def facts(now: Course, kept: bool) -> list[str]:
    """Beside a run that learns; kept: the layers that do not learn were run once, so that the speed is that of the last one alone."""
    found = [where(now.started)] if now.started else []
    speed = now.step.images_per_s if now.step else now.end.images_per_s if now.end else 0
    if speed:
        found.append(f"{round(speed):,} images/s{' by their kept features' if kept else ''}")
    if now.step and now.step.memory_mb:
        found.append(f"{memory(now.step.memory_mb)} of memory")
    if now.step and now.step.seconds_left is not None:
        found.append(f"about {duration(now.step.seconds_left)} left")
    return found


def afterwards(now: Course) -> list[str]:
    """Beside a run that has ended: where its time went; its speed stands in the curve."""
    found = [where(now.started)] if now.started else []
    return found + [f"{what} {duration(seconds)}" for what, seconds in now.spent.items() if seconds >= 1]


def sentences(run: Run, now: Course, status: RunStatus, epochs: int, guessing: float | None) -> list[str]:
    if now.ended:
        return _afterwards(run, now, now.ended, epochs)
    if status == "lost":
        return _kept(run, now)
    if now.last is None:
        return ["The first numbers arrive in a moment."]
    if isinstance(now.last, Queued):
        return ["It starts by itself; you may close this page."]
    if isinstance(now.last, Preparing) and not now.ends:
        return ["Every image is read once before the training begins."]
    seen = f"The network has seen every image {times(now.end.epoch)}." if now.end else "The network sees the images for the first time."
    return [seen, *filter(None, [advice(run, now, guessing)]), *_kept(run, now, "Best so far, epoch")]


def _kept(run: Run, now: Course, words: str = "Best epoch") -> list[str]:
    best = now.best
    if best is None:
        return []
    how = (
        f"{_percent(best.train_accuracy)} of the training images right"
        if best.val_accuracy is None
        else right(best.val_accuracy, run.counts["validation"])
    )
    return [f"{words} {best.epoch}: {how}."]


def _afterwards(run: Run, now: Course, ended: Ended, epochs: int) -> list[str]:
    said = _kept(run, now)
    if ended.message and ended.outcome != "failed":  # why it failed stands beside, with the way on
        said.append(ended.message)
    if ended.outcome != "succeeded":
        return said
    if now.end and now.best is now.end and now.end.epoch == epochs > 1:
        before, after = (now.ends[-2].val_loss if len(now.ends) > 1 else None), now.end.val_loss
        falling = before is not None and after is not None and after < before
        said.append(f"{'Validation loss was still falling' if falling else 'The last epoch was the best'}: more epochs may help.")
    return [*said, *filter(None, [_apart(run, now.best)])]


def advice(run: Run, now: Course, guessing: float | None) -> str:
    """The one thing most worth knowing about the curves; "" where there is none."""
    config, end = run.config, now.end
    warming = now.at < (schedule.RISE * config.epochs if config.schedule == "one_cycle" else config.warmup)
    if end is None:
        return "The learning rate warms up: the first strides are small." if warming else ""
    waited = end.epoch - now.best.epoch if now.best else 0
    left = config.patience - waited if config.patience else 0
    stopping = f" early stopping will act in {left}" if left > 0 else ""
    if now.risen >= 2:
        unless = "; without a better accuracy" if config.stop_on == "accuracy" else ";"
        return f"Validation loss has risen for {now.risen} epochs: the network begins to memorise{unless + stopping if stopping else ''}."
    if warming:
        return "The learning rate warms up: the strides grow."
    if guessing is not None and _by_chance(end, run.counts["validation"], guessing):
        return f"Validation accuracy is at the level of guessing ({_percent(guessing)}): it has not learned to tell the classes apart yet."
    if waited >= 2:
        return f"No better epoch for {waited}{stopping and ':' + stopping}."
    return _apart(run, end)


def _by_chance(one: EpochEnd, n: int, guessing: float) -> bool:
    share = None if one.val_accuracy is None else wilson(one.val_accuracy * n, n)
    return share is not None and share.low <= guessing


def _apart(run: Run, one: EpochEnd | None) -> str:
    if one is None or one.val_accuracy is None:
        return ""
    n = run.counts["validation"]
    share = wilson(one.val_accuracy * n, n)
    if one.train_accuracy - (share.high if share else one.val_accuracy) < FAR_APART:
        return ""
    return (
        f"Training and validation are far apart ({_percent(one.train_accuracy)} and {_percent(one.val_accuracy)} right): it knows its own "
        "images better than new ones. More images, or changing them at random, may help."
    )


def right(share: float, n: int) -> str:
    """How many were right: of few images a count, else a share with its interval."""
    interval = wilson(share * n, n)
    if interval is None:
        return f"{_percent(share)} of the validation images right"
    if n < TOO_FEW:
        return f"{round(share * n)} of {n} validation images right"
    ends = f"{interval.low:.1%} to {interval.high:.1%}"
    return f"{_percent(share)} of the {n:,} validation images right (95% interval {ends})"


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def in_line(place: int) -> str:
    return f"{ordinal(place)} in line" if place > 1 else "next in line"


def times(n: int) -> str:
    return {1: "once", 2: "twice"}.get(n, f"{n} times")


def ordinal(n: int) -> str:
    teens = 10 < n % 100 < 14
    return f"{n}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"


def where(started: Started) -> str:
    return device(started.device) if started.ranks == 1 else f"{device(started.device)} × {started.ranks}"


def device(name: str) -> str:
    return re.sub(r"^(cpu|mps|cuda)\b", lambda word: word[0].upper(), name)


def memory(mb: float) -> str:
    return f"{round(mb):,} MB" if mb < 10_000 else f"{mb / 1024:.1f} GB"


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _images(n: int) -> str:
    return f"{n:,} image{'' if n == 1 else 's'}"
