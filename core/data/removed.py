"""Images taken out of their dataset, and back: their rows wait in a table of their own, where nothing that reads images sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func, select

from core import roles
from core.data import audit, classes, events
from core.data.schema import by_id, images, parts, reading, removed, writing
from core.data.store import Filter
from core.errors import Invalid, NotFound
from core.types import Image

AT_ONCE = 5000  # images of one transaction: others write between two


@roles.needs("delete")
def remove(dataset_id: int, ids: Sequence[str], by: str, operation: str, note: str = "") -> int:
    """Takes the images out as one act, which labels.undo takes back, too; how many were there. Their files and what was said of them stay."""
    return _each(dataset_id, ids, by, operation, note, take_out, "is not in this dataset")


@roles.needs("delete")
def bring_back(dataset_id: int, ids: Sequence[str], by: str, operation: str) -> int:
    """Gives the dataset images back that were taken out, with what they carried; how many."""
    return _each(dataset_id, ids, by, operation, "", bring_in, "was not removed from this dataset")


def _each(dataset_id: int, ids: Sequence[str], by: str, operation: str, note: str, act: Any, missing: str) -> int:
    if not ids:
        raise Invalid("No image was chosen.", "Choose at least one image.")
    done = 0
    for part in parts(list(dict.fromkeys(ids)), AT_ONCE):
        with writing() as c:
            events.alive(c, dataset_id)
            told = events.told(c, dataset_id, part, operation)  # the same act, sent once more
            done += len(told) + act(c, dataset_id, [i for i in part if i not in told], by, operation, note)
    if not done:
        raise NotFound(f"Image {ids[0]} {missing}.", "Reload the page: somebody may have been faster.")
    return done


def take_out(c: sa.Connection, dataset_id: int, ids: Sequence[str], by: str, operation: str | None, note: str = "") -> int:
    """The same in the caller's transaction."""
    i = images.c
    query = [select(i.id, i.label, i.flagged).where(*by_id(dataset_id, part)) for part in parts(ids)]
    found = {row.id: events.Change(row.id, row.label, row.label, bool(row.flagged)) for one in query for row in c.execute(one)}
    there = [i for i in dict.fromkeys(ids) if i in found]
    events.append(c, dataset_id, [found[i] for i in there], by, "remove", operation, note)
    move(c, dataset_id, there, images, removed)
    if there:
        audit.record(c, "image.remove", on={"dataset": dataset_id, "images": there}, after={"note": note} if note else None, by=by)
    return len(there)


def bring_in(c: sa.Connection, dataset_id: int, ids: Sequence[str], by: str, operation: str | None, note: str = "") -> int:
    changes = put_back(c, dataset_id, ids, by)
    events.append(c, dataset_id, changes, by, "return", operation, note)
    return len(changes)


def put_back(c: sa.Connection, dataset_id: int, ids: Sequence[str], by: str) -> list[events.Change]:
    """The rows of images that were taken out are back; the changes by which their events are to be appended, in today's words."""
    r = removed.c
    query = [select(r.id, r.label, r.flagged).where(r.dataset_id == dataset_id, r.id.in_(part)) for part in parts(ids)]
    rows = [row for one in query for row in c.execute(one)]
    words: dict[str | None, str | None] = {None: None}
    for label in dict.fromkeys(row.label for row in rows if row.label is not None):
        try:
            words[label] = classes.resolve(c, dataset_id, label)
        except NotFound:  # retired: it is offered again, as where its label is taken back
            classes.bring_back(c, dataset_id, {label}, by)
            words[label] = label
    there = [row.id for row in rows]
    move(c, dataset_id, there, removed, images)
    if there:
        audit.record(c, "image.return", on={"dataset": dataset_id, "images": there}, by=by)
    return [events.Change(row.id, words[row.label], row.label, bool(row.flagged)) for row in rows]


def forget(c: sa.Connection, dataset_id: int, ids: Sequence[str]) -> None:
    """Of images that come in anew the rows of before, in the caller's transaction."""
    for part in parts(ids):
        c.execute(removed.delete().where(removed.c.dataset_id == dataset_id, removed.c.id.in_(part)))


def out(dataset: sa.ColumnElement[int], image: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether the image was taken out that a row of another table names by these columns."""
    return select(removed.c.id).where(removed.c.dataset_id == dataset, removed.c.id == image).exists()


def move(c: sa.Connection, dataset_id: int, ids: Sequence[str], here: sa.Table, there: sa.Table) -> None:
    """Their rows alone, in the caller's transaction."""
    names = [column.name for column in images.c]
    for part in parts(ids):
        where = (here.c.dataset_id == dataset_id, here.c.id.in_(part))
        c.execute(there.insert().from_select(names, select(*(here.c[name] for name in names)).where(*where)))
        c.execute(here.delete().where(*where))


# Looking at them ----------------------------------------------------------------------------------


@roles.needs("delete")
def page(dataset_id: int, want: Filter, number: int, per_page: int) -> tuple[list[Image], int]:
    """One page (from 1) of the wanted images that were taken out, the last first, and how many there are; label_seq is that of the
    event that did it."""
    r = removed.c
    where = want.where(dataset_id, r)
    query = select(removed).where(*where).order_by(r.label_seq.desc()).offset((max(1, number) - 1) * per_page).limit(per_page)
    with reading() as c:
        found = [Image(**row._mapping) for row in c.execute(query)]
        return found, c.execute(select(func.count()).select_from(removed).where(*where)).scalar_one()


@roles.needs("delete")
def after(dataset_id: int, last: int | None, limit: int) -> list[Image]:
    """The same from where a page ended; last: label_seq of the last one seen."""
    r = removed.c
    query = select(removed).where(r.dataset_id == dataset_id).order_by(r.label_seq.desc()).limit(limit)
    with reading() as c:
        return [Image(**row._mapping) for row in c.execute(query if last is None else query.where(r.label_seq < last))]


@roles.needs("see")
def count(dataset_id: int) -> int:
    with reading() as c:
        return c.execute(select(func.count()).select_from(removed).where(removed.c.dataset_id == dataset_id)).scalar_one()


@roles.needs("see")
def newest(dataset_id: int) -> int:
    """The seq of the last removal that was not taken back, 0 where none is."""
    with reading() as c:
        return int(
            c.execute(select(func.coalesce(func.max(removed.c.label_seq), 0)).where(removed.c.dataset_id == dataset_id)).scalar_one()
        )


@roles.needs("see")
def among(dataset_id: int, ids: Sequence[str]) -> set[str]:
    """Those of the ids that were taken out."""
    with reading() as c:
        where = removed.c.dataset_id == dataset_id
        return {i for part in parts(ids) for i in c.execute(select(removed.c.id).where(where, removed.c.id.in_(part))).scalars()}


@roles.needs("delete")
def get(dataset_id: int, ids: Sequence[str] | None = None) -> list[Image]:
    """Those of the ids that were taken out, in their order; None: all of them."""
    r = removed.c
    queries = [select(removed).where(r.dataset_id == dataset_id)]
    if ids is not None:
        queries = [queries[0].where(r.id.in_(part)) for part in parts(ids)]
    with reading() as c:
        found = {row.id: Image(**row._mapping) for query in queries for row in c.execute(query)}
    return [found[i] for i in (found if ids is None else ids) if i in found]
