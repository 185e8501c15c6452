"""What each import brought into a dataset, and taking it out again."""

from __future__ import annotations

import csv
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func, select

from core import roles
from core.data import events, removed
from core.data.schema import images, imports, label_events, parts, reading, writing
from core.errors import Invalid, NotFound
from core.runs import runs
from core.settings import settings
from core.types import Progress, silent


@dataclass(frozen=True)
class Brought:
    """An import that added images."""

    id: int
    by: str
    source: str
    images: int  # that it added
    began: str
    ended: str
    here: bool  # whether any of them is in the dataset


@dataclass(frozen=True)
class Undoing:
    """What taking an import's images out again does."""

    goes: int
    changed: int  # stay: somebody labelled or flagged them since, took a label off, or their class was merged or retired
    used: int  # of the others, that stay, for runs have learned from them or were judged by them
    runs: dict[str, int]  # which of them by the name of the run
    gone: int  # are not in the dataset any more


def number(c: sa.Connection, dataset_id: int, operation: str, by: str, source: str, added_at: Sequence[str]) -> int:
    """The id of the import that adds images at these times, in the caller's transaction."""
    m = imports.c
    known = c.execute(select(m.id, m.began, m.ended).where(m.operation == operation)).first()
    began, ended = min(added_at), max(added_at)
    if known is None:
        what = {"dataset_id": dataset_id, "operation": operation, "by": by, "source": source, "after_seq": events.last_seq(c)}
        made = imports.insert().values(**what, images=len(added_at), began=began, ended=ended)
        return int(c.execute(made.returning(m.id)).scalar_one())
    span = {"began": min(known.began, began), "ended": max(known.ended, ended)}  # a clock may jump back
    c.execute(imports.update().where(m.id == known.id).values(images=m.images + len(added_at), **span))
    return int(known.id)


@roles.needs("see")
def of_operation(dataset_id: int, operation: str) -> int | None:
    with reading() as c:
        found = c.execute(select(imports.c.id).where(imports.c.operation == operation, imports.c.dataset_id == dataset_id)).scalar()
    return None if found is None else int(found)


def _its(dataset_id: int, one: Any) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions for the images of an import; the times lead through the index of the order in which images came."""
    i = images.c
    return i.dataset_id == dataset_id, i.added_at.between(one.began, one.ended), i.import_id == one.id


@roles.needs("see")
def page(dataset_id: int, number: int, per_page: int) -> tuple[list[Brought], int]:
    """One page (from 1) of the imports, newest first, and how many there are."""
    m = imports.c
    shown = select(m.id, m.by, m.source, m.images, m.began, m.ended).where(m.dataset_id == dataset_id).order_by(m.id.desc())
    with reading() as c:
        total = c.execute(select(func.count()).select_from(imports).where(m.dataset_id == dataset_id)).scalar_one()
        found = c.execute(shown.offset((max(1, number) - 1) * per_page).limit(per_page)).all()
        here = [c.execute(select(images.c.id).where(*_its(dataset_id, one)).limit(1)).first() is not None for one in found]
    return [Brought(**one._mapping, here=there) for one, there in zip(found, here, strict=True)], total


@roles.needs("see")
def newest(dataset_id: int) -> int:
    """The last import of which images are there; NotFound where there is none."""
    number, left = 1, True
    while left:
        found, total = page(dataset_id, number, 100)
        if one := next((one for one in found if one.here), None):
            return one.id
        number, left = number + 1, number * 100 < total
    raise NotFound("No import is left that could be undone.", "Only imports that added images to this dataset can be.")


def _import(c: sa.Connection, dataset_id: int, import_id: int) -> Any:
    found = c.execute(select(imports).where(imports.c.id == import_id, imports.c.dataset_id == dataset_id)).first()
    if found is None:
        raise NotFound(f"There is no import {import_id} of this dataset.", "Dataset → History lists the imports that can be undone.")
    return found


def _changed(one: Any) -> sa.ColumnElement[bool]:
    """Whether the image carries something that anybody has said of it since the import brought it, or lost its label."""
    i, e = images.c, label_events.c
    own = sa.or_(e.operation.is_(None), sa.and_(e.operation != one.operation, ~e.operation.startswith(events.PAST, autoescape=True)))
    quiet = sa.and_(e.source.in_(("remove", "return")), e.label.is_not_distinct_from(e.previous))
    said = (e.dataset_id == i.dataset_id, e.image_id == i.id, e.seq > one.after_seq, own, ~quiet)
    taken_off = sa.and_(e.label.is_(None), e.previous.is_not(None), e.source != "undo")  # by hand, or with its class
    return select(e.seq).where(*said, sa.or_(i.label.is_not(None), i.flagged, taken_off)).exists()


def _runs(dataset_id: int, ids: set[str]) -> dict[str, list[str]]:
    """The names of the runs that learned from each of the images, or were judged by it; of deleted ones none. Invalid if one cannot be read."""
    found: dict[str, list[str]] = {}
    for path in sorted(settings().runs.glob("*/config.json")):
        try:
            run = runs.load(path.parent)
            rows = runs.snapshot_rows(path.parent) if run.dataset_id == dataset_id else []
        except (NotFound, OSError, ValueError, IndexError, csv.Error) as e:
            if not path.exists():  # deleted a moment ago
                continue
            raise Invalid(
                f"The list of images of the run {path.parent.name} cannot be read: it may have used what the import brought.",
                "Restore its dataset.csv from a backup, or delete the run.",
            ) from e
        for row in rows:
            if row.image_id in ids:
                found.setdefault(row.image_id, []).append(run.name)
    return found


def _sorted(dataset_id: int, import_id: int) -> tuple[Any, list[str], Undoing]:
    """The import, the ids that go, and what taking them out does."""
    with reading() as c:
        one = _import(c, dataset_id, import_id)
        rows = c.execute(select(images.c.id, _changed(one).label("changed")).where(*_its(dataset_id, one))).all()
    free = [row.id for row in rows if not row.changed]
    used = _runs(dataset_id, set(free))
    goes = [i for i in free if i not in used]
    named = Counter(name for names in used.values() for name in dict.fromkeys(names))
    return one, goes, Undoing(len(goes), len(rows) - len(free), len(used), dict(named.most_common()), one.images - len(rows))


@roles.needs("see")
def look(dataset_id: int, import_id: int) -> Undoing:
    """What undo would do; of a million images it takes some seconds."""
    return _sorted(dataset_id, import_id)[2]


@roles.needs("delete")
def undo(dataset_id: int, import_id: int, by: str, progress: Progress = silent) -> Undoing:
    """Takes out what the import brought in and nobody has changed or trained on since, as one act that can be taken back."""
    one, goes, found = _sorted(dataset_id, import_id)
    operation, done = secrets.token_hex(16), 0
    for part in parts(goes, removed.AT_ONCE):
        progress(done, len(goes), "Removing images")
        done += _take_out(dataset_id, one, part, by, operation)
    progress(len(goes), len(goes), "Removing images")
    return Undoing(done, found.changed + len(goes) - done, found.used, found.runs, found.gone)


def _take_out(dataset_id: int, one: Any, ids: Sequence[str], by: str, operation: str) -> int:
    """Asked once more whether they are as the import left them: somebody may have labelled meanwhile."""
    with writing() as c:
        events.alive(c, dataset_id)
        free: list[str] = []
        for part in parts(ids):
            free += c.execute(select(images.c.id).where(*_its(dataset_id, one), images.c.id.in_(part), ~_changed(one))).scalars()
        return removed.take_out(c, dataset_id, free, by, operation, f"import of {one.source} undone")
