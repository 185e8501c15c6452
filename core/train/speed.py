"""How fast networks learn on this machine: measured once, in the background, and kept in speed.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from core import roles
from core.catalog import networks
from core.errors import Conflict
from core.runs import launch, runs
from core.settings import settings


@dataclass(frozen=True)
class Speed:
    images_per_s: float  # forward, backward and the step, all layers learning
    side: int  # pixels, of the pictures it was measured with
    device: str


def known() -> dict[str, Speed]:
    """What was measured with the PyTorch that is installed, by the network's name."""
    try:
        stored = runs.read_json(settings().home / "speed.json")
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    if stored["torch"] != version("torch"):
        return {}
    return {name: Speed(row["images_per_s"], row["side"], stored["device"]) for name, row in stored["speeds"].items()}


def measurable() -> list[str]:
    """The named networks whose size is known beforehand."""
    return [name for name, arch in networks.ARCHITECTURES.items() if arch.measurable]


def measure(names: Sequence[str]) -> None:
    """Starts measuring in a process of its own, which waits for its turn on the device; Conflict while one is going on."""
    roles.allow_somewhere("train")
    for name in names:
        networks.architecture(name)
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    if launch.launcher.alive(folder):
        raise Conflict("The speed is being measured already.", "Wait until it is done; it takes a few seconds for each network.")
    (folder / "events.jsonl").unlink(missing_ok=True)
    runs.write_json(folder / "job.json", {"names": list(names)})
    launch.launcher.start(folder, launch.python("core.ml.speed", str(folder)))


def progress() -> str:
    """What is being measured, "" if nothing is."""
    folder = _folder()
    if not folder.exists() or not launch.launcher.alive(folder):
        return ""
    lines = runs.read_lines(folder)[0]
    if not lines:
        return "Measuring begins"
    last = lines[-1]
    if last["kind"] == "Queued":
        return "Measuring waits for the run that has the device"
    return f"Measuring {last['title']}, {last['done'] + 1} of {last['total']}" if last["kind"] == "Measuring" else "Measuring"


def _folder() -> Path:
    return settings().home / "speed"
