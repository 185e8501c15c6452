"""Three people of three roles at once, and a role that is taken away while its owner works."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from core.people import accounts
from tests.browser.conftest import Server, new_tab, serving
from tests.conftest import forget, move_in

GOOD = "a sentence with spaces"


@pytest.fixture
def team(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Iterator[Server]:
    """The app where people sign in, begun anew if the test is tried again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOUPE_SIGN_IN", "accounts")
        with serving(tmp_path_factory.mktemp("team"), sample) as one:
            yield one


def link(server: Server, name: str, role: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        move_in(patch, server.home)
        token = accounts.add(name, role)
        forget()
    return f"{server.url}/welcome/{token}"


def stored(server: Server, label: str, by: str) -> int:
    """How many labels of this kind a person has given."""
    with contextlib.closing(sqlite3.connect(server.home / "loupe.db")) as c:
        return int(c.execute("SELECT count(*) FROM label_events WHERE label = ? AND by = ?", (label, by)).fetchone()[0])


@pytest.fixture
def people(browser: Browser, team: Server) -> Iterator[dict[str, Page]]:
    """The browsers of three people who have just been given their links."""
    pages = {}
    for role in ("viewer", "labeller", "trainer"):
        page = pages[role] = new_tab(browser)
        page.goto(link(team, role.title(), role))
        page.get_by_label("New password").fill(GOOD)
        page.get_by_label("Once more").fill(GOOD)
        page.get_by_role("button", name="Set the password and sign in").click()
        expect(page.get_by_role("button", name=role.title())).to_be_visible(timeout=30_000)
    yield pages
    for page in pages.values():
        page.context.close()


def test_three_people_of_three_roles_and_a_role_taken_away_in_mid_session(team: Server, people: dict[str, Page], page: Page) -> None:
    page.goto(f"{team.url}/dataset?dataset=digits")  # nobody yet
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_label("Name").fill("Labeller")
    page.get_by_label("Password").fill("a wrong sentence")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("The name or the password is wrong.")

    viewer, labeller, trainer = people["viewer"], people["labeller"], people["trainer"]
    viewer.goto(f"{team.url}/dataset?dataset=digits")
    expect(viewer.get_by_text("Viewer may not label, flag and take labels back.")).to_be_visible()
    trainer.goto(f"{team.url}/train?dataset=digits")
    expect(trainer.get_by_role("button", name="Train this network")).to_be_visible()
    labeller.goto(f"{team.url}/train?dataset=digits")
    expect(labeller.get_by_text("Labeller may not start, pause, stop, tag and describe runs.")).to_be_visible()

    labeller.goto(f"{team.url}/dataset?dataset=digits")
    first = labeller.locator(".cell").first
    first.click()
    labeller.keyboard.press("7")
    expect(first).to_have_attribute("aria-label", re.compile("labelled 7"))
    expect(labeller.locator(".badge.pending")).to_have_count(0)

    team.core("user", "sign-out", "Labeller")
    labeller.keyboard.press("3")
    expect(labeller.get_by_role("link", name="Sign in")).to_be_visible()
    assert stored(team, "3", "Labeller") == 0
    labeller.get_by_role("link", name="Sign in").click()  # in the same tab, which keeps what waits
    labeller.get_by_label("Name").fill("Labeller")
    labeller.get_by_label("Password").fill(GOOD)
    labeller.get_by_role("button", name="Sign in").click()
    expect(first).to_have_attribute("aria-label", re.compile("labelled 3"), timeout=30_000)
    expect(labeller).to_have_url(re.compile("/dataset.*dataset=digits"))
    expect(labeller.locator(".badge.pending")).to_have_count(0)
    assert stored(team, "3", "Labeller") == 1
    first.click()

    team.core("user", "role", "Labeller", "viewer")
    labeller.keyboard.press("4")
    expect(labeller.get_by_text("Labeller may not label, flag and take labels back.").first).to_be_visible()
    expect(first).to_have_attribute("aria-label", re.compile("labelled 3"))
    team.core("user", "remove", "Labeller")
    labeller.reload()
    expect(labeller.get_by_role("heading", name="Sign in")).to_be_visible()
