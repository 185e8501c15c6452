"""How often a person, or the network, is right, how fast a person decides, and how many of the network's mistakes its hint leads to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.metrics import Share, newcombe, wilson
from core.types import Interval


@dataclass(frozen=True, eq=False)
class Confusion:
    """The answers of one person or network against the final ones."""

    classes: tuple[str, ...]
    counts: np.ndarray  # (classes, classes): rows are the final answer, columns the one given
    right: Share
    by_class: dict[str, Share]  # those right, of the items whose final answer is the class


@dataclass(frozen=True)
class Pace:
    """Seconds per decision: half of them took between the quartiles; the interval is that of the median."""

    median: float
    interval: Interval | None  # 95 %; None of fewer than 6 decisions, for the true median may lie beyond them all
    quartiles: tuple[float, float]
    n: int  # decisions


@dataclass(frozen=True)
class Hint:
    """How many of the network's wrong answers a person gave too: seeing them, and without."""

    shown: Share
    blind: Share
    difference: Interval | None  # shown less blind, Newcombe's; None where either has no item


def share(k: int, n: int) -> Share:
    return Share(k, n, wilson(k, n))


def confusion(given: Sequence[str], final: Sequence[str], classes: Sequence[str] = ()) -> Confusion:
    """Answers given beside the final ones of the same items; classes come in this order, others that occur after them."""
    names = tuple(dict.fromkeys([*classes, *sorted({*given, *final})]))
    place = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), int)
    for a, b in zip(given, final, strict=True):
        counts[place[b], place[a]] += 1
    of_class = counts.sum(1)
    return Confusion(
        classes=names,
        counts=counts,
        right=share(int(counts.trace()), int(counts.sum())),
        by_class={name: share(int(counts[i, i]), int(of_class[i])) for name, i in place.items()},
    )


def pace(seconds: Sequence[float] | np.ndarray) -> Pace | None:
    """The median, for a few decisions over lunch do not move it; None without decisions.

    Times that are no positive number, as after a jump of the clock, do not count. The interval lies between two of the times, whatever
    their distribution (Conover 1999, Practical nonparametric statistics, section 3.2).
    """
    from scipy.special import bdtr  # type: ignore[import-untyped]

    times = np.asarray(seconds, float)
    times = np.sort(times[np.isfinite(times) & (times > 0)])
    n = len(times)
    if n == 0:
        return None
    low, median, high = (float(q) for q in np.quantile(times, (0.25, 0.5, 0.75)))
    outside = int((bdtr(np.arange(n), n, 0.5) <= 0.025).sum())  # of the lowest, and of the highest, times that the interval leaves out
    interval = Interval(median, float(times[outside - 1]), float(times[n - outside])) if outside else None
    return Pace(median, interval, (low, high), n)


def hint(network: Sequence[str], given: Sequence[str], final: Sequence[str], blind: Sequence[bool]) -> Hint:
    """P(the network's answer is given | it is wrong) with the network's answer seen, less the same where it was hidden at random.

    Above 0, the hint misleads; what both share are mistakes that people make by themselves.
    """
    wrong = [(a == b, hidden) for a, b, true, hidden in zip(network, given, final, blind, strict=True) if a != true]
    (k1, n1), (k2, n2) = ((sum(same for same, h in wrong if h == hidden), sum(h == hidden for _, h in wrong)) for hidden in (False, True))
    return Hint(share(k1, n1), share(k2, n2), newcombe(k1, n1, k2, n2))
