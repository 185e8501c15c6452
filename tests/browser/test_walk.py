"""The whole loop as a person walks it, in a real browser; its screenshots are the README's pictures.

LOUPE_PICTURES=docs/pictures writes them there; without it none are taken.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import FilePayload, Page, expect

from tests.browser.conftest import ROOT, Server, serving
from tests.browser.pictures import digit_png

RUN_URL = re.compile(r"[?&]run=")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Iterator[Server]:
    """As people start it: what lasts from one click to the next is claimed here, processes and all."""
    with serving(tmp_path_factory.mktemp("walk"), sample, real=True) as one:
        yield one


def snap(page: Page, name: str) -> None:
    if folder := os.environ.get("LOUPE_PICTURES"):
        page.wait_for_timeout(1200)  # fade-ins and fonts
        page.screenshot(path=ROOT / folder / f"{name}.png")


def go(page: Page, name: str) -> None:
    page.get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()


def points(page: Page) -> int:
    return int(page.evaluate("() => document.querySelector('.lp-loss')?.data?.[0]?.x?.length ?? 0"))


def set_number(page: Page, label: str, value: int) -> None:
    field = page.get_by_role("spinbutton", name=label, exact=True)
    field.fill(str(value))
    field.press("Enter")
    page.wait_for_timeout(600)


def open_form(page: Page) -> None:
    """The fields of the Train page: behind Settings before the first run, behind another title beside a run."""
    start = page.get_by_role("button", name="Start training")
    behind = page.get_by_text("Train another network").or_(page.get_by_text("Settings", exact=True))
    start.or_(behind).first.wait_for()
    if not start.is_visible():
        behind.first.click()


def click_cell(page: Page, row: int, column: int) -> None:
    top = page.locator(".matrix .top[data-cell]")
    box, lies = top.bounding_box(), top.evaluate("e => ({ ...e.dataset })")
    assert box is not None
    left, head, side = (float(lies[name]) for name in ("left", "top", "cell"))
    page.mouse.click(box["x"] + left + (column + 0.5) * side, box["y"] + head + (row + 0.5) * side)


def test_show_me_trains_and_explains_in_under_a_minute(server: Server, page: Page) -> None:
    page.goto(server.url)
    page.get_by_role("button", name="Show me").first.click()
    expect(page.get_by_text("2 · The network learns")).to_be_visible()
    expect(page.locator(".lp-loss .main-svg").first).to_be_visible()
    expect(page.get_by_text("4 · Why it answered so")).to_be_visible(timeout=60_000)
    expect(page.locator(".map .overlay")).to_have_count(4, timeout=60_000)  # two methods, two classes
    page.set_viewport_size({"width": 1440, "height": 2650})
    snap(page, "show-me")


def test_the_whole_loop(server: Server, page: Page) -> None:
    page.goto(f"{server.url}/dataset?dataset=digits")
    expect(page.locator(".cell")).to_have_count(60, timeout=60_000)  # the first page of a server that has just begun
    snap(page, "dataset")

    # Filter and page
    page.get_by_role("combobox", name="Class").click()
    page.get_by_role("option", name=re.compile(r"^3 \(")).click()
    expect(page.get_by_text(re.compile(r"^183 of 1,797 images"))).to_be_visible()
    assert set(page.locator(".cell .badge .text").all_inner_texts()) == {"3"}

    # Look at one image
    page.locator(".cell").first.dblclick()
    expect(page.get_by_role("dialog").get_by_text("History", exact=True)).to_be_visible()
    page.get_by_text("What the network receives").click()
    expect(page.get_by_text(re.compile("A tensor of shape"))).to_be_visible()
    expect(page.get_by_text("1 × 8 × 8")).to_be_visible()
    expect(page.get_by_text("Pixel values 0 to 255 (n = 64)")).to_be_visible()
    page.keyboard.press("Escape")

    # Train; the curve grows without a reload and keeps the zoom
    go(page, "Train")
    open_form(page)
    set_number(page, "Epochs", 30)
    set_number(page, "Early stopping patience (epochs)", 0)
    page.get_by_role("button", name="Start training").click()
    page.wait_for_function("() => (document.querySelector('.lp-loss')?.data?.[0]?.x?.length ?? 0) > 0", timeout=60_000)
    page.evaluate("() => Plotly.relayout(document.querySelector('.lp-loss'), {'xaxis.range': [1, 3]})")
    before = points(page)
    page.wait_for_function(f"() => document.querySelector('.lp-loss').data[0].x.length > {before}")
    assert page.evaluate("() => document.querySelector('.lp-loss')._fullLayout.xaxis.range") == [1, 3]
    snap(page, "train")
    expect(page.locator(".lp-what")).to_contain_text("Finished", timeout=120_000)

    # Evaluate: a cell shows exactly the images counted in it
    newest = json.loads((max((server.home / "runs").iterdir()) / "config.json").read_text())["name"]
    page.get_by_role("button", name="See its mistakes").click()
    expect(page.get_by_text("Most often confused")).to_be_visible()
    expect(page).to_have_url(RUN_URL)
    expect(page.get_by_role("combobox", name="Run", exact=True)).to_have_value(re.compile(re.escape(newest)))
    page.wait_for_timeout(800)
    click_cell(page, 4, 4)
    heading = page.get_by_role("heading", name=re.compile(r"images: actual 4, predicted 4"))
    expect(heading).to_be_visible()
    shown = int(heading.inner_text().split()[0])
    expect(page.locator(".cell")).to_have_count(shown)
    assert set(page.locator(".cell .badge .text").all_inner_texts()) == {"4"}
    page.set_viewport_size({"width": 1440, "height": 1500})
    snap(page, "evaluate")
    wrong = int(page.get_by_role("button", name=re.compile(r"^\d+ wrong$")).inner_text().split()[0])
    page.get_by_role("button", name=f"{wrong} wrong").click()
    expect(page.get_by_role("heading", name=re.compile(rf"^{wrong} images?: mistakes"))).to_be_visible()

    # Cell, image, label: the matrix follows
    expect(page.locator(".cell").first).to_have_attribute("aria-label", re.compile("the model disagrees"))
    found = re.search(r"the model disagrees: (\d)", page.locator(".cell").first.get_attribute("aria-label") or "")
    assert found is not None
    answer = found.group(1)
    page.locator(".cell").first.dblclick()
    drawer = page.get_by_role("dialog")
    drawer.get_by_role("radio", name=answer, exact=True).or_(drawer.get_by_role("button", name=answer, exact=True)).first.click()
    page.wait_for_timeout(1200)
    page.keyboard.press("Escape")
    expect(page.get_by_text("1 label changed since training")).to_be_visible()
    expect(page.get_by_role("button", name=f"{wrong - 1} wrong")).to_be_visible()

    # Explain
    go(page, "Explain")
    expect(page.locator(".map .overlay").first).to_be_visible(timeout=30_000)
    snap(page, "explain")

    # Predict on pictures of one's own, one of them broken; a double click sends each once
    go(page, "Predict")
    page.set_viewport_size({"width": 1440, "height": 1000})
    good: list[FilePayload] = [{"name": f"mine-{i}.png", "mimeType": "image/png", "buffer": digit_png(i)} for i in (3, 14)]
    broken: FilePayload = {"name": "broken.png", "mimeType": "image/png", "buffer": b"no image"}
    page.locator("input[type=file]").set_input_files([*good, broken])
    expect(page.get_by_text("broken.png").last).to_be_visible()
    expect(page.get_by_text("This is not an image that Loupe reads")).to_be_visible(timeout=60_000)
    expect(page.get_by_role("button", name="Send all 2 to review")).to_be_visible()
    snap(page, "predict")
    page.set_viewport_size({"width": 390, "height": 844})
    bar = page.locator(".said .bar").first
    expect(bar).to_be_visible()
    room = bar.bounding_box()
    assert room and room["width"] > 60, room  # px on a phone
    page.set_viewport_size({"width": 1440, "height": 1000})
    page.get_by_role("button", name="Send all 2 to review").dblclick()
    expect(page.get_by_text("2 to review").first).to_be_visible()

    # Review by keys
    go(page, "Review")
    expect(page.locator(".counts")).to_have_text("2 waiting")
    expect(page.locator(".stage[data-state=ready]")).to_be_visible()
    snap(page, "review")
    page.wait_for_timeout(300)  # a key counts for a picture that was seen for 150 ms
    page.keyboard.press("a")
    page.keyboard.press("a")  # a double press decides once
    expect(page.locator(".counts")).to_have_text("1 waiting")
    expect(page.locator(".stage[data-state=ready]")).to_be_visible()
    page.wait_for_timeout(300)
    page.keyboard.press("x")
    expect(page.get_by_text("The queue is empty")).to_be_visible()
    expect(page.get_by_text("1,798 images").first).to_be_visible()  # the accepted one joined, the rejected one did not
    page.get_by_role("button", name="Take back").first.click()
    expect(page.locator(".counts")).to_have_text("1 waiting")
    expect(page.locator(".stage[data-state=ready]")).to_be_visible()
    page.keyboard.press("b")
    page.reload()
    expect(page.locator(".queue.blurred .stage[data-state=ready]")).to_be_visible()  # a reload shows nothing that was to stay vague


def test_stop_keeps_the_best_weights_and_a_restart_does_not_disturb_a_run(server: Server, page: Page) -> None:
    page.goto(f"{server.url}/train?dataset=digits")
    open_form(page)
    set_number(page, "Epochs", 900)
    set_number(page, "Early stopping patience (epochs)", 0)
    page.get_by_role("button", name="Start training").click()
    page.wait_for_function("() => (document.querySelector('.lp-loss')?.data?.[0]?.x?.length ?? 0) > 3", timeout=60_000)
    server.stop()
    server.start()
    page.goto(f"{server.url}/train?dataset=digits")
    page.wait_for_function("() => (document.querySelector('.lp-loss')?.data?.[0]?.x?.length ?? 0) > 3", timeout=60_000)
    seen = points(page)
    page.wait_for_function(f"() => document.querySelector('.lp-loss').data[0].x.length > {seen}")  # it went on
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator(".lp-what")).to_contain_text("Stopped", timeout=30_000)
    expect(page.get_by_role("button", name="See its mistakes")).to_be_visible()


def test_labels_are_given_by_key_kept_after_a_reload_and_undone(server: Server, page: Page) -> None:
    page.goto(f"{server.url}/dataset?dataset=digits")
    cells = page.locator(".cell")
    expect(cells).to_have_count(60)
    before = page.locator(".cell .badge .text").all_inner_texts()[:3]
    cells.nth(0).click()
    cells.nth(2).click(modifiers=["Shift"])
    page.keyboard.press("7")  # classes that are digits have their own key
    expect(page.locator(".badge.pending")).to_have_count(0)
    page.reload()
    expect(cells).to_have_count(60)
    assert page.locator(".cell .badge .text").all_inner_texts()[:3] == ["7", "7", "7"]
    for i, label in enumerate(before):
        cells.nth(i).click()
        page.keyboard.press(label)
    expect(page.locator(".badge.pending")).to_have_count(0)
    page.reload()
    expect(cells).to_have_count(60)
    assert page.locator(".cell .badge .text").all_inner_texts()[:3] == before


def test_the_next_pictures_begin_at_the_top_of_the_grid(server: Server, page: Page) -> None:
    page.goto(f"{server.url}/label?dataset=digits&show=all&order=added")
    first = page.locator(".cell").first
    expect(first).to_be_visible()
    before = first.get_attribute("aria-label")
    page.get_by_role("button", name="Next 60").click()  # below the grid: Playwright scrolls there
    expect(first).not_to_have_attribute("aria-label", before or "")
    expect(first).to_be_in_viewport()


def test_a_zip_is_uploaded_imported_and_its_bad_files_are_named(server: Server, page: Page, tmp_path: Path) -> None:
    archive = tmp_path / "shapes.zip"
    with zipfile.ZipFile(archive, "w") as z:
        for name, colour in (("red", "#d01020"), ("blue", "#1030d0")):
            for i in range(4):
                out = io.BytesIO()
                Image.new("RGB", (20 + i, 20), colour).save(out, "PNG")
                z.writestr(f"{name}/{i}.png", out.getvalue())
        z.writestr("red/broken.png", b"\x89PNG\r\n\x1a\n and then nothing")
        z.writestr("../outside.png", b"x")
    page.goto(f"{server.url}/dataset?view=Add+images")
    page.locator("input.input").set_input_files(archive)
    page.locator(".st-key-import-own button").click()
    expect(page.get_by_text("8 added, 0 there already, 2 skipped")).to_be_visible(timeout=60_000)
    expect(page.locator(".cell")).to_have_count(8)
    expect(page).to_have_url(re.compile("dataset=shapes"))


def test_an_upload_that_has_to_be_guessed_is_shown_before_it_is_stored_and_found_after_a_reload(
    server: Server, page: Page, tmp_path: Path
) -> None:
    archive = tmp_path / "guessed.zip"
    with zipfile.ZipFile(archive, "w") as z:
        for i, name in enumerate(("one", "two")):
            out = io.BytesIO()
            Image.new("RGB", (20, 20), (i * 90, 40, 90)).save(out, "PNG")
            z.writestr(f"training_set/training_set/{name}/1.png", out.getvalue())
    page.goto(f"{server.url}/dataset?view=Add+images")
    page.locator("input.input").set_input_files(archive)
    page.locator(".st-key-import-own button").click()
    question = page.get_by_role("heading", name="Is this right? Nothing is stored yet")
    expect(question).to_be_visible(timeout=60_000)
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    expect(question).to_be_visible()
    pictures = page.locator(".sight-table img")
    expect(pictures).to_have_count(2)
    assert pictures.evaluate_all("all => all.every(one => one.complete && one.naturalWidth === 20)")
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    snap(page, "sight")
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_text("2 added, 0 there already, 0 skipped")).to_be_visible(timeout=60_000)
    expect(page.locator(".cell")).to_have_count(2)

    # The same pictures with other labels: shown, and replaced by a second click
    with zipfile.ZipFile(archive) as z, zipfile.ZipFile(tmp_path / "later.zip", "w") as later:
        later.writestr("two/1.png", z.read("training_set/training_set/one/1.png"))
        later.writestr("two/2.png", z.read("training_set/training_set/two/1.png"))
    page.goto(f"{server.url}/dataset?dataset=guessed&view=Add+images")
    page.locator("input.input").set_input_files(tmp_path / "later.zip")
    page.locator(".st-key-import-own button").wait_for()
    page.get_by_role("textbox", name="Into dataset").first.fill("guessed")
    page.keyboard.press("Tab")
    page.wait_for_timeout(600)
    page.locator(".st-key-import-own button").click()
    page.get_by_role("button", name="Replace this label …").click(timeout=60_000)
    page.get_by_role("dialog").get_by_role("button", name="Replace", exact=True).click()
    expect(page.get_by_text("1 image labelled anew")).to_be_visible()
    expect(page.get_by_text("another label here")).to_have_count(0)
