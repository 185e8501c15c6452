"""What slipped through, from the audit of what passed: gathers what the estimates count, by week and by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np

from core import roles
from core.data import events, policies, routed
from core.data.routed import Routed
from core.errors import AppError
from core.evaluate import evaluate
from core.metrics import Share, wilson
from core.review import bands, drift, policy, slipped
from core.review.drift import Drift, Moved
from core.review.measures import answer
from core.review.slipped import Recall, Slipped, Stratum

EDGES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)  # of the risk
LEAST = 10  # audited items of a stratum; one with fewer is joined with the next
WEEK = timedelta(days=7)


@dataclass(frozen=True)
class OfClass:
    """What is known of one class that is to be blocked."""

    name: str
    slipped: Slipped | None  # None where nothing passed
    recall: Recall | None  # None where no item is known to be of the class
    found: tuple[int, ...]  # items of the class among what was audited


@dataclass(frozen=True)
class Audit:
    """What passed and what was blocked without a person in a time, and what the audit of it says."""

    since: str
    until: str
    passed: int
    blocked: int
    asked: int
    waiting: int  # drawn for the audit or asked about, and not decided yet
    looked: tuple[int, ...]  # audited items of those that passed
    any: Slipped | None  # of any class to be blocked
    found: tuple[int, ...]  # items that should not have passed
    by_class: tuple[OfClass, ...]
    wrongly_blocked: Share  # of the audited ones among what was blocked without a person
    wrong_blocks: tuple[int, ...]


@roles.needs("lead")
def of(dataset_id: int, since: str, until: str) -> Audit:
    """The audit of what came in a time (UTC, ISO 8601, the end not included)."""
    return _audit(dataset_id, since, until, routed.routed(dataset_id, since, until))


@roles.needs("lead")
def weeks(dataset_id: int, until: datetime | None = None, n: int = 8) -> list[Audit]:
    """The audits of the last weeks, the newest last; each is of seven days, the newest ends now."""
    end = until or datetime.now(UTC)
    ends = [(end - WEEK * i).astimezone(UTC).isoformat(timespec="milliseconds") for i in range(n, -1, -1)]
    rows = routed.routed(dataset_id, ends[0], ends[-1])
    return [_audit(dataset_id, a, b, [one for one in rows if a <= one.at < b]) for a, b in pairwise(ends)]


def _audit(dataset_id: int, since: str, until: str, rows: Sequence[Routed]) -> Audit:
    words = events.names(dataset_id)
    blocks: dict[int, frozenset[str]] = {}  # by policy the classes it blocks, by their names of today
    for number in {one.policy_id for one in rows}:
        blocks[number] = frozenset(policy.today(policies.get(number)).limits)
    final: dict[int, str | None] = {}
    for one in rows:
        said = answer(one.verdict, one.label) if one.state in ("decided", "appeal") else None
        final[one.id] = words.since(said, one.decided_at or one.at) if said is not None else None

    def alone(one: Routed) -> bool:  # no person was asked but for the audit
        return one.state in ("passed", "blocked", "audit") or one.audited

    passed = [one for one in rows if one.band == "pass" and alone(one)]
    blocked = [one for one in rows if one.band == "block" and alone(one)]
    asked = [one for one in rows if not alone(one)]
    strata = _strata(passed)

    def looked(some: Sequence[Routed]) -> list[Routed]:
        return [one for one in some if one.audited and final[one.id] is not None]

    def estimate(wrong: set[int]) -> Slipped | None:
        return slipped.slipped(
            [Stratum(name, len(some), len(looked(some)), sum(one.id in wrong for one in looked(some))) for name, some in strata]
        )

    def of_class(name: str) -> OfClass:
        wrong = {one.id for one in looked(passed) if final[one.id] == name}
        missed = estimate(wrong)
        caught = sum(final[one.id] == name for one in asked) + _blocked(name, blocked, looked(blocked), final, words)
        return OfClass(name, missed, slipped.recall(caught, missed) if missed else None, tuple(sorted(wrong)))

    wrong = {one.id for one in looked(passed) if final[one.id] in blocks[one.policy_id]}
    fine = tuple(one.id for one in looked(blocked) if final[one.id] not in blocks[one.policy_id])
    sampled = len(looked(blocked))
    return Audit(
        since=since,
        until=until,
        passed=len(passed),
        blocked=len(blocked),
        asked=len(asked),
        waiting=sum(one.state == "audit" for one in rows) + sum(final[one.id] is None for one in asked),
        looked=tuple(one.id for one in looked(passed)),
        any=estimate(wrong),
        found=tuple(sorted(wrong)),
        by_class=tuple(of_class(name) for name in sorted(frozenset().union(*blocks.values()))),
        wrongly_blocked=Share(len(fine), sampled, wilson(len(fine), sampled)),
        wrong_blocks=fine,
    )


def _blocked(name: str, blocked: Sequence[Routed], sampled: Sequence[Routed], final: dict[int, str | None], words: events.Names) -> float:
    """How many of the class were blocked without a person: by the audit of these, or, before any was audited, by the network's word."""
    if sampled:
        return len(blocked) * sum(final[one.id] == name for one in sampled) / len(sampled)
    return sum(words.since(one.predicted, one.at) == name for one in blocked)


def _strata(passed: Sequence[Routed]) -> list[tuple[str, list[Routed]]]:
    """By bands of the risk; where too few were audited, a band is joined with the next, whatever was found in either."""
    edges = [0.0, *EDGES, 1.0]
    place = np.searchsorted(EDGES, [one.risk for one in passed], side="right")
    found: list[tuple[float, float, list[Routed]]] = []
    for i in range(len(edges) - 1):
        some = [one for one, at in zip(passed, place, strict=True) if at == i]
        if found and (_audited(found[-1][2]) < LEAST or not some):
            low, _, before = found[-1]
            found[-1] = (low, edges[i + 1] if some else found[-1][1], before + some)
        elif some:
            found.append((edges[i], edges[i + 1], some))
    if len(found) > 1 and _audited(found[-1][2]) < LEAST:
        (low, _, before), (_, high, some) = found[-2:]
        found[-2:] = [(low, high, before + some)]
    return [(f"risk {low:.0%} to {high:.0%}", some) for low, high, some in found]


def _audited(some: Sequence[Routed]) -> int:
    return sum(one.audited for one in some)


# Drift --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drifted:
    """The scores and bands of what came lately beside those of the validation images of the policy's run."""

    scores: Drift
    bands: dict[str, Moved]


@roles.needs("lead")
def drifted(dataset_id: int, since: str) -> Drifted | None:
    """None without an active policy, or where its run, or what it said of validation images, is not there."""
    acting = policy.active(dataset_id)
    if acting is None:
        return None
    said = policy.today(acting).limits
    try:
        then = evaluate.evaluate(acting.run_id, "validation")
        before = bands.bands(then.probabilities, then.classes, said)
    except AppError:
        return None
    risks = then.probabilities[:, [then.classes.index(name) for name in said]].max(1)
    rows = [one for one in routed.routed(dataset_id, since) if one.policy_id == acting.id]
    counts = np.bincount(before, minlength=len(bands.BANDS))
    was: dict[str, int] = {band: int(n) for band, n in zip(bands.BANDS, counts, strict=True)}
    now: dict[str, int] = {band: sum(one.band == band for one in rows) for band in bands.BANDS}
    return Drifted(drift.drift(risks, np.array([one.risk for one in rows])), drift.moved(was, now))
