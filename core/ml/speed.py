"""How many images a second a network learns from on this machine, in its own process: python -m core.ml.speed FOLDER."""

from __future__ import annotations

import sys
import time
import traceback
from importlib.metadata import version
from pathlib import Path
from statistics import median

import torch
from torch import nn
from torch.nn import functional as F

from core import processes
from core.catalog import networks
from core.errors import AppError, Invalid
from core.ml.devices import device_name, device_of, pick_device, slots
from core.ml.model import create
from core.ml.turns import turn
from core.runs import runs
from core.types import Architecture, Preprocess, now

SECONDS = 2.0  # of steps, at least, for each network
CLASSES = 10
BATCH = {"cpu": 8}  # images; a GPU needs more to be busy
GPU_BATCH = 32
SMALL = 64  # pixels: up to here a batch of 64 is the usual one


def main(folder: Path) -> None:
    """Measures the networks of the folder's job.json, one line of events for each; speed.json is kept up to date."""
    names = runs.read_json(folder / "job.json")["names"]
    with turn(folder, slots(pick_device("auto").type)) as held:
        device = device_of(held[0])
        for done, name in enumerate(names):
            arch = networks.architecture(name)
            runs.append_line(folder, {"kind": "Measuring", "title": arch.title, "done": done, "total": len(names)})
            try:
                side, per_second = measure(arch, device)
            except (AppError, MemoryError, RuntimeError) as e:  # torch.OutOfMemoryError is a RuntimeError
                traceback.print_exc()
                runs.append_line(folder, {"kind": "Failed", "title": arch.title, "message": f"{type(e).__name__}"})
            else:
                keep(folder.parent / "speed.json", name, device_name(device), side, per_second)
    runs.append_line(folder, {"kind": "Done"})


def measure(arch: Architecture, device: torch.device) -> tuple[int, float]:
    """The side of the pictures, and images per second of forward, backward and one step of SGD."""
    if arch.measurable is None:
        raise Invalid(f"What {arch.title} is, is said by a run's settings alone.", "Choose a network of a known size.")
    channels, side = arch.measurable
    batch = 64 if side <= SMALL else BATCH.get(device.type, GPU_BATCH)
    model = create(arch, CLASSES, Preprocess(channels, side, side, (0.0,) * channels, (1.0,) * channels)).to(device).train()
    x = torch.rand(batch, channels, side, side, device=device)
    if any(isinstance(m, nn.Conv2d) for m in model.modules()):  # as in training
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = x.contiguous(memory_format=torch.channels_last)
    truth = torch.arange(batch, device=device) % CLASSES
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    precise = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")

    def step() -> float:
        begun = time.perf_counter()
        optimizer.zero_grad()
        with precise:
            loss = F.cross_entropy(model(x), truth)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()  # waits for the device
        return time.perf_counter() - begun

    step()
    seconds: list[float] = []
    while sum(seconds) < SECONDS or len(seconds) < 2:
        seconds.append(step())
    return side, batch / median(seconds)


def keep(path: Path, name: str, device: str, side: int, per_second: float) -> None:
    """Adds one figure; those of another PyTorch or another device are dropped."""
    stored = runs.read_json(path) if path.exists() else {}
    where = {"torch": version("torch"), "device": device}
    speeds = stored["speeds"] if stored and {k: stored[k] for k in where} == where else {}
    speeds[name] = {"images_per_s": per_second, "side": side, "at": now()}
    runs.write_json(path, {**where, "speeds": speeds})


if __name__ == "__main__":
    processes.keep(Path(sys.argv[1]).resolve())
    main(Path(sys.argv[1]).resolve())
