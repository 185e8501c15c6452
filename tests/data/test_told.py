"""Acts of one person in a row are told as one, and are taken back together or one by one."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from core.data import history, labels, schema
from core.data.labels import Which
from core.data.migrations.versions import v0009_history
from core.data.schema import writing
from core.types import Dataset
from tests.data.acts import counts, give, ids, pause, seen, undo

pytestmark = pytest.mark.databases("sqlite", "postgresql")


def one_by_one(made: Dataset, chosen: list[str], name: str, by: str = "Ann") -> None:
    for image_id in chosen:
        give(made, [image_id], name, by)
        pause()


def test_acts_of_one_person_in_a_row_are_one_line_also_while_somebody_else_works(small: Dataset) -> None:
    for red, blue in zip(ids(small, "red")[:5], ids(small, "blue")[:5], strict=True):
        one_by_one(small, [red], "green", "Ann")
        one_by_one(small, [blue], "red", "Bob")
    (bob, ann, imported), total = history.told(small.id)
    assert total == 3 and imported.source == "import" and imported.acts == 1
    assert [(a.by, a.acts, a.images, a.label, a.mixed, a.standing) for a in (ann, bob)] == [
        ("Ann", 5, 5, "green", False, 5),
        ("Bob", 5, 5, "red", False, 5),
    ]
    assert ann.began < ann.at
    assert labels.images_of(small.id, ann, 2, newest=True) == labels.images_of(small.id, ann, 5)[:-3:-1]
    assert undo(small, labels.which(ann)) == (5, 0)
    assert counts(small) == {"blue": 3, "green": 8, "red": 13}


def test_three_acts_stay_three_lines_and_another_reason_begins_a_new_one(small: Dataset) -> None:
    reds = ids(small, "red")
    one_by_one(small, reds[:3], "green")
    assert [a.acts for a in history.told(small.id)[0]] == [1, 1, 1, 1]
    one_by_one(small, reds[3:4], "blue")
    assert [(a.acts, a.mixed) for a in history.told(small.id)[0]] == [(4, True), (1, True)]
    labels.apply(small.id, seen(small, reds[4:5]), "blue", "Ann", source="review")
    pause()
    one_by_one(small, reds[5:6], "blue")
    assert [(a.acts, a.source) for a in history.told(small.id)[0]][:3] == [(1, "manual"), (1, "review"), (4, "manual")]


def test_an_act_that_goes_on_with_a_row_asks_for_its_line_in_one_statement(small: Dataset) -> None:
    reds, asked = ids(small, "red"), list[str]()
    one_by_one(small, reds[:4], "green")
    sa.event.listen(schema.engine(), "before_cursor_execute", lambda _c, _cursor, statement, *_: asked.append(statement))
    labels.apply(small.id, seen(small, reds[4:5]), "blue", "Ann", "as pages name their acts")
    assert [one.split()[0] for one in asked if " history" in one] == ["UPDATE"]
    line = history.told(small.id)[0][0]
    assert (line.acts, line.images, line.label, line.mixed) == (5, 5, "blue", True)


def test_half_an_hour_without_an_act_ends_the_line(small: Dataset) -> None:
    one_by_one(small, ids(small, "red")[:4], "green")
    before = history.told(small.id)[0][0]
    with writing() as c:
        earlier = (datetime.fromisoformat(before.at) - timedelta(minutes=31)).isoformat(timespec="milliseconds")
        c.execute(schema.history.update().where(schema.history.c.first == before.first).values(began=earlier, at=earlier))
    one_by_one(small, ids(small, "red")[:4], "green")
    assert [a.acts for a in history.told(small.id)[0]] == [4, 4, 1]
    assert [a.acts for a in history.told(small.id, since=before.began)[0]] == [4]
    assert [a.acts for a in history.told(small.id, by="Ann", until=before.began)[0]] == [4]


def test_an_act_in_several_transactions_is_one_line_also_where_others_wrote_between(small: Dataset) -> None:
    reds, blues = ids(small, "red"), ids(small, "blue")
    for red, blue in zip(reds[:5], blues[:5], strict=True):
        labels.apply_to_all(small.id, [red], "green", "Ann", "cluster-1", "cluster", over=True)
        give(small, [blue], "green", "Bob")
    labels.flag(small.id, seen(small, reds[:2]), True, "Bob", "flags")
    (flags, bob, ann, _), total = history.told(small.id)
    assert total == 4 and [(a.acts, a.images, a.standing) for a in (flags, bob, ann)] == [(1, 2, 2), (5, 5, 5), (1, 5, 5)]
    give(small, [*reds[3:5], blues[0]], "red", "Eve")
    assert {a.by: a.standing for a in history.told(small.id)[0]} == {"Eve": 3, "Bob": 4, "Ann": 3, "tester": 14}


def test_the_lines_are_those_that_the_migration_folds_from_the_events(small: Dataset) -> None:
    one_by_one(small, ids(small, "red")[:5], "green")
    give(small, ids(small, "blue")[:3], None, "Bob")
    labels.flag(small.id, seen(small, ids(small, "green")[:2]), True, "Ann", "flags")
    assert undo(small, Which(by="Ann")) == (7, 0)
    with writing() as c:
        kept = [tuple(row) for row in c.execute(schema.history.select().order_by(schema.history.c.first))]
        folded = [tuple(line[column.name] for column in schema.history.c) for line in v0009_history.lines(c)]
    assert sorted(folded, key=lambda line: line[1]) == kept
