"""Two runs ticked in the table: their curves, and the pictures on which their answers differ."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import Server

ROW = 33  # pixels of a row of the table, its head included


def tick(page: Page, row: int) -> None:
    """Clicks the box of a row, as a person does; the table is drawn on a canvas."""
    table = page.get_by_test_id("stDataFrame").first
    table.scroll_into_view_if_needed()
    table.click(position={"x": 18, "y": ROW * (row + 1.5)})


def test_two_runs_are_ticked_compared_sent_as_a_link_deleted_and_brought_back(server: Server, page: Page) -> None:
    # The linear model has seen the images once: there are some that only the first run is right on.
    server.core("train", "--dataset", "digits", "--architecture", "convnet", "--set", "epochs=3", "--wait")
    server.core("train", "--dataset", "digits", "--architecture", "linear", "--set", "epochs=1", "--set", "patience=0", "--wait")
    page.goto(f"{server.url}/train?dataset=digits")
    expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()
    tick(page, 0)
    expect(page.locator(".st-key-run-panel")).to_contain_text("Linear softmax")
    tick(page, 1)
    expect(page.get_by_role("heading", name="2 runs beside each other")).to_be_visible()
    expect(page).to_have_url(re.compile(r"[?&]runs=[\w-]+(,|%2C)[\w-]+"))
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible(timeout=30_000)
    expect(page.locator(".js-plotly-plot")).to_have_count(2)
    lines = "() => [...document.querySelectorAll('.js-plotly-plot')].map((p) => p.data.map((d) => [d.name, d.line.dash, d.x.length]))"
    drawn = page.evaluate(lines)
    assert drawn == [[["A", "dash", 3], ["A", "solid", 3], ["B", "dash", 1], ["B", "solid", 1]]] * 2

    link = page.url
    page.goto(link)  # a colleague opens it
    cell = page.get_by_role("button", name=re.compile(r"^Only A right"))
    expect(cell).to_be_visible(timeout=30_000)
    count = int(cell.inner_text().split()[-1])
    assert count > 0
    cell.click()
    expect(page.get_by_text(f"Only A right: {count} image")).to_be_visible()
    expect(page.locator(".cell")).to_have_count(min(count, 60))
    for picture in page.locator(".cell").all()[:5]:
        words = re.search(r"labelled (\w), A: (\w) \d+% · B: (\w) \d+%", picture.get_attribute("aria-label") or "")
        assert words and words[1] == words[2] != words[3]

    # Why they differ: the same method for the same classes in both, with each run's own answer and scale
    page.get_by_text("Show why", exact=True).click()
    sides = [page.locator(f'.maps[aria-label="Saliency of {letter}"]') for letter in "AB"]
    for side in sides:
        expect(side.locator(".overlay").first).to_be_visible(timeout=60_000)
    titles = [[re.split(r" [0-9.]+%", title)[0] for title in side.locator(".title").all_inner_texts()] for side in sides]
    assert titles[0] == titles[1] and len(titles[0]) >= 2
    expect(page.get_by_role("combobox", name="Method")).to_have_value("Saliency")  # Grad-CAM does not fit the linear model
    assert sides[0].locator(".legend").inner_text() != sides[1].locator(".legend").inner_text()
    expect(page.get_by_text("Each run has a colour scale of its own")).to_be_visible()

    page.get_by_role("button", name="Delete 2 runs").click()
    expect(page.get_by_text("2 runs were moved to the bin.")).to_be_visible()
    page.locator(".st-key-undo-delete-runs button").click()
    expect(page.get_by_text("2 runs were moved to the bin.")).to_have_count(0)
    page.goto(link)
    expect(page.get_by_role("heading", name="2 runs beside each other")).to_be_visible()
