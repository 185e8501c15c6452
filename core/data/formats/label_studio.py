"""Label Studio's tasks, https://labelstud.io/guide/task_format, and the labelling interface that belongs to them."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from core.data import tables
from core.data.formats.beside import Finder
from core.data.images import EXTENSIONS
from core.data.tables import Count, Format, Refused, Row
from core.errors import Invalid
from core.types import Skipped

LOCAL_FILES = "/data/local-files/?d="
MINIMAL = frozenset({"annotation_id", "lead_time"})  # columns of Label Studio's CSV and JSON-MIN that no other table has
_OWN = MINIMAL | {"id", "annotator", "created_at", "updated_at"}
_DATA = frozenset(
    {"split", "source", "flagged", "labelled_by", "labelled_at", "label_source", "label_note"}
)  # what an export of Loupe adds


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
    if isinstance(tasks, list) and any(isinstance(t, dict) and t.keys() >= MINIMAL for t in tasks):
        return minimal(name, ((f"task {n}", t) for n, t in enumerate(tasks, 1) if isinstance(t, dict)), files, skipped)
    if not isinstance(tasks, list) or not any(isinstance(t, dict) and isinstance(t.get("data"), dict) for t in tasks):
        raise Invalid(f"{name} is not a list of Label Studio tasks.", "Export them from Label Studio as JSON, JSON-MIN or CSV.")
    _one_question(name, _questions(tasks), skipped)
    find, rows, wrong = Finder(files), [], Count()
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


def _questions(tasks: Sequence[object]) -> list[str]:
    """The names of the controls in which a choice was made."""
    annotations = [a for t in tables.objects(tasks) for a in tables.objects(t.get("annotations")) if not a.get("was_cancelled")]
    results = [r for a in annotations for r in tables.objects(a.get("result")) if r.get("type") == "choices"]
    return sorted({tables.clean(tables.as_text(r.get("from_name"))) for r in results})


def _one_question(name: str, questions: Sequence[str], skipped: list[Skipped]) -> str:
    """The question whose answers are the labels: the one there is, or the one called label; Refused if it is not clear which."""
    if len(questions) < 2:
        return "".join(questions)
    others = ", ".join(f"“{one}”" for one in questions if one != "label")
    if "label" not in questions:
        raise Refused(
            f"{name} answers {len(questions)} questions about an image: {others}.",
            f"Loupe keeps one label per image. Rename the one that you want to “label”, in {name} or in Label Studio, and import again.",
        )
    skipped.append(Skipped(name, f"the labels are the answers to “label”; left out are those to {others}"))
    return "label"


def minimal(name: str, records: Iterable[tuple[str, dict[str, Any]]], files: Sequence[str], skipped: list[Skipped]) -> list[Row]:
    """Of Label Studio's CSV and JSON-MIN: one flat record for each annotation."""
    listed = list(records)
    find, rows, wrong = Finder(files), dict[str, Row](), Count()
    pictures = {key for _, one in listed for key, value in one.items() if key == "image" or _is_picture(value)}
    questions = {key for _, one in listed for key, value in one.items() if value not in (None, "")} - _OWN - _DATA - pictures
    question = _one_question(name, sorted(questions), skipped)
    for number, (where, one) in enumerate(listed, 1):
        shown = f"{name}, {where}"
        image, reason = find.file(_picture_of(one))
        if reason:
            skipped.append(Skipped(shown, reason))
            continue
        choices = _chosen(one.get(question))
        if choices is None:
            wrong.add(where)
        elif len(choices) > 1:
            skipped.append(Skipped(shown, _several(choices)))
        label = choices[0] if choices and len(choices) == 1 else None
        if image in rows and rows[image].label != label:
            skipped.append(Skipped(shown, f"it does not agree with another annotation of {image}; kept the last, “{label or ''}”"))
        at = tables.as_text(one.get("updated_at") or one.get("created_at"))
        note = tables.labelled_by(tables.as_text(one.get("annotator")), at, "Label Studio") if label else ""
        given = (tables.as_text(one.get("split")), tables.as_text(one.get("source")), note, tables.is_yes(one.get("flagged")))
        rows[image] = Row(where or f"task {number}", image, label, *given)
    wrong.tell(name, skipped, "their answer is no choice; imported without a label", "{} annotations")
    return list(rows.values())


def _is_picture(value: object) -> bool:
    return isinstance(value, str) and posixpath.splitext(value.partition("?")[0])[1][1:].lower() in EXTENSIONS


def _chosen(value: object) -> list[str] | None:
    """The choices in a cell, which holds one as it is and several as JSON; None if it holds something else."""
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, dict):
        value = value.get("choices")
    if isinstance(value, list):
        return [tables.as_text(c) for c in value] if all(isinstance(c, str) for c in value) else None
    return [text] if (text := tables.as_text(value)) else []


def _several(choices: Sequence[str]) -> str:
    return f"it has {len(choices)} labels ({', '.join(choices)}); imported without a label, as Loupe keeps one per image"


def _picture_of(data: dict[str, Any]) -> str:
    """What stands under image; without that, the first value that ends as an image's name does."""
    if isinstance(given := data.get("image"), str):
        return given.strip()
    texts = [value for value in data.values() if isinstance(value, str)]
    return next(filter(_is_picture, texts), "")


def _annotated(one: dict[str, Any]) -> tuple[str | None, str, str]:
    """The last valid annotation's (label, note, what of it could not be kept)."""
    answers = [(_choices(a), a) for a in tables.objects(one.get("annotations")) if not a.get("was_cancelled")]
    if not answers:
        return None, "", ""
    choices, annotation = answers[-1]
    if len(choices) > 1:
        return None, "", _several(choices)
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


FORMAT = Format(
    title="Label Studio",
    sentence="The images and Label Studio's tasks, if you like with a run's predictions.",
    can=frozenset({"labels", "who", "predictions"}),
    write=write,
    read=read,
    suffix=".json",
)
