"""A run's stored answers on its validation images, on which the thresholds of a policy are set; test images have no part in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.errors import Invalid
from core.evaluate import evaluate


@dataclass(frozen=True, eq=False)
class Validation:
    """Those that carry a label of the run's classes today, under the names of today."""

    run_id: str
    classes: tuple[str, ...]
    ids: np.ndarray  # (n,) str objects
    truth: np.ndarray  # (n,) places in classes
    probabilities: np.ndarray  # (n, classes)
    without_label: int  # left out

    @property
    def n(self) -> int:
        return len(self.ids)

    def count(self, name: str) -> int:
        return int((self.truth == self.classes.index(name)).sum())

    def scores(self, name: str, own: bool = True) -> np.ndarray:
        """The probabilities of a class of its own images, or of all others."""
        place = self.classes.index(name)
        found: np.ndarray = self.probabilities[(self.truth == place) == own, place]
        return found

    def ids_of(self, name: str) -> list[str]:
        return list(self.ids[self.truth == self.classes.index(name)])


def of(run_id: str) -> Validation:
    """Invalid where there is nothing to count, NotFound where the run has no predictions."""
    if "validation" not in evaluate.splits(run_id):
        raise Invalid(
            "This run has no predictions of validation images, so nobody can say what a policy would do.",
            "Choose another run, or give some images to validation on the Dataset page and train again.",
        )
    e = evaluate.evaluate(run_id, "validation")
    if not e.n:
        raise Invalid("No validation image carries a label of this run's classes.", "Label some of them, or choose another run.")
    places = {name: i for i, name in enumerate(e.classes)}
    truth = e.rows["true"].map(places).to_numpy(int)
    return Validation(run_id, e.classes, e.rows["image_id"].to_numpy(object), truth, e.probabilities, e.without_label)
