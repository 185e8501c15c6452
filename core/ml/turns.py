"""Whose turn it is on a device; known without PyTorch, for whoever waits needs none."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from core.errors import Stopped
from core.runs import runs
from core.settings import settings
from core.types import Ended, EpochEnd, Queued, Started, now

GPUS = ("/dev/nvidiactl", "/dev/nvmap", "/dev/dxg", "/dev/kfd")  # NVIDIA's, Jetson's, Windows' for Linux, AMD's


def known(asked: str) -> str | None:
    """The device that pick_device() takes, where that is sure without PyTorch."""
    no_gpu = sys.platform == "linux" and not any(Path(path).exists() for path in GPUS)
    return "cpu" if asked == "cpu" or (asked == "auto" and no_gpu) else None


def device_lock(device: str) -> filelock.FileLock:
    """Held by who has the device (cpu, cuda, mps) to himself."""
    locks = settings().home / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(locks / f"{device}.lock")


@contextmanager
def turn(folder: Path, device: str) -> Iterator[None]:
    """One device trains one run at a time, first come, first served; raises Stopped if the run is stopped or paused while it waits."""
    lock = device_lock(device)
    line = settings().home / "locks" / f"{device}.line"
    line.mkdir(exist_ok=True)
    ticket = line / f"{time.time_ns():020d}-{folder.name}"
    held = filelock.FileLock(ticket)  # until its run has the device, or its process is gone
    held.acquire()
    said = 0
    try:
        while True:
            if (place := 1 + ahead(ticket)) == 1 and free(lock):
                break
            if place != said:
                runs.append(folder, Queued(device, now(), place))
                said = place
            if halt_requested(folder):
                raise Stopped
            time.sleep(0.3)
    finally:
        ticket.unlink(missing_ok=True)
        held.release()
    try:
        yield
    finally:
        lock.release()


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
