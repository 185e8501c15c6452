"""`check` names every kind of damage, and `check --mend` makes anew what can be made anew and says what it cannot."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from core import space
from core.__main__ import main
from core.api import signing
from core.catalog import params
from core.data import check, images, schema, store, uploads
from core.errors import AppError, Conflict, Forbidden
from core.review import review
from core.roles import Person, acting
from core.runs import runs
from core.settings import settings
from core.types import Dataset, Progress, Queued, Snapshot, SnapshotRow, now
from tests.conftest import forget

MEND = "python -m core check --mend mends it."


@pytest.fixture
def whole(small: Dataset) -> Dataset:
    """Images, a run with checkpoints, a cache, all of it as it should be."""
    settings().home.chmod(0o700)
    rows = tuple(SnapshotRow(i.id, i.path, i.label or "", i.split) for i in store.all_images(small.id))
    run = runs.new("ConvNet 1", small, params.run_config({}), Snapshot("s", small.classes, rows), "tester")
    folder = settings().runs / run.id
    runs.create(folder, run, Snapshot("s", small.classes, rows))
    runs.append(folder, Queued("cpu", now()))
    for name in ("best.pt", "last.pt"):
        runs.write_hashed(folder / name, weights)
    cache = settings().cache / f"{small.id}-srgb-3x12x12"
    cache.with_suffix(".rows").write_bytes(bytes(48))
    cache.with_suffix(".ids").write_bytes(rows[0].image_id.encode())
    assert check.check() == {"status": "whole", "found": 0, "mended": 0, "left": 0, "damage": []}
    return small


def weights(path: Path) -> None:
    """By chance, in a file as PyTorch writes it."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", os.urandom(1000))


def test_the_database_is_checked_every_night_and_what_is_damaged_is_said_until_it_is_not(
    whole: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings().home / check.CHECKED).unlink()
    at, looked = datetime(2026, 3, 1, 0, 30).astimezone(), []
    find = check._database

    def database(progress: Progress) -> Iterator[check.Damage]:
        looked.append(at)
        return find(progress)

    clock = SimpleNamespace(now=lambda tz: at.astimezone(tz), fromisoformat=datetime.fromisoformat)
    monkeypatch.setattr(check, "datetime", clock)
    monkeypatch.setattr(check, "now", lambda: at.astimezone(UTC).isoformat())
    monkeypatch.setattr(check, "_database", database)
    for day, hour, checked in ((1, 0, True), (1, 9, False), (2, 2, False), (2, 3, True), (2, 4, False), (4, 12, True)):
        at = at.replace(day=day, hour=hour)
        check.nightly()
        assert (looked[-1] == at) == checked, (day, hour)
    assert check.damaged() == ""
    with schema.writing() as c:
        c.exec_driver_sql("PRAGMA writable_schema=ON")
        c.exec_driver_sql(
            "UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE name = 'by_flag') WHERE name = 'by_label'"
        )
    forget()
    at = at.replace(day=5)
    with pytest.raises(AppError, match=r"loupe\.db"):
        check.nightly()
    assert "loupe.db" in check.damaged()
    (settings().home / check.CHECKED).write_text("{")  # torn: as if it had never been checked
    assert check.damaged() == ""
    check.check()
    assert "loupe.db" in check.damaged()
    monkeypatch.setattr(check, "_damages", lambda *_: iter(()))  # as after a repair
    check.check()
    assert check.damaged() == ""


def run_folder() -> Path:
    return next(settings().runs.glob("*"))


def original(n: int = 0) -> Path:
    return settings().images / store.all_images(1)[n].path


def flipped(path: Path, place: int = -500) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def bent_thumbnail() -> None:
    image = store.all_images(1)[0]
    with open(settings().thumbs / "1.pack", "r+b") as f:
        f.seek(image.thumb_offset)
        f.write(bytes(image.thumb_size))


def rewritten_audit() -> None:
    with schema.engine().connect().execution_options(write=True) as c, c.begin():
        triggers = c.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars().all()
        for name in triggers:
            c.exec_driver_sql(f"DROP TRIGGER {name}")
        c.execute(sa.update(schema.audit).where(schema.audit.c.seq == 1).values(entry="{}"))


def torn_events() -> None:
    with open(run_folder() / "events.jsonl", "ab") as f:
        f.write(b'{"kind": "St\n')
    runs.append(run_folder(), Queued("cpu", now()))


def old_temporary() -> None:
    (run_folder() / ".last.pt.999999999.1.tmp").write_bytes(b"half")


def other_version() -> None:
    (settings().cache / "1-srgb-3x12x12.ids").write_bytes(b"no id of images!" * 2)


def broken_map() -> None:
    path = run_folder() / "maps" / "1-2" / f"{'a' * 32}.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, a=np.zeros(1000))
    flipped(path)


def lost_dataset() -> None:
    path = run_folder() / "config.json"
    path.write_text(path.read_text().replace('"dataset_id": 1', '"dataset_id": 7'))


def open_key() -> None:
    signing.local()  # makes it
    (settings().home / "secret").chmod(0o644)


Case = tuple[Callable[[], Any], list[tuple[str, str]], int]
CASES: dict[str, Case] = {  # the damage; what is found, and where; how many of them are left after mending
    "original missing": (lambda: original().unlink(), [("original", "images/")], 1),
    "original empty": (lambda: original().write_bytes(b""), [("original", "images/")], 1),
    "originals swapped": (lambda: original(0).write_bytes(original(1).read_bytes()), [("original", "images/")], 1),
    "original kept twice": (
        lambda: (uploads.keep("a.png", original().read_bytes()), original().write_bytes(b"x")),
        [("original", "images/")],
        0,
    ),
    "thumbnail": (bent_thumbnail, [("thumbnail", "thumbs/1.pack, image")], 0),
    "pack missing": (lambda: (settings().thumbs / "1.pack").unlink(), [("thumbnail", "thumbs/1.pack, image")] * 24, 0),
    "orphan": (lambda: images.store_original(settings().images, "ab/abcd.png", b"x"), [("orphan", "images/ab/abcd.png")], 0),
    "pack of nothing": (lambda: (settings().thumbs / "9.pack").write_bytes(b"x"), [("orphan", "thumbs/9.pack")], 0),
    "audit": (rewritten_audit, [("audit", "the chain of entries")], 1),
    "best.pt": (lambda: flipped(run_folder() / "best.pt"), [("run", "/best.pt")], 1),
    "another's best.pt": (lambda: weights(run_folder() / "best.pt"), [("run", "/best.pt")], 1),
    "hashes.json": (lambda: runs.hashes_path(run_folder()).write_text("{"), [("run", "/best.pt"), ("run", "/last.pt")], 2),
    "last.pt": (lambda: (run_folder() / "last.pt").write_bytes(b""), [("run", "/last.pt")], 1),
    "config.json": (lambda: (run_folder() / "config.json").write_bytes(b"{"), [("run", "runs/")], 1),
    "dataset.csv": (lambda: (run_folder() / "dataset.csv").unlink(), [("run", "/dataset.csv")], 1),
    "dataset.csv cut off": (
        lambda: os.truncate(run_folder() / "dataset.csv", (run_folder() / "dataset.csv").stat().st_size // 2),
        [("run", "/dataset.csv")],
        1,
    ),
    "dataset.csv empty": (lambda: (run_folder() / "dataset.csv").write_bytes(b""), [("run", "/dataset.csv")], 1),
    "predictions.csv": (lambda: (run_folder() / "predictions.csv").write_bytes(b"a\nb\n"), [("run", "/predictions.csv")], 1),
    "events": (torn_events, [("run", "/events.jsonl")], 0),
    "dataset of a run": (lost_dataset, [("run", "runs/")], 1),
    "map": (broken_map, [("cache", "/maps/1-2/")], 0),
    "cache": (other_version, [("cache", "cache/1-srgb-3x12x12.rows")], 0),
    "cache of no dataset": (lambda: (settings().cache / "8-x.rows").write_bytes(b""), [("cache", "cache/8-x.rows")], 0),
    "leftover": (old_temporary, [("leftover", "/.last.pt.999999999.1.tmp")], 0),
    "last image's thumbnail": (lambda: os.truncate(settings().thumbs / "1.pack", 10), [("thumbnail", "thumbs/1.pack, image")] * 24, 0),
    "rights": (lambda: settings().home.chmod(0o755), [("rights", "home")], 0),
    "rights of the key": (open_key, [("rights", "home/secret")], 0),
}


@pytest.mark.parametrize("name", CASES)
def test_each_damage_is_named_and_what_can_be_made_anew_is(whole: Dataset, name: str) -> None:
    harm, expected, left = CASES[name]
    harm()
    found = check.check()
    assert [(one["what"], where in one["where"]) for one, (_, where) in zip(found["damage"], expected, strict=True)] == [
        (what, True) for what, _ in expected
    ]
    assert found["status"] == "failed" and all(one["problem"] and one["remedy"] for one in found["damage"])
    assert sum(one["remedy"] != MEND for one in found["damage"]) == left
    mended = check.check(mend=True)
    assert (mended["found"], mended["left"]) == (len(expected), left)
    again = check.check()
    assert again["found"] == left and (again["status"] == "whole") is (left == 0)


def test_what_was_sent_to_review_and_is_whole_is_not_looked_for_elsewhere(whole: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = uploads.keep("a.png", original().read_bytes())
    sent = {"dataset_id": whole.id, "run_id": "r", "image_id": upload.id, "ext": "png", "name": "a.png", "by": "tester", "source": "upload"}
    said = {"predicted": "red", "probability": 1.0, "probabilities": {"red": 1.0}, "fingerprint": None, "state": "predicted"}
    review._add([{**sent, **said}])
    monkeypatch.setattr(check, "_from", lambda *_: pytest.fail("looked for"))
    assert check.check()["found"] == 0


def test_a_cache_above_its_limit_is_named_and_cut(whole: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "cache_limit", lambda: 50)
    (found,) = check.check()["damage"]
    assert (found["what"], found["where"]) == ("cache", "cache") and "LOUPE_CACHE_GB" in found["problem"]
    assert check.check(mend=True)["left"] == 0 and space.cached() == 0 and check.check()["status"] == "whole"


def test_a_thumbnail_made_anew_is_that_of_its_picture(whole: Dataset) -> None:
    before = store.all_images(1)[0]
    seen = images.ThumbPack(settings().thumbs, 1).read(before.thumb_offset, before.thumb_size)
    bent_thumbnail()
    check.check(mend=True)
    after = store.all_images(1)[0]
    assert images.ThumbPack(settings().thumbs, 1).read(after.thumb_offset, after.thumb_size) == seen


def test_a_cut_off_pack_is_mended_without_showing_one_image_for_another(whole: Dataset) -> None:
    def seen() -> list[bytes]:
        return [images.ThumbPack(settings().thumbs, 1).read(i.thumb_offset, i.thumb_size) for i in store.all_images(1)]

    before = seen()
    (settings().thumbs / "1.pack").unlink()
    check.check(mend=True)
    assert seen() == before


def test_events_are_mended_without_losing_a_whole_one(whole: Dataset) -> None:
    torn_events()
    before = runs.events(run_folder())
    check.check(mend=True)
    assert runs.events(run_folder()) == before and len(before) == 2 and runs.torn_lines(run_folder()) == []


def test_the_command_line_says_it_in_sentences_and_as_json(whole: Dataset, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0 and "All is whole." in capfd.readouterr().err
    original().unlink()
    assert main(["check"]) == 1
    out, err = capfd.readouterr()
    assert json.loads(out)["damage"][0]["what"] == "original" and "The file is missing." in err and "Found 1, mended 0, left 1." in err


def test_a_damaged_database_is_found(whole: Dataset) -> None:
    path = Path(schema.engine().url.database or "")
    forget()
    data = bytearray(path.read_bytes())
    data[8192:] = os.urandom(len(data) - 8192)
    path.write_bytes(data)
    found = check.check()
    assert found["status"] == "failed" and found["damage"][0]["what"] == "database" and "restore" in found["damage"][0]["remedy"]


def test_one_begins_anew_only_where_the_database_is_gone_and_nothing_is_lost_by_it(
    whole: Dataset, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Conflict, match="can be used"):
        check.begin_anew()
    run, first = run_folder().name, original().relative_to(settings().home)
    forget()
    (settings().home / "loupe.db").unlink()
    (settings().home / "inbox").mkdir()
    server = settings().home / "servers" / "0-1-1"  # one that lives may show itself there
    server.parent.mkdir()
    server.touch()
    assert main(["check"]) == 1 and "--begin-anew" in capfd.readouterr().err
    assert main(["check", "--begin-anew"]) == 0
    (aside,) = settings().home.glob("before-*")
    assert (aside / "runs" / run / "config.json").exists() and (aside / first).exists() and (settings().home / "inbox").exists()
    assert server.exists()
    assert store.list_datasets() == [] and check.check()["status"] == "whole"


def test_checking_is_for_admins(home: Path) -> None:
    for act in (check.check, check.begin_anew):
        with acting(Person("Vic", "trainer")), pytest.raises(Forbidden):
            act()
