"""Markup in every name, note, guideline, label and file name: Chromium runs none of it, shows it as text, and makes no link of it."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Server, settled
from tests.conftest import forget
from tests.reliability import homes, words


@pytest.fixture(scope="module")
def planted(server: Server) -> tuple[Server, str]:
    with homes.moved_in(server.home):
        run_id = words.planted()
    forget()
    return server, run_id


@pytest.mark.timeout(600)
def test_markup_in_what_people_wrote_is_shown_and_never_run(planted: tuple[Server, str], page: Page) -> None:
    server, run_id = planted
    policies = set[str]()
    page.on(
        "response",
        lambda r: policies.add(r.headers.get("content-security-policy", f"none: {r.url}")) if r.url.startswith(server.url) else None,
    )
    page.on("dialog", lambda d: pytest.fail(d.message))
    page.goto(server.url)
    settled(page)
    found = {address: words.looked(page, server, run_id, address) for address in words.FEW}
    assert {address: bad for address, (bad, _) in found.items() if bad} == {}
    assert sum(shown for _, shown in found.values()) > len(words.FEW) // 2, "the words are there, as text"
    assert all(f"connect-src 'self' ws://localhost:{server.port}" in one and "object-src 'none'" in one for one in policies), policies

    # The same in what leaves
    server.core("report", run_id, "--out", str(server.home / "report.html"))
    assert words.looked_at(page, (server.home / "report.html").read_text(encoding="utf-8")) == []
    assert "onerror=window.hit=1" in page.locator("body").inner_text()

    # The control: the same words as markup are seen
    page.set_content("<img src=data:,x onerror=window.hit=1><a href=https://evil.example>a</a>")
    page.wait_for_function("window.hit")
    assert len(page.evaluate(words.LOOK)) == 3
