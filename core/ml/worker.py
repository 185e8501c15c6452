"""Trains one run, in its own process: python -m core.ml.worker RUN_DIR."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import filelock
import numpy as np
import torch
from torch import nn

from core import networks, runs
from core.errors import AppError, Invalid
from core.ml import data, features
from core.ml.data import Normalise, Pixels, Stopped, Tensors
from core.ml.fit import answers, batch_sizes, fit
from core.ml.model import build, describe, head_of, preprocess_for, save
from core.settings import settings
from core.types import SPLITS, Ended, EpochEnd, Preparing, Queued, Run, RunConfig, Split, Started, Step, now

CHECKPOINT_SECONDS = 2.0  # at least, between two checkpoints; and ten times what the last one took


def main(folder: Path) -> None:
    """Runs the folder's run to its end; every way out leaves an Ended event."""
    if int(os.environ.get("RANK", "0")):
        return  # rank 0 alone trains and writes
    begun = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: runs.request_stop(folder))
    try:
        ended = run(folder)
    except Stopped:
        ended = Ended("stopped", None, "Stopped before the first epoch began.", 0, now())
    except AppError as e:
        ended = failed(str(e))
    except (MemoryError, torch.OutOfMemoryError):
        traceback.print_exc()
        ended = failed("The device ran out of memory. Choose a smaller batch or image size.", traceback.format_exc())
    except Exception as e:
        traceback.print_exc()
        detail = traceback.format_exc()
        if isinstance(e, RuntimeError) and "can't allocate memory" in str(e):  # PyTorch's own words on the CPU
            ended = failed("The machine ran out of memory. Choose a smaller batch or image size.", detail)
        else:
            ended = failed(f"Training crashed with {type(e).__name__}. The log of the run has the details.", detail)
    best_epoch = ended.best_epoch or next((e.best_epoch for e in reversed(runs.events(folder)) if isinstance(e, EpochEnd)), None)
    runs.append(folder, replace(ended, best_epoch=best_epoch, seconds=time.monotonic() - begun, at=now()))


def failed(message: str, detail: str = "") -> Ended:
    return Ended("failed", None, message, 0, now(), detail)


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
    """One device trains one run at a time; raises Stopped if the run is stopped while it waits."""
    lock = device_lock(device)
    waiting = False
    while True:
        try:
            lock.acquire(timeout=0.5 if waiting else 0)
            break
        except filelock.Timeout:
            if not waiting:
                runs.append(folder, Queued(device.type, now()))
            waiting = True
            if runs.stop_requested(folder):
                raise Stopped from None
    try:
        yield
    finally:
        lock.release()


# The run ------------------------------------------------------------------------------------------


def run(folder: Path) -> Ended:
    run = runs.load(folder)
    device = pick_device(run.config.device)
    torch.backends.cudnn.allow_tf32 = False  # predictions are compared to 1e-4 with those of the CPU
    torch.backends.cudnn.deterministic = True  # the same seed gives the same run
    with turn(folder, device):
        return train(folder, run, device)


def train(folder: Path, run: Run, device: torch.device) -> Ended:
    config, arch = run.config, networks.architecture(run.config.architecture)
    torch.manual_seed(config.seed)

    rows = runs.snapshot_rows(folder)
    check(rows_of_training=sum(row.split == "train" for row in rows))
    preprocess = preprocess_for(config, data.sample_sizes(rows) if arch.input_size is None else [])
    pixels = data.pixel_rows(settings().cache, run.dataset_id, preprocess, rows, Report(folder, "Reading images"))
    places = {s: np.array([i for i, row in enumerate(pixels.rows) if row.split == s], np.int64) for s in SPLITS}
    check(rows_of_training=len(places["train"]))
    if arch.mean is None:
        mean, std = data.measure(pixels.cache, pixels.index[places["train"]])
        preprocess = replace(preprocess, mean=mean, std=std)

    model = build(config, len(run.classes), preprocess)
    learner: nn.Module = model.to(device)
    source, index = pixels.cache, pixels.index
    normalise: Normalise | None = Normalise(preprocess, device)
    channels_last = any(isinstance(m, nn.Conv2d) for m in model.modules())
    if config.freeze:
        report = Report(folder, "Running the backbone once")
        source, index = features.run_once(model, arch, preprocess, pixels, settings().cache, run.dataset_id, device, report)
        learner, normalise, channels_last = head_of(model, arch), None, False
    elif channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    number = {name: i for i, name in enumerate(run.classes)}
    truth = torch.tensor([number[row.label] for row in pixels.rows], device=device)

    def split(name: Split) -> Tensors:
        chosen = places[name]
        return Tensors(source, index[chosen], truth[torch.from_numpy(chosen).to(device)], normalise, channels_last)

    training, validation = split("train"), split("validation")
    runs.append(
        folder,
        Started(
            device=device_name(device),
            parameters=sum(p.numel() for p in model.parameters()),
            trained=sum(p.numel() for p in learner.parameters()),
            steps=len(batch_sizes(len(training), config.batch_size)),
            epochs=config.epochs,
            at=now(),
            note=" ".join(notes(pixels, len(validation))),
        ),
    )

    stopped, best_epoch, last_epoch = False, None, 0
    saved_epoch, saved_at, save_took = None, 0.0, 0.0

    def checkpoint() -> None:
        nonlocal saved_epoch, saved_at, save_took
        begun = time.monotonic()
        save(runs.checkpoint(folder), model, describe(arch.name, run.classes, preprocess, best_epoch))
        saved_epoch, saved_at = best_epoch, time.monotonic()
        save_took = saved_at - begun

    events = fit(learner, training, validation, config)
    try:
        for event in events:
            runs.append(folder, event)
            if isinstance(event, EpochEnd):
                best_epoch, last_epoch = event.best_epoch, event.epoch
                due = time.monotonic() - saved_at > max(CHECKPOINT_SECONDS, 10 * save_took)
                if best_epoch == event.epoch and due:
                    checkpoint()
            if runs.stop_requested(folder):
                stopped = not finished(event, config)
                break
    finally:
        events.close()  # loads the best weights, also when the loss became NaN
        if best_epoch != saved_epoch or stopped:
            checkpoint()
        if runs.checkpoint(folder).exists():  # a run that failed after some epochs has weights to judge too
            predictions = [
                runs.PredictionRow(row.image_id, row.split, row.label, run.classes[int(p.argmax())], float(p.max()), tuple(p.tolist()))
                for name in SPLITS[1:]
                if len(places[name])
                for row, p in zip((pixels.rows[i] for i in places[name]), answers(learner, split(name)).double().softmax(1), strict=True)
            ]
            runs.write_predictions(folder, run.classes, predictions)
    return Ended("stopped" if stopped else "succeeded", best_epoch, summary(stopped, best_epoch, last_epoch, config), 0, now())


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


def summary(stopped: bool, best_epoch: int | None, last_epoch: int, config: RunConfig) -> str:
    if best_epoch is None:
        return "Stopped within the first epoch; its weights so far are kept."
    kept = f"The weights of epoch {best_epoch} are kept."
    if stopped:
        return f"Stopped after {last_epoch} of {config.epochs} epochs. {kept}"
    if last_epoch < config.epochs:
        return f"Stopped early, for {config.patience} epochs brought no lower loss. {kept}"
    return kept


class Report:
    """Writes how far a preparation has got, at most four times a second; raises Stopped if the run is to stop."""

    def __init__(self, folder: Path, what: str) -> None:
        self.folder, self.what, self.at = folder, what, 0.0

    def __call__(self, done: int, total: int) -> None:
        if done == total or time.monotonic() - self.at > 0.25:
            runs.append(self.folder, Preparing(self.what, done, total, now()))
            self.at = time.monotonic()
        if runs.stop_requested(self.folder):
            raise Stopped


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
