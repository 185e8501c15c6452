"""A new run beside the one in use: flips and bands are those of the images that both judged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.data import policies
from core.errors import Invalid
from core.evaluate import evaluate
from core.review import bands, policy, renewal
from core.types import Dataset, Evaluation


def judged(run_id: str, answers: dict[str, tuple[str, float]]) -> Evaluation:
    """By image its true class and the probability of red; the other class is blue."""
    red = np.array([p for _, p in answers.values()])
    rows = pd.DataFrame({"image_id": list(answers), "true": [true for true, _ in answers.values()]})
    rows["predicted"] = np.where(red > 0.5, "red", "blue")
    rows["confidence"] = np.maximum(red, 1 - red)
    found: dict[str, Any] = {
        "accuracy": None,
        "loss": None,
        "per_class": (),
        "confusion": np.zeros((2, 2)),
        "changed": 0,
        "without_label": 0,
    }
    return Evaluation(run_id, "test", ("blue", "red"), len(rows), **found, rows=rows, probabilities=np.column_stack([1 - red, red]))


def test_both_runs_are_counted_on_the_images_that_both_judged(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    said = policy.Rules({"red": bands.Limits(0.2, 0.8)}, salt="salt")
    acting = policies.write(small.id, "old", "Strict", policy.as_json(said), "Lea")
    runs = {
        "old": judged("old", {"a": ("red", 0.1), "b": ("red", 0.9), "c": ("blue", 0.9), "d": ("blue", 0.1), "only old": ("red", 0.1)}),
        "new": judged("new", {"only new": ("blue", 0.9), "d": ("blue", 0.3), "c": ("blue", 0.1), "b": ("red", 0.4), "a": ("red", 0.9)}),
        "other": judged("other", {"z": ("red", 0.1)}),
    }
    monkeypatch.setattr(evaluate, "evaluate", lambda run_id, _split: runs[run_id])
    found = renewal.beside(acting, "new", "test", pace=6.0)
    assert (found.paired.n, found.paired.only_a, found.paired.only_b, found.paired.left_out) == (4, 1, 2, 2)
    assert (found.before.wrongly_passed["red"].k, found.before.wrongly_blocked.k, found.before.asked.k) == (1, 1, 0)
    assert (found.after.wrongly_passed["red"].k, found.after.wrongly_blocked.k, found.after.asked.k) == (0, 0, 2)
    assert found.after.n == 4 and found.after.minutes is not None and found.after.minutes.value == pytest.approx(50)
    with pytest.raises(Invalid, match="No test image was judged by both"):
        renewal.beside(acting, "other", "test")
