"""A page's first moments: a still picture of it, which goes once, and content that does not jump."""

from __future__ import annotations

from playwright.sync_api import Browser, expect

from tests.browser.conftest import SHIFT, Server, new_tab, settled


def test_a_page_is_seen_at_once_and_nothing_in_it_jumps(browser: Browser, server: Server) -> None:
    # slowed down, as on a busy machine: there what is mounted later has the longest time to push what is there
    for width, height, slower in ((1440, 1000, 1), (390, 844, 1), (390, 844, 4)):
        page = browser.new_context(viewport={"width": width, "height": height}).new_page()
        page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": slower})
        page.add_init_script(f"({SHIFT})()")
        page.goto(f"{server.url}/dataset?dataset=digits", wait_until="commit")
        expect(page.locator("#first")).to_be_visible()
        expect(page.locator(".cell img").first).to_be_visible()
        settled(page)
        expect(page.locator("#first")).to_be_hidden()
        assert page.evaluate("window.shift") < 0.1
        page.context.close()


def test_going_to_another_page_shows_no_still_picture_and_is_one_step_in_the_history(browser: Browser, server: Server) -> None:
    page = new_tab(browser)  # the history of one that all tests share is full: Chromium keeps 50 steps
    page.goto(f"{server.url}/dataset?dataset=digits")
    expect(page.locator(".cell img").first).to_be_visible()
    settled(page)
    page.evaluate(
        "new MutationObserver(() => { window.back ||= getComputedStyle(first).visibility == 'visible' }).observe(root, { subtree: true, childList: true })"
    )
    steps = page.evaluate("history.length")
    page.get_by_role("link", name="Review").click()
    expect(page.get_by_role("heading", name="Review", exact=True)).to_be_visible()
    settled(page)
    assert not page.evaluate("window.back")
    assert "order=" in page.url and page.evaluate("history.length") == steps + 1  # though it keeps three values in its address
    expect(page).to_have_title("Review · Loupe")
    page.go_back()
    expect(page.get_by_role("heading", name="Dataset", exact=True)).to_be_visible()
    page.context.close()
