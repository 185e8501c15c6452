"""One class against all others: its ROC and precision-recall curve, and what a threshold on its probability catches and lets in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.errors import Invalid
from core.evaluate.evaluate import kept_with_it
from core.metrics import Z95, wilson
from core.types import Evaluation, Interval

STEPS = 1000  # thresholds are offered in thousandths
MOST_POINTS = 500  # of a curve that is drawn
Goal = Literal["balance", "catch", "keep out"]
Part = Literal["caught", "missed", "let in", "kept out"]


@dataclass(frozen=True, eq=False)
class Curves:
    """Both curves of one class; undefined, None and without points, where no image is the class, or every one is."""

    name: str
    n: int  # images with valid probabilities
    positives: int  # of them, those that are the class
    roc: np.ndarray  # (≤ 500, 3): share of the others let in, share caught, threshold
    precision_recall: np.ndarray  # (≤ 500, 3): recall, precision, threshold
    auc: Interval | None  # area under the ROC curve
    average_precision: Interval | None


@dataclass(frozen=True)
class Threshold:
    """What is taken for the class when its probability is at least the threshold."""

    name: str
    threshold: float
    caught: int  # images of the class that are taken for it
    positives: int  # images of the class
    let_in: int  # others that are taken for it
    others: int

    @property
    def recall(self) -> Interval | None:
        return wilson(self.caught, self.positives)

    @property
    def false_positives(self) -> Interval | None:
        """The share of the others that is let in."""
        return wilson(self.let_in, self.others)

    @property
    def precision(self) -> Interval | None:
        return wilson(self.caught, self.caught + self.let_in)


def _scores(e: Evaluation, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(n,) probability of the class, NaN where a row has one that is no number, and whether the image is the class."""
    if name not in e.classes:
        raise Invalid(f"This run has no class “{name}”.", f"Choose one of: {', '.join(e.classes[:20])}.")
    valid, true = _rows(e)
    place = e.classes.index(name)
    return np.where(valid, e.probabilities[:, place], np.nan), true == place


@kept_with_it
def _rows(e: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """(n,) whether all probabilities are numbers, and the place of the true class."""
    return np.isfinite(e.probabilities).all(1), e.rows["true"].map({c: i for i, c in enumerate(e.classes)}).to_numpy(int)


@kept_with_it
def curves(e: Evaluation, name: str) -> Curves:
    """The curves of one class, of every threshold that tells two images apart; the same numbers as scikit-learn's.

    The interval of average precision is Wilson's with the class's images as n, for it is a mean over them (Boyd, Eng and Page 2013, Area
    under the precision-recall curve: point estimates and confidence intervals, ECML PKDD; there in its plain binomial form).
    """
    scores, is_class = _scores(e, name)
    valid = ~np.isnan(scores)
    scores, is_class = scores[valid], is_class[valid]
    n, positives = len(scores), int(is_class.sum())
    if positives in (0, n):
        nothing = np.empty((0, 3))
        return Curves(name, n, positives, nothing, nothing, None, None)
    # Not by scikit-learn: the server would load it, a second of CPU, for this alone.
    falling = np.argsort(-scores, kind="stable")
    scores, is_class = scores[falling], is_class[falling]
    taken = np.append(np.flatnonzero(np.diff(scores)), n - 1) + 1  # images, at every threshold: equal probabilities come together
    at = scores[taken - 1]
    hits = np.cumsum(is_class)[taken - 1]
    precision = hits / taken
    caught = np.insert(hits / positives, 0, 0.0)  # the first threshold takes nothing
    let_in = np.insert((taken - hits) / (n - positives), 0, 0.0)
    average = float(np.diff(caught) @ precision)
    return Curves(
        name=name,
        n=n,
        positives=positives,
        roc=_thinned(np.column_stack([let_in, caught, np.insert(at, 0, np.inf)])),
        precision_recall=_thinned(np.column_stack([caught[1:], precision, at])),
        auc=_auc_interval(float(np.trapezoid(caught, let_in)), positives, n - positives),
        average_precision=wilson(average * positives, positives),
    )


def _thinned(points: np.ndarray) -> np.ndarray:
    """At most 500 of the points, evenly along the curve, the first and the last among them."""
    if len(points) <= MOST_POINTS:
        return points
    way = np.concatenate([[0], np.abs(np.diff(points[:, :2], axis=0)).sum(1).cumsum()])
    places = np.searchsorted(way, np.linspace(0, way[-1], MOST_POINTS))
    return points[np.unique(np.clip(places, 0, len(points) - 1))]


def _auc_interval(area: float, positives: int, negatives: int) -> Interval:
    """The 95 % interval of the areas that this one does not contradict (Newcombe 2006, Confidence intervals for an effect size measure
    based on the Mann–Whitney statistic, part 2, Statistics in Medicine 25:559, method 5).

    Not DeLong's and not the bootstrap's: where the two kinds are told apart without a mistake they say 1 to 1, of 5 images as of 5,000.
    """
    more = (positives + negatives) / 2 - 1

    def contradicted(true: float) -> bool:
        spread = true * (1 - true) * (1 + more * (1 - true) / (2 - true) + more * true / (1 + true)) / (positives * negatives)
        return bool(abs(area - true) > Z95 * spread**0.5)

    def end(outside: float) -> float:
        inside = area
        for _ in range(50):
            middle = (outside + inside) / 2
            outside, inside = (middle, inside) if contradicted(middle) else (outside, middle)
        return inside

    return Interval(area, end(0.0), end(1.0))


# A threshold --------------------------------------------------------------------------------------


def at(e: Evaluation, name: str, threshold: float) -> Threshold:
    """What the threshold catches and lets in."""
    scores, is_class = _scores(e, name)
    taken, valid = scores >= threshold, ~np.isnan(scores)
    caught, positives = int((taken & is_class).sum()), int((valid & is_class).sum())
    return Threshold(name, threshold, caught, positives, int(taken.sum()) - caught, int(valid.sum()) - positives)


def images(e: Evaluation, name: str, threshold: float, part: Part) -> list[str]:
    """The ids of the images behind one of the counts, those nearest to the threshold first."""
    scores, is_class = _scores(e, name)
    taken = scores >= threshold
    wanted = (is_class if part in ("caught", "missed") else ~is_class) & (taken if part in ("caught", "let in") else scores < threshold)
    places = np.flatnonzero(wanted)
    return list(e.rows["image_id"].to_numpy(object)[places[np.argsort(np.abs(scores[places] - threshold), kind="stable")]])


def choose(e: Evaluation, name: str, goal: Goal, share: float = 0.95) -> float | None:
    """The threshold, in thousandths, that comes up to the goal on validation images; None where there is none.

    balance: the best F1. catch: the highest one that catches this share of the class. keep out: the lowest one that keeps out this
    share of the others.
    """
    if e.split != "validation":
        raise Invalid("A threshold is chosen on validation images only.", "Choose it there, then look at what it does on the test images.")
    scores, is_class = _scores(e, name)
    mine, others = (np.sort(scores[part & ~np.isnan(scores)]) for part in (is_class, ~is_class))
    if not len(mine) or not len(others):
        return None
    steps = np.arange(STEPS + 1) / STEPS
    caught, let_in = (len(part) - np.searchsorted(part, steps) for part in (mine, others))  # searchsorted: how many lie below
    if goal == "balance":
        f1 = 2 * caught / (len(mine) + caught + let_in)
        best = np.flatnonzero(f1 == f1.max())
        return float(steps[best[len(best) // 2]])  # the middle of equally good ones is the least delicate
    part, good = (mine, caught) if goal == "catch" else (others, len(others) - let_in)
    enough = np.flatnonzero(good >= share * len(part) - 1e-9)
    return float(steps[enough[-1 if goal == "catch" else 0]]) if len(enough) else None
