"""How far people agree on the items that several answered: raw, per class, Krippendorff's α, and Gwet's AC1 for rare classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.metrics import wilson
from core.types import Interval

RESAMPLES = 1000
DEFINED = 0.95  # of the resamples at least have a figure, or no interval is told


@dataclass(frozen=True)
class Figure:
    """A measure of agreement; None where it is undefined, which is never 0."""

    value: float | None
    interval: Interval | None  # 95 %
    n: int  # items behind it


@dataclass(frozen=True)
class Agreement:
    """On the items with two answers or more; of seconds drawn at random only, for escalated items are the hard ones."""

    n: int  # items with two answers or more
    answers: int  # on them
    raw: Figure  # chance that two answers to an item are the same
    by_class: dict[str, Figure]  # where one answer is the class, chance that another one is; n: items with such an answer
    alpha: Figure  # Krippendorff's; undefined where all answers are one class
    ac1: Figure  # Gwet's


@dataclass(frozen=True, eq=False)
class _Figures:
    """Of one or more draws of items: (draws,), and (draws, classes) for specific; NaN where undefined."""

    raw: np.ndarray
    specific: np.ndarray
    alpha: np.ndarray
    ac1: np.ndarray
    expected: np.ndarray  # disagreement by chance that α takes off
    by_chance: np.ndarray  # agreement by chance that AC1 takes off


def agreement(labels: Sequence[Sequence[str | None]], classes: Sequence[str] = ()) -> Agreement:
    """The agreement of persons × items, None being a missing answer; in AC1 classes count also where nobody answered them.

    α: Krippendorff 2011, Computing Krippendorff's alpha-reliability, for nominal data. AC1: Gwet 2008, British Journal of Mathematical and
    Statistical Psychology 61:29; items with one answer count towards its agreement by chance. Per class: specific agreement (Cicchetti and
    Feinstein 1990, Journal of Clinical Epidemiology 43:551). Intervals are Wilson's for the raw agreement, with the items as n, and the
    bootstrap's over items for the others (Zapf et al. 2016, BMC Medical Research Methodology 16:93). Where nobody disagreed, or nobody
    agreed on a class, drawing again shows nothing else: there the other end is as far as Wilson's interval allows. Measured with 30 to 300
    items of two answers, the class in 2 to 8 %: they hold the true α in 92 to 99 of 100, AC1 in 90 to 99, a class's in 87 to 95.
    """
    names = tuple(dict.fromkeys([*classes, *sorted({one for person in labels for one in person if one is not None})]))
    counts = _counts(labels, names)
    twice = counts[counts.sum(1) >= 2]
    n, with_class = len(twice), (twice > 0).sum(0)
    found, drawn = _figures(counts, np.ones((1, len(counts)))), _drawn(counts)
    raw = wilson(float(found.raw[0]) * n, n) if n else None
    least = raw.low if raw is not None and raw.value > 1 - 1e-9 else np.nan  # raw agreement that is possible, though nobody disagreed
    with np.errstate(divide="ignore", invalid="ignore"):
        least_alpha = 1 - (1 - least) / found.expected[0]
        least_ac1 = (least - found.by_chance[0]) / (1 - found.by_chance[0])
    return Agreement(
        n=n,
        answers=int(twice.sum()),
        raw=Figure(raw.value if raw else None, raw, n),
        by_class={
            name: _figure(found.specific[0, i], drawn.specific[:, i], int(with_class[i]), _edge(found.specific[0, i], int(with_class[i])))
            for i, name in enumerate(names)
        },
        alpha=_figure(found.alpha[0], drawn.alpha, n, least_alpha),
        ac1=_figure(found.ac1[0], drawn.ac1, n, least_ac1),
    )


def _figure(value: float, draws: np.ndarray, items: int, other_end: float) -> Figure:
    """With the percentile bootstrap's interval, which reaches to the other end if there is one; without where many draws are undefined."""
    if not np.isfinite(value):
        return Figure(None, None, items)
    value, defined = float(value), draws[np.isfinite(draws)]
    if len(defined) < DEFINED * len(draws):
        return Figure(value, None, items)
    ends = [value, *np.quantile(defined, (0.025, 0.975)), *([other_end] if np.isfinite(other_end) else [])]
    return Figure(value, Interval(value, float(min(ends)), float(max(ends))), items)


def _edge(share: float, n: int) -> float:
    """The other end of Wilson's interval of none or all of n; NaN of a share between."""
    found = wilson(share * n, n) if share in (0, 1) else None
    return np.nan if found is None else found.low if share == 1 else found.high


def _counts(labels: Sequence[Sequence[str | None]], names: Sequence[str]) -> np.ndarray:
    """(items, classes) how many gave each answer."""
    place = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(labels[0]) if labels else 0, len(names)))
    for person in labels:
        for item, one in enumerate(person):
            if one is not None:
                counts[item, place[one]] += 1
    return counts


def _drawn(counts: np.ndarray) -> _Figures:
    """The figures of items drawn again with replacement; items answered alike are drawn as one, so the cost does not depend on n."""
    cells, of = np.unique(counts, axis=0, return_counts=True)
    weights = np.random.default_rng(0).multinomial(len(counts), of / max(1, len(counts)), RESAMPLES) if len(counts) else np.empty((0, 0))
    return _figures(cells, weights)


def _figures(counts: np.ndarray, weights: np.ndarray) -> _Figures:
    """counts: (items, classes); weights: (draws, items), how often a draw has each item."""
    answers = counts.sum(1)
    some, twice = answers >= 1, answers >= 2
    pairs, m = counts[twice], answers[twice][:, None]
    w = weights[:, twice]
    same = pairs * (pairs - 1)  # ordered pairs of answers that are both the class
    with np.errstate(divide="ignore", invalid="ignore"):
        raw = w @ (same / (m * (m - 1))).sum(1) / w.sum(1)
        specific = w @ same / (w @ (pairs * (m - 1)))
        of_class, total = w @ pairs, w @ m[:, 0]
        observed = 1 - w @ (same / (m - 1)).sum(1) / total
        expected = 1 - (of_class * (of_class - 1)).sum(1) / (total * (total - 1))
        alpha = np.where(expected > 1e-12, 1 - observed / expected, np.nan)
        likely = weights[:, some] @ (counts[some] / answers[some][:, None]) / weights[:, some].sum(1, keepdims=True)
        by_chance = (likely * (1 - likely)).sum(1) / np.float64(counts.shape[1] - 1)
        ac1 = (raw - by_chance) / (1 - by_chance)
    return _Figures(raw, specific, alpha, ac1, expected, by_chance)
