"""Label Studio's tasks, https://labelstud.io/guide/task_format, and the labelling interface that belongs to them."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import quoteattr

from core.data import tables
from core.data.images import EXTENSIONS
from core.data.tables import Count, Format, Row
from core.errors import Invalid
from core.types import Skipped

_UPLOADED = re.compile(r"[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file
LOCAL_FILES = "/data/local-files/?d="


def write(rows: Sequence[Row], classes: Sequence[str]) -> dict[str, str]:
    tasks = json.dumps([_task(row) for row in rows], ensure_ascii=False, indent=1)
    return {"tasks.json": tasks, "config.xml": _label_config(classes)}


def _task(row: Row) -> dict[str, Any]:
    """One task.

    Who labelled stands in the data: Label Studio refuses tasks whose completed_by is none of its own accounts.
    """
    # A relative path means nothing to Label Studio; this is how it serves the files of a folder of its own machine.
    data = {"image": LOCAL_FILES + quote(row.image), "split": row.split, "source": row.source, "flagged": row.flagged}
    annotations = []
    if (last := tables.gave(row.past)) is not None and row.label is not None:
        data |= {"labelled_by": last.by, "labelled_at": last.at, "label_source": last.source, "label_note": last.note}
        annotations.append({"result": [_choice(row.label)], "created_at": last.at, "was_cancelled": False, "ground_truth": False})
    predictions = [{"model_version": model, "score": score, "result": [_choice(label)]} for model, label, score in row.guesses]
    return {"data": data, "annotations": annotations, "predictions": predictions}


def _choice(label: str) -> dict[str, Any]:
    return {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [label]}}


def _label_config(classes: Sequence[str]) -> str:
    """The labelling interface that belongs to the tasks, to paste into Label Studio."""
    choices = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in classes)
    return f'<View>\n  <Image name="image" value="$image"/>\n  <Choices name="label" toName="image">\n{choices}  </Choices>\n</View>\n'


def read(name: str, text: str, files: Sequence[str], skipped: list[Skipped]) -> list[Row]:
    try:
        tasks = json.loads(text)
    except (ValueError, RecursionError):
        tasks = None
    if not isinstance(tasks, list) or not any(isinstance(t, dict) and isinstance(t.get("data"), dict) for t in tasks):
        raise Invalid(f"{name} is not a list of Label Studio tasks.", "Export them from Label Studio as JSON, not as JSON-MIN.")
    find, rows, wrong = _Finder(files), [], Count()
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
        guesses = tables.guesses(one.get("predictions"), "model_version", _choices, f"task {number}", wrong)
        given = (tables.as_text(data.get("split")), tables.as_text(data.get("source")), note, tables.is_yes(data.get("flagged")))
        rows.append(Row(f"task {number}", image, label, *given, guesses=guesses))
    wrong.tell(name, skipped, tables.WRONG_GUESS, "{} predictions")
    return rows


def _picture_of(data: dict[str, Any]) -> str:
    """What stands under image; without that, the first value that ends as an image's name does."""
    if isinstance(given := data.get("image"), str):
        return given.strip()
    texts = [value for value in data.values() if isinstance(value, str)]
    return next((t for t in texts if posixpath.splitext(t.partition("?")[0])[1][1:].lower() in EXTENSIONS), "")


def _annotated(one: dict[str, Any]) -> tuple[str | None, str, str]:
    """The last valid annotation's (label, note, what of it could not be kept)."""
    answers = [(_choices(a), a) for a in tables.objects(one.get("annotations")) if not a.get("was_cancelled")]
    if not answers:
        return None, "", ""
    choices, annotation = answers[-1]
    if len(choices) > 1:
        return None, "", f"it has {len(choices)} labels ({', '.join(choices)}); imported without a label, as Loupe keeps one per image"
    if not choices:
        return None, "", "its annotation names no class; imported without a label" if annotation.get("result") else ""
    differ = len({tuple(c) for c, _ in answers}) > 1
    data = one["data"]
    who, at = annotation.get("completed_by"), tables.as_text(annotation.get("updated_at") or annotation.get("created_at"))
    if isinstance(who, dict):
        who = who.get("email") or who.get("username") or who.get("id")
    if data.get("labelled_by"):
        note = tables.labelled_by(*(tables.as_text(data.get(key)) for key in ("labelled_by", "labelled_at", "label_source", "label_note")))
    else:
        note = tables.labelled_by(tables.as_text(who), at, "Label Studio")
    return choices[0], note, f"{len(answers)} annotations do not agree; kept the last, “{choices[0]}”" if differ else ""


def _choices(answer: dict[str, Any]) -> list[str]:
    """The labels that an annotation or a prediction names."""
    results = [r for r in tables.objects(answer.get("result")) if r.get("type") == "choices" and isinstance(r.get("value"), dict)]
    results = [r for r in results if r.get("from_name") == "label"] or results[:1]
    found = [r["value"].get("choices") for r in results]
    return [tables.as_text(c) for choices in found if isinstance(choices, list) for c in choices if tables.as_text(c)]


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


FORMAT = Format(
    title="Label Studio",
    sentence="The images and Label Studio's tasks, if you like with a run's predictions.",
    can=frozenset({"labels", "who", "predictions"}),
    write=write,
    read=read,
    suffix=".json",
)
