"""Metrics are the textbook's, follow today's labels, and lead to the very images they count."""

from __future__ import annotations

import csv
import gc
import json
import weakref
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics

from core.data import classes, labels, schema, store
from core.errors import Invalid, NotFound
from core.evaluate import calibration, evaluate, slices, thresholds
from core.metrics import wilson
from core.runs import runs
from core.types import Dataset
from tests.evaluate.made import CASES, adversarial, run_of

HARD = ("NA", "nan", "1", "true", 'a,"b"', "None", "01", "predicted", "split", "1.0", "é; x")


def judged(classes: tuple[str, ...], n: int = 400, seed: int = 5) -> tuple[Dataset, str, np.ndarray, np.ndarray, np.ndarray]:
    """A dataset and a finished run with known answers: the dataset, the run's id, truth, answers and probabilities."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(classes), n)
    logits = rng.normal(0, 1, (n, len(classes)))
    logits[np.arange(n), truth] += 1.5
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    made, run_id = run_of(classes, truth, shares)
    return made, run_id, truth, shares.argmax(1), shares


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
    labels.apply(made.id, {wrong: store.get_image(made.id, wrong).label_seq}, "b", "Ann")
    after = evaluate.evaluate(run_id, "validation")
    assert (before.changed, after.changed) == (0, 1)
    moved = after.confusion - before.confusion
    assert (moved[0, 1], moved[1, 1]) == (-1, 1) and np.abs(moved).sum() == 2
    then = evaluate.evaluate(run_id, "validation", today=False)
    assert (then.confusion == before.confusion).all() and then.changed == 0
    store.set_deleted(made.id, True)
    assert (evaluate.evaluate(run_id, "validation").confusion == before.confusion).all()


def test_a_renamed_class_is_the_same_class_in_a_run_that_learned_it_before(home: Path) -> None:
    made, run_id, *_ = judged(("a", "b", "c"))
    before = evaluate.evaluate(run_id, "validation")
    for old, new in (("a", "x"), ("b", "a")):
        classes.rename(made.id, old, new, "Ann")
    for today in (True, False):
        after = evaluate.evaluate(run_id, "validation", today)
        assert after.classes == ("x", "a", "c") and (after.confusion == before.confusion).all()
        assert (after.n, after.changed, after.without_label) == (before.n, 0, 0)
    assert set(evaluate.cell(after, "x", None)["true"]) == {"x"}


def test_images_without_a_label_the_run_knows_are_counted_apart(home: Path) -> None:
    made, run_id, *_ = judged(("a", "b", "c"))
    classes.add(made.id, "new")
    for i, name in enumerate((None, "new")):
        one = f"{i:016x}"
        labels.apply(made.id, {one: store.get_image(made.id, one).label_seq}, name, "Ann")
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


# The same as scikit-learn, on inputs that are not kind -----------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", [*CASES, "one class known"])
def test_every_metric_is_that_of_scikit_learn_or_undefined_where_it_has_none(home: Path, case: str) -> None:
    truth, shares = adversarial(case)
    size = shares.shape[1]
    _, run_id = run_of(tuple("abcdefg")[:size], truth, shares)
    e = evaluate.evaluate(run_id, "validation")
    answers, p, places = shares.argmax(1), e.probabilities, list(range(size))
    assert e.n == len(truth) and e.rows["image_id"].tolist() == [f"{i:016x}" for i in range(e.n)]
    assert p == pytest.approx(shares, abs=1e-9) and e.invalid == 0
    assert (e.confusion == metrics.confusion_matrix(truth, answers, labels=places)).all()
    assert e.accuracy is not None and e.balanced_accuracy is not None and e.macro_f1 is not None
    assert e.accuracy.value == pytest.approx(metrics.accuracy_score(truth, answers), abs=1e-9)
    assert e.balanced_accuracy.value == pytest.approx(metrics.balanced_accuracy_score(truth, answers), abs=1e-9)
    assert e.macro_f1.value == pytest.approx(metrics.f1_score(truth, answers, average="macro"), abs=1e-9)
    if size > 1:
        loss = evaluate.losses(p, truth).mean() if e.loss is None else e.loss.value
        assert loss == pytest.approx(metrics.log_loss(truth, p, labels=places), abs=1e-9)
    theirs = metrics.precision_recall_fscore_support(truth, answers, labels=places, zero_division=np.nan)
    for i, c in enumerate(e.per_class):
        for ours, value in ((c.precision, theirs[0][i]), (c.recall, theirs[1][i]), (c.f1, theirs[2][i])):
            assert (ours is None) == np.isnan(value), (case, c)
            if ours is not None:
                assert ours.value == pytest.approx(value, abs=1e-9) and 0 <= ours.low <= ours.value <= ours.high <= 1
                assert ours.high - ours.low > 0.0001  # nothing measured on few images is certain
    assert e.top_k.keys() == ({2, 3, 4, 5} if size > 5 else set())
    for k, share in e.top_k.items():  # of equal ones scikit-learn takes the last first, and the network the first
        mirrored = metrics.top_k_accuracy_score(size - 1 - truth, p[:, ::-1], k=k, labels=places)
        assert share.value == pytest.approx(mirrored, abs=1e-9) and share.value >= e.accuracy.value
        if case == "random":
            assert share.value == pytest.approx(metrics.top_k_accuracy_score(truth, p, k=k, labels=places), abs=1e-9)
    for one in (e.accuracy, e.balanced_accuracy, e.macro_f1):
        assert 0 <= one.low <= one.value <= one.high <= 1 and one.high > one.low
    json.dumps(evaluate.as_json(e), allow_nan=False)


def test_probabilities_that_are_no_numbers_are_counted_and_left_out_of_what_needs_them(home: Path) -> None:
    truth, shares = adversarial("random")
    answers, bad = shares.argmax(1), shares.copy()
    bad[3], bad[7, 2], bad[11, 0] = np.nan, np.inf, -np.inf
    _, run_id = run_of(tuple("abcdefg"), truth, bad, answers=answers)
    path = runs.predictions_path(runs.folder(run_id))
    lines = path.read_text().split("\n")
    lines[16] = ",".join(lines[16].split(",")[:5] + [""] * 7)  # of image 15
    path.write_text("\n".join(lines))
    e = evaluate.evaluate(run_id, "validation")
    good = np.setdiff1d(np.arange(300), [3, 7, 11, 15])
    assert (e.n, e.invalid) == (300, 4) and e.accuracy is not None and e.loss is not None
    assert e.accuracy.value == pytest.approx((truth == answers).mean())
    assert e.loss.value == pytest.approx(metrics.log_loss(truth[good], shares[good]), abs=1e-8)
    assert e.top_k[3].value == pytest.approx(metrics.top_k_accuracy_score(truth[good], shares[good], k=3))
    for ranked in (evaluate.top_losses(e), evaluate.least_certain(e)):
        assert sorted(ranked["image_id"]) == [f"{i:016x}" for i in good]
    assert len(evaluate.mistakes(e)) == (truth != answers).sum()
    json.dumps(evaluate.as_json(e), allow_nan=False)


def test_a_file_without_a_valid_probability_still_has_its_answers(home: Path) -> None:
    truth, shares = adversarial("random")
    _, run_id = run_of(tuple("abcdefg"), truth, np.full_like(shares, np.nan), answers=shares.argmax(1))
    e = evaluate.evaluate(run_id, "validation")
    assert (e.invalid, e.loss, e.top_k) == (300, None, {}) and e.accuracy is not None
    assert evaluate.top_losses(e).empty and evaluate.least_certain(e).empty


# Rankings


def test_the_rankings_are_by_loss_and_by_margin(home: Path) -> None:
    truth, shares = adversarial("random")
    _, run_id = run_of(tuple("abcdefg"), truth, shares)
    e = evaluate.evaluate(run_id, "validation")
    losses = -np.log(shares[np.arange(300), truth])
    top = evaluate.top_losses(e)
    assert top["image_id"].tolist() == [f"{i:016x}" for i in np.argsort(-losses)]
    assert top["loss"].to_numpy() == pytest.approx(np.sort(losses)[::-1], abs=1e-6)
    two = np.sort(shares, axis=1)[:, -2:]
    unsure = evaluate.least_certain(e)
    assert unsure["margin"].to_numpy() == pytest.approx(np.sort(two[:, 1] - two[:, 0]), abs=1e-8)
    assert unsure["image_id"].iloc[0] == f"{(two[:, 1] - two[:, 0]).argmin():016x}"
    assert list(e.rows.columns) == ["image_id", "true", "predicted", "confidence"]  # a ranking leaves them as they are


# Intervals


def test_the_interval_of_macro_f1_holds_the_true_one_about_as_often_as_it_says(home: Path) -> None:
    rng = np.random.default_rng(1)
    shares = np.array([[0.30, 0.06, 0.04], [0.05, 0.25, 0.05], [0.06, 0.03, 0.16]])  # of all images: a row for each true class
    true = float(np.mean(2 * np.diag(shares) / (shares.sum(0) + shares.sum(1))))
    found = [evaluate._macro_f1(rng.multinomial(200, shares.ravel()).reshape(3, 3)) for _ in range(80)]
    held = np.mean([one is not None and one.low <= true <= one.high for one in found])
    assert 0.90 <= held <= 0.99
    balanced = float(np.mean(np.diag(shares) / shares.sum(1)))
    found = [evaluate._balanced_accuracy(rng.multinomial(60, shares.ravel()).reshape(3, 3)) for _ in range(400)]
    assert 0.92 <= np.mean([one is not None and one.low <= balanced <= one.high for one in found]) <= 0.99


def test_the_interval_of_a_classs_f1_holds_where_a_bootstrap_does_not() -> None:
    # Why it is Wilson's and not the bootstrap's: 30 images, a class of about 6, precision and recall 0.9.
    rng = np.random.default_rng(2)
    shares = np.array([[0.18, 0.02], [0.02, 0.78]])
    true = 2 * 0.18 / (0.2 + 0.2)
    wilsons, bootstraps = [], []
    for _ in range(300):
        counts = rng.multinomial(30, shares.ravel()).reshape(2, 2)
        one = evaluate._class_metrics("a", counts, 0).f1
        if one is not None:
            again = rng.multinomial(30, counts.ravel() / 30, 200).reshape(-1, 2, 2)
            drawn = 2 * again[:, 0, 0] / np.maximum(1, again[:, 0].sum(1) + again[:, :, 0].sum(1))
            low, high = np.quantile(drawn, (0.025, 0.975))
            wilsons.append(one.low <= true <= one.high)
            bootstraps.append(low <= true <= high)
    assert np.mean(wilsons) > 0.93 and np.mean(bootstraps) < 0.9


def test_the_same_question_has_the_same_numbers(home: Path) -> None:
    confusion = np.array([[30, 3], [5, 20]])
    assert evaluate._macro_f1(confusion) == evaluate._macro_f1(confusion)


# What is kept in memory


def test_an_evaluation_is_made_once_until_a_label_a_flag_a_name_or_the_predictions_change(home: Path) -> None:
    made, run_id, *_ = judged(("a", "b", "c"), n=60)
    found = [evaluate.evaluate(run_id, "validation")]
    assert evaluate.evaluate(run_id, "validation") is found[0]
    first = store.get_image(made.id, f"{0:016x}")
    labels.apply(made.id, {first.id: first.label_seq}, "b" if first.label == "a" else "a", "Ann")
    found.append(evaluate.evaluate(run_id, "validation"))
    labels.flag(made.id, {first.id: store.get_image(made.id, first.id).label_seq}, True, "Ann")
    found.append(evaluate.evaluate(run_id, "validation"))
    classes.rename(made.id, "a", "x", "Ann")
    found.append(evaluate.evaluate(run_id, "validation"))
    path = runs.predictions_path(runs.folder(run_id))
    path.write_text("\n".join(path.read_text().split("\n")[:41]) + "\n")
    found.append(evaluate.evaluate(run_id, "validation"))
    assert len(set(map(id, found))) == 5 and [e.n for e in found] == [60, 60, 60, 60, 40]
    assert [e.changed for e in found] == [0, 1, 1, 1, 1] and found[3].classes == ("x", "b", "c")
    with pytest.raises(ValueError, match="read-only"):
        found[4].probabilities[0, 0] = 1


def test_what_is_computed_of_an_evaluation_is_forgotten_with_it(home: Path) -> None:
    made, run_id, *_ = judged(("a", "b", "c"), n=60)
    e = evaluate.evaluate(run_id, "validation")
    assert thresholds.curves(e, "a") is thresholds.curves(e, "a") and calibration.calibration(e, 2.0) is calibration.calibration(e, 2.0)
    assert calibration.fit(e) is calibration.fit(e) and slices.slices(e, made.id) is slices.slices(e, made.id)
    evaluate._memory.clear()
    alive = weakref.ref(e)
    del e
    gc.collect()
    assert alive() is None


# Labels that changed


def test_a_merged_class_changes_the_labels_of_its_images_and_no_others(home: Path) -> None:
    made, run_id, truth, answers, _ = judged(("a", "b", "c"))
    classes.merge(made.id, "c", "a", "Ann")
    e = evaluate.evaluate(run_id, "validation")
    assert e.changed == (truth == 2).sum() and e.n == 400
    assert (e.confusion == metrics.confusion_matrix(np.where(truth == 2, 0, truth), answers, labels=[0, 1, 2])).all()
    assert e.per_class[2].recall is None and e.per_class[2].precision is not None and e.per_class[2].precision.value == 0
    classes.rename(made.id, "a", "c or a", "Ann")
    assert evaluate.evaluate(run_id, "validation").changed == e.changed


def test_an_image_that_is_gone_has_no_changed_label(home: Path) -> None:
    made, run_id, *_ = judged(("a", "b"), n=40)
    with schema.writing() as c:
        c.execute(schema.images.delete().where(schema.images.c.dataset_id == made.id, schema.images.c.id == f"{5:016x}"))
    e = evaluate.evaluate(run_id, "validation")
    assert (e.n, e.changed, e.without_label) == (39, 0, 1)
