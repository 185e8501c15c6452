"""The tables, the engine and its transactions; only core.data writes SQL with them."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from core.errors import AppError
from core.settings import settings

MIGRATIONS = Path(__file__).parent / "migrations"

meta = sa.MetaData()
datasets = sa.Table(
    "datasets",
    meta,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("created_at", sa.String, nullable=False),
    sa.Column("splits_given", sa.Boolean, nullable=False, default=False),
    sa.Column("deleted_at", sa.String),
)
# A deleted dataset keeps its rows (deletion can be undone) but frees its name.
sa.Index(
    "live_name",
    datasets.c.name,
    unique=True,
    sqlite_where=datasets.c.deleted_at.is_(None),
    postgresql_where=datasets.c.deleted_at.is_(None),
)
classes = sa.Table(
    "classes",
    meta,
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("guideline", sa.String, nullable=False, server_default=""),
    sa.Column("retired_at", sa.String),  # no longer offered; no image carries it
)
# What happened to the classes themselves: label events keep the words of their day, this says what those are called now.
class_events = sa.Table(
    "class_events",
    meta,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("to", sa.String),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("at", sa.String, nullable=False),
    sa.Column("after_seq", sa.Integer, nullable=False),  # the last label event before it
    sqlite_autoincrement=True,
)
# Images that show what belongs to a class, and what only seems to.
examples = sa.Table(
    "examples",
    meta,
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), primary_key=True),
    sa.Column("class", sa.String, primary_key=True),
    sa.Column("image_id", sa.String(16), primary_key=True),
    sa.Column("accepted", sa.Boolean, nullable=False),
)
images = sa.Table(
    "images",
    meta,
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), primary_key=True),
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("ext", sa.String, nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("channels", sa.Integer, nullable=False),
    sa.Column("size_bytes", sa.Integer, nullable=False),
    sa.Column("split", sa.String, nullable=False),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("added_at", sa.String, nullable=False),
    sa.Column("thumb_offset", sa.BigInteger, nullable=False),
    sa.Column("thumb_size", sa.Integer, nullable=False),
    # Written together with an event, so that filters and counts need no join; a class that is renamed writes label alone.
    sa.Column("label", sa.String),
    sa.Column("label_seq", sa.Integer, nullable=False, default=0),
    sa.Column("flagged", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("given_seq", sa.Integer, nullable=False, server_default="0"),  # of the event that gave the label: a flag may come after
)
sa.Index("by_time", images.c.dataset_id, images.c.added_at, images.c.id)
sa.Index("by_label", images.c.dataset_id, images.c.split, images.c.label)
sa.Index("by_change", images.c.dataset_id, images.c.label_seq)
label_events = sa.Table(
    "label_events",
    meta,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("dataset_id", sa.Integer, nullable=False),
    sa.Column("image_id", sa.String(16), nullable=False),
    sa.Column("label", sa.String),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("at", sa.String, nullable=False),
    sa.Column("note", sa.String, nullable=False, default=""),
    sa.Column("previous", sa.String),
    sa.Column("flagged", sa.Boolean),  # the flag after it, where the event changed that
    sa.Column("operation", sa.String),  # the client's id of the act: the same act is stored once
    sa.UniqueConstraint("dataset_id", "image_id", "operation"),
    sqlite_autoincrement=True,
)
sa.Index("events_by_time", label_events.c.dataset_id, label_events.c.at)
# Images dealt out to somebody, so that no two people get the same one.
claims = sa.Table(
    "claims",
    meta,
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), primary_key=True),
    sa.Column("image_id", sa.String(16), primary_key=True),
    sa.Column("session", sa.String, nullable=False),
    sa.Column("until", sa.Float, nullable=False),  # seconds since 1970
)
# Predictions that came with an import; those of a run lie in its folder.
predictions = sa.Table(
    "predictions",
    meta,
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), primary_key=True),
    sa.Column("image_id", sa.String(16), primary_key=True),
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("label", sa.String, nullable=False),
    sa.Column("score", sa.Float),
)
submissions = sa.Table(
    "submissions",
    meta,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), nullable=False),
    sa.Column("run_id", sa.String, nullable=False),
    sa.Column("image_id", sa.String(16), nullable=False),
    sa.Column("ext", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("at", sa.String, nullable=False),
    sa.Column("predicted", sa.String, nullable=False),
    sa.Column("probability", sa.Float, nullable=False),
    sa.Column("probabilities", sa.String, nullable=False),  # JSON
    sa.Column("verdict", sa.String),
    sa.Column("label", sa.String),
    sa.Column("decided_by", sa.String),
    sa.Column("decided_at", sa.String),
)
sa.Index("queue", submissions.c.dataset_id, submissions.c.verdict)
# Who did what: only core.data.audit adds to it, and triggers of the migration refuse everything else.
audit = sa.Table(
    "audit",
    meta,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),  # from 1, without a gap
    sa.Column("at", sa.String, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("entry", sa.Text, nullable=False),  # RFC 8785 JSON: all of it; the columns above are for searching
    sa.Column("hash", sa.String(64), nullable=False),  # SHA-256 of the entry; the next one names it
)
sa.Index("audit_by_person", audit.c.by, audit.c.kind, audit.c.at)
sa.Index("audit_by_kind", audit.c.kind, audit.c.at)
sa.Index("audit_by_time", audit.c.at)
# The images that an entry names, for searching.
audit_images = sa.Table(
    "audit_images",
    meta,
    sa.Column("seq", sa.Integer, sa.ForeignKey("audit.seq"), primary_key=True, autoincrement=False),
    sa.Column("image_id", sa.String(16), primary_key=True),
)
sa.Index("audit_by_image", audit_images.c.image_id)


def wal_is_safe(version: tuple[int, ...]) -> bool:
    """SQLite 3.7.0 to 3.51.2 can lose committed rows in WAL mode when two processes write at once.

    The fix was carried back to 3.44.6 and 3.50.7.
    """
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


def library() -> Any:
    """Python's own sqlite3 where it is safe in WAL mode, else pysqlite3's if that is installed and safe.

    All connections of a process are of one of them: a second SQLite that closes the same file would drop the locks of the first.
    """
    if not wal_is_safe(sqlite3.sqlite_version_info):
        with suppress(ImportError):
            from pysqlite3 import dbapi2  # type: ignore[import-not-found, import-untyped, unused-ignore]

            if wal_is_safe(dbapi2.sqlite_version_info):
                return dbapi2
    return sqlite3


# Threads of one process queue here: those that wait in SQLite sleep and try again, and whoever sleeps longest is passed by all others.
_turn = threading.Lock()


@lru_cache(maxsize=1)
def engine() -> sa.Engine:
    url = sa.make_url(settings().database_url)
    used = library()
    made = sa.create_engine(url, **({"module": used} if url.get_dialect().name == "sqlite" else {}))
    if made.dialect.name == "sqlite":
        journal = "WAL" if wal_is_safe(used.sqlite_version_info) else "DELETE"  # the default, safe in any version

        @sa.event.listens_for(made, "connect")
        def pragmas(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # transactions are begun below, not guessed by the driver
            for pragma in (
                "busy_timeout=30000",
                f"journal_mode={journal}",
                "synchronous=FULL",
                "foreign_keys=ON",
            ):
                connection.execute(f"PRAGMA {pragma}")

        @sa.event.listens_for(made, "begin")
        def begin(connection: sa.Connection) -> None:
            write = connection.get_execution_options().get("write", False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    try:
        with made.connect() as connection, connection.begin():
            current = _is_current(connection)
        if not current:
            with made.connect().execution_options(write=True) as connection, connection.begin():
                _migrate(connection)
    except BaseException:
        made.dispose()
        raise
    return made


def _is_current(connection: sa.Connection) -> bool:
    """Whether every migration has run: asked in SQL, since importing Alembic would slow down each start.

    AppError for a database of a newer Loupe.
    """
    known = sorted(path.stem for path in (MIGRATIONS / "versions").glob("v*.py"))
    if not sa.inspect(connection).has_table("alembic_version"):
        return False
    revision = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    if revision is not None and revision not in known:
        raise AppError(
            f"The database was last used by a newer Loupe: it is at “{revision}”, and this Loupe knows no later state than “{known[-1]}”.",
            "Start the newer Loupe, or set LOUPE_HOME to the folder of another database. Nothing was changed.",
        )
    return revision == known[-1]


def _migrate(connection: sa.Connection) -> None:
    """Runs the migrations that are missing; whoever held the write lock before may have run them already."""
    if _is_current(connection):
        return
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    command.upgrade(config, "head")


@contextmanager
def reading() -> Iterator[sa.Connection]:
    with engine().connect() as connection, connection.begin():
        yield connection


def ping() -> None:
    """Raises what the driver raises where the database does not answer."""
    with reading() as c:
        c.execute(sa.select(1))


@contextmanager
def writing() -> Iterator[sa.Connection]:
    """One transaction that takes the write lock at its start: it waits its turn instead of failing half-way."""
    made = engine()
    turn = _turn if made.dialect.name == "sqlite" else nullcontext()
    with turn, made.connect().execution_options(write=True) as connection, connection.begin():
        yield connection


def parts(ids: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    """Chunks below SQLite's limit on bound variables."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]
