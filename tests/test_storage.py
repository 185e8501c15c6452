"""Object storage on a real S3 server of this machine: LOUPE_HOME is only its cache."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from core import storage
from core.__main__ import main
from core.api import operations
from core.data import backup, check, depth, images, imports, removal, schema, sources, store, stored, uploads
from core.errors import AppError, Invalid, Unavailable
from core.evaluate import compare
from core.ml import infer, trainer, worker
from core.ml.model import load
from core.review import review
from core.runs import launch, runs
from core.runs import stored as runstored
from core.settings import settings
from core.share import export
from core.train import train
from core.types import Dataset, EpochEnd, Image, Preprocess, now
from tests import disks
from tests.buckets import Bucket
from tests.conftest import forget, move_in
from tests.squares import squares as drawn


@pytest.fixture(scope="module")
def server() -> Iterator[Bucket]:
    made = Bucket()
    yield made
    made.cut()


@pytest.fixture
def bucket(home: Path, server: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    turn_on(server, monkeypatch)
    return server


def turn_on(server: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    for name in ("SOON", "PATIENT"):
        monkeypatch.setattr(storage, name, 0.5)
    for function in (storage.local, storage.names, runstored.copy_all):  # which took theirs before
        monkeypatch.setattr(function, "__defaults__", (0.5,))
    monkeypatch.setattr(storage, "SPARED", 0.0)
    server.empty()
    forget()
    storage._away.clear()


def imported(folder: Path) -> Dataset:
    imports.import_now("squares", sources.at(folder), "tester")
    found = store.find_dataset("squares")
    assert found is not None
    return found


@pytest.fixture
def pictures(bucket: Bucket, tmp_path: Path) -> Dataset:
    """24 squares, imported with storage."""
    return imported(drawn(tmp_path / "squares", 8))


def thumb(image: Image) -> bytes:
    return images.ThumbPack(settings().thumbs, image.dataset_id).read(image.thumb_offset, image.thumb_size)


def test_what_an_import_brought_is_fetched_again_where_the_folder_has_lost_it(bucket: Bucket, pictures: Dataset) -> None:
    every = store.all_images(pictures.id)
    there = bucket.names()
    assert {f"images/{one.path}" for one in every} <= there.keys()
    before = [(thumb(one), (settings().images / one.path).read_bytes()) for one in every]
    for name in ("images", "thumbs"):
        shutil.rmtree(settings().home / name)
    forget()
    storage.fetch(settings().images / one.path for one in every[:10])
    assert all((settings().images / one.path).exists() for one in every[:10])
    assert [(thumb(one), storage.local(settings().images / one.path).read_bytes()) for one in every] == before
    assert images.open_picture(settings().images / every[0].path).size == (12, 12)


def test_what_other_programs_leave_in_a_bucket_keeps_no_thumbnail_from_being_shown(
    bucket: Bucket, pictures: Dataset, tmp_path: Path
) -> None:
    before = {one.id: thumb(one) for one in store.all_images(pictures.id)}
    for name in ("", "readme.txt", "1-copy", "000000000000000-9.bak"):  # the first is how consoles make a folder
        bucket.put(f"thumbs/{pictures.id}/{name}", b"x")
    shutil.rmtree(settings().thumbs)
    forget()
    imported(drawn(tmp_path / "more", 9))
    every = store.all_images(pictures.id)
    assert len(every) > len(before) and {one.id: thumb(one) for one in every if one.id in before} == before
    settings().home.chmod(0o700)
    stored.copy_all()
    assert check.check()["left"] == 0


def test_turning_storage_on_for_a_loupe_in_use_copies_what_is_there_and_going_back_leaves_it(
    home: Path, small: Dataset, server: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "SLICE", 1000)  # thumbnails lie across them
    before = {one.id: thumb(one) for one in store.all_images(small.id)}
    turn_on(server, monkeypatch)
    stored.at_start()
    assert len(server.names("images/")) == 24 and len(server.names(f"thumbs/{small.id}/")) > 3
    imported(Path(drawn(home.parent / "more", 9)))  # thumbnails go on behind the pack
    more = {one.id: thumb(one) for one in store.all_images(small.id)}
    assert len(more) > 24 and before.items() <= more.items()
    for name in ("images", "thumbs"):
        shutil.rmtree(home / name)
    forget()
    assert {one.id: thumb(one) for one in store.all_images(small.id)} == more
    monkeypatch.delenv("LOUPE_STORAGE")
    forget()
    assert {one.id: thumb(one) for one in store.all_images(small.id)} == more
    imported(Path(drawn(home.parent / "most", 10)))
    assert more.items() < {one.id: thumb(one) for one in store.all_images(small.id)}.items()


def test_thumbnails_stay_those_of_their_images_and_are_copied_when_storage_is_left_and_set_again(
    home: Path, small: Dataset, server: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "SLICE", 1000)

    def off() -> None:
        monkeypatch.delenv("LOUPE_STORAGE")
        forget()

    def on() -> None:
        monkeypatch.setenv("LOUPE_STORAGE", server.env["LOUPE_STORAGE"])
        forget()
        storage._away.clear()
        stored.at_start()

    turn_on(server, monkeypatch)
    stored.at_start()
    off()
    imported(drawn(home.parent / "more", 9))  # the pack grows
    before = {one.id: thumb(one) for one in store.all_images(small.id)}
    on()
    shutil.rmtree(settings().thumbs)
    assert {one.id: thumb(one) for one in store.all_images(small.id)} == before
    shutil.rmtree(settings().thumbs)
    off()
    imported(drawn(home.parent / "most", 10))  # all before it is only in storage
    later = {one.id: thumb(one) for one in store.all_images(small.id) if one.id not in before}
    on()
    for name in ("images", "thumbs"):
        shutil.rmtree(home / name)
    forget()
    assert len(later) > 1 and {one.id: thumb(one) for one in store.all_images(small.id)} == before | later
    assert {f"images/{one.path}" for one in store.all_images(small.id)} <= server.names("images/").keys()


def test_a_bounded_cache_lets_go_what_was_unused_for_longest_and_only_what_storage_has(
    bucket: Bucket, pictures: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [settings().images / one.path for one in store.all_images(pictures.id)]
    for age, path in enumerate(paths):
        os.utime(path, (time.time() - 1000 * (age + 1), path.stat().st_mtime - 1e6))
    only_here = paths[-1]  # unused for longest, and not there
    storage.remove([only_here])
    half_there = paths[-2]
    storage.put(half_there, b"half")
    assert storage.local(paths[-3]) == paths[-3]  # used now
    held = sum(size for _, size, _ in storage.cached())
    assert storage.evict(held - 3 * paths[0].stat().st_size) > 0
    left = [path for path in paths if path.exists()]
    assert {only_here, half_there, paths[-3], paths[0]} <= set(left) and set(paths) - set(left) <= set(paths[-8:])
    assert all(images.read_original(storage.local(path), path.stem, images_how()) is not None for path in paths)

    monkeypatch.setattr(storage, "limit", lambda: 4000)
    storage._grown(250)  # what comes in has it looked after, by itself
    for thread in threading.enumerate():
        if thread.name == "evict":
            thread.join(20)
    assert sum(size for _, size, _ in storage.cached()) <= 4000


def test_an_import_that_is_larger_than_the_disk_makes_room_as_it_goes(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as stack:
        try:
            disk = stack.enter_context(disks.small(tmp_path / "disk", 3))
        except PermissionError as e:
            pytest.skip(str(e))
        url = f"sqlite:///{settings().home / 'loupe.db'}"
        move_in(monkeypatch, disk)
        monkeypatch.setenv("LOUPE_DATABASE_URL", url)
        monkeypatch.setenv("LOUPE_LEAST_FREE_MB", "1")
        monkeypatch.setattr(imports, "CHUNK", 8)
        forget()
        source = drawn(tmp_path / "large", 20, side=140)  # 60 pictures of 25 to 60 kB
        assert sum(path.stat().st_size for path in source.rglob("*.png")) > 2_500_000
        dataset = imported(source)
        every = store.all_images(dataset.id)
        assert len(every) == 60 and sum(size for _, size, _ in storage.cached()) < 2_500_000
        assert all(images.is_original(storage.local(settings().images / one.path).read_bytes(), one.id) for one in every)
        forget()
        schema.engine.cache_clear()


def images_how() -> Preprocess:
    return Preprocess(channels=3, resize=12, crop=12, mean=(0.5,) * 3, std=(0.5,) * 3)


# What storage refuses --------------------------------------------------------------------------------


def test_an_address_or_package_that_cannot_be_is_refused_in_a_sentence_without_secrets(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in ("s3://key:secret@pictures", "ftp://pictures", "s3://", "pictures"):
        monkeypatch.setenv("LOUPE_STORAGE", address)
        forget()
        with pytest.raises(AppError, match="LOUPE_STORAGE is no address") as refused:
            settings()
        assert "secret" not in str(refused.value)
    monkeypatch.setenv("LOUPE_STORAGE", "gs://pictures/loupe")
    forget()
    with pytest.raises(storage.Refused, match=r"the package gcsfs is not installed. pip install gcsfs"):
        storage.probe()


def test_a_bucket_that_is_not_there_and_one_without_rights_are_said_with_the_remedy(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    storage.probe()
    assert bucket.names() == {} and storage.problem() == ""
    bucket.allow(0)
    with pytest.raises(storage.Refused, match=r"s3://pictures/loupe refuses access .*Give Loupe's account the right") as refused:
        storage.probe()
    assert "not-a-secret" not in str(refused.value)
    bucket.allow(1e9)
    monkeypatch.setenv("LOUPE_STORAGE", "s3://elsewhere/loupe")
    forget()
    storage._away.clear()
    with pytest.raises(storage.Refused, match=r"There is no bucket “elsewhere” .* Make it"):
        storage.probe()
    said = command("storage")
    assert said.returncode == 1 and "There is no bucket “elsewhere”" in said.stderr


def test_an_import_stops_with_a_sentence_while_storage_is_away_and_goes_on_when_it_is_back(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "CHUNK", 8)
    monkeypatch.setenv("LOUPE_ROOTS", str(tmp_path))
    forget()
    source, asked = sources.at(drawn(tmp_path / "squares", 8)), []
    put = storage.put_file

    def cut(file: Path, path: Path, patience: float = 0.0) -> None:
        asked.append(path)
        if len(asked) == 14:  # within the second chunk
            bucket.cut()
        put(file, path, patience)

    monkeypatch.setattr(storage, "put_file", cut)
    monkeypatch.setattr(launch, "launcher", Here())
    begun_id = imports.start(source, "squares", "tester")
    state = imports.state(begun_id)
    assert state.status == "failed" and "cannot be reached now" in state.message and state.hint.endswith("what was stored is whole.")
    dataset_id = store.id_of("squares")
    assert dataset_id is not None
    kept = store.all_images(dataset_id)
    assert len(kept) == 8
    assert storage.problem().startswith("The storage s3://pictures/loupe cannot be reached now")
    (settings().images / kept[0].path).unlink()
    with pytest.raises(Unavailable, match="lies in storage and cannot be fetched now"):
        images.open_picture(settings().images / kept[0].path)
    bucket.mend()
    storage._away.clear()
    assert imports.lost("squares") is not None
    report = imports.report(imports.state(imports.go_on(begun_id, "tester")))
    assert report is not None and report.added == 16
    assert {f"images/{one.path}" for one in store.all_images(dataset_id)} <= bucket.names().keys()


def test_a_picture_that_cannot_be_fetched_is_none_that_cannot_be_read(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def import_grey(level: int) -> Dataset:
        (tmp_path / "grey").mkdir(exist_ok=True)
        Pillow.fromarray(np.full((9, 9), level, np.uint16)).save(tmp_path / "grey" / f"{level}.png")
        return imported(tmp_path / "grey")

    def levels() -> set[int]:
        return {int(np.asarray(Pillow.open(io.BytesIO(thumb(one))))[0, 0]) for one in store.all_images(1)}

    (dim,) = store.all_images(import_grey(1000).id)
    (settings().images / dim.path).unlink()
    noted = depth.add

    def cut(*some: Any) -> None:
        noted(*some)
        bucket.cut()

    with monkeypatch.context() as during, pytest.raises(Unavailable, match="cannot be fetched now"):
        during.setattr(depth, "add", cut)
        import_grey(4000)  # the dim one has to be scaled anew
    with pytest.raises(Unavailable):
        infer.fingerprints_of([str(settings().images / dim.path)])
    bucket.mend()
    storage._away.clear()
    import_grey(4000)
    assert levels() == {62, 249}


def test_who_appends_a_thumbnail_waits_as_a_page_does_and_never_for_what_another_sends(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []
    pack = images.ThumbPack(home / "thumbs", 1)
    pack.slices.mkdir(parents=True)

    def names(folder: Path, patience: float) -> dict[str, int]:
        waits.append(patience)
        return {}

    def keep(paths: list[Path], patience: float) -> None:
        waits.append(patience)
        with open(pack.path.with_suffix(".lock"), "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    monkeypatch.setattr(storage, "names", names)
    monkeypatch.setattr(storage, "keep", keep)
    assert pack.append([b"one"]) == [0] and pack.append([b"two", b"three"]) == [3, 6]
    assert waits == [storage.SOON, storage.SOON, storage.PATIENT, storage.PATIENT]


def test_a_server_that_ends_leaves_what_it_copies_in_the_background_for_its_next_start(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, copying, left = copied_run("a"), threading.Event(), threading.Event()

    def copies() -> None:
        copying.set()
        while True:
            try:
                storage.put_file(first / "config.json", first / "config.json", storage.PATIENT)
            except Unavailable:
                left.set()
                return

    async def serves() -> None:
        at_work = asyncio.create_task(operations.store())
        await asyncio.to_thread(copying.wait, 30)
        at_work.cancel()

    monkeypatch.setattr(stored, "at_start", copies)
    try:
        asyncio.run(serves())
        assert left.wait(10)
    finally:
        storage.ending.clear()


# Runs -------------------------------------------------------------------------------------------------


@pytest.fixture
def nobody_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is begun, and trained by the test itself."""

    class Nobody:
        def start(self, folder: Path, command: list[str]) -> None: ...

        def alive(self, folder: Path) -> bool:
            return False

        def kill(self, folder: Path) -> None: ...

    monkeypatch.setattr(launch, "launcher", Nobody())


CONFIG = {"architecture": "linear", "batch_size": 5, "patience": 0}


def begun(dataset: Dataset, epochs: int = 4) -> Path:
    return runs.folder(train.start(dataset.id, {**CONFIG, "epochs": epochs}, "tester").id)


def weights(folder: Path) -> dict[str, Any]:
    return {name: one.tolist() for name, one in load(folder).model.state_dict().items()}


def test_a_run_goes_on_bit_by_bit_on_a_machine_that_has_only_the_database_and_storage(
    bucket: Bucket, pictures: Dataset, tmp_path: Path, nobody_trains: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, other = begun(pictures), begun(pictures)
    worker.main(whole)
    assert train.state(whole.name).status == "succeeded", train.log_tail(whole.name)
    assert {"best.pt", "predictions.csv", "config.json", "dataset.csv", "events.jsonl", "hashes.json"} <= {
        name.rpartition("/")[2] for name in bucket.names(f"runs/{whole.name}/")
    }
    assert f"runs/{whole.name}/last.pt" not in bucket.names()  # it is not needed any more
    assert bucket.names(f"runs/{whole.name}/")[f"runs/{whole.name}/events.jsonl"] == (whole / "events.jsonl").stat().st_size

    with monkeypatch.context() as during:
        during.setattr(trainer.Checkpoints, "due", lambda self, event: pauses(other, event))
        worker.main(other)
    assert train.state(other.name).status == "paused"
    train.delete(whole.name)
    stored.now_and_then()

    expected, answers = (
        weights(settings().home / "bin" / whole.name),
        (settings().home / "bin" / whole.name / "predictions.csv").read_bytes(),
    )
    schema.engine().dispose()
    (tmp_path / "new").mkdir()
    shutil.copy(settings().home / "loupe.db", tmp_path / "new")
    move_in(monkeypatch, tmp_path / "new")
    assert train.list_runs() == []
    stored.at_start()
    (found,) = train.list_runs()
    folder = runs.folder(found.run.id)
    assert found.run.id == other.name and found.status == "paused" and train.usable(pictures.id)[0].run.id == other.name
    assert (compare.weights_bytes(other.name) or 0) > 1000 and not list(folder.glob("*.pt"))  # no page needs them
    train.restore(whole.name)
    assert weights(runs.folder(whole.name)) == expected  # fetched when it is asked for
    train.resume(other.name)
    worker.main(folder)
    assert train.state(other.name).status == "succeeded", train.log_tail(other.name)
    assert weights(folder) == expected and (folder / "predictions.csv").read_bytes() == answers
    stored.now_and_then()
    assert f"runs/{other.name}/last.pt" not in bucket.names() and f"bin/{whole.name}.deleted" not in bucket.names()


def pauses(folder: Path, event: Any) -> bool:
    if isinstance(event, EpochEnd) and event.epoch == 2:
        runs.request_pause(folder)
    return False


def test_storage_that_drops_in_mid_checkpoint_costs_training_nothing_and_leaves_the_checkpoint_before(
    bucket: Bucket, pictures: Dataset, nobody_trains: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runstored, "BETWEEN", 0.0)
    monkeypatch.setattr(runstored, "AGAIN", 0.2)
    monkeypatch.setattr(storage, "AWAY", 0.2)
    monkeypatch.setattr(trainer.Checkpoints, "due", lambda self, event: isinstance(event, EpochEnd))
    folder, put = begun(pictures, epochs=10), storage.put_file
    faults: list[str] = []
    whole: list[bool] = []

    def cut(file: Path, path: Path, patience: float = 0.0) -> None:
        try:
            if path.name == "last.pt" and storage.index(folder).get("last.pt"):
                faults.append(path.name)
                if len(faults) == 1:
                    put(file, path, patience)
                    raise Unavailable("The answer is lost, and the object is there.")
                if len(faults) == 2:
                    bucket.cut()
                    threading.Timer(0.7, bucket.mend).start()
            put(file, path, patience)
        finally:
            for name in there() if path.name in ("hashes.json", "best.pt", "last.pt") else ():  # it can be gone on from at this moment
                data, hashes = bucket.data(f"runs/{folder.name}/{name}"), json.loads(bucket.data(f"runs/{folder.name}/hashes.json"))
                whole.append(hashlib.sha256(data).hexdigest() in hashes[name])

    def there() -> list[str]:
        return [name for name in ("best.pt", "last.pt") if f"runs/{folder.name}/{name}" in bucket.names()]

    def waits(self: runstored.Copier) -> None:  # so that a copy begins for every checkpoint of so short a run
        wanted(self)
        end = time.monotonic() + 0.5
        while self._wanted.is_set() and time.monotonic() < end:
            time.sleep(0.01)

    wanted = runstored.Copier.copy
    monkeypatch.setattr(runstored.Copier, "copy", waits)
    monkeypatch.setattr(storage, "put_file", cut)
    began = time.monotonic()
    worker.main(folder)
    assert len(faults) >= 2 and len(whole) > 8 and all(whole)
    assert train.state(folder.name).status == "succeeded"
    assert [e.epoch for e in runs.events(folder) if isinstance(e, EpochEnd)] == [*range(1, 11)]
    assert "could not be copied to storage" not in (train.log_tail(folder.name) or "") and time.monotonic() - began < 30
    assert storage.problem() == "" and runstored.behind() == 0
    assert bucket.names()[f"runs/{folder.name}/best.pt"] == (folder / "best.pt").stat().st_size


def test_a_run_whose_pictures_cannot_be_fetched_is_paused_with_the_reason_and_leaves_none_of_them_out(
    bucket: Bucket, pictures: Dataset, nobody_trains: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runstored, "LAST_WORD", 0.5)
    folder = begun(pictures)
    shutil.rmtree(settings().images)
    bucket.cut()
    worker.main(folder)
    state = train.state(folder.name)
    assert state.status == "paused" and state.message.endswith("Then resume the run.")
    assert "This file lies in storage and cannot be fetched now. The storage s3://pictures/loupe cannot be reached now" in state.message
    assert runstored.behind() == 1
    bucket.mend()
    storage._away.clear()
    stored.now_and_then()
    assert runstored.behind() == 0
    train.resume(folder.name)
    worker.main(folder)
    assert train.state(folder.name).status == "succeeded" and "left out" not in (folder / "events.jsonl").read_text()


def copied_run(name: str = "r") -> Path:
    """A run of files that nobody has trained, which storage has."""
    folder = settings().runs / name
    folder.mkdir(parents=True)
    for file, text in (("config.json", "{}"), ("hashes.json", "{}"), ("events.jsonl", ""), ("best.pt", "best"), ("last.pt", "last")):
        (folder / file).write_text(text)
    runstored.copy(folder)
    return folder


def test_weights_that_are_evicted_during_a_copy_or_deleted_here_stay_in_storage_but_for_the_checkpoint_of_a_run_that_succeeded(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, put = copied_run(), storage.put_file

    def evicts(file: Path, path: Path, patience: float | None = None) -> None:
        storage.evict(0)
        put(file, path, patience)

    (folder / "notes.json").write_text("[]")
    with monkeypatch.context() as during:
        during.setattr(storage, "put_file", evicts)
        runstored.copy(folder)
    assert not [*folder.glob("*.pt")] and bucket.data("runs/r/best.pt") == b"best" and bucket.data("runs/r/last.pt") == b"last"
    assert [storage.local(folder / name).read_bytes() for name in ("best.pt", "last.pt")] == [b"best", b"last"]
    for name in ("best.pt", "last.pt"):
        (folder / name).unlink()
    runstored.copy_all()
    assert {"runs/r/best.pt", "runs/r/last.pt"} <= bucket.names().keys() and not runstored.behind()
    (folder / "events.jsonl").write_text('{"kind": "Ended", "outcome": "succeeded"}\n')
    runstored.copy_all()
    assert "runs/r/best.pt" in bucket.names() and "runs/r/last.pt" not in bucket.names()


def test_weights_go_from_here_only_where_storage_has_them_now_with_as_many_bytes(bucket: Bucket) -> None:
    folder = copied_run()
    storage.put(folder / "best.pt", b"be")
    storage.remove([folder / "last.pt"])
    assert storage.evict(0) == 0 and (folder / "best.pt").exists() and (folder / "last.pt").exists()


def test_what_is_written_while_an_older_file_is_fetched_stays_with_its_own_time(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    path, touch = copied_run() / "best.pt", os.utime
    path.unlink()
    with monkeypatch.context() as during:
        during.setattr(storage, "_grown", lambda size: path.write_bytes(b"newer"))
        storage.local(path)
    assert path.read_bytes() == b"newer"

    def replaces(one: int | Path, ns: tuple[int, int]) -> None:
        newest = path.with_name("tmp")
        newest.write_bytes(b"newest")
        touch(newest, ns=(2, 2))
        os.replace(newest, path)
        touch(one, ns=ns)

    touch(path, ns=(0, 0))
    monkeypatch.setattr(os, "utime", replaces)
    storage.local(path)
    assert path.read_bytes() == b"newest" and path.stat().st_mtime_ns == 2


def test_the_weights_of_a_run_in_the_bin_that_only_storage_has_are_found_where_they_lie_there(bucket: Bucket) -> None:
    folder = copied_run()
    (folder / "best.pt").unlink()
    binned = settings().home / "bin" / folder.name
    binned.parent.mkdir()
    os.rename(folder, binned)
    assert (binned / "best.pt", 4) in backup._only_stored() and storage.local(binned / "best.pt").read_bytes() == b"best"


def test_a_folder_that_cannot_be_read_here_is_said_as_it_is_and_keeps_no_other_from_being_copied(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, other, put = copied_run("a"), copied_run("b"), storage.put_file
    for folder in (refused, other):
        (folder / "notes.json").write_text("[]")

    def refuses(file: Path, path: Path, patience: float | None = None) -> None:
        if path.parent == refused:
            storage._ask(lambda files: denied(), patience)
        put(file, path, patience)

    def denied() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(refused / "notes.json"))

    monkeypatch.setattr(storage, "put_file", refuses)
    with pytest.raises(PermissionError, match=r"a/notes\.json"):
        runstored.copy_all()
    assert "runs/b/notes.json" in bucket.names() and storage.away() == ""

    monkeypatch.setattr(storage, "put_file", lambda *_: 1 / 0)
    (other / "notes.json").write_text("[1]")
    copier = runstored.Copier(other)
    assert not copier._try(0.0) and "could not be copied" in copier.problem
    copier._over.set()
    copier.copy()
    copier._thread.join()


# What leaves, and what is looked after ------------------------------------------------------------------


def test_an_export_is_downloaded_after_its_zip_has_gone_from_here_and_goes_in_both_places(
    bucket: Bucket, pictures: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "launcher", Here())
    shutil.rmtree(settings().images)
    export_id = export.start(pictures.id, "folders", "tester")
    state = export.state(export_id)
    report = export.report(state)
    assert report is not None and report.images == 24 and not report.skipped
    zipped = settings().exports / export_id / "export.zip"
    data = zipped.read_bytes()
    zipped.unlink()
    path, _ = export.download(export_id, "folders.zip")
    assert path.read_bytes() == data
    old = time.time() - export.KEEP - 10
    os.utime(settings().exports / export_id, (old, old))
    export.start(pictures.id, "folders", "tester")
    assert not zipped.exists() and not bucket.names(f"exports/{export_id}")
    gone = settings().exports / "20260101-000000-abcdef" / "export.zip"  # of a machine that is no more
    storage.put(gone, b"zip")
    export.start(pictures.id, "folders", "tester")
    assert len(bucket.names("exports/")) == 2


class Here:
    """A background job is over when it has been started."""

    def start(self, folder: Path, command: list[str]) -> None:
        assert main(command[3:]) in (0, None)

    def alive(self, folder: Path) -> bool:
        return False

    def kill(self, folder: Path) -> None: ...


def test_a_prediction_that_is_removed_by_age_takes_its_picture_out_of_storage(bucket: Bucket, small: Dataset, tmp_path: Path) -> None:
    kept = [uploads.keep(path.name, path.read_bytes()) for path in sorted((tmp_path / "squares").glob("*/*.png"))[:2]]
    said = {name: 1 / 3 for name in small.classes}
    review._add([row(small, one, said) for one in kept])
    assert sorted(bucket.names("uploads/")) == sorted(f"uploads/pictures/{one.path.name}" for one in kept)
    evicted, here = kept
    evicted.path.unlink()
    assert uploads.find(evicted.id).path == evicted.path and storage.local(evicted.path).exists()
    evicted.path.unlink()
    os.utime(here.path, (0, 0))
    assert removal.remove(small.id, now()) == 2
    assert not bucket.names("uploads/") and not here.path.exists()


def test_pictures_that_could_not_be_removed_while_storage_was_away_go_later_under_all_their_endings(
    bucket: Bucket, small: Dataset, tmp_path: Path
) -> None:
    path = min((tmp_path / "squares").glob("*/*.png"))
    upload = uploads.keep(path.name, path.read_bytes())
    review._add([row(small, upload, {name: 1 / 3 for name in small.classes})])
    storage.put(upload.path.with_suffix(".webp"), b"as it came before")
    os.utime(upload.path, (0, 0))
    bucket.cut()
    assert removal.remove(small.id, now()) == 1  # the prediction is gone
    storage._away.clear()
    assert removal.carry_out() == 0 and upload.path.exists()
    (note,) = settings().uploads.glob("removed-*")
    os.utime(note, (0, 0))
    with pytest.raises(Unavailable):
        removal.carry_out()
    bucket.mend()
    storage._away.clear()
    assert removal.carry_out() == 0 and not bucket.names("uploads/") and not upload.path.exists() and not note.exists()


def row(dataset: Dataset, upload: uploads.Upload, said: dict[str, float]) -> dict[str, object]:
    return {
        **{"dataset_id": dataset.id, "run_id": "r", "image_id": upload.id, "ext": "png", "name": upload.name, "by": "tester"},
        **{"source": "upload", "predicted": "red", "probability": 0.9, "probabilities": said, "fingerprint": None, "state": "predicted"},
    }


def test_check_takes_what_only_storage_has_for_whole_and_mends_both_places(
    bucket: Bucket, pictures: Dataset, nobody_trains: None, tmp_path: Path
) -> None:
    worker.main(begun(pictures))
    settings().home.chmod(0o700)
    assert check.check()["damage"] == []
    evicted, lost, damaged, *_ = [settings().images / one.path for one in store.all_images(pictures.id)]
    evicted.unlink()
    storage.remove([lost])
    damaged.write_bytes(b"another")
    assert [(one["what"], one["problem"][:24]) for one in check.check()["damage"]] == [
        ("storage", "Storage does not have it"),
        ("original", "The file is not the one "),
    ]
    assert check.check(mend=True)["left"] == 0 and check.check()["found"] == 0
    assert f"images/{lost.parent.name}/{lost.name}" in bucket.names()


def test_what_a_bucket_has_that_was_not_put_there_is_told_by_who_reads_it_and_by_check_and_is_mended_by_an_import(
    bucket: Bucket, pictures: Dataset, nobody_trains: None, tmp_path: Path
) -> None:
    worker.main(folder := begun(pictures))
    settings().home.chmod(0o700)
    one, other, third, *_ = store.all_images(pictures.id)
    weights = bytearray(bucket.data(f"runs/{folder.name}/best.pt"))
    weights[len(weights) // 2] ^= 1
    bucket.put(f"runs/{folder.name}/best.pt", bytes(weights))
    for image in (one, third):
        bucket.put(f"images/{image.path}", bucket.data(f"images/{other.path}"))
    for path in (settings().images / one.path, settings().images / third.path, folder / "best.pt"):
        path.unlink()
    assert check.check()["damage"] == []
    with pytest.raises(Invalid, match="not the file that was imported"):
        images.read_original(settings().images / third.path, third.id, images_how())
    assert [one.name for one in export.export_now(pictures.id, "csv", tmp_path / "out.zip").skipped] == [one.source, third.source]
    with pytest.raises(AppError, match="its SHA-256 is another one"):
        load(folder)
    (settings().images / one.path).unlink()
    told = [(one["what"], one["problem"][:46]) for one in check.check(fetch=True)["damage"]]
    not_it = "The file is not the one that was imported. It "
    assert sorted(told) == [("original", f"In storage: {not_it}"[:46]), ("original", not_it), ("run", told[-1][1])]
    assert check.check(mend=True, fetch=True)["mended"] == 0 and f"images/{one.path}" not in bucket.names()
    imported(tmp_path / "squares")
    assert [one["what"] for one in check.check(fetch=True)["damage"]] == ["run"]
    bucket.put(f"runs/{folder.name}/best.pt", bytes(weights[:-1]))
    (folder / "best.pt").unlink()
    (cut_off,) = check.check(fetch=True)["damage"]
    assert cut_off["what"] == "run" and "best.pt came from storage with" in cut_off["problem"] and "backup" in cut_off["remedy"]


def test_an_original_that_only_comes_badly_is_never_taken_out_of_storage(
    bucket: Bucket, pictures: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings().home.chmod(0o700)
    odd, late, full, *_ = paths = [settings().images / one.path for one in store.all_images(pictures.id)]
    there, get, asked = bucket.names(), storage.get_file, set[Path]()

    def badly_at_first(path: Path, file: Path, size: int | None = None, patience: float | None = None) -> None:
        assert size == there[path.relative_to(settings().home).as_posix()]  # what is cut off is no answer
        get(path, file, size, patience)
        if path not in asked:
            asked.add(path)
            file.write_bytes(bytes(size))
            if path == late:
                late_one = Unavailable("It cannot be reached now (timeout).", "Try again.")
                storage._away[:] = [(0.0, late_one)]
                raise late_one
        if path == full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))

    for path in paths[:3]:
        path.unlink()
    with monkeypatch.context() as during:
        during.setattr(storage, "get_file", badly_at_first)
        found = {Path(one["where"]).name: one for one in check.check(mend=True, fetch=True)["damage"]}
    assert {name: one["mended"] for name, one in found.items()} == {odd.name: True, late.name: False, full.name: False}
    assert "timeout" in found[late.name]["problem"] and "The disk is full" in found[full.name]["problem"]
    assert bucket.names() == there and odd.exists() and not (settings().home / "bin" / "orphans").exists()
    assert check.check(fetch=True)["found"] == 0


def test_a_file_of_thumbnails_or_weights_of_another_size_in_the_bucket_ends_neither_check_nor_backup(
    bucket: Bucket, pictures: Dataset, tmp_path: Path
) -> None:
    settings().home.chmod(0o700)
    before = [thumb(one) for one in store.all_images(pictures.id)]
    folder, (thumbs,) = copied_run(), settings().thumbs.glob("*/[0-9]*")
    odd = [path.relative_to(settings().home).as_posix() for path in (thumbs, folder / "best.pt")]
    for name in odd:
        bucket.put(name, bucket.data(name)[:-1])
        (settings().home / name).unlink()
    out = tmp_path / "all.zip"
    assert sorted(backup.write(out)["left_out"]) == sorted(odd) and out.exists()
    shutil.rmtree(folder)
    found = check.check()["damage"]
    assert [(one["what"], one["problem"]) for one in found] == [("thumbnail", "The thumbnail cannot be read.")] * len(before)
    assert check.check(mend=True)["left"] == 0 and [thumb(one) for one in store.all_images(pictures.id)] == before


def test_a_bucket_that_goes_away_meanwhile_refuses_a_backup_and_is_what_check_names(
    bucket: Bucket, pictures: Dataset, tmp_path: Path
) -> None:
    def cut(done: int, total: int, what: str) -> None:
        if what in ("Writing bytes", "Checking images") and done == 0:
            bucket.cut()

    settings().home.chmod(0o700)
    (settings().images / store.all_images(pictures.id)[0].path).unlink()
    try:
        with pytest.raises(Unavailable, match="cannot be fetched now"):
            backup.write(tmp_path / "all.zip", cut)
        assert not (tmp_path / "all.zip").exists()
        bucket.mend()
        storage._away.clear()
        (found,) = check.check(progress=cut)["damage"]
        assert found["what"] == "storage" and "cannot be reached now" in found["problem"]
    finally:
        bucket.mend()


@pytest.mark.parametrize("only_there", ["thumbs", "images", "runs"])
def test_check_ends_where_the_bucket_goes_away_and_names_no_file_that_it_then_could_not_read(
    bucket: Bucket, pictures: Dataset, monkeypatch: pytest.MonkeyPatch, only_there: str
) -> None:
    names = storage.names

    def cut(done: int, total: int, what: str) -> None:
        if what == "Checking runs":
            bucket.cut()

    def last_answer(folder: Path, patience: float | None = storage.SOON) -> dict[str, int]:
        found = names(folder, patience)
        if only_there != "runs" and folder.parent == settings().images:
            bucket.cut()
        return found

    settings().home.chmod(0o700)
    copied_run()
    for path in (settings().home / only_there).glob("*/best.pt" if only_there == "runs" else "*/*"):
        path.unlink()
    forget()
    monkeypatch.setattr(storage, "names", last_answer)
    try:
        (found,) = check.check(progress=cut, fetch=True)["damage"]
        assert found["what"] == "storage" and "cannot be reached now" in found["problem"]
    finally:
        bucket.mend()


def test_check_leaves_out_the_weights_of_a_run_that_goes_on_which_may_lie_in_the_bucket_before_their_size_is_noted(
    bucket: Bucket, pictures: Dataset, nobody_trains: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = begun(pictures)
    (folder / "best.pt").write_text("best")
    runstored.copy(folder)
    bucket.put(f"runs/{folder.name}/best.pt", b"better")
    (folder / "best.pt").unlink()

    def named() -> bool:
        return any(one["where"].endswith("best.pt") for one in check.check(fetch=True)["damage"])

    assert named()
    monkeypatch.setattr(launch.launcher, "alive", lambda folder: True)
    assert not named()


def test_a_thumbnail_or_file_that_is_damaged_here_is_mended_and_never_takes_the_place_of_a_whole_one(
    bucket: Bucket, pictures: Dataset
) -> None:
    settings().home.chmod(0o700)
    every = store.all_images(pictures.id)
    before = [thumb(one) for one in every]
    store.set_thumbnail(pictures.id, every[0].id, 0, 1)
    assert check.check(mend=True)["mended"] == 1 and [thumb(one) for one in store.all_images(pictures.id)] == before

    there = bucket.names()
    for path in (settings().images / every[0].path, next(settings().thumbs.glob("*/0*"))):
        os.truncate(path, 20)
    stored.copy_all()
    assert bucket.names() == there and check.check(mend=True)["left"] == 0 and check.check()["found"] == 0
    assert bucket.names() == there and [thumb(one) for one in store.all_images(pictures.id)] == before


def test_a_backup_holds_what_was_evicted_and_is_whole_without_storage_and_beside_it(
    bucket: Bucket, pictures: Dataset, nobody_trains: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = begun(pictures)
    worker.main(folder)
    expected = weights(folder)
    for path in (folder / "best.pt", *settings().images.glob("*/*"), *settings().thumbs.glob("*/*")):
        os.utime(path, ns=(0, path.stat().st_mtime_ns))
    (folder / "handle.json").unlink(missing_ok=True)
    storage.evict(0)
    assert not any(settings().images.glob("*/*")) and not (folder / "best.pt").exists()
    backup.write(tmp_path / "all.zip")
    move_in(monkeypatch, tmp_path / "restored")
    monkeypatch.delenv("LOUPE_STORAGE")
    forget()
    backup.restore(tmp_path / "all.zip")
    settings().home.chmod(0o700)
    assert check.check()["damage"] == [] and weights(runs.folder(folder.name)) == expected
    for name, value in bucket.env.items():
        monkeypatch.setenv(name, value)
    move_in(monkeypatch, tmp_path / "beside")  # the bucket, which has all of it
    before = bucket.names()
    backup.restore(tmp_path / "all.zip")
    settings().home.chmod(0o700)
    assert stored.synchronise()["behind"] == 0
    assert check.check(fetch=True)["damage"] == [] and weights(runs.folder(folder.name)) == expected
    assert before.keys() <= bucket.names().keys()
