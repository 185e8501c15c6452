"""The pages of signing in and out and of one's own account: plain forms, since whoever is not signed in gets nothing of Streamlit."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio.to_thread
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from core import roles
from core.api import bodies
from core.api.gate import cookie_name
from core.data import people
from core.errors import AppError, Forbidden, Invalid, Unavailable
from core.people import accounts, oidc, sessions
from core.settings import settings

ASSETS = Path(__file__).resolve().parents[2] / "assets"
MOST_FORM = 10_000  # bytes
STATE = "loupe_oidc"  # the cookie that a way to the provider and back begins with


@lru_cache(maxsize=1)
def _template() -> Template:
    return Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined).get_template(
        "sign_in.html"
    )


@lru_cache(maxsize=1)
def _looks() -> dict[str, Markup]:
    css, logo = (ASSETS / "sign-in" / "sign-in.css", ASSETS / "logo.svg")
    return {"css": Markup(css.read_text(encoding="utf-8")), "logo": Markup(logo.read_text(encoding="utf-8"))}


def _page(page: str, title: str, status: int = 200, **values: Any) -> Response:
    usual: dict[str, Any] = {"wrong": "", "done": "", "next": "/", "name": "", "least": accounts.LEAST, "ways": settings().sign_in}
    found = settings().oidc
    provider = urlsplit(found.issuer).hostname if found else ""
    html = _template().render(page=page, title=title, provider=provider, **_looks(), **{**usual, **values})
    # With no-referrer, which other pages have, a browser gives the origin of a form as “null”.
    return HTMLResponse(html, status, {"Cache-Control": "no-store", "Referrer-Policy": "same-origin"})


async def _form(request: Request) -> dict[str, str]:
    data = await bodies.read(request, MOST_FORM, "This form is too large.")
    try:
        return {name: values[0] for name, values in parse_qs(data.decode(), keep_blank_values=True, max_num_fields=20).items()}
    except ValueError:
        raise HTTPException(400, "The request is not in the expected form.") from None


def _inside(text: str) -> str:
    """An address of our own to go on to, "/" for anything else."""
    parts = urlsplit(text) if text.isascii() and text.isprintable() else urlsplit("")
    mine = text.startswith("/") and not text.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return text if mine and not text.startswith("/sign-") else "/"


def _secure(request: Request) -> bool:
    """Behind https, which ends at the proxy: what that or the browser says counts as well."""
    said = (request.headers.get("origin", ""), request.headers.get("x-forwarded-proto", ""), settings().url)
    return request.url.scheme == "https" or any(one.startswith("https") for one in said)


def _with_session(request: Request, token: str, there: str) -> Response:
    answer = RedirectResponse(there, 303, {"Cache-Control": "no-store"})
    age = settings().session_days * sessions.DAY
    answer.set_cookie(cookie_name(request.headers), token, age, httponly=True, samesite="lax", secure=_secure(request))
    return answer


def _without_session(request: Request) -> Response:
    answer = RedirectResponse("/sign-in", 303, {"Cache-Control": "no-store"})
    answer.delete_cookie(cookie_name(request.headers), httponly=True, samesite="lax", secure=_secure(request))
    return answer


def _browser(request: Request) -> str:
    """In a word or two, for the list of one's own sessions."""
    agent = request.headers.get("user-agent", "")
    name = next((title for word, title in BROWSERS if word in agent), agent[:40])
    system = next((title for word, title in SYSTEMS if word in agent), "")
    return f"{name} on {system}" if system else name


BROWSERS = (("Edg/", "Edge"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
SYSTEMS = (("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac OS", "Mac"), ("Linux", "Linux"))


def _is_on(way: str = "") -> bool:
    return way in settings().sign_in if way else bool(settings().sign_in)


async def sign_in(request: Request) -> Response:
    if not _is_on() or roles.current().session:
        return RedirectResponse(_inside(request.query_params.get("next", "/")), 303)
    if request.method != "POST":
        return _page("sign-in", "Sign in", next=_inside(request.query_params.get("next", "/")))
    form = await _form(request)
    there, name = _inside(form.get("next", "/")), form.get("name", "")[:80]
    try:
        account = await anyio.to_thread.run_sync(accounts.check, name, form.get("password", ""))
        token = await anyio.to_thread.run_sync(sessions.begin, account, "accounts", _browser(request))
    except AppError as e:
        return _page("sign-in", "Sign in", _status(e, 403), wrong=str(e), next=there, name=name)
    return _with_session(request, token, there)


async def sign_out(request: Request) -> Response:
    if session := roles.current().session:
        await anyio.to_thread.run_sync(sessions.end, session)
    return _without_session(request)


async def to_provider(request: Request) -> Response:
    if not _is_on("oidc"):
        return RedirectResponse("/sign-in", 303)
    try:
        begun = await anyio.to_thread.run_sync(oidc.begin, _back(request), _inside(request.query_params.get("next", "/")))
    except AppError as e:
        return _page("sign-in", "Sign in", 502, wrong=str(e))
    answer = RedirectResponse(begun.address, 303, {"Cache-Control": "no-store"})
    answer.set_cookie(STATE, begun.state, oidc.MINUTES * 60, path="/sign-in/oidc", httponly=True, samesite="lax", secure=_secure(request))
    return answer


async def from_provider(request: Request) -> Response:
    if not _is_on("oidc"):
        return RedirectResponse("/sign-in", 303)
    query = request.query_params
    try:
        if query.get("error"):
            raise Forbidden("The provider did not sign you in.", query.get("error_description", query["error"])[:200])
        state = query.get("state", "")
        if not state or state != request.cookies.get(STATE):
            raise Forbidden("This answer of the provider belongs to another sign-in.", "Sign in once more.")
        account, there = await anyio.to_thread.run_sync(oidc.finish, state, query.get("code", ""), _back(request))
        token = await anyio.to_thread.run_sync(sessions.begin, account, "oidc", _browser(request))
    except AppError as e:
        return _page("sign-in", "Sign in", _status(e, 403), wrong=str(e))
    answer = _with_session(request, token, there)
    answer.delete_cookie(STATE, path="/sign-in/oidc")
    return answer


def _back(request: Request) -> str:
    """Where the provider sends people back to, as it knows it."""
    return (settings().url or f"{'https' if _secure(request) else 'http'}://{request.headers['host']}") + "/sign-in/oidc/back"


async def welcome(request: Request) -> Response:
    token = request.path_params["token"]
    if not _is_on("accounts"):
        return RedirectResponse("/", 303)
    try:
        account = await anyio.to_thread.run_sync(accounts.of_link, token)
    except AppError as e:
        dead = "cannot be looked up at present" if isinstance(e, Unavailable) else "does not work any more"
        return _page("closed", f"This link {dead}", _status(e, 404), wrong=str(e))
    title = f"Welcome, {account.name}"
    if request.method != "POST":
        return _page("welcome", title, name=account.name)
    form = await _form(request)
    try:
        _equal(form)
        account = await anyio.to_thread.run_sync(accounts.set_first_password, token, form.get("password", ""))
    except AppError as e:
        return _page("welcome", title, _status(e, 422), wrong=str(e), name=account.name)
    try:
        begun = await anyio.to_thread.run_sync(sessions.begin, account, "accounts", _browser(request))
    except AppError as e:
        return _page("sign-in", "Sign in", _status(e, 403), wrong=f"Your password is set. {e}", name=account.name)
    sessions.forget()
    return _with_session(request, begun, "/")


def _status(error: AppError, usual: int) -> int:
    return 503 if isinstance(error, Unavailable) else usual


def _equal(form: dict[str, str]) -> None:
    if form.get("password", "") != form.get("again", ""):
        raise Invalid("The two passwords differ.", "Type the same one twice.")


async def account(request: Request) -> Response:
    return await _account()


async def _account(status: int = 200, **values: Any) -> Response:
    person = roles.current()
    if not _is_on():
        return RedirectResponse("/", 303)
    found = await anyio.to_thread.run_sync(people.get, person.name)
    mine = await anyio.to_thread.run_sync(people.sessions_of, person.name)
    shown = {"person": person, "role": person.role or "no role everywhere", "has_password": found.password is not None, "sessions": mine}
    return _page("account", "Your account", status, **shown, **values)


async def change_password(request: Request) -> Response:
    form, person = await _form(request), roles.current()
    try:
        _equal(form)
        change = (person.name, form.get("old", ""), form.get("password", ""), person.session)
        await anyio.to_thread.run_sync(accounts.change_password, *change)
    except AppError as e:
        return await _account(_status(e, 422), wrong=str(e))
    sessions.forget()
    return await _account(done="The password is changed. All your other sessions have ended.")


async def end_sessions(request: Request) -> Response:
    """One of one's own, or all where none is named."""
    form, person = await _form(request), roles.current()
    wanted = form.get("session")
    if wanted is None:
        await anyio.to_thread.run_sync(sessions.end_all, person.name)
        return _without_session(request)
    if wanted in {one.key for one in await anyio.to_thread.run_sync(people.sessions_of, person.name)}:
        await anyio.to_thread.run_sync(sessions.end, wanted)
    return await _account(done="That session has ended.")


ROUTES = [
    Route("/sign-in", sign_in, methods=["GET", "POST"]),
    Route("/sign-in/oidc", to_provider),
    Route("/sign-in/oidc/back", from_provider),
    Route("/sign-out", sign_out, methods=["POST"]),
    Route("/welcome/{token}", welcome, methods=["GET", "POST"]),
    Route("/account", account),
    Route("/account/password", change_password, methods=["POST"]),
    Route("/account/sessions", end_sessions, methods=["POST"]),
]
