"""Tells other systems of decisions and ended runs: signed, tried again, and only at addresses that the settings name.

Headers and signature are those of Standard Webhooks: webhook-id, webhook-timestamp, webhook-signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from email.message import Message
from functools import partial
from pathlib import Path
from typing import IO

from core.data import deliveries
from core.data.deliveries import Delivery
from core.errors import AppError
from core.runs import launch, runs
from core.settings import settings
from core.train import again
from core.types import Ended

TIMEOUT = 10  # seconds
EVERY = 1.0  # seconds between two looks at what is due
LOOK = 5.0  # seconds between two looks at the runs
log = logging.getLogger("loupe")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An address that sends on to another one would be an address that nobody has listed."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


def _key() -> bytes:
    secret = settings().webhook_secret
    if secret.startswith("whsec_"):  # as the receivers' libraries write it
        try:
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            raise AppError(
                "LOUPE_WEBHOOK_SECRET begins with whsec_ and goes on with what is no base64.", "Leave whsec_ out, or correct it."
            ) from None
    return secret.encode()


def signature(id: str, timestamp: int, body: str) -> str:
    """What stands in webhook-signature."""
    signed = hmac.new(_key(), f"{id}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(signed).decode()}"


def send(one: Delivery) -> str:
    """Tries once; why it was not taken, or ""."""
    at = int(time.time())
    headers = {"Content-Type": "application/json", "User-Agent": "Loupe", "webhook-id": one.id, "webhook-timestamp": str(at)}
    headers["webhook-signature"] = signature(one.id, at, one.body)
    request = urllib.request.Request(settings().webhooks[one.hook], one.body.encode(), headers, method="POST")
    try:
        with _opener.open(request, timeout=TIMEOUT):
            return ""
    except urllib.error.HTTPError as e:
        return f"It answered {e.code}: redirects are not followed." if 300 <= e.code < 400 else f"It answered {e.code}."
    except (OSError, ValueError) as e:  # refused, timed out, no such host, no HTTP
        return f"It could not be reached: {getattr(e, 'reason', e)}."


def deliver(hook: str) -> int:
    """Sends what is due, one after another; returns how many were taken."""
    done = 0
    while (one := deliveries.take(hook)) is not None:
        if why := send(one):
            deliveries.failed(one, why)
        else:
            deliveries.taken(one)
            done += 1
    return done


def look_at_runs(since: str, known: dict[Path, int]) -> None:
    """Writes down every run that ended since; known: by folder the size of the events that were looked at when it had ended."""
    for path in settings().runs.glob("*/events.jsonl"):
        folder, stat = path.parent, path.stat()
        if known.get(folder) == stat.st_size:
            continue
        alive = launch.launcher.alive(folder)
        try:
            run, history = runs.load(folder), runs.events(folder, skip="Answers")
        except AppError:
            continue
        status = runs.status(history, alive)
        sure = again.surely_lost(folder, status)
        if status in runs.ACTIVE or (status == "lost" and not sure):
            continue
        known[folder] = stat.st_size
        last = history[-1] if history else None
        at = last.at if isinstance(last, Ended) else datetime.fromtimestamp(stat.st_mtime, UTC).isoformat(timespec="milliseconds")
        if at >= since:
            data = {"run": run.id, "name": run.name, "dataset": run.dataset_id, "status": status, "ended_at": at}
            deliveries.of_run(f"run {run.id} {at}", data)


# The threads --------------------------------------------------------------------------------------

_stop = threading.Event()


def start() -> None:
    """One thread for each address, so that one that is down keeps no other waiting, and one for the runs; none without addresses."""
    _stop.clear()
    if settings().webhooks:
        _key()
        since = min(deliveries.greet(hook) for hook in settings().webhooks)
        known: dict[Path, int] = {}
        _thread("webhooks: runs", LOOK, partial(look_at_runs, since, known))
    for hook in settings().webhooks:
        _thread(f"webhooks: {hook}", EVERY, partial(deliver, hook))


def stop() -> None:
    _stop.set()


def _thread(name: str, every: float, act: Callable[[], object]) -> None:
    def loop() -> None:
        while not _stop.wait(every):
            try:
                act()
            except Exception:  # a database that is away for a while: what is to be told is in it
                log.exception("%s: tried again", name)
                _stop.wait(10)

    threading.Thread(target=loop, name=name, daemon=True).start()
