"""What a run's stored predictions are worth, joined with the labels of today: no model is called."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from core import storage
from core.data import events, store
from core.errors import Invalid, NotFound
from core.metrics import Z95, wilson
from core.runs import launch, runs
from core.types import ClassMetrics, Evaluation, Interval, Run

if TYPE_CHECKING:
    import pandas as pd

MOST_TOP = 5  # of top-k accuracy
HELD = 2**30  # bytes of probabilities that stay in memory


@dataclass(frozen=True, eq=False)
class _Stored:
    """The stored predictions: places are those of the run's classes, -1 for any other word."""

    ids: np.ndarray  # (N,) str objects
    splits: np.ndarray  # (N,) str objects
    true: np.ndarray  # (N,) int
    predicted: np.ndarray  # (N,) int
    confidence: np.ndarray  # (N,) float64
    probabilities: np.ndarray  # (N, classes) float64


def evaluate(run_id: str, split: str, today: bool = True) -> Evaluation:
    """Metrics of one split, against today's labels or those of the run's snapshot.

    Images that carry no label of the run's classes today are left out and counted. Classes bear their names of today.
    The same question gets the same object until a label, a name or the predictions change: it must not be written to.
    """
    path = runs.folder(run_id)
    run = runs.load(path)
    stat = _predictions_file(path).stat()
    words = events.names(run.dataset_id)
    today = today and store.get_dataset(run.dataset_id).deleted_at is None
    version = store.version(run.dataset_id) if today else (0, 0, "")
    key = (str(path), stat.st_mtime_ns, stat.st_size, split, today, version, tuple(words.renames))
    return _kept(key, lambda: _evaluate(run, split, today, tuple(words.since(c, run.created_at) for c in run.classes)))


def _evaluate(run: Run, split: str, today: bool, classes: tuple[str, ...]) -> Evaluation:
    stored = _part(run, split)
    if not len(stored.ids):
        raise Invalid(f"This run has no {split} images.", "Choose the other split, or import images with that split.")
    true, changed = stored.true, 0
    if today:
        labels, index = store.current_labels(run.dataset_id), {c: i for i, c in enumerate(classes)}
        true = np.fromiter((index.get(labels.get(i) or "", -1) for i in stored.ids), int, len(stored.ids))
        changed = sum(stored.ids[i] in labels for i in np.flatnonzero(true != stored.true))  # an image that is gone has no label to change
    return _judged(run.id, split, classes, stored, true, changed, today)


def recorded(run_id: str, split: str) -> Evaluation:
    """Metrics of one split against the labels, and with the names of classes, that the run was trained with."""
    run = runs.load(runs.folder(run_id))
    stored = _part(run, split)
    return _judged(run_id, split, run.classes, stored, stored.true, 0, False)


def _judged(
    run_id: str, split: str, classes: tuple[str, ...], stored: _Stored, labels: np.ndarray, changed: int, today: bool
) -> Evaluation:
    """Labels are places of classes, by row of what is stored; -1: not of these classes."""
    import pandas as pd  # half a second that the command line and its jobs need not spend

    held = _rows(labels >= 0)
    ids, true, predicted = stored.ids[held], labels[held], stored.predicted[held]
    probabilities, confidence = stored.probabilities[held], stored.confidence[held]
    n, size, names = len(ids), len(classes), np.array([*classes, ""], object)
    confusion = np.bincount(true * size + predicted, minlength=size * size).reshape(size, size)
    valid = _valid(probabilities)
    likely, valid_true = (probabilities, true) if valid.all() else (probabilities[valid], true[valid])
    found = Evaluation(
        run_id=run_id,
        split=split,
        classes=classes,
        n=n,
        accuracy=wilson(int(np.trace(confusion)), n),
        loss=_mean(losses(likely, valid_true)),
        per_class=tuple(_class_metrics(c, confusion, i) for i, c in enumerate(classes)),
        confusion=confusion,
        rows=pd.DataFrame({"image_id": ids, "true": names[true], "predicted": names[predicted], "confidence": confidence}),
        changed=changed,
        without_label=len(labels) - n,
        balanced_accuracy=_balanced_accuracy(confusion),
        macro_f1=_macro_f1(confusion),
        top_k=_top_k(likely, valid_true),
        invalid=int((~valid).sum()),
        probabilities=probabilities,
        today=today,
    )
    probabilities.flags.writeable = False
    return found


def _rows(wanted: np.ndarray) -> slice | np.ndarray:
    """The wanted rows, as a slice where they lie together: then nothing is copied."""
    found = np.flatnonzero(wanted)
    if len(found) and found[-1] - found[0] + 1 == len(found):
        return slice(int(found[0]), int(found[-1]) + 1)
    return found


# Metrics ------------------------------------------------------------------------------------------


def losses(probabilities: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(N,) cross-entropy in nats of the place of the true class; a probability counts as at least 2.2e-16, as in scikit-learn."""
    least = np.finfo(np.float64).eps
    found: np.ndarray = -np.log(np.clip(probabilities[np.arange(len(true)), true], least, 1 - least))
    return found


def _mean(values: np.ndarray) -> Interval | None:
    """A mean and its 95 % interval by the normal approximation; None for fewer than two values: one alone has no interval."""
    if len(values) < 2:
        return None
    mean = float(values.mean())
    half = Z95 * float(values.std(ddof=1)) / len(values) ** 0.5
    return Interval(mean, max(0.0, mean - half), mean + half)


def _class_metrics(name: str, confusion: np.ndarray, i: int) -> ClassMetrics:
    """F1 is a monotone function of the share TP / (TP + FP + FN), and the interval is that share's (Wilson), carried over.

    Of the images that are the class or were taken for it, TP is binomial, so this is as sound as Wilson's interval itself. A bootstrap
    is not: of 10 images all right it says 100 % to 100 % (tests/test_evaluate.py measures both).
    """
    hit, actual, given = int(confusion[i, i]), int(confusion[i].sum()), int(confusion[:, i].sum())
    share = wilson(hit, actual + given - hit)
    f1 = None if share is None else Interval(*(2 * s / (1 + s) for s in (share.value, share.low, share.high)))
    return ClassMetrics(name, actual, given, wilson(hit, given), wilson(hit, actual), f1)


def _balanced_accuracy(confusion: np.ndarray) -> Interval | None:
    """The mean recall of the classes that have images; None without images.

    Shares of separate images are independent: their Wilson intervals are joined by the squares of their halves (Zou and Donner 2008,
    Construction of confidence limits about effect measures, Statistics in Medicine 27:1693).
    """
    recalls = [r for i, row in enumerate(confusion) if (r := wilson(int(row[i]), int(row.sum()))) is not None]
    if not recalls:
        return None
    value, low, high = np.array([(r.value, r.low, r.high) for r in recalls]).T
    mean, below, above = (float(x) / len(recalls) for x in (value.sum(), np.linalg.norm(value - low), np.linalg.norm(high - value)))
    return Interval(mean, max(0.0, mean - below), min(1.0, mean + above))


def _macro_f1(confusion: np.ndarray) -> Interval | None:
    """The mean F1 of the classes that have images or answers; None without images.

    The interval is the percentile bootstrap's: images are drawn again with replacement, which for counts is one draw of the cells from
    a multinomial, whatever n. Where all answers are right, or none, there is nothing to draw: the interval is then the accuracy's.
    """
    n, right = int(confusion.sum()), int(np.trace(confusion))
    if n == 0:
        return None
    value = _mean_f1(np.diag(confusion), confusion.sum(1), confusion.sum(0))
    if right in (0, n):
        whole = wilson(right, n)
        assert whole is not None
        return Interval(value, whole.low, whole.high)
    actual, given = np.nonzero(confusion)
    counts, hit, size = confusion[actual, given], actual == given, len(confusion)
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(len(counts)), counts) if 2 * len(counts) > n else None  # as many cells: drawing the images is quicker
    drawn = []
    for _ in range(int(np.clip(4_000_000 // len(counts), 200, 1000))):  # of a full matrix of 1,000 classes fewer: 1 s
        cells = rng.multinomial(n, counts / n) if images is None else np.bincount(images[rng.integers(0, n, n)], minlength=len(counts))
        drawn.append(
            _mean_f1(
                np.bincount(actual[hit], cells[hit], size), np.bincount(actual, cells, size), np.bincount(given, cells, size)
            )
        )  # fmt: skip
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Interval(value, min(value, float(low)), max(value, float(high)))


def _mean_f1(hit: np.ndarray, actual: np.ndarray, given: np.ndarray) -> float:
    named = actual + given > 0
    return float((2 * hit[named] / (actual + given)[named]).mean())


def _top_k(probabilities: np.ndarray, true: np.ndarray) -> dict[int, Interval]:
    """The share of images whose label is among the k likeliest, k from 2 to 5; nothing for 5 classes or fewer.

    Equal probabilities stand in the order of the classes, as where the answer is chosen, so that it never falls below the accuracy.
    """
    n, size = probabilities.shape
    if size <= MOST_TOP or not n:
        return {}
    before = np.empty(n, int)
    for start in range(0, n, 1000):  # rows that stay in the processor's cache
        some, labels = probabilities[start : start + 1000], true[start : start + 1000]
        own = some[np.arange(len(some)), labels][:, None]
        ahead = np.count_nonzero(some > own, axis=1)
        for i in np.flatnonzero((np.count_nonzero(some == own, axis=1) > 1) & (ahead < MOST_TOP)):
            ahead[i] += np.count_nonzero(some[i, : labels[i]] == own[i])
        before[start : start + 1000] = ahead
    found = {k: wilson(int((before < k).sum()), n) for k in range(2, MOST_TOP + 1)}
    return {k: share for k, share in found.items() if share is not None}


# Stored predictions -------------------------------------------------------------------------------


Kept = TypeVar("Kept", Evaluation, _Stored)
_memory: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
_lock = Lock()


def _kept(key: tuple[Any, ...], make: Callable[[], Kept]) -> Kept:
    """What was made for the key; the latest stay in memory, by the bytes of their probabilities."""
    with _lock:
        if key in _memory:
            _memory.move_to_end(key)
            return _memory[key]  # type: ignore[no-any-return]
    found = make()
    with _lock:
        _memory[key] = found
        while len(_memory) > 32 or (len(_memory) > 2 and _bytes() > HELD):
            _memory.popitem(last=False)
    return found


P = ParamSpec("P")
R = TypeVar("R")


def kept_with_it(make: Callable[Concatenate[Evaluation, P], R]) -> Callable[Concatenate[Evaluation, P], R]:
    """Answers of a function of an evaluation are kept as long as the evaluation is; an lru_cache would keep evaluations nobody needs."""
    answers: WeakKeyDictionary[Evaluation, dict[Any, R]] = WeakKeyDictionary()

    @wraps(make)
    def answer(e: Evaluation, /, *args: P.args, **kwargs: P.kwargs) -> R:
        held, key = answers.setdefault(e, {}), (args, tuple(kwargs.items()))
        if key not in held:
            held[key] = make(e, *args, **kwargs)
        return held[key]

    return answer


def _bytes() -> int:
    """What the kept probabilities take; those that are a part of others, or mapped from a file, take nothing."""
    arrays = [one.probabilities if one.probabilities.base is None else one.probabilities.base for one in _memory.values()]
    return sum({id(array): array.nbytes for array in arrays if array.base is None}.values())


def _predictions_file(folder: Path) -> Path:
    path = runs.predictions_path(folder)
    if not path.exists():
        if launch.launcher.alive(folder):
            raise NotFound("This run has no predictions yet: it writes them when it ends.", "Wait for it, or choose another run.")
        if storage.known(runs.checkpoint(folder)):
            raise NotFound("This run ended before its predictions were written.", "Resume it on the Train page, or choose another run.")
        raise NotFound("This run has no predictions: it ended before its first epoch.", "Start it again, or choose another run.")
    return path


def _predictions(run: Run) -> _Stored:
    folder = runs.folder(run.id)
    stat = _predictions_file(folder).stat()
    return _kept((str(folder), stat.st_mtime_ns, stat.st_size), lambda: _stored(runs.predictions(folder), run.classes))


def _stored(found: runs.Predictions, classes: tuple[str, ...]) -> _Stored:
    index = {c: i for i, c in enumerate(classes)}
    true, predicted = (np.array([index.get(word, -1) for word in words.tolist()], int) for words in (found.true, found.predicted))
    ids, splits = (words.astype(object) for words in (found.image_id, found.split))
    return _Stored(ids, splits, true, predicted, np.ascontiguousarray(found.confidence), found.probabilities)


def _part(run: Run, split: str) -> _Stored:
    """The stored predictions of one split, with an answer that is one of the run's classes."""
    whole = _predictions(run)
    held = _rows((whole.splits == split) & (whole.predicted >= 0))
    return _Stored(*(getattr(whole, name)[held] for name in ("ids", "splits", "true", "predicted", "confidence", "probabilities")))


def splits(run_id: str) -> list[str]:
    """The splits the run has predictions for, validation first."""
    held = set(_predictions(runs.load(runs.folder(run_id))).splits)
    return [s for s in ("validation", "test") if s in held]


# Images -------------------------------------------------------------------------------------------


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


def _confident_first(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sort_values("confidence", ascending=False, kind="stable")


def top_losses(evaluation: Evaluation) -> pd.DataFrame:
    """The rows by their loss, in the column loss (nats), largest first: where the label was held least likely.

    Without images whose probabilities are no numbers.
    """
    index = {c: i for i, c in enumerate(evaluation.classes)}
    true = evaluation.rows["true"].map(index).to_numpy(int)
    rows: pd.DataFrame = evaluation.rows.assign(loss=losses(evaluation.probabilities, true))
    return rows[_valid(evaluation.probabilities)].sort_values("loss", ascending=False, kind="stable")


def least_certain(evaluation: Evaluation) -> pd.DataFrame:
    """The rows by the margin between the two likeliest classes, in the column margin, smallest first.

    Without images whose probabilities are no numbers; of one class alone, the margin is its probability.
    """
    held = evaluation.probabilities
    two = np.partition(held, -2, axis=1)[:, -2:] if held.shape[1] > 1 else np.column_stack([0 * held[:, 0], held[:, 0]])
    rows: pd.DataFrame = evaluation.rows.assign(margin=two[:, 1] - two[:, 0])
    return rows[_valid(evaluation.probabilities)].sort_values("margin", kind="stable")


def _valid(probabilities: np.ndarray) -> np.ndarray:
    """(N,) whether a row holds numbers alone: its sum is none otherwise, and takes a single reading."""
    with np.errstate(invalid="ignore"):
        found: np.ndarray = np.isfinite(probabilities.sum(1))
    return found


def most_confused(evaluation: Evaluation) -> list[tuple[str, str, int]]:
    """(actual, predicted, images) of the cells off the diagonal, most images first."""
    off = evaluation.confusion.copy()
    np.fill_diagonal(off, 0)
    order = np.argsort(-off, axis=None, kind="stable")[: int((off > 0).sum())]
    ys, xs = np.unravel_index(order, off.shape)
    classes = evaluation.classes
    return [(classes[y], classes[x], n) for y, x, n in zip(ys.tolist(), xs.tolist(), off[ys, xs].tolist(), strict=True)]


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    def interval(i: Interval | None) -> dict[str, float] | None:
        return None if i is None else asdict(i)

    return {
        "run": evaluation.run_id,
        "split": evaluation.split,
        "n": evaluation.n,
        "accuracy": interval(evaluation.accuracy),
        "balanced_accuracy": interval(evaluation.balanced_accuracy),
        "macro_f1": interval(evaluation.macro_f1),
        "loss": interval(evaluation.loss),
        "top_k": {str(k): interval(share) for k, share in evaluation.top_k.items()},
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
        "without_label": evaluation.without_label,
        "invalid": evaluation.invalid,
    }
