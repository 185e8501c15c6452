"""The map of the Label page: it is drawn, selected on, looked into, and keeps its place while the page runs again."""

from __future__ import annotations

import re

import pytest
from PIL import Image
from playwright.sync_api import FloatRect, Page, expect
from sklearn.datasets import load_digits

from tests.browser.conftest import SHIFT, Server, settled, widths

COUNT = 200
SLOW = 30_000  # ms, for what the server does
MAP_URL = re.compile(r"/api/map/\d+$")

# Pixels of the map that are not its background: how many, and the place of one in the middle of a disc.
INKED = """(canvas) => {
  const { width, height } = canvas;
  const data = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, width, height).data.buffer);
  const inked = (i) => data[i] !== data[0];
  let n = 0, at = null;
  for (let i = 3 * width; i < data.length - 3 * width; i++) {
    if (!inked(i)) continue;
    n += 1;
    if (at === null && [i - 2, i + 2, i - 2 * width, i + 2 * width].every(inked)) at = [i % width, Math.floor(i / width)];
  }
  return { n, x: at && at[0] / devicePixelRatio, y: at && at[1] / devicePixelRatio };
}"""


@pytest.fixture(scope="module")
def ciphers(server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset of 200 digits with its map made, and the map's address."""
    folder = tmp_path_factory.mktemp("ciphers")
    digits = load_digits()
    for i, (pixels, label) in enumerate(zip(digits.images[:COUNT], digits.target[:COUNT], strict=True)):
        (folder / str(label)).mkdir(exist_ok=True)
        Image.fromarray((pixels * 15.9).astype("uint8")).resize((16, 16)).save(folder / str(label) / f"{i:03}.png")
    server.core("import", str(folder), "--name", "ciphers")
    server.core("embed", "ciphers")
    return f"{server.url}/label?dataset=ciphers&view=Map"


def visit(page: Page, url: str) -> FloatRect:
    """Where the map lies on the page."""
    page.goto(url)
    expect(page.locator(".entry").first).to_be_visible(timeout=SLOW)
    settled(page)
    page.locator(".stage").scroll_into_view_if_needed()
    box = page.locator(".stage").bounding_box()
    assert box is not None
    return box


def chosen(page: Page, n: int) -> None:
    expect(page.locator(".map .count")).to_have_text(f"{n} of {COUNT} selected")


def lasso(page: Page, box: FloatRect, left: float, top: float, right: float, bottom: float) -> None:
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    for i, (x, y) in enumerate(corners):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=5)
        if i == 0:
            page.mouse.down()
    page.mouse.up()


def test_the_map_is_drawn_says_what_it_shows_fits_and_makes_nothing_jump(page: Page, ciphers: str) -> None:
    page.emulate_media(color_scheme="dark")  # it begins so, and follows to light
    visit(page, ciphers)
    page.evaluate(SHIFT)  # since the page was opened
    page.wait_for_timeout(200)  # the browser tells what it has seen
    assert page.evaluate("window.shift") < 0.1
    assert page.locator(".base").evaluate(INKED)["n"] > 500
    drawn = page.get_by_role("img", name=re.compile(rf"^Map of {COUNT} images by cluster\. Cluster 1: \d+"))
    expect(drawn).to_be_visible()
    expect(page.get_by_text(f"the axes have no unit. n = {COUNT} images.")).to_be_visible()
    chosen(page, 0)
    for width in widths(page, "map"):
        box = page.locator(".stage").bounding_box()
        assert box is not None and box["width"] > 300, width


def test_a_lasso_selects_what_lies_in_it(page: Page, ciphers: str) -> None:
    box = visit(page, ciphers)
    lasso(page, box, 0.01, 0.01, 0.99, 0.99)
    chosen(page, COUNT)
    expect(page.get_by_text(f"{COUNT} selected", exact=True)).to_be_visible(timeout=SLOW)  # the page has heard of it
    lasso(page, box, 0.01, 0.01, 0.5, 0.99)
    half = page.locator(".map .count").inner_text()
    assert 0 < int(half.split()[0]) < COUNT
    settled(page)
    expect(page.locator(".map .count")).to_have_text(half)
    page.keyboard.down("Shift")
    lasso(page, box, 0.49, 0.01, 0.99, 0.99)
    page.keyboard.up("Shift")
    chosen(page, COUNT)


def test_the_legend_selects_a_cluster_and_lets_go_of_it(page: Page, ciphers: str) -> None:
    visit(page, ciphers)
    entry = page.get_by_role("button", name=re.compile("^Cluster 2"))
    n = int(entry.locator(".n").inner_text())
    entry.click()
    chosen(page, n)
    expect(page.get_by_text(f"{n} selected", exact=True)).to_be_visible(timeout=SLOW)
    expect(entry).to_have_attribute("aria-pressed", "true")
    settled(page)
    entry.click()
    chosen(page, 0)
    expect(page.get_by_text(f"{n} selected", exact=True)).to_have_count(0, timeout=SLOW)


def test_the_hand_over_a_point_shows_the_image_a_click_selects_the_cluster_and_a_second_one_opens_the_image(
    page: Page, ciphers: str
) -> None:
    box = visit(page, ciphers)
    spot = page.locator(".base").evaluate(INKED)
    x, y = box["x"] + spot["x"], box["y"] + spot["y"]
    page.mouse.move(x, y)
    expect(page.locator(".card")).to_be_visible()
    expect(page.locator(".card img")).to_have_attribute("src", re.compile("/thumb/"))
    expect(page.locator(".card .name")).to_have_text(re.compile(r"\.png"))
    page.mouse.move(box["x"] + 3, box["y"] - 30)
    expect(page.locator(".card")).to_be_hidden()

    page.mouse.click(x, y)
    pressed = page.locator(".entry[aria-pressed=true]")
    expect(pressed).to_have_count(1)
    expect(page.locator(".st-key-label-all strong")).to_contain_text("selected", timeout=SLOW)
    settled(page)
    before = page.locator(".map .count").inner_text()
    page.mouse.dblclick(x, y)
    expect(page.get_by_role("dialog")).to_be_visible(timeout=SLOW)
    expect(page.locator(".map .count")).to_have_text(before)


def test_zoom_and_points_stay_while_the_page_runs_again(page: Page, ciphers: str) -> None:
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url) if MAP_URL.search(r.url) else None)
    visit(page, ciphers)
    page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="Zoom in").click()
    expect(page.locator(".map .zoom")).to_have_text("225%")
    page.get_by_role("button", name=re.compile("^Cluster 1 ")).click()
    expect(page.locator(".st-key-label-all strong")).to_contain_text("selected", timeout=SLOW)
    settled(page)
    page.get_by_role("radio", name="Splits").click()  # coloured otherwise
    expect(page.get_by_role("button", name=re.compile("^train"))).to_be_visible(timeout=SLOW)
    expect(page.locator(".map .zoom")).to_have_text("225%")
    expect(page.locator(".map .count")).not_to_have_text(f"0 of {COUNT} selected")
    assert len(asked) == 1


def test_the_map_is_worked_by_keys(page: Page, ciphers: str) -> None:
    visit(page, ciphers)
    page.locator(".top").focus()
    page.keyboard.press("a")
    chosen(page, COUNT)
    for _ in range(4):
        page.keyboard.press("+")
    page.keyboard.press("Escape")
    chosen(page, 0)
    page.keyboard.press("a")  # only what is in view
    expect(page.locator(".map .count")).not_to_have_text(f"{COUNT} of {COUNT} selected")
    page.keyboard.press("0")
    expect(page.locator(".map .zoom")).to_have_text("100%")
