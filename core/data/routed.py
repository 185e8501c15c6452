"""What a policy did with what came, as thin rows: without pictures and probabilities, so that weeks of it are read at once."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from core.data.queue import FINAL, OURS, State
from core.data.schema import decisions, reading, submissions
from core.types import Band


@dataclass(frozen=True)
class Routed:
    """One picture that a policy sorted; verdict and label are final."""

    id: int
    at: str
    state: State
    band: Band
    risk: float
    policy_id: int
    predicted: str
    verdict: str | None
    label: str | None
    decided_at: str | None
    audited: bool  # somebody looked at it as part of the audit


def routed(dataset_id: int, since: str = "", until: str = "9999") -> list[Routed]:
    """What came in a time (UTC, ISO 8601, the end not included), oldest first; pictures whose answer is known are not among it."""
    s, d = submissions.c, decisions.c
    looked = select(d.seq).where(d.submission_id == s.id, d.stage == "audit", d.undone_at.is_(None), d.verdict.in_(FINAL)).exists()
    columns = [s[name] for name in Routed.__dataclass_fields__ if name != "audited"]
    where = [s.dataset_id == dataset_id, s.policy_id.is_not(None), s.band.is_not(None), s.state != "known", s.at >= since, s.at < until]
    with reading() as c:
        return [Routed(**row._mapping) for row in c.execute(select(*columns, looked.label("audited")).where(*where).order_by(s.id))]


def bands(dataset_id: int, since: str = "", until: str = "9999") -> dict[str, int]:
    """How many came into each band."""
    s = submissions.c
    here = (s.dataset_id == dataset_id, s.band.is_not(None), s.state != "known", s.at >= since, s.at < until)
    with reading() as c:
        return {band: n for band, n in c.execute(select(s.band, func.count()).where(*here).group_by(s.band))}


def counts_of_all() -> dict[str, int]:
    """How many predictions of all datasets there are, by state."""
    s = submissions.c
    with reading() as c:
        return {"waiting": 0, **{state: n for state, n in c.execute(select(s.state, func.count()).group_by(s.state))}}


def oldest_waiting(dataset_id: int) -> str | None:
    """When what waits longest came; None while nothing waits."""
    s = submissions.c
    with reading() as c:
        return c.execute(select(func.min(s.at)).where(s.dataset_id == dataset_id, s.state.in_(OURS))).scalar()


def basket(dataset_id: int) -> list[tuple[int, str, str, str]]:
    """Decisions that wait in the basket, newest first: (item, class in the word of that day, who decided, when)."""
    s = submissions.c
    here = (s.dataset_id == dataset_id, s.basket == "waiting", s.state == "decided")
    with reading() as c:
        rows = c.execute(select(s.id, s.label, s.decided_by, s.decided_at).where(*here).order_by(s.decided_at.desc(), s.id))
        return [(number, label or "", by or "", at or "") for number, label, by, at in rows]
