"""What PostgreSQL alone can get wrong: its way to today's tables, its order of letters, an address that leads nowhere, and being away."""

from __future__ import annotations

import os
import resource
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command as alembic
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from core.api import routes, signing
from core.data import classes, database, labels, schema, store
from core.data.migrations.versions import v0001_before_alembic as v0001
from core.errors import AppError, Invalid, Unavailable
from core.types import Dataset
from tests.conftest import forget
from tests.data.acts import counts, ids, seen
from tests.data.compared import context
from tests.postgres import PASSWORD, Cluster

NEWEST = max(path.stem for path in (schema.MIGRATIONS / "versions").glob("v*.py"))


@pytest.fixture
def bare(postgresql: Cluster, home: Path) -> Iterator[sa.URL]:
    """A database without a table."""
    yield database.address(postgresql.create("bare", "template0"))
    postgresql.drop("bare")


# Its way to today's tables


def revision(engine: sa.Engine) -> str:
    with engine.connect() as c:
        return str(c.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one())


def test_two_that_start_at_once_on_an_empty_database_bring_it_to_the_tables_of_core_data_schema(bare: sa.URL) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(schema.opened, [bare, bare])
    second.dispose()
    assert revision(first) == NEWEST
    with first.connect() as c:
        assert compare_metadata(context(c), schema.meta) == []
    first.dispose()


def test_a_database_of_the_first_revision_keeps_its_rows_and_gets_the_tables_of_today(bare: sa.URL) -> None:
    old = schema.connected(bare)
    with old.begin() as c:
        config = Config(attributes={"connection": c})
        config.set_main_option("script_location", str(schema.MIGRATIONS))
        alembic.upgrade(config, v0001.revision)
        c.execute(v0001.datasets.insert().values(name="cats", created_at="2026-01-01T00:00:00+00:00", splits_given=False))
        c.execute(v0001.classes.insert().values(dataset_id=1, name="cat", position=0))
    old.dispose()
    today = schema.opened(bare)
    assert revision(today) == NEWEST
    with today.connect() as c:
        assert compare_metadata(context(c), schema.meta) == []
        assert c.execute(
            sa.select(schema.datasets.c.name, schema.classes.c.name).select_from(schema.classes.join(schema.datasets))
        ).all() == [("cats", "cat")]
    today.dispose()


def test_every_text_is_compared_by_code_point_whatever_the_servers_language(postgresql: Cluster) -> None:
    engine = schema.connected(database.address(postgresql.url("template")))
    with engine.connect() as c:
        assert c.exec_driver_sql("SELECT 'b' < 'B'").scalar() is True  # the server's own order
        inspector = sa.inspect(c)
        texts = [column["type"] for name in schema.meta.tables for column in inspector.get_columns(name)]
    engine.dispose()
    assert {kind.collation for kind in texts if isinstance(kind, sa.String)} == {"C"}


@pytest.mark.databases("sqlite", "postgresql")
def test_names_stand_in_the_order_of_their_code_points(home: Path) -> None:
    names = ["b", "B", "a", "Ä", "_", "10", "9"]
    for name in names:
        store.create_dataset(name)
    assert [made.name for made in store.list_datasets()] == sorted(names)


@pytest.mark.databases("sqlite", "postgresql")
def test_who_reads_sees_one_moment_however_long_it_takes(small: Dataset) -> None:
    red = ids(small, "red")
    with schema.reading() as c:
        query = sa.select(sa.func.count()).select_from(schema.images).where(schema.images.c.label == "red")
        assert c.execute(query).scalar() == 8
        thread = threading.Thread(target=labels.apply, args=(small.id, seen(small, red[:1]), "blue", "Ann"))
        thread.start()
        thread.join()
        assert c.execute(query).scalar() == 8
    assert counts(small)["red"] == 7


@pytest.mark.databases("postgresql")
def test_a_text_that_postgresql_cannot_hold_is_refused_with_a_sentence(small: Dataset) -> None:
    with pytest.raises(Invalid, match="character of code 0"):
        labels.apply(small.id, seen(small, ids(small, "red")[:1]), "red", "Ann\0")
    assert counts(small)["red"] == 8


@pytest.mark.databases("postgresql")
def test_who_waits_too_long_for_another_writer_is_told_so(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = seen(small, ids(small, "red")[:1])
    forget()
    monkeypatch.setattr(database, "LOCK_SECONDS", 1)
    with schema.engine().connect() as other, other.begin():  # another process
        other.exec_driver_sql(f"SELECT pg_advisory_xact_lock({database.WRITER})")
        with pytest.raises(Unavailable, match="busy, and nothing was stored"):
            labels.apply(small.id, chosen, "blue", "Ann")
    assert labels.apply(small.id, chosen, "blue", "Ann").seqs.keys() == chosen.keys()


# An address that leads nowhere


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://ann:se@cret@host/loupe", "more than one @"),
        ("postgresql://host:cret/loupe", "cannot be read"),
        ("cret", "cannot be read"),
        ("mysql://ann:cret@host/loupe", "SQLite or PostgreSQL, not in “mysql”"),
        ("postgresql://ann:cret@127.0.0.1:1/loupe", r"127\.0\.0\.1:1/loupe cannot be reached"),
    ],
)
def test_an_address_that_leads_nowhere_is_said_and_the_password_is_not(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Callable[..., subprocess.CompletedProcess[str]],
    url: str,
    said: str,
) -> None:
    forget()
    monkeypatch.setenv("LOUPE_DATABASE_URL", url)
    with pytest.raises(AppError, match=said) as raised:
        schema.engine()
    done = command("audit", "verify")
    assert done.returncode == 1 and done.stderr.strip() == str(raised.value) and "cret" not in done.stderr


def test_start_ends_with_a_sentence_where_the_database_cannot_be_reached(
    home: Path, monkeypatch: pytest.MonkeyPatch, python: Callable[..., subprocess.CompletedProcess[str]], free_port: int
) -> None:
    monkeypatch.setenv("LOUPE_DATABASE_URL", "postgresql://ann:secret@127.0.0.1:1/loupe")
    done = python("-m", "core", "start", "--port", str(free_port))
    said = done.stdout + done.stderr
    assert done.returncode and "127.0.0.1:1/loupe cannot be reached" in said and "secret" not in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("who", "name", "said"),
    [
        ("guarded:wrong", "template", "refused the name or the password"),
        ("guarded", "template", "refused the name or the password"),
        ("nobody", "template", "refused the name or the password"),
        ("loupe", "nowhere", "has no database"),
    ],
)
def test_what_postgresql_refuses_is_said_in_a_sentence(postgresql: Cluster, who: str, name: str, said: str) -> None:
    with pytest.raises(Unavailable, match=said) as raised:
        schema.opened(database.address(postgresql.url(name, who)))
    assert "wrong" not in str(raised.value)


def test_a_password_may_hold_any_character(postgresql: Cluster) -> None:
    schema.opened(
        database.address(postgresql.url("template", f"guarded:{PASSWORD.translate({64: '%40', 47: '%2F', 58: '%3A'})}"))
    ).dispose()


def test_without_psycopg_the_command_that_installs_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "find_spec", lambda name: None)
    with pytest.raises(AppError, match=r"pip install -r requirements-postgres\.txt"):
        database.address("postgresql://ann@host/loupe")


# Away for a while


@pytest.mark.databases("postgresql")
def test_a_label_that_is_sent_again_and_again_while_the_database_is_away_is_stored_once(small: Dataset, postgresql: Cluster) -> None:
    """What the page does: it keeps the label and sends it again, as the same act, until the answer is no 503."""
    one = ids(small, "red")[0]
    body = {"operation": "op-1", "dataset_id": small.id, "seen": seen(small, [one]), "label": "blue"}
    handlers = {AppError: routes.app_error, HTTPException: routes.http_error}
    with TestClient(Starlette(routes=routes.ROUTES, exception_handlers=handlers)) as client:

        def send() -> tuple[int, str]:
            answer = client.post("/api/label", json=body, headers={"X-Loupe-Token": signing.token("Ann")})
            return answer.status_code, answer.text

        try:
            postgresql.stop()
            for _ in range(2):
                status, said = send()
                assert status == 503 and "cannot be reached, and nothing was stored" in said and "Traceback" not in said
            with pytest.raises(Unavailable, match="cannot be reached"):
                store.list_datasets()
        finally:
            postgresql.start()
        assert [send()[0] for _ in range(2)] == [200, 200]
    assert [event.label for event in labels.history(small.id, one)] == ["blue", "red"]


@pytest.mark.databases("postgresql")
def test_a_database_that_ends_within_an_act_leaves_nothing_of_it(small: Dataset, postgresql: Cluster) -> None:
    try:
        with pytest.raises(Unavailable, match="cannot be reached"), schema.writing() as c:
            classes.ensure_in(c, small.id, ["b"])
            postgresql.stop()
            classes.ensure_in(c, small.id, ["c"])
    finally:
        postgresql.start()
    assert store.get_dataset(small.id) == small


@pytest.mark.databases("postgresql")
def test_a_restart_between_two_acts_is_not_noticed_and_a_connection_in_use_is_not_asked_for_life(
    small: Dataset, postgresql: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    ping = schema.engine().dialect.do_ping

    def counted(connection: sa.engine.interfaces.DBAPIConnection) -> bool:
        asked.append(connection)
        return ping(connection)

    monkeypatch.setattr(schema.engine().dialect, "do_ping", counted)
    for _ in range(3):
        store.list_datasets()
    assert asked == []
    postgresql.stop()
    postgresql.start()
    assert store.list_datasets() and len(asked) == 1
    with monkeypatch.context() as patch:
        patch.setattr(database, "QUIET", 0)  # one that was not used for long may have been cut without a word
        store.list_datasets()
    assert len(asked) == 2


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= 2000, reason="no file may have such a number here")
def test_a_connection_of_a_high_number_is_looked_at_too() -> None:
    """As in a server with many open pages."""
    low = os.open(os.devnull, os.O_RDONLY)
    high = os.dup2(low, 2000)
    try:
        assert database.watch(high).poll(0)
    finally:
        os.close(low)
        os.close(high)
