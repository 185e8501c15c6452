"""Databases that cannot be used, each with what is said of it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path


def missing(db: Path) -> None:
    db.unlink()


def empty(db: Path) -> None:
    db.write_bytes(b"")


def without_tables(db: Path) -> None:
    db.unlink()
    with closing(sqlite3.connect(db)) as c, c:
        c.execute("CREATE TABLE other (x)")


def no_database(db: Path) -> None:
    db.write_bytes(b"not a database at all" * 1000)


def torn(db: Path) -> None:
    data = bytearray(db.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    db.write_bytes(data)


def newer(db: Path) -> None:
    with closing(sqlite3.connect(db)) as c, c:
        c.execute("UPDATE alembic_version SET version_num = 'v9999_the_future'")


DATABASES: list[tuple[Callable[[Path], None], str]] = [
    (missing, "is missing or empty, and"),
    (empty, "is missing or empty, and"),
    (without_tables, "is missing or empty, and"),
    (no_database, "is damaged (file is not a database)"),
    (torn, "is damaged (database disk image is malformed)"),
    (newer, "was last used by a newer Loupe"),
]
