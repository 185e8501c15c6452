"""For those who run the server: whether it is alive and ready, what it counts, what it logs, and what it does daily."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import anyio
import anyio.to_thread
import psutil
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core import meters, roles, servers, space, storage
from core.api import routes
from core.data import audit, check, imports, leases, removal, routed, schema, stored
from core.errors import AppError
from core.review import near
from core.roles import Person
from core.runs import launch
from core.settings import settings
from core.train import again, train

PATIENCE = 5.0  # seconds for each question of /readyz
HOUR, SPARE = 3600, 600
LOOK = 3.0  # seconds between two looks at lost runs
STORE, AGAIN = 60.0, 5.0  # seconds between two copies to storage, and until it is tried again at the start
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")  # anybody may invent others
NO_STORE = {"Cache-Control": "no-store"}
log = logging.getLogger("loupe.server")


# Alive and ready ----------------------------------------------------------------------------------


async def healthz(_request: Request) -> Response:
    """That the server answers at all; it asks nothing else."""
    return PlainTextResponse("ok\n", headers=NO_STORE)


async def readyz(_request: Request) -> Response:
    """Whether people can work: 200, or 503 with what is wrong."""
    asked = {"database": _database, "disk": _disk, "workers": _workers, **({"storage": _storage} if storage.on() else {})}
    found = dict(zip(asked, await asyncio.gather(*map(_asked, asked.values())), strict=True))
    ready = not any(found.values())
    answer = {"ready": ready, **{name: problem or "ok" for name, problem in found.items()}}
    return JSONResponse(answer, 200 if ready else 503, headers=NO_STORE)


async def _asked(question: Callable[[], str]) -> str:
    with anyio.move_on_after(PATIENCE):
        return await anyio.to_thread.run_sync(question, abandon_on_cancel=True)
    return f"no answer within {PATIENCE:.0f} s"


def _database() -> str:
    try:
        schema.ping()
    except Exception as e:  # whatever a driver raises
        log.warning("the database does not answer", exc_info=e)
        return f"does not answer ({type(e).__name__}); the log says more"
    return "damaged, as its check of the night says: run python -m core check" if check.damaged() else ""


def _disk() -> str:
    return space.short() if os.access(settings().home, os.W_OK) else "LOUPE_HOME cannot be written"


def _storage() -> str:
    """Whose bucket it is stands in the log: this is answered to anybody."""
    if problem := storage.problem():
        log.warning("%s", problem)
        return "cannot be used; the log says more"
    return ""


def _workers() -> str:
    return "" if launch.answers(PATIENCE - 1) else "the model worker does not answer: it is starting, busy, or has died"


# Counted ------------------------------------------------------------------------------------------


async def metrics(request: Request) -> Response:
    """For Prometheus on this machine: a request that comes through a proxy is refused."""
    near = request.client is not None and request.client.host.removeprefix("::ffff:") in ("127.0.0.1", "::1", "testclient")
    if not near or "x-forwarded-for" in request.headers or "forwarded" in request.headers:
        return PlainTextResponse("Metrics are read on this machine only, at the server's own port.\n", 403)
    return Response(await anyio.to_thread.run_sync(_metrics), media_type=meters.CONTENT_TYPE, headers=NO_STORE)


def _metrics() -> bytes:
    now = meters.Reading()
    with roles.acting(Person(settings().user, "admin")):  # of all datasets, whoever may see them
        runs, coming = Counter(one.status for one in train.list_runs()), len(imports.running())
    states = routed.counts_of_all()
    now.gauge("loupe_submissions", "Predictions sent to Review, by what became of them", "state", states)
    now.gauge("loupe_servers", "Servers that share this LOUPE_HOME, by machine", "host", Counter(one.host for one in servers.living()))
    now.gauge("loupe_runs", "Runs by how they stand", "status", runs)
    queues = {"review": states.get("waiting", 0), "runs": runs["queued"]}
    now.gauge("loupe_queue", "How many wait", "queue", {**queues, "imports": coming})
    now.counter("loupe_acts", "Entries of the audit: labels, decisions, imports, runs started, sign-ins …", "kind", _acts())
    return meters.text(now)


_seen: dict[str, Any] = {"seq": 0, "kinds": Counter()}  # of the audit, which only grows: each entry is counted once


def _acts() -> dict[str, float]:
    last, kinds = audit.counts(_seen["seq"])
    _seen.update(seq=last, kinds=_seen["kinds"] + Counter(kinds))
    return dict(_seen["kinds"])


@lru_cache(maxsize=1)
def _paths() -> dict[Any, str]:
    return {route.endpoint: route.path for route in (*routes.ROUTES, *ROUTES)}


class Meter:
    """Counts and times every answer, and logs it where logs are JSON; by the route, since an address may name a picture."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            with meters.SESSIONS.track_inprogress():
                await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def send_and_see(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_see)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", None) or _paths().get(scope.get("endpoint"), "page")
            method = scope["method"] if scope["method"] in METHODS else "other"
            meters.REQUESTS.labels(method, route, str(status)).inc()
            meters.SECONDS.labels(route).observe(seconds)
            if settings().log == "json":
                fields = {"method": method, "route": route, "status": status, "ms": round(seconds * 1000, 1)}
                log.info("request", extra={"fields": fields})


# While the server runs ----------------------------------------------------------------------------


def send_at_once() -> None:
    """Lets an answer leave when it is written.

    Streamlit's socket does not say that it is TCP, so asyncio leaves Nagle's algorithm on, and the body of an answer waits for
    the acknowledgement of its head: 44 ms. What the listening socket is told holds for the connections it accepts.
    """
    for one in psutil.Process().net_connections("tcp"):
        if one.status == psutil.CONN_LISTEN and one.fd >= 0:
            with socket.socket(fileno=os.dup(one.fd)) as listening:
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _is_mine() -> bool:
    """Whether this server is the one that does what is done daily."""
    with contextlib.suppress(Exception):  # a database that is damaged: the check of it, for one, is done all the same
        return leases.take("daily", HOUR + SPARE)
    return True


async def daily() -> None:
    """What is done once a day, by one of several servers: each asks itself whether it is due, and is asked every hour."""
    while True:
        works = (
            (audit.write_head, "The head of the audit was not written"),
            (check.nightly, "The database is damaged, or was not checked"),
            (removal.carry_out, "Old predictions were not removed"),
            (near.fill, "Fingerprints of older predictions were not taken"),
            (storage.evict, "The cache of storage was not looked through"),
        )
        for work, words in works:
            try:
                if await anyio.to_thread.run_sync(_is_mine):  # asked anew: one work may take long
                    await anyio.to_thread.run_sync(work)
            except Exception as e:  # a folder that is gone must not end it: tried again in an hour
                log.error("%s: %s", words, e)
        await asyncio.sleep(HOUR)


async def store() -> None:
    """Copies to storage what changed here, and fetches at the start what only storage has."""
    begun = False
    storage.ending.clear()
    try:
        while storage.on():
            try:
                await anyio.to_thread.run_sync(stored.now_and_then if begun else stored.at_start)
                begun = True
            except (AppError, OSError) as e:
                log.error("%s", e)
            except Exception as e:
                log.error("Storage was not brought up to date: %s", e)
            await asyncio.sleep(STORE if begun else AGAIN)
    finally:
        if storage.on():
            storage.ending.set()  # else the process waits for its threads, which may copy for hours


async def go_on() -> None:
    """Resumes lost runs whose settings ask for that, for as long as the server runs."""
    while True:
        await asyncio.sleep(LOOK)
        try:
            await anyio.to_thread.run_sync(again.look)
        except Exception as e:  # the next look may find the folder readable
            log.error("Lost runs were not looked for: %s", e)


ROUTES = [
    Route("/healthz", healthz),
    Route("/readyz", readyz),
    Route("/metrics", metrics),
]
