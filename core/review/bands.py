"""What two thresholds per class do with pictures: what passes, what a person is asked, what is blocked, and what of it is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.errors import Invalid
from core.metrics import Share, clopper_pearson
from core.types import Interval

Band = Literal["pass", "ask", "block"]
BANDS: tuple[Band, ...] = ("pass", "ask", "block")
PASS, ASK, BLOCK = range(3)  # their places


@dataclass(frozen=True)
class Limits:
    """The two thresholds on the probability of a class that is to be blocked."""

    lower: float  # below it a picture may pass; 0: none does
    upper: float | None  # at or above it a picture is blocked; None: none is without a person

    def __post_init__(self) -> None:
        for name, value in (("lower", self.lower), ("upper", self.upper)):
            if value is not None and not 0 <= value <= 1:
                raise Invalid(f"The {name} threshold is {value:g}.", "It is a probability, between 0 and 1.")
        if self.upper is not None and self.upper < self.lower:
            raise Invalid(f"The lower threshold, {self.lower:g}, is above the upper one, {self.upper:g}.", "Exchange them.")


@dataclass(frozen=True, eq=False)
class Workload:
    """What a policy does with images whose class is known; intervals are Clopper and Pearson's, for traffic mixed as these images are."""

    bands: np.ndarray  # (n,) places in BANDS
    passed: Share  # of all images
    asked: Share
    blocked: Share
    wrongly_passed: dict[str, Share]  # by class to be blocked: those that pass, of the images of the class
    wrongly_blocked: Share  # images of no class to be blocked that are blocked, of all such images
    minutes: Interval | None  # of review per 1,000 images, the pace taken as it is; None without one

    @property
    def n(self) -> int:
        return len(self.bands)


def share(k: int, n: int) -> Share:
    return Share(k, n, clopper_pearson(k, n))


def bands(probabilities: np.ndarray, classes: Sequence[str], limits: Mapping[str, Limits]) -> np.ndarray:
    """(n,) the band of each image, as a place in BANDS, from (n, classes) probabilities.

    Blocked, if any class to be blocked comes up to its upper threshold; passed, if every such class is below its lower one; else a person
    is asked, and so where a probability is no number.
    """
    places = _places(classes, limits)
    found: np.ndarray = np.full(len(probabilities), ASK, np.int8)
    scores = probabilities[:, places]
    lower = np.array([one.lower for one in limits.values()])
    upper = np.array([np.inf if one.upper is None else one.upper for one in limits.values()])
    found[(scores < lower).all(1)] = PASS
    found[(scores >= upper).any(1)] = BLOCK
    found[~np.isfinite(probabilities).all(1)] = ASK
    return found


def workload(
    probabilities: np.ndarray, truth: np.ndarray, classes: Sequence[str], limits: Mapping[str, Limits], pace: float | None = None
) -> Workload:
    """What the thresholds do with (n, classes) probabilities of images with (n,) true classes, as places; pace: seconds per decision."""
    found, n = bands(probabilities, classes, limits), len(probabilities)
    counts = np.zeros((len(classes), len(BANDS)), int)  # true class × band
    np.add.at(counts, (truth, found), 1)
    places = _places(classes, limits)
    fine = np.delete(counts, places, axis=0).sum(0)  # images of no class to be blocked
    passed, asked, blocked = (share(int(k), n) for k in counts.sum(0))
    return Workload(
        bands=found,
        passed=passed,
        asked=asked,
        blocked=blocked,
        wrongly_passed={name: share(int(counts[at, PASS]), int(counts[at].sum())) for name, at in zip(limits, places, strict=True)},
        wrongly_blocked=share(int(fine[BLOCK]), int(fine.sum())),
        minutes=_minutes(asked, pace),
    )


def _minutes(asked: Share, pace: float | None) -> Interval | None:
    if pace is None or asked.interval is None:
        return None
    each = 1000 * pace / 60
    return Interval(asked.interval.value * each, asked.interval.low * each, asked.interval.high * each)


def _places(classes: Sequence[str], limits: Mapping[str, Limits]) -> list[int]:
    """Of the classes to be blocked; Invalid where the network has none of that name, or there is nothing to block."""
    if not limits:
        raise Invalid("No class has thresholds, so everything would pass.", "Choose at least one class that is to be blocked.")
    missing = [name for name in limits if name not in classes]
    if missing:
        raise Invalid(f"This run has no class “{missing[0]}”.", f"Set thresholds for: {', '.join(list(classes)[:20])}.")
    return [list(classes).index(name) for name in limits]
