"""The append-only events: who gave which label when and why, and what happened to the classes that labels name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func, select

from core.data.schema import class_events, classes, datasets, examples, images, label_events, parts, predictions, reading, writing
from core.errors import Conflict, Invalid, NotFound
from core.types import Act, Class, Current, Image, LabelEvent, now

PAST = "past "  # begins the operation of events that came with an import: done elsewhere, and no act of this dataset


@dataclass(frozen=True)
class Change:
    """What one event changes; flagged None leaves the flag as it is."""

    image_id: str
    label: str | None
    previous: str | None
    flagged: bool | None = None


@dataclass(frozen=True)
class LabelResult:
    seqs: dict[str, int]  # image id -> the new version
    refused: dict[str, Current] = field(default_factory=dict)  # changed by somebody since it was seen
    missing: tuple[str, ...] = ()  # not in the dataset any more
    label: str | None = None  # as stored: another word than the one sent where the class was renamed
    notice: str = ""


# Writing ------------------------------------------------------------------------------------------


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
    """Appends one event per change and what the image carries with it, in the caller's transaction; returns the seqs."""
    at = now()
    if not changes:
        return {}
    last = _last_seq(c)
    c.execute(
        label_events.insert(),
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
    e = label_events.c
    mine = (e.dataset_id == dataset_id, e.seq > last)
    c.execute(
        images.update()
        .where(images.c.dataset_id == dataset_id, images.c.id == e.image_id, *mine)
        .values(
            label=e.label,
            label_seq=e.seq,
            flagged=func.coalesce(e.flagged, images.c.flagged),
            given_seq=sa.case((_gives(), e.seq), else_=images.c.given_seq),
        )
    )
    return {image_id: seq for image_id, seq in c.execute(select(e.image_id, e.seq).where(*mine))}


def _gives() -> sa.ColumnElement[bool]:
    """Whether an event is about the label, and not about the flag alone."""
    e = label_events.c
    return sa.or_(e.flagged.is_(None), e.label.is_distinct_from(e.previous))


def add_images(
    dataset_id: int,
    new: Sequence[Image],
    by: str,
    source: str,
    notes: Mapping[str, str] | None = None,
    past: Mapping[str, Sequence[LabelEvent]] | None = None,
    operation: str | None = None,
) -> int:
    """Adds images and, where they carry anything, the event of it, in one transaction; returns how many were new.

    Notes are those of the events, by image id. Past are events from elsewhere, oldest first, with their own who and when:
    they come before the event of this act, which alone can be taken back.
    """
    past = past or {}
    with writing() as c:
        have: set[str] = set()
        for part in parts([i.id for i in new]):
            have |= set(c.execute(select(images.c.id).where(images.c.dataset_id == dataset_id, images.c.id.in_(part))).scalars())
        fresh = list({i.id: i for i in new if i.id not in have}.values())
        if not fresh:
            return 0
        add_classes_in(c, dataset_id, [i.label for i in fresh if i.label is not None], by)
        c.execute(images.insert(), [bare(i) for i in fresh])
        gone_by = f"{PAST}{now()}"
        before = [
            {"dataset_id": dataset_id, "image_id": i.id, "label": e.label, "previous": e.previous, "source": e.source}
            | {"by": e.by, "at": e.at, "note": e.note, "operation": f"{gone_by} {n}"}
            for i in fresh
            for n, e in enumerate(past.get(i.id, ()))
        ]
        if before:
            c.execute(label_events.insert(), before)
        carrying = [i for i in fresh if i.label is not None or i.flagged or past.get(i.id)]
        append(c, dataset_id, [Change(i.id, i.label, None, i.flagged or None) for i in carrying], by, source, operation, notes=notes)
        return len(fresh)


def bare(image: Image) -> dict[str, Any]:
    """The row of a new image: what it carries is written by an event."""
    values = {column.name: getattr(image, column.name) for column in images.c}
    return values | {"label": None, "label_seq": 0, "flagged": False, "given_seq": 0}


def _last_seq(c: sa.Connection) -> int:
    return int(c.execute(select(func.coalesce(func.max(label_events.c.seq), 0))).scalar_one())


def apply(
    dataset_id: int, seen: Mapping[str, int], label: str | None, by: str, source: str, operation: str | None = None, note: str = ""
) -> LabelResult:
    """Gives the label to every image whose version (label_seq) is still the one that was seen."""
    with writing() as c:
        _alive(c, dataset_id)
        stored = label if label is None else resolve(c, dataset_id, label)
        done = _write(c, dataset_id, seen, lambda row: Change(row.id, stored, row.label), by, source, operation, note)
        notice = f"“{label}” is called “{stored}” now." if stored != label else ""
    return replace(done, label=stored, notice=notice)


def flag(dataset_id: int, seen: Mapping[str, int], flagged: bool, by: str, operation: str | None = None) -> LabelResult:
    """Sets or takes away the flag of every image whose version is still the one that was seen."""
    with writing() as c:
        _alive(c, dataset_id)
        source = "flag" if flagged else "unflag"
        return _write(c, dataset_id, seen, lambda row: Change(row.id, row.label, row.label, flagged), by, source, operation)


def _alive(c: sa.Connection, dataset_id: int) -> None:
    if c.execute(select(datasets.c.id).where(datasets.c.id == dataset_id, datasets.c.deleted_at.is_(None))).first() is None:
        raise NotFound("This dataset was deleted.", "Restore it on the Dataset page, or choose another one.")


def _write(
    c: sa.Connection, dataset_id: int, seen: Mapping[str, int], change: Any, by: str, source: str, operation: str | None, note: str = ""
) -> LabelResult:
    """change(row with id and label) -> Change; an operation that was stored before is answered, not stored again."""
    done: dict[str, int] = {}
    current: dict[str, Current] = {}
    for part in parts(list(seen)):
        if operation is not None:
            e = label_events.c
            repeated = select(e.image_id, e.seq).where(e.dataset_id == dataset_id, e.operation == operation, e.image_id.in_(part))
            done.update({i: seq for i, seq in c.execute(repeated)})
        current.update({row.id: row for row in _current(c, dataset_id, images.c.id.in_(part))})
    missing = tuple(i for i in seen if i not in current)
    if len(missing) == len(seen):
        raise NotFound(f"Image {missing[0]} is not in this dataset any more.", "Reload the page.")
    fresh = [i for i in seen if i in current and i not in done]
    fitting = [current[i] for i in fresh if current[i].seq == seen[i]]
    refused = {i: current[i] for i in fresh if current[i].seq != seen[i]}
    return LabelResult({**done, **append(c, dataset_id, [change(row) for row in fitting], by, source, operation, note)}, refused, missing)


def _current(c: sa.Connection, dataset_id: int, *conditions: Any, limit: int | None = None) -> list[Current]:
    e = label_events
    query = (
        select(images.c.id, images.c.label, images.c.label_seq, func.coalesce(e.c.by, ""), func.coalesce(e.c.at, ""), images.c.flagged)
        .select_from(images.outerjoin(e, e.c.seq == images.c.label_seq))
        .where(images.c.dataset_id == dataset_id, *conditions)
        .order_by(images.c.label_seq)
        .limit(limit)
    )
    return [Current(*row) for row in c.execute(query)]


# Reading ------------------------------------------------------------------------------------------


def changes(dataset_id: int, after: int, limit: int = 1000) -> tuple[int, list[Current]]:
    """The dataset's newest seq, and what images carry that were labelled or flagged after a seq, oldest first."""
    with reading() as c:
        newest = c.execute(select(func.coalesce(func.max(images.c.label_seq), 0)).where(images.c.dataset_id == dataset_id)).scalar_one()
        found = _current(c, dataset_id, images.c.label_seq > after, limit=limit) if 0 <= after < newest else []
    return newest, found


def flagged(dataset_id: int) -> dict[str | None, int]:
    """How many images are flagged, by their label."""
    with reading() as c:
        query = select(images.c.label, func.count()).where(images.c.dataset_id == dataset_id, images.c.flagged.is_(True))
        return {name: n for name, n in c.execute(query.group_by(images.c.label))}


def _events(*conditions: Any) -> sa.Select[Any]:
    e = label_events.c
    return select(e.seq, e.image_id, e.label, e.source, e.by, e.at, e.note, e.previous).where(*conditions).order_by(e.seq)


def history(dataset_id: int, image_id: str) -> list[LabelEvent]:
    """The image's label events, newest first."""
    with reading() as c:
        found = c.execute(_events(label_events.c.dataset_id == dataset_id, label_events.c.image_id == image_id))
        return [LabelEvent(**row._mapping) for row in found][::-1]


def all_events(dataset_id: int) -> list[LabelEvent]:
    """The label events of all images, oldest first."""
    with reading() as c:
        return [LabelEvent(**row._mapping) for row in c.execute(_events(label_events.c.dataset_id == dataset_id))]


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
        here = sa.or_(e.operation.is_(None), ~e.operation.startswith(PAST, autoescape=True))
        conditions: list[sa.ColumnElement[bool]] = [e.dataset_id == dataset_id, here]
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


def acts(dataset_id: int, which: Which, offset: int, limit: int) -> tuple[list[Act], int]:
    """One page of what was done, newest first, and how many acts there are: one operation, or one person at one moment, is one act."""
    e = label_events.c
    labels = func.count(e.label.distinct()) + func.max(sa.case((e.label.is_(None), 1), else_=0))
    seqs = (func.min(e.seq), func.max(e.seq).label("last"))
    stands = sa.or_(images.c.label_seq == e.seq, sa.and_(images.c.given_seq == e.seq, _gives()))
    carried = sa.and_(images.c.dataset_id == e.dataset_id, images.c.id == e.image_id, stands)
    facts = (e.source, func.max(e.note), func.max(e.label), func.count(), labels > 1, func.count(images.c.id), e.operation)
    query = (
        select(*seqs, e.by, func.max(e.at), *facts)
        .select_from(label_events.outerjoin(images, carried))
        .where(*which.where(dataset_id))
        .group_by(e.by, e.source, e.operation, sa.case((e.operation.is_(None), e.at)))
    )
    with reading() as c:
        total = c.execute(select(func.count()).select_from(query.subquery())).scalar_one()
        return [Act(*row) for row in c.execute(query.order_by(sa.desc("last")).offset(offset).limit(limit))], total


def images_of(dataset_id: int, which: Which, limit: int) -> list[str]:
    """The ids of the images that the events are about, the first ones."""
    e = label_events.c
    with reading() as c:
        query = select(e.image_id).where(*which.where(dataset_id)).group_by(e.image_id).order_by(func.min(e.seq)).limit(limit)
        return list(c.execute(query).scalars())


def people(dataset_id: int) -> list[str]:
    """Everybody who has given a label, in the order of the alphabet."""
    with reading() as c:
        query = select(label_events.c.by).where(*Which().where(dataset_id)).distinct().order_by(label_events.c.by)
        return list(c.execute(query).scalars())


def sources(dataset_id: int) -> dict[str, str]:
    """Where the label of each labelled image came from, by image id; a flag that came after changes nothing."""
    here = images.join(label_events, label_events.c.seq == images.c.given_seq)
    query = select(images.c.id, label_events.c.source).select_from(here)
    with reading() as c:
        found = c.execute(query.where(images.c.dataset_id == dataset_id, images.c.label.is_not(None)))
        return {image_id: source for image_id, source in found}


# Taking back --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Undone:
    images: int  # changed back
    stay: int  # changed by somebody or something else since: left as they are


def undo(dataset_id: int, which: Which, by: str, operation: str | None = None, dry: bool = False) -> Undone:
    """Takes the events back where nothing came after them: every image goes back to what it carried before.

    Label and flag each by themselves: who flags a wrong label does not keep it from being taken back. dry: only counts.
    """
    e = label_events.c
    touched = select(e.image_id).where(*which.where(dataset_id)).distinct()
    wanted = sa.and_(*which.where(dataset_id)).label("wanted")
    query = select(e.image_id, e.seq, e.label, e.previous, e.flagged, _gives().label("gives"), wanted).where(
        e.dataset_id == dataset_id, e.image_id.in_(touched)
    )
    with reading() if dry else writing() as c:
        _alive(c, dataset_id)
        if operation is not None and (done := _stored(c, dataset_id, operation)):
            return Undone(done, 0)
        trails: dict[str, list[Any]] = {}
        for row in c.execute(query.order_by(e.seq)):
            trails.setdefault(row.image_id, []).append(row)
        names = Names(c, dataset_id)
        i = images.c
        here = {row.id: row for row in c.execute(select(i.id, i.label, i.flagged).where(i.dataset_id == dataset_id))}
        back: list[Change] = []
        stay = 0
        for image_id, trail in trails.items():
            if image_id not in here:
                continue
            carries = here[image_id]
            label, flagged = carries.label, carries.flagged
            _, gave = _parted([row for row in trail if row.gives])
            if gave:
                label = names.today(gave[0].previous, gave[0].seq)
            flags_kept, flags = _parted([row for row in trail if row.flagged is not None])
            if flags:
                flagged = _flag_after(flags_kept)
            if (label, flagged) != (carries.label, carries.flagged):
                back.append(Change(image_id, label, carries.label, flagged if flagged != carries.flagged else None))
            elif not gave and not flags:
                stay += 1
        if back and not dry:
            _bring_back(c, dataset_id, {x.label for x in back if x.label is not None}, by)
            append(c, dataset_id, back, by, "undo", operation)
    return Undone(len(back), stay)


def _parted(trail: list[Any]) -> tuple[list[Any], list[Any]]:
    """The trail without the wanted events at its end, and those."""
    end = len(trail)
    while end and trail[end - 1].wanted:
        end -= 1
    return trail[:end], trail[end:]


def go_back(dataset_id: int, image_id: str, seen: int, seq: int, by: str) -> LabelResult:
    """Gives one image the label and flag it carried before an event, whatever came after, if its version is still the one seen."""
    e = label_events.c
    with writing() as c:
        _alive(c, dataset_id)
        trail = c.execute(
            select(e.seq, e.previous, e.flagged).where(e.dataset_id == dataset_id, e.image_id == image_id, e.seq <= seq).order_by(e.seq)
        ).all()
        if not trail or trail[-1].seq != seq:
            raise NotFound("This change is not in the image's history.", "Reload the page.")
        label, flagged = Names(c, dataset_id).today(trail[-1].previous, seq), _flag_after(trail[:-1])
        if any((row.label, row.flagged) == (label, flagged) for row in _current(c, dataset_id, images.c.id == image_id)):
            return LabelResult({})
        operation = f"back-{seq}-{seen}"  # a second click on the same page is the same act
        done = _write(c, dataset_id, {image_id: seen}, lambda row: Change(row.id, label, row.label, flagged), by, "undo", operation)
        if done.seqs and label is not None:
            _bring_back(c, dataset_id, {label}, by)
            add_classes_in(c, dataset_id, [label])  # only an imported event may have named it
    return done


def give_back(c: sa.Connection, dataset_id: int, image_id: str, seq: int, by: str, note: str) -> None:
    """Gives an image what it carried before a decision in review, by the name of today, in the caller's transaction."""
    e, i = label_events.c, images.c
    event = c.execute(select(e.previous).where(e.seq == seq)).one()
    label = Names(c, dataset_id).today(event.previous, seq)
    carried = c.execute(select(i.label).where(i.dataset_id == dataset_id, i.id == image_id)).scalar_one()
    append(c, dataset_id, [Change(image_id, label, carried)], by, "review", note=note)
    if label is not None:
        add_classes_in(c, dataset_id, [label], by)


def _flag_after(trail: Sequence[Any]) -> bool:
    """Whether an image is flagged after these events of its own."""
    return next((bool(row.flagged) for row in reversed(trail) if row.flagged is not None), False)


def _stored(c: sa.Connection, dataset_id: int, operation: str) -> int:
    e = label_events.c
    return int(c.execute(select(func.count()).where(e.dataset_id == dataset_id, e.operation == operation)).scalar_one())


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

    def since(self, label: str, at: str) -> str:
        """The same for a word of a time (UTC, ISO 8601) instead of an event."""
        for name, to, _, renamed_at in self.renames:
            if renamed_at >= at and label == name:
                label = to
        return label


# Classes ------------------------------------------------------------------------------------------


def live_classes(c: sa.Connection, dataset_id: int) -> dict[str, int]:
    """The classes that are offered, in their order, with their positions."""
    offered = (classes.c.dataset_id == dataset_id, classes.c.retired_at.is_(None))
    query = select(classes.c.name, classes.c.position).where(*offered).order_by(classes.c.position)
    return {name: position for name, position in c.execute(query)}


def list_classes(dataset_id: int) -> list[Class]:
    """All classes in their order, retired ones last."""
    with reading() as c:
        shown: dict[tuple[str, bool], list[str]] = {}
        chosen = select(examples.c["class"], examples.c.image_id, examples.c.accepted).where(examples.c.dataset_id == dataset_id)
        for name, image_id, accepted in c.execute(chosen):
            shown.setdefault((name, accepted), []).append(image_id)
        rows = c.execute(select(classes).where(classes.c.dataset_id == dataset_id).order_by(classes.c.position)).all()
    found = [
        Class(r.name, r.guideline, r.retired_at, tuple(shown.get((r.name, True), ())), tuple(shown.get((r.name, False), ()))) for r in rows
    ]
    return sorted(found, key=lambda one: one.retired_at is not None)


def add_classes(dataset_id: int, names: Iterable[str]) -> None:
    """Appends the classes that are new, in the order given; retired ones are offered again."""
    with writing() as c:
        add_classes_in(c, dataset_id, names)


def adopt_classes(dataset_id: int, found: Sequence[Class]) -> None:
    """Appends the classes that are new with their guideline, retired ones as such; those that are here stay as they are."""
    with writing() as c:
        known = set(_names(c, dataset_id))
        end = c.execute(select(func.coalesce(func.max(classes.c.position), -1)).where(classes.c.dataset_id == dataset_id)).scalar_one() + 1
        rows = [
            {"dataset_id": dataset_id, "name": one.name, "position": end + i, "guideline": one.guideline, "retired_at": one.retired_at}
            for i, one in enumerate(one for one in found if one.name not in known)
        ]
        if rows:
            c.execute(classes.insert(), rows)


def add_classes_in(c: sa.Connection, dataset_id: int, names: Iterable[str], by: str = "") -> None:
    """The same in the caller's transaction."""
    rows = c.execute(select(classes.c.name, classes.c.position, classes.c.retired_at).where(classes.c.dataset_id == dataset_id)).all()
    known = {row.name for row in rows}
    end = max((row.position for row in rows), default=-1) + 1
    wanted = list(dict.fromkeys(names))
    fresh = [name for name in wanted if name not in known]
    if fresh:
        c.execute(classes.insert(), [{"dataset_id": dataset_id, "name": name, "position": end + i} for i, name in enumerate(fresh)])
    _bring_back(c, dataset_id, {row.name for row in rows if row.retired_at} & set(wanted), by)


def _bring_back(c: sa.Connection, dataset_id: int, names: set[str], by: str) -> None:
    """Offers those of the classes again that were retired."""
    for name in sorted(names):
        where = (classes.c.dataset_id == dataset_id, classes.c.name == name)
        if c.execute(classes.update().where(*where, classes.c.retired_at.is_not(None)).values(retired_at=None)).rowcount:
            _tell(c, dataset_id, "restored", name, None, by)


def _tell(c: sa.Connection, dataset_id: int, kind: str, name: str, to: str | None, by: str) -> None:
    values = {"dataset_id": dataset_id, "kind": kind, "name": name, "to": to, "by": by, "at": now(), "after_seq": _last_seq(c)}
    c.execute(class_events.insert().values(**values))


def _row(c: sa.Connection, dataset_id: int, name: str) -> Any:
    return c.execute(select(classes).where(classes.c.dataset_id == dataset_id, classes.c.name == name)).first()


def resolve(c: sa.Connection, dataset_id: int, label: str) -> str:
    """The class that the word means today: itself, or what it was renamed to or merged into since a page was drawn."""
    e = class_events.c
    name, after = label, 0
    while (row := _row(c, dataset_id, name)) is None or row.retired_at:
        moved = select(e.to, e.seq).where(
            e.dataset_id == dataset_id, e.name == name, e.kind.in_(("renamed", "merged", "retired")), e.seq > after
        )
        found = c.execute(moved.order_by(e.seq.desc()).limit(1)).first()
        if found is None or found.to is None:
            if row is not None:
                raise NotFound(f"The class “{name}” was retired.", "Choose another class, or bring it back on the Dataset page.")
            raise NotFound(f"“{label}” is not a class of this dataset.", "Add the class first, or reload the page.")
        name, after = found.to, found.seq
    return name


def known_or_added(c: sa.Connection, dataset_id: int, label: str) -> str:
    """What the word means today; a word never heard of becomes a class."""
    try:
        return resolve(c, dataset_id, label)
    except NotFound:
        if _row(c, dataset_id, label) is not None:  # retired
            raise
    add_classes_in(c, dataset_id, [label])
    return label


def rename_class(dataset_id: int, old: str, new: str, by: str) -> None:
    """Gives the class another name; its images follow, the events keep the words of their day."""
    with writing() as c:
        _alive(c, dataset_id)
        if _row(c, dataset_id, old) is None:
            raise NotFound(f"There is no class “{old}” any more.", "Reload the page: somebody may have renamed it.")
        taken = next((n for n in _names(c, dataset_id) if n != old and n.casefold() == new.casefold()), None)
        if taken is not None:
            if (row := _row(c, dataset_id, taken)) is not None and row.retired_at:
                raise Conflict(f"The class “{taken}” was retired.", "Choose another name, or bring that one back.")
            raise Conflict(f"There is a class “{taken}” already.", "Choose another name, or merge the two classes.")
        _tell(c, dataset_id, "renamed", old, new, by)
        c.execute(classes.update().where(classes.c.dataset_id == dataset_id, classes.c.name == old).values(name=new))
        c.execute(examples.update().where(examples.c.dataset_id == dataset_id, examples.c["class"] == old).values({"class": new}))
        c.execute(predictions.update().where(predictions.c.dataset_id == dataset_id, predictions.c.label == old).values(label=new))
        c.execute(images.update().where(images.c.dataset_id == dataset_id, images.c.label == old).values(label=new))


def _names(c: sa.Connection, dataset_id: int) -> list[str]:
    return list(c.execute(select(classes.c.name).where(classes.c.dataset_id == dataset_id)).scalars())


def retire_class(dataset_id: int, name: str, into: str | None, by: str, operation: str | None = None) -> int:
    """Offers the class no more: its images go to another class (a merge) or lose their label; returns how many.

    Undone by taking the act back, or by restore_class.
    """
    with writing() as c:
        _alive(c, dataset_id)
        if operation is not None and (done := _stored(c, dataset_id, operation)):
            return done
        row = _row(c, dataset_id, name)
        if row is None:
            raise NotFound(f"There is no class “{name}” any more.", "Reload the page: somebody may have renamed it.")
        if row.retired_at:
            raise Conflict(f"The class “{name}” is retired already.", "Reload the page.")
        if into is not None:
            into = resolve(c, dataset_id, into)
            if into == name:
                raise Invalid(f"“{name}” cannot be merged into itself.", "Choose another class.")
        carried = c.execute(select(images.c.id).where(images.c.dataset_id == dataset_id, images.c.label == name)).scalars()
        given = [Change(i, into, name) for i in carried]
        source = "retire" if into is None else "merge"
        append(c, dataset_id, given, by, source, operation, note=f"class {name} {'retired' if into is None else f'merged into {into}'}")
        _tell(c, dataset_id, "retired" if into is None else "merged", name, into, by)
        c.execute(classes.update().where(classes.c.dataset_id == dataset_id, classes.c.name == name).values(retired_at=now()))
        return len(given)


def restore_class(dataset_id: int, name: str, by: str) -> int:
    """Offers a retired class again, and gives it back to the images that nobody has labelled since; returns how many."""
    with writing() as c:
        _alive(c, dataset_id)
        if _row(c, dataset_id, name) is None:
            raise NotFound(f"There is no class “{name}” any more.", "Reload the page: somebody may have renamed it.")
        _bring_back(c, dataset_id, {name}, by)
        lost = _lost(dataset_id, images.c.id, images.c.label).where(label_events.c.previous == name)
        back = [Change(row.id, name, row.label) for row in c.execute(lost)]
        append(c, dataset_id, back, by, "restore", note=f"class {name} brought back")
        return len(back)


def restorable(dataset_id: int) -> dict[str, int]:
    """How many images restore_class would give back, by class."""
    with reading() as c:
        query = _lost(dataset_id, label_events.c.previous, func.count()).group_by(label_events.c.previous)
        return {name: n for name, n in c.execute(query)}


def _lost(dataset_id: int, *columns: Any) -> sa.Select[Any]:
    """Images that lost a class with the class itself, and have not been labelled since."""
    here = images.join(label_events, label_events.c.seq == images.c.given_seq)
    return select(*columns).select_from(here).where(images.c.dataset_id == dataset_id, label_events.c.source.in_(("retire", "merge")))


def order_classes(dataset_id: int, names: Sequence[str]) -> None:
    """Puts the classes in this order; those not named keep theirs, behind."""
    with writing() as c:
        rows = c.execute(select(classes.c.name).where(classes.c.dataset_id == dataset_id).order_by(classes.c.position)).scalars()
        known = list(rows)
        order = [n for n in dict.fromkeys(names) if n in known]
        for position, name in enumerate([*order, *(n for n in known if n not in order)]):
            c.execute(classes.update().where(classes.c.dataset_id == dataset_id, classes.c.name == name).values(position=position))


def describe_class(dataset_id: int, name: str, guideline: str, seen: str | None = None) -> None:
    """Sets the class's guideline, if it is still the one that was seen."""
    with writing() as c:
        row = _row(c, dataset_id, name)
        if row is None:
            raise NotFound(f"There is no class “{name}” any more.", "Reload the page: somebody may have renamed it.")
        if seen is not None and row.guideline not in (seen, guideline):
            raise Conflict("Somebody has changed this guideline since.", "Theirs stands above; save again to put yours in its place.")
        where = (classes.c.dataset_id == dataset_id, classes.c.name == name)
        c.execute(classes.update().where(*where).values(guideline=guideline))


def set_example(dataset_id: int, name: str, image_id: str, accepted: bool | None) -> None:
    """Makes the image an accepted or rejected example of the class; None takes it away."""
    values = {"dataset_id": dataset_id, "class": name, "image_id": image_id}
    with writing() as c:
        if _row(c, dataset_id, name) is None:
            raise NotFound(f"There is no class “{name}” any more.", "Reload the page: somebody may have renamed it.")
        c.execute(examples.delete().where(*(examples.c[key] == value for key, value in values.items())))
        if accepted is not None:
            c.execute(examples.insert().values({**values, "accepted": accepted}))


def add_examples(dataset_id: int, rows: Sequence[tuple[str, str, bool]]) -> None:
    """Stores (class, image id, accepted) of classes that have no examples yet."""
    unique = {(name, image_id): accepted for name, image_id, accepted in rows}
    values = [{"dataset_id": dataset_id, "class": name, "image_id": i, "accepted": accepted} for (name, i), accepted in unique.items()]
    with writing() as c:
        if values:
            c.execute(examples.insert(), values)
