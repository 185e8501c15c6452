"""Labels: who gave which to which image, when and why; giving, flagging and taking back, each one more event."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam, func, select

from core import roles
from core.data import audit, brought, classes, events, removed, waiting
from core.data.history import MOVED, flag_stands
from core.data.schema import decisions, images, label_events, parts, reading, submissions, writing
from core.data.schema import removed as removed_images
from core.errors import Conflict, Invalid, NotFound
from core.types import Act, Current, Image, LabelEvent, now

MAX_AT_ONCE = 5000
ADDED = ", picture added"
OUT = ", removed before"
OUT_AGAIN = "decision taken back, removed as before"
DECISION = re.compile(rf"review ([0-9]{{1,9}})(?:{OUT})?(?:{ADDED})?$")  # the note of an event by a decision in Review


@dataclass(frozen=True)
class LabelResult:
    seqs: dict[str, int]  # image id -> the new version
    refused: dict[str, Current] = field(default_factory=dict)  # changed by somebody since it was seen
    missing: tuple[str, ...] = ()  # not in the dataset any more
    label: str | None = None  # as stored: another word than the one sent where the class was renamed
    notice: str = ""


@dataclass(frozen=True)
class Undone:
    images: int  # changed back
    stay: int  # changed by somebody or something else since, or removed: left as they are


@dataclass(frozen=True)
class Which:
    """Which events of this dataset's own; None means any. Times are UTC, ISO 8601; the end is not included."""

    by: str | None = None
    since: str | None = None
    until: str | None = None
    first: int | None = None  # seqs, both included
    last: int | None = None
    operation: str | None = None

    def where(self, dataset_id: int) -> list[sa.ColumnElement[bool]]:
        e = label_events.c
        here = sa.or_(e.operation.is_(None), ~e.operation.startswith(events.PAST, autoescape=True))
        # Of a range of seqs: the sum keeps the planner from an index by which it would read and sort all events of the dataset.
        whose = e.dataset_id if self.first is None and self.last is None else e.dataset_id + 0
        conditions: list[sa.ColumnElement[bool]] = [whose == dataset_id, here]
        if self.by is not None:
            conditions.append(e.by == self.by)
        if self.since is not None:
            conditions.append(e.at >= self.since)
        if self.until is not None:
            conditions.append(e.at < self.until)
        if self.first is not None:
            conditions.append(e.seq >= self.first)
        if self.last is not None:
            conditions.append(e.seq <= self.last)
        if self.operation is not None:
            conditions.append(e.operation == self.operation)
        return conditions


# The columns of Current, and where they stand.
_CARRYING = images.outerjoin(label_events, label_events.c.seq == images.c.label_seq)
_CARRIED = (
    images.c.id, images.c.label, images.c.label_seq,
    func.coalesce(label_events.c.by, ""), func.coalesce(label_events.c.at, ""), images.c.flagged,
)  # fmt: skip


@roles.needs("label")
def apply(
    dataset_id: int,
    seen: Mapping[str, int],
    label: str | None,
    by: str,
    operation: str | None = None,
    source: str = "manual",
    note: str = "",
) -> LabelResult:
    """Gives the label (None takes it back) to the images whose version is still the one seen: image id -> label_seq."""
    _check(seen, operation)
    with writing() as c:
        events.alive(c, dataset_id)
        stored = label if label is None else classes.resolve(c, dataset_id, label)
        done = _write(c, dataset_id, seen, lambda row: events.Change(row.id, stored, row.label), by, source, operation, note)
        notice = f"“{label}” is called “{stored}” now." if stored != label else ""
    return replace(done, label=stored, notice=notice)


@roles.needs("label")
def flag(dataset_id: int, seen: Mapping[str, int], flagged: bool, by: str, operation: str | None = None) -> LabelResult:
    """Flags the images for another look, or takes the flag away, where their version is still the one seen."""
    _check(seen, operation)
    with writing() as c:
        events.alive(c, dataset_id)
        source = "flag" if flagged else "unflag"

        def change(row: Current) -> events.Change:
            return events.Change(row.id, row.label, row.label, flagged)

        return _write(c, dataset_id, seen, change, by, source, operation, kind="flag")


def _check(seen: Mapping[str, int], operation: str | None) -> None:
    if operation is not None and operation.startswith(events.PAST):
        raise Invalid("This operation has the name of an imported event.", "Reload the page and try again.")
    if not seen:
        raise Invalid("No image was chosen.", "Choose at least one image.")
    if len(seen) > MAX_AT_ONCE:
        raise Invalid(f"{len(seen)} images were chosen.", f"Up to {MAX_AT_ONCE} can be labelled in one go.")


# What images carry, and the seq of the act where it was stored before; made once, as it is asked while nobody else may write.
_before = label_events.alias()
_AS_IT_IS = (
    select(*_CARRIED, _before.c.seq)
    .select_from(
        _CARRYING.outerjoin(
            _before,
            sa.and_(
                _before.c.dataset_id == images.c.dataset_id,
                _before.c.image_id == images.c.id,
                _before.c.operation == bindparam("act", type_=sa.String),
            ),
        )
    )
    .where(images.c.dataset_id == bindparam("here"), images.c.id.in_(bindparam("ids", expanding=True)))
)


def _write(
    c: sa.Connection,
    dataset_id: int,
    seen: Mapping[str, int],
    change: Any,
    by: str,
    source: str,
    operation: str | None,
    note: str = "",
    kind: str = "label",
) -> LabelResult:
    """change(row with id and label) -> events.Change; an operation that was stored before is answered, not stored again.

    kind: of the audit's entry.
    """
    done: dict[str, int] = {}
    current: dict[str, Current] = {}
    for part in parts(list(seen)):
        for *row, stored in c.execute(_AS_IT_IS, {"here": dataset_id, "act": operation, "ids": part}):
            current[row[0]] = Current(*row)
            done |= {row[0]: stored} if stored is not None else {}
    missing = tuple(i for i in seen if i not in current)
    if len(missing) == len(seen):
        raise NotFound(f"Image {missing[0]} is not in this dataset any more.", "Reload the page.")
    fresh = [i for i in seen if i in current and i not in done]
    fitting = [current[i] for i in fresh if current[i].seq == seen[i]]
    refused = {i: current[i] for i in fresh if current[i].seq != seen[i]}
    changes = [change(row) for row in fitting]
    seqs = events.append(c, dataset_id, changes, by, source, operation, note)
    audit.labels(c, kind, dataset_id, changes, by, {row.id: row.flagged for row in fitting}, source=source)
    return LabelResult({**done, **seqs}, refused, missing)


@roles.needs("label")
def apply_to_all(dataset_id: int, ids: Sequence[str], label: str | None, by: str, operation: str, source: str, over: bool = False) -> int:
    """Gives the label to all the images, however many; those labelled already keep theirs unless over; returns how many changed."""
    changed = 0
    for part in parts(ids, MAX_AT_ONCE):
        with reading() as c:
            found = [one for few in parts(part) for one in _current(c, dataset_id, images.c.id.in_(few))]
        seen = {one.id: one.seq for one in found if one.label != label and (over or one.label is None)}
        if seen:
            changed += len(apply(dataset_id, seen, label, by, operation, source).seqs)
    return changed


@roles.needs("label")
def give_each(dataset_id: int, wanted: Mapping[str, tuple[str | None, str]], by: str, operation: str, source: str, note: str = "") -> int:
    """Gives each image a label of its own, however many, as one act: image id -> (what it carried when it was seen, label).

    Whatever carries something else by now keeps it. Returns how many changed.
    """
    with writing() as c:
        events.alive(c, dataset_id)
        words = {label: classes.known_or_added(c, dataset_id, label) for label in dict.fromkeys(label for _, label in wanted.values())}
        found = [one for part in parts(list(wanted)) for one in _current(c, dataset_id, images.c.id.in_(part))]
        fitting = [one for one in found if one.label == wanted[one.id][0] and one.label != words[wanted[one.id][1]]]
        changes = [events.Change(one.id, words[wanted[one.id][1]], one.label) for one in fitting]
        seqs = events.append(c, dataset_id, changes, by, source, operation, note)
        audit.labels(c, "label", dataset_id, changes, by, source=source)
        return len(seqs)


@roles.needs("import")
def add_images(
    dataset_id: int,
    new: Sequence[Image],
    by: str,
    source: str,
    notes: Mapping[str, str] | None = None,
    past: Mapping[str, Sequence[LabelEvent]] | None = None,
    operation: str | None = None,
    title: str = "",
) -> int:
    """Adds images and, where they carry anything, the event of it, in one transaction; returns how many were new.

    Notes are those of the events, by image id. Past are events from elsewhere, oldest first, with their own who and when:
    they come before the event of this act, which alone can be taken back. title: of the import, which can then be undone. What was taken
    out before comes in as if it were new.
    """
    past = past or {}
    with writing() as c:
        have: set[str] = set()
        for part in parts([i.id for i in new]):
            have |= set(c.execute(select(images.c.id).where(images.c.dataset_id == dataset_id, images.c.id.in_(part))).scalars())
        fresh = list({i.id: i for i in new if i.id not in have}.values())
        if not fresh:
            return 0
        classes.ensure_in(c, dataset_id, [i.label for i in fresh if i.label is not None], by)
        again = events.told(c, dataset_id, [i.id for i in fresh])  # each gets an event, which ends its former life
        removed.forget(c, dataset_id, [i.id for i in fresh])
        import_id = brought.number(c, dataset_id, operation, by, title, [i.added_at for i in fresh]) if title and operation else None
        c.execute(images.insert(), [bare(i) | {"import_id": import_id} for i in fresh])
        gone_by = f"{events.PAST}{now()}"
        before = [
            {"dataset_id": dataset_id, "image_id": i.id, "label": e.label, "previous": e.previous, "source": e.source}
            | {"by": e.by, "at": e.at, "note": e.note, "operation": f"{gone_by} {n}"}
            for i in fresh
            for n, e in enumerate(past.get(i.id, ()))
        ]
        if before:
            c.execute(label_events.insert(), before)
        given = [events.Change(i.id, i.label, None, i.flagged or None) for i in fresh]
        said = {i.id for i in fresh if i.label is not None or i.flagged or past.get(i.id)} | again
        carrying = [change for change in given if change.image_id in said]
        events.append(c, dataset_id, carrying, by, source, operation, notes=notes)
        audit.labels(c, "import", dataset_id, given, by, dict.fromkeys((i.id for i in fresh), False), source=source)
        return len(fresh)


def bare(image: Image) -> dict[str, Any]:
    """The row of a new image: what it carries is written by an event."""
    values = {column.name: getattr(image, column.name) for column in images.c}
    return values | {"label": None, "label_seq": 0, "flagged": False, "given_seq": 0}


def _current(c: sa.Connection, dataset_id: int, *conditions: Any, limit: int | None = None) -> list[Current]:
    query = (
        select(*_CARRIED)
        .select_from(_CARRYING)
        .where(images.c.dataset_id == dataset_id, *conditions)
        .order_by(images.c.label_seq, images.c.id)
        .limit(limit)
    )
    return [Current(*row) for row in c.execute(query)]


@roles.needs("see")
def changes(dataset_id: int, after: int, limit: int = 1000) -> tuple[int, list[Current]]:
    """The dataset's newest seq, and what images carry that were labelled or flagged after a seq, oldest first."""
    with reading() as c:
        newest = c.execute(select(func.coalesce(func.max(images.c.label_seq), 0)).where(images.c.dataset_id == dataset_id)).scalar_one()
        found = _current(c, dataset_id, images.c.label_seq > after, limit=limit) if 0 <= after < newest else []
    return newest, found


@roles.needs("see")
def flagged(dataset_id: int) -> dict[str | None, int]:
    """How many images are flagged, by their label."""
    with reading() as c:
        query = select(images.c.label, func.count()).where(images.c.dataset_id == dataset_id, images.c.flagged.is_(True))
        return {name: n for name, n in c.execute(query.group_by(images.c.label))}


@roles.needs("see")
def sources(dataset_id: int) -> dict[str, str]:
    """Where the label of each labelled image came from, by image id; a flag that came after changes nothing."""
    here = images.join(label_events, label_events.c.seq == images.c.given_seq)
    query = select(images.c.id, label_events.c.source).select_from(here)
    with reading() as c:
        found = c.execute(query.where(images.c.dataset_id == dataset_id, images.c.label.is_not(None)))
        return {image_id: source for image_id, source in found}


def _events(*conditions: Any) -> sa.Select[Any]:
    e = label_events.c
    return select(e.seq, e.image_id, e.label, e.source, e.by, e.at, e.note, e.previous).where(*conditions).order_by(e.seq)


@roles.needs("see")
def history(dataset_id: int, image_id: str) -> list[LabelEvent]:
    """The image's label events, newest first."""
    with reading() as c:
        found = c.execute(_events(label_events.c.dataset_id == dataset_id, label_events.c.image_id == image_id))
        return [LabelEvent(**row._mapping) for row in found][::-1]


@roles.needs("see")
def all_events(dataset_id: int) -> list[LabelEvent]:
    """The label events of all images, oldest first."""
    with reading() as c:
        return [LabelEvent(**row._mapping) for row in c.execute(_events(label_events.c.dataset_id == dataset_id))]


@roles.needs("see")
def acts(dataset_id: int, which: Which, page: int, per_page: int = 20) -> tuple[list[Act], int]:
    """One page (from 1) of what was done, newest first, and how many acts there are.

    One operation, or one person at one moment, is one act.
    """
    query = _acts(dataset_id, which)
    with reading() as c:
        total = c.execute(select(func.count()).select_from(query.subquery())).scalar_one()
        found = c.execute(query.order_by(sa.desc("last")).offset((max(1, page) - 1) * per_page).limit(per_page))
        return [Act(*row) for row in found], total


def _acts(dataset_id: int, which: Which) -> sa.Select[Any]:
    """The columns of Act, one row for each."""
    e = label_events.c
    labels = func.count(e.label.distinct()) + func.max(sa.case((e.label.is_(None), 1), else_=0))
    gave = sa.and_(images.c.given_seq == e.seq, events.gives())
    stands = sa.or_(images.c.label_seq == e.seq, gave, flag_stands())
    carried = sa.and_(images.c.dataset_id == e.dataset_id, images.c.id == e.image_id, stands)
    r = removed_images.c
    out = sa.and_(r.dataset_id == e.dataset_id, r.id == e.image_id, r.label_seq == e.seq)
    what = (e.source, func.max(e.note).label("note"), func.max(e.label).label("label"), func.count().label("images"))
    return (
        select(func.min(e.seq).label("first"), func.max(e.seq).label("last"), e.by, func.max(e.at).label("at"), *what)
        .add_columns((labels > 1).label("mixed"), (func.count(images.c.id) + func.count(r.id)).label("standing"), e.operation)
        .select_from(label_events.outerjoin(images, carried).outerjoin(removed_images, out))
        .where(*which.where(dataset_id))
        .group_by(e.by, e.source, e.operation, sa.case((e.operation.is_(None), e.at)))
    )


def which(act: Act) -> Which:
    """The events of an act."""
    return Which(by=act.by, first=act.first, last=act.last, operation=act.operation)


@roles.needs("see")
def images_of(dataset_id: int, act: Act, limit: int, newest: bool = False) -> list[str]:
    """The ids of the act's first images, or of its last ones, newest first, without reading an act of a million to its end."""
    e = label_events.c
    query = select(e.image_id).where(*which(act).where(dataset_id)).order_by(e.seq.desc() if newest else e.seq)
    with reading() as c:
        return list(dict.fromkeys(c.execute(query.limit(3 * limit)).scalars()))[:limit]


@roles.needs("label")
def undo(dataset_id: int, which: Which, by: str, operation: str | None = None) -> Undone:
    """Takes the events back where nothing came after them: every image goes back to what it carried before.

    Label and flag each by themselves: who flags a wrong label does not keep it from being taken back. A label that was decided in
    Review takes its decision with it: Forbidden for who may not decide, and for who may not lead where somebody else did. What was taken
    out of the dataset, or brought back, is so no longer: Forbidden for who may not delete.
    """
    return _undo(dataset_id, which, by, operation, dry=False)


def _undo(dataset_id: int, which: Which, by: str, operation: str | None, dry: bool) -> Undone:
    """dry: only counts."""
    e = label_events.c
    touched = select(e.image_id).where(*which.where(dataset_id)).distinct()
    wanted = sa.and_(*which.where(dataset_id)).label("wanted")
    query = select(e.image_id, e.seq, e.label, e.previous, e.flagged, e.source, e.note, events.gives().label("gives"), wanted).where(
        e.dataset_id == dataset_id, e.image_id.in_(touched)
    )
    person = roles.current()  # the roles of this moment: undo has asked
    with reading() if dry else writing() as c:
        events.alive(c, dataset_id)
        if operation is not None and (done := events.stored(c, dataset_id, operation)):
            return Undone(done, 0)
        trails: dict[str, list[Any]] = {}
        for row in c.execute(query.order_by(e.seq)):
            trails.setdefault(row.image_id, []).append(row)
        names = events.Names(c, dataset_id)
        i, r = images.c, removed_images.c
        gone = set(c.execute(select(r.id).where(r.dataset_id == dataset_id, r.id.in_(touched))).scalars())
        trails = {image_id: _life(trail) for image_id, trail in trails.items()}
        was = {image_id: _was_out(trail) for image_id, trail in trails.items()}
        out = {image_id for image_id in gone if was[image_id] is False}
        again = {image_id for image_id, before in was.items() if before and image_id not in gone}
        if (out or again) and not person.may("delete", dataset_id):
            raise roles.refusal(person, "delete")
        moved = {} if dry else {x.image_id: x for x in removed.put_back(c, dataset_id, sorted(out), by)}
        here = {row.id: row for row in c.execute(select(i.id, i.label, i.flagged).where(i.dataset_id == dataset_id))}
        if dry and out:
            here |= {row.id: row for row in c.execute(select(r.id, r.label, r.flagged).where(r.dataset_id == dataset_id)) if row.id in out}
        again &= set(here)
        back: list[events.Change] = []
        returned: list[events.Change] = []
        stay = 0
        decided: set[int] = set()  # by decisions in Review
        for image_id, trail in trails.items():
            if image_id not in here:  # what was said of a removed image stays
                said = any(row.wanted and row.source not in MOVED for row in trail)
                stay += image_id in gone and (said or was[image_id] is None)
                continue
            carries = here[image_id]
            label, flagged = moved.get(image_id, carries).label, carries.flagged
            _, gave = _parted([row for row in trail if row.gives])
            if gave:
                label = names.today(gave[0].previous, gave[0].seq)
                decided |= {int(found[1]) for row in gave if row.source == "review" and (found := DECISION.match(row.note))}
            flags_kept, flags = _parted([row for row in trail if row.flagged is not None and row.source not in MOVED])
            if flags:
                flagged = _flag_after(flags_kept)
            changes = (label, flagged) != (moved.get(image_id, carries).label, carries.flagged)
            if changes:
                back.append(events.Change(image_id, label, carries.label, flagged if flagged != carries.flagged else None))
            if image_id in out:
                returned.append(events.Change(image_id, label, label if changes else carries.label, bool(flagged)))
            elif not changes and not gave and not flags and was[image_id] is None:
                stay += 1
        if back and not dry:
            classes.bring_back(c, dataset_id, {x.label for x in back if x.label is not None}, by)
            for moves in (False, True):  # of one that is moved, too, the move is the event of the operation
                some = [x for x in back if (x.image_id in out or x.image_id in again) == moves]
                events.append(c, dataset_id, some, by, "undo", None if moves else operation)
            carried = {x.image_id: bool(here[x.image_id].flagged) for x in back}
            audit.labels(c, "label.undo", dataset_id, back, by, carried, source="undo")
            _wait_again(c, sorted(decided), by, person)
        if not dry:
            events.append(c, dataset_id, returned, by, "return", operation)
            removed.take_out(c, dataset_id, sorted(again), by, operation)
    return Undone(len({x.image_id for x in back} | out | again), stay)


def _life(trail: Sequence[Any]) -> list[Any]:
    """The trail from where the image last came in anew after it was taken out: what was said of it before is nothing of its own.

    Where Review took back that it came in, that is nothing, and the life before goes on.
    """
    life, former, out = list[Any](), list[Any](), False
    for row in trail:
        if row.source in MOVED:
            out = row.source == "remove"
        elif out and (row.source == "import" or (row.source == "review" and row.note.endswith(ADDED))):
            life, former, out = [], life, False
        elif row.source == "review" and row.note == OUT_AGAIN:
            life, out = [*former, *(one for one in life if one.source in MOVED)], True
            continue
        life.append(row)
    return life


def before(c: sa.Connection, dataset_id: int, image_id: str, seq: int) -> dict[str, Any]:
    """What an image that was out of the dataset carried before it came in with an event, in today's words; in the caller's transaction."""
    e = label_events.c
    what = (e.seq, e.label, e.flagged, e.source, e.note, events.gives().label("gives"))
    query = select(*what).where(e.dataset_id == dataset_id, e.image_id == image_id, e.seq < seq).order_by(e.seq)
    life = _life(c.execute(query).all())
    out = next(row.seq for row in reversed(life) if row.source in MOVED)
    given = next((row for row in reversed(life) if row.gives), None)
    label = events.Names(c, dataset_id).today(given.label, given.seq) if given else None
    return {"label": label, "flagged": _flag_after(life), "given_seq": given.seq if given else 0, "label_seq": out}


def _was_out(trail: list[Any]) -> bool | None:
    """Whether the image was out of the dataset before the wanted moves at the end; None where there are none to take back."""
    _, moves = _parted([row for row in trail if row.source in MOVED])
    if not moves:
        return None
    since = (row for row in trail if row.seq > moves[0].seq)
    if moves[0].source == moves[-1].source == "return" and not all(row.wanted for row in since):
        return None  # somebody has said something of it since it came back: it stays
    return bool(moves[0].source == "return")


def _wait_again(c: sa.Connection, decided: Sequence[int], by: str, person: roles.Person) -> None:
    """Items of Review whose labels were taken back: their decisions are, too, and they wait for another."""
    d, w = decisions.c, submissions.c
    standing: dict[int, list[Any]] = {}
    for part in parts(decided):
        given = (d.submission_id.in_(part), d.undone_at.is_(None), d.verdict.in_(("accepted", "corrected")))
        for one in c.execute(select(decisions).where(*given).order_by(d.seq.desc())):
            verb = "decide" if one.by == by else "lead"
            if not person.may(verb, one.dataset_id):
                raise roles.refusal(person, verb)
            standing.setdefault(one.submission_id, []).append(one)
    for part in parts(sorted(standing)):
        for row in c.execute(select(submissions).where(w.id.in_(part), w.state == "decided")).all():
            waiting.again(c, row, standing[row.id], by, "waiting")


def _parted(trail: list[Any]) -> tuple[list[Any], list[Any]]:
    """The trail without the wanted events at its end, and those."""
    end = len(trail)
    while end and trail[end - 1].wanted:
        end -= 1
    return trail[:end], trail[end:]


def _flag_after(trail: Sequence[Any]) -> bool:
    """Whether an image is flagged after these events of its own."""
    return next((bool(row.flagged) for row in reversed(trail) if row.flagged is not None and row.source not in MOVED), False)


@roles.needs("see")
def count_undo(dataset_id: int, which: Which) -> Undone:
    """What undo would do."""
    return _undo(dataset_id, which, "", None, dry=True)


@roles.needs("label")
def go_back(dataset_id: int, image: Image, event: LabelEvent, by: str) -> LabelResult:
    """Gives the image what it carried before the event, whatever came after it; Conflict if it has changed since it was seen."""
    image_id, seen, seq = image.id, image.label_seq, event.seq
    e = label_events.c
    with writing() as c:
        events.alive(c, dataset_id)
        trail = c.execute(
            select(e.seq, e.previous, e.flagged, e.source, e.note)
            .where(e.dataset_id == dataset_id, e.image_id == image_id, e.seq <= seq)
            .order_by(e.seq)
        ).all()
        if not trail or trail[-1].seq != seq:
            raise NotFound("This change is not in the image's history.", "Reload the page.")
        label, flagged = (
            events.Names(c, dataset_id).today(trail[-1].previous, seq),
            _flag_after([row for row in _life(trail) if row.seq < seq]),
        )
        if any((row.label, row.flagged) == (label, flagged) for row in _current(c, dataset_id, images.c.id == image_id)):
            return LabelResult({})
        operation = f"back-{seq}-{seen}"  # a second click on the same page is the same act
        if label is not None:
            classes.bring_back(c, dataset_id, {label}, by)
            classes.ensure_in(c, dataset_id, [label])  # only an imported event may have named it

        def change(row: Current) -> events.Change:
            return events.Change(row.id, label, row.label, flagged)

        done = _write(c, dataset_id, {image_id: seen}, change, by, "undo", operation, kind="label.undo")
        if done.refused:
            one = done.refused[image_id]
            raise Conflict(f"{one.by} has changed this image since.", "Look at its history and choose again.")
    return done


def give_back(c: sa.Connection, dataset_id: int, image_id: str, seq: int, by: str, note: str, table: sa.Table = images) -> None:
    """Gives an image what it carried before a decision in review, by the name of today, in the caller's transaction.

    table: that it is in, images or removed.
    """
    e, i = label_events.c, table.c
    event = c.execute(select(e.previous).where(e.seq == seq)).one()
    label = events.Names(c, dataset_id).today(event.previous, seq)
    carried = c.execute(select(i.label).where(i.dataset_id == dataset_id, i.id == image_id)).scalar_one()
    given = events.append(c, dataset_id, [events.Change(image_id, label, carried)], by, "review", note=note)
    if table is not images:
        c.execute(table.update().where(i.dataset_id == dataset_id, i.id == image_id).values(label=label, given_seq=given[image_id]))
    if label is not None:
        classes.ensure_in(c, dataset_id, [label], by)
