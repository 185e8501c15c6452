"""For those who run the server: alive, ready, counted, logged; an answer leaves at once; a proxy before it as docs/deploy.md has it."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import re
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import httpx
import numpy as np
import pytest
import sqlalchemy as sa
import streamlit as st
import uvicorn
from loky.process_executor import BrokenProcessPool
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket
from streamlit.components.lib.local_component_registry import LocalComponentRegistry
from streamlit.components.v2.component_manager import BidiComponentManager
from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage
from streamlit.web.server.starlette.starlette_app import create_streamlit_routes
from websockets.sync.client import connect

from core import logs, meters, roles, storage
from core.api import gate, operations, routes, signing
from core.data import audit, check, images, queue, schema, store
from core.errors import AppError
from core.review import predict
from core.runs import launch
from core.settings import settings
from core.types import Dataset
from pages.shared import frame
from tests import ports, proxies
from tests.conftest import ROOT, Trained, forget
from tests.pages.app import opened


async def _size(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(sum([len(chunk) async for chunk in request.stream()])))


async def _where(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.scope["raw_path"].decode())


async def _from(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(request.scope["client"][0]))


async def _echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


def app() -> Starlette:
    own = [
        Route("/size", _size, methods=["PUT"]),
        Route("/where/{rest:path}", _where),
        Route("/from", _from),
        WebSocketRoute("/_stcore/stream", _echo),
    ]
    streamlit = MagicMock(component_registry=LocalComponentRegistry(), bidi_component_registry=BidiComponentManager())
    streamlit.media_file_mgr._storage = MemoryMediaFileStorage("/media")
    return Starlette(
        routes=[*routes.ROUTES, *operations.ROUTES, *own, *create_streamlit_routes(streamlit)],
        middleware=[Middleware(operations.Meter), Middleware(gate.Gate)],
        exception_handlers={AppError: routes.app_error},
    )


@pytest.fixture
def client(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(launch, "answers", lambda _: True)
    with TestClient(app(), base_url="http://localhost:8501", client=("127.0.0.1", 1)) as client:
        yield client


def counted(client: TestClient, line: str) -> float:
    found = re.search(rf"^{re.escape(line)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


# Alive and ready


def test_a_server_that_can_work_is_alive_and_ready(client: TestClient) -> None:
    assert client.get("/healthz").text == "ok\n"
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "database": "ok", "disk": "ok", "workers": "ok"})


def test_one_that_cannot_says_what_is_wrong_and_stays_alive(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def down() -> None:
        raise OSError("no route to secret-host")

    monkeypatch.setattr(schema, "ping", down)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3_000_000))
    monkeypatch.setattr(launch, "answers", lambda _: False)
    monkeypatch.setattr(storage, "on", lambda: True)
    monkeypatch.setattr(storage, "problem", lambda: "The storage s3://secret-bucket cannot be reached now.")
    answer = client.get("/readyz")
    assert answer.status_code == 503 and answer.json() == {
        "ready": False,
        "database": "does not answer (OSError); the log says more",
        "disk": "3 MB are free on the disk of LOUPE_HOME; 500 MB are needed",
        "workers": "the model worker does not answer: it is starting, busy, or has died",
        "storage": "cannot be used; the log says more",
    }
    assert client.get("/healthz").status_code == 200


def test_a_database_that_its_nightly_check_found_damaged_is_not_ready_and_home_says_so(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(check, "_database", lambda _: iter([check.Damage("database", "loupe.db", "row 7 missing from index", "")]))

    async def run() -> None:
        task = asyncio.create_task(operations.daily())
        while not caplog.records:
            await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(asyncio.wait_for(run(), 20))
    assert "The database is damaged, or was not checked: loupe.db: row 7 missing from index" in caplog.text
    answer = client.get("/readyz")
    assert answer.status_code == 503 and answer.json()["database"].startswith("damaged")
    assert "row 7 missing from index" in opened("home").error[0].value


def test_a_database_that_hangs_is_not_waited_for(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = threading.Event()
    monkeypatch.setattr(operations, "PATIENCE", 0.05)
    monkeypatch.setattr(schema, "ping", gone.wait)
    assert client.get("/readyz").json()["database"].startswith("no answer within")
    gone.set()


def test_a_worker_that_hangs_is_asked_once_and_one_that_died_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Future[int]] = []

    def submit(*_: object) -> Future[int]:
        asked.append(Future())
        return asked[-1]

    monkeypatch.setattr(launch, "submit", submit)
    monkeypatch.setattr(launch, "_ping", [])
    assert not launch.answers(0) and not launch.answers(0) and len(asked) == 1
    asked[0].set_exception(BrokenProcessPool())
    assert not launch.answers(0) and len(asked) == 2
    threading.Timer(0.05, asked[1].set_result, [0]).start()
    assert launch.answers(20) and len(asked) == 2


# Counted


def test_requests_are_counted_by_route_and_status_and_never_by_address(client: TestClient, small: Dataset) -> None:
    line = 'loupe_requests_total{method="GET",route="/thumb/{dataset:int}/{offset:int}-{size:int}",status="%d"}'
    before = [counted(client, line % status) for status in (200, 403)]
    url = signing.thumb_url(store.all_images(small.id)[0])
    client.get(url), client.get(url.partition("?")[0])
    assert [counted(client, line % status) for status in (200, 403)] == [before[0] + 1, before[1] + 1]
    assert counted(client, 'loupe_request_seconds_count{route="/thumb/{dataset:int}/{offset:int}-{size:int}"}') >= 2
    client.request("BREW", "/coffee")
    text = client.get("/metrics").text
    assert "BREW" not in text and "coffee" not in text and url.partition("?")[0] not in text


def test_what_waits_and_what_was_done_is_read_when_it_is_asked(client: TestClient, small: Dataset) -> None:
    operations._seen.update(seq=0, kinds=Counter())
    assert counted(client, 'loupe_acts_total{kind="dataset.create"}') == 1
    store.create_dataset("other")
    sent = {"dataset_id": small.id, "run_id": "r", "image_id": "a", "ext": "png", "name": "a.png", "by": "eve", "predicted": "red"}
    queue.add([{**sent, "probability": 0.5, "probabilities": {}}])
    assert counted(client, 'loupe_acts_total{kind="dataset.create"}') == 2
    assert counted(client, 'loupe_queue{queue="review"}') == counted(client, 'loupe_submissions{state="waiting"}') == 1


def test_pictures_that_a_network_answered_and_runs_are_counted(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def figures() -> list[float]:
        text = operations._metrics().decode()
        names = ("loupe_predictions_total", 'loupe_runs{status="succeeded"}')
        return [float(re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)[0]) for name in names]

    before = figures()
    predict.predict_data(trained.run_id, [("a.png", images.png(np.zeros((8, 8), np.uint8)))])
    assert figures() == [before[0] + 1, 1]
    monkeypatch.setenv("LOUPE_SIGN_IN", "accounts")
    settings.cache_clear()
    roles.found_by(frame.who)  # as once a page was opened: who asks for figures is nobody who has signed in
    assert figures() == [before[0] + 1, 1]


def test_a_model_worker_that_died_is_counted_when_it_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pool:
        def submit(self, *_: object) -> Future[int]:
            if dead:
                raise BrokenProcessPool
            return Future()

    def start(_slow: bool) -> Pool:
        dead.clear()
        return Pool()

    dead: list[bool] = []
    monkeypatch.setattr(launch, "_executors", {})
    monkeypatch.setattr(launch, "_start_worker", start)
    before = meters.RESTARTS.labels("quick")._value.get()
    launch.submit(len, ())
    waiting = launch.submit(len, ())
    assert meters.RESTARTS.labels("quick")._value.get() == before
    tasks = meters.TASKS.labels("quick")._value.get()
    waiting.set_result(0)
    assert meters.TASKS.labels("quick")._value.get() == tasks - 1
    dead.append(True)
    launch.submit(len, ())
    assert meters.RESTARTS.labels("quick")._value.get() == before + 1


def test_metrics_are_read_on_this_machine_only(client: TestClient) -> None:
    assert client.get("/metrics", headers={"X-Forwarded-For": "10.0.0.7"}).status_code == 403
    with TestClient(app(), base_url="http://localhost:8501", client=("10.0.0.7", 1)) as far:
        assert far.get("/metrics").status_code == 403


# Logged


@pytest.mark.parametrize(
    "said",
    [
        "GET /thumb/1/0-99?e=20421&s=0123456789abcdef0123456789abcdef",
        "X-Loupe-Token: 416e6e.20421.0123456789abcdef0123456789abcdef",
        "{'cookie': 'loupe_user=Ann; session=0123456789abcdef'}",
        "Authorization: Bearer 0123456789abcdef",
        "password=0123456789abcdef",
        '{"client_secret": "0123456789abcdef"}',
        "AWS_SECRET_ACCESS_KEY=0123456789abcdef",
        "GET https://bucket.example/images/ab?X-Amz-Date=20261130&X-Amz-Signature=0123456789abcdef",
        "postgresql://loupe:0123456789abcdef@db/loupe",
        "416e6e.20421.0123456789abcdef0123456789abcdef",
        f"data:image/png;base64,{'0123456789abcdef' * 9}",
        repr(b"0123456789abcdef\x00\xff" * 9),
        "0123456789abcdef" * 20,
    ],
)
def test_a_log_line_is_json_and_holds_no_secret_token_or_picture(said: str) -> None:
    try:
        raise ValueError(said)
    except ValueError as e:
        record = logging.LogRecord("loupe", logging.ERROR, "x.py", 1, "it failed: %s", (said,), (ValueError, e, e.__traceback__))
    line = logs.JsonLines().format(record)
    assert "\n" not in line and "0123456789abcdef" not in line
    found = json.loads(line)
    assert (found["level"], found["logger"]) == ("error", "loupe") and "it failed" in found["message"] and "Traceback" in found["error"]


@pytest.mark.parametrize("form", [logs.JsonLines(), logs.Text(logging.Formatter("%(levelname)s %(message)s"))], ids=["JSON", "text"])
def test_no_log_holds_a_secret_that_loupe_was_given_wherever_it_stands(
    home: Path, monkeypatch: pytest.MonkeyPatch, form: logging.Formatter
) -> None:
    given = {
        "AWS_SECRET_ACCESS_KEY": "bucket/of+nobody",
        "AZURE_STORAGE_CONNECTION_STRING": "Endpoint=nobody",
        "LOUPE_RAY_TOKEN": "the cluster's own, which is long",
        "LOUPE_WEBHOOKS": "shop=http://127.0.0.1/x",
        "LOUPE_WEBHOOK_SECRET_FILE": str(home / "hook"),
        "LOUPE_DATABASE_URL": "postgresql://loupe:sesame%20seed@127.0.0.1/loupe",
    }
    (home / "hook").write_text("a file's secret of letters")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    words = (
        "bucket/of+nobody",
        "bucket%2Fof%2Bnobody",
        "Endpoint=nobody",
        given["LOUPE_RAY_TOKEN"],
        "a file's secret of letters",
        "sesame seed",
    )
    record = logging.LogRecord("loupe", logging.ERROR, "x.py", 1, "%s", (" | ".join(words),), None)
    line = form.format(record)
    assert line.count("…") == len(words) and not [one for one in words if one in line], line
    monkeypatch.undo()
    forget()


@pytest.mark.databases("sqlite", "postgresql")
@pytest.mark.parametrize("missing", ["created_at", "nothing"])
def test_what_a_database_refuses_is_logged_without_the_values_of_its_rows(home: Path, missing: str) -> None:
    value = "0123456789" + "abcdef"  # the line below that uses it stands in the traceback
    with pytest.raises((sa.exc.SQLAlchemyError, AppError)) as refused, schema.writing() as c:
        c.execute(sa.text(f"INSERT INTO datasets (name, {missing}) VALUES (:name, NULL)"), {"name": value})
    e = refused.value
    record = logging.LogRecord("loupe", logging.ERROR, "x.py", 1, "%s", (e.__cause__ or e,), (type(e), e, e.__traceback__))
    line = logs.JsonLines().format(record)
    assert value not in line and missing in line and "INSERT INTO datasets" in line


def test_a_long_line_is_cleaned_in_no_time() -> None:
    began = time.process_time()
    logs.clean("a-" * 128_000)
    assert time.process_time() - began < 1  # 0.1 s; 3 s where each of its words was looked at again and again


def test_a_request_is_logged_by_its_route_where_logs_are_json(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LOUPE_LOG", "json")
    settings.cache_clear()
    with caplog.at_level(logging.INFO, "loupe"):
        client.get("/thumb/1/0-99?e=1&s=secret")
    (record,) = [r for r in caplog.records if r.name == "loupe.server"]
    line = json.loads(logs.JsonLines().format(record))
    assert (line["route"], line["status"]) == ("/thumb/{dataset:int}/{offset:int}-{size:int}", 403) and "secret" not in str(line)


def test_a_wrong_kind_of_log_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOUPE_LOG", "xml")
    settings.cache_clear()
    with pytest.raises(AppError, match="LOUPE_LOG is “xml”"):
        settings()
    monkeypatch.undo()
    forget()


# While it runs


def test_an_answer_leaves_at_once(free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)) as listening:
        operations.send_at_once()
        with socket.create_connection(("127.0.0.1", free_port)):
            connection, _ = listening.accept()
            with connection:
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_head_of_the_audit_is_written_while_the_server_runs_and_a_failure_ends_nothing(
    home: Path, small: Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write, failures = audit.write_head, ["the mount is gone"]

    def sometimes() -> audit.Head | None:
        if failures:
            raise OSError(failures.pop())
        return write()

    async def run() -> None:
        task = asyncio.create_task(operations.daily())
        while not audit.heads():
            await asyncio.sleep(0.01)
        task.cancel()

    monkeypatch.setattr(audit, "write_head", sometimes)
    monkeypatch.setattr(operations, "HOUR", 0.01)
    asyncio.run(asyncio.wait_for(run(), 20))
    assert audit.heads()[0].seq == 3 and "the mount is gone" in caplog.text


# Behind a proxy


@pytest.fixture(params=[proxies.nginx, proxies.caddy])
def proxy(request: pytest.FixtureRequest, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of one with its configuration of docs/deploy.md."""
    monkeypatch.setenv("LOUPE_ALLOWED_HOSTS", "loupe.example.org,localhost")
    settings.cache_clear()
    own, port = ports.free_port(), ports.free_port()
    server = uvicorn.Server(uvicorn.Config(app(), port=own, log_level="warning", ws="websockets-sansio"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with request.param(own, port, tmp_path):
            yield f"127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


def test_the_configurations_for_proxies_hand_on_hosts_addresses_uploads_and_websockets(proxy: str, request: pytest.FixtureRequest) -> None:
    nginx = request.node.callspec.params["proxy"] is proxies.nginx
    with httpx.Client(base_url=f"http://{proxy}", headers={"Host": "loupe.example.org"}) as client:
        foreign = client.get("/healthz", headers={"Host": "evil.example"})
        # nginx leaves it to Loupe to refuse; Caddy hands on its own host only, and answers any other with nothing
        assert foreign.status_code == 403 if nginx else not foreign.content
        assert client.get("/where/a%2Fb/%C3%A9?x").text == "/where/a%2Fb/%C3%A9"  # as it was signed
        assert client.get("/label/?dataset=digits").headers["location"] == "/label?dataset=digits"  # no host or port of the inside
        assert client.put("/size", content=bytes(1_500_000)).text == "1500000"
        if nginx:
            assert client.put("/size", content=bytes(3_000_000)).status_code == 413
        assert client.get("/metrics").status_code == 403
        assert client.get("/from", headers={"X-Forwarded-For": "10.0.0.7"}).text == "127.0.0.1"  # not what anybody writes there
        assert "frame-ancestors" in client.get("/healthz").headers["content-security-policy"]
    host, port = proxy.split(":")
    with connect("ws://loupe.example.org/_stcore/stream", sock=socket.create_connection((host, int(port)))) as ws:
        ws.send("is anybody there?")
        assert ws.recv(5) == "is anybody there?"


FOLDERS = (
    "/", "/app/static/", "/static/", "/static/js/", "/media/", "/component/", "/component/x/", "/_stcore/bidi-components/x/", "/assets/",
    "/assets/grid/", "/vendor/", "/picture/ab/", "/uploaded/", "/unstored/uploaded/", "/thumb/1/", "/export/x/", "/archive/x/", "/api/map/",
)  # fmt: skip
UP = ("..", "%2e%2e", ".%2e", "%252e%252e", "....", "..;", "..%00")
WAYS = [f"{one}{slash}" * 9 for one in UP for slash in ("/", "%2f", "%5c", "%252f", "//")] + ["/", "%2f", "file:%2f%2f%2f", "~%2f"]


def test_nothing_outside_is_read_through_the_configurations_for_proxies_however_it_is_spelled(proxy: str, home: Path) -> None:
    (home / "secret").write_text("5up3r-53cr3t" * 3)
    wanted = (str(home / "secret")[1:], "etc/passwd", str(ROOT / "app.py")[1:])
    held = (b"5up3r-53cr3t", b"root:x:0:", b"The server's door")
    connection = http.client.HTTPConnection(proxy, timeout=20)  # which sends an address as it is

    def asked(address: str) -> tuple[int, bytes]:
        connection.request("GET", address, headers={"Host": "loupe.example.org"})
        answer = connection.getresponse()
        return answer.status, answer.read()

    assert b"export" in asked("/assets/grid/grid.js")[1]  # what is to be read is
    index = asked("/static/index.html")[1] or asked("/")[1]
    for n, (folder, way) in enumerate((folder, way) for folder in FOLDERS for way in WAYS):
        status, body = asked(f"{folder}{way}{wanted[n % len(wanted)]}")
        assert not any(secret in body for secret in held), (folder, way)
        assert status in (301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 422) or body == index, (status, folder, way, body[:200])
    connection.close()


def test_streamlit_serves_no_folder_of_the_apps_own() -> None:
    assert st.get_option("server.enableStaticServing") is False
    assert not [route for route in create_streamlit_routes(MagicMock()) if "app/static" in getattr(route, "path", "")]
