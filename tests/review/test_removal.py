"""Old predictions are removed at once or by a rule, and never what was decided, appealed or drawn to measure."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np
import pytest

from core import roles
from core.data import audit, classes, images, queue, removal, schema, uploads
from core.errors import Conflict, Forbidden, Invalid
from core.types import Dataset

pytestmark = pytest.mark.databases("sqlite", "postgresql")


@pytest.fixture
def old(small: Dataset) -> Callable[..., str]:
    """A picture that was predicted so many days ago; its hash."""

    def put(name: str, days: int, predicted: str = "red", state: str = "predicted") -> str:
        kept = uploads.keep(name, images.png(np.random.default_rng(list(name.encode())).integers(0, 256, (9, 9, 3), np.uint8)))
        os.utime(kept.path, (time.time() - 86400,) * 2)
        said = {"predicted": predicted, "probability": 0.9, "probabilities": {predicted: 0.9}, "state": state, "run_id": "r", "by": "Ann"}
        row = {"dataset_id": small.id, "image_id": kept.id, "ext": "png", "name": name, "at": removal.ago(days), **said}
        assert queue.add([row]) == ["new"]
        return kept.id

    return put


def left(small: Dataset) -> set[str]:
    return {one.name for one in queue.browse(small.id, queue.Which())}


def test_what_is_old_and_waits_for_nobody_is_removed_with_its_file_and_all_else_stays(small: Dataset, old: Callable[..., str]) -> None:
    gone = old("a.png", 40)
    for state in ("waiting", "second", "lead", "appeal", "audit", "known", "decided"):
        old(f"{state}.png", 50, state=state)
    old("young.png", 3)
    with pytest.raises(Invalid, match="future"):
        removal.remove(small.id, "2999-01-01")
    assert removal.remove(small.id, removal.ago(30), ["green"]) == 0
    assert removal.count(small.id, removal.ago(30)) == removal.remove(small.id, removal.ago(30)) == 1
    assert "a.png" not in left(small) and len(left(small)) == 8
    assert not (uploads.pictures() / f"{gone}.png").exists()
    assert removal.remove(small.id, removal.ago(30), waiting=True) == 1 and len(left(small)) == 7


def test_what_somebody_has_decided_on_or_has_on_the_screen_stays_although_it_waits(small: Dataset, old: Callable[..., str]) -> None:
    for name in ("looked at.png", "decided.png", "idle.png"):
        old(name, 50, state="waiting")
    number = {one.name: one.id for one in queue.browse(small.id, queue.Which())}
    queue.decide(number["decided.png"], queue.Act("Ann", "rejected"), None)
    queue.take_back(number["decided.png"], "Ann", [])
    queue.claim(number["looked at.png"], "Ann's page", "Ann")
    assert removal.remove(small.id, removal.ago(30), waiting=True) == 1 and left(small) == {"looked at.png", "decided.png"}


def test_a_rule_is_carried_out_once_a_day_until_it_is_switched_off_and_says_so(
    small: Dataset, old: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old("a.png", 40)
    old("green.png", 41, "green")
    rule = removal.set_rule(small.id, 30, ["red"], False, "Ann")
    with pytest.raises(Conflict, match="this very rule"):
        removal.set_rule(small.id, 30, ["red"], False, "Ann")
    assert (rule.ran_at, removal.count(small.id, rule.before, rule.classes)) == (None, 1)
    assert removal.carry_out() == 1 and left(small) == {"green.png"}
    old("b.png", 42)
    assert removal.carry_out() == 0  # it ran today
    (after,) = removal.rules(small.id)
    assert after.removed == 1 and after.ran_at is not None
    with schema.writing() as c:
        c.execute(schema.removal_rules.update().values(ran_at=removal.ago(1)))
    assert removal.carry_out() == 1
    old("c.png", 43)
    removal.switch_off(rule.id, "Bo")
    removal.switch_off(rule.id, "Bo")
    with schema.writing() as c:
        c.execute(schema.removal_rules.update().values(ran_at=removal.ago(1)))
    assert removal.carry_out() == 0 and left(small) == {"green.png", "c.png"} and removal.rules(small.id) == []
    told = [(one.kind, one.by) for one in audit.search(audit.Which(), 1, 10)[0] if one.kind.startswith(("removal", "review"))]
    assert told[::-1] == [("removal.set", "Ann"), ("review.remove", "Ann"), ("review.remove", "Ann"), ("removal.off", "Bo")]


def test_a_rule_means_its_class_under_every_name_it_bore(small: Dataset, old: Callable[..., str]) -> None:
    old("before.png", 40)
    removal.set_rule(small.id, 30, ["red"], False, "Ann")
    classes.rename(small.id, "red", "crimson", "Ann")
    assert removal.carry_out() == 1


def test_only_an_admin_sets_or_ends_a_rule(small: Dataset) -> None:
    rule = removal.set_rule(small.id, 30, [], False, "Ann")
    with roles.acting(roles.Person("Tim", "trainer")):
        with pytest.raises(Forbidden):
            removal.set_rule(small.id, 20, [], False, "Tim")
        with pytest.raises(Forbidden):
            removal.switch_off(rule.id, "Tim")
        with pytest.raises(Forbidden):
            removal.rules(small.id)
