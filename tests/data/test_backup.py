"""Backups: written while people work, brought back into an empty folder, and refused where anything is not as it was written."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from core import processes
from core.__main__ import main
from core.data import audit, backup, labels, store, uploads
from core.errors import Conflict, Forbidden, Invalid, Stopped
from core.roles import Person, acting
from core.settings import Settings, settings
from core.types import Dataset
from tests.conftest import forget, move_in

pytestmark = pytest.mark.databases("sqlite", "postgresql")
MoveIn = Callable[[Path], None]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> MoveIn:
    """Goes on in another folder, on a SQLite of its own."""
    return lambda home: move_in(monkeypatch, home)


def fill(small: Dataset) -> None:
    image = store.all_images(small.id)[0]
    labels.apply(small.id, {image.id: image.label_seq}, "blue", by="me", operation="one")
    audit.write_head()
    run = settings().runs / "20260101-000000-0000"
    run.mkdir(parents=True)
    (run / "events.jsonl").write_bytes(b'{"kind": "Queued"}\n{"half')
    (run / "last.pt").write_bytes(b"weights")
    (run / ".last.pt.1.2.tmp").write_bytes(b"half")
    uploads.keep("a.png", (settings().images / image.path).read_bytes())
    (settings().home / "cache").mkdir(exist_ok=True)
    (settings().home / "cache" / "1.rows").write_bytes(b"made anew")


def files(home: Path) -> dict[str, bytes]:
    found = {p.relative_to(home).as_posix(): p.read_bytes() for p in home.rglob("*") if p.is_file() and not p.is_symlink()}
    return {name: data for name, data in found.items() if name.startswith(backup.KEPT) and not name.endswith((".tmp", ".lock"))}


def test_what_is_brought_back_is_what_was_there(
    small: Dataset, tmp_path: Path, elsewhere: MoveIn, capfd: pytest.CaptureFixture[str]
) -> None:
    fill(small)
    images, seen, head = store.all_images(small.id), files(settings().home), audit.head()
    assert main(["backup", str(tmp_path / "b.zip")]) == 0
    told = json.loads(capfd.readouterr().out)
    assert (tmp_path / "b.zip").stat().st_mode & 0o777 == 0o600 and sorted(p.name for p in tmp_path.glob("*b.zip*")) == ["b.zip"]
    assert told["rows"]["images"] == 24 and told["rows"]["label_events"] == 25 and told["files"] == len(seen) - 1  # without the head's
    elsewhere(tmp_path / "new")
    assert main(["restore", str(tmp_path / "b.zip")]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["rows"] == told["rows"] and "entries are as they were written, and the head outside the database agrees" in err
    assert store.all_images(small.id) == images and head is not None
    seen["runs/20260101-000000-0000/events.jsonl"] = b'{"kind": "Queued"}\n'
    assert files(settings().home) == seen
    assert audit.search(audit.Which(), 1, 2)[0][1].seq == head.seq and audit.verify().problem == ""
    assert sorted(p.name for p in settings().home.glob("[!l]*")) == ["audit", "images", "runs", "thumbs", "uploads"]
    forget()


def test_rows_come_back_into_postgresql(
    small: Dataset, tmp_path: Path, elsewhere: MoveIn, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = request.getfixturevalue("postgresql")
    told = backup.write(tmp_path / "b.zip")
    elsewhere(tmp_path / "new")
    monkeypatch.setenv("LOUPE_DATABASE_URL", cluster.create("restored"))
    forget()
    assert backup.restore(tmp_path / "b.zip")["rows"] == told["rows"] and len(store.all_images(small.id)) == 24
    assert not (settings().home / "loupe.db").exists() and audit.verify().problem == ""
    forget()
    cluster.drop("restored")


def test_a_folder_with_anything_in_it_is_left_alone(small: Dataset, tmp_path: Path) -> None:
    backup.write(tmp_path / "b.zip")
    with pytest.raises(Conflict, match="is not empty"):
        backup.restore(tmp_path / "b.zip")
    assert len(store.all_images(small.id)) == 24


def damaged(path: Path, name: str, data: bytes | None) -> Path:
    """The backup with that entry changed, taken away (None), or added."""
    to = path.with_name("damaged.zip")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w") as new:
        for one in old.namelist():
            if one != name:
                new.writestr(one, old.read(one))
        if data is not None:
            new.writestr(name, data)
    return to


def test_a_damaged_backup_is_refused_and_leaves_nothing(small: Dataset, tmp_path: Path, elsewhere: MoveIn) -> None:
    backup.write(tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        listed = archive.read(backup.LIST).decode()
        about = json.loads(archive.read(backup.MANIFEST))
    first = next(line.split(" ", 2)[2] for line in listed.splitlines() if " images/" in line)
    cases = [
        damaged(tmp_path / "b.zip", first, b"other"),
        damaged(tmp_path / "b.zip", first, None),
        damaged(tmp_path / "b.zip", backup.LIST, f"{listed}{'0' * 64} 1 runs/../../evil\n".encode()),
        damaged(tmp_path / "b.zip", backup.LIST, f"{listed}{'0' * 64} 1 secret\n".encode()),
        damaged(tmp_path / "b.zip", backup.MANIFEST, json.dumps(about | {"format": 2}).encode()),
    ]
    truncated = tmp_path / "truncated.zip"
    truncated.write_bytes((tmp_path / "b.zip").read_bytes()[:-5000])
    elsewhere(tmp_path / "new")
    for case in [truncated, *cases]:  # each is written anew under one name
        with pytest.raises(Invalid, match=r"is no backup, or is damaged|newer Loupe"):
            backup.restore(case)
        assert list(settings().home.iterdir()) == []
    forget()


def test_a_backup_that_is_stopped_or_does_not_fit_leaves_the_one_before(
    small: Dataset, tmp_path: Path, tiny_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int, what: str) -> None:
        if done:
            raise Stopped

    out = tiny_disk / "b.zip"
    out.write_bytes(b"before")
    with pytest.raises(Stopped):
        backup.write(out, stop)
    (settings().runs / "20260101-000000-0000").mkdir(parents=True)
    (settings().runs / "20260101-000000-0000" / "best.pt").write_bytes(os.urandom(2_000_000))
    with pytest.raises(Invalid, match=r"The disk is full: .*b.zip.* could not be written"):
        backup.write(out)
    assert out.read_bytes() == b"before" and [p.name for p in tiny_disk.iterdir()] == ["b.zip"]


def test_backups_are_for_admins(small: Dataset, tmp_path: Path) -> None:
    for act in (backup.write, backup.restore):
        with acting(Person("Vic", "trainer")), pytest.raises(Forbidden):
            act(tmp_path / "b.zip")


def test_every_folder_of_the_settings_is_in_the_backup_or_known_not_to_be(home: Path) -> None:
    left = {"cache", "downloads", "exports", "archives", "imports", "uploads"}
    own = {f.name for f in fields(Settings)}
    folders = {n for n in vars(Settings) if isinstance(vars(Settings)[n], property) and n not in own}
    assert folders == left | {name for name in backup.KEPT if name in folders}


def test_labels_given_during_a_backup_are_wholly_in_it_or_not(small: Dataset, tmp_path: Path, elsewhere: MoveIn) -> None:
    image = store.all_images(small.id)[1]

    def label_meanwhile(done: int, total: int, what: str) -> None:
        if total and not done:
            labels.apply(small.id, {image.id: image.label_seq}, "blue" if image.label != "blue" else "red", by="me", operation="two")

    told = backup.write(tmp_path / "b.zip", label_meanwhile)
    elsewhere(tmp_path / "new")
    backup.restore(tmp_path / "b.zip")
    assert store.get_image(small.id, image.id) == image and told["rows"]["label_events"] == 24
    shutil.rmtree(tmp_path / "new")
    forget()


def test_a_run_folder_is_taken_without_what_is_half_written(home: Path) -> None:
    folder = settings().runs / "20260101-000000-0000"
    folder.mkdir(parents=True)
    for name in ("best.pt", "last.pt", ".last.pt.1.2.tmp", "handle.json"):
        (folder / name).write_bytes(b"x")
    assert [path.name for path, _ in backup._files()] == ["last.pt", "best.pt"]
    assert processes.maker(folder / ".last.pt.1.2.tmp") == processes.Maker("", 1)
