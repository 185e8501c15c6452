"""Tokens with which other programs ask over HTTP, and the answers kept under their Idempotency-Keys."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import select

from core import roles
from core.data import audit
from core.data.schema import idempotency_keys, reading, tokens, writing
from core.errors import Conflict, Invalid, NotFound
from core.names import name_problem
from core.roles import Person, Role
from core.types import now

PREFIX = "loupe_"  # by it a leaked secret is recognised
RATE = "600/minute"
UNITS = ("second", "minute", "hour", "day")
_RATE = re.compile(rf"[1-9][0-9]{{0,6}}/({'|'.join(UNITS)})")
MOST_DAYS = 3650
KEEP = 2  # days that an answer is kept under its key


@dataclass(frozen=True)
class Token:
    id: int
    name: str
    role: Role
    datasets: tuple[int, ...] | None  # None: every dataset
    rate: str
    made_by: str
    made_at: str
    expires_at: str | None
    revoked_at: str | None

    @property
    def state(self) -> str:
        """usable, expired or revoked."""
        if self.revoked_at:
            return "revoked"
        return "expired" if self.expires_at and self.expires_at <= now() else "usable"

    @property
    def person(self) -> Person:
        name = f"{self.name} (API)"  # so that it never reads like somebody's name
        return Person(name, self.role) if self.datasets is None else Person(name, None, dict.fromkeys(self.datasets, self.role))


def _token(row: Any) -> Token:
    values = {name: value for name, value in row._mapping.items() if name != "hash"}
    return Token(**values | {"datasets": None if row.datasets is None else tuple(json.loads(row.datasets))})


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()  # 256 random bits: nothing that a slow hash could protect


def add(name: str, role: str, datasets: Sequence[int] | None = None, days: int | None = None, rate: str = RATE) -> tuple[Token, str]:
    """Makes a token; its secret is told this once, and is stored nowhere."""
    by = roles.allow("admin").name
    name = unicodedata.normalize("NFC", name.strip())
    if problem := name_problem(name):
        raise Invalid(f"The name of a token {problem}.", "Choose a short name that says who uses it, such as “shop”.")
    if role not in roles.ROLES:
        raise Invalid(f"“{role}” is not a role.", f"Choose one of: {', '.join(roles.ROLES)}.")
    if not _RATE.fullmatch(rate):
        raise Invalid(
            f"“{rate}” is not a rate.", "Write how often in what time, such as 60/minute; second, minute, hour and day are allowed."
        )
    if days is not None and not 0 < days <= MOST_DAYS:
        raise Invalid(f"A token cannot expire after {days:,} days.", f"From 1 to {MOST_DAYS:,} days are allowed.")
    secret = PREFIX + secrets.token_urlsafe(32)
    values = {
        "name": name,
        "hash": _hash(secret),
        "role": role,
        "datasets": None if datasets is None else json.dumps(sorted(set(datasets))),
        "rate": rate,
        "made_by": by,
        "made_at": now(),
        "expires_at": None if days is None else (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="milliseconds"),
    }
    with writing() as c:
        if c.execute(select(tokens.c.id).where(tokens.c.name == name)).first():
            raise Conflict(
                f"There is a token called “{name}”, or there was.", "Choose another name: it stands beside all that was done with it."
            )
        made = _token(c.execute(tokens.insert().values(**values).returning(tokens)).one())
        told = {key: values[key] for key in ("role", "rate", "expires_at")} | {
            "datasets": "all" if datasets is None else sorted(set(datasets))
        }
        audit.record(c, "token.add", on={"token": name}, after=told)
        return made, secret


def listed() -> list[Token]:
    """Every token, the newest first; revoked ones, too."""
    roles.allow("admin")
    with reading() as c:
        return [_token(row) for row in c.execute(select(tokens).order_by(tokens.c.id.desc()))]


def revoke(name: str) -> None:
    """Ends the token at once; a second time changes nothing."""
    roles.allow("admin")
    with writing() as c:
        if not c.execute(select(tokens.c.id).where(tokens.c.name == name)).first():
            raise NotFound(f"There is no token called “{name}”.", "`python -m core token list` names all of them.")
        if c.execute(tokens.update().where(tokens.c.name == name, tokens.c.revoked_at.is_(None)).values(revoked_at=now())).rowcount:
            audit.record(c, "token.revoke", on={"token": name})


def find(secret: str) -> Token | None:
    """The token of the secret, in whatever state; None for a secret that was never given out."""
    with reading() as c:
        row = c.execute(select(tokens).where(tokens.c.hash == _hash(secret))).first()
    return None if row is None else _token(row)


# Idempotency keys ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Begun:
    """What is stored of a request that came before under the same key."""

    request: str
    process: str
    status: int | None
    answer: Any


def begin(token_id: int, key: str, request: str, process: str) -> Begun | None:
    """Stores that the request is being worked on; if its key was used before, stores nothing and says what there is."""
    k = idempotency_keys.c
    with writing() as c:
        c.execute(idempotency_keys.delete().where(k.at < _ago(KEEP)))
        row = c.execute(select(idempotency_keys).where(k.token_id == token_id, k.key == key)).first()
        if row is not None:
            return Begun(row.request, row.process, row.status, None if row.answer is None else json.loads(row.answer))
        c.execute(idempotency_keys.insert().values(token_id=token_id, key=key, request=request, process=process, at=now()))
    return None


def _ago(days: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="milliseconds")


def take_over(token_id: int, key: str, before: str, process: str) -> bool:
    """Whether this process works on the request now, as the one before has ended without an answer; False where a third was faster."""
    k = idempotency_keys.c
    with writing() as c:
        lapsed = (k.token_id == token_id, k.key == key, k.process == before, k.status.is_(None))
        return bool(c.execute(idempotency_keys.update().where(*lapsed).values(process=process)).rowcount)


def answered(token_id: int, key: str, status: int, answer: Any) -> None:
    _change(token_id, key, status=status, answer=json.dumps(answer))


def _change(token_id: int, key: str, **values: Any) -> None:
    k = idempotency_keys.c
    with writing() as c:
        c.execute(idempotency_keys.update().where(k.token_id == token_id, k.key == key).values(**values))


def refused(token_id: int, key: str) -> None:
    """Nothing was done: the key is free again."""
    with writing() as c:
        c.execute(sa.delete(idempotency_keys).where(idempotency_keys.c.token_id == token_id, idempotency_keys.c.key == key))
