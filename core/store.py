"""The only SQL: datasets, classes, images, label events and submissions."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func, select

from core.errors import Conflict, NotFound
from core.settings import settings
from core.types import Dataset, Image, LabelEvent, Snapshot, SnapshotRow, Split, Submission, now

meta = sa.MetaData()
datasets = sa.Table(
    "datasets",
    meta,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("created_at", sa.String, nullable=False),
    sa.Column("splits_given", sa.Boolean, nullable=False, default=False),
    sa.Column("deleted_at", sa.String),
)
# A deleted dataset keeps its rows (deletion can be undone) but frees its name.
sa.Index(
    "live_name",
    datasets.c.name,
    unique=True,
    sqlite_where=datasets.c.deleted_at.is_(None),
    postgresql_where=datasets.c.deleted_at.is_(None),
)
classes = sa.Table(
    "classes",
    meta,
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
)
images = sa.Table(
    "images",
    meta,
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), primary_key=True),
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("ext", sa.String, nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("channels", sa.Integer, nullable=False),
    sa.Column("size_bytes", sa.Integer, nullable=False),
    sa.Column("split", sa.String, nullable=False),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("added_at", sa.String, nullable=False),
    sa.Column("thumb_offset", sa.BigInteger, nullable=False),
    sa.Column("thumb_size", sa.Integer, nullable=False),
    # Written only together with an event: the last one's label and seq, so that filters and counts need no join.
    sa.Column("label", sa.String),
    sa.Column("label_seq", sa.Integer, nullable=False, default=0),
)
sa.Index("by_time", images.c.dataset_id, images.c.added_at, images.c.id)
sa.Index("by_label", images.c.dataset_id, images.c.split, images.c.label)
label_events = sa.Table(
    "label_events",
    meta,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("dataset_id", sa.Integer, nullable=False),
    sa.Column("image_id", sa.String(16), nullable=False),
    sa.Column("label", sa.String),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("at", sa.String, nullable=False),
    sa.Column("note", sa.String, nullable=False, default=""),
    sa.Column("previous", sa.String),
    sa.Column("operation", sa.String),  # the client's id of the act: the same act is stored once
    sa.UniqueConstraint("dataset_id", "image_id", "operation"),
    sqlite_autoincrement=True,
)
submissions = sa.Table(
    "submissions",
    meta,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), nullable=False),
    sa.Column("run_id", sa.String, nullable=False),
    sa.Column("image_id", sa.String(16), nullable=False),
    sa.Column("ext", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("at", sa.String, nullable=False),
    sa.Column("predicted", sa.String, nullable=False),
    sa.Column("probability", sa.Float, nullable=False),
    sa.Column("probabilities", sa.String, nullable=False),  # JSON
    sa.Column("verdict", sa.String),
    sa.Column("label", sa.String),
    sa.Column("decided_by", sa.String),
    sa.Column("decided_at", sa.String),
)
sa.Index("queue", submissions.c.dataset_id, submissions.c.verdict)

# SQLite 3.7.0 to 3.51.2 can lose committed rows in WAL mode when two processes write at once;
# the fix was carried back to 3.44.6 and 3.50.7.
WAL_IS_SAFE = (
    sqlite3.sqlite_version_info >= (3, 51, 3)
    or (3, 50, 7) <= sqlite3.sqlite_version_info < (3, 51)
    or (3, 44, 6) <= sqlite3.sqlite_version_info < (3, 45)
)


@lru_cache(maxsize=1)
def engine() -> sa.Engine:
    made = sa.create_engine(settings().database_url)
    if made.dialect.name == "sqlite":

        @sa.event.listens_for(made, "connect")
        def pragmas(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # transactions are begun below, not guessed by the driver
            for pragma in (
                "busy_timeout=30000",
                f"journal_mode={'WAL' if WAL_IS_SAFE else 'DELETE'}",
                "synchronous=FULL",
                "foreign_keys=ON",
            ):
                connection.execute(f"PRAGMA {pragma}")

        @sa.event.listens_for(made, "begin")
        def begin(connection: sa.Connection) -> None:
            write = connection.get_execution_options().get("write", False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    with made.connect().execution_options(write=True) as connection, connection.begin():
        meta.create_all(connection)
    return made


@contextmanager
def reading() -> Iterator[sa.Connection]:
    with engine().connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing() -> Iterator[sa.Connection]:
    """One transaction that takes the write lock at its start: it waits its turn instead of failing half-way."""
    with engine().connect().execution_options(write=True) as connection, connection.begin():
        yield connection


# Datasets -----------------------------------------------------------------------------------------


def _dataset(connection: sa.Connection, row: Any) -> Dataset:
    names = connection.execute(select(classes.c.name).where(classes.c.dataset_id == row.id).order_by(classes.c.position)).scalars()
    return Dataset(row.id, row.name, tuple(names), row.created_at, row.splits_given, row.deleted_at)


def create_dataset(name: str) -> Dataset:
    with writing() as c:
        if c.execute(select(datasets.c.id).where(datasets.c.name == name, datasets.c.deleted_at.is_(None))).first():
            raise Conflict(f"A dataset called “{name}” exists already.", "Choose another name, or add the images to that one.")
        row = c.execute(datasets.insert().values(name=name, created_at=now(), splits_given=False).returning(datasets)).one()
        return _dataset(c, row)


def list_datasets(deleted: bool = False) -> list[Dataset]:
    with reading() as c:
        gone = datasets.c.deleted_at.is_not(None) if deleted else datasets.c.deleted_at.is_(None)
        return [_dataset(c, row) for row in c.execute(select(datasets).where(gone).order_by(datasets.c.name)).all()]


def get_dataset(dataset_id: int) -> Dataset:
    """The dataset, deleted or not; deleted_at says which."""
    with reading() as c:
        row = c.execute(select(datasets).where(datasets.c.id == dataset_id)).first()
        if row is None:
            raise NotFound("This dataset does not exist.", "Choose another one in the sidebar.")
        return _dataset(c, row)


def find_dataset(name: str) -> Dataset | None:
    with reading() as c:
        row = c.execute(select(datasets).where(datasets.c.name == name, datasets.c.deleted_at.is_(None))).first()
        return None if row is None else _dataset(c, row)


def set_deleted(dataset_id: int, deleted: bool) -> None:
    with writing() as c:
        row = c.execute(select(datasets).where(datasets.c.id == dataset_id)).one()
        if not deleted:
            taken = select(datasets.c.id).where(datasets.c.name == row.name, datasets.c.deleted_at.is_(None), datasets.c.id != dataset_id)
            if c.execute(taken).first():
                raise Conflict(f"Another dataset is called “{row.name}” by now.", "Delete or rename that one first.")
        c.execute(datasets.update().where(datasets.c.id == dataset_id).values(deleted_at=now() if deleted else None))


def remove_if_empty(dataset_id: int) -> None:
    """Removes a dataset for good that holds no image and no submission."""
    with writing() as c:
        for table in (images, submissions):
            if c.execute(select(table.c.id).where(table.c.dataset_id == dataset_id).limit(1)).first():
                return
        c.execute(classes.delete().where(classes.c.dataset_id == dataset_id))
        c.execute(datasets.delete().where(datasets.c.id == dataset_id))


def set_splits_given(dataset_id: int) -> None:
    with writing() as c:
        c.execute(datasets.update().where(datasets.c.id == dataset_id).values(splits_given=True))


def add_classes(dataset_id: int, names: Iterable[str]) -> None:
    """Appends the classes that are new, in the order given."""
    with writing() as c:
        _add_classes(c, dataset_id, names)


def _add_classes(c: sa.Connection, dataset_id: int, names: Iterable[str]) -> None:
    known = set(c.execute(select(classes.c.name).where(classes.c.dataset_id == dataset_id)).scalars())
    fresh = [name for name in dict.fromkeys(names) if name not in known]
    if fresh:
        rows = [{"dataset_id": dataset_id, "name": name, "position": len(known) + i} for i, name in enumerate(fresh)]
        c.execute(classes.insert(), rows)


# Images -------------------------------------------------------------------------------------------


def known_images(dataset_id: int, ids: Sequence[str]) -> dict[str, str | None]:
    """Today's label of those of the ids that the dataset has already."""
    found: dict[str, str | None] = {}
    with reading() as c:
        for part in _parts(ids):
            query = select(images.c.id, images.c.label).where(images.c.dataset_id == dataset_id, images.c.id.in_(part))
            found.update({row.id: row.label for row in c.execute(query)})
    return found


def add_images(dataset_id: int, new: Sequence[Image], by: str, source: str, notes: Mapping[str, str] | None = None) -> int:
    """Adds images and, where they carry a label, its event, in one transaction; returns how many were new.

    Notes are those of the events, by image id.
    """
    with writing() as c:
        have: set[str] = set()
        for part in _parts([i.id for i in new]):
            have |= set(c.execute(select(images.c.id).where(images.c.dataset_id == dataset_id, images.c.id.in_(part))).scalars())
        fresh = list({i.id: i for i in new if i.id not in have}.values())
        if not fresh:
            return 0
        _add_classes(c, dataset_id, [i.label for i in fresh if i.label is not None])
        columns = [column.name for column in images.c if column.name not in ("label", "label_seq")]
        rows = [{name: getattr(i, name) for name in columns} | {"label": None, "label_seq": 0} for i in fresh]
        c.execute(images.insert(), rows)
        _append_events(c, dataset_id, [(i.id, i.label, None) for i in fresh if i.label is not None], by, source, notes=notes)
        return len(fresh)


def _append_events(
    c: sa.Connection,
    dataset_id: int,
    changes: Sequence[tuple[str, str | None, str | None]],
    by: str,
    source: str,
    operation: str | None = None,
    note: str = "",
    notes: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Appends one event per (image_id, label, previous) and the image's cached label with it; returns the seqs."""
    at = now()
    seqs: dict[str, int] = {}
    if not changes:
        return seqs
    last = c.execute(select(func.coalesce(func.max(label_events.c.seq), 0))).scalar_one()
    c.execute(
        label_events.insert(),
        [
            {
                "dataset_id": dataset_id,
                "image_id": i,
                "label": label,
                "previous": previous,
                "by": by,
                "at": at,
                "source": source,
                "operation": operation,
                "note": (notes or {}).get(i, note),
            }
            for i, label, previous in changes
        ],
    )
    for part in _parts([i for i, _, _ in changes]):
        rows = c.execute(
            select(label_events.c.image_id, func.max(label_events.c.seq))
            .where(label_events.c.dataset_id == dataset_id, label_events.c.image_id.in_(part), label_events.c.seq > last)
            .group_by(label_events.c.image_id)
        )
        seqs.update({image_id: seq for image_id, seq in rows})
    statement = (
        images.update()
        .where(images.c.dataset_id == dataset_id, images.c.id == sa.bindparam("i"))
        .values(label=sa.bindparam("l"), label_seq=sa.bindparam("s"))
    )
    c.execute(statement, [{"i": i, "l": label, "s": seqs[i]} for i, label, _ in changes])
    return seqs


@dataclass(frozen=True)
class Filter:
    """Which images; None or "" means any."""

    label: str | None = None
    split: str | None = None
    labelled: bool | None = None
    text: str = ""

    def where(self, dataset_id: int) -> list[sa.ColumnElement[bool]]:
        conditions: list[sa.ColumnElement[bool]] = [images.c.dataset_id == dataset_id]
        if self.label is not None:
            conditions.append(images.c.label == self.label)
        if self.split:
            conditions.append(images.c.split == self.split)
        if self.labelled is not None:
            conditions.append(images.c.label.is_not(None) if self.labelled else images.c.label.is_(None))
        if self.text:
            conditions.append(func.lower(images.c.source).contains(self.text.lower(), autoescape=True))
        return conditions


def _image(row: Any) -> Image:
    return Image(**row._mapping)


def browse(dataset_id: int, want: Filter, offset: int, limit: int) -> list[Image]:
    with reading() as c:
        query = select(images).where(*want.where(dataset_id)).order_by(images.c.added_at, images.c.id).offset(offset).limit(limit)
        return [_image(row) for row in c.execute(query)]


def all_images(dataset_id: int) -> list[Image]:
    """Every image of the dataset, as of one moment."""
    with reading() as c:
        query = select(images).where(images.c.dataset_id == dataset_id).order_by(images.c.added_at, images.c.id)
        return [_image(row) for row in c.execute(query)]


def some(dataset_id: int, split: str, limit: int) -> list[Image]:
    """Images of a split in the order of their hashes: a repeatable random sample."""
    with reading() as c:
        query = select(images).where(images.c.dataset_id == dataset_id, images.c.split == split).order_by(images.c.id).limit(limit)
        return [_image(row) for row in c.execute(query)]


def count(dataset_id: int, want: Filter) -> int:
    with reading() as c:
        return c.execute(select(func.count()).select_from(images).where(*want.where(dataset_id))).scalar_one()


def counts(dataset_id: int) -> list[tuple[str, str | None, int]]:
    """(split, label, images), from the index alone."""
    with reading() as c:
        query = (
            select(images.c.split, images.c.label, func.count())
            .where(images.c.dataset_id == dataset_id)
            .group_by(images.c.split, images.c.label)
        )
        return [(split, label, n) for split, label, n in c.execute(query)]


def get_image(dataset_id: int, image_id: str) -> Image:
    with reading() as c:
        row = c.execute(select(images).where(images.c.dataset_id == dataset_id, images.c.id == image_id)).first()
    if row is None:
        raise NotFound(f"Image {image_id} is not in this dataset.", "It may have been deleted, or belong to another dataset.")
    return _image(row)


def get_images(dataset_id: int, ids: Sequence[str]) -> list[Image]:
    """The images that exist, in the order asked for."""
    found: dict[str, Image] = {}
    with reading() as c:
        for part in _parts(ids):
            for row in c.execute(select(images).where(images.c.dataset_id == dataset_id, images.c.id.in_(part))):
                found[row.id] = _image(row)
    return [found[i] for i in ids if i in found]


def labels(dataset_id: int) -> dict[str, str | None]:
    """Today's label of every image."""
    with reading() as c:
        return {i: label for i, label in c.execute(select(images.c.id, images.c.label).where(images.c.dataset_id == dataset_id))}


# Labels -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelResult:
    seqs: dict[str, int]  # image id -> the new version
    refused: dict[str, LabelEvent | None]  # changed by somebody since it was seen: their event


def apply_labels(
    dataset_id: int, seen: Mapping[str, int], label: str | None, by: str, source: str, operation: str | None = None, note: str = ""
) -> LabelResult:
    """Gives the label to every image whose version (label_seq) is still the one that was seen."""
    ids = list(seen)
    with writing() as c:
        name = c.execute(select(datasets.c.name).where(datasets.c.id == dataset_id, datasets.c.deleted_at.is_(None))).scalar()
        if name is None:
            raise NotFound("This dataset was deleted.", "Restore it on the Dataset page, or choose another one.")
        if (
            label is not None
            and not c.execute(select(classes.c.name).where(classes.c.dataset_id == dataset_id, classes.c.name == label)).first()
        ):
            raise NotFound(
                f"“{label}” is not a class of this dataset.", "Add the class first, or reload the page: it may have been renamed."
            )
        done: dict[str, int] = {}
        current: dict[str, Any] = {}
        for part in _parts(ids):
            if operation is not None:
                repeated = select(label_events.c.image_id, label_events.c.seq).where(
                    label_events.c.dataset_id == dataset_id, label_events.c.operation == operation, label_events.c.image_id.in_(part)
                )
                done.update({i: seq for i, seq in c.execute(repeated)})
            query = select(images.c.id, images.c.label, images.c.label_seq).where(images.c.dataset_id == dataset_id, images.c.id.in_(part))
            current.update({row.id: row for row in c.execute(query)})
        missing = [i for i in ids if i not in current]
        if missing:
            raise NotFound(f"Image {missing[0]} is not in this dataset any more.", "Reload the page.")
        open_ids = [i for i in ids if i not in done]
        stale = [i for i in open_ids if current[i].label_seq != seen[i]]
        changes = [(i, label, current[i].label) for i in open_ids if current[i].label_seq == seen[i]]
        seqs = _append_events(c, dataset_id, changes, by, source, operation, note)
        refused: dict[str, LabelEvent | None] = {}
        for i in stale:
            rows = c.execute(_history(dataset_id, i).limit(1)).all()
            refused[i] = _event(rows[0]) if rows else None
    return LabelResult({**done, **seqs}, refused)


def _history(dataset_id: int, image_id: str) -> sa.Select[Any]:
    e = label_events.c
    return (
        select(e.seq, e.image_id, e.label, e.source, e.by, e.at, e.note, e.previous)
        .where(e.dataset_id == dataset_id, e.image_id == image_id)
        .order_by(e.seq.desc())
    )


def _event(row: Any) -> LabelEvent:
    return LabelEvent(**row._mapping)


def history(dataset_id: int, image_id: str) -> list[LabelEvent]:
    """The image's label events, newest first."""
    with reading() as c:
        return [_event(row) for row in c.execute(_history(dataset_id, image_id))]


def all_events(dataset_id: int) -> list[LabelEvent]:
    """The label events of all images, oldest first."""
    e = label_events.c
    query = select(e.seq, e.image_id, e.label, e.source, e.by, e.at, e.note, e.previous).where(e.dataset_id == dataset_id).order_by(e.seq)
    with reading() as c:
        return [_event(row) for row in c.execute(query)]


# Snapshots ----------------------------------------------------------------------------------------

VALIDATION_SHARE = 0.15


def snapshot(dataset_id: int, seed: int) -> Snapshot:
    """Today's labelled images, frozen.

    Where no split is named validation, each class gives 15 % of its training images (at least one of two),
    chosen by a hash of seed and image id: stratified, repeatable, and hardly moved by new images. Test is never used.
    """
    with reading() as c:
        names = list(c.execute(select(classes.c.name).where(classes.c.dataset_id == dataset_id).order_by(classes.c.position)).scalars())
        query = (
            select(images.c.id, images.c.ext, images.c.label, images.c.split)
            .where(images.c.dataset_id == dataset_id, images.c.label.is_not(None))
            .order_by(images.c.id)
        )
        found = c.execute(query).all()
    splits: dict[str, Split] = {row.id: row.split for row in found}
    if "validation" not in splits.values():
        per_class: dict[str, list[str]] = {}
        for row in found:
            if row.split == "train":
                per_class.setdefault(row.label, []).append(row.id)
        for ids in per_class.values():
            ids.sort(key=lambda i: hashlib.sha256(f"{seed}:{i}".encode()).digest())
            n = max(1, round(len(ids) * VALIDATION_SHARE)) if len(ids) > 1 else 0
            splits.update({i: "validation" for i in ids[:n]})
    used = {row.label for row in found}
    rows = tuple(SnapshotRow(r.id, f"{r.id[:2]}/{r.id}.{r.ext}", r.label, splits[r.id]) for r in found)
    digest = hashlib.sha256(json.dumps([(r.image_id, r.label, r.split) for r in rows]).encode()).hexdigest()[:16]
    return Snapshot(digest, tuple(n for n in names if n in used), rows)


# Submissions --------------------------------------------------------------------------------------


def _submission(row: Any) -> Submission:
    values = dict(row._mapping)
    values["probabilities"] = json.loads(values["probabilities"])
    return Submission(**values)


def add_submission(values: Mapping[str, Any]) -> int | None:
    """Queues a prediction; None if the same picture and run wait already (a double click)."""
    s = submissions.c
    with writing() as c:
        same = [s.dataset_id == values["dataset_id"], s.image_id == values["image_id"], s.run_id == values["run_id"], s.verdict.is_(None)]
        if c.execute(select(s.id).where(*same)).first():
            return None
        row = {**values, "probabilities": json.dumps(values["probabilities"]), "at": now()}
        return int(c.execute(submissions.insert().values(**row).returning(s.id)).scalar_one())


def queue(dataset_id: int, decided: bool = False, limit: int = 100) -> list[Submission]:
    """What waits, least certain first; or what was decided, newest first."""
    s = submissions.c
    query = select(submissions).where(s.dataset_id == dataset_id)
    if decided:
        query = query.where(s.verdict.is_not(None)).order_by(s.decided_at.desc())
    else:
        query = query.where(s.verdict.is_(None)).order_by(s.probability, s.id)
    with reading() as c:
        return [_submission(row) for row in c.execute(query.limit(limit))]


def queue_length(dataset_id: int) -> int:
    with reading() as c:
        waiting = (submissions.c.dataset_id == dataset_id, submissions.c.verdict.is_(None))
        return c.execute(select(func.count()).select_from(submissions).where(*waiting)).scalar_one()


def get_submission(submission_id: int) -> Submission:
    with reading() as c:
        row = c.execute(select(submissions).where(submissions.c.id == submission_id)).first()
    if row is None:
        raise NotFound("This prediction is not in the queue.", "Reload the page.")
    return _submission(row)


def _decision(submission_id: int, added: bool) -> str:
    """The note of a decision's event: by it reopen knows its own event, and whether the image came with it."""
    return f"review {submission_id}{', picture added' if added else ''}"


def decide(submission_id: int, verdict: str, label: str | None, by: str, image: Image | None) -> None:
    """Sets the verdict once and, with it, adds the image and its label to the dataset, in one transaction."""
    s = submissions.c
    with writing() as c:
        open_ = submissions.update().where(s.id == submission_id, s.verdict.is_(None))
        changed = c.execute(open_.values(verdict=verdict, label=label, decided_by=by, decided_at=now()))
        if changed.rowcount == 0:
            raise Conflict("This prediction was decided already.", "The next one is shown.")
        if image is not None:
            have = c.execute(
                select(images.c.label, images.c.label_seq).where(images.c.dataset_id == image.dataset_id, images.c.id == image.id)
            ).first()
            if have is None:
                columns = [column.name for column in images.c if column.name not in ("label", "label_seq")]
                c.execute(images.insert().values(**{name: getattr(image, name) for name in columns}, label=None, label_seq=0))
            if label is not None:
                _add_classes(c, image.dataset_id, [label])
            if have is None or have.label != label:
                change = (image.id, label, have.label if have else None)
                _append_events(c, image.dataset_id, [change], by, "review", note=_decision(submission_id, added=have is None))


def reopen(submission_id: int, by: str) -> None:
    """Takes a decision back: the submission waits again, and what it added to the dataset is taken out again.

    The label events stay: the image's history says that it was given a label and lost it.
    """
    s, i, e = submissions.c, images.c, label_events.c
    with writing() as c:
        row = c.execute(select(submissions).where(s.id == submission_id, s.verdict.is_not(None))).first()
        if row is None:
            raise Conflict("This prediction waits in the queue already.", "It is shown when its turn comes.")
        c.execute(submissions.update().where(s.id == submission_id).values(verdict=None, label=None, decided_by=None, decided_at=None))
        if row.verdict == "rejected":
            return
        here = (i.dataset_id == row.dataset_id, i.id == row.image_id)
        newest = (
            select(e.label, e.previous, e.note).where(e.dataset_id == row.dataset_id, e.image_id == row.image_id).order_by(e.seq.desc())
        )
        last = c.execute(newest.limit(1)).first()
        if last and last.note in (_decision(submission_id, False), _decision(submission_id, True)):  # nobody has changed it since
            _append_events(c, row.dataset_id, [(row.image_id, last.previous, last.label)], by, "review", note="decision taken back")
            if last.note == _decision(submission_id, True):
                c.execute(images.delete().where(*here))


def _parts(ids: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    """Chunks below SQLite's limit on bound variables."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]
