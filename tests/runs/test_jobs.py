"""Background jobs: one state for all kinds, stopping by an exception, one at a time, and what killed processes leave behind."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import app
from core.data import imports, leftovers, sources, store, uploads
from core.errors import Invalid, NotFound
from core.runs import jobs, launch, runs
from core.settings import settings
from core.share import export
from core.types import Dataset, Progress

HINT = "Count again."


class Process:
    """A launcher whose processes live as long as they are told to."""

    def __init__(self, *alive: Path) -> None:
        self.going = set(alive)

    def start(self, folder: Path, command: list[str]) -> None:
        self.going.add(folder)

    def alive(self, folder: Path) -> bool:
        return folder in self.going

    def kill(self, folder: Path) -> None:
        self.going.discard(folder)


@pytest.fixture
def process(home: Path, monkeypatch: pytest.MonkeyPatch) -> Process:
    one = Process()
    monkeypatch.setattr(launch, "launcher", one)
    return one


def counting(work: Callable[[Path, jobs.Line, Progress], jobs.Line]) -> jobs.Kind:
    return jobs.Kind("count", "count", HINT, work)


def up_to(folder: Path, job: jobs.Line, progress: Progress) -> jobs.Line:
    for n in range(job["n"]):
        if n == job.get("stop"):
            runs.request_stop(folder)
        progress(n + 1, job["n"], "Counting")
    return {"sum": sum(range(job["n"]))}


def fails(error: Exception) -> jobs.Kind:
    def work(*_: object) -> jobs.Line:
        raise error

    return counting(work)


def ran(parent: Path, kind: jobs.Kind, process: Process, **job: int) -> jobs.State:
    folder = parent / jobs.start(parent, kind, job)
    jobs.run(folder, kind)
    process.kill(folder)
    return jobs.state(folder, kind)


def test_a_job_tells_how_far_it_is_and_what_it_found(tmp_path: Path, process: Process) -> None:
    kind = counting(up_to)
    folder = tmp_path / jobs.start(tmp_path, kind, {"n": 3})
    state = jobs.state(folder, kind)
    assert (state.status, state.share, state.message, state.end, state.job["n"], state.job["job"]) == ("running", 0, "", {}, 3, "count")
    runs.append_line(folder, {"kind": "Progress", "done": 1, "total": 4, "what": "Counting"})
    state = jobs.state(folder, kind)
    assert (state.done, state.total, state.what, state.share) == (1, 4, "Counting", 0.25)
    jobs.run(folder, kind)
    state = jobs.state(folder, kind)  # its process has not left yet
    assert (state.status, state.end["sum"], state.share, state.message) == ("done", 3, 1, "")


def test_progress_raises_where_somebody_asked_to_stop(tmp_path: Path, process: Process) -> None:
    kind = counting(up_to)
    state = ran(tmp_path, kind, process, n=10, stop=4)
    assert (state.status, state.message, state.hint, state.done) == ("stopped", "The count was stopped.", HINT, 1)
    folder = tmp_path / jobs.start(tmp_path, kind, {"n": 1})
    runs.request_stop(folder)
    assert jobs.state(folder, kind).what == "Stopping"


def test_what_was_done_before_a_stop_can_be_told(tmp_path: Path, process: Process) -> None:
    state = ran(tmp_path, counting(lambda *_: {"kind": "Stopped", "sum": 6}), process)
    assert (state.status, state.end["sum"], state.hint) == ("stopped", 6, HINT)


@pytest.mark.parametrize(
    ("error", "words", "hint"),
    [
        (Invalid("No numbers.", "Name some."), "No numbers.", "Name some."),
        (ValueError("x"), "did not expect (ValueError)", "worker.log"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), "The disk is full: /x/y could not be written.", "Make room"),
        (OSError(errno.EROFS, "Read-only file system", "/x/y"), "refuses access to /x/y (Read-only file system)", "Give the account"),
    ],
)
def test_a_job_that_fails_says_why(tmp_path: Path, process: Process, error: Exception, words: str, hint: str) -> None:
    state = ran(tmp_path, fails(error), process)
    assert state.status == "failed" and words in state.message and hint in state.hint and "Traceback" not in state.message


def test_on_a_full_disk_room_for_the_last_line_is_made_before_the_log_takes_any(
    tmp_path: Path, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[list[Path]] = []
    monkeypatch.setattr(traceback, "print_exc", lambda **_: kept.append(list(tmp_path.rglob(".end.*"))))
    state = ran(tmp_path, fails(OSError(errno.ENOSPC, "No space left on device", "/x/y")), process)
    assert kept == [[]] and state.status == "failed"


def test_a_job_whose_process_is_gone_is_lost_and_another_can_be_started(tmp_path: Path, process: Process) -> None:
    kind = counting(up_to)
    first = jobs.start_one(tmp_path, kind, {"n": 3})
    assert jobs.start_one(tmp_path, kind, {"n": 3}) == first  # a double click
    assert [one.id for one in jobs.running(tmp_path.glob("*"), kind)] == [first]
    process.going.clear()
    state = jobs.newest(tmp_path, kind)
    assert state is not None and (state.id, state.status, state.message, state.hint) == (
        first,
        "lost",
        "The count ended without a word.",
        HINT,
    )
    assert jobs.running(tmp_path.glob("*"), kind) == []
    second = jobs.start_one(tmp_path, kind, {"n": 3})
    assert second != first and [folder.name for folder in jobs.folders(tmp_path)] == [second]


def test_the_last_result_stays_until_there_is_another(tmp_path: Path, process: Process) -> None:
    kind = counting(up_to)
    found = []
    for with_result in (True, False, False):
        folder = tmp_path / jobs.start_one(tmp_path, kind, {"n": 1}, "result")
        found.append(folder)
        if with_result:
            (folder / "result").touch()
        process.kill(folder)
        time.sleep(0.002)  # they are told apart by the millisecond
    assert jobs.folders(tmp_path) == [found[0], found[2]]


@pytest.mark.parametrize("job_id", ["", "..", "../../etc", "20260101-000000-abcdef"])
def test_what_is_no_id_of_a_job_is_not_found(tmp_path: Path, job_id: str) -> None:
    with pytest.raises(NotFound, match="This count does not exist"):
        jobs.find(tmp_path, job_id, "count")


def test_a_job_of_an_earlier_loupe_is_shown_as_it_was(home: Path) -> None:
    def made(parent: Path, job: jobs.Line, end: jobs.Line) -> str:
        folder = parent / "20260101-000000-abcdef"
        folder.mkdir(parents=True)
        runs.write_json(folder / "job.json", {**job, "at": "2026-01-01T00:00:00.000+00:00", "by": "me"})
        runs.append_line(folder, {"kind": "Progress", "done": 0, "total": 0, "what": "Reading the list of images"})
        runs.append_line(folder, end)
        return folder.name

    asked: jobs.Line = {"source": sources.named("sample").as_dict(), "dataset_name": "digits"}
    report = {"added": 3, "duplicates": 1, "skipped": [{"name": "a.png", "reason": "damaged"}]}
    state = imports.state(made(settings().imports, asked, {"kind": "Stopped", "report": report, "dataset_id": 1}))
    found = imports.report(state)
    assert (
        state.status == "stopped"
        and found is not None
        and found.as_dict() == {**report, "classes": {}, "understood": [], "offered": 0, "given": 0, "differ": 0, "import_id": None}
        and "digits" in imports.title(state)
    )
    written = {"images": 24, "bytes": 1000, "skipped": []}
    asked = {"dataset_id": 1, "kind": "csv", "originals": False, "run_id": None, "file": "digits-csv.zip"}
    state = export.state(made(settings().exports, asked, {"kind": "Done", "report": written}))
    assert export.report(state) == export.ExportReport(24, 1000) and export.address(state) == f"/export/{state.id}/csv.zip"


def test_a_job_says_how_long_the_rest_of_what_it_does_now_takes(tmp_path: Path, process: Process) -> None:
    kind = counting(up_to)
    folder = tmp_path / jobs.start(tmp_path, kind, {"n": 3})

    def after(**line: object) -> str:
        runs.append_line(folder, {"kind": "Progress", "total": 1000, **line})
        return jobs.state(folder, kind).words

    assert jobs.state(folder, kind).words == "Starting"
    assert after(done=0, total=0, what="Reading the list of images", at=0.0) == "Reading the list of images"
    assert after(done=100, what="Reading images", at=50.0) == "Reading images: 100 of 1,000"  # the list took long, that says nothing
    assert after(done=110, what="Reading images", at=51.0) == "Reading images: 110 of 1,000"  # one second is too short to judge by
    assert after(done=400, what="Reading images", at=80.0) == "Reading images: 400 of 1,000, about 60 s left"
    assert after(done=1000, what="Reading images", at=140.0) == "Reading images: 1,000 of 1,000"
    runs.request_stop(folder)
    assert after(done=1000, what="Reading images", at=141.0) == "Stopping: 1,000 of 1,000"


def test_a_job_that_an_earlier_loupe_began_says_no_time(tmp_path: Path, process: Process) -> None:
    kind = counting(up_to)
    folder = tmp_path / jobs.start(tmp_path, kind, {"n": 3})
    runs.append_line(folder, {"kind": "Progress", "done": 1, "total": 3, "what": "Counting"})
    assert jobs.state(folder, kind).words == "Counting: 1 of 3"


# What killed processes leave behind


def gone() -> int:
    """The id of a process that has ended."""
    return int(subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True).stdout)


def litter() -> list[str]:
    return sorted(p.name for p in settings().home.rglob("*") if p.suffix in (".tmp", ".progress", ".stop"))


def test_what_a_killed_export_leaves_behind_is_cleaned_when_the_app_starts(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    one = store.all_images(small.id)[5]
    path = settings().images / one.path
    path.unlink()
    os.mkfifo(path)  # the export waits here for ever
    export_id = export.start(small.id, "csv", "me")
    folder = settings().exports / export_id
    deadline = time.monotonic() + 60
    while len(litter()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    room, name = litter()  # .end… keeps room for the last line
    assert room.startswith(".end.") and name.startswith(".export.zip.") and export.state(export_id).status == "running"
    leftovers.remove()
    assert litter() == [room, name]  # they are in use

    os.kill(runs.read_json(folder / "handle.json")["pid"], signal.SIGKILL)
    while launch.launcher.alive(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    monkeypatch.setattr(launch, "warm", lambda: None)

    async def starts() -> None:
        async with app.lifespan(app.app):
            pass

    with ThreadPoolExecutor(1) as other:  # a thread whose event loop is not Playwright's
        other.submit(asyncio.run, starts()).result()
    assert litter() == []
    state = export.unseen(small.id)
    assert state is not None and (state.id, state.status) == (export_id, "lost") and "Start it again" in state.hint
    path.unlink()
    again = export.start(small.id, "csv", "me")
    while export.state(again).status == "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    report = export.report(export.state(again))
    assert report is not None and report.images == 23 and export.unseen(small.id) is None


def test_files_of_living_processes_stay_and_those_of_dead_ones_go(home: Path) -> None:
    maps = settings().runs / "20260101-000000-abcd" / "maps" / "1-2"
    maps.mkdir(parents=True)
    for name in ("config.json", "last.pt", "best.pt", "stop"):
        (maps.parents[1] / name).touch()
    dead, kept, key = gone(), [maps / "features.npz"], "0123456789abcdef" * 2
    for pid in (dead, os.getpid()):
        made = [maps / f"{key}-{pid}-ab12cd34.progress", maps / f"{key}-{pid}-ab12cd34.stop", maps / f"features-{pid}-0.progress"]
        made += [settings().downloads / f".a.gz.{pid}.123.tmp", settings().uploads / "batches" / "x" / f".ab.{pid}.123.tmp"]
        made.append(settings().archives / f".abcd.{pid}.123.tmp" / "run" / "config.json")
        for path in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        kept += made if pid != dead else []
    (maps / "features.npz").touch()
    started = (maps.parents[1] / "best.pt").stat().st_mtime
    leftovers.remove()
    assert all(path.exists() for path in kept)
    assert not [p for p in settings().home.rglob("*") if f"{dead}" in p.name]
    assert {p.name for p in maps.parents[1].iterdir()} == {"config.json", "last.pt", "best.pt", "stop", "maps"}
    assert (maps.parents[1] / "best.pt").stat().st_mtime == started


def test_the_process_that_has_the_number_by_now_is_not_the_one_that_wrote_the_file(home: Path) -> None:
    path = settings().home / f".x.zip.{os.getpid()}.123.tmp"
    path.touch()
    os.utime(path, (1_000_000_000, 1_000_000_000))
    leftovers.remove()
    assert not path.exists()


def test_what_people_put_into_the_inbox_stays_whatever_it_is_called(home: Path) -> None:
    files = [settings().home / "inbox" / name for name in (f".x.zip.{gone()}.123.tmp", "my.part")]
    files[0].parent.mkdir()
    for path in files:
        path.touch()
        os.utime(path, (1_000_000_000, 1_000_000_000))
    leftovers.remove()
    assert all(path.exists() for path in files)


def test_a_run_that_was_killed_while_it_was_made_goes_after_a_day_and_others_never_do(home: Path) -> None:
    long_ago = time.time() - 2 * jobs.DAY
    for name, files in {
        "shell": ["dataset.csv"],
        "fresh": ["dataset.csv"],
        "damaged": ["dataset.csv", "best.pt"],
        "run": ["config.json"],
    }.items():
        (settings().runs / name).mkdir(parents=True)
        for file in files:
            (settings().runs / name / file).touch()
        if name != "fresh":
            os.utime(settings().runs / name, (long_ago, long_ago))
    leftovers.remove()
    assert {p.name for p in settings().runs.iterdir()} == {"fresh", "damaged", "run"}


def test_uploads_of_closed_tabs_go_when_somebody_imports_but_not_under_an_import_that_goes_on(process: Process) -> None:
    long_ago = time.time() - 2 * uploads.KEEP_BATCHES
    tab, reading, fresh = (settings().uploads / "batches" / f"{n}0000000-0000-4000-8000-000000000000" for n in (1, 2, 3))
    for batch in (tab, reading, fresh):
        batch.mkdir(parents=True)
        (batch / "1.file").touch()
        if batch != fresh:
            os.utime(batch, (long_ago, long_ago))
    going = settings().imports / jobs.start(settings().imports, imports.IMPORT, {"source": {"paths": [str(reading / "1.file")]}})
    imports.start(sources.named("sample"), "digits", "me")
    assert not tab.exists() and reading.exists() and fresh.exists()
    process.kill(going)
    leftovers.remove()
    assert not reading.exists() and fresh.exists()


def of_dead_and_living(folder: Path, name: str) -> tuple[Path, Path]:
    """A temporary file of a process that is gone, and one of this process, as writing that file makes them."""
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f".{name}.{gone()}.7.tmp", folder / f".{name}.{os.getpid()}.7.tmp"
    for path in made:
        path.touch()
    return made


def test_an_import_started_again_cleans_what_a_killed_one_left_beside_originals(home: Path, tmp_path: Path) -> None:
    dead, living = of_dead_and_living(settings().images / "ab", "ab12.png")
    download, _ = of_dead_and_living(settings().downloads / "MNIST", "train.gz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(Invalid):
        imports.import_now("empty", sources.at(tmp_path / "empty"), "me")
    assert not dead.exists() and not download.exists() and living.exists()


def test_an_export_started_again_cleans_the_zip_that_a_killed_one_left(small: Dataset, process: Process, tmp_path: Path) -> None:
    dead, living = of_dead_and_living(settings().exports / "20260101-000000-abcdef", "export.zip")
    export.start(small.id, "csv", "me")
    assert not dead.exists() and living.exists()
    dead, living = of_dead_and_living(tmp_path, "x[1].zip")
    other, _ = of_dead_and_living(tmp_path, "y.zip")
    export.export_now(small.id, "csv", tmp_path / "x[1].zip")
    assert not dead.exists() and living.exists() and other.exists()  # another's file in a folder of people is left alone
