"""Backups written while people label and pictures come in, brought back and compared; damage of any file named by `check`, and mended."""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from core.data import backup, check, classes, imports, sources, store
from core.runs import runs
from core.settings import settings
from core.train import train
from tests.forking import fork
from tests.reliability import acts, homes, tabs
from tests.reliability.background import finished
from tests.reliability.disk import noise
from tests.reliability.row import Row
from tests.squares import imported

PEOPLE = 3
VALUES = {"architecture": "convnet", "epochs": 1}
DAMAGES = 10  # for each backup


def written(home: Path, folder: Path, n: int, chance: random.Random) -> list[tuple[Path, set[str]]]:
    """Backups, each with what had been acknowledged before it was begun."""
    found = imported(home.parent, 20)
    classes.ensure(found.id, acts.LABELS)
    run = train.start(found.id, VALUES, "tester")
    assert train.wait(run.id).status == "succeeded", train.log_tail(run.id)
    images = [one.id for one in store.all_images(found.id)]
    made: list[tuple[Path, set[str]]] = []
    with tabs.serving(home) as (server, _):
        people = [acts.Person(i, server.port, found.id, Event(), pause=0.02) for i in range(PEOPLE)]
        threads = [Thread(target=one.label, args=(images[one.number :: PEOPLE],)) for one in people]
        for thread in threads:
            thread.start()
        for i in range(n):
            job = settings().imports / imports.start(sources.at(noise(folder / "noise", i)), f"noise {i}", "tester")
            time.sleep(chance.random())
            said = {operation for one in people for operation in list(one.acknowledged)}
            code = fork(["-m", "core", "backup", str(folder / f"{i}.zip")], folder / "backup.log").wait(120)
            assert code == 0, (folder / "backup.log").read_text()
            made.append((folder / f"{i}.zip", said))
            assert finished(job, imports.IMPORT) == "done"
        for one in people:
            one.stop.set()
        for thread in threads:
            thread.join()
    return made


def whole() -> str:
    """What check says; "" if nothing."""
    damage = [one for one in check.check()["damage"] if one["what"] != "rights"]
    return json.dumps(damage[:2], ensure_ascii=False) if damage else ""


def copied(home: Path, folder: Path, to: Path) -> None:
    """The folder file by file while an import goes on, which is no backup."""
    shutil.copytree(home, to, ignore=shutil.ignore_patterns("loupe.db*"), symlinks=True)
    job = settings().imports / imports.start(sources.at(noise(folder / "noise", 999)), "noise 999", "tester")
    assert finished(job, imports.IMPORT) == "done"
    shutil.copy(home / "loupe.db", to)
    if (home / "loupe.db-wal").exists():
        shutil.copy(home / "loupe.db-wal", to)


def harmed(chance: random.Random) -> Iterator[tuple[str, Path, bytes]]:
    """A file, how it is to be damaged, and what is then in it: nothing, half of it, or one other bit where its hash is known."""
    home = settings().home
    (run,) = settings().runs.glob("[!.]*")
    hashed = [*sorted(settings().images.glob("??/*")), runs.checkpoint(run)]
    others = [*settings().thumbs.glob("*.pack"), run / "dataset.csv", run / "config.json", runs.hashes_path(run)]
    while True:
        path = chance.choice(hashed if chance.random() < 0.6 else others)
        data = path.read_bytes()
        how = chance.choice(("gone", "empty", "half", "bit") if path in hashed else ("empty", "half"))
        if how == "bit":
            at = chance.randrange(len(data))
            changed = data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]
        else:
            changed = data[: len(data) // 2] if how == "half" else b""
        yield f"{path.relative_to(home)}, {how}", path, changed


def checked(row: Row, n: int, chance: random.Random) -> int:
    """Damages so many files one after the other, and returns how many of them were mended."""
    mended, some = 0, harmed(chance)
    for _ in range(n):
        name, path, changed = next(some)
        kept = path.read_bytes()
        path.unlink() if name.endswith("gone") else path.write_bytes(changed)
        found = check.check()
        told = [
            one for one in found["damage"] if str(path.relative_to(settings().home)) in one["where"] or path.parent.name in one["where"]
        ]
        row.check(found["status"] == "failed" and bool(told), f"{name}: check says {json.dumps(found['damage'][:2])}")
        row.check(all(one["problem"] and one["remedy"] for one in found["damage"]), f"{name}: a damage without words")
        after = check.check(mend=True)
        if after["left"]:
            path.write_bytes(kept)
        mended += after["mended"] > 0
        row.check(not (problem := whole()), f"{name}, mended or brought back: {problem}")
    return mended


def trial(home: Path, n: int) -> Row:
    """n backups, and so many times DAMAGES."""
    row, chance = (
        Row(control="a folder copied file by file during an import, and a check that does not read the originals"),
        random.Random(8),
    )
    folder = home.parent
    with homes.moved_in(home), pytest.MonkeyPatch.context() as patch:
        (folder / "noise").mkdir()
        patch.setenv("LOUPE_ROOTS", str(folder / "noise"))
        settings.cache_clear()
        made = written(home, folder, n, chance)
        copied(home, folder, folder / "copy")
    last = folder / "home-0"
    for i, (path, said) in enumerate(made):
        with homes.moved_in(last := folder / f"home-{i}"):
            backup.restore(path)
            rows = acts.stored()
            row.check(not (missing := [one for one in said if rows[one] != 1]), f"backup {i}: {len(missing)} acts are not there once")
            row.check(not (problem := acts.integrity()), f"backup {i}: {problem}")
            row.check(not (problem := whole()), f"backup {i}: {problem}")
    with homes.moved_in(folder / "copy"):
        row.control_check(not whole(), "a folder copied file by file")
    with homes.moved_in(last):
        mended = checked(row, DAMAGES * n, chance)
        path, other = sorted(settings().images.glob("??/*"))[:2]
        path.write_bytes(other.read_bytes())
        with homes.replaced(check, "_of_original", lambda path, *_: "" if path.exists() else "The file is missing."):
            row.control_check(bool(whole()), "a check that does not read")
    row.figures = f"backups while {PEOPLE} people label and imports go on: {n}; files damaged: {DAMAGES * n}, mended: {mended}"
    return row


if __name__ == "__main__":
    print(trial(Path(sys.argv[1]), int(sys.argv[2])))
