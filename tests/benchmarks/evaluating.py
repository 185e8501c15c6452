"""The confusion matrix of 100,000 predictions of 10 and of 1,000 classes, beside Plotly's heatmap, in one run: python -m tests.benchmarks.evaluating.

Times are medians of ROUNDS rounds in a real Chromium on this machine, from the click that asks for it; what stands after "x" is how
many times longer Plotly's heatmap takes, with the transparent markers over it that carry its clicks.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from core.catalog import params

ROOT = Path(__file__).parents[2]

from tests.browser.conftest import CHROMIUM, FLAGS, Server  # noqa: E402
from tests.ports import free_port  # noqa: E402

ROUNDS = 5
PATIENCE = 90  # seconds: a million markers may never be drawn
RUN = "20260101-000000-beef"
APP = """
import streamlit as st
from starlette.routing import Route
from core.api import routes
app = st.App("main.py", routes=[Route("/assets/{folder}/{name}", routes.asset)])
"""
# The same counts, drawn by the component or by Plotly: a button for each, and a line that says what was clicked.
MAIN = """
import numpy as np
import plotly.graph_objects as go
import streamlit as st
from core.types import Evaluation
from pages.shared.matrix import matrix

counts = np.load(st.query_params["counts"])
size = len(counts)
names = tuple(f"class {i}" for i in range(size))
drawn = st.segmented_control("Draw", ["nothing", "component", "plotly"], default="nothing", key="draw")
if drawn == "component":
    e = Evaluation("run", "validation", names, int(counts.sum()), None, None, (), counts, None, 0, 0)
    if clicked := matrix(e, key="matrix"):
        st.text(f"clicked {clicked}")
if drawn == "plotly":
    figure = go.Figure()
    figure.add_heatmap(z=counts, colorscale=[[0, "#fff"], [1, "#f08a6c"]], showscale=False, hoverinfo="skip")
    ys, xs = np.indices(counts.shape)
    figure.add_scatter(x=xs.ravel(), y=ys.ravel(), mode="markers", customdata=np.stack([ys.ravel(), xs.ravel()], axis=1),
                       marker={"symbol": "square", "size": max(6, 560 / size), "opacity": 0}, hovertext=[
                           f"actual {y}, predicted {x}: {counts[y, x]}" for y, x in zip(ys.ravel(), xs.ravel(), strict=True)])
    figure.update_layout(height=640, margin={"l": 40, "r": 0, "t": 0, "b": 40})
    figure.update_xaxes(range=[-0.5, size - 0.5])
    figure.update_yaxes(range=[size - 0.5, -0.5])
    picked = st.plotly_chart(figure, key="plotly", on_select="rerun", selection_mode="points", width=680)
    if picked["selection"]["points"]:
        st.text(f"clicked {picked['selection']['points'][0]['customdata']}")
"""
WHOLE = "() => document.querySelector('.js-plotly-plot .heatmaplayer image') && document.querySelector('.js-plotly-plot .nsewdrag')"


def judged(classes: int, n: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Actual and predicted places: three in four right, of the rest most are taken for one of a few kin, some for any class."""
    rng = np.random.default_rng(seed)
    actual = rng.integers(0, classes, n)
    kin = (actual // 5 * 5 + rng.integers(0, 5, n)) % classes
    other = np.where(rng.random(n) < 0.8, kin, rng.integers(0, classes, n))
    return actual, np.where(rng.random(n) < 0.75, actual, other)


def generate(name: str, many: int, n: int) -> str:
    """A dataset of n validation images with thumbnails only, and a run that has judged them; returns the run's id."""
    from core.data import classes, images, labels, store
    from core.runs import runs
    from core.settings import settings
    from core.types import Ended, Image, Run, now
    from tests.benchmarks.labelling import thumbnails

    made, thumbs, at = store.create_dataset(name), thumbnails(64), now()
    names = tuple(f"class {i:03d}" for i in range(many))
    classes.ensure(made.id, names)
    actual, predicted = judged(many, n)
    pack = images.ThumbPack(settings().thumbs, made.id)
    for start in range(0, n, 5000):
        places = range(start, min(start + 5000, n))
        some = [thumbs[i % len(thumbs)] for i in places]
        rows = [
            Image(f"{i:016x}", made.id, "jpg", 640, 480, 3, 9, "validation", f"{i:06d}.jpg", at, offset, len(thumb), names[actual[i]])
            for i, offset, thumb in zip(places, pack.append(some), some, strict=True)
        ]
        labels.add_images(made.id, rows, "generator", "import")
    snapshot = store.snapshot(made.id, 0)
    run_id = f"{RUN[:-4]}{many:04x}"
    counts = {"train": 0, "validation": n, "test": 0}
    run = Run(
        run_id,
        f"Made up {many}",
        made.id,
        name,
        params.run_config({"architecture": "linear"}),
        names,
        snapshot.id,
        counts,
        at,
        "me",
        "x",
    )
    folder = settings().runs / run_id
    runs.create(folder, run, snapshot)
    runs.checkpoint(folder).touch()
    rest = 0.4 / max(1, many - 1)
    with open(runs.predictions_path(folder), "w", encoding="utf-8") as f:  # row by row: 100 million numbers as objects would not fit
        f.write(",".join([*runs.FIXED, *names]) + "\n")
        for i in range(n):
            shares = [f"{rest:.3g}"] * many
            shares[predicted[i]] = "0.6"
            f.write(f"{i:016x},validation,{names[actual[i]]},{names[predicted[i]]},0.6,{','.join(shares)}\n")
    runs.append(folder, Ended("succeeded", 1, "", 1.0, at))
    return run_id


@contextmanager
def bare_app(folder: Path) -> Iterator[str]:
    """The two drawings without anything else of the app."""
    (folder / "app.py").write_text(APP)
    (folder / "main.py").write_text(MAIN)
    port = free_port()
    flags = ["--server.headless=true", "--browser.gatherUsageStats=false", "--server.fileWatcherType=none"]
    command = [sys.executable, "-m", "streamlit", "run", str(folder / "app.py"), f"--server.port={port}", *flags]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=1).read()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://localhost:{port}"
    finally:
        process.terminate()
        process.wait()


def seconds(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def frame(page: Page) -> dict[str, float]:
    """Where the component's cells lie, once they are drawn."""
    top = page.locator(".matrix .top[data-cell]")
    top.wait_for(timeout=120_000)
    box = top.bounding_box()
    assert box is not None
    lies: dict[str, str] = top.evaluate("e => ({ ...e.dataset })")
    return {"x": box["x"] + float(lies["left"]), "y": box["y"] + float(lies["top"]), "cell": float(lies["cell"])}


def click_component(page: Page, place: int) -> None:
    lies = frame(page)
    page.mouse.click(lies["x"] + (place + 0.5) * lies["cell"], lies["y"] + (place + 0.5) * lies["cell"])


def click_plotly(page: Page, place: int, classes: int) -> None:
    box = page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
    assert box is not None
    share = (place + 0.5) / classes
    x, y = box["x"] + box["width"] * share, box["y"] + box["height"] * share
    page.mouse.move(x - 2, y)
    page.mouse.click(x, y)


def drawings(browser: Browser, url: str, counts: Path, classes: int, what: str) -> tuple[float, float]:
    """Seconds to the drawing, and from a click on a cell to the answer; infinite where PATIENCE ran out."""
    page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    page.set_default_timeout(PATIENCE * 1000)
    try:
        page.goto(f"{url}/?counts={counts}")
        page.get_by_text(what, exact=True).wait_for()
        page.wait_for_timeout(500)
        page.get_by_text(what, exact=True).click()

        def draw() -> None:
            if what == "component":
                frame(page)
            else:
                page.wait_for_function(WHOLE)

        def click() -> None:
            if what == "component":
                click_component(page, 3)
            else:
                click_plotly(page, 3, classes)
            page.get_by_text("clicked").wait_for()

        found = [math.inf, math.inf]
        for i, act in enumerate((draw, click)):
            try:
                found[i] = seconds(act)
            except PlaywrightTimeout:
                break
        return found[0], found[1]
    finally:
        page.context.close()


def written(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else f"not within {PATIENCE}"


def page_times(browser: Browser, server: Server, name: str, run_id: str, rounds: int) -> tuple[float, float, float]:
    """Seconds of the whole page: the first time, from a click on Evaluate, and from a click on a cell to its first pictures."""
    url = f"{server.url}/evaluate?dataset={name}&run={run_id}"
    page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    page.set_default_timeout(180_000)

    def first() -> None:
        page.goto(url)
        frame(page)

    cold = seconds(first)
    warm, cell = [], []
    for _ in range(rounds):
        page.goto(f"{server.url}/review?dataset={name}&run={run_id}")
        page.get_by_text("The queue is empty").wait_for()
        page.wait_for_timeout(500)

        def open_it() -> None:
            page.get_by_role("link", name="Evaluate").click()
            frame(page)

        warm.append(seconds(open_it))
        page.wait_for_timeout(1500)

        def choose() -> None:
            click_component(page, 3)
            page.locator(".cell img.loaded").first.wait_for()

        cell.append(seconds(choose))
    page.context.close()
    return cold, statistics.median(warm), statistics.median(cell)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--predictions", type=int, default=100_000)
    options.add_argument("--rounds", type=int, default=ROUNDS)
    options.add_argument("--home", type=Path, help="keep the made-up datasets and runs here")
    given = options.parse_args()
    print(f"{given.predictions:,} predictions, seconds, median of {given.rounds}")
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        with bare_app(folder) as url:
            for classes in (10, 1000):
                actual, predicted = judged(classes, given.predictions)
                counts = np.bincount(actual * classes + predicted, minlength=classes**2).reshape(classes, classes)
                np.save(folder / f"{classes}.npy", counts)
                npy = folder / f"{classes}.npy"
                drawn: dict[str, tuple[float, float]] = {}
                for what in ("component", "plotly"):
                    rounds = [
                        drawings(browser, url, npy, classes, what)
                        for _ in range(given.rounds if classes == 10 or what == "component" else 1)
                    ]
                    drawn[what] = statistics.median(r[0] for r in rounds), statistics.median(r[1] for r in rounds)
                (own, answer), (theirs, their_answer) = drawn["component"], drawn["plotly"]
                print(f"{classes:>5} classes, the drawing alone: component {own:.2f} drawn, a click answered in {answer:.2f}")
                times = f" (x{theirs / own:.1f})" if math.isfinite(theirs) else ""
                print(f"{'':>31}Plotly heatmap {written(theirs)}{times}, {written(their_answer)}", flush=True)
        home = given.home or folder / "home"
        home.mkdir(exist_ok=True)
        os.environ["LOUPE_HOME"] = str(home)
        made = {classes: generate(f"made-up-{classes}", classes, given.predictions) for classes in (10, 1000)}
        server = Server(home, free_port())
        server.start()
        for classes, run_id in made.items():
            cold, warm, cell = page_times(browser, server, f"made-up-{classes}", run_id, given.rounds)
            print(f"{classes:>5} classes, the whole page: {warm:.2f} to the drawn matrix, {cell:.2f} from a cell to its pictures;")
            print(f"{'':>14} the first time, predictions.csv unread: {cold:.2f}", flush=True)
        server.stop()


if __name__ == "__main__":
    main()
