"""Acts are taken back, flags stand beside labels, and nobody's label is lost or stored twice."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from core.data import claims, classes, dataset, history, labels, schema, store
from core.data.labels import Which
from core.data.store import Filter
from core.errors import Conflict, Invalid, NotFound
from core.types import Class, Dataset
from tests.data.acts import counts, give, ids, live, pause, seen, trail, undo

pytestmark = pytest.mark.databases("sqlite", "postgresql")

# Taking back


def test_one_act_is_taken_back_and_the_taking_back_too(small: Dataset) -> None:
    some = ids(small, "red")[:3] + ids(small, "blue")[:2]
    give(small, some, "green")
    act = labels.acts(small.id, Which(), 1)[0][0]
    assert (act.by, act.source, act.label, act.images, act.mixed, act.standing) == ("Ann", "manual", "green", 5, False, 5)
    assert labels.images_of(small.id, act, 10) == some and labels.images_of(small.id, act, 2) == some[:2]
    assert undo(small, labels.which(act)) == (5, 0)
    assert counts(small) == {"blue": 8, "green": 8, "red": 8}
    back, taken = labels.acts(small.id, Which(), 1)[0][:2]
    assert taken == replace(act, standing=0)
    assert (back.by, back.source, back.images, back.mixed) == ("Eve", "undo", 5, True)
    assert undo(small, labels.which(back)) == (5, 0)
    assert counts(small) == {"blue": 6, "green": 13, "red": 5}


def test_taking_back_twice_with_one_operation_is_done_once(small: Dataset) -> None:
    some = ids(small, "red")[:3]
    give(small, some, "green")
    which = labels.which(labels.acts(small.id, Which(), 1)[0][0])
    assert [labels.undo(small.id, which, "Eve", "click").images for _ in range(2)] == [3, 3]
    assert [len(labels.history(small.id, i)) for i in some] == [3, 3, 3]
    assert undo(small, which) == (0, 3)  # another click later finds nothing left


def test_what_others_changed_since_stays_and_is_counted(small: Dataset) -> None:
    reds = ids(small, "red")
    give(small, reds[:1], "blue")
    since = pause()
    give(small, reds[:4], "green")
    give(small, reds[1:2], "blue")
    give(small, reds[2:3], "blue", "Bob")
    give(small, reds[5:6], "blue", "Bob")
    until = pause()
    give(small, reds[6:7], "green")
    assert undo(small, Which(by="Ann", since=since, until=until)) == (3, 1)
    found = store.current_labels(small.id)
    assert [found[i] for i in reds] == ["blue", "red", "blue", "red", "red", "blue", "green", "red"]


def test_after_a_rename_taking_back_gives_todays_name(small: Dataset) -> None:
    reds = ids(small, "red")
    give(small, reds[:2], "green")
    act = labels.acts(small.id, Which(), 1)[0][0]
    classes.rename(small.id, "red", "crimson", "Bob")
    classes.rename(small.id, "green", "leaf", "Bob")
    assert undo(small, labels.which(act)) == (2, 0)
    assert counts(small) == {"blue": 8, "leaf": 8, "crimson": 8}
    event = labels.history(small.id, reds[0])[0]
    assert (event.label, event.previous) == ("crimson", "leaf")


def test_taking_back_an_import_takes_the_labels_and_leaves_the_images(small: Dataset) -> None:
    found, total = labels.acts(small.id, Which(), 1)
    assert total == 1 and (found[0].source, found[0].images, found[0].mixed) == ("import", 24, True)
    assert undo(small, Which(by="tester")) == (24, 0)
    assert dataset.totals(small.id) == (24, 0)


def test_acts_are_paged_newest_first_and_filtered_by_person_and_time(small: Dataset) -> None:
    between = []
    for i, image_id in enumerate(ids(small, "red")[:5]):
        give(small, [image_id], "green", "Ann" if i % 2 else "Bob")
        between.append(pause())
    first, total = labels.acts(small.id, Which(), 1, 4)
    second, _ = labels.acts(small.id, Which(), 2, 4)
    assert total == 6 and [a.by for a in first + second] == ["Bob", "Ann", "Bob", "Ann", "Bob", "tester"]
    assert labels.acts(small.id, Which(by="Ann"), 1)[1] == 2
    assert labels.acts(small.id, Which(since=between[1], until=between[3]), 1)[1] == 2
    assert history.people(small.id) == ["Ann", "Bob", "tester"]


# Flags


def test_a_flag_is_set_taken_away_undone_and_stands_in_the_history(small: Dataset) -> None:
    reds = ids(small, "red")
    labels.flag(small.id, seen(small, reds[:2]), True, "Ann")
    assert labels.flagged(small.id) == {"red": 2} and store.count(small.id, store.Filter(flagged=True)) == 2
    event = trail(small, reds[0])[0]
    assert (event.source, event.label, event.by) == ("flag", "red", "Ann")
    labels.flag(small.id, seen(small, reds[:1]), False, "Bob")
    assert labels.flagged(small.id) == {"red": 1}
    assert undo(small, Which(by="Bob")) == (1, 0)
    assert labels.flagged(small.id) == {"red": 2}
    assert undo(small, Which(by="Ann")) == (1, 1)  # the other one was changed since
    assert labels.flagged(small.id) == {"red": 1} and counts(small)["red"] == 8


def test_taking_back_a_second_flag_leaves_the_first(small: Dataset) -> None:
    one = ids(small, "red")[:1]
    labels.flag(small.id, seen(small, one), True, "Ann")
    labels.flag(small.id, seen(small, one), True, "Bob")
    assert undo(small, Which(by="Bob")) == (0, 0)  # it changed nothing
    assert labels.flagged(small.id) == {"red": 1}


def test_a_label_is_taken_back_although_somebody_has_flagged_it_since(small: Dataset) -> None:
    three = ids(small, "red")[:3]
    give(small, three, "blue", "Bob")
    labels.flag(small.id, seen(small, three[:1]), True, "Anna")
    assert undo(small, Which(by="Bob")) == (3, 0)
    assert {i.label for i in store.get_images(small.id, three)} == {"red"} and labels.flagged(small.id) == {"red": 1}
    assert undo(small, Which(by="Bob")) == (0, 3)  # by now it is what Eve has given back


def test_a_class_that_is_brought_back_comes_back_to_flagged_images_too(small: Dataset) -> None:
    red = ids(small, "red")
    classes.retire(small.id, "red", "Ann")
    labels.flag(small.id, seen(small, red[:1]), True, "Bob")
    assert classes.restorable(small.id) == {"red": len(red)} and classes.restore(small.id, "red", "Ann") == len(red)


def test_an_operation_cannot_pretend_to_be_an_imported_event(small: Dataset) -> None:
    one = ids(small, "red")[:1]
    with pytest.raises(Invalid):
        labels.apply(small.id, seen(small, one), "blue", "Eve", "past x")


def test_a_label_leaves_the_flag_and_a_flag_on_an_old_view_is_refused(small: Dataset) -> None:
    one = ids(small, "red")[:1]
    old = seen(small, one)
    labels.flag(small.id, old, True, "Ann")
    give(small, one, "blue")
    assert labels.flagged(small.id) == {"blue": 1}
    refused = labels.flag(small.id, old, False, "Bob").refused[one[0]]
    assert refused.flagged and refused.by == "Ann"


# Going back


def test_an_image_goes_back_to_before_any_of_its_events_in_todays_words(small: Dataset) -> None:
    one = ids(small, "red")[0]
    give(small, [one], "blue")
    labels.flag(small.id, seen(small, [one]), True, "Ann")
    give(small, [one], "green")
    classes.rename(small.id, "red", "crimson", "Bob")
    to_green, flag, to_blue, first = trail(small, one)
    for event, expected in ((to_green, ("blue", True)), (flag, ("blue", False)), (to_blue, ("crimson", False)), (first, (None, False))):
        image = store.get_image(small.id, one)
        labels.go_back(small.id, image, event, "Eve")
        labels.go_back(small.id, image, event, "Eve")  # a second click on the same page
        image = store.get_image(small.id, one)
        assert (image.label, image.flagged) == expected
        assert not labels.go_back(small.id, image, event, "Eve").seqs  # nothing left to do
    assert len(trail(small, one)) == 8


def test_going_back_over_a_merge_offers_the_class_again(small: Dataset) -> None:
    one = ids(small, "green")[0]
    classes.merge(small.id, "green", "blue", "Bob")
    labels.go_back(small.id, store.get_image(small.id, one), trail(small, one)[0], "Eve")
    assert ids(small, "green") == [one] and live(small) == ("blue", "green", "red")


def test_going_back_on_an_old_view_is_a_conflict_that_says_who(small: Dataset) -> None:
    one = ids(small, "red")[0]
    image, event = store.get_image(small.id, one), trail(small, one)[0]
    give(small, [one], "blue", "Bob")
    with pytest.raises(Conflict, match="Bob has changed this image since"):
        labels.go_back(small.id, image, event, "Eve")
    with pytest.raises(NotFound, match="not in the image's history"):
        labels.go_back(small.id, image, replace(event, seq=10**6), "Eve")
    assert store.get_image(small.id, one).label == "blue"


# Several people


def test_twenty_people_at_once_lose_no_label_and_store_none_twice(small: Dataset) -> None:
    every = [i.id for i in store.all_images(small.id)]
    before = len(labels.all_events(small.id))
    done: list[tuple[str, int]] = []
    lock = threading.Lock()

    def work(number: int) -> None:
        for step in range(3):
            one = every[(number + step) % len(every)]
            act = f"{number}-{step}"
            result = labels.apply(small.id, seen(small, [one]), "red" if step % 2 else "blue", f"P{number}", act)
            again = labels.apply(small.id, seen(small, [one]), "green", f"P{number}", act) if result.seqs else result
            assert again.seqs == result.seqs
            with lock:
                done.extend(result.seqs.items())

    threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    events = labels.all_events(small.id)[before:]
    assert {(e.image_id, e.seq) for e in events} == set(done) and len(events) == len(done) >= 24
    last = {e.image_id: (e.label, e.seq) for e in labels.all_events(small.id)}
    assert {i.id: (i.label, i.label_seq) for i in store.all_images(small.id)} == last


@pytest.mark.databases("sqlite")
def test_a_label_costs_as_much_among_thousands_of_labels_as_among_few(small: Dataset) -> None:
    steps = 0  # of SQLite's machine, by tens

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    def counted(c: sa.Connection, cursor: sqlite3.Cursor, *_: object) -> None:
        cursor.connection.set_progress_handler(count, 10)

    def cost() -> int:
        nonlocal steps
        image = store.browse(small.id, Filter(), 0, 1)[0]
        steps = 0
        sa.event.listen(schema.engine(), "before_cursor_execute", counted)
        try:
            labels.apply(small.id, {image.id: image.label_seq}, "red" if image.label == "blue" else "blue", "ann")
        finally:
            sa.event.remove(schema.engine(), "before_cursor_execute", counted)
        return steps

    few = cost()
    more = [replace(store.browse(small.id, Filter(), 0, 1)[0], id=f"{k:016x}", label="red") for k in range(3000)]
    labels.add_images(small.id, more, "ann", "import")
    assert few and cost() < few + 100  # which is 1,500 if all labels are read


def test_the_feed_tells_what_changed_after_a_seq_oldest_first(small: Dataset) -> None:
    newest, nothing = labels.changes(small.id, -1)
    assert nothing == [] and labels.changes(small.id, newest) == (newest, [])
    reds = ids(small, "red")
    give(small, reds[:2], "blue")
    labels.flag(small.id, seen(small, reds[2:3]), True, "Bob")
    give(small, reds[:1], "green")
    last, found = labels.changes(small.id, newest)
    assert [(c.id, c.label, c.by, c.flagged) for c in found] == [
        (reds[1], "blue", "Ann", False),
        (reds[2], "red", "Bob", True),
        (reds[0], "green", "Ann", False),
    ]
    assert last == found[-1].seq and [c.seq for c in found] == sorted(c.seq for c in found)
    assert [c.id for c in labels.changes(small.id, newest, 2)[1]] == [reds[1], reds[2]]
    assert labels.changes(small.id, found[1].seq)[1] == found[2:]


# A database of the version before

OLD = """
CREATE TABLE datasets (id INTEGER NOT NULL PRIMARY KEY, name VARCHAR NOT NULL, created_at VARCHAR NOT NULL,
  splits_given BOOLEAN NOT NULL, deleted_at VARCHAR);
CREATE UNIQUE INDEX live_name ON datasets (name) WHERE deleted_at IS NULL;
CREATE TABLE classes (dataset_id INTEGER NOT NULL, name VARCHAR NOT NULL, position INTEGER NOT NULL,
  PRIMARY KEY (dataset_id, name), FOREIGN KEY(dataset_id) REFERENCES datasets (id));
CREATE TABLE images (dataset_id INTEGER NOT NULL, id VARCHAR(16) NOT NULL, ext VARCHAR NOT NULL, width INTEGER NOT NULL,
  height INTEGER NOT NULL, channels INTEGER NOT NULL, size_bytes INTEGER NOT NULL, split VARCHAR NOT NULL, source VARCHAR NOT NULL,
  added_at VARCHAR NOT NULL, thumb_offset BIGINT NOT NULL, thumb_size INTEGER NOT NULL, label VARCHAR, label_seq INTEGER NOT NULL,
  PRIMARY KEY (dataset_id, id), FOREIGN KEY(dataset_id) REFERENCES datasets (id));
CREATE TABLE label_events (seq INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, dataset_id INTEGER NOT NULL, image_id VARCHAR(16) NOT NULL,
  label VARCHAR, source VARCHAR NOT NULL, by VARCHAR NOT NULL, at VARCHAR NOT NULL, note VARCHAR NOT NULL, previous VARCHAR,
  operation VARCHAR, UNIQUE (dataset_id, image_id, operation));
INSERT INTO datasets VALUES (1, 'old', '2025-01-01T00:00:00.000+00:00', 0, NULL);
INSERT INTO classes VALUES (1, 'cat', 0), (1, 'dog', 1);
INSERT INTO images VALUES (1, 'aaaaaaaaaaaaaaaa', 'png', 8, 8, 1, 99, 'train', 'a.png', '2025-01-01T00:00:00.000+00:00', 0, 9, 'cat', 1);
INSERT INTO images VALUES (1, 'bbbbbbbbbbbbbbbb', 'png', 8, 8, 1, 99, 'train', 'b.png', '2025-01-01T00:00:00.000+00:00', 9, 9, NULL, 0);
INSERT INTO label_events VALUES (1, 1, 'aaaaaaaaaaaaaaaa', 'cat', 'import', 'Ann', '2025-01-01T00:00:00.000+00:00', '', NULL, NULL);
"""


@pytest.mark.databases("sqlite")
def test_a_database_of_the_version_before_opens_with_every_label_and_can_do_what_is_new(home: Path) -> None:
    (home / "loupe.db").unlink()  # today's
    with sqlite3.connect(home / "loupe.db") as old:
        old.executescript(OLD)
    found = store.get_dataset(1)
    assert found.classes == ("cat", "dog") and classes.of(1) == [Class("cat"), Class("dog")]
    a, b = store.all_images(1)
    assert (a.label, a.label_seq, a.flagged, b.label) == ("cat", 1, False, None)
    labels.flag(1, {a.id: 1}, True, "Bob")
    classes.describe(1, "cat", "meows")
    classes.merge(1, "cat", "dog", "Bob")
    assert [e.label for e in labels.history(1, a.id)] == ["dog", "cat", "cat"]
    assert undo(found, Which(by="Bob")) == (1, 0)
    assert store.get_image(1, a.id).label == "cat" and not store.get_image(1, a.id).flagged
    assert claims.deal(1, "s", [a.id, b.id], 2) == [b.id]  # only what has no label
