"""Imports and exports as processes of their own: a folder with job.json and a run folder's events, stop file and log."""

from __future__ import annotations

import re
import secrets
import sys
import time
import traceback
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from core.errors import AppError, NotFound
from core.runs import launch, runs
from core.types import now

Line = dict[str, Any]
Progress = Callable[[int, int, str], None]
Stopped = Callable[[], bool]
EVERY = 0.25  # seconds between two lines of progress


def start(parent: Path, verb: str, job: Line) -> str:
    """Launches `python -m core VERB FOLDER` on a new folder in parent and returns the folder's name."""
    job_id = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    folder = parent / job_id
    folder.mkdir(parents=True)
    runs.write_json(folder / "job.json", {**job, "at": now()})
    launch.launcher.start(folder, launch.python("core", verb, str(folder)))
    return job_id


def find(parent: Path, job_id: str, missing: str) -> Path:
    """The folder of a job; NotFound with the sentence for anything that is not the id of one."""
    folder = parent / job_id
    if not re.fullmatch(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}", job_id) or not (folder / "job.json").exists():
        raise NotFound(missing, "Start it again.")
    return folder


def run(folder: Path, what: str, work: Callable[[Line, Progress, Stopped], Line]) -> None:
    """Does the work in this process, with progress in the folder's events; the line it returns is the last."""
    last = 0.0

    def progress(done: int, total: int, doing: str) -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY:
            last = time.monotonic()
            runs.append_line(folder, {"kind": "Progress", "done": done, "total": total, "what": doing})

    progress(0, 0, "Reading the list of images")
    try:
        end = work(runs.read_json(folder / "job.json"), progress, lambda: runs.stop_requested(folder))
    except AppError as e:
        end = {"kind": "Failed", "message": e.message, "hint": e.hint}
    except Exception as e:
        traceback.print_exc(file=sys.stderr)  # into worker.log
        message = f"The {what} ended with an error that Loupe did not expect ({type(e).__name__})."
        end = {"kind": "Failed", "message": message, "hint": f"Details are in {folder / 'worker.log'}."}
    runs.append_line(folder, end)


def read(folder: Path) -> tuple[Line, bool, Line, Line]:
    """The job, whether its process lives, its latest progress (done, total, what), and its last line ({} before the first)."""
    alive = launch.launcher.alive(folder)  # asked first: what it wrote before it ended is then in the lines
    lines = runs.read_lines(folder)[0]
    latest = next((line for line in reversed(lines) if line["kind"] == "Progress"), {})
    facts = {k: latest[k] for k in ("done", "total", "what") if k in latest}
    return runs.read_json(folder / "job.json"), alive, facts, lines[-1] if lines else {}
