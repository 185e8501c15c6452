"""One run on several devices of a Ray cluster, wherever they are: a rank of the worker on each.

python -m core.runs.on_ray.ranks FOLDER HASH CPUS GPUS RANKS, begun by core.runs.node. Ray's own trainer would want the training loop to be
its; here it places processes, and they meet as those that torchrun starts.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.util.placement_group import placement_group, placement_group_table
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from core.runs import cluster, launch, node, runs

EVERY = 2.0  # seconds between two looks at whose run it is


def meeting_point() -> tuple[str, int]:
    """The address of the node that this is called on, and a port of it on which nobody listens."""
    with socket.socket() as s:
        s.bind(("", 0))
        return ray.util.get_node_ip_address(), int(s.getsockname()[1])


def address() -> str:
    return str(ray.util.get_node_ip_address())


def rank(folder: Path, code: str, env: dict[str, str]) -> str:
    """Trains as one of several on the node that this is called on; "" or why it did not come to its end."""
    if why := node.refusal(folder, code):
        return why
    mine = address()
    names = (name for name, held in psutil.net_if_addrs().items() if any(one.address == mine for one in held))
    if name := next(names, ""):  # else gloo takes the one that the host's name leads to
        env = {**env, "GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": name}
    status = launch.status_of(launch.python("core.ml.worker", str(folder)), folder / "worker.log", env)
    return f"The process of rank {env['RANK']} on {socket.gethostname()} ended with status {status}." if status else ""


def main(folder: Path, code: str, cpus: int, gpus: int, ranks: int) -> None:
    """Waits for room, then until the ranks have ended: all of them, if one fails or its node dies."""
    job = os.environ["LOUPE_RAY_JOB"]
    ray.init(log_to_driver=False)
    room = placement_group([{"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}] * ranks, strategy="PACK")
    while not room.wait(EVERY):
        if not runs.works_at(folder, job):  # stopped while it waited, or given to another
            return
    placed = sorted(set(placement_group_table(room)["bundles_to_node_id"].values()))
    if not runs.works_at(folder, job):
        return
    cluster.note(folder, job, placed=placed)

    def on(bundle: int, function: Any, *args: Any) -> Any:
        where = PlacementGroupSchedulingStrategy(room, placement_group_bundle_index=bundle)
        return ray.remote(function).options(num_cpus=cpus, num_gpus=gpus, max_retries=0, scheduling_strategy=where).remote(*args)

    try:
        (host, port), *others = ray.get([on(0, meeting_point), *(on(i, address) for i in range(1, ranks))])
        hosts = [host, *others]
        begun = [
            on(
                i,
                rank,
                folder,
                code,
                {
                    "RANK": str(i),
                    "WORLD_SIZE": str(ranks),
                    "LOCAL_RANK": str(hosts[:i].count(hosts[i])),
                    "LOCAL_WORLD_SIZE": str(hosts.count(hosts[i])),
                    "MASTER_ADDR": host,
                    "MASTER_PORT": str(port),
                },
            )
            for i in range(ranks)
        ]
        while begun:
            (ended,), begun = ray.wait(begun)
            if why := ray.get(ended):
                node.refuse(why)
    except ray.exceptions.RayError:  # its worker or its node has died
        node.refuse("A node of the Ray cluster that trained it is gone.")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *(int(one) for one in sys.argv[3:]))
