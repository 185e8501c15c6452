"""Acts of one person in a row are told as one, and are taken back together or one by one."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from core.data import labels
from core.data.labels import Which
from core.data.schema import label_events, writing
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
    (bob, ann, imported), total = labels.told(small.id, Which(), 1)
    assert total == 3 and imported.source == "import" and imported.acts == 1
    assert [(a.by, a.acts, a.images, a.label, a.mixed, a.standing) for a in (ann, bob)] == [
        ("Ann", 5, 5, "green", False, 5),
        ("Bob", 5, 5, "red", False, 5),
    ]
    assert ann.began < ann.at
    assert labels.some_of(small.id, ann, 2) == labels.images_of(small.id, ann, 5)[:-3:-1]
    assert undo(small, labels.which(ann)) == (5, 0)
    assert counts(small) == {"blue": 3, "green": 8, "red": 13}


def test_three_acts_stay_three_lines_and_another_reason_begins_a_new_one(small: Dataset) -> None:
    reds = ids(small, "red")
    one_by_one(small, reds[:3], "green")
    assert [a.acts for a in labels.told(small.id, Which(), 1)[0]] == [1, 1, 1, 1]
    one_by_one(small, reds[3:4], "blue")
    assert [(a.acts, a.mixed) for a in labels.told(small.id, Which(), 1)[0]] == [(4, True), (1, True)]
    labels.apply(small.id, seen(small, reds[4:5]), "blue", "Ann", source="review")
    pause()
    one_by_one(small, reds[5:6], "blue")
    assert [(a.acts, a.source) for a in labels.told(small.id, Which(), 1)[0]][:3] == [(1, "manual"), (1, "review"), (4, "manual")]


def test_half_an_hour_without_an_act_ends_the_line(small: Dataset) -> None:
    one_by_one(small, ids(small, "red")[:8], "green")
    late = labels.acts(small.id, Which(), 1)[0][3].first
    with writing() as c:
        for seq, at in c.execute(select(label_events.c.seq, label_events.c.at).where(label_events.c.seq >= late)).all():
            moved = (datetime.fromisoformat(at) + timedelta(minutes=31)).isoformat(timespec="milliseconds")
            c.execute(label_events.update().where(label_events.c.seq == seq).values(at=moved))
    assert [a.acts for a in labels.told(small.id, Which(), 1)[0]] == [4, 4, 1]
