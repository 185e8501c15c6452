"""People before two servers: everybody stays at one, and comes to the other when that one is gone."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from core.data import store
from core.people import accounts
from tests import proxies, two_servers
from tests.ports import free_port
from tests.postgres import Cluster
from tests.two_servers import PASSWORD, Server, Two


@pytest.fixture(scope="module")
def two(postgresql: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with two_servers.two(tmp_path_factory.mktemp("two") / "home", postgresql.create("people")) as found:
        yield found
        for one in (found.a, found.b):
            assert "Traceback" not in one.log.read_text(), one.log.read_text()[-5000:]
    postgresql.drop("people")


@pytest.fixture
def door(two: Two, tmp_path: Path) -> Iterator[str]:
    """The address that people know."""
    port = free_port()
    with proxies.nginx_before_two((two.a.port, two.b.port), port, tmp_path):
        yield f"http://localhost:{port}"


def visits(at: Server) -> float:
    """How many pages of it are open."""
    found = re.search(r"^loupe_sessions (\S+)$", httpx.get(f"{at.url}/metrics", trust_env=False).text, re.MULTILINE)
    assert found
    return float(found[1])


def test_one_stays_at_a_server_and_labels_at_the_other_once_that_is_gone(two: Two, door: str, page: Page) -> None:
    with two.on("a"):
        link = accounts.add(f"Eve {time.time_ns()}", "labeller")  # another one if it is tried again
    try:
        page.goto(f"{door}/welcome/{link}")
        page.get_by_label("New password").fill(PASSWORD)
        page.get_by_label("Once more").fill(PASSWORD)
        page.get_by_role("button", name="Set the password and sign in").click()
        page.goto(f"{door}/dataset?dataset=squares")
        first = page.locator(".cell").first
        expect(first.locator("img")).to_have_js_property("complete", True)
        first.click()
        page.keyboard.press("1")
        expect(page.locator(".badge.pending")).to_have_count(0)
        (cookie,) = [one["value"] for one in page.context.cookies() if one["name"] == "loupe_at"]
        mine, other = (two.a, two.b) if visits(two.a) else (two.b, two.a)
        assert (visits(mine), visits(other)) == (1, 0)

        mine.kill()
        page.keyboard.press("2")  # while nobody is there: it waits in the page
        expect(page.locator(".badge.pending")).to_have_count(0, timeout=30_000)
        page.reload()
        expect(first).to_have_attribute("aria-label", re.compile("labelled"))
        assert visits(other) == 1 and [one["value"] for one in page.context.cookies() if one["name"] == "loupe_at"] == [cookie]
        with two.on("a"):
            names = store.get_dataset(two.dataset).classes
            labelled = store.browse(two.dataset, store.Filter(), 0, 1)[0].label
        assert labelled == names[1]
    finally:  # it may be tried again
        for one in (two.a, two.b):
            if one.process is None:
                one.start()
                one.ready()
