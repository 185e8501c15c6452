"""PostgreSQL for the tests: Debian's, in a temporary folder on a free port of this machine, started at its first need."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core.data import database, schema
from core.settings import settings
from tests.ports import free_port

PASSWORD = "p@ss/w:rd"  # of the one person who is asked for a password
QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB", "max_connections=100", "autovacuum=off")
OURS = "'public'::regnamespace"
# What a database is made of, and the bytes of its tables.
MADE_OF = f"""
SELECT concat_ws(';',
  (SELECT string_agg(concat_ws(' ', c.oid, attname, atttypid, attnotnull), ',' ORDER BY c.oid, attnum)
    FROM pg_class c JOIN pg_attribute ON attrelid = c.oid WHERE relnamespace = {OURS}),
  (SELECT string_agg(oid::text, ',' ORDER BY oid) FROM pg_constraint WHERE connamespace = {OURS}),
  (SELECT string_agg(oid::text, ',' ORDER BY oid) FROM pg_proc WHERE pronamespace = {OURS}),
  (SELECT string_agg(oid::text, ',' ORDER BY oid) FROM pg_trigger WHERE NOT tgisinternal),
  (SELECT string_agg(setconfig::text, ',') FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE datname = current_database())
), (SELECT sum(pg_table_size(oid)) FROM pg_class WHERE relnamespace = {OURS} AND relkind = 'r')"""
EMPTIED = f"""DO $$
DECLARE one regclass;
BEGIN
  SET LOCAL session_replication_role = replica;  -- in any order
  FOR one IN SELECT oid FROM pg_class WHERE relnamespace = {OURS} AND relkind = 'r' AND relname <> 'alembic_version' LOOP
    EXECUTE 'DELETE FROM ' || one;
  END LOOP;
  PERFORM setval(seqrelid, seqstart, false) FROM pg_sequence;
END $$"""
LARGE = 20_000_000  # bytes


@lru_cache(maxsize=1)
def programs() -> Path | None:
    """The folder of initdb and postgres, of the newest version that is installed; 15 is the first that sorts as a language does everywhere."""
    found = shutil.which("initdb")
    here = [Path(found).parent] if found else []
    debian = sorted(Path("/usr/lib/postgresql").glob("1[5-9]/bin"), key=lambda path: int(path.parent.name))
    return next((path for path in [*debian[::-1], *here] if (path / "initdb").exists()), None)


class Cluster:
    """A server with the databases “template”, of today's tables and no row, and whatever create() made of it."""

    def __init__(self, options: tuple[str, ...] = QUICK) -> None:
        self._programs = programs()
        if self._programs is None:
            pytest.skip("PostgreSQL 15 or newer is not installed: apt-get install postgresql")
        # PostgreSQL refuses to run as root: as Debian's own user then.
        root = os.geteuid() == 0
        self._as: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if root else {}
        self._options = options
        self._process: subprocess.Popen[Any] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="loupe-postgres-"))
        if root:
            shutil.chown(self.folder, "postgres", "postgres")
        self.port = free_port()
        self._admin = sa.create_engine(database.address(self.url("postgres")), pool_pre_ping=True, isolation_level="AUTOCOMMIT")
        # An order of letters that is not SQLite's, so that a test notices where the server's own would be seen.
        language = ("--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en")
        self._run("initdb", "--no-sync", "--auth=trust", "--username=loupe", *language, "--pgdata", str(self.folder / "data"))
        rules = self.folder / "data" / "pg_hba.conf"
        rules.write_text("host all guarded 127.0.0.1/32 scram-sha-256\n" + rules.read_text(encoding="utf-8"), encoding="utf-8")
        self.start()
        with self.admin() as c:
            c.exec_driver_sql(f"CREATE ROLE guarded LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
        self.create("template", "template1")
        with pytest.MonkeyPatch.context() as patch:  # beside the images of a home, no database is begun
            patch.setenv("LOUPE_HOME", str(self.folder))
            settings.cache_clear()
            schema.opened(database.address(self.url("template"))).dispose()
        settings.cache_clear()
        self._made_of = ""  # the database “test”

    def _run(self, program: str, *args: str) -> None:
        assert self._programs is not None
        done = subprocess.run([self._programs / program, *args], capture_output=True, text=True, cwd="/", **self._as)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        assert self._programs is not None
        options = (f"port={self.port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", *self._options)
        args = [str(self._programs / "postgres"), "-D", str(self.folder / "data"), *(word for one in options for word in ("-c", one))]
        with open(self.folder / "log", "ab") as log:
            process = subprocess.Popen(args, stdout=log, stderr=log, cwd="/", **self._as)
        self._process = process
        end = time.monotonic() + 30
        while time.monotonic() < end and process.poll() is None:
            try:
                with self.admin():
                    return
            except sa.exc.OperationalError:
                time.sleep(0.05)
        pytest.fail(f"PostgreSQL did not start:\n{(self.folder / 'log').read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        """Cuts every connection; what was stored stays."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)  # at once, without writing what nobody reads any more
            self._process.wait(30)
        shutil.rmtree(self.folder)

    def url(self, name: str, who: str = "loupe") -> str:
        return f"postgresql://{who}@127.0.0.1:{self.port}/{name}"

    @contextmanager
    def admin(self) -> Iterator[sa.Connection]:
        """A connection on which each statement is a transaction of its own."""
        with self._admin.connect() as connection:
            yield connection

    def create(self, name: str, template: str = "template") -> str:
        """A new database, and its address."""
        with self.admin() as c:
            c.exec_driver_sql(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')  # a third quicker
        return self.url(name)

    def empty(self) -> str:
        """The database “test” of today's tables and no row, and its address: the one of the test before, unless its tables were changed.

        To delete rows takes a tenth of the time that dropping a database and copying another takes.
        """
        if not self._made_of or not self._emptied():
            self.drop("test")
            self.create("test")
            self._emptied()
        return self.url("test")

    def _emptied(self) -> bool:
        """Ends all connections to “test” and deletes its rows; False where that does not make it as it was."""
        engine = sa.create_engine(database.address(self.url("test")), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as c:
            c.exec_driver_sql(
                "SELECT pg_terminate_backend(pid, 9000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            made_of, size = c.exec_driver_sql(MADE_OF).one()
            before, self._made_of = self._made_of, made_of
            if size > LARGE or (before and made_of != before):
                self._made_of = ""
                return False
            c.exec_driver_sql(EMPTIED)
        return True

    def drop(self, name: str) -> None:
        with self.admin() as c:
            c.exec_driver_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
