"""A frozen EfficientNet-Lite0 on photos, everything from the command to the result included: python -m tests.benchmarks photos.

Beside it, in processes of their own on the same files, splits and weights: the tutorials' loop (ImageFolder, ToTensor, a DataLoader with
the better of 0 and 2 workers, the frozen network run again in every epoch), fastai's Learner where it is installed
(requirements-benchmarks.txt), and the bound: decoding and one forward pass through ONNX Runtime. The loop and fastai run EPOCHS_BESIDE
of the epochs, once; their time is that times the epochs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from tests.benchmarks.rows import Row, in_turns, seconds

ROOT = Path(__file__).parents[2]
COUNT, EPOCHS, EPOCHS_BESIDE = 240, 10, 1
WIDE, HIGH = 400, 500
BESIDE = """
import sys, time
import torch
from torch import nn
from torchvision import datasets, transforms
from core.catalog import networks, params
from core.ml.model import build, head_of
from core.catalog.networks import preprocess_for
way, folder, epochs = sys.argv[1], sys.argv[2], int(sys.argv[3])
config = params.run_config({"architecture": "efficientnet_lite0"})
arch, how = networks.ARCHITECTURES["efficientnet_lite0"], preprocess_for(config, [])
model = build(config, 4, how).requires_grad_(False)
head_of(model, arch).requires_grad_(True)
look = transforms.Compose([transforms.Resize(how.resize), transforms.CenterCrop(how.crop), transforms.ToTensor(),
                           transforms.Normalize(how.mean, how.std)])
pictures = datasets.ImageFolder(folder, look)
def loop(workers, epochs, some):
    optimizer, begun = torch.optim.Adam(head_of(model, arch).parameters(), lr=1e-3), time.perf_counter()
    for _ in range(epochs):
        for x, y in torch.utils.data.DataLoader(some, batch_size=32, shuffle=True, num_workers=workers):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            loss.item()
    return time.perf_counter() - begun
if way == "loop":
    few = torch.utils.data.Subset(pictures, range(0, len(pictures), 4))
    workers = min((0, 2), key=lambda n: loop(n, 1, few))
    print(loop(workers, epochs, pictures))
elif way == "fastai":
    from fastai.vision.all import DataLoaders, Learner
    dls = DataLoaders(torch.utils.data.DataLoader(pictures, 32, shuffle=True), torch.utils.data.DataLoader(pictures, 32))
    learner = Learner(dls, model, loss_func=nn.CrossEntropyLoss())
    begun = time.perf_counter()
    with learner.no_bar(), learner.no_logging():
        learner.fit(epochs, 1e-3)
    print(time.perf_counter() - begun)
else:
    from core.ml.features import by_onnx
    x = torch.stack([pictures[0][0]] * 32)
    forward = by_onnx(model.eval(), how)
    begun = time.perf_counter()
    for start in range(0, len(pictures), 32):
        forward(torch.stack([pictures[i][0] for i in range(start, min(start + 32, len(pictures)))]))
    print(time.perf_counter() - begun)
"""


def photographs(folder: Path) -> None:
    """JPEGs of about the bytes of photographs in four classes, each with a colour of its own in some place."""
    random = np.random.default_rng(0)
    for i in range(COUNT):
        small = random.integers(0, 200, (12, 10, 3), np.uint8)
        y, x = random.integers(0, 8), random.integers(0, 6)
        small[y : y + 4, x : x + 4] = ((250, 30, 30), (30, 250, 30), (30, 30, 250), (240, 240, 30))[i % 4]
        path = folder / f"class-{i % 4}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(small).resize((WIDE, HIGH), Pillow.Resampling.BICUBIC).save(path, quality=88)


def core(home: Path, *args: str) -> str:
    env = {**os.environ, "LOUPE_HOME": str(home)}
    return subprocess.run([sys.executable, "-m", "core", *args], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout


def beside(home: Path, folder: Path, way: str, epochs: int) -> float:
    env = {**os.environ, "LOUPE_HOME": str(home), "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
    command = [sys.executable, "-c", BESIDE, way, str(folder), str(epochs)]
    return float(subprocess.run(command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout)


def measure() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as temporary:
        home, folder = Path(temporary) / "home", Path(temporary) / "photographs"
        photographs(folder)
        n = f"{COUNT} photographs of {WIDE} × {HIGH}"
        imported = in_turns({"Loupe": lambda: seconds(lambda: core(home, "import", str(folder), "--name", "photographs"))}, 1)
        yield Row("importing, the start of Python included", n, "500 images/s", "s", imported)
        train = ("train", "--dataset", "photographs", "--architecture", "efficientnet_lite0", "--set", f"epochs={EPOCHS}", "--wait")
        rates = iter(range(1, 100))

        def loupe() -> float:
            """Every time with another learning rate, so that it is another run."""
            return seconds(lambda: core(home, *train, "--set", f"learning_rate={0.001 + next(rates) / 10000:.4f}"))

        ways: dict[str, Callable[[], float]] = {
            "Loupe": loupe,
            "tutorials' loop": lambda: EPOCHS / EPOCHS_BESIDE * beside(home, folder, "loop", EPOCHS_BESIDE),
            "decoding and one forward pass": partial(beside, home, folder, "bound", 1),
        }
        if find_spec("fastai"):
            ways["fastai"] = lambda: EPOCHS / EPOCHS_BESIDE * beside(home, folder, "fastai", EPOCHS_BESIDE)
        wanted = "1.3 × decoding and one pass, 60 × the loop, 5 × fastai"
        yield Row(f"frozen EfficientNet-Lite0, {EPOCHS} epochs, the first time", n, wanted, "s", in_turns(ways, 1))
        again = in_turns({"Loupe": loupe})
        yield Row("the same with another learning rate", n, "2 s", "s", again)
