"""One run: from its folder, or from its last checkpoint, to its Ended event."""

from __future__ import annotations

import pickle
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from core import space
from core.errors import AppError, Stopped
from core.ml.data import Pixels
from core.ml.devices import device_name, halt_requested, out_of_memory, pick_device, turn
from core.ml.fit import Diverged, Training, answers, fit
from core.ml.model import WeightsMissing, describe, save, write
from core.ml.prepare import Prepared, needed, prepare
from core.runs import runs
from core.types import Answers, Ended, EpochEnd, Resumed, Run, RunConfig, Started, Step, now

CHECKPOINT_SECONDS = 2.0  # at least, between checkpoints at the ends of epochs; and ten times what the last one took
STEP_CHECKPOINT_SECONDS = 30.0  # the same within an epoch
SMALL_STEP = 5e7  # multiplications
MOST_CLASSES_IN_EVENTS = 50  # a line of events is read by every browser that watches


def run(folder: Path) -> None:
    """Runs the folder's run to its end, or on from its last checkpoint; every way out leaves an Ended event."""
    begun: list[float] = []  # when it got the device: waiting in line is not training
    room = runs.keep_room(folder)
    try:
        ended = on_its_device(folder, begun)
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
    except OSError as e:
        room.unlink(missing_ok=True)  # the log may lie on the full disk, too
        traceback.print_exc()
        ended = failed(f"{space.refusal(e)}", traceback.format_exc())
        if e.errno in space.FULL and (runs.last_checkpoint(folder).exists() or not runs.checkpoint(folder).exists()):
            message = f"{space.refusal(e).message} Make room, then resume the run: it goes on from its last checkpoint."
            ended = replace(ended, outcome="paused", message=message, seconds=spent(folder))
    except Exception as e:
        traceback.print_exc()
        detail = traceback.format_exc()
        if out_of_memory(e):
            ended = failed("The machine ran out of memory. Choose a smaller batch or image size.", detail)
        else:
            ended = failed(f"Training crashed with {type(e).__name__}. The log of the run has the details.", detail)
    best_epoch = ended.best_epoch or next((e.best_epoch for e in reversed(runs.events(folder)) if isinstance(e, EpochEnd)), None)
    room.unlink(missing_ok=True)
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


# The run ------------------------------------------------------------------------------------------


def on_its_device(folder: Path, begun: list[float]) -> Ended:
    run = runs.load(folder)
    device = pick_device(run.config.device)
    torch.backends.cudnn.allow_tf32 = False  # predictions are compared to 1e-4 with those of the CPU
    torch.backends.cudnn.deterministic = True  # the same seed gives the same run
    with turn(folder, device):
        begun.append(time.monotonic())
        return train(folder, run, device)


def train(folder: Path, run: Run, device: torch.device) -> Ended:
    prepared = prepare(folder, run, device)
    t = prepared.training(run.config)
    if small_work(t):
        torch.set_num_threads(1)
    kept = Checkpoints(folder, run, prepared, t)
    announce(folder, prepared, t, device)
    wanted = runs.sample_ids(prepared.pixels.rows)
    outcome: Literal["succeeded", "stopped", "paused"] = "succeeded"
    events = fit(t)
    try:
        for event in events:
            runs.append(folder, event)
            if isinstance(event, EpochEnd) and t.logits is not None:
                runs.append(folder, asked(t, prepared, wanted))
            if halt_requested(folder):
                if not finished(event, run.config):
                    outcome = "stopped" if runs.stop_requested(folder) else "paused"
                    kept.write()
                break
            if kept.due(event):
                kept.write()
    except Exception as e:
        if not out_of_memory(e):
            raise
        traceback.print_exc()
        del e  # its frames hold the tensors that did not fit
        raise TooLarge(device, run.config.batch_size, batch_that_fits(t, run.config.batch_size)) from None
    finally:
        events.close()  # loads the best weights, also when the loss became NaN
        if outcome != "paused":
            if t.best_epoch != kept.epoch or (outcome == "stopped" and not t.best_epoch):
                kept.write_best()
            if runs.checkpoint(folder).exists():  # a run that failed after some epochs has weights to judge too
                runs.write_predictions(folder, run.classes, list(judged(prepared, run.classes)))
    if outcome == "succeeded":
        runs.last_checkpoint(folder).unlink(missing_ok=True)
    best_epoch = t.best_epoch or None
    return Ended(outcome, best_epoch, summary(outcome, best_epoch, t.epoch, run.config), kept.seconds_before, now())


def announce(folder: Path, prepared: Prepared, t: Training, device: torch.device) -> None:
    """Started, and Resumed where it is not the first time."""
    runs.append(
        folder,
        Started(
            device=device_name(device),
            parameters=sum(p.numel() for p in prepared.model.parameters()),
            trained=sum(p.numel() for group in t.optimizer.param_groups for p in group["params"]),
            steps=t.batches,
            epochs=t.config.epochs,
            at=now(),
            note=" ".join(notes(prepared.pixels, len(prepared.places["validation"]))),
        ),
    )
    if any(isinstance(e, Started) for e in runs.events(folder)[:-1]):
        runs.append(folder, Resumed(t.epoch, t.step, now()))


def small_work(t: Training) -> bool:
    """Whether threads would wait for each other longer than they work.

    784→30→1 on two busy cores: 8,000 to 20,000 images/s with two threads, 97,000 to 200,000 with one.
    """
    learners = [t.model.get_submodule(stage.part) for stage in t.stages]
    convolves = any(isinstance(m, nn.Conv2d) for learner in learners for m in learner.modules())
    weights = max(sum(p.numel() for p in learner.parameters()) for learner in learners)
    return not convolves and weights * t.config.batch_size < SMALL_STEP


# Checkpoints --------------------------------------------------------------------------------------


class Checkpoints:
    """The best weights of a run and, beside them, all it takes to go on; begins with what the last one held."""

    def __init__(self, folder: Path, run: Run, prepared: Prepared, t: Training) -> None:
        self.folder, self.run, self.prepared, self.t = folder, run, prepared, t
        self.seconds_before = resume(folder, t)
        self.begun = self.written_at = time.monotonic()
        self.took = 0.0  # seconds, to write the last one
        self.epoch = t.best_epoch  # whose weights are written

    def due(self, event: Step | EpochEnd) -> bool:
        waited = time.monotonic() - self.written_at
        return waited > (CHECKPOINT_SECONDS if isinstance(event, EpochEnd) else STEP_CHECKPOINT_SECONDS) and waited > 10 * self.took

    def write(self) -> None:
        """The best weights, then all it takes to go on: in this order, so that the second never names weights that are not there."""
        starting = time.monotonic()
        if self.t.best_epoch != self.epoch:
            self.write_best()
        state = {**self.t.state(), "seconds": self.seconds_before + starting - self.begun}
        write(runs.last_checkpoint(self.folder), state)
        self.written_at = time.monotonic()
        self.took = self.written_at - starting

    def write_best(self) -> None:
        facts = describe(self.run.config, self.run.classes, self.prepared.preprocess, self.t.best_epoch or None)
        save(runs.checkpoint(self.folder), self.prepared.model, facts, best_state(self.t))
        self.epoch = self.t.best_epoch


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


# Answers and sentences ----------------------------------------------------------------------------


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
