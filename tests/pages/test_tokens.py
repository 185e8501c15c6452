"""API tokens on Home: for those who may give them, shown once, revoked by a click."""

from __future__ import annotations

import pytest

from core import roles
from core.data import tokens
from core.roles import Person
from core.types import Dataset
from tests.pages.app import opened, words


def test_a_token_is_made_shown_once_and_revoked(small: Dataset) -> None:
    app = opened("home", dataset=small.name)
    next(t for t in app.text_input if t.label == "Name").set_value("shop")
    next(n for n in app.number_input if n.label == "It may ask").set_value(90)
    next(s for s in app.selectbox if s.label == "times a").select("hour")
    next(b for b in app.button if b.label == "Make a token").click().run()
    assert not app.exception
    secret = next(c.value for c in app.code if c.value.startswith(tokens.PREFIX))
    found = tokens.find(secret)
    assert (
        found
        and (found.name, found.role, found.datasets, found.state, found.rate) == ("shop", "labeller", None, "usable", "90/hour")
        and found.expires_at
    )
    app.run()
    assert not [c for c in app.code if secret in c.value]
    next(b for b in app.button if b.label == "Revoke").click().run()
    again = tokens.find(secret)
    assert again and again.state == "revoked" and "Revoke" not in [b.label for b in app.button]
    assert "Revoked: shop" in words(app)


def test_many_tokens_come_page_by_page(small: Dataset) -> None:
    for n in range(21):
        tokens.add(f"shop {n}", "viewer")
    app = opened("home", dataset=small.name)
    assert not app.exception and len([b for b in app.button if b.label == "Revoke"]) == 20 and "shop 0" not in words(app)


def test_whoever_may_not_give_tokens_is_not_offered_any(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles, "current", lambda: Person("Ann", "moderator"))
    app = opened("home", dataset=small.name)
    assert not app.exception and "Make a token" not in [b.label for b in app.button]
