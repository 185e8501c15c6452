"""The append-only events of labels, as rows: what one changes, how it is written, and what its words mean today."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import bindparam, func, select

from core import roles
from core.data import history
from core.data.schema import class_events, datasets, images, label_events, parts, reading
from core.errors import NotFound
from core.types import now

PAST = "past "  # begins the operation of events that came with an import: done elsewhere, and no act of this dataset


@dataclass(frozen=True)
class Change:
    """What one event changes; flagged None leaves the flag as it is."""

    image_id: str
    label: str | None
    previous: str | None
    flagged: bool | None = None


def gives() -> sa.ColumnElement[bool]:
    """Whether an event is about the label, and not about the flag alone."""
    e = label_events.c
    return sa.or_(e.flagged.is_(None), e.label.is_distinct_from(e.previous))


# Made once: putting them together takes longer than the database takes for them, while nobody else may write.
_ALIVE = select(datasets.c.id).where(datasets.c.id == bindparam("here"), datasets.c.deleted_at.is_(None))
_APPENDED = label_events.insert().returning(label_events.c.image_id, label_events.c.seq)
_CARRIED = (
    images.update()
    .where(
        images.c.dataset_id == bindparam("here"),
        images.c.id == label_events.c.image_id,
        label_events.c.dataset_id + 0 == bindparam("here"),  # not by the index of all the dataset's events, but by these few numbers:
        label_events.c.seq.between(bindparam("from"), bindparam("to")),  # nobody else writes meanwhile
    )
    .values(
        label=label_events.c.label,
        label_seq=label_events.c.seq,
        flagged=func.coalesce(label_events.c.flagged, images.c.flagged),
        given_seq=sa.case((gives(), label_events.c.seq), else_=images.c.given_seq),
    )
)


def append(
    c: sa.Connection,
    dataset_id: int,
    changes: Sequence[Change],
    by: str,
    source: str,
    operation: str | None = None,
    note: str = "",
    notes: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Appends one event per change and what the image carries with it, in the caller's transaction; returns the seqs.

    No image comes twice among the changes.
    """
    at = now()
    if not changes:
        return {}
    stored = c.execute(
        _APPENDED,
        [
            {
                "dataset_id": dataset_id,
                "image_id": change.image_id,
                "label": change.label,
                "previous": change.previous,
                "by": by,
                "at": at,
                "source": source,
                "operation": operation,
                "note": (notes or {}).get(change.image_id, note),
                "flagged": change.flagged,
            }
            for change in changes
        ],
    )
    seqs = {image_id: seq for image_id, seq in stored}
    c.execute(_CARRIED, {"here": dataset_id, "from": min(seqs.values()), "to": max(seqs.values())})
    carried = {change.label for change in changes}
    history.add(
        c,
        dataset_id,
        {
            "first": min(seqs.values()),
            "last": max(seqs.values()),
            "by": by,
            "source": source,
            "at": at,
            "note": max((notes or {}).get(change.image_id, note) for change in changes),
            "label": max((label for label in carried if label is not None), default=None),
            "mixed": len(carried) > 1,
            "images": len(changes),
            "operation": operation,
        },
    )
    return seqs


def last_seq(c: sa.Connection) -> int:
    return int(c.execute(select(func.coalesce(func.max(label_events.c.seq), 0))).scalar_one())


def stored(c: sa.Connection, dataset_id: int, operation: str) -> int:
    e = label_events.c
    return int(c.execute(select(func.count()).where(e.dataset_id == dataset_id, e.operation == operation)).scalar_one())


def told(c: sa.Connection, dataset_id: int, ids: Sequence[str], operation: str | None = None) -> set[str]:
    """Those of the images that have an event of the operation; None: any event."""
    e = label_events.c
    here = [e.dataset_id == dataset_id] if operation is None else [e.dataset_id == dataset_id, e.operation == operation]
    query = (select(e.image_id).where(*here, e.image_id.in_(part)) for part in parts(ids))
    return {i for one in query for i in c.execute(one).scalars()}


def alive(c: sa.Connection, dataset_id: int) -> None:
    if c.execute(_ALIVE, {"here": dataset_id}).first() is None:
        raise NotFound("This dataset was deleted.", "Restore it on the Dataset page, or choose another one.")


@roles.needs("see")
def names(dataset_id: int) -> Names:
    """What classes were called, as of now."""
    with reading() as c:
        return Names(c, dataset_id)


class Names:
    """What the class a label event names is called today."""

    def __init__(self, c: sa.Connection, dataset_id: int) -> None:
        e = class_events.c
        self.renames = c.execute(
            select(e.name, e.to, e.after_seq, e.at).where(e.dataset_id == dataset_id, e.kind == "renamed").order_by(e.seq)
        ).all()

    def today(self, label: str | None, seq: int) -> str | None:
        for name, to, after_seq, _ in self.renames:
            if after_seq >= seq and label == name:
                label = to
        return label

    def since(self, label: str, at: str, until: str | None = None) -> str:
        """The same for a word of a time (UTC, ISO 8601) instead of an event; until: what it was called then, in place of today."""
        for name, to, _, renamed_at in self.renames:
            if renamed_at >= at and (until is None or renamed_at < until) and label == name:
                label = to
        return label
