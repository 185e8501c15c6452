"""The HTTP API for other programs: who is let in, what is answered, and how it refuses."""

from __future__ import annotations

import errno
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest
from PIL import Image as Pillow
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.testclient import TestClient

from core import servers
from core.api import gate
from core.api.v1 import rates
from core.api.v1.app import app as v1
from core.catalog import params
from core.data import decisions, images, labels, people, queue, schema, store, tokens
from core.errors import Forbidden, Unavailable
from core.review import policy, review
from core.review.bands import Limits
from core.roles import MAY, ROLES
from core.runs import jobs, launch, runs
from core.settings import settings
from core.share import export
from core.types import Dataset, Snapshot
from tests import reviewing

if TYPE_CHECKING:
    from tests.conftest import Trained

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def client(home: Any) -> Iterator[TestClient]:
    yield from served()


@pytest.fixture
def trained_client(trained_copy: Trained) -> Iterator[TestClient]:
    yield from served()


def served() -> Iterator[TestClient]:
    app = Starlette(routes=[Mount("/api/v1", v1)], middleware=[Middleware(gate.Gate)])
    with TestClient(app, base_url="http://localhost:8501", raise_server_exceptions=False) as client:
        yield client


def bearer(role: str = "admin", *only: int, **more: Any) -> dict[str, str]:
    _, secret = tokens.add(f"{role} {len(tokens.listed())}", role, list(only) or None, **more)
    return {"Authorization": f"Bearer {secret}"}


def refused(answer: Any, status: int) -> dict[str, Any]:
    """The problem document, which has what RFC 9457 asks for, says what is allowed, and has no traceback."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["status"] == status and found["title"] and found["detail"] and found["allowed"]
    assert "Traceback" not in answer.text
    return found


def png(shade: int, size: int = 12) -> bytes:
    out = io.BytesIO()
    Pillow.new("RGB", (size, size), (shade, 255 - shade, 40)).save(out, "PNG")
    return out.getvalue()


def first(made: Dataset) -> Any:
    return store.browse(made.id, store.Filter(), 0, 1)[0]


# Who is let in


@pytest.mark.databases("sqlite", "postgresql")
def test_no_token_a_made_up_one_a_revoked_one_and_an_expired_one_are_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    found = refused(client.get("/api/v1/datasets"), 401)
    assert "token add" in found["allowed"]
    headers = bearer("viewer", days=1)
    assert client.get("/api/v1/datasets", headers=headers).status_code == 200
    forged = {"Authorization": headers["Authorization"][:-1] + ("A" if headers["Authorization"][-1] != "A" else "B")}
    assert "not known" in refused(client.get("/api/v1/datasets", headers=forged), 401)["detail"]
    for other in ("Basic YTpi", "Bearer", "Bearer a b", "Bearer " + "x" * 5000):
        refused(client.get("/api/v1/datasets", headers={"Authorization": other}), 401)
    with monkeypatch.context() as patch:
        patch.setattr(tokens, "now", lambda: "2100-01-01T00:00:00.000+00:00")
        assert "expired" in refused(client.get("/api/v1/datasets", headers=headers), 401)["detail"]
    tokens.revoke(tokens.listed()[0].name)
    assert "revoked" in refused(client.get("/api/v1/datasets", headers=headers), 401)["detail"]


def test_every_address_asks_for_a_token_but_the_two_that_describe_them(client: TestClient) -> None:
    paths = client.get("/api/v1/openapi.json").json()["paths"]
    assert len(paths) > 10 and client.get("/api/v1/docs").status_code == 200
    for path, methods in paths.items():
        for method in methods:
            refused(client.request(method, "/api/v1" + path.replace("{", "").replace("}", "")), 401)
    refused(client.get("/api/v1/nowhere"), 401)
    refused(client.get("/api/v1/nowhere", headers=bearer()), 404)
    assert "GET" in refused(client.delete("/api/v1/datasets", headers=bearer()), 405)["allowed"]


def test_of_another_dataset_a_token_learns_as_much_as_of_one_that_does_not_exist(client: TestClient, small: Dataset) -> None:
    other = store.create_dataset("other")
    headers, image = bearer("admin", other.id), first(small)
    assert [one["id"] for one in client.get("/api/v1/datasets", headers=headers).json()["items"]] == [other.id]
    for method, path, sent in (
        ("GET", "", {}),
        ("GET", "/images", {}),
        ("GET", f"/images/{image.id}", {}),
        ("GET", f"/images/{image.id}/picture", {}),
        ("GET", "/decisions", {}),
        ("PUT", f"/images/{image.id}/label", {"json": {"label": "red", "seen": 1}}),
        ("POST", "/labels", {"json": {"label": "red", "seen": {image.id: 1}}}),
        ("POST", "/runs", {"json": {"settings": {}}}),
        ("POST", "/exports", {"json": {"format": "folders"}}),
        ("POST", "/images", {"files": {"files": ("a.png", png(1))}}),
    ):
        theirs = refused(client.request(method, f"/api/v1/datasets/{small.id}{path}", headers=headers, **sent), 404)
        none = refused(client.request(method, f"/api/v1/datasets/{small.id + 90}{path}", headers=headers, **sent), 404)
        assert theirs["detail"].replace(str(small.id), "N") == none["detail"].replace(str(small.id + 90), "N")


def test_a_role_may_do_over_http_what_it_may_and_is_told_who_may_more(client: TestClient, small: Dataset) -> None:
    image = first(small)
    address = f"/api/v1/datasets/{small.id}/images/{image.id}/label"
    found = refused(client.put(address, headers=bearer("viewer"), json={"label": "blue", "seen": image.label_seq}), 403)
    assert "labeller" in found["allowed"]
    assert client.put(address, headers=bearer("labeller"), json={"label": "blue", "seen": image.label_seq}).status_code == 200
    assert labels.history(small.id, image.id)[0].by == "labeller 1 (API)"
    refused(client.post(f"/api/v1/datasets/{small.id}/runs", headers=bearer("labeller"), json={"settings": {}}), 403)


def test_what_the_gate_and_the_address_refuse_is_a_problem_document_too(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    token, here = bearer(), "/api/v1/datasets"
    assert "LOUPE_ALLOWED_HOSTS" in refused(client.get(here, headers=token | {"Host": "evil.example"}), 403)["allowed"]
    for odd in ({"Origin": "http://evil.example"}, {"Origin": "http://localhost:8501"}, {"Sec-Fetch-Site": "cross-site"}):
        refused(client.post(f"{here}/1/runs", headers=token | odd, json={}), 403)  # a page, be it one of ours, that nobody has opened
    refused(TestClient(client.app, base_url="http://localhost:8501", client=("10.0.0.7", 5000)).get(here, headers=token), 403)
    for method, path, status in (("GET", "/nowhere", 404), ("DELETE", "/datasets", 405), ("POST", "/openapi.json", 405)):
        refused(client.request(method, f"/api/v1{path}", headers=token), status)
    huge = refused(client.post(f"{here}/1/labels", headers=token | JSON, content=b" " * 1_100_000), 413)
    assert (huge["detail"], huge["allowed"]) == ("The request is larger than the 1 MB that are allowed.", "Send it in parts.")

    def away(*_: object) -> None:
        raise Unavailable("The database cannot be reached, and nothing was stored.", "Try again in a moment.")

    monkeypatch.setenv("LOUPE_SIGN_IN", "accounts")
    settings.cache_clear()
    refused(client.get("/api/v1"), 401)
    monkeypatch.setattr(people, "of_session", away)
    client.cookies.set("loupe_session_8501", "x")
    refused(client.get(here, headers=token), 503)
    monkeypatch.setattr(people, "of_session", MagicMock(side_effect=Forbidden(people.OFF)))
    refused(client.get(here, headers=token), 403)


# What each address needs, and a body that is whole but asks for what is none: it is refused after the role.
PICTURE: dict[str, Any] = {"files": {"files": ("a.txt", b"no picture")}}
NEEDS: dict[str, tuple[str, dict[str, Any]]] = {
    "get /datasets/{dataset}": ("see", {}),
    "get /datasets/{dataset}/images": ("see", {}),
    "post /datasets/{dataset}/images": ("import", PICTURE),
    "get /datasets/{dataset}/images/{image}": ("see", {}),
    "get /datasets/{dataset}/images/{image}/picture": ("see", {}),
    "get /datasets/{dataset}/images/{image}/history": ("see", {}),
    "put /datasets/{dataset}/images/{image}/label": ("label", {"json": {"label": "no class", "seen": 1}}),
    "post /datasets/{dataset}/labels": ("label", {"json": {"label": "no class", "seen": {"x": 1}}}),
    "post /datasets/{dataset}/removed": ("delete", {"json": {"images": ["none"]}}),
    "get /datasets/{dataset}/removed": ("delete", {}),
    "post /datasets/{dataset}/removed/back": ("delete", {"json": {"images": ["none"]}}),
    "get /datasets/{dataset}/decisions": ("see", {}),
    "post /datasets/{dataset}/decisions/{decision}/appeal": ("lead", {"json": {"reason": "It is a painting."}}),
    "post /datasets/{dataset}/predictions": ("ask", PICTURE | {"data": {"policy": "none"}}),
    "post /datasets/{dataset}/runs": ("train", {"json": {"settings": {"epochz": 1}}}),
    "post /datasets/{dataset}/exports": ("export", {"json": {"format": "floppy"}}),
    "get /exports/{export}": ("export", {}),
    "get /exports/{export}/zip": ("export", {}),
    "get /runs/{run}": ("see", {}),
    "get /runs/{run}/evaluation": ("see", {}),
    "post /runs/{run}/predictions": ("ask", PICTURE),
    "post /runs/{run}/stop": ("train", {}),
}
LISTS = {"get /datasets", "get /runs"}  # for everybody: they leave out what a token may not see


def test_the_table_of_roles_holds_at_every_address(client: TestClient, small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch.launcher, "start", lambda folder, command: None)
    asked = {f"{method} {path}" for path, methods in client.get("/api/v1/openapi.json").json()["paths"].items() for method in methods}
    assert asked == NEEDS.keys() | LISTS
    run = runs.new("ConvNet 1", small, params.run_config({}), Snapshot("s", small.classes, ()), "tester")
    runs.create(settings().runs / run.id, run, Snapshot("s", small.classes, ()))
    names = {
        "dataset": small.id,
        "image": first(small).id,
        "run": run.id,
        "export": export.start(small.id, "folders", "tester"),
        "decision": 1,
    }
    wrong: list[tuple[str, str, int]] = []
    for role in ROLES:
        theirs = bearer(role)
        for address, (verb, sent) in NEEDS.items():
            method, path = address.format(**names).split(" ")
            status = client.request(method, f"/api/v1{path}", headers=theirs, **sent).status_code
            if (status == 403) == (role in MAY[verb][1]) or status in (401, 500):
                wrong.append((address, role, status))
    others = bearer("admin", small.id + 1)
    for address, (_, sent) in NEEDS.items():
        method, path = address.format(**names).split(" ")
        refused(client.request(method, f"/api/v1{path}", headers=others, **sent), 404)
    assert [client.get(f"/api/v1/{what}", headers=others).json()["items"] for what in ("datasets", "runs")] == [[], []]
    assert wrong == []


def test_a_token_that_asks_more_often_than_its_rate_is_told_when_to_ask_again(client: TestClient) -> None:
    headers = bearer(rate="2/day")
    assert client.get("/api/v1/datasets", headers=headers).status_code == 200
    rates._limiter.cache_clear()  # as of another server, or of this one started anew
    assert client.get("/api/v1/datasets", headers=headers).status_code == 200
    answer = client.get("/api/v1/datasets", headers=headers)
    refused(answer, 429)
    assert 0 < int(answer.headers["retry-after"]) <= 24 * 3600
    assert client.get("/api/v1/datasets", headers=bearer()).status_code == 200


def test_a_rate_holds_over_any_minute_and_between_servers_whose_clocks_differ(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def waits(seconds: float) -> int:
        monkeypatch.setattr(time, "time", lambda: 1_800_000_000 + seconds)
        return rates.seconds_to_wait(1, "2/minute")

    assert [waits(at) for at in (-2, 2, 25, 57, 58, 61, 62)] == [0, 0, 33, 1, 0, 1, 0]
    assert [waits(at) for at in (200, 196, 197)] == [0, 0, 59]  # the second server's clock is behind
    (file,) = (home / "locks").glob("LIMITER*")
    file.write_text("[[1, ")
    assert waits(200) == 0
    monkeypatch.setattr(rates, "_opened", full := MagicMock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    assert waits(200) == 0 and full.called


def test_a_clock_that_jumps_back_does_not_keep_a_token_out(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    headers, at = bearer(rate="1/hour"), time.time()
    assert [client.get("/api/v1/datasets", headers=headers).status_code for _ in range(2)] == [200, 429]
    monkeypatch.setattr(time, "time", lambda: at - 24 * 3600)
    assert client.get("/api/v1/datasets", headers=headers).status_code == 200


def test_a_token_is_shown_once_stored_hashed_and_managed_on_the_command_line(home: Any, command: Any) -> None:
    store.create_dataset("pets")
    done = command("token", "add", "shop", "--role", "moderator", "--dataset", "pets", "--expires", "30", "--rate", "60/minute")
    assert done.returncode == 0 and "this once" in done.stderr
    secret = done.stdout.split('"token": "')[1].split('"')[0]
    found = tokens.find(secret)
    assert found and found.person.may("decide", 1) and not found.person.may("decide", 2) and not found.person.may("decide")
    assert secret.encode() not in (home / "loupe.db").read_bytes() and secret not in command("token", "list").stdout
    assert command("token", "add", "shop", "--role", "viewer").returncode == 1
    assert '"revoked"' in command("token", "revoke", "shop").stdout
    assert command("token", "revoke", "nobody").returncode == 1 and command("token", "add", "x", "--role", "king").returncode == 2
    assert "60/minute" in command("token", "add", "x", "--role", "viewer", "--rate", "often").stderr


# Bad input


@pytest.mark.parametrize(
    ("sent", "status", "says"),
    [
        ({"content": b"{", "headers": JSON}, 400, "not JSON"),
        ({"content": b'{"label": "\\ud800", "seen": 1}', "headers": JSON}, 422, "label"),
        ({"content": b"[" * 100_000, "headers": JSON}, 400, "not JSON"),
        ({"content": b'{"label": null, "seen": ' + b"9" * 5000 + b"}", "headers": JSON}, 400, ""),
        ({"content": b" " * 1_100_000, "headers": JSON}, 413, "1 MB"),
        ({"json": []}, 422, ""),
        ({"json": {"label": "red"}}, 422, "seen"),
        ({"json": {"label": "red", "seen": -1}}, 422, "seen"),
        ({"json": {"label": "red", "seen": "x"}}, 422, "seen"),
        ({"json": {"label": "red", "seen": 1, "colour": 2}}, 422, "colour"),
        ({"json": {"label": "no class of it", "seen": 1}}, 404, "no class of it"),
        ({"json": {"label": "red", "seen": 1}, "params": {"force": 1}}, 422, "force"),
    ],
)
def test_what_is_broken_huge_or_unknown_is_refused_with_what_is_allowed(
    client: TestClient, small: Dataset, sent: dict[str, Any], status: int, says: str
) -> None:
    image = first(small)
    sent = sent | {"headers": sent.get("headers", {}) | bearer()}
    found = refused(client.put(f"/api/v1/datasets/{small.id}/images/{image.id}/label", **sent), status)
    assert says in str(found)
    assert store.get_image(small.id, image.id) == image


def test_a_database_that_is_away_and_a_disk_that_is_full_are_said_and_nothing_is_stored(
    client: TestClient, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, headers, before = first(small), bearer("trainer"), store.all_images(small.id)

    def away(*_: object) -> None:
        raise Unavailable("The database cannot be reached, and nothing was stored.", "Try again in a moment.")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def put() -> Any:
        address = f"/api/v1/datasets/{small.id}/images/{image.id}/label"
        return client.put(address, headers=headers, json={"label": "blue", "seen": image.label_seq})

    for where, name, how, said in (
        (tokens, "find", away, "Try again in a moment."),  # at the door
        (labels, "apply", away, "Try again in a moment."),
        (labels, "apply", full, "Make room on the disk"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, how)
            assert said in refused(put(), 503)["allowed"]
    with monkeypatch.context() as patch:
        patch.setattr(images, "store_original", full)
        sent = client.post(f"/api/v1/datasets/{small.id}/images", headers=headers, files=[("files", ("a.png", png(1)))])
        assert refused(sent, 422)["detail"].startswith("The disk is full: ")
    assert store.all_images(small.id) == before
    assert put().status_code == 200


def test_odd_addresses_and_cursors_are_refused_too(client: TestClient, small: Dataset) -> None:
    headers = bearer()
    for path, status in (
        (f"/datasets/{1 << 70}", 404),
        ("/datasets/x", 422),
        (f"/datasets/{small.id}/images/..%2f..%2fx", 404),
        (f"/datasets/{small.id}/images/nowhere", 404),
        (f"/datasets/{small.id}/images?cursor=é", 422),
        (f"/datasets/{small.id}/images?cursor=W10", 422),
        (f"/datasets/{small.id}/images?limit=100000", 422),
        ("/runs/..", 404),
        ("/runs/" + "x" * 3000, 422),
        ("/exports/..%2f", 404),
    ):
        refused(client.get("/api/v1" + path, headers=headers), status)


# Images and labels


@pytest.mark.databases("sqlite", "postgresql")
def test_images_are_listed_page_by_page_and_filtered(client: TestClient, small: Dataset) -> None:
    headers, address, seen, after = bearer("viewer"), f"/api/v1/datasets/{small.id}/images", [], ""
    for _ in range(4):
        page = client.get(f"{address}?limit=7{after}", headers=headers).json()
        seen += [one["id"] for one in page["items"]]
        after = f"&cursor={page['next']}"
    assert page["next"] is None and seen == [one.id for one in store.browse(small.id, store.Filter(), 0, 100)]
    red = client.get(f"{address}?label=red&text=RED-1", headers=headers).json()["items"]
    assert [(one["name"], one["label"]) for one in red] == [("red-1.png", "red")]
    answer = client.get(f"{address}/{seen[0]}/picture", headers=headers)
    assert answer.headers["content-type"] == "image/png" and Pillow.open(io.BytesIO(answer.content)).format == "PNG"


def test_pictures_are_added_once_with_or_without_a_label_and_what_is_none_is_named(client: TestClient, small: Dataset) -> None:
    headers, address = bearer("trainer"), f"/api/v1/datasets/{small.id}/images"
    sent = [("files", ("a.png", png(1))), ("files", ("b.png", b"no picture")), ("files", ("c.png", png(1)))]
    answer = client.post(address, headers=headers, files=sent)
    assert answer.status_code == 201, answer.text
    one, broken, copy = answer.json()["images"]
    assert one["added"] and not copy["added"] and copy["id"] == one["id"]
    assert not broken["added"] and broken["id"] is None and broken["problem"]
    assert store.get_image(small.id, one["id"]).label is None
    answer = client.post(address, headers=headers, files=sent[:1], data={"label": "red"})
    assert not answer.json()["images"][0]["added"] and store.get_image(small.id, one["id"]).label == "red"
    refused(client.post(address, headers=headers, files=sent[1:2]), 422)
    refused(client.post(address, headers=headers, files=sent[:1], data={"labels": "red"}), 422)
    refused(client.post(address, headers=headers, data={"label": "red"}), 422)


@pytest.mark.databases("sqlite", "postgresql")
def test_a_label_is_not_written_over_one_that_was_not_seen(client: TestClient, small: Dataset) -> None:
    image, other = store.browse(small.id, store.Filter(), 0, 2)
    headers, address = bearer("labeller"), f"/api/v1/datasets/{small.id}"
    labels.apply(small.id, {image.id: image.label_seq}, "blue", "Ann")
    found = refused(client.put(f"{address}/images/{image.id}/label", headers=headers, json={"label": "red", "seen": image.label_seq}), 409)
    assert found["now"]["label"] == "blue" and found["now"]["by"] == "Ann"
    seen = {image.id: image.label_seq, other.id: other.label_seq, "gone": 0}
    done = client.post(f"{address}/labels", headers=headers, json={"label": None, "seen": seen}).json()
    assert set(done["stored"]) == {other.id} and done["refused"][image.id]["label"] == "blue" and done["missing"] == ["gone"]
    again = client.put(f"{address}/images/{image.id}/label", headers=headers, json={"label": "red", "seen": found["now"]["version"]})
    assert again.json()["label"] == "red"


def test_images_are_removed_listed_page_by_page_and_brought_back(client: TestClient, small: Dataset) -> None:
    found = store.browse(small.id, store.Filter(), 0, 24)
    headers, address, some = bearer("trainer"), f"/api/v1/datasets/{small.id}", [i.id for i in found[:3]]
    again = headers | {"Idempotency-Key": "once"}
    sent = [client.post(f"{address}/removed", headers=again, json={"images": [*some, "none"]}).json() for _ in range(2)]
    assert sent == [{"images": 3}] * 2 and client.get(address, headers=headers).json()["images"] == 21
    for way, n in (("removed/back", 24), ("removed", 24)):  # a key that was forgotten after two days: what it removed it brings back, once
        with schema.writing() as c:
            c.execute(schema.idempotency_keys.delete())
        assert client.post(f"{address}/{way}", headers=again, json={"images": [*some, "none"]}).json() == {"images": 3}
        assert client.get(address, headers=headers).json()["images"] == n
    assert client.post(f"{address}/removed", headers=headers, json={"images": some}).json() == {"images": 3}
    one = client.get(f"{address}/removed?limit=2", headers=headers).json()
    two = client.get(f"{address}/removed?limit=2&cursor={one['next']}", headers=headers).json()
    assert [i["id"] for i in one["items"] + two["items"]] == some[::-1] and two["next"] is None
    refused(client.get(f"{address}/images/{some[0]}", headers=headers), 404)
    assert client.post(f"{address}/removed/back", headers=headers, json={"images": some[:2]}).json() == {"images": 2}
    assert client.get(f"{address}/images/{some[0]}", headers=headers).json()["label"] == found[0].label
    refused(client.post(f"{address}/removed/back", headers=headers, json={"images": some[:2]}), 404)
    refused(client.post(f"{address}/removed", headers=headers, json={"images": []}), 422)


# Idempotency keys


@pytest.mark.databases("sqlite", "postgresql")
def test_a_key_gets_its_answer_again_and_nothing_is_done_twice(client: TestClient, small: Dataset) -> None:
    image = first(small)
    headers, address = bearer("labeller") | {"Idempotency-Key": "k1"}, f"/api/v1/datasets/{small.id}/labels"
    body = {"label": "blue", "seen": {image.id: image.label_seq}}
    one, two = (client.post(address, headers=headers, json=body) for _ in range(2))
    assert one.json() == two.json() and two.headers["idempotency-replayed"] == "true"
    assert len(labels.history(small.id, image.id)) == 2
    refused(client.post(address, headers=headers, json=body | {"label": "red"}), 422)
    assert client.post(address, headers=bearer() | {"Idempotency-Key": "k1"}, json=body).status_code == 200  # another's key is another


@pytest.mark.databases("sqlite", "postgresql")
def test_pictures_exports_and_stops_with_a_key_are_done_once(client: TestClient, small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(launch.launcher, "start", lambda folder, command: started.append(folder.name))
    headers, address = bearer("trainer"), f"/api/v1/datasets/{small.id}"

    def twice(key: str, path: str, **sent: Any) -> dict[str, Any]:
        one, two = (client.post(path, headers=headers | {"Idempotency-Key": key}, **sent) for _ in range(2))
        assert one.json() == two.json() and one.status_code == two.status_code < 300, one.text
        assert "idempotency-replayed" not in one.headers and two.headers["idempotency-replayed"] == "true"
        answer: dict[str, Any] = one.json()
        return answer

    picture: dict[str, Any] = {"files": [("files", ("a.png", png(1)))]}
    assert twice("a", f"{address}/images", **picture)["images"][0]["added"]  # the second time, too: it is the first one's answer
    assert store.count(small.id, store.Filter()) == 25
    other: dict[str, Any] = {"files": [("files", ("a.png", png(2)))]}
    refused(client.post(f"{address}/images", headers=headers | {"Idempotency-Key": "a"}, **other), 422)
    export_id = twice("b", f"{address}/exports", json={"format": "csv"})["id"]
    run_id = twice("c", f"{address}/runs", json={"settings": {"architecture": "linear", "epochs": 1}})["id"]
    assert started == [export_id, run_id]
    twice("d", f"/api/v1/runs/{run_id}/stop")
    refused(client.post(f"/api/v1/runs/{run_id}/stop", headers=headers | {"Idempotency-Key": "c"}), 422)


@pytest.mark.databases("sqlite", "postgresql")
def test_what_a_server_that_ended_had_begun_is_done_once_or_said_to_be_unknown(
    client: TestClient, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, headers = first(small), bearer() | {"Idempotency-Key": "k"}
    address, body = f"/api/v1/datasets/{small.id}/labels", {"label": "blue", "seen": {image.id: image.label_seq}}
    with monkeypatch.context() as patch:
        patch.setattr(tokens, "answered", lambda *_: None)  # ended between the act and its answer
        done = client.post(address, headers=headers, json=body).json()
    refused(client.post(address, headers=headers, json=body), 409)  # it might still be at it
    monkeypatch.setattr(servers, "name", lambda: "the next one")
    assert client.post(address, headers=headers, json=body).json() == done and len(labels.history(small.id, image.id)) == 2
    run = headers | {"Idempotency-Key": "run"}
    with monkeypatch.context() as patch:
        patch.setattr(tokens, "refused", lambda *_: None)
        refused(client.post(f"/api/v1/datasets/{small.id}/runs", headers=run, json={"settings": {"epochs": 0}}), 422)
    monkeypatch.setattr(servers, "name", lambda: "the one after")
    found = refused(client.post(f"/api/v1/datasets/{small.id}/runs", headers=run, json={"settings": {"epochs": 0}}), 409)
    assert "not known" in found["detail"]


def test_a_refused_request_may_be_sent_again_with_its_key(client: TestClient, small: Dataset) -> None:
    image = first(small)
    headers, address = bearer() | {"Idempotency-Key": "k"}, f"/api/v1/datasets/{small.id}/images/{image.id}/label"
    refused(client.put(address, headers=headers, json={"label": "none of them", "seen": image.label_seq}), 404)
    assert client.put(address, headers=headers, json={"label": "blue", "seen": image.label_seq}).status_code == 200


# Runs, predictions, decisions, exports


def test_a_run_answers_is_listed_with_its_figures_and_its_answers_go_to_review(trained_client: TestClient, trained_copy: Trained) -> None:
    made, run, headers = trained_copy.dataset, trained_copy.run_id, bearer("trainer")
    listed = trained_client.get("/api/v1/runs", headers=headers).json()
    assert [one["id"] for one in listed["items"]] == [run] and listed["next"] is None
    shown = trained_client.get(f"/api/v1/runs/{run}", headers=headers).json()
    assert shown["status"] == "succeeded" and shown["validation_accuracy"]["n"] == shown["images"]["validation"]
    figures = trained_client.get(f"/api/v1/runs/{run}/evaluation", headers=headers).json()
    assert figures["n"] > 0 and figures["accuracy"]["low"] <= figures["accuracy"]["value"] <= figures["accuracy"]["high"]
    sent = [("files", ("a.png", png(1, 8))), ("files", ("b.txt", b"no")), ("files", ("c.png", b"no picture"))]
    answer = trained_client.post(f"/api/v1/runs/{run}/predictions", headers=headers, files=sent)
    one, *broken = answer.json()["answers"]
    assert one["probability"] == max(one["probabilities"].values()) and one["label"] in made.classes
    assert [set(other) for other in broken] == [{"file", "in_review", "problem"}] * 2 and not reviewing.waiting(made.id)
    refused(trained_client.post(f"/api/v1/runs/{run}/predictions", headers=headers, files=sent[1:]), 422)
    refused(trained_client.post(f"/api/v1/runs/{run}/predictions", headers=bearer("labeller", made.id + 1), files=sent), 404)
    for _ in range(2):
        done = trained_client.post(f"/api/v1/runs/{run}/predictions", headers=headers, files=sent[:1], data={"review": "true"})
        assert done.json()["answers"][0]["in_review"]
    address = f"/api/v1/datasets/{made.id}/decisions"
    (waiting,) = trained_client.get(f"{address}?state=waiting", headers=headers).json()["items"]
    assert waiting["verdict"] is None and waiting["file"] == "a.png" and waiting["sent_by"] == "trainer 0 (API)"
    assert trained_client.get(address, headers=headers).json()["items"] == []
    review.decide(waiting["id"], "rejected", None, "Ann")
    (decided,) = trained_client.get(address, headers=headers).json()["items"]
    assert decided["verdict"] == "rejected" and decided["decided_by"] == "Ann"
    assert queue.get(waiting["id"]).source == "api"
    appeal, said = f"{address}/{waiting['id']}/appeal", {"reason": "It is a painting."}
    refused(trained_client.post(appeal, headers=bearer("moderator"), json=said), 403)
    refused(trained_client.post(f"{address}/999/appeal", headers=headers, json=said), 404)
    refused(trained_client.post(appeal, headers=headers, json={"reason": ""}), 422)
    for _ in range(2):  # the same key: once
        again = trained_client.post(appeal, headers=headers | {"Idempotency-Key": "appeal"}, json=said)
        assert again.status_code == 200 and again.json()["verdict"] == "rejected", "it stands until somebody else has looked"
    assert (queue.get(waiting["id"]).state, decisions.of_item(waiting["id"])[-1].note) == ("appeal", "It is a painting.")
    refused(trained_client.post(appeal, headers=headers, json=said), 409)
    stopped = trained_client.post(f"/api/v1/runs/{run}/stop", headers=headers)
    assert stopped.status_code == 202 and stopped.json()["status"] == "succeeded"


def test_a_policy_asked_by_its_name_answers_with_the_band_of_its_active_version(trained_client: TestClient, trained_copy: Trained) -> None:
    made, run, headers = trained_copy.dataset, trained_copy.run_id, bearer("labeller")
    address, files = f"/api/v1/datasets/{made.id}/predictions", [("files", ("a.png", png(1, 8))), ("files", ("b.png", b"no picture"))]

    def asked(**data: str) -> Any:
        return trained_client.post(address, headers=headers, files=files, data={"policy": "Strict", **data})

    assert "no policy “Strict”" in refused(asked(), 404)["detail"]
    blocks = {made.classes[0]: Limits(0.0, 0.0)}  # whatever the probability
    old, new = (policy.write(made.id, run, "Strict", policy.Rules(one)) for one in (blocks, {made.classes[0]: Limits(1.0, None)}))
    assert "No version of the policy “Strict” is active" in refused(asked(), 409)["detail"]
    for version, band in ((old, "block"), (new, "pass")):
        policy.activate(version.id)
        found = asked().json()
        one, broken = found["answers"]
        assert (found["policy"], found["run"], one["band"], one["in_review"]) == (version.id, run, band, False) and "band" not in broken
        assert one["risk"] == one["probabilities"][made.classes[0]]
    refused(asked(policy="Stricter"), 404)
    refused(trained_client.post(address, headers=headers, files=files), 422)
    refused(trained_client.post(address, headers=bearer("viewer"), files=files, data={"policy": "Strict"}), 403)
    refused(trained_client.post(address, headers=bearer("labeller", made.id + 1), files=files, data={"policy": "Strict"}), 404)
    asking = policy.write(made.id, run, "Strict", policy.Rules({made.classes[0]: Limits(0.0, None)}, audit=1.0))
    policy.activate(asking.id)
    asked_before = headers | {"Idempotency-Key": "k"}
    first_answer = trained_client.post(address, headers=asked_before, files=files, data={"policy": "Strict"}).json()
    policy.activate(asking.id, "off")
    assert trained_client.post(address, headers=asked_before, files=files, data={"policy": "Strict"}).json() == first_answer
    policy.activate(asking.id)
    for _ in range(2):  # the second time it waits already
        (one, _) = asked(review="true").json()["answers"]
        assert (one["band"], one["in_review"]) == ("ask", True)
    assert [(one.name, one.run_id) for one in reviewing.waiting(made.id)] == [("a.png", run)]


def test_a_run_is_started_with_settings_that_are_checked(client: TestClient, small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(launch.launcher, "start", lambda folder, command: started.append(folder.name))
    headers, address = bearer("trainer") | {"Idempotency-Key": "k"}, f"/api/v1/datasets/{small.id}/runs"
    assert "epochz" in refused(client.post(address, headers=headers, json={"settings": {"epochz": 1}}), 422)["detail"]
    odd: list[dict[str, Any]] = [
        {"epochs": [1]},
        {"layers": 3},
        {"layers": [{}]},
        {"architecture": {}},
        {"learning_rate": "x"},
        {"classes": [[1]]},
        {"classes": 3},
        {"epochs": "NaN"},
    ]
    for values in odd:
        refused(client.post(address, headers=headers, json={"settings": values}), 422)
    one, two = (client.post(address, headers=headers, json={"settings": {"architecture": "linear", "epochs": 1}}) for _ in range(2))
    assert one.status_code == 201 and one.json() == two.json() and started == [one.json()["id"]]


def test_an_export_is_started_asked_for_and_downloaded(client: TestClient, small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch.launcher, "start", lambda folder, command: jobs.run(folder, export.EXPORT))
    monkeypatch.setattr(launch.launcher, "alive", lambda folder: False)
    headers = bearer("trainer")
    refused(client.post(f"/api/v1/datasets/{small.id}/exports", headers=headers, json={"format": "floppy"}), 422)
    started = client.post(f"/api/v1/datasets/{small.id}/exports", headers=headers, json={"format": "folders"})
    assert started.status_code == 202
    address = f"/api/v1/exports/{started.json()['id']}"
    state = client.get(address, headers=headers).json()
    assert state["status"] == "done" and state["images"] == 24
    answer = client.get(f"{address}/zip", headers=headers)
    assert answer.headers["content-type"] == "application/zip" and len(answer.content) == state["bytes"]
    refused(client.get(address, headers=bearer("viewer")), 403)
    refused(client.get(address, headers=bearer("admin", small.id + 1)), 404)


@pytest.mark.databases("sqlite", "postgresql")
def test_datasets_and_the_history_of_an_image_come_in_pages(client: TestClient, small: Dataset) -> None:
    image, headers = first(small), bearer("labeller")
    ids = {small.id, *(store.create_dataset(name).id for name in ("b", "c"))}
    for label in ("red", "green"):
        labels.apply(small.id, {image.id: store.get_image(small.id, image.id).label_seq}, label, "Ann")
    for path, of, n in (("/datasets", "id", len(ids)), (f"/datasets/{small.id}/images/{image.id}/history", "seq", 3)):
        got, cursor = [], ""
        while cursor is not None:
            page = client.get(f"/api/v1{path}?limit=1{cursor and f'&cursor={cursor}'}", headers=headers).json()
            got += [one[of] for one in page["items"]]
            cursor = page["next"]
        assert len(got) == n and got == sorted(got, reverse=of == "seq"), path


# What describes it


def test_the_description_has_problem_documents_and_the_page_no_script(client: TestClient) -> None:
    described = client.get("/api/v1/openapi.json").json()
    assert described["openapi"].startswith("3.1") and "HTTPValidationError" not in described["components"]["schemas"]
    for path, methods in described["paths"].items():
        for one in methods.values():
            answers = [
                kind["schema"] for code in one["responses"].values() for kind in code.get("content", {}).values() if "schema" in kind
            ]
            assert not any(schema.get("type") == "array" for schema in answers), f"{path} answers without pages"
            assert "get" in methods or any(p["name"] == "Idempotency-Key" for p in one["parameters"]), f"{path} is not done once"
            assert one["description"] and "default" in one["responses"] and "422" not in one["responses"], path
            body = one.get("requestBody", {"content": {}})["content"].get("application/json")
            schema = (
                described["components"]["schemas"][body["schema"]["$ref"].rpartition("/")[2]] if body else {"additionalProperties": False}
            )
            assert schema["additionalProperties"] is False, f"{path} takes fields that it does not know"
    page = client.get("/api/v1/docs")
    assert "<script" not in page.text and "https://" not in page.text and "default-src 'self'" in page.headers["content-security-policy"]
    assert all(path in page.text for path in described["paths"])
