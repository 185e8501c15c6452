"""The tables, the engine and its transactions; only core.data writes SQL with them."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from core import servers, space
from core.data import database
from core.errors import AppError, Conflict
from core.settings import settings

Id = TypeVar("Id", str, int)
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
    sa.Column("import_id", sa.Integer),  # that brought it; none: of Review, of the API, or before imports were counted
)
# The order of the grid, with all that a filter asks for: a page far from the first reads this index alone, and not every row before it.
# The source, too, but in PostgreSQL, whose indexes hold no text of more than 2.7 kB.
_in_order = [images.c[name] for name in ("dataset_id", "added_at", "id", "label", "split", "flagged")]
sa.Index("by_time", *_in_order, info={"only": "postgresql"}).ddl_if("postgresql")
sa.Index("by_time_and_name", *_in_order, images.c.source, info={"only": "sqlite"}).ddl_if("sqlite")
_flagged = images.c.flagged.is_(True)
sa.Index("by_flag", images.c.dataset_id, images.c.added_at, images.c.id, sqlite_where=_flagged, postgresql_where=_flagged)
sa.Index("by_label", images.c.dataset_id, images.c.split, images.c.label)
sa.Index("by_change", images.c.dataset_id, images.c.label_seq)
_changed = images.c.given_seq != images.c.label_seq  # since its label was given: a flag
sa.Index("by_given", images.c.dataset_id, images.c.given_seq, sqlite_where=_changed, postgresql_where=_changed)
# Images that were taken out: their rows as they were, label_seq that of the event that did it. Who reads images need not know of them.
removed = sa.Table(
    "removed",
    meta,
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), primary_key=True),
    *(
        sa.Column(one.name, one.type, primary_key=one.primary_key, nullable=one.nullable, server_default=one.server_default)
        for one in images.c
        if one.name != "dataset_id"
    ),
)
sa.Index("removed_by_time", removed.c.dataset_id, removed.c.label_seq)
# What brought images in, so that it can be undone; of imports that added any.
imports = sa.Table(
    "imports",
    meta,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), nullable=False),
    sa.Column("operation", sa.String, nullable=False, unique=True),  # of its label events
    sa.Column("by", sa.String, nullable=False),
    sa.Column("source", sa.String, nullable=False),  # as people call it
    sa.Column("images", sa.Integer, nullable=False),  # that it added
    sa.Column("began", sa.String, nullable=False),  # added_at of the first and the last of them
    sa.Column("ended", sa.String, nullable=False),
    sa.Column("after_seq", sa.Integer, nullable=False),  # the last label event before it
)
sa.Index("imports_of", imports.c.dataset_id, imports.c.id)
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
# The lines of History: acts by one person, told as core.data.history says. Written with the events, which alone say what was done to whom.
history = sa.Table(
    "history",
    meta,
    sa.Column("dataset_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("first", sa.Integer, primary_key=True, autoincrement=False),  # seq
    sa.Column("last", sa.Integer, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("began", sa.String, nullable=False),
    sa.Column("at", sa.String, nullable=False),
    sa.Column("note", sa.String, nullable=False),
    sa.Column("label", sa.String),
    sa.Column("mixed", sa.Boolean, nullable=False),
    sa.Column("images", sa.Integer, nullable=False),
    sa.Column("acts", sa.Integer, nullable=False),
    sa.Column("operation", sa.String),  # of the last act
)
sa.Index("history_by_time", history.c.dataset_id, history.c.last, history.c.at, history.c.began)
sa.Index("history_by_person", history.c.dataset_id, history.c.by, history.c.last)
sa.Index("history_by_operation", history.c.dataset_id, history.c.operation)
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
    # Where it stands: predicted, passed, blocked, waiting, second, lead, appeal, audit, known, decided. Verdict and label above are final.
    sa.Column("state", sa.String, nullable=False, server_default="waiting"),
    sa.Column("source", sa.String, nullable=False, server_default=""),
    sa.Column("risk", sa.Float, nullable=False, server_default="0"),  # the highest probability of a class that its policy blocks
    sa.Column("band", sa.String),  # pass, ask or block, as its policy said when it came
    sa.Column("policy_id", sa.Integer),
    sa.Column("basket", sa.String),  # waiting, accepted or refused, once it is decided under a policy
    sa.Column("known", sa.String),  # the answer of a picture that is mixed in to measure people
    sa.Column("fingerprint", sa.BigInteger),  # core.data.images.fingerprint, its 64 bits as a signed number; None: not taken yet
    sa.Column("blind", sa.Boolean, nullable=False, server_default=sa.false()),  # its policy drew that it is decided without the answer
)
sa.Index("queue", submissions.c.dataset_id, submissions.c.verdict)
sa.Index("by_certainty", submissions.c.dataset_id, submissions.c.state, submissions.c.probability, submissions.c.id)
sa.Index("by_risk", submissions.c.dataset_id, submissions.c.state, submissions.c.risk, submissions.c.probability)
sa.Index("by_age", submissions.c.dataset_id, submissions.c.state, submissions.c.at, submissions.c.id)
sa.Index("by_picture", submissions.c.dataset_id, submissions.c.image_id)
sa.Index("by_fingerprint", submissions.c.dataset_id, submissions.c.fingerprint, submissions.c.id)
# What every run that was asked says of a picture; that of the run it was sent with stands in submissions, too.
answers = sa.Table(
    "answers",
    meta,
    sa.Column("submission_id", sa.ForeignKey("submissions.id"), primary_key=True),
    sa.Column("run_id", sa.String, primary_key=True),
    sa.Column("predicted", sa.String, nullable=False),
    sa.Column("probability", sa.Float, nullable=False),
    sa.Column("probabilities", sa.String, nullable=False),  # JSON
    sa.Column("at", sa.String, nullable=False),
)
# Only ever appended; one that was taken back says so.
decisions = sa.Table(
    "decisions",
    meta,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("dataset_id", sa.Integer, nullable=False),
    sa.Column("submission_id", sa.ForeignKey("submissions.id"), nullable=False),
    sa.Column("stage", sa.String, nullable=False),  # the state that the picture was in
    sa.Column("verdict", sa.String, nullable=False),  # accepted, corrected, rejected, escalated
    sa.Column("label", sa.String),
    sa.Column("predicted", sa.String, nullable=False),
    sa.Column("run_id", sa.String, nullable=False),
    sa.Column("policy_id", sa.Integer),
    sa.Column("hint", sa.Boolean, nullable=False, server_default=sa.true()),  # whether the network's answer was shown
    sa.Column("by", sa.String, nullable=False),
    sa.Column("at", sa.String, nullable=False),
    sa.Column("seconds", sa.Float),  # from the picture being shown to the key
    sa.Column("note", sa.String, nullable=False, server_default=""),
    sa.Column("reason", sa.String, nullable=False, server_default=""),
    sa.Column("operation", sa.String, unique=True),  # the client's id of the act: the same act is stored once
    sa.Column("undone_at", sa.String),
    sa.Column("undone_by", sa.String),
    sqlite_autoincrement=True,
)
sa.Index("decisions_of_one", decisions.c.submission_id, decisions.c.by)
sa.Index("decisions_by_time", decisions.c.dataset_id, decisions.c.at)
sa.Index("decisions_by_person", decisions.c.dataset_id, decisions.c.by, decisions.c.seq)
review_claims = sa.Table(
    "review_claims",
    meta,
    sa.Column("submission_id", sa.ForeignKey("submissions.id"), primary_key=True),
    sa.Column("dataset_id", sa.Integer, nullable=False),
    sa.Column("session", sa.String, nullable=False),
    sa.Column("person", sa.String, nullable=False),
    sa.Column("until", sa.Float, nullable=False),  # seconds since 1970
    sa.Column("held", sa.Boolean, nullable=False, server_default=sa.false()),
)
sa.Index("claims_of_session", review_claims.c.dataset_id, review_claims.c.session)
review_skips = sa.Table(
    "review_skips",
    meta,
    sa.Column("submission_id", sa.ForeignKey("submissions.id"), primary_key=True),
    sa.Column("person", sa.String, primary_key=True),
)
# Never changed once written; which one is active, or runs in the shadow, follows from its events.
policies = sa.Table(
    "policies",
    meta,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), nullable=False),
    sa.Column("run_id", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("at", sa.String, nullable=False),
    sa.Column("rules", sa.String, nullable=False),  # JSON
)
policy_events = sa.Table(
    "policy_events",
    meta,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("dataset_id", sa.Integer, nullable=False),
    sa.Column("policy_id", sa.ForeignKey("policies.id"), nullable=False),
    sa.Column("kind", sa.String, nullable=False),  # active, shadow, off
    sa.Column("by", sa.String, nullable=False),
    sa.Column("at", sa.String, nullable=False),
    sqlite_autoincrement=True,
)
# By which predictions are removed once they are old; carried out daily, and only ever set or switched off.
removal_rules = sa.Table(
    "removal_rules",
    meta,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), nullable=False),
    sa.Column("days", sa.Integer, nullable=False),
    sa.Column("classes", sa.String, nullable=False),  # JSON; an empty list: all of them
    sa.Column("waiting", sa.Boolean, nullable=False),  # also what waits for a person
    sa.Column("by", sa.String, nullable=False),
    sa.Column("at", sa.String, nullable=False),
    sa.Column("off_at", sa.String),
    sa.Column("ran_at", sa.String),
    sa.Column("removed", sa.Integer),  # when it ran last
)
sa.Index("removal_rules_of", removal_rules.c.dataset_id)
# Who signs in. Somebody removed keeps the row: the name stands beside what was done, and is nobody else's.
people = sa.Table(
    "people",
    meta,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column("role", sa.String),  # None: no access but where dataset_roles gives one
    sa.Column("way", sa.String, nullable=False),  # to sign in: accounts, oidc or header
    sa.Column("subject", sa.String, unique=True),  # of OpenID Connect: issuer and sub
    sa.Column("password", sa.String),  # Argon2
    sa.Column("created_at", sa.String, nullable=False),
    sa.Column("removed_at", sa.String),
    sa.Column("off_at", sa.String),  # switched off, until it is switched on again
    sa.Column("seen_at", sa.String),  # at the gate, to some minutes
)
dataset_roles = sa.Table(
    "dataset_roles",
    meta,
    sa.Column("person_id", sa.ForeignKey("people.id"), primary_key=True),
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), primary_key=True),
    sa.Column("role", sa.String),  # None: no access there
)
# Keys are SHA-256 of what the browser or the link holds: who reads the database can sign in with neither.
sessions = sa.Table(
    "sessions",
    meta,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("person_id", sa.ForeignKey("people.id"), nullable=False),
    sa.Column("way", sa.String, nullable=False),
    sa.Column("browser", sa.String, nullable=False),
    sa.Column("begun_at", sa.String, nullable=False),
    sa.Column("until", sa.Float, nullable=False),  # seconds since 1970
)
sa.Index("sessions_of", sessions.c.person_id)
links = sa.Table(
    "links",
    meta,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("person_id", sa.ForeignKey("people.id"), nullable=False),
    sa.Column("until", sa.Float, nullable=False),  # seconds since 1970
)
# In a row, by the name that was typed, whether there is such a person or not.
wrong_passwords = sa.Table(
    "wrong_passwords",
    meta,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("last", sa.Float, nullable=False),  # seconds since 1970
)
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
# What other programs present at the HTTP API; of the secret only its SHA-256 is here.
tokens = sa.Table(
    "tokens",
    meta,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String, nullable=False, unique=True),  # for ever: it stands beside what was done with it
    sa.Column("hash", sa.String(64), nullable=False, unique=True),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("datasets", sa.String),  # JSON list of ids; none: every dataset
    sa.Column("rate", sa.String, nullable=False),  # such as 60/minute
    sa.Column("made_by", sa.String, nullable=False),
    sa.Column("made_at", sa.String, nullable=False),
    sa.Column("expires_at", sa.String),
    sa.Column("revoked_at", sa.String),
)
# What was asked with an Idempotency-Key, and the answer: the same key gets it again, and nothing is done twice.
idempotency_keys = sa.Table(
    "idempotency_keys",
    meta,
    sa.Column("token_id", sa.Integer, sa.ForeignKey("tokens.id"), primary_key=True),
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("request", sa.String(64), nullable=False),  # SHA-256 of what was asked
    sa.Column("process", sa.String, nullable=False),  # that is at it, or was
    sa.Column("at", sa.String, nullable=False),
    sa.Column("status", sa.Integer),  # none until it is answered
    sa.Column("answer", sa.String),  # JSON
)
# What one of several servers does for all of them, and that each is there.
leases = sa.Table(
    "leases",
    meta,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("holder", sa.String, nullable=False),  # core.servers.name()
    sa.Column("until", sa.Float, nullable=False),  # seconds since 1970
)
# What is told to other systems: it waits here until they have taken it.
webhook_deliveries = sa.Table(
    "webhook_deliveries",
    meta,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("hook", sa.String, nullable=False),  # its name in the settings
    sa.Column("subject", sa.String, nullable=False),  # what it speaks of: told once
    sa.Column("body", sa.String, nullable=False),  # JSON
    sa.Column("made_at", sa.String, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("next_at", sa.Float),  # seconds since 1970; none once it was taken, or given up
    sa.Column("taken_at", sa.String),
    sa.Column("error", sa.String, nullable=False),  # of the last try
    sa.UniqueConstraint("hook", "subject"),
)
sa.Index("deliveries_by_time", webhook_deliveries.c.next_at)


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


# Threads of one process queue here: those that wait in SQLite sleep and try again, and whoever sleeps longest is passed by all others;
# those that wait in PostgreSQL would take the connections of those who read.
_turn = threading.Lock()


@lru_cache(maxsize=1)
def engine() -> sa.Engine:
    return opened(database.address(settings().database_url))


def opened(url: sa.URL) -> sa.Engine:
    """The database at the address, brought to today's tables; AppError where it is empty beside a data folder that is not."""
    if url.drivername == "sqlite":
        refuse_other_machines(url)
        if url.database and not _holds_bytes(Path(url.database)):
            refuse_to_begin_anew(url)  # before SQLite makes the file
    made = connected(url)
    try:
        with database.told(url):
            with made.connect() as connection, connection.begin():
                current = _is_current(connection)
                if not current and not sa.inspect(connection).has_table("datasets"):
                    refuse_to_begin_anew(url)
            if not current:
                servers.refuse_other_code()  # before tables change under a server that does not know them
                with made.connect().execution_options(write=True) as connection, connection.begin():
                    migrate(connection)
    except BaseException:
        made.dispose()
        raise
    return made


def _holds_bytes(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
    except OSError as e:
        raise space.refusal(e) from None


def refuse_other_machines(url: sa.URL) -> None:
    """Conflict where a server of another machine is at work: two systems that write one SQLite file over a network damage it."""
    if others := servers.others():
        raise Conflict(
            f"The server {others[0].host} is at work on {settings().home}, and SQLite, at {database.shown(url)}, is for one machine alone.",
            "Move to PostgreSQL with python -m core move-database on that machine (docs/postgres.md), and name it on both; or end that server.",
        )


def refuse_to_begin_anew(url: sa.URL) -> None:
    """AppError where the data folder holds images or runs: what is begun beside them would give their numbers to others."""
    home = settings().home
    held = [(what, any(home.glob(pattern))) for what, pattern in (("images", "images/??/*"), ("runs", "runs/*/config.json"))]
    if there := " and ".join(what for what, found in held if found):
        raise AppError(
            f"The database at {database.shown(url)} is missing or empty, and {home} holds {there} that belong to one.",
            "Bring the database back, with python -m core restore FILE from a backup, or set LOUPE_DATABASE_URL to where it is. To begin "
            "anew, and lay aside all that is there, run: python -m core check --begin-anew. Nothing was changed.",
        )


def connected(url: sa.URL) -> sa.Engine:
    """The database at the address, as it is."""
    return _sqlite(url) if url.drivername == "sqlite" else _postgresql(url)


def _sqlite(url: sa.URL) -> sa.Engine:
    used = library()
    made = sa.create_engine(url, module=used, hide_parameters=True)  # in the words of errors, which are logged
    path = Path(url.database) if url.database else None
    journal = "WAL" if wal_is_safe(used.sqlite_version_info) else "DELETE"  # the default, safe in any version

    @sa.event.listens_for(made, "connect")
    def pragmas(connection: Any, _record: Any) -> None:
        if path is not None:
            with suppress(OSError):  # another account's
                path.chmod(0o600)  # SQLite gives its other files the same
        connection.isolation_level = None  # transactions are begun below, not guessed by the driver
        connection.execute(f"PRAGMA busy_timeout={1000 * database.LOCK_SECONDS}")
        begun = time.monotonic()
        while True:
            try:
                connection.execute(f"PRAGMA journal_mode={journal}")
                break
            except used.OperationalError as e:  # two begin at once on a database of another mode: SQLite lets neither wait for the other
                if "locked" not in str(e) or time.monotonic() - begun > database.LOCK_SECONDS:
                    raise
                time.sleep(0.02)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @sa.event.listens_for(made, "begin")
    def begin(connection: sa.Connection) -> None:
        write = connection.get_execution_options().get("write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return made


def _postgresql(url: sa.URL) -> sa.Engine:
    """Transactions as SQLite has them: who writes waits for the one before, who reads sees one moment.

    One writer at a time is what makes a lower seq never come after a higher one, and “is it there?” followed by “insert it” right.
    """
    made = sa.create_engine(url, **database.options(url))
    database.replace_what_has_ended(made)

    @sa.event.listens_for(made, "begin")
    def begin(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("write", False):
            # Each statement after this one sees all that the writer before has stored: PostgreSQL's “read committed”.
            limit = f"set_config('lock_timeout', '{database.LOCK_SECONDS}s', true)"
            connection.exec_driver_sql(f"SELECT {limit}, pg_advisory_xact_lock({database.WRITER})")

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


def migrate(connection: sa.Connection) -> None:
    """Runs the migrations that are missing; whoever held the write lock before may have run them already."""
    if _is_current(connection):
        return
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    command.upgrade(config, "head")
    if connection.dialect.name == "postgresql":
        _by_code_point(connection)


def _by_code_point(connection: sa.Connection) -> None:
    """Gives every text of the tables SQLite's order, in which letters stand by their code point, in place of the order of the server."""
    quote = connection.dialect.identifier_preparer.quote
    inspector = sa.inspect(connection)
    for table in meta.sorted_tables:
        types = {column["name"]: column["type"] for column in inspector.get_columns(table.name)}
        texts = [(name, kind) for name, kind in types.items() if isinstance(kind, sa.String) and kind.collation != "C"]
        for _, kind in texts:
            kind.collation = "C"
        changes = [f"ALTER COLUMN {quote(name)} TYPE {kind.compile(connection.dialect)}" for name, kind in texts]
        if changes:  # in one statement: no row is written anew, but every index of the table is
            connection.exec_driver_sql(f"ALTER TABLE {quote(table.name)} {', '.join(changes)}")


_moment: ContextVar[sa.Connection | None] = ContextVar("moment", default=None)


@contextmanager
def moment() -> Iterator[None]:
    """All that is read inside is read in one transaction: of its own, each question would cost PostgreSQL three round trips more.

    For a few quick questions one after another; nothing is written inside.
    """
    with reading() as c:
        before = _moment.set(c)
        try:
            yield
        finally:
            _moment.reset(before)


@contextmanager
def reading() -> Iterator[sa.Connection]:
    """One transaction that sees one moment."""
    if (shared := _moment.get()) is not None:
        yield shared
        return
    made = engine()
    how = {} if made.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with database.told(made.url), made.connect().execution_options(**how) as connection, connection.begin():
        yield connection


@contextmanager
def glancing() -> Iterator[sa.Connection]:
    """For one statement alone, which sees one moment by itself: without a transaction PostgreSQL is asked twice less."""
    made = engine()
    how = {} if made.dialect.name == "sqlite" else {"isolation_level": "AUTOCOMMIT"}
    with database.told(made.url), made.connect().execution_options(**how) as connection:
        yield connection


def ping() -> None:
    """Raises what the driver raises where the database does not answer."""
    with reading() as c:
        c.execute(sa.select(1))


@contextmanager
def writing() -> Iterator[sa.Connection]:
    """One transaction that takes the write lock at its start: it waits its turn instead of failing half-way."""
    made = engine()
    with _turn, database.told(made.url), made.connect().execution_options(write=True) as connection, connection.begin():
        yield connection


def parts(ids: Sequence[Id], size: int = 500) -> Iterator[Sequence[Id]]:
    """Chunks below SQLite's limit on bound variables."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def by_id(dataset_id: int, ids: Sequence[str]) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions for the images of the dataset with these ids, parts() at most.

    The last is true of each, of a column that no index holds: else SQLite reads label or split from the index of the order in which
    images came, all of the dataset for a few: of a million 0.18 s, not 0.004.
    """
    i = images.c
    return i.dataset_id == dataset_id, i.id.in_(ids), i.size_bytes >= 0
