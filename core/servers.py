"""Servers that share one LOUPE_HOME: each shows every few seconds that it is there, in a file that it holds locked meanwhile."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO

import filelock
import psutil

from core import processes
from core.errors import Conflict
from core.settings import settings

MOST_APART = 5.0  # seconds, of the clocks of two of them
KEPT = 3600  # seconds that the file of a server is kept which ended without a word: longer than what the database knows of it
UNUSED = 7 * 24 * 3600  # seconds until the locks of a machine are taken away on which nothing was trained
log = logging.getLogger("loupe.server")


@dataclass(frozen=True)
class Server:
    name: str
    host: str
    machine: str
    code: str  # processes.code_hash(); "" of an earlier Loupe


@dataclass
class _Here:
    """What this process has of being a server."""

    file: IO[str] | None = None
    over: threading.Event = field(default_factory=threading.Event)
    turn: threading.Lock = field(default_factory=threading.Lock)  # the file must not be made anew by one thread while another leaves


_here = _Here()


def name() -> str:
    """Of this process among all servers; by it others ask whether it is still there."""
    return _name(processes.mark(), os.getpid())


@lru_cache(maxsize=8)
def _name(mark: str, pid: int) -> str:
    return f"{mark}-{pid}-{processes.birth(pid)}"


def machine() -> str:
    """The same for all processes between which the locks of a local disk hold: containers of one machine have names of their own."""
    return settings().host if settings().host_given else processes.boot_id() or settings().host


@lru_cache(maxsize=1)
def code() -> str:
    """The hash of the code that this process has; what lies on the disk may be another by now."""
    return processes.code_hash()


def folder() -> Path:
    return settings().home / "servers"


def join() -> threading.Event:
    """Shows from now on that this server is there, until it leaves, which sets the event; OSError where it cannot, as on a full disk."""
    _here.file, over = _written(folder() / name()), threading.Event()
    _here.over = over
    now_and_then(processes.BEAT, _beat, over)
    with contextlib.suppress(OSError):
        _sweep()
    return over


def is_here() -> bool:
    """Whether this server has shown itself."""
    return _here.file is not None


def _written(path: Path) -> IO[str]:
    """The file of this server, locked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    f = open(path, "w", encoding="utf-8")  # noqa: SIM115
    try:
        fcntl.flock(f, fcntl.LOCK_EX)
        json.dump({"host": settings().host, "machine": machine(), "code": code()}, f)
        f.flush()
    except OSError:
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it writes once more what it could not
            f.close()
        raise
    return f


def _beat() -> None:
    with _here.turn:
        if _here.file is None or _here.over.is_set():
            return
        try:
            processes.show(Path(_here.file.name))
        except FileNotFoundError:  # somebody took it away
            _here.file.close()
            _here.file = _written(Path(_here.file.name))


def _sweep() -> None:
    """Takes away the files of servers that are gone, and the locks of machines that are: a machine has a new id with each start."""
    for path in folder().glob("*-*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > KEPT:
                path.unlink()
    for locks in (path for path in (settings().home / "locks").glob("*") if path.is_dir()):
        # Who trains there writes and removes a name in the folder: its time says when that was.
        unused = locks.name != machine() and time.time() - locks.stat().st_mtime > UNUSED
        if unused and not any(_is_held(path) for path in locks.glob("*.lock")):
            shutil.rmtree(locks, ignore_errors=True)


def _is_held(path: Path) -> bool:
    with open(path, "r+b") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def now_and_then(seconds: float, show: Callable[[], object], over: threading.Event) -> None:
    """Does it in a thread of its own until it is over; it may fail while a folder or a database is away, which is said once."""

    def loop() -> None:
        failed = False
        while not over.wait(seconds):
            try:
                show()
            except Exception as e:
                if not failed:
                    log.warning("this server could not show that it is there: %s", e)
                failed = True
            else:
                if failed:
                    log.warning("this server shows again that it is there")
                failed = False

    threading.Thread(target=loop, daemon=True, name="server").start()


def end() -> None:
    """Shows itself no more; the file stays until it leaves."""
    _here.over.set()


def leave() -> None:
    end()
    with _here.turn:
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


def refuse_other_code() -> None:
    """Conflict where another server is at work with other code: each would write what the other does not know."""
    for one in living():
        if one.name != name() and one.code != code():
            raise Conflict(
                f"The server {one.host} is at work on {settings().home} with another version of Loupe's code than this one.",
                "To update, end all servers, bring all to the same version, and start them; one that was killed counts for "
                f"{processes.LEASE:.0f} s more.",
            )


def _read(path: Path) -> Server | None:
    """None of one that is gone."""
    with contextlib.suppress(OSError, ValueError, KeyError), open(path, encoding="utf-8") as f:
        values, beat = json.load(f), os.fstat(f.fileno()).st_mtime
        here = values["machine"] == machine() and values["host"] == settings().host
        if processes.fresh(beat) and (not here or _lives_here(path.name)):
            return Server(path.name, values["host"], values["machine"], values.get("code", ""))
    return None


def _lives_here(name: str) -> bool:
    """Of a server that bears this machine's mark."""
    _, pid, born = name.split("-")
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(processes.birth(int(pid)) == born and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE)
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
