"""A database or folder that cannot be used: a sentence on the command line, on a page and to a program, and nothing begun anew."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.testclient import TestClient

from core.__main__ import main
from core.api import routes, signing
from core.data import database, labels, schema, store
from core.errors import AppError
from core.settings import settings
from core.types import Dataset
from tests import disks
from tests.conftest import forget
from tests.data.damage import DATABASES, newer
from tests.pages.app import opened, words


@pytest.mark.parametrize(("harm", "said"), DATABASES)
def test_a_database_that_cannot_be_used_is_said_and_left_as_it_is(
    small: Dataset, capfd: pytest.CaptureFixture[str], harm: Callable[[Path], None], said: str
) -> None:
    forget()
    db = settings().home / "loupe.db"
    harm(db)
    before = db.stat().st_size if db.exists() else None
    assert main(["audit", "verify"]) == 1
    err = capfd.readouterr().err.splitlines()[-1]
    assert said in err and (str(db) in err or harm is newer)
    forget()
    app = opened("dataset")
    assert not app.exception and said in words(app).replace("\\", "")
    assert (db.stat().st_size if db.exists() else None) == before


def test_an_empty_folder_begins_with_a_database_of_its_own_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "made beforehand"
    home.mkdir(mode=0o755)
    monkeypatch.setenv("LOUPE_HOME", str(home))
    forget()
    assert store.list_datasets() == []
    assert [oct(path.stat().st_mode & 0o777) for path in (home, home / "loupe.db")] == ["0o700", "0o600"]
    forget()


def test_a_folder_in_use_keeps_its_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inbox").mkdir()
    tmp_path.chmod(0o755)
    monkeypatch.setenv("LOUPE_HOME", str(tmp_path))
    forget()
    assert settings().home.stat().st_mode & 0o777 == 0o755
    forget()


def test_a_home_that_cannot_be_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("LOUPE_HOME", str(tmp_path / "file" / "home"))
    forget()
    assert main(["runs"]) == 1 and "which cannot be made (Not a directory)" in capfd.readouterr().err
    monkeypatch.undo()
    forget()


@pytest.mark.parametrize("words", ["database or disk is full", "attempt to write a readonly database", "unable to open database file"])
def test_what_sqlite_refuses_reaches_a_program_as_a_sentence(small: Dataset, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    def refuses(*_: object, **__: object) -> None:
        with database.told(schema.engine().url):
            raise sa.exc.OperationalError("INSERT", {}, sqlite3.OperationalError(words))

    monkeypatch.setattr(labels, "apply", refuses)
    monkeypatch.setattr(signing, "user", lambda _: "tester")
    app = Starlette(routes=routes.ROUTES, exception_handlers={AppError: routes.app_error, OSError: routes.os_error})
    body = {"operation": "x", "dataset_id": small.id, "seen": {"a": 0}, "label": "red"}
    answer = TestClient(app).post("/api/label", json=body)
    assert answer.status_code == 507 and str(settings().home / "loupe.db") in answer.json()["error"]["message"]


def test_a_database_on_a_full_disk_keeps_what_it_had(small: Dataset, tiny_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget()  # what is in the write-ahead log goes into the file
    shutil.copy(settings().home / "loupe.db", tiny_disk / "loupe.db")
    monkeypatch.setenv("LOUPE_DATABASE_URL", f"sqlite:///{tiny_disk / 'loupe.db'}")
    forget()
    made = []
    with pytest.raises(AppError, match=r"The disk is full: the database at .* nothing was stored"):
        for number in range(100_000):
            made.append(store.create_dataset(f"{number:05d}" + "x" * 60).name)
    assert {d.name for d in store.list_datasets()} == {small.name, *made} and len(made) > 10
    forget()
    with disks.filled(tiny_disk), pytest.raises(AppError, match="The disk is full: the database at"):
        store.create_dataset("x")  # SQLite may say “disk I/O error” where it finds no room for its own files
    assert len(store.list_datasets()) == 1 + len(made)
    forget()
