"""A day or a week of Review in one HTML file for the lead: what came, what was decided, what slipped through; it names nobody."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from core import roles
from core.data import decisions, events, queue, routed, store
from core.data.queue import FINAL
from core.metrics import TOO_FEW, Share
from core.review import audit, measures, policy, quality
from core.review.agreement import Agreement, Figure
from core.review.audit import Drifted
from core.review.quality import Pace
from core.review.slipped import Recall, Slipped
from core.types import Interval, now

Span = Literal["day", "week"]
DRIFT_UNKNOWN = "Not known: it takes an active policy whose run has answered validation images."
DAYS: dict[Span, int] = {"day": 1, "week": 7}


@dataclass(frozen=True)
class Report:
    """The figures of a day or a week; times in UTC, ISO 8601, the end not included."""

    dataset: str
    span: Span
    since: str
    until: str
    made_at: str
    policy: str | None  # the active one's name
    states: tuple[tuple[str, int], ...]  # of all there is
    bands: dict[str, int]  # of what came
    verdicts: dict[str, int]  # decisions made
    by_class: tuple[tuple[str, int], ...]
    people: int  # who decided
    escalated: int
    appealed: int
    overturned: int
    upheld: int
    oldest: str | None  # since when what waits longest waits
    pace: Pace | None
    agreement: Agreement
    audit: audit.Audit
    drifted: Drifted | None  # None: not known


@roles.needs("lead")
def report(dataset_id: int, span: Span, until: datetime | None = None) -> Report:
    roles.allow("lead", dataset_id)
    end = (until or datetime.now(UTC)).astimezone(UTC)
    since = (end - timedelta(days=DAYS[span])).isoformat(timespec="milliseconds")
    ends = end.isoformat(timespec="milliseconds")
    words, said = events.names(dataset_id), measures.team(dataset_id, since)
    made = [(one, item) for one, item in decisions.made(dataset_id, since=since, until=ends)]
    final = [one for one, _ in made if one.verdict in FINAL and one.stage != "known"]  # known answers measure people
    named = Counter(measures.NONE if one.verdict == "rejected" else words.since(one.label or "", one.at) for one in final)
    came_back = [outcome for person in said.people for outcome in person.appealed if outcome.final is not None]
    counts, acting = queue.counts(dataset_id), policy.active(dataset_id)
    return Report(
        dataset=store.get_dataset(dataset_id).name,
        span=span,
        since=since,
        until=ends,
        made_at=now(),
        policy=acting.name if acting else None,
        states=tuple((said_so, counts[state]) for state, said_so in queue.SAID.items() if state in counts),
        bands=routed.bands(dataset_id, since, ends),
        verdicts=dict(Counter(one.verdict for one in final)),
        by_class=tuple(sorted(named.items())),
        people=len({one.by for one in final}),
        escalated=sum(one.verdict == "escalated" for one, _ in made),
        appealed=sum(one.verdict == "appealed" for one, _ in made),
        overturned=sum(not one.upheld for one in came_back),
        upheld=sum(one.upheld for one in came_back),
        oldest=routed.oldest_waiting(dataset_id),
        pace=quality.pace([one.seconds for one in final if one.seconds is not None]),
        agreement=said.everybody.agreement,
        audit=audit.of(dataset_id, since, ends),
        drifted=audit.drifted(dataset_id, since),
    )


def page(found: Report) -> str:
    """The file: it needs no other and no connection."""
    loader = FileSystemLoader(Path(__file__).parent)
    template = Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("report.html")
    agreed = found.agreement
    return template.render(
        r=found,
        short=lambda at: at[:16].replace("T", " "),
        decided=sum(found.verdicts.values()),
        pace=f"{found.pace.median:.1f} s (median of {found.pace.n:,})" if found.pace else "not measured",
        agreement=[
            ("The same answer twice", figure(agreed.raw, agreed.n, percent=True)),
            ("Krippendorff's alpha", figure(agreed.alpha, agreed.n)),
            ("Gwet's AC1", figure(agreed.ac1, agreed.n)),
        ],
        slipped=missed(found.audit.any),
        by_class=[(one.name, missed(one.slipped), recalled(one.recall)) for one in found.audit.by_class],
        wrongly_blocked=share(found.audit.wrongly_blocked),
        drift=found.drifted.scores.words if found.drifted else DRIFT_UNKNOWN,
    )


# In words -----------------------------------------------------------------------------------------


def share(one: Share) -> str:
    """A share with its interval; of few the count."""
    if one.interval is None:
        return "nothing counted"
    count = f"{one.k:,} of {one.n:,}"
    return count if one.n < TOO_FEW else f"{one.interval.value:.1%} ({ends(one.interval)}; {count})"


def ends(one: Interval) -> str:
    return f"{one.low:.1%} to {one.high:.1%}"


def figure(one: Figure, n: int, percent: bool = False) -> str:
    """A measure of agreement."""
    if one.value is None:
        return f"undefined (n = {n:,})"
    form = "{:.1%}" if percent else "{:.2f}"
    if percent and n < TOO_FEW:
        return f"{round(one.value * n):,} of {n:,}"
    between = f"{form.format(one.interval.low)} to {form.format(one.interval.high)}; " if one.interval else ""
    return f"{form.format(one.value)} ({between}n = {n:,})"


def missed(one: Slipped | None) -> str:
    """What slipped through; of none found the upper bound."""
    if one is None:
        return "nothing passed"
    if not one.n:
        return f"not known: none of the {one.size:,} that passed was audited"
    counted = f"{one.found:,} found among {one.n:,} audited of {one.size:,}"
    if not one.found or one.value is None:
        return f"at most {one.high:.2%} ({counted})"
    if one.n < TOO_FEW:
        return f"{one.low:.1%} to {one.high:.1%} ({counted})"
    return f"{one.value:.2%} ({one.low:.2%} to {one.high:.2%}; {counted})"


def recalled(one: Recall | None) -> str:
    """How much of a class was caught."""
    if one is None:
        return "not known: none was seen"
    if one.value is None or one.low < 1 == one.value:
        return f"at least {one.low:.1%}"
    return f"{one.value:.1%} ({one.low:.1%} to {one.high:.1%})"


def as_json(found: Report) -> dict[str, Any]:
    """The figures without their items, for the command line."""

    def interval(one: Any) -> dict[str, Any] | None:
        return None if one is None else {"value": one.value, "low": one.low, "high": one.high, "n": one.n}

    held = {
        name: getattr(found, name)
        for name in (
            "dataset",
            "span",
            "since",
            "until",
            "policy",
            "bands",
            "verdicts",
            "people",
            "escalated",
            "appealed",
            "overturned",
            "upheld",
        )
    }
    return held | {
        "states": dict(found.states),
        "by_class": dict(found.by_class),
        "oldest_waiting": found.oldest,
        "pace_seconds": found.pace.median if found.pace else None,
        "agreement": {name: getattr(found.agreement, name).value for name in ("raw", "alpha", "ac1")} | {"n": found.agreement.n},
        "slipped": interval(found.audit.any),
        "recall": {one.name: interval(one.recall) for one in found.audit.by_class},
        "drift": found.drifted.scores.level if found.drifted else None,
    }
