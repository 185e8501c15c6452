"""What was decided in Review, to be read: by person, verdict, name and time."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import func, select

from core.data.queue import Decision, Submission, Verdict, Which
from core.data.schema import decisions, reading, review_claims, submissions


@dataclass(frozen=True)
class Said:
    """Which decisions; None or empty means any."""

    by: str | None = None
    verdict: Verdict | None = None
    text: str = ""  # part of the picture's name, or the beginning of its hash
    standing: bool = False  # without those taken back
    item: int | None = None
    reader: str | None = None  # somebody who is no lead: of a picture that is still to be judged they read what they said themselves

    def where(self, dataset_id: int) -> list[sa.ColumnElement[bool]]:
        d, s = decisions.c, submissions.c
        found: list[sa.ColumnElement[bool]] = [d.dataset_id == dataset_id, s.id == d.submission_id]
        if self.by is not None:
            found.append(d.by == self.by)
        if self.verdict is not None:
            found.append(d.verdict == self.verdict)
        if self.text:
            found += Which(text=self.text).where(dataset_id)
        if self.item is not None:
            found.append(d.submission_id == self.item)
        if self.standing:
            found.append(d.undone_at.is_(None))
        if self.reader is not None:
            found.append(sa.or_(d.by == self.reader, s.state == "decided"))
        return found


def of_item(submission_id: int) -> list[Decision]:
    """All of one item, oldest first, those taken back among them."""
    d = decisions.c
    with reading() as c:
        return [Decision(**row._mapping) for row in c.execute(select(decisions).where(d.submission_id == submission_id).order_by(d.seq))]


def made(
    dataset_id: int,
    by: str | None = None,
    since: str | None = None,
    until: str | None = None,
    standing: bool = True,
    limit: int | None = None,
) -> list[tuple[Decision, Submission]]:
    """Decisions with their items, newest first. since, until: UTC, ISO 8601, the end not included; standing: without those taken back."""
    d, s = decisions.c, submissions.c
    where: list[sa.ColumnElement[bool]] = [d.dataset_id == dataset_id, s.id == d.submission_id]
    if by is not None:
        where.append(d.by == by)
    if since is not None:
        where.append(d.at >= since)
    if until is not None:
        where.append(d.at < until)
    if standing:
        where.append(d.undone_at.is_(None))
    return with_items(where, limit=limit)


def with_items(where: Sequence[sa.ColumnElement[bool]], offset: int = 0, limit: int | None = None) -> list[tuple[Decision, Submission]]:
    """Decisions with their items, newest first."""
    d, s = decisions.c, submissions.c
    names = [column.name for column in d]
    columns = [*(column.label(f"d_{column.name}") for column in d), *s]
    with reading() as c:
        found = []
        for row in c.execute(select(*columns).where(*where).order_by(d.seq.desc()).offset(offset).limit(limit)):
            values = dict(row._mapping)
            decision = Decision(**{name: values.pop(f"d_{name}") for name in names})
            values["probabilities"] = json.loads(values["probabilities"])
            found.append((decision, Submission(**values)))
        return found


def browse(dataset_id: int, which: Said, offset: int = 0, limit: int | None = None) -> list[tuple[Decision, Submission]]:
    """Decisions with their items, newest first."""
    return with_items(which.where(dataset_id), offset, limit)


def standing(dataset_id: int, since: str | None = None, by: str | None = None, second: bool = False) -> list[tuple[Decision, Submission]]:
    """Decisions that stand with their items, newest first. since: UTC, ISO 8601; by: of items that the person has decided, with what
    others said of them; second: of those that had a second opinion.
    """
    d, s = decisions.c, submissions.c
    here = (d.dataset_id == dataset_id, d.undone_at.is_(None))
    where: list[sa.ColumnElement[bool]] = [*here, s.id == d.submission_id]
    if since is not None:
        where.append(d.at >= since)
    if by is not None:
        where.append(s.id.in_(select(d.submission_id).where(*here, d.by == by)))
    if second:
        where.append(s.id.in_(select(d.submission_id).where(*here, d.stage == "second")))
    return with_items(where)


def count(dataset_id: int, which: Said) -> int:
    with reading() as c:
        return c.execute(select(func.count()).select_from(decisions, submissions).where(*which.where(dataset_id))).scalar_one()


def people(dataset_id: int) -> list[str]:
    """Who has decided anything."""
    d = decisions.c
    with reading() as c:
        return list(c.execute(select(d.by).where(d.dataset_id == dataset_id).distinct().order_by(d.by)).scalars())


def named(dataset_id: int, seq: int | None = None, operation: str | None = None) -> Decision | None:
    """One by its number or by the client's id of the act."""
    d = decisions.c
    with reading() as c:
        one = d.seq == seq if seq is not None else d.operation == operation
        row = c.execute(select(decisions).where(d.dataset_id == dataset_id, one)).first()
        return None if row is None else Decision(**row._mapping)


def last_of(dataset_id: int, person: str) -> Decision | None:
    """The person's last decision that stands."""
    d = decisions.c
    mine = (d.dataset_id == dataset_id, d.by == person, d.undone_at.is_(None), d.verdict != "appealed")
    with reading() as c:
        row = c.execute(select(decisions).where(*mine).order_by(d.seq.desc()).limit(1)).first()
        return None if row is None else Decision(**row._mapping)


def on_known(dataset_id: int, by: str) -> set[int]:
    """Pictures with a known answer that a person has decided."""
    d = decisions.c
    mine = (d.dataset_id == dataset_id, d.by == by, d.stage == "known", d.undone_at.is_(None))
    with reading() as c:
        return set(c.execute(select(d.submission_id).where(*mine)).scalars())


def at_work(dataset_id: int, since: str) -> list[str]:
    """Who has decided since a time (UTC, ISO 8601), or has a picture on the screen."""
    d, k = decisions.c, review_claims.c
    with reading() as c:
        decided = (d.dataset_id == dataset_id, d.at >= since, d.verdict != "appealed")  # a program may appeal, too
        lately = set(c.execute(select(d.by).where(*decided).distinct()).scalars())
        looking = (k.dataset_id == dataset_id, k.until > time.time())
        return sorted(lately | set(c.execute(select(k.person).where(*looking).distinct()).scalars()), key=str.casefold)
