"""Thresholds, calibration and slices: what they say is counted again from predictions.csv, and every number leads to its images."""

from __future__ import annotations

import csv
import re

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Server


def heading(page: Page) -> tuple[int, str]:
    """How many images are shown, and of what."""
    text = page.locator(".st-key-cell-images h2").inner_text()
    found = re.match(r"([\d,]+) images?: (.+)", text)
    assert found, text
    return int(found[1].replace(",", "")), found[2]


def click(page: Page, mark: Locator, above: float = 0.0) -> None:
    """Clicks the middle of a drawn mark, or pixels above it: Plotly lays its own surface over its marks."""
    expect(mark).to_be_attached(timeout=30_000)
    page.locator(".js-plotly-plot").first.scroll_into_view_if_needed()
    page.wait_for_timeout(500)  # until the chart has its size
    box = mark.bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2 - above
    page.mouse.move(x, y)
    page.wait_for_timeout(200)
    page.mouse.click(x, y)


def test_a_threshold_a_bar_and_a_slice_lead_to_the_images_they_count(server: Server, page: Page) -> None:
    server.core("train", "--dataset", "digits", "--architecture", "linear", "--set", "epochs=1", "--set", "patience=0", "--wait")
    path = max((server.home / "runs").glob("*/predictions.csv"))
    with open(path, newline="", encoding="utf-8") as f:
        rows = [row for row in csv.DictReader(f) if row["split"] == "validation"]
    page.goto(f"{server.url}/evaluate?dataset=digits&run={path.parent.name}&view=thresholds")
    page.get_by_role("button", name="Catch 95%").click()
    said = page.get_by_text(re.compile(r"^At 0\.\d+: catches"))
    expect(said).not_to_contain_text("At 0.500", timeout=30_000)
    found = re.match(r"At (0\.\d+): catches (\d+) of (\d+) 0 images; (\d+) of (\d+) others", said.inner_text())
    assert found, said.inner_text()
    threshold, (caught, positives, let_in, others) = float(found[1]), map(int, found.groups()[1:])
    mine = [float(r["0"]) >= threshold for r in rows if r["true"] == "0"]
    rest = [float(r["0"]) >= threshold for r in rows if r["true"] != "0"]
    assert (caught, positives, let_in, others) == (sum(mine), len(mine), sum(rest), len(rest)) and caught >= 0.95 * positives
    page.get_by_role("button", name=f"{let_in} others let in").click()
    expect(page.locator(".st-key-cell-images h2")).to_be_visible()
    assert heading(page) == (let_in, f"others let in at {threshold:.3f} (0)")
    expect(page.locator(".cell")).to_have_count(min(let_in, 60))

    page.get_by_role("button", name="Begin a policy with it").click()
    expect(page).to_have_url(re.compile("/review.*policy=write"))
    expect(page.get_by_role("heading", name="0", exact=True)).to_be_visible()
    expect(page.get_by_role("slider").first).to_have_value(f"{threshold:g}")
    page.go_back()
    expect(said).to_contain_text(f"At {threshold:.3f}")

    page.get_by_test_id("stButtonGroup").get_by_text("Calibration", exact=True).first.click()
    expect(page.get_by_text("Expected calibration error").first).to_be_visible(timeout=30_000)
    click(page, page.locator(".barlayer .point path").first, above=25)  # it may have no height
    expect(page.locator(".st-key-cell-images h2")).to_contain_text("sure", timeout=30_000)
    n, of = heading(page)
    low, high = (round(int(part) * 15 / 100) / 15 for part in re.findall(r"(\d+)%", of))  # the edges are fifteenths, and written in percent
    assert high - low < 0.067 and n == sum(low < float(r["confidence"]) <= high for r in rows) > 0

    page.get_by_test_id("stButtonGroup").get_by_text("Slices", exact=True).first.click()
    expect(page.get_by_text("The worst first").first).to_be_visible(timeout=30_000)
    expect(page.locator(".st-key-cell-images h2")).to_have_count(0)
    click(page, page.locator(".scatterlayer .point").first)
    expect(page.locator(".st-key-cell-images h2")).to_be_visible(timeout=30_000)
    n, of = heading(page)
    if of.startswith("class "):
        assert n == sum(r["true"] == of.removeprefix("class ") for r in rows)
    else:
        assert 0 < n < len(rows)
