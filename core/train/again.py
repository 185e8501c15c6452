"""Runs that go on by themselves after their process was lost, where their settings ask for that."""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path

from core import processes, roles
from core.errors import AppError
from core.roles import Person
from core.runs import launch, runs
from core.settings import settings
from core.train import train
from core.types import Preparing, RunStatus

BY_ITSELF = "Going on by itself"
SETTLED = 5.0  # seconds since something was last written: a run that is just being started looks lost, too
SURE = 10.0  # seconds in which every look at a run of another machine finds it lost: after a silence of the shared folder all of them are
_lost: dict[Path, float] = {}  # since when


def look() -> list[str]:
    """Resumes what was lost, each run as often as its settings allow; the ids of those that go on now."""
    found = []
    for path in sorted(settings().runs.glob(f"*/{processes.HANDLE}")):
        folder = path.parent
        try:
            launch.hand_in(folder)
            if _may_go_on(folder):
                with roles.acting(Person(runs.load(folder).by, "admin")):  # what its owner asked for
                    found.append(train.resume(folder.name, what=BY_ITSELF).id)
        except (AppError, FileNotFoundError):  # somebody was faster, its dataset is deleted, or its folder is damaged
            continue
    return found


def surely_lost(folder: Path, status: RunStatus) -> bool:
    """Whether the run is, as it stands now; one of another machine once every look for a while has found it so."""
    if status != "lost":
        _lost.pop(folder, None)
        return False
    return not launch.elsewhere(folder) or time.monotonic() - _lost.setdefault(folder, time.monotonic()) >= SURE


@lru_cache(maxsize=10_000)  # of thousands of runs, most of which ask for nothing
def _allowed(folder: Path, _changed: int) -> int:
    return runs.load(folder).config.restarts


def _may_go_on(folder: Path) -> bool:
    allowed = _allowed(folder, (folder / "config.json").stat().st_mtime_ns)
    if not allowed or abs(time.time() - max(path.stat().st_mtime for path in (folder, folder / processes.HANDLE))) < SETTLED:
        return False
    with roles.acting(Person(settings().user, "admin")):
        if not surely_lost(folder, train.state(folder.name).status):
            return False
    return sum(isinstance(one, Preparing) and one.what == BY_ITSELF for one in runs.events(folder, skip="Answers")) < allowed
