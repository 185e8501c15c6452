"""What a new dataset waits for on Label: its embedding, and the first lesson of Teach me: python -m tests.benchmarks embedding.

Photographs of 400 × 534 in two classes. Beside the embedding (features, near duplicates, quality, map), decoding and one forward pass of
the same network through ONNX Runtime, in this process. A first lesson asks for features alone, without the map.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from core.catalog import networks, params
from core.catalog.networks import preprocess_for
from core.data import images
from core.label import embed, teach
from core.ml import embed as embed_network
from core.ml import features
from core.ml.model import build, set_module
from core.runs import launch, remote
from core.types import Preprocess
from tests.benchmarks.reading import photos
from tests.benchmarks.rows import Row, in_turns, seconds
from tests.benchmarks.starting import dataset

COUNT, REPEATS = 1000, 3


def opened() -> None:
    """The app has started and shows Label, as when somebody asks for an embedding: the model worker and what forks jobs off are there."""
    launch.ask(remote.infer.ready)
    embed.expect()
    while launch._forks.fork(launch.python("core.ml.turns"), Path(os.devnull)) is None:
        time.sleep(0.1)


def embedded(dataset_id: int, arranged: bool = True) -> None:
    embed.start(dataset_id, "benchmark", arranged)
    while (state := embed.state(dataset_id)) is None or state.status == "running":
        time.sleep(0.05)
    assert state.status == "done", state.message


def first_lesson(dataset_id: int) -> None:
    embedded(dataset_id, arranged=False)
    teach.teach(dataset_id, "benchmark")


def one_pass(files: list[bytes], forward: features.Forward, how: Preprocess) -> None:
    """Decoding and looking, 32 pictures at a time."""
    for start in range(0, len(files), 32):
        arrays = np.stack([images.read(data, how) for data in files[start : start + 32]])
        forward(torch.from_numpy(arrays).float() / 255)


def measure() -> Iterator[Row]:
    files = photos(COUNT)
    with tempfile.TemporaryDirectory() as home:
        os.environ["LOUPE_HOME"] = home
        config = params.run_config({"architecture": embed_network.ARCHITECTURE, "image_size": 0})
        how = preprocess_for(config, [])
        model = build(config, 2, how).eval()
        set_module(model, networks.ARCHITECTURES[embed_network.ARCHITECTURE].head, nn.Identity())
        forward = features.by_onnx(model, how)  # exported before the clock runs, as for a second dataset
        sets = iter([dataset(f"set {i}", Path(home) / f"in-{i}", files) for i in range(2 * REPEATS)])
        n = f"{COUNT} photographs of 400 × 534, the network exported before, the app open"
        opened()
        ways = {
            "Loupe": lambda: seconds(lambda: embedded(next(sets))),
            "decoding and one forward pass": lambda: seconds(lambda: one_pass(files, forward, how)),
        }
        yield Row("embedding: features, near duplicates, quality and map", n, "1.3 × one forward pass", "s", in_turns(ways, REPEATS))
        lessons = {"Loupe": lambda: seconds(lambda: first_lesson(next(sets)))}
        yield Row("the first lesson of Teach me", n, "does not wait for the map", "s", in_turns(lessons, REPEATS))
        launch.close()
