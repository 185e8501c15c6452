"""Room on the disk: watched before anything begins, bounded for each person, and a disk that fills up on the way."""

from __future__ import annotations

import asyncio
import errno
import shutil
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image as Pillow
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Message

from core import roles, space
from core.api import in_memory, routes
from core.data import check, imports, sources, store, uploads
from core.errors import AppError, Invalid, Unwritable
from core.ml.data import RowCache
from core.roles import Person
from core.runs import jobs
from core.settings import settings
from core.types import Dataset
from tests import disks
from tests.conftest import forget
from tests.pages.app import opened, words


async def pieces(*some: bytes, pause: float = 0) -> AsyncIterator[bytes]:
    for one in some:
        await asyncio.sleep(pause)
        yield one


def send(batch: str, name: str, *some: bytes, by: str = "Ann", pause: float = 0) -> int:
    with roles.acting(Person(by, "trainer")):
        return asyncio.run(uploads.receive(batch, name, pieces(*some, pause=pause)))


def batches() -> list[Path]:
    return list((settings().uploads / "batches").glob("*"))


@pytest.fixture(autouse=True)
def nothing_counted() -> None:
    uploads._held.clear()


def test_below_the_limit_nothing_is_begun_and_home_says_so(small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=300_000_000))
    said = "300 MB are free on the disk of LOUPE_HOME; 500 MB are needed"
    for begin in (
        lambda: send(str(uuid.uuid4()), "a.zip", b"x"),
        lambda: uploads.keep("a.png", b"x"),
        lambda: imports.import_now("x", sources.at(tmp_path), "me"),
        lambda: imports.start(sources.named("sample"), "x", "me"),
        lambda: imports.add_sent("x", [], "me"),
    ):
        with pytest.raises(Unwritable, match="is not begun: 300 MB are free"):
            begin()
    assert batches() == [] and store.find_dataset("x") is None
    assert said in words(opened("home"))
    monkeypatch.setenv("LOUPE_LEAST_FREE_MB", "200")
    settings.cache_clear()
    assert send(str(uuid.uuid4()), "a.zip", b"x") == 1 and said not in words(opened("home"))


def test_what_one_person_has_uploaded_is_bounded_and_others_are_not_kept_waiting(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOUPE_UPLOAD_QUOTA_MB", "1")
    settings.cache_clear()
    first = str(uuid.uuid4())
    half = bytes(600_000)
    assert send(first, "a.zip", half) == 600_000
    with pytest.raises(Invalid, match="More than 1 MB of Ann wait for their import"):
        send(str(uuid.uuid4()), "b.zip", half)
    assert [path.name for path in batches()] == [first] and send(str(uuid.uuid4()), "b.zip", half, by="Bob") == 600_000
    uploads.remove([str(path) for path, _ in uploads.files(first)])
    assert send(str(uuid.uuid4()), "b.zip", half) == 600_000


def test_batches_of_one_person_are_counted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_BATCHES", 2)
    first = str(uuid.uuid4())
    for batch in (first, first, str(uuid.uuid4())):  # two files of one batch
        send(batch, uuid.uuid4().hex, b"x")
    with pytest.raises(Invalid, match="2 uploads of Ann wait"):
        send(str(uuid.uuid4()), "c.zip", b"x")
    assert len(batches()) == 2
    send(str(uuid.uuid4()), "c.zip", b"x", by="Bob")


@pytest.mark.parametrize("limit", ["SILENCE", "LONGEST"])
def test_an_upload_that_comes_too_slowly_ends_and_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(uploads, limit, 0.05)
    with pytest.raises(Invalid, match=r"a\.zip came too slowly"):
        send(str(uuid.uuid4()), "a.zip", *[b"x"] * 9, pause=0.1 if limit == "SILENCE" else 0.02)
    assert batches() == []


def keeping(there: dict[str, dict[str, SimpleNamespace]]) -> Starlette:
    """Streamlit's route, which keeps what comes in memory."""

    async def put(request: Request) -> Response:
        data = b"".join([chunk async for chunk in request.stream()])
        there.setdefault(request.path_params["session"], {})[request.path_params["file"]] = SimpleNamespace(data=data)
        return Response(status_code=204)

    route = Route("/_stcore/upload_file/{session}/{file}", put, methods=["PUT"])
    return Starlette(
        routes=[route],
        middleware=[Middleware(in_memory.Bound, held=lambda: there, largest=500)],
        exception_handlers={AppError: routes.app_error},
    )


def test_pictures_that_wait_in_memory_are_bounded_for_each_person_in_all_tabs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: dict[str, dict[str, SimpleNamespace]] = {}
    monkeypatch.setattr(in_memory, "MOST_BYTES", 1000)
    client = TestClient(keeping(there))

    def send(session: str, file: str, size: int, by: str = "Ann") -> int:
        with roles.acting(Person(by, "labeller")):
            return client.put(f"/_stcore/upload_file/{session}/{file}", content=bytes(size)).status_code

    assert [send("a", "1", 400), send("b", "2", 400), send("a", "3", 400), send("c", "4", 400, by="Bob")] == [204, 204, 413, 204]
    there.pop("a")  # the tab is closed
    assert send("b", "5", 400) == 204 and send("b", "6", 400) == 413
    monkeypatch.setattr(in_memory, "MOST_BYTES", 10_000)
    monkeypatch.setattr(in_memory, "MOST_FILES", 3)
    assert [send("b", "7", 1), send("b", "8", 1)] == [204, 413]


def test_a_picture_that_comes_into_memory_too_slowly_is_not_waited_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_memory, "SILENCE", 0.05)
    there: dict[str, dict[str, SimpleNamespace]] = {}
    said: list[Message] = []

    async def never() -> Message:
        await asyncio.sleep(30)
        raise AssertionError

    async def answer(message: Message) -> None:
        said.append(message)

    scope = {"type": "http", "method": "PUT", "path": "/_stcore/upload_file/a/1", "headers": [], "query_string": b"", "root_path": ""}
    asyncio.run(keeping(there)(scope, never, answer))
    assert said[0]["status"] == 422 and not there


def test_an_upload_goes_with_its_import_and_stays_where_that_failed(
    home: Path, in_this_process: None, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "x")

    batch = str(uuid.uuid4())
    send(batch, "a.png", (settings().images / store.all_images(small.id)[0].path).read_bytes())
    source = sources.uploaded(uploads.files(batch))
    with monkeypatch.context() as patch:
        patch.setattr(imports, "_import", full)
        failed = imports.state(imports.start(source, "new", "me", seen=["anything"]))
    assert failed.status == "failed" and failed.message == "The disk is full: x could not be written." and len(batches()) == 1
    assert imports.state(imports.start(source, "new", "me")).status == "done" and batches() == []


# A disk that fills up ---------------------------------------------------------------------------------


@pytest.fixture
def tiny_home(home: Path, tiny_disk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A LOUPE_HOME of 1 MB, of which no room is asked for beforehand."""
    shutil.copy(home / "loupe.db", tiny_disk / "loupe.db")
    monkeypatch.setenv("LOUPE_HOME", str(tiny_disk))
    monkeypatch.setattr(space, "short", lambda more=0: "")
    forget()
    return tiny_disk


def test_an_import_whose_disk_fills_up_says_so_and_goes_on_once_there_is_room(tiny_home: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for n in range(40):
        Pillow.fromarray(noise.integers(0, 256, (128, 128, 3), np.uint8)).save(tmp_path / "in" / f"{n}.png")
    with pytest.raises((Invalid, Unwritable), match=r"The disk is full: .* could not be written"):
        imports.import_now("x", sources.at(tmp_path / "in"), "me")
    assert not [path for path in tiny_home.rglob("*.tmp")]
    disks.remount(tiny_home, "size=16m")
    assert imports.import_now("x", sources.at(tmp_path / "in"), "me").added == 40
    assert [one for one in check.check()["damage"] if one["what"] != "rights"] == []


def test_an_upload_whose_disk_fills_up_says_so_and_leaves_nothing(tiny_home: Path) -> None:
    with pytest.raises(Unwritable, match=r"The disk is full: big\.zip could not be written"):
        send(str(uuid.uuid4()), "big.zip", *[bytes(100_000)] * 20)
    assert batches() == []
    disks.remount(tiny_home, "size=16m")
    assert send(str(uuid.uuid4()), "big.zip", *[bytes(100_000)] * 20) == 2_000_000


def test_a_cache_whose_disk_fills_up_goes_on_with_what_it_had(tiny_disk: Path) -> None:
    cache, rows = RowCache(tiny_disk, "1-x", (1000,), "uint8"), np.arange(2_000_000, dtype=np.uint8).reshape(2000, 1000)
    ids = [f"{n:016x}" for n in range(2000)]
    cache.append(ids[:500], rows[:500])
    with pytest.raises(OSError, match="No space left"):
        cache.append(ids[500:], rows[500:])
    assert np.array_equal(cache.read()[0], rows[: len(cache)]) and len(cache) == 500
    disks.remount(tiny_disk, "size=16m")
    cache.append(ids[500:], rows[500:])
    found, where = cache.read()
    assert np.array_equal(found, rows) and len(where) == 2000


def test_a_read_only_folder_is_said(tiny_home: Path, tmp_path: Path) -> None:
    store.list_datasets()
    (tmp_path / "in").mkdir()
    forget()
    disks.remount(tiny_home, "ro")
    try:
        app = opened("home")
        assert not app.exception and "Something went wrong" not in words(app)
        with pytest.raises(Unwritable, match="The system refuses access to"), space.told():
            store.create_dataset("x")
        with pytest.raises(Unwritable, match="The system refuses access to"), space.told():
            jobs.start(settings().imports, imports.IMPORT, {})
    finally:
        forget()
        disks.remount(tiny_home, "rw")
