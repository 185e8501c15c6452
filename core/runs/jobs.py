"""Work in the background as processes of their own: a folder with job.json and a run folder's events, stop file and log."""

from __future__ import annotations

import glob
import re
import secrets
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from core import pace, processes, roles, servers, space, storage
from core.errors import AppError, NotFound, Stopped, Unavailable
from core.runs import launch, runs, stored
from core.settings import settings
from core.types import Progress, now

Line = dict[str, Any]
Status = Literal["running", "done", "stopped", "failed", "lost"]
ENDS: dict[str, Status] = {"Done": "done", "Stopped": "stopped", "Failed": "failed"}  # by the kind of the last line
EVERY = 0.25  # seconds between two lines of progress
DAY = 24 * 3600  # seconds after which a temporary file that bears no process in its name belongs to nobody


@dataclass(frozen=True)
class Kind:
    """One kind of job; which one a job is stands in its job.json, for `python -m core job FOLDER`."""

    name: str
    noun: str  # in sentences
    after: str  # what is to be done when it was stopped or killed
    work: Callable[[Path, Line, Progress], Line]  # (folder, job, progress) -> the last line; Done unless it says another kind


@dataclass(frozen=True)
class State:
    """What a job's folder says of it."""

    id: str
    kind: Kind
    status: Status
    job: Line  # what was asked for
    end: Line  # the last line; {} until the job has ended by itself
    done: int = 0
    total: int = 0
    what: str = ""
    message: str = ""
    hint: str = ""
    seconds_left: float | None = None  # of what it is doing now

    @property
    def words(self) -> str:
        return pace.words(self.what or "Starting", self.done, self.total, self.seconds_left)

    @property
    def passes(self) -> bool:
        """Whether it failed by what may be over soon, such as a storage that was away."""
        return bool(self.end.get("passes"))

    @property
    def share(self) -> float:
        return min(1.0, self.done / max(1, self.total))


def start(parent: Path, kind: Kind, job: Line) -> str:
    """Launches `python -m core job FOLDER` on a new folder in parent and returns the folder's name."""
    with _lock(parent):
        remove_left(parent)
        return _start(parent, kind, job)


def _start(parent: Path, kind: Kind, job: Line) -> str:
    job_id = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    folder = parent / job_id
    with runs.scratch(folder) as made:  # so that nobody meets a job without its job.json
        runs.write_json(made / "job.json", {**job, "job": kind.name, "at": now()})
        made.rename(folder)
    launch.launcher.start(folder, launch.python("core", "job", str(folder)))
    return job_id


def start_one(parent: Path, kind: Kind, job: Line, result: str = "") -> str:
    """Starts a job unless one goes on in parent, whose id is returned then; older ones go, but for the last with a result of that name."""
    with _lock(parent):
        found = folders(parent)
        if found and _fold(found[-1], kind).status == "running":
            return found[-1].name
        keep = next((folder for folder in reversed(found) if result and (folder / result).exists()), None)
        for old in found:
            if old != keep:
                storage.remove_folder(old)
                shutil.rmtree(old, ignore_errors=True)
        return _start(parent, kind, job)


def _lock(parent: Path) -> FileLock:
    """For what is only just starting, and looks lost until its process is known."""
    parent.mkdir(parents=True, exist_ok=True)
    return FileLock(parent / "start.lock")


def run(folder: Path, kind: Kind) -> None:
    """Does the work in this process, with progress in the folder's events; it is told to stop by an exception from progress."""
    last, said = 0.0, ""

    def progress(done: int, total: int, what: str) -> None:
        nonlocal last, said
        if runs.stop_requested(folder):
            raise Stopped
        if what != said or time.monotonic() - last >= EVERY:
            last, said = time.monotonic(), what
            runs.append_line(folder, {"kind": "Progress", "done": done, "total": total, "what": what, "at": time.time()})

    job = runs.read_json(folder / "job.json")
    room = runs.keep_room(folder)
    try:
        with roles.acting(roles.Person(job.get("by") or roles.current().name, "admin")):  # what somebody was allowed to start
            end = {"kind": "Done", **kind.work(folder, job, progress)}
    except Stopped:
        end = {"kind": "Stopped"}
    except AppError as e:
        away = isinstance(e, Unavailable)  # as a cluster or a storage that may come back
        end = {"kind": "Failed", "message": e.message, "hint": e.hint or (kind.after if away else ""), "passes": away}
    except OSError as e:
        room.unlink(missing_ok=True)  # worker.log may lie on the full disk, too
        traceback.print_exc(file=sys.stderr)
        refused = space.refusal(e)
        end = {"kind": "Failed", "message": refused.message, "hint": refused.hint}
    except Exception as e:
        traceback.print_exc(file=sys.stderr)
        message = f"The {kind.noun} ended with an error that Loupe did not expect ({type(e).__name__})."
        end = {"kind": "Failed", "message": message, "hint": f"Details are in {folder / 'worker.log'}."}
    room.unlink(missing_ok=True)
    runs.append_line(folder, end)
    if folder.is_relative_to(settings().embeddings):  # what another machine need not work out again
        with suppress(AppError, OSError):  # the server does it later
            stored.copy(folder)


def state(folder: Path, kind: Kind) -> State:
    """A fold over what happened; FileNotFoundError if the job was removed a moment ago."""
    found = _fold(folder, kind)
    if found.status == "lost":
        with _lock(folder.parent):
            found = _fold(folder, kind)
    return found


def _fold(folder: Path, kind: Kind) -> State:
    alive = launch.launcher.alive(folder)  # asked first: what it wrote before it ended is then in the lines
    lines = runs.read_lines(folder)[0]
    end = lines[-1] if lines and lines[-1]["kind"] in ENDS else {}
    status = ENDS[end["kind"]] if end else "running" if alive else "lost"
    latest: Line = next((line for line in reversed(lines) if line["kind"] == "Progress"), {})
    gone = f"is lost: nothing is heard of it on {host}" if (host := launch.elsewhere(folder)) else "ended without a word"
    early = {"stopped": "was stopped", "lost": gone}.get(status)
    total = latest.get("total", 0)
    stopping = status == "running" and runs.stop_requested(folder)
    return State(
        folder.name,
        kind,
        status,
        runs.read_json(folder / "job.json"),
        end,
        done=total if status == "done" else latest.get("done", 0),
        total=total,
        what="Stopping" if stopping else latest.get("what", ""),
        message=f"The {kind.noun} {early}." if early else end.get("message", ""),
        hint=kind.after if early else end.get("hint", ""),
        seconds_left=_left(lines) if status == "running" and not stopping else None,
    )


def _left(lines: list[Line]) -> float | None:
    """Seconds that what the job is doing now still takes, judged by all of it so far."""
    told = [line for line in lines if line["kind"] == "Progress" and "at" in line]
    if not told:
        return None
    last = told[-1]
    first = last
    for line in reversed(told):
        if line["what"] != last["what"]:
            break
        first = line
    return pace.seconds_left(last["done"] - first["done"], last["at"] - first["at"], last["total"] - last["done"])


def find(parent: Path, job_id: str, noun: str) -> Path:
    """The folder of a job; NotFound for anything that is not the id of one."""
    folder = parent / job_id
    if not re.fullmatch(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}", job_id) or not (folder / "job.json").exists():
        raise NotFound(f"This {noun} does not exist any more.", "Start it again.")
    return folder


def folders(parent: Path) -> list[Path]:
    """Of the jobs in parent, oldest first: by the time in job.json, since the ids of one second have no order."""
    found = []
    for path in parent.glob("[!.]*/job.json"):
        with suppress(FileNotFoundError):  # it made room for another a moment ago
            found.append((runs.read_json(path)["at"], path.parent))
    return [folder for _, folder in sorted(found)]


def newest(parent: Path, kind: Kind) -> State | None:
    """The state of the newest job in parent, where start_one starts them; None before the first."""
    with suppress(FileNotFoundError):  # it made room for another a moment ago
        if found := folders(parent):
            return state(found[-1], kind)
    return None


def running(among: Iterable[Path], kind: Kind) -> list[State]:
    """Those of the folders whose job goes on, newest first; nothing is read of those that have ended."""
    found = []
    for folder in sorted((folder for folder in among if launch.launcher.alive(folder)), reverse=True):
        with suppress(FileNotFoundError):  # it made room for another a moment ago
            if (one := state(folder, kind)).status == "running":
                found.append(one)
    return found


def recent(parent: Path, seconds: float) -> list[Path]:
    """The folders of the jobs that remove_old would leave, newest first."""
    return [folder for folder in reversed(folders(parent)) if time.time() - folder.stat().st_mtime <= seconds]


def remove_old(parent: Path, seconds: float) -> None:
    """Removes what has lain in parent for longer, unless it goes on."""
    for path in parent.glob("[!.]*"):
        if path.is_dir() and time.time() - path.stat().st_mtime > seconds and not launch.launcher.alive(path):
            storage.remove_folder(path)
            shutil.rmtree(path, ignore_errors=True)
    with suppress(Unavailable):
        for name in storage.folders(parent, storage.SOON):  # of a machine that is no more
            if not (parent / name).exists() and name < f"{datetime.fromtimestamp(time.time() - seconds):%Y%m%d-%H%M%S}":
                storage.remove_folder(parent / name)


# What killed processes leave behind ---------------------------------------------------------------


def remove_left(parent: Path, of: str = "") -> None:
    """Removes temporary files and folders in parent, and one folder below, whose process is gone; only those of a file, if it is named."""
    pattern = f".{glob.escape(of)}.[0-9@]*.tmp" if of else ".*.tmp"
    for path in (*parent.glob(pattern), *(() if of else parent.glob(f"*/{pattern}"))):
        if left(path):
            remove(path)


def left(path: Path) -> bool:
    """Whether nobody uses the temporary file; one of an earlier Loupe does not say whose it is."""
    by = processes.maker(path)
    with suppress(FileNotFoundError):  # it was in use
        if by is not None and by.here:
            return not processes.lives(by.pid, path.stat().st_mtime)
        return old(path) and (by is None or not servers.on(by.host))  # of another machine: nobody here sees its processes
    return False


def old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > DAY


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
