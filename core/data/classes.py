"""Classes: what a dataset's labels are called, in which order, with which guideline and examples, and what became of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam, func, select

from core import roles
from core.data import audit, events
from core.data.schema import class_events, classes, examples, images, label_events, predictions, reading, removed, writing
from core.errors import Conflict, Invalid, NotFound
from core.names import MAX_EXAMPLES, MAX_GUIDELINE, checked_name
from core.types import Class, now


def live(c: sa.Connection, dataset_id: int) -> dict[str, int]:
    """The classes that are offered, in their order, with their positions."""
    offered = (classes.c.dataset_id == dataset_id, classes.c.retired_at.is_(None))
    query = select(classes.c.name, classes.c.position).where(*offered).order_by(classes.c.position)
    return {name: position for name, position in c.execute(query)}


@roles.needs("see")
def of(dataset_id: int) -> list[Class]:
    """All classes in their order, retired ones last."""
    with reading() as c:
        shown: dict[tuple[str, bool], list[str]] = {}
        chosen = select(examples.c["class"], examples.c.image_id, examples.c.accepted).where(examples.c.dataset_id == dataset_id)
        here = sa.and_(images.c.dataset_id == examples.c.dataset_id, images.c.id == examples.c.image_id)
        chosen = chosen.select_from(examples.join(images, here)).order_by(examples.c.image_id)  # one that was taken out shows nothing
        for name, image_id, accepted in c.execute(chosen):
            shown.setdefault((name, accepted), []).append(image_id)
        rows = c.execute(select(classes).where(classes.c.dataset_id == dataset_id).order_by(classes.c.position)).all()
    found = [
        Class(r.name, r.guideline, r.retired_at, tuple(shown.get((r.name, True), ())), tuple(shown.get((r.name, False), ()))) for r in rows
    ]
    return sorted(found, key=lambda one: one.retired_at is not None)


@roles.needs("import")
def ensure(dataset_id: int, names: Iterable[str]) -> None:
    """Appends the classes that are new, in the order given; retired ones are offered again."""
    with writing() as c:
        if added := ensure_in(c, dataset_id, names):
            audit.record(c, "class.add", on={"dataset": dataset_id}, after={"classes": added})


def ensure_in(c: sa.Connection, dataset_id: int, names: Iterable[str], by: str = "") -> list[str]:
    """The same in the caller's transaction; those that are offered now and were not."""
    rows = c.execute(select(classes.c.name, classes.c.position, classes.c.retired_at).where(classes.c.dataset_id == dataset_id)).all()
    known = {row.name for row in rows}
    end = max((row.position for row in rows), default=-1) + 1
    wanted = list(dict.fromkeys(names))
    fresh = [name for name in wanted if name not in known]
    if fresh:
        c.execute(classes.insert(), [{"dataset_id": dataset_id, "name": name, "position": end + i} for i, name in enumerate(fresh)])
    back = {row.name for row in rows if row.retired_at} & set(wanted)
    bring_back(c, dataset_id, back, by)
    return [name for name in wanted if name in back or name not in known]


@roles.needs("import")
def adopt(dataset_id: int, found: Sequence[Class]) -> None:
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
            audit.record(c, "class.add", on={"dataset": dataset_id}, after={"classes": [row["name"] for row in rows]})


def bring_back(c: sa.Connection, dataset_id: int, names: set[str], by: str) -> None:
    """Offers those of the classes again that were retired."""
    for name in sorted(names):
        where = (classes.c.dataset_id == dataset_id, classes.c.name == name)
        if c.execute(classes.update().where(*where, classes.c.retired_at.is_not(None)).values(retired_at=None)).rowcount:
            _tell(c, dataset_id, "restored", name, None, by)


def _tell(c: sa.Connection, dataset_id: int, kind: str, name: str, to: str | None, by: str) -> None:
    values = {"dataset_id": dataset_id, "kind": kind, "name": name, "to": to, "by": by, "at": now(), "after_seq": events.last_seq(c)}
    c.execute(class_events.insert().values(**values))


_ROW = select(classes).where(classes.c.dataset_id == bindparam("here"), classes.c.name == bindparam("called"))


def _row(c: sa.Connection, dataset_id: int, name: str) -> Any:
    return c.execute(_ROW, {"here": dataset_id, "called": name}).first()


def _names(c: sa.Connection, dataset_id: int) -> list[str]:
    return list(c.execute(select(classes.c.name).where(classes.c.dataset_id == dataset_id)).scalars())


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


@roles.needs("see")
def today(dataset_id: int, labels: Iterable[str]) -> dict[str, str]:
    """What each word means today; a word that means nothing is itself."""
    found: dict[str, str] = {}
    with reading() as c:
        for label in labels:
            try:
                found[label] = resolve(c, dataset_id, label)
            except NotFound:
                found[label] = label
    return found


def known_or_added(c: sa.Connection, dataset_id: int, label: str) -> str:
    """What the word means today; a word never heard of becomes a class."""
    try:
        return resolve(c, dataset_id, label)
    except NotFound:
        if _row(c, dataset_id, label) is not None:  # retired
            raise
    ensure_in(c, dataset_id, [label])
    return label


@roles.needs("import")
def add(dataset_id: int, name: str) -> str:
    """Adds the class and returns its name as stored."""
    name = checked_name(name, "class")
    for known in of(dataset_id):
        if known.name.casefold() == name.casefold():
            if known.retired_at:
                raise Conflict(f"The class “{known.name}” was retired.", "Bring it back below, or choose another name.")
            raise Conflict(f"There is a class “{known.name}” already.", "Use that one, or choose another name.")
    ensure(dataset_id, [name])
    return name


@roles.needs("import")
def rename(dataset_id: int, old: str, new: str, by: str) -> str:
    """Gives the class another name and returns it as stored; its images follow, the events keep the words of their day."""
    new = checked_name(new, "class")
    if new == old:
        return new
    with writing() as c:
        events.alive(c, dataset_id)
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
        for table in (images, removed):
            c.execute(table.update().where(table.c.dataset_id == dataset_id, table.c.label == old).values(label=new))
        audit.record(c, "class.rename", on={"dataset": dataset_id, "class": old}, before={"class": old}, after={"class": new}, by=by)
    return new


@roles.needs("import")
def merge(dataset_id: int, name: str, into: str, by: str, operation: str | None = None) -> int:
    """Moves all images of a class into another and retires it; returns how many moved."""
    return _retire(dataset_id, name, into, by, operation)


@roles.needs("import")
def retire(dataset_id: int, name: str, by: str, operation: str | None = None) -> int:
    """Offers the class no more; returns how many images lost their label by it."""
    return _retire(dataset_id, name, None, by, operation)


def _retire(dataset_id: int, name: str, into: str | None, by: str, operation: str | None) -> int:
    """Offers the class no more: its images go to another class (a merge) or lose their label; returns how many.

    Undone by taking the act back, or by restore.
    """
    with writing() as c:
        events.alive(c, dataset_id)
        if operation is not None and (done := events.stored(c, dataset_id, operation)):
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
        carried = c.execute(
            select(images.c.id).where(images.c.dataset_id == dataset_id, images.c.label == name).order_by(images.c.id)
        ).scalars()
        given = [events.Change(i, into, name) for i in carried]
        source = "retire" if into is None else "merge"
        events.append(
            c, dataset_id, given, by, source, operation, note=f"class {name} {'retired' if into is None else f'merged into {into}'}"
        )
        _tell(c, dataset_id, "retired" if into is None else "merged", name, into, by)
        c.execute(classes.update().where(classes.c.dataset_id == dataset_id, classes.c.name == name).values(retired_at=now()))
        on = {"dataset": dataset_id, "class": name, "images": [x.image_id for x in given]}
        audit.record(c, "class.retire" if into is None else "class.merge", on=on, before={"class": name}, after={"class": into}, by=by)
        return len(given)


@roles.needs("import")
def restore(dataset_id: int, name: str, by: str) -> int:
    """Offers a retired class again, and gives it back to the images that nobody has labelled since; returns how many."""
    with writing() as c:
        events.alive(c, dataset_id)
        if _row(c, dataset_id, name) is None:
            raise NotFound(f"There is no class “{name}” any more.", "Reload the page: somebody may have renamed it.")
        bring_back(c, dataset_id, {name}, by)
        lost = _lost(dataset_id, images.c.id, images.c.label).where(label_events.c.previous == name)
        back = [events.Change(row.id, name, row.label) for row in c.execute(lost.order_by(images.c.id))]
        events.append(c, dataset_id, back, by, "restore", note=f"class {name} brought back")
        on = {"dataset": dataset_id, "class": name, "images": [x.image_id for x in back]}
        audit.record(c, "class.restore", on=on, after={"class": name}, by=by)
        return len(back)


@roles.needs("see")
def restorable(dataset_id: int) -> dict[str, int]:
    """How many images restore would give back, by class."""
    with reading() as c:
        query = _lost(dataset_id, label_events.c.previous, func.count()).group_by(label_events.c.previous)
        return {name: n for name, n in c.execute(query)}


def _lost(dataset_id: int, *columns: Any) -> sa.Select[Any]:
    """Images that lost a class with the class itself, and have not been labelled since."""
    here = images.join(label_events, label_events.c.seq == images.c.given_seq)
    return select(*columns).select_from(here).where(images.c.dataset_id == dataset_id, label_events.c.source.in_(("retire", "merge")))


@roles.needs("import")
def order(dataset_id: int, names: Sequence[str]) -> None:
    """Puts the classes in this order; those not named keep theirs, behind."""
    with writing() as c:
        rows = c.execute(select(classes.c.name).where(classes.c.dataset_id == dataset_id).order_by(classes.c.position)).scalars()
        known = list(rows)
        first = [n for n in dict.fromkeys(names) if n in known]
        order = [*first, *(n for n in known if n not in first)]
        for position, name in enumerate(order):
            c.execute(classes.update().where(classes.c.dataset_id == dataset_id, classes.c.name == name).values(position=position))
        audit.record(c, "class.order", on={"dataset": dataset_id}, before={"classes": known}, after={"classes": order})


@roles.needs("import")
def describe(dataset_id: int, name: str, guideline: str, seen: str | None = None) -> None:
    """Sets the guideline, what belongs to the class and what does not, if it is still the one seen."""
    guideline = guideline.strip()
    if len(guideline) > MAX_GUIDELINE:
        raise Invalid(f"The guideline has {len(guideline):,} characters.", f"Up to {MAX_GUIDELINE:,} are allowed.")
    with writing() as c:
        row = _row(c, dataset_id, name)
        if row is None:
            raise NotFound(f"There is no class “{name}” any more.", "Reload the page: somebody may have renamed it.")
        if seen is not None and row.guideline not in (seen, guideline):
            raise Conflict("Somebody has changed this guideline since.", "Theirs stands above; save again to put yours in its place.")
        where = (classes.c.dataset_id == dataset_id, classes.c.name == name)
        c.execute(classes.update().where(*where).values(guideline=guideline))
        before, after = {"guideline": row.guideline}, {"guideline": guideline}
        audit.record(c, "class.describe", on={"dataset": dataset_id, "class": name}, before=before, after=after)


@roles.needs("import")
def set_example(dataset_id: int, name: str, image_id: str, accepted: bool | None) -> None:
    """Makes the image an accepted or rejected example of the class; None takes it away."""
    one = next((known for known in of(dataset_id) if known.name == name), None)
    shown = () if accepted is None or one is None else one.accepted if accepted else one.rejected
    if len(shown) >= MAX_EXAMPLES and image_id not in shown:
        raise Invalid(f"“{name}” has {MAX_EXAMPLES} such examples already.", "Take one away first.")
    values = {"dataset_id": dataset_id, "class": name, "image_id": image_id}
    with writing() as c:
        if c.execute(select(images.c.id).where(images.c.dataset_id == dataset_id, images.c.id == image_id)).first() is None:
            raise NotFound(f"Image {image_id} is not in this dataset.", "Reload the page.")
        if _row(c, dataset_id, name) is None:
            raise NotFound(f"There is no class “{name}” any more.", "Reload the page: somebody may have renamed it.")
        this = [examples.c[key] == value for key, value in values.items()]
        was = c.execute(select(examples.c.accepted).where(*this)).scalar()
        c.execute(examples.delete().where(*this))
        if accepted is not None:
            c.execute(examples.insert().values({**values, "accepted": accepted}))
        on = {"dataset": dataset_id, "class": name, "images": [image_id]}
        audit.record(c, "class.example", on=on, before={"accepted": was}, after={"accepted": accepted})


@roles.needs("import")
def add_examples(dataset_id: int, rows: Sequence[tuple[str, str, bool]]) -> None:
    """Stores (class, image id, accepted) of classes that have no examples yet."""
    unique = {(name, image_id): accepted for name, image_id, accepted in rows}
    values = [{"dataset_id": dataset_id, "class": name, "image_id": i, "accepted": accepted} for (name, i), accepted in unique.items()]
    with writing() as c:
        if values:
            c.execute(examples.insert(), values)
            shown = {name: [i for known, i in unique if known == name] for name, _ in unique}
            audit.record(c, "class.example", on={"dataset": dataset_id}, after={"examples": shown})
