"""Labels as text: what a format of tables is, what formats share, and loupe.json; knows neither files nor images."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal

from core.data import encodings
from core.errors import Invalid
from core.names import MAX_EXAMPLES, MAX_GUIDELINE, name_problem
from core.types import QUIET, Class, LabelEvent, Skipped, Split

ABOUT = "loupe.json"
_SPLIT_WORDS: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "development", "eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "holdout"), "test"),
}  # type: ignore[dict-item]
_NOISE = frozenset({"set", "sets", "data", "dataset", "images", "image", "img", "imgs", "pictures", "photos", "split", "samples", "folder"})
_SPLIT_PART = re.compile(
    f"({'|'.join(sorted(_SPLIT_WORDS, key=len, reverse=True))})(?:{'|'.join(sorted(_NOISE, key=len, reverse=True))})?(?:19[0-9][0-9]|20[0-9][0-9])?"
)
MAX_CLASSES = 10_000
MAX_WORD, MAX_TEXT = 200, 2000  # characters of a name and of a note in an event or a prediction

CALLED = "(called "  # begins what an event's note says about a class that has another name by now


class Refused(Invalid):
    """A table that is one of the format and still not read: no other format is asked, and nothing is imported without it."""


Guess = tuple[str, str, float | None]  # model, label, score


@dataclass(frozen=True, slots=True)
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


Carried = Literal[
    "labels",  # and splits, classes, flags and the names of the images
    "who",  # gave today's label, and when; without the history it stands in the import's note
    "history",  # every earlier event
    "predictions",
]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One way in which a table of labels comes in."""

    title: str
    # A table's name and text, the names of the files beside it, what is left out -> its images; Invalid if it is none of this format.
    read: Callable[[str, str, Sequence[str], list[Skipped]], Iterable[Row]]
    suffix: str = ""  # of the table; without one, images lie in folders of their split and class
    says: Callable[[str], str] = lambda text: ""  # how a table's text was read, to follow the format's title in the report


@dataclass(frozen=True, kw_only=True)
class Format(Reader):
    """One way in which a dataset leaves, as a zip of its images and texts, and comes back."""

    sentence: str  # for the page
    can: frozenset[Carried]  # what comes back; nothing else of past and guesses is handed to write
    write: Callable[[Sequence[Row], Sequence[str]], dict[str, str]]  # the images and the classes' names -> texts by name of the file
    own_facts: bool = True  # it tells each image's name and flag; otherwise loupe.json does
    split_folders: bool = False  # images lie in folders of their split, each with a table of its own; otherwise all in one


SURE = frozenset({"UTF-8", "UTF-16", "UTF-32"})  # encodings that the bytes themselves tell; others are guessed by the letters
_SAMPLE = 500  # different words by which one is guessed
_WORD = 100  # bytes of one


def decoded(data: bytes) -> tuple[str, str]:
    """The text and the encoding it was in; ValueError if it is no text."""
    marks = (
        (b"\xef\xbb\xbf", "utf-8-sig"),
        (b"\xff\xfe\0\0", "utf-32"),
        (b"\0\0\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    )
    marked = next((encoding for mark, encoding in marks if data.startswith(mark)), None)
    if marked is None and data[:400].count(0) > len(data[:400]) // 4:
        marked = "utf-16-le" if data[1:400:2].count(0) > data[:400:2].count(0) else "utf-16-be"
    tried = [marked] if marked else ["utf-8"]
    for encoding in tried:
        try:
            text = data.decode(encoding)
        except (UnicodeError, LookupError):
            if encoding == "utf-8":
                tried += _guessed(data)
            continue
        if "\0" not in text:
            return text, {"utf-8-sig": "UTF-8", "utf-8": "UTF-8"}.get(encoding, re.sub("utf-(16|32).*", r"UTF-\1", encoding))
    raise ValueError("it is text in no encoding that Loupe knows")


def _guessed(data: bytes) -> list[str]:
    # Words that are ASCII say nothing of the encoding; the others are few in a large table.
    words: dict[bytes, None] = {}
    for found in re.finditer(rb"[\x80-\xff][^\s,;|\"/]*", data):
        begun = re.split(rb"[\s,;|\"/]", data[max(0, found.start() - _WORD) : found.start()])[-1]
        words[begun + found[0][:_WORD]] = None
        if len(words) == _SAMPLE:
            break
    likely = encodings.likeliest(list(words), among=encodings.WINDOWS, otherwise="")
    return [likely] if likely else []


def split_in(text: str) -> tuple[Split | None, str]:
    """The split that a folder's name speaks of, and the rest of the name: ("test", "") for Test_Set, ("test", "pets") for pets-test."""
    split: Split | None = None
    rest = []
    for part in re.findall("[^\\W_]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", text.replace("hold-out", "holdout"))):
        if split is None and (found := _SPLIT_PART.fullmatch(part.lower())):
            split = _SPLIT_WORDS[found[1]]
        elif part.lower() not in _NOISE:
            rest.append(part.lower())
    return split, " ".join(rest)


def split_of(text: str) -> Split | None:
    """The split that is called so."""
    split, rest = split_in(text)
    return None if rest else split


IMAGE = ("image", "file_name", "filename", "image_name", "image_path", "path", "file_path", "filepath", "file")  # the first there is
LABEL = ("label", "class", "class_name", "category", "target")


@lru_cache(maxsize=1000)  # a million lines of JSON have the same few
def column(name: str) -> str:
    """A column's name as these are compared: in small letters, words joined by _."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def taken(columns: Iterable[str]) -> tuple[str | None, str | None]:
    """Which of the columns hold image and label."""
    there = set(columns)
    return next((c for c in IMAGE if c in there), None), next((c for c in LABEL if c in there), None)


def taken_in_words(columns: Iterable[str]) -> str:
    image, label = taken(columns)
    return f"images by the column “{image}”, labels by “{label}”" if image and label else ""


def from_columns(name: str, records: Iterable[tuple[int, Mapping[str, Any]]]) -> Iterator[Row]:
    """Of lines, numbered, whose columns are called as in CSV and JSONL; Invalid, at the end, if none has an image or none a label."""
    columns: dict[str, None] = {}
    image = label = None
    for n, r in records:
        if any(key not in columns for key in r):
            columns |= dict.fromkeys(r)
            image, label = taken(columns)
        called = clean(as_text(r.get(label))) or None if label else None
        flagged = "flagged" in r and is_yes(r["flagged"])
        named = as_text(r.get(image)) if image else ""
        yield Row(f"line {n}", named, called, as_text(r.get("split", "")), as_text(r.get("source", "")), flagged=flagged)
    if image is None or label is None:
        raise Invalid(
            f"{name} has not the columns image (or {', '.join(IMAGE[1:5])}, {IMAGE[-1]}) and label (or {', '.join(LABEL[1:])}).",
            f"It has: {', '.join(sorted(columns)[:20]) or 'none'}. Rename the columns; a column split is optional.",
        )


def by_folder(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The images of each folder, "" or ending with a slash, by their names in it; with one table in each, tools find its split."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        folder, slash, name = row.image.rpartition("/")
        found.setdefault(folder + slash, []).append(replace(row, image=name))
    return found


def as_text(value: object) -> str:
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, int | float) else ""


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


def is_yes(value: object) -> bool:
    return value is True or as_text(value).lower() in ("yes", "true", "1")


@dataclass
class Count:
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


def past(given: object, label: str | None) -> tuple[LabelEvent, ...]:
    """The events that led to the label; one of many errors if they are none, or do not follow from each other."""
    found: list[LabelEvent] = []
    before = None
    for one in given or ():  # type: ignore[attr-defined]
        by, source = _line(one["by"], "by", MAX_WORD), one["source"]
        if not by.strip() or not re.fullmatch("[a-z]{1,20}", source):
            raise ValueError
        note, at = _line(one.get("note", ""), "note", MAX_TEXT), _time(one["at"], "at")
        event = LabelEvent(0, "", _class_name(one["label"]), source, by, at, note, _class_name(one["previous"]))
        anew = source == "import" or (found and found[-1].source == "remove")
        if event.previous != before and (event.previous is not None or not anew):
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
    return next((e for e in reversed(history) if e.source not in QUIET), None)


def guesses(given: object, model: str, labels: Callable[[dict[str, Any]], list[str]], where: str, wrong: Count) -> tuple[Guess, ...]:
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
            name = _line(as_text(one.get(model)) or "unknown", model, MAX_WORD)
            found.append((name, _line(label, "label", MAX_WORD), score))
        except (AttributeError, TypeError, ValueError, OverflowError):
            wrong.add(where)
    return tuple(found)


def labelled_by(who: str, at: str, source: str = "", note: str = "", what: str = "labelled") -> str:
    """The note of an imported label; a label that was imported before keeps the note it came with."""
    if source == "import" and note and not note.startswith(CALLED):
        return note[:300]
    parts = (f"{what} by {who}" if who else "", f"at {at}" if at else "", f"({source})" if source else "", f": {note}" if note else "")
    return " ".join(p for p in parts if p).replace(" : ", ": ")[:300]


def objects(value: object) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


# loupe.json ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class About:
    """What a table of labels or a folder has no place for; images are named by their file."""

    classes: tuple[Class, ...] = ()  # their examples are names of files
    splits_given: bool | None = None
    images: Mapping[str, tuple[str, bool]] = field(default_factory=dict)  # source and flag
    ids: Mapping[str, str] = field(default_factory=dict)  # of the originals, for the files that were changed when they were exported
    folders: Mapping[str, str] = field(default_factory=dict)  # of class folders that could not be called as their class -> its name


def about_text(about: About) -> str:
    classes = [
        {"name": c.name, "guideline": c.guideline, "retired_at": c.retired_at, "accepted": c.accepted, "rejected": c.rejected}
        for c in about.classes
    ]
    found = {name: {"source": source, "flagged": flagged} for name, (source, flagged) in about.images.items()}
    told = {
        "splits_given": about.splits_given,
        "classes": classes,
        "images": found,
        "ids": dict(about.ids),
        "folders": dict(about.folders),
    }
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
    images, wrong = {}, Count()
    for name, one in told.get("images", {}).items():
        try:
            images[name] = _line(one["source"], "source", MAX_TEXT), one["flagged"] is True
        except (KeyError, TypeError, ValueError):
            wrong.add(clean(name)[:MAX_WORD])
    wrong.tell(ABOUT, skipped, "what it says about them is left out, as Loupe does not write so", "{} images")
    given, ids, folders = told.get("splits_given"), told.get("ids"), told.get("folders")
    ids = {n: i for n, i in ids.items() if isinstance(i, str) and re.fullmatch("[0-9a-f]{16}", i)} if isinstance(ids, dict) else {}
    named = (
        {key: value for key, value in folders.items() if value in classes}
        if isinstance(folders, dict) and all(isinstance(v, str) for v in folders.values())
        else {}
    )
    return About(tuple(classes.values()), given if isinstance(given, bool) else None, images, ids, named)


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
