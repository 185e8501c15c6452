"""Whether the scores of now are still those of a reference: an alarm that points to the audit, which alone says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.errors import Invalid
from core.metrics import Share, newcombe, wilson
from core.types import Interval

BINS = 10
ENOUGH = 100  # images on either side; of fewer, chance alone moves the scores as far as an alarm
SLIGHT, LARGE = 0.1, 0.25  # of the index: the bounds in use in credit scoring (Siddiqi 2006, Credit risk scorecards)
SURE = 0.99  # of a hundred alarms about one would come where nothing changed

Level = Literal["too few", "none", "slight", "large"]


@dataclass(frozen=True)
class Drift:
    """Two measures of how far scores moved, and what to make of them."""

    then: int  # images of the reference
    now: int
    psi: float | None  # population stability index; None without images on either side
    psi_by_chance: float | None  # the index stays below it in 99 of 100 weeks in which nothing changed
    ks: float | None  # Kolmogorov and Smirnov's: the largest difference of the shares of images below a score
    p: float | None  # of a difference as large, were nothing changed
    level: Level
    words: str


@dataclass(frozen=True)
class Moved:
    """The share of a band, then and now; of other images."""

    then: Share
    now: Share
    difference: Interval | None  # now less then, Newcombe's


def drift(then: np.ndarray, now: np.ndarray) -> Drift:
    """The drift of (n,) scores since the reference; those that are no number do not count.

    The index sums (a − b)·ln(a / b) over the deciles of the reference, half an image being added to each (Yurdakul 2018, Statistical
    properties of the population stability index: by chance it is 1/n + 1/m times χ² distributed, of 9 degrees for ten bins). An alarm needs the index
    above its bound, above chance, and a difference that Kolmogorov and Smirnov's test finds, too.
    """
    from scipy.special import chdtri  # type: ignore[import-untyped]
    from scipy.stats import ks_2samp  # type: ignore[import-untyped]

    then, now = then[np.isfinite(then)], now[np.isfinite(now)]
    n, m = len(then), len(now)
    if not n or not m:
        return Drift(n, m, None, None, None, None, "too few", _words("too few", n, m))
    edges = _edges(then)
    a, b = (_shares(scores, edges) for scores in (now, then))
    psi = float(((a - b) * np.log(a / b)).sum())
    by_chance = float(chdtri(len(edges), 1 - SURE)) * (1 / n + 1 / m)
    test = ks_2samp(then, now, method="asymp")
    level: Level = "none"
    if min(n, m) < ENOUGH:
        level = "too few"
    elif psi > by_chance and test.pvalue < 1 - SURE:
        level = "large" if psi >= LARGE else "slight" if psi >= SLIGHT else "none"
    return Drift(n, m, psi, by_chance, float(test.statistic), float(test.pvalue), level, _words(level, n, m))


def _edges(scores: np.ndarray) -> np.ndarray:
    """The inner deciles; a score that more than one of them falls on has a bin of its own."""
    deciles = np.quantile(scores, np.arange(1, BINS) / BINS)
    often = deciles[1:][np.diff(deciles) == 0]
    found: np.ndarray = np.unique([*deciles, *np.nextafter(often, np.inf)])
    return found


def _shares(scores: np.ndarray, edges: np.ndarray) -> np.ndarray:
    counts = np.bincount(np.searchsorted(edges, scores, side="right"), minlength=len(edges) + 1) + 0.5
    found: np.ndarray = counts / counts.sum()
    return found


def _words(level: Level, then: int, now: int) -> str:
    if level == "too few":
        return f"{now:,} images now and {then:,} in the reference are too few to tell a change from chance; it takes about {ENOUGH} on each side."
    if level == "none":
        return "The scores are spread as in the reference. That does not say that they are right: only the audit does."
    much = "clearly" if level == "large" else "somewhat"
    return (
        f"The scores are spread {much} differently than in the reference: the pictures, or what is in them, have changed. "
        "Whether the network is wrong more often only the audit says: audit more of what passed."
    )


def moved(then: Mapping[str, int], now: Mapping[str, int]) -> dict[str, Moved]:
    """The bands then and now, from how many images fell in each."""
    if set(then) != set(now):
        raise Invalid("The bands of then are not those of now.", "Name the same ones, also where no image fell in them.")
    n, m = sum(then.values()), sum(now.values())
    return {
        band: Moved(Share(k, n, wilson(k, n)), Share(now[band], m, wilson(now[band], m)), newcombe(now[band], m, k, n))
        for band, k in then.items()
    }
