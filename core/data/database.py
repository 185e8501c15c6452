"""The database's address, and what is said when it cannot be used; nothing here ever shows the password."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from core import space
from core.errors import AppError, Invalid, Unavailable, Unwritable

KINDS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
WRITTEN = (
    "It is written postgresql://NAME:PASSWORD@HOST:5432/DATABASE, with %40 for @, %3A for : and %2F for / in the password, "
    "or sqlite:////FOLDER/loupe.db."
)
# A server that is gone without a word is noticed within half a minute, by whoever waits for it and by whoever comes next; ms, the others s.
PATIENCE = {"connect_timeout": 5, "keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}
QUIET = 5  # seconds after which the server is asked before a connection is used again
LOCK_SECONDS = 30  # as long as SQLite waits
BUSY = "The database is busy, and nothing was stored.", "Try again in a moment."
NO_ROOM = 1_000_000  # bytes
WRITER = 5_012_006  # the advisory lock of whoever writes


def address(text: str) -> sa.URL:
    """What LOUPE_DATABASE_URL names; AppError for what is no address, another kind of database, or a driver that is missing."""
    try:
        url = sa.make_url(text)
        kind = KINDS.get(url.drivername)
        cut = "@" in (url.host or "")  # the end of a password
    except (sa.exc.ArgumentError, ValueError):  # ValueError: the port is no number, but may be a part of the password
        raise AppError("The address of the database cannot be read.", WRITTEN) from None
    if cut:
        raise AppError("The address of the database has more than one @.", WRITTEN)
    if kind is None:
        raise AppError(f"Loupe keeps its data in SQLite or PostgreSQL, not in “{url.drivername}”.", WRITTEN)
    if kind != "sqlite" and find_spec("psycopg") is None:
        raise AppError("The package psycopg, which speaks to PostgreSQL, is missing.", "Run: pip install -r requirements-postgres.txt")
    return url.set(drivername=kind)


def shown(url: sa.URL) -> str:
    """The address without name and password."""
    if url.drivername == "sqlite":
        return url.database or "memory"
    return f"{url.host or url.query.get('host') or 'this machine'}:{url.port or 5432}/{url.database or url.username}"


def options(url: sa.URL) -> dict[str, Any]:
    """What create_engine is told for PostgreSQL."""
    patience = {key: value for key, value in PATIENCE.items() if key not in url.query}
    return {"pool_size": 10, "max_overflow": 20, "connect_args": patience, "hide_parameters": True}  # words of errors are logged


def replace_what_has_ended(engine: sa.Engine) -> None:
    """Lets a connection that a restart has closed be replaced before it is used.

    SQLAlchemy's pool_pre_ping asks the server before each use, a round trip more. A server that ends says so to every connection: on one
    of which there is nothing to read, and which was used a moment ago, nothing is asked.
    """

    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, record: Any) -> None:
        record.info.update(watch=watch(connection.fileno()), used=time.monotonic())

    @sa.event.listens_for(engine, "checkin")
    def checkin(_connection: Any, record: Any) -> None:
        record.info["used"] = time.monotonic()

    @sa.event.listens_for(engine, "checkout")
    def checkout(connection: Any, record: Any, _proxy: Any) -> None:
        try:
            if connection.closed or time.monotonic() - record.info["used"] >= QUIET or record.info["watch"].poll(0):
                engine.dialect.do_ping(connection)
        except Exception as e:
            raise sa.exc.InvalidatePoolError from e  # the pool opens another one, and closes those that are older than this moment


def watch(fd: int) -> Any:
    """Its poll(0) says whether there is something to read; not select(), which knows no file of a number above 1023."""
    made = select.poll()
    made.register(fd, select.POLLIN)
    return made


@contextmanager
def told(url: sa.URL) -> Iterator[None]:
    """Raises Unavailable with a sentence for what the database or the way to it refuses, and Invalid for text that it cannot hold."""
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as e:
        raise (_of_sqlite(url, e) or e if url.drivername == "sqlite" else _unavailable(url, e)) from e
    except sa.exc.DataError as e:
        if "NUL" not in str(e.orig):
            raise
        raise Invalid("A name or a text holds a character of code 0, which cannot be stored.", "Take it out and try again.") from e
    except sa.exc.DatabaseError as e:  # of a damaged file SQLite raises this very class
        raise (_of_sqlite(url, e) or e if url.drivername == "sqlite" else e) from e


def _of_sqlite(url: sa.URL, error: sa.exc.SQLAlchemyError) -> Unavailable | None:
    """None of what is a mistake in the SQL."""
    said, where = str(getattr(error, "orig", None)), shown(url)
    broken = "I/O error" in said  # what SQLite says, too, where it finds no room for its own files beside
    if "is full" in said or (broken and url.database and space.free_at(Path(url.database).parent) < NO_ROOM):
        return Unwritable(f"The disk is full: the database at {where} could not be written, and nothing was stored.", space.ROOM)
    if "readonly" in said or "read-only" in said or "unable to open" in said:
        hint = "Give the account that Loupe runs under the right to read and write the file and its folder, then try again."
        return Unwritable(f"The system refuses access to the database at {where} ({said}).", hint)
    if "locked" in said:
        return Unavailable(*BUSY)
    if broken:
        hint = "Look at the disk: it may be failing. Nothing was stored; keep a copy of the file, and make a backup of what can be read."
        return Unavailable(f"The database at {where} could not be read or written ({said}).", hint)
    if "not a database" in said or "malformed" in said:
        hint = "Nothing was changed. Keep a copy of the file, and bring the last backup back: python -m core restore FILE."
        return Unavailable(f"The database at {where} is damaged ({said}).", hint)
    return None


def _unavailable(url: sa.URL, error: sa.exc.SQLAlchemyError) -> Unavailable:
    cause = getattr(error, "orig", None)
    said, state = str(cause), getattr(cause, "sqlstate", None)  # there is no state while connecting
    where = shown(url)
    if isinstance(error, sa.exc.TimeoutError) or state in ("55P03", "53300") or "too many clients" in said:
        return Unavailable(*BUSY)
    if state == "53100":
        return Unwritable("The disk of the database is full, and nothing was stored.", "Make room on it, then try again.")
    if "password" in said or "role " in said or "pg_hba" in said:
        return Unavailable(f"The database at {where} refused the name or the password.", f"Check LOUPE_DATABASE_URL. {WRITTEN}")
    if "does not exist" in said:
        return Unavailable(f"PostgreSQL has no database {where}.", "Create it, with createdb for example, or check LOUPE_DATABASE_URL.")
    return Unavailable(
        f"The database at {where} cannot be reached, and nothing was stored.",
        "Try again in a moment. If it stays so, see whether PostgreSQL runs, and check address, name and password in LOUPE_DATABASE_URL.",
    )
