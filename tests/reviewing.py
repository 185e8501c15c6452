"""What waits in a queue of Review, and what was decided."""

from __future__ import annotations

from core.data.queue import OURS, Submission, Which
from core.review import review


def waiting(dataset_id: int) -> list[Submission]:
    """Least certain first."""
    return review.browse(dataset_id, Which(states=OURS), "least certain", limit=100)


def decided(dataset_id: int) -> list[Submission]:
    """Newest first."""
    return review.browse(dataset_id, Which(states=("decided",)), "decided last", limit=10)
