"""Labelling speed at 100,000 generated images, beside 600, in one run: python -m tests.benchmarks.labelling [--images N].

Times are medians of ROUNDS rounds in a real Chromium on this machine; what stands after "x" is the ratio to the second figure.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from PIL import Image as Pillow
from playwright.sync_api import Browser, Page, sync_playwright

from core.data import labels
from tests.browser.conftest import CHROMIUM, FLAGS, Server
from tests.ports import free_port

ROUNDS = 5
KEYS = 50
CLASSES = [f"class {i}" for i in range(10)]


def thumbnails(count: int) -> list[bytes]:
    """Distinct small JPEGs of some kilobytes, as photos give them."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(count):
        out = io.BytesIO()
        small = Pillow.fromarray(random.integers(0, 256, (12, 12, 3), np.uint8))
        small.resize((160, 160), Pillow.Resampling.BICUBIC).save(out, "JPEG", quality=85)
        found.append(out.getvalue())
    return found


def generate(name: str, count: int, thumbs: list[bytes]) -> int:
    """A dataset of rows and thumbnails without originals: no page of the grid reads those. One image in ten has no label."""
    from core.data import images, store
    from core.settings import settings
    from core.types import Image, now

    made = store.create_dataset(name)
    pack, at = images.ThumbPack(settings().thumbs, made.id), now()
    for start in range(0, count, 5000):
        some = [thumbs[i % len(thumbs)] for i in range(start, min(start + 5000, count))]
        rows = [
            Image(
                f"{i:016x}", made.id, "jpg", 640, 480, 3, 90_000, "test" if i % 7 == 0 else "train", f"{i:06d}.jpg", at, offset, len(thumb),
                None if i % 10 == 9 else CLASSES[i % 9],
            )
            for i, offset, thumb in zip(range(start, count), pack.append(some), some, strict=False)
        ]  # fmt: skip
        labels.add_images(made.id, rows, "generator", "import")
    return made.id


def seconds(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def middle(times: list[float]) -> float:
    return statistics.median(times)


def complete(page: Page) -> None:
    """Waits until every picture of the page of the grid is shown."""
    page.wait_for_function(
        """() => { const found = [...document.querySelectorAll('*')].map((n) => n.shadowRoot).filter(Boolean)
             .flatMap((root) => [...root.querySelectorAll('.cell img')]);
             return found.length >= 60 && found.every((image) => image.classList.contains('loaded')); }""",
        timeout=60_000,
    )


def opened(browser: Browser, url: str) -> Page:
    page = browser.new_context(viewport={"width": 1440, "height": 2400}).new_page()
    page.goto(url)
    complete(page)
    return page


def first_page(browser: Browser, url: str) -> tuple[float, float]:
    """Seconds to the last of 60 pictures: from nothing, with an empty cache, and from a click on Dataset in the open app."""
    page: list[Page] = []
    cold = seconds(lambda: page.append(opened(browser, url)))
    page[0].context.close()
    other = browser.new_context(viewport={"width": 1440, "height": 2400}).new_page()
    other.goto(url.replace("/dataset?", "/review?"))
    other.get_by_text("The queue is empty").wait_for()
    other.wait_for_timeout(500)

    def click() -> None:
        other.get_by_role("link", name="Dataset").click()
        complete(other)

    warm = seconds(click)
    other.context.close()
    return cold, warm


def filtered(page: Page, label: str) -> float:
    """Seconds from choosing a class to its 60 pictures."""
    page.get_by_role("combobox", name="Class").click()
    option = page.get_by_role("option", name=re.compile(rf"^{label} \("))
    option.wait_for()

    def choose() -> None:
        option.click()
        page.wait_for_function(
            """(label) => [...document.querySelectorAll('*')].map((n) => n.shadowRoot).filter(Boolean)
                 .flatMap((root) => [...root.querySelectorAll('.cell .badge .text')]).every((n) => n.textContent === label)""",
            arg=label,
        )
        complete(page)

    return seconds(choose)


# From the key to the first frame in which no label is marked as on its way any more, by the browser's own clock.
WATCH = """() => {
  window.took = [];
  const roots = [...document.querySelectorAll("*")].map((n) => n.shadowRoot).filter((root) => root?.querySelector(".cell"));
  const pending = () => roots.some((root) => root.querySelector(".badge.pending"));
  let pressed = 0;
  addEventListener("keydown", (event) => { if (/^[0-9]$/.test(event.key)) pressed = event.timeStamp; }, true);
  let waits = false;
  const observer = new MutationObserver(() => {
    if (pending()) waits = true;
    else if (waits) {
      waits = false;
      requestAnimationFrame(() => window.took.push((performance.now() - pressed) / 1000));
    }
  });
  for (const root of roots) observer.observe(root, { subtree: true, childList: true, attributes: true });
}"""


def key_presses(page: Page) -> list[float]:
    """Seconds from a key press to the stored label that is no longer marked as pending."""
    page.locator(".cell").first.click()
    page.evaluate(WATCH)
    for i in range(KEYS):
        page.keyboard.press(str(i % 2 + 1))
        page.wait_for_function("(n) => window.took.length > n", arg=i, polling=50)  # not at every frame, which would each be drawn for it
        page.keyboard.press("ArrowRight")
    times: list[float] = page.evaluate("window.took")
    return times


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--images", type=int, default=100_000)
    given = ask.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"LOUPE_HOME": home, "LOUPE_USER": "bench"}
        server = Server(Path(home), free_port(), real=True)
        from core.data import dataset, store

        thumbs = thumbnails(2000)
        taken = seconds(lambda: generate("large", given.images, thumbs))
        generate("small", 600, thumbs)
        large, small = (store.find_dataset(name) for name in ("large", "small"))
        assert large is not None and small is not None
        print(
            f"{given.images:,} images generated in {taken:.0f} s; {len(thumbs)} thumbnails of {np.mean([len(t) for t in thumbs]) / 1000:.1f} kB"
        )
        server.start()
        with sync_playwright() as p:
            browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            urls = {name: f"{server.url}/dataset?dataset={name}" for name in ("large", "small")}
            pages: dict[str, list[tuple[float, float]]] = {name: [] for name in urls}
            for _ in range(ROUNDS):
                for name, url in urls.items():
                    pages[name].append(first_page(browser, url))
            for i, what in enumerate(("from nothing, the app's own scripts included", "from a click in the open app; limit 2 s")):
                one, other = (middle([times[i] for times in pages[name]]) for name in ("large", "small"))
                print(f"first page of the grid, 60 pictures: {one:.2f} s, small {other:.2f} s ({one / other:.2f} x), {what}")

            filters: dict[str, list[float]] = {name: [] for name in urls}
            shown = {name: opened(browser, url) for name, url in urls.items()}
            for i in range(ROUNDS):
                for name, page in shown.items():
                    filters[name].append(filtered(page, CLASSES[i + 1]))
            print(f"a filter: {middle(filters['large']):.2f} s, small {middle(filters['small']):.2f} s", end="")
            print(f" ({middle(filters['large']) / middle(filters['small']):.2f} x); limit 1 s")

            counts = {d.name: middle([seconds(partial(dataset.counts, d.id)) for _ in range(ROUNDS)]) for d in (large, small)}
            print(f"counts: {counts['large'] * 1000:.0f} ms, small {counts['small'] * 1000:.1f} ms; read from an index, never from images")

            pressed = key_presses(shown["large"])
            bare = []
            for i in range(KEYS):
                image = store.get_image(large.id, f"{60_000 % given.images + i:016x}")
                bare.append(seconds(partial(labels.apply, large.id, {image.id: image.label_seq}, "class 1", "bench")))
            print(f"key press to stored and shown: {middle(pressed) * 1000:.0f} ms, the commit alone {middle(bare) * 1000:.1f} ms", end="")
            print(f" ({middle(pressed) / middle(bare):.1f} x); limit 30 ms")

            thousand, alone = [], []
            for i in range(ROUNDS):
                found = store.get_images(large.id, [f"{n:016x}" for n in range(1000)])
                seen = {o.id: o.label_seq for o in found}
                thousand.append(seconds(partial(labels.apply, large.id, seen, CLASSES[i], "bench")))
                some = store.get_images(large.id, [f"{n:016x}" for n in range(2000, 2050)])
                each = [seconds(partial(labels.apply, large.id, {o.id: o.label_seq}, CLASSES[i], "bench")) for o in some]
                alone.append(20 * sum(each))
            print(f"1,000 labels in one act: {middle(thousand):.2f} s, one after another {middle(alone):.2f} s", end="")
            print(f" ({middle(alone) / middle(thousand):.0f} x faster); limit 1 s")

            shown["small"].context.close()
            page = opened(browser, urls["large"])
            assert server.process is not None
            process = psutil.Process(server.process.pid)
            before = process.memory_info().rss
            pages_turned = min(167, given.images // 60 - 1)
            for _ in range(pages_turned):
                first = page.locator(".cell").first.get_attribute("data-id")
                page.get_by_role("button", name="Next page").click()
                page.wait_for_function(
                    """(first) => [...document.querySelectorAll('*')].map((n) => n.shadowRoot).filter(Boolean)
                         .map((root) => root.querySelector('.cell')).find(Boolean)?.dataset.id !== first""",
                    arg=first,
                )
                complete(page)
            grown = (process.memory_info().rss - before) / 1e6
            print(
                f"{pages_turned * 60:,} thumbnails paged through: the server grew by {grown:.0f} MB from {before / 1e6:.0f} MB; limit 100 MB"
            )
            browser.close()
        server.stop()


if __name__ == "__main__":
    main()
