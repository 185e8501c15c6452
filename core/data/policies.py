"""Policies of Review as rows: written once, made active or a shadow by events."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import select

from core.data import audit
from core.data.schema import answers, policies, policy_events, reading, submissions, writing
from core.errors import NotFound
from core.types import now

Kind = Literal["active", "shadow", "off"]


@dataclass(frozen=True)
class Policy:
    """What is passed, asked and blocked, by one run's probabilities; never changed once written."""

    id: int
    dataset_id: int
    run_id: str
    name: str
    by: str
    at: str
    rules: dict[str, Any]  # core.review.policy.Rules, as JSON


def _policy(row: Any) -> Policy:
    return Policy(**{**row._mapping, "rules": json.loads(row.rules)})


def write(dataset_id: int, run_id: str, name: str, rules: dict[str, Any], by: str) -> Policy:
    values = {"dataset_id": dataset_id, "run_id": run_id, "name": name, "by": by, "at": now(), "rules": json.dumps(rules)}
    with writing() as c:
        made = _policy(c.execute(policies.insert().values(**values).returning(policies)).one())
        shown = {key: value for key, value in rules.items() if key != "salt"}
        audit.record(c, "policy.write", on={"dataset": dataset_id, "run": run_id, "policy": made.id}, after={"name": name, **shown}, by=by)
    return made


@lru_cache(maxsize=256)  # a policy stays as it was written, and every picture that is dealt out asks for its own
def get(policy_id: int) -> Policy:
    with reading() as c:
        row = c.execute(select(policies).where(policies.c.id == policy_id)).first()
    if row is None:
        raise NotFound("There is no such policy.", "Reload the page.")
    return _policy(row)


def of(dataset_id: int) -> list[Policy]:
    """All, newest first."""
    with reading() as c:
        query = select(policies).where(policies.c.dataset_id == dataset_id).order_by(policies.c.id.desc())
        return [_policy(row) for row in c.execute(query)]


def set_kind(policy_id: int, kind: Kind, by: str) -> None:
    """Makes it active, the shadow beside the active one, or neither; of each kind a dataset has one."""
    with writing() as c:
        dataset_id = c.execute(select(policies.c.dataset_id).where(policies.c.id == policy_id)).scalar_one()
        if kind != "off":
            for other in [p for p, k in _kinds(c, dataset_id).items() if k == kind and p != policy_id]:
                c.execute(policy_events.insert().values(dataset_id=dataset_id, policy_id=other, kind="off", by=by, at=now()))
                audit.record(c, "policy.off", on={"dataset": dataset_id, "policy": other}, by=by)
        c.execute(policy_events.insert().values(dataset_id=dataset_id, policy_id=policy_id, kind=kind, by=by, at=now()))
        audit.record(c, f"policy.{kind}", on={"dataset": dataset_id, "policy": policy_id}, by=by)


def _kinds(c: sa.Connection, dataset_id: int) -> dict[int, Kind]:
    e = policy_events.c
    return {row.policy_id: row.kind for row in c.execute(select(e.policy_id, e.kind).where(e.dataset_id == dataset_id).order_by(e.seq))}


def kinds(dataset_id: int) -> dict[int, Kind]:
    """What each policy is now, of those that ever were more than written."""
    with reading() as c:
        return _kinds(c, dataset_id)


def history(dataset_id: int) -> list[tuple[int, Kind, str, str]]:
    """(policy, kind, by, at), newest first."""
    e = policy_events.c
    with reading() as c:
        query = select(e.policy_id, e.kind, e.by, e.at).where(e.dataset_id == dataset_id).order_by(e.seq.desc())
        return [(row.policy_id, row.kind, row.by, row.at) for row in c.execute(query)]


# What came while one was the shadow ---------------------------------------------------------------


@dataclass(frozen=True)
class Answered:
    """A picture with what each of some runs said of it, and what a person did."""

    id: int  # of the submission
    verdict: str | None
    label: str | None
    decided_at: str | None
    probabilities: dict[str, dict[str, float]]  # by run, then by the run's own words for its classes


def answered(dataset_id: int, since: str, run_ids: set[str], most: int) -> list[Answered]:
    """What came since a time (UTC, ISO 8601) and was answered by all of these runs, the newest first; known answers are left out."""
    s, a, found = submissions.c, answers.c, dict[int, Answered]()
    columns = (s.id, s.verdict, s.label, s.decided_at, a.run_id, a.probabilities)
    both = submissions.join(answers, a.submission_id == s.id)
    query = select(*columns).select_from(both).where(*_came(dataset_id, since), a.run_id.in_(run_ids)).order_by(s.id.desc())
    with reading() as c:
        for row in c.execute(query.limit(most * len(run_ids))):
            one = found.setdefault(row.id, Answered(row.id, row.verdict, row.label, row.decided_at, {}))
            one.probabilities[row.run_id] = json.loads(row.probabilities)
    return [one for one in found.values() if len(one.probabilities) == len(run_ids)]


def came(dataset_id: int, since: str) -> int:
    """How many pictures came since a time (UTC, ISO 8601), known answers left out."""
    with reading() as c:
        return c.execute(select(sa.func.count()).select_from(submissions).where(*_came(dataset_id, since))).scalar_one()


def unanswered(dataset_id: int, since: str, run_id: str) -> list[tuple[str, str]]:
    """What came since a time (UTC, ISO 8601) and a run was not asked about, the newest first: (hash, ending of its file)."""
    s, a = submissions.c, answers.c
    asked = select(a.run_id).where(a.submission_id == s.id, a.run_id == run_id).exists()
    with reading() as c:
        rows = c.execute(select(s.image_id, s.ext).where(*_came(dataset_id, since), ~asked).order_by(s.id.desc()))
        return [(image_id, ext) for image_id, ext in rows]


def _came(dataset_id: int, since: str) -> tuple[sa.ColumnElement[bool], ...]:
    s = submissions.c
    return s.dataset_id == dataset_id, s.at >= since, s.state != "known"
