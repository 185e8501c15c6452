"""History: what was done to labels as lines that people read, each kept up by the act that adds to it, so that a page is a look at an index."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam, func, select

from core import roles
from core.data.schema import history, images, label_events, reading, removed
from core.types import Act

IN_A_ROW = ("manual", "flag", "unflag", "review", "cluster", "model", "remove")  # sources of acts that people do one after another
FLAGS = ("flag", "unflag")
MOVED = ("remove", "return")  # sources of events that take an image out of the dataset, or bring it back
LEAST, PAUSE = 4, 30  # acts that make a row; minutes without an act that end it

Line = dict[str, Any]  # a row of the table

# One more act in a row that stands already: nearly every act of people at work, in one statement of those in which nobody else may write.
# Made once, as putting it together costs more than the database takes for it.
_mine = history.alias()
_same = history.alias()
_CONTINUED = (
    history.update()
    .where(
        history.c.dataset_id == bindparam("here"),
        history.c.first
        == select(_mine.c.first)
        .where(_mine.c.dataset_id == bindparam("here"), _mine.c.by == bindparam("who"))
        .order_by(_mine.c.last.desc())
        .limit(1)
        .scalar_subquery(),
        history.c.acts > 1,
        history.c.source == bindparam("why"),
        history.c.at >= bindparam("since"),
        ~select(_same.c.first)
        .where(_same.c.dataset_id == bindparam("here"), _same.c.operation == bindparam("act"), _same.c.by == bindparam("who"))
        .exists(),
    )
    .values(
        last=bindparam("until"),
        at=bindparam("now"),
        note=bindparam("said"),
        label=bindparam("given"),
        operation=bindparam("act"),
        mixed=history.c.mixed | bindparam("odd", type_=sa.Boolean) | history.c.label.is_distinct_from(bindparam("given")),
        images=history.c.images + bindparam("more"),
        acts=history.c.acts + 1,
    )
)


def add(c: sa.Connection, dataset_id: int, act: Line) -> None:
    """Adds events that were just appended, as a line of their own or to the one they continue, in the caller's transaction.

    act: a line without dataset_id, began and acts.
    """
    if _continued(c, dataset_id, act):
        return
    h = history.c
    mine = select(history).where(h.dataset_id == dataset_id, h.by == act["by"]).order_by(h.last.desc())
    latest = [dict(row._mapping) for row in c.execute(mine.limit(LEAST - 1))]
    if act["operation"] is not None:  # in several transactions, perhaps with others between them
        same = (h.operation == act["operation"], h.source == act["source"])
        begun = [dict(row._mapping) for row in c.execute(mine.where(*same).limit(1))]
    else:
        begun = [line for line in latest[:1] if all(line[name] == act[name] for name in ("operation", "source", "at"))]
    new = {"dataset_id": dataset_id, **act, "began": act["at"], "acts": 1}
    if begun:
        given = [line["label"] for line in (*begun, new) if line["label"] is not None]
        said = {"note": max(begun[0]["note"], new["note"]), "label": max(given, default=None), "acts": begun[0]["acts"]}
        _replace(c, begun, _joined([*begun, new]) | said)
    elif row := _row(latest, new):
        _replace(c, row, _joined([*row, new]))
    else:
        c.execute(history.insert(), new)


def _continued(c: sa.Connection, dataset_id: int, act: Line) -> bool:
    """Whether the person's latest line is a row that the act goes on with; it is counted there then."""
    if act["operation"] is None or not _in_a_row(act):
        return False
    since = datetime.fromisoformat(act["at"]) - timedelta(minutes=PAUSE)
    said = {
        "here": dataset_id,
        "who": act["by"],
        "why": act["source"],
        "act": act["operation"],
        "since": since.isoformat(timespec="milliseconds"),
    }
    said |= {"until": act["last"], "now": act["at"], "said": act["note"], "given": act["label"], "odd": act["mixed"], "more": act["images"]}
    return c.execute(_CONTINUED, said).rowcount == 1


def _in_a_row(line: Line) -> bool:
    """An import that was undone says so in its note, and is none of the removals by hand beside it."""
    return line["source"] in IN_A_ROW and not (line["source"] == "remove" and line["note"])


def _row(latest: Sequence[Line], new: Line) -> list[Line]:
    """The lines that become one with the new one, oldest first; none where it stands alone."""
    row = [new]
    for line in latest if _in_a_row(new) else ():
        first = row[0]
        if not _in_a_row(line) or line["source"] != first["source"] or _minutes(line["at"], first["began"]) > PAUSE:
            break
        row.insert(0, line)
        if line["acts"] > 1:
            break
    return row[:-1] if sum(line["acts"] for line in row) >= LEAST else []


def _joined(lines: Sequence[Line]) -> Line:
    mixed = any(line["mixed"] for line in lines) or len({line["label"] for line in lines}) > 1
    counted = {name: sum(line[name] for line in lines) for name in ("images", "acts")}
    return {**lines[-1], "first": lines[0]["first"], "began": lines[0]["began"], "mixed": mixed, **counted}


def _replace(c: sa.Connection, old: Sequence[Line], new: Line) -> None:
    h = history.c
    here = h.dataset_id == new["dataset_id"]
    if len(old) > 1:
        c.execute(history.delete().where(here, h.first.in_([line["first"] for line in old[1:]])))
    c.execute(history.update().where(here, h.first == old[0]["first"]).values(new))


def _minutes(since: str, until: str) -> float:
    return (datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds() / 60


@roles.needs("see")
def told(
    dataset_id: int, page: int = 1, per_page: int = 20, *, by: str | None = None, since: str | None = None, until: str | None = None
) -> tuple[list[Act], int]:
    """One page (from 1) of the lines, newest first, and how many there are: four and more acts of one person in a row are one.

    In a row are acts by hand for the same reason, without a pause of half an hour. Times are UTC, ISO 8601, the end not included; a
    line that was begun before or ended after them is told whole.
    """
    h = history.c
    where = [h.dataset_id == dataset_id]
    where += [h.by == by] if by is not None else []
    where += [h.at >= since] if since is not None else []
    where += [h.began < until] if until is not None else []
    with reading() as c:
        total = c.execute(select(func.count()).select_from(history).where(*where)).scalar_one()
        found = c.execute(select(history).where(*where).order_by(h.last.desc()).limit(per_page).offset((max(1, page) - 1) * per_page)).all()
        standing = _standing(c, dataset_id, found)
    return [_act(line, standing[line.first]) for line in found], total


def _act(line: Any, standing: int) -> Act:
    what = (line.source, line.note, line.label, line.images, line.mixed, standing)
    if line.acts == 1:
        return Act(line.first, line.last, line.by, line.at, *what, line.operation)
    return Act(line.first, line.last, line.by, line.at, *what, None, line.acts, line.began)


def _standing(c: sa.Connection, dataset_id: int, lines: Sequence[Any]) -> dict[int, int]:
    """How many events of each line nothing has changed since, by its first seq.

    Where nobody else wrote between its first and its last these are two ranges of indexes; else each event says whose it is, which
    for an import of a million pictures during which somebody labelled takes a second.
    """
    h, i, e = history.c, images.c, label_events.c
    of_line = sa.and_(e.by == h.by, e.source == h.source, sa.or_(h.acts > 1, e.operation.is_not_distinct_from(h.operation)))
    carried = (i.dataset_id == h.dataset_id, i.label_seq >= h.first, i.label_seq <= h.last)
    gave = (i.dataset_id == h.dataset_id, i.given_seq >= h.first, i.given_seq <= h.last, i.given_seq != i.label_seq)
    r = removed.c
    out = (r.dataset_id == h.dataset_id, r.label_seq >= h.first, r.label_seq <= h.last)
    alone = {line.first for line in lines if line.last - line.first + 1 == line.images}
    found: dict[int, int] = {}
    for firsts, joined in ((alone, False), ({line.first for line in lines} - alone, True)):
        counts = []
        for table, seq, stands in ((images, i.label_seq, carried), (images, i.given_seq, gave), (removed, r.label_seq, out)):
            here = table.join(label_events, sa.and_(e.seq == seq, of_line)) if joined else table
            counts.append(select(func.count()).select_from(here).where(*stands).correlate(history).scalar_subquery())
        query = select(h.first, counts[0] + counts[1] + counts[2]).where(h.dataset_id == dataset_id, h.first.in_(firsts))
        found |= {first: n for first, n in c.execute(query)} if firsts else {}
    # The sum keeps the planner to the range of seqs, from an index of all events of the dataset.
    if flags := [line.first for line in lines if line.source in FLAGS]:
        kept = sa.and_(i.dataset_id == e.dataset_id, i.id == e.image_id, flag_stands())
        its = (h.dataset_id == dataset_id, h.first.in_(flags), e.dataset_id + 0 == dataset_id, e.seq.between(h.first, h.last), of_line)
        query = select(h.first, func.count()).select_from(history).join(label_events, sa.true()).join(images, kept).where(*its)
        for first, n in c.execute(query.group_by(h.first)):
            found[first] += n
    return found


def flag_stands() -> sa.ColumnElement[bool]:
    """Whether nothing came after a flag but that its image was taken out and brought back; of an event joined to its image."""
    e, later = label_events.c, label_events.alias().c
    since = (later.dataset_id == e.dataset_id, later.image_id == e.image_id, later.seq > e.seq, later.source.not_in(MOVED))
    return sa.and_(e.source.in_(FLAGS), images.c.label_seq > e.seq, ~select(later.seq).where(*since).exists())


@roles.needs("see")
def people(dataset_id: int) -> list[str]:
    """Everybody who has given a label, in the order of the alphabet."""
    with reading() as c:
        query = select(history.c.by).where(history.c.dataset_id == dataset_id).distinct().order_by(history.c.by)
        return list(c.execute(query).scalars())
