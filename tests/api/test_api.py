"""The HTTP routes beside the pages: who is served what, and who is refused."""

from __future__ import annotations

import base64
import errno
import io
import os
import re
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image as Pillow
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from core.api import gate, routes, signing
from core.catalog import params
from core.data import audit, claims, classes, imports, labels, schema, sources, store, uploads
from core.errors import AppError
from core.review import predict
from core.runs import runs
from core.settings import settings
from core.types import Answers, Dataset, EpochEnd, Image, Prediction, Queued, Run, Snapshot, SnapshotRow, now

if TYPE_CHECKING:
    from tests.conftest import Trained


def app() -> Starlette:
    return Starlette(
        routes=routes.ROUTES,
        middleware=[Middleware(gate.Gate)],
        exception_handlers={AppError: routes.app_error, OSError: routes.os_error, HTTPException: routes.http_error},
    )


@pytest.fixture
def client(home: Path) -> Iterator[TestClient]:
    with TestClient(app(), base_url="http://localhost:8501") as client:
        yield client


def images_of(made: Dataset) -> list[Image]:
    return store.browse(made.id, store.Filter(), 0, 100)


def headers(user: str = "Ann") -> dict[str, str]:
    return {"X-Loupe-Token": signing.token(user)}


def later(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    at = time.time() + days * 24 * 3600
    monkeypatch.setattr(time, "time", lambda: at)


# Pictures


def test_a_signed_thumbnail_is_served_and_may_be_kept_by_the_browser_alone(client: TestClient, small: Dataset) -> None:
    one = images_of(small)[0]
    answer = client.get(signing.thumb_url(one))
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
    assert Pillow.open(io.BytesIO(answer.content)).size == (12, 12)
    assert "private" in answer.headers["cache-control"] and "immutable" in answer.headers["cache-control"]
    assert signing.thumb_url(one) == signing.thumb_url(one)  # the same all day, or no browser would find it again


def test_a_thumbnail_without_a_signature_or_with_another_ones_is_refused(client: TestClient, small: Dataset) -> None:
    one, two = images_of(small)[:2]
    url = signing.thumb_url(one)
    path, _, query = url.partition("?")
    other = signing.thumb_url(two).partition("?")
    expiry, _, signature = query.removeprefix("e=").partition("&s=")
    for bad in (
        path,
        f"{path}?e={expiry}",
        f"{path}?e={expiry}&s=",
        f"{path}?e={expiry}&s={signature[:-1]}",
        f"{path}?e={int(expiry) + 1}&s={signature}",
        f"{path}?{other[2]}",
        f"{path.removesuffix(str(one.thumb_size))}{one.thumb_size + 1}?{query}",
        f"{path}?e={expiry}&s={quote('é' * 32)}",
        f"{path}?e={quote('²')}&s={signature}",
    ):
        answer = client.get(bad)
        assert answer.status_code == 403, bad
        assert "expired" in answer.json()["error"]["message"]
    assert client.get(url).status_code == 200


def test_a_signature_lasts_a_day_and_ends(client: TestClient, small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    url = signing.thumb_url(images_of(small)[0])
    with monkeypatch.context() as patch:
        later(patch, 1)
        assert client.get(url).status_code == 200
    with monkeypatch.context() as patch:
        later(patch, 3)
        assert client.get(url).status_code == 403


def test_another_installation_does_not_accept_this_ones_signatures(
    client: TestClient, small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, secret = signing.thumb_url(images_of(small)[0]), settings().home / "secret"
    assert secret.stat().st_mode & 0o077 == 0 and len(secret.read_bytes()) == 32
    secret.unlink()
    signing._secret.cache_clear()
    assert client.get(url).status_code == 403


def photo(path: Path, size: tuple[int, int]) -> Path:
    """A JPEG lying on its side, red at its top once upright, with a camera's name and place in its EXIF."""
    picture = Pillow.new("RGB", size, "blue")
    picture.paste("red", (0, 0, size[0] // 4, size[1]))  # the left edge is the top after a turn to the right
    exif = Pillow.Exif()
    exif[0x0112], exif[0x010F] = 6, "SecretCamera"
    picture.save(path, exif=exif, quality=95)
    return path


@pytest.mark.parametrize(("size", "media_type"), [((60, 40), "image/png"), ((600, 400), "image/jpeg")])
def test_a_picture_is_served_upright_and_without_exif(
    client: TestClient, small: Dataset, tmp_path: Path, size: tuple[int, int], media_type: str
) -> None:
    file = photo(tmp_path / "photo.jpg", size)
    one = replace(imports.add_upload(small, file, "photo.jpg"), label="red")
    labels.add_images(small.id, [one], "tester", "import")
    answer = client.get(signing.picture_url(one))
    assert answer.status_code == 200 and answer.headers["content-type"] == media_type
    served = Pillow.open(io.BytesIO(answer.content))
    assert (one.width, one.height) == (size[1], size[0])
    assert served.height * one.width == served.width * one.height and served.height >= one.height
    top, bottom = served.convert("RGB").getpixel((5, 2)), served.convert("RGB").getpixel((5, served.height - 3))
    assert isinstance(top, tuple) and isinstance(bottom, tuple) and top[0] > 200 > 60 > top[2] and bottom[2] > 200 > 60 > bottom[0]
    assert not served.getexif() and b"SecretCamera" not in answer.content
    assert b"SecretCamera" in (settings().images / one.path).read_bytes()  # the original is untouched
    assert b"SecretCamera" not in client.get(signing.thumb_url(one)).content
    assert client.get(f"/picture/{one.path}").status_code == 403


def test_an_uploaded_picture_is_served_by_signature_only(client: TestClient, tmp_path: Path) -> None:
    kept = uploads.keep("photo.jpg", photo(tmp_path / "photo.jpg", (60, 40)).read_bytes())
    assert client.get(signing.upload_url(1, kept.path)).headers["content-type"] == "image/png"
    assert client.get(f"/uploaded/{kept.path.name}").status_code == 403


def test_a_picture_whose_file_is_gone_is_an_error_in_words(client: TestClient, small: Dataset) -> None:
    one = images_of(small)[0]
    (settings().images / one.path).unlink()
    answer = client.get(signing.picture_url(one))
    assert 400 <= answer.status_code < 500 and "cannot be read" in answer.json()["error"]["message"]


# The gate


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evil.example:8501",
        "",
        "127.0.0.1.nip.io",
        "localhost:8501.evil.example",
        "localhost:port",
        "localhost:",
        "[::1]evil",
        "a:b:8501",
    ],
)
def test_a_foreign_host_name_is_refused(client: TestClient, small: Dataset, host: str) -> None:
    answer = client.get(signing.thumb_url(images_of(small)[0]), headers={"Host": host})
    assert answer.status_code == 403 and b"PNG" not in answer.content
    with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/_stcore/stream", headers={"Host": host}):
        pass
    assert refused.value.code == 1008


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1:8501", "[::1]", "[::1]:8501"])
def test_the_machines_own_names_are_answered_to(client: TestClient, small: Dataset, host: str) -> None:
    assert client.get(signing.thumb_url(images_of(small)[0]), headers={"Host": host}).status_code == 200
    with pytest.raises(WebSocketDisconnect) as closed, client.websocket_connect("/_stcore/stream", headers={"Host": host}):
        pass
    assert closed.value.code != 1008  # here no such route exists, but the gate was open


def test_every_answer_carries_the_security_headers(client: TestClient, small: Dataset) -> None:
    one = images_of(small)[0]
    for answer in (
        client.get(signing.thumb_url(one)),
        client.get("/thumb/1/2-3"),
        client.get("/nothing"),
        client.get("/vendor/plotly.min.js"),
    ):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe-eval" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["referrer-policy"] == "no-referrer"


def test_plotly_comes_from_this_machine(client: TestClient) -> None:
    answer = client.get("/vendor/plotly.min.js")
    assert answer.status_code == 200 and "javascript" in answer.headers["content-type"] and len(answer.content) > 1_000_000


# Labels


def body(made: Dataset, one: Image, name: str | None, operation: str = "op-1") -> dict[str, object]:
    return {"operation": operation, "dataset_id": made.id, "label": name, "seen": {one.id: one.label_seq}}


def test_a_label_is_stored_under_the_name_the_token_was_made_for(client: TestClient, small: Dataset) -> None:
    one = images_of(small)[0]
    answer = client.post("/api/label", json=body(small, one, "green"), headers=headers("Ann Ö."))
    assert answer.status_code == 200
    last = labels.history(small.id, one.id)[0]
    assert answer.json() == {"seqs": {one.id: last.seq}, "refused": {}, "label": "green", "notice": ""}
    assert (last.label, last.by, last.source) == ("green", "Ann Ö.", "manual")


def test_a_label_without_a_good_token_is_refused(client: TestClient, small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    one = images_of(small)[0]
    name, expiry, signature = signing.token("Ann").split(".")
    for bad in ("", "x", f"{name}.{expiry}.", f"{b'Bob'.hex()}.{expiry}.{signature}", f"{name}.{int(expiry) + 9}.{signature}", "a.1.é"):
        answer = client.post("/api/label", json=body(small, one, "green"), headers={b"X-Loupe-Token": bad.encode("latin-1")})
        assert answer.status_code == 401 and answer.json()["error"]["message"], bad
    token = signing.token("Ann")
    later(monkeypatch, 8)
    assert client.post("/api/label", json=body(small, one, "green"), headers={"X-Loupe-Token": token}).status_code == 401
    assert len(labels.history(small.id, one.id)) == 1


def test_a_flag_is_stored_like_a_label_and_heard_of_by_others(client: TestClient, small: Dataset) -> None:
    one = images_of(small)[0]
    before = client.get("/api/changes", params={"dataset": small.id}, headers=headers("Bob")).json()
    assert before == {"seq": max(i.label_seq for i in images_of(small)), "changes": [], "more": False}
    flag = {"operation": "f-1", "dataset_id": small.id, "flag": True, "seen": {one.id: one.label_seq}}
    assert client.post("/api/label", json=flag, headers=headers("Ann")).status_code == 200
    heard = client.get("/api/changes", params={"dataset": small.id, "after": before["seq"]}, headers=headers("Bob")).json()
    (change,) = heard["changes"]
    assert (change["id"], change["label"], change["by"], change["flagged"]) == (one.id, one.label, "Ann", True)
    assert heard["seq"] == change["seq"] and heard["more"] is False
    later = client.get("/api/changes", params={"dataset": small.id, "after": heard["seq"]}, headers=headers("Bob")).json()
    assert later["changes"] == []


def test_changes_are_told_to_holders_of_a_token_only_and_in_the_expected_form(client: TestClient, small: Dataset) -> None:
    assert client.get("/api/changes", params={"dataset": small.id}).status_code == 401
    queries: list[dict[str, str | int]] = [{}, {"dataset": "x"}, {"dataset": small.id, "after": "?"}]
    for bad in queries:
        assert client.get("/api/changes", params=bad, headers=headers("Ann")).status_code == 400


def test_what_was_dealt_out_is_kept_while_a_page_renews_it_and_free_when_it_is_given_back(client: TestClient, small: Dataset) -> None:
    labels.apply(small.id, {i.id: i.label_seq for i in images_of(small)}, None, "Ann")
    ids = [i.id for i in images_of(small)]
    assert claims.deal(small.id, "ann", ids, 10) == ids[:10]
    client.get("/api/changes", params={"dataset": small.id, "session": "ann", "renew": 1}, headers=headers("Ann"))
    assert claims.deal(small.id, "bob", ids, 10) == ids[10:20]
    client.get("/api/changes", params={"dataset": small.id, "session": "ann", "release": 1}, headers=headers("Ann"))
    assert claims.deal(small.id, "bob", ids, 10) == ids[:10]


def test_twenty_people_at_once_lose_nothing_and_store_nothing_twice(client: TestClient, small: Dataset) -> None:
    found = images_of(small)[:20]

    def work(number: int) -> int:
        """One person labels one image four times, and sends everything twice, as after a lost answer."""
        one, seen, stored = found[number], found[number].label_seq, 0
        for turn in range(4):
            sent = {
                "operation": f"{number}-{turn}",
                "dataset_id": small.id,
                "label": ("red", "green", "blue")[turn % 3],
                "seen": {one.id: seen},
            }
            first, again = (client.post("/api/label", json=sent, headers=headers(f"P{number}")).json() for _ in range(2))
            assert first == again and not first["refused"]
            seen, stored = first["seqs"][one.id], stored + 1
        return stored

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(work, range(20))) == 80
    assert sum(len(labels.history(small.id, one.id)) - 1 for one in found) == 80


def test_a_page_drawn_before_a_rename_goes_on_labelling(client: TestClient, small: Dataset) -> None:
    one = images_of(small)[0]
    classes.rename(small.id, "green", "lime", "Bob")
    answer = client.post("/api/label", json=body(small, one, "green"), headers=headers("Ann")).json()
    assert answer["label"] == "lime" and answer["notice"] == "“green” is called “lime” now." and one.id in answer["seqs"]


def test_a_label_on_an_old_view_is_refused_in_the_answer_that_says_who_came_first(client: TestClient, small: Dataset) -> None:
    one = images_of(small)[0]
    client.post("/api/label", json=body(small, one, "green"), headers=headers("Ann"))
    answer = client.post("/api/label", json=body(small, one, "red", "op-2"), headers=headers("Bob"))
    assert answer.status_code == 200 and answer.json()["seqs"] == {}
    refused = answer.json()["refused"][one.id]
    assert (refused["label"], refused["by"]) == ("green", "Ann") and refused["seq"] == store.get_image(small.id, one.id).label_seq
    assert store.get_image(small.id, one.id).label == "green"


def test_a_label_sent_twice_is_stored_once(client: TestClient, small: Dataset) -> None:
    one = images_of(small)[0]
    first, second = (client.post("/api/label", json=body(small, one, "green"), headers=headers()) for _ in range(2))
    assert first.json() == second.json() and len(labels.history(small.id, one.id)) == 2


def test_a_label_on_a_full_disk_is_refused_in_words_and_stored_once_when_there_is_room(client: TestClient, small: Dataset) -> None:
    def full(c: sa.Connection) -> None:
        c.exec_driver_sql("PRAGMA max_page_count=1")  # SQLite takes what there is already

    sa.event.listen(schema.engine(), "begin", full)
    for turn in range(100):
        one = images_of(small)[0]
        answer = client.post("/api/label", json=body(small, one, ("green", "blue")[turn % 2], f"o{turn}"), headers=headers())
        if answer.status_code != 200:
            break
    assert answer.status_code == 507 and answer.json()["error"]["message"].startswith("The disk is full: the database at ")
    before = labels.history(small.id, one.id)
    sa.event.remove(schema.engine(), "begin", full)
    schema.engine().dispose()  # the limit is a connection's
    again = [client.post("/api/label", json=body(small, one, ("green", "blue")[turn % 2], f"o{turn}"), headers=headers()) for _ in range(2)]
    assert [one.status_code for one in again] == [200, 200] and labels.history(small.id, one.id)[1:] == before
    assert audit.verify().problem == ""


def test_an_unknown_class_image_or_dataset_is_an_error_in_words(client: TestClient, small: Dataset) -> None:
    one = images_of(small)[0]
    for wrong in (body(small, one, "horse"), body(small, replace(one, id="f" * 16), "red"), body(small, one, "red") | {"dataset_id": 99}):
        answer = client.post("/api/label", json=wrong, headers=headers())
        assert answer.status_code == 404 and answer.json()["error"]["message"] and answer.json()["error"]["hint"]
    assert len(labels.history(small.id, one.id)) == 1


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"seen": {}}', b'{"seen": 1, "label": null, "dataset_id": 1, "operation": "x"}'])
def test_a_body_of_another_form_is_refused(client: TestClient, small: Dataset, content: bytes) -> None:
    assert client.post("/api/label", content=content, headers=headers()).status_code == 400


def test_a_body_that_is_far_too_large_is_refused(client: TestClient, small: Dataset) -> None:
    assert client.post("/api/label", content=b"x" * 1_000_001, headers=headers()).status_code == 413


# Uploads


def everything(home: Path) -> set[Path]:
    return {p for p in home.parent.rglob("*") if p.is_file() and ".db" not in p.name}


NAMES = [
    "../../evil.png",
    "..\\..\\evil.png",
    "/etc/evil.png",
    ".evil.png",
    "..",
    "a\0b.png",
    "x" * 300 + ".png",
    "图" * 110 + ".png",
    "a|b?.png",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_that_points_elsewhere_is_stored_harmlessly_or_not_at_all(client: TestClient, home: Path, name: str) -> None:
    batch, token = str(uuid.uuid4()), headers()
    before = everything(home)
    answer = client.put(f"/api/upload/{batch}/{quote(name, safe='')}", content=b"12345", headers=token)
    new = everything(home) - before
    assert all(p.parent == uploads.batch(batch) for p in new)
    if "/" in name or name == "..":  # the server decodes it before it looks for a route
        assert answer.status_code == 404 and not new
    else:
        assert answer.status_code == 200 and answer.json() == {"size": 5}
        ((stored, kept),) = uploads.files(batch)
        assert stored.read_bytes() == b"12345" and re.fullmatch(r"[0-9a-f]{16}\.file", stored.name)
        assert kept == name.replace("\\", "/").rpartition("/")[2]


def test_a_large_file_arrives_whole_in_many_pieces(client: TestClient) -> None:
    batch = str(uuid.uuid4())
    answer = client.put(f"/api/upload/{batch}/photos.zip", content=(bytes([i]) * 100_000 for i in range(50)), headers=headers())
    assert answer.json() == {"size": 5_000_000}
    ((stored, name),) = uploads.files(batch)
    assert name == "photos.zip" and stored.read_bytes() == b"".join(bytes([i]) * 100_000 for i in range(50))


def test_a_file_that_is_too_large_or_empty_is_refused_and_nothing_of_it_is_kept(
    client: TestClient, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOUPE_MAX_UPLOAD_MB", "1")
    settings.cache_clear()
    batch, token = str(uuid.uuid4()), headers()
    before = everything(home)
    large = client.put(f"/api/upload/{batch}/large.zip", content=(b"x" * 100_000 for _ in range(11)), headers=token)
    assert large.status_code == 422 and "larger than 1 MB" in large.json()["error"]["message"]
    empty = client.put(f"/api/upload/{batch}/empty.zip", content=b"", headers=token)
    assert empty.status_code == 422 and "empty" in empty.json()["error"]["message"]
    assert everything(home) == before
    assert client.put(f"/api/upload/{batch}/fits.zip", content=b"x" * 1024**2, headers=token).status_code == 200


def test_an_upload_that_a_full_disk_cuts_off_is_refused_in_words_and_nothing_of_it_is_kept(
    client: TestClient, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    token, before = headers(), everything(home)
    monkeypatch.setattr(os, "replace", full)
    answer = client.put(f"/api/upload/{uuid.uuid4()}/a.zip", content=b"12345", headers=token)
    assert answer.status_code == 507 and answer.json()["error"]["message"].startswith("The disk is full: ")
    assert everything(home) == before


def test_files_of_a_batch_keep_their_own_names_and_a_second_of_a_name_replaces_the_first(client: TestClient) -> None:
    batch = str(uuid.uuid4())
    for name, content in (("IMG (1).png", b"1"), ("IMG [1].png", b"2"), ("IMG (1).png", b"3")):
        client.put(f"/api/upload/{batch}/{quote(name)}", content=content, headers=headers())
    found = uploads.files(batch)
    assert [(path.read_bytes(), name) for path, name in found] == [(b"3", "IMG (1).png"), (b"2", "IMG [1].png")]
    assert sources.uploaded(found) == sources.Source(
        "uploads", tuple(str(p) for p, _ in found), "my images", ("IMG (1).png", "IMG [1].png")
    )


@pytest.mark.parametrize(
    ("dataset_id", "name"), [("1e999", '"red"'), (str(10**24), '"red"'), ("1", '"\\ud800"'), ("[" * 100_000, '"red"'), ("-1e999", "null")]
)
def test_a_label_request_that_no_database_could_store_is_refused(client: TestClient, dataset_id: str, name: str) -> None:
    body = f'{{"operation": "1", "dataset_id": {dataset_id}, "label": {name}, "seen": {{"0": 1}}}}'
    assert client.post("/api/label", content=body, headers=headers()).status_code == 400


def test_an_empty_secret_signs_nothing(home: Path) -> None:
    settings()
    (home / "secret").touch()
    with pytest.raises(AppError, match="damaged"):
        signing.signed("/x")
    (home / "secret").unlink()
    assert signing.signed("/x") and [p.name for p in home.glob("*secret*")] == ["secret"]


def test_an_upload_without_a_token_or_with_a_strange_batch_is_refused(client: TestClient, home: Path) -> None:
    token = headers()
    before = everything(home)
    assert client.put(f"/api/upload/{uuid.uuid4()}/a.png", content=b"1").status_code == 401
    for batch in ("..", "%2e%2e", "pictures", "1234"):
        assert client.put(f"/api/upload/{batch}/a.png", content=b"1", headers=token).status_code == 404
    assert everything(home) == before


def test_uploads_nobody_imported_are_removed_after_two_days(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = str(uuid.uuid4())
    client.put(f"/api/upload/{batch}/a.png", content=b"1", headers=headers())
    uploads.remove_old_batches()
    assert uploads.batch(batch).is_dir()
    later(monkeypatch, 2.1)
    uploads.remove_old_batches()
    assert not uploads.batch(batch).exists()


# Runs


@pytest.fixture
def feed(home: Path) -> Path:
    """The folder of a run that has begun and told nothing yet."""
    config = params.run_config({"architecture": "linear", "epochs": 9, "batch_size": 8, "patience": 0, "device": "cpu"})
    counts = {"train": 1, "validation": 1, "test": 0}
    run = Run("20260101-000000-feed", "Linear 1", 1, "d", config, ("a", "b"), "s", counts, now(), "me", "abc")
    rows = (SnapshotRow("1" * 16, "11/1.png", "a", "train"), SnapshotRow("2" * 16, "22/2.png", "b", "validation"))
    folder = settings().runs / run.id
    runs.create(folder, run, Snapshot("s", run.classes, rows))
    return folder


def epoch_end(epoch: int) -> EpochEnd:
    return EpochEnd(epoch, epoch, 0.5, 0.9, 0.6, 0.8, 0.1, 100.0, 1, 1.0, now())


def test_the_events_of_a_run_are_served_from_an_offset_on(client: TestClient, feed: Path) -> None:
    url, token = f"/api/runs/{feed.name}/events", headers()
    nothing = client.get(url, headers=token).json()
    assert (nothing["points"], nothing["next"], nothing["more"]) == ([], 0, False)
    runs.append(feed, epoch_end(1))
    first = client.get(url, headers=token)
    assert [e[0] for e in first.json()["ends"]] == [1] and first.headers["cache-control"] == "no-store"
    runs.append(feed, epoch_end(2))
    second = client.get(f"{url}?after={first.json()['next']}", headers=token).json()
    assert [e[0] for e in second["ends"]] == [2] and [p[1] for p in second["points"]] == [2]
    third = client.get(f"{url}?after={second['next']}", headers=token).json()
    assert third == {**second, "points": [], "ends": []}  # the same run, and nothing to add to its curves
    assert len(client.get(f"{url}?after=nonsense", headers=token).json()["ends"]) == 2
    runs.append(feed, Queued("é", now()))
    middle = (feed / "events.jsonl").read_bytes().index("é".encode()) + 1  # of a letter of two bytes
    for wrong in (middle, 1, second["next"] - 1, 10**9):
        refused = client.get(f"{url}?after={wrong}", headers=token)
        assert refused.status_code < 500 and "not the start of an event" in refused.json()["error"]["message"]
    assert client.get(url).status_code == 401
    for name in ("nothing", "%2e%2e", "20260101-000000-0000"):
        assert client.get(f"/api/runs/{name}/events", headers=token).status_code == 404


def test_the_events_of_a_long_run_come_in_parts_that_add_up(client: TestClient, feed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MOST_EVENTS", 300)
    cells = [[actual, predicted, 1] for actual in range(2) for predicted in range(2)] * 500  # one line far longer than a part
    for epoch in range(1, 8):
        runs.append(feed, Answers(epoch, cells if epoch == 3 else [], [], now()))
    epochs: list[int] = []
    after, asked, more = 0, 0, True
    while more:
        part = client.get(f"/api/runs/{feed.name}/events?after={after}&answers=1", headers=headers()).json()
        epochs += [one["epoch"] for one in part["answers"]]
        after, more, asked = part["next"], part["more"], asked + 1
    assert epochs == [1, 2, 3, 4, 5, 6, 7]
    assert 1 < asked < 7
    assert client.get(f"/api/runs/{feed.name}/events", headers=headers()).json()["answers"] == []  # who does not ask for them


# Erase and ask again


@pytest.fixture
def asking(trained: Trained) -> Iterator[TestClient]:
    with TestClient(app(), base_url="http://localhost:8501") as client:
        yield client


def judged(trained: Trained) -> list[Path]:
    return [settings().images / r.path for r in runs.snapshot_rows(runs.folder(trained.run_id)) if r.split == "validation"]


def test_a_picture_is_answered_whole_and_then_with_a_part_erased(asking: TestClient, trained: Trained) -> None:
    file = judged(trained)[0]
    url = signing.erase_url(trained.run_id, file) + "&fill=grey"
    whole = asking.post(url, headers=headers()).json()
    expected = predict.predict(trained.run_id, [file])[0]
    assert isinstance(expected, Prediction) and whole["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)
    size = (whole["width"], whole["height"])
    assert whole["share"] == 0 and decoded(whole["picture"]).size == size
    chosen = np.zeros((size[1], size[0]), bool)
    chosen[: size[1] // 2] = True
    half = asking.post(url, headers=headers(), content=np.packbits(chosen).tobytes()).json()
    assert half["share"] == pytest.approx(chosen.mean()) and half["probabilities"] != pytest.approx(whole["probabilities"], abs=1e-3)
    patch = np.asarray(decoded(half["picture"]))
    assert patch.shape == (*chosen.shape, 4) and ((patch[..., 3] == 255) == chosen).all()
    assert len(np.unique(patch[chosen][:, :3], axis=0)) == 1  # grey: one colour
    empty = asking.post(url, headers=headers(), content=np.packbits(~chosen & chosen).tobytes()).json()
    assert empty["probabilities"] == whole["probabilities"]


def test_nobody_asks_for_a_run_or_a_picture_that_no_page_has_shown_them(asking: TestClient, trained: Trained) -> None:
    one, two = judged(trained)[:2]
    url = signing.erase_url(trained.run_id, one) + "&fill=blur"
    assert asking.post(url).status_code == 401
    path, _, query = url.partition("?")
    for foreign in (
        path,
        f"{path}?fill=blur",
        f"{path.replace(one.name, two.name)}?{query}",
        f"{path.replace(trained.run_id, '20200101-000000-0000')}?{query}",
        f"{path.replace(one.name, '../../secret')}?{query}",
    ):
        assert asking.post(foreign, headers=headers()).status_code in (403, 404), foreign
    gone = signing.erase_url("20200101-000000-0000", one) + "&fill=blur"
    assert asking.post(gone, headers=headers()).status_code == 404
    deleted = signing.erase_url(trained.run_id, one.with_name("0123456789abcdef.png")) + "&fill=blur"
    answer = asking.post(deleted, headers=headers())
    assert answer.status_code == 422 and "not stored any more" in answer.json()["error"]["message"]


def test_a_mask_that_is_too_large_or_fits_no_picture_is_refused_in_words(asking: TestClient, trained: Trained) -> None:
    url = signing.erase_url(trained.run_id, judged(trained)[0])
    for mask, fill, status, said in (
        (b"x" * (routes.MAX_MASK + 1), "grey", 413, "larger than any picture"),
        (b"xyz", "grey", 422, "not one of"),
        (b"", "sepia", 422, "no way to fill"),
        (b"", "", 422, "no way to fill"),
    ):
        answer = asking.post(f"{url}&fill={fill}", headers=headers(), content=mask)
        assert answer.status_code == status and said in answer.json()["error"]["message"]


def decoded(url: str) -> Pillow.Image:
    return Pillow.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


# Odd addresses

ODD = ("99999999999999999999999999", "0", "-1", "x" * 60, "x" * 300, "é" * 200, "%00", "%F0%9F", "..", "%E2%80%AE", "1.5", "٣")
PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")


def odd_addresses() -> Iterator[tuple[str, str]]:
    """(method, address) of every route, each of its parameters odd in turn while the others are as usual."""
    for route in routes.ROUTES:
        method = next(iter({"POST", "PUT"} & set(route.methods or ())), "GET")
        usual = {"dataset": "1", "offset": "0", "size": "10", "batch": str(uuid.UUID(int=1)), "id": "20260101-000000-abcdef"}
        names = PARAMETER.findall(route.path)
        for odd in ODD if names else ():
            for name in (*names, None):
                values = [odd if name in (one, None) else usual.get(one, "x") for one in names]
                yield method, PARAMETER.sub("{}", route.path).format(*values)


def test_no_odd_parameter_of_any_route_is_an_error_of_the_server(
    client: TestClient, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.runs.launch.ask", lambda *_: pytest.fail("a stranger's address reached the model worker"))
    tried = 0
    for method, address in odd_addresses():
        known = client.build_request(method, address).url.path  # as the server reads it
        for url in (address, signing.signed(known).replace(known, address, 1)):
            answer = client.request(method, url, headers=headers(), content=b"x")
            tried += 1
            assert answer.status_code < 500, f"{method} {url}: {answer.status_code}"
            if answer.status_code >= 400 and answer.headers["content-type"] == "application/json":
                assert answer.json()["error"]["message"].endswith("."), url
    assert tried > 300


@pytest.mark.parametrize(
    "query",
    ["dataset=9999999999", "dataset=1&after=9999999999999999999", "dataset=1&after=x", "dataset=²", "dataset=1&after=-9999999999999999999"],
)
def test_odd_numbers_in_a_question_are_refused(client: TestClient, small: Dataset, query: str) -> None:
    assert client.get(f"/api/changes?{query}", headers=headers()).status_code == 400


@pytest.mark.parametrize("run", ["x" * 60, "x" * 300, "é" * 200, "%00"])
def test_a_map_of_a_run_that_is_none_is_not_found(client: TestClient, small: Dataset, run: str) -> None:
    assert client.get(f"/api/map/{small.id}?run={run}", headers=headers()).status_code == 404


@pytest.mark.parametrize(("offset", "size"), [(0, 10**9), (10**30, 1), (10**9, 10), (0, 10**30), (0, 0)])
def test_a_thumbnail_beyond_the_file_or_of_no_file_is_not_found(client: TestClient, small: Dataset, offset: int, size: int) -> None:
    for dataset in (small.id, 77, 10**30):
        assert client.get(signing.signed(f"/thumb/{dataset}/{offset}-{size}")).status_code == 404
