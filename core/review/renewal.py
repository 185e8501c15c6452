"""A run that learned from decisions beside the one whose policy is active: flips on the same images, and the bands under either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from core.data.policies import Policy
from core.errors import Invalid
from core.evaluate import compare, evaluate
from core.evaluate.compare import Paired
from core.review import bands, policy
from core.review.bands import Workload
from core.runs import runs
from core.types import SPLITS, Evaluation, Run, Split


@dataclass(frozen=True, eq=False)
class Renewal:
    """The old run and the new one on the images that both were held out from."""

    split: str
    paired: Paired  # a: the old run, b: the new one
    before: Workload  # what the policy does with these images by the old run's probabilities
    after: Workload  # the same thresholds, the new run's
    blocks: tuple[str, ...]  # the classes of the thresholds


def held_out(old: str, new: str) -> list[Split]:
    """The splits that both runs have answers for, the test images first."""
    both = set(evaluate.splits(old)) & set(evaluate.splits(new))
    return [split for split in reversed(SPLITS) if split in both]


def learned(new: Run, image_ids: set[str]) -> int:
    """How many of these images the run learned from."""
    return sum(row.split == "train" and row.image_id in image_ids for row in runs.snapshot_rows(runs.folder(new.id)))


def beside(acting: Policy, new: str, split: Split, pace: float | None = None) -> Renewal:
    """Both runs on the images of a split that both judged; pace: seconds per decision. Invalid where there are none."""
    a, b = evaluate.evaluate(acting.run_id, split), evaluate.evaluate(new, split)
    found = compare.paired(a, b)
    if not found.n:
        raise Invalid(f"No {split} image was judged by both runs.", "Choose another run, or another split.")
    said = policy.today(acting).limits
    return Renewal(split, found, _workload(a, found, said, pace), _workload(b, found, said, pace), tuple(said))


def _workload(e: Evaluation, found: Paired, said: Mapping[str, bands.Limits], pace: float | None) -> Workload:
    held = e.rows["image_id"].isin(found.rows["image_id"]).to_numpy()
    truth = e.rows["true"].map({name: i for i, name in enumerate(e.classes)}).to_numpy(int)[held]
    probabilities: np.ndarray = e.probabilities[held]
    return bands.workload(probabilities, truth, e.classes, said, pace)
