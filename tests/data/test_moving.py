"""A database moves whole or not at all, in either direction."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core.data import claims, classes, database, labels, moving, queue, schema, store
from core.errors import Invalid
from core.types import Dataset
from tests.conftest import forget
from tests.data.acts import give, ids
from tests.postgres import Cluster

pytestmark = pytest.mark.databases("sqlite", "postgresql")


@pytest.fixture
def other(request: pytest.FixtureRequest, home: Path, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database of the other kind."""
    if schema.engine().dialect.name == "postgresql":
        yield f"sqlite:///{tmp_path / 'moved.db'}"
    else:
        cluster: Cluster = request.getfixturevalue("postgresql")
        yield cluster.create("moved", "template0")
        forget()
        cluster.drop("moved")


@pytest.fixture
def lived_in(small: Dataset) -> Dataset:
    """A dataset with something in every table that has been there since the beginning."""
    one, two = ids(small, "red")[:2]
    classes.set_example(small.id, "red", one, True)
    give(small, [one], None)
    labels.flag(small.id, {two: store.get_image(small.id, two).label_seq}, True, "Ölaf")
    classes.rename(small.id, "green", "“grün”", "Ann")
    claims.deal(small.id, "a", [one], 1)
    store.add_predictions(small.id, [(two, "m", "red", 0.1 + 0.2)])
    waiting = {"run_id": "r", "image_id": "f" * 16, "ext": "png", "name": "x", "by": "Ann", "predicted": "red"}
    queue.add([{"dataset_id": small.id, "probability": 1 / 3, "probabilities": {"red": 1 / 3}, **waiting}])
    return small


def everything() -> dict[str, list[Any]]:
    with schema.reading() as c:
        return {t.name: [tuple(row) for row in c.execute(sa.select(t).order_by(*t.primary_key))] for t in schema.meta.sorted_tables}


def test_a_database_moves_with_every_row_and_its_numbers_go_on(
    lived_in: Dataset, other: str, monkeypatch: pytest.MonkeyPatch, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = command("move-database", other)
    before = everything()
    assert before["audit"][-1][3] == "move" and "://" not in before["audit"][-1][4]
    assert done.returncode == 0 and "LOUPE_DATABASE_URL" in done.stderr, done.stderr
    told = json.loads(done.stdout)
    counted = told["rows"]
    assert f"In the new database: All {counted['audit']} entries are as they were written" in done.stderr
    assert (told["audit"]["entries"], told["audit"]["broken"], told["status"]) == (counted["audit"], None, "whole")
    assert counted == {name: len(rows) for name, rows in before.items()} and counted["submissions"] == 1
    forget()
    monkeypatch.setenv("LOUPE_DATABASE_URL", other)
    assert everything() == before
    last = max(row[0] for row in before["label_events"])
    give(lived_in, ids(lived_in, "blue")[:1], "red")
    assert max(row[0] for row in everything()["label_events"]) == last + 1
    assert store.create_dataset("next").id == lived_in.id + 1


def test_a_database_that_holds_something_is_left_as_it_is(lived_in: Dataset, other: str) -> None:
    moving.move(other)
    with pytest.raises(Invalid, match=r"is not empty: it holds rows in “answers”"):
        moving.move(other)


def test_the_tables_of_another_program_are_left_alone(lived_in: Dataset, other: str) -> None:
    made = schema.connected(database.address(other))
    with made.begin() as c:
        c.exec_driver_sql("CREATE TABLE bills (id INTEGER)")
    with pytest.raises(Invalid, match="“bills”, which is not Loupe's"):
        moving.move(other)
    assert sa.inspect(made).get_table_names() == ["bills"]
    made.dispose()


def test_a_move_that_fails_half_way_leaves_the_other_database_empty(lived_in: Dataset, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = moving._parts

    def one_row_lost(c: sa.Connection, table: sa.Table) -> Iterator[list[Any]]:
        lost = c.engine is not schema.engine() and table is schema.submissions  # one of the last
        return (part[:-1] if lost else part for part in parts(c, table))

    monkeypatch.setattr(moving, "_parts", one_row_lost)
    with pytest.raises(Invalid, match="“submissions” did not arrive as it was: 0 rows of 1"):
        moving.move(other)
    made = schema.connected(database.address(other))
    assert sa.inspect(made).get_table_names() == []
    made.dispose()


@pytest.mark.databases("sqlite")
def test_an_audit_that_was_changed_before_is_named_in_the_new_database_too(
    lived_in: Dataset, other: str, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    with schema.writing() as c:
        c.exec_driver_sql("DROP TRIGGER audit_no_update")
        c.exec_driver_sql("UPDATE audit SET entry = replace(entry, 'Ann', 'Eve') WHERE seq = 5")
    done = command("move-database", other)
    assert done.returncode == 1 and "Entry 5 was changed" in done.stderr and "It is so in the old one, too" in done.stderr
    assert json.loads(done.stdout)["audit"]["broken"] == 5 and json.loads(done.stdout)["rows"]["images"] == 24


@pytest.mark.databases("sqlite")
def test_what_postgresql_cannot_hold_is_named(lived_in: Dataset, other: str) -> None:
    with schema.writing() as c:
        c.execute(schema.label_events.update().values(note="a\0b"))
    with pytest.raises(Invalid, match=r"“label_events” holds something .* NUL"):
        moving.move(other)


def test_a_database_is_not_moved_onto_itself(lived_in: Dataset) -> None:
    with pytest.raises(Invalid, match="in use now"):
        moving.move(schema.engine().url.render_as_string(hide_password=False))
