"""Images that were taken out are in nothing that lists or counts, come back as they were, and an import can be undone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from streamlit.testing.v1 import AppTest

from core.catalog import params
from core.data import (
    audit,
    brought,
    check,
    claims,
    classes,
    dataset,
    events,
    history,
    imports,
    labels,
    queue,
    removed,
    schema,
    sources,
    store,
)
from core.data.labels import Which
from core.data.store import Filter
from core.errors import Forbidden, Invalid, NotFound
from core.label import embed, orders
from core.roles import Person, acting
from core.runs import runs
from core.settings import settings
from core.types import Dataset, Image, now

pytestmark = pytest.mark.databases("sqlite", "postgresql")


def image(made: Dataset, number: int, label: str | None = None, **more: Any) -> Image:
    return Image(f"{number:016x}", made.id, "png", 8, 8, 1, 100, "train", f"{number}.png", now(), 10 * number, 10, label, **more)


def bring_in(made: Dataset, numbers: range, label: str | None, operation: str) -> int:
    """An import of so many images; its id."""
    rows = [image(made, n, label) for n in numbers]
    labels.add_images(made.id, rows, "ann", "import", operation=operation, title=f"{operation}.zip")
    found = brought.of_operation(made.id, operation)
    assert found is not None
    return found


def ids(*numbers: int) -> list[str]:
    return [f"{n:016x}" for n in numbers]


@pytest.fixture
def pets(home: Path) -> Dataset:
    """Images 0 to 3 are cats, 4 and 5 have no label."""
    made = store.create_dataset("pets")
    bring_in(made, range(4), "cat", "cats")
    bring_in(made, range(4, 6), None, "rest")
    return store.get_dataset(made.id)


def here(made: Dataset) -> list[int]:
    return [int(i, 16) for i in store.ids(made.id, Filter())]


def readers(made: Dataset) -> dict[str, set[str]]:
    """The ids that everything which reads images of a dataset knows."""
    every = ids(*range(6))
    with schema.reading() as c:
        return {
            "browse": {i.id for i in store.browse(made.id, Filter(), 0, 10)},
            "page": {i.id for i in store.page(made.id, Filter(), 0, 10)[0]},
            "among": store.among(made.id, every, Filter()),
            "all": {i.id for i in store.all_images(made.id)},
            "known": set(store.known_images(made.id, every)),
            "get": {i.id for i in store.get_images(made.id, every)},
            "carried": set(store.carried(made.id)),
            "labels": set(store.current_labels(made.id)),
            "splits": set(store.splits(made.id, every)),
            "some": {i.id for i in store.some(made.id, "train", 10)},
            "changes": {one.id for one in labels.changes(made.id, 0)[1]} | set(ids(4, 5)) - {i.id for i in removed.get(made.id)},
            "dealt": set(claims.deal(made.id, "s", every, 9)) | {i for i, one in store.known_images(made.id, every).items() if one},
            "count": set(every[: store.count(made.id, Filter())]),
            "totals": set(every[: dataset.totals(made.id)[0]]),
            "rows": set(c.execute(sa.select(schema.images.c.id).where(schema.images.c.dataset_id == made.id)).scalars()),
        }


def test_nothing_that_lists_or_counts_knows_of_a_removed_image_and_it_comes_back_as_it_was(pets: Dataset) -> None:
    classes.set_example(pets.id, "cat", ids(3)[0], True)
    labels.flag(pets.id, {ids(3)[0]: store.get_image(pets.id, ids(3)[0]).label_seq}, True, "ann")
    before, version = {i.id: i for i in store.all_images(pets.id)}, store.version(pets.id)
    every = readers(pets)
    assert [name for name, found in every.items() if found != set(ids(*range(6)))] == []

    assert removed.remove(pets.id, ids(3, 5, 3), "ann", "out") == 2
    left = readers(pets)
    assert left.pop("count") == left.pop("totals") == set(ids(0, 1, 2, 3))  # as many
    assert [name for name, found in left.items() if found != set(ids(0, 1, 2, 4))] == []
    assert classes.of(pets.id)[0].accepted == () and labels.flagged(pets.id) == {}
    assert {row.image_id for row in store.snapshot(pets.id, 0).rows} == set(ids(0, 1, 2)) == set(labels.sources(pets.id))
    assert store.version(pets.id) != version
    assert [i.id for i in removed.page(pets.id, Filter(), 1, 10)[0]] == ids(5, 3) and removed.count(pets.id) == 2
    assert [i.id for i in removed.page(pets.id, Filter(label="cat", flagged=True), 1, 10)[0]] == ids(3)
    with pytest.raises(NotFound):
        store.get_image(pets.id, ids(3)[0])
    done = labels.apply(pets.id, {ids(3)[0]: 0, ids(0)[0]: before[ids(0)[0]].label_seq}, "cat", "bea")
    assert done.missing == (ids(3)[0],)

    assert removed.bring_back(pets.id, ids(3, 5), "bea", "back") == 2
    assert readers(pets) == every and removed.count(pets.id) == 0 and classes.of(pets.id)[0].accepted == (ids(3)[0],)
    for i in ids(3, 5):
        found = store.get_image(pets.id, i)
        assert replace(found, label_seq=before[i].label_seq) == before[i] and found.label_seq > before[i].label_seq
    assert [e.source for e in labels.history(pets.id, ids(3)[0])] == ["return", "remove", "flag", "import"]


def test_a_removal_is_an_act_of_history_that_is_taken_back_and_the_taking_back_too(pets: Dataset) -> None:
    removed.remove(pets.id, ids(1, 4), "ann", "out")
    (act, *_), _ = history.told(pets.id)
    assert (act.source, act.images, act.standing, act.by) == ("remove", 2, 2, "ann")
    assert labels.acts(pets.id, labels.which(act), 1)[0][0].standing == 2
    assert labels.count_undo(pets.id, labels.which(act)) == labels.Undone(2, 0)
    assert labels.undo(pets.id, labels.which(act), "bea", "undo") == labels.Undone(2, 0)
    assert here(pets) == [0, 1, 2, 3, 4, 5] and store.get_image(pets.id, ids(1)[0]).label == "cat"
    (back, out, *_), _ = history.told(pets.id)
    assert (back.source, back.standing, out.standing) == ("return", 2, 0)
    assert labels.undo(pets.id, labels.which(out), "bea").images == 0  # nothing is left of it
    assert labels.undo(pets.id, labels.which(back), "ann", "again").images == 2
    assert here(pets) == [0, 2, 3, 5]


def test_all_that_a_person_did_is_taken_back_at_once_labels_and_removals(pets: Dataset) -> None:
    seen = {i: store.get_image(pets.id, i).label_seq for i in ids(0, 4)}
    classes.add(pets.id, "dog")
    labels.apply(pets.id, seen, "dog", "eve", "dogs")
    removed.remove(pets.id, ids(0, 5), "eve", "out")
    which = Which(by="eve")
    assert labels.count_undo(pets.id, which) == labels.Undone(3, 0) == labels.undo(pets.id, which, "ann", "clean")
    assert here(pets) == [0, 1, 2, 3, 4, 5]
    assert [store.get_image(pets.id, i).label for i in ids(0, 4, 5)] == ["cat", None, None]


def test_a_flag_or_label_of_before_a_removal_is_still_taken_back_after_it_came_back(pets: Dataset) -> None:
    one = store.get_image(pets.id, ids(0)[0])
    labels.flag(pets.id, {one.id: one.label_seq}, True, "eve", "flag")
    removed.remove(pets.id, [one.id], "ann", "out")
    assert labels.undo(pets.id, Which(operation="flag"), "ann").images == 0  # it is not there
    removed.bring_back(pets.id, [one.id], "ann", "back")
    assert labels.undo(pets.id, Which(operation="flag"), "ann") == labels.Undone(1, 0)
    assert not store.get_image(pets.id, one.id).flagged


def test_who_removed_and_brought_back_leaves_the_image_where_it_was_and_takes_the_label_along(pets: Dataset) -> None:
    classes.add(pets.id, "dog")
    removed.remove(pets.id, ids(3), "ann", "before")
    labels.apply(pets.id, {ids(0)[0]: store.get_image(pets.id, ids(0)[0]).label_seq}, "dog", "eve", "dog")
    removed.remove(pets.id, ids(0, 1), "eve", "out")
    labels.undo(pets.id, Which(by="eve", operation="out"), "eve", "sorry")
    removed.bring_back(pets.id, ids(3), "eve", "in")
    labels.apply(pets.id, {ids(3)[0]: store.get_image(pets.id, ids(3)[0]).label_seq}, "dog", "eve", "dog 3")
    removed.remove(pets.id, ids(3), "eve", "out again")
    removed.bring_back(pets.id, ids(3), "eve", "in again")
    removed.remove(pets.id, ids(2), "eve", "two")
    assert labels.count_undo(pets.id, Which(by="eve")) == labels.Undone(3, 0) == labels.undo(pets.id, Which(by="eve"), "ann", "clean")
    assert here(pets) == [0, 1, 2, 4, 5] and store.get_image(pets.id, ids(0)[0]).label == "cat"
    assert [(i.id, i.label) for i in removed.get(pets.id)] == [(ids(3)[0], "cat")]
    assert labels.undo(pets.id, Which(by="eve"), "ann", "clean").images == 3  # the same act, sent once more
    labels.undo(pets.id, Which(by="ann", operation="clean"), "bea", "no")
    assert here(pets) == [0, 1, 3, 4, 5]  # and that, too, can be taken back


def test_what_eve_brought_back_stays_once_somebody_has_labelled_it(pets: Dataset) -> None:
    classes.add(pets.id, "dog")
    removed.remove(pets.id, ids(0, 1), "ann", "out")
    removed.bring_back(pets.id, ids(0, 1), "eve", "in")
    labels.apply(pets.id, {ids(0)[0]: store.get_image(pets.id, ids(0)[0]).label_seq}, "dog", "bea")
    assert labels.undo(pets.id, Which(by="eve"), "ann", "clean") == labels.Undone(1, 1) and here(pets) == [0, 2, 3, 4, 5]


def test_a_label_and_a_removal_of_one_act_are_both_taken_back_and_given_again(pets: Dataset) -> None:
    classes.add(pets.id, "dog")
    labels.apply(pets.id, {ids(0)[0]: store.get_image(pets.id, ids(0)[0]).label_seq}, "dog", "eve", "dog")
    removed.remove(pets.id, ids(0), "eve", "out")
    labels.undo(pets.id, Which(by="eve"), "ann", "clean")
    assert store.get_image(pets.id, ids(0)[0]).label == "cat"
    labels.undo(pets.id, Which(by="ann", first=labels.history(pets.id, ids(0)[0])[1].seq), "eve", "again")
    assert [i.label for i in removed.get(pets.id)] == ["dog"]


def test_what_was_said_of_a_removed_image_is_nothing_of_the_one_that_is_imported_again(pets: Dataset) -> None:
    for name in ("dog", "fox"):
        classes.add(pets.id, name)
    (one,) = ids(4)
    for name, by in (("dog", "ann"), ("fox", "kim")):
        labels.apply(pets.id, {one: store.get_image(pets.id, one).label_seq}, name, by)
    labels.flag(pets.id, {one: store.get_image(pets.id, one).label_seq}, True, "ann")
    labels.flag(pets.id, {one: store.get_image(pets.id, one).label_seq}, False, "kim")
    removed.remove(pets.id, [one], "kim", "out")
    bring_in(pets, range(4, 5), None, "anew")
    assert labels.history(pets.id, one)[0].source == "import"
    assert labels.undo(pets.id, Which(by="kim"), "ann") == labels.Undone(0, 1)
    found = store.get_image(pets.id, one)
    assert (found.label, found.flagged) == (None, False)


def test_the_same_act_sent_after_its_images_came_back_is_not_done_again(pets: Dataset) -> None:
    assert removed.remove(pets.id, ids(0, 1), "ann", "r") == 2
    removed.bring_back(pets.id, ids(0, 1), "ann", "back")
    assert removed.remove(pets.id, ids(0, 1, 2), "ann", "r") == 3 and here(pets) == [0, 1, 3, 4, 5]


@pytest.mark.parametrize(("verdict", "label", "left"), [("corrected", "dog", "cat"), ("accepted", None, None)])
def test_a_decision_of_review_is_taken_back_from_a_removed_image(pets: Dataset, verdict: Any, label: str | None, left: str | None) -> None:
    number = 0 if left else 6
    said = {"predicted": "cat", "probability": 0.9, "probabilities": {"cat": 0.9}, "run_id": "r", "by": "ann"}
    queue.add([{"dataset_id": pets.id, "image_id": ids(number)[0], "ext": "png", "name": "a.png", **said}])
    (item,) = queue.browse(pets.id, queue.Which())
    queue.decide(item.id, queue.Act("ann", verdict, label or "cat"), image(pets, number))
    assert store.get_image(pets.id, ids(number)[0]).label == (label or "cat")
    removed.remove(pets.id, ids(number), "ann", "out")
    queue.take_back(item.id, "ann", ids(number))
    assert [i.label for i in removed.get(pets.id)] == ([left] if left else [])
    if left:
        removed.bring_back(pets.id, ids(number), "ann", "back")
        assert store.get_image(pets.id, ids(number)[0]).label == left and labels.sources(pets.id)[ids(number)[0]] == "review"


def sent(made: Dataset, number: int) -> int:
    """A picture that waits in Review; its item."""
    said = {"predicted": "dog", "probability": 0.9, "probabilities": {"dog": 0.9}, "run_id": "r", "by": "ann"}
    queue.add([{"dataset_id": made.id, "image_id": ids(number)[0], "ext": "png", "name": f"{number}.png", **said}])
    (item,) = queue.browse(made.id, queue.Which(text=ids(number)[0]))
    return item.id


@pytest.mark.parametrize("again", [False, True])
def test_a_removed_image_that_came_in_through_review_is_removed_as_it_was_once_that_is_taken_back(pets: Dataset, again: bool) -> None:
    classes.add(pets.id, "dog")
    labels.add_images(pets.id, [replace(image(pets, 6, "cat", flagged=True), split="test")], "ann", "import", operation="six", title="6")
    removed.remove(pets.id, ids(6), "kim", "out")
    (before,) = removed.get(pets.id)
    item = sent(pets, 6)
    queue.decide(item, queue.Act("ann", "accepted", "dog"), image(pets, 6))
    found = store.get_image(pets.id, before.id)
    assert (found.label, found.flagged, found.split, removed.count(pets.id)) == ("dog", False, "test", 0)
    if again:
        removed.remove(pets.id, ids(6), "kim", "again")
    queue.take_back(item, "ann", ids(6))
    (found,) = removed.get(pets.id)
    assert replace(found, label_seq=before.label_seq) == before and here(pets) == [0, 1, 2, 3, 4, 5]
    queue.decide(item, queue.Act("ann", "accepted", "dog"), image(pets, 6))  # once more
    queue.take_back(item, "ann", ids(6))
    assert labels.undo(pets.id, Which(by="ann", first=before.label_seq), "lea").images == 0, "on balance nothing"
    removed.bring_back(pets.id, ids(6), "kim", "back")
    assert labels.undo(pets.id, Which(by="ann", first=before.label_seq), "lea").images == 0
    found = store.get_image(pets.id, before.id)
    assert (found.label, found.flagged, found.split, labels.sources(pets.id)[before.id]) == ("cat", True, "test", "import")


def test_an_appeal_on_a_removed_image_that_is_taken_back_leaves_it_among_the_removed(pets: Dataset) -> None:
    for name in ("dog", "fox"):
        classes.add(pets.id, name)
    item = sent(pets, 0)
    queue.decide(item, queue.Act("ann", "corrected", "dog"), image(pets, 0))
    removed.remove(pets.id, ids(0), "kim", "out")
    queue.appeal(item, "lea", "Look again.")
    queue.decide(item, queue.Act("bea", "corrected", "fox"), image(pets, 0))
    assert store.get_image(pets.id, ids(0)[0]).label == "fox"
    queue.take_back(item, "bea", ids(0))
    assert [(i.id, i.label) for i in removed.get(pets.id)] == [(ids(0)[0], "cat")]


def test_an_image_that_review_alone_brought_is_gone_each_time_that_it_is_taken_back(pets: Dataset) -> None:
    classes.add(pets.id, "dog")
    item = sent(pets, 6)
    for out in (True, False):
        queue.decide(item, queue.Act("ann", "accepted", "dog"), image(pets, 6))
        if out:
            removed.remove(pets.id, ids(6), "kim", "out")
        queue.take_back(item, "lea", ids(6))
        assert here(pets) == [0, 1, 2, 3, 4, 5] and removed.count(pets.id) == 0


def test_what_review_took_back_is_nothing_of_the_picture_that_is_imported_later(pets: Dataset) -> None:
    classes.add(pets.id, "dog")
    item = sent(pets, 6)
    queue.decide(item, queue.Act("ann", "accepted", "dog"), image(pets, 6))
    queue.take_back(item, "lea", ids(6))
    bring_in(pets, range(6, 7), None, "anew")
    assert labels.undo(pets.id, Which(by="lea"), "kim").images == 0
    assert store.get_image(pets.id, ids(6)[0]).label is None


def test_going_back_to_before_a_label_gives_no_flag_of_before_the_image_came_in_anew(pets: Dataset) -> None:
    classes.add(pets.id, "dog")
    (one,) = ids(4)
    labels.flag(pets.id, {one: store.get_image(pets.id, one).label_seq}, True, "ann")
    removed.remove(pets.id, [one], "kim", "out")
    bring_in(pets, range(4, 5), None, "anew")
    labels.apply(pets.id, {one: store.get_image(pets.id, one).label_seq}, "dog", "ann")
    labels.go_back(pets.id, store.get_image(pets.id, one), labels.history(pets.id, one)[0], "kim")
    found = store.get_image(pets.id, one)
    assert (found.label, found.flagged) == (None, False)


def test_what_somebody_said_of_an_image_that_is_removed_is_counted_among_what_stays(pets: Dataset) -> None:
    classes.add(pets.id, "dog")
    labels.apply(pets.id, {ids(0)[0]: store.get_image(pets.id, ids(0)[0]).label_seq}, "dog", "eve")
    removed.remove(pets.id, ids(0), "kim", "out")
    assert labels.count_undo(pets.id, Which(by="eve")) == labels.Undone(0, 1) == labels.undo(pets.id, Which(by="eve"), "ann")
    removed.bring_back(pets.id, ids(0), "kim", "back")
    assert labels.undo(pets.id, Which(by="eve"), "ann") == labels.Undone(1, 0)
    assert store.get_image(pets.id, ids(0)[0]).label == "cat"


def test_a_flag_can_be_taken_back_after_its_image_was_out(pets: Dataset) -> None:
    labels.flag(pets.id, {i: store.get_image(pets.id, i).label_seq for i in ids(0, 1, 2)}, True, "eve", "flag")
    removed.remove(pets.id, ids(0, 1), "ann", "out")

    def standing() -> set[int]:
        acts = [*history.told(pets.id, by="eve")[0], *labels.acts(pets.id, Which(by="eve"), 1)[0]]
        return {act.standing for act in acts if act.source == "flag"}

    assert standing() == {1}
    removed.bring_back(pets.id, ids(0, 1), "ann", "back")
    assert standing() == {3}
    labels.apply(pets.id, {ids(0)[0]: store.get_image(pets.id, ids(0)[0]).label_seq}, None, "bea")
    assert standing() == {2}


def test_an_undone_import_is_no_part_of_a_row_of_removals_by_hand(pets: Dataset) -> None:
    for n in range(3):
        removed.remove(pets.id, ids(n), "ann", f"out {n}")
    brought.undo(pets.id, 2, "ann")
    removed.remove(pets.id, ids(3), "ann", "out 3")
    acts = history.told(pets.id, by="ann")[0]
    assert [(act.acts, act.note) for act in acts if act.source == "remove"] == [(1, ""), (1, "import of rest.zip undone"), *[(1, "")] * 3]


def test_only_who_may_delete_removes_sees_or_brings_back(pets: Dataset) -> None:
    removed.remove(pets.id, ids(0), "ann", "out")
    for act in (
        lambda: removed.remove(pets.id, ids(1), "lea", "x"),
        lambda: removed.bring_back(pets.id, ids(0), "lea", "x"),
        lambda: removed.page(pets.id, Filter(), 1, 10),
        lambda: labels.undo(pets.id, Which(operation="out"), "lea"),
        lambda: brought.undo(pets.id, 1, "lea"),
    ):
        with acting(Person("lea", "labeller")), pytest.raises(Forbidden):
            act()
    assert here(pets) == [1, 2, 3, 4, 5]


def test_a_label_that_was_renamed_merged_or_retired_meanwhile_comes_back_in_the_words_of_today(pets: Dataset) -> None:
    classes.add(pets.id, "dog")
    removed.remove(pets.id, ids(0), "ann", "one")
    classes.rename(pets.id, "cat", "kitten", "ann")
    removed.remove(pets.id, ids(1), "ann", "two")
    classes.merge(pets.id, "kitten", "dog", "ann")
    removed.remove(pets.id, ids(2), "ann", "three")
    classes.retire(pets.id, "dog", "ann")
    removed.bring_back(pets.id, ids(0, 1, 2), "ann", "back")
    assert [store.get_image(pets.id, i).label for i in ids(0, 1, 2)] == ["kitten", "kitten", "dog"]
    assert set(store.get_dataset(pets.id).classes) == {"kitten", "dog"}  # offered again, since images carry them


def test_the_audit_has_an_entry_in_the_same_transaction_and_the_act_is_stored_once(pets: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    assert removed.remove(pets.id, ids(0, 1), "ann", "out") == 2 == removed.remove(pets.id, ids(0, 1), "ann", "out")
    removed.bring_back(pets.id, ids(1), "bea", "back")
    told = [(e.kind, e.by, e.on["images"]) for e in audit.search(audit.Which(), 1, 10)[0] if e.kind in ("image.remove", "image.return")]
    assert told == [("image.return", "bea", ids(1)), ("image.remove", "ann", ids(0, 1))] and audit.verify().problem == ""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(audit, "record", broken)
    with pytest.raises(RuntimeError):
        removed.remove(pets.id, ids(2), "ann", "never")
    assert here(pets) == [1, 2, 3, 4, 5] and len(labels.history(pets.id, ids(2)[0])) == 1


def test_what_comes_in_again_is_new_and_no_longer_among_the_removed(pets: Dataset) -> None:
    removed.remove(pets.id, ids(0, 4), "ann", "out")
    again = bring_in(pets, range(0, 5, 4), None, "again")
    assert removed.count(pets.id) == 0 and store.get_image(pets.id, ids(0)[0]).label is None
    assert brought.look(pets.id, again).goes == 2


# Undoing an import


def trained_on(made: Dataset, name: str, *numbers: int) -> str:
    """A run that has these images."""
    snapshot = store.snapshot(made.id, 0)
    rows = tuple(row for row in snapshot.rows if row.image_id in ids(*numbers))
    run = runs.new(name, made, params.run_config({}), replace(snapshot, rows=rows), "ann")
    runs.create(settings().runs / run.id, run, replace(snapshot, rows=rows))
    return run.id


def test_an_import_is_undone_but_for_what_was_changed_or_trained_on_since(pets: Dataset) -> None:
    first, second = [one.id for one in reversed(brought.page(pets.id, 1, 10)[0])]
    classes.add(pets.id, "dog")
    labels.apply(pets.id, {ids(0)[0]: store.get_image(pets.id, ids(0)[0]).label_seq}, "dog", "eve")
    labels.flag(pets.id, {ids(5)[0]: 0}, True, "eve")
    trained_on(pets, "ConvNet 1", 0, 1)
    removed.remove(pets.id, ids(2), "ann", "out")
    wanted = brought.Undoing(goes=1, changed=1, used=1, runs={"ConvNet 1": 1}, gone=1)
    assert brought.look(pets.id, first) == wanted == brought.undo(pets.id, first, "ann")
    assert here(pets) == [0, 1, 4, 5]
    (act, *_), _ = history.told(pets.id)
    assert (act.source, act.note, act.images) == ("remove", "import of cats.zip undone", 1)
    assert brought.undo(pets.id, second, "ann") == brought.Undoing(1, 1, 0, {}, 0) and here(pets) == [0, 1, 5]
    assert [(one.source, one.images, one.here) for one in brought.page(pets.id, 1, 10)[0]] == [("rest.zip", 2, True), ("cats.zip", 4, True)]
    assert brought.newest(pets.id) == second


def test_an_image_that_lost_its_label_by_hand_or_with_its_class_stays(pets: Dataset) -> None:
    labels.apply(pets.id, {ids(0)[0]: store.get_image(pets.id, ids(0)[0]).label_seq}, None, "eve")
    assert brought.look(pets.id, 1) == brought.Undoing(3, 1, 0, {}, 0)
    classes.retire(pets.id, "cat", "ann")
    assert brought.look(pets.id, 1) == brought.Undoing(0, 4, 0, {}, 0)


def test_a_run_whose_images_cannot_be_read_keeps_an_import_from_being_undone(pets: Dataset) -> None:
    folder = settings().runs / trained_on(pets, "ConvNet 1", 0)
    (folder / "dataset.csv").unlink()
    with pytest.raises(Invalid, match=folder.name):
        brought.undo(pets.id, 1, "ann")
    assert here(pets) == [0, 1, 2, 3, 4, 5]
    (folder / "config.json").unlink()  # deleted meanwhile
    assert brought.undo(pets.id, 1, "ann").goes == 4


@pytest.mark.databases("sqlite")
def test_an_image_that_is_removed_while_an_import_meets_its_copy_does_not_end_it(
    home: Path, squares: Callable[[Path, int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = squares(tmp_path / "squares", 1)
    imports.import_now("squares", sources.at(folder), "ann")
    first, other = sorted(path for path in folder.iterdir() if path.is_dir())[:2]
    for path in first.iterdir():
        path.rename(other / f"moved-{path.name}")  # the same picture with another label
    known = store.known_images

    def meanwhile(dataset_id: int, some: Any) -> dict[str, str | None]:
        found = known(dataset_id, some)
        if some and found:
            removed.remove(dataset_id, list(found), "eve", "out")
        return found

    monkeypatch.setattr(store, "known_images", meanwhile)
    report = imports.import_now("squares", sources.at(folder), "ann")
    assert report.added == 0 and "kept that label" in report.skipped[0].reason


@pytest.mark.databases("sqlite")
def test_the_dialog_of_an_undone_import_reads_the_runs_once(pets: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, look = list[tuple[int, int]](), brought.look

    def counted(*args: int) -> brought.Undoing:
        asked.append((args[0], args[1]))
        return look(*args)

    monkeypatch.setattr(brought, "look", counted)

    def page() -> None:
        from pages.parts.dataset import undoing

        assert undoing.looked(1, 1).goes == 4

    app = AppTest.from_function(page).run().run()
    assert not app.exception and asked == [(1, 1)]


def test_an_import_is_undone_again_after_it_was_taken_back_and_after_its_labels_were(pets: Dataset) -> None:
    first = brought.page(pets.id, 1, 10)[0][-1].id
    assert brought.undo(pets.id, first, "ann").goes == 4
    (act, *_), _ = history.told(pets.id)
    labels.undo(pets.id, labels.which(act), "ann", "back")
    assert here(pets) == [0, 1, 2, 3, 4, 5] and brought.look(pets.id, first).goes == 4
    labels.undo(pets.id, Which(operation="cats"), "ann", "labels back")
    assert store.get_image(pets.id, ids(0)[0]).label is None
    assert brought.undo(pets.id, first, "ann") == brought.Undoing(4, 0, 0, {}, 0) and here(pets) == [4, 5]
    with pytest.raises(NotFound):
        brought.look(pets.id, 99)


def test_what_somebody_labels_while_an_import_is_undone_stays(pets: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    first, sort = brought.page(pets.id, 1, 10)[0][-1].id, brought._sorted
    classes.add(pets.id, "dog")

    def meanwhile(*args: int) -> Any:
        found = sort(*args)
        labels.apply(pets.id, {ids(1)[0]: store.get_image(pets.id, ids(1)[0]).label_seq}, "dog", "eve")
        return found

    monkeypatch.setattr(brought, "_sorted", meanwhile)
    assert brought.undo(pets.id, first, "ann") == brought.Undoing(3, 1, 0, {}, 0) and here(pets) == [1, 4, 5]


@pytest.mark.databases("sqlite")
def test_an_import_of_real_pictures_is_undone_and_its_files_are_no_orphans(
    home: Path, squares: Callable[[Path, int], Path], tmp_path: Path
) -> None:
    home.chmod(0o700)
    folder = squares(tmp_path / "squares", 2)
    report = imports.import_now("squares", sources.at(folder), "ann")
    assert report.added == 6 and report.import_id is not None
    (made,) = store.list_datasets()
    assert brought.undo(made.id, report.import_id, "ann").goes == 6 and store.count(made.id, Filter()) == 0
    assert check.check()["damage"] == []
    pack = settings().thumbs / f"{made.id}.pack"
    size = pack.stat().st_size
    assert store.thumbnails_end(made.id) == size  # what comes next is laid behind them
    again = imports.import_now("squares", sources.at(folder), "ann")
    assert again.added == 6 and "6 images that had been removed from the dataset are in it again." in again.understood
    assert again.import_id not in (None, report.import_id) and removed.count(made.id) == 0 and check.check()["damage"] == []


@pytest.mark.databases("sqlite")
def test_a_near_duplicate_whose_copy_was_removed_is_none_and_the_map_leaves_removed_images_out(pets: Dataset) -> None:
    folder = settings().embeddings / str(pets.id) / "20260101-000000-000001"
    folder.mkdir(parents=True)
    runs.write_json(folder / "job.json", {"dataset_id": pets.id, "at": "1", "by": "me"})
    group, flat = np.array([0, 0, 1, 1, 1, -1], np.int32), np.zeros(6, np.float32)
    arrays: dict[str, Any] = {"ids": np.array(ids(*range(6))), "xy": np.zeros((6, 2), np.float32), "unreadable": np.array([], str)}
    arrays |= {"brightness": flat, "sharpness": flat, "oddness": flat, "group": group}
    with open(folder / embed.RESULT, "wb") as f:
        np.savez(f, **arrays)
    assert orders.order(pets.id, "near-duplicates", Filter(), 10).ids == ids(0, 1, 2, 3, 4) and embed.missing(pets.id) == 0
    removed.remove(pets.id, ids(1, 2), "ann", "out")
    assert orders.order(pets.id, "near-duplicates", Filter(), 10).ids == ids(3, 4) and embed.missing(pets.id) == 0
    found = embed.latest(pets.id)
    assert found is not None and embed.still_here(pets.id, found).tolist() == [True, False, False, True, True, True]
    bring_in(pets, range(6, 7), None, "new")
    removed.bring_back(pets.id, ids(1), "ann", "back")
    removed.remove(pets.id, ids(0), "ann", "other")  # as many as before
    assert embed.missing(pets.id) == 1 and embed.still_here(pets.id, found).tolist() == [False, True, False, True, True, True]


@pytest.mark.databases("sqlite")
def test_an_undone_import_leads_through_an_index_and_not_through_the_dataset(pets: Dataset) -> None:
    plans = []

    def explain(c: sa.Connection, cursor: Any, statement: str, given: tuple[object, ...], *_: object) -> None:
        if statement.startswith("SELECT images.id") and "import_id" in statement:
            plans.append(" ".join(row[3] for row in cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", given)))

    sa.event.listen(schema.engine(), "before_cursor_execute", explain)
    try:
        brought.page(pets.id, 1, 10)
        brought.undo(pets.id, 1, "ann")
    finally:
        sa.event.remove(schema.engine(), "before_cursor_execute", explain)
    assert plans and all("added_at>" in plan or "(dataset_id=? AND id=?)" in plan for plan in plans), plans
    assert all("SCAN" not in plan for plan in plans), plans


def test_the_names_of_events_leave_what_gave_the_label_as_it_is(pets: Dataset) -> None:
    removed.remove(pets.id, ids(0), "ann", "out")
    removed.bring_back(pets.id, ids(0), "ann", "back")
    assert labels.sources(pets.id)[ids(0)[0]] == "import"
    with schema.reading() as c:
        e = schema.label_events.c
        assert not c.execute(sa.select(e.seq).where(e.source.in_(("remove", "return")), events.gives())).all()
