"""Erase and ask again: who paints over what decides sees the answer change, and undo brings it back."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server

SIDE, SPOT = 32, 10
SLOW = 60_000  # ms, for the network's first answer


@pytest.fixture(scope="module")
def spots(server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pictures of noise with a bright spot, in the upper left or in the lower right: nothing else tells the classes apart."""
    folder, noise = tmp_path_factory.mktemp("spots"), np.random.default_rng(0)
    for name, at in (("above", slice(2, 2 + SPOT)), ("below", slice(-2 - SPOT, -2))):
        (folder / name).mkdir()
        for i in range(40):
            pixels = noise.integers(40, 120, (SIDE, SIDE), dtype=np.uint8)
            pixels[at, at] = noise.integers(200, 255, (SPOT, SPOT))
            Image.fromarray(pixels).save(folder / name / f"{name}-{i:02}.png")
    server.core("import", str(folder), "--name", "spots")
    server.core("train", "--dataset", "spots", "--architecture", "linear", "--set", "epochs=8", "--wait")
    return f"{server.url}/explain?dataset=spots&part=erase"


def share(page: Page, name: str) -> tuple[float, float]:
    """Before and after, per cent."""
    cells = page.locator(f'.erase tr[data-class="{name}"] td').all_inner_texts()
    return float(cells[1].removesuffix("%")), float(cells[2].removesuffix("%"))


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Across the picture, in shares of its sides."""
    canvas = page.locator(".erase canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    (x0, y0), (x1, y1) = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    page.mouse.move(x0, y0)
    page.mouse.down()
    page.mouse.move((x0 + x1) / 2, (y0 + y1) / 2)
    page.mouse.move(x1, y1)
    page.mouse.up()


def test_painting_over_what_decides_changes_the_answer_and_undo_brings_it_back(page: Page, spots: str) -> None:
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url) if "/api/erase/" in r.url else None)
    page.goto(spots)
    expect(page.locator('.erase[data-answered="whole"]')).to_be_visible(timeout=SLOW)
    headline, facts = page.locator(".erase .headline"), page.locator(".erase .facts")
    whole = headline.inner_text()
    name = whole.split(",")[0]
    before, _ = share(page, name)
    assert before > 80
    spot, other = ((0.03, 0.03), (0.42, 0.42)), ((0.58, 0.58), (0.97, 0.97))
    if name == "below":
        spot, other = other, spot

    page.get_by_role("radio", name="Grey").click()
    page.get_by_role("radio", name="Rectangle").click()
    drag(page, *other)  # where nothing is
    expect(page.locator('.erase[data-answered="erased"]')).to_be_visible()
    expect(headline).to_contain_text(f"Still {name}")
    assert share(page, name)[1] > before - 15
    page.get_by_role("button", name="Undo").click()
    expect(headline).to_have_text(whole)
    expect(facts).to_contain_text("nothing erased")

    drag(page, *spot)
    expect(headline).not_to_contain_text(whole)
    expect(page.locator('.erase[data-answered="erased"]')).to_be_visible()
    assert share(page, name)[1] < before - 25
    assert re.search(r"32 × 32 pixels, 1\d\.\d% erased", facts.inner_text())
    page.keyboard.press("Control+z")
    expect(headline).to_have_text(whole)
    assert share(page, name) == (before, before)

    # By keyboard alone
    page.get_by_role("radio", name="Rectangle").press("ArrowLeft")
    expect(page.get_by_role("radio", name="Brush")).to_be_checked()
    page.locator(".erase canvas").focus()
    for key in ("ArrowLeft", "ArrowUp", "]", "Space"):
        page.keyboard.press(key)
    expect(page.locator('.erase[data-answered="erased"]')).to_be_visible()
    expect(facts).not_to_contain_text("nothing erased")
    page.get_by_role("button", name="Clear: bring the whole picture back").click()
    expect(headline).to_have_text(whole)
    assert len(asked) < 12 and all("fill=" in url for url in asked)
