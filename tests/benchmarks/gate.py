"""What the gate adds to one request where people sign in: python -m tests.benchmarks gate.

The same request, by ASGI and without a network, goes to an app with the gate before it and to the app alone; a turn is the difference
of the medians of REQUESTS. A request that only shows something may take a session that was asked for within the last second.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Iterator

from starlette.responses import PlainTextResponse
from starlette.types import Message

from core.api.gate import Gate
from core.data import people, schema
from core.people import accounts, sessions
from core.settings import settings
from tests.benchmarks.rows import Row, in_turns
from tests.postgres import Cluster, programs

REQUESTS = 2000
WANTED = "under 1 ms"


async def _median(app: object, method: str, cookie: str) -> float:
    scope = {
        "type": "http",
        "method": method,
        "path": "/api/changes",
        "query_string": b"",
        "client": ("127.0.0.1", 5000),
        "headers": [(b"host", b"localhost:8501"), (b"origin", b"http://localhost:8501"), (b"cookie", cookie.encode())],
    }
    said: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        said.extend([message["status"]] if "status" in message else [])

    taken = []
    for _ in range(REQUESTS):
        begun = time.perf_counter()
        await app(dict(scope), receive, send)  # type: ignore[operator]
        taken.append(time.perf_counter() - begun)
    assert set(said) == {200}
    return statistics.median(taken) * 1000


def _added(method: str, cookie: str) -> float:
    app = PlainTextResponse("ok")
    return asyncio.run(_median(Gate(app), method, cookie)) - asyncio.run(_median(app, method, cookie))


def measure() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(LOUPE_HOME=home, LOUPE_SIGN_IN="accounts")
        yield from _rows("SQLite")
        if programs():
            cluster = Cluster(options=())
            try:
                os.environ["LOUPE_DATABASE_URL"] = cluster.create("gate")
                yield from _rows("PostgreSQL")
            finally:
                schema.engine().dispose()
                cluster.remove()


def _rows(name: str) -> Iterator[Row]:
    settings.cache_clear()
    schema.engine.cache_clear()
    sessions.forget()
    accounts.add("Ann", "labeller")
    cookie = f"loupe_session_8501={sessions.begin(people.get('Ann'), 'accounts', '')}"
    for work, method in (("remembered", "GET"), ("asked for anew", "POST")):
        found = in_turns({"Loupe": lambda method=method: _added(method, cookie)})  # type: ignore[misc]
        yield Row(f"the gate, a session {work}, {name}", f"{REQUESTS:,} requests", WANTED, "ms", found)
