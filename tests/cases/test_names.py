"""What is made of the names of folders, splits and classes that real sets have."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.data import imports, store
from core.data.sources import at
from core.data.tables import split_of
from core.names import name_problem
from core.share.export import export_now
from tests.data.opened import folder_of, found, reasons, rows, zip_of


@pytest.mark.parametrize(
    ("words", "split"),
    [
        (("train", "Training", "train_data", "TRAINING_SET", "trainset", "train2017", "TrainingData", "train images"), "train"),
        (("valid", "validation", "val", "dev", "eval", "Val-Set", "validation_data"), "validation"),
        (("test", "Testing", "test_set", "TestData", "hold-out"), "test"),
        (("bullet train", "protest", "data", "contest", ""), None),
    ],
)
def test_a_split_is_known_by_all_its_usual_words(words: tuple[str, ...], split: str | None) -> None:
    assert {word: split_of(word) for word in words} == dict.fromkeys(words, split)


@pytest.mark.parametrize(("train", "test"), [("Training", "Testing"), ("pets_train", "pets_test"), ("Brain Train Set", "Brain Test Set")])
def test_split_folders_are_recognised_with_and_without_the_sets_name_and_said(tmp_path: Path, train: str, test: str) -> None:
    folder_of(tmp_path, f"{train}/cat/1.png", f"{train}/dog/2.png", f"{test}/cat/3.png")
    assert list(rows(tmp_path).values()) == [("cat", "test"), ("cat", "train"), ("dog", "train")]
    said = found(tmp_path)[0].understood
    assert f"“{test}” was taken for the test split (1 images)" in said and f"“{train}” was taken for the train split (2 images)" in said


def test_one_folder_that_speaks_of_a_train_is_a_class(tmp_path: Path) -> None:
    folder_of(tmp_path, "bullet train/1.png", "crash test/2.png", "bus/3.png")
    assert {label for label, _ in rows(tmp_path).values()} == {"bullet train", "crash test", "bus"}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set/training_set", "test_set/test_set"),
        ("train/train", "test"),
        ("archive/data/train", "archive/data/test"),
        ("archive/train/images", "archive/test/images"),
    ],
)
def test_folders_that_only_wrap_are_peeled_at_any_depth(tmp_path: Path, train: str, test: str) -> None:
    folder_of(tmp_path, f"{train}/cat/1.png", f"{train}/dog/2.png", f"{test}/cat/3.png", f"{test}/dog/4.png")
    assert sorted((str(split), str(label)) for label, split in rows(tmp_path).values()) == [
        ("test", "cat"),
        ("test", "dog"),
        ("train", "cat"),
        ("train", "dog"),
    ]
    assert any("only wraps" in one for one in found(tmp_path)[0].understood)


def test_wrappers_without_splits_are_peeled_and_said(tmp_path: Path) -> None:
    folder_of(tmp_path, "a/b/c/cat/1.png", "a/b/c/dog/2.png")
    assert {label for label, _ in rows(tmp_path).values()} == {"cat", "dog"}
    assert found(tmp_path)[0].understood == ["“a/b/c” only wraps the others and names no class"]


def test_blanks_around_a_folders_name_make_no_other_class(tmp_path: Path) -> None:
    folder_of(tmp_path, "cat/1.png", "cat /2.png", "dog/3.png")
    assert {label for label, _ in rows(tmp_path).values()} == {"cat", "dog"}


def test_a_class_may_have_200_characters() -> None:
    assert name_problem("x" * 200) is None and name_problem("x" * 201) is not None


def test_jfif_is_read(tmp_path: Path) -> None:
    folder_of(tmp_path, "cat/1.jfif")
    assert rows(tmp_path) == {"cat/1.jfif": ("cat", None)}


def test_backslashes_in_a_zip_are_slashes_and_are_checked(tmp_path: Path) -> None:
    made = zip_of(tmp_path / "a.zip", "cat\\1.png", "dog\\2.png", "..\\up.png", "C:\\x.png")
    assert rows(made) == {"cat/1.png": ("cat", None), "dog/2.png": ("dog", None)}
    assert set(reasons(made)) == {"../up.png", "C:/x.png"}


def test_classes_with_a_slash_are_kept_and_come_back_from_class_folders(home: Path, tmp_path: Path) -> None:
    names = ["T-shirt/top", "N/A", "T-shirt_top", "ä" * 200]
    folder_of(tmp_path / "in", *(f"{i}.png" for i in range(4)))
    (tmp_path / "in/labels.csv").write_text(
        "image,label\n" + "".join(f"{i}.png,{name}\n" for i, name in enumerate(names)), encoding="utf-8"
    )
    assert imports.import_now("slashes", at(tmp_path / "in"), "Ada").added == 4
    dataset = store.find_dataset("slashes")
    assert dataset is not None
    out = tmp_path / "out.zip"
    export_now(dataset.id, "folders", out)
    assert {label for label, _ in rows(out).values()} == set(names)
