"""LOUPE_HOME and object storage as wholes: each gets what only the other has."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import filelock

from core import roles, servers, storage
from core.data import images
from core.errors import AppError
from core.runs import runs, stored
from core.settings import settings
from core.types import Progress, silent

SLICE = 4_000_000  # bytes of a pack that was written without storage


def synchronise(progress: Progress = silent) -> dict[str, Any]:
    """Fetches the runs that only storage has and copies what it lacks; AppError where none is set, or where it cannot be used."""
    roles.allow("admin")
    if not storage.on():
        raise AppError("LOUPE_STORAGE is not set.", "Set it to the storage, such as s3://BUCKET/FOLDER.")
    storage.probe()
    fetched = stored.fetch_all(progress)
    if _copied() != settings().storage:
        stored.another()
    copied = copy_all(progress)
    changed = stored.copy_all(storage.PATIENT)
    return {
        "storage": settings().storage,
        "fetched_runs": fetched,
        "copied_files": copied,
        "copied_runs": changed,
        "behind": stored.behind(),
    }


def at_start() -> None:
    """The same for a server, once; what was there before storage was set is compared only until it has all been copied."""
    if storage.on():
        with suppress(filelock.Timeout), servers.alone("storage").acquire(timeout=0):
            storage.probe()
            stored.fetch_all()
            if _copied() != settings().storage:
                stored.another()
                copy_all()


def now_and_then() -> None:
    """What changed since."""
    if storage.on():
        with suppress(filelock.Timeout), servers.alone("storage").acquire(timeout=0):
            storage.problem()  # which pages say
            stored.copy_all()


def imported() -> None:
    """What imports remember beside thumbnails, now; a server does it soon."""
    with suppress(AppError, OSError):
        stored.copy(settings().thumbs)


def _copied() -> str:
    try:
        return str(runs.read_json(settings().home / storage.COPIED)["storage"])
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return ""


def copy_all(progress: Progress = silent) -> int:
    """Copies originals, thumbnails and pictures of Review that storage lacks; how many files.

    What it has with another size may be the whole one, and this one damaged: `check` looks at both.
    """
    copied, thumbs = 0, settings().thumbs
    folders = [*sorted(settings().images.glob("??")), settings().uploads / "pictures", *sorted(thumbs.glob("[0-9]*"))]
    for done, folder in enumerate(folders):
        progress(done, len(folders), "Comparing with storage")
        if folder.is_dir():
            there = storage.names(folder)
            lacking = [p for p in folder.iterdir() if p.name[0] != "." and p.name not in there and p.is_file()]
            if folder.parent == thumbs:
                lacking = [p for p in lacking if images.is_whole_slice(p)]
            storage.keep(lacking)
            copied += len(lacking)
    for pack in sorted(thumbs.glob("*.pack")):
        slices, size = [images.place(name) for name in images.slices(storage.names(pack.with_suffix("")))], pack.stat().st_size
        with open(pack, "rb") as f:
            # Behind what storage has of the pack, which may have grown since: of two slices that overlap the wrong one would be read.
            for start in range(max((sum(one) for one in slices if one[0] < size), default=0), size, SLICE):
                f.seek(start)
                name = images.slice_name(start, min(SLICE, size - start))
                storage.put(pack.with_suffix("") / name, f.read(min(SLICE, size - start)))
                copied += 1
    runs.write_json(settings().home / storage.COPIED, {"storage": settings().storage})
    return copied
