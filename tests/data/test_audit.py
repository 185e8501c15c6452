"""The audit: every act leaves one entry, in its own transaction, and whatever is changed afterwards is found and named."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from core import roles
from core.data import audit, classes, events, labels, moving, queue, removed, schema, splits, store
from core.data.audit import Which
from core.errors import AppError, Conflict, Forbidden
from core.explain import explain
from core.review import taken
from core.runs import launch
from core.settings import settings
from core.share import export, report
from core.train import train
from core.types import Dataset, Image
from tests.conftest import forget

Command = Callable[..., subprocess.CompletedProcess[str]]


def entries(which: Which | None = None) -> list[audit.Entry]:
    """All of them, oldest first."""
    return audit.search(which or Which(), 1, 10_000)[0][::-1]


def seqs() -> int:
    return audit.counts()[0]


# What is recorded


@pytest.mark.databases("sqlite", "postgresql")
def test_every_kind_of_act_writes_exactly_one_entry(home: Path, small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, ids = small, [i.id for i in store.all_images(small.id)[:3]]

    def seen(*some: str) -> dict[str, int]:
        return {i: store.get_image(one.id, i).label_seq for i in some}

    class Nothing:
        def start(self, folder: Path, command: list[str]) -> None: ...
        def alive(self, folder: Path) -> bool:
            return False

        def kill(self, folder: Path) -> None: ...

    def drawn() -> None:
        with schema.writing() as c:
            c.execute(schema.images.update().values(split="train"))
        monkeypatch.setattr(splits, "split_of", lambda i: "test" if i in ids else "train")
        splits.draw_test(one.id)

    monkeypatch.setattr(launch, "launcher", Nothing())
    monkeypatch.setattr(explain, "supported", lambda _: {})
    started: list[str] = []
    acts: list[tuple[str, Callable[[], object]]] = [
        ("label", lambda: labels.apply(one.id, seen(*ids), "red", "eve", "first")),
        ("label", lambda: labels.give_each(one.id, {ids[0]: ("red", "blue")}, "eve", "each", "import")),
        ("label", lambda: labels.apply_to_all(one.id, ids, "green", "eve", "all", "cluster", over=True)),
        ("label.undo", lambda: labels.undo(one.id, labels.Which(operation="all"), "eve", "taken back")),
        ("label.undo", lambda: labels.go_back(one.id, store.get_image(one.id, ids[0]), labels.history(one.id, ids[0])[0], "eve")),
        ("flag", lambda: labels.flag(one.id, seen(ids[0]), True, "eve")),
        ("image.remove", lambda: removed.remove(one.id, ids, "eve", "out")),
        ("image.return", lambda: removed.bring_back(one.id, ids, "eve", "back")),
        ("class.add", lambda: classes.add(one.id, "ten")),
        ("class.rename", lambda: classes.rename(one.id, "ten", "tenth", "eve")),
        ("class.order", lambda: classes.order(one.id, ["tenth"])),
        ("class.describe", lambda: classes.describe(one.id, "tenth", "None of the others.")),
        ("class.example", lambda: classes.set_example(one.id, "tenth", ids[0], True)),
        ("class.retire", lambda: classes.retire(one.id, "tenth", "eve")),
        ("class.restore", lambda: classes.restore(one.id, "tenth", "eve")),
        ("class.merge", lambda: classes.merge(one.id, "green", "tenth", "eve")),
        ("split.keep", lambda: splits.keep_training(one.id)),
        ("split.draw", drawn),
        ("dataset.create", lambda: store.create_dataset("empty")),
        ("dataset.remove", lambda: store.remove_if_empty(store.find_dataset("empty").id)),  # type: ignore[union-attr]
        ("dataset.delete", lambda: store.set_deleted(one.id, True)),
        ("dataset.restore", lambda: store.set_deleted(one.id, False)),
        ("import", lambda: labels.add_images(one.id, [copy_of(one.id, ids[0])], "eve", "import")),
        ("import.predictions", lambda: store.add_predictions(one.id, [(ids[0], "m", "red", 0.5)])),
        ("export", lambda: export.export_now(one.id, "csv", tmp_path / "out.zip")),
        ("export.predictions", lambda: taken.stored(one.id, queue.Which(), "newest", "csv", "eve")),
        ("export.report", lambda: taken.review_report(one.id, "day", "eve")),
        ("export.statements", lambda: taken.statements_of_reasons(one.id, "jsonl", "eve")),
        ("audit.export", lambda: audit.export(tmp_path / "audit.jsonl")),
        ("move", lambda: moving.move(f"sqlite:///{tmp_path / 'moved.db'}")),
        ("run.start", lambda: started.append(train.start(one.id, {"architecture": "linear", "epochs": 2}, "eve").id)),
        ("run.report", lambda: report.make(started[0], ("validation",), "eve")),
        ("run.pause", lambda: train.pause(started[0])),
        ("run.stop", lambda: train.stop(started[0])),
        ("run.resume", lambda: train.resume(started[0])),
        ("run.describe", lambda: train.annotate(started[0], "for the audit", ["tag"])),
        ("run.delete", lambda: train.delete(started[0])),
        ("run.restore", lambda: train.restore(started[0])),
    ]
    for kind, act in acts:
        before = seqs()
        act()
        assert [e.kind for e in entries()[before:]] == [kind], kind
    elsewhere = {
        "run.export",
        "run.import",
        "backup",
        "restore",
        "mend",
        "begin",
    }  # tests/share/test_archive.py has a zip, test_backup.py the rest
    assert {kind for kind, _ in acts} == {
        kind for kind in audit.KINDS if kind.split(".")[0] not in ("review", "policy", "sign-in", "person", "token", "webhook", "removal")
    } - elsewhere
    assert audit.verify().problem == ""


def copy_of(dataset_id: int, image_id: str) -> Image:
    return replace(store.get_image(dataset_id, image_id), id="00000000000000aa", label="red", flagged=True)


def test_an_entry_says_who_when_on_what_and_what_was_before_and_after(home: Path, small: Dataset) -> None:
    red, blue = (next(i for i in store.all_images(small.id) if i.label == name) for name in ("red", "blue"))
    labels.apply(small.id, {red.id: red.label_seq, blue.id: blue.label_seq}, "green", "eve")
    labels.flag(small.id, {red.id: store.get_image(small.id, red.id).label_seq}, True, "ann")
    flagged, labelled = audit.search(Which(), 1, 2)[0]
    assert (labelled.by, labelled.kind, labelled.on) == ("eve", "label", {"dataset": small.id, "images": [red.id, blue.id]})
    assert labelled.before == {"label": ["red", "blue"]} and labelled.after == {"label": "green", "source": "manual"}
    assert (flagged.by, flagged.before, flagged.after) == (
        "ann",
        {"label": "green", "flagged": False},
        {"label": "green", "flagged": True, "source": "flag"},
    )
    assert labels.history(small.id, red.id)[1].at <= labelled.at <= flagged.at


def test_an_act_of_many_images_is_one_entry_and_one_that_changes_nothing_is_none(home: Path, small: Dataset) -> None:
    every = {i.id: i.label_seq for i in store.all_images(small.id)}
    before = seqs()
    labels.apply(small.id, every, "red", "eve", "once")
    labels.apply(small.id, every, "red", "eve", "once")  # the same act again, after a lost answer
    labels.apply(small.id, every, "blue", "eve", "late")  # nobody has seen what they carry now
    (entry,) = entries()[before:]
    assert set(entry.on["images"]) == set(every)
    assert all(entry in entries(Which(image=i)) for i in every)


def test_the_order_is_that_of_the_acts_also_when_the_clock_jumps_back(home: Path, small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    image = next(i for i in store.all_images(small.id) if i.label == "red")
    for label, at in (("green", "2026-03-29T12:00:00.000+00:00"), ("blue", "2026-03-29T11:00:00.000+00:00")):
        for where in (audit, labels, events):
            monkeypatch.setattr(where, "now", lambda at=at: at)
        labels.apply(small.id, {image.id: store.get_image(small.id, image.id).label_seq}, label, "eve")
    assert [e.after["label"] for e in audit.search(Which(by="eve"), 1, 2)[0]] == ["blue", "green"]
    assert [e.label for e in labels.history(small.id, image.id)] == ["blue", "green", "red"]
    assert store.get_image(small.id, image.id).label == "blue" and audit.verify().problem == ""


def test_who_acts_is_recorded_where_the_act_names_nobody(home: Path) -> None:
    with roles.acting(roles.Person("Ada", "trainer")):
        store.create_dataset("hers")
    assert entries()[-1].by == "Ada"


@pytest.mark.databases("sqlite", "postgresql")
def test_an_act_whose_transaction_fails_leaves_no_entry(home: Path, small: Dataset) -> None:
    before = seqs()
    with pytest.raises(Conflict):
        store.create_dataset(small.name)
    with pytest.raises(ZeroDivisionError), schema.writing() as c:
        audit.record(c, "label", on={"dataset": small.id})
        1 / 0  # noqa: B018
    with pytest.raises(OSError, match="full"), audit.beside("run.stop", on={"run": "x"}):
        raise OSError("the disk is full")
    assert seqs() == before and audit.verify().problem == ""


# The database refuses


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET by = 'nobody'",
        "DELETE FROM audit WHERE seq = 2",
        "UPDATE audit_images SET image_id = 'x'",
        "DELETE FROM audit_images",
        "INSERT OR REPLACE INTO audit SELECT seq, at, 'nobody', kind, entry, hash FROM audit WHERE seq = 2",
        "REPLACE INTO audit_images SELECT * FROM audit_images",
        "INSERT INTO audit SELECT seq + 100, at, by, kind, entry, hash FROM audit WHERE seq = 2",
    ],
)
def test_the_database_itself_refuses_to_change_or_remove_an_entry(home: Path, small: Dataset, statement: str) -> None:
    forget()
    connection = sqlite3.connect(home / "loupe.db")
    with pytest.raises(sqlite3.IntegrityError, match="audit"):
        connection.execute(statement)
    connection.close()


@pytest.mark.databases("postgresql")
def test_postgresql_refuses_too_and_keeps_the_chain(home: Path, small: Dataset) -> None:
    assert audit.verify().problem == "" and audit.search(audit.Which(), 1, 1)[1] > 2
    for statement in (
        "UPDATE audit SET by = 'nobody'",
        "DELETE FROM audit WHERE seq = 2",
        "TRUNCATE audit CASCADE",
        "DELETE FROM audit_images",
        "INSERT INTO audit SELECT seq + 100, at, by, kind, entry, hash FROM audit WHERE seq = 2",
    ):
        with pytest.raises(sa.exc.DBAPIError, match="audit"), schema.writing() as c:
            c.execute(sa.text(statement))
    assert audit.verify().problem == ""


# What was changed all the same is found


def tamper(home: Path, *statements: str) -> audit.Verdict:
    """The verdict on a copy of the database in which somebody took the triggers away."""
    forget()
    with sqlite3.connect(home / "loupe.db") as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return audit.verify()


def rewritten(home: Path, seq: int, by: str, onwards: bool = False) -> None:
    """Somebody else's name in an entry that fits its SHA-256 again; onwards: and every later one follows it again."""
    forget()
    with sqlite3.connect(home / "loupe.db") as connection:
        connection.execute("DROP TRIGGER audit_no_update")
        previous = ""
        for n, entry in connection.execute("SELECT seq, entry FROM audit WHERE seq >= ? ORDER BY seq", [seq]).fetchall():
            values = json.loads(entry) | ({"by": by} if n == seq else {"previous": previous})
            text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            previous = hashlib.sha256(text.encode()).hexdigest()
            connection.execute("UPDATE audit SET by = ?, entry = ?, hash = ? WHERE seq = ?", [values["by"], text, previous, n])
            if not onwards:
                break
    connection.close()


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        ("UPDATE audit SET entry = replace(entry, 'tester', 'nobody') WHERE seq = 3", 3),
        ("UPDATE audit SET by = 'nobody' WHERE seq = 2", 2),
        ("UPDATE audit SET at = '2020-01-01' WHERE seq = 2", 2),
        ("UPDATE audit SET entry = 'no JSON' WHERE seq = 2", 2),
        ("DELETE FROM audit WHERE seq = 2", 2),
        ("DELETE FROM audit WHERE seq = 1", 1),
        ("DELETE FROM audit_images WHERE seq = 3 AND image_id = (SELECT min(image_id) FROM audit_images WHERE seq = 3)", 3),
    ],
)
def test_a_changed_or_missing_entry_is_named(home: Path, small: Dataset, statement: str, broken: int) -> None:
    for name in ("four", "five"):
        store.create_dataset(name)
    assert audit.verify().words == "All 5 entries are as they were written, and no head was written outside yet."
    found = tamper(home, statement)
    assert found.broken == broken and f"Entry {broken}" in found.problem


def test_an_entry_whose_sha_256_was_made_anew_is_named_by_the_next_one(home: Path, small: Dataset) -> None:
    store.create_dataset("four")
    rewritten(home, 2, "nobody")
    found = audit.verify()
    assert found.broken == 2 and "Entry 2 was changed or replaced: entry 3" in found.problem


def test_a_copy_of_the_database_with_one_changed_entry_is_caught_and_named_on_the_command_line(
    home: Path, small: Dataset, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert command("audit", "verify").returncode == 0
    forget()
    shutil.copy(home / "loupe.db", tmp_path / "copy.db")
    with sqlite3.connect(tmp_path / "copy.db") as connection:
        connection.execute("DROP TRIGGER audit_no_update")
        connection.execute("UPDATE audit SET entry = replace(entry, 'tester', 'nobody') WHERE seq = 3")
    connection.close()
    monkeypatch.setenv("LOUPE_DATABASE_URL", f"sqlite:///{tmp_path / 'copy.db'}")
    forget()
    done = command("audit", "verify")
    assert done.returncode == 1 and json.loads(done.stdout)["broken"] == 3
    assert "Entry 3 was changed: it does not fit its SHA-256." in done.stderr


# The head outside


def test_a_chain_that_was_rewritten_as_a_whole_is_caught_by_the_head_outside(home: Path, small: Dataset) -> None:
    written = audit.write_head()
    assert written is not None and written.seq == 3 and audit.write_head() is None  # once a day
    assert "the head outside the database agrees" in audit.verify().words
    rewritten(home, 2, "nobody", onwards=True)
    found = audit.verify()
    assert found.broken == 3 and "the audit was rewritten" in found.problem
    with pytest.raises(AppError, match="does not go on from entry 3"):
        audit.write_head()
    assert len(audit.heads()) == 1


def test_a_chain_that_was_cut_off_is_caught_by_the_head_outside(home: Path, small: Dataset) -> None:
    audit.write_head()
    found = tamper(home, "DELETE FROM audit_images WHERE seq = 3", "DELETE FROM audit WHERE seq = 3")
    assert found.broken == 3 and "ends before entry 3" in found.problem


def test_the_head_is_written_to_the_folder_of_the_setting_and_on_another_day_again(
    home: Path, small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOUPE_AUDIT_HEADS", str(tmp_path / "elsewhere"))
    settings.cache_clear()
    audit.write_head()
    store.create_dataset("four")
    monkeypatch.setattr(audit, "now", lambda: "2999-01-01T00:00:00+00:00")
    audit.write_head()
    assert [one.seq for one in audit.heads()] == [3, 4] and (tmp_path / "elsewhere" / audit.HEADS).exists()
    assert "the 2 heads outside the database agree" in audit.verify().words


# Searching and taking out


@pytest.mark.databases("sqlite", "postgresql")
def test_entries_are_found_by_person_kind_time_and_image(home: Path, small: Dataset) -> None:
    image = store.all_images(small.id)[0]
    labels.apply(small.id, {image.id: image.label_seq}, "green", "eve")
    made, added, brought, given = entries()
    assert [e.kind for e in (made, added, brought, given)] == ["dataset.create", "class.add", "import", "label"]
    assert entries(Which(by="eve")) == [given] and entries(Which(kind="import")) == [brought]
    assert entries(Which(image=image.id)) == [brought, given] and entries(Which(image=image.id, by="eve")) == [given]
    assert entries(Which(since=given.at)) == [given] and entries(Which(until=given.at)) == [made, added, brought]
    assert audit.search(Which(), 2, 3) == ([made], 4)


@pytest.mark.databases("sqlite", "postgresql")
def test_the_export_holds_every_entry_as_it_is_hashed_and_ends_with_the_head(
    home: Path, small: Dataset, command: Command, tmp_path: Path
) -> None:
    assert command("audit", "export", str(tmp_path / "audit.jsonl")).returncode == 0
    *lines, last = (tmp_path / "audit.jsonl").read_bytes().splitlines()
    previous = ""
    for line in lines:
        assert json.loads(line)["previous"] == previous
        previous = hashlib.sha256(line).hexdigest()
    assert json.loads(last)["head"] | {"at": ""} == {"seq": 3, "hash": previous, "at": ""}


def test_only_an_admin_reads_verifies_and_takes_out_the_audit(home: Path, tmp_path: Path) -> None:
    with roles.acting(roles.Person("Ada", "trainer")):
        for act in (lambda: audit.search(Which(), 1, 1), audit.verify, lambda: audit.export(tmp_path / "out")):
            with pytest.raises(Forbidden, match="Ada may not give roles and tokens, read the audit"):
                act()  # type: ignore[operator]


@pytest.mark.databases("sqlite", "postgresql")
def test_the_chain_has_one_writer_on_each_database_and_no_other_way_in(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "_turn", nullcontext())  # as if each were a process of its own

    def write(who: int) -> None:
        for i in range(10):
            audit.note("label", on={"dataset": i}, by=f"person {who}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    found = audit.verify()
    assert (found.entries, found.problem) == (40, "")
    with schema.reading() as c, pytest.raises(AssertionError):
        audit.record(c, "label", on={}, by="eve")
