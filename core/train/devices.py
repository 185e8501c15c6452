"""Which device trains what, how full its memory is, and who waits."""

from __future__ import annotations

from dataclasses import dataclass

from core import roles
from core.errors import Unavailable
from core.runs import cluster, launch, remote
from core.settings import settings
from core.train import train, watch

SECONDS = 1.0  # for the model worker's answer: a page that is drawn every two seconds does not wait longer


@dataclass(frozen=True)
class Device:
    """One line of its own: a GPU, the CPU or a part of it, or a node of the cluster."""

    name: str  # cpu, cuda:0 (NVIDIA …)
    run: str  # its title, or those of a node's; "" free
    used: int  # bytes of its memory
    memory: int  # bytes in all


def devices() -> tuple[list[Device], list[str]] | None:
    """The devices, of a cluster its nodes and of this machine what trains there none the less, and the titles of the runs in line, first come first; None while the model worker is busy.

    What trains in a dataset that the person may not see is told without its title.
    """
    roles.allow_somewhere("see")
    nodes, found = list[Device](), list[train.RunState]()
    if settings().ray_address:
        found = train.list_runs()
        nodes = _nodes(found)
        if not any(one.active and not one.host and not launch.of_cluster(settings().runs / one.run.id) for one in found):
            return nodes, _waiting(found)
    asked = launch.submit(remote.devices.state)
    try:
        slots = launch.result(asked, SECONDS)
    except TimeoutError:
        asked.cancel()
        return (nodes, _waiting(found)) if settings().ray_address else None
    found = train.list_runs()
    titles = _titles(found)
    listed = [
        Device(watch.device(title), titles.get(run_id, "another run") if run_id else "", used, whole)
        for title, run_id, used, whole in slots.values()
        if run_id or not settings().ray_address
    ]
    return nodes + listed, _waiting(found)


def _titles(found: list[train.RunState]) -> dict[str, str]:
    return {one.run.id: f"{one.run.name} ({one.run.dataset_name})" for one in found}


def _waiting(found: list[train.RunState]) -> list[str]:
    titles = _titles(found)
    return [titles[one.run.id] for one in sorted((one for one in found if one.place is not None), key=lambda one: one.place or 0)]


def _nodes(found: list[train.RunState]) -> list[Device]:
    """Of the cluster; [] while it does not answer, which each run that waits for it says."""
    titles = _titles(found)
    try:
        doing = cluster.trained_on()
        return [
            Device(
                f"{node.name}, {node.whole.words or 'no CPU for jobs'}",
                " and ".join(titles.get(run_id, "another run") if run_id else "another job" for run_id in doing.get(node.id, ())),
                node.used,
                node.memory,
            )
            for node in cluster.nodes()
        ]
    except Unavailable:
        return []
