"""Training speed, side by side in one run: python -m tests.benchmarks mnist.

    python -m tests.benchmarks.training [--data DIR] [--seconds S]

(a) Loupe's loop, (b) the tutorials' loop: torchvision dataset over PIL, ToTensor, DataLoader with 0 or 2 workers, whichever is faster,
.item() each step, (c) the same network on one resident batch again and again: what the arithmetic alone allows.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import ToTensor

from core.catalog import params
from core.ml.data import Normalise, Tensors
from core.ml.fit import Stage, Training, fit
from core.ml.model import build
from core.types import Preprocess, RunConfig
from tests.benchmarks.rows import Row, in_turns

BOTH = ("tutorials' loop", "tutorials' loop, 2 workers")
MNIST = Preprocess(1, 28, 28, (0.1307,), (0.3081,))


def mnist(folder: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """(60000, 1, 28, 28) uint8 and (60000,) int64; random without a folder of IDX files."""
    if folder is None:
        random = np.random.default_rng(0)
        return random.integers(0, 256, (60_000, 1, 28, 28), np.uint8), random.integers(0, 10, 60_000)
    images = np.fromfile(next(folder.glob("train-images*ubyte")), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    return images, np.fromfile(next(folder.glob("train-labels*ubyte")), np.uint8, offset=8).astype(np.int64)


class Pictures(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """What torchvision.datasets.MNIST does per item."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels, self.transform = torch.from_numpy(images[:, 0]), torch.from_numpy(labels), ToTensor()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[i].numpy())), int(self.labels[i])


def loupe(config: RunConfig, images: np.ndarray, labels: np.ndarray) -> Iterator[int]:
    """Yields images seen so far; goes on for ever."""
    model = build(config, 10, MNIST)
    convolves = config.architecture != "linear"
    if convolves:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    data = Tensors([images], np.arange(len(images)), torch.from_numpy(labels), Normalise(MNIST, torch.device("cpu")), convolves)
    training = Training(model, "head", config, [Stage(config.epochs, "", False, data, None)], 10)
    for event in fit(training):
        yield min(event.step * config.batch_size, event.epoch * len(images))


def tutorial(config: RunConfig, images: np.ndarray, labels: np.ndarray, workers: int) -> Iterator[int]:
    model = build(config, 10, MNIST).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    criterion = nn.CrossEntropyLoss()
    seen, running = 0, 0.0
    while True:
        pictures = Pictures(images, labels)
        for x, y in torch.utils.data.DataLoader(pictures, batch_size=config.batch_size, shuffle=True, num_workers=workers):
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            running += loss.item()
            seen += len(x)
            yield seen


def resident(config: RunConfig, images: np.ndarray, labels: np.ndarray) -> Iterator[int]:
    model = build(config, 10, MNIST).train()
    if config.architecture != "linear":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    x = Normalise(MNIST, torch.device("cpu"))(torch.from_numpy(images[: config.batch_size]))
    y = torch.from_numpy(labels[: config.batch_size])
    seen = 0
    while True:
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        seen += config.batch_size
        yield seen


def rate(loop: Iterator[int], seconds: float) -> float:
    """Images per second, after a first report that is not counted."""
    first = next(loop)
    begun = time.perf_counter()
    for seen in loop:
        took = time.perf_counter() - begun
        if took > seconds:
            return (seen - first) / took
    raise RuntimeError("the loop ended before its time")


def measure(folder: Path | None = None, taking: float = 2.0) -> Iterator[Row]:
    """taking: seconds of each measurement."""
    images, labels = mnist(folder)
    n = f"{len(images):,} pictures of 28 × 28{', of random pixels' * (folder is None)}"
    loops: dict[str, Callable[[RunConfig, np.ndarray, np.ndarray], Iterator[int]]] = {
        "Loupe": loupe,
        BOTH[0]: partial(tutorial, workers=0),
        BOTH[1]: partial(tutorial, workers=2),
        "one resident batch": resident,
    }
    for architecture, title, batch, wanted in (
        ("linear", "linear model", 32, "12 × the loop, 0.75 of the bound"),
        ("linear", "linear model", 100, "12 × the loop, 0.75 of the bound"),
        ("convnet", "ConvNet", 100, "1.5 × the loop, 0.93 of the bound"),
    ):
        config = params.run_config({"architecture": architecture, "batch_size": batch, "epochs": 1000, "patience": 0})

        def rated(loop: Callable[[RunConfig, np.ndarray, np.ndarray], Iterator[int]], config: RunConfig = config) -> float:
            torch.manual_seed(0)
            return rate(loop(config, images, labels), taking)

        found = in_turns({name: partial(rated, loop) for name, loop in loops.items()})
        slower = min(BOTH, key=lambda way: statistics.median(found[way]))
        del found[slower]
        yield Row(f"training a {title}, batch {batch}", n, wanted, "images/s", found)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--data", type=Path, help="folder with MNIST's unpacked IDX files; random pixels without it")
    ask.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    given = ask.parse_args()
    for row in measure(given.data, given.seconds):
        print(f"{row.work}, {row.n}: {row.measured}", flush=True)


if __name__ == "__main__":
    main()
