"""What a run's network says of many pictures, by Ray Data: python -m core.runs.on_ray.answers SPOOL RUN_FOLDER CPUS.

The spool holds the files in asked.json and gets a line for each in events.jsonl, in no order.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data

from core.runs import runs
from core.runs.remote import infer

BATCH = 64  # pictures


class Network:
    """An actor that loads the network once."""

    def __init__(self, run_folder: str) -> None:
        infer.warm(run_folder)
        self._run_folder = run_folder

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"row": np.array([json.dumps(row) for row in infer.predict(self._run_folder, batch["file"].tolist())], object)}


def main(spool: Path, run_folder: str, cpus: int) -> None:
    ray.init(log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    files = runs.read_json(spool / "asked.json")
    blocks = ray.data.from_items([{"file": one} for one in files], override_num_blocks=-(-len(files) // BATCH))
    most = max(1, int(ray.cluster_resources().get("CPU", 1)) // cpus)  # of the actors; those begin for which there is room
    answered = blocks.map_batches(Network, fn_constructor_args=(run_folder,), batch_size=BATCH, concurrency=(1, most), num_cpus=cpus)
    for one in answered.iter_rows():
        runs.append_line(spool, json.loads(one["row"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
