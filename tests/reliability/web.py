"""Every route asked with odd numbers, paths out of its folder, foreign hosts and origins, and forged or old signatures."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from core.api import gate, operations, review, routes, sign_in, signing
from core.api.v1.app import app as v1
from core.data import tokens
from core.errors import AppError
from tests.reliability import acts, homes
from tests.reliability.row import Row

BASE = "http://localhost:8501"
NUMBERS = [
    "1e9", "-1", "NaN", "inf", "9" * 23, "2147483648", "9223372036854775808", "-9223372036854775809", "0x10", "1.5", "", "١", "²", "1_0", "+1",
    " 1", "%00", "null", "true", "[]", "\ud7ff", "x" * 5000,
]  # fmt: skip
VALUES: list[Any] = [
    1e9, -1, float("nan"), float("inf"), 10**30, 2**31, 2**63, "1", "x\x00", "\ud800", None, True, [], {}, [1e9], {"a": 1}, 1.5, "9" * 5000,
]  # fmt: skip
OUT = [
    "../secret", "..%2fsecret", "%2e%2e/secret", "..\\secret", "..%5csecret", "....//secret", "/etc/passwd", "%2fetc%2fpasswd", "//etc/passwd",
    "C:\\boot.ini", "\\\\host\\share", "a/../../secret", "%252e%252e%252fsecret", "..;/secret", "secret%00.png", ".", "..", "~/.ssh/id_rsa",
    "file:///etc/passwd", "..%c0%afsecret", "\uff0e\uff0e/secret", "CON", "a" * 300, "../loupe.db", "..%2f..%2floupe.db",
]  # fmt: skip
HOSTS = [
    "evil.example", "localhost:8501.evil.example", "localhost.evil.example", "localhost:8501@evil.example", "evil.example:8501", "localhost:",
    "127.0.0.1.nip.io", "0.0.0.0", "[::1]evil.example", "[::1].evil.example:8501", "localhost:99999999", "localhost:8501, evil.example", "",
    "localhost\t", "localhost/evil.example", "evil.example#localhost", "localhost:٨", "2130706433", "0x7f.1", "localhost..",
]  # fmt: skip
ORIGINS = [
    "http://evil.example", "http://localhost:9999", "http://127.0.0.1:1", "http://localhost", "https://localhost:8501.evil.example", "null",
    "http://localhost:8501.evil.example", "http://localhost:8501@evil.example", "file://", "", "http://127.0.0.1:8501", "chrome-extension://x",
    "http://[::1]:8501", "ws://evil.example", "http://localhost:8501/x", "http://localhost:850", "http://localhost:85010", "http://LOCALHOST.evil:8501",
]  # fmt: skip


def served() -> TestClient:
    app = Starlette(
        routes=[Mount("/api/v1", v1), *sign_in.ROUTES, *routes.ROUTES, *operations.ROUTES, WebSocketRoute("/_stcore/stream", _socket)],
        middleware=[Middleware(operations.Meter), Middleware(gate.Gate)],
        exception_handlers={AppError: routes.app_error, HTTPException: routes.http_error},
    )
    return TestClient(app, base_url=BASE, raise_server_exceptions=False)


async def _socket(socket: WebSocket) -> None:
    """In the place of Streamlit's."""
    await socket.accept()
    await socket.close()


def opens(client: TestClient, origin: str, **more: str) -> bool:
    """Whether a page of this origin, in a browser that has opened Loupe, gets a WebSocket."""
    client.get("/healthz")  # which gives the cookie
    try:
        with client.websocket_connect(f"ws{BASE.removeprefix('http')}/_stcore/stream", headers={"Origin": origin, **more}):
            return True
    except (WebSocketDisconnect, UnicodeError, ValueError):
        return False


def filled(path: str, value: str) -> str:
    return re.sub(r"\{[^}]+\}", lambda _: quote(value, safe="%/\\", errors="replace"), path)


def addresses(value: str) -> Iterator[tuple[str, str]]:
    """Method and address of every route of our own, with the value in all of its places."""
    for route in routes.ROUTES:
        path = filled(route.path, value)
        for method in sorted((route.methods or {"GET"}) - {"HEAD"}):
            yield method, path if "{" not in route.path else signed(path)
    for name in ("dataset", "after", "run", "session", "answers", "fill"):
        for path in ("/api/changes?dataset=1&", "/api/map/1?", "/api/runs/x/events?", "/api/review/about/1?"):
            yield "GET", f"{path}{name}={quote(value, safe='%', errors='replace')}"


def signed(path: str) -> str:
    try:
        return signing.signed(path)
    except UnicodeError:
        return path


def ask(client: TestClient, method: str, address: str, **more: Any) -> int:
    """The status; 400 where the client itself cannot send it."""
    try:
        return client.request(method, address, **more).status_code
    except (UnicodeError, ValueError):
        return 400


def numbers(row: Row, client: TestClient, made: int, every: int) -> None:
    token = {"X-Loupe-Token": signing.token("Ann")}
    for value in NUMBERS[::every]:
        for method, address in addresses(value):
            row.check((status := ask(client, method, address, headers=token)) < 500, f"{method} {address[:90]}: {status}")
    body = {
        "dataset_id": made, "session": "s", "count": 5, "keep": [], "order": "mixed", "predicted": None, "source": None, "without": [],
        "unstored": [], "id": 1, "verdict": "rejected", "label": None, "operation": "o", "hint": True, "seconds": 1, "note": "", "reason": "",
        "sure": False, "seq": None, "act": "renew", "ids": [], "seen": {"0" * 16: 0},
    }  # fmt: skip
    posts = [r.path for r in routes.ROUTES if "POST" in (r.methods or ()) and "{" not in r.path]
    for path, field, value in itertools.product(posts, body, VALUES[::every]):
        status = ask(client, "POST", path, content=json.dumps({**body, field: value}), headers=token)
        row.check(status < 500, f"POST {path} {field}={str(value)[:20]}: {status}")


def api(row: Row, client: TestClient, made: int, every: int) -> None:
    """Every operation of the HTTP API, each of its parameters odd in turn."""
    _, secret = tokens.add("trial", "admin", rate="9999999/second")
    token = {"Authorization": f"Bearer {secret}"}
    for path, methods in v1.openapi()["paths"].items():
        for method, one in methods.items():
            if method.upper() == "DELETE":
                continue
            query = [p["name"] for p in one.get("parameters", ()) if p["in"] == "query"]
            for value in NUMBERS[::every]:
                odd = quote(value, safe="%", errors="replace")
                for address in (filled(path, value), *(f"{filled(path, str(made))}?{name}={odd}" for name in query)):
                    status = ask(client, method.upper(), f"/api/v1{address}", headers=token)
                    row.check(status < 500, f"{method} /api/v1{address[:90]}: {status}")
            for value in VALUES[::every]:
                sent = json.dumps({"labels": value, "dataset": made, "names": value, "label": value, "images": value, "config": value})
                headers = {**token, "Content-Type": "application/json"}
                status = ask(client, method.upper(), f"/api/v1{filled(path, str(made))}", content=sent, headers=headers)
                row.check(status < 500, f"{method} /api/v1{path} with {str(value)[:20]}: {status}")


def outside(row: Row, client: TestClient, home: Path, every: int) -> None:
    """No name leads out of its folder, be its address signed."""
    token = {"X-Loupe-Token": signing.token("Ann")}
    secrets = [(home / "secret").read_bytes(), b"SQLite format 3", b"root:x:"]
    for value in OUT[::every]:
        for method, address in addresses(value):
            try:
                answer = client.request(method, address, headers=token)
                right = answer.status_code < 500 and not any(one in answer.content for one in secrets)
            except (UnicodeError, ValueError):
                right = True
            row.check(right, f"{method} {address[:90]}")


def strangers(row: Row, client: TestClient) -> None:
    paths = [("GET", "/api/terms"), ("GET", "/healthz"), ("POST", "/api/label"), ("GET", "/api/v1/datasets"), ("GET", "/nothing")]
    for host, (method, path) in itertools.product(HOSTS, paths):
        row.check(ask(client, method, path, headers={"Host": host}) in (400, 403), f"Host {host!r}: {path}")
    for origin, path in itertools.product(ORIGINS, ("/api/label", "/api/review/decide", "/api/upload/a/b", "/sign-out")):
        method = "PUT" if "upload" in path else "POST"
        row.check(ask(client, method, path, headers={"Origin": origin}) == 403, f"Origin {origin!r}: {path}")
    for origin, path in itertools.product(ORIGINS, ("/api/terms", "/api/v1/datasets", "/healthz")):
        told = client.get(path, headers={"Origin": origin}).headers
        row.check("access-control-allow-origin" not in told, f"Origin {origin!r} may read {path}")
    row.check(opens(client, BASE), "Loupe's own page opens no WebSocket")
    for origin in ORIGINS:
        row.check(not opens(client, origin), f"Origin {origin!r} opens a WebSocket")
    for host in HOSTS:
        row.check(not opens(client, BASE, Host=host), f"Host {host!r} opens a WebSocket")
    for site, path in itertools.product(("cross-site", "same-site", "evil"), ("/api/label", "/api/review/decide")):
        row.check(ask(client, "POST", path, headers={"Sec-Fetch-Site": site}) == 403, f"Sec-Fetch-Site {site}: {path}")


def forged(row: Row, client: TestClient) -> None:
    """Addresses and tokens: changed anywhere, of another path, of yesterday's yesterday, of another installation."""
    path = "/thumb/1/0-10"
    good = signing.signed(path)
    row.check(ask(client, "GET", good) != 403, "a good signature is refused")
    for i in range(good.index("?"), len(good)):
        odd = good[:i] + ("0" if good[i] != "0" else "1") + good[i + 1 :]
        row.check(ask(client, "GET", odd) in (403, 404), f"changed at {i}")
    for odd in (path, f"{path}?e=&s=", good.replace("0-10", "0-11"), good.replace("e=", "e=-"), good + "0", f"{good}&e=99999"):
        row.check(ask(client, "GET", odd) == 403, odd)
    token = signing.token("Ann")
    for i in range(len(token)):
        odd = token[:i] + ("0" if token[i] != "0" else "1") + token[i + 1 :]
        row.check(ask(client, "GET", "/api/map/1", headers={"X-Loupe-Token": odd}) == 401, f"token changed at {i}")
    day = signing._expiry
    with homes.replaced(signing, "_expiry", lambda days: day(days - 9)):
        old_address, old_token = signing.signed(path), signing.token("Ann")
    row.check(ask(client, "GET", old_address) == 403, "an expired address")
    row.check(ask(client, "GET", "/api/map/1", headers={"X-Loupe-Token": old_token}) == 401, "an expired token")


def covered(row: Row, client: TestClient) -> None:
    """The headers that every answer has."""
    for path in ("/healthz", "/api/terms", "/nothing", "/vendor/plotly.min.js", "/api/v1", "/api/v1/datasets", "/thumb/1/0-1"):
        found = client.get(path).headers
        right = "frame-ancestors 'none'" in found.get("content-security-policy", "") and found.get("x-content-type-options") == "nosniff"
        row.check(right and found.get("referrer-policy") == "no-referrer", f"headers of {path}: {dict(found)}")


def trial(home: Path, every: int) -> Row:
    """every: of so many odd values one is tried."""
    row = Row(control="a server that trusts any Host or Origin, numbers beyond those of a database, and signatures that are not compared")
    with homes.moved_in(home), served() as client:  # entered: else each question has a thread and a loop of its own
        made = acts.dataset(20, 5)
        numbers(row, client, made, every)
        api(row, client, made, every)
        outside(row, client, home, every)
        strangers(row, client)
        forged(row, client)
        covered(row, client)
        with homes.replaced(gate, "_wrong_host", lambda _scope, _headers: None):
            for host in HOSTS[:3]:
                row.control_check(ask(client, "GET", "/api/terms", headers={"Host": host}) in (400, 403), "any Host")
        with homes.replaced(gate, "_wrong_origin", lambda _scope, _headers: None):
            for origin in ORIGINS[:3]:
                row.control_check(not opens(client, origin), "any Origin")
        with homes.replaced(review, "MAX_INT", 1 << 80):
            decision = {"id": 1 << 70, "verdict": "rejected", "operation": "o", "session": "s", "dataset_id": made}
            token = {"X-Loupe-Token": signing.token("Ann")}
            row.control_check(ask(client, "POST", "/api/review/decide", content=json.dumps(decision), headers=token) < 500, "any number")
        with homes.replaced(signing, "_is_signed", lambda _text, _signature: True):
            row.control_check(ask(client, "GET", f"/thumb/{made}/0-10?e=99999&s=x") == 403, "any signature")
    row.figures = f"{len(routes.ROUTES)} routes and the API's; no answer 500"
    return row
