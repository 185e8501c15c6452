"""Classes are renamed, merged, retired and brought back without losing a label, acts are taken back, work is dealt out once."""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from core import names
from core.data import claims, classes, dataset, labels, store
from core.data.labels import Which
from core.errors import Conflict, Invalid, NotFound
from core.types import Class, Dataset, LabelEvent, now

numbers = itertools.count()


def ids(made: Dataset, name: str | None) -> list[str]:
    want = store.Filter(label=name) if name is not None else store.Filter(labelled=False)
    return [i.id for i in store.browse(made.id, want, 0, 1000)]


def seen(made: Dataset, chosen: list[str]) -> dict[str, int]:
    return {i.id: i.label_seq for i in store.get_images(made.id, chosen)}


def give(made: Dataset, chosen: list[str], name: str | None, by: str = "Ann") -> None:
    done = labels.apply(made.id, seen(made, chosen), name, by)
    assert len(done.seqs) == len(chosen)


def undo(made: Dataset, which: Which, by: str = "Eve") -> tuple[int, int]:
    """What undo says, after a look that it does what it said it would."""
    said = labels.count_undo(made.id, which)
    done = labels.undo(made.id, which, by, f"undo-{next(numbers)}")
    assert done == said
    return done.images, done.stay


def live(made: Dataset) -> tuple[str, ...]:
    return store.get_dataset(made.id).classes


def find(made: Dataset, name: str) -> Class:
    return next(c for c in classes.of(made.id) if c.name == name)


def trail(made: Dataset, image_id: str) -> list[LabelEvent]:
    return labels.history(made.id, image_id)


def words(made: Dataset, image_id: str) -> list[str | None]:
    return [e.label for e in trail(made, image_id)]


def counts(made: Dataset) -> dict[str | None, int]:
    return dict(Counter(store.current_labels(made.id).values()))


def pause() -> str:
    """Lets the clock tick, so that what comes next is another moment; returns the time between."""
    time.sleep(0.004)
    between = now()
    time.sleep(0.004)
    return between


# Classes


def test_a_renamed_class_keeps_its_images_place_guideline_and_examples_and_history_keeps_the_words(small: Dataset) -> None:
    one = ids(small, "green")[0]
    classes.describe(small.id, "green", "  Like grass.\nNot like the sea. ")
    classes.set_example(small.id, "green", one, True)
    assert classes.rename(small.id, "green", " leaf ", "Ann") == "leaf"
    assert live(small) == ("blue", "leaf", "red") and counts(small) == {"blue": 8, "leaf": 8, "red": 8}
    assert find(small, "leaf") == Class("leaf", "Like grass.\nNot like the sea.", None, (one,), ())
    assert words(small, one) == ["green"]


@pytest.mark.parametrize("taken", ["red", "RED", "red "])
def test_a_class_cannot_take_the_name_of_another_and_nothing_changes(small: Dataset, taken: str) -> None:
    with pytest.raises(Conflict, match="“red” already"):
        classes.rename(small.id, "green", taken, "Ann")
    assert counts(small) == {"blue": 8, "green": 8, "red": 8}


def test_a_class_may_change_its_case_and_a_second_click_says_that_it_was_done(small: Dataset) -> None:
    classes.rename(small.id, "green", "Green", "Ann")
    assert live(small) == ("blue", "Green", "red")
    with pytest.raises(NotFound, match="no class “green” any more"):
        classes.rename(small.id, "green", "Green", "Ann")


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "x" * 81, "two\nlines"])
def test_a_name_that_a_folder_could_not_have_is_refused(small: Dataset, name: str) -> None:
    with pytest.raises(Invalid):
        classes.add(small.id, name)
    with pytest.raises(Invalid):
        classes.rename(small.id, "red", name, "Ann")
    assert live(small) == ("blue", "green", "red")


def test_a_label_from_a_page_drawn_before_a_rename_or_merge_is_stored_under_todays_name(small: Dataset) -> None:
    one = ids(small, "red")[0]
    classes.rename(small.id, "green", "leaf", "Bob")
    done = labels.apply(small.id, seen(small, [one]), "green", "Ann")
    assert done.label == "leaf" and done.notice == "“green” is called “leaf” now."
    classes.rename(small.id, "leaf", "grass", "Bob")
    assert classes.merge(small.id, "grass", "blue", "Bob") == 9
    for old in ("green", "leaf", "grass"):
        assert labels.apply(small.id, seen(small, [one]), old, "Ann").label == "blue"
    assert labels.apply(small.id, seen(small, [one]), "blue", "Ann").notice == ""


def test_a_retired_class_is_not_given_any_more_and_nothing_is_lost(small: Dataset) -> None:
    assert classes.retire(small.id, "green", "Bob") == 8
    one = ids(small, "red")[0]
    with pytest.raises(NotFound, match="“green” was retired"):
        labels.apply(small.id, seen(small, [one]), "green", "Ann")
    assert live(small) == ("blue", "red") and counts(small) == {"blue": 8, "red": 8, None: 8}
    with pytest.raises(Conflict, match="retired already"):
        classes.retire(small.id, "green", "Bob")
    assert [classes.retire(small.id, "blue", "Bob", "click") for _ in range(2)] == [8, 8]
    classes.restore(small.id, "blue", "Bob")
    with pytest.raises(Conflict, match="“green” was retired"):
        classes.add(small.id, "Green")


def test_a_class_that_was_merged_brought_back_and_retired_is_refused_not_merged_again(small: Dataset) -> None:
    classes.merge(small.id, "green", "blue", "Bob")
    classes.restore(small.id, "green", "Bob")
    classes.retire(small.id, "green", "Bob")
    one = ids(small, "red")[0]
    with pytest.raises(NotFound, match="“green” was retired"):
        labels.apply(small.id, seen(small, [one]), "green", "Ann")


@pytest.mark.parametrize("into", ["blue", None])
def test_a_merge_and_a_retirement_are_undone_by_taking_back_their_act(small: Dataset, into: str | None) -> None:
    greens = ids(small, "green")
    if into:
        classes.merge(small.id, "green", into, "Bob")
    else:
        classes.retire(small.id, "green", "Bob")
    act = labels.acts(small.id, Which(), 1)[0][0]
    assert (act.source, act.by, act.images, act.label) == ("merge" if into else "retire", "Bob", 8, into)
    assert undo(small, labels.which(act)) == (8, 0)
    assert sorted(ids(small, "green")) == sorted(greens) and live(small) == ("blue", "green", "red")


@pytest.mark.parametrize("into", ["blue", None])
def test_bringing_a_class_back_gives_it_to_the_images_nobody_has_labelled_since(small: Dataset, into: str | None) -> None:
    greens = ids(small, "green")
    if into:
        classes.merge(small.id, "green", into, "Bob")
    else:
        classes.retire(small.id, "green", "Bob")
    give(small, greens[:3], "red")
    assert classes.restorable(small.id) == {"green": 5}
    assert classes.restore(small.id, "green", "Eve") == 5
    assert classes.restorable(small.id) == {} and counts(small) == {"blue": 8, "green": 5, "red": 11}
    assert classes.restore(small.id, "green", "Eve") == 0  # a second click
    assert words(small, greens[5]) == ["green", into, "green"]
    with pytest.raises(NotFound, match="no class “pink”"):
        classes.restore(small.id, "pink", "Eve")


def test_a_class_cannot_be_merged_into_itself_or_into_one_that_is_gone(small: Dataset) -> None:
    with pytest.raises(Invalid, match="into itself"):
        classes.merge(small.id, "green", "green", "Ann")
    classes.retire(small.id, "red", "Ann")
    with pytest.raises(NotFound, match="“red” was retired"):
        classes.merge(small.id, "green", "red", "Ann")
    assert counts(small) == {"blue": 8, "green": 8, None: 8}


def test_classes_are_reordered_and_those_not_named_stay_behind(small: Dataset) -> None:
    classes.order(small.id, ["red", "green", "pink"])
    assert live(small) == ("red", "green", "blue")
    classes.retire(small.id, "red", "Ann")
    assert [c.name for c in classes.of(small.id)] == ["green", "blue", "red"]
    classes.restore(small.id, "red", "Ann")
    assert live(small) == ("red", "green", "blue")


def test_a_guideline_has_a_limit_and_needs_a_class(small: Dataset) -> None:
    classes.describe(small.id, "red", "x" * names.MAX_GUIDELINE)
    with pytest.raises(Invalid, match="2,001 characters"):
        classes.describe(small.id, "red", "x" * (names.MAX_GUIDELINE + 1))
    assert find(small, "red").guideline == "x" * names.MAX_GUIDELINE
    with pytest.raises(NotFound, match="no class “pink”"):
        classes.describe(small.id, "pink", "warm")


def test_a_guideline_that_somebody_has_changed_since_is_not_overwritten_unseen(small: Dataset) -> None:
    classes.describe(small.id, "red", "Bob's", seen="")
    classes.describe(small.id, "red", "Bob's", seen="")  # a second click
    with pytest.raises(Conflict, match="changed this guideline since"):
        classes.describe(small.id, "red", "Ann's", seen="")
    assert find(small, "red").guideline == "Bob's"
    classes.describe(small.id, "red", "Ann's", seen="Bob's")
    assert find(small, "red").guideline == "Ann's"


def test_an_image_is_an_accepted_or_a_rejected_example_never_both_and_their_number_is_limited(small: Dataset) -> None:
    reds = ids(small, "red") + ids(small, "blue")
    classes.set_example(small.id, "red", reds[0], True)
    classes.set_example(small.id, "red", reds[0], False)
    assert (find(small, "red").accepted, find(small, "red").rejected) == ((), (reds[0],))
    classes.set_example(small.id, "red", reds[0], None)
    assert (find(small, "red").accepted, find(small, "red").rejected) == ((), ())
    for image_id in reds[: names.MAX_EXAMPLES]:
        classes.set_example(small.id, "red", image_id, True)
    classes.set_example(small.id, "red", reds[0], True)  # a second click
    with pytest.raises(Invalid, match="12 such examples already"):
        classes.set_example(small.id, "red", reds[13], True)
    classes.set_example(small.id, "red", reds[13], False)
    with pytest.raises(NotFound, match="not in this dataset"):
        classes.set_example(small.id, "red", "f" * 16, False)
    with pytest.raises(NotFound, match="no class “pink”"):
        classes.set_example(small.id, "pink", reds[0], True)


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
    assert labels.people(small.id) == ["Ann", "Bob", "tester"]


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


def test_labelled_work_is_not_with_others_and_what_was_passed_over_is_free_for_them(
    small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = unlabelled(small)[:8]
    assert claims.deal(small.id, "a", every, 4) == every[:4] and claims.held_by_others(small.id, "b") == 4
    give(small, every[:1], "blue")
    assert claims.held_by_others(small.id, "b") == 3
    monkeypatch.setattr(claims, "GRACE_SECONDS", 0.2)
    assert claims.deal(small.id, "a", every[4:], 2, keep=every[3:4]) == every[4:6]
    assert claims.deal(small.id, "b", every, 1) == every[6:7]  # a label of theirs may be on its way
    time.sleep(0.25)
    assert claims.deal(small.id, "b", every, 4, keep=every[6:7]) == [*every[1:3], *every[6:8]]


def unlabelled(made: Dataset) -> list[str]:
    """All of its images, after their labels were taken away."""
    every = [i.id for i in store.all_images(made.id)]
    give(made, every, None)
    return every


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


def test_two_sessions_never_hold_the_same_image(small: Dataset) -> None:
    every = unlabelled(small)
    first = claims.deal(small.id, "a", every, 5)
    assert first == every[:5] and claims.deal(small.id, "a", every, 5, keep=first) == first
    assert claims.deal(small.id, "b", every, 5) == every[5:10]
    claims.release(small.id, "a")
    assert claims.deal(small.id, "b", every, 3) == first[:3]


def test_sessions_that_ask_at_once_get_different_images(small: Dataset) -> None:
    every = unlabelled(small)
    got: dict[str, list[str]] = {}

    def ask(session: str) -> None:
        got[session] = claims.deal(small.id, session, every, 3)

    threads = [threading.Thread(target=ask, args=(f"s{i}",)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(i for mine in got.values() for i in mine) == sorted(every)


def test_what_was_dealt_to_somebody_who_left_is_dealt_again_unless_renewed(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    every = unlabelled(small)
    monkeypatch.setattr(claims, "CLAIM_SECONDS", 0.05)
    gone = claims.deal(small.id, "gone", every, 2)
    claims.deal(small.id, "here", every, 2)
    monkeypatch.setattr(claims, "CLAIM_SECONDS", 60)
    claims.renew(small.id, "here")
    time.sleep(0.06)
    assert claims.deal(small.id, "new", every, 4) == gone + every[4:6]


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
