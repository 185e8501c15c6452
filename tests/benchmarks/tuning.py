"""Fine-tuning a whole ResNet-18 at 128 pixels on photographs, from random weights: python -m tests.benchmarks tuning.

Beside Loupe's run, all of it counted from the command to the result, the tutorials' loop on the same files and splits (PIL, ToTensor, a
DataLoader with the better of 0 and 2 workers), without the start of Python. Both do the same steps once, one after the other; how many
test images each has right stands beside.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.photos import COUNT, core, photographs
from tests.benchmarks.rows import Row

EPOCHS, BATCH, SIDE = 10, 8, 128
LOOP = """
import json, sys, time
import torch
from PIL import Image
from torch import nn
from torchvision import models, transforms
splits, epochs, batch, side = json.load(open(sys.argv[1])), *map(int, sys.argv[2:])
look = transforms.Compose([transforms.Resize(side), transforms.CenterCrop(side), transforms.ToTensor()])
class Pictures(torch.utils.data.Dataset):
    def __init__(self, rows): self.rows = rows
    def __len__(self): return len(self.rows)
    def __getitem__(self, i): return look(Image.open(self.rows[i][0]).convert("RGB")), self.rows[i][1]
def loop(workers, epochs, rows):
    torch.manual_seed(0)
    model, begun = models.resnet18(num_classes=4), time.perf_counter()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
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
    return model, time.perf_counter() - begun
def right(model, rows):
    with torch.no_grad():
        return sum(int((model(x).argmax(1) == y).sum()) for x, y in torch.utils.data.DataLoader(Pictures(rows), batch_size=64))
few = splits["train"][: 4 * batch]
workers = min((0, 2), key=lambda n: loop(n, 1, few)[1])
model, took = loop(workers, epochs, splits["train"])
print(json.dumps([took, right(model, splits["test"]), len(splits["test"])]))
"""


def splits(home: Path, run: str) -> dict[str, list[tuple[str, int]]]:
    """Files and classes of the run's splits."""
    with open(home / "runs" / run / "dataset.csv", encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    classes = sorted({row["label"] for row in rows})
    files = home / "images"
    return {
        split: [(str(files / row["path"]), classes.index(row["label"])) for row in rows if row["split"] == split]
        for split in ("train", "validation", "test")
    }


def right(home: Path, run: str) -> str:
    with open(home / "runs" / run / "predictions.csv", encoding="utf-8", newline="") as f:
        rows = [row for row in csv.DictReader(f) if row["split"] == "test"]
    return f"{sum(row['true'] == row['predicted'] for row in rows)} of {len(rows)}"


def measure() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as temporary:
        home, folder = Path(temporary) / "home", Path(temporary) / "photographs"
        photographs(folder)
        core(home, "import", str(folder), "--name", "photographs")
        values = {"pretrained": "false", "freeze": "false", "epochs": EPOCHS, "batch_size": BATCH, "image_size": SIDE, "patience": 0}
        settings = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
        begun = time.perf_counter()
        run = json.loads(core(home, "train", "--dataset", "photographs", "--architecture", "resnet18", *settings, "--wait"))["run"]
        ours = time.perf_counter() - begun
        rows = home / "splits.json"
        rows.write_text(json.dumps(splits(home, run)))
        command = [sys.executable, "-c", LOOP, str(rows), str(EPOCHS), str(BATCH), str(SIDE)]
        took, hits, n = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        n = f"{COUNT} photographs; of the test images right: Loupe {right(home, run)}, the loop {hits} of {n}"
        yield Row(
            f"fine-tuning a whole ResNet-18 at {SIDE}, {EPOCHS} epochs",
            n,
            "1.5 × the loop",
            "s",
            {"Loupe": [ours], "tutorials' loop": [took]},
        )
