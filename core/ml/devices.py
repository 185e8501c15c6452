"""Devices: which are here, whose turn it is on each, and what their memory holds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import psutil
import torch

from core.errors import Invalid, Stopped
from core.runs import runs
from core.settings import settings
from core.types import Queued, now


def pick_device(asked: str) -> torch.device:
    """Auto takes the first of cuda, mps and cpu; Invalid if the one asked for is not here."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    here = [name for name, there in present.items() if there]
    if asked == "auto":
        return torch.device(here[0])
    if asked not in here:
        raise Invalid(f"This machine has no {asked} device.", f"Choose auto, or one of: {', '.join(here)}.")
    return torch.device(asked)


def device_name(device: torch.device) -> str:
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


# Turns


def device_lock(device: torch.device) -> filelock.FileLock:
    """Held by who has the device to himself."""
    locks = settings().home / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(locks / f"{device.type}.lock")


@contextmanager
def turn(folder: Path, device: torch.device) -> Iterator[None]:
    """One device trains one run at a time, first come, first served; raises Stopped if the run is stopped or paused while it waits."""
    lock = device_lock(device)
    line = settings().home / "locks" / f"{device.type}.line"
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
                runs.append(folder, Queued(device.type, now(), place))
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


# Memory


def free_memory(device: torch.device) -> int:
    """Bytes, of the GPU's own memory or of the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def out_of_memory(e: BaseException) -> bool:
    """Also in PyTorch's own words on the CPU."""
    return isinstance(e, MemoryError | torch.OutOfMemoryError) or (isinstance(e, RuntimeError) and "can't allocate memory" in str(e))


def memory_mb(device: torch.device) -> float:
    """What was used at most of the GPU's memory, or is used now by the process."""
    used = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss
    return float(used / 1e6)
