"""The gate before all pages and routes: host names, origins, who is signed in, and security headers."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping, Sequence
from functools import partial
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from urllib.parse import quote, urlsplit

import anyio.to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core import roles
from core.api import first, signing
from core.api.problem import problem
from core.errors import AppError, Unavailable
from core.people import sessions
from core.roles import Person
from core.settings import settings

# blob: is how Streamlit loads components; the hashes are of the one inline script in its index.html, as it is and as it is sent.
# WebSockets are named, since not every browser takes them for 'self'.
POLICY = "; ".join(
    (
        "default-src 'self'",
        f"script-src 'self' blob: 'sha256-THxz9J9+wf7rhwR2YkXJoSZ13UCmYyC+3lNDv2+8ugA=' {first.ALLOWED}",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "connect-src 'self' ws://{host} wss://{host}",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "frame-ancestors 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)
API = "/api/v1"  # of other programs, which are refused in its own form
# Answered without a session: how one is begun, and that the server lives. Everything else, and what is added later, needs one.
OPEN = (
    f"{API}/",  # asks for a token of its own
    "/sign-in",
    "/sign-in/oidc",
    "/sign-in/oidc/back",
    "/welcome/",
    "/_stcore/health",
    "/healthz",
    "/readyz",
    "/metrics",
)  # the last guards itself
CLOSED = "/_stcore/metrics"  # Streamlit's own, for everybody; Loupe's are at /metrics
SAFE = ("GET", "HEAD", "OPTIONS")
NOT_KEPT = {"Cache-Control": "no-store"}
PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
ACTING = "x-loupe-acting"  # how the gate tells the pages who a WebSocket belongs to; from outside it is never believed


class Gate:
    """Lets in who is signed in, from the allowed host names (DNS rebinding) and no foreign page, and sets the headers of every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        # In place: who counts requests outside looks into the same scope for the route that was found.
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name.lower() != ACTING.encode()]
        named, person = "", None
        refused_host = _wrong_host(scope, headers)
        host = "localhost" if refused_host else headers["host"]  # anything may stand in the other
        refusal = refused_host or _wrong_origin(scope, headers) or _closed(scope)
        if refusal is None and settings().sign_in:
            try:
                named, person = await _signed_in(scope, headers)
            except Unavailable as e:  # a page keeps what it was sending, says why, and sends it again
                plain = _asks_for_a_page(headers) or _is_api(scope)
                refusal = _refused(scope, 503, e.message, e.hint) if plain else error(503, e.message, e.hint, NOT_KEPT)
            except AppError as e:
                refusal = _refused(scope, 403, e.message, e.hint)
            if refusal is None and person is None and not _open(scope["path"]):
                refusal = _not_signed_in(scope, headers)
        elif refusal is None:
            refusal = _not_from_here(scope, headers)
        cookie = _cookie_to_set(scope, headers) if refusal is None and not settings().sign_in else ""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                out.setdefault("Content-Security-Policy", POLICY.replace("{host}", host))
                out.setdefault("X-Content-Type-Options", "nosniff")
                out.setdefault("Referrer-Policy", "no-referrer")
                if cookie:
                    out.append("Set-Cookie", cookie)
            await send(message)

        if refusal is not None:
            await (
                refusal(scope, receive, send_with_headers) if scope["type"] == "http" else send({"type": "websocket.close", "code": 1008})
            )
        elif scope["type"] == "websocket":  # its scripts run in threads of their own, and ask anew at every click
            await self.app(_as_streamlit_expects(scope, headers, named), receive, send)
        elif person is not None:
            with roles.acting(person):
                await self.app(scope, receive, send_with_headers)
        else:
            await self.app(scope, receive, send_with_headers)


# Where a request comes from -----------------------------------------------------------------------


def _host(text: str) -> tuple[str, int | None] | None:
    """A name or [address], and a port (RFC 3986); None for anything else."""
    name, bracket, rest = text.partition("]")
    name, colon, port = (name + bracket, *rest.partition(":")[1:]) if bracket else text.partition(":")
    if bracket and rest and not rest.startswith(":"):
        return None
    if not name or (colon and not (port.isascii() and port.isdigit() and len(port) <= 5)):
        return None
    return name, int(port) if port else None


def _wrong_host(scope: Scope, headers: Headers) -> Response | None:
    text = headers.get("host", "").lower()
    parsed = _host(text)
    name = parsed[0] if parsed else text
    if parsed and name in settings().allowed_hosts:
        return None
    return _refused(scope, 403, f"Loupe does not answer to “{name}”.", "Add it to LOUPE_ALLOWED_HOSTS if it should.")


def _wrong_origin(scope: Scope, headers: Headers) -> Response | None:
    """A page of another origin, be it another port of this machine, may change nothing and open no WebSocket."""
    if scope["type"] == "http" and scope["method"] in SAFE:
        return None
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
    if (origin is None or _same(origin.lower(), headers.get("host", "").lower())) and site in ("same-origin", "none"):
        return None
    return _refused(scope, 403, f"A page of “{origin or site}” may not do this here.", "Open Loupe at its own address.")


def _closed(scope: Scope) -> Response | None:
    closed = scope["path"].rstrip("/").endswith(CLOSED)
    return _refused(scope, 404, "This address is closed.", "Metrics are at /metrics, on this machine only.") if closed else None


def _same(origin: str, host: str) -> bool:
    """Whether the page was served under this name and port; a proxy may speak https where this server does not."""
    try:
        parts = urlsplit(origin)
        mine, theirs = _host(host), _host(parts.netloc)
    except ValueError:
        return False
    usual = PORTS.get(parts.scheme)
    if mine is None or theirs is None or usual is None or (parts.path or parts.query):
        return False
    return mine[0] == theirs[0] and (mine[1] or usual) == (theirs[1] or usual)


def _as_streamlit_expects(scope: Scope, headers: Headers, named: str) -> Scope:
    """Streamlit compares the origin once more, and for one it does not know it asks another host for this server's address."""
    changed = MutableHeaders(raw=list(scope["headers"]))
    if "origin" in headers:
        changed["origin"] = f"http://{headers['host']}"
    if named:
        changed[ACTING] = named
    return {**scope, "headers": changed.raw}


# Without sign-in ----------------------------------------------------------------------------------


def _not_from_here(scope: Scope, headers: Headers) -> Response | None:
    """Without sign-in Loupe answers to this machine alone, and a browser's page changes something only with this installation's cookie."""
    if (peer := _peer(scope)) and not _is_loopback(peer):
        return _refused(scope, 403, "Loupe answers to other machines only when people sign in.", BEYOND)
    acts = scope["type"] == "websocket" or scope["method"] not in SAFE
    if acts and "origin" in headers and not hmac.compare_digest(_cookie(headers, local=True).encode(), signing.local().encode()):
        return _refused(scope, 403, "This page was not served by Loupe, or by another start of it.", "Reload the page.")
    return None


BEYOND = "Set LOUPE_SIGN_IN to accounts, oidc or header (docs/people.md), or leave server.address at 127.0.0.1."


def check_address(address: str | None) -> None:
    """AppError for a server that would listen beyond this machine with nobody signed in."""
    if not settings().sign_in and address != "localhost" and not (address and _is_loopback(address)):
        where = address or "every address of this machine"
        raise AppError(f"Loupe does not start: it would listen at {where}, and answers to other machines only when people sign in.", BEYOND)


def _is_loopback(address: str) -> bool:
    try:
        found = ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return found.is_loopback or bool(getattr(found, "ipv4_mapped", None) and found.ipv4_mapped.is_loopback)  # type: ignore[union-attr]


def _cookie_to_set(scope: Scope, headers: Headers) -> str:
    """With any answer that a page of another origin cannot have asked for, so that a tab that is open since before has it again."""
    if scope["type"] != "http" or headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return ""
    if _cookie(headers, local=True) == signing.local():
        return ""
    return f"{cookie_name(headers, local=True)}={signing.local()}; Path=/; HttpOnly; SameSite=Lax"


# With sign-in -------------------------------------------------------------------------------------


def cookie_name(headers: Headers, local: bool = False) -> str:
    """Browsers keep cookies by host and not by port: two Loupes of one machine must not take each other's."""
    port = (_host(headers.get("host", "")) or ("", None))[1]
    return f"loupe_{'local' if local else 'session'}{f'_{port}' if port else ''}"


def _cookie(headers: Headers, local: bool = False) -> str:
    found = SimpleCookie()
    try:
        found.load(headers.get("cookie", ""))
    except CookieError:
        return ""
    one = found.get(cookie_name(headers, local))
    return one.value if one else ""


def _peer(scope: Scope) -> str:
    """The address of who is connected; "" where it is none. uvicorn writes the client's own there for a proxy on this machine, without a port."""
    host, port = scope.get("client") or ("", 0)
    try:
        ip_address(host)
    except ValueError:
        return ""
    usual = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1") == "127.0.0.1"  # else it may have come from anywhere
    return host if port else "127.0.0.1" if usual else ""


async def _signed_in(scope: Scope, headers: Headers) -> tuple[str, Person | None]:
    page = _asks_for_a_page(headers)  # asked anew: else one whose session has just ended gets a page that cannot connect
    fresh = scope["type"] == "websocket" or scope["method"] not in SAFE or page
    for named in _names(scope, headers):
        person = None if fresh else sessions.remembered(named)
        person = person or await anyio.to_thread.run_sync(partial(sessions.at_the_gate, named, fresh))
        if person is not None:
            return named, person
    return "", None


def _names(scope: Scope, headers: Headers) -> Sequence[str]:
    """What the request says of who it is: the proxy's word, from its address alone, goes before the browser's."""
    found, name = [], headers.get(settings().header, "")
    if "header" in settings().sign_in and name and _peer(scope) in settings().proxies:
        found.append(sessions.named_by_proxy(name.encode("latin-1").decode(errors="replace")))
    if token := _cookie(headers):
        found.append(sessions.named(token))
    return found


def _asks_for_a_page(headers: Headers) -> bool:
    return "text/html" in headers.get("accept", "")


def _open(path: str) -> bool:
    return any(path == one or (one.endswith("/") and path.startswith(one)) for one in OPEN)


def _not_signed_in(scope: Scope, headers: Headers) -> Response:
    if scope["type"] == "http" and scope["method"] == "GET" and _asks_for_a_page(headers):
        query = scope.get("query_string", b"").decode("latin-1")
        there = scope["path"] + (f"?{query}" if query else "")
        return RedirectResponse(f"/sign-in?next={quote(there)}" if there != "/" else "/sign-in", 303, NOT_KEPT)
    if _is_api(scope):
        return problem(401, "You are not signed in.", f"Every address of the API, and how to ask it, stands at {API}/docs.")
    return error(401, "You are not signed in.", "Open Loupe and sign in.", NOT_KEPT)


def error(status: int, message: str, hint: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """How every route of ours says what went wrong."""
    return JSONResponse({"error": {"message": message, "hint": hint}}, status, headers)


def _is_api(scope: Scope) -> bool:
    path: str = scope["path"]
    return path == API or path.startswith(f"{API}/")


def _refused(scope: Scope, status: int, message: str, hint: str) -> Response:
    return problem(status, message, hint) if _is_api(scope) else PlainTextResponse(f"{message} {hint}\n", status)
