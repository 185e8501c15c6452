"""What waits in Review, and what people decided there."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from core import roles
from core.api.v1 import access
from core.api.v1.access import MAX_INT, DatasetId
from core.api.v1.lists import Cursor, Limit, Page, page, place
from core.api.v1.once import Key, once
from core.data import listing, queue
from core.data.queue import Sent
from core.errors import NotFound
from core.review import review

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


class AppealIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=2000, description="What speaks against the decision; whoever looks again reads it.")


@router.post("/datasets/{dataset}/decisions/{decision}/appeal", response_model=Decision)
def post_appeal(
    dataset_id: DatasetId,
    decision: Annotated[int, Path(ge=0, le=MAX_INT, description="Its id, of GET …/decisions.")],
    body: AppealIn,
    key: Key = None,
) -> Response:
    """Somebody who has not decided it looks again; what was decided stands until then."""
    dataset = access.dataset(dataset_id, "lead")
    if queue.get(decision).dataset_id != dataset.id:
        raise NotFound(f"There is no decision {decision} in this dataset.", "GET …/decisions lists those that there are.")

    def act() -> dict[str, Any]:
        review.appeal(decision, roles.current().name, body.reason)
        return Decision.of(queue.get(decision)).model_dump()

    return once(key, ["appeal", dataset.id, decision, body.model_dump()], act)
