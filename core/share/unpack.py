"""Reads the zip of a run and trusts nothing in it: every value is checked before anything is made of it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import types
import typing
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from core.catalog import params
from core.data import images, trees, unpacker
from core.data.formats import spreadsheet
from core.data.tables import clean
from core.errors import Invalid
from core.names import name_problem
from core.runs import runs
from core.share import card
from core.types import SPLITS, Ended, Event, Preprocess, Run, SnapshotRow

MAX_TEXT = 200_000_000  # bytes of one table
MAX_JSON = 5_000_000  # bytes of a file that is not one row for each image: as Python's values it takes thirty times as much
MAX_WEIGHTS = 8_000_000_000  # bytes
NEEDED = ("config.json", "dataset.csv", "events.jsonl", "labels.txt", "model.safetensors", "preprocessing.json")
AGAIN = "Export the run again where it was trained, or copy the file again."
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Found:
    """What a zip says of its run; nothing in it has been run or written."""

    title: str
    run: Run
    rows: tuple[SnapshotRow, ...]
    events: tuple[Event, ...]
    predictions: tuple[runs.PredictionRow, ...] | None
    preprocess: Preprocess
    notes: dict[str, Any] | None  # note and tags


def read(path: Path, title: str) -> Found:
    """All of a zip but the weights; Invalid names the file in it that is missing or wrong."""
    with RunZip(path, title) as archive:
        run, rows = _run(archive), _rows(archive)
        if run.classes != tuple(archive.text("labels.txt").removesuffix("\n").split("\n")):
            raise archive.wrong("labels.txt", "it does not name the classes of config.json")
        counts = Counter(r.split for r in rows)
        if any(counts[s] != run.counts.get(s, 0) for s in SPLITS) or not {r.label for r in rows} <= set(run.classes):
            raise archive.wrong("dataset.csv", "it does not hold the pictures that config.json counts")
        predictions = _predictions(archive, run, {r.image_id for r in rows}) if "predictions.csv" in archive.files else None
        notes = _notes(archive) if "notes.json" in archive.files else None
        return Found(archive.title, run, rows, _events(archive), predictions, _preprocess(archive), notes)


class RunZip:
    """The files of a run's zip by name, also where all lie in one folder; Invalid for whatever is wrong with it."""

    def __init__(self, path: Path, title: str) -> None:
        self.title = title
        try:
            tree = trees.zip_tree(path, title)
        except Invalid as e:
            raise Invalid(e.message, AGAIN) from None
        bases = sorted((f.name.removesuffix("config.json") for f in tree.files if re.fullmatch("([^/]+/)?config.json", f.name)), key=len)
        base = bases[0] if bases else ""
        inside = [(f.name.removeprefix(base), f) for f in tree.files if f.name.startswith(base)]
        self.files = dict(inside)
        if missing := [name for name in NEEDED if name not in self.files]:
            raise Invalid(
                f"{title} is no run that Loupe exported: {_listed(missing)} {'is' if len(missing) == 1 else 'are'} missing.",
                "Choose a zip made with Export on the Train page. Images are imported on the Dataset page.",
            )
        if twice := sorted(name for name, n in Counter(name for name, _ in inside).items() if n > 1 and name in card.FILES):
            raise Invalid(f"{title} holds {_listed(twice)} twice.", AGAIN)
        self.archive = zipfile.ZipFile(path)
        self.unpacker = unpacker.Unpacker(self.archive, title)
        self.sums: dict[str, str] | None = None  # of an export of before there were sums
        if card.SUMS in self.files:
            lines = [re.fullmatch("([0-9a-f]{64})  ([^/]+)", line) for line in self.text(card.SUMS).removesuffix("\n").split("\n")]
            if not all(lines):
                raise self.wrong(card.SUMS, "it is not a list of SHA-256 and names")
            self.sums = {line[2]: line[1] for line in lines if line}

    def __enter__(self) -> RunZip:
        return self

    def __exit__(self, *_: object) -> None:
        self.archive.close()

    def wrong(self, name: str, why: str) -> Invalid:
        return Invalid(f"{name} in {self.title} cannot be used: {why}.", AGAIN)

    def blocks(self, name: str, limit: int) -> Iterator[bytes]:
        info, found = self.files[name].info, hashlib.sha256()
        assert info is not None
        try:
            for block in self.unpacker.blocks(info, limit):
                found.update(block)
                yield block
        except ValueError as e:
            raise self.wrong(name, str(e)) from None
        except Invalid as e:  # a bomb
            raise Invalid(e.message, AGAIN) from None
        if self.sums is not None and found.hexdigest() != self.sums.get(name):
            raise self.wrong(name, "it is not as it was exported: SHA256SUMS names another SHA-256, or none")

    def text(self, name: str) -> str:
        try:
            return b"".join(self.blocks(name, MAX_TEXT if name.endswith((".csv", ".jsonl")) else MAX_JSON)).decode("utf-8")
        except UnicodeDecodeError:
            raise self.wrong(name, "it is not UTF-8 text") from None

    def json(self, name: str) -> dict[str, Any]:
        value = self.parsed(name, self.text(name))
        if not isinstance(value, dict):
            raise self.wrong(name, "it is not a JSON object")
        return value

    def parsed(self, name: str, text: str) -> Any:
        try:
            return json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            raise self.wrong(name, "it is not JSON") from None

    def table(self, name: str) -> tuple[list[str], list[list[str]]]:
        """The header and the rows, all as long as the header."""
        try:
            header, *rows = csv.reader(io.StringIO(self.text(name), newline=""), strict=True)
            if self.sums is not None:  # words were written as they were before
                header, rows = [spreadsheet.uncell(one) for one in header], [[spreadsheet.uncell(one) for one in row] for row in rows]
        except (csv.Error, ValueError):
            raise self.wrong(name, "it is not a table") from None
        if short := next((i for i, row in enumerate(rows, 2) if len(row) != len(header)), None):
            raise self.wrong(name, f"row {short} has not as many columns as the header")
        return header, rows


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and the infinities, which no browser reads


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def fits(value: Any, hint: Any) -> bool:
    """Whether a value read from JSON is of the type that a field says."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in args
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in args)
    if origin in (tuple, list):
        return isinstance(value, list | tuple) and all(fits(one, args[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(isinstance(k, str) and fits(v, args[1]) for k, v in value.items())
    if hint is Any or is_dataclass(hint):
        return True
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool) and abs(value) < 1e300
    return isinstance(value, hint)


@lru_cache(maxsize=64)  # a zip may hold a hundred thousand events
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _made(kind: type[T], values: dict[str, Any]) -> T:
    """The dataclass from what JSON holds; ValueError names the field that is unknown, missing or of another type."""
    hints = _hints(typing.cast(type, kind))
    for name, value in values.items():
        if name not in hints:
            raise ValueError(f"“{clean(name)[:80]}” is unknown to this version of Loupe")
        if not fits(value, hints[name]):
            raise ValueError(f"its “{name}” is “{clean(str(value))[:80]}”")
    try:
        return kind(**{n: tuple(v) if typing.get_origin(hints[n]) is tuple else v for n, v in values.items()})
    except TypeError:
        missing = [f.name for f in fields(kind) if f.name not in values]  # type: ignore[arg-type]
        raise ValueError(f"{_listed(missing)} may be missing") from None


def _run(archive: RunZip) -> Run:
    """The run of config.json; every word in it can be shown, and its settings are among those that can be trained."""
    values = archive.json("config.json")
    try:
        config = values.pop("config", None)
        if not isinstance(config, dict):
            raise ValueError("it holds no settings")
        run = _made(Run, {**values, "config": None})
        run = replace(run, config=params.run_config({**config, "classes": list(config.get("classes", ()))}))
        datetime.fromisoformat(run.created_at)
    except Invalid as e:
        raise archive.wrong("config.json", e.message.rstrip(".")) from None
    except (ValueError, TypeError) as e:
        raise archive.wrong("config.json", str(e)) from None
    if not runs.ID.fullmatch(run.id):
        raise archive.wrong("config.json", f"“{clean(run.id)[:80]}” is not the id of a run")
    for name in run.classes:
        if problem := name_problem(name):
            raise archive.wrong("config.json", f"the class name “{clean(name)[:80]}” {problem}")
    if len(set(run.classes)) != len(run.classes) or len(run.classes) < 2:
        raise archive.wrong("config.json", "it does not name two classes or more, each once")
    for f in fields(run):
        value = getattr(run, f.name)
        if isinstance(value, str) and (len(value) > 4000 or clean(value) != value):
            raise archive.wrong("config.json", f"its “{f.name}” is too long or holds control characters")
    return run


def _rows(archive: RunZip) -> tuple[SnapshotRow, ...]:
    header, rows = archive.table("dataset.csv")
    if header[:4] != ["image_id", "path", "label", "split"]:
        raise archive.wrong("dataset.csv", "its columns are not image_id, path, label and split")
    found = tuple(SnapshotRow(*row[:4]) for row in rows)  # type: ignore[arg-type]
    for i, r in enumerate(found, 2):
        # The path is what it must be for this id: no row can point anywhere else.
        if not re.fullmatch("[0-9a-f]{16}", r.image_id) or not re.fullmatch(f"{r.image_id[:2]}/{r.image_id}[.][a-z]{{3,4}}", r.path):
            raise archive.wrong("dataset.csv", f"row {i} does not name a picture by its id")
        if r.split not in SPLITS:
            raise archive.wrong("dataset.csv", f"the split in row {i} is none of {_listed(list(SPLITS))}")
    if len({r.image_id for r in found}) != len(found):
        raise archive.wrong("dataset.csv", "it names a picture twice")
    return found


def _events(archive: RunZip) -> tuple[Event, ...]:
    found: list[Event] = []
    for i, line in enumerate(archive.text("events.jsonl").removesuffix("\n").split("\n"), 1):
        if not line:
            continue
        value = archive.parsed("events.jsonl", line)
        if not isinstance(value, dict) or (kind := runs.KINDS.get(str(value.pop("kind", "")))) is None:
            raise archive.wrong("events.jsonl", f"line {i} is no event that this version of Loupe knows")
        try:
            event = typing.cast(Event, _made(kind, value))
            if isinstance(event, Ended):
                event = replace(event, remedy=_remedy(event.remedy))
        except ValueError as e:
            raise archive.wrong("events.jsonl", f"line {i}: {e}") from None
        found.append(event)
    return tuple(found)


def _remedy(values: dict[str, Any]) -> dict[str, Any]:
    """Settings in their own types; ValueError where one is unknown or wrong, for a button names them and starts a run with them."""
    if not all(isinstance(v, int | float | str) for v in values.values()):
        raise ValueError("its “remedy” holds something that is no setting")
    try:
        config = params.run_config(values)
    except Invalid as e:
        raise ValueError(e.message.rstrip(".")) from None
    return {name: getattr(config, name) for name in values}


def _predictions(archive: RunZip, run: Run, ids: set[str]) -> tuple[runs.PredictionRow, ...]:
    header, rows = archive.table("predictions.csv")
    if header != [*runs.FIXED, *run.classes]:
        raise archive.wrong("predictions.csv", "its columns are not those of the run's classes")
    found = []
    for i, (image_id, split, true, predicted, *numbers) in enumerate(rows, 2):
        try:
            confidence, *probabilities = map(float, numbers)
            if not all(0 <= p <= 1.000001 for p in (confidence, *probabilities)):
                raise ValueError
        except ValueError:
            raise archive.wrong("predictions.csv", f"row {i} holds something that is no probability") from None
        if image_id not in ids or split not in SPLITS or not {true, predicted} <= set(run.classes):
            raise archive.wrong("predictions.csv", f"row {i} is not about a picture of dataset.csv and the run's classes")
        found.append(runs.PredictionRow(image_id, split, true, predicted, confidence, tuple(probabilities)))
    return tuple(found)


def _preprocess(archive: RunZip) -> Preprocess:
    values = archive.json("preprocessing.json")
    values.pop("shapes", None)  # they follow from the rest
    try:
        how = _made(Preprocess, values)
    except ValueError as e:
        raise archive.wrong("preprocessing.json", str(e)) from None
    if not images.possible(how):
        raise archive.wrong("preprocessing.json", "its numbers are not those of a picture")
    return how


def _notes(archive: RunZip) -> dict[str, Any]:
    values = archive.json("notes.json")
    note, tags = values.get("note", 0), values.get("tags", 0)
    if not fits(note, str) or not fits(tags, list[str]) or runs.notes_too_long(note, tags):
        raise archive.wrong("notes.json", "it does not hold a short note and short tags")
    return {"note": clean(note, "\n"), "tags": [clean(t) for t in tags]}
