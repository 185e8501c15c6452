"""Object storage (LOUPE_STORAGE): what has to last of LOUPE_HOME lies there too, by the same names, and the folder is its cache.

Everything here does nothing without LOUPE_STORAGE. An object is whole or not there, and so is a file that is fetched.
"""

from __future__ import annotations

import errno
import glob
import importlib.util
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache, partial
from itertools import chain, groupby, repeat
from pathlib import Path
from typing import Any, TypeVar

import filelock

from core import processes, servers
from core.errors import Unavailable
from core.settings import settings

R = TypeVar("R")
T = TypeVar("T")

PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs"}
SOON, PATIENT = 4.0, 60.0  # seconds that somebody waits for a page, and work in the background for a network that comes back
AWAY = 5.0  # seconds for which a storage that has not answered is not asked again for a page
WAITS = (0.2, 0.5, 1.0, 2.0)  # seconds between two tries, the last one again and again
AT_ONCE = 16  # files
CONNECT = 4.0  # seconds
SILENCE = 8.0, 60.0  # seconds without an answer, for a page and in the background: a part of 50 MB is sent meanwhile
MARKED = 60.0  # seconds that the last use of a file may be older than it says
SPARED = 120.0  # seconds after its last use in which a file is not evicted
COPIED = "storage.json"  # which storage has all that was here before; "" once something was written without storage
SLICE = re.compile(r"\d{15,}-\d+")  # what a file of thumbnails is called; other programs leave other things in a bucket
INDEX = "stored.json"  # in a folder whose files change: what storage has of it
FULL = (errno.ENOSPC, errno.EDQUOT)


class Refused(Unavailable):
    """Storage that waiting does not bring back: no such bucket, no right, no package."""


class Resized(Unavailable):
    """An object that is there, and not of the size that it was put with."""


def on() -> bool:
    return bool(settings().storage)


def key(path: Path) -> str:
    """The object's name for the package that reads it: the path below LOUPE_HOME, below what LOUPE_STORAGE names."""
    name = path.relative_to(settings().home).as_posix()
    if name.startswith("bin/") and (path.parent / INDEX).exists():  # a run that is deleted stays where it is in storage
        name = f"runs/{name.removeprefix('bin/')}"
    return f"{settings().storage.partition('://')[2]}/{name}"


# Asking -------------------------------------------------------------------------------------------


def _files(patience: float) -> Any:
    return _opened(settings().storage.partition(":")[0], not 0 < patience <= SOON, os.getpid())


@lru_cache(maxsize=2)
def _opened(scheme: str, patient: bool, _pid: int) -> Any:
    """Of this process: a fork has not the thread that asks."""
    if importlib.util.find_spec(PACKAGES[scheme]) is None:
        raise Refused(
            f"LOUPE_STORAGE is {settings().storage}, and the package {PACKAGES[scheme]} is not installed.",
            f"pip install {'-r requirements-storage.txt' if scheme == 's3' else PACKAGES[scheme]}, or leave LOUPE_STORAGE out.",
        )
    import fsspec  # a second, with what it needs

    options: dict[str, Any] = {}
    if scheme == "s3":
        waits = {"connect_timeout": CONNECT, "read_timeout": SILENCE[patient]}
        options = {"config_kwargs": {**waits, "retries": {"total_max_attempts": 1}}, "max_concurrency": 2}  # parts of 50 MB in memory
    files = fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True, **options)
    if scheme == "s3":
        files.retries = 1
    return files


ending = threading.Event()  # this process: what it does in the background ends with the next question, as after a loss of power
_away: list[tuple[float, Unavailable]] = []  # at most one: until when it is not asked again for a page, and what was the matter


def _ask(what: Callable[[Any], R], patience: float | None) -> R:
    """The answer of storage, asked again for so many seconds (None: PATIENT); FileNotFoundError for what it does not have."""
    begun, patience = time.monotonic(), PATIENT if patience is None else patience
    refused = _away[:]  # another thread may clear it
    if refused and patience <= SOON and begun < refused[0][0]:
        raise refused[0][1]
    for pause in chain(WAITS, repeat(WAITS[-1])):
        if ending.is_set():
            raise Unavailable("The server ends.", "What is not copied yet is copied when it starts again.")
        try:
            found = what(_files(patience))
        except Exception as e:  # each package has errors of its own
            problem = e if isinstance(e, Unavailable) else _problem(e)
            if isinstance(problem, Refused) or time.monotonic() + pause > begun + patience:
                _away[:] = [(time.monotonic() + AWAY, problem)]
                raise problem from None
            ending.wait(pause)
        else:
            _away.clear()
            return found
    raise AssertionError


def _problem(e: Exception) -> Unavailable:
    """A sentence for what a package raised; what is no trouble of the storage goes on as it is."""
    where, bucket = settings().storage, settings().storage.partition("://")[2].partition("/")[0]
    code = (getattr(e.__cause__ or e, "response", None) or {}).get("Error", {}).get("Code", "")
    name = type(e).__name__
    if isinstance(e, OSError) and str(e.filename or "").startswith(str(settings().home)):
        raise e  # of the file here
    if code in ("NoSuchBucket", "InvalidBucketName") or "bucket does not exist" in str(e).lower():
        return Refused(f"There is no bucket “{bucket}” where LOUPE_STORAGE ({where}) points.", "Make it, or set LOUPE_STORAGE to another.")
    if isinstance(e, PermissionError) or "Credentials" in name or code in ("AccessDenied", "403"):
        return Refused(
            f"The storage {where} refuses access ({code or _words(name)}).",
            "Give Loupe's account the right to list, read, write and delete there, and its credentials by the usual variables "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for s3).",
        )
    if isinstance(e, FileNotFoundError) or (isinstance(e, OSError) and e.errno in FULL):
        raise e
    return Unavailable(
        f"The storage {where} cannot be reached now ({code or _words(name)}).", "Try again when it is back: what was stored is whole."
    )


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def probe() -> None:
    """Writes, reads and deletes a small object; Unavailable says what is in the way."""
    if on():
        one, data = key(settings().home / f".tried-{secrets.token_hex(8)}"), secrets.token_bytes(8)

        def tried(files: Any) -> None:
            files.pipe_file(one, data)
            if files.cat_file(one) != data:
                raise OSError(errno.EIO, "what was written is not what is read")
            files.rm_file(one)

        _ask(tried, SOON)


def away() -> str:
    """What was the matter when this process asked last, in a sentence; "" where storage answered. A server asks every minute."""
    last = _away[:]
    return str(last[0][1]) if last and on() else ""


def problem() -> str:
    """Why storage cannot be used now, in a sentence; "" where it can, or none is set."""
    try:
        if on():
            _ask(lambda files: files.find(key(settings().home / "tried"), maxdepth=1), SOON)
    except Unavailable as e:
        return str(e)
    return ""


# Files that are written once ------------------------------------------------------------------------


def keep(paths: Iterable[Path], patience: float | None = None) -> None:
    """Copies files to storage, where they are whole when it returns; Unavailable where it cannot be reached for so long."""
    if on():  # what is not here was evicted, and is there
        at_once(partial(_put, patience=patience), [path for path in paths if path.exists()])
    elif (copied := settings().home / COPIED).exists():
        copied.write_text('{"storage": ""}', encoding="utf-8")  # it is looked for when storage is set again


def _put(path: Path, patience: float | None) -> None:
    put_file(path, path, patience)
    _grown(path.stat().st_size)


def put_file(file: Path, path: Path, patience: float | None = None) -> None:
    """Stores a file under the name of another."""
    _ask(lambda files: files.put_file(str(file), key(path)), patience)


def get_file(path: Path, file: Path, size: int | None = None, patience: float | None = None) -> None:
    """The other way round; FileNotFoundError where storage has none, Resized where what comes is not of the size that it must have."""
    for _ in range(2):  # an answer may be cut off on its way
        _ask(lambda files: files.get_file(key(path), str(file)), PATIENT if patience is None else patience)
        if size is None or file.stat().st_size == size:
            return
    # Kept, it would be copied over the true one as what has changed
    raise Resized(f"{path.name} came from storage with {file.stat().st_size:,} bytes, not {size:,}.", "Try again.")


def put(path: Path, data: bytes, patience: float | None = None) -> None:
    """Stores bytes under the path's name; there need not be a file."""
    _ask(lambda files: files.pipe_file(key(path), data), patience)


def at_once(act: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """What the function returns of each, done for some at a time; what one raises ends it."""
    if len(items) < 2:
        return [act(one) for one in items]
    with ThreadPoolExecutor(min(AT_ONCE, len(items))) as pool:
        waiting = [pool.submit(act, one) for one in items]
        try:
            return [one.result() for one in waiting]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # each of them would wait as long
            raise


def local(path: Path, patience: float | None = SOON) -> Path:
    """The path, with the file that only storage had; Unavailable where it cannot be fetched now. What is nowhere stays missing."""
    if not on() or not path.is_relative_to(settings().home):
        return path
    try:
        stat = path.stat()
    except FileNotFoundError:
        _fetch(path, patience)
        return path
    if time.time() - stat.st_atime > MARKED:
        with suppress(OSError), open(path, "rb") as f:  # another account's, or evicted this moment
            os.utime(f.fileno(), ns=(time.time_ns(), os.fstat(f.fileno()).st_mtime_ns))  # it may be another file by now
    return path


def fetch(paths: Iterable[Path]) -> None:
    """Fetches what is not here of many files, some at once, ahead of who reads them; what fails is met again there."""
    if on():
        missing = [path for path in paths if not path.exists()]
        with suppress(Unavailable, OSError):
            at_once(partial(_fetch, patience=PATIENT), missing)


_turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)  # a page asks for a hundred thumbnails of one file at once


def _fetch(path: Path, patience: float | None) -> None:
    with _turns[str(path)]:
        if not path.exists():
            noted = index(path.parent).get(path.name)
            tmp = processes.temporary(path)
            tmp.parent.mkdir(parents=True, exist_ok=True)
            try:
                size = noted["size"] if noted else int(path.name.rpartition("-")[2]) if SLICE.fullmatch(path.name) else None
                with_room(lambda: get_file(path, tmp, size, patience))
                _grown(tmp.stat().st_size)
                if noted:
                    os.utime(tmp, ns=(time.time_ns(), noted["mtime"]))
                _place(tmp, path)
            except FileNotFoundError:
                pass
            except Unavailable as e:
                said = "This file lies in storage and cannot be fetched now."
                raise type(e)(f"{said} {e.message}", e.hint) from None
            finally:
                tmp.unlink(missing_ok=True)
    _turns.pop(str(path), None)


def _place(tmp: Path, path: Path) -> None:
    """Gives a file its name, unless there is one by now: that one was written later."""
    try:
        os.link(tmp, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        os.replace(tmp, path)


def exists(path: Path) -> bool:
    """Whether the file is here or in storage."""
    if path.exists():
        return True
    if not on() or not path.is_relative_to(settings().home):
        return False
    return bool(_ask(lambda files: files.exists(key(path)), SOON))


def known(path: Path) -> bool:
    """The same of a file in a folder with INDEX, without asking."""
    return path.exists() or (on() and path.name in index(path.parent))


def size_and_time(path: Path) -> tuple[int, int]:
    """Bytes and mtime (ns) of a file in a folder with INDEX, also of one that is away; FileNotFoundError where there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        if not on() or (noted := index(path.parent).get(path.name)) is None:
            raise
        return noted["size"], noted["mtime"]
    return stat.st_size, stat.st_mtime_ns


def missing(paths: Iterable[Path]) -> list[Path]:
    """Those that are neither here nor in storage."""
    there = list(paths)
    return [path for path, found in zip(there, at_once(exists, there) if on() else map(Path.exists, there), strict=True) if not found]


def names(folder: Path, patience: float | None = SOON) -> dict[str, int]:
    """The files that storage has right in the folder, and their bytes."""
    if not on():
        return {}
    found = _ask(lambda files: files.find(key(folder), maxdepth=1, detail=True), patience)
    return {name.rpartition("/")[2]: int(about["size"]) for name, about in found.items()}


def folders(folder: Path, patience: float | None = None) -> list[str]:
    """The names of the folders that storage has right in the folder."""

    def asked(files: Any) -> list[str]:
        try:
            return [one["name"] for one in files.ls(key(folder), detail=True) if one["type"] == "directory"]
        except FileNotFoundError:
            return []

    return sorted(one.rstrip("/").rpartition("/")[2] for one in _ask(asked, patience)) if on() else []


def remove(paths: Iterable[Path]) -> None:
    """Deletes the objects; the files here are the caller's."""
    if on():
        at_once(_remove, list(paths))


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        _ask(lambda files: files.rm_file(key(path)), PATIENT)


def remove_folder(folder: Path) -> None:
    """Deletes all objects below; where storage is away they stay there."""
    if on():
        with suppress(FileNotFoundError, Unavailable):
            _ask(lambda files: files.rm(key(folder), recursive=True), SOON)


# Folders whose files change -------------------------------------------------------------------------


def index(folder: Path) -> dict[str, dict[str, Any]]:
    """What storage has of the folder by the file INDEX, by name: size and mtime (ns) of the file as it was here."""
    try:
        return dict(json.loads((folder / INDEX).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}


def write_index(folder: Path, known: Mapping[str, Any]) -> None:
    tmp = processes.temporary(folder / INDEX)
    try:
        tmp.write_text(json.dumps(known, indent=1), encoding="utf-8")
        os.replace(tmp, folder / INDEX)
    finally:
        tmp.unlink(missing_ok=True)


# The cache ------------------------------------------------------------------------------------------

# What may go from here once storage has it, by how it lies in LOUPE_HOME.
CACHED = ("images/??/*", "thumbs/*/*", "thumbs/*.pack", "uploads/pictures/*", "exports/*/*.zip", "archives/*/*.zip", "runs/*/*.pt")
_since: list[int] = [0]  # bytes that came since this process last looked


def limit() -> int:
    """Bytes."""
    return settings().storage_cache_gb * 1_000_000_000


def _grown(size: int) -> None:
    _since[0] += size
    if _since[0] > limit() / 20:
        _since[0] = 0
        threading.Thread(target=evict, daemon=True, name="evict").start()  # to look at a million files takes seconds


def cached() -> list[tuple[float, int, str]]:
    """Last use, bytes and place in LOUPE_HOME of each file that may be evicted, unused for longest first; 200 MB for a million."""
    home, found = settings().home, []
    for pattern in CACHED:
        for name in glob.iglob(pattern, root_dir=home):
            with suppress(FileNotFoundError):
                stat = os.stat(home / name)
                found.append((max(stat.st_atime, stat.st_mtime), stat.st_size, name))
    return sorted(found)


def evict(most: int | None = None) -> int:
    """Deletes here what storage is known to have, and first what was unused for longest, down to so many bytes; returns how many went.

    Without a number down to a little less than LOUPE_STORAGE_CACHE_GB, where there is more than that.
    """
    gone = 0
    with suppress(filelock.Timeout, Unavailable), servers.alone("evict").acquire(timeout=0):
        found = cached()
        over = sum(size for _, size, _ in found) - (limit() if most is None else most)
        wanted = over + (limit() // 10 if most is None else 0) if over > 0 else 0
        coming = iter(found)
        while gone < wanted and (some := list(_next(coming, wanted - gone))):
            for folder, paths in groupby(sorted(some), key=lambda path: path.parent):
                gone += _evict_from(folder, list(paths))
    return gone


def _next(coming: Iterator[tuple[float, int, str]], enough: int) -> Iterator[Path]:
    """So many of them that together they have enough bytes, as long as none was used a moment ago."""
    for used, size, name in coming:
        if time.time() - used < SPARED:
            return
        yield settings().home / name
        enough -= size
        if enough <= 0:
            return


def _evict_from(folder: Path, paths: list[Path]) -> int:
    """Storage is asked now what it has of the folder."""
    gone, there = 0, names(folder)
    for path in paths:
        with suppress(FileNotFoundError):
            size = path.stat().st_size
            may_go = _has_slices(path) if path.suffix == ".pack" else there.get(path.name) == size
            if may_go and (path.suffix != ".pt" or _weights_may_go(path)):
                path.unlink()
                gone += size
    return gone


def _weights_may_go(path: Path) -> bool:
    """By the index, too: others of the same size may have taken their place since they were copied."""
    stat, one, at_work = path.stat(), index(path.parent).get(path.name), path.parent / processes.HANDLE
    if not one or (one["size"], one["mtime"]) != (stat.st_size, stat.st_mtime_ns):
        return False
    return not at_work.exists() or time.time() - at_work.stat().st_mtime >= SPARED


def _has_slices(pack: Path) -> bool:
    """Whether storage has all of a pack, of which it has slices."""
    size, there = pack.stat().st_size, (name.split("-") for name in names(pack.with_suffix("")) if SLICE.fullmatch(name))
    return 0 < size <= sum(int(length) for offset, length in there if int(offset) < size)


def make_room(more: int) -> bool:
    """Evicts until so many bytes are free on the disk, and what LOUPE_LEAST_FREE_MB keeps free; whether anything went."""
    if not on():
        return False
    short = more + settings().least_free_mb * 1_000_000 - shutil.disk_usage(settings().home).free
    return short > 0 and evict(max(0, sum(size for _, size, _ in cached()) - short)) > 0


def with_room(write: Callable[[], R]) -> R:
    """What the function returns, which is called once more where the disk was full and room could be made."""
    try:
        return write()
    except OSError as e:
        if e.errno not in FULL or not make_room(0):
            raise
    return write()
