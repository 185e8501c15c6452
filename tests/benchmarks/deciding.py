"""Review with 100,000 pictures waiting: counts, each order, and a key until the next picture: python -m tests.benchmarks review.

Counts and orders are asked of the routes without a network; the key is pressed in a real Chromium before a real server, until the frame
in which the next picture is painted. All pictures stand under an active policy.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright
from starlette.applications import Starlette
from starlette.testclient import TestClient

from core.api import routes, signing
from core.data import classes, images, policies, queue, schema, store, uploads
from core.review import policy
from core.review.bands import Limits
from tests.benchmarks.rows import Row, in_turns, seconds
from tests.browser.conftest import CHROMIUM, FLAGS, Server
from tests.conftest import forget
from tests.ports import free_port

WAITING = 100_000
LINKS = 20_000  # names of one picture's file: a file system allows 65,000
CLASSES = [f"class {i}" for i in range(10)]
ORDERS = ("mixed", "uncertain", "risky", "oldest")
VISITS, KEYS = 5, 60
# When a key is pressed, and when the picture after it has been painted.
WATCH = """() => {
  const roots = [...document.querySelectorAll("*")].map((one) => one.shadowRoot).filter(Boolean);
  const frame = roots.map((one) => one.querySelector(".stage .frame")).find(Boolean);
  let at = 0, before = null;
  window.took = [];
  document.addEventListener("keydown", (event) => { at = event.timeStamp; before = frame.firstChild; }, true);
  new MutationObserver(() => {
    if (!at || !frame.firstChild || frame.firstChild === before) return;
    const pressed = at;
    at = 0;
    requestAnimationFrame(() => setTimeout(() => window.took.push(performance.now() - pressed)));
  }).observe(frame, { childList: true });
}"""


def fill() -> int:
    """A dataset with so many pictures in its queue; their files are few."""
    made = store.create_dataset("waiting")
    classes.ensure(made.id, CLASSES)
    ruled = policies.write(
        made.id, "run", "Benchmark", policy.as_json(policy.Rules({CLASSES[0]: Limits(0.2, 0.9)}, salt="benchmark")), "tester"
    )
    policies.set_kind(ruled.id, "active", "tester")
    noise, folder = np.random.default_rng(0), uploads.pictures()
    for start in range(0, WAITING, LINKS):
        ids = [images.image_id(str(i).encode()) for i in range(start, start + LINKS)]
        pixels = noise.integers(0, 256, (6, 8, 3), np.uint8).repeat(80, 0).repeat(80, 1)
        images.store_original(folder, f"{ids[0]}.png", images.png(pixels))
        for one in ids[1:]:
            place = folder / f"{one}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(folder / f"{ids[0]}.png", place)
        rows = []
        for i, one in enumerate(ids, start):
            name, p, risk = CLASSES[i % 10], *(float(x) for x in noise.uniform(0.3, 1, 2))
            said = {"predicted": name, "probability": p, "probabilities": {name: p}, "risk": risk, "band": "ask", "blind": i % 10 == 0}
            kept = {"image_id": one, "ext": "png", "name": f"{i}.png", "by": "tester", "policy_id": ruled.id, "source": "zip"}
            rows.append({"dataset_id": made.id, "run_id": "run", "state": "waiting", **said, **kept})
        assert queue.add(rows).count("new") == LINKS
    return made.id


def pressed(home: Path) -> tuple[list[float], list[float]]:
    """Seconds from a click on Review in the open app to its first picture, and from each of so many keys to the next."""
    server = Server(home, free_port())
    server.start()
    try:
        with sync_playwright() as p:
            browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = browser.new_page(viewport={"width": 1440, "height": 1000})
            page.goto(f"{server.url}/predict?dataset=waiting")
            first = []
            for _ in range(VISITS):
                page.get_by_text("No trained network yet").wait_for(timeout=60_000)
                page.wait_for_timeout(2000)
                page.get_by_role("link", name="Review").click()
                first.append(seconds(page.locator(".stage[data-state=ready]").wait_for))
                if len(first) < VISITS:
                    page.get_by_role("link", name="Predict").click()
            page.evaluate(WATCH)
            for turn in range(KEYS):
                page.wait_for_timeout(400)
                page.keyboard.press("x" if turn % 2 else "7")
                page.wait_for_function("(turn) => window.took.length > turn", arg=turn)
            found = [float(one) / 1000 for one in page.evaluate("window.took")]
            browser.close()
            return first, found
    finally:
        server.stop()


def measure() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"LOUPE_HOME": folder, "LOUPE_USER": "tester"}
        forget()
        made, n = fill(), f"{WAITING:,} wait"
        sessions = count()
        with TestClient(Starlette(routes=routes.ROUTES), headers={"X-Loupe-Token": signing.token("tester")}) as client:

            def ask(path: str, **body: object) -> float:
                where = {"dataset_id": made, "session": f"page {next(sessions)}", **body}

                def work() -> None:
                    answer = client.post(f"/api/review/{path}", json=where)
                    assert answer.status_code == 200 and len(answer.json().get("items", [0])), answer.text

                return seconds(work)

            counted = {
                "Loupe": lambda: seconds(lambda: (queue.counts(made), queue.held_by_others(made, ""), queue.skipped(made, "tester")))
            }
            yield Row("Review's counts", n, "under 0.3 s", "s", in_turns(counted))
            ways = [{"order": order} for order in ORDERS] + [{"predicted": CLASSES[3]}]
            dealt = [one for how in ways for one in in_turns({"Loupe": lambda how=how: ask("deal", count=12, **how)})["Loupe"]]  # type: ignore[misc]
            yield Row("the next 12 of Review, in each order and of one class", n, "under 1 s", "s", {"Loupe": dealt})
        schema.engine().dispose()
        first, took = pressed(Path(folder))
        yield Row("a click on Review to its first picture", n, "under 1 s", "s", {"Loupe": first})
        yield Row(f"key to next picture, {KEYS} keys", n, "median under 0.1 s", "s", {"Loupe": took})
