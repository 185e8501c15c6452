"""Files that may hold labels and are not read: said first, a guess where folders give the classes, an error where nothing does."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import Invalid
from tests.data.opened import folder_of, found, reasons, rows

CSV = "image,label\n1.png,cat\n"
VOC = "<annotation><filename>1.png</filename><object><name>cat</name></object></annotation>"
OTHERS = ("labels.xlsx", "labels.ods", "labels.parquet", "imagelabels.mat", "1.xml")


def put(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("tables", [("a/labels.csv", "b/labels.csv"), ("b/labels.csv",), ("set/a/labels.tsv", "set/b/labels.txt")])
def test_tables_beside_a_part_of_the_images_are_said_first_and_a_guess(tmp_path: Path, tables: tuple[str, ...]) -> None:
    base = "set/" if tables[0].startswith("set/") else ""
    folder_of(tmp_path, f"{base}a/1.png", f"{base}b/1.png")
    put(tmp_path, f"{base}about.pdf", "")
    for name in tables:
        put(tmp_path, name, CSV)
    assert {label for label, _ in rows(tmp_path).values()} == {"a", "b"}
    assert list(reasons(tmp_path))[: len(tables)] == list(tables) and "some of the images" in reasons(tmp_path)[tables[0]]
    assert any("names of the folders" in said and tables[0] in said for said in found(tmp_path)[0].guessed)


def test_one_beside_a_part_of_the_images_where_folders_make_one_class_is_an_error(tmp_path: Path) -> None:
    folder_of(tmp_path, "new.png", "images/1.png")
    put(tmp_path, "images/labels.csv", CSV)
    with pytest.raises(Invalid, match=r"images/labels\.csv .*some of the images"):
        found(tmp_path)


@pytest.mark.parametrize("table", OTHERS)
@pytest.mark.parametrize(("images", "folder"), [("", ""), ("images/", ""), ("images/", "meta/"), ("set/jpg/", "set/jpg/")])
def test_labels_in_a_format_that_is_not_read_never_leave_images_unlabelled(tmp_path: Path, table: str, images: str, folder: str) -> None:
    folder_of(tmp_path, f"{images}1.png", f"{images}2.png")
    put(tmp_path, folder + table, VOC)
    with pytest.raises(Invalid, match=table) as refused:
        found(tmp_path)
    assert "CSV UTF-8" in refused.value.hint and "image and label" in refused.value.hint


@pytest.mark.parametrize("table", OTHERS)
def test_beside_class_folders_they_are_said_first_and_a_guess(tmp_path: Path, table: str) -> None:
    folder_of(tmp_path, "cat/1.png", "dog/2.png")
    put(tmp_path, "about.pdf", "")
    put(tmp_path, f"dog/{table}", VOC)
    assert {label for label, _ in rows(tmp_path).values()} == {"cat", "dog"}
    assert next(iter(reasons(tmp_path))) == f"dog/{table}" and table in found(tmp_path)[0].guessed[0]


@pytest.mark.parametrize("other", ["labels.xlsx", "b/labels.csv"])
def test_beside_a_table_that_is_read_they_are_said_and_no_guess(tmp_path: Path, other: str) -> None:
    folder_of(tmp_path, "a/1.png", "b/2.png")
    put(tmp_path, "labels.csv", CSV)
    put(tmp_path, other, CSV)
    assert rows(tmp_path) == {"a/1.png": ("cat", None)}
    assert next(iter(reasons(tmp_path))) == other and "labels.csv" in reasons(tmp_path)[other] and not found(tmp_path)[0].guessed


def test_a_table_that_is_read_in_place_of_an_unread_one_is_a_guess(tmp_path: Path) -> None:
    folder_of(tmp_path, "images/1.png", "images/2.png")
    put(tmp_path, "sizes.csv", "image,size\n1.png,3\n")
    put(tmp_path, "meta/labels.csv", CSV)
    assert rows(tmp_path) == {"images/1.png": ("cat", None)}
    assert "sizes.csv" in found(tmp_path)[0].guessed[0] and next(iter(reasons(tmp_path))) == "sizes.csv"


@pytest.mark.parametrize("text", ["a.xml", "images/a.txt", "images/config.json", "images/1.txt"])
def test_a_text_that_names_no_picture_is_no_table(tmp_path: Path, text: str) -> None:
    folder_of(tmp_path, "images/1.png", "notes/2.png")
    put(tmp_path, text, "<a>0 0.5 0.5</a>")
    assert found(tmp_path)[0].guessed == [] and "not an image" in reasons(tmp_path)[text]
