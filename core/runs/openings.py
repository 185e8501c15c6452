"""How often somebody looked at a run's test images: each look makes the figure a little less honest, so each is written down."""

from __future__ import annotations

from collections.abc import Iterable

from core.errors import NotFound
from core.runs import runs
from core.types import Opening, now


def record(run_id: str, by: str) -> None:
    """Writes down that somebody opens the run's test set now."""
    runs.append_opening(runs.folder(run_id), Opening(by, now()))


def of(run_id: str) -> list[Opening]:
    """Every opening of the run's test set, oldest first."""
    return runs.read_openings(runs.folder(run_id))


def times(run_ids: Iterable[str]) -> int:
    """How often the test sets of these runs were opened; a run that was deleted meanwhile counts nothing."""
    total = 0
    for run_id in run_ids:
        try:
            total += len(of(run_id))
        except NotFound:
            continue
    return total
