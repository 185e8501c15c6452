"""What the records of the formats claim, in the documentation and beside each other; what they carry is tests/share/test_export.py's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image as Pillow

from core.data import sources, tables
from core.data.formats.known import FORMATS
from core.errors import Invalid
from core.types import Skipped
from tests.conftest import ROOT

ROWS: dict[tables.Carried, str] = {
    "labels": "labels, splits, classes, flags, names of the images",
    "who": "who gave today's label, and when",
    "history": "every earlier event: who, when, why, what before",
    "predictions": "models' predictions (imported ones, a run's if chosen)",
}


def row(*cells: str) -> str:
    return " ".join(f"| {cell}".rstrip() for cell in (*cells, ""))


def carried() -> list[str]:
    """The table of the documentation, as the records have it."""

    def cell(one: tables.Format, what: tables.Carried) -> str:
        if what not in one.can:
            return ""
        return "in the note" if what == "who" and "history" not in one.can else "yes"

    titles = row("", *(one.title for one in FORMATS.values()))
    return [
        titles,
        "|---" * (len(FORMATS) + 1) + "|",
        *(row(said, *(cell(one, what) for one in FORMATS.values())) for what, said in ROWS.items()),
    ]


def test_the_documentation_says_of_every_format_what_its_record_says() -> None:
    assert set(ROWS) == set(get_args(tables.Carried))
    table = "\n".join(carried()).lower()
    texts = {path.name: path.read_text(encoding="utf-8").lower() for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))}
    found = [name for name, text in texts.items() if table in "\n".join(line.strip() for line in text.splitlines())]
    assert len(found) == 1, "Exactly one page has to hold this table:\n" + "\n".join(carried())


def test_every_format_carries_labels_and_one_alone_has_no_table() -> None:
    assert all("labels" in one.can for one in FORMATS.values())
    assert [name for name, one in FORMATS.items() if not one.suffix] == ["folders"]  # what is no table is read as class folders


def test_two_formats_whose_tables_end_alike_are_told_apart_by_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pairs(name: str, text: str, files: object, skipped: list[Skipped]) -> list[tables.Row]:
        told = json.loads(text)
        if not isinstance(told, dict):
            skipped.append(Skipped(name, "looked at in vain"))
            raise Invalid(f"{name} holds no pairs.")
        return [tables.Row(image, image, label) for image, label in told.items()]

    monkeypatch.setitem(FORMATS, "pairs", replace(FORMATS["label-studio"], read=pairs))
    Pillow.new("RGB", (4, 4)).save(tmp_path / "1.png")
    for told in ({"1.png": "cat"}, [{"data": {"image": "1.png"}}]):
        (tmp_path / "a.json").write_text(json.dumps(told))
        opened = sources.open_source(sources.at(tmp_path))
        assert [entry.label for entry in opened.entries] == ["cat" if isinstance(told, dict) else None] and opened.skipped == []
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(Invalid, match="not a list of Label Studio tasks"):  # the first format's words
        sources.open_source(sources.at(tmp_path / "a.json"))
