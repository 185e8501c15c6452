"""Training steps of a small network while two other processes compete for the cores: python -m tests.benchmarks busy.

Loupe starts its processes so that threads wait for each other asleep; as PyTorch comes they wait by spinning.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from core.runs.launch import WAIT_ASLEEP
from tests.benchmarks.rows import Row, in_turns

ROOT = Path(__file__).parents[2]
STEPS = 120
TRAIN = f"""
import time, torch
from core.catalog import params
from core.ml.model import build
from core.types import Preprocess
model = build(params.run_config({{"architecture": "convnet"}}), 10, Preprocess(1, 28, 28, (0.13,), (0.3,))).train()
x, y = torch.rand(32, 1, 28, 28), torch.arange(32) % 10
optimizer = torch.optim.Adam(model.parameters(), fused=True)
def step():
    torch.nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    optimizer.zero_grad()
step()
begun = time.perf_counter()
for _ in range({STEPS}):
    step()
print(time.perf_counter() - begun)
"""
COMPETE = "while True: pass"


def trained(env: dict[str, str]) -> float:
    inherited = {name: value for name, value in os.environ.items() if name not in WAIT_ASLEEP}
    done = subprocess.run([sys.executable, "-c", TRAIN], cwd=ROOT, env=inherited | env, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def measure() -> Iterator[Row]:
    ways = {"Loupe": lambda: trained(WAIT_ASLEEP), "as PyTorch comes": lambda: trained({})}
    n = f"{STEPS} steps of 32 pictures, two-layer ConvNet"
    yield Row("training with the machine alone", n, "", "s", in_turns(ways))
    with ExitStack() as stack:
        for _ in range(2):
            other = subprocess.Popen([sys.executable, "-c", COMPETE])
            stack.callback(other.wait)
            stack.callback(other.kill)
        yield Row("training beside two processes that compete", n, "does not spin", "s", in_turns(ways))
