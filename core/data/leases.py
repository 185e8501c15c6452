"""Leases: what one server has for itself as long as it renews them, by the clock of the database."""

from __future__ import annotations

import time

import sqlalchemy as sa
from sqlalchemy import func, select

from core import servers
from core.data.schema import leases, reading, writing


def clock(c: sa.Connection) -> float:
    """Seconds since 1970: of the database's machine, where it has one of its own."""
    if c.dialect.name == "sqlite":
        return time.time()
    return float(c.execute(select(func.extract("epoch", func.clock_timestamp()))).scalar_one())


def take(name: str, seconds: float) -> bool:
    """Whether this server has the lease from now on for so long; False while another that is at work has it."""
    mine = servers.name()
    with writing() as c:
        now = clock(c)
        row = c.execute(select(leases).where(leases.c.name == name)).first()
        lasts = row is not None and now < row.until <= now + seconds + servers.MOST_APART  # longer: of before the clock was set back
        if row is not None and lasts and row.holder != mine and servers.is_there(row.holder):
            return False
        values = {"holder": mine, "until": now + seconds}
        if row is None:
            c.execute(leases.insert().values(name=name, **values))
        else:
            c.execute(leases.update().where(leases.c.name == name).values(**values))
    return True


def release() -> None:
    """Gives back all that this server has."""
    with writing() as c:
        c.execute(leases.delete().where(leases.c.holder == servers.name()))


def held(prefix: str) -> dict[str, str]:
    """The leases whose name begins so and that have not run out: by name who has them."""
    with reading() as c:
        rows = c.execute(select(leases).where(leases.c.name.startswith(prefix, autoescape=True)))
        now = clock(c)
        return {row.name: row.holder for row in rows if row.until > now}
