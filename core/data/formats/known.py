"""The formats in which datasets leave and come back, by the names that the command line and its users know."""

from core.data.formats import folders, jsonl, label_studio, spreadsheet
from core.data.tables import Format

FORMATS: dict[str, Format] = {
    "folders": folders.FORMAT,
    "csv": spreadsheet.FORMAT,
    "jsonl": jsonl.FORMAT,
    "label-studio": label_studio.FORMAT,
}


def for_table(name: str) -> list[Format]:
    """The formats whose table may be called so."""
    return [one for one in FORMATS.values() if one.suffix and name.lower().endswith(one.suffix)]
