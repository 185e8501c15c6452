"""Finished runs whose answers are made up, and answers that are not kind."""

from __future__ import annotations

import numpy as np

from core.catalog import params
from core.data import classes, labels, store
from core.runs import runs
from core.settings import settings
from core.types import Dataset, Image, Run, Split, now


def run_of(
    names: tuple[str, ...], truth: np.ndarray, shares: np.ndarray, split: Split = "validation", answers: np.ndarray | None = None
) -> tuple[Dataset, str]:
    """A dataset whose images carry these labels, and a finished run that gave them these probabilities."""
    made = store.create_dataset("judged")
    classes.ensure(made.id, names)
    new = [Image(f"{i:016x}", made.id, "png", 8, 8, 1, 9, split, f"{i}.png", now(), 0, 9, names[t]) for i, t in enumerate(truth)]
    labels.add_images(made.id, new, "tester", "import")
    run_id = run_on(store.get_dataset(made.id), names, new, truth, shares, answers)
    return store.get_dataset(made.id), run_id


def run_on(
    made: Dataset, classes: tuple[str, ...], new: list[Image], truth: np.ndarray, shares: np.ndarray, answers: np.ndarray | None = None
) -> str:
    """A finished run on images that are stored already."""
    answers = shares.argmax(1) if answers is None else answers
    rows = [
        runs.PredictionRow(i.id, i.split, classes[t], classes[a], float(p.max()), tuple(p.tolist()))
        for i, t, a, p in zip(new, truth, answers, shares, strict=True)
    ]
    snapshot = store.snapshot(made.id, 0)
    counts = {split: sum(i.split == split for i in new) for split in ("train", "validation", "test")}
    config = params.run_config({"architecture": "linear"})
    run = Run("20260101-000000-beef", "Linear 1", made.id, made.name, config, classes, snapshot.id, counts, now(), "me", "x")
    runs.create(settings().runs / run.id, run, snapshot)
    runs.write_predictions(settings().runs / run.id, classes, rows)
    return run.id


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def adversarial(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Truth and probabilities."""
    rng = np.random.default_rng(len(case))
    truth = rng.integers(0, 7, 300)
    shares = softmax(rng.normal(0, 1.5, (300, 7)) + 2 * np.eye(7)[truth])
    if case == "ties":
        shares = np.round(shares * 8) + 1
        shares /= shares.sum(1, keepdims=True)
    elif case == "all equal":
        shares = np.full((300, 7), 1 / 7)
    elif case == "certain":
        shares = np.eye(7)[np.where(rng.random(300) < 0.8, truth, (truth + 1) % 7)]
    elif case == "classes absent":
        truth = np.where(truth > 3, 0, truth)
    elif case == "never predicted":
        shares[:, 5:] = 0
    elif case == "one class only":
        truth[:] = 2
    elif case == "one image":
        truth, shares = truth[:1], shares[:1]
    elif case == "all right":
        shares = softmax(9 * np.eye(7)[truth])
    elif case == "all wrong":
        shares = softmax(9 * np.eye(7)[(truth + 3) % 7])
    elif case == "one class known":
        truth, shares = np.zeros(300, int), np.ones((300, 1))
    return truth, shares


CASES = (
    "random",
    "ties",
    "all equal",
    "certain",
    "classes absent",
    "never predicted",
    "one class only",
    "one image",
    "all right",
    "all wrong",
)
