"""The head of "Teach me": logistic regression on the embedding, learned from the labels so far; asked in the model worker."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from cleanlab.filter import find_label_issues  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from core.errors import Invalid
from core.ml.data import save_arrays

AT_LEAST = 4  # labels
MOST = 5000  # labels learned from: a fit of 10 classes then takes a second
FOLDS = 5
JUDGES = 20  # labelled validation images from which they, and not cross-validation, say how good the head is
# The weight of the labels against the prior, for features of length 1. Neither centred nor standardised: noise then weighs as much
# as what tells classes apart, and 50 labels of cats and dogs gave 81 % instead of 98 %, of CIFAR-10 31 % instead of 49 %.
STRENGTH = 15.0


def teach(
    folder: str, out: str, labels: dict[str, str], classes: tuple[str, ...], validation: list[str], accepted: list[str], at: str
) -> dict[str, Any]:
    """Learns from the labels, answers for every image of the embedding into the file out, and returns facts of Lesson of core.label.teach.

    What it says of a labelled image comes from a head that has seen neither that label nor that of a near duplicate; where no
    such head knows the class, as for the only image of one, nothing is known: all classes are equally likely then.
    Where enough of the labels are of validation images, these judge the head and it does not learn from them; else every fifth
    of the labels is judged by what was learned from the others. Accepted answers of an earlier head judge nothing.
    The caller leaves out the labels of the test split. Raises Invalid if there is too little to learn from.
    """
    with np.load(Path(folder) / "embedding.npz") as stored:
        ids, x, group = stored["ids"], stored["reduced"], stored["group"]
    number = {name: i for i, name in enumerate(classes)}
    y = np.array([number.get(labels.get(i, ""), -1) for i in ids.tolist()], np.int64)
    held = np.isin(ids, validation) & (y >= 0)
    judges = (y >= 0) & ~np.isin(ids, accepted)
    if (held & judges).sum() < JUDGES:
        held[:] = False
    learned = balanced(ids, y, (y >= 0) & ~held)
    if len(learned) < AT_LEAST or len(np.unique(y[learned])) < 2:
        raise Invalid(
            "There is too little to learn from yet.",
            f"Label at least {AT_LEAST} images of at least two classes, and make the map again if they are new.",
        )
    head = fit(x[learned], y[learned])
    p = spread(head, x, len(classes))
    judged = np.flatnonzero(y >= 0)
    unit = np.where(group >= 0, group, -1 - np.arange(len(ids)))  # near duplicates are one
    honest = out_of_sample(p[judged], x, y, learned, judged, unit)  # NaN: unknown
    known = ~np.isnan(honest[:, 0])
    scored = known & (judges & held if held.any() else judges)[judged]
    right = honest[scored].argmax(1) == y[judged[scored]]
    p[judged[known]] = honest[known]
    predicted = p.argmax(1)
    p[judged[~known]] = 1 / len(classes)
    own = np.full(len(ids), np.nan, np.float32)
    own[judged] = honest[np.arange(len(judged)), y[judged]]
    issue = np.zeros(len(ids), bool)
    issue[judged[known]] = suspects(y[judged[known]], honest[known])
    top = -np.sort(-p, axis=1)[:, :2]
    arrays = {
        "ids": ids,
        "classes": np.array(classes),
        "label": y.astype(np.int32),
        "predicted": predicted.astype(np.int32),
        "confidence": top[:, 0],
        "margin": top[:, 0] - top[:, 1],
        "entropy": -(p * np.log(p.clip(1e-12))).sum(1),
        "own": own,
        "issue": issue,
        "at": np.array(at),
    }
    save_arrays(Path(out), arrays)
    return {
        "labels": int((y >= 0).sum()),
        "learned": len(learned),
        "n": int(scored.sum()),
        "correct": int(right.sum()),
        "how": "validation" if held.any() else "cross-validation",
        "classes": len(np.unique(y[learned])),
    }


def balanced(ids: np.ndarray, y: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """The places of at most MOST of the allowed labels, as even over the classes as they permit, in order of (rank in class, class)."""
    seen: dict[int, int] = defaultdict(int)
    ranked = []
    for i in np.argsort(ids):  # ids are hashes: a random order that stays
        if allowed[i]:
            ranked.append((seen[y[i]], int(y[i]), int(i)))
            seen[y[i]] += 1
    return np.array([i for _, _, i in sorted(ranked)[:MOST]], np.int64)


def fit(x: np.ndarray, y: np.ndarray) -> LogisticRegression:
    with threadpool_limits(1):  # the products are so small that two threads wait for each other: 0.14 s for 5,000 labels, not 4
        return LogisticRegression(C=STRENGTH, max_iter=300).fit(x, y)


def spread(head: LogisticRegression, x: np.ndarray, classes: int) -> np.ndarray:
    """(N, classes) float32 probabilities; 0 for what the head has never seen."""
    p = np.zeros((len(x), classes), np.float32)
    p[:, head.classes_] = head.predict_proba(x)
    return p


def out_of_sample(p: np.ndarray, x: np.ndarray, y: np.ndarray, learned: np.ndarray, judged: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """p, but for what the head has learned from, or near duplicates of it: there what a head without that fold says.

    A class's units go to the folds in turn; the only one of a class is in every training part, and its answer is NaN.
    """
    honest = p.copy()
    fold: dict[int, int] = {}
    for name in np.unique(y[learned]):
        mine = list(dict.fromkeys(unit[learned[y[learned] == name]].tolist()))
        for n, one in enumerate(mine):
            fold.setdefault(one, n % FOLDS if len(mine) > 1 else FOLDS)
    of_judged = np.array([fold.get(one, -1) for one in unit[judged].tolist()])
    of_learned = np.array([fold[one] for one in unit[learned].tolist()])
    for number in range(FOLDS + 1):
        tested = judged[of_judged == number]
        if not len(tested):
            continue
        rest = learned[of_learned != number]
        answer = np.full((len(tested), p.shape[1]), np.nan, np.float32)
        if number < FOLDS and len(np.unique(y[rest])) > 1:
            there = np.isin(y[tested], y[rest])  # a class all of whose units are in groups with another's may not be
            answer[there] = spread(fit(x[rest], y[rest]), x[tested], p.shape[1])[there]
        honest[of_judged == number] = answer
    return honest


def suspects(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Which labels are probably wrong (confident learning, Northcutt et al. 2021, as cleanlab does it).

    Of 5 % of labels changed in 600 images it found 83 % of cats and dogs (96 % of what it named was changed) and 77 % (82 %) of digits.
    """
    present = np.unique(y)
    if len(present) < 2:
        return np.zeros(len(y), bool)
    part = p[:, present].astype(np.float64) + 1e-9
    part /= part.sum(1, keepdims=True)
    found: np.ndarray = find_label_issues(np.searchsorted(present, y), part, filter_by="low_normalized_margin", n_jobs=1)
    return found
