"""Fine-tuning a whole ResNet-18 at 128 pixels on photographs, from random weights: python -m tests.benchmarks tuning.

Beside Loupe's run the tutorials' loop and fastai, on the same files and splits, each once and from the command to the result: see photos.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.photos import Beside, core, photographs
from tests.benchmarks.rows import Row, in_turns

COUNT, EPOCHS, BATCH, SIDE = 240, 10, 8, 128


def measure() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as temporary:
        home, folder = Path(temporary) / "home", Path(temporary) / "photographs"
        photographs(folder, COUNT)
        core(home, "import", str(folder), "--name", "photographs")
        values = {"pretrained": "false", "freeze": "false", "epochs": EPOCHS, "batch_size": BATCH, "image_size": SIDE, "patience": 0}
        one = Beside(home, "photographs", "resnet18", values)
        found = in_turns(one.ways(), 1)
        n = f"{COUNT} made-up photographs; {one.said}"
        yield Row(f"fine-tuning a whole ResNet-18 at {SIDE}, {EPOCHS} epochs", n, "1.5 × the loop", "s", found)
