"""A page's first moments: a still picture of it, which goes once, and content that does not jump."""

from __future__ import annotations

from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Server, settled

SHIFT = """() => { window.shift = 0; new PerformanceObserver((list) => {
  for (const one of list.getEntries()) if (!one.hadRecentInput) window.shift += one.value;
}).observe({ type: "layout-shift", buffered: true }); }"""


def test_a_page_is_seen_at_once_and_nothing_in_it_jumps(browser: Browser, server: Server, page: Page) -> None:
    phone = browser.new_context(viewport={"width": 390, "height": 844}).new_page()
    for one in (page, phone):
        one.add_init_script(f"({SHIFT})()")
        one.goto(f"{server.url}/dataset?dataset=digits", wait_until="commit")
        expect(one.locator("#first")).to_be_visible()
        expect(one.locator(".cell img").first).to_be_visible()
        settled(one)
        expect(one.locator("#first")).to_be_hidden()
        assert one.evaluate("window.shift") < 0.1
    phone.context.close()
    page.evaluate(
        "new MutationObserver(() => { window.back ||= getComputedStyle(first).visibility == 'visible' }).observe(root, { subtree: true, childList: true })"
    )
    page.get_by_role("link", name="Review").click()
    expect(page.get_by_role("heading", name="Review", exact=True)).to_be_visible()
    settled(page)
    assert not page.evaluate("window.back")
