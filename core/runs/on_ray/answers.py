"""What a function of core.ml says of many things, by Ray Data: python -m core.runs.on_ray.answers SPOOL HASH CPUS.

The spool's asked.json names the function, what it is given and the items; events.jsonl gets a line for each item, in no order.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data

from core import space
from core.errors import AppError
from core.runs import node, runs
from core.runs.remote import Function

MOST_BLOCKS = 1000  # of items: what Ray has to keep of each adds up


class Worker:
    """An actor: what the function loads once, as a network, it keeps."""

    def __init__(self, spool: Path, code: str, asked: dict[str, Any]) -> None:
        self._why = node.refusal(spool, code)
        self._function, self._given = Function(asked["module"], asked["name"]), asked["given"]

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        some = [json.loads(one) for one in batch["item"]]
        try:
            with space.told():
                rows = [{"refused": self._why}] if self._why else self._function(*self._given, some)
        except AppError as e:
            rows = [{"refused": f"{e}"}]
        return {"row": np.array([json.dumps(row) for row in rows], object)}


def main(spool: Path, code: str, cpus: int) -> None:
    ray.init(log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    asked = runs.read_json(spool / "asked.json")
    items, each = [{"item": json.dumps(one)} for one in asked.pop("items")], asked["each"]
    number = min(-(-len(items) // each), MOST_BLOCKS)
    blocks = ray.data.from_items(items, override_num_blocks=number)
    room = max(1, int(ray.cluster_resources().get("CPU", 1)) // cpus)
    most = min(room, number)  # of the actors; those begin for which there is room
    there = blocks.map_batches(Worker, fn_constructor_args=(spool, code, asked), batch_size=each, concurrency=(1, most), num_cpus=cpus)
    for one in there.iter_rows():
        row = json.loads(one["row"])
        if "refused" in row:
            node.refuse(row["refused"])
        runs.append_line(spool, row)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
