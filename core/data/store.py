"""Datasets, images and snapshots as rows; labels, classes, claims and the queue of Review have modules of their own."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func, select

from core import roles
from core.data import audit, classes, schema
from core.data.schema import (
    by_id,
    class_events,
    datasets,
    images,
    parts,
    predictions,
    reading,
    removed,
    submissions,
    writing,
)
from core.errors import Conflict, NotFound
from core.types import Dataset, Image, Snapshot, SnapshotRow, Split, now

# Datasets -----------------------------------------------------------------------------------------


def _dataset(connection: sa.Connection, row: Any) -> Dataset:
    live = classes.live(connection, row.id)
    return Dataset(row.id, row.name, tuple(live), row.created_at, row.splits_given, row.deleted_at, tuple(live.values()))


def create_dataset(name: str) -> Dataset:
    roles.allow("import")
    with writing() as c:
        if c.execute(select(datasets.c.id).where(datasets.c.name == name, datasets.c.deleted_at.is_(None))).first():
            raise Conflict(f"A dataset called “{name}” exists already.", "Choose another name, or add the images to that one.")
        row = c.execute(datasets.insert().values(name=name, created_at=now(), splits_given=False).returning(datasets)).one()
        audit.record(c, "dataset.create", on={"dataset": row.id}, after={"name": name})
        return _dataset(c, row)


def list_datasets(deleted: bool = False) -> list[Dataset]:
    """Those that who acts may see, by name."""
    person = roles.current()
    with reading() as c:
        gone = datasets.c.deleted_at.is_not(None) if deleted else datasets.c.deleted_at.is_(None)
        found = c.execute(select(datasets).where(gone).order_by(datasets.c.name)).all()
        return [_dataset(c, row) for row in found if person.may("see", row.id)]


@roles.needs("see")
def get_dataset(dataset_id: int) -> Dataset:
    """The dataset, deleted or not; deleted_at says which."""
    with reading() as c:
        row = c.execute(select(datasets).where(datasets.c.id == dataset_id)).first()
        if row is None:
            raise NotFound("This dataset does not exist.", "Choose another one in the sidebar.")
        return _dataset(c, row)


def id_of(name: str) -> int | None:
    """Of the dataset of this name, whoever asks: names are unique among all."""
    with reading() as c:
        return c.execute(select(datasets.c.id).where(datasets.c.name == name, datasets.c.deleted_at.is_(None))).scalar()


def find_dataset(name: str) -> Dataset | None:
    """None, too, for one that who acts may not see."""
    with reading() as c:
        row = c.execute(select(datasets).where(datasets.c.name == name, datasets.c.deleted_at.is_(None))).first()
        return None if row is None or not roles.current().may("see", row.id) else _dataset(c, row)


@roles.needs("delete")
def set_deleted(dataset_id: int, deleted: bool) -> None:
    with writing() as c:
        row = c.execute(select(datasets).where(datasets.c.id == dataset_id)).one()
        if not deleted:
            taken = select(datasets.c.id).where(datasets.c.name == row.name, datasets.c.deleted_at.is_(None), datasets.c.id != dataset_id)
            if c.execute(taken).first():
                raise Conflict(f"Another dataset is called “{row.name}” by now.", "Delete or rename that one first.")
        c.execute(datasets.update().where(datasets.c.id == dataset_id).values(deleted_at=now() if deleted else None))
        kind, named = "dataset.delete" if deleted else "dataset.restore", {"name": row.name}
        audit.record(c, kind, on={"dataset": dataset_id}, before=named if deleted else None, after=None if deleted else named)


@roles.needs("import")
def remove_if_empty(dataset_id: int) -> None:
    """Removes a dataset for good that holds no image, also none that was taken out, and no submission."""
    with writing() as c:
        for table in (images, removed, submissions):
            if c.execute(select(table.c.id).where(table.c.dataset_id == dataset_id).limit(1)).first():
                return
        for table in (schema.classes, class_events, schema.dataset_roles, schema.imports):
            c.execute(table.delete().where(table.c.dataset_id == dataset_id))
        name = c.execute(datasets.delete().where(datasets.c.id == dataset_id).returning(datasets.c.name)).scalar()
        if name is not None:
            audit.record(c, "dataset.remove", on={"dataset": dataset_id}, before={"name": name})


@roles.needs("import")
def set_splits_given(dataset_id: int) -> None:
    with writing() as c:
        c.execute(datasets.update().where(datasets.c.id == dataset_id).values(splits_given=True))
        audit.record(c, "split.keep", on={"dataset": dataset_id})


@roles.needs("import")
def draw_test(dataset_id: int, drawn: Callable[[str], bool]) -> int:
    """Moves the training images whose id is drawn into the test split, as one act; from then on no split is given. Conflict if there
    are test images, or none is drawn."""
    i = images.c
    with writing() as c:
        if c.execute(select(i.id).where(i.dataset_id == dataset_id, i.split == "test").limit(1)).first():
            raise Conflict("There are test images in this dataset already.", "They stay what they are; nothing was drawn.")
        moved = [one for one in c.execute(select(i.id).where(i.dataset_id == dataset_id, i.split == "train")).scalars() if drawn(one)]
        if not moved:
            raise Conflict("None of the training images would be drawn: there are too few.", "Add more images first.")
        for part in parts(moved):
            c.execute(images.update().where(i.dataset_id == dataset_id, i.id.in_(part)).values(split="test"))
        c.execute(datasets.update().where(datasets.c.id == dataset_id).values(splits_given=False))
        on = {"dataset": dataset_id, "images": moved}
        audit.record(c, "split.draw", on=on, before={"split": "train"}, after={"split": "test"})
    return len(moved)


# Images -------------------------------------------------------------------------------------------


@roles.needs("see")
def known_images(dataset_id: int, ids: Sequence[str]) -> dict[str, str | None]:
    """Today's label of those of the ids that the dataset has already."""
    found: dict[str, str | None] = {}
    with reading() as c:
        for part in parts(ids):
            query = select(images.c.id, images.c.label).where(*by_id(dataset_id, part))
            found.update({row.id: row.label for row in c.execute(query)})
    return found


@dataclass(frozen=True)
class Filter:
    """Which images; None or "" means any."""

    label: str | None = None
    split: str | None = None
    labelled: bool | None = None
    text: str = ""
    flagged: bool | None = None

    def where(self, dataset_id: int, i: Any = images.c) -> list[sa.ColumnElement[bool]]:
        conditions: list[sa.ColumnElement[bool]] = [i.dataset_id == dataset_id]
        if self.label is not None:
            conditions.append(i.label == self.label)
        if self.split:
            conditions.append(i.split == self.split)
        if self.labelled is not None:
            conditions.append(i.label.is_not(None) if self.labelled else i.label.is_(None))
        if self.flagged is not None:
            conditions.append(i.flagged.is_(self.flagged))
        if self.text:
            conditions.append(func.lower(i.source).contains(self.text.lower(), autoescape=True))
        return conditions


def _image(row: Any) -> Image:
    return Image(**row._mapping)


@roles.needs("see")
def browse(dataset_id: int, want: Filter, offset: int, limit: int) -> list[Image]:
    with reading() as c:
        query = select(images).where(*want.where(dataset_id)).order_by(images.c.added_at, images.c.id).offset(offset).limit(limit)
        return [_image(row) for row in c.execute(query)]


@roles.needs("see")
def page(dataset_id: int, want: Filter, offset: int, limit: int) -> tuple[list[Image], int]:
    """Some of the wanted images, and how many there are of all; of a million, what is not shown is passed over in the index alone."""
    i = images.c

    def some(start: int, most: int, *order: Any) -> list[str]:
        with reading() as c:
            query = select(i.id).where(*want.where(dataset_id)).order_by(*order).offset(start).limit(most)
            return [row[0] for row in c.execute(query)]

    with schema.moment():
        found = some(offset, limit, i.added_at, i.id) if not offset else []
        if not offset and len(found) < limit:  # what few images have in common is looked for once, and not once more to count it
            return get_images(dataset_id, found), len(found)
        total = count(dataset_id, want)
        last = min(total, offset + limit)
        if offset > total - last:  # nearer to the end; nothing where it is beyond
            found = some(total - last, max(0, last - offset), i.added_at.desc(), i.id.desc())[::-1]
        elif offset:
            found = some(offset, limit, i.added_at, i.id)
        return get_images(dataset_id, found), total


@roles.needs("see")
def ids(dataset_id: int, want: Filter, limit: int | None = None) -> list[str]:
    """Of the wanted images, in the order in which they came, from the index alone."""
    with reading() as c:
        query = select(images.c.id).where(*want.where(dataset_id)).order_by(images.c.added_at, images.c.id).limit(limit)
        return [row[0] for row in c.execute(query).all()]


@roles.needs("see")
def among(dataset_id: int, ids: Sequence[str], want: Filter) -> set[str]:
    """The wanted ones of the ids."""
    found: set[str] = set()
    with reading() as c:
        for part in parts(ids):
            # Bounded, so that they are looked for by their ids: an index of what is wanted may lead through nearly all images.
            some = select(images).where(*by_id(dataset_id, part)).limit(len(part)).subquery()
            found.update(row[0] for row in c.execute(select(some.c.id).where(*want.where(dataset_id, some.c))).all())
    return found


@roles.needs("see")
def all_images(dataset_id: int) -> list[Image]:
    """Every image of the dataset, as of one moment."""
    with reading() as c:
        query = select(images).where(images.c.dataset_id == dataset_id).order_by(images.c.added_at, images.c.id)
        return [_image(row) for row in c.execute(query)]


@roles.needs("see")
def some(dataset_id: int, split: str, limit: int) -> list[Image]:
    """Images of a split in the order of their hashes: a repeatable random sample."""
    with reading() as c:
        query = select(images).where(images.c.dataset_id == dataset_id, images.c.split == split).order_by(images.c.id).limit(limit)
        return [_image(row) for row in c.execute(query)]


@roles.needs("see")
def count(dataset_id: int, want: Filter) -> int:
    with reading() as c:
        return c.execute(select(func.count()).select_from(images).where(*want.where(dataset_id))).scalar_one()


@roles.needs("see")
def counts(dataset_id: int) -> list[tuple[str, str | None, int]]:
    """(split, label, images), from the index alone."""
    with reading() as c:
        query = (
            select(images.c.split, images.c.label, func.count())
            .where(images.c.dataset_id == dataset_id)
            .group_by(images.c.split, images.c.label)
            .order_by(images.c.split, images.c.label.nulls_first())
        )
        return [(split, label, n) for split, label, n in c.execute(query)]


@roles.needs("see")
def get_image(dataset_id: int, image_id: str) -> Image:
    with reading() as c:
        row = c.execute(select(images).where(images.c.dataset_id == dataset_id, images.c.id == image_id)).first()
    if row is None:
        raise NotFound(f"Image {image_id} is not in this dataset.", "It may have been deleted, or belong to another dataset.")
    return _image(row)


@roles.needs("see")
def get_images(dataset_id: int, ids: Sequence[str]) -> list[Image]:
    """The images that exist, in the order asked for."""
    found: dict[str, Image] = {}
    with reading() as c:
        for part in parts(ids):
            for row in c.execute(select(images).where(*by_id(dataset_id, part))).all():  # at once: twice as fast
                found[row.id] = _image(row)
    return [found[i] for i in ids if i in found]


@roles.needs("see")
def current_labels(dataset_id: int) -> dict[str, str | None]:
    """Today's label of every image."""
    with reading() as c:
        found = c.execute(select(images.c.id, images.c.label).where(images.c.dataset_id == dataset_id)).all()  # at once: twice as fast
    return {row[0]: row[1] for row in found}


@roles.needs("see")
def version(dataset_id: int) -> tuple[int, int, str]:
    """Another one as soon as an image comes, goes, or carries something else: (newest seq, images, newest image's time)."""
    i = images.c
    figures = func.coalesce(func.max(i.label_seq), 0), func.count(), func.coalesce(func.max(i.added_at), "")
    with reading() as c:  # each by an index of its own: together they would read every row
        newest, n, added = c.execute(select(*(select(one).where(i.dataset_id == dataset_id).scalar_subquery() for one in figures))).one()
    return int(newest), int(n), str(added)


@dataclass(frozen=True, slots=True)
class Carried:
    """What an image carries, and no more: a hundred thousand of them are read in a fraction of a second."""

    label: str | None
    split: Split
    flagged: bool
    seq: int


@roles.needs("see")
def carried(dataset_id: int) -> dict[str, Carried]:
    """What every image carries today, in the order in which they came."""
    i = images.c
    with reading() as c:
        query = select(i.id, i.label, i.split, i.flagged, i.label_seq).where(i.dataset_id == dataset_id).order_by(i.added_at, i.id)
        return {row[0]: Carried(*row[1:]) for row in c.execute(query).all()}


@roles.needs("see")
def splits(dataset_id: int, ids: Sequence[str]) -> dict[str, Split]:
    """The split of each of the ids that the dataset has."""
    i = images.c
    with reading() as c:
        queries = [select(i.id, i.split).where(*by_id(dataset_id, part)) for part in parts(ids)]
        return {row.id: row.split for query in queries for row in c.execute(query)}


@roles.needs("see")
def thumbnails_end(dataset_id: int) -> int:
    """Where those end that rows name; goes through all of them."""
    with reading() as c:
        ends = [select(sa.func.max(t.c.thumb_offset + t.c.thumb_size)).where(t.c.dataset_id == dataset_id) for t in (images, removed)]
        return max(c.execute(end).scalar() or 0 for end in ends)


@roles.needs("import")
def set_thumbnail(dataset_id: int, image_id: str, offset: int, size: int) -> None:
    with writing() as c:
        for table in (images, removed):
            where = (table.c.dataset_id == dataset_id, table.c.id == image_id)
            c.execute(table.update().where(*where).values(thumb_offset=offset, thumb_size=size))


# Imported predictions -------------------------------------------------------------------------------


@roles.needs("import")
def add_predictions(dataset_id: int, rows: Sequence[tuple[str, str, str, float | None]]) -> None:
    """Stores (image_id, model, label, score); a model's earlier prediction on the same image is replaced."""
    if not rows:
        return
    p = predictions.c
    with writing() as c:
        gone = predictions.delete().where(p.dataset_id == dataset_id, p.image_id == sa.bindparam("i"), p.model == sa.bindparam("m"))
        c.execute(gone, [{"i": image_id, "m": model} for image_id, model, _, _ in rows])
        unique = {(image_id, model): (label, score) for image_id, model, label, score in rows}
        c.execute(
            predictions.insert(),
            [
                {"dataset_id": dataset_id, "image_id": image_id, "model": model, "label": label, "score": score}
                for (image_id, model), (label, score) in unique.items()
            ],
        )
        models = sorted({model for _, model in unique})
        audit.record(c, "import.predictions", on={"dataset": dataset_id}, after={"models": models, "predictions": len(unique)})


@roles.needs("see")
def imported_predictions(dataset_id: int, ids: Sequence[str] | None = None) -> list[tuple[str, str, str, float | None]]:
    """(image_id, model, label, score), of all images or of those few, also of some that were taken out."""
    p = predictions.c
    query = select(p.image_id, p.model, p.label, p.score).where(p.dataset_id == dataset_id).order_by(p.model, p.image_id)
    with reading() as c:
        some = [query] if ids is None else [query.where(p.image_id.in_(part)) for part in parts(ids)]
        return [(row.image_id, row.model, row.label, row.score) for one in some for row in c.execute(one)]


# Snapshots ----------------------------------------------------------------------------------------

VALIDATION_SHARE = 0.15
AT_ONCE = 5000  # rows


def held_out(images: int) -> int:
    """How many of a class's training images become validation images."""
    return max(1, round(images * VALIDATION_SHARE)) if images > 1 else 0


@roles.needs("see")
def snapshot(dataset_id: int, seed: int, only: Sequence[str] = (), groups: Mapping[str, str] | None = None) -> Snapshot:
    """Today's labelled images, frozen; only: those of these classes, each in the split it has among all.

    Where no split is named validation, each class gives 15 % of its training images (at least one of two),
    chosen by a hash of seed and image id: stratified, repeatable, and hardly moved by new images. Test is never used.
    groups: of near copies, by image id; a group stays whole, so the share is met as nearly as the groups allow.
    """
    i = images.c
    rows: list[SnapshotRow] = []
    words: dict[str, Any] = {}  # a million images name few classes: each is kept once
    with reading() as c:
        names = classes.live(c, dataset_id)
        # In the order in which they came, and with that nearly in that of the table: by their ids each row would be looked for anew.
        query = select(i.id, i.ext, i.label, i.split).where(i.dataset_id == dataset_id, i.label.is_not(None)).order_by(i.added_at, i.id)
        for part in c.execute(query.execution_options(yield_per=AT_ONCE)).partitions():
            for image_id, ext, label, split in part:
                path = f"{image_id[:2]}/{image_id}.{ext}"
                rows.append(SnapshotRow(image_id, path, words.setdefault(label, label), words.setdefault(split, split)))
    rows.sort()
    if all(row.split != "validation" for row in rows):
        training = {row.image_id: row.label for row in rows if row.split == "train"}
        drawn = _drawn(training, seed, groups or {})
        rows = [row._replace(split="validation") if row.image_id in drawn else row for row in rows]
    if only:
        rows = [row for row in rows if row.label in only]
    used = {row.label for row in rows}
    return Snapshot(_digest(rows), tuple(n for n in names if n in used), tuple(rows))


def _digest(rows: Sequence[SnapshotRow]) -> str:
    """Of the JSON of (id, label, split) of each row: a run's snapshot has had this id ever since."""
    digest = hashlib.sha256(b"[")
    for start in range(0, len(rows), AT_ONCE):
        some = json.dumps([(row.image_id, row.label, row.split) for row in rows[start : start + AT_ONCE]])
        digest.update(f"{', ' if start else ''}{some[1:-1]}".encode())
    digest.update(b"]")
    return digest.hexdigest()[:16]


def _drawn(training: Mapping[str, str], seed: int, groups: Mapping[str, str]) -> set[str]:
    """The ids that become validation images, of {id: label}; what is in one group is drawn together or not at all."""
    units: dict[str, list[str]] = {}  # of images that have a near copy here, in the order of the ids
    for one in sorted(training.keys() & groups.keys()):
        units.setdefault(groups[one], []).append(one)
    together = {ids[0]: ids for ids in units.values()}  # a unit is called by its first
    others = {one for ids in units.values() for one in ids[1:]}
    has = Counter(training.values())
    wanted = {label: held_out(n) for label, n in has.items()}
    taken: Counter[str] = Counter()
    drawn: set[str] = set()
    late = []
    for one in sorted((one for one in training if one not in others), key=lambda one: hashlib.sha256(f"{seed}:{one}".encode()).digest()):
        if one not in together:
            label = training[one]
            if taken[label] + 1 / 2 < wanted[label]:
                taken[label] += 1
                drawn.add(one)
            continue
        ids = together[one]
        of = Counter(training[i] for i in ids)
        if all(taken[label] + n / 2 < wanted[label] for label, n in of.items()):  # nearer to the share with it than without
            taken.update(of)
            drawn.update(ids)
        else:
            late.append((ids, of))
    for ids, of in sorted(late, key=lambda unit: len(unit[0])):  # a class of large groups alone has given none
        needed = any(wanted[label] and not taken[label] for label in of)
        if needed and all(taken[label] + n < has[label] for label, n in of.items()):
            taken.update(of)
            drawn.update(ids)
    return drawn
