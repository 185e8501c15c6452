"""Datasets out: a zip in one of the known formats, written at once or in the background."""

from __future__ import annotations

import errno
import re
import unicodedata
import zipfile
import zlib
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path

from core import roles, storage
from core.data import audit, classes, events, images, labels, originals, store, tables, unpacker
from core.data.formats.known import FORMATS
from core.data.tables import About, Format, Guess, Row
from core.errors import Invalid, NotFound
from core.runs import jobs, runs
from core.settings import settings
from core.types import Class, Dataset, Image, LabelEvent, Progress, Run, Skipped, now, silent

KEEP = 2 * 24 * 3600  # seconds a zip made for the browser stays; its address lasts no longer
MAX_NAME_BYTES = 180
AHEAD = 256  # images fetched from storage at a time
_ODD = re.compile(r'[<>:"|?*\\/]')  # what file systems refuse
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])([.]|$)", re.IGNORECASE)  # names that Windows keeps for itself


@dataclass
class ExportReport:
    images: int = 0
    bytes: int = 0  # of the zip
    skipped: list[Skipped] = field(default_factory=list)  # images whose file is gone or damaged


@roles.needs("export")
def export_now(
    dataset_id: int,
    format: str,
    out: Path,
    progress: Progress = silent,
    originals: bool = False,
    run_id: str | None = None,
) -> ExportReport:
    """Writes the dataset as it is at this moment into a zip, whole or not at all; every format can be imported again.

    Images are written upright and without metadata, or untouched when the originals are wanted.
    A run adds its predictions to the formats that hold some.
    """
    dataset = _checked(dataset_id, format, run_id)
    if not out.parent.is_dir():
        raise Invalid(f"The folder {out.parent} does not exist.", "Make it first, or choose another one.")
    if out.is_dir():
        raise Invalid(f"{out} is a folder.", "Name the zip file that should be written.")
    work = _Export(dataset, FORMATS[format], originals, run_id, progress)
    jobs.remove_left(out.parent, of=out.name)

    def write(tmp: Path) -> None:
        work.write(tmp)
        how = {"format": format, "originals": originals, "run": run_id, "images": work.report.images}
        audit.note("export", on={"dataset": dataset_id}, after=how)  # before the zip has its name: none is there without an entry

    try:
        runs.write_atomically(out, write)
        work.report.bytes = out.stat().st_size
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Invalid("The disk is full.", "Nothing was written. Make room and export again.") from None
        raise Invalid(f"{out} cannot be written: {e.strerror}.", "Choose another place.") from None
    return work.report


def _checked(dataset_id: int, format: str, run_id: str | None) -> Dataset:
    if format not in FORMATS:
        raise Invalid(f"“{format}” is not a format that Loupe exports.", f"Choose one of: {', '.join(FORMATS)}.")
    dataset = store.get_dataset(dataset_id)
    if dataset.deleted_at:
        raise NotFound(f"The dataset “{dataset.name}” was deleted.", "Restore it on the Dataset page first.")
    if not sum(n for _, _, n in store.counts(dataset_id)):
        raise Invalid(f"The dataset “{dataset.name}” holds no images.", "Add images first.")
    if run_id is not None:
        if "predictions" not in FORMATS[format].can:
            able = " and ".join(one.title for one in FORMATS.values() if "predictions" in one.can)
            raise Invalid(f"Only {able} hold predictions.", "Choose one of these formats, or leave the run out.")
        if runs.load(runs.folder(run_id)).dataset_id != dataset_id:
            raise Invalid(f"The run {run_id} was trained on another dataset.", f"Choose a run of “{dataset.name}”.")
    return dataset


@dataclass
class _Export:
    dataset: Dataset
    format: Format
    originals: bool
    run_id: str | None
    progress: Progress
    report: ExportReport = field(default_factory=ExportReport)
    ids: dict[str, str] = field(default_factory=dict)  # of the originals, by the name of a file that is not its original to the byte

    def write(self, path: Path) -> None:
        found, listed, words = store.all_images(self.dataset.id), classes.of(self.dataset.id), events.names(self.dataset.id)
        names = _Names(tuple(one.name for one in listed))
        written: list[tuple[Image, str]] = []
        copies = {copy: original for original, copy in originals.of(self.dataset.id).items()}
        with zipfile.ZipFile(path, "w") as archive:  # stored: pictures are compressed already
            for done, image in enumerate(found):
                self.progress(done, len(found), "Writing images")
                if done % AHEAD == 0:
                    storage.fetch(settings().images / one.path for one in found[done : done + AHEAD])
                try:
                    data = self._data(image)
                except Invalid as e:
                    self.report.skipped.append(Skipped(image.source, str(e)))
                    continue
                name = names.of(image, self.format)
                archive.writestr(_entry(name, image.added_at), data)
                written.append((image, name))
                if (original := copies.get(image.id, image.id)) != images.image_id(data):
                    self.ids[name] = original
            self.report.images = len(written)
            called = {folder: label for label, folder in names.folders.items() if folder != label}
            for name, text in self._tables(written, listed, words, called).items():
                data = text.encode("utf-8", "replace")
                # A table that shrinks as much as a bomb would be refused as one when it is imported.
                packs = len(data) < unpacker.MAX_RATIO / 2 * len(zlib.compress(data))
                archive.writestr(_entry(name, now()), data, zipfile.ZIP_DEFLATED if packs else zipfile.ZIP_STORED)
        self.progress(len(found), len(found), "Writing images")

    def _data(self, image: Image) -> bytes:
        try:
            data = storage.local(settings().images / image.path, storage.PATIENT).read_bytes()
        except OSError as e:
            raise Invalid(f"Its file cannot be read: {e.strerror}.") from None
        if not images.is_original(data, image.id):
            raise Invalid("Its file is not the one that was imported.", "Import that one again, or bring it back from a backup.")
        return data if self.originals else images.shareable(data)

    def _tables(self, written: list[tuple[Image, str]], listed: list[Class], words: events.Names, called: dict[str, str]) -> dict[str, str]:
        """The text files of the zip, by name."""
        names = {image.id: name for image, name in written}
        shown = [replace(one, accepted=_named(one.accepted, names), rejected=_named(one.rejected, names)) for one in listed]
        facts = {} if self.format.own_facts else {name: (image.source, image.flagged) for image, name in written}
        about = {tables.ABOUT: tables.about_text(About(tuple(shown), self.dataset.splits_given, facts, self.ids, called))}
        rows = [Row("", name, image.label, image.split, image.source, flagged=image.flagged) for image, name in written]
        if self.format.can & {"who", "history"}:
            past = self._past(written, words)
            rows = [replace(row, past=tuple(past[image.id])) for (image, _), row in zip(written, rows, strict=True)]
        if "predictions" in self.format.can:
            guesses = self._guesses(names, words)
            rows = [replace(row, guesses=tuple(guesses[image.id])) for (image, _), row in zip(written, rows, strict=True)]
        return about | self.format.write(rows, self.dataset.classes)

    def _past(self, written: list[tuple[Image, str]], words: events.Names) -> dict[str, list[LabelEvent]]:
        """What happened to each image, with today's names of the classes; another name of that day stands in the note."""
        found: dict[str, list[LabelEvent]] = {image.id: [] for image, _ in written}
        seen = {image.id: image.label_seq for image, _ in written}
        for e in labels.all_events(self.dataset.id):
            if e.seq <= seen.get(e.image_id, -1):  # what was labelled since the images were read is not told half
                label, previous = words.today(e.label, e.seq), words.today(e.previous, e.seq)
                note = e.note if label == e.label else f"{e.note} {tables.CALLED}“{e.label}” then)".strip()
                found[e.image_id].append(replace(e, label=label, previous=previous, note=note))
        return found

    def _guesses(self, names: dict[str, str], words: events.Names) -> dict[str, list[Guess]]:
        """The predictions that came with imports, and those of the chosen run."""
        found: dict[str, list[Guess]] = {image_id: [] for image_id in names}
        for image_id, model, label, score in store.imported_predictions(self.dataset.id):
            if image_id in found and model != self.run_id:
                found[image_id].append((model, label, score))
        if self.run_id is not None:
            learned_at = runs.load(runs.folder(self.run_id)).created_at
            for p in runs.read_predictions(runs.folder(self.run_id)):
                if p.image_id in found:
                    found[p.image_id].append((self.run_id, words.since(p.predicted, learned_at), p.confidence))
        return found


def _named(ids: tuple[str, ...], names: dict[str, str]) -> tuple[str, ...]:
    return tuple(names[i] for i in ids if i in names)


# Names in the zip ---------------------------------------------------------------------------------


class _Names:
    """Gives every image a name of its own: that of its source where it is safe, with -2, -3, … where it is taken."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = frozenset(classes)
        self.taken: set[str] = set()
        self.last: dict[str, int] = {}  # a hundred thousand images may share one name
        self.folders: dict[str, str] = {}

    def of(self, image: Image, format: Format) -> str:
        name = safe_name(image.source.replace("\\", "/").rpartition("/")[2], image.id)
        if Path(name).suffix[1:].lower() not in images.EXTENSIONS:
            name = f"{name}.{image.ext}"
        if format.suffix:
            return self.unique(f"{image.split if format.split_folders else 'images'}/{name}")
        # An image directly in its split's folder is one without a label, here and in every import.
        return self.unique(f"{image.split}/{name}" if image.label is None else f"{image.split}/{self.folder(image.label)}/{name}")

    def folder(self, label: str) -> str:
        """The class's folder: its very name where every file system takes it; loupe.json says the true one of the others."""
        if label not in self.folders:
            plain = re.sub(r"[\\/\0]", "_", label).lstrip(".").encode()[:MAX_NAME_BYTES].decode(errors="ignore") or "class"
            while plain != label and (plain in self.classes or plain in self.folders.values()):
                plain += "-2"
            self.folders[label] = plain
        return self.folders[label]

    def unique(self, name: str) -> str:
        stem, dot, ext = name.rpartition(".") if "." in name.rpartition("/")[2] else (name, "", "")
        chosen, key = name, name.casefold()  # some file systems take a.png and A.png for one
        number = self.last.get(key, 1)
        while chosen.casefold() in self.taken:
            number += 1
            chosen = f"{stem}-{number}{dot}{ext}"
        self.last[key] = number
        self.taken.add(chosen.casefold())
        return chosen


def safe_name(name: str, otherwise: str) -> str:
    """A file name that every file system takes; the other one where nothing is left of it."""
    name = unicodedata.normalize("NFC", name)
    name = "".join("_" if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in _ODD.sub("_", name)).strip().lstrip(".")
    stem, dot, ext = name.rpartition(".") if "." in name else (name, "", "")
    stem = stem.encode()[:MAX_NAME_BYTES].decode(errors="ignore").strip(". ") or otherwise
    name = f"{stem}{dot}{ext[:10]}"
    return f"_{name}" if _RESERVED.match(name) else name


def _entry(name: str, at: str) -> zipfile.ZipInfo:
    when = datetime.fromisoformat(at)
    info = zipfile.ZipInfo(name, (max(1980, when.year), when.month, when.day, when.hour, when.minute, when.second))
    info.external_attr = 0o100644 << 16
    return info


# Background export: a folder and a command line, as imports and runs have them -----------------------


@roles.needs("export")
def start(dataset_id: int, kind: str, by: str, originals: bool = False, run_id: str | None = None) -> str:
    """Starts an export that outlives the page and the server; its zip is kept for two days."""
    dataset = _checked(dataset_id, kind, run_id)
    jobs.remove_old(settings().exports, KEEP)
    file = safe_name(f"{dataset.name}-{kind}.zip", f"{kind}.zip")
    job = {"dataset_id": dataset_id, "kind": kind, "originals": originals, "run_id": run_id, "file": file, "by": by}
    return jobs.start(settings().exports, EXPORT, job)


def _work(folder: Path, job: jobs.Line, progress: Progress) -> jobs.Line:
    report = export_now(job["dataset_id"], job["kind"], _zip(folder), progress, job["originals"], job["run_id"])
    storage.keep([_zip(folder)])
    return {"report": asdict(report)}


EXPORT = jobs.Kind("export", "export", "Nothing was written. Start it again.", _work)


def _zip(folder: Path) -> Path:
    return folder / "export.zip"


def _folder(export_id: str) -> Path:
    folder = jobs.find(settings().exports, export_id, "export")
    roles.allow("export", runs.read_json(folder / "job.json")["dataset_id"])
    return folder


def state(export_id: str) -> jobs.State:
    return jobs.state(_folder(export_id), EXPORT)


def report(state: jobs.State) -> ExportReport | None:
    """What a finished export has written."""
    if state.status != "done":
        return None
    found = state.end["report"]
    return ExportReport(found["images"], found["bytes"], [Skipped(**s) for s in found["skipped"]])


def address(state: jobs.State) -> str:
    """Of the zip, to be signed."""
    return f"/export/{state.id}/{state.job['kind']}.zip"


def stop(export_id: str) -> None:
    """Asks the export to end; nothing of it is kept."""
    runs.request_stop(_folder(export_id))


@roles.needs("export")
def unseen(dataset_id: int) -> jobs.State | None:
    """The dataset's newest export if it is still being written, or was killed."""
    for folder in jobs.recent(settings().exports, KEEP):
        if (found := jobs.state(folder, EXPORT)).job["dataset_id"] == dataset_id:
            return found if found.status in ("running", "lost") else None
    return None


def download(export_id: str, name: str) -> tuple[Path, str]:
    """The finished zip, and what it is called for people."""
    found = state(export_id)
    path = storage.local(_zip(_folder(export_id)), storage.PATIENT)
    if found.status != "done" or name != f"{found.job['kind']}.zip" or not path.exists():
        raise NotFound("This export is not there.", "Start it again on the Dataset page.")
    return path, found.job["file"]


@roles.needs("export")
def runs_with_predictions(dataset_id: int) -> list[Run]:
    """The dataset's runs whose predictions an export can add, newest first."""
    found = sorted(settings().runs.glob("*/predictions.csv"), reverse=True)
    return [run for run in (runs.load(path.parent) for path in found) if run.dataset_id == dataset_id]
