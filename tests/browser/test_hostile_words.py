"""Markup in every name, note, guideline, label and file name: Chromium runs none of it, shows it as text, and makes no link of it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import ROOT, Server, settled

PLANT = """
import sys
from pathlib import Path
from dataclasses import replace
import numpy as np
from core.data import classes, imports, images, labels, queue, store, uploads
from core.review import policy
from core.share import report
from core.train import train
HIT = "<img src=x onerror=window.hit=1>"
OTHER = '"><svg onload=window.hit=1>'
NOTE = HIT + OTHER + " https://evil.example/a www.evil.example [a](https://evil.example) ![b](https://evil.example/b.png) javascript:alert(1)"
random = np.random.default_rng(1)
found = store.create_dataset("a " + HIT)
rows = []
for i in range(60):
    kept = uploads.keep(f"{OTHER}{i}.png", images.png(random.integers(0, 256, (12, 12, 3), np.uint8)))
    rows.append(replace(imports.add_upload(found, uploads.pictures() / f"{kept.id}.png", f"{OTHER} https://evil.example {i}.png"), label=(HIT, OTHER, "c")[i % 3]))
classes.ensure(found.id, [HIT, OTHER, "c"])
labels.add_images(found.id, rows, HIT, "import")
for name in (HIT, OTHER):
    classes.describe(found.id, name, NOTE)
run = train.start(found.id, {"architecture": "linear", "epochs": 1}, HIT)
assert train.wait(run.id).status == "succeeded", train.log_tail(run.id)
train.annotate(run.id, NOTE, [HIT, "[t](https://evil.example)"])
for i in range(3):
    kept = uploads.keep(f"{HIT}{i}.png", images.png(random.integers(0, 256, (12, 12, 3), np.uint8)))
    said = {"predicted": HIT, "probability": 0.6, "probabilities": {HIT: 0.6, OTHER: 0.3, "c": 0.1}}
    queue.add([{"dataset_id": found.id, "run_id": run.id, "image_id": kept.id, "ext": "png", "name": f"{HIT}{i}.png", "by": HIT, **said}])
print(run.id)
"""
# Executed, or made of a text of ours anywhere, within components too.
LOOK = """() => {
  const all = (root) => [...root.querySelectorAll("*")].flatMap((one) => [one, ...(one.shadowRoot ? all(one.shadowRoot) : [])]);
  const bad = all(document).filter((one) => one.matches('[onerror], [onload], img[src="x"], a[href*="evil"], img[src*="evil"], a[href^="javascript"]'));
  return [...(window.hit ? ["executed"] : []), ...bad.map((one) => one.outerHTML.slice(0, 200))];
}"""
PAGES = (
    "", "dataset", "dataset?view=Classes", "label?view=One+at+a+time", "train", "evaluate", "evaluate?view=classes", "explain", "review", "audit",
)  # fmt: skip


@pytest.fixture(scope="module")
def planted(server: Server) -> tuple[Server, str]:
    env = {**os.environ, "LOUPE_HOME": str(server.home), "LOUPE_USER": "<b onmouseover=window.hit=1>me"}
    done = subprocess.run([sys.executable, "-c", PLANT], cwd=ROOT, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return server, done.stdout.split()[-1]


@pytest.mark.timeout(600)
def test_markup_in_what_people_wrote_is_shown_and_never_run(planted: tuple[Server, str], page: Page) -> None:
    server, run_id = planted
    policies = set[str]()
    page.on(
        "response",
        lambda r: policies.add(r.headers.get("content-security-policy", f"none: {r.url}")) if r.url.startswith(server.url) else None,
    )
    page.on("dialog", lambda d: pytest.fail(d.message))
    page.goto(server.url)
    settled(page)
    found: dict[str, list[str]] = {}
    shown = 0
    for address in PAGES:
        page.goto(
            f"{server.url}/{address}{'&' if '?' in address else '?'}dataset=a+%3Cimg+src%3Dx+onerror%3Dwindow.hit%3D1%3E&run={run_id}"
        )
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        settled(page)
        shown += page.get_by_text("onerror=window.hit=1").count()
        found[address] = page.evaluate(LOOK)
    assert {address: bad for address, bad in found.items() if bad} == {}
    assert shown >= len(PAGES), "the words are there, as text"
    assert all(f"connect-src 'self' ws://localhost:{server.port}" in one and "object-src 'none'" in one for one in policies), policies

    # The same in what leaves
    server.core("report", run_id, "--out", str(server.home / "report.html"))
    page.goto("about:blank")  # where no policy helps
    page.set_content((server.home / "report.html").read_text(encoding="utf-8"))
    assert page.evaluate(LOOK) == [] and "onerror=window.hit=1" in page.locator("body").inner_text()

    # The control: the same words as markup are seen
    page.set_content("<img src=data:,x onerror=window.hit=1><a href=https://evil.example>a</a>")
    page.wait_for_function("window.hit")
    assert len(page.evaluate(LOOK)) == 3
