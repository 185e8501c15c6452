"""OpenID Connect against a provider in this process: who comes back, and which answers are not believed."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from core import roles
from core.api import gate, sign_in
from core.data import audit, people
from core.people import accounts, oidc, sessions
from core.settings import settings

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the provider's own code


async def echo(request: Request) -> Response:
    return PlainTextResponse(f"{roles.current().name} {roles.current().role}")


@pytest.fixture
def client(home: Path, provider: str, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    for name, value in (
        ("LOUPE_SIGN_IN", "oidc"),
        ("LOUPE_OIDC_ISSUER", provider),
        ("LOUPE_OIDC_CLIENT_ID", "loupe"),
        ("LOUPE_OIDC_CLIENT_SECRET", "secret"),
        ("LOUPE_OIDC_NAME_CLAIM", "name"),
    ):
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    app = Starlette(routes=[*sign_in.ROUTES, Route("/me", echo)], middleware=[Middleware(gate.Gate)])
    return TestClient(app, base_url="http://localhost:8501", follow_redirects=False)


def known(provider: str, sub: str, **claims: Any) -> None:
    assert requests.put(f"{provider}/users/{sub}", json=claims, timeout=10).ok


def went(client: TestClient, sub: str, there: str = "/me") -> str:
    """To the provider, where somebody signs in; the address it sends the browser back to."""
    begun = client.get("/sign-in/oidc", params={"next": there})
    assert begun.status_code == 303
    asked = parse_qs(urlsplit(begun.headers["location"]).query)
    assert asked["code_challenge_method"] == ["S256"] and asked["nonce"] and asked["state"]
    back = requests.post(begun.headers["location"], data={"sub": sub}, allow_redirects=False, timeout=10)
    assert back.headers["location"].startswith("http://localhost:8501/sign-in/oidc/back?")
    return back.headers["location"]


def test_who_signs_in_at_the_provider_is_here_with_the_role_that_an_admin_gives(client: TestClient, provider: str) -> None:
    known(provider, "a-1", name="Ann")
    back = client.get(went(client, "a-1"))
    assert back.status_code == 303 and back.headers["location"] == "/me" and "HttpOnly" in back.headers["set-cookie"]
    assert client.get("/me").text == "Ann None"  # known, and allowed nothing yet
    accounts.set_role("Ann", "trainer")
    sessions.forget()
    assert client.get("/me").text == "Ann trainer"
    known(provider, "a-1", name="Ann B.")  # married: the subject counts, not the name
    client.get(went(client, "a-1"))
    assert client.get("/me").text == "Ann trainer"


def test_behind_https_the_cookies_of_this_way_are_for_https_alone(client: TestClient, provider: str) -> None:
    known(provider, "a-1", name="Ann")
    proxied = {"X-Forwarded-Proto": "https"}
    begun = client.get("/sign-in/oidc", headers=proxied)
    assert "Secure" in begun.headers["set-cookie"] and "HttpOnly" in begun.headers["set-cookie"]
    asked = requests.post(begun.headers["location"], data={"sub": "a-1"}, allow_redirects=False, timeout=10).headers["location"]
    assert asked.startswith("https://localhost:8501/sign-in/oidc/back?")
    state = client.cookies.get(sign_in.STATE) or begun.cookies[sign_in.STATE]
    sent = proxied | {"Cookie": f"{sign_in.STATE}={state}"}  # which the browser sends over https alone
    back = client.get(asked.removeprefix("https://localhost:8501"), headers=sent)
    (session,) = (one for one in back.headers.get_list("set-cookie") if one.startswith("loupe_session"))
    assert back.status_code == 303 and "Secure" in session and "HttpOnly" in session and "SameSite=lax" in session


def test_accounts_and_a_provider_side_by_side_let_each_in_its_own_way(
    client: TestClient, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOUPE_SIGN_IN", "accounts,oidc")
    settings.cache_clear()
    page = client.get("/sign-in").text
    assert 'name="password"' in page and 'href="/sign-in/oidc' in page
    mine = {"Origin": "http://localhost:8501"}
    link, password = accounts.add("Root", "admin"), {"password": "a sentence with spaces"}
    assert client.post(f"/welcome/{link}", data=password | {"again": password["password"]}, headers=mine).status_code == 303
    assert client.get("/me").text == "Root admin"
    client.cookies.clear()
    known(provider, "a-1", name="Ann")
    client.get(went(client, "a-1"))
    assert client.get("/me").text == "Ann None"
    client.cookies.clear()
    refused = client.post("/sign-in", data=password | {"name": "Ann"}, headers=mine)
    assert refused.status_code == 403 and "is wrong" in refused.text  # she has no password here
    known(provider, "evil", name="Root")
    assert "There is a “Root” already." in client.get(went(client, "evil")).text
    assert client.post("/sign-in", data=password | {"name": "Root"}, headers=mine).status_code == 303


def test_a_role_comes_from_a_claim_and_goes_with_it(client: TestClient, provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOUPE_OIDC_ROLE_CLAIM", "groups")
    settings.cache_clear()
    for groups, role in ((["labeller", "trainer", "cook"], "trainer"), ("viewer", "viewer"), (["cook"], "None"), ({"admin": 1}, "None")):
        known(provider, "b-1", name="Bob", groups=groups)
        client.get(went(client, "b-1"))
        sessions.forget()
        assert client.get("/me").text == f"Bob {role}"
    known(provider, "b-1", name="Bob", groups=["admin"])
    client.get(went(client, "b-1"))
    known(provider, "b-1", name="Bob", groups=["cook"])
    assert client.get(went(client, "b-1")).status_code == 303 and people.get("Bob").role is None  # the only admin: its word holds
    last = audit.search(audit.Which(kind="person.role"), 1, 1)[0][0]
    assert (last.by, last.before, last.after) == ("Bob", {"role": "admin"}, {"role": None, "claim": True})
    assert [one.by for one in audit.search(audit.Which(kind="person.add"), 1, 9)[0]] == ["Bob"]


def test_nobody_takes_the_account_of_another_by_a_name(client: TestClient, provider: str) -> None:
    accounts.add("Root", "admin")
    known(provider, "evil", name="Root")
    refused = client.get(went(client, "evil"))
    assert refused.status_code == 403 and "There is a “Root” already." in refused.text and "set-cookie" not in refused.headers
    accounts.add("Carl", "trainer", "oidc")  # named by an admin beforehand, for this way
    known(provider, "c-1", name="Carl")
    client.get(went(client, "c-1"))
    assert client.get("/me").text == "Carl trainer"
    known(provider, "c-2", name="Carl")
    assert client.get(went(client, "c-2")).status_code == 403
    accounts.switch_off("Carl")
    known(provider, "c-1", name="Carl")
    assert "switched your account off" in client.get(went(client, "c-1")).text
    accounts.remove("Carl")
    known(provider, "c-1", name="Carl the second")
    ended = client.get(went(client, "c-1"))
    assert ended.status_code == 403 and "An admin has ended your access" in ended.text
    assert [one.name for one in people.everybody()] == ["Root"]
    failed = [one for one in audit.search(audit.Which(), 1, 50)[0] if one.kind == "sign-in.failed"][::-1]
    assert [one.by for one in failed] == ["Root", "Carl", "Carl", "Carl the second"] and "switched" in failed[2].after["why"]


def test_an_answer_that_is_replayed_or_another_browsers_is_refused(
    client: TestClient, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(provider, "a-1", name="Ann")
    back = went(client, "a-1")
    other = TestClient(client.app, base_url="http://localhost:8501", follow_redirects=False)
    assert "belongs to another sign-in" in other.get(back).text
    assert client.get(back).status_code == 303
    client.cookies.clear()
    client.cookies.set(sign_in.STATE, parse_qs(urlsplit(back).query)["state"][0])
    assert "finished already" in client.get(back).text
    client.cookies.clear()
    late = went(client, "a-1")
    state = parse_qs(urlsplit(late).query)["state"][0]
    oidc._ways[state] = replace(oidc._ways[state], until=time.time() - 1)
    assert "took too long" in client.get(late).text
    assert "did not sign you in" in client.get("/sign-in/oidc/back?error=access_denied").text


def test_an_answer_for_another_client_or_another_asking_is_not_believed(
    client: TestClient, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(provider, "a-1", name="Ann")
    back = went(client, "a-1")
    state = parse_qs(urlsplit(back).query)["state"][0]
    oidc._ways[state] = replace(oidc._ways[state], nonce="another")
    assert "could not be checked" in client.get(back).text
    back = went(client, "a-1")
    monkeypatch.setenv("LOUPE_OIDC_CLIENT_ID", "another")
    settings.cache_clear()
    assert "could not be checked" in client.get(back).text
    assert people.everybody() == []


def test_a_provider_that_does_not_answer_is_told_in_a_sentence(client: TestClient, monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    monkeypatch.setenv("LOUPE_OIDC_ISSUER", f"http://localhost:{free_port}")
    settings.cache_clear()
    oidc._metadata.cache_clear()
    answer = client.get("/sign-in/oidc")
    assert answer.status_code == 502 and "does not answer" in answer.text
    oidc._metadata.cache_clear()
