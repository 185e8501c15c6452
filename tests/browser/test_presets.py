"""A preset on the Train page: one click starts it, and its figure stands beside the published one."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Server, widths


def card(page: Page, server: Server, name: str) -> Locator:
    """The card of a preset; on a dataset with runs it stands in an expander."""
    page.goto(f"{server.url}/train?dataset=digits")
    one = page.locator(f".st-key-preset-{name}")
    one.wait_for(state="attached", timeout=90_000)
    page.locator(".stApp[data-test-script-state=notRunning]").wait_for(timeout=90_000)
    for title in ("Train another network", "Settings", "Presets"):
        if not one.is_visible() and page.get_by_text(title, exact=True).first.is_visible():
            page.get_by_text(title, exact=True).first.click()
            page.wait_for_timeout(500)  # it opens
    return one


def fits(page: Page) -> None:
    for _ in widths(page, "presets"):
        pass
    page.set_viewport_size({"width": 390, "height": 1000})


def test_a_click_starts_a_preset_and_its_mean_images_are_shown(server: Server, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 1000})
    similarity = card(page, server, "similarity")
    expect(similarity.get_by_text("Other images than the source’s")).to_be_visible()
    expect(page.get_by_text("With Fashion-MNIST as the dataset: Linear softmax")).to_be_visible()
    fits(page)
    similarity.get_by_role("button", name="Start", exact=True).click()
    shown = page.locator(".st-key-similarity")
    expect(shown.get_by_role("img", name="mean image of 7")).to_be_visible(timeout=90_000)
    expect(page.get_by_text("Published: 95.1")).not_to_have_count(0)
    expect(page.get_by_text("This run: ")).to_be_visible()
    expect(shown.get_by_text("nearest").first).to_be_visible()
    fits(page)


def test_change_first_fills_the_form_with_the_preset(server: Server, page: Page) -> None:
    card(page, server, "net_3_7").get_by_role("button", name="Change first").click()
    page.locator(".stApp[data-test-script-state=notRunning]").wait_for()
    expect(page.get_by_role("spinbutton", name="Epochs", exact=True)).to_have_value("40", timeout=30_000)
    expect(page.get_by_role("textbox", name="Learning rate", exact=True)).to_have_value("0.1")
    expect(page.get_by_text("Your own layers learns 2 classes")).to_be_visible()
