"""Devices: which are here, and what their memory holds."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from core.errors import Invalid
from core.ml import turns
from core.settings import settings


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


def slots(kind: str) -> list[str]:
    """What trains one run at a time: every GPU, and the CPU as one or in parts."""
    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] if kind == "cuda" else turns.parts(kind)


def device_of(slot: str, together: int = 1) -> torch.device:
    """The slot's device; of the CPU, this process takes the slot's threads, or its part where several ranks are together on it."""
    if not slot.startswith("cpu"):
        return torch.device(slot)
    if (parts := settings().cpu_devices * together) > 1:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // parts))
    return torch.device("cpu")


def unused_gpu() -> torch.device | None:
    """The first GPU on which no run trains."""
    if not torch.cuda.is_available():
        return None
    return next((torch.device(slot) for slot in slots("cuda") if not turns.holder(slot)), None)


def state() -> dict[str, tuple[str, str, int, int]]:
    """Of each of the machine's slots: what the device is called, which run has it ("" none), bytes of its memory, used and in all."""
    found = {}
    for slot in (slot for kind in here() for slot in slots(kind)):
        if slot.startswith("cuda"):
            unused, whole = torch.cuda.mem_get_info(torch.device(slot))
            name = device_name(torch.device(slot))
        else:
            machine = psutil.virtual_memory()
            unused, whole, name = machine.available, machine.total, slot
        found[slot] = (name, turns.holder(slot), int(whole - unused), int(whole))
    return found


# Memory


def free_memory(device: torch.device) -> int:
    """Bytes, of the GPU's own memory or of the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def whole_memory() -> int:
    """Bytes: the machine's, or what the container of this process (its control group) is given of them."""
    most = int(psutil.virtual_memory().total)
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, kind, path = line.split(":", 2)
            file = {"": f"{path}/memory.max", "memory": f"memory{path}/memory.limit_in_bytes"}.get(kind)
            with suppress(OSError, ValueError):  # not to be seen from inside; or “max”
                most = min(most, int(Path(f"/sys/fs/cgroup/{file}").read_text(encoding="ascii")))
    return most


def out_of_memory(e: BaseException) -> bool:
    """Also in PyTorch's own words on the CPU."""
    return isinstance(e, MemoryError | torch.OutOfMemoryError) or (isinstance(e, RuntimeError) and "can't allocate memory" in str(e))


def memory_mb(device: torch.device) -> float:
    """What was used at most of the GPU's memory, or is used now by the process."""
    used = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss
    return float(used / 1e6)
