"""Predictions on many pictures in the background: files, a zip, a folder on the server, or a folder that is watched."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from core import processes, roles
from core.data import images, imports, places, queue, sources, store, uploads
from core.data.sources import Entry, Source
from core.errors import AppError, Invalid, NotFound
from core.review import predict, review
from core.runs import cluster, jobs, runs
from core.runs.remote import infer
from core.settings import settings
from core.types import Prediction, Progress

CHUNK = 64  # pictures asked about at once; what is read before the network has something to do is an eighth of them
AHEAD = 3  # chunks under way: the next are read while one is answered
LOOK_EVERY = 3.0  # seconds between two looks into a watched folder
SETTLED = 2.0  # seconds that a file in it has not changed: else it may still be written
Note = Callable[[predict.Failure], None]
Answered = Iterator[tuple[list[Prediction], int]]
REFUSED = "refused.jsonl"  # in the job's folder: files without an answer, and why


@roles.needs("ask")
def start(dataset_id: int, run_ids: Sequence[str], source: Source, by: str, how: str, watch: bool = False) -> str:
    """Starts predictions that outlive the page and the server, and returns the job's id; reads only below the allowed folders and uploads."""
    dataset = store.get_dataset(dataset_id)
    if dataset.deleted_at:
        raise NotFound(f"The dataset “{dataset.name}” was deleted.", "Restore it on the Dataset page first.")
    if not run_ids:
        raise Invalid("No network was chosen.", "Choose at least one.")
    for run_id in run_ids:
        runs.trained(run_id)
    if watch and source.kind != "folder":
        raise Invalid("Only a folder can be watched.", "Choose a folder on the server.")
    asked = {"dataset_id": dataset_id, "runs": list(run_ids), "source": json.loads(json.dumps(places.confined(source).as_dict()))}
    for one in running():
        if all(one.job[name] == value for name, value in asked.items()):  # a second click
            return one.id
    job = {**asked, "by": by, "how": how, "watch": watch}
    return jobs.start(settings().answers, PREDICT, job)


def again(job_id: str, by: str) -> str:
    """Goes on with a job that was stopped, killed or failed: what was answered is not asked again."""
    job = runs.read_json(_folder(job_id, "ask") / "job.json")
    return start(job["dataset_id"], job["runs"], Source.from_dict(job["source"]), by, job["how"], job["watch"])


def _work(folder: Path, job: jobs.Line, progress: Progress) -> jobs.Line:
    source, states, refused, failed, done = Source.from_dict(job["source"]), dict[str, int](), 0, 0, 0

    def note(failure: predict.Failure) -> None:
        nonlocal refused
        refused += 1
        runs.append_line(folder, {"file": failure.file, "message": failure.message, "hint": failure.hint}, REFUSED)

    def fail(failure: predict.Failure) -> None:
        nonlocal failed
        failed += 1
        note(failure)

    def answer(entries: Iterator[Entry], expected: int = 0) -> None:
        nonlocal done
        there: dict[str, uploads.Upload] = {}
        pictures = kept(entries, note, there)
        if not done:
            progress(0, max(1, expected), "Loading the network")
        for number, run_id in enumerate(job["runs"]):
            asked = (run_id, pictures, job["dataset_id"], note if number else fail)
            for found, n in answered_on_nodes(*asked, folder / run_id) if cluster.takes(expected) else answered(*asked):
                came = review.keep(job["dataset_id"], run_id, found, job["by"], job["how"])
                if number == 0:
                    done += n
                    states.update({state: states.get(state, 0) + n for state, n in came.items()})
                progress(done, max(expected, done), f"Answered by network {number + 1} of {len(job['runs'])}" if number else "Answered")
            pictures = iter(list(there.values()))

    if not job["watch"]:
        opened = sources.open_source(source, "", progress)
        answer(opened.entries, opened.total)
        for one in opened.skipped:
            note(predict.Failure(one.name, one.reason, ""))
        uploads.remove(source.paths)
        known = done - failed
        return {"states": states, "refused": refused, "done": known, "before": known - sum(states.values())}
    seen: dict[str, float] = {}
    while True:  # until somebody stops it
        answer(_new(Path(source.paths[0]), seen))
        progress(done, max(1, done), "Watching the folder")
        time.sleep(LOOK_EVERY)


def _new(folder: Path, seen: dict[str, float]) -> Iterator[Entry]:
    """Pictures of a folder that came or changed since the last look and are not being written any more."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower().lstrip(".") not in images.EXTENSIONS or not path.is_file() or path.is_symlink():
            continue
        changed = path.stat().st_mtime
        if seen.get(str(path)) != changed and time.time() - changed > SETTLED:
            seen[str(path)] = changed
            yield Entry(str(path.relative_to(folder)), path=path)


def kept(entries: Iterator[Entry], note: Note, there: dict[str, uploads.Upload]) -> Iterator[uploads.Upload]:
    """Every picture once, stored under its hash; there: those that came so far, by hash."""
    for entry in entries:
        try:
            if entry.array is not None:
                name, data = f"{entry.name}.png", images.png(entry.array)
            else:
                name, data = entry.name, imports.read_file(entry.path) if entry.path is not None else entry.data or b""
            one = uploads.keep(name, data)
        except AppError as e:
            note(predict.Failure(entry.name, e.message, e.hint))
            continue
        if one.id in there:
            note(predict.Failure(entry.name, f"This is the same picture as {there[one.id].name}.", "It is answered once."))
            continue
        there[one.id] = one
        yield one


@runs.needs("ask")
def answered(run_id: str, pictures: Iterator[uploads.Upload], dataset_id: int, note: Note, again: bool = False) -> Answered:
    """(answers, pictures they are of), a chunk at a time; what this run has answered before is only asked again if that is said."""
    waiting: list[tuple[list[uploads.Upload], Future[Any] | None, int]] = []

    def first() -> tuple[list[Prediction], int]:
        some, future, n = waiting.pop(0)
        found = predict.answers(run_id, [one.name for one in some], future) if future else []
        for failure in found:
            if isinstance(failure, predict.Failure):
                note(failure)
        return [one for one in found if isinstance(one, Prediction)], n

    while some := list(islice(pictures, CHUNK)):
        known = set[str]() if again else queue.answered(dataset_id, run_id, [one.id for one in some])
        asked = [one for one in some if one.id not in known]
        waiting.append((asked, predict.ask(run_id, [one.path for one in asked]) if asked else None, len(some)))
        if len(waiting) >= AHEAD:
            yield first()
    while waiting:
        yield first()


@runs.needs("ask")
def answered_on_nodes(run_id: str, pictures: Iterator[uploads.Upload], dataset_id: int, note: Note, spool: Path) -> Answered:
    """The same by the nodes of the Ray cluster."""
    listed = {str(one.path): one for one in pictures}
    known = queue.answered(dataset_id, run_id, [one.id for one in listed.values()])
    asked = [path for path, one in listed.items() if one.id not in known]
    yield [], len(listed) - len(asked)
    for rows in cluster.answers(spool, infer.predict, [str(runs.trained(run_id))], asked):
        future: Future[Any] = Future()
        future.set_result(rows)
        found = predict.answers(run_id, [listed[row["file"]].name for row in rows], future)
        for failure in found:
            if isinstance(failure, predict.Failure):
                note(failure)
        yield [one for one in found if isinstance(one, Prediction)], len(rows)


PREDICT = jobs.Kind("predict", "prediction", "What was answered is kept: go on with the rest.", _work)


@dataclass(frozen=True)
class Batch:
    """A prediction of many pictures, going on or ended."""

    state: jobs.State
    refused: int

    @property
    def job(self) -> dict[str, Any]:
        return self.state.job


@roles.needs("see")
def recent(dataset_id: int, days: float = 2) -> list[Batch]:
    """The dataset's predictions of the last days, newest first."""
    found = []
    for folder in jobs.recent(settings().answers, days * 86400):
        one = jobs.state(folder, PREDICT)
        if one.job["dataset_id"] == dataset_id:
            found.append(Batch(one, len(refused(one.id))))
    return found


@roles.needs("see")
def asking(dataset_id: int) -> bool:
    """Whether pictures are being asked about now; a watched folder, which may wait for its next picture for days, is not counted."""
    states = (jobs.state(folder, PREDICT) for folder in jobs.recent(settings().answers, 2 * 86400))
    return any(one.job["dataset_id"] == dataset_id and one.status == "running" and not one.job["watch"] for one in states)


def refused(job_id: str) -> list[predict.Failure]:
    """Files that got no answer, and why."""
    path = _folder(job_id, "see") / REFUSED
    if not path.exists():
        return []
    return [predict.Failure(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def stop(job_id: str) -> None:
    """Asks it to end; what was answered is kept."""
    runs.request_stop(_folder(job_id, "ask"))


def _folder(job_id: str, verb: str) -> Path:
    folder = jobs.find(settings().answers, job_id, "prediction")
    roles.allow(verb, runs.read_json(folder / "job.json")["dataset_id"])
    return folder


def running() -> list[jobs.State]:
    return jobs.running((path.parent for path in settings().answers.glob(f"[!.]*/{processes.HANDLE}")), PREDICT)


def watched(folder: Path) -> Source:
    return replace(sources.at(folder), kind="folder")
