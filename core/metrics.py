"""Figures that several stories quote, each with the interval it deserves."""

from __future__ import annotations

from dataclasses import dataclass

from core.types import Interval

Z95 = 1.959963984540054
TOO_FEW = 30  # images: of fewer, a share is a count and not called an accuracy


def wilson(right: float, n: int) -> Interval | None:
    """The 95 % score interval of a share (Wilson 1927), which may be a mean of n parts; None for n = 0."""
    if n == 0:
        return None
    p, z2 = right / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * (p * (1 - p) / n + z2 / (4 * n * n)) ** 0.5
    return Interval(p, min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half)))  # of all right, rounding ends a hair below 1


@dataclass(frozen=True)
class Share:
    """How many of how many, and the 95 % interval of the share; None of none."""

    k: int
    n: int
    interval: Interval | None

    @property
    def value(self) -> float | None:
        return self.k / self.n if self.n else None


def clopper_pearson(k: float, n: float, level: float = 0.95) -> Interval | None:
    """The exact interval of a share, never too narrow (Clopper and Pearson 1934, Biometrika 26:404); None for n = 0.

    By quantiles of the beta distribution, which also takes an effective number of images that is not whole (Korn and Graubard 1998).
    """
    from scipy.special import betaincinv  # type: ignore[import-untyped]

    if n == 0:
        return None
    tail = (1 - level) / 2
    low = float(betaincinv(k, n - k + 1, tail)) if k > 0 else 0.0
    high = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return Interval(k / n, min(low, k / n), max(high, k / n))


def newcombe(k1: int, n1: int, k2: int, n2: int) -> Interval | None:
    """The share k1 of n1 less the share k2 of n2 of other images, with its 95 % interval; None where either has none.

    Newcombe 1998, Interval estimation for the difference between independent proportions, Statistics in Medicine 17:873, method 10:
    Wilson's intervals of both shares, joined.
    """
    a, b = wilson(k1, n1), wilson(k2, n2)
    if a is None or b is None:
        return None
    difference = a.value - b.value
    low = difference - ((a.value - a.low) ** 2 + (b.high - b.value) ** 2) ** 0.5
    high = difference + ((a.high - a.value) ** 2 + (b.value - b.low) ** 2) ** 0.5
    return Interval(difference, low, high)
