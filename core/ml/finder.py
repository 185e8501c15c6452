"""Finds a learning rate, in its own process: python -m core.ml.finder FOLDER STEPS."""

from __future__ import annotations

import signal
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from core import processes
from core.errors import AppError, Invalid, Stopped
from core.ml.devices import device_name, device_of, out_of_memory, pick_device, slots
from core.ml.fit import Training, drawn, stepper, train_mode
from core.ml.prepare import prepare
from core.ml.trainer import failed
from core.ml.turns import turn
from core.runs import runs
from core.types import Ended, Started, Step, now

LOW, HIGH = 1e-7, 10.0
BURST = 4.0  # times the smallest loss: what is seen after that is of no use
WIDTH = 0.2  # decades of learning rate, of the smoothing
LEAST = 0.03  # share of the loss that has to be lost
BY_CHANCE = 6  # times its noise, that a curve that goes nowhere may rise and fall in eight decades


def main(folder: Path, steps: int) -> None:
    """Writes curve.json and an Ended event, whatever comes; the weights are thrown away."""
    begun = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: runs.request_stop(folder))
    try:
        ended = find(folder, steps)
    except Stopped:
        ended = Ended("stopped", None, "Stopped.", 0, now())
    except AppError as e:
        ended = failed(str(e))
    except Exception as e:
        traceback.print_exc()
        what = (
            "The device ran out of memory. Choose a smaller batch or image size."
            if out_of_memory(e)
            else f"It crashed with {type(e).__name__}."
        )
        ended = failed(what, traceback.format_exc())
    runs.append(folder, replace(ended, seconds=time.monotonic() - begun, at=now()))


def find(folder: Path, steps: int) -> Ended:
    """Raises the learning rate from step to step and suggests one."""
    run = runs.load(folder)
    with turn(folder, slots(pick_device(run.config.device).type)) as held:
        device = device_of(held[0])
        t = prepare(folder, run, device).training(run.config)
        if callable(getattr(t.model, "learn", None)):
            raise Invalid(
                "This network is computed in one pass over the images: it has no learning rate.", "Choose a network that is trained."
            )
        learning = sum(p.numel() for group in t.optimizer.param_groups for p in group["params"])
        everything = sum(p.numel() for p in t.model.parameters())
        runs.append(folder, Started(device_name(device), everything, learning, steps, 1, now()))
        rates, losses, images, reported = list[float](), list[float](), 0, 0.0
        for rate, loss, batch in sweep(t, steps):
            rates, losses, images = [*rates, rate], [*losses, loss], min(images + batch, len(t.stages[0].train))
            if time.monotonic() - reported > 0.25 or len(rates) == steps:
                reported = time.monotonic()
                runs.append(folder, Step(1, len(rates), loss, 0.0, 0.0, None, now(), rate))
            if runs.stop_requested(folder):
                raise Stopped
    smooth = smoothed(np.array(rates), np.array(losses))
    suggested = suggest(np.array(rates), np.array(losses), smooth)
    curve = {"rates": rates, "losses": losses, "smooth": smooth.tolist(), "suggested": suggested, "images": images}
    runs.write_json(folder / "curve.json", curve)
    return Ended("succeeded", None, "", 0, now())


def sweep(t: Training, steps: int) -> Iterator[tuple[float, float, int]]:
    """(learning rate, loss, images) of each step, until the loss bursts.

    The range test of Smith 2015 (arXiv:1506.01186). Departures: the rate grows by a factor instead of an amount, over some 100 steps,
    and the loss of the batch is read instead of the validation accuracy, as in fastai; validation images are never looked at.
    """
    stage, config = t.stages[0], t.config
    learn = stepper(t, stage)
    train_mode(t.model, t.head, stage)
    mean, best, waiting = 0.0, float("inf"), list[Tensor]()
    for step in range(steps):
        rate = LOW * (HIGH / LOW) ** (step / (steps - 1))
        for group in t.optimizer.param_groups:
            group["lr"] = rate * group["top_lr"] / config.learning_rate  # first layers keep their share
        waiting = waiting or stage.train.batches(drawn(t, stage.train), config.batch_size, t.shuffler)
        for x, y in stage.train.take_batches([waiting.pop(0)], stage.augment):
            loss = float(learn(x, y, len(y))[0])
            mean = 0.9 * mean + 0.1 * loss
            current = mean / (1 - 0.9 ** (step + 1))
            best = min(best, current)
            if not np.isfinite(loss) or current > BURST * best:
                return
            yield rate, loss, len(y)


def smoothed(rates: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """(N,) by a bell curve over the rates before and after: a running mean would lag behind by decades of learning rate."""
    decades = np.log10(rates)
    weights = np.exp(-0.5 * ((decades[:, None] - decades) / WIDTH) ** 2)
    return np.asarray(weights @ losses / weights.sum(1))


def suggest(rates: np.ndarray, losses: np.ndarray, smooth: np.ndarray) -> float | None:
    """The middle, in decades, of the steepest stretch on the way down to the smallest loss; None where it does not fall.

    The stretch is where the loss falls at least half as fast as at its fastest. fastai's “valley” takes a point of the longest fall.
    """
    lowest = int(smooth.argmin()) if len(smooth) else 0
    if lowest < 3:
        return None
    together = max(1.0, 2 * np.sqrt(np.pi) * WIDTH / np.log10(rates[1] / rates[0]))  # steps that the smoothing lays together
    noise = float((losses - smooth)[: lowest + 1].std()) / np.sqrt(together)
    drop = float(smooth[: lowest + 1].max() - smooth[lowest])
    if drop < max(LEAST * float(smooth[0]), BY_CHANCE * noise):
        return None
    slope = np.gradient(smooth[: lowest + 1], np.log10(rates[: lowest + 1]))
    first = last = int(slope.argmin())
    while first > 0 and slope[first - 1] <= slope[slope.argmin()] / 2:
        first -= 1
    while last < lowest and slope[last + 1] <= slope[slope.argmin()] / 2:
        last += 1
    return float(np.sqrt(rates[first] * rates[last]))


if __name__ == "__main__":
    processes.keep(Path(sys.argv[1]).resolve())
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]))
