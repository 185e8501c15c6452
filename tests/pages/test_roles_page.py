"""What pages show to people of different roles, and to somebody who was signed out meanwhile."""

from __future__ import annotations

import ast
import re
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from core import roles
from core.api import gate
from core.data import people, queue, store
from core.errors import NotFound, Unavailable
from core.people import accounts, sessions
from core.settings import settings
from core.types import Dataset
from pages.parts.review import queue as the_queue
from pages.shared import frame
from tests import reviewing
from tests.conftest import ROOT
from tests.pages.app import opened, words

DOES = {  # what stands on a page for who may, by its verb
    "import": [("dataset", "Import")],
    "train": [("home", "Show me"), ("train", "Start training")],
    "label": [("label", "Teach me")],
    "delete": [("dataset", "Delete squares")],
}
SOMEBODY = roles.Person("Root", "admin")  # whoever runs the command line
PAGES = sorted({page for shown in DOES.values() for page, _ in shown})


@pytest.fixture
def signs_in(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Signs somebody of a role in, as the gate tells the pages; returns the token."""
    monkeypatch.setenv("LOUPE_SIGN_IN", "accounts")
    settings.cache_clear()

    def sign_in(role: str) -> str:
        accounts.add("Ann", role)
        token = sessions.begin(people.get("Ann"), "accounts", "")
        told = {gate.ACTING: sessions.named(token)}
        monkeypatch.setattr(type(st.context), "headers", property(lambda _: told))
        monkeypatch.setattr(type(st.context), "cookies", property(lambda _: {"loupe_user": "admin"}))
        return token

    yield sign_in
    settings.cache_clear()


def buttons(app: AppTest) -> set[str]:
    return {button.label for button in app.button}


@pytest.mark.parametrize("role", roles.ROLES)
def test_pages_hide_what_a_person_may_not_do_and_say_who_may(small: Dataset, signs_in: Callable[[str], str], role: str) -> None:
    signs_in(role)
    for page in PAGES:
        app = opened(page, dataset=small.name, **({"view": "Add images"} if page == "dataset" else {}))
        assert not app.exception and not app.error, words(app)
        for verb, shown in DOES.items():
            for there, label in shown:
                if there == page:
                    assert (label in buttons(app)) == (role in roles.MAY[verb][1]), (page, label, sorted(buttons(app)))
                    if role not in roles.MAY[verb][1]:
                        assert f"Ann may not {roles.MAY[verb][0]}"[:30] in words(app)
        assert not [t for t in app.text_input if "name" in t.label.lower() and t.value == "admin"]  # the cookie says nothing


def test_a_person_without_a_role_sees_no_dataset(small: Dataset, signs_in: Callable[[str], str]) -> None:
    signs_in("viewer")
    accounts.set_role("Ann", None)
    app = opened("dataset", dataset=small.name)
    assert not app.exception and f"Delete {small.name}" not in buttons(app) and not app.selectbox


def test_somebody_signed_out_meanwhile_is_told_and_shown_nothing(small: Dataset, signs_in: Callable[[str], str]) -> None:
    token = signs_in("admin")
    app = opened("dataset", dataset=small.name)
    assert f"Delete {small.name}" in buttons(app)
    sessions.end(sessions.key(token))
    app.run()
    assert "You are not signed in any more" in words(app) and not app.button and not app.selectbox


def test_a_database_that_is_away_is_told_in_a_sentence_to_who_cannot_be_known(
    small: Dataset, signs_in: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    signs_in("admin")

    def away(_: str) -> None:
        raise Unavailable("The database cannot be reached, and nothing was stored.", "Try again in a moment.")

    monkeypatch.setattr(people, "of_session", away)
    app = opened("home")
    assert not app.exception and "The database cannot be reached" in app.error[0].value and not app.button


def test_a_role_taken_away_counts_at_the_next_click(small: Dataset, signs_in: Callable[[str], str]) -> None:
    signs_in("trainer")
    app = opened("dataset", dataset=small.name)
    delete = next(b for b in app.button if b.label == f"Delete {small.name}")
    with roles.acting(SOMEBODY):
        accounts.set_role("Ann", "viewer")
    delete.click().run()
    assert not app.exception and f"Delete {small.name}" not in buttons(app) and "Ann may not delete" in words(app)
    with roles.acting(SOMEBODY):
        assert store.get_dataset(small.id).deleted_at is None


def test_a_picture_of_another_dataset_is_not_shown_by_its_number(
    small: Dataset, signs_in: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with roles.acting(SOMEBODY):
        hidden = store.create_dataset("hidden")
        row = {"run_id": "gone", "ext": "png", "name": "a.png", "by": "Lea", "predicted": "red", "probability": 0.5}
        queue.add([{**row, "dataset_id": one.id, "image_id": "a" * 16, "probabilities": {}} for one in (small, hidden)])
        (seen,), (unseen,) = (reviewing.waiting(one.id) for one in (small, hidden))
    signs_in("moderator")
    with roles.acting(SOMEBODY):
        accounts.set_role("Ann", None, hidden.id)
    for one, title in ((unseen, "Review"), (seen, "Explain")):
        monkeypatch.setattr(the_queue, "_QUEUE", lambda one=one, **_: SimpleNamespace(why=str(one.id), predict=None))
        app = opened("review", dataset=small.name, view="queue")
        assert not app.exception and app.title[0].value == title


def in_a_thread(what: Callable[[], object]) -> object:
    """As Streamlit makes a file when its button is pressed."""
    answers: list[object] = []

    def work() -> None:
        try:
            answers.append(what())
        except NotFound as e:
            answers.append(e)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return answers[0]


def test_a_file_is_made_for_who_presses_its_button_as_long_as_they_may(
    small: Dataset, signs_in: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {gate.ACTING: sessions.named(signs_in("trainer"))}
    monkeypatch.setattr(type(st.context), "headers", property(lambda _: told))
    roles.found_by(frame.who)

    def made() -> str:
        return roles.allow("export", small.id).name

    press = frame.deferred(made)
    told.clear()  # Streamlit makes the file in a thread without the page's context
    assert isinstance(in_a_thread(made), NotFound) and in_a_thread(press) == "Ann"
    with roles.acting(SOMEBODY):
        accounts.set_role("Ann", None)
    assert isinstance(in_a_thread(press), NotFound)


def test_every_file_that_is_made_when_its_button_is_pressed_is_made_so_by_what_asks_and_leaves_an_entry() -> None:
    found = 0
    for path in (ROOT / "pages").rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            nodes = list(ast.walk(function)) if isinstance(function, ast.FunctionDef) else []
            asked = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
            calls = [call for call in asked if call.func.attr == "download_button"]  # type: ignore[attr-defined]
            for call in calls:
                data = call.args[1]
                assert isinstance(data, ast.Call) and ast.unparse(data.func) == "frame.deferred", (path, ast.unparse(data))
                assert re.search(r"\btaken\.[a-z_]+\b|\breport\.page\b", ast.unparse(function)), path
            found += len(calls)
    assert found >= 4
