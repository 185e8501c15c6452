"""Labels as text, read and written: CSV, JSONL, Label Studio's tasks and loupe.json; knows neither files nor images."""

from __future__ import annotations

import csv
import io
import json
import math
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import quoteattr

from core.data.images import EXTENSIONS
from core.errors import Invalid
from core.names import MAX_EXAMPLES, MAX_GUIDELINE, name_problem
from core.types import Class, LabelEvent, Skipped

FORMULA = re.compile(r"'*[=+\-@\t\r]")  # a spreadsheet takes such a cell for a formula
_UPLOADED = re.compile(r"[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file
LOCAL_FILES = "/data/local-files/?d="
ABOUT = "loupe.json"
MAX_CLASSES = 10_000
MAX_WORD, MAX_TEXT = 200, 2000  # characters of a name and of a note in an event or a prediction

CALLED = "(called "  # begins what an event's note says about a class that has another name by now

Guess = tuple[str, str, float | None]  # model, label, score


@dataclass(frozen=True)
class Row:
    """What a table says about one image."""

    where: str  # for people: line 3, task 3
    image: str
    label: str | None = None
    split: str = ""
    source: str = ""  # the name the image came with, where it is not that of the file
    note: str = ""  # who gave the label, and when
    flagged: bool = False
    past: tuple[LabelEvent, ...] = ()  # all that happened to the label, oldest first; of no image and no number yet
    guesses: tuple[Guess, ...] = ()


def read(name: str, text: str, files: Sequence[str], skipped: list[Skipped]) -> list[Row]:
    """The rows of a .csv, .jsonl or .json table; Invalid if it is none. Files are the names beside the table."""
    if name.lower().endswith(".json"):
        return _label_studio(name, text, files, skipped)
    json_lines = name.lower().endswith(".jsonl")
    records = list(_json_lines(name, text, skipped) if json_lines else _csv_lines(name, text))
    columns = {key for _, record in records for key in record}
    image = "image" if "image" in columns else "file_name"
    if image not in columns or "label" not in columns:
        raise Invalid(
            f"{name} has not the columns image (or file_name) and label.",
            f"It has: {', '.join(sorted(columns)[:20]) or 'none'}. Rename the columns; a column split is optional.",
        )
    rows, broken, wrong = [], _Count(), _Count()
    for n, r in records:
        label = clean(_text(r.get("label"))) or None
        told = r if json_lines else {}  # a CSV column of that name is something else
        try:
            past = _past(told.get("history"), label)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            past = ()
            broken.add(f"line {n}")
        guesses = _guesses(told.get("predictions"), "model", lambda one: [_text(one.get("label"))], f"line {n}", wrong)
        given = (_text(r.get("split")), _text(r.get("source")), _note(r), _flag(r.get("flagged")))
        rows.append(Row(f"line {n}", _text(r.get(image)), label, *given, past, guesses))
    broken.tell(name, skipped, "the history does not hold together; kept what its last event says", "in {} lines")
    wrong.tell(name, skipped, WRONG_GUESS, "{} predictions")
    return rows


def _text(value: object) -> str:
    return str(value).strip() if isinstance(value, str | int | float) else ""


def clean(text: str, keep: str = "") -> str:
    """The text as every database and page can show it: composed Unicode, no control characters, no broken bytes."""
    if text.isascii() and text.isprintable():
        return text
    text = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode("utf-8"))
    return "".join("�" if unicodedata.category(c) in ("Cc", "Cs") and c not in keep else c for c in text)


def _line(value: object, what: str, limit: int, keep: str = "") -> str:
    """A stranger's text; ValueError, to follow the name of what holds it, if it is none or too long."""
    if not isinstance(value, str) or len(value) > limit:
        raise ValueError(f"its {what} is not a text of up to {limit:,} characters")
    return clean(value, keep)


def _time(value: object, what: str) -> str:
    """A stranger's time as Loupe writes times."""
    try:
        at = datetime.fromisoformat(str(value))
        if at.tzinfo is not None and at < datetime.now(UTC) + timedelta(days=1):  # clocks differ, but not that much
            return at.astimezone(UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"its {what} is no time that has been")


def _flag(value: object) -> bool:
    return value is True or _text(value).lower() in ("yes", "true", "1")


@dataclass
class _Count:
    """How often something was wrong, and where first: one line of the report, not a hundred thousand."""

    n: int = 0
    first: str = ""

    def add(self, where: str) -> None:
        self.n += 1
        self.first = self.first or where

    def tell(self, name: str, skipped: list[Skipped], why: str, how_many: str) -> None:
        if self.n:
            skipped.append(Skipped(name, f"{how_many.format(f'{self.n:,}')}: {why} (first: {self.first})"))


# What tables share: events and predictions -----------------------------------------------------------


WRONG_GUESS = "not imported, as they do not name one label each with a finite score or none"


def _past(given: object, label: str | None) -> tuple[LabelEvent, ...]:
    """The events that led to the label; one of many errors if they are none, or do not follow from each other."""
    found: list[LabelEvent] = []
    before = None
    for one in given or ():  # type: ignore[attr-defined]
        by, source = _line(one["by"], "by", MAX_WORD), one["source"]
        if not by.strip() or not re.fullmatch("[a-z]{1,20}", source):
            raise ValueError
        note, at = _line(one.get("note", ""), "note", MAX_TEXT), _time(one["at"], "at")
        event = LabelEvent(0, "", _class_name(one["label"]), source, by, at, note, _class_name(one["previous"]))
        if event.previous != before and (event.previous is not None or source != "import"):  # an import begins anew
            raise ValueError
        before = event.label
        found.append(event)
    if found and before != label:
        raise ValueError
    return tuple(found)


def _class_name(value: object) -> str | None:
    if value is None:
        return None
    name = _line(value, "label", MAX_WORD)
    if name_problem(name):
        raise ValueError
    return name


def gave(history: Sequence[LabelEvent]) -> LabelEvent | None:
    """The last event that says something about the label: not only about the flag."""
    return next((e for e in reversed(history) if e.source not in ("flag", "unflag")), None)


def _guesses(given: object, model: str, labels: Callable[[dict[str, Any]], list[str]], where: str, wrong: _Count) -> tuple[Guess, ...]:
    found: list[Guess] = []
    one: Any
    for one in given if isinstance(given, list) else [given] if given else []:
        try:
            (label,) = labels(one)
            score = one.get("score")
            if not label or isinstance(score, bool) or not isinstance(score, int | float | None):
                raise ValueError
            if score is not None and not math.isfinite(score := float(score)):
                raise ValueError
            name = _line(_text(one.get(model)) or "unknown", model, MAX_WORD)
            found.append((name, _line(label, "label", MAX_WORD), score))
        except (AttributeError, TypeError, ValueError, OverflowError):
            wrong.add(where)
    return tuple(found)


# CSV ----------------------------------------------------------------------------------------------


def cell(text: str) -> str:
    """The text as a spreadsheet shows it and never computes it."""
    return f"'{text}" if FORMULA.match(text) else text


def _uncell(text: str) -> str:
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def csv_text(rows: Iterable[Row]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["file_name", "label", "split", "flagged", "source"])
    writer.writerows([cell(r.image), cell(r.label or ""), r.split, "yes" if r.flagged else "", cell(r.source)] for r in rows)
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


def json_line(row: Row) -> str:
    """One line of metadata.jsonl, with all that happened to the label, oldest first."""
    events = [{"label": e.label, "source": e.source, "by": e.by, "at": e.at, "note": e.note, "previous": e.previous} for e in row.past]
    guesses = [{"model": model, "label": label, "score": score} for model, label, score in row.guesses]
    record = {"file_name": row.image, "label": row.label, "split": row.split, "flagged": row.flagged, "source": row.source}
    return json.dumps(record | {"history": events, "predictions": guesses}, ensure_ascii=False) + "\n"


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
    given = [e for e in _objects(record.get("history")) if e.get("source") not in ("flag", "unflag")]
    if not given or _text(given[-1].get("label")) != _text(record.get("label")):
        return ""
    what = "labelled" if _text(record.get("label")) else "left without a label"
    who, at, source, note = (_text(given[-1].get(key)) for key in ("by", "at", "source", "note"))
    return labelled_by(who, at, source, note, what)


def labelled_by(who: str, at: str, source: str = "", note: str = "", what: str = "labelled") -> str:
    """The note of an imported label; a label that was imported before keeps the note it came with."""
    if source == "import" and note and not note.startswith(CALLED):
        return note[:300]
    parts = (f"{what} by {who}" if who else "", f"at {at}" if at else "", f"({source})" if source else "", f": {note}" if note else "")
    return " ".join(p for p in parts if p).replace(" : ", ": ")[:300]


# Label Studio -------------------------------------------------------------------------------------
# https://labelstud.io/guide/task_format


def task(row: Row) -> dict[str, Any]:
    """One task.

    Who labelled stands in the data: Label Studio refuses tasks whose completed_by is none of its own accounts.
    """
    # A relative path means nothing to Label Studio; this is how it serves the files of a folder of its own machine.
    data = {"image": LOCAL_FILES + quote(row.image), "split": row.split, "source": row.source, "flagged": row.flagged}
    annotations = []
    if (last := gave(row.past)) is not None and row.label is not None:
        data |= {"labelled_by": last.by, "labelled_at": last.at, "label_source": last.source, "label_note": last.note}
        annotations.append({"result": [_choice(row.label)], "created_at": last.at, "was_cancelled": False, "ground_truth": False})
    predictions = [{"model_version": model, "score": score, "result": [_choice(label)]} for model, label, score in row.guesses]
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
    find, rows, wrong = _Finder(files), [], _Count()
    for number, one in enumerate(tasks, 1):
        where = f"{name}, task {number}"
        if not isinstance(one, dict) or not isinstance(one.get("data"), dict):
            skipped.append(Skipped(where, "it is not a task"))
            continue
        data = one["data"]
        image, reason = find.file(_picture_of(data))
        if reason:
            skipped.append(Skipped(where, reason))
            continue
        label, note, problem = _annotated(one)
        if problem:
            skipped.append(Skipped(where, problem))
        guesses = _guesses(one.get("predictions"), "model_version", _choices, f"task {number}", wrong)
        given = (_text(data.get("split")), _text(data.get("source")), note, _flag(data.get("flagged")))
        rows.append(Row(f"task {number}", image, label, *given, guesses=guesses))
    wrong.tell(name, skipped, WRONG_GUESS, "{} predictions")
    return rows


def _picture_of(data: dict[str, Any]) -> str:
    """What stands under image; without that, the first value that ends as an image's name does."""
    if isinstance(given := data.get("image"), str):
        return given.strip()
    texts = [value for value in data.values() if isinstance(value, str)]
    return next((t for t in texts if posixpath.splitext(t.partition("?")[0])[1][1:].lower() in EXTENSIONS), "")


def _annotated(one: dict[str, Any]) -> tuple[str | None, str, str]:
    """The last valid annotation's (label, note, what of it could not be kept)."""
    answers = [(_choices(a), a) for a in _objects(one.get("annotations")) if not a.get("was_cancelled")]
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


def _choices(answer: dict[str, Any]) -> list[str]:
    """The labels that an annotation or a prediction names."""
    results = [r for r in _objects(answer.get("result")) if r.get("type") == "choices" and isinstance(r.get("value"), dict)]
    results = [r for r in results if r.get("from_name") == "label"] or results[:1]
    found = [r["value"].get("choices") for r in results]
    return [_text(c) for choices in found if isinstance(choices, list) for c in choices if _text(c)]


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


# loupe.json ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class About:
    """What a table of labels or a folder has no place for; images are named by their file."""

    classes: tuple[Class, ...] = ()  # their examples are names of files
    splits_given: bool | None = None
    images: Mapping[str, tuple[str, bool]] = field(default_factory=dict)  # source and flag


def about_text(about: About) -> str:
    classes = [
        {"name": c.name, "guideline": c.guideline, "retired_at": c.retired_at, "accepted": c.accepted, "rejected": c.rejected}
        for c in about.classes
    ]
    found = {name: {"source": source, "flagged": flagged} for name, (source, flagged) in about.images.items()}
    told = {"splits_given": about.splits_given, "classes": classes, "images": found}
    return json.dumps(told, ensure_ascii=False, indent=1)


def read_about(text: str, skipped: list[Skipped]) -> About:
    """What an export says about its dataset; Invalid if nothing of it can be used, and what cannot is named."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict) or not isinstance(told.get("classes"), list) or not isinstance(told.get("images", {}), dict):
        raise Invalid("It is not written as Loupe writes it.", "Export the dataset again.")
    if len(told["classes"]) > MAX_CLASSES:
        raise Invalid(f"It holds {len(told['classes']):,} classes.", f"Up to {MAX_CLASSES:,} are allowed.")
    classes: dict[str, Class] = {}
    for number, one in enumerate(told["classes"], 1):
        try:
            read = _class(one)
            classes.setdefault(read.name, read)
        except ValueError as e:
            skipped.append(Skipped(f"{ABOUT}, class {number}", f"{e}; the class is left out"))
    images, wrong = {}, _Count()
    for name, one in told.get("images", {}).items():
        try:
            images[name] = _line(one["source"], "source", MAX_TEXT), one["flagged"] is True
        except (KeyError, TypeError, ValueError):
            wrong.add(clean(name)[:MAX_WORD])
    wrong.tell(ABOUT, skipped, "what it says about them is left out, as Loupe does not write so", "{} images")
    given = told.get("splits_given")
    return About(tuple(classes.values()), given if isinstance(given, bool) else None, images)


def _class(one: object) -> Class:
    """A class as strangers may have written it; ValueError says what is wrong with it."""
    if not isinstance(one, dict):
        raise ValueError("it is not a class")
    name = _line(one.get("name"), "name", MAX_WORD)
    if problem := name_problem(name):
        raise ValueError(f"its name {problem}")
    guideline = _line(one.get("guideline", ""), "guideline", MAX_GUIDELINE, keep="\n\t")
    retired = one.get("retired_at")
    shown = [one.get(key, []) for key in ("accepted", "rejected")]
    if not all(isinstance(names, list) and len(names) <= MAX_EXAMPLES and all(isinstance(n, str) for n in names) for names in shown):
        raise ValueError(f"its examples are not up to {MAX_EXAMPLES} names of files each")
    return Class(name, guideline, None if retired is None else _time(retired, "retired_at"), tuple(shown[0]), tuple(shown[1]))
