"""Calibration is computed as its definition says, and a temperature helps on the images it was fitted on or is not given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from core.errors import Invalid
from core.evaluate import calibration, evaluate
from core.types import Evaluation, Interval, Split
from pages.parts.evaluate.calibration import gap_words
from tests.evaluate.made import CASES, adversarial, run_of, softmax


def judged(truth: np.ndarray, shares: np.ndarray, split: Split = "validation", answers: np.ndarray | None = None) -> Evaluation:
    _, run_id = run_of(tuple("abcdefg")[: shares.shape[1]], truth, shares, split, answers)
    return evaluate.evaluate(run_id, split)


def answered(temperature: float, n: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from true probabilities, and those of a network whose logits are this many times too large."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, 4))
    truth = (rng.random(n)[:, None] > softmax(logits).cumsum(1)).sum(1).clip(0, 3)
    return truth, softmax(logits * temperature)


def reliable(sure: np.ndarray, right: np.ndarray) -> calibration.Calibration:
    """Of answers with these confidences, right or not."""
    which = calibration.bin_of(sure)
    bins = tuple(
        calibration.Bin(i / 15, (i + 1) / 15, int(b.sum()), int(right[b].sum()), float(sure[b].mean()) if b.any() else float("nan"))
        for i, b in enumerate(which == k for k in range(15))
    )
    return calibration.Calibration(len(sure), 1.0, bins, Interval(0, 0, 0), 0.0, 0.0)


@pytest.mark.parametrize("case", [*CASES, "one class known"])
def test_the_error_is_the_one_its_definition_gives(home: Path, case: str) -> None:
    truth, shares = adversarial(case)
    e = judged(truth, shares)
    found = calibration.calibration(e)
    assert found is not None and found.n == len(truth) == sum(b.n for b in found.bins)
    confidence, right = e.probabilities.max(1), truth == shares.argmax(1)
    error = 0.0
    for i, b in enumerate(found.bins):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        assert (b.n, b.right) == (inside.sum(), right[inside].sum())
        if b.n:
            assert b.confidence == pytest.approx(confidence[inside].mean()) and b.accuracy is not None
            error += b.n / len(truth) * abs(right[inside].mean() - confidence[inside].mean())
    assert found.error.value == pytest.approx(error, abs=1e-9)
    assert 0 <= found.error.low <= found.error.value <= found.error.high
    if shares.shape[1] > 1 and shares.min() > 0:
        assert found.loss == pytest.approx(metrics.log_loss(truth, e.probabilities, labels=range(7)), abs=1e-7)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below(home: Path) -> None:
    edges = np.linspace(0, 1, 16)
    assert calibration.bin_of(edges[1:]).tolist() == list(range(15))
    assert calibration.bin_of(np.nextafter(edges[:-1], 1)).tolist() == list(range(15))


def test_the_interval_of_the_error_holds_a_known_one_and_reaches_0_where_there_is_none() -> None:
    rng, held, zero = np.random.default_rng(0), [], []
    for _ in range(100):
        sure = rng.uniform(0.5, 1, 300)
        which = calibration.bin_of(sure)
        one = calibration._error_interval(sure, rng.random(300) < sure - 0.1, which)
        held.append(one.low <= 0.1 <= one.high)
        zero.append(calibration._error_interval(sure, rng.random(300) < sure, which).low)
    assert np.mean(held) >= 0.8  # measured over more draws: 0.90; the percentile interval of a small error holds it next to never
    assert np.mean(np.array(zero) < 0.02) > 0.9


def test_what_chance_alone_would_show_is_said(home: Path) -> None:
    truth, shares = answered(1.0, 400)
    found = calibration.calibration(judged(truth, shares))
    assert found is not None and found.by_chance == pytest.approx(found.error.value, abs=0.03) and found.by_chance > 0.01


@pytest.mark.parametrize("times", [0.5, 1.0, 2.0, 4.0])
def test_a_temperature_is_found_again_and_mends_the_loss_of_other_images_too(home: Path, times: float) -> None:
    truth, shares = answered(times)
    e = judged(truth, shares)
    found = calibration.fit(e)
    assert found.low <= found.value <= found.high and found.low / 1.02 <= times <= found.high * 1.02 and found.n == 3000
    assert found.value == pytest.approx(times, rel=0.1)
    before, after = calibration.calibration(e), calibration.calibration(e, found.value)
    assert before is not None and after is not None and after.loss <= before.loss
    assert after.error.value < 0.03
    others_truth, others = answered(times, seed=1)
    mended = softmax(np.log(others) / found.value)
    assert metrics.log_loss(others_truth, mended) <= metrics.log_loss(others_truth, others) + 1e-3
    logits = np.log(e.probabilities) / found.value
    expected = softmax(logits).max(1)
    assert calibration.confidences(e, found.value) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("case", ["random", "ties", "certain", "classes absent"])
def test_on_validation_a_temperature_never_makes_the_loss_worse(home: Path, case: str) -> None:
    e = judged(*adversarial(case))
    before, after = calibration.calibration(e), calibration.calibration(e, calibration.fit(e).value)
    assert before is not None and after is not None and after.loss <= before.loss + 1e-12


FEW = tuple(part[:29] for part in adversarial("random"))


@pytest.mark.parametrize(
    ("words", "images", "split"),
    [
        ("29 validation images are too few", FEW, "validation"),
        ("answered correctly", adversarial("all right"), "validation"),
        ("No temperature fits", adversarial("all wrong"), "validation"),
        ("No temperature fits", adversarial("never predicted"), "validation"),  # of some the label was held impossible
        ("answered correctly", adversarial("one class known"), "validation"),
        ("validation images only", adversarial("random"), "test"),
    ],
    ids=["few", "right", "wrong", "impossible", "one class", "test"],
)
def test_no_temperature_is_fitted_where_the_images_cannot_say_it(
    home: Path, words: str, images: tuple[np.ndarray, np.ndarray], split: Split
) -> None:
    with pytest.raises(Invalid, match=words):
        calibration.fit(judged(*images, split))


def test_images_without_valid_probabilities_are_left_out(home: Path) -> None:
    truth, shares = answered(2.0, 600)
    bad = shares.copy()
    bad[::3, 1] = np.nan
    e = judged(truth, bad, answers=shares.argmax(1))
    found, temperature = calibration.calibration(e), calibration.fit(e)
    assert found is not None and (found.n, temperature.n) == (400, 400)
    assert np.isnan(calibration.confidences(e, 1.3)[::3]).all() and np.isfinite(calibration.confidences(e, 1.3)[1::3]).all()


def test_without_any_valid_probability_calibration_is_undefined(home: Path) -> None:
    truth, shares = adversarial("random")
    assert calibration.calibration(judged(truth, np.full_like(shares, np.nan), answers=truth)) is None


def test_the_interval_of_being_too_sure_holds_the_true_gap_and_few_images_show_none(home: Path) -> None:
    rng, held, by = np.random.default_rng(0), 0, 0.05
    for _ in range(400):
        sure = rng.uniform(0.6, 1, 60)
        right = rng.random(60) < sure - by
        found = reliable(sure, right).gap
        assert found.value == pytest.approx(sure.mean() - right.mean())
        held += found.low <= by <= found.high
    assert held >= 380  # 95 % of 400
    few = reliable(np.full(5, 0.9), np.ones(5, bool)).gap
    assert few.low < 0 < few.high and "which may be chance" in gap_words(few, 5) and "n = 5" in gap_words(few, 5)


def test_the_words_of_the_gap_name_its_way_its_interval_and_its_n() -> None:
    assert gap_words(Interval(0.042, 0.01, 0.075), 1234) == "4.2 points too sure (95% interval 1.0 to 7.5, n = 1,234)"
    assert gap_words(Interval(-0.042, -0.075, -0.01), 50) == "4.2 points too unsure (95% interval 1.0 to 7.5, n = 50)"
    assert gap_words(Interval(-0.019, -0.05, 0.012), 341) == (
        "1.9 points apart, which may be chance (95% interval 5.0 points too unsure to 1.2 too sure, n = 341)"
    )
