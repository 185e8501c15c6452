"""Figures that several stories quote, each with the interval it deserves."""

from __future__ import annotations

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
