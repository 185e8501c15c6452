"""Predictions that are removed once they are old: at once, or every day by a rule that an admin sets."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import select

from core import roles, storage
from core.data import audit, uploads
from core.data.events import Names
from core.data.schema import answers, datasets, decisions, parts, reading, removal_rules, review_claims, review_skips, submissions, writing
from core.errors import Conflict, Invalid, Unavailable
from core.runs import runs
from core.settings import settings
from core.types import now

SETTLED = 3600.0  # seconds that a file has been there: a younger one may be about to be asked about
NOTES = "removed-*.json"  # pictures whose predictions are gone, and whose files may not be yet


@dataclass(frozen=True)
class Rule:
    """What is removed of a dataset every day: answers older than so many days, of some classes or of all."""

    id: int
    dataset_id: int
    days: int
    classes: tuple[str, ...]  # in the words of the day when it was set; none: all
    waiting: bool  # also what waits for a person
    by: str
    at: str
    off_at: str | None = None
    ran_at: str | None = None
    removed: int | None = None  # when it ran last

    @property
    def before(self) -> str:
        return ago(self.days)


def ago(days: int) -> str:
    """UTC, ISO 8601."""
    return (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="milliseconds")


@roles.needs("admin")
def set_rule(dataset_id: int, days: int, classes: Sequence[str], waiting: bool, by: str) -> Rule:
    """From the server's next daily turn on."""
    if days < 1:
        raise Invalid(f"{days} days are too few.", "At least one day is kept.")
    what = {"days": days, "classes": sorted(classes), "waiting": waiting}
    with writing() as c:
        r = removal_rules.c
        for one in map(_rule, c.execute(select(removal_rules).where(r.dataset_id == dataset_id, r.off_at.is_(None)))):
            if {"days": one.days, "classes": sorted(one.classes), "waiting": one.waiting} == what:
                raise Conflict("There is this very rule already.", "It stands below.")
        row = {"dataset_id": dataset_id, **what, "classes": json.dumps(what["classes"]), "by": by, "at": now()}
        made = _rule(c.execute(removal_rules.insert().values(**row).returning(removal_rules)).one())
        audit.record(c, "removal.set", on={"dataset": dataset_id, "rule": made.id}, after=what, by=by)
    return made


def switch_off(rule_id: int, by: str) -> None:
    r = removal_rules.c
    with reading() as c:
        dataset_id = c.execute(select(r.dataset_id).where(r.id == rule_id)).scalar_one()
    roles.allow("admin", dataset_id)
    with writing() as c:
        if c.execute(removal_rules.update().where(r.id == rule_id, r.off_at.is_(None)).values(off_at=now())).rowcount:
            audit.record(c, "removal.off", on={"dataset": dataset_id, "rule": rule_id}, by=by)


@roles.needs("admin")
def rules(dataset_id: int) -> list[Rule]:
    """Those in force, newest first."""
    r = removal_rules.c
    with reading() as c:
        query = select(removal_rules).where(r.dataset_id == dataset_id, r.off_at.is_(None)).order_by(r.id.desc())
        return [_rule(row) for row in c.execute(query)]


def _rule(row: Any) -> Rule:
    return Rule(**{**row._mapping, "classes": tuple(json.loads(row.classes))})


@roles.needs("admin")
def count(dataset_id: int, before: str, classes: Sequence[str] = (), waiting: bool = False, said_at: str | None = None) -> int:
    """How many remove() would take now."""
    with reading() as c:
        return len(_old(c, dataset_id, before, classes, waiting, said_at))


@roles.needs("admin")
def remove(dataset_id: int, before: str, classes: Sequence[str] = (), waiting: bool = False, by: str | None = None) -> int:
    """Removes what was predicted before a time (UTC, ISO 8601), with its files; returns how many.

    Never what was decided, escalated or appealed, nor second opinions, the audit's sample and known answers; what waits for a person
    only where that is said.
    """
    if before > now():
        raise Invalid("The time lies in the future.", "Choose an earlier one.")
    with writing() as c:
        gone = _remove(c, dataset_id, before, classes, waiting)
        note = _note(gone)
        if gone:
            what = {"predictions": len(gone), "until": before, "classes": sorted(classes), "waiting": waiting}
            audit.record(c, "review.remove", on={"dataset": dataset_id}, before=what, by=by)
    with suppress(Unavailable):  # the files go with a later turn of the rules
        _remove_files(note)
    return len(gone)


def carry_out() -> int:
    """Does what the rules say, each once a day; returns how many predictions that removed.

    Unavailable at the end if files could not be removed: they are tried again with the next turn.
    """
    r, today, removed, problem = removal_rules.c, now()[:10], 0, None
    notes = [path for path in settings().uploads.glob(NOTES) if time.time() - path.stat().st_mtime > SETTLED]
    due = (r.off_at.is_(None), sa.or_(r.ran_at.is_(None), r.ran_at < today))
    with reading() as c:
        there = removal_rules.join(datasets, datasets.c.id == r.dataset_id)
        some = [_rule(row) for row in c.execute(select(removal_rules).select_from(there).where(*due, datasets.c.deleted_at.is_(None)))]
    for one in some:
        with writing() as c:
            if not c.execute(removal_rules.update().where(r.id == one.id, *due).values(ran_at=now())).rowcount:
                continue  # another server did it, or it was switched off
            gone = _remove(c, one.dataset_id, one.before, one.classes, one.waiting, one.at)
            notes.append(_note(gone))
            c.execute(removal_rules.update().where(r.id == one.id).values(removed=len(gone)))
            if gone:
                what = {"predictions": len(gone), "until": one.before, "classes": list(one.classes), "waiting": one.waiting}
                audit.record(c, "review.remove", on={"dataset": one.dataset_id, "rule": one.id}, before=what, by=one.by)
        removed += len(gone)
    for note in notes:
        try:
            _remove_files(note)
        except Unavailable as e:
            problem = e
    if problem:
        raise problem
    return removed


def _old(
    c: sa.Connection, dataset_id: int, before: str, classes: Sequence[str], waiting: bool, said_at: str | None = None
) -> list[tuple[int, str]]:
    """(item, hash) of what is removed. said_at: when the classes were named; a class that was renamed is meant under each of its names."""
    s, k, d = submissions.c, review_claims.c, decisions.c
    states = ("predicted", "passed", "blocked", *(("waiting",) if waiting else ()))
    where = [s.dataset_id == dataset_id, s.at < before, s.state.in_(states)]
    where.append(~select(d.seq).where(d.submission_id == s.id).exists())
    where.append(~select(k.submission_id).where(k.submission_id == s.id, k.until >= time.time()).exists())
    if not classes:
        return [(row.id, row.image_id) for row in c.execute(select(s.id, s.image_id).where(*where))]
    words = Names(c, dataset_id)
    meant = {words.since(name, said_at or now()) for name in classes}
    ever = set(meant)
    for name, to, *_ in reversed(words.renames):
        if to in ever:
            ever.add(name)
    found = c.execute(select(s.id, s.image_id, s.predicted, s.at).where(*where, s.predicted.in_(ever)))
    return [(row.id, row.image_id) for row in found if words.since(row.predicted, row.at) in meant]


def _remove(c: sa.Connection, dataset_id: int, before: str, classes: Sequence[str], waiting: bool, said_at: str | None = None) -> list[str]:
    """Removes the rows; the hash of each picture."""
    gone = _old(c, dataset_id, before, classes, waiting, said_at)
    for ids in parts([number for number, _ in gone]):
        for table in (answers, review_skips, review_claims):
            c.execute(table.delete().where(table.c.submission_id.in_(ids)))
        c.execute(submissions.delete().where(submissions.c.id.in_(ids)))
    return [image_id for _, image_id in gone]


def _note(image_ids: list[str]) -> Path:
    """Before their rows go: storage may be away then, or the server end."""
    path = settings().uploads / NOTES.replace("*", secrets.token_hex(8))
    if image_ids:
        path.parent.mkdir(parents=True, exist_ok=True)
        runs.write_json(path, image_ids)
    return path


def _remove_files(note: Path) -> None:
    """Of pictures that no prediction speaks of any more; Unavailable where storage is away, and the note stays."""
    if not note.exists():
        return
    image_ids, s, left = [str(one) for one in runs.read_json(note)], submissions.c, set[str]()
    with reading() as c:
        for some in parts(image_ids):
            left |= set(c.execute(select(s.image_id).where(s.image_id.in_(some)).distinct()).scalars())
    for image_id in {*image_ids} - left:
        for path in uploads.files_of(image_id, everywhere=True):
            if not path.exists() or time.time() - path.stat().st_mtime > SETTLED:
                storage.remove([path])
                path.unlink(missing_ok=True)
    note.unlink(missing_ok=True)
