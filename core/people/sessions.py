"""Sessions: who a browser is, from what it holds, with the roles of this moment."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from threading import Lock
from urllib.parse import quote, unquote

from core.data import people
from core.errors import AppError, Conflict, Forbidden, Unavailable
from core.people.accounts import checked_person, checked_role
from core.roles import Person
from core.settings import settings
from core.types import now

DAY = 24 * 3600
RECENT = 1.0  # seconds for which a person is remembered: sixty thumbnails at once ask the database once
SEEN = 300.0  # seconds between two notes that somebody is here
MOST = 10_000  # people and sessions that are remembered
_remembered: dict[str, tuple[float, Person | None]] = {}
_noted: dict[str, float] = {}  # when, by name
_refused: dict[tuple[str, str], str] = {}  # on which day a proxy's word was refused last, by name and why
_lock = Lock()


def key(token: str) -> str:
    """What stands in the database in place of the token."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def begin(account: people.Account, way: str, browser: str) -> str:
    """A new session; its token is for the browser alone."""
    token = secrets.token_urlsafe(32)
    until = time.time() + settings().session_days * DAY
    people.begin_session(account.id, key(token), way, browser[:200], until, account.name)
    return token


def end(session: str) -> None:
    people.end_session(session)
    forget()


def end_all(name: str) -> None:
    people.end_sessions(name)
    forget()


def forget() -> None:
    """Lets what was changed in this process hold at once."""
    with _lock:
        _remembered.clear()


def named(token: str) -> str:
    """How the gate tells the pages which session a WebSocket belongs to."""
    return f"session {key(token)}"


def named_by_proxy(name: str) -> str:
    return f"header {quote(name)}"


def remembered(named: str) -> Person | None:
    """The same without asking the database; None where it is not known or not recent."""
    at, person = _remembered.get(named, (0.0, None))
    return person if time.monotonic() - at < RECENT else None


def who(named: str, fresh: bool = False) -> Person | None:
    """The person that the gate has named, if the session holds still; not fresh: as it was within the last second."""
    with _lock:
        at, person = _remembered.get(named, (0.0, None))
    if not fresh and time.monotonic() - at < RECENT:
        return person
    kind, _, value = named.partition(" ")
    find = {"session": _of_session, "header": _of_header}.get(kind)
    person = find(value) if find else None
    with _lock:
        if len(_remembered) >= MOST:
            _remembered.clear()
        _remembered[named] = time.monotonic(), person
    return person


def at_the_gate(named: str, fresh: bool) -> Person | None:
    """`who`; also notes now and then that the person is here, or was refused, which nobody may do within a transaction."""
    try:
        person = who(named, fresh)
    except Unavailable:
        raise
    except AppError as e:
        _note_refusal(unquote(named.partition(" ")[2])[:80], e.message)
        raise
    if person and time.monotonic() - _noted.get(person.name, -SEEN) >= SEEN:
        _noted[person.name] = time.monotonic()
        with contextlib.suppress(Exception):  # a disk that is full, say, keeps nobody out who only looks
            people.seen(person.name)
    return person


def _note_refusal(name: str, why: str) -> None:
    """Once a day: a proxy names the person at every request."""
    today = now()[:10]
    with _lock:
        if _refused.get((name, why)) == today:
            return
        if len(_refused) >= MOST:
            _refused.clear()
        _refused[name, why] = today
    with contextlib.suppress(Exception):  # who is refused is told so in any case
        people.refuse(name, why)


def _of_session(session: str) -> Person | None:
    found = people.of_session(session)
    return found[0] if found and found[1] in settings().sign_in else None


def _of_header(value: str) -> Person | None:
    if "header" not in settings().sign_in:
        return None
    name = checked_person(unquote(value))
    account = people.find(name) or _newcomer(name)
    if account.way != "header":
        raise Conflict(f"“{name}” signs in another way here.", "An admin can remove that person, or choose another name.")
    if account.off_at:
        raise Forbidden(people.OFF)
    return account.acting(f"header {value}")


def _newcomer(name: str) -> people.Account:
    try:
        return people.add(name, usual_role(), "header", back=False)
    except Conflict:  # two requests at once
        return people.get(name)


def usual_role() -> str | None:
    """Of somebody whom a proxy or a provider vouches for, and who was never here."""
    return checked_role(settings().role_of_new) if settings().role_of_new else None
