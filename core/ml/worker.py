"""Trains one run, in its own process: python -m core.ml.worker RUN_DIR."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import filelock
import numpy as np
import torch
from torch import nn

from core.catalog import networks
from core.catalog.networks import measured, preprocess_for
from core.catalog.params import augmented
from core.errors import AppError, Invalid, Stopped
from core.ml import data, features
from core.ml.augment import Augment
from core.ml.data import Normalise, Pixels, Tensors, out_of_memory
from core.ml.fit import Diverged, Stage, Training, answers, fit
from core.ml.model import WeightsMissing, build, describe, save
from core.runs import runs
from core.settings import settings
from core.types import (
    SPLITS,
    Answers,
    Ended,
    EpochEnd,
    Preparing,
    Preprocess,
    Queued,
    Resumed,
    Run,
    RunConfig,
    Split,
    Started,
    Step,
    now,
)

CHECKPOINT_SECONDS = 2.0  # at least, between checkpoints at the ends of epochs; and ten times what the last one took
STEP_CHECKPOINT_SECONDS = 30.0  # the same within an epoch
SMALL_STEP = 5e7  # multiplications
MOST_CLASSES_IN_EVENTS = 50  # a line of events is read by every browser that watches


def main(folder: Path) -> None:
    """Runs the folder's run to its end, or on from its last checkpoint; every way out leaves an Ended event."""
    if int(os.environ.get("RANK", "0")):
        return  # rank 0 alone trains and writes
    begun: list[float] = []  # when it got the device: waiting in line is not training
    signal.signal(signal.SIGTERM, lambda *_: runs.request_stop(folder))
    try:
        ended = run(folder, begun)
    except Stopped:
        if runs.stop_requested(folder):
            ended = Ended("stopped", None, f"Stopped before {waited_for(folder)}.", spent(folder), now())
        else:
            ended = Ended("paused", None, f"Paused before {waited_for(folder)}.", spent(folder), now())
    except Diverged as e:
        rate = runs.load(folder).config.learning_rate
        ended = failed(str(e), remedy={"learning_rate": float(f"{rate / 10:.3g}")})
    except TooLarge as e:
        ended = failed(str(e), remedy={"batch_size": e.batch_size} if e.batch_size else {})
    except WeightsMissing as e:
        ended = failed(str(e), remedy={"architecture": "efficientnet_lite0"})
    except AppError as e:
        ended = failed(str(e))
    except Exception as e:
        traceback.print_exc()
        detail = traceback.format_exc()
        if out_of_memory(e):
            ended = failed("The machine ran out of memory. Choose a smaller batch or image size.", detail)
        else:
            ended = failed(f"Training crashed with {type(e).__name__}. The log of the run has the details.", detail)
    best_epoch = ended.best_epoch or next((e.best_epoch for e in reversed(runs.events(folder)) if isinstance(e, EpochEnd)), None)
    seconds = ended.seconds + (time.monotonic() - begun[0] if begun else 0)
    runs.append(folder, replace(ended, best_epoch=best_epoch or None, seconds=seconds, at=now()))


def waited_for(folder: Path) -> str:
    return "it went on" if any(isinstance(e, Started) for e in runs.events(folder)) else "the training began"


def spent(folder: Path) -> float:
    """Seconds of a run that was resumed and had not yet gone on, by its last end."""
    return next((e.seconds for e in reversed(runs.events(folder)) if isinstance(e, Ended)), 0.0)


def failed(message: str, detail: str = "", remedy: dict[str, Any] | None = None) -> Ended:
    return Ended("failed", None, message, 0, now(), detail, remedy or {})


class TooLarge(AppError):
    """A batch does not fit into the device's memory."""

    def __init__(self, device: torch.device, tried: int, fits: int | None) -> None:
        self.batch_size = fits
        way = f"A batch of {fits} fits." if fits else "Not even one image fits: choose a smaller network or image size."
        super().__init__(f"The memory of the {device.type} is too small for batches of {tried} images.", way)


# Devices ------------------------------------------------------------------------------------------


def pick_device(asked: str) -> torch.device:
    """Auto takes the first of cuda, mps and cpu; Invalid if the one asked for is not here."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    here = [name for name, there in present.items() if there]
    if asked == "auto":
        return torch.device(here[0])
    if asked not in here:
        raise Invalid(f"This machine has no {asked} device.", f"Choose auto, or one of: {', '.join(here)}.")
    return torch.device(asked)


def device_name(device: torch.device) -> str:
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def device_lock(device: torch.device) -> filelock.FileLock:
    """Held by who has the device to himself."""
    locks = settings().home / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(locks / f"{device.type}.lock")


@contextmanager
def turn(folder: Path, device: torch.device) -> Iterator[None]:
    """One device trains one run at a time, first come, first served; raises Stopped if the run is stopped or paused while it waits."""
    lock = device_lock(device)
    line = settings().home / "locks" / f"{device.type}.line"
    line.mkdir(exist_ok=True)
    ticket = line / f"{time.time_ns():020d}-{folder.name}"
    held = filelock.FileLock(ticket)  # until its run has the device, or its process is gone
    held.acquire()
    said = 0
    try:
        while True:
            if (place := 1 + ahead(ticket)) == 1 and free(lock):
                break
            if place != said:
                runs.append(folder, Queued(device.type, now(), place))
                said = place
            if halt_requested(folder):
                raise Stopped
            time.sleep(0.3)
    finally:
        ticket.unlink(missing_ok=True)
        held.release()
    try:
        yield
    finally:
        lock.release()


def free(lock: filelock.FileLock) -> bool:
    """Whether it could be taken, and is now."""
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return False
    return True


def ahead(ticket: Path) -> int:
    """How many wait longer; the tickets of processes that are gone are taken away."""
    waiting = 0
    for other in sorted(ticket.parent.iterdir()):
        if other.name >= ticket.name:
            break
        if free(theirs := filelock.FileLock(other)):
            other.unlink(missing_ok=True)
            theirs.release()
        else:
            waiting += 1
    return waiting


def halt_requested(folder: Path) -> bool:
    return runs.stop_requested(folder) or runs.pause_requested(folder)


# What a run needs -----------------------------------------------------------------------------------


@dataclass(eq=False)
class Prepared:
    """A network, and the images it learns from and is judged by, on the device."""

    model: nn.Module
    head: str
    preprocess: Preprocess
    pixels: Pixels
    places: dict[Split, np.ndarray]  # positions among pixels.rows
    stages: list[Stage]
    test: Tensors | None
    classes: int

    def training(self, config: RunConfig) -> Training:
        return Training(self.model, self.head, config, self.stages, self.classes)


def prepare(folder: Path, run: Run, device: torch.device) -> Prepared:
    """Reads the images, builds the network and runs a backbone once that stays frozen; reports its progress to the folder."""
    config, arch = run.config, networks.architecture(run.config.architecture)
    torch.manual_seed(config.seed)

    rows = runs.snapshot_rows(folder)
    check(rows_of_training=sum(row.split == "train" for row in rows))
    preprocess = preprocess_for(config, data.sample_sizes(rows))
    pixels = data.pixel_rows(settings().cache, run.dataset_id, preprocess, rows, Report(folder, "Reading images"))
    places = {s: np.array([i for i, row in enumerate(pixels.rows) if row.split == s], np.int64) for s in SPLITS}
    check(rows_of_training=len(places["train"]))
    if measured(config):
        largest = np.bincount(pixels.part[places["train"]]).argmax()
        mean, std = data.measure(pixels.sources[largest], pixels.index[places["train"]][pixels.part[places["train"]] == largest])
        preprocess = replace(preprocess, mean=mean, std=std)

    model = build(config, len(run.classes), preprocess).to(device)
    channels_last = any(isinstance(m, nn.Conv2d) for m in model.modules())
    if channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    normalise = Normalise(preprocess, device)
    number = {name: i for i, name in enumerate(run.classes)}

    def tensors(some: Pixels, chosen: np.ndarray) -> Tensors | None:
        labels = torch.tensor([number[some.rows[i].label] for i in chosen], device=device)
        return Tensors(some.sources, some.index[chosen], labels, normalise, channels_last, some.part[chosen]) if len(chosen) else None

    def on_pixels(name: Split) -> Tensors | None:
        return tensors(pixels, places[name])

    changes = Augment(config, preprocess, len(run.classes), device) if augmented(config) else None
    stages, test = [], None
    if config.freeze:
        last = config.unfreeze_after or config.epochs
        if changes is None:  # the same image gives the same features in every epoch
            report = Report(folder, "Running the backbone once")
            rows_of_features, place = features.run_once(model, arch, preprocess, pixels, settings().cache, run.dataset_id, device, report)

            def on_features(name: Split) -> Tensors | None:
                labels = torch.tensor([number[pixels.rows[i].label] for i in places[name]], device=device)
                return Tensors([rows_of_features], place[places[name]], labels) if len(labels) else None

            stages.append(Stage(last, arch.head, True, needed(on_features("train")), on_features("validation")))
            test = on_features("test")
        else:
            stages.append(Stage(last, "", True, needed(on_pixels("train")), on_pixels("validation"), changes))
    if not config.freeze or config.unfreeze_after:
        before = config.unfreeze_after if config.freeze else 0
        full = needed(on_pixels("train"))
        for last, side in sizes(config, before, preprocess):
            train = full
            if side != preprocess.crop:
                smaller = replace(preprocess, resize=round(preprocess.resize * side / preprocess.crop), crop=side)
                of_training = [pixels.rows[i] for i in places["train"]]
                report = Report(folder, f"Reading images at {side} pixels")
                small = data.pixel_rows(settings().cache, run.dataset_id, smaller, of_training, report)
                train = needed(tensors(small, np.arange(len(small.rows))))
            stages.append(Stage(last, "", False, train, on_pixels("validation"), changes))
    if not stages[-1].part:
        test = on_pixels("test")
    return Prepared(model, arch.head, preprocess, pixels, places, stages, test, len(run.classes))


def needed(tensors: Tensors | None) -> Tensors:
    assert tensors is not None  # check() has seen to it
    return tensors


def sizes(config: RunConfig, before: int, preprocess: Preprocess) -> list[tuple[int, int]]:
    """(last epoch, side in pixels) of each stage of the epochs after `before`: a half, three quarters, all of the size.

    After fast.ai's ImageNet run in 18 minutes (Howard 2018), in thirds instead of its own plan.
    """
    stages: list[tuple[int, int]] = []
    for third, share in enumerate((1 / 2, 3 / 4, 1) if config.progressive else (1.0,), 1):
        last = before + (config.epochs - before) * third // 3 if config.progressive else config.epochs
        side = preprocess.crop if share == 1 else min(preprocess.crop, max(32, round(preprocess.crop * share / 32) * 32))
        if last > (stages[-1][0] if stages else before):
            stages.append((last, side))
    return stages


# The run ------------------------------------------------------------------------------------------


def run(folder: Path, begun: list[float]) -> Ended:
    run = runs.load(folder)
    device = pick_device(run.config.device)
    torch.backends.cudnn.allow_tf32 = False  # predictions are compared to 1e-4 with those of the CPU
    torch.backends.cudnn.deterministic = True  # the same seed gives the same run
    with turn(folder, device):
        begun.append(time.monotonic())
        return train(folder, run, device)


def train(folder: Path, run: Run, device: torch.device) -> Ended:
    config = run.config
    prepared = prepare(folder, run, device)
    model, pixels = prepared.model, prepared.pixels
    t = prepared.training(config)
    if small_work(t):
        torch.set_num_threads(1)
    seconds_before = resume(folder, t)
    begun = time.monotonic()
    runs.append(
        folder,
        Started(
            device=device_name(device),
            parameters=sum(p.numel() for p in model.parameters()),
            trained=sum(p.numel() for group in t.optimizer.param_groups for p in group["params"]),
            steps=t.batches,
            epochs=config.epochs,
            at=now(),
            note=" ".join(notes(pixels, len(prepared.places["validation"]))),
        ),
    )
    if any(isinstance(e, Started) for e in runs.events(folder)[:-1]):
        runs.append(folder, Resumed(t.epoch, t.step, now()))

    wanted = runs.sample_ids(pixels.rows)
    outcome: Literal["succeeded", "stopped", "paused"] = "succeeded"
    saved_epoch, saved_at, save_took = t.best_epoch, time.monotonic(), 0.0

    def checkpoint() -> None:
        """The best weights, then all it takes to go on: in this order, so that the second never names weights that are not there."""
        nonlocal saved_epoch, saved_at, save_took
        starting = time.monotonic()
        if t.best_epoch != saved_epoch:
            save_best()
        seconds = seconds_before + starting - begun
        runs.write_atomically(runs.last_checkpoint(folder), lambda tmp: torch.save({**t.state(), "seconds": seconds}, tmp))
        saved_at = time.monotonic()
        save_took = saved_at - starting

    def save_best() -> None:
        nonlocal saved_epoch
        facts = describe(config, run.classes, prepared.preprocess, t.best_epoch or None)
        save(runs.checkpoint(folder), model, facts, best_state(t))
        saved_epoch = t.best_epoch

    events = fit(t)
    try:
        for event in events:
            runs.append(folder, event)
            if isinstance(event, EpochEnd) and t.logits is not None:
                runs.append(folder, asked(t, prepared, wanted))
            if halt_requested(folder):
                if not finished(event, config):
                    outcome = "stopped" if runs.stop_requested(folder) else "paused"
                    checkpoint()
                break
            waited = time.monotonic() - saved_at
            if waited > (CHECKPOINT_SECONDS if isinstance(event, EpochEnd) else STEP_CHECKPOINT_SECONDS) and waited > 10 * save_took:
                checkpoint()
    except Exception as e:
        if not out_of_memory(e):
            raise
        traceback.print_exc()
        del e  # its frames hold the tensors that did not fit
        raise TooLarge(device, config.batch_size, batch_that_fits(t, config.batch_size)) from None
    finally:
        events.close()  # loads the best weights, also when the loss became NaN
        if outcome != "paused":
            if t.best_epoch != saved_epoch or (outcome == "stopped" and not t.best_epoch):
                save_best()
            if runs.checkpoint(folder).exists():  # a run that failed after some epochs has weights to judge too
                runs.write_predictions(folder, run.classes, list(judged(prepared, run.classes)))
    if outcome == "succeeded":
        runs.last_checkpoint(folder).unlink(missing_ok=True)
    best_epoch = t.best_epoch or None
    return Ended(outcome, best_epoch, summary(outcome, best_epoch, t.epoch, config), seconds_before, now())


def small_work(t: Training) -> bool:
    """Whether threads would wait for each other longer than they work.

    784→30→1 on two busy cores: 8,000 to 20,000 images/s with two threads, 97,000 to 200,000 with one.
    """
    learners = [t.model.get_submodule(stage.part) for stage in t.stages]
    convolves = any(isinstance(m, nn.Conv2d) for learner in learners for m in learner.modules())
    weights = max(sum(p.numel() for p in learner.parameters()) for learner in learners)
    return not convolves and weights * t.config.batch_size < SMALL_STEP


def resume(folder: Path, t: Training) -> float:
    """Puts the training where its last checkpoint left it, and returns the seconds it had taken; 0 without one."""
    path = runs.last_checkpoint(folder)
    if not path.exists():
        return 0.0
    try:
        state = torch.load(path, map_location=t.stages[0].train.device, weights_only=True)
        state["random"], state["shuffled"] = state["random"].cpu(), state["shuffled"].cpu()
        if "random_cuda" in state:
            state["random_cuda"] = state["random_cuda"].cpu()
        best = None
        if state["best_epoch"]:
            whole = torch.load(runs.checkpoint(folder), map_location=t.stages[0].train.device, weights_only=True)["state"]
            prefix = path_of(t)
            best = {name: whole[prefix + name] for name in t.changing.state_dict()}
        t.restore(state, best)
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as e:
        raise AppError(
            f"The checkpoint {path.name} of this run is damaged, so it cannot go on from there.",
            "Clone the run to train from the beginning.",
        ) from e
    return float(state["seconds"])


def path_of(t: Training) -> str:
    """What stands before the names of the changing part in the model's state."""
    return "" if t.changing is t.model else t.head + "."


def best_state(t: Training) -> dict[str, torch.Tensor]:
    return {path_of(t) + name: tensor for name, tensor in (t.best or {}).items()}


def asked(t: Training, prepared: Prepared, wanted: Sequence[str]) -> Answers:
    """What the network says now about the validation images."""
    assert t.logits is not None
    rows = [prepared.pixels.rows[i] for i in prepared.places["validation"]]
    labels = needed(t.stages[-1].validation).labels.cpu()
    guesses, shares = t.logits.argmax(1), t.logits.double().softmax(1)
    cells: list[list[int]] = []
    if prepared.classes <= MOST_CLASSES_IN_EVENTS:
        counts = torch.bincount(labels * prepared.classes + guesses, minlength=prepared.classes**2).view(prepared.classes, -1)
        cells = [[int(a), int(p), int(counts[a, p])] for a, p in counts.nonzero()]
    place = {row.image_id: i for i, row in enumerate(rows)}
    samples = [
        [one, int(labels[i]), int(guesses[i]), round(float(shares[i, guesses[i]]), 4), round(float(shares[i, labels[i]]), 4)]
        for one, i in ((one, place[one]) for one in wanted if one in place)
    ]
    return Answers(t.epoch, cells, samples, now())


def judged(prepared: Prepared, classes: tuple[str, ...]) -> Iterator[runs.PredictionRow]:
    """What the network with its best weights says about validation and test images."""
    stage = prepared.stages[-1]
    part = prepared.model.get_submodule(stage.part)
    for name, held in (("validation", stage.validation), ("test", prepared.test)):
        if held is not None:
            rows = (prepared.pixels.rows[i] for i in prepared.places[name])  # type: ignore[index]
            for row, p in zip(rows, answers(part, held).double().softmax(1), strict=True):
                best = int(p.argmax())
                yield runs.PredictionRow(row.image_id, row.split, row.label, classes[best], float(p.max()), tuple(p.tolist()))


def batch_that_fits(t: Training, tried: int) -> int | None:
    """The largest half, quarter, … of a batch with which one training step fits into memory; None if not even one image does."""
    stage = next(s for s in t.stages if t.epoch < s.last)
    learner = t.model.get_submodule(stage.part)
    size = tried
    while (size := size // 2) >= 1:
        t.optimizer.zero_grad()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            for x, _ in stage.train.take_batches([torch.arange(min(size, len(stage.train)))], stage.augment):
                learner(x).sum().backward()
            t.optimizer.zero_grad()
        except Exception as e:
            if not out_of_memory(e):
                raise
        else:
            return size
    return None


def check(rows_of_training: int) -> None:
    if not rows_of_training:
        raise Invalid("There are no readable training images.", "Label some images whose split is train, or import more.")


def notes(pixels: Pixels, validation: int) -> Iterator[str]:
    """What the person who started the run should know about its data."""
    if pixels.skipped:
        names = ", ".join(s.name for s in pixels.skipped[:5]) + ("…" if len(pixels.skipped) > 5 else "")
        yield f"{len(pixels.skipped)} images could not be read and are left out: {names}."
    if not validation:
        yield "There are no validation images, so the training loss decides which epoch is best."


def finished(event: Step | EpochEnd, config: RunConfig) -> bool:
    return isinstance(event, EpochEnd) and event.epoch == config.epochs


def summary(outcome: str, best_epoch: int | None, last_epoch: int, config: RunConfig) -> str:
    if outcome == "paused":
        return f"Paused after {last_epoch} of {config.epochs} epochs. It can go on from the very step it was at."
    if best_epoch is None:
        return "Stopped within the first epoch; its weights so far are kept."
    kept = f"The weights of epoch {best_epoch} are kept."
    if outcome == "stopped":
        return f"Stopped after {last_epoch} of {config.epochs} epochs. {kept}"
    if last_epoch < config.epochs:
        return f"Stopped early, for {config.patience} epochs brought no {'higher accuracy' if config.stop_on == 'accuracy' else 'lower loss'}. {kept}"
    return kept


class Report:
    """Writes how far a preparation has got, at most four times a second; raises Stopped if the run is to stop or pause."""

    def __init__(self, folder: Path, what: str) -> None:
        self.folder, self.what, self.at = folder, what, 0.0

    def __call__(self, done: int, total: int) -> None:
        if done == total or time.monotonic() - self.at > 0.25:
            runs.append(self.folder, Preparing(self.what, done, total, now()))
            self.at = time.monotonic()
        if halt_requested(self.folder):
            raise Stopped


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
