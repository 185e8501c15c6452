"""Devices: which are here, whose turn it is on each, and what their memory holds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
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
    if asked == "auto":
        return torch.device(here()[0])
    if asked not in here():
        raise Invalid(f"This machine has no {asked} device.", f"Choose auto, or one of: {', '.join(here())}.")
    return torch.device(asked)


def here() -> list[str]:
    """The kinds of device of this machine, the fastest first."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [name for name, there in present.items() if there]


def device_name(device: torch.device) -> str:
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


# Turns


def slots(kind: str) -> list[str]:
    """What trains one run at a time: every GPU, and the CPU as one or in as many equal parts as LOUPE_CPU_DEVICES says."""
    if kind == "cuda":
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    parts = settings().cpu_devices if kind == "cpu" else 1
    return [kind] if parts == 1 else [f"{kind}:{i}" for i in range(parts)]


def device_of(slot: str, together: int = 1) -> torch.device:
    """The slot's device; of the CPU, this process takes the slot's threads, or its part where several ranks are together on it."""
    if not slot.startswith("cpu"):
        return torch.device(slot)
    if (parts := settings().cpu_devices * together) > 1:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // parts))
    return torch.device("cpu")


def slot_lock(slot: str) -> filelock.FileLock:
    """Held by who has the slot to himself."""
    locks = settings().home / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(locks / f"{slot.replace(':', '')}.lock")


@contextmanager
def turn(folder: Path, device: torch.device, count: int = 1) -> Iterator[list[str]]:
    """The slots of a run, which it has to itself: the first free ones, first come, first served.

    There is one line for all slots of a kind, so that nobody waits for one while another is free. The CPU's ranks share its slots.
    Raises Invalid if there are too few, and Stopped if the run is stopped or paused while it waits.
    """
    kind, names = device.type, slots(device.type)
    if kind != "cpu" and count > len(names):
        raise Invalid(f"The run asks for {count} devices of the kind {kind}, and this machine has {len(names)}.", "Ask for fewer devices.")
    line = settings().home / "locks" / f"{kind}.line"
    line.mkdir(parents=True, exist_ok=True)
    ticket = line / f"{time.time_ns():020d}-{folder.name}"
    queued = filelock.FileLock(ticket)  # until its run has its devices, or its process is gone
    queued.acquire()
    said, held = 0, dict[str, filelock.FileLock]()
    try:
        while True:
            if (place := 1 + ahead(ticket)) == 1 and (held := take(names, min(count, len(names)))):
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
            owner(lock).write_text(folder.name)
        yield list(held)
    finally:
        for lock in held.values():
            owner(lock).unlink(missing_ok=True)
            lock.release()


def take(names: Sequence[str], count: int) -> dict[str, filelock.FileLock]:
    """The locks of so many free slots, held now; {} where fewer are free."""
    found: dict[str, filelock.FileLock] = {}
    for name in names:
        if len(found) < count and free(lock := slot_lock(name)):
            found[name] = lock
    if len(found) == count:
        return found
    for lock in found.values():
        lock.release()
    return {}


def holders() -> dict[str, str]:
    """Which run has each of the machine's slots; "" none."""
    found = {}
    for slot in (slot for kind in here() for slot in slots(kind)):
        found[slot] = ""
        if free(lock := slot_lock(slot)):
            lock.release()
        elif (name := owner(lock)).exists():
            found[slot] = name.read_text()
    return found


def memory() -> dict[str, tuple[str, int, int]]:
    """Of each slot: what the device is called, and bytes of its memory, used and in all."""
    found = {}
    for slot in (slot for kind in here() for slot in slots(kind)):
        if slot.startswith("cuda"):
            unused, whole = torch.cuda.mem_get_info(torch.device(slot))
        else:
            machine = psutil.virtual_memory()
            unused, whole = machine.available, machine.total
        found[slot] = (device_name(device_of(slot)) if slot.startswith("cuda") else slot, int(whole - unused), int(whole))
    return found


def owner(lock: filelock.FileLock) -> Path:
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
