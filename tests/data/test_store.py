"""Labels are events that nobody loses or overwrites, and snapshots are the same whenever they are taken."""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from core.data import claims, classes, dataset, events, labels, schema, store
from core.data.store import Filter
from core.errors import Conflict, Invalid, NotFound
from core.settings import settings
from core.types import Dataset, Image, Snapshot, Split, now

pytestmark = pytest.mark.databases("sqlite", "postgresql")

ROOT = Path(__file__).parents[2]


def image(dataset_id: int, number: int, name: str | None = None, split: Split = "train") -> Image:
    return Image(f"{number:016x}", dataset_id, "png", 8, 8, 1, 100, split, f"{number}.png", now(), 0, 10, name)


def dataset_with(name: str, *rows: tuple[str | None, Split, int]) -> Dataset:
    """A dataset with so many images of each (label, split)."""
    made = store.create_dataset(name)
    new = [image(made.id, 0, text, split) for text, split, n in rows for _ in range(n)]
    labels.add_images(made.id, [replace(i, id=f"{k:016x}") for k, i in enumerate(new)], "tester", "import")
    return store.get_dataset(made.id)


def current(made: Dataset, image_id: str) -> tuple[str | None, int]:
    found = store.get_image(made.id, image_id)
    return found.label, found.label_seq


@pytest.fixture
def cats(home: Path) -> Dataset:
    return dataset_with("cats", ("cat", "train", 5), ("dog", "train", 5), (None, "train", 5))


# The database


@pytest.mark.databases("sqlite")
def test_images_are_looked_up_by_their_ids_and_not_through_the_dataset(cats: Dataset) -> None:
    ids, plans = [f"{k:016x}" for k in (1, 7, 12)], []

    def explain(c: sa.Connection, cursor: sqlite3.Cursor, statement: str, given: tuple[object, ...], *_: object) -> None:
        if statement.startswith("SELECT") and "images" in statement:
            plans.append(" ".join(row[3] for row in cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", given)))

    sa.event.listen(schema.engine(), "before_cursor_execute", explain)
    try:
        assert store.known_images(cats.id, ids) == {ids[0]: "cat", ids[1]: "dog", ids[2]: None}
        assert store.splits(cats.id, ids) == dict.fromkeys(ids, "train") and len(store.get_images(cats.id, ids)) == 3
        assert claims.deal(cats.id, "ann", ids, 3) == ids[2:]
        wants = (Filter(), Filter(labelled=True), Filter(labelled=False), Filter(label="dog", split="train"), Filter(text="0.PNG"))
        found = [sorted(int(i, 16) for i in store.among(cats.id, ids, want)) for want in wants]
        assert found == [[1, 7, 12], [1, 7], [12], [7], [1, 7, 12]] and not store.among(cats.id, ids, Filter(flagged=True))
    finally:
        sa.event.remove(schema.engine(), "before_cursor_execute", explain)
    assert len(plans) == 10 and all("(dataset_id=? AND id=?)" in plan for plan in plans), plans


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(
    "want",
    [Filter(), Filter(label="cat"), Filter(split="test"), Filter(labelled=False), Filter(flagged=True), Filter(text="a", labelled=True)],
    ids=str,
)
def test_no_filter_sorts_rows_and_no_count_reads_them(home: Path, want: Filter) -> None:
    query = sa.select(sa.func.count()).select_from(schema.images).where(*want.where(1))
    page = sa.select(schema.images).where(*want.where(1)).order_by(schema.images.c.added_at, schema.images.c.id).limit(60).offset(600)
    with schema.reading() as c:
        plans = [
            " ".join(row[3] for row in c.exec_driver_sql(f"EXPLAIN QUERY PLAN {q.compile(c, compile_kwargs={'literal_binds': True})}"))
            for q in (query, page)
        ]
    assert "COVERING INDEX" in plans[0] and plans[1].startswith("SEARCH images USING INDEX by_") and "B-TREE" not in plans[1]


@pytest.mark.databases("sqlite")
def test_sqlite_writes_to_the_disk_and_uses_wal_only_where_it_is_safe(home: Path, synced: None) -> None:
    version = schema.library().sqlite_version_info
    affected = (3, 7, 0) <= version < (3, 51, 3)
    repaired = version[:2] in ((3, 44), (3, 50)) and schema.wal_is_safe(version)
    with schema.reading() as c:
        pragma = {
            name: c.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    expected = "delete" if affected and not repaired else "wal"
    assert pragma == {"journal_mode": expected, "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(
    ("own", "other", "journal"),
    [
        ((3, 40, 1), (3, 53, 4), "wal"),
        ((3, 53, 0), (3, 53, 4), "wal"),
        ((3, 40, 1), (3, 51, 1), "delete"),
        ((3, 40, 1), None, "delete"),
        ((3, 44, 6), None, "wal"),
    ],
)
def test_pysqlite3_is_used_only_where_pythons_own_sqlite_is_not_safe_in_wal_and_it_is(
    home: Path, monkeypatch: pytest.MonkeyPatch, own: tuple[int, ...], other: tuple[int, ...] | None, journal: str
) -> None:
    """With Python's library under both names, of pretended versions: their numbers decide, and the journal follows."""
    fake = {name: vars(sqlite3) | {"sqlite_version_info": version} for name, version in (("own", own), ("other", other))}
    monkeypatch.setattr(schema, "sqlite3", SimpleNamespace(**fake["own"]))
    package = SimpleNamespace(dbapi2=SimpleNamespace(**fake["other"])) if other else None
    monkeypatch.setitem(sys.modules, "pysqlite3", package)
    schema.engine.cache_clear()
    with schema.reading() as c:
        assert c.exec_driver_sql("PRAGMA journal_mode").scalar() == journal
    used = schema.engine().dialect.dbapi
    assert used is not None and used.sqlite_version_info == (other if other and journal == "wal" and own == (3, 40, 1) else own)  # type: ignore[attr-defined]


def test_a_transaction_that_fails_leaves_nothing(cats: Dataset) -> None:
    before = labels.history(cats.id, f"{0:016x}")
    with pytest.raises(RuntimeError), schema.writing() as c:
        events.append(c, cats.id, [events.Change(f"{0:016x}", "dog", "cat")], "Ann", "manual")
        raise RuntimeError
    assert labels.history(cats.id, f"{0:016x}") == before


def test_of_many_images_those_that_are_gone_are_named_and_the_others_are_labelled(cats: Dataset) -> None:
    one = f"{0:016x}"
    done = labels.apply(cats.id, {one: current(cats, one)[1], "f" * 16: 0}, "dog", "Ann")
    assert done.missing == ("f" * 16,) and list(done.seqs) == [one] and current(cats, one)[0] == "dog"
    with pytest.raises(NotFound, match="not in this dataset any more"):
        labels.apply(cats.id, {"f" * 16: 0}, "dog", "Ann")


# Labels


def test_a_label_is_an_event_that_says_who_what_and_what_it_was_before(cats: Dataset) -> None:
    one = f"{0:016x}"
    done = labels.apply(cats.id, {one: current(cats, one)[1]}, "dog", "Ann")
    last = labels.history(cats.id, one)[0]
    assert (last.seq, last.label, last.previous, last.by, last.source) == (done.seqs[one], "dog", "cat", "Ann", "manual")
    assert current(cats, one) == ("dog", done.seqs[one])


def test_a_label_given_on_an_old_view_is_refused_and_overwrites_nothing(cats: Dataset) -> None:
    one, other = f"{0:016x}", f"{1:016x}"
    seen = {i: current(cats, i)[1] for i in (one, other)}
    first = labels.apply(cats.id, {one: seen[one]}, "dog", "Ann")
    second = labels.apply(cats.id, seen, None, "Bob")
    assert list(second.seqs) == [other]
    refused = second.refused[one]
    assert refused is not None and (refused.label, refused.by, refused.seq) == ("dog", "Ann", first.seqs[one])
    assert current(cats, one) == ("dog", first.seqs[one])
    assert [e.by for e in labels.history(cats.id, one)] == ["Ann", "tester"]


def test_the_same_act_sent_twice_is_stored_once_and_answered_alike(cats: Dataset) -> None:
    one = f"{0:016x}"
    seen = {one: current(cats, one)[1]}
    first = labels.apply(cats.id, seen, "dog", "Ann", operation="op-1")
    again = labels.apply(cats.id, seen, "dog", "Ann", operation="op-1")
    assert again == first and not again.refused
    assert [e.label for e in labels.history(cats.id, one)] == ["dog", "cat"]


def test_taking_a_label_back_is_one_more_event(cats: Dataset) -> None:
    one = f"{0:016x}"
    labels.apply(cats.id, {one: current(cats, one)[1]}, None, "Ann")
    assert [(e.label, e.previous) for e in labels.history(cats.id, one)] == [(None, "cat"), ("cat", None)]
    assert store.count(cats.id, store.Filter(labelled=False)) == 6


def test_a_class_that_does_not_exist_is_refused(cats: Dataset) -> None:
    one = f"{0:016x}"
    with pytest.raises(NotFound, match="“horse” is not a class"):
        labels.apply(cats.id, {one: current(cats, one)[1]}, "horse", "Ann")
    assert current(cats, one)[0] == "cat"


def test_labelling_nothing_or_too_much_at_once_is_refused(cats: Dataset) -> None:
    with pytest.raises(Invalid, match="No image"):
        labels.apply(cats.id, {}, "cat", "Ann")
    with pytest.raises(Invalid, match="5001"):
        labels.apply(cats.id, {f"{i:016x}": 0 for i in range(5001)}, "cat", "Ann")


def test_more_images_than_one_statement_can_name_are_labelled_in_one_act(home: Path) -> None:
    made = dataset_with("many", ("a", "train", 1200), ("b", "train", 1))
    seen = {i.id: i.label_seq for i in store.browse(made.id, store.Filter(label="a"), 0, 2000)}
    done = labels.apply(made.id, seen, "b", "Ann")
    assert len(done.seqs) == 1200 and not done.refused
    assert store.counts(made.id) == [("train", "b", 1201)]


def test_the_label_beside_an_image_is_always_that_of_its_last_event(cats: Dataset) -> None:
    rng = random.Random(3)
    ids = [f"{i:016x}" for i in range(15)]
    for step in range(60):
        some = rng.sample(ids, rng.randint(1, 6))
        stale = rng.random() < 0.3
        labels.apply(cats.id, {i: current(cats, i)[1] - stale for i in some}, rng.choice(["cat", "dog", None]), "Ann", f"op-{step}")
    for i in ids:
        events = labels.history(cats.id, i)
        assert current(cats, i) == ((events[0].label, events[0].seq) if events else (None, 0))
        assert [e.previous for e in events[:-1]] == [e.label for e in events[1:]]


WRITER = """
import json, sys, threading
from core.data import labels, store
from core.errors import AppError
dataset_id, process = int(sys.argv[1]), sys.argv[2]
lock, acknowledged = threading.Lock(), []
def write(by):
    done = number = 0
    while done < 50:
        one = f"{(number + len(by)) % 4:016x}"
        number += 1
        seen = store.get_image(dataset_id, one).label_seq
        result = labels.apply(dataset_id, {one: seen}, "cat" if number % 2 else "dog", by, f"{by}-{number}")
        if one in result.seqs:
            done += 1
            with lock:
                acknowledged.append([one, result.seqs[one], seen, by])
threads = [threading.Thread(target=write, args=(f"{process}{'-' * i}",)) for i in range(2)]
[t.start() for t in threads]
[t.join() for t in threads]
print(json.dumps(acknowledged))
"""


def test_four_writers_at_once_lose_no_acknowledged_edit_and_overwrite_none_they_have_not_seen(cats: Dataset) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(cats.id), name], cwd=ROOT, stdout=subprocess.PIPE, text=True) for name in "AB"
    ]
    acknowledged = [tuple(row) for w in writers for row in json.loads(w.communicate(timeout=60)[0])]
    assert all(w.returncode == 0 for w in writers)
    assert Counter(by for *_, by in acknowledged) == {"A": 50, "A-": 50, "B": 50, "B-": 50}
    stored = set()
    for number in range(4):
        events = labels.history(cats.id, f"{number:016x}")
        # The version a writer saw is the event just before its own: nobody's edit came in between unseen.
        stored |= {(e.image_id, e.seq, before.seq, e.by) for e, before in pairwise(events)}
        assert current(cats, f"{number:016x}") == (events[0].label, events[0].seq)
    assert stored == set(acknowledged)


# Datasets


def test_a_deleted_dataset_frees_its_name_and_comes_back_with_every_label(cats: Dataset) -> None:
    store.set_deleted(cats.id, True)
    assert store.find_dataset("cats") is None and [d.id for d in store.list_datasets(deleted=True)] == [cats.id]
    with pytest.raises(NotFound, match="was deleted"):
        labels.apply(cats.id, {f"{0:016x}": 1}, "dog", "Ann")
    other = store.create_dataset("cats")
    with pytest.raises(Conflict, match="Another dataset is called “cats”"):
        store.set_deleted(cats.id, False)
    store.set_deleted(other.id, True)
    store.set_deleted(cats.id, False)
    assert store.find_dataset("cats") == cats
    assert dataset.totals(cats.id) == (15, 10)


def test_two_datasets_cannot_have_one_name(cats: Dataset) -> None:
    with pytest.raises(Conflict, match="exists already"):
        store.create_dataset("cats")


def test_one_picture_in_two_datasets_has_a_label_in_each(cats: Dataset) -> None:
    other = dataset_with("others", ("x", "train", 1), ("y", "train", 1))
    one = f"{0:016x}"
    labels.apply(other.id, {one: current(other, one)[1]}, "y", "Ann")
    assert current(cats, one)[0] == "cat" and current(other, one)[0] == "y"
    assert len(labels.history(cats.id, one)) == 1


def test_images_are_found_by_label_split_text_and_page(home: Path) -> None:
    made = dataset_with("many", ("a", "train", 30), ("a", "test", 20), (None, "train", 10))
    assert store.count(made.id, store.Filter(label="a", split="test")) == 20
    assert store.count(made.id, store.Filter(labelled=False)) == 10
    one = replace(image(made.id, 999), source="50%_off.png")
    labels.add_images(made.id, [one], "tester", "import")
    assert [i.id for i in store.browse(made.id, store.Filter(text="%_O"), 0, 10)] == [one.id]
    assert store.among(made.id, [one.id, f"{1:016x}"], store.Filter(text="%_O", labelled=False)) == {one.id}
    pages = [[i.id for i in dataset.browse(made.id, store.Filter(), page, 25)[0]] for page in (1, 2, 3)]
    assert [len(p) for p in pages] == [25, 25, 11] and len({i for p in pages for i in p}) == 61
    assert Counter({(s, name): n for s, name, n in store.counts(made.id)}) == {("train", "a"): 30, ("test", "a"): 20, ("train", None): 11}


# Snapshots


def ids(snapshot: Snapshot, split: Split, name: str | None = None) -> set[str]:
    return {r.image_id for r in snapshot.rows if r.split == split and name in (None, r.label)}


def test_a_snapshot_takes_15_percent_of_each_class_for_validation_and_none_of_test(home: Path) -> None:
    made = dataset_with(
        "d", ("a", "train", 40), ("b", "train", 20), ("c", "train", 2), ("e", "train", 1), ("a", "test", 30), (None, "train", 9)
    )
    found = store.snapshot(made.id, 0)
    assert {c: len(ids(found, "validation", c)) for c in found.classes} == {"a": 6, "b": 3, "c": 1, "e": 0}
    assert {c: len(ids(found, "train", c)) for c in found.classes} == {"a": 34, "b": 17, "c": 1, "e": 1}
    assert ids(found, "test") == {i.id for i in store.browse(made.id, store.Filter(split="test"), 0, 100)}
    assert len(found.rows) == 93


def test_the_id_of_a_snapshot_is_that_of_its_rows_as_json_in_the_order_of_the_ids(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "AT_ONCE", 7)
    found = store.snapshot(dataset_with("made", ("cät", "train", 12), ("dog", "train", 8)).id, 0)
    listed = [(row.image_id, row.label, row.split) for row in sorted(found.rows)]
    assert listed == [(row.image_id, row.label, row.split) for row in found.rows]
    assert found.id == hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]


def test_a_snapshot_is_repeatable_and_its_id_names_its_content(home: Path) -> None:
    made = dataset_with("d", ("a", "train", 40), ("b", "train", 40))
    first = store.snapshot(made.id, 0)
    assert store.snapshot(made.id, 0) == first
    assert ids(store.snapshot(made.id, 1), "validation") != ids(first, "validation")
    twin = dataset_with("twin", ("a", "train", 40), ("b", "train", 40))
    assert store.snapshot(twin.id, 0).id == first.id
    one = first.rows[0].image_id
    done = labels.apply(made.id, {one: current(made, one)[1]}, "b", "Ann")
    assert store.snapshot(made.id, 0).id != first.id
    labels.apply(made.id, done.seqs, "a", "Ann")
    assert store.snapshot(made.id, 0).id == first.id


def test_new_images_hardly_move_the_validation_set(home: Path) -> None:
    made = dataset_with("d", ("a", "train", 100), ("b", "train", 100))
    before = ids(store.snapshot(made.id, 0), "validation")
    labels.add_images(made.id, [image(made.id, 10_000 + i, "a") for i in range(10)], "tester", "import")
    after = ids(store.snapshot(made.id, 0), "validation")
    assert len(before & after) >= len(before) - 4


def test_a_validation_split_that_came_with_the_images_is_kept(home: Path) -> None:
    made = dataset_with("d", ("a", "train", 40), ("b", "train", 40), ("a", "validation", 3), ("b", "test", 5))
    found = store.snapshot(made.id, 0)
    assert ids(found, "validation") == {i.id for i in store.browse(made.id, store.Filter(split="validation"), 0, 100)}
    assert len(ids(found, "train")) == 80 and len(ids(found, "test")) == 5


def test_classes_keep_their_order_and_those_without_an_image_are_left_out(home: Path) -> None:
    made = store.create_dataset("d")
    classes.ensure(made.id, ["zebra", "none of these", "ant"])
    labels.add_images(made.id, [image(made.id, 1, "ant"), image(made.id, 2, "zebra")], "tester", "import")
    assert store.snapshot(made.id, 0).classes == ("zebra", "ant")


@pytest.mark.databases("sqlite")
def test_the_database_lies_in_the_home(home: Path) -> None:
    store.create_dataset("d")
    assert settings().home == home.resolve() and (home / "loupe.db").is_file()


@pytest.mark.databases("sqlite")
def test_writers_of_one_process_wait_in_a_queue_and_none_sleeps_in_sqlite(cats: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no patience in SQLite a writer that met another one there would fail at once."""
    schema.engine.cache_clear()
    sa.event.listen(schema.engine(), "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=0"))
    schema.engine().dispose()

    def write(n: int) -> None:
        with schema.writing() as c:
            time.sleep(0.005)
            events.append(c, cats.id, [events.Change(f"{n % 10:016x}", "dog", "cat")], f"person {n}", "manual")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(24)))
    assert sum(len(labels.history(cats.id, f"{n:016x}")) for n in range(10)) >= 24
