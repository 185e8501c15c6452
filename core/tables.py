"""Labels as text, read and written: CSV, JSONL and Label Studio's tasks; knows neither files nor images."""

from __future__ import annotations

import csv
import io
import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import quoteattr

from core.errors import Invalid
from core.images import EXTENSIONS
from core.types import LabelEvent, Skipped

FORMULA = re.compile(r"'*[=+\-@\t\r]")  # a spreadsheet takes such a cell for a formula
_UPLOADED = re.compile(r"[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file
LOCAL_FILES = "/data/local-files/?d="


@dataclass(frozen=True)
class Row:
    """What a table says about one image."""

    where: str  # for people: line 3, task 3
    image: str
    label: str | None = None
    split: str = ""
    source: str = ""  # the name the image came with, where it is not that of the file
    note: str = ""  # who gave the label, and when


def read(name: str, text: str, files: Sequence[str], skipped: list[Skipped]) -> list[Row]:
    """The rows of a .csv, .jsonl or .json table; Invalid if it is none. Files are the names beside the table."""
    if name.lower().endswith(".json"):
        return _label_studio(name, text, files, skipped)
    records = list(_json_lines(name, text, skipped) if name.lower().endswith(".jsonl") else _csv_lines(name, text))
    columns = {key for _, record in records for key in record}
    image = "image" if "image" in columns else "file_name"
    if image not in columns or "label" not in columns:
        raise Invalid(
            f"{name} has not the columns image (or file_name) and label.",
            f"It has: {', '.join(sorted(columns)[:20]) or 'none'}. Rename the columns; a column split is optional.",
        )
    return [
        Row(f"line {n}", _text(r.get(image)), _text(r.get("label")) or None, _text(r.get("split")), _text(r.get("source")), _note(r))
        for n, r in records
    ]


def _text(value: object) -> str:
    return str(value).strip() if isinstance(value, str | int | float) else ""


# CSV ----------------------------------------------------------------------------------------------


def cell(text: str) -> str:
    """The text as a spreadsheet shows it and never computes it."""
    return f"'{text}" if FORMULA.match(text) else text


def _uncell(text: str) -> str:
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def csv_text(rows: Iterable[Row]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["file_name", "label", "split"])
    writer.writerows([cell(row.image), cell(row.label or ""), row.split] for row in rows)
    return out.getvalue()


def _csv_lines(name: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))
    try:
        header = [column.strip().lower() for column in next(reader, [])]
        for values in reader:
            if any(values):
                yield reader.line_num, {k: _uncell(v.strip()) for k, v in zip(header, values, strict=False)}
    except csv.Error as e:
        raise Invalid(f"{name}, line {reader.line_num}: {e}.", "Save the table again as CSV.") from None


# JSONL --------------------------------------------------------------------------------------------


def json_line(row: Row, history: Sequence[LabelEvent]) -> str:
    """One line of metadata.jsonl, with all that happened to the label, oldest first."""
    events = [{"label": e.label, "source": e.source, "by": e.by, "at": e.at, "note": e.note, "previous": e.previous} for e in history]
    record = {"file_name": row.image, "label": row.label, "split": row.split, "source": row.source, "history": events}
    return json.dumps(record, ensure_ascii=False) + "\n"


def _json_lines(name: str, text: str, skipped: list[Skipped]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            skipped.append(Skipped(f"{name}, line {number}", "it is not a JSON object"))
            continue
        yield number, {k.strip().lower(): v for k, v in record.items()}


def _note(record: dict[str, Any]) -> str:
    history = record.get("history")
    last = history[-1] if isinstance(history, list) and history else None
    if not isinstance(last, dict) or _text(last.get("label")) != _text(record.get("label")):
        return ""
    return labelled_by(_text(last.get("by")), _text(last.get("at")), _text(last.get("source")), _text(last.get("note")))


def labelled_by(who: str, at: str, source: str = "", note: str = "") -> str:
    """The note of an imported label; a label that was imported before keeps the note it came with."""
    if source == "import" and note:
        return note[:300]
    parts = (f"labelled by {who}" if who else "", f"at {at}" if at else "", f"({source})" if source else "", f": {note}" if note else "")
    return " ".join(p for p in parts if p).replace(" : ", ": ")[:300]


# Label Studio -------------------------------------------------------------------------------------
# https://labelstud.io/guide/task_format


def task(row: Row, last: LabelEvent | None, prediction: tuple[str, str, float] | None) -> dict[str, Any]:
    """One task; the prediction is (run, class, probability).

    Who labelled stands in the data: Label Studio refuses tasks whose completed_by is none of its own accounts.
    """
    # A relative path means nothing to Label Studio; this is how it serves the files of a folder of its own machine.
    data = {"image": LOCAL_FILES + quote(row.image), "split": row.split, "source": row.source}
    annotations, predictions = [], []
    if last is not None and row.label is not None:
        data |= {"labelled_by": last.by, "labelled_at": last.at, "label_source": last.source, "label_note": last.note}
        annotations.append({"result": [_choice(row.label)], "created_at": last.at, "was_cancelled": False, "ground_truth": False})
    if prediction is not None:
        run, label, probability = prediction
        predictions.append({"model_version": run, "score": probability, "result": [_choice(label)]})
    return {"data": data, "annotations": annotations, "predictions": predictions}


def _choice(label: str) -> dict[str, Any]:
    return {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [label]}}


def label_config(classes: Iterable[str]) -> str:
    """The labelling interface that belongs to the tasks, to paste into Label Studio."""
    choices = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in classes)
    return f'<View>\n  <Image name="image" value="$image"/>\n  <Choices name="label" toName="image">\n{choices}  </Choices>\n</View>\n'


def _label_studio(name: str, text: str, files: Sequence[str], skipped: list[Skipped]) -> list[Row]:
    try:
        tasks = json.loads(text)
    except (ValueError, RecursionError):
        tasks = None
    if not isinstance(tasks, list) or not any(isinstance(t, dict) and isinstance(t.get("data"), dict) for t in tasks):
        raise Invalid(f"{name} is not a list of Label Studio tasks.", "Export them from Label Studio as JSON, not as JSON-MIN.")
    find, rows, predicted = _Finder(files), [], 0
    for number, one in enumerate(tasks, 1):
        where = f"{name}, task {number}"
        if not isinstance(one, dict) or not isinstance(one.get("data"), dict):
            skipped.append(Skipped(where, "it is not a task"))
            continue
        predicted += bool(one.get("predictions"))
        given = _picture_of(one["data"])
        image, reason = find.file(given)
        if reason:
            skipped.append(Skipped(where, reason))
            continue
        label, note, problem = _annotated(one)
        if problem:
            skipped.append(Skipped(where, problem))
        rows.append(Row(f"task {number}", image, label, _text(one["data"].get("split")), _text(one["data"].get("source")), note))
    if predicted:
        why = "Loupe keeps a prediction only beside the run that made it"
        skipped.append(Skipped(name, f"the predictions of {predicted:,} task{'s' * (predicted > 1)} were not imported: {why}"))
    return rows


def _picture_of(data: dict[str, Any]) -> str:
    """What stands under image; without that, the first value that ends as an image's name does."""
    if isinstance(given := data.get("image"), str):
        return given.strip()
    texts = [value for value in data.values() if isinstance(value, str)]
    return next((t for t in texts if posixpath.splitext(t.partition("?")[0])[1][1:].lower() in EXTENSIONS), "")


def _annotated(one: dict[str, Any]) -> tuple[str | None, str, str]:
    """The last valid annotation's (label, note, what of it could not be kept)."""
    valid = [a for a in _objects(one.get("annotations")) if not a.get("was_cancelled")]
    answers: list[tuple[list[str], dict[str, Any]]] = []
    for annotation in valid:
        results = [r for r in _objects(annotation.get("result")) if r.get("type") == "choices" and isinstance(r.get("value"), dict)]
        results = [r for r in results if r.get("from_name") == "label"] or results[:1]
        found = [r["value"].get("choices") for r in results]
        answers.append(([_text(c) for choices in found if isinstance(choices, list) for c in choices if _text(c)], annotation))
    if not answers:
        return None, "", ""
    choices, annotation = answers[-1]
    if len(choices) > 1:
        return None, "", f"it has {len(choices)} labels ({', '.join(choices)}); imported without a label, as Loupe keeps one per image"
    if not choices:
        return None, "", "its annotation names no class; imported without a label" if annotation.get("result") else ""
    differ = len({tuple(c) for c, _ in answers}) > 1
    data = one["data"]
    who, at = annotation.get("completed_by"), _text(annotation.get("updated_at") or annotation.get("created_at"))
    if isinstance(who, dict):
        who = who.get("email") or who.get("username") or who.get("id")
    if data.get("labelled_by"):
        note = labelled_by(*(_text(data.get(key)) for key in ("labelled_by", "labelled_at", "label_source", "label_note")))
    else:
        note = labelled_by(_text(who), at, "Label Studio")
    return choices[0], note, f"{len(answers)} annotations do not agree; kept the last, “{choices[0]}”" if differ else ""


def _objects(value: object) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


class _Finder:
    """Finds the file that a task means among those that came with it; nothing is ever fetched."""

    def __init__(self, files: Sequence[str]) -> None:
        self.names = set(files)
        self.by_base: dict[str, list[str]] = {}
        for file in files:
            self.by_base.setdefault(posixpath.basename(file), []).append(file)

    def file(self, given: str) -> tuple[str, str]:
        """(the file's name, "") or ("", the reason)."""
        if not given:
            return "", "it names no image"
        path = given.replace("\\", "/")
        if given.startswith("/data/local-files/"):
            path = parse_qs(urlsplit(given).query).get("d", [""])[0]
        elif "://" in given or given.startswith("/data/"):
            path = unquote(urlsplit(given).path)
        for candidate in (path, unquote(path)):
            normal = posixpath.normpath(candidate)
            if normal in self.names:
                return normal, ""
            base = posixpath.basename(normal)
            found = self.by_base.get(base) or self.by_base.get(_UPLOADED.sub("", base, count=1), [])
            if len(found) == 1:
                return found[0], ""
            if found:
                return "", f"there are {len(found)} files called {base}"
        if "://" in given:
            return "", f"{given[:200]} is a web address, and Loupe fetches nothing from the web; put the file beside the table"
        return "", f"{path[:200]} is not there"
