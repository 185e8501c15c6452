"""The table of roles walked on every route of Loupe's own: who may not is refused, of a dataset one may not see there is nothing."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from core import roles
from core.api import routes, signing
from core.catalog import params
from core.data import queue, store, uploads
from core.errors import AppError
from core.roles import MAY, ROLES, Person
from core.runs import launch, runs
from core.settings import settings
from core.share import archive, export
from core.types import Dataset, Snapshot

ASKED = {"session": "s", "operation": "o"}
# What each route needs, how it is asked, and its body: whole, but of something that is not there, so that nothing is changed.
NEEDS: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "/thumb/{dataset:int}/{offset:int}-{size:int}": ("see", "GET", None),
    "/api/label": ("label", "POST", {**ASKED, "label": "no class", "seen": {"x": 1}}),
    "/api/changes": ("see", "GET", None),
    "/api/map/{dataset:int}": ("see", "GET", None),
    "/api/map/{dataset:int}/thumb/{image}": ("see", "GET", None),
    "/api/erase/{run}/{file:path}": ("ask", "POST", None),
    "/api/runs/{run}/events": ("see", "GET", None),
    "/api/upload/{batch}/{name}": ("ask", "PUT", None),
    "/export/{id}/{name}": ("export", "GET", None),
    "/archive/{id}/{name}": ("export", "GET", None),
    "/api/review/deal": ("decide", "POST", ASKED),
    "/api/review/decide": ("decide", "POST", {**ASKED, "verdict": "none"}),
    "/api/review/undo": ("decide", "POST", ASKED),
    "/api/review/why": ("decide", "POST", ASKED),
    "/api/review/claims": ("decide", "POST", {**ASKED, "act": "none"}),
    "/api/review/last": ("see", "POST", {}),
    "/api/review/about/{id:int}": ("decide", "GET", None),
}
UPLOADED = ("", "/frames", "/{frame:int}")
NEEDS |= {f"{before}/uploaded/{{name}}{after}": ("see", "GET", None) for before in ("", "/unstored") for after in UPLOADED}
NEEDS["/picture/{shard}/{name}"] = ("see", "GET", None)
PICTURES = ("/picture/", "/uploaded/", "/unstored/")  # the signed address says of which dataset
OURS = ("/vendor/", "/assets/", "/api/terms")  # of Loupe itself


def test_the_table_of_roles_holds_on_every_route(home: object, small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {route.path for route in routes.ROUTES if not route.path.startswith(OURS)} == NEEDS.keys()
    monkeypatch.setattr(launch.launcher, "start", lambda folder, command: None)
    run = runs.new("ConvNet 1", small, params.run_config({}), Snapshot("s", small.classes, ()), "tester")
    runs.create(settings().runs / run.id, run, Snapshot("s", small.classes, ()))
    image = store.all_images(small.id)[0]
    row = {"dataset_id": small.id, "run_id": run.id, "image_id": "a", "ext": "png", "name": "a.png", "by": "Lea", "predicted": "red"}
    queue.add([{**row, "probability": 0.5, "probabilities": {}}])
    (waiting,) = queue.browse(small.id, queue.Which())
    numbers = {"dataset": small.id, "frame": 1, "offset": image.thumb_offset, "size": image.thumb_size, "id": waiting.id}
    exported = export.start(small.id, "folders", "tester")
    packed = archive._start(archive.EXPORT, {"run_id": run.id, "file": "run.zip", "by": "tester"})
    kept = uploads.keep("a.png", (settings().images / image.path).read_bytes())
    shard, _, name = image.path.partition("/")
    words = {"image": image.id, "shard": shard, "run": run.id, "file": "none.png", "batch": "0" * 32, "name": "a.zip"}

    who = Person("Vic", None)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with roles.acting(who):
            await inside(scope, receive, send)

    handlers: dict[Any, Any] = {AppError: routes.app_error, HTTPException: routes.http_error}
    inside = Starlette(routes=routes.ROUTES, exception_handlers=handlers)
    client, wrong = TestClient(app), []
    for role in (None, *ROLES):
        who = Person("Vic", role)
        for route, (verb, method, body) in NEEDS.items():
            path = re.sub(r"\{(\w+):int\}", lambda found: str(numbers[str(found[1])]), route)
            job = {"id": exported if route.startswith("/export") else packed}
            job |= {"name": name} if route.startswith("/picture/") else {"name": kept.path.name} if route.startswith(PICTURES) else {}
            path = re.sub(r"\{(\w+)(:path)?\}", lambda found, job=job: (words | job)[found[1]], path)  # type: ignore[misc]
            address = f"{signing.signed(path, small.id if path.startswith(PICTURES) else None)}&dataset={small.id}"
            sent = None if body is None else {"dataset_id": small.id, "id": waiting.id, **body}
            answer = client.request(method, address, json=sent, headers={"X-Loupe-Token": signing.token("Vic")})
            if role is None:  # of a dataset that is not theirs nobody learns more than of none
                right = answer.status_code == (403 if route.startswith("/api/upload") else 404)  # an upload is of none yet
            else:
                right = (answer.status_code == 403) != (role in MAY[verb][1]) and answer.status_code not in (401, 500)
            if not right:
                wrong.append((route, role, answer.status_code, answer.text))
    assert not wrong, "\n".join(map(str, wrong))
