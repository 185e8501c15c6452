"""Every row from the database of today into an empty one: from SQLite into PostgreSQL, or back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func, select

from core.data import audit, database, schema
from core.errors import Invalid
from core.types import Progress, silent

AT_ONCE = 1000  # rows


@dataclass(frozen=True)
class Moved:
    rows: dict[str, int]  # by table
    audit: audit.Verdict  # on the chain in the other database; broken only if it was before


def move(to: str, on_progress: Progress = silent) -> Moved:
    """Copies all tables into the database at the address, as one transaction in which nobody writes.

    What was copied is read again and compared with what was there. Invalid if the other database holds anything.
    """
    url = database.address(to)
    if _place(url) == _place(schema.engine().url):
        raise Invalid("That is the database which is in use now.", "Give the address of an empty one.")
    with schema.writing() as old:
        audit.record(old, "move", on={}, after={"to": database.shown(url)})  # so that the other one has it as well
        return into_empty(old, url, on_progress)


def into_empty(old: sa.Connection, url: sa.URL, on_progress: Progress = silent) -> Moved:
    """copy() into the database at the address, as one transaction; Invalid if that holds anything."""
    target = schema.connected(url)
    try:
        with database.told(url), target.connect().execution_options(write=True) as new, new.begin():
            if there := _holds(new):
                raise Invalid(
                    f"The database at {database.shown(url)} is not empty: it holds {there}.",
                    "Give the address of an empty one. Nothing was changed.",
                )
            schema.migrate(new)
            return Moved(copy(old, new, on_progress), audit.verified(new, on_progress))
    finally:
        target.dispose()


def copy(old: sa.Connection, new: sa.Connection, on_progress: Progress = silent) -> dict[str, int]:
    """Every row of the one database into the other, which has the tables and no rows; read again and compared. The rows of each table."""
    copied: dict[str, int] = {}
    for done, table in enumerate(tables := schema.meta.sorted_tables):
        on_progress(done, len(tables), "tables")
        copied[table.name] = _copy(old, new, table)
        _count_on(new, table)
    on_progress(len(tables), len(tables), "tables")
    return copied


def _place(url: sa.URL) -> tuple[object, ...]:
    if url.drivername == "sqlite":
        return (Path(url.database or "").resolve(),)
    return url.host, url.port or 5432, url.database or url.username


def _holds(new: sa.Connection) -> str:
    """What is there already, in words: rows of Loupe's tables, or tables of another program."""
    names = set(sa.inspect(new).get_table_names()) - {"alembic_version"}
    if others := sorted(names - set(schema.meta.tables)):
        return f"the table “{others[0]}”, which is not Loupe's"
    filled = [name for name in sorted(names) if new.execute(select(1).select_from(sa.table(name)).limit(1)).first()]
    return f"rows in “{filled[0]}”" if filled else ""


def _copy(old: sa.Connection, new: sa.Connection, table: sa.Table) -> int:
    rows, wrote = 0, hashlib.sha256()
    for part in _parts(old, table):
        try:
            new.execute(table.insert(), [dict(row._mapping) for row in part])
        except sa.exc.DataError as e:  # SQLite takes any value in any column
            raise Invalid(
                f"The table “{table.name}” holds something that the other database cannot: {str(e.orig).splitlines()[0]}.",
                "Nothing was changed.",
            ) from e
        rows += len(part)
        _digest(wrote, part)
    found, read = 0, hashlib.sha256()
    for part in _parts(new, table):
        found += len(part)
        _digest(read, part)
    if (found, read.digest()) != (rows, wrote.digest()):
        raise Invalid(
            f"The table “{table.name}” did not arrive as it was: {found:,} rows of {rows:,}, or others.",
            "Nothing was changed; please report it.",
        )
    return rows


def _parts(c: sa.Connection, table: sa.Table) -> Iterator[list[Any]]:
    """The rows in the order of the primary key, which is the same in every database."""
    yield from (list(part) for part in c.execute(select(table).order_by(*table.primary_key)).yield_per(AT_ONCE).partitions())


def _digest(digest: Any, rows: list[Any]) -> None:
    digest.update("".join(f"{tuple(row)!r}\n" for row in rows).encode("utf-8", "surrogatepass"))


def _count_on(new: sa.Connection, table: sa.Table) -> None:
    """Lets PostgreSQL's numbers go on after the last one; SQLite's do so by themselves."""
    column = table.autoincrement_column
    if new.dialect.name == "postgresql" and column is not None:
        sequence = func.pg_get_serial_sequence(new.dialect.identifier_preparer.quote(table.name), column.name)
        last = new.execute(select(func.max(column))).scalar()
        if last is not None:
            new.execute(select(func.setval(sequence, last)))
