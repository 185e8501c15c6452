"""Bringing images into a dataset: from a source, at once or in the background, or one upload at a time."""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from core import roles, space, storage
from core.data import alike, brought, classes, depth, images, labels, late, leftovers, originals, places, removed, sight, store, uploads
from core.data.decoders import Decoders
from core.data.late import Late, Later
from core.data.sight import Sight
from core.data.sources import Entry, Opened, Source, open_source
from core.errors import AppError, Conflict, Invalid, NotFound, Stopped, Unavailable
from core.names import MAX_CLASS, checked_name, name_problem
from core.runs import jobs, runs
from core.settings import settings
from core.types import Class, Dataset, Image, ImportReport, Progress, Skipped, Split, now, silent

CHUNK = 256  # images per transaction
CHUNK_BYTES = 64_000_000  # or fewer, when they are large
BATCH = 16  # images per call of a decoder process
TEST_SHARE = 15  # percent
MAX_REPORTED = 1_000  # skipped files listed in a background import's report
SIGHT = "sight.json"  # in the folder of an import that waits for an answer
LATE = "labels.json"  # in the folder of an import that brought labels for images which are there
LATEST = 20  # imports that are looked at for whether they go on

# Import -------------------------------------------------------------------------------------------


def import_now(
    dataset_name: str,
    source: Source,
    by: str,
    progress: Progress = silent,
    guessed: Callable[[list[str]], None] | None = None,
    give_labels: bool = False,
) -> ImportReport:
    """Adds the source's images to the dataset, which is made if there is none; what is there already is not added again.

    Where progress raises Stopped it ends early, and keeps and reports what it has stored. guessed is told what was guessed, first.
    give_labels: to images that are there without one.
    """
    allow(dataset_name)
    try:
        opened = _open(dataset_name, source, progress)
    except Stopped:
        return ImportReport()
    if opened.guessed and guessed:
        guessed(opened.guessed)
    dataset_id, report, _, came = _import(dataset_name, opened, by, progress, source.shown())
    if give_labels and dataset_id is not None and came:
        report.given = late.give(dataset_id, {i: one for i, one in came.items() if one[0] is None}, by, source.shown())
    return report


def look(dataset_name: str, source: Source, progress: Progress = silent) -> Sight:
    """What an import would take the source for; stores nothing."""
    allow(dataset_name)
    return _look(dataset_name, _open(dataset_name, source, progress), progress)


def _open(dataset_name: str, source: Source, progress: Progress) -> Opened:
    name = checked_name(dataset_name, "dataset")
    space.need("The import")
    for folder in (settings().images, settings().downloads):  # what an import that was killed was writing
        jobs.remove_left(folder)
    progress(0, 0, "Reading the list of images")
    return open_source(source, name, progress)  # a source that cannot be read leaves no empty dataset behind


def _look(dataset_name: str, opened: Opened, progress: Progress) -> Sight:
    here = store.find_dataset(dataset_name)
    with Decoders() as decoders:

        def examine(entry: Entry) -> images.Examined | str:
            try:
                picture = _read(entry)
            except Invalid as e:
                return str(e)
            return picture.examined or next(iter(decoders.results(decoders.submit([picture.data]), [picture.data])))

        return sight.of(opened, "train" if opened.splits_given or (here and here.splits_given) else "", examine, progress)


def _import(
    dataset_name: str, opened: Opened, by: str, progress: Progress, title: str = "", standing: Decoders | None = None
) -> tuple[int | None, ImportReport, bool, Late]:
    """The dataset if there is one, the report, whether the import was stopped before its end, and labels for what was there.

    title: of an import that is listed, and can be undone.
    """
    dataset_name = checked_name(dataset_name, "dataset")
    report, was_stopped = ImportReport(), False
    came: Late = {}
    try:
        with _one_import(dataset_name, progress):
            came = _bring_in(dataset_name, opened, by, report, progress, nullcontext(standing) if standing else Decoders(), title)
    except Stopped:
        was_stopped = True
    finally:
        report.skipped += opened.skipped
        report.understood += opened.understood
    found = store.find_dataset(dataset_name)
    return found.id if found else None, report, was_stopped, came


def _bring_in(
    name: str, opened: Opened, by: str, report: ImportReport, progress: Progress, pool: AbstractContextManager[Decoders], title: str
) -> Late:
    """Returns the labels that came for images which are there with another one, or none."""
    with _target(name) as dataset, pool as decoders:
        if opened.splits_given and not dataset.splits_given:
            store.set_splits_given(dataset.id)
        classes.adopt(dataset.id, opened.described)
        classes.ensure(dataset.id, [name for name in opened.classes if name_problem(name) is None])
        work = _Import(dataset, opened.splits_given or dataset.splits_given, by, report, decoders, title)
        done = 0

        def tell(more: int) -> None:
            nonlocal done
            done += more
            progress(min(done, opened.total), opened.total, "Reading images")

        waiting: _Chunk | None = None  # decoded by the pool while the chunk after it is read
        for chunk in _chunks(opened.entries):
            following = work.read(chunk)
            if waiting:
                work.write(waiting, tell)
            waiting = following
        if waiting:
            work.write(waiting, tell)
        work.show_examples(opened.described)
        work.same_depth()
        work.say_animated()
        work.say_mended()
        work.say_again()
        tell(opened.total)
        found = {image_id: one for image_id, one in work.late.items() if one[0] != one[1] and image_id not in work.refused}
        report.offered = sum(label is None for label, _ in found.values())
        report.differ = len(found) - report.offered
        return found


@contextmanager
def _target(name: str) -> Iterator[Dataset]:
    """The dataset of that name, made if there is none; an import that adds nothing leaves no empty one behind."""
    made = None
    if (found := store.find_dataset(name)) is None:
        try:
            found = made = store.create_dataset(name)
        except Conflict:  # somebody made it a moment ago
            found = store.find_dataset(name) or store.create_dataset(name)
    try:
        yield found
    finally:
        if made:
            store.remove_if_empty(made.id)


@contextmanager
def _one_import(name: str, progress: Progress) -> Iterator[None]:
    """Waits until no other import writes to the dataset of that name."""
    settings().imports.mkdir(parents=True, exist_ok=True)
    # By the name and not the id: which dataset it is, and whether it is there at all, may change while one waits.
    lock = FileLock(settings().imports / f"dataset-{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock")
    while not lock.is_locked:
        try:
            lock.acquire(timeout=0.5)
        except Timeout:
            progress(0, 0, "Waiting for another import into this dataset")
    try:
        yield
    finally:
        lock.release()


@dataclass
class _Picture:
    entry: Entry
    id: str
    data: bytes  # the file, or a PNG of the array
    examined: images.Examined | None = None


@dataclass
class _Chunk:
    size: int
    read: list[_Picture] = field(default_factory=list)
    fresh: list[_Picture] = field(default_factory=list)
    futures: list[tuple[list[_Picture], Future[Any]]] = field(default_factory=list)


def _chunks(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    chunk: list[Entry] = []
    size = 0
    for entry in entries:
        chunk.append(entry)
        size += _size(entry)
        if len(chunk) >= CHUNK or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _size(entry: Entry) -> int:
    """Bytes; 0 of what is not there, which is told where it is read."""
    if entry.data is not None:
        return len(entry.data)
    try:
        return entry.path.stat().st_size if entry.path else 0
    except OSError:
        return 0


@dataclass
class _Import:
    dataset: Dataset
    splits_given: bool
    by: str
    report: ImportReport
    decoders: Decoders
    title: str
    seen: dict[str, tuple[str, str | None]] = field(default_factory=dict)  # id -> name and label, of this import
    copies: dict[str, list[str]] = field(default_factory=dict)  # id -> names of the further files of this import
    refused: dict[str, str] = field(default_factory=dict)  # id -> why it was not read
    operation: str = field(default_factory=lambda: secrets.token_hex(16))  # all its chunks are one act
    examples: list[tuple[str, str, bool]] = field(default_factory=list)  # class, image id, accepted
    late: Late = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bits = depth.of(self.dataset.id)
        self.deep = 0  # 16-bit pictures of this import
        self.uneven = settings().thumbs / f".{self.dataset.id}.uneven"  # from the first of them until all thumbnails are scaled alike
        self.cut_off = self.uneven.exists()
        self.animated: list[str] = []  # names
        self.mended = 0  # originals that were damaged or gone
        self.again = 0  # images that had been removed from the dataset
        self.alike = alike.Alike(self.dataset.id)

    def read(self, entries: list[Entry]) -> _Chunk:
        """Reads and hashes the chunk, leaves out what the dataset has, and has the rest decoded."""
        chunk = _Chunk(len(entries))
        for entry in entries:
            try:
                chunk.read.append(_read(entry))
            except Invalid as e:
                self.skip(entry.name, e)
        said = [p.entry.original for p in chunk.read if p.entry.original not in ("", p.id)]
        there = originals.here(self.dataset.id, said) if said else {}
        for picture in chunk.read:
            if (mine := there.get(picture.entry.original)) and originals.is_copy(self.dataset.id, picture.data, mine):
                picture.id = mine
        known = store.known_images(self.dataset.id, [p.id for p in chunk.read])
        self.mended += originals.mend(self.dataset.id, {p.id: p.data for p in chunk.read if p.id in known})
        for picture in chunk.read:
            self.examples += [(name, picture.id, accepted) for name, accepted in picture.entry.shows]
            if picture.id in self.refused:
                self.skip(picture.entry.name, self.refused[picture.id])
            elif picture.id in self.seen:
                self.duplicate(picture, *self.seen[picture.id])
            elif picture.id in known:
                self.duplicate(picture, None, known[picture.id])
            else:
                self.seen[picture.id] = (picture.entry.name, picture.entry.label)
                chunk.fresh.append(picture)
        files = [p for p in chunk.fresh if p.examined is None]
        for i in range(0, len(files), BATCH):
            batch = files[i : i + BATCH]
            chunk.futures.append((batch, self.decoders.submit([p.data for p in batch])))
        return chunk

    def duplicate(self, picture: _Picture, first: str | None, label: str | None) -> None:
        given = picture.entry.label
        said = None if given is None or (first is not None and label is not None) else self.late.setdefault(picture.id, (label, given))
        if given is None or given == label or (label is None and said == (None, given)):
            self.report.duplicates += 1
            if first is not None:
                self.copies.setdefault(picture.id, []).append(picture.entry.name)
        else:
            there = store.get_images(self.dataset.id, [picture.id]) if first is None else []  # none: removed a moment ago
            first = first or (there[0].source if there else picture.entry.name)
            has = f"is “{said[1]}” by this source, too" if said and label is None else f"is labelled “{label}”; kept that label"
            self.skip(picture.entry.name, f"same picture as {first}, which {has}")

    def skip(self, name: str, why: AppError | str) -> None:
        self.report.skipped.append(Skipped(name, str(why)))

    def write(self, chunk: _Chunk, tell: Callable[[int], None]) -> None:
        """Waits for the decoders, then stores originals, thumbnails and rows: rows last, so none points to nothing."""
        told = 0
        for batch, future in chunk.futures:
            for picture, result in zip(batch, self.decoders.results(future, [p.data for p in batch]), strict=True):
                if isinstance(result, str):
                    self.skip(picture.entry.name, result)
                    self.refused[picture.id] = result
                    for name in self.copies.pop(picture.id, []):  # what was refused is not there
                        self.report.duplicates -= 1
                        self.skip(name, result)
                else:
                    picture.examined = result
            told += len(batch)
            tell(len(batch))
        good = [(p, p.examined) for p in chunk.fresh if p.examined is not None]
        if store.get_dataset(self.dataset.id).deleted_at:
            raise NotFound(f"The dataset “{self.dataset.name}” was deleted during the import.", "Restore it and import again.")
        try:
            for p, e in good:
                images.store_original(settings().images, f"{p.id[:2]}/{p.id}.{e.ext}", p.data)
            offsets = _append(self.dataset.id, [e.thumb for _, e in good]) if good else []
            storage.keep(settings().images / f"{p.id[:2]}/{p.id}.{e.ext}" for p, e in good)
            os.sync()  # the files are on the disk before the database says that they are
        except OSError as error:
            if error.errno in space.FULL:
                again = "Make room and import again: what was added stays, the rest follows."
                raise Invalid(space.refusal(error).message, again) from None
            raise
        at = now()
        splits = self.splits(good)
        rows = [
            _image(self.dataset, self.splits_given, splits[p.id], p.entry.name, p.entry.label, e, len(p.data), at, offset, p.entry.flagged)
            for (p, e), offset in zip(good, offsets, strict=True)
        ]
        notes, past = {p.id: p.entry.note for p, _ in good}, {p.id: p.entry.past for p, _ in good}
        self.again += len(removed.among(self.dataset.id, list(splits)))
        added = labels.add_images(self.dataset.id, rows, self.by, "import", notes, past, self.operation, self.title)
        self.report.added += added
        if added and self.title and self.report.import_id is None:
            self.report.import_id = brought.of_operation(self.dataset.id, self.operation)
        for row in rows:
            self.report.classes[row.label or ""] = self.report.classes.get(row.label or "", 0) + 1
        self.report.duplicates += len(rows) - added
        originals.claim(self.dataset.id, {p.entry.original: p.id for p, _ in good if p.entry.original not in ("", p.id)})
        deep = {p.id: e.bits for p, e in good if e.bits}
        if deep:
            self.uneven.touch()
        depth.add(self.dataset.id, deep)
        self.deep += len(deep)
        self.animated += [p.entry.name for p, e in good if e.animated]
        self.predictions(chunk.read)
        tell(chunk.size - told)

    def splits(self, good: list[tuple[_Picture, images.Examined]]) -> dict[str, Split | None]:
        """The split that the source gives each picture; where Loupe draws it, a near copy comes to what it is a copy of."""
        near = self.alike.add({p.id: e.grey for p, e in good})
        found = {p.id: p.entry.split for p, _ in good}
        if self.splits_given:
            return found
        here = store.splits(self.dataset.id, [other for others in near.values() for other in others])
        for p, _ in good:
            if found[p.id] is None:
                copied = next((other for other in near.get(p.id, ()) if other in here or other in found), None)
                found[p.id] = split_of(p.id) if copied is None else here.get(copied) or found[copied]
        return found

    def same_depth(self) -> None:
        """Makes anew the thumbnails of 16-bit pictures that were scaled otherwise than the dataset now is, and says how it is.

        Unavailable if an original cannot be fetched now; the next import goes on with it.
        """
        if not self.uneven.exists():
            return
        known, bits = depth.each(self.dataset.id), depth.of(self.dataset.id)
        other = [i for i, own in known.items() if own != bits or self.bits != bits or self.cut_off]
        for image in (*store.get_images(self.dataset.id, other), *removed.get(self.dataset.id, other)):  # what was removed can come back
            try:
                path = storage.local(settings().images / image.path, storage.PATIENT)
                thumb = images.thumbnail(images.open_picture(path, bits=bits))
            except Unavailable:
                raise
            except AppError:
                continue  # its file is gone: it keeps the thumbnail it has
            (offset,) = _append(self.dataset.id, [thumb])
            store.set_thumbnail(self.dataset.id, image.id, offset, len(thumb))
        self.uneven.unlink()
        if not self.deep:
            return
        self.report.understood.append(
            f"{self.deep:,} picture{'s have' if self.deep > 1 else ' has'} 16 bits per pixel; the brightest of the dataset takes {bits} of "
            f"them, so in every one 0 is black and {(1 << bits) - 1:,} is white."
        )

    def say_animated(self) -> None:
        if n := len(self.animated):
            names = ", ".join(self.animated[:3]) + (" …" if n > 3 else "")
            what = "animated pictures or of several pages" if n > 1 else "animated picture or of several pages"
            self.report.understood.append(f"{n:,} {what}: {'their' if n > 1 else 'its'} first frame is what is learned from ({names}).")

    def say_mended(self) -> None:
        if n := self.mended:
            what = "originals that were damaged or missing are" if n > 1 else "original that was damaged or missing is"
            self.report.understood.append(f"{n:,} {what} whole again.")

    def say_again(self) -> None:
        if n := self.again:
            what = (
                "images that had been removed from the dataset are in it again" if n > 1 else "image that had been removed is in it again"
            )
            self.report.understood.append(f"{n:,} {what}.")

    def predictions(self, read: list[_Picture]) -> None:
        """Stores what models said about the pictures, also about those that were there already."""
        said = [(p.id, *guess) for p in read for guess in p.entry.guesses]
        here = store.known_images(self.dataset.id, list({image_id for image_id, *_ in said}))
        store.add_predictions(self.dataset.id, [one for one in said if one[0] in here])

    def show_examples(self, described: Iterable[Class]) -> None:
        """Stores the examples of the classes that have none here, and the same guideline as there."""
        bare = {(one.name, one.guideline) for one in classes.of(self.dataset.id) if not one.accepted and not one.rejected}
        wanted = {one.name for one in described if (one.name, one.guideline) in bare}
        here = store.known_images(self.dataset.id, [image_id for _, image_id, _ in self.examples])
        classes.add_examples(self.dataset.id, [one for one in self.examples if one[0] in wanted and one[1] in here])


def _read(entry: Entry) -> _Picture:
    if entry.label is not None and (problem := name_problem(entry.label)):
        raise Invalid(f"Its class name “{entry.label[:MAX_CLASS]}” {problem}.")
    if entry.array is not None:
        # Pixels that are in memory already need no decoder: nothing in them can surprise one.
        data, image_id = images.png(entry.array), images.array_id(entry.array)
        height, width = entry.array.shape[:2]
        thumb = data if max(height, width) <= 64 else images.examine(data).thumb
        channels, grey = 1 if entry.array.ndim == 2 else 3, images.small_grey(thumb)
        examined = images.Examined(image_id, "png", width, height, channels, thumb, grey=grey)
        return _Picture(entry, image_id, data, examined)
    data = read_file(entry.path) if entry.path is not None else entry.data or b""
    return _Picture(entry, images.image_id(data), data)


def read_file(path: Path) -> bytes:
    """An image's file; Invalid where it is too large or cannot be read."""
    try:
        size = path.stat().st_size
        if size > images.MAX_BYTES:
            raise Invalid(f"The file has {size / 1e6:.0f} MB.", f"Up to {images.MAX_BYTES / 1e6:.0f} MB are allowed for one image.")
        return path.read_bytes()
    except OSError as e:
        raise Invalid(f"It cannot be read: {e.strerror}.") from None


def _image(
    dataset: Dataset,
    splits_given: bool,
    split: Split | None,
    source: str,
    label: str | None,
    e: images.Examined,
    size: int,
    at: str,
    offset: int,
    flagged: bool = False,
) -> Image:
    if split is None:
        split = "train" if splits_given else split_of(e.id)
    size_of = (e.width, e.height, e.channels, size)
    return Image(e.id, dataset.id, e.ext, *size_of, split, source, at, offset, len(e.thumb), label, flagged=flagged)


def split_of(image_id: str) -> Split:
    """Train or test by the picture itself, whatever else the dataset holds; near copies of one that is there go where it is."""
    return "test" if int(image_id[:8], 16) % 100 < TEST_SHARE else "train"


def allow(dataset_name: str) -> None:
    """Forbidden for who may not bring images into the dataset, or may make none where there is none of that name."""
    dataset_id = store.id_of(dataset_name)
    if dataset_id is not None and not roles.current().may("see", dataset_id):
        raise Conflict(f"The name “{dataset_name}” is taken.", "Choose another name.")
    roles.allow("import", dataset_id)


# Background import --------------------------------------------------------------------------------


def start(source: Source, dataset_name: str, by: str, seen: Sequence[str] = ()) -> str:
    """Starts an import that outlives the page and the server; reads only below the allowed folders and the uploads.

    Where something has to be guessed that is not among what somebody has seen, it ends with a first sight and stores nothing.
    """
    name = checked_name(dataset_name, "dataset")
    allow(name)
    space.need("The import")
    source = places.confined(source)
    leftovers.remove_uploads()  # a server may run for months
    leftovers.remove_sights()
    return jobs.start(settings().imports, IMPORT, {"source": source.as_dict(), "dataset_name": name, "by": by, "seen": list(seen)})


def _work(folder: Path, job: jobs.Line, progress: Progress) -> jobs.Line:
    opened = _open(job["dataset_name"], Source.from_dict(job["source"]), progress)
    if not set(opened.guessed) <= set(job.get("seen", ())):
        found = _look(job["dataset_name"], opened, progress)
        found.skipped = _some(found.skipped)
        runs.write_json(folder / SIGHT, asdict(found))
        return {"sight": True}
    title = Source.from_dict(job["source"]).shown()
    dataset_id, report, was_stopped, came = _import(job["dataset_name"], opened, job["by"], progress, title)
    if not was_stopped:
        uploads.remove(job["source"]["paths"])
    if came:
        runs.write_json(folder / LATE, came)
    report.skipped = _some(report.skipped)
    return {"kind": "Stopped" if was_stopped else "Done", "report": report.as_dict(), "dataset_id": dataset_id}


def _some(skipped: list[Skipped]) -> list[Skipped]:
    if len(skipped) <= MAX_REPORTED:
        return skipped
    return [*skipped[:MAX_REPORTED], Skipped("and more", f"{len(skipped) - MAX_REPORTED:,} further files were skipped")]


IMPORT = jobs.Kind("import", "import", "What it added is kept: import again to add the rest.", _work)


def _folder(import_id: str) -> Path:
    folder = jobs.find(settings().imports, import_id, "import")
    if not _seen(runs.read_json(folder / "job.json")):
        raise NotFound("This import does not exist any more.", "Start it again.")
    return folder


def _seen(job: jobs.Line) -> bool:
    """Whether who acts may see the dataset; what is to become one is seen by who may make one."""
    dataset_id = store.id_of(job["dataset_name"])
    return roles.current().may("import" if dataset_id is None else "see", dataset_id)


def state(import_id: str) -> jobs.State:
    return jobs.state(_folder(import_id), IMPORT)


def report(state: jobs.State) -> ImportReport | None:
    """What an import that has ended by itself has done, stopped or not."""
    if "report" not in state.end:
        return None
    found = state.end["report"]
    return ImportReport(**{**found, "skipped": [Skipped(**s) for s in found["skipped"]]})


def first_sight(state: jobs.State) -> Sight | None:
    """What an import saw that stored nothing, as it had to guess and waits for an answer: go_on or decline."""
    path = settings().imports / state.id / SIGHT
    return Sight.from_dict(runs.read_json(path)) if state.end.get("sight") and path.exists() else None


def go_on(import_id: str, by: str, names_in: str | None = None) -> str:
    """Starts the import again that was cut off, or whose guesses somebody has seen, or looks again with another encoding of a zip's
    names; the new id."""
    at = state(import_id)
    allow(at.job["dataset_name"])
    source, seen = Source.from_dict(at.job["source"]), first_sight(at)
    if at.status == "lost" or at.passes:
        started = start(source, at.job["dataset_name"], by, at.job.get("seen", ()))
    elif seen is None:
        raise NotFound("This import does not wait for an answer any more.", "Start it again.")
    elif names_in is None:
        started = start(source, at.job["dataset_name"], by, seen.guessed)
    else:
        started = start(replace(source, names_in=names_in), at.job["dataset_name"], by)
    jobs.remove(_folder(import_id))
    return started


def decline(import_id: str) -> None:
    """Removes the import that waits for an answer, and the files that were uploaded for it."""
    allow(state(import_id).job["dataset_name"])
    source = Source.from_dict(state(import_id).job["source"])
    jobs.remove(_folder(import_id))
    uploads.remove(source.paths)


def later(state: jobs.State) -> Later | None:
    """The labels that came with it for images which were there already, as they stand today."""
    path, dataset_id = settings().imports / state.id / LATE, state.end.get("dataset_id")
    return late.of(dataset_id, runs.read_json(path)) if dataset_id is not None and path.exists() else None


def give_labels(state: jobs.State, wanted: Late, by: str) -> int:
    """Gives the images those of later(), as one act, where they still carry what was seen; returns how many changed."""
    return late.give(state.end["dataset_id"], wanted, by, title(state))


def title(state: jobs.State) -> str:
    """Of what is imported, for people."""
    return Source.from_dict(state.job["source"]).shown()


def heading(title: str, dataset_name: str) -> str:
    """What stands before the progress, on the page and in the terminal."""
    return f"Importing {title} into “{dataset_name}”."


def stop(import_id: str) -> None:
    """Asks the import to end; what is committed stays."""
    allow(state(import_id).job["dataset_name"])
    runs.request_stop(_folder(import_id))


def running() -> list[jobs.State]:
    """The latest imports that go on, newest first."""
    return [one for one in jobs.running(sorted(settings().imports.glob("[0-9]*"))[-LATEST:], IMPORT) if _seen(one.job)]


def lost(dataset_name: str) -> jobs.State | None:
    """The newest import into the dataset, if it was killed, or ended by what passes; among the latest of all."""
    for folder in jobs.folders(settings().imports)[: -LATEST - 1 : -1]:
        if runs.read_json(folder / "job.json")["dataset_name"] == dataset_name:
            found = jobs.state(folder, IMPORT)
            return found if found.status == "lost" or found.passes else None
    return None


# Pictures that programs send ------------------------------------------------------------------------

_sent = threading.Lock()  # the pool is replaced when one of its processes dies


@lru_cache(maxsize=1)
def _standing() -> Decoders:
    """Starting a pool takes longer than most of what is sent at once."""
    found = Decoders()
    found.idle = 60
    return found


def add_sent(dataset_name: str, entries: Sequence[Entry], by: str) -> ImportReport:
    """Imports pictures that are in memory already; to those that are there without a label it gives the one that came."""
    space.need("The import")
    with _sent:
        opened = Opened(iter(entries), len(entries), False, [])
        dataset_id, report, _, came = _import(dataset_name, opened, by, silent, standing=_standing())
    if dataset_id is not None and came:
        report.given = late.give(dataset_id, {i: one for i, one in came.items() if one[0] is None}, by, "API")
    return report


# One image at a time: what people send in for review -------------------------------------------------


def _append(dataset_id: int, thumbs: list[bytes]) -> list[int]:
    return images.ThumbPack(settings().thumbs, dataset_id).append(thumbs, _end(dataset_id))


@lru_cache(maxsize=1024)
def _end(dataset_id: int) -> int:
    """When this process asks first: what is appended later is in files that it sees."""
    return store.thumbnails_end(dataset_id)


def add_upload(dataset: Dataset, path: Path, name: str, examined: images.Examined | None = None) -> Image:
    """The Image an uploaded file becomes in the dataset: original and thumbnail are stored, the row is the caller's to write.

    Without what the model worker found out about it, the file is decoded here.
    """
    data = read_file(path)
    try:
        e = examined or images.examine(data)
    except Invalid as problem:
        raise Invalid(f"{name}: {problem.message}", problem.hint) from None
    images.store_original(settings().images, f"{e.id[:2]}/{e.id}.{e.ext}", data)
    storage.keep([settings().images / f"{e.id[:2]}/{e.id}.{e.ext}"], storage.SOON)
    (offset,) = _append(dataset.id, [e.thumb])
    return _image(dataset, dataset.splits_given, None, name, None, e, len(data), now(), offset)
