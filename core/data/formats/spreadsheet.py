"""CSV: a table that spreadsheets open, with the columns file_name, label, split, flagged and source."""

from __future__ import annotations

import csv
import io
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, zip_longest
from typing import Any

from core.data import tables
from core.data.formats import label_studio
from core.data.images import EXTENSIONS
from core.data.tables import Count, Format, Reader, Row
from core.errors import Invalid
from core.types import Skipped

FORMULA = re.compile(r"'*[=+\-@\t\r]")  # a spreadsheet takes such a cell for a formula


_ONE_LINE = (*tables.IMAGE, *tables.LABEL, "split")  # columns whose cells hold no line breaks


def cell(text: str) -> str:
    """The text as a spreadsheet shows it and never computes it."""
    return f"'{text}" if FORMULA.match(text) else text


def uncell(text: str) -> str:
    return text[1:] if text[:1] == "'" and FORMULA.match(text) else text


def write(rows: Sequence[Row], classes: Sequence[str]) -> dict[str, str]:
    return {f"{folder}metadata.csv": _table(inside) for folder, inside in tables.by_folder(rows).items()}


def _table(rows: Sequence[Row]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["file_name", "label", "split", "flagged", "source"])
    writer.writerows([cell(r.image), cell(r.label or ""), r.split, "true" if r.flagged else "false", cell(r.source)] for r in rows)
    return out.getvalue()


def read(name: str, text: str, files: Sequence[str], skipped: list[Skipped]) -> Iterable[Row]:
    records = _records(name, text, skipped)
    first = next(records, None)
    listed = chain([first] if first else [], records)
    if first and first[1].keys() >= label_studio.MINIMAL:
        return label_studio.minimal(name, ((f"line {n}", record) for n, record in listed), files, skipped)
    return tables.from_columns(name, listed)


def _head(text: str) -> tuple[list[str], str]:
    """The first two lines, without all that follows, and what stands between the columns."""
    lines = re.split("\r\n|\r|\n", text[:100_000].lstrip("\r\n"), maxsplit=2)[:2]
    first = lines[0].strip()
    return lines, first[4] if re.fullmatch("sep=[,;\t|]", first) else max(",;\t|", key=first.count)


def _says(text: str) -> str:
    lines, between = _head(text)
    header = [tables.column(c) for c in next(csv.reader(lines[lines[0].startswith("sep=") :], delimiter=between), [])]
    columns = tables.taken_in_words(header)
    return f", columns separated by {_BETWEEN[between]}{f', {columns}' if columns else ''}"


_BETWEEN = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_OPENED = "a quote is opened and not closed in that line"


def _records(name: str, text: str, skipped: list[Skipped]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines below the header, numbered, each once; Invalid where a quote would swallow the lines after it."""
    line = ""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")

    def lines() -> Iterator[str]:
        nonlocal line
        for found in re.finditer("[^\n]*\n|[^\n]+", text):  # a StringIO takes four bytes a character
            line = found[0]
            yield line

    between = _head(text)[1]
    reader = csv.reader(lines(), delimiter=between, strict=True)
    # Of lines that were seen the hash alone: a table of a million would take 200 MB.
    seen, again, odd, long, start = set[int](), Count(), Count(), Count(), 1
    header: list[str] | None = None
    while True:
        try:
            values = next(reader)
        except StopIteration:
            break
        except csv.Error as e:
            inside = reader.line_num == start and "expected after" in str(e)
            values = _leniently(line, between) if inside else []
            if not values:
                why = _OPENED if inside or reader.line_num > start else str(e)
                why = {"unexpected end of data": "a quote is opened and never closed"}.get(str(e), why)
                raise Invalid(f"{name}, line {start}: {why}.", "Mend that line, or save the table again as CSV.") from None
            odd.add(f"line {start}")
        if reader.line_num > start:
            cells = list(zip_longest(header or (), values, fillvalue=""))
            if any("\n" in v and (k in _ONE_LINE or _swallows(v, between)) for k, v in cells):
                raise Invalid(f"{name}, line {start}: {_OPENED}.", "Mend that line, or save the table again as CSV.")
            if any("\n" in v for k, v in cells if k != "source"):  # a file's name may hold any character
                long.add(f"lines {start} to {reader.line_num}")
        if header is None:
            if any(values) and not (len(values) <= 2 and values[0].startswith("sep=")):  # Excel's own line
                header = [tables.column(column) for column in values]
        elif any(values) and (key := hash(tuple(values))) in seen:
            again.add(f"line {start}")
        elif any(values):
            seen.add(key)
            yield reader.line_num, {k: uncell(v.strip()) for k, v in zip(header, values, strict=False)}
        start = reader.line_num + 1
    again.tell(name, skipped, "they say what an earlier line says", "{} lines")
    odd.tell(name, skipped, "text follows a closing quote; read without the quotes", "in {} lines")
    long.tell(name, skipped, "a quoted text of theirs goes over several lines; read as one row each", "{} rows")


def _leniently(line: str, between: str) -> list[str]:
    """A line in which text follows a closing quote; empty if a quote stays open at its end."""
    reader = csv.reader([line, "\n"], delimiter=between)
    values = next(reader)
    return values if reader.line_num == 1 else []


def _swallows(value: str, between: str) -> bool:
    """Whether a text of several lines holds what looks like rows of the table: cells of which one names a picture."""
    return any(_names_picture(cell) for line in value.split("\n")[1:] if between in line for cell in line.split(between))


def _names_picture(cell: str) -> bool:
    return posixpath.splitext(cell.strip())[1][1:].lower() in EXTENSIONS


def looks_like_one(text: str) -> bool:
    """Whether a text without a telling suffix is a table: of known columns, or of lines that name pictures and something else."""
    lines, between = _head(text)
    image, label = tables.taken(tables.column(c) for c in lines[-1 if lines[0].startswith("sep=") else 0].replace('"', "").split(between))
    if image and label:
        return True
    cells = [re.split(r"[\s,;|]+", line.replace('"', "").strip()) for line in text[:10_000].splitlines()[:20] if line.strip()]
    return sum(len(c) > 1 and any(map(_names_picture, c)) for c in cells) * 2 > len(cells)


FORMAT = Format(
    title="CSV",
    sentence="The images and a table for a spreadsheet: file, label, split, flag.",
    can=frozenset({"labels"}),
    write=write,
    read=read,
    suffix=".csv",
    says=_says,
    split_folders=True,
)
READERS = tuple(Reader(title=title, read=read, suffix=suffix, says=_says) for title, suffix in (("TSV", ".tsv"), ("TXT", ".txt")))
