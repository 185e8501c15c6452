"""The audit: who did what, when, on what, before and after; each entry names the SHA-256 of the one before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rfc8785
import sqlalchemy as sa
from sqlalchemy import func, select

from core import roles, servers
from core.data.events import Change
from core.data.schema import audit, audit_images, reading, writing
from core.errors import AppError
from core.runs import runs
from core.settings import settings
from core.types import Progress, now, silent

# What is recorded, in words; a kind that is not here is shown as it is called.
KINDS: Mapping[str, str] = {
    "label": "labels given",
    "flag": "flag set or removed",
    "label.undo": "labels taken back",
    "class.add": "classes added",
    "class.rename": "class renamed",
    "class.merge": "classes merged",
    "class.retire": "class retired",
    "class.restore": "class brought back",
    "class.order": "classes put in order",
    "class.describe": "guideline changed",
    "class.example": "examples of a class changed",
    "dataset.create": "dataset made",
    "dataset.delete": "dataset deleted",
    "dataset.restore": "dataset brought back",
    "dataset.remove": "empty dataset removed",
    "split.draw": "test split drawn",
    "split.keep": "images added next join training",
    "import": "images brought in",
    "image.remove": "images removed from a dataset",
    "image.return": "removed images brought back",
    "import.predictions": "predictions brought in",
    "export": "dataset taken out",
    "export.predictions": "predictions taken out",
    "export.report": "report of Review taken out",
    "export.statements": "statements of reasons taken out",
    "run.start": "run started",
    "run.resume": "run went on",
    "run.pause": "run paused",
    "run.stop": "run stopped",
    "run.describe": "note and tags of a run",
    "run.delete": "run deleted",
    "run.restore": "run brought back",
    "run.import": "run brought in",
    "run.export": "run taken out",
    "run.report": "report taken out",
    "review.decide": "decision in Review",
    "review.undo": "decision taken back",
    "review.appeal": "decision appealed",
    "review.accept": "decision let into training",
    "review.refuse": "decisions kept out of training",
    "review.remove": "old predictions removed",
    "removal.set": "rule of removal set",
    "removal.off": "rule of removal switched off",
    "policy.write": "policy written",
    "policy.active": "policy made active",
    "policy.shadow": "policy run in the shadow",
    "policy.off": "policy turned off",
    "audit.export": "audit taken out",
    "move": "database copied into another",
    "backup": "backup written",
    "restore": "backup brought back",
    "mend": "damage mended",
    "begin": "begun anew",
    "sign-in": "signed in",
    "sign-in.failed": "could not sign in",
    "person.add": "person added",
    "person.role": "role changed",
    "person.password": "password set",
    "person.link": "one-time link made",
    "person.off": "account switched off",
    "person.on": "account switched on again",
    "person.sign-out": "all sessions ended",
    "person.remove": "person removed",
    "token.add": "token made",
    "token.revoke": "token revoked",
    "webhook.again": "webhook told again what was given up",
}
HEADS = "heads.jsonl"
COLUMNS = ("seq", "at", "by", "kind")  # of the table, beside the entry
AT_ONCE = 1_000  # entries read in one go
# Made once: putting them together takes longer than asking, and nobody else writes meanwhile.
_LAST = select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)
_ADD = audit.insert()


# Writing ------------------------------------------------------------------------------------------


def record(c: sa.Connection, kind: str, *, on: Mapping[str, Any], before: Any = None, after: Any = None, by: str | None = None) -> None:
    """Adds an entry in the caller's transaction, which is one of writing(): its lock is what makes this the chain's one writer.

    on: what it speaks of, such as {"dataset": 1, "images": [...]}, {"run": id} or {"person": name}; everything is what JSON holds.
    """
    assert c.get_execution_options().get("write")
    last = c.execute(_LAST).first()
    who = (by or roles.current().name).encode(errors="replace").decode().replace("\0", "?")
    row = {"seq": last.seq + 1 if last else 1, "at": now(), "by": who, "kind": kind}
    entry = rfc8785.dumps({**row, "on": dict(on), "before": before, "after": after, "previous": last.hash if last else ""})
    c.execute(_ADD, {**row, "entry": entry.decode(), "hash": _sha256(entry)})
    if ids := on.get("images"):
        c.execute(audit_images.insert(), [{"seq": row["seq"], "image_id": i} for i in dict.fromkeys(ids)])


@contextmanager
def beside(kind: str, *, on: Mapping[str, Any], before: Any = None, after: Any = None, by: str | None = None) -> Iterator[None]:
    """An entry of a quick change of files, which stands in the block: recorded if that does not fail, while nobody else writes."""
    with writing() as c:
        yield
        record(c, kind, on=on, before=before, after=after, by=by)


def note(kind: str, *, on: Mapping[str, Any], before: Any = None, after: Any = None, by: str | None = None) -> None:
    """An entry of what changes neither database nor files, in a transaction of its own."""
    with writing() as c:
        record(c, kind, on=on, before=before, after=after, by=by)


def labels(
    c: sa.Connection,
    kind: str,
    dataset_id: int,
    changes: Sequence[Change],
    by: str,
    flags: Mapping[str, bool] | None = None,
    **more: Any,
) -> None:
    """One entry for all that an act changed; nothing for an act that changed nothing. flags: before it, by image id; more: beside “after”.

    label and flagged are one value, or a list in the order of the images where they differ.
    """
    if not changes:
        return
    before, after = {"label": _each([x.previous for x in changes])}, {"label": _each([x.label for x in changes])}
    if flags is not None and any(x.flagged is not None for x in changes):
        was = [flags[x.image_id] for x in changes]
        before["flagged"] = _each(was)
        after["flagged"] = _each([old if x.flagged is None else x.flagged for x, old in zip(changes, was, strict=True)])
    on = {"dataset": dataset_id, "images": [x.image_id for x in changes]}
    record(c, kind, on=on, before=before, after={**after, **more}, by=by)


def _each(values: list[Any]) -> Any:
    return values[0] if all(one == values[0] for one in values) else values


def _sha256(entry: bytes) -> str:
    return hashlib.sha256(entry).hexdigest()


# Searching ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    seq: int
    at: str
    by: str
    kind: str
    on: Mapping[str, Any]
    before: Any
    after: Any


@dataclass(frozen=True)
class Which:
    """Which entries; "" means any. Times are UTC, ISO 8601; the end is not included."""

    by: str = ""
    kind: str = ""
    since: str = ""
    until: str = ""
    image: str = ""

    def where(self) -> list[sa.ColumnElement[bool]]:
        a = audit.c
        wanted = (
            (self.by, a.by == self.by),
            (self.kind, a.kind == self.kind),
            (self.since, a.at >= self.since),
            (self.until, a.at < self.until),
        )
        named = a.seq.in_(select(audit_images.c.seq).where(audit_images.c.image_id == self.image))
        return [condition for given, condition in (*wanted, (self.image, named)) if given]


def search(which: Which, page: int, per_page: int) -> tuple[list[Entry], int]:
    """One page (from 1) of the entries, newest first, and how many there are on all pages."""
    roles.allow("admin")
    a = audit.c
    with reading() as c:
        total = c.execute(select(func.count()).select_from(audit).where(*which.where())).scalar_one()
        some = select(a.seq).where(*which.where()).order_by(a.seq.desc()).offset((max(1, page) - 1) * per_page).limit(per_page)
        seqs = list(c.execute(some).scalars())  # first from the indexes alone: an entry of 10,000 images is long
        found = c.execute(select(a.entry).where(a.seq.in_(seqs)).order_by(a.seq.desc())).scalars()
        return [_entry(text) for text in found], total


def _entry(text: str) -> Entry:
    values = json.loads(text)
    values.pop("previous", None)
    return Entry(**values)


def counts(after: int = 0) -> tuple[int, dict[str, int]]:
    """The newest seq, and how many entries of each kind came after a seq."""
    with reading() as c:
        found = c.execute(select(audit.c.kind, func.count(), func.max(audit.c.seq)).where(audit.c.seq > after).group_by(audit.c.kind)).all()
        return max((row[2] for row in found), default=after), {row[0]: row[1] for row in found}


# The chain ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Head:
    """The last entry of a day, written outside the database."""

    seq: int
    hash: str
    at: str


@dataclass(frozen=True)
class Verdict:
    entries: int  # read
    head: str  # SHA-256 of the last one; "" of none
    heads: int  # written outside the database, that fit
    broken: int | None = None  # seq of the first entry that is not as it was written
    problem: str = ""

    @property
    def words(self) -> str:
        if self.problem:
            return self.problem
        outside = "the head outside the database agrees" if self.heads == 1 else f"the {self.heads:,} heads outside the database agree"
        return f"All {self.entries:,} entries are as they were written, and {outside if self.heads else 'no head was written outside yet'}."


def head() -> Head | None:
    """The last entry; None before the first."""
    with reading() as c:
        row = c.execute(select(audit.c.seq, audit.c.hash, audit.c.at).order_by(audit.c.seq.desc()).limit(1)).first()
    return None if row is None else Head(row.seq, row.hash, row.at)


def heads() -> list[Head]:
    """Those written outside the database, oldest first."""
    path = settings().audit_heads / HEADS
    try:
        return [Head(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, OSError) as e:
        raise AppError(f"{path} cannot be read: {e}.", "Bring it back from a backup; what it held cannot be compared until then.") from None


def standing() -> tuple[Head | None, Head | None, bool]:
    """The last entry, the last head outside, and whether the audit goes on from that one; quick, and no verification."""
    roles.allow("admin")
    last, known = head(), heads()
    return last, known[-1] if known else None, not known or _fits(known[-1])


def write_head() -> Head | None:
    """Writes the head outside the database, once a day; the one written, if any.

    AppError if the audit does not go on from the head of before: it is not written over.
    """
    with servers.alone("heads"):
        return _written_head()


def _written_head() -> Head | None:
    last, known = head(), heads()
    if known and (last is None or not _fits(known[-1])):
        raise AppError(
            f"The audit does not go on from entry {known[-1].seq:,}, whose head was written.", "Run: python -m core audit verify"
        )
    today = now()[:10]
    if last is None or (known and (known[-1].seq == last.seq or known[-1].at[:10] == today)):
        return None
    written = Head(last.seq, last.hash, now())
    settings().audit_heads.mkdir(parents=True, exist_ok=True)
    runs.append_line(settings().audit_heads, written.__dict__, HEADS)
    return written


def _fits(one: Head) -> bool:
    with reading() as c:
        return c.execute(select(audit.c.hash).where(audit.c.seq == one.seq)).scalar() == one.hash


def verify(progress: Progress = silent) -> Verdict:
    """Reads the whole chain and names the first entry that is not as it was written: changed, missing, or other than a head outside."""
    roles.allow("admin")
    with reading() as c:
        return verified(c, progress)


def verified(c: sa.Connection, progress: Progress = silent) -> Verdict:
    """The same for the chain in the database of a connection."""
    outside = heads()
    expected = {one.seq: one for one in outside}
    seq, previous = 0, ""

    def broken(at: int, problem: str) -> Verdict:
        return Verdict(seq, previous, 0, at, problem)

    total = c.execute(select(func.coalesce(func.max(audit.c.seq), 0))).scalar_one()
    for rows, named in _read(c):
        progress(seq, total, "Verifying")
        for this, at, by, kind, entry, digest in rows:
            if this != seq + 1:
                return broken(seq + 1, f"Entry {seq + 1:,} is missing.")
            if _sha256(entry.encode()) != digest:
                return broken(this, f"Entry {this:,} was changed: it does not fit its SHA-256.")
            values = _parsed(entry)
            if values.get("previous") != previous:
                before = max(1, seq)
                return broken(before, f"Entry {before:,} was changed or replaced: entry {this:,} was written after another one.")
            if [values.get(name) for name in COLUMNS] != [this, at, by, kind]:
                return broken(this, f"Entry {this:,} was changed: it is found under another person, time or kind than it says.")
            if named.get(this, set()) != set(values["on"].get("images") or ()):
                return broken(this, f"Entry {this:,} was changed: it is found under other images than it says.")
            if this in expected and expected[this].hash != digest:
                day = expected[this].at[:10]
                return broken(this, f"Entry {this:,} is not the one whose head was written outside on {day}: the audit was rewritten.")
            seq, previous = this, digest
    if outside and (newest := max(outside, key=lambda one: one.seq)).seq > seq:
        problem = (
            f"Entry {seq + 1:,} is missing: the audit ends before entry {newest.seq:,}, whose head was written outside on {newest.at[:10]}."
        )
        return broken(seq + 1, problem)
    return Verdict(seq, previous, len(outside))


def _parsed(entry: str) -> dict[str, Any]:
    try:
        return dict(json.loads(entry))
    except (ValueError, TypeError):
        return {}


def _read(c: sa.Connection) -> Iterator[tuple[Sequence[sa.Row[Any]], dict[int, set[str]]]]:
    """All entries in order, some at a time, and the images under which each is found."""
    last, i = -(1 << 31), audit_images.c
    while rows := c.execute(select(audit).where(audit.c.seq > last).order_by(audit.c.seq).limit(AT_ONCE)).all():
        named: dict[int, set[str]] = {}
        for seq, image_id in c.execute(select(i.seq, i.image_id).where(i.seq.between(rows[0].seq, rows[-1].seq))):
            named.setdefault(seq, set()).add(image_id)
        yield rows, named
        last = rows[-1].seq


def export(out: Path, progress: Progress = silent) -> Head | None:
    """Writes all entries as JSON lines, each as it is hashed, and the head as the last line; whole or not at all."""
    roles.allow("admin")
    last = head()

    def write(path: Path) -> None:
        with open(path, "w", encoding="utf-8", newline="\n") as f, reading() as c:
            written = 0
            for rows, _ in _read(c):
                rows = [row for row in rows if last and row.seq <= last.seq]
                f.writelines(f"{row.entry}\n" for row in rows)
                written += len(rows)
                progress(written, last.seq if last else 0, "Exporting")
            f.write(json.dumps({"head": None if last is None else last.__dict__}) + "\n")

    try:
        runs.write_atomically(out, write)
    except OSError as e:
        raise AppError(f"{out} cannot be written: {e.strerror}.", "Choose another place.") from None
    note("audit.export", on={}, after={"entries": last.seq if last else 0})
    return last
