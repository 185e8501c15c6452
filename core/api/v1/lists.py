"""Lists in pages: each answer bears the cursor of the next one."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel

from core.errors import Invalid

T = TypeVar("T")

Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most.")]
Cursor = Annotated[str | None, Query(max_length=500, description="`next` of the page before.")]


class Page(BaseModel, Generic[T]):
    items: list[T]
    next: str | None  # null at the end


def cursor(*place: str | int) -> str:
    """Of the item with this place in its list."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def place(given: str | None, *kinds: type) -> tuple[Any, ...] | None:
    """What cursor() was made from; Invalid unless it is of these kinds."""
    if given is None:
        return None
    try:
        found = json.loads(base64.b64decode(given + "=" * (-len(given) % 4), altchars=b"-_", validate=True))
        if isinstance(found, list) and [type(one) for one in found] == list(kinds) and all(_small(one) for one in found):
            return tuple(found)
    except (ValueError, binascii.Error, RecursionError):
        pass
    raise Invalid("This cursor is not one of this list.", "Use `next` of the page before as it is, or leave it out for the first page.")


def _small(one: Any) -> bool:
    return not isinstance(one, int) or abs(one) < 1 << 31


def page(found: Sequence[T], limit: int, of: Any) -> tuple[list[T], str | None]:
    """Of one more than the limit: those that are shown, and the cursor of the next page; of(item) is the item's place."""
    return list(found[:limit]), cursor(*of(found[limit - 1])) if len(found) > limit else None
