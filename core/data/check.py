"""What is damaged, missing or left over of all that is stored, found by reading it; and made anew where that can be done."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import select

from core import processes, roles, servers, space, storage
from core.data import audit, database, depth, images, leftovers, removed, schema, store, uploads
from core.errors import AppError, Conflict, Invalid, NotFound, Unavailable
from core.runs import jobs, launch, runs, stored
from core.settings import settings
from core.types import Image, Progress, now, silent

NIGHT = 3  # o'clock, by the clock of this machine
CHECKED = "checked.json"
DAMAGED = "Run python -m core check, and bring the last backup back: python -m core restore FILE."
FROM_BACKUP = "Bring it back from a backup."
IMPORT_AGAIN = "Import the same picture again, or bring the file back from a backup."
ID_BYTES = 16  # of an image's id in the .ids file of a cache
READ = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)  # raised of a damaged zip


@dataclass(frozen=True)
class Damage:
    what: str  # database, audit, original, thumbnail, run, storage, orphan, cache, leftover, rights
    where: str  # in LOUPE_HOME, or a name
    problem: str
    remedy: str  # what a person can do; "" where it can be made anew
    mend: Callable[[], object] | None = None  # makes it anew


def check(mend: bool = False, progress: Progress = silent, fetch: bool = False) -> dict[str, Any]:
    """Reads all that is stored and names what is not as it should be; mend: makes anew what can be made anew, and says so.

    fetch: reads originals and weights that only storage has, too. status: "whole", or "failed" while anything is left.
    """
    roles.allow("admin")
    found: list[dict[str, Any]] = []
    for one in _damages(progress, fetch):
        entry = {"what": one.what, "where": one.where, "problem": one.problem, "remedy": one.remedy, "mended": False}
        if mend and one.mend is not None:
            try:
                one.mend()
                entry["mended"] = True
            except (AppError, OSError) as e:
                entry["remedy"] = str(e)
        elif one.mend is not None:
            entry["remedy"] = "python -m core check --mend mends it."
        found.append(entry)
    left = sum(not one["mended"] for one in found)
    with contextlib.suppress(OSError):  # a folder that cannot be written is among what was found
        _remember("; ".join(f"{one['where']}: {one['problem']}" for one in found if one["what"] == "database" and not one["mended"]))
    if mended := len(found) - left:
        audit.note("mend", on={}, after={"mended": mended, "left": left})
    return {"status": "failed" if left else "whole", "found": len(found), "mended": mended, "left": left, "damage": found}


def _damages(progress: Progress, fetch: bool) -> Iterator[Damage]:
    try:
        yield from _database(progress)
        yield from _audit(progress)
        if problem := storage.problem():
            yield Damage("storage", settings().storage, problem, "What lies there was not looked at.")
        for part in () if problem else (_images, _submissions, _runs):
            yield from part(progress, fetch)
        for left in (_caches, _leftovers, _rights):
            yield from left(progress)
    except AppError as e:  # storage went away meanwhile, or the database cannot be read, and without it nothing else can be judged
        if str(e) == storage.away():
            yield Damage("storage", settings().storage, e.message, "What lies there was not looked at to its end.")
            return
        yield Damage("database", database.shown(database.address(settings().database_url)), e.message, e.hint)


# The database alone, every night ------------------------------------------------------------------


def nightly() -> None:
    """SQLite's own check of the whole database, once a day from NIGHT on: where its journal is a file beside it, writing waits meanwhile.

    AppError, and what `damaged` says until the next check, if it is not whole.
    """
    at, last = datetime.now(UTC).astimezone(), _checked()["at"]
    day = datetime.fromisoformat(last).astimezone().date() if last else None
    if database.address(settings().database_url).drivername != "sqlite" or (day and (day == at.date() or at.hour < NIGHT)):
        return
    problem = ""
    try:
        problem = "; ".join(f"{one.where}: {one.problem}" for one in _database(silent))
    except Unavailable as e:
        if "damaged" not in e.message:
            raise
        problem = e.message
    _remember(problem)
    if problem:
        raise AppError(problem, DAMAGED)


def _remember(problem: str) -> None:
    runs.write_json(settings().home / CHECKED, {"at": now(), "problem": problem[:1000]})


def damaged() -> str:
    """What the last of these checks, or of the whole ones, found in SQLite's file; "" if it was whole, or another database is in use."""
    return str(_checked()["problem"]) if database.address(settings().database_url).drivername == "sqlite" else ""


def _checked() -> dict[str, Any]:
    try:
        return {"at": "", "problem": "", **runs.read_json(settings().home / CHECKED)}
    except (FileNotFoundError, ValueError):
        return {"at": "", "problem": ""}


# Rows ---------------------------------------------------------------------------------------------


def _database(progress: Progress) -> Iterator[Damage]:
    progress(0, 0, "Checking the database")
    engine = schema.engine()
    if engine.dialect.name != "sqlite":
        schema.ping()
        return
    with schema.reading() as c:
        said = [row[0] for row in c.exec_driver_sql("PRAGMA integrity_check")]
        lost = c.exec_driver_sql("PRAGMA foreign_key_check").all()
    where = database.shown(engine.url)
    for one in said if said != ["ok"] else []:
        yield Damage("database", where, str(one), FROM_BACKUP)
    for table, row, other, _ in lost:
        yield Damage("database", f"{table}, row {row}", f"It names a row of “{other}” that is not there.", FROM_BACKUP)


def _audit(progress: Progress) -> Iterator[Damage]:
    try:
        problem = audit.verify(progress).problem
    except AppError as e:  # the heads outside cannot be read
        problem = str(e)
    if problem:
        yield Damage(
            "audit", "the chain of entries", problem, "What was changed cannot be made anew; a backup of before shows what it was."
        )


# Originals and thumbnails ---------------------------------------------------------------------------


def _every_image() -> list[Image]:
    datasets = [*store.list_datasets(), *store.list_datasets(deleted=True)]
    return [image for one in datasets for image in (*store.all_images(one.id), *removed.get(one.id))]  # what was removed can come back


def _images(progress: Progress, fetch: bool) -> Iterator[Damage]:
    yield from _slices()  # first: one that is fetched again brings all its thumbnails
    every, looked, listed = _every_image(), dict[str, bool](), dict[Path, dict[str, int]]()
    ends: dict[int, int] = {}  # of each dataset's pack, if it were whole
    for image in every:
        ends[image.dataset_id] = max(ends.get(image.dataset_id, 0), image.thumb_offset + image.thumb_size)
    for done, image in enumerate(every):
        progress(done, len(every), "Checking images")
        path = settings().images / image.path
        if image.path not in looked:  # of several datasets it is stored once
            there = _listed(path.parent, listed)
            problem = _of_original(path, image.id, there)
            looked[image.path] = not problem
            only_there = fetch and path.name in there and not path.exists()
            stored_problem, was_read = _of_stored(path, image.id, there[path.name]) if only_there else ("", True)
            if stored_problem:
                back = partial(_take_back, path, image.id, there[path.name]) if was_read else None
                yield Damage("original", _where(path), f"{stored_problem} It is {image.source}.", IMPORT_AGAIN, back)
                looked[image.path] = not _of_original(path, image.id)
            elif problem:
                again = _again(path, image.id, there, uploads.pictures())
                yield Damage("original", _where(path), f"{problem} It is {image.source}.", IMPORT_AGAIN, again)
                looked[image.path] = not _of_original(path, image.id, there)
            elif problem := _not_stored(path, there):
                yield Damage("storage", _where(path), problem, "", partial(storage.keep, [path]))
        if problem := _of_thumbnail(image):
            where = f"{_where(settings().thumbs / f'{image.dataset_id}.pack')}, image {image.id}"
            mend = partial(_thumbnail_again, image, ends[image.dataset_id]) if looked[image.path] else None
            yield Damage("thumbnail", where, problem, "Its original must be whole first.", mend)
    progress(len(every), len(every), "Checking images")
    yield from _orphans(looked)
    for folder, there in listed.items():
        for name in sorted(there):
            if f"{folder.name}/{name}" not in looked and not (folder / name).exists():
                where = _where(folder / name)
                yield Damage("orphan", where, "Storage has this original, and no dataset knows it.", "Delete it there if nobody needs it.")


def _slices() -> Iterator[Damage]:
    """Files of thumbnails; storage keeps a whole one even where this folder's is not."""
    listed = dict[Path, dict[str, int]]()
    for path in sorted(settings().thumbs.glob("*/[0-9]*")):
        there = _listed(path.parent, listed)
        if not images.is_whole_slice(path):
            again = path.unlink if there.get(path.name) == images.place(path.name)[1] else None
            yield Damage("thumbnail", _where(path), "The file is not whole.", "Its thumbnails are named one by one.", again)
        elif problem := _not_stored(path, there):
            yield Damage("storage", _where(path), problem, "", partial(storage.keep, [path]))


def _listed(folder: Path, known: dict[Path, dict[str, int]]) -> dict[str, int]:
    """What storage has in the folder, asked once; {} without storage."""
    if folder not in known:
        known[folder] = storage.names(folder)
    return known[folder]


def _still_there() -> None:
    """Unavailable where storage itself has gone away, and not one of its files alone: each of those that are left would wait as long."""
    if storage.away():
        storage.names(settings().home / "tried", storage.PATIENT)


def _not_stored(path: Path, there: dict[str, int]) -> str:
    """What is to be said where storage lacks the file, or has another."""
    if not storage.on() or not path.exists() or there.get(path.name) == path.stat().st_size:
        return ""
    return "Storage has another file in its place." if path.name in there else "Storage does not have it."


def _again(path: Path, image_id: str, there: dict[str, int], folder: Path) -> Callable[[], None] | None:
    """From storage, or from where the picture is stored a second time."""
    return partial(_fetch_again, path, image_id, there[path.name]) if path.name in there else _from(folder, path, image_id)


def _fetch_again(path: Path, image_id: str, size: int) -> None:
    """From storage, in place of a damaged file; the damaged one stays where storage has no better."""
    with runs.scratch(path) as made:
        _get(path, made / path.name, size)
        if problem := _of_original(made / path.name, image_id):
            raise Invalid(f"In storage, too: {problem}", IMPORT_AGAIN)
        os.replace(made / path.name, path)


def _of_original(path: Path, image_id: str, stored: Container[str] = ()) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return "" if path.name in stored else "The file is missing."
    except OSError as e:
        return f"The file cannot be read: {e.strerror}."
    if not data:
        return "The file is empty."
    return "" if images.is_original(data, image_id) else "The file is not the one that was imported."


def _of_thumbnail(image: Image) -> str:
    try:
        images.open_picture(images.ThumbPack(settings().thumbs, image.dataset_id).read(image.thumb_offset, image.thumb_size))
    except NotFound:
        return "The thumbnail is missing."
    except Unavailable:
        _still_there()
        return "The thumbnail cannot be read."
    except (Invalid, OSError):
        return "The thumbnail is damaged."
    return ""


def _get(path: Path, file: Path, size: int) -> None:
    """Of storage, which says that it has so many bytes; Unavailable, too, for what it does not have any more and for what the system refuses here."""
    try:
        storage.with_room(partial(storage.get_file, path, file, size))
    except FileNotFoundError:
        raise Unavailable("Storage does not have it any more.", FROM_BACKUP) from None
    except OSError as e:
        raise space.refusal(e) from e


def _of_stored(path: Path, image_id: str, size: int) -> tuple[str, bool]:
    """What is wrong with a file that only storage has, and which does not stay here; and whether it could be read at all."""
    with runs.scratch(path) as made:
        try:
            _get(path, made / path.name, size)
        except Unavailable as e:
            _still_there()
            return f"It cannot be read: {e.message}", False
        problem = _of_original(made / path.name, image_id)
    return problem and f"In storage: {problem}", True


def _take_back(path: Path, image_id: str, size: int) -> None:
    """Lays what storage has of it aside here, so that it is missing, and an import of the same picture brings it to both."""
    target = settings().home / "bin" / "orphans" / path.name
    with runs.scratch(path) as made:
        _get(path, made / path.name, size)
        if not _of_original(made / path.name, image_id):  # the answer before was odd, and not the object
            os.replace(made / path.name, path)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(made / path.name, target)
    storage.remove([path])
    raise Invalid(f"What storage had lies in {_where(target)} now.", IMPORT_AGAIN)


def _from(folder: Path, to: Path, image_id: str) -> Callable[[], None] | None:
    """Copies the picture from where it is stored a second time; None if it is not, or damaged there, too."""
    for path in folder.glob(f"{image_id}.*"):
        if not _of_original(path, image_id):
            return lambda: images.store_original(to.parent, to.name, path.read_bytes())
    return None


def _thumbnail_again(image: Image, end: int) -> None:
    """Appended behind the end of all thumbnails: in a pack that was cut off it would come to lie where another image's is looked for."""
    thumb = images.thumbnail(images.open_picture(settings().images / image.path, bits=depth.of(image.dataset_id)))
    pack = images.ThumbPack(settings().thumbs, image.dataset_id)
    if not (storage.on() or pack.slices.is_dir() or (settings().home / storage.COPIED).exists()):  # else zeros would hide the slices
        pack.path.parent.mkdir(parents=True, exist_ok=True)
        with open(pack.path, "ab") as f:
            f.truncate(max(f.tell(), end))
    (offset,) = pack.append([thumb], end)
    store.set_thumbnail(image.dataset_id, image.id, offset, len(thumb))


def _orphans(known: dict[str, bool]) -> Iterator[Damage]:
    """Files that no row names: of an import that was killed, or that another database knows."""
    for path in sorted(settings().images.glob("??/*")):
        if not path.name.startswith(".") and path.relative_to(settings().images).as_posix() not in known:
            remedy = "Import it if it is wanted."
            yield Damage("orphan", _where(path), "No dataset knows this original.", remedy, partial(_lay_aside, path))
    numbers = {one.id for one in (*store.list_datasets(), *store.list_datasets(deleted=True))}
    for path in sorted(settings().thumbs.glob("*.pack")):
        if not path.stem.isdecimal() or int(path.stem) not in numbers:
            yield Damage("orphan", _where(path), "It holds the thumbnails of no dataset.", "", partial(_lay_aside, path))


def _lay_aside(path: Path) -> None:
    """Into the bin, from where it can be taken back."""
    target = settings().home / "bin" / "orphans" / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, target)


def _submissions(progress: Progress, fetch: bool) -> Iterator[Damage]:
    """Pictures that wait in Review, or were decided there."""
    s = schema.submissions.c
    with schema.reading() as c:
        rows = c.execute(select(s.image_id, s.ext, sa.func.min(s.name)).group_by(s.image_id, s.ext)).all()
    there = storage.names(uploads.pictures())
    for done, (image_id, ext, name) in enumerate(rows):
        progress(done, len(rows), "Checking what was sent to Review")
        path = uploads.pictures() / f"{image_id}.{ext}"
        problem, again = _of_original(path, image_id, there), None
        if not problem and fetch and path.name in there and not path.exists():
            problem, _ = _of_stored(path, image_id, there[path.name])
        elif problem:
            again = _again(path, image_id, there, settings().images / image_id[:2])
        if problem:
            yield Damage("original", _where(path), f"{problem} It is {name}, which was sent to Review.", FROM_BACKUP, again)
        elif problem := _not_stored(path, there):
            yield Damage("storage", _where(path), problem, "", partial(storage.keep, [path]))


# Runs ---------------------------------------------------------------------------------------------


def _runs(progress: Progress, fetch: bool) -> Iterator[Damage]:
    folders = sorted(path for path in settings().runs.glob("[!.]*") if path.is_dir())
    numbers = {one.id for one in (*store.list_datasets(), *store.list_datasets(deleted=True))}
    for done, folder in enumerate(folders):
        progress(done, len(folders), "Checking runs")
        for name in stored.WEIGHTS if fetch and not _going(folder) else ():  # one that goes on notes the size after it has put them
            try:
                storage.local(folder / name, storage.PATIENT)
            except (Unavailable, OSError) as e:
                _still_there()
                problem = e if isinstance(e, Unavailable) else space.refusal(e)
                remedy = FROM_BACKUP if isinstance(e, storage.Resized) else problem.hint
                yield Damage("run", _where(folder / name), problem.message, remedy)
        yield from _of_run(folder, numbers)


def _going(folder: Path) -> bool:
    return launch.launcher.alive(folder) or launch.of_cluster(folder)  # a command line may have no address to ask


def _of_run(folder: Path, datasets: set[int]) -> Iterator[Damage]:
    where = _where(folder)
    try:
        run = runs.load(folder)
    except (AppError, OSError) as e:
        if not leftovers.is_shell(folder):
            yield Damage("run", where, getattr(e, "message", str(e)), FROM_BACKUP)
        return
    if run.dataset_id not in datasets:
        yield Damage(
            "run", where, f"Its dataset, “{run.dataset_name}”, is not in the database.", "Bring the database back, or delete the run."
        )
    going = _going(folder)
    with suppress(FileNotFoundError):
        if torn := runs.torn_lines(folder):
            shown = ", ".join(map(str, torn[:5])) + (" …" if len(torn) > 5 else "")
            mend = None if going else partial(runs.drop_torn_lines, folder)
            yield Damage("run", f"{where}/events.jsonl", f"Torn lines: {shown}.", "Mend it once the run has ended.", mend)
    try:
        whole = Counter(row.split for row in runs.snapshot_rows(folder)) == Counter(run.counts)
    except (OSError, ValueError, LookupError, TypeError):
        whole = False
    if not whole:
        yield Damage("run", f"{where}/dataset.csv", "The list of its images is missing or damaged.", FROM_BACKUP)
    for path in (runs.checkpoint(folder), runs.last_checkpoint(folder)):
        if path.exists() and (problem := _of_zip(path) or ("" if going else _of_hash(path))):  # one that goes on may be writing it
            what = "it cannot go on; clone it" if path == runs.last_checkpoint(folder) else "it cannot answer; train it again"
            again = None if going or path.name not in storage.index(folder) else partial(_weights_again, path)
            yield Damage("run", _where(path), f"The checkpoint is damaged ({problem}): {what}.", FROM_BACKUP, again)
    status = runs.status(runs.events(folder, skip="Answers"), going)
    if storage.on() and not going and stored.is_behind(folder):
        yield Damage("storage", where, "Storage does not have it as it is here.", "", partial(stored.copy, folder))
    if status == "succeeded" and not storage.known(runs.checkpoint(folder)):
        yield Damage("run", f"{where}/best.pt", "Its weights are missing.", FROM_BACKUP)
    try:
        for _ in runs.read_predictions(folder):
            pass
    except (OSError, ValueError):
        yield Damage("run", _where(runs.predictions_path(folder)), "The stored predictions are damaged.", FROM_BACKUP)
    for path in sorted(folder.glob("maps/*/*.npz")):
        if problem := _of_zip(path):
            yield Damage("cache", _where(path), f"A stored map is damaged ({problem}).", "", partial(jobs.remove, path))


def _of_zip(path: Path) -> str:
    """What is wrong with it: a checkpoint and stored arrays are zips, whose every entry has a checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except READ as e:
        return str(e) or type(e).__name__
    return f"{bad} fails its checksum" if bad else ""


def _of_hash(path: Path) -> str:
    """What is wrong with a checkpoint that is a whole file."""
    try:
        runs.check_hash(path)
    except AppError as e:
        return e.message.rstrip(".")
    return ""


def _weights_again(path: Path) -> None:
    """From storage, where what it has is as it was written."""
    noted = storage.index(path.parent)[path.name]
    with runs.scratch(path) as made:
        _get(path, made / path.name, noted["size"])
        if runs.sha256(made / path.name) not in runs.read_hashes(path.parent).get(path.name, ()):
            raise Invalid("In storage it is not as it was written either.", FROM_BACKUP)
        os.utime(made / path.name, ns=(noted["mtime"], noted["mtime"]))
        os.replace(made / path.name, path)


# What is made anew, and what was left -----------------------------------------------------------------


def _caches(progress: Progress) -> Iterator[Damage]:
    progress(0, 0, "Checking caches")
    numbers = {one.id for one in (*store.list_datasets(), *store.list_datasets(deleted=True))}
    for rows in sorted(settings().cache.glob("*.rows")):
        ids, number = rows.with_suffix(".ids"), rows.name.partition("-")[0]
        if problem := "It is of no dataset." if not number.isdecimal() or int(number) not in numbers else _of_ids(ids):
            yield Damage("cache", _where(rows), problem, "", partial(_remove_all, [rows, ids]))
    if (held := space.cached()) > (most := space.cache_limit()):
        problem = f"It holds {held / 1e9:,.1f} GB, and LOUPE_CACHE_GB allows {most / 1e9:,.0f}."
        yield Damage("cache", _where(settings().cache), problem, "", partial(space.evict, lambda: space.cached() <= most))
    for path in sorted(settings().embeddings.glob("*/*/*.npz")):
        if problem := _of_zip(path):
            yield Damage("cache", _where(path), f"A map is damaged ({problem}).", "", partial(jobs.remove, path.parent))


def _of_ids(ids: Path) -> str:
    try:
        data = ids.read_bytes()
    except OSError:
        return "The list of its images is missing."
    whole = data[: len(data) // ID_BYTES * ID_BYTES]
    names = [whole[i : i + ID_BYTES] for i in range(0, len(whole), ID_BYTES)]
    return "" if all(_is_id(name) for name in names) else "It is of another version, or damaged."


def _is_id(name: bytes) -> bool:
    try:
        return name.isalnum() and int(name, 16) >= 0
    except ValueError:
        return False


def _remove_all(paths: list[Path]) -> None:
    for path in paths:
        jobs.remove(path)


def _leftovers(progress: Progress) -> Iterator[Damage]:
    progress(0, 0, "Looking for what was left behind")
    for path in leftovers.found():
        yield Damage("leftover", _where(path), "A process that is gone left it behind.", "", partial(jobs.remove, path))


def _rights(_progress: Progress) -> Iterator[Damage]:
    url = database.address(settings().database_url)
    wanted = [(settings().home, 0o700), *([(Path(url.database), 0o600)] if url.drivername == "sqlite" and url.database else [])]
    wanted += [(key, 0o600) for key in settings().home.glob("secret")]  # that signs addresses
    for path, mode in wanted:
        there = stat.S_IMODE(path.stat().st_mode)
        if there & 0o077:
            remedy = f"Its owner can run: chmod {mode:o} {path}"
            own = path.stat().st_uid == os.geteuid()
            problem = f"Other accounts of this machine may look into it (mode {there:o})."
            yield Damage("rights", str(path), problem, remedy, partial(path.chmod, mode) if own else None)


def _where(path: Path) -> str:
    return path.relative_to(settings().home).as_posix() if path.is_relative_to(settings().home) else str(path)


# Beginning anew -------------------------------------------------------------------------------------


def begin_anew() -> dict[str, Any]:
    """Lays aside all that is in LOUPE_HOME, where its database is gone or cannot be used, and begins with an empty one.

    Conflict where the database is as it should be, or something still works there.
    """
    roles.allow("admin")
    home = settings().home
    try:
        schema.engine()
    except AppError as e:
        reason = e.message
    else:
        raise Conflict("The database can be used, so there is nothing to begin anew.", "Nothing was changed.")
    folders = [path.parent for path in home.glob(f"*/*/{processes.HANDLE}")]
    if going := [folder.name for folder in folders if launch.launcher.alive(folder)]:
        raise Conflict(f"{going[0]} is going on.", "Wait for its end. Nothing was changed.")
    if given := [folder for folder in folders if launch.of_cluster(folder)]:
        hint = f"Set LOUPE_RAY_ADDRESS to ask it; if it is gone for good, remove {given[0] / processes.HANDLE}. Nothing was changed."
        raise Conflict(f"A Ray cluster has {given[0].name}, and its address is not set.", hint)
    if others := servers.others():
        raise Conflict(f"The server {others[0].host} is at work there.", "End it first. Nothing was changed.")
    aside = home / f"before-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    aside.mkdir(mode=0o700)
    for path in sorted(home.iterdir()):
        if path.name not in ("inbox", "servers", "locks") and not path.name.startswith("before-"):
            os.replace(path, aside / path.name)
    schema.engine.cache_clear()
    audit.note("begin", on={}, after={"reason": reason, "laid_aside": aside.name})
    return {"laid_aside": str(aside), "reason": reason}
