"""Room on the disk of LOUPE_HOME, and what is said when the system refuses to read or write a file."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    """Unwritable, before anything is written, where there is too little room; what: begins the sentence, such as “The import”."""
    if problem := short(more):
        raise Unwritable(f"{what} is not begun: {problem}.", "Make room, or set LOUPE_LEAST_FREE_MB lower.")


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
