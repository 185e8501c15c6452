"""Which servers may share a folder and a database, and what is said to those that may not."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import app
from core import processes, servers
from core.data import leases, schema, sharing
from core.data.schema import writing
from core.errors import AppError
from core.settings import settings
from tests.conftest import forget
from tests.postgres import Cluster


@contextmanager
def other(home: Path, locked: bool = True, beats: bool = False) -> Iterator[str]:
    """The name of a server of another machine, as it shows itself in the folder."""
    path = home / "servers" / f"{'0' * 8}-1-1"
    path.parent.mkdir(exist_ok=True)
    over = threading.Event()

    def beat() -> None:
        while not over.wait(0.02):
            os.utime(path)

    with open(path, "w", encoding="utf-8") as f:
        json.dump({"host": "gpu-1", "machine": "gpu-1"}, f)
        f.flush()
        if locked:
            fcntl.flock(f, fcntl.LOCK_EX)
        if beats:
            threading.Thread(target=beat, daemon=True).start()
        yield path.name
        over.set()
    path.unlink()


def lease(name: str) -> None:
    with writing() as c:
        c.execute(schema.leases.insert().values(name=f"{sharing.OF_SERVER}{name}", holder=name, until=time.time() + 60))


def refused() -> str:
    with pytest.raises(AppError) as e:
        sharing.join()
    assert not [path for path in servers.folder().iterdir() if path.name == servers.name()]
    return f"{e.value}"


def test_sqlite_is_refused_beside_a_server_of_another_machine_and_not_once_that_is_gone(home: Path) -> None:
    with other(home) as name:
        forget()
        with pytest.raises(AppError, match=r"The server gpu-1 is at work on .* is for one machine alone. Move to PostgreSQL"):
            schema.engine()
        assert "is for one machine alone" in refused()
        long_ago = time.time() - processes.LEASE - 1
        os.utime(home / "servers" / name, (long_ago, long_ago))
        sharing.join()
        assert [one.name for one in servers.living()] == [servers.name()]
        sharing.leave()
    assert servers.living() == []


def test_a_server_that_is_refused_ends_with_a_sentence(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "_exit", sys.exit)
    with other(home), pytest.raises(SystemExit) as ended:
        app.may_share(sharing.join)
    assert ended.value.code == 1 and capsys.readouterr().err.startswith("Loupe ends. The server gpu-1 is at work on")


@pytest.mark.databases("postgresql")
def test_a_server_that_finds_no_database_is_there_and_looks_at_the_others_once_it_is_back(
    home: Path, postgresql: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "PATIENCE", 0.1)
    schema.engine()
    postgresql.stop()
    try:
        assert not app.may_share(sharing.join)
        assert [one.name for one in servers.living()] == [servers.name()]
    finally:
        postgresql.start()
    assert app.may_share(sharing.look)
    with other(home), pytest.raises(AppError, match="not on this database"):
        sharing.look()
    sharing.leave()


@pytest.mark.databases("postgresql")
def test_one_folder_one_database_and_locks_that_hold_are_asked_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "PATIENCE", 0.1)
    monkeypatch.setattr(processes, "BEAT", 0.05)
    with other(home) as name:
        assert "The server gpu-1 is at work on" in (said := refused()) and "not on this database" in said
        lease(name)
        sharing.join()
        assert {one.host for one in servers.living()} == {"gpu-1", settings().host}
        sharing.leave()
        monkeypatch.setattr(leases, "clock", lambda _: time.time() - 9)
        assert "The clock of this machine and that of the database are 9 s apart." in refused()
        monkeypatch.undo()
    with other(home, locked=False, beats=True):
        monkeypatch.setattr(processes, "BEAT", 0.05)
        assert "holds a lock in" in refused()
    with other(home, locked=False):  # killed a moment ago
        monkeypatch.setattr(processes, "LEASE", 0.3)
        sharing.join()
        sharing.leave()
    assert "Another server is at work on this database" in refused()
