"""The Dataset page while an import asks, and after it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from streamlit.testing.v1 import AppTest

from core.data import imports, sources, store, uploads
from core.runs import jobs
from core.settings import settings
from core.types import Dataset
from tests.cases.packed import packed
from tests.data.opened import folder_of
from tests.pages.app import elements, opened, words


def press(app: AppTest, label: str) -> None:
    next(b for b in app.button if b.label == label).click().run()
    assert not app.exception, app.exception


@pytest.fixture
def asking(home: Path, in_this_process: None) -> str:
    """An import that had to guess: its id."""
    names = [f"set_{split}/{name}/{i}.png" for split in ("train", "test") for i, name in enumerate(("a<b>*c*", "dog"))]
    return imports.start(sources.at(folder_of(home / "inbox" / "set", *names, "notes.txt")), "pets", "Ann")


def test_an_import_that_guesses_asks_first_and_goes_on_when_told(asking: str) -> None:
    app = opened("dataset", view="Add images", **{"import": asking})
    assert not app.exception and not app.error and "Is this right? Nothing is stored yet" in words(app)
    assert "4 images of **set** into a new dataset, “pets”" in words(app) and "was taken for the train split" in words(app)
    (table,) = [e.proto.body for e in elements(app, "html") if 'class="sight-table"' in e.proto.body]
    assert "<b>a&lt;b&gt;*c*</b>" in table and table.count("<img src=") == 4 and ">Training<" in table and ">Test<" in table
    assert "From your computer" not in words(app) and store.list_datasets() == []
    press(app, "Import")
    assert "Import finished" in words(app) and "4 added" in words(app) and "b\\>\\*c\\* 2, dog 2" in words(app)
    assert store.find_dataset("pets") is not None and "Is this right" not in words(app) and "import" not in app.query_params


def test_names_that_were_guessed_wrong_are_read_otherwise_by_a_choice(home: Path, in_this_process: None) -> None:
    (home / "inbox").mkdir()
    made = packed(home / "inbox" / "a.zip", ("猫/1.png", "cp932"), ("犬/2.png", "cp932"))
    app = opened("dataset", view="Add images", **{"import": imports.start(sources.at(made), "pets", "Ann")})
    (box,) = [b for b in app.selectbox if b.label == "The names read right as"]
    assert "猫, 犬  ·  Japanese (cp932)" in box.options and box.value == "cp932"
    box.select("gb18030").run()
    assert not app.exception and "Is this right" in words(app) and "gb18030" in words(app) and store.list_datasets() == []


def test_an_import_that_guesses_is_declined_and_leaves_nothing(asking: str) -> None:
    app = opened("dataset", view="Add images", **{"import": asking})
    press(app, "Do not import")
    assert "Is this right" not in words(app) and "From your computer" in words(app) and not app.error
    assert store.list_datasets() == [] and "import" not in app.query_params


def test_an_import_that_is_gone_is_said_and_the_page_goes_on(home: Path) -> None:
    app = opened("dataset", view="Add images", **{"import": "20260101-000000-abcdef"})
    assert "does not exist any more" in words(app) and "From your computer" in words(app)
    app.run()
    assert not app.error


def test_labels_that_come_later_are_given_by_one_click_and_what_differs_is_asked_again(home: Path, in_this_process: None) -> None:
    folder = folder_of(home / "inbox" / "set", "cat/1.png", "cat/2.png", "2.png")
    assert imports.import_now("pets", sources.at(home / "inbox" / "set"), "Ann").added == 3
    found = store.find_dataset("pets")
    assert found is not None
    by_name = {image.source: image for image in store.all_images(found.id)}
    for name, to in (("2.png", "dog"), ("cat/2.png", "dog")):
        (folder / to).mkdir(exist_ok=True)
        (folder / name).rename(folder / to / name.replace("/", "-"))
    app = opened("dataset", view="Add images", **{"import": imports.start(sources.at(folder), "pets", "Bob")})
    assert "1 image that is here without a label has one in this source**: dog 1." in words(app)
    assert "1 image carries another label here than in this source" in words(app) and "import" in app.query_params
    press(app, "Give this label")
    assert store.get_image(found.id, by_name["2.png"].id).label == "dog" and "without a label" not in words(app)
    press(app, "Replace this label …")
    assert store.get_image(found.id, by_name["cat/2.png"].id).label == "cat"
    assert "1 image of **pets** gets the label of" in words(app) and "Replace" in [b.label for b in app.button]
    app.run()
    assert "import" in app.query_params and not app.exception and not app.error


def test_an_import_that_was_cut_off_is_begun_again_by_one_click(home: Path, in_this_process: None) -> None:
    source = sources.at(folder_of(home / "inbox" / "set", "cat/1.png", "dog/2.png"))
    folder = settings().imports / imports.start(source, "pets", "Ann")
    folder_of(home / "inbox" / "set", "cat/1.png", "dog/2.png", "dog/3.png")
    (folder / "events.jsonl").write_text("")  # as a machine that lost its power leaves it
    app = opened("dataset", view="Add images", dataset="pets")
    assert "ended without a word" in words(app)
    press(app, "Import again")
    assert "Import finished" in words(app) and "1 added" in words(app) and not folder.exists()
    assert imports.lost("pets") is None


@pytest.mark.parametrize("status", ["running", "done"])
def test_while_an_import_goes_on_no_other_is_offered_and_single_images_are_not_put_into_the_open_dataset_unasked(
    small: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: Literal["running", "done"]
) -> None:
    source = sources.uploaded([(tmp_path / "loose.png", "loose.png")])
    monkeypatch.setattr("pages.shared.upload.upload", lambda **_: {"upload": "one"})
    monkeypatch.setattr(uploads, "files", lambda _: [])
    monkeypatch.setattr(sources, "uploaded", lambda _: source)
    job = {"dataset_name": small.name, "source": source.as_dict()}
    monkeypatch.setattr(imports, "state", lambda _: jobs.State("one", imports.IMPORT, status, job, {}, 1, 2, "Reading images"))
    app = opened("dataset", dataset=small.name, view="Add images", **{"import": "one"})
    assert not app.exception
    assert [box.value for box in app.text_input if str(box.key).startswith("name-own")] == ([""] if status == "done" else [])
    if status == "done":
        assert words(app).index("A ready-made set") < words(app).index("**squares** has")
