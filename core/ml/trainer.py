"""One run: from its folder, or from its last checkpoint, to its Ended event."""

from __future__ import annotations

import pickle
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import filelock
import torch
from torch import nn

from core import space
from core.errors import AppError, Invalid, Stopped, Unavailable, Unwritable
from core.ml.data import Decoded
from core.ml.devices import device_name, device_of, out_of_memory, pick_device, slots
from core.ml.fit import Diverged, Training, answers, bfloat16_pays, fit, worth_a_trial
from core.ml.model import WeightsMissing, describe, save, write
from core.ml.prepare import Prepared, needed, prepare
from core.ml.ranks import ALONE, Ranks, gone, join
from core.ml.turns import halt_requested, halted, turn
from core.runs import runs, stored
from core.settings import settings
from core.types import Answers, Ended, EpochEnd, Preprocess, Resumed, Run, RunConfig, Started, Step, now

CHECKPOINT_SECONDS = 2.0  # at least, between checkpoints at the ends of epochs; and ten times what the last one took
STEP_CHECKPOINT_SECONDS = 30.0  # the same within an epoch
SMALL_STEP = 5e7  # multiplications
MOST_CLASSES_IN_EVENTS = 50  # a line of events is read by every browser that watches


def run(folder: Path, held: list[str] | None = None, written: Callable[[], None] = lambda: None) -> None:
    """Runs the folder's run to its end, or on from its last checkpoint; every way out leaves an Ended event.

    held: the slots whose turn it has already; written: is told of each checkpoint.
    """
    begun: list[float] = []  # when it got the device: waiting in line is not training
    room = runs.keep_room(folder)
    try:
        stored.bring_weights(folder)
        ended = on_its_device(folder, begun, held, join(), written)
    except Stopped:
        ended = halted(folder)
    except Diverged as e:
        rate = runs.load(folder).config.learning_rate
        ended = failed(str(e), remedy={"learning_rate": float(f"{rate / 10:.3g}")})
    except TooLarge as e:
        ended = failed(str(e), remedy={"batch_size": e.batch_size} if e.batch_size else {})
    except WeightsMissing as e:
        ended = failed(str(e), remedy={"architecture": "efficientnet_lite0"})
    except Unavailable as e:
        ended = failed(str(e))
        goes_on = runs.last_checkpoint(folder).exists() or not runs.checkpoint(folder).exists()
        if goes_on and not isinstance(e, Unwritable):
            ended = replace(ended, outcome="paused", message=f"{e} Then resume the run.", seconds=halted(folder).seconds)
    except AppError as e:
        ended = failed(str(e))
    except OSError as e:
        room.unlink(missing_ok=True)  # the log may lie on the full disk, too
        traceback.print_exc()
        ended = failed(f"{space.refusal(e)}", traceback.format_exc())
        if e.errno in space.FULL and (runs.last_checkpoint(folder).exists() or not runs.checkpoint(folder).exists()):
            message = f"{space.refusal(e).message} Make room, then resume the run: it goes on from its last checkpoint."
            ended = replace(ended, outcome="paused", message=message, seconds=halted(folder).seconds)
    except Exception as e:
        traceback.print_exc()
        if gone(e):
            raise SystemExit(1) from e  # no end is written: the run is lost, and goes on from its last checkpoint
        detail = traceback.format_exc()
        if out_of_memory(e):
            ended = failed("The machine ran out of memory. Choose a smaller batch or image size.", detail)
        else:
            ended = failed(f"Training crashed with {type(e).__name__}. The log of the run has the details.", detail)
    best_epoch = ended.best_epoch or next((e.best_epoch for e in reversed(runs.events(folder)) if isinstance(e, EpochEnd)), None)
    room.unlink(missing_ok=True)
    seconds = ended.seconds + (time.monotonic() - begun[0] if begun else 0)
    runs.append(folder, replace(ended, best_epoch=best_epoch or None, seconds=seconds, at=now()))
    if ended.outcome == "succeeded":  # and not before: killed in between, it could not go on
        runs.last_checkpoint(folder).unlink(missing_ok=True)


def follow(folder: Path) -> None:
    """What every rank but the first does: the same training, of which it writes nothing."""
    run, ranks = runs.load(folder), join()
    try:
        stored.bring_weights(folder)
        train(folder, run, ranks.agree([]), ranks)
    except (AppError, SystemExit):
        pass  # all of them fail alike, and the first one says it
    except RuntimeError as e:
        if not gone(e):
            raise
    ranks.wait_for_first()


def failed(message: str, detail: str = "", remedy: dict[str, Any] | None = None) -> Ended:
    return Ended("failed", None, message, 0, now(), detail, remedy or {})


class TooLarge(AppError):
    """A batch does not fit into the device's memory."""

    def __init__(self, device: torch.device, tried: int, fits: int | None) -> None:
        self.batch_size = fits
        way = f"A batch of {fits} fits." if fits else "Not even one image fits: choose a smaller network or image size."
        super().__init__(f"The memory of the {device.type} is too small for batches of {tried} images.", way)


# The run ------------------------------------------------------------------------------------------


def on_its_device(folder: Path, begun: list[float], held: list[str] | None, ranks: Ranks, written: Callable[[], None]) -> Ended:
    run = runs.load(folder)
    with nullcontext(held) if held else turn(folder, slots(pick_device(run.config.device).type), ranks.count) as mine:
        begun.append(time.monotonic())
        return train(folder, run, ranks.agree(mine), ranks, written)


def train(folder: Path, run: Run, held: list[str], ranks: Ranks, written: Callable[[], None] = lambda: None) -> Ended:
    """held: the slots that the ranks share; written: is told of each checkpoint."""
    torch.backends.cudnn.allow_tf32 = False  # predictions are compared to 1e-4 with those of the CPU
    torch.backends.cudnn.deterministic = True  # the same seed gives the same run
    device = device_of(held[ranks.number % len(held)], -(-ranks.count // len(held)))
    ranks = ranks.on(device)
    prepared = ranks.after_first(lambda: prepare(folder, run, device))
    check_shares(run.config, len(prepared.places["train"]), ranks)
    if not ranks.first:
        torch.manual_seed(run.config.seed + ranks.number)  # else every rank would drop the same units and turn its images alike
    t = prepared.training(run.config, ranks)
    if small_work(t):
        torch.set_num_threads(1)
    if not runs.last_checkpoint(folder).exists():  # else it goes on as it has begun
        t.bfloat16 = ranks.agree(worth_a_trial(t) and bfloat16_pays_here(t, prepared.preprocess))
    kept = Checkpoints(folder, run, prepared, t)
    if ranks.first:
        announce(folder, prepared, t, device)
    wanted = runs.sample_ids(prepared.pixels.rows)
    outcome: Literal["succeeded", "stopped", "paused"] = "succeeded"
    events = fit(t)
    together = ranks  # who judges: where one rank alone has failed, the others do not come to it
    try:
        for event in events:
            if ranks.first:
                runs.append(folder, event)
                if isinstance(event, EpochEnd) and t.logits is not None:
                    runs.append(folder, asked(t, prepared, wanted))
            if ranks.agree(halt_requested(folder)):
                if not finished(event, run.config):
                    outcome = ranks.agree("stopped" if runs.stop_requested(folder) else "paused")
                    kept.write()
                break
            if ranks.agree(kept.due(event)):
                kept.write()
                written()
    except Exception as e:
        if gone(e):
            outcome = "paused"  # nothing is judged
            raise
        if not out_of_memory(e):
            raise
        together = ALONE
        traceback.print_exc()
        del e  # its frames hold the tensors that did not fit
        raise TooLarge(device, run.config.batch_size, batch_that_fits(t, run.config.batch_size)) from None
    finally:
        events.close()  # loads the best weights, also when the loss became NaN
        if outcome != "paused":
            if t.best_epoch != kept.epoch or (outcome == "stopped" and not t.best_epoch):
                kept.write_best()
            if together.agree(runs.checkpoint(folder).exists()):  # a run that failed after some epochs has weights to judge too
                rows = judged(prepared, run.classes, together)
                if ranks.first:
                    runs.write_predictions(folder, run.classes, rows)
                else:
                    deque(rows, maxlen=0)  # its share
    best_epoch = t.best_epoch or None
    return Ended(outcome, best_epoch, summary(outcome, best_epoch, t.epoch, run.config), kept.seconds_before, now())


def check_shares(config: RunConfig, images: int, ranks: Ranks) -> None:
    """Invalid unless every rank gets two images of each batch, which batch normalisation needs."""
    if ranks.count > 1 and min(config.batch_size, images) < 2 * ranks.count:
        raise Invalid(
            f"A batch of {min(config.batch_size, images)} images cannot be shared by {ranks.count} devices: each needs two at least.",
            f"Choose a batch size of {2 * ranks.count} or more, or fewer devices.",
        )


def bfloat16_pays_here(t: Training, preprocess: Preprocess) -> bool:
    """Whether bfloat16 pays, as the first trial on this kind of machine found: the same seed and settings give the same run."""
    machine = (version("torch"), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())
    config = t.config
    what = (config.architecture, config.layers, config.batch_size, t.ranks.count, preprocess.channels, preprocess.crop, t.classes)
    path, key = settings().cache / "precision.json", repr((*machine, *what))
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_suffix(".lock")):
        known: dict[str, bool] = {}
        with suppress(FileNotFoundError, ValueError):
            known = runs.read_json(path)
        if key not in known:
            known[key] = bfloat16_pays(t)
            runs.write_json(path, known)
    return known[key]


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
            note=" ".join(notes(prepared, t)),
            ranks=t.ranks.count,
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
        """The best weights, then all it takes to go on: in this order, so that the second never names weights that are not there.

        All ranks have a part in the state, and the first one writes it.
        """
        starting = time.monotonic()
        if self.t.best_epoch != self.epoch:
            self.write_best()
        state = {**self.t.state(), "seconds": self.seconds_before + starting - self.begun}
        if self.t.ranks.first:
            write(runs.last_checkpoint(self.folder), state)
        self.written_at = time.monotonic()
        self.took = self.written_at - starting

    def write_best(self) -> None:
        if self.t.ranks.first:
            facts = describe(self.run.config, self.run.classes, self.prepared.preprocess, self.t.best_epoch or None)
            save(runs.checkpoint(self.folder), self.prepared.model, facts, best_state(self.t))
        self.epoch = self.t.best_epoch


def resume(folder: Path, t: Training) -> float:
    """Puts the training where its last checkpoint left it, and returns the seconds it had taken; 0 without one."""
    path = runs.last_checkpoint(folder)
    if not path.exists():
        return 0.0
    runs.check_hash(path)
    try:
        state = torch.load(path, map_location=t.stages[0].train.device, weights_only=True)
        state["random"], state["shuffled"] = state["random"].cpu(), state["shuffled"].cpu()
        state["randoms"] = [one.cpu() for one in state.get("randoms", [state["random"]])]
        if "random_cuda" in state:
            state["random_cuda"] = state["random_cuda"].cpu()
        best = None
        if state["best_epoch"]:
            runs.check_hash(runs.checkpoint(folder))
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


def judged(prepared: Prepared, classes: tuple[str, ...], ranks: Ranks) -> Iterator[runs.PredictionRow]:
    """What the network with its best weights says about validation and test images."""
    stage = prepared.stages[-1]
    part = prepared.model.get_submodule(stage.part)
    for name, held in (("validation", stage.validation), ("test", prepared.test)):
        if held is not None:
            rows = (prepared.pixels.rows[i] for i in prepared.places[name])  # type: ignore[index]
            for row, p in zip(rows, answers(part, held, ranks).double().softmax(1), strict=True):
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


def notes(prepared: Prepared, t: Training) -> Iterator[str]:
    """What the person who started the run should know about its data, and of how it calculates."""
    if skipped := prepared.pixels.skipped:
        names = ", ".join(s.name for s in skipped[:5]) + ("…" if len(skipped) > 5 else "")
        yield f"{len(skipped)} images could not be read and are left out: {names}."
    if decoded := sum(source.decoded for source in prepared.pixels.sources if isinstance(source, Decoded)):
        yield (
            f"{decoded:,} of the {len(prepared.pixels.rows):,} images do not fit into the cache (LOUPE_CACHE_GB, or the room on the disk): "
            "they are decoded whenever they are needed."
        )
    if not len(prepared.places["validation"]):
        yield "There are no validation images, so the training loss decides which epoch is best."
    normalises = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in prepared.model.modules())
    if t.ranks.count > 1 and normalises and not prepared.stages[-1].frozen:
        yield f"Batch normalisation goes by the images of each of the {t.ranks.count} devices by itself, not by the whole batch."
    if t.bfloat16:
        yield "Its steps are done in bfloat16, which was tried out and is faster on this processor; answers are given in float32."


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
