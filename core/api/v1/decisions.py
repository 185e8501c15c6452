"""What waits in Review, and what people decided there."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from core.api.v1 import access
from core.api.v1.access import DatasetId
from core.api.v1.lists import Cursor, Limit, Page, page, place
from core.data import listing
from core.data.queue import Sent

router = APIRouter(tags=["Decisions"])


class Decision(BaseModel):
    id: int
    dataset: int
    run: str
    image: str = Field(description="Of the picture that was sent.")
    file: str = Field(description="Its name.")
    sent_by: str
    sent_at: str
    predicted: str
    probability: float
    verdict: Literal["accepted", "corrected", "rejected"] | None = Field(description="null: it waits.")
    label: str | None = Field(description="What it was decided to be.")
    decided_by: str | None
    decided_at: str | None

    @classmethod
    def of(cls, one: Sent) -> Decision:
        return cls(
            id=one.id,
            dataset=one.dataset_id,
            run=one.run_id,
            image=one.image_id,
            file=one.name,
            sent_by=one.by,
            sent_at=one.at,
            predicted=one.predicted,
            probability=one.probability,
            verdict=one.verdict,
            label=one.label,
            decided_by=one.decided_by,
            decided_at=one.decided_at,
        )


@router.get("/datasets/{dataset}/decisions")
def list_decisions(
    dataset_id: DatasetId,
    state: Annotated[Literal["decided", "waiting"], Query(description="What was decided, or what waits.")] = "decided",
    limit: Limit = 100,
    after: Annotated[Cursor, Query(alias="cursor")] = None,
) -> Page[Decision]:
    """Decisions, the oldest first."""
    dataset = access.dataset(dataset_id)
    if state == "waiting":
        last = place(after, int)
        found = listing.waiting_after(dataset.id, last[0] if last else None, limit + 1)
        shown, following = page(found, limit, lambda one: (one.id,))
    else:
        found = listing.decided_after(dataset.id, place(after, str, int), limit + 1)
        shown, following = page(found, limit, lambda one: (one.decided_at, one.id))
    return Page(items=[Decision.of(one) for one in shown], next=following)
