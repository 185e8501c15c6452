"""Room on the disk of LOUPE_HOME, and what is said when the system refuses to read or write a file."""

from __future__ import annotations

import errno
import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from core import storage
from core.errors import Unavailable, Unwritable
from core.settings import settings

FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
ROOM = "Make room on the disk of LOUPE_HOME and try again; what was stored before is whole."


def free_at(folder: Path) -> int:
    """Bytes on the disk of the folder."""
    return shutil.disk_usage(folder).free


def short(more: int = 0) -> str:
    """What is said while less is free than LOUPE_LEAST_FREE_MB, and than that and so many bytes more; "" while there is room."""
    least = settings().least_free_mb * 1_000_000 + more
    there = free_at(settings().home)
    return "" if there >= least else f"{there / 1e6:,.0f} MB are free on the disk of LOUPE_HOME; {least / 1e6:,.0f} MB are needed"


def need(what: str, more: int = 0) -> None:
    """Unwritable, before anything is written, where there is too little room even without the cache; what: begins the sentence."""
    evict(lambda: not short(more))
    if short(more):
        storage.make_room(more)
    if problem := short(more):
        raise Unwritable(f"{what} is not begun: {problem}.", "Make room, or set LOUPE_LEAST_FREE_MB lower.")


# The cache: rows of pixels and features (core.ml.data.RowCache), all of which can be made anew ---------------------------------


def cache_limit() -> int:
    """Bytes."""
    return settings().cache_gb * 1_000_000_000


def cached() -> int:
    """Bytes of all rows and their ids."""
    return sum(_size_and_use(path)[0] for kind in ("rows", "ids") for path in settings().cache.glob(f"*.{kind}"))


def cache_room(more: int) -> int:
    """How many of so many bytes more the cache can take, once rows were evicted for them; the disk keeps LOUPE_LEAST_FREE_MB free."""

    def left() -> int:
        return min(cache_limit() - cached(), free_at(settings().home) - settings().least_free_mb * 1_000_000)

    evict(lambda: left() >= more)
    return max(0, min(more, left()))


def evict(enough: Callable[[], bool]) -> None:
    """Deletes rows that no process uses until it is enough, and first those whose last use is longest ago."""
    found = settings().cache.glob("*.rows")
    for rows in sorted(found, key=lambda path: _size_and_use(path)[1]):
        if enough():
            return
        with (
            suppress(FileNotFoundError, PermissionError),  # gone, or another account's: it stays
            filelock.FileLock(rows.with_suffix(".lock")),
            open(rows, "r+b") as f,  # NFS locks for itself only what may be written
        ):
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # whoever uses them holds a shared lock
                continue
            rows.with_suffix(".ids").unlink(missing_ok=True)
            rows.unlink()


def _size_and_use(path: Path) -> tuple[int, float]:
    """Bytes, and when it was used last: 0 of what another process has just evicted."""
    with suppress(FileNotFoundError):
        found = path.stat()
        return found.st_size, found.st_mtime
    return 0, 0.0


# What the system refuses ----------------------------------------------------------------------------------------------------


def refused(e: OSError) -> bool:
    """Whether the disk is full or rights are missing; what else fails is a bug."""
    return e.errno in (*FULL, *FORBIDDEN)


def refusal(e: OSError) -> Unavailable:
    """What the system refused, as a sentence: what, where, what to do."""
    where = _where(e.filename)
    if e.errno in FULL:
        return Unwritable(f"The disk is full: {where} could not be written.", ROOM)
    if e.errno in FORBIDDEN:
        hint = "Give the account that Loupe runs under the right to read and write LOUPE_HOME, then try again."
        return Unwritable(f"The system refuses access to {where} ({e.strerror}).", hint)
    return Unavailable(f"The system could not read or write {where} ({e.strerror or type(e).__name__}).", "Try again; look at the disk.")


@contextmanager
def told() -> Iterator[None]:
    """Raises the sentence of refusal() for what the system refused."""
    try:
        yield
    except OSError as e:
        if refused(e):
            raise refusal(e) from e
        raise


def _where(name: object) -> str:
    if not isinstance(name, str | bytes | Path):  # None, or a descriptor
        return f"a file in {settings().home}"
    path = Path(name.decode(errors="replace") if isinstance(name, bytes) else name)
    return f"{path.relative_to(settings().home)} in LOUPE_HOME" if path.is_relative_to(settings().home) else str(path)
