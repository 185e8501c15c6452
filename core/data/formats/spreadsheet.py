"""CSV: a table that spreadsheets open, with the columns file_name, label, split, flagged and source."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

from core.data import tables
from core.data.formats import label_studio
from core.data.tables import Count, Format, Row
from core.errors import Invalid
from core.types import Skipped

FORMULA = re.compile(r"'*[=+\-@\t\r]")  # a spreadsheet takes such a cell for a formula


_ONE_LINE = ("image", "file_name", "label", "split")  # columns whose cells hold no line breaks


def cell(text: str) -> str:
    """The text as a spreadsheet shows it and never computes it."""
    return f"'{text}" if FORMULA.match(text) else text


def _uncell(text: str) -> str:
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def write(rows: Sequence[Row], classes: Sequence[str]) -> dict[str, str]:
    return {f"{folder}metadata.csv": _table(inside) for folder, inside in tables.by_folder(rows).items()}


def _table(rows: Sequence[Row]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["file_name", "label", "split", "flagged", "source"])
    writer.writerows([cell(r.image), cell(r.label or ""), r.split, "true" if r.flagged else "false", cell(r.source)] for r in rows)
    return out.getvalue()


def read(name: str, text: str, files: Sequence[str], skipped: list[Skipped]) -> list[Row]:
    records = list(_records(name, text, skipped))
    if records and records[0][1].keys() >= label_studio.MINIMAL:
        return label_studio.minimal(name, ((f"line {n}", record) for n, record in records), files, skipped)
    return tables.from_columns(name, records)


def separator(text: str) -> str:
    """What stands between the columns, by the first line."""
    head = text.partition("\n")[0].strip()
    return head[4] if re.fullmatch("sep=[,;\t|]", head) else max(",;\t|", key=head.count)


def _records(name: str, text: str, skipped: list[Skipped]) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator(text), strict=True)
    seen, again, start = set[tuple[str, ...]](), Count(), 1
    try:
        header = [column.strip().lower() for column in next(reader, [])]
        if len(header) == 1 and header[0].startswith("sep="):  # Excel's own line
            header = [column.strip().lower() for column in next(reader, [])]
        start = reader.line_num + 1
        for values in reader:
            if reader.line_num > start and any("\n" in v for k, v in zip(header, values, strict=False) if k in _ONE_LINE):
                raise csv.Error("a quote is opened and not closed in that line")
            if any(values) and (key := tuple(values)) in seen:
                again.add(f"line {start}")
            elif any(values):
                seen.add(key)
                yield reader.line_num, {k: _uncell(v.strip()) for k, v in zip(header, values, strict=False)}
            start = reader.line_num + 1
    except csv.Error as e:
        why = {"unexpected end of data": "a quote is opened and never closed"}.get(str(e), str(e))
        raise Invalid(f"{name}, line {start}: {why}.", "Mend that line, or save the table again as CSV.") from None
    again.tell(name, skipped, "they say what an earlier line says", "{} lines")


FORMAT = Format(
    title="CSV",
    sentence="The images and a table for a spreadsheet: file, label, split, flag.",
    can=frozenset({"labels"}),
    write=write,
    read=read,
    suffix=".csv",
    split_folders=True,
)
