"""What leaves as a zip comes back the same: labels, splits, names and pixels; and metadata stays at home."""

from __future__ import annotations

import csv
import io
import json
import re
import struct
import subprocess
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import PngImagePlugin
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from core import names
from core.api import routes, signing
from core.data import classes, events, history, images, imports, labels, schema, sources, store, strip, tables, unpacker
from core.data.formats import label_studio, spreadsheet
from core.data.formats.known import FORMATS
from core.errors import AppError, Invalid, NotFound, Stopped
from core.runs import jobs, launch, runs
from core.settings import settings
from core.share import export
from core.types import Dataset, Image, ImportReport, now
from tests.conftest import Trained, stored_dataset


def able(what: str) -> list[str]:
    """The formats that claim to carry it."""
    return [name for name, one in FORMATS.items() if what in one.can]


Key = tuple[str | None, str, str, bytes]  # label, split, file name, pixels


def all_of(made: Dataset) -> list[Image]:
    return store.all_images(made.id)


def pixels(data: bytes) -> bytes:
    picture = images.open_picture(data)
    return repr((picture.mode, picture.size)).encode() + picture.tobytes()


def contents(made: Dataset) -> list[Key]:
    """What a round trip must keep, in an order that does not depend on ids."""
    found = [(i.label, i.split, Path(i.source).name, pixels((settings().images / i.path).read_bytes())) for i in all_of(made)]
    return sorted(found, key=repr)


def give(made: Dataset, label: str | None, *chosen: Image, by: str = "Ann") -> None:
    labels.apply(made.id, {i.id: i.label_seq for i in chosen}, label, by, note="looked twice")


def back(path: Path, name: str) -> tuple[Dataset, ImportReport]:
    report = imports.import_now(name, sources.at(path), "importer")
    found = store.find_dataset(name)
    assert found is not None
    return found, report


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as z:
        assert z.testzip() is None
        return {name: z.read(name) for name in z.namelist()}


def told(path: Path) -> list[dict[str, Any]]:
    """The lines of all tables of an export as JSONL, with the history unpacked."""
    tables = [data for name, data in members(path).items() if name.endswith("metadata.jsonl")]
    lines = [json.loads(line) for data in tables for line in data.splitlines()]
    return [line | {"history": json.loads(line["history"])} for line in lines]


@pytest.fixture
def changed(small: Dataset) -> Dataset:
    """The squares after some work: relabelled, unlabelled, a new class, and splits of all three kinds."""
    found = sorted(all_of(small), key=lambda i: i.source)
    classes.ensure(small.id, ["Kätzchen & Co", "train"])
    give(small, "Kätzchen & Co", found[0])
    give(small, "train", found[1])
    give(small, None, *found[2:4])
    with schema.writing() as c:
        c.execute(schema.images.update().where(schema.images.c.id == found[5].id).values(split="validation"))
    return store.get_dataset(small.id)


# Round trips


@pytest.mark.parametrize("originals", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_labels_splits_names_and_pixels_come_back(changed: Dataset, tmp_path: Path, format: str, originals: bool) -> None:
    report = export.export_now(changed.id, format, tmp_path / "out.zip", originals=originals)
    assert (report.images, report.bytes, report.skipped) == (24, (tmp_path / "out.zip").stat().st_size, [])
    again, imported = back(tmp_path / "out.zip", "again")
    assert (imported.added, imported.skipped) == (24, [])
    assert contents(again) == contents(changed)
    assert {i.split for i in all_of(again)} == {"train", "validation", "test"} and None in {i.label for i in all_of(again)}
    assert [i.id for i in sorted(all_of(again), key=lambda i: i.id)] == sorted(i.id for i in all_of(changed))  # nothing was encoded anew


@pytest.mark.parametrize("format", able("who"))
def test_who_labelled_and_when_comes_back_in_the_note_and_survives_a_second_trip(changed: Dataset, tmp_path: Path, format: str) -> None:
    export.export_now(changed.id, format, tmp_path / "one.zip")
    once, _ = back(tmp_path / "one.zip", "once")
    export.export_now(once.id, format, tmp_path / "two.zip")
    twice, _ = back(tmp_path / "two.zip", "twice")
    one = next(i for i in all_of(changed) if i.label == "train")
    ann = labels.history(changed.id, one.id)[0]
    for made in (once, twice):
        event, *before = labels.history(made.id, one.id)
        assert len(before) == (0 if "history" not in FORMATS[format].can else 2 if made is once else 3)
        assert (event.label, event.source, event.by) == ("train", "import", "importer")
        assert event.note == f"labelled by Ann at {ann.at} (manual): looked twice"
        assert store.get_image(made.id, one.id).source == one.source


def test_jsonl_tells_the_whole_history_oldest_first(changed: Dataset, tmp_path: Path) -> None:
    export.export_now(changed.id, "jsonl", tmp_path / "out.zip")
    lines = told(tmp_path / "out.zip")
    (line,) = [line for line in lines if line["label"] == "train"]
    assert [(e["label"], e["by"], e["previous"]) for e in line["history"]] == [("blue", "tester", None), ("train", "Ann", "blue")]
    unlabelled = [line for line in lines if line["label"] is None]
    assert len(unlabelled) == 2 and all(line["history"][-1]["label"] is None for line in unlabelled)


def test_an_unlabelled_image_lies_directly_in_its_splits_folder(changed: Dataset, tmp_path: Path) -> None:
    export.export_now(changed.id, "folders", tmp_path / "out.zip")
    names = sorted(members(tmp_path / "out.zip").keys() - {"loupe.json"})
    assert len([n for n in names if n.count("/") == 1]) == 2 and all(n.split("/")[0] in ("train", "validation", "test") for n in names)
    assert any(n.endswith("/Kätzchen & Co/blue-0.png") for n in names) and any("/train/" in n for n in names)


GUIDELINE = 'A cat, however small:\n\t- "whiskers", and\n- 4 paws; 猫, = no dog'


@pytest.fixture
def worked(changed: Dataset) -> Dataset:
    """The same after more work: classes renamed, merged, retired, empty, in another order; guidelines, flags, predictions."""
    at = changed.id
    found = sorted(all_of(changed), key=lambda i: i.source)
    for name in ("empty", "kitten", "wrong", "gone"):
        classes.add(at, name)
    classes.describe(at, "green", GUIDELINE)
    classes.describe(at, "gone", "not any more")
    classes.set_example(at, "green", found[9].id, True)
    classes.set_example(at, "green", found[0].id, False)
    classes.set_example(at, "gone", found[1].id, True)
    give(changed, "kitten", *found[6:8], by="Ben")
    give(changed, "wrong", found[8])
    classes.rename(at, "green", "Grün", "Ann")
    classes.merge(at, "kitten", "Kätzchen & Co", "Ann")
    classes.retire(at, "wrong", "Ann")
    classes.retire(at, "gone", "Ben")
    found = sorted(all_of(changed), key=lambda i: i.source)
    give(changed, "red", found[10], by="Ben")
    labels.undo(at, labels.Which(by="Ben", since=labels.history(at, found[10].id)[0].at), "Ann", "once")
    found = sorted(all_of(changed), key=lambda i: i.source)
    labels.flag(at, {i.id: i.label_seq for i in (found[0], found[2], found[11])}, True, "Ben")
    labels.flag(at, {found[11].id: store.get_image(at, found[11].id).label_seq}, False, "Ann")
    classes.order(at, ["red", "empty", "Grün"])
    store.add_predictions(at, [(found[0].id, "m1", "red", 0.25), (found[0].id, "m2", "no class", None), (found[3].id, "m1", "Grün", 1.0)])
    return store.get_dataset(at)


def histories(made: Dataset) -> dict[str, list[tuple[str | None, str, str, str, str, str | None]]]:
    """All events but their numbers, oldest first, with the names that classes have today."""
    words, found = events.names(made.id), dict[str, list[tuple[str | None, str, str, str, str, str | None]]]()
    for e in labels.all_events(made.id):
        known = (words.today(e.label, e.seq), e.source, e.by, e.at, e.note.partition("(called ")[0].strip(), words.today(e.previous, e.seq))
        found.setdefault(e.image_id, []).append(known)
    return found


def facts(made: Dataset) -> dict[str, object]:
    """All that every format carries."""
    listed = [(c.name, c.guideline, c.retired_at, set(c.accepted), set(c.rejected)) for c in classes.of(made.id)]
    found = {i.id: (i.label, i.split, i.flagged, i.source) for i in all_of(made)}
    return {"classes": listed, "images": found, "splits": store.get_dataset(made.id).splits_given}


@pytest.mark.parametrize("splits_given", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_a_dataset_that_was_worked_on_comes_back_whole(worked: Dataset, tmp_path: Path, format: str, splits_given: bool) -> None:
    if splits_given:
        store.set_splits_given(worked.id)
    assert [c.name for c in classes.of(worked.id) if c.retired_at] == ["kitten", "wrong", "gone"]
    export.export_now(worked.id, format, tmp_path / "one.zip")
    once, report = back(tmp_path / "one.zip", "once")
    assert (report.added, report.skipped) == (24, [])
    assert facts(once) == facts(worked) and once.classes == worked.classes[:3] + worked.classes[3:]
    export.export_now(once.id, format, tmp_path / "two.zip")
    twice, report = back(tmp_path / "two.zip", "twice")
    assert report.skipped == [] and facts(twice) == facts(worked)
    guesses = store.imported_predictions(worked.id)
    assert len(guesses) == 3
    expected = guesses if "predictions" in FORMATS[format].can else []
    assert store.imported_predictions(once.id) == store.imported_predictions(twice.id) == expected
    again = imports.import_now("once", sources.at(tmp_path / "two.zip"), "importer")
    assert (again.added, again.duplicates, again.skipped) == (0, 24, []) and facts(once) == facts(worked)


@pytest.mark.parametrize("format", able("history"))
def test_every_event_comes_back_with_who_and_when_and_the_import_is_one_more(worked: Dataset, tmp_path: Path, format: str) -> None:
    before = histories(worked)
    assert {e[1] for events in before.values() for e in events} == {"import", "manual", "merge", "retire", "undo", "flag", "unflag"}
    export.export_now(worked.id, format, tmp_path / "one.zip")
    started = now()
    once, _ = back(tmp_path / "one.zip", "once")
    after = histories(once)
    assert {i: events[:-1] for i, events in after.items()} == before
    assert all(
        (e[1], e[2]) == ("import", "importer") and e[3] >= started and e[4].startswith(("labelled by", "left without"))
        for *_, e in after.values()
    )
    export.export_now(once.id, format, tmp_path / "two.zip")
    assert {i: events[:-1] for i, events in histories(back(tmp_path / "two.zip", "twice")[0]).items()} == after
    renamed = next(i for i in all_of(once) if i.label == "Grün")
    assert labels.history(once.id, renamed.id)[1].note == "(called “green” then)"


@pytest.mark.parametrize("format", [name for name in FORMATS if name not in able("history")])
def test_without_the_history_an_import_is_the_first_event_and_says_who_labelled_only_where_the_format_does(
    worked: Dataset, tmp_path: Path, format: str
) -> None:
    export.export_now(worked.id, format, tmp_path / "one.zip")
    once, _ = back(tmp_path / "one.zip", "once")
    events = labels.all_events(once.id)
    assert {e.source for e in events} == {"import"} and {e.by for e in events} == {"importer"}
    assert any("Ann" in e.note for e in events) == ("who" in FORMATS[format].can)


def test_imported_events_are_shown_but_only_the_import_can_be_taken_back(worked: Dataset, tmp_path: Path) -> None:
    export.export_now(worked.id, "jsonl", tmp_path / "one.zip")
    once, _ = back(tmp_path / "one.zip", "once")
    assert history.people(once.id) == ["importer"] and {a.source for a in labels.acts(once.id, labels.Which(), 1)[0]} == {"import"}
    assert labels.undo(once.id, labels.Which(by="Ann"), "me", "a").images == 0 and facts(once) == facts(worked)
    flagged = next(i for i in all_of(once) if i.flagged and i.label)
    first = labels.history(once.id, flagged.id)[-2]  # Ann's first
    assert first.by == "Ann" and labels.go_back(once.id, flagged, first, "me").seqs
    assert store.get_image(once.id, flagged.id).label == first.previous == "blue"
    carrying = sum(i.label is not None or i.flagged for i in all_of(once))
    assert labels.undo(once.id, labels.Which(by="importer"), "me", "b").images == carrying - 1  # the one that I have changed since stays
    assert {i.label for i in all_of(once)} == {None, "blue"} and not any(i.flagged for i in all_of(once))


def test_going_back_to_a_word_that_only_an_imported_event_knows_makes_it_a_class(home: Path, tmp_path: Path) -> None:
    events = [event("puppy", None), event("dog", "puppy")]
    made, _ = back(lines_zip(tmp_path / "a.zip", {"label": "dog", "history": events}), "dogs")
    (one,) = all_of(made)
    assert made.classes == ("dog",) and labels.go_back(made.id, one, labels.history(made.id, one.id)[1], "me").seqs
    assert store.get_image(made.id, one.id).label == "puppy" and store.get_dataset(made.id).classes == ("dog", "puppy")


def event(label: object, previous: object, **more: object) -> dict[str, object]:
    at = "2026-01-02T03:04:05.678+00:00"
    return {"label": label, "source": "manual", "by": "Ann", "at": at, "note": "", "previous": previous, **more}


def lines_zip(path: Path, *records: Mapping[str, object]) -> Path:
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("metadata.jsonl", "\n".join(json.dumps({"file_name": f"{n}.png", **r}) for n, r in enumerate(records)))
        for n in range(len(records)):
            z.writestr(f"{n}.png", encoded(Pillow.new("RGB", (4, 4), (n, 0, 9))))
    return path


BROKEN: list[object] = [
    [event("cat", "dog")],  # nobody gave dog
    [event("dog", None)],  # and not cat
    [event("cat", None), event("cat", None)],
    [event("cat", None, by=7)],
    [event("cat", None, by=" ")],
    [event("cat", None, source=["manual"])],
    [event("cat", None, source="<b>")],
    [event("cat", None, at="yesterday")],
    [event("cat", None, at="2026-01-02T03:04:05")],  # of no place
    [event("cat", None, at="9999-12-31T23:59:59-23:00")],
    [event("cat", None, at="2199-01-01T00:00:00Z")],
    [event("cat", None, note={"a": 1})],
    [event("cat", None, note="x" * 100_000)],
    [event("../x", None), event("cat", "../x")],
    [event(["cat"], None)],
    [{"label": "cat"}],
    ["cat"],
    {"label": "cat"},
    "cat",
    7,
]


def test_a_history_that_does_not_hold_together_costs_only_itself_and_is_named(home: Path, tmp_path: Path) -> None:
    good = {"label": "cat", "history": [event("cat", None, at="2026-01-02T04:04:05.678+01:00", note="a\0b\nc", by="An\x1bn")]}
    made = lines_zip(tmp_path / "a.zip", good, *({"label": "cat", "history": history} for history in BROKEN))
    found, report = back(made, "cats")
    assert report.added == 1 + len(BROKEN) and [i.label for i in all_of(found)] == ["cat"] * report.added
    assert [(s.name, s.reason.startswith(f"in {len(BROKEN)} lines: the history"), "first: line 2" in s.reason) for s in report.skipped] == [
        ("metadata.jsonl", True, True)
    ]
    events = {i.source: labels.history(found.id, i.id) for i in all_of(found)}
    assert [(e.by, e.at, e.note) for e in events["0.png"]][1:] == [("An�n", "2026-01-02T03:04:05.678+00:00", "a�b�c")]
    assert all(len(e) == 1 and e[0].by == "importer" for name, e in events.items() if name != "0.png")
    assert events["1.png"][0].note == "labelled by Ann at 2026-01-02T03:04:05.678+00:00 (manual)"


def test_predictions_that_are_none_are_counted_and_the_others_imported(home: Path, tmp_path: Path) -> None:
    def answer(*choices: object, **more: object) -> dict[str, object]:
        return {"result": [{"type": "choices", "value": {"choices": list(choices)}}], **more}

    good = [answer("cat", model_version="m", score=0.5), answer("dog"), answer("wo\0lf", model_version=3, score=-2)]
    bad: list[object] = [
        answer("cat", score=float("nan")),
        answer("cat", score=float("inf")),
        answer("cat", score=10**400),
        answer("cat", score="0.5"),
        answer("cat", score=True),
        answer("cat", "dog", score=0.5),
        answer(score=0.5),
        answer("x" * 1000),
        answer("cat", model_version="m" * 1000),
        {"result": 5},
        "cat",
        None,
    ]
    tasks = [{"data": {"image": "0.png"}, "predictions": [*good, *bad]}, {"data": {"image": "1.png"}, "predictions": {"a": 1}}]
    made, report = back(tasks_zip(tmp_path / "a.zip", tasks, "0.png", "1.png"), "guessed")
    said = [(model, name, score) for _, model, name, score in store.imported_predictions(made.id)]
    assert said == [("3", "wo�lf", -2.0), ("m", "cat", 0.5), ("unknown", "dog", None)] and made.classes == ()
    (skipped,) = report.skipped
    assert skipped.name == "project-1.json" and skipped.reason.startswith(f"{len(bad) + 1} predictions: not imported")
    lines = [{"label": None, "predictions": [{"model": "m", "label": "cat", "score": 0.5}, {"label": "cat", "score": float("nan")}, 5]}]
    listed, report = back(lines_zip(tmp_path / "b.zip", *lines), "listed")
    assert [x[1:] for x in store.imported_predictions(listed.id)] == [("m", "cat", 0.5)] and "2 predictions" in report.skipped[0].reason


@pytest.mark.parametrize("format", able("predictions"))
def test_predictions_for_images_that_are_there_already_are_added(worked: Dataset, tmp_path: Path, format: str) -> None:
    export.export_now(worked.id, format, tmp_path / "out.zip")
    with schema.writing() as c:
        c.execute(schema.predictions.delete())
    report = imports.import_now("squares", sources.at(tmp_path / "out.zip"), "importer")
    assert (report.added, report.duplicates, len(store.imported_predictions(worked.id))) == (0, 24, 3)


def test_a_run_and_imported_predictions_leave_together(trained_copy: Trained, tmp_path: Path) -> None:
    answers = list(runs.read_predictions(runs.folder(trained_copy.run_id)))
    one, other = answers[0].image_id, answers[1].image_id
    rows = [(one, "theirs", "a cat", None), (one, trained_copy.run_id, "as it was", 0.1), (other, "theirs", "7", 0.5)]
    store.add_predictions(trained_copy.dataset.id, rows)
    for format in able("predictions"):
        export.export_now(trained_copy.dataset.id, format, tmp_path / f"{format}.zip", run_id=trained_copy.run_id)
        said = {images.image_id(e.data or b""): e.guesses for e in sources.open_source(sources.at(tmp_path / f"{format}.zip")).entries}
        assert said[one] == (("theirs", "a cat", None), (trained_copy.run_id, answers[0].predicted, answers[0].confidence))
        assert len(said[other]) == 2


@pytest.mark.parametrize("format", FORMATS)
def test_a_table_that_repeats_itself_is_never_taken_for_a_bomb(
    worked: Dataset, tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add_predictions(worked.id, [(i.id, f"model {n}", "the same", 0.5) for i in all_of(worked) for n in range(100)])
    for module in (unpacker,):
        monkeypatch.setattr(module, "MAX_RATIO", 10)
        monkeypatch.setattr(module, "RATIO_FROM", 1000)
    export.export_now(worked.id, format, tmp_path / "out.zip")
    again, report = back(tmp_path / "out.zip", "again")
    assert report.skipped == [] and facts(again) == facts(worked)
    with zipfile.ZipFile(tmp_path / "out.zip") as z:
        assert max(i.file_size / i.compress_size for i in z.infolist()) < 10


# loupe.json


def with_about(path: Path, about: object) -> Path:
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("set/cat/0.png", encoded(noise(1)))
        z.writestr("set/dog/1.png", encoded(noise(2)))
        z.writestr("set/loupe.json", about if isinstance(about, bytes) else json.dumps(about))
    return path


@pytest.mark.parametrize(
    "about",
    [
        *(b"", b"\xff\xfe", b"{", b"null", b"[1]", b"[" * 100_000, b'{"classes": {}}', b'{"classes": [], "images": []}'),
        {"classes": [{"name": "cat"}] * 10_001},
    ],
)
def test_a_damaged_loupe_json_is_named_and_the_import_goes_on(home: Path, tmp_path: Path, about: object) -> None:
    made, report = back(with_about(tmp_path / "a.zip", about), "pets")
    assert made.classes == ("cat", "dog") and report.added == 2
    assert [s.name for s in report.skipped] == ["set/loupe.json"] and report.skipped[0].reason.endswith("about the classes is left out.")


def test_a_class_that_loupe_does_not_write_so_is_named_and_the_others_are_imported(home: Path, tmp_path: Path) -> None:
    wrong: list[object] = [
        5,
        {"guideline": "x"},
        {"name": 7},
        {"name": ""},
        {"name": "../x"},
        {"name": "n" * 10_000},
        {"name": "x", "guideline": 5},
        {"name": "x", "guideline": "g" * 2001},
        {"name": "x", "retired_at": "never"},
        {"name": "x", "retired_at": 5},
        {"name": "x", "accepted": "cat/0.png"},
        {"name": "x", "accepted": [5]},
        {"name": "x", "rejected": ["cat/0.png"] * 13},
    ]
    good = [
        {"name": "dog", "guideline": "a\nb\tc\0\x1b[31m", "more": 1, "accepted": ["dog/1.png", "nowhere.png", "../../etc/passwd"]},
        {"name": "dog", "guideline": "twice"},
        {"name": "cat", "retired_at": "2026-01-01T00:00:00Z"},
        {"name": "o\nl\x00d", "retired_at": "2026-01-01T00:00:00Z"},
    ]
    pictures = {"cat/0.png": {"source": "ki\0tty.png", "flagged": True}, "dog/1.png": {"source": 5, "flagged": 1}, "x": 3}
    made, report = back(with_about(tmp_path / "a.zip", {"classes": [*good, *wrong], "images": pictures, "more": []}), "pets")
    assert [s.name for s in report.skipped] == [*(f"loupe.json, class {n}" for n in range(5, 5 + len(wrong))), "loupe.json"]
    assert "begin with a dot" in report.skipped[4].reason and report.skipped[-1].reason.startswith("2 images") and report.added == 2
    dog, cat, old = classes.of(made.id)
    assert (dog.name, dog.guideline, len(dog.accepted)) == ("dog", "a\nb\tc��[31m", 1)
    assert (cat.name, cat.retired_at) == ("cat", None)  # an image carries it
    assert (old.name, old.retired_at) == ("o�l�d", "2026-01-01T00:00:00.000+00:00")
    assert {i.source: i.flagged for i in all_of(made)} == {"ki�tty.png": True, "set/dog/1.png": False}


def test_what_is_imported_obeys_the_same_limits_as_what_is_typed() -> None:
    def read(guideline: int, examples: int) -> int:
        told = {"classes": [{"name": "x", "guideline": "g" * guideline, "accepted": [f"{i}.png" for i in range(examples)]}]}
        return len(tables.read_about(json.dumps(told), []).classes)

    assert read(names.MAX_GUIDELINE, names.MAX_EXAMPLES) == 1
    assert read(names.MAX_GUIDELINE + 1, 0) == read(0, names.MAX_EXAMPLES + 1) == 0


def test_a_huge_loupe_json_is_not_read(home: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "cat").mkdir(parents=True)
    (tmp_path / "in" / "cat" / "0.png").write_bytes(encoded(noise(1)))
    with open(tmp_path / "in" / "loupe.json", "wb") as f:
        f.truncate(200_000_000)
    made, report = back(tmp_path / "in", "huge")
    assert report.added == 1 and made.classes == ("cat",)
    assert "has 200 MB. Up to 50 MB" in report.skipped[0].reason and len(report.skipped) == 1


def test_what_a_dataset_has_stays_and_new_classes_are_appended(
    worked: Dataset, tmp_path: Path, squares: Callable[[Path, int], Path]
) -> None:
    here = store.create_dataset("here")
    classes.ensure(here.id, ["mine", "Grün", "wrong"])
    classes.describe(here.id, "Grün", "as we see it")
    export.export_now(worked.id, "csv", tmp_path / "out.zip")
    made, report = back(tmp_path / "out.zip", "here")
    assert report.skipped == [] and made.classes == ("mine", "Grün", "wrong", "red", "empty", "blue", "Kätzchen & Co", "train")
    one = {c.name: c for c in classes.of(made.id)}
    assert one["Grün"].guideline == "as we see it" and one["Grün"].accepted == one["Grün"].rejected == ()  # they show another guideline
    assert one["wrong"].retired_at is None and one["gone"].retired_at and one["gone"].guideline == "not any more"


@pytest.mark.parametrize("format", FORMATS)
def test_images_of_one_name_are_told_apart(home: Path, tmp_path: Path, format: str) -> None:
    made = store.create_dataset("same")
    for shade, name in enumerate(("a/x.png", "b/x.png", "c/X.png", "x-2.png")):
        add(made, name, encoded(Pillow.new("RGB", (4, 4), (shade, 0, 0))), "cat")
    export.export_now(made.id, format, tmp_path / "out.zip")
    pictures = [Path(n).name for n in members(tmp_path / "out.zip") if n.endswith(".png")]
    assert len({n.casefold() for n in pictures}) == 4 and "x.png" in {n.casefold() for n in pictures}
    assert back(tmp_path / "out.zip", "again")[1].added == 4


# Metadata


def encoded(picture: Pillow.Image, fmt: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, fmt, **options)
    return out.getvalue()


def noise(seed: int, size: tuple[int, int] = (40, 24)) -> Pillow.Image:
    shape = (size[1] // 8, size[0] // 8, 3)  # soft, so that a JPEG is close to it
    small = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return Pillow.fromarray(small).resize(size, Pillow.Resampling.BICUBIC)


def add(made: Dataset, name: str, data: bytes, label: str | None = None) -> Image:
    path = settings().home / "incoming"
    path.write_bytes(data)
    one = imports.add_upload(made, path, name)
    labels.add_images(made.id, [one if label is None else Image(**{**vars(one), "label": label})], "tester", "import")
    return store.get_image(made.id, one.id)


def secretive(orientation: int | None) -> Pillow.Exif:
    exif = Pillow.Exif()
    exif[0x010F] = "SecretCamera"
    if orientation is not None:
        exif[0x0112] = orientation
    return exif


def png_with_text(orientation: int | None) -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "SecretCamera")
    text.add_itxt("XML:com.adobe.xmp", "<x>SecretCamera</x>")
    return encoded(noise(2), "PNG", pnginfo=text, exif=secretive(orientation))


def photo(orientation: int | None) -> bytes:
    options = {"exif": secretive(orientation), "comment": b"SecretCamera", "xmp": b"SecretCamera", "icc_profile": b"a profile" * 9}
    return encoded(noise(1), "JPEG", **options) + b"behind the end: SecretCamera"


MADE: dict[str, Callable[[int | None], bytes]] = {
    "jpg": photo,
    "progressive.jpg": lambda o: encoded(noise(1), "JPEG", progressive=True, exif=secretive(o)),
    "cmyk.jpg": lambda o: encoded(noise(1).convert("CMYK"), "JPEG", exif=secretive(o)),
    "png": png_with_text,
    "rgba.png": lambda o: encoded(noise(1).convert("RGBA"), "PNG", exif=secretive(o)),
    "16bit.png": lambda o: encoded(Pillow.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100), "PNG", exif=secretive(o)),
    "lossless.webp": lambda o: encoded(noise(3), "WEBP", lossless=True, exif=secretive(o), xmp=b"SecretCamera"),
    "lossy.webp": lambda o: encoded(noise(3), "WEBP", exif=secretive(o), xmp=b"SecretCamera"),
    "tif": lambda o: encoded(noise(4), "TIFF", tiffinfo={271: "SecretCamera", **({274: o} if o else {})}),
}


@pytest.mark.parametrize("orientation", [None, 1, 6])
@pytest.mark.parametrize("form", MADE)
def test_metadata_is_gone_and_the_picture_upright(form: str, orientation: int | None) -> None:
    data = MADE[form](orientation)
    assert b"SecretCamera" in data
    out = images.shareable(data)
    with Pillow.open(io.BytesIO(out)) as picture:
        assert not {k: v for k, v in picture.getexif().items() if form != "tif" or k in (0x010F, 0x0112)}
        assert not {"exif", "xmp", "comment", "Comment"} & picture.info.keys()
    assert b"SecretCamera" not in out
    before, after = (np.asarray(images.open_picture(d), np.int16) for d in (data, out))
    assert before.shape == after.shape
    if orientation == 6 and form.endswith("jpg"):
        assert np.abs(before - after).mean() < 3  # encoded anew, at quality 95
    elif orientation == 6 and form == "lossy.webp":
        assert np.abs(before - after).mean() < 6
    else:
        assert (before == after).all()
    assert images.shareable(out) == out or form == "tif"


def test_a_colour_profile_stays_and_a_small_picture_inside_goes() -> None:
    out = images.shareable(photo(None))
    assert b"ICC_PROFILE" in out and Pillow.open(io.BytesIO(out)).info["icc_profile"] == b"a profile" * 9
    plain = encoded(noise(1), "JPEG")
    inside = plain[:4] + struct.pack(">H", 16 + 48)[0:2] + plain[6:18] + b"\x04\x04" + b"S" * 48 + plain[20:]
    assert images.shareable(inside) == plain


def test_a_jpeg_of_several_pictures_as_phones_write_them_is_imported_and_only_the_first_leaves(home: Path) -> None:
    data = encoded(noise(1), "MPO", save_all=True, append_images=[noise(2)], exif=secretive(None))
    assert images.examine(data).ext == "jpg"
    out = images.shareable(data)
    assert Pillow.open(io.BytesIO(out)).format == "JPEG" and pixels(out) == pixels(data) and b"SecretCamera" not in out


@pytest.mark.parametrize("version", ["GIF", "animated"])
def test_a_gif_loses_its_comment_and_keeps_its_frames(version: str) -> None:
    more = {"save_all": True, "append_images": [noise(6), noise(7)], "loop": 0} if version == "animated" else {}
    data = encoded(noise(5), "GIF", comment=b"SecretCamera", **more)
    out = images.shareable(data)
    assert b"SecretCamera" in data and b"SecretCamera" not in out and pixels(out) == pixels(data)
    assert getattr(Pillow.open(io.BytesIO(out)), "n_frames", 1) == (3 if more else 1)


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_a_file_without_metadata_leaves_as_it_is(fmt: str) -> None:
    data = encoded(noise(1), fmt)
    assert images.shareable(data) == data


def test_cut_off_and_garbled_files_are_never_looped_over(home: Path) -> None:
    for form, make in MADE.items():
        data = make(1)
        for cut in range(0, len(data), max(1, len(data) // 60)):
            strip.metadata(data[:cut])
            strip.metadata(data[:cut] + b"\xff" * 40 + data[cut + 40 :])
        assert form


def test_originals_leave_untouched_when_they_are_asked_for(home: Path, tmp_path: Path) -> None:
    made = store.create_dataset("photos")
    data = photo(6)
    add(made, "holiday/beach.jpg", data, "sea")
    export.export_now(made.id, "csv", tmp_path / "plain.zip")
    export.export_now(made.id, "csv", tmp_path / "originals.zip", originals=True)
    assert members(tmp_path / "originals.zip")[f"{all_of(made)[0].split}/beach.jpg"] == data
    plain = members(tmp_path / "plain.zip")[f"{all_of(made)[0].split}/beach.jpg"]
    assert b"SecretCamera" not in plain and Pillow.open(io.BytesIO(plain)).size == (24, 40)


# Names and cells


@pytest.mark.parametrize("format", FORMATS)
def test_unsafe_names_leave_as_harmless_ones(home: Path, tmp_path: Path, format: str) -> None:
    made = store.create_dataset("unsafe")
    hostile = (
        "../../etc/passwd.png",
        "/abs.png",
        "..\\up.png",
        "C:\\x\\con.png",
        ".hidden.png",
        "a\nb.png",
        "=1+1.png",
        "é" * 300 + ".png",
        "x",
    )
    for shade, name in enumerate(hostile):
        add(made, name, encoded(Pillow.new("RGB", (4, 4), (shade, 0, 0))), "cat" if shade % 2 else None)
    export.export_now(made.id, format, tmp_path / "out.zip")
    names = [n for n in members(tmp_path / "out.zip") if n.endswith(".png")]
    assert len(names) == len(hostile)
    for name in names:
        parts = name.split("/")
        assert not name.startswith("/") and ".." not in parts and not any(p.startswith(".") for p in parts), name
        assert not re.search(r"[\\:\n]", name) and len(parts[-1].encode()) < 255 and parts[-1] != "con.png"
    assert any(n.endswith("/=1+1.png") for n in names) and any(n.endswith("/passwd.png") for n in names)
    again, report = back(tmp_path / "out.zip", "again")
    assert (report.added, report.skipped) == (len(hostile), [])
    assert sorted((i.id, i.label) for i in all_of(again)) == sorted((i.id, i.label) for i in all_of(made))


@pytest.mark.parametrize("label", ["=1+1", "+49", "-5", "@me", "'=x", "''+y", "'quoted'", "a,b", 'say "hi"', "Ünïcödé 猫", "a;b", "0"])
def test_cells_that_a_spreadsheet_would_compute_are_disarmed_and_come_back(home: Path, tmp_path: Path, label: str) -> None:
    made = store.create_dataset("formulas")
    add(made, "x.png", encoded(noise(1)), label)
    export.export_now(made.id, "csv", tmp_path / "out.zip")
    header, row = csv.reader(io.StringIO(members(tmp_path / "out.zip")[f"{all_of(made)[0].split}/metadata.csv"].decode(), newline=""))
    assert header == ["file_name", "label", "split", "flagged", "source"] and row[0] == "x.png" and row[3] == "false"
    assert not row[1].startswith(("=", "+", "-", "@", "\t", "\r"))
    assert [i.label for i in all_of(back(tmp_path / "out.zip", "again")[0])] == [label]


def test_a_tab_and_a_line_break_at_the_start_are_disarmed_too() -> None:
    assert [spreadsheet.cell(t) for t in ("\t=1", "\r1", "cat", "", "'cat")] == ["'\t=1", "'\r1", "cat", "", "'cat"]


def test_a_class_that_cannot_be_a_folder_is_written_under_a_name_that_no_other_class_has(home: Path, tmp_path: Path) -> None:
    made = store.create_dataset("odd")
    labels = ("a/b", "a_b", "a\\b", "..", "Cat", "cat", "猫?")
    for shade, name in enumerate(labels):
        add(made, "x.png", encoded(Pillow.new("RGB", (4, 4), (shade, 0, 0))), name)
    export.export_now(made.id, "folders", tmp_path / "out.zip")
    folders = {n.split("/")[1] for n in members(tmp_path / "out.zip") if "/" in n}
    assert len(folders) == len(labels) and {"a_b", "a_b-2", "a_b-2-2", "class", "Cat", "cat", "猫?"} == folders
    for format in (name for name, one in FORMATS.items() if one.suffix):
        export.export_now(made.id, format, tmp_path / f"{format}.zip")
        report = back(tmp_path / f"{format}.zip", format)[1]
        assert report.added == 6, report  # all but the one that every import refuses
        assert all("begin with a dot" in s.reason or "last event says (first: line 4)" in s.reason for s in report.skipped), report


# Refusals, and exports that do not reach their end


@pytest.mark.parametrize("format", FORMATS)
def test_a_dataset_without_images_is_not_exported(home: Path, tmp_path: Path, format: str) -> None:
    made = store.create_dataset("empty")
    with pytest.raises(Invalid, match="“empty” holds no images"):
        export.export_now(made.id, format, tmp_path / "out.zip")
    with pytest.raises(Invalid, match="holds no images"):
        export.start(made.id, format, "me")
    assert list(tmp_path.glob("*.zip")) == [] and not settings().exports.exists()


def test_what_cannot_be_exported_is_said_before_anything_is_written(small: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out.zip"
    with pytest.raises(Invalid, match=", ".join(FORMATS)):
        export.export_now(small.id, "coco", out)
    with pytest.raises(Invalid, match="does not exist"):
        export.export_now(small.id, "csv", tmp_path / "nowhere" / "out.zip")
    with pytest.raises(Invalid, match="is a folder"):
        export.export_now(small.id, "csv", tmp_path)
    with pytest.raises(Invalid, match="Only JSONL and Label Studio hold predictions"):
        export.export_now(small.id, "csv", out, run_id="x")
    with pytest.raises(NotFound, match="no run"):
        export.export_now(small.id, "label-studio", out, run_id="x")
    store.set_deleted(small.id, True)
    with pytest.raises(NotFound, match="was deleted"):
        export.export_now(small.id, "csv", out)
    assert not out.exists()


def test_a_stop_in_the_middle_leaves_the_old_file_or_none(small: Dataset, tmp_path: Path) -> None:
    out, told = tmp_path / "to" / "out.zip", list[int]()
    out.parent.mkdir()

    def ten(done: int, _total: int, _what: str) -> None:
        if len(told) == 10:
            raise Stopped
        told.append(done)

    for before in (b"", b"the old one"):
        told.clear()
        if before:
            out.write_bytes(before)
        with pytest.raises(Stopped):
            export.export_now(small.id, "folders", out, ten)
        assert told == list(range(10)) and [p.read_bytes() for p in out.parent.iterdir()] == ([before] if before else [])


def test_an_image_whose_file_is_gone_damaged_or_another_costs_only_itself_and_is_named(small: Dataset, tmp_path: Path) -> None:
    gone, damaged, swapped, other = all_of(small)[:4]
    (settings().images / gone.path).unlink()
    (settings().images / damaged.path).write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (settings().images / swapped.path).write_bytes((settings().images / other.path).read_bytes())
    report = export.export_now(small.id, "csv", tmp_path / "out.zip")
    assert report.images == 21 and [s.name for s in report.skipped] == [gone.source, damaged.source, swapped.source]
    assert back(tmp_path / "out.zip", "again")[1].added == 21


def test_labels_given_during_an_export_are_not_told_half(small: Dataset, tmp_path: Path) -> None:
    first = all_of(small)[0]

    def meanwhile(done: int, total: int, what: str) -> None:
        if done == 5:
            give(small, "green", first)

    export.export_now(small.id, "jsonl", tmp_path / "out.zip", meanwhile)
    lines = told(tmp_path / "out.zip")
    assert all(line["history"][-1]["label"] == line["label"] for line in lines)
    assert store.get_image(small.id, first.id).label == "green"


# Label Studio


def task(image: object, *choices: str, **more: object) -> dict[str, object]:
    result = [{"from_name": "animal", "to_name": "img", "type": "choices", "value": {"choices": list(choices)}}] if choices else []
    return {"id": 7, "data": {"image": image}, "annotations": [{"result": result, "was_cancelled": False, **more}] if choices else []}


def tasks_zip(path: Path, tasks: object, *files: str) -> Path:
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("project-1.json", json.dumps(tasks))
        for shade, name in enumerate(files):
            z.writestr(name, encoded(Pillow.new("RGB", (4, 4), (shade, 0, 9))))
    return path


def read(path: Path) -> tuple[dict[str, str | None], dict[str, str]]:
    opened = sources.open_source(sources.at(path))
    return {e.name: e.label for e in opened.entries}, {s.name: s.reason for s in opened.skipped}


def test_label_studios_ways_to_name_an_image_are_understood(tmp_path: Path) -> None:
    given = {
        "images/1.png": "images/1.png",
        "/data/upload/3/0a1b2c3d-two%20words.png": "two words.png",
        "/data/upload/3/0a1b2c3d-3.png": "pics/0a1b2c3d-3.png",
        "/data/local-files/?d=mnt%2Fset/4.png": "set/4.png",
        "https://example.org/some/5.png?x=1": "5.png",
        "s3://bucket/6.png": "deep/er/6.png",
        "C:\\Users\\me\\7.png": "7.png",
    }
    tasks = [task(image, f"class {n}") for n, image in enumerate(given)]
    found, reasons = read(tasks_zip(tmp_path / "a.zip", tasks, *given.values()))
    assert found == {name: f"class {n}" for n, name in enumerate(given.values())} and reasons == {}


def test_an_image_under_another_key_is_found(tmp_path: Path) -> None:
    tasks = [{"data": {"id": 5, "title": "a cat", "photo": "/data/upload/1/1.png"}}]
    assert read(tasks_zip(tmp_path / "a.zip", tasks, "1.png"))[0] == {"1.png": None}


def test_an_image_that_did_not_come_along_is_never_fetched_and_named(tmp_path: Path) -> None:
    tasks = [
        task("1.png", "cat"),
        task("https://example.org/2.png", "cat"),
        task("../secret.png", "cat"),
        task("x.png", "cat"),
        task(5),
        "no",
    ]
    (tmp_path / "secret.png").write_bytes(encoded(noise(1)))
    (tmp_path / "set").mkdir()
    made = tasks_zip(tmp_path / "set" / "a.zip", tasks, "1.png", "a/x.png", "b/x.png")
    found, reasons = read(made)
    assert found == {"1.png": "cat"}
    assert "fetches nothing from the web" in reasons["project-1.json, task 2"] and "is not there" in reasons["project-1.json, task 3"]
    assert "2 files called x.png" in reasons["project-1.json, task 4"] and "names no image" in reasons["project-1.json, task 5"]
    assert "not a task" in reasons["project-1.json, task 6"]
    with zipfile.ZipFile(made) as z:
        z.extractall(tmp_path / "set")
    assert read(tmp_path / "set" / "project-1.json")[0] == {"1.png": "cat"}  # the same for a folder and the table in it


def test_cancelled_missing_disagreeing_and_double_answers_are_imported_as_what_they_are(tmp_path: Path) -> None:
    tasks = [
        task("0.png", "cat", was_cancelled=True),
        task("1.png"),
        task("2.png", "cat", "dog"),
        {**task("3.png"), "annotations": [*task("", "cat")["annotations"], *task("", "dog")["annotations"]]},  # type: ignore[misc]
        {**task("4.png"), "predictions": [{"result": [], "score": 0.5}]},
    ]
    found, reasons = read(tasks_zip(tmp_path / "a.zip", tasks, *(f"{n}.png" for n in range(5))))
    assert found == {"0.png": None, "1.png": None, "2.png": None, "3.png": "dog", "4.png": None}
    assert "2 labels (cat, dog)" in reasons["project-1.json, task 3"] and "do not agree" in reasons["project-1.json, task 4"]
    assert reasons["project-1.json"].startswith("1 predictions: not imported") and "(first: task 5)" in reasons["project-1.json"]


def test_who_annotated_in_label_studio_stands_in_the_note(home: Path, tmp_path: Path) -> None:
    tasks = [
        task("0.png", "cat", completed_by={"id": 1, "email": "ann@example.org"}, created_at="2026-01-02T03:04:05Z"),
        task("1.png", "cat", completed_by=3),
    ]
    made, _ = back(tasks_zip(tmp_path / "a.zip", tasks, "0.png", "1.png"), "annotated")
    notes = {i.source: labels.history(made.id, i.id)[0].note for i in all_of(made)}
    assert notes["0.png"] == "labelled by ann@example.org at 2026-01-02T03:04:05Z (Label Studio)"
    assert notes["1.png"] == "labelled by 3 (Label Studio)"


@pytest.mark.parametrize("text", ["{}", "[]", "[1]", "nonsense", '{"images": [], "annotations": []}', "[" * 10_000])
def test_another_json_file_beside_images_is_no_table(tmp_path: Path, text: str) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").write_bytes(encoded(noise(1)))
    (tmp_path / "info.json").write_text(text)
    assert read(tmp_path)[0] == {"cat/1.png": "cat"}
    with pytest.raises(Invalid, match="not a list of Label Studio tasks"):
        read(tmp_path / "info.json")


def test_tasks_carry_the_predictions_of_the_chosen_run(trained: Trained, tmp_path: Path) -> None:
    report = export.export_now(trained.dataset.id, "label-studio", tmp_path / "out.zip", run_id=trained.run_id)
    inside = members(tmp_path / "out.zip")
    tasks = json.loads(inside["tasks.json"])
    assert len(tasks) == report.images == 300
    rows = {p.image_id: p for p in runs.read_predictions(runs.folder(trained.run_id))}
    predicted = [t for t in tasks if t["predictions"]]
    assert len(predicted) == len(rows) > 0 and {t["data"]["split"] for t in predicted} <= {"train", "test", "validation"}
    for one in predicted:
        (prediction,) = one["predictions"]
        name = one["data"]["image"].removeprefix(label_studio.LOCAL_FILES)
        row = rows[images.image_id(inside[name])]
        assert (prediction["model_version"], prediction["score"]) == (trained.run_id, row.confidence)
        assert prediction["result"][0]["value"] == {"choices": [row.predicted]}
    (annotation,) = tasks[0]["annotations"]
    assert annotation["result"][0]["type"] == "choices" and "completed_by" not in annotation  # Label Studio knows none of our names
    assert '<Choice value="9"/>' in inside["config.xml"].decode()
    opened = sources.open_source(sources.at(tmp_path / "out.zip"))
    assert (opened.total, opened.skipped) == (300, [])
    said = {e.name: e.guesses for e in opened.entries if e.guesses}
    names = {i.id: i.source for i in all_of(trained.dataset)}
    assert said == {names[i]: ((trained.run_id, p.predicted, p.confidence),) for i, p in rows.items()}


# The command line, the background and the download


Command = Callable[..., subprocess.CompletedProcess[str]]


def test_the_command_line_writes_a_zip_and_says_what_is_in_it(small: Dataset, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "out.zip"
    done = command("export-dataset", "squares", "--format", "csv", "--out", str(out))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said == {"dataset": "squares", "format": "csv", "images": 24, "bytes": out.stat().st_size, "out": str(out), "skipped": []}
    for wrong, code in (
        (("nothing", "--format", "csv", "--out", str(out)), 2),
        (("squares", "--format", "coco", "--out", str(out)), 2),
        (("squares", "--format", "csv", "--run", "x", "--out", str(out)), 2),
        (("squares", "--format", "label-studio", "--run", "x", "--out", str(out)), 1),
        (("squares", "--format", "csv", "--out", str(tmp_path / "no" / "out.zip")), 1),
    ):
        done = command("export-dataset", *wrong)
        assert (done.returncode, done.stdout) == (code, "") and "Traceback" not in done.stderr, wrong


def ended(export_id: str) -> jobs.State:
    deadline = time.monotonic() + 60
    while (state := export.state(export_id)).status == "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    return state


@pytest.fixture
def client(home: Path) -> TestClient:
    handlers = {AppError: routes.app_error, HTTPException: routes.http_error}
    return TestClient(Starlette(routes=routes.ROUTES, exception_handlers=handlers), base_url="http://localhost:8501")


def test_an_export_in_the_background_is_downloaded_by_its_signed_address_only(
    home: Path, squares: Callable[[Path, int], Path], tmp_path: Path, client: TestClient
) -> None:
    made = stored_dataset("Käse: 1/2?", squares(tmp_path / "squares", 4))
    export_id = export.start(made.id, "folders", "me")
    state = ended(export_id)
    report = export.report(state)
    assert state.status == "done" and report is not None and report == export.ExportReport(12, report.bytes, []) and report.bytes > 0
    answer = client.get(signing.signed(export.address(state)))
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"].startswith("attachment; filename*=utf-8''K%C3%A4se_")
    assert "no-store" in answer.headers["cache-control"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as z:
        assert len(z.namelist()) == 13
    path, _, query = signing.signed(export.address(state)).partition("?")
    for bad in (path, f"{path}?{query[:-1]}", f"{path.replace('folders', 'csv')}?{query}"):
        assert client.get(bad).status_code == 403, bad
    for gone in (path.replace("folders", "csv"), "/export/20260101-000000-abcdef/csv.zip", "/export/../csv.zip"):
        assert client.get(signing.signed(gone)).status_code == 404, gone
    assert export.unseen(made.id) is None


def test_a_stopped_a_failed_and_a_killed_export_say_so_and_leave_no_zip(
    small: Dataset, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nothing:
        def start(self, folder: Path, command: list[str]) -> None: ...
        def alive(self, folder: Path) -> bool:
            return False

        def kill(self, folder: Path) -> None: ...

    monkeypatch.setattr(launch, "launcher", Nothing())
    killed, stopped, failed = (export.start(small.id, "csv", "me") for _ in range(3))
    assert export.state(killed).status == "lost" and "without a word" in export.state(killed).message
    export.stop(stopped)
    jobs.run(settings().exports / stopped, export.EXPORT)
    store.set_deleted(small.id, True)
    jobs.run(settings().exports / failed, export.EXPORT)
    assert export.state(stopped).status == "stopped" and "was deleted" in export.state(failed).message
    assert list(settings().exports.glob("*/*.zip")) == list(settings().exports.glob("*/.*.tmp")) == []
    for one in (killed, stopped, failed):
        assert client.get(signing.signed(export.address(export.state(one)))).status_code == 404
    with pytest.raises(NotFound, match="does not exist"):
        export.state("../imports")


def test_an_old_zip_makes_room(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    first = export.start(small.id, "csv", "me")
    assert ended(first).status == "done"
    while launch.launcher.alive(settings().exports / first):  # it says so a moment before it ends
        time.sleep(0.05)
    monkeypatch.setattr(export, "KEEP", -1)
    second = export.start(small.id, "csv", "me")
    assert ended(second).status == "done" and [p.name for p in settings().exports.glob("[0-9]*")] == [second]


def test_a_png_that_lies_about_its_size_is_left_out(home: Path, tmp_path: Path) -> None:
    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    made = store.create_dataset("bomb")
    one, _ = add(made, "bomb.png", encoded(noise(1))), add(made, "good.png", encoded(noise(2)))
    header = part(b"IHDR", struct.pack(">IIBBBBB", 10_000, 12_000, 8, 0, 0, 0, 0))
    text = part(b"tEXt", b"a\0b")  # so that it is looked into
    bad = b"\x89PNG\r\n\x1a\n" + header + text + part(b"IDAT", zlib.compress(bytes(1000))) + part(b"IEND", b"")
    (settings().images / one.path).write_bytes(bad)
    report = export.export_now(made.id, "csv", tmp_path / "out.zip")
    assert report.images == 1 and [one.name for one in report.skipped] == ["bomb.png"]
    assert report.skipped[0].reason.startswith("Its file is not the one that was imported")
