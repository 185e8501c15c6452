"""Tables of labels with odd quotes, names, columns and places: read as meant, or said with the line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.errors import Invalid
from tests.data.opened import folder_of, found, reasons, rows


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "lines",
    [
        ["image,label", '1.png,"a', '2.png,b"'],
        ["image,label", '1.png,"a', "2.png,b"],
        ["image,label,note", '1.png,a,"see', '2.png,b,"', "3.png,c,x"],
        ["image,label,note", '1.png,a,"see', '2.png,b,"x"', "3.png,c,x"],
        ["note,image,label", '"see,1.png,a', "x,2.png,b", '",3.png,c'],
        ["image;label;note", '1.png;a;"see', '2.png;b;"'],
    ],
)
def test_a_quote_that_swallows_rows_is_refused_with_its_line(tmp_path: Path, lines: list[str], end: str) -> None:
    folder_of(tmp_path, "1.png", "2.png", "3.png")
    (tmp_path / "labels.csv").write_bytes((end.join(lines) + end).encode())
    with pytest.raises(Invalid, match="line 2: a quote is opened"):
        found(tmp_path)


def test_a_quote_that_is_opened_in_the_header_is_refused(tmp_path: Path) -> None:
    folder_of(tmp_path, "1.png", "2.png")
    (tmp_path / "labels.csv").write_text('image,label,"note\n1.png,a,b\n2.png,b,c"\n', encoding="utf-8")
    with pytest.raises(Invalid, match="line 1: a quote is opened"):
        found(tmp_path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_note_of_several_lines_is_one_row_and_said(tmp_path: Path, end: str) -> None:
    folder_of(tmp_path, "1.png", "2.png")
    (tmp_path / "labels.csv").write_bytes(end.join(["image,label,note", '1.png,a,"one', "two, and", 'three"', "2.png,b,"]).encode())
    assert rows(tmp_path) == {"1.png": ("a", None), "2.png": ("b", None)}
    assert "first: lines 2 to 4" in reasons(tmp_path)["labels.csv"]


@pytest.mark.parametrize(
    ("cell", "label"), [('"big" dog', "big dog"), ('"big"dog', "bigdog"), ('5" disk', '5" disk'), ('"a ""b"""', 'a "b"')]
)
def test_text_after_a_closing_quote_costs_no_row(tmp_path: Path, cell: str, label: str) -> None:
    folder_of(tmp_path, "1.png", "2.png")
    (tmp_path / "labels.csv").write_text(f"image,label\n1.png,{cell}\n2.png,b\n", encoding="utf-8")
    assert rows(tmp_path) == {"1.png": (label, None), "2.png": ("b", None)}
    if '" ' in cell and cell.startswith('"b'):
        assert "text follows a closing quote" in reasons(tmp_path)["labels.csv"] and "line 2" in reasons(tmp_path)["labels.csv"]


@pytest.mark.parametrize("name", ["labels.tsv", "labels.txt", "Labels.TXT"])
@pytest.mark.parametrize("between", [",", "\t", ";"])
def test_tables_of_any_suffix_are_read(tmp_path: Path, name: str, between: str) -> None:
    folder_of(tmp_path, "1.png")
    (tmp_path / name).write_text(f"image{between}label\n1.png{between}cat\n", encoding="utf-8")
    assert rows(tmp_path) == {"1.png": ("cat", None)}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.tsv", "picture\tbreed\n1.png\tcat\n"),
        ("labels.txt", "1.png cat\n2.png dog\n"),
        ("labels.txt", "1.png,0\n2.png,1\n"),
        ("labels.json", json.dumps({"1.png": "cat"})),
        ("labels.json", json.dumps([{"pic": "1.png", "kind": "cat"}])),
    ],
)
def test_a_table_that_is_not_read_never_leaves_its_images_unlabelled_in_silence(tmp_path: Path, name: str, text: str) -> None:
    folder_of(tmp_path, "1.png", "2.png")
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(Invalid, match=name):
        found(tmp_path)


@pytest.mark.parametrize(("name", "text"), [("readme.txt", "Pictures, of mine.\n"), ("config.json", '{"a": 1}')])
def test_a_text_that_is_no_table_stands_in_no_way(tmp_path: Path, name: str, text: str) -> None:
    folder_of(tmp_path, "1.png")
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert rows(tmp_path) == {"1.png": (None, None)} and name in reasons(tmp_path)


@pytest.mark.parametrize(
    ("table", "images"),
    [
        ("annotations/labels.csv", "images"),
        ("annotations/v1/labels.csv", "images"),
        ("set/annotations/labels.csv", "set/images"),
        ("images/labels.csv", "images"),
        ("set/images/labels.csv", "set/images"),
        ("a/set/images/labels.csv", "a/set/images"),
        ("a/set/labels.csv", "a/set/images/jpg"),
    ],
)
@pytest.mark.parametrize(
    ("given", "other"), [("1.png", ""), ("images/1.png", "docs/info.pdf"), ("../images/1.png", "readme.txt"), ("1.png", "config.json")]
)
def test_a_table_beside_all_images_or_their_folder_is_used(tmp_path: Path, table: str, images: str, given: str, other: str) -> None:
    folder_of(tmp_path, f"{images}/1.png", f"{images}/2.png")
    for name, text in ((table, f"image,label\n{given},cat\n"), (other, "{}")):
        if name:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
    assert rows(tmp_path) == {f"{images}/1.png": ("cat", None)}


@pytest.mark.parametrize(
    "names", [("train_labels.csv", "val_labels.csv"), ("labels-train.csv", "labels-valid.csv"), ("train.tsv", "val.tsv")]
)
@pytest.mark.parametrize("folder", ["", "annotations/"])
def test_tables_of_each_split_lie_side_by_side(tmp_path: Path, names: tuple[str, str], folder: str) -> None:
    folder_of(tmp_path, "images/1.png", "images/2.png")
    (tmp_path / folder).mkdir(exist_ok=True)
    between = "\t" if names[0].endswith("tsv") else ","
    for n, name in enumerate(names, 1):
        (tmp_path / folder / name).write_text(f"image{between}label\n{n}.png{between}cat\n", encoding="utf-8")
    assert rows(tmp_path) == {"images/1.png": ("cat", "train"), "images/2.png": ("cat", "validation")}


@pytest.mark.parametrize("wrapped", ["", "images/"])
def test_one_table_at_the_top_takes_splits_from_the_folders(tmp_path: Path, wrapped: str) -> None:
    folder_of(tmp_path, f"{wrapped}train/1.png", f"{wrapped}test/2.png")
    (tmp_path / "metadata.csv").write_text(f"file_name,label\n{wrapped}train/1.png,a\n{wrapped}test/2.png,b\n", encoding="utf-8")
    assert rows(tmp_path) == {f"{wrapped}train/1.png": ("a", "train"), f"{wrapped}test/2.png": ("b", "test")}
    assert any("“test” was taken for the test split" in said for said in found(tmp_path)[0].understood)


def test_splits_that_the_table_names_are_kept_before_those_of_folders(tmp_path: Path) -> None:
    folder_of(tmp_path, "train/1.png", "test/2.png")
    (tmp_path / "metadata.csv").write_text("file_name,label,split\ntrain/1.png,a,test\ntest/2.png,b,\n", encoding="utf-8")
    assert rows(tmp_path) == {"train/1.png": ("a", "test"), "test/2.png": ("b", None)}


@pytest.mark.parametrize("image", ["filename", "image_name", "path", "File", "Image Name", "FILE_NAME"])
@pytest.mark.parametrize("label", ["class", "class_name", "Category", "TARGET", "Class Name"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_columns_are_known_by_their_usual_names_and_said(tmp_path: Path, image: str, label: str, suffix: str) -> None:
    folder_of(tmp_path, "1.png")
    text = f"{image},{label}\n1.png,cat\n" if suffix == "csv" else json.dumps({image: "1.png", label: "cat"})
    (tmp_path / f"labels.{suffix}").write_text(text, encoding="utf-8")
    assert rows(tmp_path) == {"1.png": ("cat", None)}
    named = [name.lower().replace(" ", "_") for name in (image, label)]
    assert f"images by the column “{named[0]}”, labels by “{named[1]}”" in found(tmp_path)[0].understood[0]


def test_a_json_that_is_too_large_to_parse_whole_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path, "1.png")
    (tmp_path / "tasks.json").write_text(json.dumps([{"data": {"image": "1.png"}}]), encoding="utf-8")
    assert rows(tmp_path) == {"1.png": (None, None)}
    monkeypatch.setattr("core.data.sources.MAX_JSON_BYTES", 10)
    with pytest.raises(Invalid, match=r"tasks\.json .*read whole.*") as refused:
        found(tmp_path)
    assert "CSV or JSONL" in str(refused.value)


@pytest.mark.parametrize("name", ["tasks.json", "labels.csv", "labels.jsonl"])
def test_a_report_names_a_thousand_missing_files_and_counts_the_others(tmp_path: Path, name: str) -> None:
    folder_of(tmp_path, "1.png")
    given = ["1.png", *(f"gone-{n}.png" for n in range(1_200))]
    made = {
        "tasks.json": json.dumps([{"data": {"image": image}} for image in given]),
        "labels.csv": "image,label\n" + "".join(f"{image},a\n" for image in given),
        "labels.jsonl": "".join(json.dumps({"image": image, "label": "a"}) + "\n" for image in given),
    }
    (tmp_path / name).write_text(made[name], encoding="utf-8")
    opened, entries = found(tmp_path)
    assert len(entries) == 1 and len(opened.skipped) == 1_001
    assert opened.skipped[-1].reason.startswith("200 further rows")


@pytest.mark.parametrize(("encoding", "guess"), [("cp1251", True), ("koi8-r", True), ("utf-8", False), ("utf-16", False)])
def test_a_guessed_encoding_is_said_to_be_a_guess_with_a_line_as_it_reads(tmp_path: Path, encoding: str, guess: bool) -> None:
    folder_of(tmp_path, "1.png")
    (tmp_path / "labels.csv").write_bytes("image,label\n1.png,кошка домашняя\n".encode(encoding))
    label = rows(tmp_path)["1.png"][0]
    said = [one for one in found(tmp_path)[0].understood if "is a guess" in one]
    assert len(said) == guess and all(f"1.png,{label}" in one and "UTF-8" in one for one in said)
