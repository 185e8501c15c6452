"""A data folder for a trial, and what lies in it that should not."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from core.data import imports, leftovers
from core.runs import launch
from tests.conftest import SharedDecoders, move_in
from tests.forking import ForkedWorker, ForkLauncher

LITTER = (".tmp", ".part", ".progress", ".stop")


@contextmanager
def moved_in(home: Path, launcher: launch.Launcher | None = None, url: str = "") -> Iterator[Path]:
    """This process works in the folder meanwhile; processes are forked, which is quick."""
    home.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        move_in(patch, home)
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("LOUPE_USER", "tester")
        if url:
            patch.setenv("LOUPE_DATABASE_URL", url)
        patch.setattr(launch, "launcher", launcher or ForkLauncher())
        patch.setattr(launch, "_start_worker", ForkedWorker)
        patch.setattr(imports, "Decoders", SharedDecoders)
        yield home


def litter(home: Path) -> list[str]:
    """What killed processes left behind and the next start of the app does not remove."""
    leftovers.remove()
    return [str(path.relative_to(home)) for path in home.rglob("*") if path.suffix in LITTER and path.name != "start.lock"]


def until(true: Callable[[], bool], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def family(pid: int) -> list[psutil.Process]:
    """The process and all below it, to be looked for after its end."""
    try:
        one = psutil.Process(pid)
        return [one, *one.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def gone(processes: list[psutil.Process]) -> bool:
    return all(not one.is_running() or one.status() == psutil.STATUS_ZOMBIE for one in processes)


def peak_mb(pid: int | None = None) -> float:
    """The most memory that a process has held, in MB."""
    status = Path(f"/proc/{pid or os.getpid()}/status").read_text(encoding="utf-8")
    return float(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1000


@contextmanager
def replaced(where: object, name: str, by: object) -> Iterator[None]:
    """Something done wrong on purpose meanwhile; a function takes what the right one takes, or it would fall for that alone."""
    right = getattr(where, name)
    if inspect.isfunction(right) and inspect.isfunction(by):
        taken = [one for one in inspect.signature(right).parameters.values() if one.kind is one.POSITIONAL_OR_KEYWORD]
        inspect.signature(by).bind(*taken)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, name, by)
        yield
