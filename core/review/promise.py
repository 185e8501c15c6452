"""“At most x % of this class may pass”: the threshold that promises it, and what it does on images that had no part in choosing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import ceil, floor
from typing import Literal

import numpy as np

from core.errors import Invalid
from core.metrics import Share, clopper_pearson

Kind = Literal["on average", "19 of 20"]
SURE = 0.95


@dataclass(frozen=True)
class Promise:
    """A lower threshold of a class, and how it keeps its promise."""

    name: str  # the class
    most: float  # the share of the class that may pass
    kind: Kind
    threshold: float  # images of the class with a probability below it pass
    chosen_on: Share  # images of the class on the choosing half, and those of them below the threshold
    passed: Share  # the same on the other half, which had no say; the figure to quote


def half(image_id: str) -> int:
    """The half an image stays in for ever, whatever other images there are: 0 chooses a threshold, 1 reports on it."""
    return sha256(f"promise {image_id}".encode()).digest()[0] & 1


def needed(most: float, kind: Kind = "on average") -> int:
    """Images of the class that the choosing half needs at least for such a promise: 1 / most − 1 on average."""
    if not 0 < most < 1:
        raise Invalid(f"A share of {100 * most:g}% cannot be promised from a sample.", "It lies between 0 and 100%, both left out.")
    return ceil(1 / most - 1 - 1e-9) if kind == "on average" else ceil(np.log(1 - SURE) / np.log(1 - most) - 1e-9)


def promise(name: str, scores: np.ndarray, image_ids: Sequence[str], most: float, kind: Kind = "on average") -> Promise:
    """The highest threshold below which at most this share of the class passes, from the (n,) probabilities of the class of its images.

    Conformal risk control: the highest λ with (n·R̂(λ) + 1) / (n + 1) ≤ most, R̂ being the share of the n images on the choosing half that
    lie below λ (Angelopoulos et al. 2024, Conformal risk control, ICLR). Over many such choices the share that passes is at most that
    on average, and by itself a choice may well be above; “19 of 20” keeps it in 95 of 100 choices (Vovk 2012, Conditional validity of
    inductive conformal predictors, ACML: the share below the k-th lowest of n is beta distributed). Both hold for fresh images of the
    class like these, whatever the network is. An image that another class's threshold keeps from passing counts as passed here.
    Invalid where the images are too few to promise it.
    """
    least = needed(most, kind)
    valid = np.isfinite(scores)
    halves = np.array([half(i) for i in image_ids], int)
    choose, report = (np.sort(scores[valid & (halves == place)]) for place in range(2))
    n = len(choose)
    if n < least:
        raise Invalid(
            f"{n:,} image{'s' if n != 1 else ''} of “{name}” {'are' if n != 1 else 'is'} too few to promise that at most {100 * most:g}% pass.",
            f"The half that chooses the threshold needs at least {least:,}, so about {2 * least:,} validation images of the class "
            f"in all; or allow a larger share.",
        )
    below = _allowed(n, most, kind)
    threshold = float(choose[below]) if below < n else 1.0
    return Promise(name, most, kind, threshold, _below(choose, threshold), _below(report, threshold))


def _allowed(n: int, most: float, kind: Kind) -> int:
    """How many of n images may lie below the threshold."""
    from scipy.special import bdtr  # type: ignore[import-untyped]

    if kind == "on average":
        return floor(most * (n + 1) - 1 + 1e-9)
    return int((bdtr(np.arange(n), n, most) <= 1 - SURE).sum()) - 1  # the share below the (k+1)-th is above most where k or fewer are


def _below(scores: np.ndarray, threshold: float) -> Share:
    k = int((scores < threshold).sum())
    return Share(k, len(scores), clopper_pearson(k, len(scores)))
