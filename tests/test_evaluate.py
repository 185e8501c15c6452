"""Metrics are the textbook's, follow today's labels, and lead to the very images they count."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics

from core import catalog, dataset, evaluate, label, ledger, runs, store
from core.errors import Invalid, NotFound
from core.metrics import wilson
from core.settings import settings
from core.types import Dataset, Image, Run, now

HARD = ("NA", "nan", "1", "true", 'a,"b"', "None", "01", "predicted", "split", "1.0", "é; x")


def judged(classes: tuple[str, ...], n: int = 400, seed: int = 5) -> tuple[Dataset, str, np.ndarray, np.ndarray, np.ndarray]:
    """A dataset and a finished run with known answers: the dataset, the run's id, truth, answers and probabilities."""
    rng = np.random.default_rng(seed)
    made = store.create_dataset("judged")
    truth = rng.integers(0, len(classes), n)
    logits = rng.normal(0, 1, (n, len(classes)))
    logits[np.arange(n), truth] += 1.5
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    ledger.add_classes(made.id, classes)
    new = [Image(f"{i:016x}", made.id, "png", 8, 8, 1, 9, "validation", f"{i}.png", now(), 0, 9, classes[t]) for i, t in enumerate(truth)]
    ledger.add_images(made.id, new, "tester", "import")
    answers = shares.argmax(1)
    rows = [
        runs.PredictionRow(i.id, "validation", classes[t], classes[a], float(p.max()), tuple(p.tolist()))
        for i, t, a, p in zip(new, truth, answers, shares, strict=True)
    ]
    snapshot = store.snapshot(made.id, 0)
    counts = {"train": 0, "validation": n, "test": 0}
    config = catalog.run_config({"architecture": "linear"})
    run = Run("20260101-000000-beef", "Linear 1", made.id, made.name, config, classes, snapshot.id, counts, now(), "me", "x")
    runs.create(settings().runs / run.id, run, snapshot)
    runs.write_predictions(settings().runs / run.id, classes, rows)
    return store.get_dataset(made.id), run.id, truth, answers, shares


def test_accuracy_loss_confusion_and_the_metrics_of_each_class_are_those_of_scikit_learn(home: Path) -> None:
    classes = ("a", "b", "c", "d")
    _, run_id, truth, answers, shares = judged(classes)
    found = evaluate.evaluate(run_id, "validation")
    assert found.n == 400 and found.accuracy is not None and found.loss is not None
    assert found.accuracy.value == pytest.approx(metrics.accuracy_score(truth, answers), abs=1e-9)
    assert found.loss.value == pytest.approx(metrics.log_loss(truth, shares), abs=1e-7)  # nine digits are stored
    assert (found.confusion == metrics.confusion_matrix(truth, answers)).all()
    expected = metrics.precision_recall_fscore_support(truth, answers)
    for i, c in enumerate(found.per_class):
        assert c.name == classes[i] and c.precision and c.recall and c.f1
        assert (c.precision.value, c.recall.value, c.f1.value) == pytest.approx([expected[k][i] for k in range(3)], abs=1e-9)
        assert c.n == expected[3][i] and c.predicted == (answers == i).sum()
        assert c.f1.low < c.f1.value < c.f1.high


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 10), (10, 10), (8, 10), (47, 50), (1, 3000), (2999, 3000)])
def test_intervals_are_wilsons(right: int, n: int) -> None:
    found, expected = wilson(right, n), binomtest(right, n).proportion_ci(method="wilson")
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((right / n, expected.low, expected.high), abs=1e-9)


def test_the_interval_of_8_in_10_is_the_one_worked_out_by_hand() -> None:
    # p = 0.8, z = 1.96: centre (0.8 + 0.19207) / 1.38415 = 0.71674, half width 1.95996 / 1.38415 * sqrt(0.016 + 0.0096036) = 0.22658
    found = wilson(8, 10)
    assert found is not None and (found.low, found.high) == pytest.approx((0.49016, 0.94332), abs=2e-5)
    assert wilson(0, 0) is None


def test_a_metric_that_is_zero_by_zero_is_none_and_not_a_number(home: Path) -> None:
    _, run_id, truth, *_ = judged(("a", "b", "never seen"), n=2, seed=1)
    assert 2 not in truth
    found = {c.name: c for c in evaluate.evaluate(run_id, "validation").per_class}
    unseen = found["never seen"]
    assert (unseen.n, unseen.predicted, unseen.precision, unseen.recall, unseen.f1) == (0, 0, None, None, None)
    as_json = evaluate.as_json(evaluate.evaluate(run_id, "validation"))
    assert as_json["per_class"]["never seen"]["f1"] is None


def test_one_image_has_a_loss_but_no_interval_of_it(home: Path) -> None:
    _, run_id, *_ = judged(("a", "b"), n=1, seed=1)
    found = evaluate.evaluate(run_id, "validation")
    assert found.n == 1 and found.accuracy is not None and found.loss is None
    json.dumps(evaluate.as_json(found), allow_nan=False)


def test_a_run_without_predictions_says_why(home: Path) -> None:
    _, run_id, *_ = judged(("a", "b"), n=2, seed=1)
    path = runs.folder(run_id)
    runs.predictions_path(path).unlink()
    with pytest.raises(NotFound, match="before its first epoch"):
        evaluate.evaluate(run_id, "validation")
    runs.checkpoint(path).touch()
    with pytest.raises(NotFound, match="ended before its predictions were written"):
        evaluate.evaluate(run_id, "validation")


def test_a_cell_holds_exactly_the_images_it_counts_most_confident_first(home: Path) -> None:
    classes = ("a", "b", "c")
    _, run_id, truth, answers, shares = judged(classes)
    found = evaluate.evaluate(run_id, "validation")
    for i, t in enumerate(classes):
        for j, p in enumerate(classes):
            rows = evaluate.cell(found, t, p)
            expected = np.flatnonzero((truth == i) & (answers == j))
            assert len(rows) == found.confusion[i, j] and set(rows["image_id"]) == {f"{k:016x}" for k in expected}
            assert rows["confidence"].is_monotonic_decreasing
    assert len(evaluate.cell(found, "a", None)) == (truth == 0).sum()
    assert len(evaluate.cell(found, None, "b")) == (answers == 1).sum()
    wrong = evaluate.mistakes(found)
    assert len(wrong) == (truth != answers).sum() and wrong["confidence"].is_monotonic_decreasing
    assert wrong["confidence"].iloc[0] == pytest.approx(shares.max(1)[truth != answers].max(), abs=1e-8)
    pairs = evaluate.most_confused(found)
    assert sum(n for *_, n in pairs) == len(wrong) and [n for *_, n in pairs] == sorted((n for *_, n in pairs), reverse=True)
    assert all(found.confusion[classes.index(t), classes.index(p)] == n for t, p, n in pairs)


def test_a_new_label_moves_its_image_in_the_matrix_and_the_runs_own_labels_stay_available(home: Path) -> None:
    made, run_id, *_ = judged(("a", "b", "c"))
    before = evaluate.evaluate(run_id, "validation")
    wrong = evaluate.cell(before, "a", "b").iloc[0]["image_id"]
    label.apply(made.id, {wrong: store.get_image(made.id, wrong).label_seq}, "b", "Ann")
    after = evaluate.evaluate(run_id, "validation")
    assert (before.changed, after.changed) == (0, 1)
    moved = after.confusion - before.confusion
    assert (moved[0, 1], moved[1, 1]) == (-1, 1) and np.abs(moved).sum() == 2
    then = evaluate.evaluate(run_id, "validation", today=False)
    assert (then.confusion == before.confusion).all() and then.changed == 0
    dataset.delete(made.id)
    assert (evaluate.evaluate(run_id, "validation").confusion == before.confusion).all()


def test_a_renamed_class_is_the_same_class_in_a_run_that_learned_it_before(home: Path) -> None:
    made, run_id, *_ = judged(("a", "b", "c"))
    before = evaluate.evaluate(run_id, "validation")
    for old, new in (("a", "x"), ("b", "a")):
        label.rename_class(made.id, old, new, "Ann")
    for today in (True, False):
        after = evaluate.evaluate(run_id, "validation", today)
        assert after.classes == ("x", "a", "c") and (after.confusion == before.confusion).all()
        assert (after.n, after.changed, after.without_label) == (before.n, 0, 0)
    assert set(evaluate.cell(after, "x", None)["true"]) == {"x"}


def test_images_without_a_label_the_run_knows_are_counted_apart(home: Path) -> None:
    made, run_id, *_ = judged(("a", "b", "c"))
    label.add_class(made.id, "new")
    for i, name in enumerate((None, "new")):
        one = f"{i:016x}"
        label.apply(made.id, {one: store.get_image(made.id, one).label_seq}, name, "Ann")
    found = evaluate.evaluate(run_id, "validation")
    assert (found.n, found.without_label, found.changed) == (398, 2, 2)
    assert found.confusion.sum() == 398


def test_class_names_that_look_like_numbers_or_nothing_survive(home: Path) -> None:
    _, run_id, truth, answers, shares = judged(HARD, n=600)
    found = evaluate.evaluate(run_id, "validation")
    assert (found.n, found.changed, found.without_label) == (600, 0, 0)
    assert (found.confusion == metrics.confusion_matrix(truth, answers)).all()
    assert found.loss is not None and found.loss.value == pytest.approx(metrics.log_loss(truth, shares), abs=1e-7)
    assert set(evaluate.cell(found, "NA", None)["true"]) == {"NA"}
    with open(runs.predictions_path(runs.folder(run_id)), newline="", encoding="utf-8") as f:
        header, first, *_ = csv.reader(f)
    assert header == ["image_id", "split", "true", "predicted", "confidence", *HARD]
    assert first[2:4] == [HARD[truth[0]], HARD[answers[0]]]


def test_a_split_without_predictions_is_refused_in_words(home: Path) -> None:
    _, run_id, *_ = judged(("a", "b"))
    assert evaluate.splits(run_id) == ["validation"]
    with pytest.raises(Invalid, match="no test images"):
        evaluate.evaluate(run_id, "test")
    runs.predictions_path(runs.folder(run_id)).unlink()
    with pytest.raises(NotFound, match="no predictions"):
        evaluate.evaluate(run_id, "validation")
