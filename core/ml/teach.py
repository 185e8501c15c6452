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
from core.ml.embed import save

AT_LEAST = 4  # labels
MOST = 5000  # labels learned from: a fit of 10 classes then takes a second
FOLDS = 5
JUDGES = 20  # labelled validation images from which they, and not cross-validation, say how good the head is
# The weight of the labels against the prior, for features of length 1. Neither centred nor standardised: noise then weighs as much
# as what tells classes apart, and 50 labels of cats and dogs gave 81 % instead of 98 %, of CIFAR-10 31 % instead of 49 %.
STRENGTH = 15.0


def teach(folder: str, out: str, labels: dict[str, str], classes: tuple[str, ...], validation: list[str]) -> dict[str, Any]:
    """Learns from the labels, answers for every image of the embedding into the file out, and returns labels, n, correct, how, classes.

    What it says of a labelled image comes from a head that has not seen that label. The caller leaves out the labels of the test split. Where enough of the labels are of validation images, these judge the head and
    it does not learn from them; else every fifth of the labels is judged by what was learned from the others.
    Raises Invalid if there is too little to learn from.
    """
    with np.load(Path(folder) / "embedding.npz") as stored:
        ids, x = stored["ids"], stored["reduced"]
    number = {name: i for i, name in enumerate(classes)}
    y = np.array([number.get(labels.get(i, ""), -1) for i in ids.tolist()], np.int64)
    held = np.isin(ids, validation) & (y >= 0)
    if held.sum() < JUDGES:
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
    honest = out_of_sample(p[judged], x, y, learned, judged)  # NaN for the only image of its class
    known = ~np.isnan(honest[:, 0])
    scored = held[judged] if held.any() else known
    right = honest[scored].argmax(1) == y[judged[scored]]
    p[judged[known]] = honest[known]
    own = np.full(len(ids), np.nan, np.float32)
    own[judged] = honest[np.arange(len(judged)), y[judged]]
    issue = np.zeros(len(ids), bool)
    issue[judged[known]] = suspects(y[judged[known]], honest[known])
    top = -np.sort(-p, axis=1)[:, :2]
    arrays = {
        "ids": ids,
        "classes": np.array(classes),
        "label": y.astype(np.int32),
        "predicted": p.argmax(1).astype(np.int32),
        "confidence": top[:, 0],
        "margin": top[:, 0] - top[:, 1],
        "entropy": -(p * np.log(p.clip(1e-12))).sum(1),
        "own": own,
        "issue": issue,
    }
    save(Path(out), arrays)
    return {
        "labels": int((y >= 0).sum()),
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


def out_of_sample(p: np.ndarray, x: np.ndarray, y: np.ndarray, learned: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """p, but for what the head has learned from: there what a head without that fold says. NaN where a class has one label alone.

    A class's labels go to the folds in turn, so every class of two or more is in every training part.
    """
    honest = p.copy()
    place = {int(i): n for n, i in enumerate(judged)}
    fold = np.empty(len(learned), np.int64)
    for name in np.unique(y[learned]):
        mine = np.flatnonzero(y[learned] == name)
        fold[mine] = np.arange(len(mine)) % FOLDS if len(mine) > 1 else FOLDS
    for number in range(FOLDS + 1):
        tested = learned[fold == number]
        if not len(tested):
            continue
        where = [place[int(i)] for i in tested]
        rest = learned[fold != number]
        honest[where] = np.nan if number == FOLDS else spread(fit(x[rest], y[rest]), x[tested], p.shape[1])
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
