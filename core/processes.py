"""Processes on this machine and on others: whether one is still there, what it has in hand, and which end with another."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import psutil

from core.settings import settings

HANDLE = "handle.json"  # in the folder of a run or job: the process that works at it, or has
BEAT, LEASE = 2.0, 20.0  # seconds between two signs of life, and after the last one until others may go on with the work
BEGIN = 40.0  # more of them until the first: torchrun loads PyTorch before it starts its ranks, on a busy machine in half a minute


def lives(pid: int, since: float) -> bool:
    """Whether the process of this machine that had the pid at that time (seconds since 1970) is still there."""
    try:
        process = psutil.Process(pid)
        return bool(process.create_time() < since + 2 and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Of the machine since it was started, the same in all its containers; "" where the system has none."""
    with suppress(FileNotFoundError, PermissionError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def birth(pid: int) -> str:
    """What the process that has the pid now shares with no other that had it or will have it; "" where there is none.

    A clock that is set moves psutil's create_time(), and not this, where the system has a boot id.
    """
    if boot := boot_id():
        with suppress(OSError):
            ticks = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19]  # proc(5): its start, since the machine's
            return hashlib.sha256(boot.encode() + ticks).hexdigest()[:12]
        return ""
    with suppress(psutil.NoSuchProcess):
        return f"{round(psutil.Process(pid).create_time() * 100):x}"
    return ""


def code_hash() -> str:
    """Of Loupe's code, as it lies on this disk."""
    found, root = hashlib.sha256(), Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        found.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def fresh(at: float) -> bool:
    """Whether a sign of life is recent; one from further ahead than any is given was given before the clock was set back."""
    return -(BEGIN + LEASE) < time.time() - at < LEASE


def live_with(parent: int) -> None:
    """Ends this process soon after its parent has ended, however that came about."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# Files that are a process's own -------------------------------------------------------------------


@dataclass(frozen=True)
class Maker:
    """Of a temporary file."""

    host: str  # mark(); "" as an earlier Loupe wrote it, which knew one machine
    pid: int

    @property
    def here(self) -> bool:
        return self.host in ("", mark())


def mark() -> str:
    """The machine in names of files, of one length whatever it is called."""
    return hashlib.sha256(settings().host.encode()).hexdigest()[:8]


def own(joint: str = "-") -> str:
    """What stands in the name of a file that is this process's own."""
    return f"@{mark()}{joint}{os.getpid()}"


def temporary(path: Path) -> Path:
    """Beside the path, for this thread alone; machine and process in its name say whether it is still of use."""
    return path.with_name(f".{path.name}.{own('.')}.{threading.get_ident()}.tmp")  # two pages of one server may write the same


def maker(path: Path) -> Maker | None:
    """Whose a temporary file or folder, a .progress or a .stop is; None of what is none of these."""
    found = re.search(r"[.-](?:@([0-9a-f]{8})[.-])?([0-9]+)[.-]\w+\.(?:tmp|progress|stop)$", path.name)
    return Maker(found[1] or "", int(found[2])) if found else None


# Work in the hands of one process -----------------------------------------------------------------


@dataclass(frozen=True)
class Handle:
    """Who works at a folder."""

    host: str  # "" as an earlier Loupe wrote it
    pid: int
    started: float  # seconds since 1970
    beat: float  # the same, of its last sign of life
    born: str = ""  # birth(); "" as an earlier Loupe wrote it

    @property
    def here(self) -> bool:
        return self.host in ("", settings().host)

    @property
    def beats(self) -> bool:
        return fresh(self.beat)

    def is_of(self, pid: int) -> bool:
        """By the time of its start, too: machines have the same numbers, and may be called something else by now."""
        if pid != self.pid:
            return False
        if self.born:
            return birth(pid) == self.born
        with suppress(psutil.NoSuchProcess):
            return bool(abs(psutil.Process(pid).create_time() - self.started) < 0.1)
        return False


def handle(folder: Path) -> Handle | None:
    """None where nobody ever began, or the file is damaged."""
    with suppress(OSError, ValueError, KeyError, TypeError), open(folder / HANDLE, encoding="utf-8") as f:
        # Of the open file: to open it is what makes a shared folder ask its server anew.
        values, beat = json.load(f), os.fstat(f.fileno()).st_mtime
        return Handle(values.get("host", ""), int(values["pid"]), float(values["started"]), beat, values.get("born", ""))
    return None


def show(path: Path, ahead: float = 0.0) -> None:
    """A sign of life, by this machine's clock and not by that of the shared folder."""
    at = time.time() + ahead
    os.utime(path, (at, at))


def keep(folder: Path) -> None:
    """Shows from now on that this process works at the folder whose handle names it, or the one that began it.

    Once the handle names another process, this one ends: it was taken for dead, and two would write the same files.
    """

    def beat() -> None:
        mine: tuple[str, int, float] | None = None
        while True:
            found = handle(folder)
            named = (found.host, found.pid, found.started) if found else None
            if found is not None and mine is None and (found.is_of(os.getpid()) or found.is_of(os.getppid())):
                mine = named  # and not asked of the system again: a clock that is set must not end it
            if mine is not None and named == mine:
                with suppress(OSError):
                    show(folder / HANDLE)
            elif mine is not None and found is not None:
                print(f"Another process works at {folder.name} now, on {found.host or 'this machine'}: this one ends.", file=sys.stderr)
                os._exit(1)
            time.sleep(BEAT)

    threading.Thread(target=beat, daemon=True, name="beat").start()


def confine(most: int) -> None:
    """Bounds this process's address space, in bytes; an alarm, or what goes beyond, ends it and leaves no core dump."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = most if hard == resource.RLIM_INFINITY else min(hard, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the alarm kills: a handler would wait for a C loop that never returns
