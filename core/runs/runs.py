"""The only module that knows the files of a run folder (and of an import folder, which has the same event file).

config.json dataset.csv events.jsonl handle.json stop pause worker.log last.pt best.pt hashes.json predictions.csv predictions-*.npy
notes.json looks.jsonl maps/ patterns/ reports/
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from core import processes, roles, storage
from core.errors import AppError, Invalid, NotFound
from core.settings import settings
from core.types import (
    SPLITS,
    Answers,
    Dataset,
    Ended,
    EpochEnd,
    Event,
    Opening,
    Preparing,
    Queued,
    Resumed,
    Run,
    RunConfig,
    RunStatus,
    Snapshot,
    SnapshotRow,
    Started,
    Step,
    now,
)

log = logging.getLogger("loupe")
ACTIVE = ("pending", "queued", "running")  # statuses of a run that has not ended
END_BYTES = 64 * 1024  # the last line of a crash holds its traceback, and file systems count in blocks
MOST_NOTE, MOST_TAGS, MOST_TAG = 2000, 12, 40  # characters, tags, characters of a tag
ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{4}")  # of a run
KINDS = {cls.__name__: cls for cls in (Queued, Preparing, Started, Resumed, Step, EpochEnd, Answers, Ended)}


# Files --------------------------------------------------------------------------------------------


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Calls write(temporary path), then fsync and rename: a crash leaves the old file or the new one, whole."""
    tmp = processes.temporary(path)
    try:
        write(tmp)
        with open(tmp, "rb+") as f:
            os.fsync(f.fileno())
        os.replace(tmp, path)
    except OSError as e:
        if e.errno is None or e.filename not in (None, str(tmp)):
            raise
        raise OSError(e.errno, e.strerror, str(path)) from e  # a write knows no name
    finally:
        tmp.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself
    finally:
        os.close(folder)


def keep_room(folder: Path) -> Path:
    """A file that keeps a little of the disk: taken away before the last line is written, it leaves room for that on a full one."""
    kept = processes.temporary(folder / "end")
    with contextlib.suppress(OSError):  # no room even for this
        kept.write_bytes(os.urandom(END_BYTES))  # some file systems keep nothing for zeros
    return kept


@contextlib.contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """A temporary folder beside the path; what is still there at the end is removed."""
    tmp = processes.temporary(path)
    tmp.mkdir(parents=True)
    try:
        yield tmp
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, lambda tmp: tmp.write_text(json.dumps(value, indent=1), encoding="utf-8"))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# Hashes -------------------------------------------------------------------------------------------


def sha256(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def hashes_path(folder: Path) -> Path:
    return folder / "hashes.json"


def write_hashed(path: Path, write: Callable[[Path], object]) -> None:
    """write_atomically, with the file's SHA-256 in hashes.json beside it, next to that of the file that it replaces: one of both is there."""

    def both(tmp: Path) -> None:
        write(tmp)
        known = read_hashes(path.parent)
        write_json(hashes_path(path.parent), {**known, path.name: [*known.get(path.name, [])[-1:], sha256(tmp)]})

    write_atomically(path, both)


def read_hashes(folder: Path) -> dict[str, list[str]]:
    """By name of the file; {} for a run of a Loupe that wrote none."""
    try:
        return dict(read_json(hashes_path(folder)))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError):
        raise AppError(
            f"The file hashes.json of the run {folder.name} is damaged.", "Restore the run from a backup, or train it again."
        ) from None


def check_hash(path: Path) -> None:
    """AppError for a file that is not as it was written: changed, or damaged by its disk."""
    known = read_hashes(path.parent).get(path.name)
    if known and sha256(path) not in known:
        raise AppError(
            f"The file {path.name} of the run {path.parent.name} is not as Loupe wrote it: its SHA-256 is another one.",
            "It was changed, or its disk is failing. Restore the run from a backup, or train it again.",
        )


# Events -------------------------------------------------------------------------------------------


def append_line(folder: Path, line: dict[str, Any], name: str = "events.jsonl") -> None:
    """One event is one write of one line on an O_APPEND file: readers never see half of it for long, and nothing stays of one that fails.

    After a line that a crash cut off it begins a new one.
    """
    data = json.dumps(line, ensure_ascii=False).encode() + b"\n"
    fd = os.open(folder / name, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # until it is closed: what another appends meanwhile must not be cut off below
        end = os.fstat(fd).st_size
        if end and os.pread(fd, 1, end - 1) != b"\n":
            data = b"\n" + data
        try:
            while data:
                data = data[os.write(fd, data) :]  # a disk that fills up takes a part, and refuses the rest
        except OSError as e:
            os.ftruncate(fd, end)
            raise OSError(e.errno, e.strerror, str(folder / name)) from None
    finally:
        os.close(fd)


def append(folder: Path, event: Event) -> None:
    append_line(folder, {"kind": type(event).__name__, **asdict(event)})


def append_all(folder: Path, events: Sequence[Event]) -> None:
    """The same for many, of a run that nobody reads yet."""
    lines = [json.dumps({"kind": type(one).__name__, **vars(one)}, ensure_ascii=False) + "\n" for one in events]
    with open(os.open(folder / "events.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8") as f:
        f.writelines(lines)


def read_lines(folder: Path, after: int = 0, most: int = -1, skip: str = "") -> tuple[list[dict[str, Any]], int]:
    """The complete lines after a byte offset, and the offset to ask for next; it stops with the line that fills `most` bytes.

    skip: a kind of event that is left out, unread. Lines that a crash or a full disk tore are passed over, and the log says so.
    """
    try:
        with open(folder / "events.jsonl", "rb") as f:
            f.seek(max(0, after - 1))
            if after and f.read(1) not in (b"\n", b""):
                raise Invalid("This is not the start of an event.", "Ask from offset 0.")
            data = f.read(most) + f.readline()
    except FileNotFoundError:
        return [], after
    end = data.rfind(b"\n") + 1
    unread = f'{{"kind": "{skip}"'.encode()
    found = [_line(one) for one in data[:end].split(b"\n")[:-1] if not (skip and one.startswith(unread))]
    whole = [one for one in found if one is not None]
    if len(whole) < len(found):
        _say_torn(folder)
    return whole, after + end


def _line(data: bytes) -> dict[str, Any] | None:
    """None of a line that is torn; of one that a whole event was written onto, as Loupe did once, that event."""
    for start in (0, data.rfind(b'{"kind": ', 1)):
        with contextlib.suppress(ValueError, RecursionError):  # no JSON, or the middle of a letter
            if start >= 0 and isinstance(found := json.loads(data[start:]), dict):
                return found
    return None


@lru_cache(maxsize=512)
def _say_torn(folder: Path) -> None:
    log.warning("%s holds damaged lines, which are passed over; python -m core check names them.", folder / "events.jsonl")


def torn_lines(folder: Path) -> list[int]:
    """The numbers, from 1, of lines of a run's events that are no whole event; the last one may be only half written yet."""
    with open(folder / "events.jsonl", "rb") as f:
        return [n for n, line in enumerate(f, 1) if line.endswith(b"\n") and not _is_event(line)]


def drop_torn_lines(folder: Path) -> None:
    """Writes the events anew without them; of a run that no process works at."""
    whole = read_lines(folder)[0]

    def write(tmp: Path) -> None:
        tmp.write_bytes(
            b"".join(json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in whole if _is_event(json.dumps(one).encode()))
        )

    write_atomically(folder / "events.jsonl", write)


def _is_event(line: bytes) -> bool:
    try:
        return event(json.loads(line)) is not None
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def events(folder: Path, skip: str = "") -> list[Event]:
    """What happened, but for events of the kind skip; of a run that was resumed, without the steps that its checkpoint did not hold."""
    found: list[Event] = []
    for one in as_events(read_lines(folder, skip=skip)[0]):
        if isinstance(one, Resumed):
            found = [e for e in found if not isinstance(e, Step | EpochEnd | Answers) or lasted(e, one)]
        found.append(one)
    return found


def as_events(lines: Iterable[dict[str, Any]]) -> Iterator[Event]:
    """Passes over what is JSON and no event."""
    for line in lines:
        with contextlib.suppress(KeyError, TypeError):
            yield event(line)


def event(line: dict[str, Any]) -> Event:
    values = dict(line)
    found: Event = KINDS[values.pop("kind")](**values)
    return found


def lasted(one: Step | EpochEnd | Answers, resumed: Resumed) -> bool:
    return one.epoch <= resumed.epoch or (isinstance(one, Step) and one.step <= resumed.step)


def status(history: list[Event], alive: bool) -> RunStatus:
    """A fold over what happened; nothing stores a status, so nothing can disagree with it."""
    if history and isinstance(history[-1], Ended):
        return history[-1].outcome
    if not alive:
        return "lost"
    if not history:
        return "pending"
    return "queued" if isinstance(history[-1], Queued) else "running"


def works_at(folder: Path, job: str) -> bool:
    """Whether the run is given to this job of a cluster, or with "" to a machine; True, too, where its folder cannot be read just now."""
    try:
        handle = read_json(folder / processes.HANDLE)
    except (OSError, ValueError):  # a shared folder that is away for a moment ends nobody's work
        return True
    return bool(handle.get("job", "") == job and not handle.get("ended"))


def request_stop(folder: Path) -> None:
    (folder / "stop").touch()


def stop_requested(folder: Path) -> bool:
    return (folder / "stop").exists()


def request_pause(folder: Path) -> None:
    (folder / "pause").touch()


def pause_requested(folder: Path) -> bool:
    return (folder / "pause").exists()


def clear_requests(folder: Path) -> None:
    for name in ("stop", "pause"):
        (folder / name).unlink(missing_ok=True)


def log_tail(folder: Path, lines: int = 20) -> str:
    try:
        with open(folder / "worker.log", "rb") as f:
            f.seek(0, os.SEEK_END)
            f.seek(max(0, f.tell() - 20_000))
            return "\n".join(f.read().decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


# The run ------------------------------------------------------------------------------------------

MAX_ID = 100  # bytes: no run has a longer one, and a file system refuses it with an error of its own


def folder(run_id: str) -> Path:
    """The run's folder; NotFound for anything that is not the plain id of a run, and for a run of a dataset that who acts may not see."""
    path = settings().runs / run_id
    if len(run_id.encode(errors="replace")) > MAX_ID or run_id in ("", "..") or path.parent != settings().runs or not path.is_dir():
        raise _no_run(run_id)
    person = roles.current()
    if (person.datasets or not person.may("see")) and not person.may("see", load(path).dataset_id):
        raise _no_run(run_id)
    return path


def _no_run(run_id: str) -> NotFound:
    return NotFound(f"There is no run “{run_id[:MAX_ID]}”.", "It may have been deleted. Choose another run.")


def allow(verb: str, run_id: str) -> roles.Person:
    """Who acts, if that person may do it with this run; NotFound and Forbidden say why not."""
    path = folder(run_id)
    person = roles.current(fresh=True)
    return person if person.may(verb) and not person.datasets else roles.allow(verb, load(path).dataset_id)


P = ParamSpec("P")
R = TypeVar("R")


def needs(verb: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """For a function whose first argument is a run's id: only who may do this in its dataset gets further."""
    return roles.checked(verb, allow)


def trained(run_id: str) -> Path:
    """The folder of a run that has weights to answer with."""
    path = folder(run_id)
    if not storage.known(checkpoint(path)):
        raise NotFound(f"The run {load(path).name} has no trained weights yet.", "Wait until it has ended, or choose another run.")
    return path


def new(name: str, dataset: Dataset, config: RunConfig, snapshot: Snapshot, by: str, code_version: str = "", preset: str = "") -> Run:
    """A run of these images that begins now, nothing of it written yet."""
    counts = Counter(row.split for row in snapshot.rows)
    return Run(
        id=f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        name=name,
        dataset_id=dataset.id,
        dataset_name=dataset.name,
        config=config,
        classes=snapshot.classes,
        snapshot_id=snapshot.id,
        counts={split: counts[split] for split in SPLITS},
        created_at=now(),
        by=by,
        code_version=code_version,
        preset=preset,
    )


def create(folder: Path, run: Run, snapshot: Snapshot) -> None:
    folder.mkdir(parents=True)

    def write_rows(tmp: Path) -> None:
        with open(tmp, "w", newline="", encoding="utf-8") as f:
            out = csv.writer(f)
            out.writerow(SnapshotRow._fields)
            out.writerows(snapshot.rows)

    write_atomically(folder / "dataset.csv", write_rows)
    write_json(folder / "config.json", asdict(run))


def load(folder: Path) -> Run:
    try:
        values = read_json(folder / "config.json")
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"There is no run “{folder.name}”.", "It may have been deleted. Choose another run.") from None
    except ValueError:
        raise _damaged(folder) from None
    try:
        values["config"] = RunConfig.read(values["config"])
        values["classes"] = tuple(values["classes"])
        return Run(**values)
    except (KeyError, TypeError):
        raise _damaged(folder) from None


def _damaged(folder: Path) -> Invalid:
    return Invalid(f"The run {folder.name} cannot be read: its config.json is damaged.", "Restore the file, or remove the folder.")


def snapshot_rows(folder: Path) -> list[SnapshotRow]:
    with open(folder / "dataset.csv", newline="", encoding="utf-8") as f:
        rows = csv.reader(f)
        named = next(rows, [])
        image_id, path, label, split = (named.index(name) for name in SnapshotRow._fields)
        words: dict[str, str] = {}  # a million images name few classes: each is kept once

        def word(one: str) -> Any:
            return words.setdefault(one, one)

        return [SnapshotRow(row[image_id], row[path], word(row[label]), word(row[split])) for row in rows if row]


def checkpoint(folder: Path) -> Path:
    return folder / "best.pt"


def weights(folder: Path) -> Path:
    """The checkpoint to answer with, fetched where only storage has it; there may be none."""
    return storage.local(checkpoint(folder), storage.PATIENT)


def last_checkpoint(folder: Path) -> Path:
    """All that a run needs to go on: weights, optimiser, schedule, random numbers."""
    return folder / "last.pt"


def sample_ids(rows: Sequence[SnapshotRow], count: int = 12) -> list[str]:
    """The few validation images whose answers are shown after every epoch: of each class in turn."""
    by_class: dict[str, list[str]] = {}
    for row in sorted((r for r in rows if r.split == "validation"), key=lambda r: r.image_id):
        by_class.setdefault(row.label, []).append(row.image_id)
    turns = zip_longest(*(by_class[label] for label in sorted(by_class)))
    return [one for turn in turns for one in turn if one is not None][:count]


def notes_path(folder: Path) -> Path:
    return folder / "notes.json"


def notes_too_long(note: str, tags: Sequence[str]) -> bool:
    return len(note) > MOST_NOTE or len(tags) > MOST_TAGS or any(len(tag) > MOST_TAG for tag in tags)


def read_notes(folder: Path) -> dict[str, Any]:
    """The run's note and tags, which people may change at any time."""
    try:
        return {"note": "", "tags": [], **read_json(notes_path(folder))}
    except (FileNotFoundError, ValueError):
        return {"note": "", "tags": []}


# Looks at test images -------------------------------------------------------------------------------


def append_opening(folder: Path, opening: Opening) -> None:
    append_line(folder, asdict(opening), "looks.jsonl")


def read_openings(folder: Path) -> list[Opening]:
    """Oldest first; of a line that a crash cut off, only that there was one is known."""
    try:
        lines = (folder / "looks.jsonl").read_bytes().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(Opening(**json.loads(line)))
        except (ValueError, TypeError):
            found.append(Opening("", ""))
    return found


# Predictions --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PredictionRow:
    image_id: str
    split: str
    true: str
    predicted: str
    confidence: float
    probabilities: tuple[float, ...]


FIXED = ["image_id", "split", "true", "predicted", "confidence"]
PART = 2000  # rows read or written at once


@dataclass(frozen=True, eq=False)
class Predictions:
    """A predictions.csv, column by column; not to be written to."""

    image_id: np.ndarray  # (N,) str
    split: np.ndarray  # (N,) str
    true: np.ndarray  # (N,) str
    predicted: np.ndarray  # (N,) str
    confidence: np.ndarray  # (N,) float64
    probabilities: np.ndarray  # (N, classes) float64


def write_predictions(folder: Path, classes: tuple[str, ...], rows: Iterable[PredictionRow]) -> None:
    """Writes predictions.csv, and the same numbers beside it as they need no reading."""
    parts, coming = [_no_rows(len(classes))], iter(rows)

    def write(tmp: Path) -> None:
        with open(tmp, "w", newline="", encoding="utf-8") as f:
            out = csv.writer(f)
            out.writerow(FIXED + list(classes))
            while some := list(islice(coming, PART)):
                words = [[r.image_id, r.split, r.true, r.predicted] for r in some]
                numbers = [[f"{p:.9g}" for p in (r.confidence, *r.probabilities)] for r in some]
                out.writerows(w + n for w, n in zip(words, numbers, strict=True))
                parts.append((np.array(words, object), np.array(numbers, object).astype(np.float64)))

    write_atomically(folder / "predictions.csv", write)
    _keep(folder, parts)


def predictions_path(folder: Path) -> Path:
    return folder / "predictions.csv"


def predictions(folder: Path) -> Predictions:
    """All rows, in the order of predictions.csv; FileNotFoundError where there is none. What is no number there is NaN.

    Where write_predictions has written them they come mapped from its file of numbers, however many they are.
    That is made here where it is missing, damaged or of another predictions.csv: 12 s for 100,000 rows of 1,000 classes.
    """
    with contextlib.suppress(OSError, ValueError, EOFError, KeyError):
        return _columns(np.load(_numbers_path(folder), mmap_mode="r").view(np.ndarray))
    parts = _parsed(predictions_path(folder))
    _keep(folder, parts)
    return _columns(np.concatenate(list(_records(parts))))


def _columns(table: np.ndarray) -> Predictions:
    table.flags.writeable = False
    return Predictions(*(table[name] for name in (*FIXED, "probabilities")))


Part = tuple[np.ndarray, np.ndarray]  # (rows, 4) words, (rows, 1 + classes) numbers


def _no_rows(classes: int) -> Part:
    return np.empty((0, 4), object), np.empty((0, 1 + classes))


def _parsed(path: Path) -> list[Part]:
    import pandas as pd  # half a second that training does not need

    with open(path, newline="", encoding="utf-8") as f:
        numbers = list(range(len(next(csv.reader(f))) - 4))  # a class may be called "true" or "split"
    how: dict[str, Any] = {"header": 0, "names": [*FIXED[:4], *numbers], "dtype": dict.fromkeys(FIXED[:4], str), "keep_default_na": False}
    found = [_no_rows(len(numbers) - 1)]
    for part in pd.read_csv(path, chunksize=PART, **how):
        for name in part.columns[4:][part.dtypes.iloc[4:].map(lambda kind: kind.kind not in "fi")]:  # it holds a "nan"
            part[name] = pd.to_numeric(part[name], errors="coerce")
        found.append((part[FIXED[:4]].fillna("").to_numpy(object), part[numbers].to_numpy(np.float64)))
    return found


def _records(parts: list[Part]) -> Iterator[np.ndarray]:
    """The parts with a field for each column, words as wide as the widest."""
    kinds: list[Any] = []
    for i, name in enumerate(FIXED[:4]):
        kinds.append((name, f"U{max((len(word) for words, _ in parts for word in words[:, i]), default=1) or 1}"))
    kinds += [("confidence", np.float64), ("probabilities", np.float64, (parts[0][1].shape[1] - 1,))]
    for words, numbers in parts:
        record = np.empty(len(words), np.dtype(kinds, align=True))
        for i, name in enumerate(FIXED[:4]):
            record[name] = words[:, i]
        record["confidence"], record["probabilities"] = numbers[:, 0], numbers[:, 1:]
        yield record


def _numbers_path(folder: Path) -> Path:
    """Of the predictions.csv that is there now; another has another."""
    stat = predictions_path(folder).stat()
    return folder / f"predictions-{stat.st_mtime_ns:x}-{stat.st_size:x}.npy"


def _keep(folder: Path, parts: list[Part]) -> None:
    """Writes the file of numbers; without space or leave, it is done without."""
    path = _numbers_path(folder)

    def write(tmp: Path) -> None:
        with open(tmp, "wb") as f:  # not by a map: on a full disk that would end the process
            for i, record in enumerate(_records(parts)):
                if i == 0:
                    shape = (sum(len(words) for words, _ in parts),)
                    kind = {"descr": np.lib.format.dtype_to_descr(record.dtype), "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_2_0(f, kind)
                record.tofile(f)

    with contextlib.suppress(OSError):
        write_atomically(path, write)
        for other in folder.glob("predictions-*.npy"):
            if other != path:
                other.unlink(missing_ok=True)


def read_predictions(folder: Path) -> Iterator[PredictionRow]:
    """The same row by row; none where the run has ended before its first epoch."""
    if predictions_path(folder).exists():
        found = predictions(folder)
        columns = [getattr(found, name).tolist() for name in FIXED]
        for image_id, split, true, predicted, confidence, probabilities in zip(*columns, found.probabilities, strict=True):
            yield PredictionRow(image_id, split, true, predicted, confidence, tuple(probabilities.tolist()))


# Maps: attributions, kept until they are many ---------------------------------------------------------

MOST_MAPS = 200_000_000  # bytes of a run's maps; beyond, those unused for longest go


def maps_folder(folder: Path) -> Path:
    """Where maps of the run's present weights lie, beside what is known of the network; other weights have another folder."""
    size, mtime_ns = storage.size_and_time(checkpoint(folder))
    return folder / "maps" / f"{mtime_ns:x}-{size:x}"


def patterns_folder(folder: Path) -> Path:
    """Where looks at many images lie, a folder for each."""
    return folder / "patterns"


def reports_folder(folder: Path) -> Path:
    """Where the run's report lies, with the job that made it."""
    return folder / "reports"


def write_map(path: Path, values: dict[str, Any]) -> None:
    """Arrays and plain values of one map; where there are too many maps, the oldest of the run go."""
    facts = json.dumps({key: value for key, value in values.items() if not isinstance(value, np.ndarray)})
    arrays: dict[str, Any] = {key: value for key, value in values.items() if isinstance(value, np.ndarray)}

    def write(tmp: Path) -> None:
        with open(tmp, "wb") as f:
            np.savez_compressed(f, facts=np.array(facts), **arrays)

    write_atomically(path, write)
    stored = []
    for one in path.parent.parent.glob(f"*/{'[0-9a-f]' * 32}.npz"):  # of maps alone: what else lies there takes minutes to make again
        with contextlib.suppress(FileNotFoundError):  # another process may take away the same
            stored.append((one.stat(), one))
    kept = 0
    for stat, one in sorted(stored, key=lambda pair: -pair[0].st_mtime):
        kept += stat.st_size
        if kept > MOST_MAPS:
            one.unlink(missing_ok=True)


def read_map(path: Path) -> dict[str, Any]:
    """What write_map was given; FileNotFoundError where it is gone, Invalid where it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            values = {key: stored[key] for key in stored.files}
        os.utime(path)  # it was of use
        return {**values, **json.loads(str(values.pop("facts")))}
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as e:
        if isinstance(e, FileNotFoundError):
            raise
        path.unlink(missing_ok=True)
        raise Invalid("A stored map was damaged, and is removed.", "Ask for it again.") from None
