"""A network is found among all of timm and looked into; then one is built by hand, made too deep, mended and trained."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import Server

BUSY = 20_000  # ms; the page asks the model worker, and the machine may be busy


def test_a_network_is_found_and_looked_into_and_ones_own_is_built_mended_and_started(server: Server, page: Page) -> None:
    page.goto(f"{server.url}/train?dataset=digits")
    page.get_by_text("Settings", exact=True).click()
    search = page.get_by_role("textbox", name=re.compile("^Search all 1,[0-9]{3} networks"))
    search.fill("resnet10t")
    search.press("Enter")
    page.get_by_role("button", name=re.compile(r"^resnet10t\s+timm")).click()
    expect(page.get_by_role("radio", name=re.compile("^resnet10t"))).to_be_checked(timeout=BUSY)
    expect(page.locator(".strip .block .name", has_text="layer4")).to_be_visible(timeout=60_000)  # the first question imports torch
    expect(page.locator(".network .facts")).to_contain_text("4,927,618 parameters", timeout=BUSY)  # 5,435,488 with 1,000 classes
    page.get_by_text(re.compile("^All [0-9]+ layers")).click()
    row = page.get_by_role("row", name=re.compile("^layer1.0.conv1 "))
    expect(row).to_contain_text("64 × 44 × 44")

    page.locator("label", has_text="Your own layers").click()
    window = page.get_by_role("spinbutton", name="Layer 6 window")
    facts = page.locator(".network .facts")
    expect(facts.filter(has_text="319,106 parameters")).to_be_visible(timeout=BUSY)
    expect(facts).to_have_count(1, timeout=BUSY)  # those of resnet10t stand there until the new ones have come
    window.fill("9")
    problem = page.locator(".network .wrong .problem")
    expect(problem).to_have_text("Its input is 4×4, smaller than the window of 9. Remove it, or use larger images.", timeout=BUSY)
    expect(facts).to_contain_text("see layer 6", timeout=BUSY)
    expect(page.get_by_text("Layer 6 (pooling): its input is 4×4")).to_be_visible(timeout=BUSY)  # beside the button
    expect(page.get_by_role("button", name="Start training")).to_be_disabled(timeout=BUSY)
    expect(page.get_by_role("button", name="Start training").locator("p")).not_to_have_css("color", "rgb(255, 255, 255)")  # on white
    window.fill("")
    expect(problem).to_have_text("Its window is empty. Use a whole number from 1 to 64.", timeout=BUSY)
    expect(page.get_by_role("button", name="Start training")).to_be_disabled(timeout=BUSY)
    window.fill("2")
    expect(page.get_by_text("(4 − 2 + 2×0) / 2 + 1 = 2")).to_be_visible(timeout=BUSY)
    expect(facts).to_contain_text("319,106 parameters", timeout=BUSY)
    expect(window).to_be_focused()  # the answers did not take the field away

    page.get_by_role("button", name="5 and 8 hidden units").click()
    page.get_by_role("button", name="Add dropout").click()
    expect(page.get_by_role("combobox", name="Layer 5 kind")).to_be_focused()
    page.get_by_role("button", name="Layer 5 up").click()
    expect(page.get_by_role("combobox", name="Layer 4 kind")).to_have_value("dropout", timeout=BUSY)
    page.get_by_role("button", name="Layer 4 remove").click()
    expect(facts).to_contain_text("463 parameters", timeout=BUSY)  # 64 × 5 + 5, 5 × 8 + 8, 8 × 10 + 10
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_text("Your own layers 1").first).to_be_visible(timeout=BUSY)
