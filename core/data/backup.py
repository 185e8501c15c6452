"""All that cannot be made anew in one file, written while people work, and brought back into an empty folder."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO, Any

import sqlalchemy as sa
from sqlalchemy import func, select

from core import processes, roles, space, storage
from core.data import audit, database, moving, schema
from core.errors import Conflict, Invalid
from core.runs import jobs, runs
from core.settings import settings
from core.types import Progress, now, silent

# Of LOUPE_HOME. What is in neither is made anew, or is nobody's but this machine's: caches, locks, exports, the key that signs addresses.
KEPT = ("audit", "images", "thumbs", "uploads/pictures", "runs", "bin", "embeddings", "answers", "finds", "speed.json")
UNFINISHED = (".tmp", ".part", ".progress", ".stop", ".lock")
DATABASE, LIST, MANIFEST = "loupe.db", "files.txt", "backup.json"
FORMAT = 1
BLOCK = 1 << 20  # bytes


# Writing ------------------------------------------------------------------------------------------


def write(out: Path, progress: Progress = silent) -> dict[str, Any]:
    """Writes rows and files as they are at its start, whole or not at all; files that come meanwhile are in the next one.

    Where progress raises, as it does to stop, nothing is left of it.
    """
    roles.allow("admin")
    told: dict[str, Any] = {}

    def fill(tmp: Path) -> None:
        with runs.scratch(beside) as folder, open(tmp, "wb") as f, zipfile.ZipFile(f, "w", allowZip64=True) as archive:
            os.chmod(tmp, 0o600)
            progress(0, 0, "Copying the database")
            heads = [(path, path.read_bytes()) for path in settings().home.glob("audit/*")]  # before the entries that they speak of
            told.update(_copy_database(folder / DATABASE), made_at=now(), format=FORMAT)
            told.update(_fill(archive, folder, heads, progress))
            archive.writestr(MANIFEST, json.dumps(told, indent=1))

    out = out.absolute()
    beside = out.with_name(f"{out.name}.files")
    try:
        for name in (out.name, beside.name):
            jobs.remove_left(out.parent, of=name)
        runs.write_atomically(out, fill)
    except (OSError, schema.library().OperationalError) as e:
        why = space.refusal(OSError(e.errno, e.strerror, e.filename or str(out))).message if isinstance(e, OSError) else f"{out}: {e}."
        raise Invalid(f"The backup was not written. {why}", "Choose another place, or make room there.") from None
    audit.note("backup", on={}, after={"files": told["files"], "rows": sum(told["rows"].values())})
    return {"file": str(out), **told}


def _copy_database(to: Path) -> dict[str, Any]:
    """A SQLite file of one moment, whichever database is in use; its rows by table, and the audit's head."""
    url = schema.engine().url
    if url.drivername == "sqlite":
        with database.told(url), schema.engine().connect() as c, closing(schema.library().connect(to)) as target:
            c.connection.driver_connection.backup(target)  # type: ignore[union-attr]  # in one go: by pages each write would begin it anew
    else:
        with schema.reading() as old:
            moving.into_empty(old, sa.URL.create("sqlite", database=str(to)))
    with closing(schema.library().connect(to)) as c:
        c.execute("PRAGMA journal_mode=DELETE")  # all of it in the one file
        head = c.execute("SELECT hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
        return {"rows": _rows(c), "head": head[0] if head else ""}


def _rows(connection: Any) -> dict[str, int]:
    """How many each table holds."""
    return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in schema.meta.tables}


def _fill(archive: zipfile.ZipFile, folder: Path, heads: list[tuple[Path, bytes]], progress: Progress) -> dict[str, Any]:
    found = list(_files())
    total, done, number, left_out = sum(size for _, size in found), 0, 0, list[str]()
    with open(folder / LIST, "w", encoding="utf-8") as listed:

        def add(name: str, f: IO[bytes], most: int, packed: int = zipfile.ZIP_STORED) -> int:
            digest, size = hashlib.sha256(), 0
            info = zipfile.ZipInfo(name)
            info.compress_type = packed
            with archive.open(info, "w", force_zip64=True) as entry:
                for block in _blocks(f, most):
                    digest.update(block)
                    entry.write(block)
                    size += len(block)
            listed.write(f"{digest.hexdigest()} {size} {name}\n")
            return size

        with open(folder / DATABASE, "rb") as f:
            add(DATABASE, f, -1, zipfile.ZIP_DEFLATED)
        for path, data in heads:
            add(path.relative_to(settings().home).as_posix(), io.BytesIO(data), -1)
        for path, size in found:
            progress(done, total, "Writing bytes")
            try:
                with open(storage.local(path, storage.PATIENT), "rb") as f:
                    add(path.relative_to(settings().home).as_posix(), f, _whole_lines(f) if path.suffix == ".jsonl" else -1)
                number += 1
            except storage.Resized:  # waiting does not bring it back, and one such object must not be the end of all backups
                left_out.append(path.relative_to(settings().home).as_posix())
            except FileNotFoundError:  # taken away since
                pass
            done += size
    archive.write(folder / LIST, LIST, zipfile.ZIP_DEFLATED)
    progress(total, total, "Writing bytes")
    return {"files": number, "bytes": done, "left_out": left_out}


def _files() -> Iterator[tuple[Path, int]]:
    """Each file that is kept, and its size; of a run the checkpoint to go on from before the weights that it names."""
    for name in KEPT[1:]:
        top = settings().home / name
        for folder, inside, names in os.walk(top) if top.is_dir() else [(str(top.parent), [], [top.name])]:
            inside[:] = sorted(one for one in inside if not one.endswith(UNFINISHED))
            for one in sorted(names, reverse=True):
                path = Path(folder, one)
                if not one.endswith((*UNFINISHED, processes.HANDLE, storage.INDEX)) and path.is_file() and not path.is_symlink():
                    yield path, path.stat().st_size
    if storage.on():
        yield from _only_stored()


def _only_stored() -> Iterator[tuple[Path, int]]:
    """Files that were evicted here, or never fetched: a backup that needs a bucket would be none."""
    home = settings().home
    tops = (settings().images, settings().thumbs)
    for folder in (*(top / name for top in tops for name in storage.folders(top)), home / "uploads" / "pictures"):
        yield from ((folder / name, size) for name, size in storage.names(folder).items() if not (folder / name).exists())
    for path in (*home.glob(f"runs/*/{storage.INDEX}"), *home.glob(f"bin/*/{storage.INDEX}")):
        stored = ((path.parent / name, one) for name, one in storage.index(path.parent).items())
        yield from ((path, one["size"]) for path, one in stored if not path.exists())


def _whole_lines(f: IO[bytes]) -> int:
    """The bytes up to the end of the last whole line: a run may be writing the next one."""
    end = f.seek(0, os.SEEK_END)
    start = max(0, end - BLOCK)
    f.seek(start)
    last = f.read(end - start).rfind(b"\n")
    f.seek(0)
    return start + last + 1 if last >= 0 else end


def _blocks(f: IO[bytes], most: int = -1) -> Iterator[bytes]:
    while block := f.read(BLOCK if most < 0 else min(BLOCK, most)):
        yield block
        most -= len(block) if most >= 0 else 0


# Bringing back --------------------------------------------------------------------------------------


def restore(file: Path, progress: Progress = silent) -> dict[str, Any]:
    """Brings a backup back into an empty LOUPE_HOME and an empty database, and compares: hashes, rows, the chain of the audit.

    Conflict if there is anything, Invalid if the file is damaged; nothing is left then.
    """
    roles.allow("admin")
    home, url = settings().home, database.address(settings().database_url)
    jobs.remove_left(home)
    if there := sorted(path.name for path in home.iterdir() if path.name != "inbox"):
        raise Conflict(f"{home} is not empty: it holds {there[0]}.", "Set LOUPE_HOME to an empty folder. Nothing was changed.")
    if url.drivername == "sqlite" and url.database and Path(url.database).exists():
        raise Conflict(f"There is a database at {database.shown(url)} already.", "Set LOUPE_DATABASE_URL to another. Nothing was changed.")
    try:
        with runs.scratch(home / "restore") as folder:
            told = _unpack(file, folder, progress)
            progress(0, 0, "Writing the database")
            _bring_back(folder / DATABASE, url)
            for path in sorted(folder.iterdir(), key=lambda path: path.name == DATABASE):  # it is there once all else is
                os.replace(path, home / path.name)
            os.sync()
    except OSError as e:
        raise Invalid(f"The backup was not brought back. {space.refusal(e).message}", "Make room or choose another folder.") from None
    return {"file": str(file), **told, "audit": _compared(told, progress)}


def _unpack(file: Path, folder: Path, progress: Progress) -> dict[str, Any]:
    """What the backup tells of itself; every file of its list lies in the folder, and no other."""
    try:
        with zipfile.ZipFile(file) as archive:
            told: dict[str, Any] = json.loads(archive.read(MANIFEST))
            if told["format"] > FORMAT:
                raise Invalid(f"{file} was written by a newer Loupe.", "Bring it back with that one.")
            total, done = int(told["bytes"]), 0
            for line in archive.read(LIST).decode().splitlines():
                digest, size, name = line.split(" ", 2)
                progress(min(done, total), total, "Reading bytes")
                _unpack_one(archive, name, digest, _place(folder, name))
                done += int(size) if name != DATABASE else 0
            progress(total, total, "Reading bytes")
            return told
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, TypeError) as e:
        what = str(e).strip("'\"")
        raise Invalid(f"{file} is no backup, or is damaged: {what}.", "Nothing was changed. Take another backup.") from None


def _place(folder: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    known = name == DATABASE or any(name == one or name.startswith(f"{one}/") for one in KEPT)
    if not known or ".." in parts or "\\" in name or "\0" in name:
        raise ValueError(f"it holds “{name}”, which no backup holds")
    return folder.joinpath(*parts)


def _unpack_one(archive: zipfile.ZipFile, name: str, digest: str, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    found = hashlib.sha256()
    with archive.open(name) as entry, open(to, "wb") as f:
        for block in _blocks(entry):
            found.update(block)
            f.write(block)
    if found.hexdigest() != digest:
        raise ValueError(f"{name} is not what was written")


def _bring_back(file: Path, url: sa.URL) -> None:
    """Puts the rows into the database that is to be used: the file itself, or PostgreSQL."""
    try:
        with closing(schema.library().connect(file)) as c:
            whole = c.execute("PRAGMA quick_check").fetchone()[0] == "ok"
    except schema.library().DatabaseError:
        whole = False
    if not whole:
        raise Invalid("The database in the backup is damaged.", "Nothing was changed. Take another backup.")
    if url.drivername != "sqlite":
        made = schema.opened(sa.URL.create("sqlite", database=str(file)))  # of an older Loupe: brought to today's tables
        try:
            with made.connect() as old:
                moving.into_empty(old, url)
        finally:
            made.dispose()
        for path in file.parent.glob(f"{DATABASE}*"):
            path.unlink()
    elif url.database and Path(url.database) != settings().home / DATABASE:
        runs.write_atomically(Path(url.database), lambda tmp: _copy_file(file, tmp))
        file.unlink()


def _copy_file(file: Path, to: Path) -> None:
    with open(file, "rb") as old, open(to, "wb") as new:
        for block in _blocks(old):
            new.write(block)


def _compared(told: dict[str, Any], progress: Progress) -> str:
    schema.engine.cache_clear()
    with schema.reading() as c:
        rows = {name: c.execute(select(func.count()).select_from(table)).scalar_one() for name, table in schema.meta.tables.items()}
    for name, number in told["rows"].items():
        if rows.get(name, number) != number:
            raise Invalid(f"{rows[name]:,} rows of {number:,} in “{name}” were brought back.", "Take another backup; please report it.")
    found = audit.verify(progress)
    audit.note("restore", on={}, after={"made_at": told["made_at"]})
    return found.words
