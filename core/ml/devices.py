"""Devices: which are here, and what their memory holds."""

from __future__ import annotations

import psutil
import torch

from core.errors import Invalid


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
