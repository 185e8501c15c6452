"""A run as one zip: out, with all that another program or person needs of it, and in again as the run it was."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import secrets
import shutil
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from core import roles, space, storage
from core.data import audit, classes, imports, originals, store, uploads
from core.data.formats import spreadsheet
from core.errors import Conflict, Invalid, NotFound, Stopped, Unavailable
from core.evaluate.evaluate import as_json, recorded
from core.names import checked_name
from core.runs import jobs, launch, remote, runs, stored
from core.settings import settings
from core.share import card, unpack
from core.types import SPLITS, Dataset, Ended, EpochEnd, Event, Preprocess, Progress, Run, Snapshot, SnapshotRow, now, silent

KEEP = 24 * 3600  # seconds a zip made for the browser stays
COMPARED = 20  # pictures that ONNX Runtime and PyTorch both answer
WEIGHTS = ("model.safetensors", "model.onnx")  # numbers that do not pack: stored as they are
CODE = Path(__file__).parent / "preprocess.py"
WITHOUT_PICTURES = (
    "It predicts new pictures all the same, and Evaluate can count by the labels it was trained with; "
    "pictures that are not here cannot be shown."
)
STEPS = 3  # of an export, after the hashes


# Out ----------------------------------------------------------------------------------------------
R = TypeVar("R")


@dataclass(frozen=True)
class Exported:
    bytes: int  # of the zip
    without_onnx: str  # why there is no model.onnx; "" if there is one
    parity: dict[str, Any] | None  # of ONNX Runtime and PyTorch

    @property
    def words(self) -> str:
        return card.parity_words(self.parity, self.without_onnx)


@runs.needs("export")
def export_now(run_id: str, out: Path, progress: Progress = silent) -> Exported:
    """Writes the run into a zip, whole or not at all; the same run gives the same bytes."""
    path = _exportable(run_id)
    if not out.parent.is_dir():
        raise Invalid(f"The folder {out.parent} does not exist.", "Make it first, or choose another one.")
    if out.is_dir():
        raise Invalid(f"{out} is a folder.", "Name the zip file that should be written.")
    jobs.remove_left(out.parent, of=out.name)
    with _full_disk_told(out), _scratch() as made:
        work = _Export(path, made, progress)
        work.collect()

        def pack(tmp: Path) -> None:
            work.pack(tmp)
            audit.note("run.export", on={"run": run_id}, after={"bytes": tmp.stat().st_size})

        runs.write_atomically(out, pack)
        return Exported(out.stat().st_size, work.without_onnx, work.parity)


def _exportable(run_id: str) -> Path:
    path = runs.trained(run_id)
    alive = launch.launcher.alive(path)  # asked first, and not alone: a run that has ended may take a second to leave
    if runs.status(runs.events(path), alive) in runs.ACTIVE:
        raise Conflict(f"The run {runs.load(path).name} is still going on.", "Wait until it has ended, or stop it first.")
    return path


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder on the disk of the runs."""
    with runs.scratch(settings().archives / secrets.token_hex(4)) as made:
        yield made


@contextmanager
def _full_disk_told(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Invalid("The disk is full.", "Nothing was kept. Make room and try again.") from None
        raise Invalid(f"{out} cannot be written: {e.strerror}.", "Choose another place.") from None


def _followed(future: Future[R], progress: Progress, at: tuple[int, int, str]) -> R:
    """The answer that is worked out in the model worker of this process; stopping ends the worker."""
    try:
        while not future.done():
            progress(*at)
            wait([future], 0.25)
    except Stopped:
        launch.close()
        raise
    return launch.result(future)


@dataclass
class _Export:
    path: Path  # of the run
    made: Path  # where the files of the zip are written first
    progress: Progress
    without_onnx: str = ""
    parity: dict[str, Any] | None = None

    def collect(self) -> None:
        """Writes every file of the zip into the folder."""
        run, rows, history = runs.load(self.path), runs.snapshot_rows(self.path), runs.events(self.path)
        hashed = self.data(rows)
        found = self.followed(
            launch.submit(remote.archive.weights, str(self.path), str(self.made / "model.safetensors")), "Writing the weights", 0
        )
        how: Preprocess = found["preprocess"]
        self.json("preprocessing.json", {**asdict(how), "shapes": found["shapes"]})
        shutil.copyfile(CODE, self.made / "preprocess.py")
        self.text("labels.txt", "".join(f"{c}\n" for c in run.classes))
        self.json("config.json", asdict(run))
        shutil.copyfile(self.path / "events.jsonl", self.made / "events.jsonl")
        self.without_onnx = self.followed(
            launch.submit(remote.archive.onnx, str(self.path), str(self.made / "model.onnx")), "Writing the network as ONNX", 1
        )
        if not self.without_onnx:
            pictures = [str(settings().images / r.path) for r in _to_compare(rows)]
            compared = launch.submit(remote.archive.parity, str(self.path), str(self.made), pictures, str(CODE))
            self.parity = self.followed(compared, "Comparing ONNX Runtime and PyTorch", 2)
            self.json("parity.json", self.parity)
        metrics = []
        if runs.predictions_path(self.path).exists():
            self.predictions()
            metrics = [e for e in (recorded(run.id, split) for split in SPLITS[1:]) if e.n]
        kept = ("n", "accuracy", "loss", "per_class", "confusion")
        if runs.notes_path(self.path).exists():
            self.json("notes.json", runs.read_notes(self.path))
        self.json("metrics.json", {e.split: {k: v for k, v in as_json(e).items() if k in kept} for e in metrics})
        files = [name for name in card.FILES if name == card.SUMS or (self.made / name).exists()]
        facts = card.Facts(run, rows, hashed, history, metrics, how, found["parameters"], self.without_onnx, self.parity, files)
        self.text("MODEL_CARD.md", card.text(facts))
        self.text(card.SUMS, "".join(f"{runs.sha256(self.made / name)}  {name}\n" for name in ("MODEL_CARD.md", *files[:-1])))

    def data(self, rows: list[SnapshotRow]) -> int:
        """Writes dataset.csv; returns how many files were there to be hashed."""
        hashed = 0
        with open(self.made / "dataset.csv", "w", newline="", encoding="utf-8") as f:
            out = csv.writer(f)
            out.writerow(["image_id", "path", "label", "split", "sha256"])
            for i, r in enumerate(rows):
                if i % 100 == 0:
                    self.progress(i, len(rows), "Hashing pictures")
                    storage.fetch(settings().images / one.path for one in rows[i : i + 100])
                digest = _sha256(settings().images / r.path)
                hashed += bool(digest)
                out.writerow([r.image_id, r.path, spreadsheet.cell(r.label), r.split, digest])
        return hashed

    def predictions(self) -> None:
        """As the run's, but for words that a spreadsheet would take for formulas: classes are people's words."""
        with (
            open(runs.predictions_path(self.path), newline="", encoding="utf-8") as f,
            open(self.made / "predictions.csv", "w", newline="", encoding="utf-8") as made,
        ):
            csv.writer(made).writerows([spreadsheet.cell(one) for one in row] for row in csv.reader(f))

    def followed(self, future: Future[R], what: str, step: int) -> R:
        return _followed(future, self.progress, (step, STEPS, what))

    def json(self, name: str, value: Any) -> None:
        self.text(name, json.dumps(value, indent=1, ensure_ascii=False) + "\n")

    def text(self, name: str, text: str) -> None:
        (self.made / name).write_text(text, encoding="utf-8", newline="\n")

    def pack(self, out: Path) -> None:
        """The zip: the card first, then the files in the order the card lists them."""
        when = datetime.fromisoformat(runs.load(self.path).created_at)
        with zipfile.ZipFile(out, "w") as archive:
            for name in ("MODEL_CARD.md", *card.FILES):
                if (self.made / name).exists():
                    info = zipfile.ZipInfo(name, (max(1980, when.year), when.month, when.day, when.hour, when.minute, when.second))
                    info.external_attr = 0o100644 << 16
                    info.compress_type = zipfile.ZIP_STORED if name in WEIGHTS else zipfile.ZIP_DEFLATED
                    info.file_size = (self.made / name).stat().st_size
                    with open(self.made / name, "rb") as source, archive.open(info, "w") as entry:
                        shutil.copyfileobj(source, entry, 1 << 20)
                self.progress(STEPS, STEPS, "Packing")


def _sha256(path: Path) -> str:
    """Of the file's bytes; "" where it is gone."""
    try:
        return runs.sha256(storage.local(path, storage.PATIENT))
    except OSError:
        return ""


def _to_compare(rows: list[SnapshotRow]) -> list[SnapshotRow]:
    """Up to 20 validation images whose file is here, spread over all of them; without any, test or training images."""
    for split in ("validation", "test", "train"):
        some = [r for r in rows if r.split == split]
        if storage.on():
            some = _spread(some)
        if here := _spread([r for r in some if storage.local(settings().images / r.path, storage.PATIENT).exists()]):
            return here
    return []


def _spread(rows: list[SnapshotRow]) -> list[SnapshotRow]:
    n = min(COMPARED, len(rows))
    return [rows[i * len(rows) // n] for i in range(n)]


# In ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Looked:
    """What a zip says, and which datasets of this machine it could belong to."""

    run: Run
    images: int  # that the run was trained and measured on
    here: tuple[tuple[Dataset, int], ...]  # datasets that have some of them, and how many, most first

    @property
    def match(self) -> Dataset | None:
        """The dataset it was trained on, as far as this machine has it: at least half of its images."""
        return next((d for d, n in self.here if 2 * n >= self.images), None)


def look(path: Path, title: str = "") -> Looked:
    """Reads all of a zip but the weights, in a process of its own; Invalid names the file in it that is missing or wrong."""
    roles.allow_somewhere("import")
    title = title or path.name
    try:
        found = launch.ask_apart(_look, path, title)
        return replace(found, here=tuple(one for one in found.here if roles.current().may("see", one[0].id)))
    except MemoryError:
        raise Invalid(f"Reading {title} took too much memory or time.", unpack.AGAIN) from None


def _look(path: Path, title: str) -> Looked:
    return _looked(unpack.read(path, title))


def _looked(found: unpack.Found) -> Looked:
    ids = [r.image_id for r in found.rows]
    here = [(d, len(originals.here(d.id, ids))) for d in store.list_datasets()]
    most_first = sorted((h for h in here if h[1]), key=lambda h: (-h[1], h[0].name != found.run.dataset_name, h[0].id))
    return Looked(found.run, len(ids), tuple(most_first))


@dataclass(frozen=True)
class Imported:
    run_id: str
    name: str
    dataset_name: str
    images: int  # that the run was trained and measured on
    here: int  # how many of them the dataset has


def import_now(path: Path, dataset_name: str | None = None, title: str = "", progress: Progress = silent) -> Imported:
    """Makes the run of a zip one of the dataset's, whole or not at all; without a name, of the dataset that has its images.

    A dataset of that name is made, with the run's classes, if there is none.
    """
    progress(0, 2, "Reading the zip")
    found = unpack.read(path, title or path.name)
    looked = _looked(found)
    _refuse_twin(found.run)
    name = _target_name(looked, dataset_name)
    imports.allow(name)
    with _full_disk_told(settings().runs), _scratch() as made:
        target = store.find_dataset(name)
        run = replace(found.run, id=_free_id(found.run.id), dataset_name=name, dataset_id=target.id if target else 0)
        if target is not None:
            run = replace(run, name=_free_name(run.name, target.id))
            found = _with_copies(found, target.id)
        _write(made / "run", run, found)
        with unpack.RunZip(path, found.title) as archive, open(made / "model.safetensors", "wb") as out:
            for block in archive.blocks("model.safetensors", unpack.MAX_WEIGHTS):
                out.write(block)
        args = (str(made / "run"), str(made / "model.safetensors"), found.preprocess, _best_epoch(found.events))
        try:
            _followed(launch.submit(remote.archive.restore, *args), progress, (1, 2, "Reading the weights"))
        except Invalid as e:
            raise Invalid(f"{found.title} is not imported: {e.message}", e.hint) from None
        if target is None:
            target = store.create_dataset(name)
            classes.ensure(target.id, run.classes)
            runs.write_json(made / "run" / "config.json", asdict(replace(run, dataset_id=target.id)))
        settings().runs.mkdir(exist_ok=True)
        try:
            with audit.beside("run.import", on={"run": run.id, "dataset": target.id}, after={"name": run.name}):
                os.rename(made / "run", settings().runs / run.id)
            with suppress(Unavailable):  # the server does it later
                stored.copy(settings().runs / run.id)
        except OSError as e:
            if e.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            raise Conflict(f"The run {run.name} is here already.", "It was imported a moment ago.") from None
    return Imported(run.id, run.name, name, len(found.rows), {d.id: n for d, n in looked.here}.get(target.id, 0))


def _with_copies(found: unpack.Found, dataset_id: int) -> unpack.Found:
    """The zip with the dataset's own copies in place of originals that it has not."""
    here = originals.here(dataset_id, [r.image_id for r in found.rows])
    instead = {i: store.get_image(dataset_id, copy) for i, copy in here.items() if copy != i}
    if not instead or {i.id for i in instead.values()} & {r.image_id for r in found.rows}:
        return found
    rows = (r._replace(image_id=i.id, path=i.path) if (i := instead.get(r.image_id)) else r for r in found.rows)
    told = found.predictions
    if told is not None:
        told = tuple(replace(p, image_id=i.id) if (i := instead.get(p.image_id)) else p for p in told)
    return replace(found, rows=tuple(rows), predictions=told)


def _target_name(looked: Looked, given: str | None) -> str:
    if given:
        return checked_name(given, "dataset")
    if looked.match is None:
        run, n = looked.run, looked.here[0][1] if looked.here else 0
        raise Invalid(
            f"No dataset here holds the pictures of {run.name}: {n:,} of {looked.images:,} were found.",
            f"Name the dataset that the run should belong to; it was “{run.dataset_name}”.",
        )
    return looked.match.name


def _runs_here() -> Iterator[Run]:
    for path in settings().runs.glob("*/config.json"):
        try:
            yield runs.load(path.parent)
        except (Invalid, NotFound):
            continue  # damaged, or deleted a moment ago


def _refuse_twin(run: Run) -> None:
    for other in _runs_here():
        if (other.created_at, other.snapshot_id, other.config) == (run.created_at, run.snapshot_id, run.config):
            raise Conflict(
                f"This run is here already: {other.name}, of the dataset “{other.dataset_name}”.", "Delete it first to import it again."
            )


def _free_id(run_id: str) -> str:
    """The run's own id, or another of the same second if this machine has used it, be it for a run that is in the bin."""
    while (settings().runs / run_id).exists() or (settings().home / "bin" / run_id).exists():
        run_id = f"{run_id[:-4]}{secrets.token_hex(2)}"
    return run_id


def _free_name(name: str, dataset_id: int) -> str:
    taken = any(one.dataset_id == dataset_id and one.name == name for one in _runs_here())
    return f"{name} (imported)" if taken else name


def _write(folder: Path, run: Run, found: unpack.Found) -> None:
    """The files of the run, but for its weights."""
    runs.create(folder, run, Snapshot(run.snapshot_id, run.classes, found.rows))
    runs.append_all(folder, found.events)
    last = found.events[-1] if found.events else None
    if not isinstance(last, Ended) or last.outcome == "paused":
        message = "It had not ended when it was exported. Its best weights are here, what is needed to go on is not."
        runs.append(folder, Ended("stopped", _best_epoch(found.events), message, last.seconds if isinstance(last, Ended) else 0, now()))
    if found.notes is not None:
        runs.write_json(runs.notes_path(folder), found.notes)
    if found.predictions is not None:
        runs.write_predictions(folder, run.classes, list(found.predictions))


def _best_epoch(history: tuple[Event, ...]) -> int | None:
    ended = next((e for e in reversed(history) if isinstance(e, Ended)), None)
    epoch = next((e for e in reversed(history) if isinstance(e, EpochEnd)), None)
    return ended.best_epoch if ended and ended.best_epoch else epoch.best_epoch if epoch else None


def images_here(run_id: str) -> tuple[int, int]:
    """How many of the run's images its dataset has today, and how many there were."""
    path = runs.folder(run_id)
    dataset_id = runs.load(path).dataset_id
    return _images_here(path, dataset_id, sum(n for *_, n in store.counts(dataset_id)))


@lru_cache(maxsize=64)
def _images_here(path: Path, dataset_id: int, _size: int) -> tuple[int, int]:
    ids = [r.image_id for r in runs.snapshot_rows(path)]
    return len(store.known_images(dataset_id, ids)), len(ids)


# In the background: a folder and a command line --------------------------------------------------------


@runs.needs("export")
def start_export(run_id: str, by: str) -> str:
    """Starts an export that outlives the page and the server; its zip is kept for a day."""
    name = re.sub(r"[^0-9A-Za-z]+", "-", runs.load(_exportable(run_id)).name).strip("-") or "run"
    return _start(EXPORT, {"run_id": run_id, "file": f"{name}-{run_id}.zip", "by": by})


def start_import(path: Path, title: str, dataset_name: str, by: str) -> str:
    """Starts the import of a zip that was uploaded."""
    imports.allow(dataset_name)
    space.need("The import")
    if not path.resolve().is_relative_to(settings().uploads.resolve()):
        raise Invalid(f"{title} was not uploaded.", "Upload it first.")
    return _start(IMPORT, {"zip": str(path), "file": title, "dataset_name": checked_name(dataset_name, "dataset"), "by": by})


def _start(kind: jobs.Kind, job: jobs.Line) -> str:
    jobs.remove_old(settings().archives, KEEP)
    return jobs.start(settings().archives, kind, job)


def _export(folder: Path, job: jobs.Line, progress: Progress) -> jobs.Line:
    done = export_now(job["run_id"], _zip(folder), progress)
    storage.keep([_zip(folder)])
    return {"exported": asdict(done)}


def _import(_folder: Path, job: jobs.Line, progress: Progress) -> jobs.Line:
    done = import_now(Path(job["zip"]), job["dataset_name"], job["file"], progress)
    uploads.remove([job["zip"]])
    return {"imported": asdict(done)}


EXPORT = jobs.Kind("export-run", "export", "Nothing was kept. Start it again.", _export)
IMPORT = jobs.Kind("import-run", "import", "Nothing was kept. Start it again.", _import)


def _zip(folder: Path) -> Path:
    return folder / "run.zip"


def _folder(job_id: str) -> Path:
    folder = jobs.find(settings().archives, job_id, "export or import")
    job = runs.read_json(folder / "job.json")
    if "run_id" in job:
        runs.allow("export", job["run_id"])
    else:
        imports.allow(job["dataset_name"])
    return folder


def state(job_id: str) -> jobs.State:
    folder = _folder(job_id)
    return jobs.state(folder, IMPORT if "zip" in runs.read_json(folder / "job.json") else EXPORT)


def exported(state: jobs.State) -> Exported | None:
    """What a finished export has written."""
    return Exported(**state.end["exported"]) if "exported" in state.end else None


def imported(state: jobs.State) -> Imported | None:
    """What a finished import has brought."""
    return Imported(**state.end["imported"]) if "imported" in state.end else None


def address(state: jobs.State) -> str:
    """Of the zip, to be signed."""
    return f"/archive/{state.id}/run.zip"


def stop(job_id: str) -> None:
    """Asks the export or import to end; nothing of it is kept."""
    runs.request_stop(_folder(job_id))


def latest_export(run_id: str) -> jobs.State | None:
    """The run's newest export that goes on, was killed, or whose zip is still here."""
    runs.allow("export", run_id)
    for folder in jobs.recent(settings().archives, KEEP):
        if runs.read_json(folder / "job.json").get("run_id") != run_id:
            continue
        found = state(folder.name)
        if found.job.get("run_id") == run_id and found.status in ("running", "lost", "done"):
            return found
    return None


def download(job_id: str, name: str) -> tuple[Path, str]:
    """The finished zip, and what it is called for people."""
    found, path = state(job_id), storage.local(_zip(_folder(job_id)), storage.PATIENT)
    if exported(found) is None or name != path.name or not path.exists():
        raise NotFound("This export is not there.", "Export the run again on the Train page.")
    return path, found.job["file"]
