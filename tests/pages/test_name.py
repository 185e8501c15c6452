"""The name written beside what people do: asked where one is written, never that of a machine's account."""

from __future__ import annotations

import json

import pytest
import streamlit as st

from core.settings import settings
from core.types import Dataset
from tests.conftest import Trained
from tests.pages.app import PAGES, opened, words

ASKED = "Who are you?"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Nobody has given a name, and the server runs as this login."""
    monkeypatch.delenv("LOUPE_USER", raising=False)
    monkeypatch.setattr("core.settings._login_name", lambda: request.param)
    monkeypatch.setattr(type(st.context), "cookies", property(lambda _: {}))
    settings.cache_clear()
    return str(request.param)


@pytest.mark.parametrize("account", ["root"], indirect=True)
@pytest.mark.parametrize("name", [name for name in PAGES if name not in ("home", "audit", "people")])
def test_every_page_that_writes_a_name_asks_for_it_and_offers_no_account(trained: Trained, account: str, name: str) -> None:
    app = opened(name, dataset=trained.dataset.name)
    (field,) = [t for t in app.text_input if t.label.startswith(ASKED)]
    assert field.value == "" and account not in [t.value for t in app.text_input]
    field.set_value("Ann")
    next(b for b in app.button if b.label == "Begin").click().run()
    assert not app.exception and not [t for t in app.text_input if t.label.startswith(ASKED)], words(app)
    assert app.session_state["user"] == "Ann"


@pytest.mark.parametrize("account", ["root", "Administrator", "www-data"], indirect=True)
def test_what_nobody_has_put_a_name_to_is_not_written_as_the_machines_account(small: Dataset, account: str) -> None:
    app = opened("review", dataset=small.name)
    next(b for b in app.button if b.label == "Begin").click().run()  # without a name
    assert [t for t in app.text_input if t.label.startswith(ASKED)]
    assert "user" not in app.session_state


@pytest.mark.parametrize("account", ["root", "ann"], indirect=True)
def test_review_deals_nothing_out_before_somebody_has_said_who_they_are(small: Dataset, account: str) -> None:
    app = opened("review", dataset=small.name)
    dealing = [e for e in app.get("bidi_component") if "predicted" in e.proto.json]
    assert not dealing and "Say above who you are" in app.info[0].value
    next(t for t in app.text_input if t.label.startswith(ASKED)).set_value("Ann")
    next(b for b in app.button if b.label == "Begin").click().run()
    (dealing,) = [json.loads(e.proto.json) for e in app.get("bidi_component") if "predicted" in e.proto.json]
    assert dealing["user"] == "Ann" and not app.info


@pytest.mark.parametrize("account", ["ann"], indirect=True)
def test_a_persons_login_is_offered(small: Dataset, account: str) -> None:
    app = opened("review", dataset=small.name)
    assert next(t for t in app.text_input if t.label.startswith(ASKED)).value == "ann"


@pytest.mark.parametrize("account", ["root"], indirect=True)
def test_a_name_that_the_browser_kept_is_not_asked_again(small: Dataset, account: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(st.context), "cookies", property(lambda _: {"loupe_user": "J%C3%BCrgen"}))
    app = opened("train", dataset=small.name)
    assert not [t for t in app.text_input if t.label.startswith(ASKED)]
    assert "Jürgen" in [t.value for t in app.text_input]
