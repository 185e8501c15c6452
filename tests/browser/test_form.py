"""The training form in a real Chromium: a schedule that is drawn, variants, a warning with its remedy, a learning rate that is found."""

from __future__ import annotations

import contextlib
import re

from playwright.sync_api import Page, TimeoutError, expect

from tests.browser.conftest import Server

WAIT = 30_000  # ms: the model worker and the machine may be busy


def choose(page: Page, field: str, option: str) -> None:
    """Tries again where the list closed: it does when the page scrolls or is drawn anew under it."""
    box = page.get_by_role("combobox", name=field, exact=True)
    for _ in range(5):
        box.scroll_into_view_if_needed()
        page.wait_for_timeout(700)
        if box.input_value() == option:
            return
        box.click()
        with contextlib.suppress(TimeoutError):
            page.get_by_role("option", name=option, exact=True).click(timeout=3000)
    expect(box).to_have_value(option)


def test_the_form_draws_warns_and_finds_a_learning_rate(server: Server, page: Page) -> None:
    page.goto(f"{server.url}/train?dataset=digits")
    start = page.get_by_role("button", name="Start training")
    behind = page.get_by_text("Train another network").or_(page.get_by_text("Settings", exact=True)).first  # has a test left a run?
    expect(start.or_(behind).first).to_be_visible(timeout=WAIT)
    if not start.is_visible():
        behind.click()
    page.locator("label").filter(has_text=re.compile("^Linear softmax")).first.click()
    what = page.locator(".st-key-what-will-happen")
    expect(what).to_contain_text("Linear softmax learns 10 classes from 1,301 training images", timeout=WAIT)

    choose(page, "Schedule", "One-cycle")
    expect(page.get_by_text("Learning rate: One-cycle (n = 10 epochs)")).to_be_visible(timeout=WAIT)

    choose(page, "Flip", "Left and right")
    expect(what).to_contain_text("are digits or letters: mirrored, one is another sign or none", timeout=WAIT)
    nine = page.get_by_role("img", name=re.compile("^nine variants of digit-"))
    expect(nine).to_be_visible(timeout=90_000)
    before = nine.get_attribute("src")
    page.get_by_role("button", name="Another image").click()
    expect(nine).not_to_have_attribute("src", before or "", timeout=60_000)
    page.get_by_role("button", name="No flips").click()
    expect(what).not_to_contain_text("digits or letters", timeout=WAIT)
    expect(nine).to_have_count(0, timeout=WAIT)

    rate = page.get_by_role("textbox", name="Learning rate", exact=True)
    expect(rate).to_have_value("0.001", timeout=WAIT)
    page.get_by_role("button", name="Find a learning rate").click()
    expect(page.get_by_text("The loss fell fastest around")).to_be_visible(timeout=200_000)
    expect(rate).not_to_have_value("0.001", timeout=WAIT)
    assert 1e-4 < float(rate.input_value()) < 1
    expect(page.get_by_text("Loss by learning rate (n = 1,301 images)")).to_be_visible(timeout=WAIT)
    # The other fields stand as they were.
    expect(page.get_by_role("combobox", name="Schedule", exact=True)).to_have_value("One-cycle", timeout=WAIT)

    rate.fill("0")
    rate.press("Enter")
    expect(what).to_contain_text("Learning rate (learning_rate) is 0. Use a number from", timeout=WAIT)
    expect(start).to_be_disabled(timeout=WAIT)
