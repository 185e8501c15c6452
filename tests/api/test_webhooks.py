"""Webhooks: what is told, to whom, how it is signed, and that nothing is lost when nobody takes it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from core import roles
from core.api import webhooks
from core.catalog import params
from core.data import audit, deliveries, events, store, uploads
from core.errors import AppError, Forbidden
from core.review import review
from core.runs import runs
from core.settings import settings
from core.train import again
from core.types import Dataset, Ended, Prediction, Snapshot, Started, now
from tests import reviewing
from tests.conftest import ROOT, forget

DOCS = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
SECRET = "a secret that is long enough"


class Receiver(HTTPServer):
    """Another system: what it got, and what it answers next."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[int] = []


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, data))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def receiver(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    one = Receiver()
    threading.Thread(target=one.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("LOUPE_WEBHOOKS", f"shop=http://127.0.0.1:{one.server_port}/loupe")
    monkeypatch.setenv("LOUPE_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(review, "_array_ids", lambda _: ())  # would start a model worker
    forget()
    deliveries.greet("shop")
    webhooks.deliver("shop")
    one.got.clear()
    yield one
    one.shutdown()
    one.server_close()


def waiting(small: Dataset) -> int:
    """The id of a picture that waits in Review."""
    folder, nothing = settings().runs / "20260101-000000-0000", Snapshot("s", (), ())
    if not folder.exists():
        runs.create(folder, runs.new("a run", small, params.run_config({"architecture": "linear"}), nothing, "Ann"), nothing)
    kept = uploads.keep("a.png", b"its bytes %d" % len(reviewing.waiting(small.id)))
    review.submit(small.id, folder.name, Prediction("a.png", kept.id, ("red", "blue"), (0.6, 0.4)), "Ann")
    return reviewing.waiting(small.id)[-1].id


def decide(small: Dataset) -> int:
    one = waiting(small)
    review.decide(one, "rejected", None, "Ann")
    return one


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    at = time.time() + seconds
    monkeypatch.setattr(time, "time", lambda: at)


@pytest.mark.databases("sqlite", "postgresql")
def test_a_decision_and_its_undoing_are_told_signed_by_the_secret_and_the_time(small: Dataset, receiver: Receiver) -> None:
    one = decide(small)
    review.reopen(one, "Ann")
    assert webhooks.deliver("shop") == 2 and webhooks.deliver("shop") == 0
    (path, headers, body), (_, _, undone) = receiver.got
    told = json.loads(body)
    assert path == "/loupe" and told["type"] == "decision.made" and json.loads(undone)["type"] == "decision.taken_back"
    assert told["data"] | {"decision": one, "verdict": "rejected", "decided_by": "Ann"} == told["data"]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{wanted}" and abs(int(headers["webhook-timestamp"]) - time.time()) < 60


def test_the_check_that_the_docs_show_knows_loupe_from_others_and_today_from_yesterday() -> None:
    (block,) = [one for one in re.findall(r"^```python\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL) if "is_from_loupe" in one]
    shown: dict[str, Any] = {}
    exec(block, shown)
    at = int(time.time())
    for signed_with, age, body, wanted in (
        (SECRET, 0, b"{}", True),
        ("another", 0, b"{}", False),
        (SECRET, 999, b"{}", False),
        (SECRET, 0, b"[]", False),
    ):
        signed = hmac.new(signed_with.encode(), f"msg_1.{at - age}.{{}}".encode(), hashlib.sha256).digest()
        headers = {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(at - age),
            "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
        }
        assert shown["is_from_loupe"](headers, body, SECRET) is wanted


@pytest.mark.databases("sqlite", "postgresql")
def test_what_was_not_taken_is_tried_again_with_growing_waits_given_up_at_last_and_sent_again_when_an_admin_says_so(
    small: Dataset, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    decide(small)
    receiver.answers = [500] * 20
    assert webhooks.deliver("shop") == 0 and len(receiver.got) == 1
    assert webhooks.deliver("shop") == 0 and len(receiver.got) == 1  # not yet
    for wait in deliveries.WAITS:
        with monkeypatch.context() as patch:
            later(patch, wait - 1)
            webhooks.deliver("shop")
        before = len(receiver.got)
        later(monkeypatch, wait + 1)
        webhooks.deliver("shop")
        assert len(receiver.got) == before + 1
    later(monkeypatch, 1e7)
    assert webhooks.deliver("shop") == 0 and len(receiver.got) == len(deliveries.WAITS) + 1
    assert {headers["webhook-id"] for _, headers, _ in receiver.got} == {receiver.got[0][1]["webhook-id"]}
    found = deliveries.standing()["shop"]
    assert found.given_up == 1 and found.waiting == 0 and "500" in found.error

    first = receiver.got[0][1]["webhook-id"]
    receiver.answers = []
    for said in ("1 is sent again", "Nothing was given up"):
        done = command("webhooks", "--again", "shop")
        assert done.returncode == 0 and said in done.stderr
    assert webhooks.deliver("shop") == 1 and receiver.got[-1][1]["webhook-id"] == first
    (entry,) = audit.search(audit.Which(kind="webhook.again"), 1, 10)[0]
    assert entry.on == {"webhook": "shop"} and entry.after == {"deliveries": 1}
    refused = command("webhooks", "--again", "nobody")
    assert refused.returncode == 1 and "LOUPE_WEBHOOKS names: shop" in refused.stderr
    with roles.acting(roles.Person("Tess", "trainer")), pytest.raises(Forbidden):
        deliveries.send_again("shop")


@pytest.mark.databases("sqlite", "postgresql")
def test_a_restart_while_something_is_sent_loses_nothing(small: Dataset, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    decide(small)
    assert deliveries.take("shop") and deliveries.take("shop") is None  # the process that took it ends here
    forget()
    assert webhooks.deliver("shop") == 0
    later(monkeypatch, deliveries.LEASE + 1)
    assert webhooks.deliver("shop") == 1


@pytest.mark.databases("sqlite", "postgresql")
def test_a_clock_that_jumps_back_keeps_nothing_waiting(small: Dataset, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver.answers = [500]
    decide(small)
    for taken in (0, 1):
        later(monkeypatch, -7 * 24 * 3600)
        assert (webhooks.deliver("shop"), webhooks.deliver("shop")) == (taken, 0)  # the wait of now holds


def test_a_redirect_is_not_followed(small: Dataset, receiver: Receiver) -> None:
    decide(small)
    receiver.answers = [302]
    assert webhooks.deliver("shop") == 0
    assert [path for path, _, _ in receiver.got] == ["/loupe"] and "redirects" in deliveries.standing()["shop"].error


@pytest.mark.databases("sqlite", "postgresql")
def test_a_decision_that_is_not_stored_is_not_told(small: Dataset, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    one = waiting(small)
    monkeypatch.setattr(events, "append", lambda *_, **__: 1 / 0)
    monkeypatch.setattr(review, "known", lambda _: store.browse(small.id, store.Filter(label="red"), 0, 1)[0])
    with pytest.raises(ZeroDivisionError):
        review.decide(one, "corrected", "blue", "Ann", sure=True)
    assert webhooks.deliver("shop") == 0 and receiver.got == []


def test_a_run_that_ended_is_told_once_and_one_that_ended_before_the_hook_was_there_is_not(small: Dataset, receiver: Receiver) -> None:
    waiting(small)
    folder, since = settings().runs / "20260101-000000-0000", deliveries.greet("shop")
    runs.append(folder, Ended("succeeded", None, "", 1.0, "2026-01-01T00:00:00.000+00:00"))
    webhooks.look_at_runs(since, {})
    assert webhooks.deliver("shop") == 0
    runs.append(folder, Ended("stopped", None, "", 1.0, "2100-01-01T00:00:00.000+00:00"))
    for _ in range(2):  # as of two starts of the server
        known: dict[Path, int] = {}
        webhooks.look_at_runs(since, known)
        webhooks.look_at_runs(since, known)
    assert webhooks.deliver("shop") == 1
    assert json.loads(receiver.got[0][2])["data"]["status"] == "stopped"


def test_a_run_of_another_machine_is_told_as_lost_once_that_is_sure(
    small: Dataset, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting(small)
    folder = settings().runs / "20260101-000000-0000"
    runs.write_json(folder / "handle.json", {"host": "gpu-1", "pid": 1, "started": 0.0})
    os.utime(folder / "handle.json", (0, 0))
    runs.append(folder, Started("cpu", 10, 10, 5, 2, now()))
    since, known = deliveries.greet("shop"), dict[Path, int]()
    webhooks.look_at_runs(since, known)
    assert webhooks.deliver("shop") == 0  # the shared folder may have been away
    monkeypatch.setattr(again, "SURE", 0.0)
    webhooks.look_at_runs(since, known)
    assert webhooks.deliver("shop") == 1 and json.loads(receiver.got[0][2])["data"]["status"] == "lost"


@pytest.mark.parametrize(
    "bad", ["shop", "shop=ftp://x", "shop=https://me:pw@x/", "a=http://x,a=http://y", "shop=http://x y", "Shop!=http://x"]
)
def test_an_address_that_cannot_be_meant_keeps_loupe_from_starting(home: Path, bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOUPE_WEBHOOKS", bad)
    monkeypatch.setenv("LOUPE_WEBHOOK_SECRET", SECRET)
    forget()
    with pytest.raises(AppError, match="LOUPE_WEBHOOKS"):
        settings()


def test_webhooks_need_a_secret_which_may_lie_in_a_file(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOUPE_WEBHOOKS", "shop=http://x")
    forget()
    with pytest.raises(AppError, match="LOUPE_WEBHOOK_SECRET"):
        settings()
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    monkeypatch.setenv("LOUPE_WEBHOOK_SECRET_FILE", str(tmp_path / "secret"))
    assert settings().webhook_secret == SECRET
