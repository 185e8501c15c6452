"""The People page: accounts and roles, for those who may give them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from argon2 import PasswordHasher
from streamlit.testing.v1 import AppTest

from core import roles
from core.data import audit, people
from core.people import accounts, sessions
from core.roles import Person
from core.settings import Oidc, settings
from core.types import Dataset
from tests.pages.app import opened, words

GOOD = "a sentence with spaces"


@pytest.fixture(autouse=True)
def signs_in(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """People sign in, Root is who looks, and a password costs a millisecond."""
    monkeypatch.setenv("LOUPE_SIGN_IN", "accounts")
    settings.cache_clear()
    monkeypatch.setattr(accounts, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    monkeypatch.setattr(roles, "current", lambda fresh=False: Person("Root", "admin", {}, "s"))
    monkeypatch.setattr(type(st.context), "url", property(lambda _: "https://loupe.example/people"))
    yield
    settings.cache_clear()


def press(app: AppTest, label: str, at: int = 0) -> AppTest:
    [b for b in app.button if b.label == label][at].click().run()
    assert not app.exception
    return app


def choose(app: AppTest, label: str, value: Any) -> AppTest:
    next(s for s in app.selectbox if s.label == label).select(value).run()
    assert not app.exception
    return app


def kinds() -> list[str]:
    return [one.kind for one in audit.search(audit.Which(), 1, 100)[0]][::-1]


def test_a_person_is_added_and_the_link_is_shown_once() -> None:
    app = opened("people")
    next(t for t in app.text_input if t.label == "Name").set_value("Ann")
    press(app, "Add")
    address = app.code[0].value
    assert address.startswith("https://loupe.example/welcome/") and accounts.of_link(address.rpartition("/")[2]).role == "labeller"
    assert not app.run().code and "Ann" in words(app) and "never seen yet" in words(app)
    next(t for t in app.text_input if t.label == "Name").set_value("Ann")
    assert "There is a “Ann” already" in press(app, "Add").error[0].value.replace("\\", "")
    press(app, "Change")
    press(app, "New one-time link")
    assert accounts.of_link(app.code[0].value.rpartition("/")[2]).name == "Ann"
    assert kinds() == ["person.add", "person.link", "person.link"]


def test_a_role_and_the_datasets_of_a_person_are_given_and_taken_back(small: Dataset) -> None:
    accounts.add("Ann", "viewer")
    app = press(opened("people"), "Change")
    choose(app, "Role everywhere", "trainer")
    next(s for s in app.selectbox if s.label == "Role there").select("")
    press(app, "Give")
    found = people.get("Ann")
    assert (found.role, found.datasets) == ("trainer", {small.id: None}) and "squares: no access" in words(app)
    press(app, "As everywhere")
    assert people.get("Ann").datasets == {} and kinds()[-3:] == ["person.role"] * 3


def test_an_account_is_switched_off_after_a_question_and_on_again_and_its_sessions_end() -> None:
    ann = accounts.set_first_password(accounts.add("Ann", "viewer"), GOOD)
    named = sessions.named(sessions.begin(ann, "accounts", "Firefox on Linux"))
    app = press(opened("people"), "Change")
    assert "Firefox on Linux since just now" in words(app)
    press(app, "Sign out everywhere")
    assert sessions.who(named, fresh=True) is None and "nowhere" in words(app)
    press(app, "Switch off …")
    assert not people.get("Ann").off_at
    press(app, "Switch off")
    assert people.get("Ann").off_at and "switched off" in words(app) and "New one-time link" not in [b.label for b in app.button]
    press(app, "Switch on")
    assert not people.get("Ann").off_at and kinds()[-3:] == ["person.sign-out", "person.off", "person.on"]


def test_the_last_admin_stays_one_and_the_page_says_why() -> None:
    accounts.set_first_password(accounts.add("Root", "admin"), GOOD)
    app = press(opened("people"), "Change")
    choose(app, "Role everywhere", "viewer")
    assert "only admin who can sign in" in app.error[0].value and people.get("Root").role == "admin"
    assert next(s for s in app.selectbox if s.label == "Role everywhere").value == "admin"
    press(app, "Switch off …")
    assert "your own account" in words(app)
    assert "only admin" in press(app, "Switch off").error[0].value


def test_people_are_searched_and_paged(monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(26):
        people.add(f"Person {i:02}", "viewer", "accounts")
    app = opened("people")
    assert "26 people, 25 a page" in words(app) and "Person 24" in words(app).replace("\\", "") and "Person 25" not in words(app)
    assert "Person 25" in words(opened("people", page="2"))
    found = words(opened("people", find="25"))
    assert "1 person" in found and "Person 25" in found and "Person 24" not in found
    assert "Nobody has that in the name" in opened("people", find="nobody").info[0].value


def test_a_role_that_the_providers_claim_says_is_told_and_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOUPE_SIGN_IN", "oidc")
    for name, value in (("ISSUER", "https://id.example"), ("CLIENT_ID", "loupe"), ("CLIENT_SECRET", "s"), ("ROLE_CLAIM", "groups")):
        monkeypatch.setenv(f"LOUPE_OIDC_{name}", value)
    settings.cache_clear()
    assert isinstance(settings().oidc, Oidc)
    app = opened("people")
    next(t for t in app.text_input if t.label == "Name").set_value("Bea")
    press(app, "Add")
    assert "Bea may sign in by OpenID Connect. The provider must call that person so." in app.success[0].value and not app.code
    press(app, "Change")
    assert "claim “groups” says it at every sign-in" in words(app) and "Role everywhere" not in [s.label for s in app.selectbox]
    assert "New one-time link" not in [b.label for b in app.button]


def test_whoever_may_not_give_roles_is_told_who_may_and_shown_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    accounts.add("Ann", "viewer")
    monkeypatch.setattr(roles, "current", lambda fresh=False: Person("Tess", "trainer", {}, "s"))
    app = opened("people")
    assert not app.exception and "That is for: admin" in words(app).replace("\\", "") and "Ann" not in words(app)
    assert "Add" not in [b.label for b in app.button]
