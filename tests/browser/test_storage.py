"""A folder that is only the cache of object storage: emptied, it shows what it did; with storage away, why it cannot."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server, settled
from tests.buckets import Bucket
from tests.ports import free_port
from tests.squares import squares


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    made = Bucket()
    yield made
    made.cut()


@pytest.fixture(scope="module")
def stored(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """24 squares, imported with storage into a folder that is emptied before the server starts."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in bucket.env.items():
            patch.setenv(name, value)
        one = Server(home, free_port())
        one.core("import", str(squares(tmp_path_factory.mktemp("made") / "squares", 8)), "--name", "squares")
        empty(one)
        one.start()
        yield one
        one.stop()
        log = (home / "server.log").read_text()
        assert "Traceback" not in log and bucket.env["AWS_SECRET_ACCESS_KEY"] not in log, log[-8000:]


def empty(one: Server) -> None:
    for name in ("images", "thumbs"):
        shutil.rmtree(one.home / name, ignore_errors=True)


def test_an_emptied_folder_shows_grid_and_picture_and_without_storage_it_says_why_it_cannot(
    page: Page, stored: Server, bucket: Bucket
) -> None:
    page.goto(f"{stored.url}/dataset?dataset=squares")
    expect(page.locator(".cell img.loaded")).to_have_count(24)
    open_first(page)
    shown = page.get_by_role("dialog").locator("img").first
    expect(shown).to_be_visible()
    page.wait_for_function("() => document.querySelector('[role=dialog] img').naturalWidth > 0")
    settled(page)
    bucket.cut()
    empty(stored)
    page.reload()
    expect(page.locator(".cell")).to_have_count(24)
    open_first(page)
    said = page.get_by_role("dialog").get_by_text("This file lies in storage and cannot be fetched now")
    expect(said).to_contain_text("The storage s3://pictures/loupe cannot be reached now")
    page.goto(f"{stored.url}/label?dataset=squares")
    expect(page.get_by_test_id("stMain").get_by_text("The storage s3://pictures/loupe cannot be reached now").first).to_be_visible()
    bucket.mend()
    page.wait_for_timeout(5_000)  # for so long a page does not ask again
    page.goto(f"{stored.url}/dataset?dataset=squares")
    expect(page.locator(".cell img.loaded")).to_have_count(24)


def open_first(page: Page) -> None:
    expect(page.locator(".cell")).to_have_count(24)
    settled(page)
    page.locator(".cell").first.focus()
    page.keyboard.press("Enter")
