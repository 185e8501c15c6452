"""How soon each page answers each of its controls, in a browser: python -m tests.benchmarks reacting.

Every button, tab, switch, radio button, list and fold of a page is used once, from the press until nothing on the page changes any more.
What starts work, takes something away or leads to another page is left out.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Error, Page, sync_playwright

from tests.benchmarks.asking import core
from tests.benchmarks.rows import Row
from tests.benchmarks.scaling import draw
from tests.benchmarks.visiting import PAGES, ROOT, serving
from tests.browser.conftest import CHROMIUM, FLAGS

IMAGES = 4000
MAIN = "[data-testid=stMain]"
CONTROLS = f"{MAIN} :is(button, summary, [role=tab], [role=radio], [role=switch], [role=checkbox], [role=combobox])"
LEFT_OUT = re.compile("show me|start|train|import|teach|embed|look|delete|remove|download|pause|stop|upload|browse", re.IGNORECASE)
STILL, LONGEST = 0.3, 15.0  # s without a change, after which the page has answered; and at most
# Components keep theirs in shadow roots, which an observer of the document does not see.
WATCH = """() => {
  window.watched = new WeakSet();
  const observer = new MutationObserver(() => { window.changed = performance.now(); });
  window.watch = (root) => {
    if (!window.watched.has(root)) observer.observe(root, { childList: true, characterData: true, subtree: true });
    window.watched.add(root);
    for (const one of root.querySelectorAll("*")) if (one.shadowRoot) window.watch(one.shadowRoot);
  };
  window.watch(document.body);
  window.pressed = performance.now();
  addEventListener("pointerdown", () => { window.pressed = performance.now(); }, true);
}"""
ANSWERED = """([still, longest]) => new Promise((done) => {
  const look = () => {
    window.watch(document.body);
    const now = performance.now(), last = Math.max(window.changed || 0, window.pressed);
    const busy = document.querySelector("[data-test-script-state=running]");
    if (now - window.pressed > longest) done(-1);
    else if (busy || now - last < still) setTimeout(look, 20);
    else done((last - window.pressed) / 1000);
  };
  setTimeout(look, 50);
})"""
NAMES = """(all) => all.map((one) => one.checkVisibility() && !one.disabled && one.ariaDisabled !== "true"
  ? (one.getAttribute("aria-label") || one.innerText || one.title || "").trim().replace(/\\s+/g, " ").slice(0, 60) : "")"""


def opened(page: Page, address: str, ready: str) -> list[str]:
    """Loads the page, waits until it is still, and names its controls; "" for what is hidden, disabled or has no name."""
    page.goto(address)
    page.locator(ready).first.wait_for()
    page.evaluate(WATCH)
    page.evaluate(ANSWERED, [STILL * 1000, LONGEST * 1000])
    return list(page.locator(CONTROLS).evaluate_all(NAMES))


def answer(page: Page, place: int) -> float:
    """Seconds from the press to the last change, of a list from the choice of another entry; -1 if the page goes on changing."""
    control = page.locator(CONTROLS).nth(place)
    control.click(timeout=3000)
    if control.get_attribute("role") == "combobox" and (choice := page.get_by_role("option").nth(1)).is_visible():
        choice.click(timeout=3000)
    return float(page.evaluate(ANSWERED, [STILL * 1000, LONGEST * 1000]))


def answers(page: Page, address: str, ready: str) -> dict[str, float]:
    """Of every control of a page; the page is loaded anew whenever one has changed which controls there are."""
    names, found, fresh = opened(page, address, ready), dict[str, float](), True
    for place, name in enumerate(names):
        if not name or name in found or LEFT_OUT.search(name):
            continue
        if not fresh:
            opened(page, address, ready)
        took = -1.0
        try:
            took = answer(page, place)
        except Error as e:  # something lies over it
            print(f"    left out: {name}: {str(e).splitlines()[0]}", flush=True)
        if took >= 0 and page.url.split("?")[0] == address.split("?")[0]:
            found[name] = took
        fresh = page.url == address and list(page.locator(CONTROLS).evaluate_all(NAMES)) == names
    return found


def measure() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        home = Path(folder) / "home"
        draw(Path(folder) / "pictures", IMAGES)
        core(home, "import", str(Path(folder) / "pictures"), "--name", "digits")
        run = core(home, "train", "--dataset", "digits", "--architecture", "cnn3", "--set", "epochs=1", "--wait")["run"]
        draw(Path(folder) / "waiting", 60, seed=1)
        core(home, "submit", run, str(Path(folder) / "waiting"), "--ask")
        core(home, "embed", "digits")
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.set_default_timeout(60_000)
        with serving(ROOT, home) as (address, *_):
            for name, (path, ready) in PAGES.items():
                found = answers(page, f"{address}/{path}", ready)
                for one in sorted(found, key=lambda one: found[one])[-5:]:
                    print(f"    {found[one]:.2f} s {one}", flush=True)
                slowest = max(found, key=lambda one: found[one])
                n = f"{len(found)} controls, the slowest “{slowest}”; {IMAGES:,} images of 10 classes"
                yield Row(f"{name}: a control's answer", n, "median 0.3 s, worst 1 s", "s", {"Loupe": list(found.values())})
        browser.close()
