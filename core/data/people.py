"""People, their roles, sessions and one-time links, as rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import select

from core.data import audit
from core.data.schema import dataset_roles, glancing, links, people, reading, sessions, writing, wrong_passwords
from core.errors import Conflict, Forbidden, NotFound
from core.roles import Person, Role
from core.types import now

ENDED = "An admin has ended your access to this Loupe."
OFF = "An admin has switched your account off."
EVERYWHERE = "as everywhere"  # in the audit: the role in a dataset of who has none of its own there
FORGOTTEN = 24 * 3600.0  # seconds after which wrong passwords do not count any more


@dataclass(frozen=True)
class Account:
    id: int
    name: str
    role: Role | None
    way: str  # to sign in
    password: str | None  # its hash
    datasets: Mapping[int, Role | None]
    off_at: str | None = None
    seen_at: str | None = None

    def acting(self, session: str = "") -> Person:
        return Person(self.name, self.role, self.datasets, session)


@dataclass(frozen=True)
class Session:
    key: str
    way: str
    browser: str
    begun_at: str
    until: float


def _account(c: sa.Connection, row: Any) -> Account:
    held = c.execute(select(dataset_roles.c.dataset_id, dataset_roles.c.role).where(dataset_roles.c.person_id == row.id))
    datasets = {dataset_id: role for dataset_id, role in held}
    return Account(row.id, row.name, row.role, row.way, row.password, datasets, row.off_at, row.seen_at)


def _here(c: sa.Connection, name: str) -> Any:
    row = c.execute(select(people).where(people.c.name == name, people.c.removed_at.is_(None))).first()
    if row is None:
        raise NotFound(f"There is nobody called “{name}” here.", "python -m core user list names everybody.")
    return row


def everybody() -> list[Account]:
    with reading() as c:
        rows = c.execute(select(people).where(people.c.removed_at.is_(None)).order_by(people.c.name)).all()
        return [_account(c, row) for row in rows]


def here(names: Sequence[str]) -> set[str]:
    """Those of the names that somebody bears today."""
    with reading() as c:
        return set(c.execute(select(people.c.name).where(people.c.name.in_(set(names)), people.c.removed_at.is_(None))).scalars())


def listed(text: str, page: int, per_page: int) -> tuple[list[Account], int]:
    """One page (from 1) of those with the text in their name, by name, and how many they are on all pages."""
    with reading() as c:
        rows = c.execute(select(people).where(people.c.removed_at.is_(None)).order_by(people.c.name)).all()
        found = [
            row for row in rows if text.casefold() in row.name.casefold()
        ]  # here: for the databases only ASCII has upper and lower case
        first = (max(1, page) - 1) * per_page
        return [_account(c, row) for row in found[first : first + per_page]], len(found)


def get(name: str) -> Account:
    with reading() as c:
        return _account(c, _here(c, name))


def find(name: str) -> Account | None:
    with reading() as c:
        row = c.execute(select(people).where(people.c.name == name, people.c.removed_at.is_(None))).first()
        return None if row is None else _account(c, row)


def add(name: str, role: str | None, way: str, subject: str | None = None, back: bool = True) -> Account:
    """Somebody who was removed comes back as a new person, with nothing but the name, or not at all; Conflict where somebody has it.

    not back: who comes by a proxy's or a provider's word, and so adds themselves.
    """
    with writing() as c:
        row = c.execute(select(people).where(people.c.name == name)).first()
        if row is not None and row.removed_at is None:
            raise Conflict(f"There is a “{name}” already.", "Choose another name, or change that person's role.")
        if row is not None and not back:
            raise Forbidden(ENDED)
        values = {"role": role, "way": way, "subject": subject, "password": None, "created_at": now(), "removed_at": None}
        values |= {"off_at": None, "seen_at": None}
        if row is None:
            made = c.execute(people.insert().values(name=name, **values).returning(people)).one()
        else:
            c.execute(dataset_roles.delete().where(dataset_roles.c.person_id == row.id))
            made = c.execute(people.update().where(people.c.id == row.id).values(values).returning(people)).one()
        audit.record(c, "person.add", on={"person": name}, after={"role": role, "way": way}, by=None if back else name)
        return _account(c, made)


def known_by(subject: str, name: str) -> Account | None:
    """The person of a provider's subject; one whom an admin has named for this way becomes that person the first time."""
    with writing() as c:
        row = c.execute(select(people).where(people.c.subject == subject)).first()
        if row is not None and row.removed_at:
            raise Forbidden(ENDED)
        if row is None:
            waiting = (people.c.name == name, people.c.way == "oidc", people.c.subject.is_(None), people.c.removed_at.is_(None))
            row = c.execute(people.update().where(*waiting).values(subject=subject).returning(people)).first()
        if row is not None and row.off_at:
            raise Forbidden(OFF)
        return None if row is None else _account(c, row)


def _keep_an_admin(c: sa.Connection, row: Any) -> None:
    """Conflict for the only admin who can sign in: nobody could give roles any more."""
    p = people.c
    able = (p.role == "admin", p.removed_at.is_(None), p.off_at.is_(None), sa.or_(p.way != "accounts", p.password.is_not(None)))
    admins = set(c.execute(select(p.id).where(*able)).scalars())
    if admins == {row.id}:
        raise Conflict(f"“{row.name}” is the only admin who can sign in.", "Make somebody else an admin first.")


def set_role(name: str, role: str | None, by_claim: bool = False) -> None:
    """by_claim: the provider says so, which may take the last admin, too: its word holds, and the command line remains."""
    with writing() as c:
        row = _here(c, name)
        if role != "admin" and not by_claim:
            _keep_an_admin(c, row)
        c.execute(people.update().where(people.c.id == row.id).values(role=role))
        said = {"claim": True} if by_claim else {}  # of whom nobody here decided
        by = name if by_claim else None
        audit.record(c, "person.role", on={"person": name}, before={"role": row.role}, after={"role": role, **said}, by=by)


def set_dataset_role(name: str, dataset_id: int, role: str | None) -> None:
    with writing() as c:
        where = {"person_id": _here(c, name).id, "dataset_id": dataset_id}
        before = _clear_dataset_role(c, **where)
        c.execute(dataset_roles.insert().values(**where, role=role))
        audit.record(c, "person.role", on={"person": name, "dataset": dataset_id}, before={"role": before}, after={"role": role})


def clear_dataset_role(name: str, dataset_id: int) -> None:
    """Lets the role that the person has everywhere hold there again."""
    with writing() as c:
        before = _clear_dataset_role(c, _here(c, name).id, dataset_id)
        audit.record(c, "person.role", on={"person": name, "dataset": dataset_id}, before={"role": before}, after={"role": EVERYWHERE})


def _clear_dataset_role(c: sa.Connection, person_id: int, dataset_id: int) -> str | None:
    """What it was, in the words of the audit."""
    d = dataset_roles.c
    gone = dataset_roles.delete().where(d.person_id == person_id, d.dataset_id == dataset_id).returning(d.role)
    return next(iter(c.execute(gone).scalars().all()), EVERYWHERE)


def remove(name: str) -> None:
    """The name stays beside what was done; sessions, links, roles and password go."""
    with writing() as c:
        row = _here(c, name)
        _keep_an_admin(c, row)
        before = {"role": row.role, "datasets": {str(one): role for one, role in _account(c, row).datasets.items()}}
        for table in (sessions, links, dataset_roles):
            c.execute(table.delete().where(table.c.person_id == row.id))
        gone = {"removed_at": now(), "password": None, "role": None}
        c.execute(people.update().where(people.c.id == row.id).values(gone))
        audit.record(c, "person.remove", on={"person": name}, before=before)


def switch_off(name: str) -> None:
    """Ends sessions and links; password, role and datasets wait for the account to be switched on again."""
    with writing() as c:
        row = _here(c, name)
        if row.off_at:
            return
        _keep_an_admin(c, row)
        for table in (sessions, links):
            c.execute(table.delete().where(table.c.person_id == row.id))
        c.execute(people.update().where(people.c.id == row.id).values(off_at=now()))
        audit.record(c, "person.off", on={"person": name})


def switch_on(name: str) -> None:
    with writing() as c:
        if c.execute(people.update().where(people.c.id == _here(c, name).id, people.c.off_at.is_not(None)).values(off_at=None)).rowcount:
            audit.record(c, "person.on", on={"person": name})


def seen(name: str) -> None:
    """Notes that the person is here now.

    Whom a proxy lets in at every request has no session that begins: the first time on a day (UTC) stands for it in the audit.
    """
    p = people.c
    with writing() as c:
        here = p.name == name, p.removed_at.is_(None)
        before = c.execute(select(p.way, p.seen_at).where(*here)).first()
        c.execute(people.update().where(*here).values(seen_at=now()))
        if before and before.way == "header" and (before.seen_at or "")[:10] != now()[:10]:
            audit.record(c, "sign-in", on={"person": name}, after={"way": "header"}, by=name)


# Links and passwords ------------------------------------------------------------------------------


def set_link(name: str, key: str, until: float) -> None:
    """The person's one link: an older one ends."""
    with writing() as c:
        row = _here(c, name)
        if row.off_at:
            raise Conflict(f"The account of “{name}” is switched off.", "Switch it on first.")
        c.execute(links.delete().where(sa.or_(links.c.person_id == row.id, links.c.until < time.time())))
        c.execute(links.insert().values(key=key, person_id=row.id, until=until))
        audit.record(c, "person.link", on={"person": name})


def of_link(key: str) -> Account | None:
    with reading() as c:
        here = people.join(links, links.c.person_id == people.c.id)
        row = c.execute(select(people).select_from(here).where(links.c.key == key, links.c.until > time.time())).first()
        return None if row is None else _account(c, row)


def set_password(name: str, password: str, keep: str = "", link: str = "") -> bool:
    """Ends all sessions but the one to keep; False if a link was given and somebody has used it a moment ago."""
    with writing() as c:
        person_id = _here(c, name).id
        if link and not c.execute(links.delete().where(links.c.key == link, links.c.person_id == person_id)).rowcount:
            return False
        c.execute(people.update().where(people.c.id == person_id).values(password=password))
        c.execute(sessions.delete().where(sessions.c.person_id == person_id, sessions.c.key != keep))
        c.execute(wrong_passwords.delete().where(wrong_passwords.c.name == name))
        audit.record(c, "person.password", on={"person": name}, by=name)
        return True


def count_wrong(name: str) -> tuple[int, float]:
    """How many wrong passwords in a row were given for the name, and when the last one."""
    with reading() as c:
        row = c.execute(select(wrong_passwords.c.count, wrong_passwords.c.last).where(wrong_passwords.c.name == name)).first()
        return (row.count, row.last) if row is not None and row.last > time.time() - FORGOTTEN else (0, 0.0)  # type: ignore[return-value]


def add_wrong(name: str) -> None:
    at = time.time()
    with writing() as c:
        c.execute(wrong_passwords.delete().where(wrong_passwords.c.last < at - FORGOTTEN))
        w = wrong_passwords.c
        if not c.execute(wrong_passwords.update().where(w.name == name).values(count=w["count"] + 1, last=at)).rowcount:
            c.execute(wrong_passwords.insert().values(name=name, count=1, last=at))
        audit.record(c, "sign-in.failed", on={"person": name}, after={"why": "wrong password"}, by=name)


def refuse(name: str, why: str) -> None:
    """Writes down that somebody who proved to be that person was not let in."""
    with writing() as c:
        audit.record(c, "sign-in.failed", on={"person": name}, after={"why": why}, by=name)


# Sessions -----------------------------------------------------------------------------------------


def begin_session(person_id: int, key: str, way: str, browser: str, until: float, name: str = "") -> None:
    """name: whose wrong passwords are forgotten with it. Forbidden where the account was ended or switched off a moment ago."""
    with writing() as c:
        who = c.execute(people.update().where(people.c.id == person_id).values(seen_at=now()).returning(people)).one()
        if who.off_at or who.removed_at:
            raise Forbidden(OFF if who.off_at else ENDED)
        c.execute(sessions.delete().where(sessions.c.until < time.time()))
        c.execute(sessions.insert().values(key=key, person_id=person_id, way=way, browser=browser, begun_at=now(), until=until))
        c.execute(wrong_passwords.delete().where(wrong_passwords.c.name == name))
        audit.record(c, "sign-in", on={"person": who.name}, after={"way": way, "browser": browser}, by=who.name)


_OF_SESSION = (  # made once: it is asked at every act, and to put it together takes as long as the answer
    select(people.c.name, people.c.role, sessions.c.way, dataset_roles.c.dataset_id, dataset_roles.c.role.label("there"))
    .select_from(
        sessions.join(people, people.c.id == sessions.c.person_id).outerjoin(dataset_roles, dataset_roles.c.person_id == people.c.id)
    )
    .where(
        sessions.c.key == sa.bindparam("key"),
        sessions.c.until > sa.bindparam("at"),
        people.c.removed_at.is_(None),
        people.c.off_at.is_(None),
    )
)


def of_session(key: str) -> tuple[Person, str] | None:
    """Who it is, and by which way that person came."""
    with glancing() as c:
        rows = c.execute(_OF_SESSION, {"key": key, "at": time.time()}).all()
    if not rows:
        return None
    name, role, way = rows[0][:3]
    return Person(name, role, {dataset_id: there for *_, dataset_id, there in rows if dataset_id is not None}, key), way


def sessions_of(name: str) -> list[Session]:
    """Newest first."""
    with reading() as c:
        s = sessions.c
        found = select(s.key, s.way, s.browser, s.begun_at, s.until).where(s.person_id == _here(c, name).id, s.until > time.time())
        return [Session(*row) for row in c.execute(found.order_by(s.begun_at.desc()))]


def end_session(key: str) -> None:
    with writing() as c:
        c.execute(sessions.delete().where(sessions.c.key == key))


def end_sessions(name: str) -> int:
    """How many there were."""
    with writing() as c:
        ended = c.execute(sessions.delete().where(sessions.c.person_id == _here(c, name).id)).rowcount
        audit.record(c, "person.sign-out", on={"person": name}, after={"sessions": ended})
        return ended
