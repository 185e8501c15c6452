"""A power cut, simulated: what a person was told is stored is there after it, whatever the disk had not been made to keep.

The app's own SQL is recorded while people act, and run again through a file system that keeps nothing until it is told to sync. At a
random moment it loses power: of each 512 bytes written since the last sync, some are kept and some are not. What is left is opened
with plain SQLite. One process holds the lock, as the simulated file system has no shared memory.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import Any

import apsw
import sqlalchemy as sa

from core.data import labels, schema
from tests.reliability import acts, homes
from tests.reliability.row import Row

SECTOR = 512  # bytes, of which a disk writes all or none
ACTS = 40
WAYS = (("WAL", "FULL"), ("DELETE", "FULL"))  # as core.data.schema opens it, by the version of SQLite
CONTROLS = (("WAL", "NORMAL"), ("DELETE", "OFF"))


class Cut(Exception):
    """The power is gone."""


class Disk:
    """Counts operations until its power is cut; holds what was written and not yet synced."""

    def __init__(self, left: int, chance: random.Random) -> None:
        self.left, self.chance, self.dead = left, chance, False
        self.unsynced: dict[str, list[tuple[int, bytes]]] = {}

    def use(self) -> None:
        if self.dead:
            raise apsw.IOError
        self.left -= 1
        if self.left <= 0:
            self.dead = True
            raise apsw.IOError

    def settle(self, path: str) -> None:
        """All that was written reaches the plate."""
        pieces = self.unsynced.pop(path, [])
        if pieces:
            with open(path, "rb+") as f:
                for at, data in pieces:
                    f.seek(at)
                    f.write(data)

    def lose(self) -> None:
        """Of what was not synced, each sector is kept or not."""
        for path, pieces in self.unsynced.items():
            if not Path(path).exists():
                continue
            with open(path, "rb+") as f:
                for at, data in pieces:
                    for i in range(0, len(data), SECTOR):
                        if self.chance.random() < 0.5:
                            f.seek(at + i)
                            f.write(data[i : i + SECTOR])


class Files(apsw.VFS):
    def __init__(self, name: str, disk: Disk) -> None:
        self.disk = disk
        super().__init__(name, base="")

    def xOpen(self, name: Any, flags: list[int]) -> Any:
        return File(name, flags, self.disk)

    def xDelete(self, name: str, sync: bool) -> None:
        self.disk.use()
        self.disk.unsynced.pop(name, None)
        super().xDelete(name, sync)


class File(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int], disk: Disk) -> None:
        super().__init__("", name, flags)
        self.disk, self.path = disk, name.filename() if isinstance(name, apsw.URIFilename) else str(name)

    def xRead(self, amount: int, offset: int) -> bytes:
        """What was written, synced or not: the machine itself sees all of it."""
        size = self.xFileSize()
        data = bytearray(super().xRead(min(amount, max(0, super().xFileSize() - offset)), offset) if super().xFileSize() > offset else b"")
        data += bytes(amount - len(data))
        for at, piece in self.disk.unsynced.get(self.path, ()):
            low, high = max(at, offset), min(at + len(piece), offset + amount)
            if low < high:
                data[low - offset : high - offset] = piece[low - at : high - at]
        return bytes(data[: max(0, min(amount, size - offset))])

    def xWrite(self, data: bytes, offset: int) -> None:
        self.disk.use()
        self.disk.unsynced.setdefault(self.path, []).append((offset, bytes(data)))

    def xFileSize(self) -> int:
        ends = [at + len(piece) for at, piece in self.disk.unsynced.get(self.path, ())]
        return max([super().xFileSize(), *ends])

    def xTruncate(self, size: int) -> None:
        self.disk.use()
        kept = [(at, piece[: max(0, size - at)]) for at, piece in self.disk.unsynced.pop(self.path, [])]
        self.disk.unsynced[self.path] = [one for one in kept if one[1]]
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:
        self.disk.use()
        self.disk.settle(self.path)
        super().xSync(flags)

    def xDeviceCharacteristics(self) -> int:
        return 0  # a disk that promises nothing


Script = list[list[tuple[str, Any]]]  # the statements of each act


def recorded(home: Path) -> tuple[Path, Script, tuple[str, int]]:
    """A database, the SQL of ACTS that follow on it, and how the app opens it: its journal and what it syncs."""
    script: Script = []
    with homes.moved_in(home):
        made = acts.dataset(ACTS)
        engine = schema.engine()
        with engine.connect() as c:
            mode = c.exec_driver_sql("PRAGMA journal_mode").scalar_one(), c.exec_driver_sql("PRAGMA synchronous").scalar_one()
            c.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        engine.dispose()
        shutil.copy(home / "loupe.db", start := home.parent / "start.db")

        @sa.event.listens_for(engine, "before_cursor_execute")
        def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
            if not statement.lstrip().upper().startswith(("BEGIN", "PRAGMA")):
                script[-1].extend((statement, one) for one in (parameters if many else [parameters]))

        for i in range(ACTS):
            script.append([])
            done = labels.apply(made, {f"{i:016x}": 0}, acts.LABELS[i % 2], "tester", f"act {i}")
            assert done.seqs
        engine.dispose()
    return start, script, mode


def opened(path: Path, vfs: str, journal: str, synchronous: str) -> apsw.Connection:
    one = apsw.Connection(str(path), vfs=vfs)
    for pragma in ("locking_mode=EXCLUSIVE", f"journal_mode={journal}", f"synchronous={synchronous}", "wal_autocheckpoint=20"):
        one.execute(f"PRAGMA {pragma}").fetchall()
    return one


names = itertools.count()


def run_until_cut(path: Path, script: Script, disk: Disk, journal: str, synchronous: str) -> int:
    """Acts that were acknowledged before the power was cut."""
    name = f"cut{next(names)}"
    vfs, said = Files(name, disk), 0
    one = None
    try:
        one = opened(path, name, journal, synchronous)
        for act in script:
            one.execute("BEGIN IMMEDIATE")
            for statement, values in act:
                one.execute(statement, values or ()).fetchall()
            one.execute("COMMIT")
            said += 1
    except (apsw.Error, OSError):
        pass
    finally:
        disk.dead = True
        kept = {p: p.read_bytes() for p in path.parent.iterdir()} if not disk.left > 0 else {}  # closing must not tidy up
        if one is not None:
            with contextlib.suppress(apsw.Error):
                one.close(True)
        for p in path.parent.iterdir():
            p.unlink()
        for p, data in kept.items():
            p.write_bytes(data)
        vfs.unregister()
        disk.lose()
    return said


def survived(path: Path, said: int) -> str:
    """What is wrong with the database after the power came back; "" if nothing."""
    try:
        with sqlite3.connect(path) as c:
            whole = c.execute("PRAGMA integrity_check").fetchone()[0]
            there = {one for (one,) in c.execute("SELECT operation FROM label_events WHERE operation IS NOT NULL")}
        c.close()
    except sqlite3.Error as e:
        return f"damaged: {e}"
    if whole != "ok":
        return f"damaged: {whole[:60]}"
    missing = [i for i in range(said) if f"act {i}" not in there]
    return f"{len(missing)} of {said} acknowledged acts are lost" if missing else ""


def cuts(start: Path, script: Script, folder: Path, n: int, way: tuple[str, str], seed: int) -> list[str]:
    """What n cuts did, each "" or a problem."""
    chance, found = random.Random(seed), []
    folder.mkdir()
    shutil.copy(start, folder / "loupe.db")
    disk = Disk(1 << 30, chance)
    assert run_until_cut(folder / "loupe.db", script, disk, *way) == len(script), "the recorded acts can be run again"
    operations = (1 << 30) - disk.left
    for _ in range(n):
        shutil.rmtree(folder)
        folder.mkdir()
        shutil.copy(start, folder / "loupe.db")
        disk = Disk(chance.randint(2, operations), chance)
        said = run_until_cut(folder / "loupe.db", script, disk, *way)
        found.append(survived(folder / "loupe.db", said))
    return found


def trial(home: Path, n: int) -> Row:
    """n cuts in each of the two ways in which the app may open SQLite."""
    row = Row(control=" and ".join(f"{j} with synchronous={s}" for j, s in CONTROLS))
    start, script, mode = recorded(home)
    row.check(mode[0].upper() in ("WAL", "DELETE") and mode[1] == 2, f"the app opens SQLite with {mode}, which is not synchronous=FULL")
    for seed, way in enumerate(WAYS):
        for i, problem in enumerate(cuts(start, script, home.parent / f"cut-{seed}", n, way, seed)):
            row.check(not problem, f"{way[0]}, cut {i}: {problem}")
    for seed, way in enumerate(CONTROLS):
        for problem in cuts(start, script, home.parent / f"control-{seed}", max(8, n // 2), way, seed):
            row.control_check(not problem, f"{way[0]} with synchronous={way[1]}")
    row.figures = f"{ACTS} acts in each; {' and '.join(f'{j} with synchronous={s}' for j, s in WAYS)}"
    return row


if __name__ == "__main__":
    print(trial(Path(sys.argv[1]), int(sys.argv[2])))
