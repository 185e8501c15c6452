"""The ways from page to page, and what of a page is in its address."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core import metrics
from core.catalog import params
from core.data import claims, store
from core.runs import runs
from core.train import train
from core.types import Dataset
from pages.parts.train import runs as table
from pages.shared import frame
from tests.conftest import Trained, stored_dataset
from tests.data.acts import give
from tests.pages.app import opened, words


@pytest.mark.parametrize("page", ["home", "train"])
def test_whoever_is_asked_to_add_images_comes_to_the_import(home: Path, request: pytest.FixtureRequest, page: str) -> None:
    if page == "home":  # with a dataset, whose images would be shown else
        request.getfixturevalue("small")
    app = opened(page)
    next(b for b in app.button if b.label in ("Add my images", "Add images")).click().run()
    assert app.title[0].value == "Dataset" and "Three ways in" in words(app)


def test_whoever_goes_to_the_dataset_page_otherwise_sees_the_images(small: Dataset) -> None:
    app = opened("dataset", dataset=small.name)
    assert "Three ways in" not in words(app)


@pytest.fixture
def many(home: Path, tmp_path: Path, squares: Callable[[Path, int], Path]) -> Dataset:
    """129 coloured squares: three pages of the Label page."""
    return stored_dataset("many", squares(tmp_path / "squares", 43))


def at(name: str, **query: str) -> AppTest:
    app = opened(name, **query)
    assert not app.exception and not app.error, words(app)
    return app


def asked(app: AppTest) -> dict[str, str]:
    """What stands in the address."""
    return {name: value if isinstance(value, str) else value[0] for name, value in app.query_params.items()}


def press(app: AppTest, key: str) -> None:
    app.button(key=key).click().run()
    assert not app.exception and not app.error, words(app)


def test_the_pages_of_an_order_are_numbered_have_an_end_and_begin_again(many: Dataset) -> None:
    app = at("label", dataset=many.name, show="all", order="added")
    assert "Page 1 of 3: 60 of 129" in words(app)
    first = app.session_state["batch"]["ids"]
    press(app, "next")
    press(app, "next")
    assert "Page 3 of 3: 9 of 129" in words(app) and asked(app)["page"] == "3"
    assert not [b for b in app.button if b.key == "next"]
    press(app, "previous")
    assert "Page 2 of 3: 60 of 129" in words(app)
    press(app, "next")
    assert len(app.session_state["batch"]["ids"]) == 9
    press(app, "again")
    assert "Page 1 of 3" in words(app) and app.session_state["batch"]["ids"] == first
    press(app, "next")
    assert "Page 2 of 3" in words(app) and not set(first) & set(app.session_state["batch"]["ids"])


def test_a_reload_shows_the_same_page_in_the_same_order(many: Dataset) -> None:
    app = at("label", dataset=many.name, show="labelled", order="added")
    press(app, "next")
    assert asked(app) == {"dataset": "many", "view": "Grid", "show": "labelled", "order": "added", "page": "2"}
    again = at("label", **asked(app))
    assert again.session_state["batch"]["ids"] == app.session_state["batch"]["ids"]
    again.query_params["page"] = "1"  # the browser's way back
    assert "Page 1 of 3" in words(again.run())
    press(again, "next")
    assert again.session_state["batch"]["ids"] == app.session_state["batch"]["ids"]


@pytest.mark.parametrize("page", ["0", "-1", "99999999999999999999", "two", "9"])
def test_a_page_that_is_not_there_is_the_first_or_the_last(many: Dataset, page: str) -> None:
    last = page == "9"
    for name in ("label", "dataset"):
        app = at(name, dataset=many.name, show="all", page=page)
        assert asked(app).get("page", "1") == ("3" if last else "1")


def test_where_nothing_is_left_to_label_the_likely_wrong_labels_are_one_click_away(small: Dataset) -> None:
    app = opened("label", dataset=small.name)
    assert "Nothing left to label" in words(app) and "Label about 20 images" not in words(app)  # 24 have a label
    press(app, "to-likely-wrong")
    assert {s.label: s.value for s in app.selectbox if s.label in ("Order", "Show")} == {"Order": "likely-wrong", "Show": "all"}
    assert asked(app)["order"] == "likely-wrong"


def test_ones_own_images_are_with_nobody_else_and_what_others_had_is_dealt_out_again(small: Dataset) -> None:
    every = [i.id for i in store.all_images(small.id)]
    give(small, every, None)
    app = at("label", dataset=small.name)
    for view in ("One at a time", "Grid"):
        app.query_params["view"] = view
        assert "with others" not in words(app.run()) and not app.exception
        assert app.session_state["batch"]["ids"] == every
    claims.release(small.id, app.session_state["session"])
    claims.deal(small.id, "another", every, len(every))
    app = at("label", dataset=small.name)
    assert f"{len(every)} images are with others" in words(app)
    claims.release(small.id, "another")
    press(app, "look-again")
    assert "Nothing left" not in words(app) and app.session_state["batch"]["ids"] == every


def test_what_was_looked_for_in_a_dataset_is_there_after_a_reload_and_not_in_another(many: Dataset) -> None:
    app = at("dataset", dataset=many.name)
    one = next(s for s in app.selectbox if s.label == "Class").options[1].partition(" (")[0]
    next(s for s in app.selectbox if s.label == "Class").set_value(one).run()
    app.text_input(key="text").set_value("1").run()
    assert asked(app)["class"] == one and not app.exception
    again = at("dataset", **asked(app) | {"text": "1"})  # what is typed a browser writes there by itself
    assert next(s for s in again.selectbox if s.label == "Class").value == one and again.text_input(key="text").value == "1"
    shown = [line for line in words(again).splitlines() if " images, " in line]
    assert shown == [line for line in words(app).splitlines() if " images, " in line] and shown
    store.create_dataset("empty")
    again.query_params["dataset"] = "empty"
    again.run()
    assert "class" not in asked(again)
    gone = at("dataset", dataset=many.name, **{"class": "no such class"})
    assert "class" not in asked(gone) and not gone.exception


@pytest.mark.parametrize("page", ["evaluate", "predict", "train"])
def test_a_link_to_a_run_that_is_gone_says_so_and_shows_no_other_as_if_it_were_that(trained: Trained, page: str) -> None:
    said = words(at(page, dataset=trained.dataset.name, run="nope")).replace("\\", "")
    assert f"The run of this link is not in “{trained.dataset.name}”." in said
    assert page == "train" or f"This is {runs.load(runs.folder(trained.run_id)).name}." in said
    app = at(page, dataset=trained.dataset.name, run=trained.run_id)
    assert "The run of this link" not in words(app)
    if page == "train":  # a link that is followed within the session
        app.query_params["run"] = "nope"
        assert "The run of this link" in words(app.run())


def test_few_validation_images_are_counted_and_no_share_is_made_of_them_on_home_in_the_picker_and_in_the_table(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = train.state(trained.run_id)
    n, value = state.run.counts["validation"], state.best.val_accuracy if state.best else None
    assert n and value is not None
    count = f"{round(value * n)} of {n}"
    for few in (n, n + 1):
        for module in (metrics, frame, table):
            monkeypatch.setattr(module, "TOO_FEW", few)
        shown = words(app := opened("home", dataset=trained.dataset.name)) + str(app.dataframe[0].value.to_dict())
        picked = str(next(s for s in opened("evaluate", dataset=trained.dataset.name).selectbox if s.label == "Run").options)
        runs_table = opened("train", dataset=trained.dataset.name).dataframe[0].value
        assert [f"{value:.1%}" in text for text in (shown, picked)] == [few == n] * 2
        assert [count in text for text in (shown, picked, str(list(runs_table["interval"])))] == [few > n] * 3


def test_the_tour_is_there_after_a_reload_shows_the_run_it_has_trained_and_leaves_the_way_to_ones_own_images(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = opened("home", dataset=trained.dataset.name, tour=trained.run_id)
    assert "2 · The network learns" in words(app)
    press(app, "close-tour")
    assert "tour" not in asked(app) and "2 · The network learns" not in words(app)
    assert [b.label for b in app.button if b.key == "add-mine"] == ["Add my images"]
    monkeypatch.setattr(train, "start", lambda *_: pytest.fail("a second network was trained"))
    monkeypatch.setattr(params, "run_config", lambda _: train.state(trained.run_id).run.config)
    monkeypatch.setattr(store, "find_dataset", lambda _: trained.dataset)
    press(app, "show-me")
    assert "2 · The network learns" in words(app) and asked(app)["tour"] == trained.run_id
