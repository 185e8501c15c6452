"""Images that were taken out are in nothing that lists or counts, come back as they were, and an import can be undone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from core.catalog import params
from core.data import audit, brought, check, claims, classes, dataset, events, history, imports, labels, removed, schema, sources, store
from core.data.labels import Which
from core.data.store import Filter
from core.errors import Forbidden, NotFound
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
