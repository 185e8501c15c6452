"""What a run's stored predictions are worth, joined with the labels of today: no model is called."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from core import launch, ledger, runs, store
from core.errors import Invalid, NotFound
from core.metrics import Z95, wilson
from core.types import ClassMetrics, Evaluation, Interval

FIXED = runs.FIXED


def evaluate(run_id: str, split: str, today: bool = True) -> Evaluation:
    """Metrics of one split, against today's labels or those of the run's snapshot.

    Images that carry no label of the run's classes today are left out and counted. Classes bear their names of today.
    """
    path = runs.folder(run_id)
    run = runs.load(path)
    rows = _predictions(run_id)
    words = ledger.names(run.dataset_id)
    named = {c: words.since(c, run.created_at) for c in run.classes}
    classes = tuple(named.values())
    rows = rows[rows["split"] == split].drop(columns="split").reset_index(drop=True).replace({"true": named, "predicted": named})
    if rows.empty:
        raise Invalid(f"This run has no {split} images.", "Choose the other split, or import images with that split.")
    changed = 0
    if today and store.get_dataset(run.dataset_id).deleted_at is None:
        current = rows["image_id"].map(store.labels(run.dataset_id))
        changed = int((current.fillna("") != rows["true"]).sum())
        rows["true"] = current
    return _judged(run_id, split, classes, rows, changed)


def recorded(run_id: str, split: str) -> Evaluation:
    """Metrics of one split against the labels, and with the names of classes, that the run was trained with."""
    rows = _predictions(run_id)
    rows = rows[rows["split"] == split].drop(columns="split").reset_index(drop=True)
    return _judged(run_id, split, runs.load(runs.folder(run_id)).classes, rows, 0)


def _judged(run_id: str, split: str, classes: tuple[str, ...], rows: pd.DataFrame, changed: int) -> Evaluation:
    """The rows: image_id, true, predicted, confidence and a column of probabilities for each class."""
    known = rows["true"].isin(classes)
    without_label = int((~known).sum())
    rows = rows[known].reset_index(drop=True)
    size = len(classes)
    index = {c: i for i, c in enumerate(classes)}
    true, predicted = rows["true"].map(index).to_numpy(int), rows["predicted"].map(index).to_numpy(int)
    confusion = np.bincount(true * size + predicted, minlength=size * size).reshape(size, size)
    probabilities = rows[list(range(size))].to_numpy(float)
    losses = -np.log(np.clip(probabilities[np.arange(len(rows)), true], 1e-12, 1)) if len(rows) else np.zeros(0)
    return Evaluation(
        run_id=run_id,
        split=split,
        classes=classes,
        n=len(rows),
        accuracy=wilson(int(np.trace(confusion)), len(rows)),
        loss=_mean(losses),
        per_class=tuple(_class_metrics(c, confusion, i) for i, c in enumerate(classes)),
        confusion=confusion,
        rows=rows[["image_id", "true", "predicted", "confidence"]],
        changed=changed,
        without_label=without_label,
    )


def _mean(values: np.ndarray) -> Interval | None:
    """A mean and its 95 % interval by the normal approximation; None for fewer than two values: one alone has no interval."""
    if len(values) < 2:
        return None
    mean = float(values.mean())
    half = Z95 * float(values.std(ddof=1)) / len(values) ** 0.5
    return Interval(mean, max(0.0, mean - half), mean + half)


def _class_metrics(name: str, confusion: np.ndarray, i: int) -> ClassMetrics:
    """F1 is a monotone function of the share TP / (TP + FP + FN); its interval is that share's, carried over."""
    hit, actual, given = int(confusion[i, i]), int(confusion[i].sum()), int(confusion[:, i].sum())
    share = wilson(hit, actual + given - hit)
    f1 = None if share is None else Interval(*(2 * s / (1 + s) for s in (share.value, share.low, share.high)))
    return ClassMetrics(name, actual, given, wilson(hit, given), wilson(hit, actual), f1)


def _predictions(run_id: str) -> pd.DataFrame:
    path = runs.predictions_path(runs.folder(run_id))
    if not path.exists():
        if launch.launcher.alive(path.parent):
            raise NotFound("This run has no predictions yet: it writes them when it ends.", "Wait for it, or choose another run.")
        if runs.checkpoint(path.parent).exists():
            raise NotFound("This run ended before its predictions were written.", "Resume it on the Train page, or choose another run.")
        raise NotFound("This run has no predictions: it ended before its first epoch.", "Start it again, or choose another run.")
    # Probabilities are columns 0, 1, …: a class may be called "true" or "split".
    names: list[str | int] = [*FIXED, *range(len(runs.load(path.parent).classes))]
    return pd.read_csv(path, header=0, names=names, dtype=dict.fromkeys(FIXED[:4], str), keep_default_na=False)


def splits(run_id: str) -> list[str]:
    """The splits the run has predictions for, validation first."""
    held = set(_predictions(run_id)["split"])
    return [s for s in ("validation", "test") if s in held]


def _confident_first(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sort_values("confidence", ascending=False, kind="stable")


def cell(evaluation: Evaluation, true: str | None, predicted: str | None) -> pd.DataFrame:
    """Exactly the rows counted in one cell (None: any class), most confident first."""
    rows: pd.DataFrame = evaluation.rows
    if true is not None:
        rows = rows[rows["true"] == true]
    if predicted is not None:
        rows = rows[rows["predicted"] == predicted]
    return _confident_first(rows)


def mistakes(evaluation: Evaluation) -> pd.DataFrame:
    """The rows the network got wrong, most confident first."""
    rows: pd.DataFrame = evaluation.rows
    return _confident_first(rows[rows["true"] != rows["predicted"]])


def most_confused(evaluation: Evaluation) -> list[tuple[str, str, int]]:
    """(actual, predicted, images) of the cells off the diagonal, most images first."""
    off = evaluation.confusion.copy()
    np.fill_diagonal(off, 0)
    order = np.argsort(-off, axis=None, kind="stable")[: int((off > 0).sum())]
    pairs = (np.unravel_index(i, off.shape) for i in order)
    return [(evaluation.classes[y], evaluation.classes[x], int(off[y, x])) for y, x in pairs]


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    def interval(i: Interval | None) -> dict[str, float] | None:
        return None if i is None else {"value": i.value, "low": i.low, "high": i.high}

    return {
        "run": evaluation.run_id,
        "split": evaluation.split,
        "n": evaluation.n,
        "accuracy": interval(evaluation.accuracy),
        "loss": interval(evaluation.loss),
        "per_class": {
            c.name: {
                "n": c.n,
                "predicted": c.predicted,
                "precision": interval(c.precision),
                "recall": interval(c.recall),
                "f1": interval(c.f1),
            }
            for c in evaluation.per_class
        },
        "confusion": {"classes": list(evaluation.classes), "counts": evaluation.confusion.tolist()},
        "labels_changed": evaluation.changed,
    }
