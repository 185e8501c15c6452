"""First visits in a fresh browser: python -m tests.benchmarks visiting.

Seconds from the click until anything is painted, until the page's own words are there and until its pictures are; how far things
jump meanwhile (layout shift; below 0.1 is good), wide and on a phone. Before that: a fresh installation's start until the first
answer, and the server's memory at rest. python -m tests.benchmarks.visiting [--rounds N] [--pages NAME…] [--beside FOLDER] tells each
page by itself, each on a server that has just started, and beside another checkout in turns, since a busy machine changes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import pairwise
from pathlib import Path

import psutil
from playwright.sync_api import Browser, sync_playwright

from tests.benchmarks.asking import core
from tests.benchmarks.rows import Row
from tests.benchmarks.scaling import draw
from tests.browser.conftest import CHROMIUM, FLAGS, ROOT
from tests.ports import free_port

# Address, and what is there when the page's pictures or figures are.
PAGES = {
    "home": ("", "h2"),
    "dataset": ("dataset?dataset=digits", ".cell img"),
    "label": ("label?dataset=digits&show=all", ".cell img"),
    "map": ("label?dataset=digits&view=Map", "canvas"),
    "train": ("train?dataset=digits", "[aria-label=Epochs]"),
    "evaluate": ("evaluate?dataset=digits", ".matrix, table"),
    "explain": ("explain?dataset=digits", ".map .overlay"),
    "predict": ("predict?dataset=digits", "[data-testid=stFileUploaderDropzone]"),
    "review": ("review?dataset=digits", "h2, [data-testid=stAlert], .stage"),
}
SIZES = {"wide": (1440, 1000), "phone": (390, 844)}
SHIFT = """window.shift = 0; new PerformanceObserver((list) => {
  for (const one of list.getEntries()) if (!one.hadRecentInput) window.shift += one.value;
}).observe({ type: "layout-shift", buffered: true });"""
ASKED = 200
REST = 10  # s, after which a server that nobody visits has loaded all it will


@contextmanager
def serving(tree: Path, home: Path) -> Iterator[tuple[str, float, Callable[[], float]]]:
    """Its address, seconds from the command to the first answer, and what tells its MB of memory; begins at rest."""
    port, began = free_port(), time.perf_counter()
    env = {**os.environ, "LOUPE_HOME": str(home), "LOUPE_ROOTS": "", "LOUPE_USER": "tester"}
    command = [sys.executable, "-m", "core", "start", "--port", str(port)]
    server = subprocess.Popen(command, cwd=tree, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=1).read()
                break
            except OSError:
                time.sleep(0.02)
        started = time.perf_counter() - began
        time.sleep(REST)
        yield f"http://localhost:{port}", started, lambda: psutil.Process(server.pid).memory_info().rss / 1e6
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)


def answer(address: str) -> float:
    """Milliseconds from the question to the smallest answer there is, over a connection that stands."""
    line = HTTPConnection(address.removeprefix("http://"))
    began = list[float]()
    for _ in range(ASKED + 1):
        began.append(time.perf_counter())
        line.request("GET", "/_stcore/health")
        line.getresponse().read()
    line.close()
    return statistics.median(after - before for before, after in pairwise(began)) * 1000


def visit(browser: Browser, address: str, ready: str, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Seconds to paint, to words and to pictures, and the layout shift."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    page = context.new_page()
    page.set_default_timeout(90_000)
    page.add_init_script(SHIFT)
    began = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.locator("[data-testid=stMain] h1").wait_for()
    words = time.perf_counter() - began
    page.locator(ready).first.wait_for()
    pictures = time.perf_counter() - began
    page.wait_for_timeout(1000)
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000")
    shift = page.evaluate("window.shift")
    context.close()
    return paint, words, pictures, shift


def fill(folder: Path) -> Path:
    """A home with all that the pages show."""
    core(home := folder / "home", "import", "sample", "--name", "digits")
    run = core(home, "train", "--dataset", "digits", "--architecture", "cnn3", "--set", "epochs=1", "--wait")["run"]
    draw(folder / "waiting", 400, seed=1)  # each visit takes some, and a browser that is closed at once gives none back
    core(home, "submit", run, str(folder / "waiting"), "--ask")
    core(home, "embed", "digits")
    return home


def measure() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        starts, rests, asked = [], [], []
        for turn in range(3):
            with serving(ROOT, Path(folder) / f"fresh-{turn}") as (address, started, memory):
                starts.append(started)
                rests.append(memory())
                asked.append(answer(address))
        yield Row("python -m core start to its first answer", "a fresh installation", "5 s", "s", {"Loupe": starts})
        yield Row("the server at rest, memory", "a fresh installation", "250 MB", "MB", {"Loupe": rests})
        yield Row("the server's smallest answer", f"medians of {ASKED} over one connection", "2 ms", "ms", {"Loupe": asked})
        home = fill(Path(folder))
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name, size in SIZES.items():
            with serving(ROOT, home) as (address, _, memory):
                found = [visit(browser, f"{address}/{path}", ready, size) for _ in range(3) for path, ready in PAGES.values()]
                used = memory()
            *times, shifts = (list(one) for one in zip(*found, strict=True))
            n = f"{len(PAGES)} pages, three times each in a fresh browser; layout shift {max(shifts):.3f} at most"
            for what, wanted, took in zip(("anything is painted", "its words", "its pictures"), ("2 s", "", ""), times, strict=True):
                yield Row(f"a page, {name}, until {what}", n, wanted, "s", {"Loupe": took})
            yield Row(f"the server's memory after these visits, {name}", f"{len(found)} visits", "250 MB", "MB", {"Loupe": [used]})
        browser.close()


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--pages", nargs="*", default=list(PAGES))
    asked.add_argument("--beside", type=Path)
    args = asked.parse_args()
    trees = {"this": ROOT} | ({"beside": args.beside} if args.beside else {})
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        for name, tree in trees.items():
            with serving(tree, Path(folder) / f"fresh-{name}") as (_, started, memory):
                print(f"{name}: a fresh installation answers after {started:.1f} s; {memory():.0f} MB at rest; {load()}")
        home = fill(Path(folder))
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for page in args.pages:
            path, ready = PAGES[page]
            for size in SIZES:
                rows: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in trees}
                for name, tree in trees.items():
                    shutil.copytree(home, own := Path(folder) / name, dirs_exist_ok=True)
                    with serving(tree, own) as (address, *_):
                        rows[name] = [visit(browser, f"{address}/{path}", ready, SIZES[size]) for _ in range(args.rounds)]
                for name, found in rows.items():
                    paint, words, pictures, shift = (statistics.median(one) for one in zip(*found, strict=True))
                    said = f"paint {paint:5.2f}  words {words:5.2f}  pictures {pictures:5.2f}  shift {shift:.3f}"
                    print(f"{page:9} {size:5} {name:6} {said}; first visit after a start {found[0][2]:5.2f}; {load()}", flush=True)
        browser.close()


def load() -> str:
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
