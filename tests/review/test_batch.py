"""Predictions of many pictures in the background: each once, none lost, broken ones named; stopped ones go on."""

from __future__ import annotations

import io
import shutil
import time
import zipfile
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from core.data import images, queue, sources, uploads
from core.errors import Invalid, Stopped
from core.review import batch, predict, review
from core.runs import jobs, launch, runs
from core.settings import settings
from core.types import Prediction
from tests.held_out import pictures

if TYPE_CHECKING:
    from tests.conftest import Trained


class Nothing:
    """A launcher that starts nothing: the test does the work itself."""

    def start(self, folder: Path, command: list[str]) -> None: ...

    def alive(self, folder: Path) -> bool:
        return False

    def kill(self, folder: Path) -> None: ...


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "launcher", Nothing())


def zipped(trained: Trained, path: Path, n: int = 40, broken: int = 3) -> Path:
    files = list(pictures(trained).values())[:n]
    with zipfile.ZipFile(path, "w") as z:
        for i, file in enumerate(files):
            z.write(file, f"photos/{i:03}.png")
        z.write(files[0], "photos/again.png")
        for i in range(broken):
            z.writestr(f"photos/broken-{i}.png", files[i].read_bytes()[:60])
        z.writestr("photos/readme.md", "nothing")
    return path


def work(job_id: str) -> jobs.State:
    folder = settings().answers / job_id
    jobs.run(folder, batch.PREDICT)
    return jobs.state(folder, batch.PREDICT)


def in_the_inbox(path: Path) -> Path:
    inside = settings().roots[0] / path.name
    inside.parent.mkdir(exist_ok=True)
    shutil.move(path, inside)
    return inside


def test_every_picture_of_a_zip_of_five_hundred_is_answered_once_and_what_is_broken_is_named(
    trained_copy: Trained, tmp_path: Path, nothing: None
) -> None:
    path = in_the_inbox(zipped(trained_copy, tmp_path / "new.zip", broken=20))
    noise = np.random.default_rng(0)
    with zipfile.ZipFile(path, "a") as z:
        for i in range(439):
            z.writestr(f"photos/more/{i:03}.png", images.png(noise.integers(0, 256, (12, 12, 3), np.uint8)))
        huge = io.BytesIO()
        Image.new("1", (11_000, 10_000)).save(huge, "PNG")
        z.writestr("photos/huge.png", huge.getvalue())
    dataset_id = trained_copy.dataset.id
    done = work(batch.start(dataset_id, [trained_copy.run_id], sources.at(path), "Ann", "folder"))
    assert (done.status, done.end["done"], done.end["states"], done.end["before"]) == ("done", 479, {"predicted": 479}, 0)
    items = queue.browse(dataset_id, queue.Which(source="folder"), "name", limit=1000)
    assert (
        len(items) == len({one.image_id for one in items}) == 479
        and items[0].name == "photos/000.png"
        and items[0].run_id == trained_copy.run_id
    )
    told = {one.file: one.message for one in batch.refused(done.id)}
    assert {name for name in told if "broken" in name} == {f"photos/broken-{i}.png" for i in range(20)}
    assert "11000 × 10000 pixels" in told["photos/huge.png"]
    assert told["photos/again.png"].startswith("This is the same picture as photos/000.png")
    answers = predict.predict(trained_copy.run_id, [uploads.find(one.image_id).path for one in items[:3]])
    expected = {one.image_id: one.probabilities for one in answers if isinstance(one, Prediction)}
    for one in items[:3]:
        assert list(one.probabilities.values()) == pytest.approx(list(expected[one.image_id]))


def test_what_was_stopped_goes_on_and_asks_nothing_twice(
    trained_copy: Trained, tmp_path: Path, nothing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = in_the_inbox(zipped(trained_copy, tmp_path / "new.zip", broken=0))
    monkeypatch.setattr(batch, "CHUNK", 8)
    monkeypatch.setattr(batch, "AHEAD", 1)
    job_id = batch.start(trained_copy.dataset.id, [trained_copy.run_id], sources.at(path), "Ann", "folder")
    keep, chunks = review.keep, 0

    def stopping(*args: object) -> dict[str, int]:
        nonlocal chunks
        chunks += 1
        if chunks == 3:
            raise Stopped
        return keep(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(review, "keep", stopping)
    assert work(job_id).status == "stopped" and queue.counts(trained_copy.dataset.id) == {"predicted": 16}
    asked: list[Path] = []
    ask = predict.ask

    def asking(run_id: str, files: list[Path]) -> Future[Any]:
        asked.extend(files)
        return ask(run_id, files)

    monkeypatch.setattr(predict, "ask", asking)
    done = work(batch.again(job_id, "Ann"))
    assert done.status == "done" and queue.counts(trained_copy.dataset.id) == {"predicted": 40} and len(asked) == 24
    assert done.end["before"] == 16


def test_several_runs_answer_the_same_pictures_side_by_side(trained_copy: Trained, tmp_path: Path, nothing: None) -> None:
    other = runs.folder(trained_copy.run_id).parent / "20260101-000000-beef"
    shutil.copytree(runs.folder(trained_copy.run_id), other)
    runs.write_json(other / "config.json", {**runs.read_json(other / "config.json"), "id": other.name})
    path = in_the_inbox(zipped(trained_copy, tmp_path / "new.zip", 5, 0))
    done = work(batch.start(trained_copy.dataset.id, [trained_copy.run_id, other.name], sources.at(path), "Ann", "folder"))
    assert done.status == "done" and queue.counts(trained_copy.dataset.id) == {"predicted": 5}
    items = queue.browse(trained_copy.dataset.id, queue.Which())
    said = queue.answers_of([one.id for one in items])
    assert all({run for run, _, _ in said[one.id]} == {trained_copy.run_id, other.name} for one in items)


def test_a_watched_folder_answers_what_comes_until_it_is_stopped(
    trained_copy: Trained, nothing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = settings().roots[0] / "camera"
    folder.mkdir(parents=True)
    files = list(pictures(trained_copy).values())
    shutil.copy(files[0], folder / "a.png")
    monkeypatch.setattr(batch, "SETTLED", -1)
    job_id = batch.start(trained_copy.dataset.id, [trained_copy.run_id], batch.watched(folder), "Ann", "watched", watch=True)
    looks = 0

    def wait(_seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            shutil.copy(files[1], folder / "b.png")
        else:
            batch.stop(job_id)

    monkeypatch.setattr(time, "sleep", wait)
    assert work(job_id).status == "stopped"
    assert {one.name for one in queue.browse(trained_copy.dataset.id, queue.Which(source="watched"))} == {"a.png", "b.png"}


def test_a_second_click_starts_nothing_more(trained_copy: Trained, tmp_path: Path, nothing: None, monkeypatch: pytest.MonkeyPatch) -> None:
    path = in_the_inbox(zipped(trained_copy, tmp_path / "new.zip", 5, 0))
    monkeypatch.setattr(Nothing, "alive", lambda _self, folder: not (folder / "events.jsonl").exists())
    monkeypatch.setattr(Nothing, "start", lambda _self, folder, _command: runs.write_json(folder / "handle.json", {}))
    want = (trained_copy.dataset.id, [trained_copy.run_id], sources.at(path), "Ann", "folder")
    first = batch.start(*want)
    assert batch.start(*want) == first and len(jobs.folders(settings().answers)) == 1
    work(first)
    assert batch.start(*want) != first


def test_only_folders_that_are_allowed_are_read(trained_copy: Trained, tmp_path: Path, nothing: None) -> None:
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(Invalid, match="is not below a folder"):
        batch.start(trained_copy.dataset.id, [trained_copy.run_id], sources.at(tmp_path / "elsewhere"), "Ann", "folder")
    with pytest.raises(Invalid, match="Only a folder can be watched"):
        batch.start(trained_copy.dataset.id, [trained_copy.run_id], sources.named("sample"), "Ann", "folder", watch=True)
