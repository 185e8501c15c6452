"""Files that people bring and that belong to no dataset yet."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from core import processes, roles, space, storage
from core.data import images
from core.errors import Invalid, NotFound
from core.settings import settings

KEEP_BATCHES = 2 * 24 * 3600  # seconds an upload waits for its import before it is removed
MAX_NAME = 1000  # characters of an uploaded file's name that are kept
MOST_BATCHES = 100  # of one person, that wait
SILENCE, LONGEST = 60, 6 * 3600  # seconds: between two pieces of an upload, and of all of it
COUNTED = 60  # seconds for which a count of what somebody has uploaded is good
OWNER = "owner"  # in a batch: whose it is


@dataclass(frozen=True)
class Upload:
    """One picture, kept untouched under its hash."""

    id: str
    name: str
    path: Path


def pictures() -> Path:
    return settings().uploads / "pictures"


def keep(name: str, data: bytes, folder: Path | None = None) -> Upload:
    """Stores one picture, among those that stay unless a folder is named; it is decoded later, in the model worker."""
    folder = folder or pictures()
    space.need("The upload", len(data))
    if len(data) > images.MAX_BYTES:
        raise Invalid(f"{name} has {len(data) / 1e6:.0f} MB.", f"Up to {images.MAX_BYTES / 1e6:.0f} MB are allowed for one image.")
    ext = PurePath(name).suffix.lower().lstrip(".")
    if ext not in images.EXTENSIONS:
        raise Invalid(f"{name} is not an image that Loupe reads.", f"Allowed are {images.ALLOWED}.")
    upload = Upload(images.image_id(data), name, folder / f"{images.image_id(data)}.{ext}")
    images.store_original(folder, upload.path.name, data)
    return upload


def find(upload_id: str, name: str = "") -> Upload:
    """A picture kept earlier."""
    for path in files_of(upload_id):
        return Upload(upload_id, name or path.name, path)
    raise NotFound("This picture is not stored any more.", "Upload it again.")


def files_of(upload_id: str, everywhere: bool = False) -> list[Path]:
    """The files of a picture, under each ending that it came with; asked for by name, since to list the folder costs what lies in it.

    Storage is asked where none is here, or everywhere.
    """
    if not upload_id.isalnum():
        return []
    paths = [pictures() / f"{upload_id}.{ext}" for ext in sorted(images.EXTENSIONS)]
    here = [path for path in paths if path.exists()]
    return here if not storage.on() or (here and not everywhere) else [path for path in paths if storage.exists(path)]


# Batches for import: zips and folders of any size, streamed to disk --------------------------------


def batch(batch_id: str) -> Path:
    """The folder of a batch; its id is a UUID that the browser made."""
    try:
        name = str(uuid.UUID(batch_id))
    except ValueError:
        raise NotFound("This upload does not exist.", "Upload the files again.") from None
    return settings().uploads / "batches" / name


def files(batch_id: str) -> list[tuple[Path, str]]:
    """The files of a batch and the names they came with, by name."""
    found = [(path, path.with_suffix(".name").read_text(encoding="utf-8")) for path in batch(batch_id).glob("*.file")]
    if not found:
        raise NotFound("The uploaded files are not there any more.", "Upload them again.")
    return sorted(found, key=lambda f: f[1])


async def receive(batch_id: str, name: str, chunks: AsyncIterator[bytes]) -> int:
    """Streams one file of a batch to disk and returns its size in bytes; nothing is kept of one that fails.

    The client's name lies beside the file and is never used as a path; a second file of that name replaces the first.
    """
    person = roles.allow_somewhere("ask").name
    folder, limit = batch(batch_id), settings().max_upload_mb * 1024**2  # as the browser counts
    name = PurePath(name.replace("\\", "/")).name.encode(errors="replace").decode()[-MAX_NAME:] or "file"
    key = images.image_id(name.encode())
    _begin(folder, person)
    part, size = processes.temporary(folder / uuid.uuid4().hex), 0  # by another name than all that come in at the same time
    try:
        with open(part, "wb") as f:
            async for chunk in _in_time(name, chunks):
                size += len(chunk)
                if size > limit:
                    raise Invalid(
                        f"{name} is larger than {settings().max_upload_mb:,} MB.", "Put it in a folder on the server and import that."
                    )
                _count(person, len(chunk))
                f.write(chunk)
        if size == 0:
            raise Invalid(f"{name} is empty.", "Choose another file.")
        images.store_original(folder, f"{key}.name", name.encode())
        os.replace(part, folder / f"{key}.file")
    except OSError as e:
        raise space.refusal(OSError(e.errno, e.strerror, name)) from e
    finally:
        part.unlink(missing_ok=True)
        if {path.name for path in folder.glob("*")} <= {OWNER}:  # nothing has come, and nothing is coming
            shutil.rmtree(folder, ignore_errors=True)
    return size


async def _in_time(name: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces as they come; Invalid if they come too slowly."""
    end = time.monotonic() + LONGEST
    while True:
        try:
            async with asyncio.timeout(min(SILENCE, end - time.monotonic())):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Invalid(
                f"{name} came too slowly, and nothing of it is kept.", "Put it in a folder on the server and import that."
            ) from None
        yield chunk


# What one person has uploaded that waits: to sum the files of a folder up anew for each of its thousands would take longer than sending them.
_held: dict[str, tuple[float, int, int]] = {}  # when it was counted, batches, bytes


def _begin(folder: Path, person: str) -> None:
    """Makes the batch; Invalid if there is no room for it, or that person has too many."""
    space.need("The upload")
    if folder.exists():
        return
    if _holds(person)[0] >= MOST_BATCHES and _holds(person, fresh=True)[0] >= MOST_BATCHES:
        raise Invalid(f"{MOST_BATCHES} uploads of {person} wait for their import.", "Import or decline those first.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / OWNER).write_text(person, encoding="utf-8")
    at, batches, size = _held[person]
    _held[person] = at, batches + 1, size


def _count(person: str, size: int) -> None:
    """Adds to what somebody has uploaded; Invalid beyond the quota."""
    most = settings().upload_quota_mb * 1024**2
    if _holds(person)[1] + size > most and _holds(person, fresh=True)[1] > most - size:
        raise Invalid(
            f"More than {settings().upload_quota_mb:,} MB of {person} wait for their import.", "Import or decline what was uploaded before."
        )
    at, batches, before = _held[person]
    _held[person] = at, batches, before + size


def _holds(person: str, fresh: bool = False) -> tuple[int, int]:
    """Batches and bytes."""
    if fresh or person not in _held or time.monotonic() - _held[person][0] > COUNTED:
        mine = [path.parent for path in (settings().uploads / "batches").glob(f"*/{OWNER}") if path.read_text(encoding="utf-8") == person]
        _held[person] = time.monotonic(), len(mine), sum(_size(path) for folder in mine for path in folder.iterdir())
    return _held[person][1:]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # it has come whole since, under its name
        return 0


def put(name: str, data: bytes) -> tuple[Path, str]:
    """Stores one file as a batch of its own; where it lies and what it is called."""
    folder = batch(str(uuid.uuid4()))
    folder.mkdir(parents=True)
    key = images.image_id(name.encode())
    images.store_original(folder, f"{key}.name", name.encode())
    images.store_original(folder, f"{key}.file", data)
    return folder / f"{key}.file", name


def remove(paths: Sequence[str]) -> None:
    """Removes the batches that the files were uploaded with; files that lie elsewhere stay."""
    batches = (settings().uploads / "batches").resolve()
    for folder in {Path(path).resolve().parent for path in paths}:
        if folder.parent == batches:
            shutil.rmtree(folder, ignore_errors=True)


def remove_old_batches(in_use: str = "") -> None:
    """Removes the uploads of tabs that were closed long ago, but for those whose id stands in the text."""
    for path in (settings().uploads / "batches").glob("*"):
        if path.name not in in_use and time.time() - path.stat().st_mtime > KEEP_BATCHES:
            shutil.rmtree(path, ignore_errors=True)
