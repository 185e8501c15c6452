"""The Audit page: what was done can be read, searched and verified there, by those who may."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import streamlit as st

from core import roles
from core.catalog import params
from core.data import audit, labels, people, queue, schema, store
from core.review import review
from core.runs import runs
from core.settings import settings
from core.types import Dataset, Snapshot
from pages.shared import times
from tests import reviewing
from tests.pages.app import opened, words


@pytest.fixture(autouse=True)
def no_cookies(monkeypatch: pytest.MonkeyPatch) -> None:
    """AppTest has another mock in their place at each run, so that the name beside what is done would change."""
    monkeypatch.setattr(type(st.context), "cookies", property(lambda _: {}))


def run_named(of: Dataset) -> str:
    made = runs.new("ConvNet 1", of, params.run_config({}), Snapshot("s", of.classes, ()), "tester")
    runs.create(settings().runs / made.id, made, Snapshot("s", of.classes, ()))
    return made.id


def test_the_page_says_what_was_done_on_what_by_whom_and_leads_there(home: Path, small: Dataset) -> None:
    image = next(i for i in store.all_images(small.id) if i.label == "red")
    labels.apply(small.id, {image.id: image.label_seq}, "green", "eve_1")
    app = opened("audit", person="eve_1")
    told = words(app).replace("\\", "")  # names are shown as text
    assert "1 entry, 25 a page" in told and "label: red → green" in told and "eve_1" in told
    assert {"Image", "Dataset", "Show"} <= {b.label for b in app.button}
    next(b for b in app.button if b.label == "Show").click().run()
    assert not app.exception and image.id in app.json[0].value
    assert app.dataframe[0].value.to_dict("records")[0] == {"What": "label", "Before": "red", "After": "green"}
    next(b for b in app.button if b.label == "Verify").click().run()
    assert "All 4 entries are as they were written" in app.success[0].value
    assert "Nothing of this kind" in opened("audit", person="eve_1", kind="flag").info[0].value
    assert "2 entries" in words(opened("audit", image=image.id))


def test_a_name_that_looks_like_a_day_before_all_calendars_is_shown_as_it_is(small: Dataset) -> None:
    with schema.writing() as c:
        audit.record(c, "class.add", on={"dataset": small.id}, before={}, after={"class": "0001-01-01T00:00:00+14:00"})
    app = opened("audit", kind="class.add")
    assert not app.exception and "0001-01-01T00:00:00+14:00" in words(app).replace("\\", "")


def test_each_entry_leads_to_what_it_speaks_of(small: Dataset) -> None:
    red, run = next(i for i in store.all_images(small.id) if i.label == "red"), run_named(small)
    labels.apply(small.id, {red.id: red.label_seq}, "green", "tester")
    with schema.writing() as c:
        for kind, on in (
            ("person.add", {"person": "Ann"}),
            ("token.add", {"token": "shop"}),
            ("policy.write", {"dataset": small.id, "policy": 7}),
            ("review.decide", {"dataset": small.id, "images": ["f" * 16], "submission": 3}),
            ("removal.set", {"dataset": small.id, "rule": 1}),
            ("review.refuse", {"dataset": small.id, "images": ["e" * 16, "f" * 16]}),
            ("run.start", {"dataset": small.id, "run": run}),
            ("run.stop", {"run": run}),
            ("class.add", {"dataset": small.id}),
            ("split.keep", {"dataset": small.id}),
        ):
            audit.record(c, kind, on=on)
    people.add("Ann", "viewer", "accounts")
    store.create_dataset("the newest, which pages begin with")
    there = {"dataset": small.name}
    decisions = {"view": "decisions", "verdict": "all", "q": "f" * 16}
    for kind, button, page, query in (
        ("person.add", "Person", "People", {"find": "Ann"}),
        ("token.add", "Tokens", "Home", {"tokens": "1"}),
        ("policy.write", "Policy", "Review", there | {"view": "policy"}),
        ("review.decide", "Decisions", "Review", there | decisions),
        ("review.refuse", "Decisions", "Review", there | {"view": "decisions"}),
        ("removal.set", "Rule", "Predict", there),
        ("run.start", "Run", "Train", there | {"run": run}),
        ("run.stop", "Run", "Train", there | {"run": run}),
        ("class.add", "Dataset", "Dataset", there | {"view": "Classes"}),
        ("split.keep", "Dataset", "Dataset", there | {"view": "Browse"}),
    ):
        app = opened("audit", kind=kind)
        assert "Image" not in {b.label for b in app.button}  # those that were decided are not in the dataset
        next(b for b in app.button if b.label == button).click().run()
        assert not app.exception and app.title[0].value == page, (kind, words(app))
        assert query.items() <= dict(app.query_params).items(), kind
    with schema.writing() as c:
        audit.record(
            c, "policy.write", on={"dataset": small.id}, after={"limits": {"dog": {"lower": 0.1, "upper": 0.9}}, "overdue_hours": 4}
        )
    assert "limits: dog (lower 0.1, upper 0.9), overdue hours: 4" in words(opened("audit", kind="policy.write")).replace("\\", "")
    app = opened("audit", kind="label")
    next(b for b in app.button if b.label == "Image").click().run()
    assert not app.exception and "Go back to before this" in words(app)  # beside the picture


def test_a_decision_is_found_whatever_was_filtered_in_review_before(small: Dataset) -> None:
    row = {"dataset_id": small.id, "run_id": run_named(small), "ext": "png", "by": "Lea", "predicted": "red", "probability": 0.5}
    queue.add([{**row, "probabilities": {"red": 0.5}, "image_id": one * 16, "name": f"{one}.png"} for one in "ab"])
    for one in reviewing.waiting(small.id):
        review.decide(one.id, "rejected", None, "Ann" if one.name == "a.png" else "Bob")
    review.undo(small.id, "Ann")
    app = opened("audit")
    app.session_state["by"], app.session_state["decisions-back"] = "Bob", False  # as Review leaves them in the session
    assert "state: waiting → decided, verdict: rejected" in words(app).replace("\\", "")
    last = audit.head()
    assert last
    app.button(key=f"Decisions-{last.seq}").click().run()
    assert not app.exception and app.title[0].value == "Review"
    assert "1 decision," in words(app) and app.dataframe[0].value.iloc[0]["Person"] == "Ann"


def test_the_days_are_those_of_who_looks_and_the_last_one_counts(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times, "zone", lambda: ZoneInfo("Asia/Tokyo"))  # nine hours ahead
    for at in ("2026-03-01T14:59:59.999", "2026-03-01T15:00:00.000", "2026-03-02T14:59:59.999", "2026-03-02T15:00:00.000"):
        monkeypatch.setattr(audit, "now", lambda at=at: f"{at}+00:00")
        audit.note("begin", on={"at": at})
    app = opened("audit", kind="begin", **{"from": "2026-03-02", "until": "2026-03-02"})
    assert not app.exception and "2 entries" in words(app)
    since, until = app.date_input
    until.set_value(date(2026, 3, 3)).run()
    assert "3 entries" in words(app)
    since.set_value(None).run()
    assert "4 entries" in words(app)


def test_the_page_names_a_changed_entry(home: Path, small: Dataset) -> None:
    with schema.writing() as c:
        c.exec_driver_sql("DROP TRIGGER audit_no_update")
        c.exec_driver_sql("UPDATE audit SET by = 'nobody' WHERE seq = 2")
    app = opened("audit")
    next(b for b in app.button if b.label == "Verify").click().run()
    assert "Entry 2 was changed" in app.error[0].value


def test_who_may_not_read_the_audit_does_not_find_it(home: Path, small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles, "current", lambda **_: roles.Person("Ada", "trainer"))
    app = opened("home")
    assert not app.exception
    with pytest.raises(ValueError, match="audit"):  # it is no page of theirs
        app.switch_page("audit.py")
