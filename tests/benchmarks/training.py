"""Training speed, side by side in one run: python -m tests.benchmarks mnist, or tests/benchmarks/training.py [--data DIR] [--seconds S].

(a) Loupe's loop, (b) the tutorials' loop: torchvision dataset over PIL, ToTensor, DataLoader, .item() each step,
(c) the same network on one resident batch again and again: what the arithmetic alone allows.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import ToTensor

from core.catalog import params

sys.path.insert(0, str(Path(__file__).parents[2]))

from core.catalog import networks
from core.ml.data import Normalise, Tensors
from core.ml.fit import Stage, Training, fit
from core.ml.model import build
from core.types import Preprocess, RunConfig
from tests.benchmarks.rows import Row, in_turns

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


def tutorial(config: RunConfig, images: np.ndarray, labels: np.ndarray) -> Iterator[int]:
    model = build(config, 10, MNIST).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    criterion = nn.CrossEntropyLoss()
    seen, running = 0, 0.0
    while True:
        for x, y in torch.utils.data.DataLoader(Pictures(images, labels), batch_size=config.batch_size, shuffle=True):
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


def frozen(count: int = 64) -> None:
    """Epochs over EfficientNet-Lite0: from its cached features, and through the whole network again and again."""
    import tempfile

    from core.catalog.networks import preprocess_for
    from core.ml.data import Pixels
    from core.ml.features import run_once
    from core.ml.model import head_of
    from core.types import SnapshotRow

    cpu = torch.device("cpu")
    config = params.run_config({"architecture": "efficientnet_lite0", "epochs": 50, "patience": 0})
    arch = networks.ARCHITECTURES["efficientnet_lite0"]
    how = preprocess_for(config, [])
    pictures = np.random.default_rng(0).integers(0, 256, (count, 3, how.crop, how.crop), np.uint8)
    labels = torch.arange(count) % 5
    rows = tuple(SnapshotRow(f"{i:016d}", "", "", "train") for i in range(count))
    model = build(config, 5, how)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        source, index = run_once(
            model, arch, how, Pixels(rows, (pictures,), np.zeros(count, int), np.arange(count)), Path(folder), 1, cpu, lambda *_: None
        )
        once = time.perf_counter() - begun
        begun = time.perf_counter()
        features = Tensors([source], index, labels)
        list(fit(Training(model, arch.head, config, [Stage(config.epochs, arch.head, True, features, None)], 5)))
        cached = (time.perf_counter() - begun) / config.epochs
    whole = Tensors([pictures], np.arange(count), labels, Normalise(how, cpu), channels_last=True)
    optimizer = torch.optim.Adam(head_of(model, arch).parameters())
    times = [time.perf_counter()]
    for _ in range(3):
        for batch in torch.randperm(count).split(config.batch_size):
            x, y = whole.take(batch)
            F.cross_entropy(model.eval()(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
        times.append(time.perf_counter())
    again = statistics.median(b - a for a, b in pairwise(times))
    print(f"\nFrozen EfficientNet-Lite0, {count} images at 224, seconds:")
    print(
        f"  backbone once {once:.2f} · epoch from features {cached:.4f} · epoch through the network {again:.2f} · {again / cached:,.0f} x"
    )
    print(f"  a run of 20 epochs: {once + 20 * cached:.1f} against {20 * again:.1f}")


def measure(images: np.ndarray | None = None, labels: np.ndarray | None = None, taking: float = 2.0) -> Iterator[Row]:
    """taking: seconds of each measurement."""
    if images is None or labels is None:
        images, labels = mnist(None)
    loops: dict[str, Callable[[RunConfig, np.ndarray, np.ndarray], Iterator[int]]] = {
        "Loupe": loupe,
        "tutorials' loop": tutorial,
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

        ways = {name: partial(rated, loop) for name, loop in loops.items()}
        yield Row(f"training a {title}, batch {batch}", f"{len(images):,} pictures of 28 × 28", wanted, "images/s", in_turns(ways))


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--data", type=Path, help="folder with MNIST's unpacked IDX files; random pixels without it")
    ask.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    given = ask.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.processor() or platform.machine()}")
    for row in measure(*mnist(given.data), given.seconds):
        print(f"{row.work}: {row.measured}", flush=True)
    frozen()


if __name__ == "__main__":
    main()
