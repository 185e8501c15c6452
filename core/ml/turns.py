"""Whose turn it is on a device; known without PyTorch, for whoever waits needs none."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import filelock

from core import servers
from core.errors import Invalid, Stopped
from core.runs import runs
from core.settings import settings
from core.types import Ended, EpochEnd, Queued, Started, now

GPUS = ("/dev/nvidiactl", "/dev/nvmap", "/dev/dxg", "/dev/kfd")  # NVIDIA's, Jetson's, Windows' for Linux, AMD's


def known(asked: str) -> str | None:
    """The device that pick_device() takes, where that is sure without PyTorch."""
    no_gpu = sys.platform == "linux" and not any(Path(path).exists() for path in GPUS)
    return "cpu" if asked == "cpu" or (asked == "auto" and no_gpu) else None


def parts(kind: str) -> list[str]:
    """The slots of a kind of device that is here once: the CPU as one, or in as many equal parts as LOUPE_CPU_DEVICES says."""
    count = settings().cpu_devices if kind == "cpu" else 1
    return [kind] if count == 1 else [f"{kind}:{i}" for i in range(count)]


def home() -> Path:
    """Where the locks of this machine's devices lie: another one has a CPU of its own, and its containers have not."""
    return settings().home / "locks" / servers.machine()


def slot_lock(slot: str) -> filelock.FileLock:
    """Held by who has the slot (cpu, cpu:1, cuda:0, mps) to himself."""
    locks = home()
    locks.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(locks / f"{slot.replace(':', '')}.lock")


@contextmanager
def turn(folder: Path, slots: Sequence[str], count: int = 1) -> Iterator[list[str]]:
    """So many of the slots of a kind, for this run alone: the first free ones, first come, first served.

    There is one line for all of them, so that nobody waits for one while another is free. On the CPU ranks may share a slot.
    Raises Invalid if there are too few, and Stopped if the run is stopped or paused while it waits.
    """
    kind = slots[0].partition(":")[0]
    if os.environ.get("LOUPE_RAY_JOB"):  # Ray has given it what it asked for; locks in a shared folder would let one node train at a time
        yield [slots[i % len(slots)] for i in range(count)]  # ranks on other nodes see theirs alone, by the same name
        return
    if kind != "cpu" and count > len(slots):
        raise Invalid(f"The run asks for {count} devices of the kind {kind}, and this machine has {len(slots)}.", "Ask for fewer devices.")
    line = home() / f"{kind}.line"
    line.mkdir(parents=True, exist_ok=True)
    ticket = line / f"{time.time_ns():020d}-{folder.name}"
    queued = filelock.FileLock(ticket)  # until its run has its devices, or its process is gone
    queued.acquire()
    said, held = 0, dict[str, filelock.FileLock]()
    try:
        while True:
            if (place := 1 + ahead(ticket)) == 1 and (held := take(slots, min(count, len(slots)))):
                break
            if place != said:
                runs.append(folder, Queued(kind, now(), place))
                said = place
            if halt_requested(folder):
                raise Stopped
            time.sleep(0.3)
    finally:
        ticket.unlink(missing_ok=True)
        queued.release()
    try:
        for lock in held.values():
            named(lock).write_text(folder.name)
        yield list(held)
    finally:
        for lock in held.values():
            named(lock).unlink(missing_ok=True)
            lock.release()


def take(slots: Sequence[str], count: int) -> dict[str, filelock.FileLock]:
    """The locks of so many free slots, held now; {} where fewer are free."""
    found: dict[str, filelock.FileLock] = {}
    for slot in slots:
        if len(found) < count and free(lock := slot_lock(slot)):
            found[slot] = lock
    if len(found) == count:
        return found
    for lock in found.values():
        lock.release()
    return {}


def holder(slot: str) -> str:
    """The name of the run's folder that has the slot; "" none."""
    if free(lock := slot_lock(slot)):
        lock.release()
        return ""
    return named(lock).read_text() if named(lock).exists() else ""


def named(lock: filelock.FileLock) -> Path:
    """Where the name of the run stands that has the slot."""
    return Path(lock.lock_file).with_suffix(".run")


def free(lock: filelock.FileLock) -> bool:
    """Whether it could be taken, and is now."""
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return False
    return True


def ahead(ticket: Path) -> int:
    """How many wait longer; the tickets of processes that are gone are taken away."""
    waiting = 0
    for other in sorted(ticket.parent.iterdir()):
        if other.name >= ticket.name:
            break
        if free(theirs := filelock.FileLock(other)):
            other.unlink(missing_ok=True)
            theirs.release()
        else:
            waiting += 1
    return waiting


def halt_requested(folder: Path) -> bool:
    return runs.stop_requested(folder) or runs.pause_requested(folder)


def halted(folder: Path) -> Ended:
    """The end of a run that was stopped or paused while it waited or made itself ready; seconds: by its last end, if it was resumed."""
    history = runs.events(folder)
    ends = [e for e in history if isinstance(e, Ended)]
    best = next((e.best_epoch for e in reversed(history) if isinstance(e, EpochEnd)), None)
    before = "it went on" if any(isinstance(e, Started) for e in history) else "the training began"
    seconds = ends[-1].seconds if ends else 0.0
    if runs.stop_requested(folder):
        return Ended("stopped", best or None, f"Stopped before {before}.", seconds, now())
    return Ended("paused", best or None, f"Paused before {before}.", seconds, now())
