"""What was decided under a policy and waits for a lead before it joins the dataset."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from core.data import audit, queue, waiting
from core.data.schema import parts, submissions, writing
from core.errors import Conflict
from core.types import Image


def accept(submission_id: int, image: Image, by: str) -> None:
    """Lets a decided picture join the dataset with its label."""
    s = submissions.c
    with writing() as c:
        row = c.execute(select(submissions).where(s.id == submission_id, s.state == "decided", s.basket == "waiting")).first()
        if row is None:
            raise Conflict("This one does not wait in the basket any more.", "Reload the page.")
        old, new = queue.in_dataset(queue.join(c, row.id, image, row.verdict, row.label, by))
        c.execute(submissions.update().where(s.id == row.id).values(basket="accepted"))
        audit.record(c, "review.accept", on=waiting.subject(row), before=old or None, after={"label": row.label, **new}, by=by)


def refuse(ids: Sequence[int]) -> int:
    """Decided pictures that are not learned from; returns how many."""
    s = submissions.c
    with writing() as c:
        rows = [row for part in parts(list(ids)) for row in c.execute(select(submissions).where(s.id.in_(part), s.basket == "waiting"))]
        for part in parts([row.id for row in rows]):
            c.execute(submissions.update().where(s.id.in_(part)).values(basket="refused"))
        for dataset_id in {row.dataset_id for row in rows}:
            refused = [row.image_id for row in rows if row.dataset_id == dataset_id]
            audit.record(c, "review.refuse", on={"dataset": dataset_id, "images": refused})
    return len(rows)
