"""What had to be guessed about a source is shown with its first pictures before anything is stored."""

from __future__ import annotations

import base64
import gzip
import io
import struct
import time
from pathlib import Path

import pytest
from PIL import Image as Pillow

from core.data import imports, leftovers, sight, sources, store, uploads
from core.data.sources import at
from core.errors import NotFound
from core.runs import jobs
from core.settings import settings
from tests.data.opened import folder_of, found, zip_of


@pytest.mark.parametrize(
    "files",
    [
        ("cat/1.png", "dog/2.png"),
        ("pets/cat/1.png", "pets/dog/2.png"),
        ("pets/train/cat/1.png", "pets/test/cat/2.png"),
        ("Train/cat/1.png", "VALID/cat/2.png", "testing/cat/3.png"),
        ("1.png", "2.png"),
        ("cat/1.png", "dog/2.png", "read me.txt"),
    ],
)
def test_what_has_one_reading_is_no_guess(tmp_path: Path, files: tuple[str, ...]) -> None:
    assert found(folder_of(tmp_path, *files))[0].guessed == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("training_set/cat/1.png", "test_set/cat/2.png"), "“training_set” was taken for the train split"),
        (("pets_train/cat/1.png", "pets_test/cat/2.png"), "“pets_test” was taken for the test split"),
        (("dev/cat/1.png", "train/cat/2.png"), "“dev” was taken for the validation split"),
        (("train/train/cat/1.png", "test/test/cat/2.png"), "“train/train” only wraps"),
        (("a/b/cat/1.png", "a/b/dog/2.png"), "“a/b” only wraps"),
        (("pets/cat/1.png", "pets/cat/2.png"), "“pets” only wraps"),
        (("train/cat/1.png", "test/cat/2.png", "extra/cat/3.png"), "“extra” is left out"),
        (("cat/1.png", "dog/2.png", "test/3.png"), "“test” was taken for a class"),
        (("dog/husky/1.png", "dog/poodle/2.png", "cat/3.png"), "“dog/husky” is “dog”"),
    ],
)
def test_what_might_be_otherwise_is_a_guess(tmp_path: Path, files: tuple[str, ...], said: str) -> None:
    opened = found(folder_of(tmp_path, *files))[0]
    assert any(said in one for one in opened.guessed) and set(opened.guessed) <= set(opened.understood)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("labels.csv", "image;label\n1.png;кошка домашняя\n2.png;собака\n".encode("cp1251"), "cp1251"),
        ("labels.csv", b"image,label\nC:\\me\\1.png,a\nc:/me/2.png,b\n", "2 paths are not there as labels.csv writes them"),
        ("labels.csv", b"image,label\n1.PNG,a\n2.png,b\n", "1.PNG is 1.png"),
        ("labels.csv", "image,label\n1.png,süß\n2.png,groß\n".encode(), ""),
        ("labels.csv", "image,label\n1.png,süß\n2.png,groß\n".encode("utf-16"), ""),
    ],
)
def test_a_tables_guessed_encoding_and_paths_are_guesses(tmp_path: Path, name: str, text: bytes, said: str) -> None:
    folder_of(tmp_path, "1.png", "2.png")
    (tmp_path / name).write_bytes(text)
    guessed = found(tmp_path)[0].guessed
    assert len(guessed) == (1 if said else 0) and all(said in one for one in guessed)


def test_a_name_below_another_folder_that_is_there_once_is_no_guess(tmp_path: Path) -> None:
    folder_of(tmp_path, "images/1.png", "images/2.png")
    (tmp_path / "labels.csv").write_text("image,label\n1.png,a\n2.png,b\n")
    assert found(tmp_path)[0].guessed == []


def test_a_table_that_is_not_read_beside_class_folders_is_a_guess(tmp_path: Path) -> None:
    folder_of(tmp_path, "cat/1.png", "dog/2.png")
    (tmp_path / "sizes.csv").write_text("image,size\n1.png,3\n")
    assert "sizes.csv" in found(tmp_path)[0].guessed[0]


@pytest.mark.parametrize(("name", "guesses"), [("mine", 0), ("my fashion", 1)])
def test_idx_files_say_what_they_were_taken_for(tmp_path: Path, name: str, guesses: int) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(struct.pack(">4I", 2051, 2, 3, 4) + bytes(24)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, 2) + bytes([0, 9]))
    opened = sources.open_source(at(tmp_path), name)
    said = "train-images-idx3-ubyte.gz and train-labels-idx1-ubyte: 2 images of 3 × 4, taken for the train split"
    assert opened.understood[0] == said and len(opened.guessed) == guesses
    seen = imports.look(name, at(tmp_path))
    assert [len(one.pictures) for one in seen.classes] == [1, 1] and all(one.images == {"train": 1} for one in seen.classes)


def test_a_built_in_set_can_be_looked_at_too(home: Path) -> None:
    seen = imports.look("digits", sources.named("sample"))
    assert [one.name for one in seen.classes] == [str(n) for n in range(10)] and sum(one.total for one in seen.classes) == 1797
    assert all(len(one.pictures) == sight.PICTURES for one in seen.classes) and not seen.guessed


def waiting(home: Path, *names: str) -> str:
    """An import of these files from the inbox, which has ended with a sight."""
    import_id = imports.start(at(folder_of(home / "inbox" / "set", *names)), "pets", "Ann")
    assert imports.state(import_id).status == "done"
    return import_id


def test_an_import_that_guesses_stores_nothing_before_somebody_says_so(home: Path, in_this_process: None) -> None:
    names = [f"training_set/{name}/{i}.png" for name in ("cat", "dog") for i in range(6)]
    import_id = waiting(home, *names, "test_set/cat/7.png", "training_set/8.png", "notes.txt")
    state = imports.state(import_id)
    seen = imports.first_sight(state)
    assert seen is not None and imports.report(state) is None
    assert store.list_datasets() == [] and not list(settings().images.glob("*/*")) and not list(settings().thumbs.glob("*"))
    assert [(one.name, one.images) for one in seen.classes] == [
        ("cat", {"train": 6, "test": 1}),
        ("dog", {"train": 6}),
        (None, {"train": 1}),
    ]
    assert [len(one.pictures) for one in seen.classes] == [4, 4, 1] and [s.name for s in seen.skipped] == ["notes.txt"]
    picture = base64.b64decode(seen.classes[0].pictures[0].partition(",")[2])
    assert Pillow.open(io.BytesIO(picture)).size == (8, 6)

    import_id = imports.go_on(import_id, "Bob")
    report = imports.report(imports.state(import_id))
    assert report is not None and report.added == 14 and set(seen.guessed) <= set(report.understood)
    with pytest.raises(NotFound):
        imports.go_on(state.id, "Bob")  # a second click
    folder_of(home / "inbox" / "set", "dev/cat/1.png")  # another guess than the one that was seen
    import_id = imports.start(at(home / "inbox" / "set"), "pets", "Bob", seen.guessed)
    assert imports.first_sight(imports.state(import_id)) is not None


def test_an_import_that_guesses_nothing_is_not_held_up(home: Path, in_this_process: None) -> None:
    import_id = waiting(home, "train/cat/1.png", "train/dog/2.png", "test/cat/3.png")
    assert imports.first_sight(imports.state(import_id)) is None
    report = imports.report(imports.state(import_id))
    assert report is not None and report.added == 3


def test_a_declined_import_takes_its_upload_with_it(home: Path, in_this_process: None) -> None:
    batch = settings().uploads / "batches" / "00000000-0000-4000-8000-000000000001"
    batch.mkdir(parents=True)
    made = zip_of(batch / "1.file", "a/b/cat/1.png", "a/b/dog/2.png")
    import_id = imports.start(sources.uploaded([(made, "pets.zip")]), "pets", "Ann")
    assert imports.first_sight(imports.state(import_id)) is not None and made.exists()
    imports.decline(import_id)
    assert not batch.exists() and store.list_datasets() == []
    with pytest.raises(NotFound):
        imports.state(import_id)


def test_a_declined_folder_of_the_server_stays_and_an_unanswered_sight_goes(
    home: Path, in_this_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    imports.decline(waiting(home, "a/b/cat/1.png", "a/b/dog/2.png"))
    assert (home / "inbox/set/a/b/cat/1.png").exists()
    waiting(home, "a/b/cat/1.png")
    leftovers.remove()
    assert len(jobs.folders(settings().imports)) == 1
    later = time.time() + uploads.KEEP_BATCHES + 60
    monkeypatch.setattr(time, "time", lambda: later)
    leftovers.remove()
    assert jobs.folders(settings().imports) == []


def test_many_classes_are_counted_and_the_first_have_pictures(tmp_path: Path, home: Path) -> None:
    made = zip_of(tmp_path / "a.zip", *(f"a/b/{i}/{n}.png" for i in range(sight.CLASSES + 2) for n in range(2)), "a/b/0/z.png")
    seen = imports.look("x", at(made))
    assert [len(one.pictures) for one in seen.classes] == [3] + [2] * (sight.CLASSES - 1) + [0, 0]
    assert sum(one.total for one in seen.classes) == 2 * (sight.CLASSES + 2) + 1


def test_a_first_picture_that_cannot_be_read_is_passed_over_with_its_reason(tmp_path: Path, home: Path) -> None:
    folder_of(tmp_path / "in", "a/b/cat/1.png", "a/b/dog/2.png")
    (tmp_path / "in/a/b/cat/bad.png").write_bytes(b"no picture")
    seen = imports.look("x", at(tmp_path / "in"))
    assert [s.name for s in seen.skipped] == ["a/b/cat/bad.png"] and len(seen.classes[0].pictures) == 1
