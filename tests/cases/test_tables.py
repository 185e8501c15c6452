"""Tables of labels as spreadsheets, other systems and other tools write them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from core.data import imports
from core.data.sources import at
from core.errors import Invalid
from tests.data.opened import folder_of, found, picture, reasons, rows


@pytest.mark.parametrize(
    ("encoding", "label"),
    [
        ("utf-8-sig", "Kätzchen"),
        ("utf-16", "Kätzchen"),
        ("utf-16-le", "Kätzchen"),
        ("utf-16-be", "cat"),
        ("cp1252", "Kätzchen süß"),
        ("cp1251", "кошка домашняя"),
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_is_read_in_any_encoding_and_with_any_separator(tmp_path: Path, encoding: str, label: str, separator: str) -> None:
    folder_of(tmp_path, "1.png", "2.png")
    text = f"image{separator}label\r\n1.png{separator}{label}\r\n2.png{separator}{label}\r\n"
    (tmp_path / "labels.csv").write_bytes(text.encode(encoding))
    assert rows(tmp_path) == {"1.png": (label, None), "2.png": (label, None)}
    said = found(tmp_path)[0].understood[0]
    assert said.startswith("labels.csv was read as a table of labels (CSV, ") and said.endswith(": 2 rows")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('image,label\n"1.png,a\n2.png,b\n', "line 2: a quote is opened"),
        ('image,label\n"1.png,a\n"2.png",b\n', "line 2: "),
        ('image,label\n1.png,"a\n2.png,b"\n', "line 2: a quote is opened"),
        ("image,breed\n1.png,a\n", "has not the columns"),
        ("image,label\n1.png," + "x" * 5_000_000 + "\n", "line 2: field larger"),
        ("image,label\n1.png,\0a\n", "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_with_its_own_reason(tmp_path: Path, text: str, why: str) -> None:
    folder_of(tmp_path, "1.png", "2.png")
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    with pytest.raises(Invalid, match=rf"labels\.csv.*{why}"):
        found(tmp_path)


def test_beside_class_folders_an_unread_table_is_the_first_thing_said(tmp_path: Path) -> None:
    folder_of(tmp_path, "cat/1.png", "dog/2.png", "readme.txt")
    (tmp_path / "sizes.csv").write_text("image,size\n1.png,3\n", encoding="utf-8")
    assert {label for label, _ in rows(tmp_path).values()} == {"cat", "dog"}
    assert next(iter(reasons(tmp_path))) == "sizes.csv" and "columns" in reasons(tmp_path)["sizes.csv"]


@pytest.mark.parametrize("given", ["images\\cat\\0.jpg", "C:\\me\\images\\cat\\0.jpg", "/home/me/cat/0.jpg", "CAT/0.JPG", "./cat/0.jpg"])
def test_paths_of_any_system_are_matched_by_their_longest_tail(tmp_path: Path, given: str) -> None:
    folder_of(tmp_path, "cat/0.jpg", "dog/0.jpg")
    (tmp_path / "labels.csv").write_text(f"image,label\n{given},x\n", encoding="utf-8")
    assert rows(tmp_path) == {"cat/0.jpg": ("x", None)}


def test_a_path_that_may_mean_two_files_is_said(tmp_path: Path) -> None:
    folder_of(tmp_path, "cat/0.jpg", "dog/0.jpg", "1.jpg")
    (tmp_path / "labels.csv").write_text("image,label\nC:\\0.jpg,x\n1.jpg,y\n", encoding="utf-8")
    assert rows(tmp_path) == {"1.jpg": ("y", None)}
    assert reasons(tmp_path)["labels.csv, line 2"] == "C:\\0.jpg may be cat/0.jpg or dog/0.jpg"


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_hugging_face_folders_have_a_table_for_each_split(tmp_path: Path, name: str) -> None:
    folder_of(tmp_path, "train/1.png", "test/1.png")
    for split, label in (("train", "cat"), ("test", "dog")):
        text = f"file_name,label\n1.png,{label}\n" if name.endswith("csv") else json.dumps({"file_name": "1.png", "label": label})
        (tmp_path / split / name).write_text(text, encoding="utf-8")
    assert rows(tmp_path) == {"train/1.png": ("cat", "train"), "test/1.png": ("dog", "test")}
    assert len(found(tmp_path)[0].understood) == 2


def test_copies_of_a_refused_file_are_not_there_already(home: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as z:
        z.writestr("cat/good.png", picture())
        for name in ("cat/1.png", "cat/2.png", "cat/3.png"):
            z.writestr(name, b"no picture")
    report = imports.import_now("copies", at(tmp_path / "a.zip"), "Ada")
    assert (report.added, report.duplicates) == (1, 0)
    assert sorted(s.name for s in report.skipped) == ["cat/1.png", "cat/2.png", "cat/3.png"]


def test_a_table_that_names_few_files_often_gives_each_once(tmp_path: Path) -> None:
    folder_of(tmp_path, "1.png", "2.png")
    lines = ["1.png,a", "2.png,b", "1.png,a", "1.png,c", "2.png,c", *(f"gone-{i}.png,a" for i in range(1_005))]
    (tmp_path / "labels.csv").write_text("\n".join(["image,label", *lines]), encoding="utf-8")
    opened, entries = found(tmp_path)
    assert [(e.name, e.label) for e in entries] == [("1.png", "a"), ("2.png", "b")]
    said = [s.reason for s in opened.skipped if s.name == "labels.csv"]
    assert [reason.partition(":")[0] for reason in said] == ["1 lines", "2 rows", "5 further rows"]
