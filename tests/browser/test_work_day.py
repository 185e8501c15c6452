"""The work day of a team, on PostgreSQL behind nginx with OpenID Connect: three people of three roles, and an audit that was tampered with."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import sqlalchemy as sa
from playwright.sync_api import Browser, Locator, Page, expect

from core.data import audit, database
from tests import ports, proxies
from tests.browser.conftest import Server, new_tab, settled
from tests.browser.pictures import digit_png
from tests.conftest import copy_home, forget, move_in, run_command
from tests.postgres import Cluster

PEOPLE = {"Lea": "labeller", "Tom": "trainer", "Mia": "moderator"}


class Deployed(Server):
    """The app on PostgreSQL, behind nginx."""

    outside: int
    database: str

    @property
    def url(self) -> str:
        return f"http://localhost:{self.outside}"

    def on(self, database: str, *args: str) -> subprocess.CompletedProcess[str]:
        """One command of the command line on a database."""
        with pytest.MonkeyPatch.context() as patch:
            move_in(patch, self.home)
            patch.setenv("LOUPE_DATABASE_URL", database)
            done = run_command(*args)
            forget()
        return done


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory, sample: Path, postgresql: Cluster, provider: str) -> Iterator[Deployed]:
    one = Deployed(tmp_path_factory.mktemp("team"), ports.free_port())
    one.outside, one.database = ports.free_port(), postgresql.create("team", "template0")
    copy_home(sample, one.home)
    one.core("move-database", one.database)
    (one.home / "loupe.db").unlink()
    for sub, role in PEOPLE.items():
        assert requests.put(f"{provider}/users/{sub}", json={"name": sub, "groups": [role]}, timeout=10).ok
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "DATABASE_URL": one.database,
            "URL": one.url,
            "SIGN_IN": "oidc",
            "OIDC_ISSUER": provider,
            "OIDC_CLIENT_ID": "loupe",
            "OIDC_CLIENT_SECRET": "secret",
            "OIDC_NAME_CLAIM": "name",
            "OIDC_ROLE_CLAIM": "groups",
        }.items():
            patch.setenv(f"LOUPE_{name}", value)
        one.start()
        try:
            with proxies.nginx(one.port, one.outside, tmp_path_factory.mktemp("nginx")):
                yield one
        finally:
            one.stop()
            postgresql.drop("team")
    log = (one.home / "server.log").read_text()
    assert "Traceback" not in log, log[-8000:]


def signed_in(browser: Browser, team: Deployed, name: str) -> Page:
    page = new_tab(browser)
    page.goto(f"{team.url}/dataset?dataset=digits")
    page.get_by_role("link", name="Sign in with localhost").click()
    page.get_by_placeholder("sub").fill(name)
    page.get_by_role("button", name="Authorize").click()
    expect(page.locator(".cell").first).to_be_visible(timeout=60_000)
    return page


@pytest.fixture(scope="module")
def people(browser: Browser, team: Deployed) -> Iterator[dict[str, Page]]:
    """The browsers of the three, who have signed in at the provider."""
    pages = {name: signed_in(browser, team, name) for name in PEOPLE}
    yield pages
    for page in pages.values():
        page.context.close()


def refused(page: Page, address: str, sentence: str) -> None:
    page.goto(address)
    expect(page.get_by_text(sentence).first).to_be_visible()


def stage(page: Page) -> Locator:
    return page.locator(".stage[data-state=ready]")


@pytest.mark.timeout(300)
def test_the_work_day_of_three_roles_and_an_audit_entry_that_was_changed(team: Deployed, people: dict[str, Page], tmp_path: Path) -> None:
    lea, tom, mia = people.values()

    # Lea labels
    first = lea.locator(".cell").first
    first.click()
    lea.keyboard.press("7")
    expect(first).to_have_attribute("aria-label", re.compile("labelled 7"))
    expect(lea.locator(".badge.pending")).to_have_count(0)

    # Each is refused what the role does not hold
    refused(lea, f"{team.url}/train?dataset=digits", "Lea may not start, pause, stop, tag and describe runs.")
    refused(lea, f"{team.url}/review?dataset=digits", "Lea may not decide on what waits in Review")
    refused(mia, f"{team.url}/dataset?dataset=digits&view=Add+images", "Mia may not bring images in")
    expect(tom.get_by_role("link", name="Audit")).to_have_count(0)

    # Tom trains a network and evaluates it
    tom.goto(f"{team.url}/train?dataset=digits")
    tom.get_by_text("Settings", exact=True).click()
    epochs = tom.get_by_role("spinbutton", name="Epochs", exact=True)
    epochs.fill("2")
    epochs.press("Enter")
    tom.wait_for_timeout(600)
    tom.get_by_role("button", name="Start training").click()
    expect(tom.locator(".lp-what")).to_contain_text("Finished", timeout=120_000)
    tom.get_by_role("button", name="See its mistakes").click()
    expect(tom.get_by_text("Most often confused")).to_be_visible()
    refused(tom, f"{team.url}/people", "Tom may not give roles and tokens")

    # Lea asks the network about a picture of hers, and Mia decides on its answer
    lea.goto(f"{team.url}/predict?dataset=digits")
    lea.locator("input[type=file]").set_input_files({"name": "mine.png", "mimeType": "image/png", "buffer": digit_png(3)})
    lea.get_by_role("button", name=re.compile("Send .* to review")).first.click()
    expect(lea.get_by_text("1 to review").first).to_be_visible()
    mia.goto(f"{team.url}/review?dataset=digits")
    expect(stage(mia)).to_be_visible(timeout=60_000)
    mia.wait_for_timeout(300)  # a key counts for a picture that was seen for 150 ms
    mia.keyboard.press("a")
    expect(mia.get_by_text("The queue is empty")).to_be_visible()

    # The audit says who did what; in a copy of the database an entry is changed, and named
    copy = f"sqlite:///{tmp_path / 'copy.db'}"
    assert team.on(team.database, "move-database", copy).returncode == 0
    whole = team.on(copy, "audit", "verify")
    assert whole.returncode == 0 and "entries are as they were written" in whole.stderr
    with sqlite3.connect(tmp_path / "copy.db") as c:
        done = c.execute("SELECT seq, by, kind FROM audit").fetchall()
        assert {(by, kind) for _, by, kind in done} >= {
            *((name, "sign-in") for name in PEOPLE),
            ("Lea", "label"),
            ("Tom", "run.start"),
            ("Mia", "review.decide"),
        }
        assert {kind for _, _, kind in done} <= audit.KINDS.keys()
        (seq,) = (seq for seq, _, kind in done if kind == "review.decide")
        c.execute("DROP TRIGGER audit_no_update")
        c.execute("UPDATE audit SET by = 'Tom', entry = replace(entry, 'Mia', 'Tom') WHERE seq = ?", [seq])
    changed = team.on(copy, "audit", "verify")
    assert changed.returncode == 1 and f"Entry {seq:,} was changed" in changed.stderr and json.loads(changed.stdout)["broken"] == seq
    assert team.on(team.database, "audit", "verify").returncode == 0


def test_what_is_labelled_while_the_database_is_away_is_kept_told_and_stored_once(
    team: Deployed, people: dict[str, Page], postgresql: Cluster
) -> None:
    page = people["Lea"]
    page.goto(f"{team.url}/dataset?dataset=digits")
    expect(page.locator(".cell").first).to_be_visible()
    engine = sa.create_engine(database.address(team.database), pool_pre_ping=True)

    def by_lea() -> list[tuple[str, str]]:
        with engine.connect() as c:
            return [tuple(row) for row in c.exec_driver_sql("SELECT image_id, label FROM label_events WHERE by = 'Lea' ORDER BY seq")]

    before, cells = by_lea(), [page.locator(".cell").nth(i) for i in range(5)]
    others = [str((int(re.findall(r"labelled (\d)", cell.get_attribute("aria-label") or "")[0]) + 1) % 10) for cell in cells]
    cells[0].click()
    page.keyboard.press(others[0])
    expect(page.locator(".badge.pending")).to_have_count(0)
    page.wait_for_timeout(1500)  # the numbers of the page follow
    settled(page)
    try:
        postgresql.stop()
        for other in others[1:]:
            page.keyboard.press("ArrowRight")
            page.keyboard.press(other)
        expect(page.locator(".unsaved")).to_contain_text("4 changes not saved yet: ")
        expect(page.locator(".unsaved")).to_contain_text("cannot be reached, and nothing was stored")
        for _ in range(2):
            with page.expect_response(re.compile("/api/label$")) as answer:  # sent again and again
                pass
            assert answer.value.status == 503
        expect(page.locator(".badge.pending")).to_have_count(4)
    finally:
        postgresql.start()
    expect(page.locator(".badge.pending")).to_have_count(0)
    expect(page.locator(".unsaved")).to_have_count(0)
    stored = by_lea()[len(before) :]
    assert [label for _, label in stored] == others and len({image for image, _ in stored}) == 5
    engine.dispose()
