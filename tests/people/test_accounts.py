"""Local accounts: links that work once, passwords, waits that grow, sessions that end."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from argon2 import Parameters, PasswordHasher, extract_parameters

from core import roles
from core.data import audit, people, schema, store
from core.errors import AppError, Conflict, Forbidden, Invalid, NotFound
from core.people import accounts, sessions
from core.roles import Person
from core.settings import settings
from core.types import Dataset

GOOD = "a sentence with spaces"


@pytest.fixture(autouse=True)
def signed_in(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Accounts are on, and a password costs a millisecond."""
    monkeypatch.setenv("LOUPE_SIGN_IN", "accounts")
    settings.cache_clear()
    monkeypatch.setattr(accounts, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    yield
    settings.cache_clear()


def ann(role: str = "labeller") -> people.Account:
    return accounts.set_first_password(accounts.add("Ann", role), GOOD)


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    at = time.time() + seconds
    monkeypatch.setattr(time, "time", lambda: at)


@pytest.mark.databases("sqlite", "postgresql")
def test_a_link_sets_one_password_and_then_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    token = accounts.add("Ann", "labeller")
    with pytest.raises(Forbidden):
        accounts.check("Ann", "")  # nobody signs in without a password
    assert accounts.of_link(token).name == "Ann"
    accounts.set_first_password(token, GOOD)
    assert accounts.check("Ann", GOOD).role == "labeller"
    with pytest.raises(NotFound, match="used already, or has expired"):
        accounts.set_first_password(token, "another sentence")
    old, new = accounts.new_link("Ann"), accounts.new_link("Ann")
    with pytest.raises(NotFound):
        accounts.of_link(old)
    later(monkeypatch, 25 * 3600)
    with pytest.raises(NotFound):
        accounts.of_link(new)
    with pytest.raises(NotFound):
        accounts.of_link("half a character \ud800")


def test_passwords_and_tokens_stand_nowhere_in_the_database(home: Path) -> None:
    link = accounts.add("Ann", "labeller")
    token = sessions.begin(people.get("Ann"), "accounts", "a browser")
    accounts.set_first_password(accounts.new_link("Ann"), GOOD)
    schema.engine().dispose()
    stored = b"".join(path.read_bytes() for path in home.glob("loupe.db*"))
    assert b"$argon2id$" in stored and not [one for one in (link, token, GOOD) if one.encode() in stored]


@pytest.mark.parametrize("password", ["", "too short", "x" * 1001])
def test_a_password_of_a_wrong_length_is_refused_and_the_link_still_works(password: str) -> None:
    token = accounts.add("Ann", "labeller")
    with pytest.raises(Invalid, match="Use 10 to 1,000"):
        accounts.set_first_password(token, password)
    assert accounts.of_link(token).name == "Ann"


@pytest.mark.databases("sqlite", "postgresql")
def test_wrong_passwords_slow_down_and_never_lock_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    ann()
    for name in ("Ann", "nobody of this name"):  # the same words: nobody learns who is here
        for _ in range(5):
            with pytest.raises(Forbidden, match=r"The name or the password is wrong."):
                accounts.check(name, "wrong")
        with pytest.raises(Forbidden, match="too many wrong passwords"):
            accounts.check(name, GOOD)
    for _ in range(40):  # however long somebody guesses
        later(monkeypatch, 61)
        with pytest.raises(Forbidden, match="is wrong"):
            accounts.check("Ann", "wrong")
        assert 0 < accounts.seconds_to_wait("Ann") <= 60
    later(monkeypatch, -3600)  # a clock that jumps back
    assert accounts.seconds_to_wait("Ann") <= 60
    later(monkeypatch, 3600 + 61)
    sessions.begin(accounts.check("Ann", GOOD), "accounts", "")
    assert accounts.seconds_to_wait("Ann") == 0 and people.count_wrong("Ann") == (0, 0.0)


def test_a_name_that_nobody_has_costs_the_same_hash_as_a_wrong_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the time of an answer would tell who is here."""
    asked: list[Parameters] = []

    class Counting(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
            asked.append(extract_parameters(str(hash)))
            return super().verify(hash, password)

    monkeypatch.setattr(accounts, "_hasher", Counting(time_cost=1, memory_cost=8, parallelism=1))
    accounts._nobodys.cache_clear()
    ann()
    accounts.add("Bob", "viewer")  # has set no password yet
    people.add("Cleo", "viewer", "oidc")
    for name in ("Ann", "nobody", "Bob", "Cleo", ""):
        with pytest.raises(Forbidden, match="is wrong"):
            accounts.check(name, "a wrong sentence")
    assert len(asked) == 5 and len(set(map(str, asked))) == 1
    accounts._nobodys.cache_clear()


@pytest.mark.databases("sqlite", "postgresql")
def test_a_new_password_ends_every_other_session() -> None:
    made = ann()
    here, there = (sessions.begin(made, "accounts", browser) for browser in ("Firefox", "Chromium"))
    assert [one.browser for one in people.sessions_of("Ann")] == ["Chromium", "Firefox"]
    with pytest.raises(Forbidden):
        accounts.change_password("Ann", "not the old one", "another sentence", sessions.key(here))
    accounts.change_password("Ann", GOOD, "another sentence", sessions.key(here))
    assert sessions.who(sessions.named(here), fresh=True) and not sessions.who(sessions.named(there), fresh=True)
    accounts.check("Ann", "another sentence")
    sessions.end_all("Ann")
    assert sessions.who(sessions.named(here)) is None  # at once, in the process that did it


@pytest.mark.databases("sqlite", "postgresql")
def test_a_session_ends_by_itself_with_its_person_and_with_its_way_to_sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ann()
    token = sessions.begin(made, "accounts", "")
    person = sessions.who(sessions.named(token))
    assert person == Person("Ann", "labeller", {}, sessions.key(token))
    for forged in ("", "session ", f"session {token}", f"header {made.name}", sessions.named(token[:-1])):
        assert sessions.who(forged, fresh=True) is None
    with monkeypatch.context() as patch:
        patch.setenv("LOUPE_SIGN_IN", "header")
        patch.setenv("LOUPE_PROXIES", "127.0.0.1")
        settings.cache_clear()
        assert sessions.who(sessions.named(token), fresh=True) is None
    settings.cache_clear()
    with monkeypatch.context() as patch:
        later(patch, 8 * 24 * 3600)
        assert sessions.who(sessions.named(token), fresh=True) is None
    accounts.remove("Ann")
    assert sessions.who(sessions.named(token), fresh=True) is None


@pytest.mark.databases("sqlite", "postgresql")
def test_somebody_who_comes_back_gets_nothing_of_what_was(small: Dataset) -> None:
    accounts.set_first_password(accounts.add("Root", "admin"), GOOD)  # the last admin cannot be removed
    ann("admin")
    people.set_dataset_role("Ann", small.id, "trainer")
    accounts.remove("Ann")
    with pytest.raises(Forbidden):
        accounts.check("Ann", GOOD)
    with pytest.raises(NotFound):
        accounts.set_role("Ann", "admin")
    token = accounts.add("Ann", "viewer")
    with pytest.raises(Conflict):
        accounts.add("Ann", "admin")
    assert accounts.of_link(token).datasets == {} and accounts.of_link(token).role == "viewer"
    with pytest.raises(Forbidden):
        accounts.check("Ann", GOOD)


@pytest.mark.databases("sqlite", "postgresql")
def test_roles_of_datasets_count_at_once(small: Dataset) -> None:
    named = sessions.named(sessions.begin(ann(), "accounts", ""))

    def may(verb: str) -> bool:
        person = sessions.who(named, fresh=True)
        return person is not None and person.may(verb, small.id)

    assert may("label")
    accounts.set_role("Ann", None, small.id)
    assert not may("see")
    accounts.set_role("Ann", "trainer", small.id)
    assert may("train")
    accounts.clear_dataset_role("Ann", small.id)
    accounts.set_role("Ann", "viewer")
    assert may("see") and not may("label")
    accounts.set_role("Ann", "trainer", small.id)
    empty = store.create_dataset("empty")
    accounts.set_role("Ann", "trainer", empty.id)
    store.remove_if_empty(empty.id)
    assert set(people.get("Ann").datasets) == {small.id}


@pytest.mark.databases("sqlite", "postgresql")
def test_an_account_that_is_switched_off_lets_nobody_in_and_comes_back_as_it_was(small: Dataset) -> None:
    made, named = ann(), sessions.named(sessions.begin(people.get("Ann"), "accounts", ""))
    accounts.set_role("Ann", "trainer", small.id)
    link = accounts.new_link("Ann")
    for _ in range(2):  # a second time changes nothing
        accounts.switch_off("Ann")
    assert sessions.who(named, fresh=True) is None
    with pytest.raises(Forbidden, match="switched your account off"):
        accounts.check("Ann", GOOD)
    with pytest.raises(Forbidden, match="is wrong"):  # only who knows the password is told
        accounts.check("Ann", "a wrong sentence")
    with pytest.raises(Forbidden, match="switched your account off"):  # who was just signing in
        sessions.begin(made, "accounts", "")
    with pytest.raises(NotFound):
        accounts.of_link(link)
    with pytest.raises(Conflict, match="Switch it on first"):
        accounts.new_link("Ann")
    for _ in range(2):
        accounts.switch_on("Ann")
    back = accounts.check("Ann", GOOD)
    assert (back.role, back.datasets, people.sessions_of("Ann")) == ("labeller", {small.id: "trainer"}, [])
    told = [(one.kind, (one.after or {}).get("why")) for one in audit.search(audit.Which(), 1, 5)[0]]
    failed = [("sign-in.failed", "wrong password"), ("sign-in.failed", "switched off")]
    assert told[:4] == [("person.on", None), *failed, ("person.off", None)]


@pytest.mark.databases("sqlite", "postgresql")
def test_the_last_admin_who_can_sign_in_cannot_be_taken_away(home: Path) -> None:
    ann("admin")
    accounts.add("Bob", "admin")  # has not opened the link yet
    for act in (lambda: accounts.set_role("Ann", "trainer"), lambda: accounts.switch_off("Ann"), lambda: accounts.remove("Ann")):
        with pytest.raises(Conflict, match="“Ann” is the only admin who can sign in"):
            act()
    accounts.set_role("Ann", "admin")
    accounts.set_first_password(accounts.new_link("Bob"), GOOD)
    accounts.switch_off("Ann")
    with pytest.raises(Conflict, match="“Bob” is the only admin"):
        accounts.set_role("Bob", None)
    accounts.switch_on("Ann")
    accounts.set_role("Bob", None)


@pytest.mark.databases("sqlite", "postgresql")
def test_people_are_found_by_a_part_of_their_names_page_by_page(home: Path) -> None:
    for name in ("Jörg", "Anna", "Annette", "Hanna"):
        accounts.add(name, "viewer")
    accounts.remove("Annette")

    def found(text: str, page: int) -> tuple[list[str], int]:
        some, total = accounts.listed(text, page, 2)
        return [one.name for one in some], total

    assert found("", 1) == (["Anna", "Hanna"], 3) and found("", 2) == (["Jörg"], 3)
    assert found("ANN", 1) == (["Anna", "Hanna"], 2) and found("JÖ", 1) == (["Jörg"], 1) and found("%", 1) == ([], 0)


def test_when_somebody_was_last_seen_is_noted_at_the_gate_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ann()
    assert made.seen_at is None
    named, monotonic = sessions.named(sessions.begin(made, "accounts", "")), time.monotonic()
    monkeypatch.setattr(sessions, "_noted", {})
    noted: list[str] = []

    def full(name: str) -> None:
        noted.append(name)
        raise OSError("No space left on device")  # which keeps nobody out

    monkeypatch.setattr(people, "seen", full)
    assert people.get("Ann").seen_at
    for _ in range(3):
        person = sessions.at_the_gate(named, fresh=True)
        assert person and person.name == "Ann"
    assert noted == ["Ann"]
    monkeypatch.setattr(time, "monotonic", lambda: monotonic + 2 * sessions.SEEN)
    sessions.at_the_gate(named, fresh=True)
    assert noted == ["Ann", "Ann"]


def test_an_admin_ends_all_sessions_of_somebody_and_the_audit_says_so() -> None:
    named = [sessions.named(sessions.begin(made, "accounts", "")) for made in [ann()] for _ in range(2)]
    assert accounts.sign_out("Ann") == 2
    assert [sessions.who(one, fresh=True) for one in named] == [None, None]
    (entry,) = audit.search(audit.Which(kind="person.sign-out"), 1, 10)[0]
    assert entry.on == {"person": "Ann"} and entry.after == {"sessions": 2} and entry.by == roles.current().name


def test_only_an_admin_gives_roles() -> None:
    ann()
    for role in roles.ROLES[:-1]:
        with roles.acting(Person("Ann", role)):
            for act in (
                lambda: accounts.add("Bob", "admin"),
                lambda: accounts.new_link("Ann"),
                lambda: accounts.set_role("Ann", "admin"),
                lambda: accounts.clear_dataset_role("Ann", 1),
                lambda: accounts.remove("Ann"),
                lambda: accounts.listed("", 1, 10),
                lambda: accounts.signed_in("Ann"),
                lambda: accounts.switch_off("Ann"),
                lambda: accounts.switch_on("Ann"),
                lambda: accounts.sign_out("Ann"),
            ):
                with pytest.raises(Forbidden, match="give roles"):
                    act()


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "two\nlines", "a\u202eb"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        accounts.add(name, "viewer")


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("LOUPE_SIGN_IN", "acounts", "LOUPE_SIGN_IN names “acounts”"),
        ("LOUPE_SIGN_IN", "accounts,oidc", "LOUPE_OIDC_ISSUER"),
        ("LOUPE_SIGN_IN", "header", "LOUPE_PROXIES is not set"),
        ("LOUPE_PROXIES", "proxy.example", "LOUPE_PROXIES names “proxy.example”"),
        ("LOUPE_SESSION_DAYS", "0", "LOUPE_SESSION_DAYS is “0”"),
    ],
)
def test_a_wrong_setting_is_told_with_what_is_allowed(monkeypatch: pytest.MonkeyPatch, name: str, value: str, why: str) -> None:
    monkeypatch.setenv(name, value)
    settings.cache_clear()
    with pytest.raises(AppError, match=why) as told:
        settings()
    assert told.value.hint


def test_the_command_line_adds_lists_changes_and_removes(command: Callable[..., subprocess.CompletedProcess[str]], small: Dataset) -> None:
    done = command("user", "add", "Ann", "--role", "labeller", "--url", "https://loupe.example/")
    link = json.loads(done.stdout)["link"]
    assert done.returncode == 0 and link.startswith("https://loupe.example/welcome/") and "It works once" in done.stderr
    assert accounts.of_link(link.rpartition("/")[2]).name == "Ann"
    assert command("user", "role", "Ann", "trainer").returncode == 0
    assert command("user", "role", "Ann", "none", "--dataset", small.name).returncode == 0
    assert json.loads(command("user", "list").stdout) == [
        {
            "name": "Ann",
            "role": "trainer",
            "way": "accounts",
            "datasets": {small.name: None},
            "password": False,
            "off": False,
            "last_seen": None,
        }
    ]
    assert command("user", "role", "Ann", "same", "--dataset", small.name).returncode == 0
    assert command("user", "add", "Ann", "--role", "admin").returncode == 1
    assert command("user", "add", "Bob", "--role", "king").returncode == 2
    assert command("user", "role", "Ann", "same").returncode == 2
    assert "/welcome/" in command("user", "link", "Ann").stdout
    assert command("user", "off", "Ann").returncode == 0 and json.loads(command("user", "list").stdout)[0]["off"]
    assert "Switch it on first" in command("user", "link", "Ann").stderr
    assert command("user", "on", "Ann").returncode == 0 and not json.loads(command("user", "list").stdout)[0]["off"]
    assert json.loads(command("user", "sign-out", "Ann").stdout)["sessions_ended"] == 0
    assert command("user", "remove", "Ann").returncode == 0 and json.loads(command("user", "list").stdout) == []
    assert command("user", "remove", "Ann").returncode == 1


def test_what_a_person_might_do_in_a_dataset_before_stands_in_the_audit(small: Dataset) -> None:
    people.add("Ann", "moderator", "accounts")
    for role in ("trainer", None):
        people.set_dataset_role("Ann", small.id, role)
    people.clear_dataset_role("Ann", small.id)
    people.set_dataset_role("Ann", small.id, "labeller")
    people.remove("Ann")
    found = [(one.before, one.after) for one in audit.search(audit.Which(), 1, 5)[0]][::-1]
    changes = ["as everywhere", "trainer", None, "as everywhere", "labeller"]
    assert found == [
        *[({"role": a}, {"role": b}) for a, b in pairwise(changes)],
        ({"role": "moderator", "datasets": {str(small.id): "labeller"}}, None),
    ]


@pytest.mark.databases("sqlite", "postgresql")
def test_people_sign_ins_and_wrong_passwords_leave_entries_in_the_audit(home: Path) -> None:
    made = people.add("Ann", "moderator", "accounts")
    people.set_role("Ann", "viewer")
    people.add_wrong("Ann")
    people.begin_session(made.id, "k" * 64, "accounts", "Firefox", time.time() + 60)
    people.remove("Ann")
    removed = audit.search(audit.Which(), 1, 1)[0][0]
    assert removed.kind == "person.remove" and removed.before == {"role": "viewer", "datasets": {}}
    found = [(one.kind, one.by) for one in audit.search(audit.Which(), 1, 10)[0]][::-1]
    admin = roles.current().name
    kinds = [("person.add", admin), ("person.role", admin), ("sign-in.failed", "Ann"), ("sign-in", "Ann"), ("person.remove", admin)]
    assert found == kinds and "k" * 64 not in str(audit.search(audit.Which(), 1, 10)[0])
