"""Servers that share one LOUPE_HOME: each shows every few seconds that it is there, in a file that it holds locked meanwhile."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import filelock
import psutil

from core import processes
from core.settings import settings

MOST_APART = 5.0  # seconds, of the clocks of two of them
KEPT = 24 * 3600  # seconds that the file of a server is kept which ended without a word
log = logging.getLogger("loupe.server")


@dataclass(frozen=True)
class Server:
    name: str
    host: str
    machine: str


@dataclass
class _Here:
    """What this process has of being a server."""

    file: IO[str] | None = None
    over: threading.Event = field(default_factory=threading.Event)


_here = _Here()


def name() -> str:
    """Of this process among all servers; by it others ask whether it is still there."""
    return f"{processes.mark()}-{os.getpid()}-{round(psutil.Process().create_time() * 100):x}"


def machine() -> str:
    """The same for all processes between which the locks of a local disk hold: containers of one machine have names of their own."""
    if settings().host_given:
        return settings().host
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return settings().host


def folder() -> Path:
    return settings().home / "servers"


def join() -> threading.Event:
    """Shows from now on that this server is there, until it leaves, which sets the event."""
    folder().mkdir(parents=True, exist_ok=True)
    for path in folder().glob("*-*"):
        with contextlib.suppress(FileNotFoundError):
            mine = path.name.startswith(f"{processes.mark()}-") and not _lives_here(path.name)
            if mine or time.time() - path.stat().st_mtime > KEPT:
                path.unlink()
    _here.over = threading.Event()
    _here.file = open(folder() / name(), "w", encoding="utf-8")  # noqa: SIM115
    fcntl.flock(_here.file, fcntl.LOCK_EX)
    json.dump({"host": settings().host, "machine": machine()}, _here.file)
    _here.file.flush()
    path = folder() / name()
    now_and_then(processes.BEAT, lambda: processes.show(path), _here.over)
    return _here.over


def now_and_then(seconds: float, show: Callable[[], object], over: threading.Event) -> None:
    """Does it in a thread of its own until it is over; it may fail while a folder or a database is away."""

    def loop() -> None:
        while not over.wait(seconds):
            try:
                show()
            except Exception as e:
                log.warning("this server could not show that it is there: %s", e)

    threading.Thread(target=loop, daemon=True, name="server").start()


def leave() -> None:
    _here.over.set()
    if _here.file is not None:
        Path(_here.file.name).unlink(missing_ok=True)
        _here.file.close()
        _here.file = None


def others() -> list[Server]:
    """The living servers of other machines."""
    return [one for one in living() if one.machine != machine()]


def living() -> list[Server]:
    """Of all machines, this server too."""
    return [one for path in sorted(folder().glob("*-*")) if (one := _read(path)) is not None]


def _read(path: Path) -> Server | None:
    """None of one that is gone."""
    with contextlib.suppress(OSError, ValueError, KeyError), open(path, encoding="utf-8") as f:
        values, age = json.load(f), time.time() - os.fstat(f.fileno()).st_mtime
        here = values["machine"] == machine() and values["host"] == settings().host
        if age < processes.LEASE and (not here or _lives_here(path.name)):
            return Server(path.name, values["host"], values["machine"])
    return None


def _lives_here(name: str) -> bool:
    """Of a server that bears this machine's mark."""
    _, pid, started = name.split("-")
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(int(pid))
        return bool(abs(process.create_time() * 100 - int(started, 16)) < 10 and process.status() != psutil.STATUS_ZOMBIE)
    return False


def is_there(name: str) -> bool:
    """Whether the server that had the name is still at work."""
    return "/" not in name and _read(folder() / name) is not None


def on(mark: str) -> bool:
    """Whether a server lives on the machine that names of files mark so."""
    return any(one.name.startswith(f"{mark}-") for one in living())


def holds(one: Server) -> bool:
    """Whether the other server has its file locked, as seen from here; it has as long as it lives, where locks hold between machines."""
    with contextlib.suppress(OSError), open(folder() / one.name, "r+", encoding="utf-8") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
    return False


def beat(one: Server) -> float:
    """When it last showed that it is there, seconds since 1970 by its own clock; 0 once it has ended."""
    with contextlib.suppress(OSError), open(folder() / one.name, encoding="utf-8") as f:
        return os.fstat(f.fileno()).st_mtime
    return 0.0


def alone(what: str) -> filelock.FileLock:
    """A lock of that name among all servers and their processes."""
    locks = settings().home / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(locks / f"{what}.lock", is_singleton=True)
