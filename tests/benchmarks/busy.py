"""While two other processes compete for the cores: training steps of a small network, and Show me: python -m tests.benchmarks busy.

Loupe starts its processes so that threads wait for each other asleep; as PyTorch comes they wait by spinning. Show me is a fresh
installation's, in a browser, from the click until the last of four maps is there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from playwright.sync_api import sync_playwright

from core.runs.launch import WAIT_ASLEEP
from tests.benchmarks.rows import Row, in_turns, seconds
from tests.benchmarks.visiting import serving
from tests.browser.conftest import CHROMIUM, FLAGS

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


@contextmanager
def competing() -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(2):
            other = subprocess.Popen([sys.executable, "-c", COMPETE])
            stack.callback(other.wait)
            stack.callback(other.kill)
        yield


def show_me() -> float:
    with tempfile.TemporaryDirectory() as home, serving(ROOT, Path(home)) as (address, *_), sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 2650})
        page.set_default_timeout(300_000)
        page.goto(address)
        button = page.get_by_role("button", name="Show me").first
        button.wait_for()

        def shown() -> None:
            button.click()
            page.locator(".map .overlay").nth(3).wait_for()

        took = seconds(shown)
        browser.close()
        return took


def measure() -> Iterator[Row]:
    ways = {"Loupe": lambda: trained(WAIT_ASLEEP), "as PyTorch comes": lambda: trained({})}
    n = f"{STEPS} steps of 32 pictures, two-layer ConvNet"
    yield Row("training with the machine alone", n, "", "s", in_turns(ways))
    with competing():
        yield Row("training beside two processes that compete", n, "does not spin", "s", in_turns(ways))
    n = "the sample of 1,797 digits, from the click to four maps"
    yield Row("Show me with the machine alone", n, "", "s", in_turns({"Loupe": show_me}, 3))
    with competing():
        yield Row("Show me beside two processes that compete", n, "40 s", "s", in_turns({"Loupe": show_me}, 3))
