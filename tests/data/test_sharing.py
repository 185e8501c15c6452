"""Which servers may share a folder and a database, and what is said to those that may not."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import psutil
import pytest

import app
from core import processes, servers
from core.data import leases, schema, sharing
from core.data.schema import writing
from core.errors import AppError, Conflict
from core.ml import turns
from core.settings import settings
from tests.conftest import forget
from tests.postgres import Cluster


@contextmanager
def other(home: Path, locked: bool = True, beats: bool = False, code: str = "") -> Iterator[str]:
    """The name of a server of another machine, as it shows itself in the folder."""
    path = home / "servers" / f"{'0' * 8}-1-1"
    path.parent.mkdir(exist_ok=True)
    over = threading.Event()

    def beat() -> None:
        while not over.wait(0.02):
            os.utime(path)

    with open(path, "w", encoding="utf-8") as f:
        json.dump({"host": "gpu-1", "machine": "gpu-1", "code": code or servers.code()}, f)
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


def test_a_server_of_another_version_is_refused_before_it_changes_a_table(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schema.engine().dispose()
    schema.engine.cache_clear()
    with other(home, code="0" * 16):
        assert "is at work on" in (said := refused()) and "another version of Loupe's code" in said and "end all servers" in said
        monkeypatch.setattr(schema, "refuse_other_machines", lambda url: None)  # as on PostgreSQL
        schema.engine().dispose()  # a command line of this version works beside it
        schema.engine.cache_clear()
        monkeypatch.setattr(schema, "_is_current", lambda _: False)
        monkeypatch.setattr(schema, "migrate", lambda _: 1 / 0)
        with pytest.raises(Conflict, match="another version"):
            schema.engine()


def test_a_clock_that_is_set_changes_nothing_of_who_is_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sharing.join()
    name, before = servers.name(), psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda one: before(one) + 3600)
    servers._name.cache_clear()
    assert servers.name() == name and servers.is_there(name)
    sharing.leave()
    with other(home) as theirs:
        os.utime(home / "servers" / theirs, (time.time() + 3600,) * 2)  # of before the clock was set back
        assert not servers.is_there(theirs)


def test_a_folder_that_cannot_be_written_to_when_the_server_starts_is_survived_and_joined_later(home: Path) -> None:
    (home / "servers").write_text("in the way")
    assert not app.may_share(sharing.join) and not servers.is_here()
    (home / "servers").unlink()
    assert app.may_share(sharing.join) and servers.is_here()
    sharing.leave()


def test_the_file_of_a_server_that_somebody_took_away_is_made_anew_and_held_locked_and_gone_after_the_lease(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sharing.join()
    path = home / "servers" / servers.name()
    path.unlink()
    servers._beat()
    (me,) = servers.living()
    assert servers.holds(me)
    monkeypatch.setattr(leases, "release", lambda: seen.append((path.exists(), servers._here.over.is_set())))
    seen: list[tuple[bool, bool]] = []
    sharing.leave()
    assert seen == [(True, True)] and not path.exists()
    servers._beat()
    assert not path.exists()


def test_what_fails_again_and_again_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    tries, over = iter([1, 0, 0, 0, 1]), threading.Event()

    def show() -> None:
        if (found := next(tries, None)) is None:
            over.set()
        assert found != 0

    servers.now_and_then(0.005, show, over)
    assert over.wait(10)
    assert [one.getMessage()[:40] for one in caplog.records if one.name == "loupe.server"] == [
        "this server could not show that it is the"[:40],
        "this server shows again that it is there"[:40],
    ]


def test_a_lease_of_who_is_gone_or_of_before_the_clock_was_set_back_is_free(home: Path) -> None:
    def of(holder: str, more: float) -> None:
        with writing() as c:
            c.execute(schema.leases.delete())
            c.execute(schema.leases.insert().values(name="daily", holder=holder, until=time.time() + more))

    schema.engine()
    with other(home) as name:
        of(name, 50)
        assert not leases.take("daily", 60)
        of(name, 3600)
        assert leases.take("daily", 60)
        of(name, 50)
    assert leases.take("daily", 60)


def test_containers_of_one_machine_take_its_devices_in_turn_and_locks_of_machines_that_are_gone_are_taken_away(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOUPE_HOST_NAME", raising=False)
    found = set()
    for name in ("0a1b2c", "3d4e5f"):
        monkeypatch.setattr(socket, "gethostname", lambda name=name: name)
        forget()
        assert settings().host == name
        found.add(turns.home())
    assert len(found) == 1
    long_ago = time.time() - servers.UNUSED - 1
    free, held, new = (home / "locks" / one for one in ("free", "held", "new"))
    for folder in (free, held, new):
        folder.mkdir(parents=True)
        (folder / "cpu.lock").touch()
    for folder in (free, held):
        os.utime(folder, (long_ago, long_ago))
    with filelock.FileLock(held / "cpu.lock"):
        servers._sweep()
    assert not free.exists() and held.exists() and new.exists()


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
