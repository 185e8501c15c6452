"""JSONL: a JSON object a line, with everything that happened to the image's label and what models said of it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from core.data import tables
from core.data.tables import Count, Format, Row
from core.types import QUIET, Skipped


def write(rows: Sequence[Row], classes: Sequence[str]) -> dict[str, str]:
    return {f"{folder}metadata.jsonl": "".join(map(_line, inside)) for folder, inside in tables.by_folder(rows).items()}


def _line(row: Row) -> str:
    """One line, with all that happened to the label, oldest first."""
    events = [{"label": e.label, "source": e.source, "by": e.by, "at": e.at, "note": e.note, "previous": e.previous} for e in row.past]
    guesses = [{"model": model, "label": label, "score": score} for model, label, score in row.guesses]
    record = {"file_name": row.image, "label": row.label, "split": row.split, "flagged": row.flagged, "source": row.source}
    # As JSON within JSON: lists that are empty in one split and not in another are columns of two types to tools that load both.
    lists = {key: json.dumps(value, ensure_ascii=False) for key, value in (("history", events), ("predictions", guesses))}
    return json.dumps(record | lists, ensure_ascii=False) + "\n"


def read(name: str, text: str, files: Sequence[str], skipped: list[Skipped]) -> Iterator[Row]:
    broken, wrong = Count(), Count()
    now: dict[str, Any] = {}

    def records() -> Iterator[tuple[int, dict[str, Any]]]:
        nonlocal now
        for n, now in _records(name, text, skipped):  # noqa: UP028, as now is read below
            yield n, now

    for row in tables.from_columns(name, records()):
        if "history" not in now and "predictions" not in now:
            yield row
            continue
        try:
            past = tables.past(now.get("history"), row.label)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            past = ()
            broken.add(row.where)
        guesses = tables.guesses(now.get("predictions"), "model", lambda one: [tables.as_text(one.get("label"))], row.where, wrong)
        yield replace(row, note=_note(now), past=past, guesses=guesses)
    broken.tell(name, skipped, "the history does not hold together; kept what its last event says", "in {} lines")
    wrong.tell(name, skipped, tables.WRONG_GUESS, "{} predictions")


def _records(name: str, text: str, skipped: list[Skipped]) -> Iterator[tuple[int, dict[str, Any]]]:
    seen, again = set[int](), Count()  # hashes: a million lines would take as much again
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if not line.strip():
            continue
        if (key := hash(line)) in seen:
            again.add(f"line {number}")
            continue
        seen.add(key)
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            skipped.append(Skipped(f"{name}, line {number}", "it is not a JSON object"))
            continue
        record = {tables.column(k): v for k, v in record.items()}
        yield number, record | {key: _unpacked(record[key]) for key in ("history", "predictions") if key in record}
    again.tell(name, skipped, "they say what an earlier line says", "{} lines")


def _says(text: str) -> str:
    first = next(_records("", text[:100_000].lstrip().split("\n")[0], []), (0, {}))[1]
    columns = tables.taken_in_words(first)
    return f", {columns}" if columns else ""


def _unpacked(value: object) -> object:
    """A list as it is, or as JSON in a text."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value


def _note(record: dict[str, Any]) -> str:
    given = [e for e in tables.objects(record.get("history")) if e.get("source") not in QUIET]
    if not given or tables.as_text(given[-1].get("label")) != tables.as_text(record.get("label")):
        return ""
    what = "labelled" if tables.as_text(record.get("label")) else "left without a label"
    who, at, source, note = (tables.as_text(given[-1].get(key)) for key in ("by", "at", "source", "note"))
    return tables.labelled_by(who, at, source, note, what)


FORMAT = Format(
    title="JSONL",
    sentence="The images and a line for each, with everything that happened to its label: the fullest copy.",
    can=frozenset({"labels", "who", "history", "predictions"}),
    write=write,
    read=read,
    suffix=".jsonl",
    says=_says,
    split_folders=True,
)
