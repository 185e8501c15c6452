"""A disk that fills up at any byte of an import, a run, labels, an upload or a cache; a read-only folder; a damaged database."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
import uuid
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from core import space
from core.api import signing
from core.data import check, imports, schema, sources, store
from core.errors import AppError
from core.ml import model
from core.ml.data import RowCache
from core.runs import jobs, runs
from core.settings import settings
from core.train import train
from tests import disks, forking
from tests.conftest import forget
from tests.data.damage import DATABASES
from tests.reliability import acts, homes, tabs
from tests.reliability.background import finished
from tests.reliability.row import Row
from tests.reliability.trainer import VALUES, outcome, same
from tests.squares import imported

SIZE = 96  # MB of the disk
PICTURES, SIDE = 60, 128
BEGUN = 1_100_000  # bytes, without which an import is not begun
LABELLERS, IMAGES = 3, 20
NEVER = 0.9  # of what the first import took: no other takes less
UPLOAD = 3_000_000  # bytes
FULL = "disk is full"
READ_ONLY = "The system refuses access to"


def said(act: Callable[[], object]) -> str:
    """What a person is told; "" if it was done."""
    try:
        with space.told():
            act()
    except AppError as e:
        return str(e)
    return ""


def used(disk: Path) -> int:
    return shutil.disk_usage(disk).used


class Full:
    """The disk, and how full it gets: chance decides, between nothing and all that an undisturbed act takes."""

    def __init__(self, disk: Path, row: Row) -> None:
        self.disk, self.row, self.chance = disk, row, random.Random(6)

    def left(self, needed: float) -> int:
        return int(self.chance.random() * needed)

    def whole(self, name: str) -> None:
        """Nothing lies about, and nothing is damaged, once there is room."""
        self.row.check(not (left := homes.litter(self.disk)), f"{name} left behind: {left[:3]}")
        damage = [one for one in check.check()["damage"] if one["what"] != "rights"]
        self.row.check(not damage, f"{name}: {damage[:2]}")


def noise(folder: Path, seed: int) -> Path:
    chance, folder = np.random.default_rng(seed), folder / str(seed)
    for i in range(PICTURES):
        path = folder / f"class {i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(chance.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(path)
    return folder


def importing(full: Full, pictures: Path, n: int) -> None:
    def bring(seed: int) -> jobs.State:
        folder = settings().imports / imports.start(sources.at(noise(pictures, seed)), f"noise {seed}", "tester")
        finished(folder, imports.IMPORT)
        return jobs.state(folder, imports.IMPORT)

    before = used(full.disk)
    assert bring(0).status == "done"
    needed = used(full.disk) - before
    for seed in range(1, n + 1):
        with disks.filled(full.disk, BEGUN + full.left(NEVER * (needed - BEGUN))):
            states: list[jobs.State] = []
            words = said(lambda seed=seed, states=states: states.append(bring(seed)))  # type: ignore[misc]
            words = words or f"{states[0].status}: {states[0].message}"
        full.row.check(FULL in words, f"import {seed}: {words}")
        again = bring(seed)
        found = store.find_dataset(f"noise {seed}")
        there = sorted(one.source for one in store.all_images(found.id)) if found else []
        expected = sorted(str(path.relative_to(pictures / str(seed))) for path in (pictures / str(seed)).glob("*/*"))
        full.row.check(
            again.status == "done" and there == expected, f"import {seed}, once there is room: {again.status}, {len(there)} images"
        )
        full.whole(f"import {seed}")


def training(full: Full, dataset: int, n: int) -> None:
    before = used(full.disk)
    first = train.start(dataset, VALUES, "tester")
    assert train.wait(first.id).status == "succeeded", train.log_tail(first.id)
    needed, whole = used(full.disk) - before, outcome(first.id)
    for i in range(n):
        for path in settings().cache.glob("*.rows"):  # so that they are made anew
            path.unlink()
        started: list[str] = []
        with disks.filled(full.disk, full.left(needed)):
            words = said(lambda started=started: started.append(train.start(dataset, VALUES, "tester").id))  # type: ignore[misc]
            state = train.wait(started[0]) if started else None
        if state is None:
            full.row.check(FULL in words, f"run {i}: {words}")
            started.append(train.start(dataset, VALUES, "tester").id)
        elif state.status != "succeeded":
            full.row.check(FULL in state.message, f"run {i}: {state.status}: {state.message}")
            train.resume(started[0])
        end = train.wait(started[0])
        full.row.check(end.status == "succeeded", f"run {i}, once there is room: {end.status}: {end.message}")
        full.row.check(end.status == "succeeded" and same(outcome(started[0]), whole), f"run {i}: the end differs")
        full.whole(f"run {i}")
        train.delete(started[0])


def caching(full: Full, n: int) -> None:
    rows, ids = np.arange(2_000_000, dtype=np.uint8).reshape(2000, 1000), [f"{i:016x}" for i in range(2000)]
    for i in range(n):
        cache = RowCache(full.disk / f"rows-{i}", "1-x", (1000,), "uint8")
        cache.append(ids[:500], rows[:500])
        with disks.filled(full.disk, full.left(1_400_000)):
            full.row.check(FULL in (words := said(lambda cache=cache: cache.append(ids[500:], rows[500:]))), f"cache {i}: {words}")  # type: ignore[misc]
            full.row.check(np.array_equal(cache.read()[0], rows[: len(cache)]), f"cache {i}: rows are torn")
        cache.append(ids[len(cache) :], rows[len(cache) :])
        found, where = cache.read()
        full.row.check(np.array_equal(found, rows) and len(where) == 2000, f"cache {i}: other rows once there is room")
        del found
        shutil.rmtree(full.disk / f"rows-{i}")


def put(port: int, token: str, batch: str, data: bytes) -> tuple[int, str]:
    line = HTTPConnection("localhost", port, timeout=60)
    line.request("PUT", f"/api/upload/{batch}/a.zip", data, {"X-Loupe-Token": token})
    answer = line.getresponse()
    return answer.status, answer.read().decode()


def uploading(full: Full, port: int, n: int) -> None:
    token = signing.token("tester")
    for i in range(n):
        batch = str(uuid.uuid4())
        with disks.filled(full.disk, full.left(UPLOAD)):
            status, words = put(port, token, batch, bytes(UPLOAD))
            full.row.check(status == 507 and FULL in words, f"upload {i}: {status} {words}")
            full.row.check(not (settings().uploads / "batches" / batch).exists(), f"upload {i} leaves something")
        status, words = put(port, token, batch, bytes(UPLOAD))
        full.row.check(status == 200 and json.loads(words)["size"] == UPLOAD, f"upload {i}, once there is room: {status} {words}")
        shutil.rmtree(settings().uploads / "batches" / batch)


def labelling(full: Full, port: int, made: int, n: int) -> None:
    """People label on while the disk is full, and send again what was refused."""
    for i in range(n):
        stop = Event()
        people = [acts.Person(10 * i + p, port, made, stop) for p in range(LABELLERS)]
        threads = [
            Thread(target=one.label, args=([f"{(p + LABELLERS * i) * IMAGES + j:016x}" for j in range(IMAGES)],))
            for p, one in enumerate(people)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        with disks.filled(full.disk, full.left(150_000)):
            homes.until(lambda people=people: all(one.errors for one in people), 20)  # type: ignore[misc]
        before = sum(len(one.acknowledged) for one in people)
        more = homes.until(lambda people=people, before=before: sum(len(o.acknowledged) for o in people) > before + 10, 20)  # type: ignore[misc]
        stop.set()
        for thread in threads:
            thread.join()
        odd = [words for one in people for words in one.errors if not (words.startswith("507") and FULL in words)]
        full.row.check(any(one.errors for one in people), f"labels {i}: the disk was never full")
        full.row.check(not odd, f"labels {i}: {odd[:2]}")
        full.row.check(more, f"labels {i}: nobody can go on once there is room")
        rows = acts.stored()
        wrong = [operation for one in people for operation in one.acknowledged if rows[operation] != 1]
        full.row.check(not wrong, f"labels {i}: {wrong[:3]} are not there once")
        full.row.check(not (problem := acts.integrity()), f"labels {i}: {problem}")


def reading_only(row: Row, home: Path, folder: Path) -> None:
    """All of the data folder can be read, and nothing written."""
    (folder / "log").mkdir(parents=True)
    with homes.moved_in(home):
        found = imported(home.parent, 4)
        image = store.all_images(found.id)[0]
        token = signing.token("tester")
        forget()  # and nobody has the database open
        with disks.read_only(home, folder / "home"):
            with tabs.serving(folder / "log", "tests.reliability.disk.elsewhere", str(folder / "home")) as (server, _):
                for page in ("", "dataset", "label", "train", "review"):
                    tab = tabs.Tab(server, page, "dataset=squares")
                    tab.close()
                    row.check(b"went wrong" not in tab.text and b"refuses access" in tab.text, f"read-only, “{page}”: {tab.text[-300:]!r}")
                status, words = put(server.port, token, str(uuid.uuid4()), b"x")
                row.check(status == 507 and READ_ONLY in words, f"read-only, an upload: {status} {words}")
                one = acts.Person(98, server.port, found.id, stop := Event())
                stop.set()
                one.send("/api/label", {"operation": "98", "dataset_id": found.id, "seen": {image.id: image.label_seq}, "label": "blue"})
                row.check(any(words.startswith("507") and READ_ONLY in words for words in one.errors), f"read-only, a label: {one.errors}")
            with homes.moved_in(folder / "home"):
                for name, act in {
                    "an import": lambda: imports.start(sources.named("sample"), "x", "tester"),
                    "a run": lambda: train.start(found.id, VALUES, "tester"),
                    "a dataset": lambda: store.create_dataset("x"),
                }.items():
                    row.check(READ_ONLY in (words := said(act)), f"read-only, {name}: {words}")
    log = (folder / "log" / "server.log").read_text(encoding="utf-8")
    row.check("Traceback" not in log, f"read-only, the server's log: {log[-700:]}")
    with homes.moved_in(home):
        row.check(store.create_dataset("written").name == "written", "nothing can be written once the folder can be")


def elsewhere(port: int, home: str) -> None:
    """The app on another data folder than where its log is."""
    os.environ["LOUPE_HOME"] = home
    settings.cache_clear()
    forking.run_app(port)


def unwatched(port: int) -> None:
    """The app, which does not ask for room before it begins: so that the disk fills up on the way."""
    space.short = lambda more=0: ""
    forking.run_app(port)


def on_a_small_disk(full: Full, pictures: Path, n: int) -> None:
    with homes.moved_in(full.disk), pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOUPE_LEAST_FREE_MB", "1")
        patch.setenv("LOUPE_ROOTS", str(pictures))
        settings.cache_clear()
        patch.setattr(space, "short", lambda more=0: "")
        found = imported(pictures.parent, 12)
        importing(full, pictures, n)
        training(full, found.id, n)
        caching(full, n)
        made = acts.dataset(LABELLERS * IMAGES * n)  # whose pictures have no files
        with tabs.serving(full.disk, "tests.reliability.disk.unwatched") as (server, _):
            uploading(full, server.port, n)
            labelling(full, server.port, made, n)
        log = (full.disk / "server.log").read_text(encoding="utf-8")
        full.row.check("Traceback" not in log, f"the server's log holds a traceback: {log[-700:]}")
        with disks.filled(full.disk, 200_000), homes.replaced(runs, "write_atomically", lambda path, write: write(path)):
            model.write(full.disk / "in-place.pt", {"a": torch.zeros(1000)})
            kept = (full.disk / "in-place.pt").read_bytes()
            said(lambda: model.write(full.disk / "in-place.pt", {"a": torch.zeros(1_000_000)}))
            full.row.control_check((full.disk / "in-place.pt").read_bytes() == kept, "a checkpoint written in place")


def after_header(db: Path) -> bytes | None:
    """The file but for its first 100 bytes, where SQLite notes how it is journaled: that is set before any table is looked for."""
    return db.read_bytes()[100:] if db.exists() else None


def damaged(row: Row, home: Path) -> None:
    """A database that cannot be used is said to be so, and stays as it is."""
    with homes.moved_in(home):
        imported(home.parent, 4)
        forget()
        kept = (home / "loupe.db").read_bytes()
        for harm, words in DATABASES:
            harm(home / "loupe.db")
            before = after_header(home / "loupe.db")
            row.check(words in (told := said(store.list_datasets)), f"{harm.__name__}: {told}")
            found = check.check()
            row.check(found["status"] == "failed" and found["damage"][0]["what"] == "database", f"{harm.__name__}: check says {found}")
            forget()
            row.check(after_header(home / "loupe.db") == before, f"{harm.__name__}: the file was changed")
            if "missing or empty" in words:
                with homes.replaced(schema, "refuse_to_begin_anew", lambda url: None):
                    row.control_check(words in said(store.list_datasets), "a database begun anew")
            forget()
            for path in home.glob("loupe.db*"):
                path.unlink()
            (home / "loupe.db").write_bytes(kept)
            row.check(len(store.list_datasets()) == 1, f"{harm.__name__}: brought back, it cannot be used")
            forget()


def trial(home: Path, n: int) -> Row:
    """n times each."""
    row = Row(control="a checkpoint written in place on a full disk, and a database begun anew beside images")
    damaged(row, home.parent / "damaged")
    try:
        with disks.small(home.parent / "disk", SIZE) as disk:
            on_a_small_disk(Full(disk, row), home.parent / "pictures", n)
        reading_only(row, home.parent / "read", home.parent / "only")
    except PermissionError as e:
        row.figures = f"damaged databases alone: {e}"
    else:
        row.figures = (
            f"full disks in an import, a run, a cache, an upload and labels, {n} of each; a read-only folder; {len(DATABASES)} databases"
        )
    return row


if __name__ == "__main__":
    print(trial(Path(sys.argv[1]), int(sys.argv[2])))
