"""A frozen EfficientNet-Lite0 on photos, everything from the command to the result included: python -m tests.benchmarks photos.

Beside it, each in a process of its own, whose start counts as Loupe's does, on the same files, splits and weights, for as many epochs: the
tutorials' loop (PIL, ToTensor, a DataLoader with the better of 0 and 2 workers, the frozen network run again in every epoch), fastai's
ImageDataLoaders and Learner with the body frozen where it is installed (requirements-benchmarks.txt), and the bound: decoding and one
forward pass through ONNX Runtime, without the start of Python. How many test images each has right stands beside.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from tests.benchmarks.rows import Row, in_turns

ROOT = Path(__file__).parents[2]
COUNT, EPOCHS, BATCH = 600, 10, 32
WIDE, HIGH = 400, 500
# Both networks: a frozen EfficientNet-Lite0, and a whole ResNet-18 (tuning). The seconds that the choice of workers takes do not count.
BESIDE = """
import json, sys, time
import torch
from PIL import Image
from torch import nn
from torchvision import models, transforms
way, splits, network, epochs, batch = sys.argv[1], json.load(open(sys.argv[2])), sys.argv[3], *map(int, sys.argv[4:])
if network == "resnet18":
    side, mean, std = 128, (0.0,) * 3, (1.0,) * 3
    look = transforms.Compose([transforms.Resize(side), transforms.CenterCrop(side), transforms.ToTensor()])
    def new():
        torch.manual_seed(0)
        return models.resnet18(num_classes=4)
else:
    from core.catalog import networks, params
    from core.ml.model import build, head_of
    config = params.run_config({"architecture": network})
    arch, how = networks.ARCHITECTURES[network], networks.preprocess_for(config, [])
    side, mean, std = how.crop, how.mean, how.std
    look = transforms.Compose([transforms.Resize(how.resize), transforms.CenterCrop(how.crop), transforms.ToTensor(),
                               transforms.Normalize(how.mean, how.std)])
    def new():
        torch.manual_seed(0)
        model = build(config, 4, how).requires_grad_(False)
        head_of(model, arch).requires_grad_(True)
        return model
class Pictures(torch.utils.data.Dataset):
    def __init__(self, rows): self.rows = rows
    def __len__(self): return len(self.rows)
    def __getitem__(self, i): return look(Image.open(self.rows[i][0]).convert("RGB")), self.rows[i][1]
def loop(workers, epochs, rows):
    model = new()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    loader = torch.utils.data.DataLoader(Pictures(rows), batch_size=batch, shuffle=True, num_workers=workers)
    for _ in range(epochs):
        model.train()
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            loss.item()
        model.eval()
        right(model, splits["validation"])
    return model
def right(model, rows):
    with torch.no_grad():
        return sum(int((model(x).argmax(1) == y).sum()) for x, y in torch.utils.data.DataLoader(Pictures(rows), batch_size=64))
def learner(workers, epochs, rows):
    table = pd.DataFrame([(*row, False) for row in rows] + [(*row, True) for row in splits["validation"]])
    dls = ImageDataLoaders.from_df(table, path="/", fn_col=0, label_col=1, valid_col=2, y_block=CategoryBlock(list(range(4))),
                                   item_tfms=Resize(side), batch_tfms=Normalize.from_stats(mean, std, cuda=False), bs=batch,
                                   val_bs=64, num_workers=workers)
    learn = Learner(dls, new(), loss_func=nn.CrossEntropyLoss(), metrics=accuracy)
    with learn.no_bar(), learn.no_logging():
        learn.fit(epochs, 1e-3)
    return learn
def chosen(train):
    few = splits["train"][: 4 * batch]
    took = {}
    for workers in (0, 2):
        begun = time.perf_counter()
        train(workers, 1, few)
        took[workers] = time.perf_counter() - begun
    return min(took, key=took.get), sum(took.values())
if way == "loop":
    workers, lost = chosen(loop)
    hits = right(loop(workers, epochs, splits["train"]), splits["test"])
elif way == "fastai":
    import pandas as pd
    from fastai.vision.all import CategoryBlock, ImageDataLoaders, Learner, Normalize, Resize, accuracy
    workers, lost = chosen(learner)
    learn = learner(workers, epochs, splits["train"])
    with learn.no_bar():
        shares, _ = learn.get_preds(dl=learn.dls.test_dl(pd.DataFrame(splits["test"]), num_workers=0))
    hits = int((shares.argmax(1) == torch.tensor([label for _, label in splits["test"]])).sum())
else:
    from core.ml.features import by_onnx
    pictures = Pictures([row for rows in splits.values() for row in rows])
    forward, hits = by_onnx(new().eval(), how), 0
    begun = time.perf_counter()
    for start in range(0, len(pictures), 32):
        forward(torch.stack([pictures[i][0] for i in range(start, min(start + 32, len(pictures)))]))
    print(json.dumps([time.perf_counter() - begun, 0]))
    sys.exit()
print(json.dumps([lost, hits]))
"""


def photographs(folder: Path, count: int) -> None:
    """JPEGs of about the bytes of photographs in four classes, each with a colour of its own in some place."""
    random = np.random.default_rng(0)
    for i in range(count):
        small = random.integers(0, 200, (12, 10, 3), np.uint8)
        y, x = random.integers(0, 8), random.integers(0, 6)
        small[y : y + 4, x : x + 4] = ((250, 30, 30), (30, 250, 30), (30, 30, 250), (240, 240, 30))[i % 4]
        path = folder / f"class-{i % 4}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(small).resize((WIDE, HIGH), Pillow.Resampling.BICUBIC).save(path, quality=88)


def core(home: Path, *args: str) -> str:
    env = {**os.environ, "LOUPE_HOME": str(home)}
    return subprocess.run([sys.executable, "-m", "core", *args], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout


def splits(home: Path, run: str) -> dict[str, list[tuple[str, int]]]:
    """Files and classes of the run's splits."""
    with open(home / "runs" / run / "dataset.csv", encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    classes = sorted({row["label"] for row in rows})
    return {
        split: [(str(home / "images" / row["path"]), classes.index(row["label"])) for row in rows if row["split"] == split]
        for split in ("train", "validation", "test")
    }


def right(home: Path, run: str) -> int:
    """Of the run's test images."""
    with open(home / "runs" / run / "predictions.csv", encoding="utf-8", newline="") as f:
        return sum(row["split"] == "test" and row["true"] == row["predicted"] for row in csv.DictReader(f))


class Beside:
    """What stands beside Loupe on the splits of one of its runs, and how many test images each has right."""

    def __init__(self, home: Path, dataset: str, network: str, settings: dict[str, object]) -> None:
        self.home, self.dataset, self.network, self.settings = home, dataset, network, settings
        self.right: dict[str, int] = {}
        self.test = 0

    def loupe(self) -> float:
        given = [word for name, value in self.settings.items() for word in ("--set", f"{name}={value}")]
        begun = time.perf_counter()
        run = json.loads(core(self.home, "train", "--dataset", self.dataset, "--architecture", self.network, *given, "--wait"))["run"]
        took = time.perf_counter() - begun
        found = splits(self.home, run)
        (self.home / "splits.json").write_text(json.dumps(found))
        self.test = len(found["test"])
        self.right["Loupe"] = right(self.home, run)
        return took

    def other(self, way: str, name: str) -> float:
        """Seconds from the command to the result."""
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        rows, epochs, batch = str(self.home / "splits.json"), str(self.settings["epochs"]), str(self.settings["batch_size"])
        command = [sys.executable, "-c", BESIDE, way, rows, self.network, epochs, batch]
        env = {**os.environ, "LOUPE_HOME": str(self.home), "PYTHONPATH": paths}
        begun = time.perf_counter()
        done = subprocess.run(command, cwd=self.home, env=env, stdout=subprocess.PIPE, text=True, check=True)
        whole = time.perf_counter() - begun
        lost, hits = json.loads(done.stdout.splitlines()[-1])  # of the bound: all that it took
        if way == "bound":
            return float(lost)
        self.right[name] = hits
        return float(whole - lost)

    def ways(self) -> dict[str, Callable[[], float]]:
        found: dict[str, Callable[[], float]] = {"Loupe": self.loupe, "tutorials' loop": partial(self.other, "loop", "tutorials' loop")}
        if find_spec("fastai"):
            found["fastai"] = partial(self.other, "fastai", "fastai")
        return found

    @property
    def said(self) -> str:
        """Of what was measured, for its row."""
        hits = ", ".join(f"{name} {n}" for name, n in self.right.items())
        return f"of {self.test} test images right: {hits}" + ("" if find_spec("fastai") else "; fastai is not installed")


def measure() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as temporary:
        home, folder = Path(temporary) / "home", Path(temporary) / "photographs"
        photographs(folder, COUNT)
        n = f"{COUNT} made-up photographs of {WIDE} × {HIGH}"
        core(home, "import", str(folder), "--name", "photographs")
        one = Beside(home, "photographs", "efficientnet_lite0", {"epochs": EPOCHS, "batch_size": BATCH, "patience": 0})
        ways = one.ways() | {"decoding and one forward pass": partial(one.other, "bound", "")}
        found = in_turns(ways, 1)
        wanted = "60 × the loop, 5 × fastai"
        yield Row(f"frozen EfficientNet-Lite0, {EPOCHS} epochs, the first time", f"{n}; {one.said}", wanted, "s", found)
