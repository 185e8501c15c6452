"""Which device trains what, how full its memory is, and who waits."""

from __future__ import annotations

from dataclasses import dataclass

from core import roles
from core.runs import launch, remote
from core.train import train, watch

SECONDS = 1.0  # for the model worker's answer: a page that is drawn every two seconds does not wait longer


@dataclass(frozen=True)
class Device:
    """One line of its own: a GPU, or the CPU or a part of it."""

    name: str  # cpu, cuda:0 (NVIDIA …)
    run: str  # its title; "" free
    used: int  # bytes of its memory
    memory: int  # bytes in all


def devices() -> tuple[list[Device], list[str]] | None:
    """The devices, and the titles of the runs in line, first come first; None while the model worker is busy.

    What trains in a dataset that the person may not see is told without its title.
    """
    roles.allow_somewhere("see")
    asked = launch.submit(remote.devices.state)
    try:
        slots = launch.result(asked, SECONDS)
    except TimeoutError:
        asked.cancel()
        return None
    found = train.list_runs()
    titles = {one.run.id: f"{one.run.name} ({one.run.dataset_name})" for one in found}
    waiting = sorted((one for one in found if one.place is not None), key=lambda one: one.place or 0)
    listed = [
        Device(watch.device(title), titles.get(run_id, "another run") if run_id else "", used, whole)
        for title, run_id, used, whole in slots.values()
    ]
    return listed, [titles[one.run.id] for one in waiting]
