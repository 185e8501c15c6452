"""What was decided in Review waits again: in the rows, in the audit and for the webhooks alike, whichever way it was taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from core.data import audit, deliveries
from core.data.schema import decisions, submissions
from core.types import now

NOTHING: Mapping[str, Any] = {"verdict": None, "label": None, "decided_by": None, "decided_at": None, "basket": None}


def subject(row: Any) -> dict[str, Any]:
    """What an entry of the audit speaks of."""
    return {"dataset": row.dataset_id, "images": [row.image_id], "submission": row.id}


def again(c: sa.Connection, row: Any, taken: Sequence[Any], by: str, state: str, final: Mapping[str, Any] | None = None) -> None:
    """Takes decisions on an item back, in the caller's transaction.

    row: of the item; taken: of the decisions, the last one first; final: what the item is meanwhile, where an earlier decision stands.
    """
    c.execute(decisions.update().where(decisions.c.seq.in_([one.seq for one in taken])).values(undone_at=now(), undone_by=by))
    told = {"verdict": taken[0].verdict, "label": taken[0].label, "by": taken[0].by}
    if state == "known":  # a question whose answer is known goes on waiting
        audit.record(c, "review.undo", on=subject(row), before=told, by=by)
        return
    c.execute(submissions.update().where(submissions.c.id == row.id).values(state=state, **{**NOTHING, **(final or {})}))
    if row.state == "decided":
        deliveries.of_decision(c, row.id)
    audit.record(c, "review.undo", on=subject(row), before=told, after={"state": state}, by=by)
