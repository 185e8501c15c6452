"""What processes that are gone left behind, removed when the app starts: nothing that one still there uses, nothing of a run or a job."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from core.data import uploads
from core.runs import jobs, launch
from core.settings import settings


def remove() -> None:
    """What is found, uploads that wait for no import, and imports that nobody answered."""
    for path in found():
        jobs.remove(path)
    remove_uploads()
    remove_sights()


def found() -> Iterator[Path]:
    """Temporary files and folders, .progress and .stop files, and runs that were never begun."""
    for folder, inside, names in os.walk(settings().home):
        for name in inside + names:
            path = Path(folder, name)
            if path.suffix in (".tmp", ".part", ".progress", ".stop") and jobs.left(path):
                yield path
        # What lies in the inbox is people's own.
        inside[:] = [name for name in inside if not name.endswith(".tmp") and Path(folder, name) not in settings().roots]
    for path in settings().runs.glob("*"):
        if is_shell(path) and jobs.old(path):
            yield path


def remove_uploads() -> None:
    """Those of tabs that were closed long ago, unless a job that goes on reads them: their ids stand in its job.json."""
    going = [path for parent in (settings().imports, settings().archives, settings().answers) for path in parent.glob("[!.]*/job.json")]
    uploads.remove_old_batches(" ".join(path.read_text(encoding="utf-8") for path in going if launch.launcher.alive(path.parent)))


def remove_sights() -> None:
    """Those of imports that nobody has answered for as long as uploads are kept."""
    for path in settings().imports.glob("[!.]*/sight.json"):
        if time.time() - path.stat().st_mtime > uploads.KEEP_BATCHES:
            jobs.remove(path.parent)


def is_shell(folder: Path) -> bool:
    """Whether a run's folder holds no more than the beginning of a run: it was killed while it was made."""
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= {"dataset.csv"}
