"""A bucket that lies: answers that are cut off, refused, of somebody else's page or another object, while files are fetched and put.

Nothing that came so is taken for what was put there: it is not kept, or told by whoever reads it, and whole again once the bucket is honest.
"""

from __future__ import annotations

import http.client
import random
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from core import storage
from core.data import check, images, sources, store
from core.data.imports import import_now
from core.errors import AppError, Invalid, NotFound, Unavailable
from core.ml import model
from core.runs import runs
from core.runs import stored as runstored
from core.settings import settings
from core.train import train
from core.types import Image, Preprocess
from tests.buckets import NAME, Bucket
from tests.conftest import forget
from tests.reliability import homes
from tests.reliability.row import Row
from tests.squares import squares

PATIENCE = 0.4  # s for which storage is asked again
PAGE = b"<html><body>Please sign in to this network.</body></html>"
BUSY = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>'
HOW = Preprocess(channels=3, resize=12, crop=12, mean=(0.5,) * 3, std=(0.5,) * 3)
UNSEEN = ("a bit",)  # of thumbnails: they have no hash, as they are made anew from the original
LIES = ("cut off", "refused", "a page of somebody", "another object", "a bit", "nothing")


class Between(BaseHTTPRequestHandler):
    """Hands requests on to the bucket, and what it says of objects back, as told: honest, or a lie."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    port: ClassVar[int]
    lie: ClassVar[str] = ""
    chance: ClassVar[random.Random]
    other: ClassVar[bytes] = b""

    def handle_one(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        line.request(self.command, self.path, self.rfile.read(size) or None, {n: v for n, v in self.headers.items() if n != "Expect"})
        answer = line.getresponse()
        status, body, headers = answer.status, answer.read(), dict(answer.getheaders())
        line.close()
        at_an_object = self.path.startswith(f"/{NAME}/loupe") and self.command in ("GET", "PUT") and status < 300
        if at_an_object and self.lie:
            status, body, headers = self.lied(status, body, headers)
        sent = body[: int(self.chance.random() * len(body))] if at_an_object and self.lie == "cut off" else body
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else sent)
        self.close_connection = sent is not body

    def lied(self, status: int, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        bare = {name: value for name, value in headers.items() if "checksum" not in name.lower() and name.lower() != "etag"}
        if self.lie == "refused":
            return self.chance.choice((500, 503)), BUSY, {"Content-Type": "application/xml"}
        if self.command == "PUT":  # who puts believes the status alone
            return status, body, headers
        if self.lie == "a page of somebody":
            return 200, PAGE, {"Content-Type": "text/html"}
        if self.lie == "another object":
            return status, self.other, bare
        if self.lie == "nothing":
            return status, b"", bare
        if self.lie == "a bit" and body:
            odd = bytearray(body)
            odd[self.chance.randrange(len(odd))] ^= 1 << self.chance.randrange(8)
            return status, bytes(odd), self.chance.choice((bare, headers))
        return status, body, headers

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_one

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def lying(bucket: Bucket, chance: random.Random) -> Iterator[type[Between]]:
    """What stands between Loupe and the bucket, in this process's settings."""
    one = type("Here", (Between,), {"port": bucket.port, "chance": chance})
    server = ThreadingHTTPServer(("127.0.0.1", 0), one)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**bucket.env, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}.items():
            patch.setenv(name, value)
        for name in ("SOON", "PATIENT"):
            patch.setattr(storage, name, PATIENCE)
        forget()
        try:
            yield one
        finally:
            server.shutdown()
            server.server_close()
    forget()


def said(act: Callable[[], Any]) -> str:
    """What the act refused with, in words; "" if it did not."""
    try:
        act()
    except (Unavailable, Invalid, NotFound) as e:
        return str(e)
    except AppError as e:
        return str(e)
    return ""


class Kept:
    """A file that storage has: where it lies here, what is in it, and how it is read, which raises AppError where it is told to be another."""

    def __init__(self, path: Path, read: Callable[[], Any]) -> None:
        self.path, self.data, self.read = path, path.read_bytes(), read


def kept(folder: Path, image: Image) -> list[Kept]:
    thumb = next(settings().thumbs.glob("*/0*"))
    original = settings().images / image.path
    pack = images.ThumbPack(settings().thumbs, image.dataset_id)
    return [
        Kept(original, lambda: images.read_original(original, image.id, HOW)),
        Kept(folder / "best.pt", lambda: model.load(folder)),
        Kept(thumb, lambda: images.open_picture(pack.read(image.thumb_offset, image.thumb_size))),
    ]


def fetched(one: Kept, between: type[Between], lie: str) -> str:
    """Fetches it while the bucket lies, and again when it does not; what went wrong, or ""."""
    one.path.unlink(missing_ok=True)
    between.lie, before = lie, set(one.path.parent.iterdir())
    storage._away.clear()
    images._listed.cache_clear()
    told = said(one.read)
    between.lie = ""
    storage._away.clear()
    there = one.path.read_bytes() if one.path.exists() else None
    problem = ""
    if there not in (None, one.data) and not told:
        problem = "what came was taken for it, and nobody was told"
    elif there is None and not told:
        problem = "it is not there, and nobody was told"
    elif left := [p.name for p in set(one.path.parent.iterdir()) - before if p != one.path]:
        problem = f"left behind: {left}"
    if there is not None and there != one.data:
        named = [d for d in check.check(mend=True)["damage"] if one.path.name in d["where"] or one.path.parent.name in d["where"]]
        if not named:
            problem = problem or "check does not name it"
    if not problem and (not one.path.exists() or one.path.read_bytes() != one.data):
        one.path.unlink(missing_ok=True)
        if (again := said(one.read)) or one.path.read_bytes() != one.data:
            problem = f"once the bucket is honest: {again or 'another file'}"
    if not one.path.exists() or one.path.read_bytes() != one.data:
        one.path.write_bytes(one.data)
    return problem


def put(path: Path, between: type[Between], bucket: Bucket, lie: str) -> str:
    """Puts a file while the bucket lies; what it acknowledged must be there."""
    between.lie = lie
    storage._away.clear()
    told = said(lambda: storage.keep([path]))
    between.lie = ""
    storage._away.clear()
    name = path.relative_to(settings().home).as_posix()
    if not told and bucket.names().get(name) != path.stat().st_size:
        return "it was acknowledged and is not there"
    storage.keep([path])
    return "" if bucket.data(name) == path.read_bytes() else "another file is there once the bucket is honest"


def trial(home: Path, n: int) -> Row:
    """n times each lie."""
    row, chance = Row(control="originals and weights that nobody compares"), random.Random(12)
    bucket = Bucket()
    try:
        with homes.moved_in(home), lying(bucket, chance) as between:
            import_now("squares", sources.at(squares(home.parent / "squares", 8)), "tester")
            found = store.find_dataset("squares")
            assert found is not None
            run = train.start(found.id, {"architecture": "linear", "epochs": 1}, "tester")
            assert train.wait(run.id).status == "succeeded", train.log_tail(run.id)
            folder, every = runs.folder(run.id), store.all_images(found.id)
            runstored.copy(folder)
            home.chmod(0o700)
            row.check(not (problem := check.check()["damage"]), f"before any lie: {problem}")
            between.other = bucket.data(f"images/{every[1].path}")
            for lie in LIES:
                for i in range(n):
                    for one in kept(folder, every[0])[: 2 if lie in UNSEEN else 3]:
                        row.check(not (problem := fetched(one, between, lie)), f"{lie} {i}, {one.path.name}: {problem}")
            for lie in ("cut off", "refused"):
                for i in range(n):
                    path = settings().images / chance.choice(every).path
                    row.check(not (problem := put(path, between, bucket, lie)), f"{lie} {i}, put: {problem}")
            row.check(not (problem := check.check(fetch=True)["damage"]), f"after all lies: {problem}")
            original, weights, _ = kept(folder, every[0])
            with homes.replaced(images, "is_original", lambda data, image_id: True):
                row.control_check(not fetched(original, between, "another object"), "originals")
            with homes.replaced(runs, "check_hash", lambda path: None):
                row.control_check(all(fetched(weights, between, "a bit") == "" for _ in range(3)), "weights")
            shutil.rmtree(home / "cache", ignore_errors=True)
    finally:
        bucket.cut()
    row.figures = f"{n} of each lie: {', '.join(LIES)}"
    return row


if __name__ == "__main__":
    print(trial(Path(sys.argv[1]), int(sys.argv[2])))
