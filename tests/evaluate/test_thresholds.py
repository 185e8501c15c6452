"""Curves and areas are scikit-learn's; what a threshold catches and lets in is counted image by image; test images choose nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm
from sklearn import metrics

from core.errors import Invalid
from core.evaluate import evaluate, thresholds
from core.types import Evaluation, Split
from tests.evaluate.made import CASES, adversarial, run_of, softmax

NAMES = tuple("abcdefg")


def judged(truth: np.ndarray, shares: np.ndarray, split: Split = "validation") -> Evaluation:
    _, run_id = run_of(NAMES[: shares.shape[1]], truth, shares, split)
    return evaluate.evaluate(run_id, split)


@pytest.mark.parametrize("case", CASES)
def test_curves_and_areas_are_those_of_scikit_learn(home: Path, case: str) -> None:
    truth, shares = adversarial(case)
    e = judged(truth, shares)
    for i, name in enumerate(e.classes):
        found, is_class, scores = thresholds.curves(e, name), truth == i, e.probabilities[:, i]
        assert (found.n, found.positives) == (len(truth), is_class.sum())
        if is_class.all() or not is_class.any():
            assert (found.auc, found.average_precision) == (None, None) and len(found.roc) == len(found.precision_recall) == 0
            continue
        assert found.auc is not None and found.average_precision is not None
        assert found.auc.value == pytest.approx(metrics.roc_auc_score(is_class, scores), abs=1e-9)
        assert found.average_precision.value == pytest.approx(metrics.average_precision_score(is_class, scores), abs=1e-9)
        for area in (found.auc, found.average_precision):
            assert 0 <= area.low <= area.value <= area.high <= 1 and area.high - area.low > 0.001
        let_in, caught, at = metrics.roc_curve(is_class, scores, drop_intermediate=False)
        assert found.roc == pytest.approx(np.column_stack([let_in, caught, at]))
        precision, recall, at = metrics.precision_recall_curve(is_class, scores)
        assert found.precision_recall[::-1] == pytest.approx(
            np.column_stack([recall, precision])[:-1] @ np.eye(2, 3) + np.outer(at, [0, 0, 1])
        )


def test_a_long_curve_is_thinned_without_losing_its_shape(home: Path) -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random(5000) < 0.02).astype(int)
    shares = softmax(rng.normal(0, 1, (5000, 2)) + 2 * np.eye(2)[truth])
    e = judged(truth, shares)
    found = thresholds.curves(e, "b")
    let_in, caught, _ = metrics.roc_curve(truth == 1, e.probabilities[:, 1], drop_intermediate=False)
    assert 100 < len(found.roc) <= 500 and 100 < len(found.precision_recall) <= 500
    assert found.roc[0, :2].tolist() == [0, 0] and found.roc[-1, :2].tolist() == [1, 1]
    drawn = np.interp(let_in, found.roc[:, 0], found.roc[:, 1])
    assert np.abs(drawn - caught).mean() < 0.005
    assert found.auc is not None and metrics.auc(found.roc[:, 0], found.roc[:, 1]) == pytest.approx(found.auc.value, abs=0.005)


def test_the_intervals_of_the_areas_hold_the_true_ones() -> None:
    rng = np.random.default_rng(3)
    for positives, others, apart in ((10, 30, 2.5), (50, 150, 1.0)):
        y = np.r_[np.ones(positives, bool), np.zeros(others, bool)]
        true, held = norm.cdf(apart / 2**0.5), []
        for _ in range(300):
            one = thresholds._auc_interval(float(metrics.roc_auc_score(y, rng.normal(size=len(y)) + apart * y)), positives, others)
            held.append(one.low <= true <= one.high)
        assert 0.93 <= np.mean(held) <= 0.995
    perfect = thresholds._auc_interval(1.0, 5, 20)
    assert perfect.high == 1 and 0.4 < perfect.low < 0.95  # five images prove little
    assert thresholds._auc_interval(0.0, 5, 20).low == 0


@pytest.mark.parametrize("case", ["random", "ties", "certain", "never predicted"])
def test_a_threshold_is_counted_image_by_image(home: Path, case: str) -> None:
    truth, shares = adversarial(case)
    e = judged(truth, shares)
    for name in "ag":
        i = NAMES.index(name)
        for threshold in (0.0, 0.125, 0.5, 0.8, 1.0):
            taken, is_class = e.probabilities[:, i] >= threshold, truth == i
            at = thresholds.at(e, name, threshold)
            assert (at.caught, at.let_in) == ((taken & is_class).sum(), (taken & ~is_class).sum())
            assert (at.positives, at.others) == (is_class.sum(), (~is_class).sum())
            parts: dict[thresholds.Part, np.ndarray] = {
                "caught": taken & is_class,
                "missed": ~taken & is_class,
                "let in": taken & ~is_class,
                "kept out": ~taken & ~is_class,
            }
            for part, mask in parts.items():
                assert set(thresholds.images(e, name, threshold, part)) == {f"{k:016x}" for k in np.flatnonzero(mask)}
            if at.precision is None:
                assert not taken.any()
            else:
                assert at.precision.value == pytest.approx(metrics.precision_score(is_class, taken), abs=1e-9)
            assert at.recall is not None and at.recall.value == pytest.approx(metrics.recall_score(is_class, taken), abs=1e-9)


def test_images_nearest_to_the_threshold_come_first(home: Path) -> None:
    truth, shares = adversarial("random")
    e = judged(truth, shares)
    p = dict(zip(e.rows["image_id"], e.probabilities[:, 0], strict=True))
    away = [abs(p[i] - 0.5) for i in thresholds.images(e, "a", 0.5, "kept out")]
    assert len(away) > 100 and away == sorted(away)


@pytest.mark.parametrize("case", ["random", "ties", "certain", "all right", "never predicted"])
def test_a_chosen_threshold_comes_up_to_its_goal_and_no_better_one_does(home: Path, case: str) -> None:
    truth, shares = adversarial(case)
    e = judged(truth, shares)
    grid = np.arange(1001) / 1000
    for i, name in enumerate(e.classes):
        is_class, p = truth == i, e.probabilities[:, i]
        caught = np.array([(p[is_class] >= t).mean() for t in grid])
        kept_out = np.array([(p[~is_class] < t).mean() for t in grid])
        hits, taken = (np.array([(of >= t).sum() for t in grid]) for of in (p[is_class], p))
        f1 = 2 * hits / (is_class.sum() + taken)
        best = thresholds.choose(e, name, "balance")
        assert best is not None and metrics.f1_score(is_class, p >= best) >= f1.max() - 1e-12
        assert thresholds.choose(e, name, "catch", 0.95) == grid[caught >= 0.95].max()
        enough = grid[kept_out >= 0.99]
        assert thresholds.choose(e, name, "keep out", 0.99) == (enough.min() if len(enough) else None)


def test_test_images_choose_no_threshold(home: Path) -> None:
    e = judged(*adversarial("random"), split="test")
    assert thresholds.curves(e, "a").auc is not None and thresholds.at(e, "a", 0.5).positives > 0  # to look is allowed
    with pytest.raises(Invalid, match="validation images only"):
        thresholds.choose(e, "a", "balance")


def test_a_class_that_cannot_be_told_apart_has_no_threshold_and_an_unknown_one_is_refused(home: Path) -> None:
    e = judged(*adversarial("classes absent"))
    assert thresholds.choose(e, "g", "balance") is None
    assert thresholds.at(e, "g", 0.5).recall is None
    with pytest.raises(Invalid, match="no class “zebra”"):
        thresholds.curves(e, "zebra")


def test_images_without_valid_probabilities_are_in_no_curve_and_no_count(home: Path) -> None:
    truth, shares = adversarial("random")
    bad = shares.copy()
    bad[::10, 3] = np.nan
    _, run_id = run_of(NAMES, truth, bad, answers=shares.argmax(1))
    e, good = evaluate.evaluate(run_id, "validation"), np.arange(300) % 10 > 0
    found, at = thresholds.curves(e, "a"), thresholds.at(e, "a", 0.4)
    assert found.auc is not None
    assert found.auc.value == pytest.approx(metrics.roc_auc_score(truth[good] == 0, shares[good, 0]), abs=1e-6)
    assert (found.n, at.positives + at.others) == (270, 270)
