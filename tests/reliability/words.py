"""Markup in every name, note, guideline, label and file name: Chromium runs none of it, shows it as text, and makes no link of it."""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from markdown_it import MarkdownIt
from playwright.sync_api import Page, expect, sync_playwright

from core.data import classes, images, imports, labels, queue, store, uploads
from core.share import archive, card, report
from core.train import train
from tests.browser.conftest import CHROMIUM, FLAGS, Server, settled
from tests.reliability import homes, tabs
from tests.reliability.row import Row

HIT = "<img src=x onerror=window.hit=1>"
WORDS = (
    HIT,
    '"><svg onload=window.hit=1>',
    "<script>window.hit=1</script>",
    "[a](javascript:window.hit=1)",
    "![b](https://evil.example/b.png)",
    "'-(window.hit=1)-'",
    "${window.hit=1}{{window.hit=1}}",
    "<a href=https://evil.example>a</a>",
    "<style>@import url(https://evil.example)</style>",
    "$\\href{https://evil.example}{x}$",
    "&lt;img src=x onerror=window.hit=1&gt;",
    "<details open ontoggle=window.hit=1>",
    "<iframe srcdoc='<script>parent.hit=1</script>'>",
)
NOTE = " ".join((*WORDS, "https://evil.example/a www.evil.example javascript:alert(1)"))
DATASET = f"a {HIT}"
ME = "<b onmouseover=window.hit=1>me"
EACH = 10  # images of a class
# Executed, or made of a text of ours anywhere, within components too; and a table that leaves with formulas in it, as Streamlit's own do.
LOOK = """() => {
  const all = (root) => [...root.querySelectorAll("*")].flatMap((one) => [one, ...(one.shadowRoot ? all(one.shadowRoot) : [])]);
  const bad = all(document).filter((one) => one.matches(
    '[onerror], [onload], [ontoggle], [onmouseover], [srcdoc*="hit"], img[src="x"], a[href*="evil"], img[src*="evil"], a[href^="javascript"]'
  ) || (one.matches("script, style") && /window[.]hit|evil[.]example/.test(one.textContent)));
  const tables = all(document).filter((one) => one.matches('button[aria-label^="Download as CSV"]') && one.checkVisibility());
  return [...(window.hit ? ["executed"] : []), ...bad.map((one) => one.outerHTML.slice(0, 200)), ...tables.map(() => "a CSV that Streamlit writes")];
}"""
FEW = (
    "", "dataset", "dataset?view=Classes", "label?view=One+at+a+time", "train", "evaluate", "evaluate?view=classes", "explain", "review", "audit",
)  # fmt: skip
EVERY = (
    *FEW, "dataset?view=History", "dataset?view=Add+images", "label", "label?view=Map", "evaluate?view=hardest", "evaluate?view=thresholds",
    "evaluate?view=calibration", "evaluate?view=slices", "explain?part=trust", "explain?part=erase", "explain?part=inside", "predict",
    "review?view=grid", "review?view=decisions", "review?view=policy", "review?view=figures", "review?view=basket", "people",
)  # fmt: skip


def planted(words: Iterable[str] = WORDS) -> str:
    """A run in this process's data folder, all names and texts around which are markup; its id."""
    random, found, rows, names = np.random.default_rng(1), store.create_dataset(DATASET), [], list(words)

    def kept(name: str) -> uploads.Upload:
        return uploads.keep(name, images.png(random.integers(0, 256, (12, 12, 3), np.uint8)))

    for i in range(EACH * len(names)):
        word = names[i % len(names)]
        row = imports.add_upload(found, kept(f"{i}.png").path, f"{word} https://evil.example {i}.png")
        rows.append(replace(row, label=word))
    classes.ensure(found.id, names)
    labels.add_images(found.id, rows, ME, "import")
    for name in names:
        classes.describe(found.id, name, NOTE)
    run = train.start(found.id, {"architecture": "linear", "epochs": 1}, ME)
    assert train.wait(run.id).status == "succeeded", train.log_tail(run.id)
    train.annotate(run.id, NOTE, [HIT, "[t](https://evil.example)"])
    for i, word in enumerate(names):
        one = kept(f"{word}{i}.png")
        said = {"predicted": word, "probability": 0.6, "probabilities": {word: 0.6, names[i - 1]: 0.4}}
        queue.add(
            [{"dataset_id": found.id, "run_id": run.id, "image_id": one.id, "ext": "png", "name": f"{word}{i}.png", "by": ME, **said}]
        )
    return run.id


def looked(page: Page, server: Server, run_id: str, address: str) -> tuple[list[str], bool]:
    """What was executed or made of the words on that page, and whether they are there as text."""
    page.goto(f"{server.url}/{address}{'&' if '?' in address else '?'}dataset={quote(DATASET)}&run={run_id}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    settled(page)
    return list(page.evaluate(LOOK)), page.get_by_text("onerror=window.hit=1").count() > 0


def looked_at(page: Page, html: str) -> list[str]:
    """The same of a file that somebody opens, where no policy helps."""
    page.goto("about:blank")
    page.set_content(html)
    return list(page.evaluate(LOOK))


def carded(run_id: str, path: Path) -> str:
    archive.export_now(run_id, path)
    with zipfile.ZipFile(path) as found:
        return found.read("MODEL_CARD.md").decode()


def in_html(text: str) -> str:
    """As a site that shows Markdown with the HTML in it would draw it, without a policy."""
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(text)


def trial(home: Path, pages: int) -> Row:
    """pages: so many of EVERY are looked at."""
    row, shown, asked, bare = Row(control="the same words as markup"), 0, set[str](), set[str]()
    if CHROMIUM is None:
        row.check(False, "there is no Chromium on this machine: apt-get install chromium")
        return row
    with homes.moved_in(home), pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOUPE_USER", ME)
        run_id = planted()
        with tabs.serving(home) as (server, _), sync_playwright() as p:
            browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = browser.new_page()
            page.set_default_timeout(60_000)
            page.on("request", lambda request: asked.add(request.url) if "evil" in request.url.partition("?")[0] else None)
            policy = "content-security-policy"
            page.on(
                "response",
                lambda a: bare.add(a.url) if a.url.startswith(server.url) and "frame-ancestors" not in a.headers.get(policy, "") else None,
            )
            for address in EVERY[:pages]:
                bad, there = looked(page, server, run_id, address)
                row.check(not bad, f"“{address}”: {bad[:2]}")
                shown += there
            row.check(shown > pages // 2, f"the words are on {shown} of {pages} pages")
            bad = looked_at(page, report.make(run_id, ["validation"], ME))
            row.check(not bad, f"report: {bad[:2]}")
            bad = looked_at(page, in_html(text := carded(run_id, home.parent / "run.zip")))
            row.check(not bad and not re.search("https?://evil|www[.]evil", text), f"model card: {bad[:2]}")
            row.check(card.plain(WORDS[0]) in text, "the words are not in the model card")
            row.check(not bare, f"without a content security policy: {sorted(bare)[:3]}")
            row.check(not asked, f"asked of others: {sorted(asked)[:3]}")
            for word in (
                "<img src=data:,x onerror=window.hit=1>",
                "<a href=https://evil.example>a</a>",
                "<details open ontoggle=window.hit=1>",
            ):
                row.control_check(not looked_at(page, word))
            browser.close()
    row.figures = f"{len(WORDS)} texts in every name, note and file name; {pages} pages in Chromium, a report and a model card; seen as text on {shown}"
    return row


if __name__ == "__main__":
    print(trial(Path(sys.argv[1]), int(sys.argv[2])))
