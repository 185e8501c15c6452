"""Policies of Review as rows: written once, made active or a shadow by events."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import select

from core.data.schema import policies, policy_events, reading, writing
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
        return _policy(c.execute(policies.insert().values(**values).returning(policies)).one())


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
        c.execute(policy_events.insert().values(dataset_id=dataset_id, policy_id=policy_id, kind=kind, by=by, at=now()))


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
