"""Local accounts: a one-time link to begin with, a password, and waits that grow with every wrong one."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
import unicodedata
from functools import lru_cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from core.data import people
from core.errors import Forbidden, Invalid, NotFound
from core.roles import ROLES, allow
from core.settings import WAYS, settings

LINK_HOURS = 24
LEAST, MOST = 10, 1000  # characters of a password
FREE = 5  # wrong passwords in a row before somebody has to wait
LONGEST = 60.0  # seconds: whoever guesses is slowed down, and nobody is locked out
_hasher = PasswordHasher()  # argon2id with the parameters of RFC 9106's second choice: about 50 ms and 64 MB


def checked_role(role: str) -> str:
    if role not in ROLES:
        raise Invalid(f"“{role}” is not a role.", f"Roles are: {', '.join(ROLES)}.")
    return role


def checked_person(name: str) -> str:
    name = unicodedata.normalize("NFC", name.strip())
    if not 1 <= len(name) <= 80 or any(unicodedata.category(one).startswith("C") for one in name):
        raise Invalid("The name of a person must have 1 to 80 characters on one line.", "Choose a short name, such as “Ann”.")
    return name


def add(name: str, role: str | None, way: str = "accounts") -> str:
    """Adds somebody; returns the token of a link to set a password with, "" for who comes by another way. None: no role everywhere."""
    allow("admin")
    if way not in WAYS:
        raise Invalid(f"“{way}” is not a way to sign in.", f"Ways are: {', '.join(WAYS)}.")
    account = people.add(checked_person(name), None if role is None else checked_role(role), way)
    return new_link(account.name) if way == "accounts" else ""


def listed(text: str, page: int, per_page: int) -> tuple[list[people.Account], int]:
    """One page (from 1) of those with the text in their name, and how many they are on all pages."""
    allow("admin")
    return people.listed(text, page, per_page)


def signed_in(name: str) -> list[people.Session]:
    """Somebody's sessions, newest first."""
    allow("admin")
    return people.sessions_of(name)


def new_link(name: str) -> str:
    """The token of a new one-time link; an older one ends, the password holds until it is used."""
    allow("admin")
    if people.get(name).way != "accounts":
        raise Invalid(f"“{name}” has no password here.", "That person signs in by another way.")
    token = secrets.token_urlsafe(32)
    people.set_link(name, _key(token), time.time() + LINK_HOURS * 3600)
    return token


def set_role(name: str, role: str | None, dataset_id: int | None = None) -> None:
    """Everywhere, or in one dataset; None: no access. It counts at the person's next click."""
    allow("admin")
    if role is not None:
        checked_role(role)
    if dataset_id is None:
        people.set_role(name, role)
    else:
        people.set_dataset_role(name, dataset_id, role)


def clear_dataset_role(name: str, dataset_id: int) -> None:
    """Lets the role that the person has everywhere hold in the dataset again."""
    allow("admin")
    people.clear_dataset_role(name, dataset_id)


def remove(name: str) -> None:
    """Ends somebody's access at once; the name stays beside what was done."""
    allow("admin")
    people.remove(name)


def switch_off(name: str) -> None:
    """Ends sessions and links, and lets nobody in under the name; all else waits for `switch_on`."""
    allow("admin")
    people.switch_off(name)


def switch_on(name: str) -> None:
    allow("admin")
    people.switch_on(name)


def sign_out(name: str) -> int:
    """Ends all sessions of somebody; how many there were."""
    allow("admin")
    return people.end_sessions(name)


def _key(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def of_link(token: str) -> people.Account:
    found = people.of_link(_key(token))
    if found is None:
        raise NotFound("This link was used already, or has expired.", "Ask an admin for a new one: python -m core user link NAME.")
    return found


def set_first_password(token: str, password: str) -> people.Account:
    account = of_link(token)
    if not people.set_password(account.name, _hashed(password), link=_key(token)):
        raise NotFound("This link was used already.", "Ask an admin for a new one if it was not you.")
    return account


def change_password(name: str, old: str, new: str, session: str) -> None:
    """Ends all other sessions of the person."""
    hashed = _hashed(new)
    check(name, old)
    people.set_password(name, hashed, keep=session)


def _hashed(password: str) -> str:
    if not LEAST <= len(password) <= MOST:
        raise Invalid(f"The password has {len(password):,} characters.", f"Use {LEAST} to {MOST:,}; a sentence is easy to remember.")
    return _hasher.hash(unicodedata.normalize("NFC", password))


@lru_cache(maxsize=1)
def _nobodys() -> str:
    """A hash to be wrong about: without it an unknown name would be answered sooner."""
    return _hasher.hash(secrets.token_urlsafe(16))


def seconds_to_wait(name: str) -> float:
    count, last = people.count_wrong(name)
    if count < FREE:
        return 0.0
    return max(0.0, min(LONGEST, last + min(LONGEST, 2.0 ** (count - FREE)) - time.time()))  # also where the clock has jumped back


def check(name: str, password: str) -> people.Account:
    """The account of whoever knows the password; Forbidden in the same words for a wrong one and an unknown name."""
    name = unicodedata.normalize("NFC", name.strip())[:80]
    if seconds := seconds_to_wait(name):
        raise Forbidden(
            "There were too many wrong passwords for this name.", f"Try again in {seconds:.0f} s." if seconds >= 1 else "Try again."
        )
    found = people.find(name)
    hashed = found.password if found and found.way == "accounts" else None
    right = False
    with contextlib.suppress(VerificationError, InvalidHashError):
        right = _hasher.verify(hashed or _nobodys(), unicodedata.normalize("NFC", password[:MOST])) and hashed is not None
    if not right or found is None or "accounts" not in settings().sign_in:
        people.add_wrong(name)
        raise Forbidden("The name or the password is wrong.", "Try again, or ask an admin for a new link.")
    if found.off_at:  # said only to who knows the password
        people.refuse(name, "switched off")
        raise Forbidden(people.OFF, "Ask an admin to switch it on again.")
    return found
