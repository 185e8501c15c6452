"""The gate: nothing is answered without a session, be it added later; foreign pages, forged names and old cookies are refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import streamlit as st
from argon2 import PasswordHasher
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect
from streamlit.web.server.starlette.starlette_app import create_streamlit_routes

import app
from core import roles
from core.api import gate, routes, sign_in, signing
from core.data import audit, labels, people, store
from core.errors import AppError, Unavailable, Unwritable
from core.people import accounts, sessions
from core.settings import settings
from core.types import Dataset

GOOD = "a sentence with spaces"
PAGE = {"Accept": "text/html"}
MINE = {"Origin": "http://localhost:8501"}
FOREIGN = [
    "http://localhost:3000",
    "http://localhost",
    "https://localhost:8501.evil.example",
    "http://evil.example",
    "null",
    "http://127.0.0.1:8501",
]


async def echo(request: Request) -> Response:
    return PlainTextResponse(roles.current().name)


async def stream(socket: WebSocket) -> None:
    """In place of Streamlit's: says what that is told of who comes."""
    await socket.accept()
    await socket.send_json({name: socket.headers.get(name) for name in (gate.ACTING, "origin", "host")})
    await socket.close()


def made() -> Starlette:
    return Starlette(
        routes=[
            *sign_in.ROUTES,
            *routes.ROUTES,
            Route("/added/later", echo, methods=["GET", "POST"]),
            WebSocketRoute("/_stcore/stream", stream),
        ],
        middleware=[Middleware(gate.Gate)],
        exception_handlers={AppError: routes.app_error, HTTPException: routes.http_error},
    )


@pytest.fixture
def client(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """Somebody's browser where accounts are on."""
    monkeypatch.setenv("LOUPE_SIGN_IN", "accounts")
    settings.cache_clear()
    monkeypatch.setattr(accounts, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    with TestClient(made(), base_url="http://localhost:8501", follow_redirects=False) as client:
        yield client


@pytest.fixture
def local(home: Path) -> Iterator[TestClient]:
    """Somebody's browser where nobody signs in."""
    with TestClient(made(), base_url="http://localhost:8501") as client:
        yield client


@pytest.mark.parametrize("path", ["/_stcore/metrics", "/_stcore/metrics/", "/some/base/_stcore/metrics"])
def test_streamlits_own_metrics_are_closed_to_everybody(client: TestClient, local: TestClient, path: str) -> None:
    enter(client, role="admin")
    assert [one.get(path).status_code for one in (client, local)] == [404, 404]


def enter(client: TestClient, name: str = "Ann", role: str = "labeller") -> str:
    """Signs a new person in; the token that the browser holds."""
    link = accounts.add(name, role)
    answer = client.post(f"/welcome/{link}", data={"password": GOOD, "again": GOOD}, headers=MINE)
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    return answer.cookies["loupe_session_8501"]


def heard(client: TestClient, **headers: str) -> dict[str, str | None]:
    with client.websocket_connect("ws://localhost:8501/_stcore/stream", headers=headers) as socket:
        found: dict[str, str | None] = socket.receive_json()
        return found


def test_a_page_may_connect_to_its_own_host_alone_and_a_foreign_name_is_not_repeated(local: TestClient) -> None:
    policy = local.get("/added/later").headers["content-security-policy"]
    assert "connect-src 'self' ws://localhost:8501 wss://localhost:8501;" in policy and "object-src 'none'" in policy
    for host in ("evil.example", "localhost:8501.evil.example", "localhost:8501;script-src *"):
        refused = local.get("/added/later", headers={"Host": host})
        assert refused.status_code == 403 and "ws://localhost wss://localhost;" in refused.headers["content-security-policy"]


# With sign-in


def every_path() -> set[tuple[str, str]]:
    """Method and path of every route that the server has, Streamlit's own as well."""
    found: set[tuple[str, str]] = set()
    for route in [*app.app._user_routes, *create_streamlit_routes(MagicMock())]:
        path = re.sub(r"\{\w+:int\}", "1", re.sub(r"\{\w+(:path)?\}", "x", getattr(route, "path", ""))) or "/"
        found |= {(method, path) for method in getattr(route, "methods", None) or {"GET"}}
    return found


def test_a_page_asks_to_sign_in_and_anything_else_is_refused_in_words(client: TestClient) -> None:
    answer = client.get("/label?dataset=a b", headers=PAGE)
    assert answer.status_code == 303 and answer.headers["location"] == "/sign-in?next=/label%3Fdataset%3Da%2520b"
    for method, path in (
        ("GET", "/added/later"),
        ("POST", "/added/later"),
        ("GET", "/nothing"),
        ("GET", "/account"),
        ("PUT", "/api/upload/x/y"),
    ):
        answer = client.request(method, path)
        assert answer.status_code == 401 and answer.json()["error"] == {
            "message": "You are not signed in.",
            "hint": "Open Loupe and sign in.",
        }
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    with pytest.raises(WebSocketDisconnect) as refused:
        heard(client)
    assert refused.value.code == 1008


def test_signing_in_leads_back_to_where_one_wanted_to_go_and_nowhere_else(client: TestClient) -> None:
    enter(client)
    client.cookies.clear()
    page = client.get("/sign-in?next=/label", headers=PAGE)
    assert page.status_code == 200 and 'value="/label"' in page.text and "<script" not in page.text
    for there, led in (
        ("/label?dataset=x", "/label?dataset=x"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
    ):
        client.cookies.clear()
        answer = client.post("/sign-in", data={"name": "Ann", "password": GOOD, "next": there}, headers=MINE)
        assert answer.status_code == 303 and answer.headers["location"] == led
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Secure" not in cookie
    client.cookies.clear()
    https = client.post("/sign-in", data={"name": "Ann", "password": GOOD}, headers={"Origin": "https://localhost", "Host": "localhost"})
    assert https.status_code == 303 and "Secure" in https.headers["set-cookie"] and https.headers["set-cookie"].startswith("loupe_session=")


def test_a_wrong_password_is_told_in_a_sentence_and_names_nobody(client: TestClient) -> None:
    enter(client)
    client.cookies.clear()
    for name in ("Ann", "nobody", "<b>Ann</b>", ""):
        answer = client.post("/sign-in", data={"name": name, "password": "wrong"}, headers=MINE)
        assert answer.status_code == 403 and "The name or the password is wrong." in answer.text and "<b>Ann" not in answer.text
        assert "set-cookie" not in answer.headers
    assert client.post("/sign-in", content=b"x" * 20_000, headers=MINE).status_code == 413
    assert client.post("/sign-in", content=b"\xff=\xff", headers=MINE).status_code in (400, 403)


@pytest.mark.parametrize(
    "problem",
    [
        Unavailable("The database cannot be reached, and nothing was stored.", "Try again in a moment."),
        Unwritable("The disk is full: the database could not be written.", "Make room on the disk."),
    ],
)
def test_who_signs_in_while_the_database_is_away_or_the_disk_full_is_told_so_and_may_try_again(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, problem: AppError
) -> None:
    link, password = accounts.add("Ann", "labeller"), {"password": GOOD, "again": GOOD}

    def away(*_: object, **__: object) -> None:
        raise problem

    for name, method, path in (
        ("of_link", "GET", f"/welcome/{link}"),
        ("set_password", "POST", f"/welcome/{link}"),
        ("begin_session", "POST", f"/welcome/{link}"),  # the password is set by then, and the link used
        ("find", "POST", "/sign-in"),
        ("begin_session", "POST", "/sign-in"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(people, name, away)
            answer = client.request(method, path, data={"name": "Ann", **password}, headers=MINE)
        assert answer.status_code == 503 and problem.message in answer.text and "set-cookie" not in answer.headers, (name, path)
        assert "does not work any more" not in answer.text
        assert ("Your password is set." in answer.text) == ((name, path) == ("begin_session", f"/welcome/{link}"))
    assert client.post("/sign-in", data={"name": "Ann", **password}, headers=MINE).status_code == 303


def test_an_expired_link_is_told_in_a_sentence(client: TestClient) -> None:
    link = accounts.add("Ann", "labeller")
    assert "Welcome, Ann" in client.get(f"/welcome/{link}").text
    differ = client.post(f"/welcome/{link}", data={"password": GOOD, "again": "another sentence"}, headers=MINE)
    assert differ.status_code == 422 and "The two passwords differ." in differ.text
    accounts.new_link("Ann")
    for method in ("GET", "POST"):
        answer = client.request(method, f"/welcome/{link}", headers=MINE)
        assert answer.status_code == 404 and "This link was used already, or has expired." in answer.text


def test_forged_and_old_cookies_give_nobody_rights(client: TestClient) -> None:
    token = enter(client)
    assert client.get("/added/later").text == "Ann"
    for name, value in (
        ("loupe_user", "admin"),
        ("loupe_session_8501", "x"),
        ("loupe_session_8501", sessions.key(token)),
        ("loupe_local_8501", signing.local()),
    ):
        client.cookies.clear()
        client.cookies.set(name, value)
        assert client.get("/added/later", headers={gate.ACTING: sessions.named(token)}).status_code == 401, name
    client.cookies.clear()
    client.cookies.set("loupe_session_8501", token)
    client.cookies.set("loupe_user", "admin")
    assert client.get("/added/later", headers={gate.ACTING: "header admin"}).text == "Ann"
    assert heard(client, **{gate.ACTING: "header admin"})[gate.ACTING] == sessions.named(token)
    assert client.post("/sign-out", headers=MINE).headers["location"] == "/sign-in"
    client.cookies.set("loupe_session_8501", token)  # replayed
    assert client.get("/added/later").status_code == 401


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_foreign_page_changes_nothing_and_opens_no_websocket(client: TestClient, origin: str) -> None:
    enter(client)
    answer = client.post("/added/later", headers={"Origin": origin})
    assert answer.status_code == 403 and "may not do this here" in answer.text
    with pytest.raises(WebSocketDisconnect) as refused:
        heard(client, Origin=origin)
    assert refused.value.code == 1008
    assert client.post("/added/later", headers=MINE).text == "Ann"


def test_streamlit_never_sees_an_origin_that_it_would_look_up(client: TestClient) -> None:
    enter(client)
    told = heard(client, Origin="http://localhost:8501")
    assert told["origin"] == f"http://{told['host']}"


def test_a_token_and_an_address_belong_to_the_session_they_were_made_for(client: TestClient, small: Dataset) -> None:
    first = enter(client)
    person = sessions.who(sessions.named(first))
    assert person is not None
    one = store.browse(small.id, store.Filter(), 0, 1)[0]
    with roles.acting(person):
        token, thumb, picture = signing.token("admin"), signing.thumb_url(one), signing.picture_url(one)
    body = {"operation": "o", "dataset_id": small.id, "label": "green", "seen": {one.id: one.label_seq}}
    assert client.post("/api/label", json=body, headers={"X-Loupe-Token": token, **MINE}).status_code == 200
    assert labels.history(small.id, one.id)[0].by == "Ann"  # never the name in the token
    assert [client.get(url).status_code for url in (thumb, picture)] == [200, 200]
    client.cookies.clear()
    enter(client, "Bob")
    assert client.post("/api/label", json=body, headers={"X-Loupe-Token": token, **MINE}).status_code == 401
    assert [client.get(url).status_code for url in (thumb, picture)] == [403, 403]


def test_a_role_taken_away_counts_at_the_next_request(client: TestClient, small: Dataset) -> None:
    person = sessions.who(sessions.named(enter(client)))
    assert person is not None
    one = store.browse(small.id, store.Filter(), 0, 1)[0]
    with roles.acting(person):
        headers = {"X-Loupe-Token": signing.token("Ann"), **MINE}
    body = {"operation": "o", "dataset_id": small.id, "label": "green", "seen": {one.id: one.label_seq}}
    accounts.set_role("Ann", "viewer")
    refused = client.post("/api/label", json=body, headers=headers)
    assert refused.status_code == 403 and refused.json()["error"]["message"] == "Ann may not label, flag and take labels back."
    with roles.acting(person):
        picture = signing.picture_url(one)
    assert client.get(picture).status_code == 200
    accounts.set_role("Ann", None, small.id)
    assert client.post("/api/label", json=body, headers=headers).status_code == 404
    assert client.get(picture).status_code == 404
    accounts.remove("Ann")
    assert client.post("/api/label", json=body, headers=headers).status_code == 401


def test_a_label_waits_while_the_database_that_knows_who_it_is_from_is_away(
    client: TestClient, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = sessions.who(sessions.named(enter(client)))
    assert person is not None
    one = store.browse(small.id, store.Filter(), 0, 1)[0]
    with roles.acting(person):
        headers = {"X-Loupe-Token": signing.token("Ann"), **MINE}
    body = {"operation": "o", "dataset_id": small.id, "label": "green", "seen": {one.id: one.label_seq}}

    def away(_: str) -> None:
        raise Unavailable("The database cannot be reached, and nothing was stored.", "Try again in a moment.")

    with monkeypatch.context() as patch:
        patch.setattr(people, "of_session", away)
        answer = client.post("/api/label", json=body, headers=headers)
        assert answer.status_code == 503  # with 403 the page would take the label back
        assert answer.json()["error"]["message"] == "The database cannot be reached, and nothing was stored."  # which the page says
        page = client.get("/dataset", headers={"Accept": "text/html"})
        assert page.status_code == 503 and page.text.startswith("The database cannot be reached")
    assert [client.post("/api/label", json=body, headers=headers).status_code for _ in range(2)] == [200, 200]
    assert len(labels.history(small.id, one.id)) == 2


def test_one_sees_ones_sessions_and_ends_them(client: TestClient) -> None:
    enter(client)
    there = sessions.begin(people.get("Ann"), "accounts", "Firefox on Windows")
    accounts.add("Bob", "viewer")
    bobs = sessions.begin(people.get("Bob"), "accounts", "")
    page = client.get("/account").text
    assert "Firefox on Windows" in page and "here" in page and "Ann: labeller" in page and sessions.key(bobs) not in page
    client.post("/account/sessions", data={"session": sessions.key(bobs)}, headers=MINE)
    client.post("/account/sessions", data={"session": sessions.key(there)}, headers=MINE)
    assert len(people.sessions_of("Ann")) == 1 and len(people.sessions_of("Bob")) == 1
    wrong = client.post("/account/password", data={"old": "wrong", "password": GOOD, "again": GOOD}, headers=MINE)
    assert wrong.status_code == 422 and "is wrong" in wrong.text
    right = client.post("/account/password", data={"old": GOOD, "password": "another sentence", "again": "another sentence"}, headers=MINE)
    assert right.status_code == 200 and "The password is changed." in right.text
    assert client.post("/account/sessions", headers=MINE).headers["location"] == "/sign-in"
    assert client.get("/added/later").status_code == 401


def test_every_route_of_the_server_is_refused_without_a_session(client: TestClient) -> None:
    paths = every_path()
    assert {"/api/label", "/_stcore/stream", "/_stcore/upload_file/x/x", "/media/x", "/account", "/"} <= {path for _, path in paths}
    ops = {"/healthz", "/readyz", "/metrics"}  # that the server lives; the last tells this machine alone
    answers = {(method, path): client.request(method, path) for method, path in paths}
    assert all("frame-ancestors 'none'" in one.headers["content-security-policy"] for one in answers.values())
    let_in = {path for (_, path), one in answers.items() if one.status_code != 401}
    closed = {"/_stcore/metrics"}  # to everybody: 404
    assert let_in - closed == {"/sign-in", "/sign-in/oidc", "/sign-in/oidc/back", "/welcome/x", "/_stcore/health", *ops}


# A trusted proxy's header


@pytest.fixture
def behind(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SIGN_IN", "header,accounts"), ("PROXIES", "10.0.0.7"), ("ROLE_OF_NEW", "labeller")):
        monkeypatch.setenv(f"LOUPE_{name}", value)
    settings.cache_clear()


def test_the_header_of_a_named_proxy_is_believed_and_that_of_anybody_else_is_not(behind: None) -> None:
    def asks(address: str, port: int = 5000) -> TestClient:
        return TestClient(made(), base_url="http://localhost:8501", client=(address, port))

    told = {b"X-Forwarded-User": "Jörg".encode()}
    assert asks("10.0.0.7").get("/added/later", headers=told).text == "Jörg"
    assert people.get("Jörg").role == "labeller"
    for address, port in (("10.0.0.8", 5000), ("127.0.0.1", 5000), ("10.0.0.7", 0)):  # without a port uvicorn took it from a header
        assert asks(address, port).get("/added/later", headers=told).status_code == 401
    accounts.add("Root", "admin")
    taken = asks("10.0.0.7").get("/added/later", headers={"X-Forwarded-User": "Root"})
    assert taken.status_code == 403 and "signs in another way" in taken.text
    accounts.set_role("Jörg", None)
    accounts.remove("Jörg")
    sessions.forget()
    ended = asks("10.0.0.7").get("/added/later", headers=told)
    assert ended.status_code == 403 and "An admin has ended your access" in ended.text


@pytest.mark.databases("sqlite", "postgresql")
def test_who_comes_by_a_proxy_stands_in_the_audit_once_a_day_and_so_does_each_refusal(
    behind: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_noted", "_refused"):
        monkeypatch.setattr(sessions, name, {})
    accounts.add("Root", "admin")
    client = TestClient(made(), base_url="http://localhost:8501", client=("10.0.0.7", 5000))

    def asked() -> list[tuple[str, str, str]]:
        """What the audit says of sign-ins after everybody has asked twice."""
        for name in ("Ann", "Root", "Ann", "Root", "two\tlines"):
            client.post("/added/later", headers={"X-Forwarded-User": name})
        some = [audit.search(audit.Which(kind=kind), 1, 50)[0] for kind in ("sign-in", "sign-in.failed")]
        return [(one.kind, one.by, one.after.get("way") or one.after["why"]) for found in some for one in found[::-1]]

    refused = (
        ("Root", "“Root” signs in another way here."),
        ("two\tlines", "The name of a person must have 1 to 80 characters on one line."),
    )
    told = [("sign-in", "Ann", "header"), *(("sign-in.failed", *one) for one in refused)]
    assert asked() == told
    added = audit.search(audit.Which(kind="person.add"), 1, 1)[0][0]
    assert (added.by, added.on) == ("Ann", {"person": "Ann"})
    sessions._noted.clear()  # five minutes later
    assert asked() == told
    for where in (audit, people, sessions):
        monkeypatch.setattr(where, "now", lambda: "2100-01-01T00:00:01.000+00:00")
    sessions._noted.clear()
    assert sorted(asked()) == sorted(told * 2)


def test_a_proxy_on_this_machine_is_known_by_what_uvicorn_makes_of_it(behind: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOUPE_PROXIES", "127.0.0.1")
    settings.cache_clear()
    client = TestClient(made(), base_url="http://localhost:8501", client=("203.0.113.9", 0))  # from X-Forwarded-For
    assert client.get("/added/later", headers={"X-Forwarded-User": "Ann"}).text == "Ann"
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")  # then anybody could have sent it
    assert client.get("/added/later", headers={"X-Forwarded-User": "Ann"}).status_code == 401


# Without sign-in


def test_without_sign_in_pages_of_other_ports_are_kept_out_and_ones_own_are_not(local: TestClient) -> None:
    assert local.post("/added/later", headers=MINE).status_code == 403  # a browser that has opened no page of ours
    cookie = local.get("/added/later").headers["set-cookie"]
    assert cookie.startswith("loupe_local_8501=") and "HttpOnly" in cookie and "SameSite=Lax" in cookie
    assert local.post("/added/later", headers=MINE).status_code == 200
    assert heard(local, **MINE)[gate.ACTING] is None
    assert "set-cookie" not in local.get("/added/later").headers
    for origin in FOREIGN:
        assert local.post("/added/later", headers={"Origin": origin}).status_code == 403
        with pytest.raises(WebSocketDisconnect):
            heard(local, Origin=origin)
    local.cookies.set("loupe_local_8501", "x", domain="localhost.local", path="/")
    fetched = TestClient(made(), base_url="http://localhost:8501").get("/added/later", headers={"Sec-Fetch-Site": "same-site"})
    assert "set-cookie" not in fetched.headers


def test_without_sign_in_other_machines_are_not_answered(home: Path) -> None:
    for address, status in (("127.0.0.1", 200), ("::1", 200), ("::ffff:127.0.0.1", 200), ("192.168.1.5", 403), ("2001:db8::1", 403)):
        answer = TestClient(made(), base_url="http://localhost:8501", client=(address, 5000)).get("/added/later")
        assert answer.status_code == status, address
    assert "LOUPE_SIGN_IN" in answer.text


@pytest.mark.parametrize("address", [None, "", "0.0.0.0", "::", "192.168.1.5", "loupe.example"])
def test_the_server_does_not_listen_beyond_this_machine_with_nobody_signed_in(
    home: Path, monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    with pytest.raises(AppError, match="LOUPE_SIGN_IN to accounts, oidc or header"):
        gate.check_address(address)
    for near in ("127.0.0.1", "localhost", "::1", st.get_option("server.address")):
        gate.check_address(near)
    monkeypatch.setenv("LOUPE_SIGN_IN", "accounts")
    settings.cache_clear()
    gate.check_address(address)


def test_without_sign_in_the_pages_of_signing_in_lead_home(local: TestClient) -> None:
    for path in ("/sign-in", "/sign-in/oidc", "/welcome/x", "/account"):
        assert local.get(path, follow_redirects=False).status_code == 303
