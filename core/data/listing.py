"""Images and submissions in pages, each from where the one before ended: as quick at the end of a long list as at its start."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy import select

from core import roles
from core.data import queue, store
from core.data.queue import Sent
from core.data.schema import images, reading, submissions
from core.types import Image

SENT = [submissions.c[one.name] for one in fields(Sent)]


@roles.needs("see")
def images_after(dataset_id: int, want: store.Filter, after: tuple[str, str] | None, limit: int) -> list[Image]:
    """In the order in which they came; after: time and id of the last one seen."""
    i = images.c
    query = select(images).where(*want.where(dataset_id)).order_by(i.added_at, i.id).limit(limit)
    if after is not None:
        query = query.where(_beyond((i.added_at, i.id), after))
    with reading() as c:
        return [Image(**row._mapping) for row in c.execute(query)]


@roles.needs("see")
def waiting_after(dataset_id: int, after: int | None, limit: int) -> list[Sent]:
    """What waits in Review, oldest first; after: id of the last one seen."""
    s = submissions.c
    query = select(*SENT).where(s.dataset_id == dataset_id, s.state.in_(queue.OURS), s.id > (after or 0)).order_by(s.id).limit(limit)
    with reading() as c:
        return [Sent(**row._mapping) for row in c.execute(query)]


@roles.needs("see")
def decided_after(dataset_id: int, after: tuple[str, int] | None, limit: int) -> list[Sent]:
    """What was decided, oldest first, so that one who asks again gets what came since; after: time and id of the last one seen."""
    s = submissions.c
    query = select(*SENT).where(s.dataset_id == dataset_id, s.state == "decided").order_by(s.decided_at, s.id).limit(limit)
    if after is not None:
        query = query.where(_beyond((s.decided_at, s.id), after))
    with reading() as c:
        return [Sent(**row._mapping) for row in c.execute(query)]


def _beyond(columns: tuple[Any, Any], after: tuple[Any, Any]) -> sa.ColumnElement[bool]:
    first, second = columns
    return sa.or_(first > after[0], sa.and_(first == after[0], second > after[1]))
