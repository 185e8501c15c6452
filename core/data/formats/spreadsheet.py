"""CSV: a table that spreadsheets open, with the columns file_name, label, split, flagged and source."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

from core.data import tables
from core.data.tables import Format, Row
from core.errors import Invalid
from core.types import Skipped

FORMULA = re.compile(r"'*[=+\-@\t\r]")  # a spreadsheet takes such a cell for a formula


def cell(text: str) -> str:
    """The text as a spreadsheet shows it and never computes it."""
    return f"'{text}" if FORMULA.match(text) else text


def _uncell(text: str) -> str:
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def write(rows: Sequence[Row], classes: Sequence[str]) -> dict[str, str]:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["file_name", "label", "split", "flagged", "source"])
    writer.writerows([cell(r.image), cell(r.label or ""), r.split, "yes" if r.flagged else "", cell(r.source)] for r in rows)
    return {"metadata.csv": out.getvalue()}


def read(name: str, text: str, files: Sequence[str], skipped: list[Skipped]) -> list[Row]:
    return tables.from_columns(name, list(_records(name, text)))


def _records(name: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))
    try:
        header = [column.strip().lower() for column in next(reader, [])]
        for values in reader:
            if any(values):
                yield reader.line_num, {k: _uncell(v.strip()) for k, v in zip(header, values, strict=False)}
    except csv.Error as e:
        raise Invalid(f"{name}, line {reader.line_num}: {e}.", "Save the table again as CSV.") from None


FORMAT = Format(
    title="CSV",
    sentence="The images and a table for a spreadsheet: file, label, split, flag.",
    can=frozenset({"labels"}),
    write=write,
    read=read,
    suffix=".csv",
)
